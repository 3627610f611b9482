"""Your own table: a CSV with the manifest's columns, or with others that a mapping in the config translates."""

import csv as csv_module
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from deepassay.errors import ConfigError, ManifestError
from deepassay.files import sha256_file
from deepassay.labels import LABEL_WORDS, Unusable, parse_label
from deepassay.manifest import COLUMNS, MODALITIES, Manifest, Sample, sample_from_text
from deepassay.media.probe import probe as probe_file

MEDIA_BY_SUFFIX = {
    **dict.fromkeys((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".gif", ".ppm"), "image"),
    **dict.fromkeys((".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg", ".mpeg", ".3gp", ".ts"), "video"),
    **dict.fromkeys(
        (
            ".wav",
            ".flac",
            ".mp3",
            ".ogg",
            ".opus",
            ".m4a",
            ".aac",
            ".amr",
            ".wma",
            ".aif",
            ".aiff",
            ".au",
            ".gsm",
            ".sph",
        ),
        "audio",
    ),
}


class TableCorpus:
    """One CSV row is one sample.

    Columns named as in the manifest contract are read as they are, others through ``columns``; what is left over is
    kept under ``attributes``. A blank subject makes the sample's source, or else the sample itself, its own cluster.

    Args:
        csv: the table, UTF-8 with a header; a relative name is looked for below ``root`` first.
        root: folder that the paths in the table are relative to; by default the table's own folder.
        name: corpus name, and the first part of every default ``sample_id`` (``name/path``).
        modality: ``face`` or ``voice``, unless the table has such a column.
        media: ``image``, ``video`` or ``audio`` for all rows; by default a column, else the file's extension.
        columns: contract name -> column of the table, for example ``{path: file, subjects: speaker}``.
        label_words: word in the table -> ``real`` or ``fake``; needed for bare numbers, on which corpora disagree.
        constants: contract name -> value for every row that has none, for example ``{generator: MyTool-2.1}`` (fakes
            only).
        subjects_separator: what separates several subjects in one cell.
        labelled: False accepts rows without a label (for scoring only).
        licence: for rows that state none.
        synthetic: True marks everything computed from it as synthetic (law 10).
        missing_files: ``error``, or ``drop`` to leave such rows out and count them.
        delimiter: of the table.
        hash_files: compute SHA-256, which finds copies across splits.
        probe: read size, duration, rate and codec from the files' headers.
        progress: show a progress bar on stderr.

    Raises:
        ConfigError: an option or contract name that does not exist.
    """

    def __init__(
        self,
        *,
        csv: str,
        root: str | None = None,
        name: str | None = None,
        modality: str | None = None,
        media: str | None = None,
        columns: Mapping[str, str] | None = None,
        label_words: Mapping[str, str] | None = None,
        constants: Mapping[str, str] | None = None,
        subjects_separator: str = "|",
        labelled: bool = True,
        licence: str = "",
        synthetic: bool = False,
        missing_files: str = "error",
        delimiter: str = ",",
        hash_files: bool = True,
        probe: bool = True,
        progress: bool = True,
    ) -> None:
        below = Path(root) / csv if root is not None else Path(csv)
        self.csv = below if below.is_file() or not Path(csv).is_file() else Path(csv)
        self.root = Path(root) if root is not None else self.csv.parent
        self.name = name or self.csv.stem
        for where, names in (("columns", columns), ("constants", constants)):
            unknown = sorted(set(names or ()) - (set(COLUMNS) - {"attributes"}))
            if unknown:
                raise ConfigError(
                    f"{self.name}: {where} names {unknown[0]!r}, which is no column of the manifest",
                    hint=f"left of the colon stands one of {[c for c in COLUMNS if c != 'attributes']}",
                )
        if missing_files not in ("error", "drop"):
            raise ConfigError(f"{self.name}: missing_files is {missing_files!r}", hint="use error or drop")
        if modality is not None and modality not in MODALITIES:
            raise ConfigError(f"{self.name}: modality is {modality!r}", hint=f"use one of {list(MODALITIES)}")
        self.label_words = {str(k).strip(): str(v) for k, v in (label_words or {}).items()}
        for word in self.label_words.values():
            if word not in LABEL_WORDS:
                raise ConfigError(f"{self.name}: label_words gives {word!r}", hint="right of the colon: real or fake")
        self.columns = dict(columns or {})
        self.constants = {k: str(v) for k, v in (constants or {}).items()}
        if modality is not None:
            self.constants.setdefault("modality", modality)
        if media is not None:
            self.constants.setdefault("media", media)
        self.subjects_separator = subjects_separator
        self.labelled = labelled
        self.licence = licence
        self.synthetic = synthetic
        self.missing_files = missing_files
        self.delimiter = delimiter
        self.hash_files = hash_files
        self.probe = probe
        self.progress = progress

    def prepare(self) -> Manifest:
        """Read the table and look at every file.

        Raises:
            ManifestError: no table, no rows, missing columns or files, unknown label words, duplicate ids, or only one
                class; the message names the line or the files.
        """
        samples = list(self._rows())
        if not samples:
            raise ManifestError(f"{self.csv}: the table has no rows", hint="give at least one real and one fake sample")
        samples, dropped = self._present(samples)
        samples, unread = with_file_facts(
            samples, self.root, name=self.name, hash_files=self.hash_files, probe=self.probe, progress=self.progress
        )
        if self.labelled:
            check_classes(samples, str(self.csv))
        info: dict[str, Any] = {
            "name": self.name,
            "synthetic": self.synthetic,
            "licence": self.licence,
            "licences": dict(sorted(Counter(s.licence or "not stated" for s in samples).items())),
            "version": sha256_file(self.csv),
        }
        if dropped:
            info["dropped"] = {"missing file": dropped}
        if unread:
            info["unreadable_headers"] = unread
        return Manifest.from_samples(samples, self.root, info)

    def _rows(self) -> Iterator[Sample]:
        if not self.csv.is_file():
            raise ManifestError(
                f"{self.csv}: no such table",
                hint="give its path with corpus.csv=..., or its folder with corpus.root=...",
            )
        lines: dict[str, int] = {}
        with open(self.csv, newline="", encoding="utf-8-sig") as stream:
            reader = csv_module.DictReader(stream, delimiter=self.delimiter)
            try:
                header = list(reader.fieldnames or ())
                self._check_header(header)
                taken = {csv_name: contract for contract, csv_name in self.columns.items()}
                for row in reader:
                    where = f"{self.csv}, line {reader.line_num}"
                    if None in row:
                        raise ManifestError(
                            f"{where}: more cells than columns", hint=f"quote cells that hold {self.delimiter!r}"
                        )
                    sample = self.sample_of({taken.get(k, k): v or "" for k, v in row.items()}, where)
                    first = lines.setdefault(sample.sample_id, reader.line_num)
                    if first != reader.line_num:
                        raise ManifestError(
                            f"{self.csv}: sample_id {sample.sample_id!r} stands in line {first} and in line "
                            f"{reader.line_num}",
                            hint="an id must tell method, compression and file apart; drop the repeated row or map "
                            "sample_id",
                        )
                    yield sample
            except UnicodeDecodeError as error:
                raise ManifestError(
                    f"{self.csv}: not UTF-8 ({error.reason})", hint="save the table as UTF-8"
                ) from error

    def _check_header(self, header: list[str]) -> None:
        if not header:
            raise ManifestError(f"{self.csv}: the file is empty", hint="the first line names the columns")
        gone = sorted(set(self.columns.values()) - set(header))
        if gone:
            raise ManifestError(
                f"{self.csv}: there is no column {gone[0]!r}",
                hint=f"correct columns in the config; the table has {header}",
            )
        have = {c for c in COLUMNS if c in header} | set(self.columns) | set(self.constants)
        needed = {"path", "modality"} | ({"label"} if self.labelled else set())
        missing = sorted(needed - have)
        if missing:
            raise ManifestError(
                f"{self.csv}: nothing gives {', '.join(missing)}",
                hint=f"map them (columns: {{{missing[0]}: NAME}}) or set corpus.modality or constants; the table has "
                f"{header}",
            )

    def sample_of(self, row: dict[str, str], where: str) -> Sample:
        """One row of text cells by the rules of this table: label words, constants, separators, media by extension.

        Raises:
            ManifestError: no path, no or an unknown label, an extension that tells no kind of media; names ``where``.
        """
        row = {k: v.strip() for k, v in row.items()}
        word = row.get("label") or self.constants.get("label", "")
        if word in self.label_words:
            word = self.label_words[word]
        label = parse_label(word, where=where)
        if label is None and self.labelled:
            raise ManifestError(
                f"{where}: no label", hint="write real or fake, or set corpus.labelled=false to score without labels"
            )
        row["label"] = "" if label is None else LABEL_WORDS[label]
        for name, value in self.constants.items():
            if not row.get(name) and not (name.startswith("generator") and label == 0):
                row[name] = value
        if row.get("subjects"):
            row["subjects"] = "|".join(p.strip() for p in row["subjects"].split(self.subjects_separator) if p.strip())
        path = Path(row.get("path", ""))
        if not row.get("path"):
            raise ManifestError(f"{where}: no path", hint="fill the cell or drop the row")
        if path.is_absolute() and path.is_relative_to(self.root.resolve()):
            path = path.relative_to(self.root.resolve())
        row["path"] = path.as_posix()
        if not row.get("media"):
            kind = MEDIA_BY_SUFFIX.get(path.suffix.lower())
            if kind is None:
                raise ManifestError(
                    f"{where}: {path.name!r} has an extension that tells no kind of media",
                    hint="set corpus.media=image, video or audio, or give the table a media column",
                )
            row["media"] = kind
        row.setdefault("sample_id", "")
        row["sample_id"] = row["sample_id"] or f"{self.name}/{row['path']}"
        row["corpus"] = row.get("corpus") or self.name
        row["licence"] = row.get("licence") or self.licence
        return sample_from_text(row, where=where)

    def _present(self, samples: list[Sample]) -> tuple[list[Sample], int]:
        gone = {s.path for s in samples if not (self.root / s.path).is_file()}
        if gone and self.missing_files == "error":
            shown = sorted(gone)
            raise ManifestError(
                f"{self.name}: {len(gone)} of {len(samples)} files are missing below {self.root}: "
                f"{', '.join(shown[:5])}{' ...' if len(shown) > 5 else ''}",
                hint="correct corpus.root, or set corpus.missing_files=drop to leave those rows out",
            )
        kept = [s for s in samples if s.path not in gone]
        if not kept:
            raise ManifestError(
                f"{self.name}: none of the {len(samples)} files lies below {self.root}", hint="correct corpus.root"
            )
        return kept, len(samples) - len(kept)


def with_file_facts(
    samples: Iterable[Sample], root: Path, *, name: str, hash_files: bool, probe: bool, progress: bool
) -> tuple[list[Sample], int]:
    """Fill bytes, SHA-256 and what the header says where the table did not; also how many headers could not be read.

    A file whose header is broken stays in the manifest: scoring gives it its status (law 2).
    """
    out: list[Sample] = []
    unread = 0
    rows = list(samples)
    for sample in track(rows, description=f"{name}: files", console=Console(stderr=True), disable=not progress):
        path = root / sample.path
        facts: dict[str, Any] = {"bytes": path.stat().st_size}
        if probe:
            try:
                found = probe_file(path)
            except Unusable:
                unread += 1
            else:
                facts |= {k: found[k] for k in ("duration_s", "width", "height", "fps", "rate_hz", "codec")}
        if hash_files:
            facts["sha256"] = sha256_file(path)
        fresh = {k: v for k, v in facts.items() if v is not None and getattr(sample, k) in (None, "")}
        out.append(replace(sample, **fresh))
    return out, unread


def check_classes(samples: Iterable[Sample], where: str) -> None:
    """Refuse a labelled corpus that holds one class only.

    Raises:
        ManifestError: only real or only fake samples.
    """
    labels = {s.label for s in samples}
    for number, word in enumerate(LABEL_WORDS):
        if number not in labels:
            raise ManifestError(
                f"{where}: there is no {word} sample",
                hint=f"add {word} samples from like sources; for scoring without ground truth set "
                f"corpus.labelled=false",
            )
