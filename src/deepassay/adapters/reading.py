"""One door for score files and keys of any known format: told from the file, or named."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from deepassay.adapters import asvspoof
from deepassay.adapters.csv_scores import Columns, read_csv_key, read_csv_scores
from deepassay.adapters.rows import Trial, opened, to_table
from deepassay.errors import ScoreError
from deepassay.scores import ScoreTable

FORMATS = ("auto", "deepassay", "csv", "asvspoof")


def sniff(path: str | Path) -> str:
    """``deepassay`` (Parquet), ``asvspoof`` or ``csv``, from the first bytes and the first line.

    Raises:
        ScoreError: no such file.
    """
    file = Path(path)
    if not file.is_file():
        raise ScoreError(f"{file}: there is no such file", hint="check the path")
    with open(file, "rb") as stream:
        if stream.read(4) == b"PAR1":
            return "deepassay"
    with opened(file) as stream:
        first = stream.readline()
    if any(mark in first for mark in ",;"):
        return "csv"
    return "asvspoof" if asvspoof.looks_like_scores(file) else "csv"


def read_key(
    path: str | Path,
    *,
    columns: Columns | None = None,
    label_words: Mapping[str, str] | None = None,
    subset: str | None = None,
) -> dict[str, Trial]:
    """A key in any of ASVspoof's formats, or a table with named columns.

    Raises:
        ScoreError: see the readers.
    """
    with opened(path) as stream:
        first = stream.readline()
    named = columns is not None and columns.label and columns.label in first.split("\t")
    if named or any(mark in first for mark in ",;"):
        return read_csv_key(path, columns or Columns(label="label"), label_words=label_words)
    return asvspoof.read_key(path, subset=subset)


def read_scores(
    path: str | Path,
    *,
    format: str = "auto",
    columns: Columns | None = None,
    higher: str | None = None,
    label_words: Mapping[str, str] | None = None,
    key: Mapping[str, Trial] | None = None,
    name: str = "",
    llr: bool = False,
    systems: Sequence[str] = (),
) -> list[tuple[ScoreTable, list[str]]]:
    """A score file as `ScoreTable`s in our polarity, one per system in it, each with notes for the reader.

    Args:
        format: one of `FORMATS`.
        columns: of a CSV.
        higher: polarity of the file; needed for a CSV, known for the other formats.
        key: what `read_key` returned; None = the score file holds the labels.
        name: of the detector; the score column's where there are several.
        llr: the scores are natural-log likelihood ratios in the file's polarity.
        systems: score columns of a CSV, where it holds several systems.

    Raises:
        ScoreError: see the readers; several systems in a format for one; a key that contradicts a table of our own.
    """
    if format not in FORMATS:
        raise ScoreError(f"there is no score format {format!r}", hint=f"use one of {list(FORMATS)}")
    kind = sniff(path) if format == "auto" else format
    if len(systems) > 1 and kind != "csv":
        raise ScoreError(
            f"{path}: a file of format {kind} holds one system, and {len(systems)} score columns were named",
            hint="give one file per system with --baseline, or a CSV",
        )
    if kind == "deepassay":
        table = ScoreTable.read(path)
        if higher == "real":
            raise ScoreError(f"{path}: scores of our own tables grow with fake", hint="leave out --higher real")
        meta = {**table.meta, "detector": table.meta.get("detector") or Path(path).name, "higher_in_file": "fake"}
        table = ScoreTable(table.table, meta)
        return [(table, [])] if key is None else [_relabelled(table, key, path)]
    if kind == "asvspoof":
        return [to_table(asvspoof.read_scores(path, higher=higher or "real"), key, name=name, llr=llr)]
    found = read_csv_scores(path, columns, higher=higher, label_words=label_words, systems=systems)
    names = list(systems) if len(systems) > 1 else [name]
    return [to_table(answers, key, name=own, llr=llr) for answers, own in zip(found, names, strict=True)]


def _relabelled(table: ScoreTable, key: Mapping[str, Trial], path: str | Path) -> tuple[ScoreTable, list[str]]:
    ids = table.table.column("sample_id").to_pylist()
    own = table.column("label")
    known = np.array([-1 if i not in key or key[i].label is None else key[i].label for i in ids])
    clash = (own >= 0) & (known >= 0) & (own != known)
    if clash.any():
        raise ScoreError(
            f"{path}: sample {ids[int(np.argmax(clash))]!r} has another label in the key",
            hint="our score tables hold their labels: leave out --key, or give the right one",
        )
    return table, ["the score table holds its own labels, and the key agrees with them"]


def several(paths: Sequence[str | Path]) -> list[str]:
    """Short, distinct names for files: their stems, or whole names where stems repeat."""
    stems = [Path(p).name.split(".")[0] for p in paths]
    return [stem if stems.count(stem) == 1 else str(Path(p)) for stem, p in zip(stems, paths, strict=True)]
