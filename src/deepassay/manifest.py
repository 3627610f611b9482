"""Sample and Manifest: what a corpus is once it has been read; immutable, validated, hashed; Parquet and CSV."""

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepassay.errors import ManifestError
from deepassay.files import atomic_path, canonical_json, sha256_bytes
from deepassay.labels import LABEL_WORDS, parse_label

SCHEMA_VERSION = "1"
MEDIA = ("image", "video", "audio")
MODALITIES = ("face", "voice")
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One media file with one label: the unit that is scored. Field meanings: DESIGN.md section 4, Manifest."""

    sample_id: str
    path: str
    media: str
    modality: str
    label: int | None = None
    source_id: str = ""
    subjects: tuple[str, ...] = ()
    generator: str = ""
    generator_family: str = ""
    corpus: str = ""
    split: str = ""
    channel: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    licence: str = ""
    sha256: str = ""
    bytes: int | None = None
    duration_s: float | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    rate_hz: int | None = None
    codec: str = ""

    @property
    def cluster(self) -> str:
        """Unit of independence: the first subject where known (a swap's target), else the source, else the sample."""
        return self.subjects[0] if self.subjects else (self.source_id or self.sample_id)


_TYPES: dict[str, pa.DataType] = {
    "label": pa.int8(),
    "subjects": pa.list_(pa.string()),
    "attributes": pa.map_(pa.string(), pa.string()),
    "bytes": pa.int64(),
    "duration_s": pa.float64(),
    "width": pa.int32(),
    "height": pa.int32(),
    "fps": pa.float64(),
    "rate_hz": pa.int32(),
}
COLUMNS = tuple(f.name for f in fields(Sample))
SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in COLUMNS])


def _row(sample: Sample) -> dict[str, Any]:
    row = {name: getattr(sample, name) for name in COLUMNS}
    row["subjects"] = list(sample.subjects)
    row["attributes"] = sorted(sample.attributes.items())
    return row


def _sample(row: Mapping[str, Any]) -> Sample:
    values = dict(row)
    values["subjects"] = tuple(values["subjects"] or ())
    values["attributes"] = dict(values["attributes"] or ())
    return Sample(**values)


@dataclass(frozen=True)
class Manifest:
    """An immutable table of samples below one root folder.

    Args:
        table: Arrow table with exactly `SCHEMA`.
        root: folder that every ``path`` is relative to.
        info: facts about the whole: ``name``, ``synthetic`` (bool, law 10), ``licence``, ``version``, ``dropped``
            (counts with reasons) and whatever a corpus door wants to keep. JSON values only.
    """

    table: pa.Table
    root: Path
    info: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_samples(
        cls, samples: Iterable[Sample], root: str | Path, info: Mapping[str, Any] | None = None
    ) -> "Manifest":
        """Build and validate. Raises ManifestError on what `validate` refuses."""
        rows = [_row(s) for s in samples]
        try:
            table = pa.Table.from_pylist(rows, schema=SCHEMA)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise _mistyped(rows, error) from error
        manifest = cls(table, Path(root), dict(info or {}))
        manifest.validate()
        return manifest

    def validate(self) -> None:
        """Refuse duplicate or empty ids, absolute or escaping paths, unknown words.

        Raises:
            ManifestError: names the first offending sample and the remedy.
        """
        name = self.info.get("name", "manifest")
        ids = self.table.column("sample_id").to_pylist()
        seen: set[str] = set()
        for sample_id in ids:
            if not sample_id:
                raise ManifestError(f"{name}: a sample has no sample_id", hint="give every row a unique, stable id")
            if sample_id in seen:
                raise ManifestError(
                    f"{name}: sample_id {sample_id!r} occurs more than once",
                    hint="an id must tell method, compression and file apart; do not use a bare folder or file name",
                )
            seen.add(sample_id)
        for column, allowed in (("media", MEDIA), ("modality", MODALITIES), ("split", (*SPLITS, "", None))):
            for sample_id, value in zip(ids, self.table.column(column).to_pylist(), strict=True):
                if value not in allowed:
                    raise ManifestError(
                        f"{name}: sample {sample_id!r} has {column} {value!r}",
                        hint=f"{column} must be one of {[a for a in allowed if a]}",
                    )
        for sample_id, path in zip(ids, self.table.column("path").to_pylist(), strict=True):
            if not path or Path(path).is_absolute() or ".." in Path(path).parts:
                raise ManifestError(
                    f"{name}: sample {sample_id!r} has path {path!r}",
                    hint="paths must be relative to the corpus root and stay inside it",
                )
        for column in ("duration_s", "fps"):
            for sample_id, value in zip(ids, self.table.column(column).to_pylist(), strict=True):
                if value is not None and not math.isfinite(value):
                    raise ManifestError(
                        f"{name}: sample {sample_id!r} has {column} {value}",
                        hint="leave it empty where it is not known",
                    )
        labels = self.table.column("label").to_pylist()
        for sample_id, label, generator in zip(ids, labels, self.table.column("generator").to_pylist(), strict=True):
            if label not in (0, 1, None):
                raise ManifestError(f"{name}: sample {sample_id!r} has label {label!r}", hint="REAL is 0, FAKE is 1")
            if label == 0 and generator:
                raise ManifestError(
                    f"{name}: sample {sample_id!r} is real but names generator {generator!r}",
                    hint="leave generator empty for real samples, or correct the label",
                )

    def __len__(self) -> int:
        return self.table.num_rows

    def __iter__(self) -> Iterator[Sample]:
        for batch in self.table.to_batches(max_chunksize=8192):
            for row in batch.to_pylist():
                yield _sample(row)

    def __getitem__(self, index: int) -> Sample:
        return _sample(self.table.slice(index, 1).to_pylist()[0])

    @property
    def synthetic(self) -> bool:
        """True where any sample stems from the built-in synthetic corpora (law 10)."""
        return bool(self.info.get("synthetic", False))

    @property
    def name(self) -> str:
        """Short name of the corpus or mixture."""
        return str(self.info.get("name", "manifest"))

    def column(self, name: str) -> np.ndarray:
        """One column as an object or numeric array (n,); missing labels are -1 in ``label``."""
        if name == "cluster":
            return np.array([s.cluster for s in self], dtype=object)
        if name == "label":
            return np.array([-1 if v is None else v for v in self.table.column("label").to_pylist()], dtype=np.int8)
        values = self.table.column(name).to_pylist()
        out = np.empty(len(values), dtype=object)
        out[:] = values
        return out

    def file(self, sample: Sample) -> Path:
        """Absolute path of a sample's file."""
        return self.root / sample.path

    @property
    def hash(self) -> str:
        """Content hash: independent of row order and of where the root lies."""
        rows = sorted(sha256_bytes(canonical_json(row)) for row in self.table.to_pylist())
        return sha256_bytes(("\n".join([SCHEMA_VERSION, *rows])).encode())

    def select(self, keep: Sequence[bool] | np.ndarray | Callable[[Sample], bool]) -> "Manifest":
        """Rows where a boolean mask (n,) or a predicate on samples is true; order is kept."""
        mask = [bool(keep(s)) for s in self] if callable(keep) else np.asarray(keep, dtype=bool).tolist()
        return Manifest(self.table.filter(pa.array(mask, pa.bool_())), self.root, self.info)

    def split(self, name: str) -> "Manifest":
        """The samples of one split. Raises ManifestError on a word that is not a split."""
        if name not in SPLITS:
            raise ManifestError(f"there is no split {name!r}", hint=f"use one of {list(SPLITS)}")
        return self.select(self.column("split") == name)

    def replace_samples(self, samples: Iterable[Sample], **info: Any) -> "Manifest":
        """A new validated manifest below the same root, with some info replaced."""
        return Manifest.from_samples(samples, self.root, {**self.info, **info})

    def counts(self) -> dict[str, dict[str, int]]:
        """Samples by split, then by ``real``, ``fake`` and ``unlabelled``."""
        out: dict[str, dict[str, int]] = {}
        for split, label in zip(self.column("split"), self.column("label"), strict=True):
            cell = out.setdefault(split or "unsplit", {"real": 0, "fake": 0, "unlabelled": 0})
            cell["unlabelled" if label < 0 else LABEL_WORDS[label]] += 1
        return out

    def to_parquet(self, path: str | Path) -> None:
        """Write atomically; info and schema version travel in the file's metadata."""
        meta = {b"deepassay.manifest": json.dumps({"schema": SCHEMA_VERSION, "info": dict(self.info)}).encode()}
        with atomic_path(path) as temporary:
            pq.write_table(self.table.replace_schema_metadata(meta), temporary)

    @classmethod
    def read_parquet(cls, path: str | Path, root: str | Path) -> "Manifest":
        """Read what `to_parquet` wrote. Raises ManifestError where it is something else."""
        try:
            table = pq.read_table(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise ManifestError(
                f"{path}: not a readable Parquet file ({error})", hint="prepare the corpus again"
            ) from error
        raw = (table.schema.metadata or {}).get(b"deepassay.manifest")
        if raw is None or tuple(table.column_names) != COLUMNS:
            raise ManifestError(
                f"{path}: not a deepassay manifest", hint="for your own table use corpus=csv with a column mapping"
            )
        meta = json.loads(raw)
        if meta.get("schema") != SCHEMA_VERSION:
            raise ManifestError(
                f"{path}: a manifest of schema {meta.get('schema')}, this version reads {SCHEMA_VERSION}",
                hint="prepare the corpus again with this version",
            )
        manifest = cls(table.replace_schema_metadata(None).cast(SCHEMA), Path(root), meta["info"])
        manifest.validate()
        return manifest

    def to_csv(self, path: str | Path) -> None:
        """Write with label words, subjects joined by ``|`` and one ``attributes.NAME`` column per attribute."""
        samples = list(self)
        extra = sorted({key for s in samples for key in s.attributes})
        names = [c for c in COLUMNS if c != "attributes"]
        with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as stream:
            writer = csv.writer(stream)
            writer.writerow([*names, *(f"attributes.{key}" for key in extra)])
            for s in samples:
                row = _row(s)
                row["label"] = "" if s.label is None else LABEL_WORDS[s.label]
                row["subjects"] = "|".join(s.subjects)
                cells = ["" if row[name] is None else row[name] for name in names]
                writer.writerow([*cells, *(s.attributes.get(key, "") for key in extra)])

    @classmethod
    def read_csv(cls, path: str | Path, root: str | Path, info: Mapping[str, Any] | None = None) -> "Manifest":
        """Read a CSV with the contract's column names (`corpora.table` maps other names).

        Raises:
            ManifestError: no such file, unknown label words, duplicate ids, missing columns; names the line.
        """
        samples = []
        if not Path(path).is_file():
            raise ManifestError(f"{path}: no such table", hint="give the path of an existing CSV file")
        with open(path, newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            missing = {"sample_id", "path", "media", "modality"} - set(reader.fieldnames or ())
            if missing:
                raise ManifestError(
                    f"{path}: columns missing: {sorted(missing)}", hint="map them with corpus=csv columns"
                )
            for number, row in enumerate(reader, start=2):
                samples.append(sample_from_text(row, where=f"{path}, line {number}"))
        return cls.from_samples(samples, root, info)


def sample_from_text(row: Mapping[str, str | None], *, where: str) -> Sample:
    """A Sample from text cells; columns outside the contract are kept under ``attributes``.

    Raises:
        ManifestError: a label word or number that cannot be read, naming ``where``.
    """
    values: dict[str, Any] = {}
    attributes: dict[str, str] = {}
    if None in row:
        raise ManifestError(f"{where}: more cells than columns", hint="quote cells that hold a comma")
    for key, cell in row.items():
        text = (cell or "").strip()
        if not text:
            continue
        if key not in COLUMNS or key == "attributes":
            attributes[key.removeprefix("attributes.")] = text
        elif key == "label":
            values[key] = parse_label(text, where=where)
        elif key == "subjects":
            values[key] = tuple(part for part in text.split("|") if part)
        elif key in _TYPES:
            values[key] = _number(text, whole=_TYPES[key] != pa.float64())
            if values[key] is None:
                raise ManifestError(f"{where}: {key} is {text!r}, not such a number", hint="correct or empty the cell")
        else:
            values[key] = text
    missing = {"sample_id", "path", "media", "modality"} - set(values)
    if missing:
        raise ManifestError(f"{where}: empty {sorted(missing)}", hint="fill them or drop the row")
    return Sample(**values, attributes=attributes)


def _number(text: str, *, whole: bool) -> float | int | None:
    try:
        value = float(text)
    except ValueError:
        return None
    if not math.isfinite(value) or (whole and not value.is_integer()):
        return None
    return int(value) if whole else value


def _mistyped(rows: list[dict[str, Any]], error: Exception) -> ManifestError:
    for row in rows:
        try:
            pa.Table.from_pylist([row], schema=SCHEMA)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as own:
            return ManifestError(
                f"sample {row['sample_id']!r} holds a value of the wrong type ({own})",
                hint="attributes, names and paths are text; sizes are whole numbers",
            )
    return ManifestError(f"the samples cannot be put in one table ({error})", hint="check the types of all values")


def with_split(sample: Sample, split: str) -> Sample:
    """A copy of the sample in another split."""
    return replace(sample, split=split)
