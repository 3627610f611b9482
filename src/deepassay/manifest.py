"""Sample and Manifest: what a corpus is once it has been read; immutable, validated, hashed; Parquet and CSV."""

import csv
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import islice
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from deepassay.errors import ManifestError
from deepassay.files import atomic_path
from deepassay.labels import LABEL_WORDS, parse_label
from deepassay.remote import Remote, is_url

pc: Any = pyarrow.compute  # makes its functions when it is imported, unseen by type checkers

SCHEMA_VERSION = "1"
MEDIA = ("image", "video", "audio")
MODALITIES = ("face", "voice")
SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True, kw_only=True, init=False)
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

    # Written out because the generated one of a frozen class takes twice as long: seconds for a million rows.
    def __init__(
        self, *, sample_id: str, path: str, media: str, modality: str, label: int | None = None, source_id: str = "",
        subjects: tuple[str, ...] = (), generator: str = "", generator_family: str = "", corpus: str = "",
        split: str = "", channel: str = "", attributes: Mapping[str, str] | None = None, licence: str = "",
        sha256: str = "", bytes: int | None = None, duration_s: float | None = None, width: int | None = None,
        height: int | None = None, fps: float | None = None, rate_hz: int | None = None, codec: str = "",
    ) -> None:  # fmt: skip
        values = (
            sample_id, path, media, modality, label, source_id, subjects, generator, generator_family, corpus, split,
            channel, {} if attributes is None else attributes, licence, sha256, bytes, duration_s, width, height, fps,
            rate_hz, codec,
        )  # fmt: skip
        for put, value in zip(_PUT, values, strict=True):
            put(self, value)

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
_PUT = tuple(getattr(Sample, name).__set__ for name in COLUMNS)
SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in COLUMNS])


_BUILD_ROWS = 8192  # more at a time makes the garbage collector the slowest part
_HASH_ROWS = 65_536  # part of the recipe of the hash


def _row(sample: Sample) -> dict[str, Any]:
    row = {name: getattr(sample, name) for name in COLUMNS}
    row["subjects"] = list(sample.subjects)
    row["attributes"] = sorted(sample.attributes.items())
    return row


_GET = {name: attrgetter(name) for name in COLUMNS}


def _batch(samples: list[Sample]) -> pa.RecordBatch:
    keys: list[str] = []
    values: list[str] = []
    ends = [0]
    orders: dict[tuple[str, ...], tuple[list[str], Callable[[Mapping[str, str]], tuple[str, ...]]]] = {}
    for attributes in map(_GET["attributes"], samples):
        names = tuple(attributes)
        if names not in orders:
            orders[names] = sorted(names), _picker(sorted(names))
        ordered, pick = orders[names]
        keys.extend(ordered)
        values.extend(pick(attributes))
        ends.append(len(keys))
    text = pa.string()
    columns = {
        "attributes": pa.MapArray.from_arrays(pa.array(ends, pa.int32()), pa.array(keys, text), pa.array(values, text))
    }
    for name in COLUMNS:
        if name != "attributes":
            columns[name] = pa.array(list(map(_GET[name], samples)), SCHEMA.field(name).type)
    return pa.record_batch([columns[name] for name in COLUMNS], schema=SCHEMA)


def _picker(names: list[str]) -> Callable[[Mapping[str, str]], tuple[str, ...]]:
    """Values of some names, as a tuple whatever their number."""
    if len(names) > 1:
        return itemgetter(*names)
    return lambda one: tuple(one[name] for name in names)


def _samples(batch: pa.RecordBatch | pa.Table) -> Iterator[Sample]:
    """Column by column, which is several times quicker than row by row."""
    columns = {n: batch.column(n).to_pylist() for n in COLUMNS if n != "attributes"}
    columns["subjects"] = [tuple(v or ()) for v in columns["subjects"]]
    columns["attributes"] = [dict(v or ()) for v in batch.column("attributes").to_pylist()]
    for values in zip(*(columns[n] for n in COLUMNS), strict=True):
        yield Sample(**dict(zip(COLUMNS, values, strict=True)))


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
        stream = iter(samples)
        batches = []
        while chunk := list(islice(stream, _BUILD_ROWS)):
            try:
                batches.append(_batch(chunk))
            except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError) as error:
                raise _mistyped([_row(s) for s in chunk], error) from error
        manifest = cls(pa.Table.from_batches(batches, schema=SCHEMA), Path(root), dict(info or {}))
        manifest.validate()
        return manifest

    def validate(self) -> None:
        """Refuse duplicate or empty ids, absolute or escaping paths, unknown words.

        Raises:
            ManifestError: names the first offending sample and the remedy.
        """
        name = self.info.get("name", "manifest")
        ids = self.table.column("sample_id")

        def first(bad: Any) -> int | None:
            """Position of the first true value of a boolean column; nulls are false."""
            at = pc.index(pc.fill_null(bad, False), True).as_py()
            return None if at < 0 else at

        if first(pc.equal(pc.fill_null(ids, ""), "")) is not None:
            raise ManifestError(f"{name}: a sample has no sample_id", hint="give every row a unique, stable id")
        if pc.count_distinct(ids).as_py() != len(ids):
            counts = pc.value_counts(ids)
            twice = counts.filter(pc.greater(counts.field("counts"), 1))[0]["values"].as_py()
            raise ManifestError(
                f"{name}: sample_id {twice!r} occurs more than once",
                hint="an id must tell method, compression and file apart; do not use a bare folder or file name",
            )
        for column, allowed in (("media", MEDIA), ("modality", MODALITIES), ("split", (*SPLITS, "", None))):
            values = self.table.column(column)
            known = pc.is_in(values, value_set=pa.array(allowed, pa.string()))
            if (at := first(pc.invert(known))) is not None:
                raise ManifestError(
                    f"{name}: sample {ids[at].as_py()!r} has {column} {values[at].as_py()!r}",
                    hint=f"{column} must be one of {[a for a in allowed if a]}",
                )
        paths = pc.fill_null(self.table.column("path"), "")
        if (at := first(pc.match_substring_regex(paths, r"^(/|$)|(^|/)\.\.(/|$)"))) is not None:
            raise ManifestError(
                f"{name}: sample {ids[at].as_py()!r} has path {self.table.column('path')[at].as_py()!r}",
                hint="paths must be relative to the corpus root and stay inside it",
            )
        for column in ("duration_s", "fps"):
            values = self.table.column(column)
            if (at := first(pc.invert(pc.is_finite(values)))) is not None:
                raise ManifestError(
                    f"{name}: sample {ids[at].as_py()!r} has {column} {values[at].as_py()}",
                    hint="leave it empty where it is not known",
                )
        labels = self.table.column("label")
        if (at := first(pc.invert(pc.is_in(labels, value_set=pa.array([0, 1, None], pa.int8()))))) is not None:
            raise ManifestError(
                f"{name}: sample {ids[at].as_py()!r} has label {labels[at].as_py()!r}", hint="REAL is 0, FAKE is 1"
            )
        generators = self.table.column("generator")
        named = pc.not_equal(pc.fill_null(generators, ""), "")
        if (at := first(pc.and_(pc.equal(pc.fill_null(labels, -1), 0), named))) is not None:
            raise ManifestError(
                f"{name}: sample {ids[at].as_py()!r} is real but names generator {generators[at].as_py()!r}",
                hint="leave generator empty for real samples, or correct the label",
            )

    def __len__(self) -> int:
        return self.table.num_rows

    def __iter__(self) -> Iterator[Sample]:
        for batch in self.table.to_batches(max_chunksize=_BUILD_ROWS):
            yield from _samples(batch)

    def __getitem__(self, index: int) -> Sample:
        return next(_samples(self.table.slice(range(len(self))[index], 1)))

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
            name_of = pc.fill_null(self.table.column("source_id"), "")
            name_of = pc.if_else(pc.equal(name_of, ""), self.table.column("sample_id"), name_of)
            out = _objects(name_of)
            some, at, values = _flat(self.table.column("subjects"))
            out[some] = values[at]
            return out
        if name == "label":
            return self.table.column("label").fill_null(-1).to_numpy().astype(np.int8)
        return _objects(self.table.column(name))

    def file(self, sample: Sample) -> Path:
        """Absolute path of a sample's file."""
        return self.root / sample.path

    @cached_property
    def hash(self) -> str:
        """Content hash: independent of row order and of where the root lies, sensitive to every cell.

        Rows are put in the order of their (unique) ids; then the validity, the lengths and the bytes of every column
        are hashed in blocks of 65,536 rows, each column on its own, and last the column digests in order.
        """
        table = self.table.take(pc.sort_indices(self.table.column("sample_id")))
        hashers = [hashlib.sha256() for _ in COLUMNS]
        for start in range(0, len(table), _HASH_ROWS):
            block = table.slice(start, _HASH_ROWS).combine_chunks()
            for column, hasher in zip(block.columns, hashers, strict=True):
                _feed(hasher, column.combine_chunks())
        whole = hashlib.sha256(f"deepassay manifest {SCHEMA_VERSION}, {len(table)} rows\n".encode())
        for name, hasher in zip(COLUMNS, hashers, strict=True):
            whole.update(f"{name} {hasher.hexdigest()}\n".encode())
        return whole.hexdigest()

    def select(self, keep: Sequence[bool] | np.ndarray | Callable[[Sample], bool]) -> "Manifest":
        """Rows where a boolean mask (n,) or a predicate on samples is true; order is kept."""
        if callable(keep):
            mask = np.fromiter((bool(keep(s)) for s in self), dtype=bool, count=len(self))
        else:
            mask = np.asarray(keep, dtype=bool)
        return Manifest(self.table.filter(pa.array(mask)), self.root, self.info)

    def split(self, name: str) -> "Manifest":
        """The samples of one split. Raises ManifestError on a word that is not a split."""
        if name not in SPLITS:
            raise ManifestError(f"there is no split {name!r}", hint=f"use one of {list(SPLITS)}")
        chosen = pc.fill_null(pc.equal(self.table.column("split"), name), False)
        return Manifest(self.table.filter(chosen), self.root, self.info)

    def replace_samples(self, samples: Iterable[Sample], **info: Any) -> "Manifest":
        """A new validated manifest below the same root, with some info replaced."""
        return Manifest.from_samples(samples, self.root, {**self.info, **info})

    def replace_columns(self, columns: Mapping[str, Sequence[Any] | np.ndarray | pa.Array], **info: Any) -> "Manifest":
        """A new validated manifest with whole columns (n,) replaced, and some info; quick for a million rows.

        Raises:
            ManifestError: values of the wrong type, or what `validate` refuses.
            KeyError: no such column.
        """
        table = self.table
        for name, values in columns.items():
            try:
                array = values if isinstance(values, pa.Array) else pa.array(values, SCHEMA.field(name).type)
                table = table.set_column(COLUMNS.index(name), SCHEMA.field(name), array)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise ManifestError(
                    f"{self.name}: column {name} cannot hold the values given ({error})",
                    hint=f"it holds {SCHEMA.field(name).type}",
                ) from error
        out = Manifest(table, self.root, {**self.info, **info})
        out.validate()
        return out

    def counts(self) -> dict[str, dict[str, int]]:
        """Samples by split, then by ``real``, ``fake`` and ``unlabelled``; splits in the order of their first rows."""
        cells = self.table.select(["split", "label"])
        split = pc.fill_null(cells.column("split"), "")
        grouped = pa.table({"split": split, "label": cells.column("label").fill_null(-1)}).group_by(
            ["split", "label"], use_threads=False
        )
        out: dict[str, dict[str, int]] = {}
        for row in grouped.aggregate([([], "count_all")]).to_pylist():
            cell = out.setdefault(row["split"] or "unsplit", {"real": 0, "fake": 0, "unlabelled": 0})
            cell["unlabelled" if row["label"] < 0 else LABEL_WORDS[row["label"]]] += row["count_all"]
        return out

    def to_parquet(self, path: str | Path) -> None:
        """Write atomically; info and schema version travel in the file's metadata."""
        meta = {b"deepassay.manifest": json.dumps({"schema": SCHEMA_VERSION, "info": dict(self.info)}).encode()}
        with atomic_path(path) as temporary:
            pq.write_table(self.table.replace_schema_metadata(meta), temporary)

    @classmethod
    def read_parquet(cls, path: str | Path, root: str | Path) -> "Manifest":
        """Read what `to_parquet` wrote, from a path or a URL. Raises ManifestError where it is something else."""
        try:
            table = pq.read_table(pa.BufferReader(Remote(str(path)).read("")) if is_url(path) else path)
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


def join(manifests: Sequence[Manifest], *, name: str = "") -> Manifest:
    """Several manifests as one, below the folder that all their roots share; for audits and mixtures.

    Ids that two of them share are told apart by the manifest's number (``1:ID``); everything else stays as it is.

    Raises:
        ManifestError: there is none, or their roots lie on different drives.
    """
    if not manifests:
        raise ManifestError("there is no manifest to join", hint="name at least one")
    roots = [os.path.realpath(m.root) for m in manifests]
    try:
        top = os.path.commonpath(roots)
    except ValueError as error:
        raise ManifestError(f"the roots {roots} share no folder ({error})", hint="put them on one drive") from error
    tables = []
    for manifest, root in zip(manifests, roots, strict=True):
        below = Path(root).relative_to(top).as_posix()
        path = manifest.table.column("path")
        if below != ".":
            path = pc.binary_join_element_wise(f"{below}/", path, "")
        tables.append(manifest.table.set_column(COLUMNS.index("path"), SCHEMA.field("path"), path))
    ids = pa.chunked_array([c for t in tables for c in t.column("sample_id").chunks], pa.string())
    if pc.count_distinct(ids).as_py() != len(ids):
        for number, table in enumerate(tables, start=1):
            own = pc.binary_join_element_wise(f"{number}:", table.column("sample_id"), "")
            tables[number - 1] = table.set_column(COLUMNS.index("sample_id"), SCHEMA.field("sample_id"), own)
    info = {
        "name": name or " + ".join(m.name for m in manifests),
        "synthetic": any(m.synthetic for m in manifests),
        "parts": [{"name": m.name, "manifest_sha256": m.hash, "samples": len(m)} for m in manifests],
    }
    out = Manifest(pa.concat_tables(tables), Path(top), info)
    out.validate()
    return out


def _objects(column: pa.ChunkedArray) -> np.ndarray:
    values = column.to_pylist()
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _flat(column: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a list column: rows with a value, position of their first value, and all values as objects."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy().astype(np.int64)
    starts = np.cumsum(lengths) - lengths
    some = np.flatnonzero(lengths)
    return some, starts[some], _objects(pc.list_flatten(column))


def _feed(hasher: Any, array: pa.Array) -> None:
    """Validity, lengths and values of one array; what lies under a null does not count."""
    if pa.types.is_map(array.type):
        hasher.update(pc.is_valid(array).to_numpy(zero_copy_only=False).tobytes())
        offsets = array.offsets.to_numpy()
        hasher.update(np.diff(offsets).astype("<i8").tobytes())
        low, high = int(offsets[0]), int(offsets[-1])
        _feed(hasher, array.keys[low:high])
        _feed(hasher, array.items[low:high])
        return
    hasher.update(pc.is_valid(array).to_numpy(zero_copy_only=False).tobytes())
    if pa.types.is_list(array.type):
        hasher.update(pc.fill_null(pc.list_value_length(array), 0).to_numpy().astype("<i8").tobytes())
        _feed(hasher, pc.list_flatten(array))
    elif pa.types.is_string(array.type):
        filled = pc.fill_null(array, "")
        hasher.update(pc.binary_length(filled).to_numpy().astype("<i8").tobytes())
        hasher.update(_bytes(filled))
    else:
        values = pc.fill_null(array, 0).to_numpy()
        hasher.update(values.astype(values.dtype.newbyteorder("<")).tobytes())


def _bytes(array: pa.Array) -> memoryview:
    """The text of a string array without nulls, one after another."""
    if not len(array):
        return memoryview(b"")
    _, offsets, data = array.buffers()
    ends = np.frombuffer(offsets, dtype=np.int32)[array.offset : array.offset + len(array) + 1]
    return memoryview(b"") if data is None else memoryview(data)[int(ends[0]) : int(ends[-1])]


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
