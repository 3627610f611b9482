"""Score files as tables with a header (comma, tab or semicolon): named columns and an explicit polarity."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deepassay.adapters.rows import AnswerBuilder, Answers, Trial, check_higher, label_of, opened
from deepassay.errors import ScoreError


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names of the columns of a table; empty = not there.

    Args:
        id: of the trial; empty = the line number, which cannot be joined to another file.
        score: the score.
        label: the key; needed unless a key file is given.
        cluster: the unit of independence, such as the speaker or source.
        generator, channel, split: as in the manifest.
        attributes: further columns to keep, such as gender or accent.
    """

    id: str = "sample_id"
    score: str = "score"
    label: str = ""
    cluster: str = ""
    generator: str = ""
    channel: str = ""
    split: str = ""
    attributes: tuple[str, ...] = ()

    @property
    def named(self) -> dict[str, str]:
        """Columns that must be in the header, by what they are."""
        kinds = ("id", "score", "label", "cluster", "generator", "channel", "split")
        return {kind: getattr(self, kind) for kind in kinds if getattr(self, kind)}


def _reader(stream, path: Path) -> csv.DictReader:
    first = stream.readline()
    stream.seek(0)
    delimiter = max("\t;,", key=first.count) if first else ","
    reader = csv.DictReader(stream, delimiter=delimiter)
    if not reader.fieldnames or len(reader.fieldnames) < 2:
        raise ScoreError(
            f"{path}: no header with named columns",
            hint="the first line must name the columns, comma- or tab-separated",
        )
    return reader


def _check(reader: csv.DictReader, columns: Mapping[str, str], path: Path) -> None:
    header = list(reader.fieldnames or ())
    for kind, name in columns.items():
        if name not in header:
            raise ScoreError(
                f"{path}: there is no column {name!r} for the {kind}; the header has {header}",
                hint=f"say --{kind} COLUMN",
            )


class _Trials:
    """Makes trials from rows; equal ones are one object, since speakers, attacks and labels repeat."""

    def __init__(self, columns: Columns, words: Mapping[str, str] | None) -> None:
        self.words, self.label, self.attributes = words, columns.label, columns.attributes
        self.names = (columns.cluster, columns.generator, columns.channel, columns.split)
        self.known: dict[tuple[str, ...], Trial] = {}

    def of(self, row: Mapping[str, str], where: str) -> Trial:
        cells = tuple(
            (row.get(name) or "").strip() if name else "" for name in (self.label, *self.names, *self.attributes)
        )
        if cells not in self.known:
            label, *rest = ("" if cell == "-" else cell for cell in cells)
            cluster, generator, channel, split, *others = rest
            self.known[cells] = Trial(
                label=label_of(label, self.words, where) if self.label else None,
                cluster=cluster,
                generator=generator,
                channel=channel,
                split=split,
                attributes={name: value for name, value in zip(self.attributes, others, strict=True) if value},
            )
        return self.known[cells]


def read_csv_scores(
    path: str | Path,
    columns: Columns | None = None,
    *,
    higher: str | None,
    label_words: Mapping[str, str] | None = None,
    systems: Sequence[str] = (),
) -> list[Answers]:
    """Scores of one or several columns, with whatever else is named; one `Answers` per score column.

    Args:
        columns: names in the header.
        higher: ``fake`` or ``real``: what a higher score means in the file. It is never guessed.
        label_words: word in the label column -> ``real`` or ``fake``, for words that differ between corpora, such as 0
            and 1.
        systems: score columns, one per system; empty = ``columns.score``.

    Raises:
        ScoreError: no polarity, a column that is not there, a label or score that cannot be read.
    """
    file = Path(path)
    used = columns or Columns()
    wanted = list(systems) or [used.score]
    built = [AnswerBuilder(file, "csv", check_higher(higher, file)) for _ in wanted]
    with opened(file) as stream:
        reader = _reader(stream, file)
        for name in wanted:
            _check(reader, {**used.named, "score": name}, file)
        trials = _Trials(used, label_words)
        for number, row in enumerate(reader, start=2):
            where = f"{file}, line {number}"
            trial_id = (row.get(used.id) or "").strip() if used.id else f"line {number}"
            if not trial_id:
                raise ScoreError(f"{where}: the trial has no id", hint="fill the id column")
            trial = trials.of(row, where)
            for name, builder in zip(wanted, built, strict=True):
                builder.add(trial_id, row.get(name) or "", trial, where=where)
    return [builder.done() for builder in built]


def read_csv_key(
    path: str | Path, columns: Columns, *, label_words: Mapping[str, str] | None = None
) -> dict[str, Trial]:
    """Labels and whatever else is named, by trial id, from a table without scores.

    Raises:
        ScoreError: a column that is not there, no label column, a trial that occurs twice.
    """
    file = Path(path)
    if not columns.label or not columns.id:
        raise ScoreError(f"{file}: a key needs an id and a label column", hint="say --id COLUMN --label COLUMN")
    out: dict[str, Trial] = {}
    with opened(file) as stream:
        reader = _reader(stream, file)
        _check(reader, {k: v for k, v in columns.named.items() if k != "score"}, file)
        trials = _Trials(columns, label_words)
        for number, row in enumerate(reader, start=2):
            where = f"{file}, line {number}"
            trial_id = (row.get(columns.id) or "").strip()
            if not trial_id:
                raise ScoreError(f"{where}: the trial has no id", hint="fill the id column")
            trial = trials.of(row, where)
            if trial_id in out and out[trial_id] != trial:
                raise ScoreError(f"{where}: trial {trial_id!r} has two keys", hint="give one key per trial")
            out[trial_id] = trial
    if not out:
        raise ScoreError(f"{file}: the key holds no trial", hint="check the file")
    return out
