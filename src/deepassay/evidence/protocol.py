"""Protocol: the plan of an assessment, frozen before any test label is read, and the record of what was opened when."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deepassay.errors import ConfigError
from deepassay.evaluation import Number
from deepassay.files import fingerprint, write_json

SCHEMA_VERSION = "1"
SIDES = ("at_most", "at_least")
TARGETS = ("tool", "worst_generator", "all")
VERDICTS = ("supported", "not_supported", "inconclusive")
NO_PROTOCOL = "0" * 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One declared claim and its rule: supported iff the whole interval lies on the good side of theta.

    Args:
        id: short name, C1, C2 ...
        metric: key of the metric catalogue, such as ``apcer``, ``bpcer``, ``auc``.
        theta: the declared limit, in the metric's unit; it comes from the assessor, never from the law.
        side: ``at_most`` or ``at_least``.
        about: ``tool`` (the tool's outputs as their own generator), ``worst_generator``, or ``all``.
        operating_point: name of the dev operating point, empty for metrics without one.
        condition: step of a declared ladder, such as ``jpeg@50``, for a claim about files after that processing.
        text: the claim in words, by language (``en``, ``zh``); ``{tool}`` and ``{theta}`` are filled in.
    """

    id: str
    metric: str
    theta: float
    side: str
    text: Mapping[str, str]
    about: str = "tool"
    operating_point: str = ""
    condition: str = ""

    def __post_init__(self) -> None:
        if self.condition and (self.about == "worst_generator" or self.metric not in ("apcer", "bpcer", "auc")):
            raise ConfigError(
                f"claim {self.id}: condition {self.condition!r} with {self.metric} about {self.about}",
                hint="under a condition there are apcer and auc about the tool, and bpcer about all",
            )
        if self.side not in SIDES or self.about not in TARGETS:
            raise ConfigError(
                f"claim {self.id}: side {self.side!r}, about {self.about!r}",
                hint=f"side is one of {list(SIDES)}, about one of {list(TARGETS)}",
            )
        if not str(self.text.get("en", "")).strip():
            raise ConfigError(f"claim {self.id} has no English text", hint="add text: {en: ..., zh: ...}")


def decide(claim: Claim, number: Number | None) -> str:
    """The verdict that a number gives a claim, before checks have their say.

    Supported iff the interval lies wholly on the good side of theta (theta included), not supported iff wholly on the
    bad side, else inconclusive; so is a number that is missing, has no interval or is under-powered.
    """
    if number is None or number.ci is None or number.status in ("under_powered", "not_reported"):
        return "inconclusive"
    lo, hi = number.ci["lo"], number.ci["hi"]
    if lo is None or hi is None:
        return "inconclusive"
    if claim.side == "at_most":
        return "supported" if hi <= claim.theta else "not_supported" if lo > claim.theta else "inconclusive"
    return "supported" if lo >= claim.theta else "not_supported" if hi < claim.theta else "inconclusive"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """The plan: what is measured, with what, and what will count as support.

    Args:
        name, version: identity of the plan.
        headline: the one-sentence claim of the first page, by language; ``{tool}`` and ``{version}`` are filled in.
        claims: mappings with the fields of `Claim`.
        operating_points: names of dev operating points that must exist, such as ``bpcer_5``.
        detectors: names or bundle hashes of the detectors declared beforehand; empty means the one that is given.
        slices: score-table columns or attributes to report by.
        replicates, level, seed: of the cluster bootstrap.
        minimum_clusters, minimum_attack: below these a number is under-powered (law 4).
        ladders: ladders of ordinary processing by modality (``face``, ``voice``): names of `media.processing` and
            `media.channels`; the test files are scored again at their steps, thresholds kept.
        ladder_strengths: how many of a ladder's strengths, spread evenly from mild to harsh; 0 for all.
        ladder_samples: most real samples, and most of the tool's outputs, that go through the ladders; 0 for all.
        controls: ``real_by``, a column or attribute that tells sources of real samples apart, and ``easy``, a generator
            that any detector should find; where absent, real samples are halved, and dev says which is easiest.
        comparisons: mappings ``id``, ``metric`` (auc, apcer, bpcer), ``operating_point``, ``first``, ``second``; a side
            is ``tool``, ``generator:NAME``, ``real``, or ``tool@STEP`` or ``real@STEP`` of a ladder. They form one Holm
            family.
        non_claims: further non-claims by language, besides those that every dossier carries.
        valid_days: after how many days the dossier expires.
        retention: what is kept until when, by language.
    """

    name: str
    version: str
    headline: Mapping[str, str]
    claims: Sequence[Any]
    operating_points: Sequence[str] = ("bpcer_5", "bpcer_1")
    detectors: Sequence[str] = ()
    slices: Sequence[str] = ("generator", "generator_family")
    replicates: int = 2000
    level: float = 0.95
    seed: int = 0
    minimum_clusters: int = 20
    minimum_attack: int = 59
    ladders: Mapping[str, Sequence[str]] = field(default_factory=dict)
    ladder_strengths: int = 0
    ladder_samples: int = 0
    controls: Mapping[str, str] = field(default_factory=dict)
    comparisons: Sequence[Mapping[str, str]] = ()
    non_claims: Mapping[str, Sequence[str]] = field(default_factory=dict)
    valid_days: int = 365
    retention: Mapping[str, str] = field(
        default_factory=lambda: {
            "en": "3 years from the date (evidence and scores)",
            "zh": "自报告日期起三年（证据与得分）",
        }
    )

    def __post_init__(self) -> None:
        if not self.claims:
            raise ConfigError(f"protocol {self.name} declares no claim", hint="add at least one entry to claims")
        claims = []
        for entry in self.claims:
            if isinstance(entry, Claim):
                claims.append(entry)
                continue
            try:
                claims.append(Claim(**entry))
            except TypeError as error:
                raise ConfigError(
                    f"protocol {self.name}: a claim cannot be read ({error})",
                    hint="a claim has id, metric, theta, side, text, and may have about and operating_point",
                ) from error
        names = [claim.id for claim in claims]
        if len(set(names)) != len(names):
            raise ConfigError(f"protocol {self.name}: two claims share an id", hint=f"ids are {names}")
        for claim in claims:
            if claim.operating_point and claim.operating_point not in self.operating_points:
                raise ConfigError(
                    f"claim {claim.id} rests on operating point {claim.operating_point!r}, which is not declared",
                    hint=f"declared are {list(self.operating_points)}",
                )
        if self.replicates < 1 or not 0 < self.level < 1 or self.minimum_clusters < 20:
            raise ConfigError(
                f"protocol {self.name}: replicates {self.replicates}, level {self.level}, "
                f"minimum_clusters {self.minimum_clusters}",
                hint="replicates >= 1, level in (0, 1), minimum_clusters >= 20 (law 4)",
            )
        self._check_plan(claims)
        object.__setattr__(self, "claims", tuple(claims))
        object.__setattr__(self, "ladders", {str(k): tuple(v) for k, v in self.ladders.items()})
        object.__setattr__(self, "comparisons", tuple(dict(one) for one in self.comparisons))
        object.__setattr__(self, "controls", dict(self.controls))
        for name in ("operating_points", "detectors", "slices"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def _check_plan(self, claims: Sequence[Claim]) -> None:
        unknown = sorted(set(self.ladders) - {"face", "voice"}) + sorted(set(self.controls) - {"real_by", "easy"})
        if unknown or any(isinstance(names, str) for names in self.ladders.values()):
            raise ConfigError(
                f"protocol {self.name}: ladders or controls {unknown or dict(self.ladders)}",
                hint="ladders has lists under face and voice, controls has real_by and easy",
            )
        if min(self.ladder_strengths, self.ladder_samples) < 0:
            raise ConfigError(f"protocol {self.name}: a negative number of strengths or samples", hint="0 means all")
        keys = {"id", "metric", "first", "second", "operating_point"}
        for one in self.comparisons:
            if not keys - {"operating_point"} <= set(one) <= keys or one["metric"] not in ("auc", "apcer", "bpcer"):
                raise ConfigError(
                    f"protocol {self.name}: comparison {dict(one)}",
                    hint="it has id, metric (auc, apcer or bpcer), first, second and, for rates, operating_point",
                )
            point = one.get("operating_point", "")
            if (one["metric"] == "auc") == bool(point) or (point and point not in self.operating_points):
                raise ConfigError(
                    f"protocol {self.name}: comparison {one['id']} at operating point {point!r}",
                    hint=f"an AUC has none; rates have one of {list(self.operating_points)}",
                )
        names = [str(one["id"]) for one in self.comparisons]
        steps = {claim.condition for claim in claims} - {""}
        steps |= {side.partition("@")[2] for one in self.comparisons for side in (one["first"], one["second"])} - {""}
        declared = {name for ladder in self.ladders.values() for name in ladder}
        loose = sorted(step for step in steps if step.partition("@")[0] not in declared)
        if loose or len(set(names)) != len(names):
            raise ConfigError(
                f"protocol {self.name}: {f'step {loose[0]!r} is of no declared ladder' if loose else 'ids repeat'}",
                hint=f"declared ladders are {sorted(declared)}; comparisons have ids of their own",
            )

    def to_json(self) -> dict[str, Any]:
        """Everything that is frozen, as JSON values; what came later than schema 1 is left out where it is not used."""
        values = json.loads(json.dumps({"schema": SCHEMA_VERSION, **asdict(self)}))
        for name in ("ladders", "ladder_strengths", "ladder_samples", "controls", "comparisons"):
            if not values[name]:
                del values[name]
        for claim in values["claims"]:
            if not claim["condition"]:
                del claim["condition"]
        return values

    @property
    def sha256(self) -> str:
        """Hash of the whole plan; changing any word of it changes the hash."""
        return fingerprint(self.to_json())


class Register:
    """A folder that keeps one frozen protocol and every opening of the test labels (self-kept: no third party's time).

    Args:
        folder: holds ``protocol.json`` and the append-only ``openings.jsonl``.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._frozen = self.folder / "protocol.json"
        self._openings = self.folder / "openings.jsonl"

    @property
    def frozen(self) -> bool:
        """A protocol is frozen here."""
        return self._frozen.is_file()

    def freeze(self, protocol: Protocol, *, now: datetime | None = None) -> str:
        """Write the protocol and the time; returns its hash. Freezing the same protocol again keeps the first time.

        Raises:
            ConfigError: another protocol is frozen here already.
        """
        if self._frozen.is_file():
            before = self._read_frozen()
            if before["sha256"] != protocol.sha256:
                raise ConfigError(
                    f"{self._frozen}: another protocol is frozen here ({before['sha256'][:12]})",
                    hint="a changed plan is a new assessment: use another folder, the old one stays on record",
                )
            return protocol.sha256
        write_json(
            self._frozen,
            {
                "schema": SCHEMA_VERSION,
                "sha256": protocol.sha256,
                "frozen_utc": _time(now),
                "protocol": protocol.to_json(),
            },
        )
        return protocol.sha256

    def record_opening(self, table_sha256: str, *, now: datetime | None = None, before_protocol: bool = False) -> None:
        """Append that the labels of a test score table are about to be read.

        Args:
            before_protocol: they were read when no protocol was frozen (an evaluation that came first, say). Recording
                it is honest and costs the verdict "supported" (check F11).

        Raises:
            ConfigError: no protocol is frozen here: labels may not be read yet.
        """
        protocol = NO_PROTOCOL if before_protocol else self._read_frozen()["sha256"]
        line = {"opened_utc": _time(now), "table_sha256": table_sha256, "protocol_sha256": protocol}
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self._openings, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
            stream.flush()
            os.fsync(stream.fileno())

    def openings(self) -> list[dict[str, str]]:
        """Every opening, earliest first. Raises ConfigError on a damaged line."""
        if not self._openings.is_file():
            return []
        out = []
        for number, line in enumerate(self._openings.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                entry = json.loads(line)
                out.append({key: str(entry[key]) for key in ("opened_utc", "table_sha256", "protocol_sha256")})
            except (json.JSONDecodeError, KeyError, TypeError) as error:
                raise ConfigError(
                    f"{self._openings}, line {number}: damaged ({error!r})", hint="restore the file; it is append-only"
                ) from error
        return sorted(out, key=lambda entry: _parse(entry["opened_utc"]))

    def record(self) -> dict[str, Any]:
        """The `preregistration` part of the log: hash, times, openings and the deviations that these records show.

        Raises:
            ConfigError: nothing is frozen, or the test was never opened.
        """
        frozen = self._read_frozen()
        openings = self.openings()
        if not openings:
            raise ConfigError(
                f"{self.folder}: the test labels were never opened", hint="call record_opening before measuring"
            )
        deviations: list[tuple[str, str]] = []
        first = openings[0]["opened_utc"]
        if _parse(frozen["frozen_utc"]) >= _parse(first):
            deviations.append(
                (
                    f"The protocol was frozen at {frozen['frozen_utc']}, not before the test was opened at {first}.",
                    f"方案冻结时间（{frozen['frozen_utc']}）不早于测试标签首次打开时间（{first}）。",
                )
            )
        if len(openings) > 1:
            tables = len({entry["table_sha256"] for entry in openings})
            deviations.append(
                (
                    f"The test labels were opened {len(openings)} times ({tables} different score tables).",
                    f"测试标签共被打开 {len(openings)} 次（涉及 {tables} 份不同的得分表）。",
                )
            )
        if any(entry["protocol_sha256"] != frozen["sha256"] for entry in openings):
            deviations.append(
                (
                    "The test labels were also opened without this protocol.",
                    "测试标签曾在没有本方案的情况下被打开。",
                )
            )
        return {
            "protocol_sha256": frozen["sha256"],
            "frozen_utc": frozen["frozen_utc"],
            "test_opened_utc": first,
            "deviations": [english for english, _ in deviations],
            "deviations_zh": [chinese for _, chinese in deviations],
            "protocol_name": frozen["protocol"]["name"],
            "protocol_version": frozen["protocol"]["version"],
            "openings": openings,
            "self_kept": True,
        }

    def _read_frozen(self) -> dict[str, Any]:
        if not self._frozen.is_file():
            raise ConfigError(
                f"{self.folder}: no protocol is frozen here", hint="freeze the protocol before test labels are read"
            )
        value = json.loads(self._frozen.read_text(encoding="utf-8"))
        if fingerprint(value["protocol"]) != value["sha256"]:
            raise ConfigError(
                f"{self._frozen}: the protocol was changed after it was frozen",
                hint="restore the file; a changed plan is a new assessment",
            )
        return value


def _time(now: datetime | None) -> str:
    return (now or datetime.now(UTC)).astimezone(UTC).isoformat(timespec="microseconds")


def _parse(text: str) -> datetime:
    return datetime.fromisoformat(text)
