"""Conditions: the test files scored again after ordinary processing, re-encoded alike, or with silence cut off."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepassay.calibrator import Calibration, calibrate
from deepassay.errors import ConfigError, ScoreError
from deepassay.evidence.protocol import Protocol
from deepassay.files import atomic_path, canonical_json, fingerprint, sha256_bytes, slug
from deepassay.labels import FAKE, REAL, Status
from deepassay.manifest import Manifest
from deepassay.modality.views import Modality, Views
from deepassay.scores import SCHEMA as SCORE_SCHEMA
from deepassay.scores import ScoreTable
from deepassay.scoring import Predict, score_manifest

LADDER, RECODE, TRIM = "ladder", "recode", "trim"
# What both classes are re-encoded to for check F03: one ordinary coder per medium, at a usual quality.
RECODERS = {"image": ("jpeg", 75.0), "video": ("h264", 23.0), "audio": ("aac", 64.0)}
SCHEMA_VERSION = "1"
_SCHEMA = pa.schema(
    [("condition", pa.string()), ("sample_id", pa.string()), ("score", pa.float64()), ("status", pa.string())]
)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One way in which the files are changed before they are scored again.

    Args:
        name: ``jpeg@75`` for a step of a ladder, ``recode:jpeg@75`` and ``trim`` for the halves of checks F03 and F04.
        kind: ``ladder``, ``recode`` or ``trim``.
        ladder, strength, title, unit: of `media.processing.PICTURE_LADDERS` or `media.channels.SOUND_LADDERS`.
        coder: encoder and version that took part.
    """

    name: str
    kind: str
    ladder: str = ""
    strength: float = 0.0
    title: str = ""
    unit: str = ""
    coder: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def conditions_of(protocol: Protocol, modality: str, media: Sequence[str]) -> list[Condition]:
    """Every condition of an assessment: the protocol's ladders, and what checks F03 and F04 score again.

    Args:
        modality: face or voice.
        media: kinds of file in the test set: image, video, audio.

    Raises:
        ConfigError: no such ladder, or a choice that is empty.
        MissingDependencyError: an encoder is not there. Nothing else is ever used in its stead.
    """
    kinds = sorted(set(media))
    coders = list(dict.fromkeys(RECODERS[kind] for kind in kinds))
    # One condition, one coder: with pictures and videos in one test set, both classes of both go through JPEG.
    name, strength = coders[0]
    out = [_step(modality, name, strength, kind=RECODE)]
    if modality == "voice":
        out.append(Condition(name=TRIM, kind=TRIM, title="leading and trailing silence cut off", coder="NumPy"))
    for name in protocol.ladders.get(modality, ()):
        strengths = _ladder(modality, name).strengths
        if protocol.ladder_strengths:
            picked = np.linspace(0, len(strengths) - 1, min(protocol.ladder_strengths, len(strengths)))
            strengths = [strengths[int(i)] for i in dict.fromkeys(picked.round())]
        out += [_step(modality, name, float(value)) for value in strengths]
    return out


def _ladder(modality: str, name: str) -> Any:
    if modality == "face":
        from deepassay.media.processing import picture_ladder

        return picture_ladder(name)
    from deepassay.media.channels import sound_ladder

    return sound_ladder(name)


def _step(modality: str, name: str, strength: float, *, kind: str = LADDER) -> Condition:
    if modality == "face":
        from deepassay.media.processing import ladder_facts

        facts = ladder_facts(name)
    else:
        from deepassay.media.channels import sound_ladder_facts

        facts = sound_ladder_facts(name)
    step = f"{name}@{strength:g}"
    return Condition(
        name=step if kind == LADDER else f"{kind}:{step}", kind=kind, ladder=name, strength=strength,
        title=facts["title"], unit=facts["unit"], coder=facts["coder"],
    )  # fmt: skip


class Processed:
    """A modality whose files go through one condition first; pictures and sounds as a whole, before faces are found.

    Args:
        modality: `FaceModality` or `VoiceModality`; both can prepare what is in memory already.
        condition: what happens to each file.
    """

    def __init__(self, modality: Any, condition: Condition) -> None:
        self.inner, self.condition = modality, condition
        self.name: str = modality.name
        if hasattr(modality, "even_views"):
            self.even_views: int = modality.even_views

    @property
    def contract(self) -> dict[str, Any]:
        """That of the modality, and the condition."""
        return {**self.inner.contract, "processed": self.condition.to_json()}

    @property
    def fingerprint(self) -> str:
        """Hash of the contract."""
        return fingerprint(self.contract)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """That of the modality."""
        return self.inner.input_shape

    def prepare(self, path: str | Path) -> Views:
        """What the modality prepares of the changed file. Raises labels.Unusable as it does."""
        if self.name == "voice":
            return self._sound(path)
        from deepassay.media.containers import media_of, open_media
        from deepassay.media.image import read_image
        from deepassay.media.video import iterate_frames

        with open_media(path) as (stream, container):
            kind = media_of(stream, container)
        if kind == "image":
            return self.inner.prepare_image(self._picture(read_image(path)))
        if kind == "video":
            return self.inner.prepare_frames(
                (self._picture(image), time_s) for image, time_s, _ in iterate_frames(path, self.inner.views)
            )
        return self.inner.prepare(path)  # a sound file among faces: refused there, with its own reason

    def _picture(self, image: np.ndarray) -> np.ndarray:
        from deepassay.media.processing import launder

        return launder(image, self.condition.ladder, self.condition.strength)

    def _sound(self, path: str | Path) -> Views:
        from dataclasses import replace

        from deepassay.media.channels import launder_sound, speech_bounds
        from deepassay.media.limits import DEFAULT_LIMITS
        from deepassay.media.sound import read_sound

        rate = self.inner.rate_hz
        signal = read_sound(path, rate, replace(DEFAULT_LIMITS, max_seconds=self.inner.max_seconds))
        if self.condition.kind == TRIM:
            first, last = speech_bounds(signal, rate)
            return self.inner.prepare_signal(signal[first:last])
        return self.inner.prepare_signal(launder_sound(signal, rate, self.condition.ladder, self.condition.strength))

    def draw(self, prepared: Views, k: int, rng: np.random.Generator | None = None) -> Views:
        """As the modality."""
        return self.inner.draw(prepared, k, rng)

    def pool(self, logits: np.ndarray, views: Views) -> float:
        """As the modality."""
        return self.inner.pool(logits, views)


@dataclass(frozen=True)
class ConditionScores:
    """Scores of test samples under every condition: what is sealed, and what every number of section H rests on.

    Args:
        table: Arrow rows of condition, sample_id, score (null without an answer) and status.
    """

    table: pa.Table

    @classmethod
    def collect(cls, tables: Mapping[str, ScoreTable]) -> "ConditionScores":
        """From one score table per condition."""
        parts = [
            pa.table(
                {"condition": [name] * len(table), **{c: table.table.column(c) for c in _SCHEMA.names[1:]}}
            ).cast(_SCHEMA)
            for name, table in tables.items()
        ]  # fmt: skip
        return cls(pa.concat_tables(parts).combine_chunks() if parts else _SCHEMA.empty_table())

    @property
    def names(self) -> list[str]:
        """Conditions, in the order in which they were scored."""
        return list(dict.fromkeys(self.table.column("condition").to_pylist()))

    @property
    def hash(self) -> str:
        """Content hash, independent of the order of rows."""
        columns = [self.table.column(name).to_pylist() for name in _SCHEMA.names]
        rows = sorted(canonical_json(list(row)) for row in zip(*columns, strict=True))
        return sha256_bytes(b"\n".join([SCHEMA_VERSION.encode(), *rows]))

    def renamed(self, ids: Callable[[str], str]) -> "ConditionScores":
        """The same scores under other sample ids."""
        values = [ids(value) for value in self.table.column("sample_id").to_pylist()]
        return ConditionScores(self.table.set_column(1, _SCHEMA.field(1), pa.array(values, pa.string())))

    def under(self, name: str, test: ScoreTable, calibration: Calibration) -> ScoreTable:
        """The rows of the test table that were scored under a condition, with the scores and llrs that they then had.

        Raises:
            ScoreError: a sample that the test table does not have, or one that occurs twice.
        """
        rows = {
            row["sample_id"]: row for row in self.table.to_pylist() if row["condition"] == name
        }  # fmt: skip
        ids = test.column("sample_id")
        keep = np.array([i in rows for i in ids])
        if int(keep.sum()) != sum(value == name for value in self.table.column("condition").to_pylist()):
            raise ScoreError(
                f"condition {name}: scores of samples that the test table does not have, or twice",
                hint="delete the run's folder `conditions` and assess again",
            )
        part = test.select(keep)
        mine = [rows[i] for i in part.column("sample_id")]
        table = part.table
        for column, values in (
            ("score", [row["score"] for row in mine]),
            ("llr", [None] * len(mine)),
            ("status", [row["status"] for row in mine]),
            ("reason", [""] * len(mine)),
        ):
            at = SCORE_SCHEMA.get_field_index(column)
            table = table.set_column(at, SCORE_SCHEMA.field(at), pa.array(values, SCORE_SCHEMA.field(at).type))
        meta = {k: v for k, v in part.meta.items() if k not in ("calibrated", "dev_table_sha256")}
        return calibrate(ScoreTable(table, {**meta, "condition": name}), calibration)

    def write(self, path: str | Path) -> None:
        """Parquet, atomically; the same rows always give the same bytes."""
        with atomic_path(path) as temporary:
            pq.write_table(self.table.replace_schema_metadata(None), temporary)

    @classmethod
    def read(cls, path: str | Path) -> "ConditionScores":
        """Read what `write` wrote. Raises ScoreError where it is not that."""
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise ScoreError(f"{path}: not a readable Parquet file ({error})", hint="assess again") from error
        if tuple(table.column_names) != tuple(_SCHEMA.names):
            raise ScoreError(f"{path}: not scores under conditions", hint="assess again")
        return cls(table.replace_schema_metadata(None).cast(_SCHEMA))


def drawn(test: Manifest, per_class: int, tool: str) -> Manifest:
    """Test samples that go through the ladders: at most so many real ones, and so many of the tool's, by hash of id.

    Reference generators take no part: the curves are about the tool and about false alarms.
    """
    keep: set[str] = set()
    for label in (REAL, FAKE):
        mine = [s.sample_id for s in test if s.label == label and (label == REAL or s.generator == tool)]
        mine.sort(key=lambda one: sha256_bytes(one.encode()))
        keep |= set(mine[: per_class or len(mine)])
    return test.select(np.array([s.sample_id in keep for s in test], dtype=bool))


def score_conditions(
    test: Manifest,
    conditions: Sequence[Condition],
    modality: Modality,
    predict: Predict,
    folder: Path,
    *,
    tool: str,
    per_class: int = 0,
    views: int,
    meta: Mapping[str, Any] | None = None,
    workers: int = 0,
    progress: bool | Callable[[str, int, int], None] = True,
) -> ConditionScores:
    """Score the test files under every condition, with one bar; what is done stays done, and a kill costs one group.

    The two halves of checks score every test file; ladders score those of `drawn`. A finished condition lies in
    ``folder`` as Parquet, the one that is being scored as a journal.

    Args:
        test: the test split.
        modality, predict, views, meta, workers: as `scoring.score_manifest`.
        tool: generator name of the tool's outputs.
        per_class: of `drawn`; 0 for all.
        progress: a bar, none, or a function of (condition, finished, total).

    Raises:
        ConfigError: two conditions of one name.
    """
    names = [condition.name for condition in conditions]
    if len(set(names)) != len(names):
        raise ConfigError(f"conditions occur twice: {names}", hint="name each ladder once")
    few = drawn(test, per_class, tool)
    parts = {c.name: (few if c.kind == LADDER else test) for c in conditions}
    total = sum(len(part) for part in parts.values())
    tables: dict[str, ScoreTable] = {}
    done = 0
    folder.mkdir(parents=True, exist_ok=True)
    with _bar(progress, total) as report:
        for condition in conditions:
            part, changed = parts[condition.name], Processed(modality, condition)
            facts = {**(meta or {}), "condition": condition.to_json(), "views": views}
            path = (
                folder / f"{slug(condition.name)}.{fingerprint([part.hash, changed.fingerprint, facts])[:12]}.parquet"
            )
            if path.is_file():
                tables[condition.name] = ScoreTable.read(path)
            else:
                journal = path.with_suffix(".jsonl")
                before = done
                tables[condition.name] = score_manifest(
                    part, changed, predict, views=views, meta=facts, workers=workers, resume_path=journal,
                    progress=lambda n, _, name=condition.name, before=before: report(name, before + n),
                )  # fmt: skip
                tables[condition.name].write(path)
                journal.unlink(missing_ok=True)
            done += len(part)
            report(condition.name, done)
    return ConditionScores.collect(tables)


@contextmanager
def _bar(wanted: bool | Callable[[str, int, int], None], total: int) -> Iterator[Callable[[str, int], None]]:
    if callable(wanted):
        yield lambda name, n: wanted(name, n, total)
    elif not wanted:
        yield lambda name, n: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("conditions", total=total)
            yield lambda name, n: bar.update(task, description=name, completed=n)
    else:
        last = ""

        def line(name: str, n: int) -> None:
            nonlocal last
            if name != last:
                last = name
                print(f"{name}: {n} of {total} scored", file=sys.stderr, flush=True)

        yield line


def answered_share(table: ScoreTable) -> float:
    """Share of rows with status ok."""
    return float((table.column("status") == str(Status.OK)).mean())
