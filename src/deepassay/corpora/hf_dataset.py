"""Any set stored as a Hugging Face `datasets` folder (Arrow or Parquet), by mapping its columns."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from deepassay.corpora.table import MEDIA_BY_SUFFIX, TableCorpus, check_classes, with_file_facts
from deepassay.errors import ConfigError, ManifestError
from deepassay.files import fingerprint, slug, write_bytes
from deepassay.manifest import SPLITS, Manifest, Sample

_SPLIT_WORDS = {"train": "train", "training": "train", "validation": "dev", "valid": "dev", "val": "dev", "dev": "dev",
                "test": "test", "testing": "test", "eval": "test", "evaluation": "test"}  # fmt: skip
_SHARD = re.compile(r"(?P<split>[A-Za-z0-9_.]+?)(-\d{5}-of-\d{5}(-[0-9a-f]+)?)?\.parquet")
# The first bytes of what sets hold inside their tables, where they give no file name.
_MAGIC = (
    (b"RIFF", ".wav"), (b"fLaC", ".flac"), (b"OggS", ".ogg"), (b"ID3", ".mp3"), (b"\xff\xfb", ".mp3"),
    (b"\x89PNG", ".png"), (b"\xff\xd8\xff", ".jpg"),
)  # fmt: skip


class HfDataset:
    """What `datasets.save_to_disk` wrote, or a folder of Parquet shards; read without the `datasets` package.

    A media column holds paths below ``root``, or the bytes themselves (Audio and Image features). Bytes are written
    once below ``media_folder``, so that every sample is a file with a hash. A `ClassLabel` column is read by its names,
    which must be label words; a bare number is refused, because sets disagree on what 1 means.

    Args:
        root: the folder: with ``dataset_info.json``, with ``dataset_dict.json``, or with ``*.parquet`` below it.
        media_column: the column of paths or bytes; by default ``audio``, ``image``, ``video``, ``file`` or ``path``,
            whichever there is.
        columns: contract name -> column, for example ``{label: key, subjects: speaker, generator: system}``.
        label_words: word or number in the set -> ``real`` or ``fake``.
        constants: contract name -> value for every row that has none.
        splits: name of a split in the set -> ``train``, ``dev``, ``test`` or empty; usual names are known.
        media_folder: where bytes are written, relative to ``root`` unless absolute; default ``media`` below ``root``.
        name, modality, media, subjects_separator, labelled, licence, synthetic, hash_files, probe, progress: as in
            `TableCorpus`.

    Raises:
        ConfigError: an option or contract name that does not exist.
    """

    def __init__(
        self,
        *,
        root: str,
        media_column: str | None = None,
        columns: Mapping[str, str] | None = None,
        label_words: Mapping[str, str] | None = None,
        constants: Mapping[str, str] | None = None,
        splits: Mapping[str, str] | None = None,
        media_folder: str = "media",
        name: str | None = None,
        modality: str | None = None,
        media: str | None = None,
        subjects_separator: str = "|",
        labelled: bool = True,
        licence: str = "",
        synthetic: bool = False,
        hash_files: bool = True,
        probe: bool = True,
        progress: bool = True,
    ) -> None:
        self.root = Path(root)
        self.rules = TableCorpus(
            csv="rows of the data set", root=root, name=name or self.root.name, modality=modality, media=media,
            columns=columns, label_words=label_words, constants=constants, subjects_separator=subjects_separator,
            labelled=labelled, licence=licence, synthetic=synthetic, hash_files=hash_files, probe=probe,
            progress=progress,
        )  # fmt: skip
        for split in (splits or {}).values():
            if split and split not in SPLITS:
                raise ConfigError(f"splits names {split!r}", hint=f"right of the colon stands one of {list(SPLITS)}")
        self.splits = {**_SPLIT_WORDS, **{str(k): v or "" for k, v in (splits or {}).items()}}
        self.media_column = media_column
        self.media_folder = media_folder

    def prepare(self) -> Manifest:
        """Read every shard, write out media that lie inside the tables, look at every file.

        Raises:
            ManifestError: no such folder or no tables in it, a column that is not there, rows without usable media,
                unknown label words, duplicate ids, or one class only; names shard and row.
        """
        shards = list(self._shards())
        name = self.rules.name
        samples: list[Sample] = []
        bar = Console(stderr=True)
        rows_of: Counter[str] = Counter()
        for split, path in track(shards, f"{name}: shards", console=bar, disable=not self.rules.progress):
            rows = list(self._rows(split, path, rows_of[split]))
            rows_of[split] += len(rows)
            samples += rows
        if not samples:
            raise ManifestError(f"{self.root}: the tables have no rows", hint="give a folder with samples")
        missing = [s.path for s in samples if not (self.root / s.path).is_file()]
        if missing:
            raise ManifestError(
                f"{name}: {len(missing)} of {len(samples)} files are missing below {self.root}, the first is "
                f"{missing[0]}",
                hint="correct corpus.root, or name the column that holds the bytes with corpus.media_column",
            )
        if self.rules.labelled:
            check_classes(samples, str(self.root))
        version = fingerprint([[split, path.name, path.stat().st_size] for split, path in shards])
        samples, unread = with_file_facts(
            samples, self.root, name=name, hash_files=self.rules.hash_files, probe=self.rules.probe,
            progress=self.rules.progress,
        )  # fmt: skip
        info: dict[str, Any] = {
            "name": name, "synthetic": self.rules.synthetic, "licence": self.rules.licence, "version": version,
        }  # fmt: skip
        if unread:
            info["unreadable_headers"] = unread
        return Manifest.from_samples(samples, self.root, info)

    def _shards(self) -> Iterator[tuple[str, Path]]:
        if not self.root.is_dir():
            raise ManifestError(f"{self.root}: no such folder", hint="give the data set's folder with corpus.root=...")
        found = False
        known = self.root / "dataset_dict.json"
        names = json.loads(known.read_text())["splits"] if known.is_file() else [""]
        for split in names:
            folder = self.root / split
            state = folder / "state.json"
            if state.is_file():
                for entry in json.loads(state.read_text())["_data_files"]:
                    found = True
                    yield split, folder / str(entry["filename"])
        if found:
            return
        for path in sorted(self.root.rglob("*.parquet")):
            match = _SHARD.fullmatch(path.name)
            found = True
            yield str(match.group("split") if match else path.stem), path
        if not found:
            raise ManifestError(
                f"{self.root}: neither a saved data set (state.json) nor Parquet files lie there",
                hint="save it with save_to_disk, or give the folder of its Parquet files",
            )

    def _rows(self, split: str, path: Path, start: int) -> Iterator[Sample]:
        try:
            schema, batches = _batches(path)
            classes = _class_names(schema)
            media = self._media_of(schema, path)
            taken: dict[str, str] = {theirs: ours for ours, theirs in self.rules.columns.items()}
            gone = sorted(set(taken) - set(schema.names))
            if gone:
                raise ManifestError(
                    f"{path}: there is no column {gone[0]!r}", hint=f"correct columns; the set has {schema.names}"
                )
            row = start
            for batch in batches:
                cells = {str(n): batch.column(n).to_pylist() for n in schema.names if n != media}
                for k, content in enumerate(batch.column(media).to_pylist()):
                    where = f"{path.name}, row {row - start}"
                    texts = {
                        taken.get(n, n): _text(cells[n][k], classes.get(n), self.rules.subjects_separator)
                        for n in cells
                    }
                    texts["path"] = self._file(content, split, row, where)
                    texts["split"] = self.splits.get(texts.get("split") or split, "")
                    texts["hf_split"] = split
                    yield self.rules.sample_of(texts, where)
                    row += 1
        except (pa.ArrowInvalid, OSError) as error:
            raise ManifestError(
                f"{path}: not a readable table ({error})", hint="fetch or save the set again"
            ) from error

    def _media_of(self, schema: pa.Schema, path: Path) -> str:
        wanted = [self.media_column] if self.media_column else ["audio", "image", "video", "file", "path"]
        for name in wanted:
            if name in schema.names:
                return name
        raise ManifestError(
            f"{path}: there is no media column {' or '.join(wanted)}",
            hint=f"name it with corpus.media_column; the set has {schema.names}",
        )

    def _file(self, content: Any, split: str, row: int, where: str) -> str:
        """Relative path of a row's media; bytes are written once."""
        inside = content.get("bytes") if isinstance(content, Mapping) else None
        named = content.get("path") if isinstance(content, Mapping) else content
        if isinstance(content, bytes):
            inside, named = content, None
        if inside is None:
            if not isinstance(named, str) or not named:
                raise ManifestError(f"{where}: neither a path nor bytes", hint="name another corpus.media_column")
            return named
        suffix = PurePosixPath(str(named)).suffix.lower() if named else ""
        if suffix not in MEDIA_BY_SUFFIX:
            suffix = next((s for start, s in _MAGIC if inside.startswith(start)), "")
        if not suffix:
            raise ManifestError(
                f"{where}: nothing tells what kind of file its bytes are",
                hint="set corpus.media, and save the set with file names",
            )
        stem = slug(PurePosixPath(str(named)).stem) if named else "row"
        relative = PurePosixPath(self.media_folder, slug(split or "all"), f"{row:08d}-{stem}{suffix}")
        target = self.root / relative
        if not target.is_file() or target.stat().st_size != len(inside):
            write_bytes(target, inside)
        return relative.as_posix()


def _batches(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    if path.suffix == ".parquet":
        table = pq.ParquetFile(path)
        return table.schema_arrow, table.iter_batches(batch_size=256)
    reader = pa.ipc.open_stream(pa.memory_map(str(path)))
    return reader.schema, iter(reader)


def _class_names(schema: pa.Schema) -> dict[str, list[str]]:
    """Column -> names of a ClassLabel, from the schema's own metadata."""
    raw = (schema.metadata or {}).get(b"huggingface")
    features = json.loads(raw).get("info", {}).get("features", {}) if raw else {}
    return {n: f["names"] for n, f in features.items() if isinstance(f, Mapping) and f.get("_type") == "ClassLabel"}


def _text(cell: Any, names: list[str] | None, separator: str) -> str:
    if cell is None:
        return ""
    if names is not None and isinstance(cell, int):
        return names[cell] if 0 <= cell < len(names) else ""
    if isinstance(cell, (list, tuple)):
        return separator.join(str(part) for part in cell)
    if isinstance(cell, (bytes, Mapping)):
        return ""
    return str(cell)
