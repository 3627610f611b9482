"""Somebody else's detector, known by its scores alone: a CSV is joined to a run's dev and test samples and assessed."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deepassay.adapters.csv_scores import Columns, read_csv_scores
from deepassay.calibrator import Calibration, OperatingPoint, calibrate, fit_calibration, fit_operating_points
from deepassay.errors import ConfigError, ScoreError
from deepassay.evidence.protocol import Protocol, Register
from deepassay.files import sha256_bytes, slug, write_json, write_text
from deepassay.labels import Status
from deepassay.manifest import Manifest
from deepassay.pipelines.folder import RunFolder
from deepassay.scores import Scored, ScoreTable

KEYS = {"csv", "name", "higher", "id", "score", "generators_seen"}
STATEMENT = (
    "Known by its scores alone: neither network nor preprocessing was at hand, and no file could be scored again."
)


@dataclass(frozen=True)
class Outside:
    """A detector that is a file of scores.

    Args:
        run: a folder in the run's ``outside/``, with what an assessment needs: tables, register, facts.
        info: as `evidence.assess.bundle_info` gives it of a bundle.
    """

    run: RunFolder
    info: Mapping[str, Any]

    @classmethod
    def read(cls, settings: Mapping[str, Any] | None, run: RunFolder, protocol: Protocol) -> "Outside | None":
        """From the key ``scores`` of `deepassay assess`; None where it is not used.

        Scores of dev fix the calibration and the operating points, as for a detector of our own; those of test are only
        laid down. A blank score counts as no response.

        Args:
            protocol: names the operating points.

        Raises:
            ConfigError: unknown or missing keys.
            ScoreError: no polarity, a sample of dev or test without a line, or a file that cannot be read.
        """
        given = dict(settings or {})
        if not given.get("csv"):
            return None
        unknown = sorted(set(given) - KEYS)
        if unknown or not given.get("name"):
            raise ConfigError(
                f"scores: {f'unknown key {unknown[0]!r}' if unknown else 'no name'}",
                hint="scores.csv=FILE scores.name=DETECTOR scores.higher=fake (or real); it may have id, score and "
                "generators_seen",
            )
        path, name = Path(given["csv"]), str(given["name"])
        own = RunFolder(run.path / "outside" / slug(name))
        own.path.mkdir(parents=True, exist_ok=True)
        for file in ("config.yaml", "manifest.parquet", "run.json"):
            shutil.copyfile(run.path / file, own.path / file)
        # The labels of this test split may have been read before, for the run's own detector: that stays on record.
        if run.protocol.is_dir() and not own.protocol.is_dir():
            shutil.copytree(run.protocol, own.protocol)
        columns = Columns(id=str(given.get("id") or "sample_id"), score=str(given.get("score") or "score"))
        answers = read_csv_scores(path, columns, higher=given.get("higher"))[0]
        manifest, mark = run.manifest(), sha256_bytes(path.read_bytes())
        tables = {
            split: _table(manifest.split(split), answers.scores, answers.reasons, name, mark, path)
            for split in ("dev", "test")
        }
        calibration = fit_calibration(tables["dev"])
        dev, test = (calibrate(tables[split], calibration) for split in ("dev", "test"))
        points = fit_operating_points(dev, _targets(protocol))
        own.scores("dev").parent.mkdir(parents=True, exist_ok=True)
        dev.write(own.scores("dev"))
        test.write(own.scores("test"))
        seen = given.get("generators_seen")
        return cls(own, _facts(own, name, mark, calibration, points, seen, manifest))

    def open_test(self) -> None:
        """Record that the test labels are about to be read, once per table."""
        register, table = Register(self.run.protocol), ScoreTable.read(self.run.scores("test"))
        if table.hash not in {entry["table_sha256"] for entry in register.openings()}:
            register.record_opening(table.hash, before_protocol=not register.frozen)


def _targets(protocol: Protocol) -> list[float]:
    """BPCERs behind names such as ``bpcer_5``."""
    try:
        return [float(name.removeprefix("bpcer_")) / 100 for name in protocol.operating_points]
    except ValueError as error:
        raise ConfigError(
            f"protocol {protocol.name}: operating points {list(protocol.operating_points)}",
            hint="name them bpcer_5, bpcer_1: the false-alarm rate in per cent",
        ) from error


def _table(
    part: Manifest, scores: Mapping[str, float | None], reasons: Mapping[str, str], name: str, mark: str, path: Path
) -> ScoreTable:
    ids = part.column("sample_id").tolist()
    missing = [one for one in ids if one not in scores]
    if missing:
        raise ScoreError(
            f"{path}: no line for {len(missing)} of {len(ids)} samples, the first is {missing[0]!r}",
            hint="every dev and test sample of the run needs a line; leave the score blank where there is no answer",
        )
    scored = {}
    for one in ids:
        value = scores[one]
        why = reasons.get(one) or "no score in the file"
        scored[one] = Scored(score=value) if value is not None else Scored(status=Status.ERROR, reason=why)
    return ScoreTable.from_scored(part, scored, {"detector": name, "bundle_sha256": mark})


def _facts(
    own: RunFolder,
    name: str,
    mark: str,
    calibration: Calibration,
    points: list[OperatingPoint],
    seen: Any,
    manifest: Manifest,
) -> dict[str, Any]:
    """What stands in for a bundle's facts; written once, so that its date is that of the first reading."""
    folder = own.bundle
    folder.mkdir(parents=True, exist_ok=True)
    card = f"# {name}\n\n{STATEMENT}\n"
    write_text(folder / "card.md", card)
    facts = {
        "schema": "outside-1", "name": name, "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "files": {"detector.onnx": mark, "card.md": sha256_bytes(card.encode())},
        "calibration": calibration.to_dict(), "operating_points": [point.to_dict() for point in points],
        "generators_seen": [str(one) for one in seen or ()], "licence_chain": [], "synthetic": manifest.synthetic,
        "scope": {"statement": STATEMENT},
    }  # fmt: skip
    path = folder / "bundle.json"
    if path.is_file():
        before = json.loads(path.read_text())
        if {**before, "created": ""} == {**facts, "created": ""}:
            facts = before
    write_json(path, facts)
    return {
        "name": name, "bundle_sha256": sha256_bytes(path.read_bytes()), "weights_sha256": mark,
        "calibration": calibration, "operating_points": points,
        "generators_seen": None if seen is None else [str(one) for one in seen], "licence_chain": [],
        "scope": facts["scope"], "manifest_sha256s": {}, "created_utc": facts["created"],
        "synthetic": manifest.synthetic,
    }  # fmt: skip
