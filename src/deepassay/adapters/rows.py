"""Somebody else's trials on their way into the house: ids, scores, keys; turned to our polarity and joined by id."""

import gzip
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import pyarrow as pa

from deepassay.errors import ScoreError
from deepassay.files import sha256_file
from deepassay.labels import FAKE, REAL, Status, parse_label
from deepassay.scores import COLUMNS, SCHEMA, ScoreTable

HIGHER = ("fake", "real")
_NO_ANSWER = frozenset({"", "-", "na", "n/a", "none", "null"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a key or a score file knows of one trial; empty where it does not."""

    label: int | None = None
    cluster: str = ""
    generator: str = ""
    channel: str = ""
    split: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Scores by trial id as a file gives them, already in our polarity (higher = more likely fake).

    Args:
        path: where they come from.
        format: which adapter read them.
        higher: what a higher number in the file meant, ``fake`` or ``real`` (then they were negated here).
        scores: trial id -> score, None where the file gives none.
        reasons: trial id -> why there is none.
        trials: what the score file itself knows of each trial.
        notes: what a reader must know about the file, one sentence each.
    """

    path: Path
    format: str
    higher: str
    scores: Mapping[str, float | None]
    reasons: Mapping[str, str] = field(default_factory=dict)
    trials: Mapping[str, Trial] = field(default_factory=dict)
    notes: Sequence[str] = ()


@contextmanager
def opened(path: str | Path) -> Iterator[IO[str]]:
    """A text file, gzipped or not, as UTF-8 with or without a byte order mark.

    Raises:
        ScoreError: it is not there, or is not text.
    """
    file = Path(path)
    if not file.is_file():
        raise ScoreError(f"{file}: there is no such file", hint="check the path")
    with open(file, "rb") as stream:
        zipped = stream.read(2) == b"\x1f\x8b"
    try:
        with (
            gzip.open(file, "rt", encoding="utf-8-sig", newline="")
            if zipped
            else open(file, encoding="utf-8-sig", newline="") as text
        ):
            yield text
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
        raise ScoreError(
            f"{file}: not a readable text file ({error})", hint="give a score file as text, gzipped text or Parquet"
        ) from error


def check_higher(higher: str | None, path: Path) -> str:
    """The polarity word, or an error: it is never guessed."""
    if higher not in HIGHER:
        raise ScoreError(
            f"{path}: it is not known what a higher score means there"
            if higher is None
            else f"a higher score cannot mean {higher!r}",
            hint="say --higher fake or --higher real; files of ASVspoof and of most voice toolkits grow with real",
        )
    return higher


class AnswerBuilder:
    """Collects scores line by line, negating them where higher means real, and counts what is wrong with them."""

    def __init__(self, path: Path, format: str, higher: str) -> None:
        self.path, self.format, self.higher = path, format, higher
        self._scores: dict[str, float | None] = {}
        self._reasons: dict[str, str] = {}
        self._trials: dict[str, Trial] = {}
        self._negate = higher == "real"
        self._repeated = 0
        self._broken = 0

    def add(self, trial_id: str, text: str, trial: Trial | None, *, where: str) -> None:
        """One line of the file.

        Raises:
            ScoreError: a score that is no number, or a second, different score of the same trial.
        """
        value, reason = self._value(text, where)
        if trial_id in self._scores:
            if self._scores[trial_id] != value or (trial is not None and self._trials.get(trial_id, trial) != trial):
                raise ScoreError(
                    f"{where}: trial {trial_id!r} occurs again with another score or key",
                    hint="one score per trial is needed; for several systems use one file or column each",
                )
            self._repeated += 1
            return
        self._scores[trial_id] = value
        if reason:
            self._reasons[trial_id] = reason
        if trial is not None:
            self._trials[trial_id] = trial

    def _value(self, text: str, where: str) -> tuple[float | None, str]:
        word = text.strip()
        try:
            value = float(word)
        except ValueError as error:
            if word.lower() in _NO_ANSWER:
                return None, "the score file gives no score"
            raise ScoreError(
                f"{where}: score {word!r} is not a number", hint="check the column, the separator and the header"
            ) from error
        if not math.isfinite(value):
            self._broken += 1
            return None, f"the score file says {word}"
        return (0.0 - value if self._negate else value), ""

    def done(self) -> Answers:
        """All of them.

        Raises:
            ScoreError: the file holds no trial.
        """
        if not self._scores:
            raise ScoreError(f"{self.path}: the file holds no trial", hint="check the format and the file")
        notes = []
        if self._repeated:
            notes.append(f"{self._repeated} lines repeat a trial with the same score; each trial is counted once")
        if self._broken:
            notes.append(f"{self._broken} scores are NaN or infinite; these trials count as not answered")
        empty = sum(v is None for v in self._scores.values()) - self._broken
        if empty:
            notes.append(f"{empty} trials have no score; they count as not answered")
        return Answers(
            path=self.path, format=self.format, higher=self.higher, scores=self._scores, reasons=self._reasons,
            trials=self._trials, notes=notes,
        )  # fmt: skip


def label_of(word: str, words: Mapping[str, str] | None, where: str) -> int:
    """REAL or FAKE for a word of the file, by an explicit map or by the words that corpora use.

    Raises:
        ScoreError: unknown word, an empty label, or a map to something else than real and fake.
    """
    text = word.strip()
    if words and text in words:
        meant = words[text]
        if meant not in ("real", "fake"):
            raise ScoreError(f"label word {text!r} is mapped to {meant!r}", hint="map label words to real or fake")
        return REAL if meant == "real" else FAKE
    try:
        found = parse_label(text, where=where)
    except Exception as error:
        raise ScoreError(
            f"{where}: label {text!r} is neither real nor fake",
            hint=f"say what it means, for example --label-words {text or 'WORD'}=fake",
        ) from error
    if found is None:
        raise ScoreError(f"{where}: the label is empty", hint="every trial of a key needs a label")
    return found


def merge_key(answers: Answers, key: Mapping[str, Trial] | None) -> tuple[dict[str, Trial], list[str]]:
    """Trials that are to be judged (those of the key, else those of the score file) and what is missing on either side.

    A trial of the key without a score is a non-response, not a missing row. What the key leaves empty is filled from
    the score file; where both give a label, they must agree.

    Raises:
        ScoreError: no label anywhere, no trial in common, or labels that contradict each other.
    """
    notes: list[str] = []
    if key is None:
        unlabelled = [i for i in answers.scores if answers.trials.get(i, Trial()).label is None]
        if unlabelled:
            raise ScoreError(
                f"{answers.path}: {len(unlabelled)} of {len(answers.scores)} trials have no label, the first is "
                f"{unlabelled[0]!r}",
                hint="give the answers with --key FILE, or name the label column with --label",
            )
        return dict(answers.trials), notes
    shared = [i for i in key if i in answers.scores]
    if not shared:
        first = next(iter(answers.scores))
        raise ScoreError(
            f"{answers.path}: none of its {len(answers.scores)} trials is in the key (its first is {first!r}, the "
            f"key's {next(iter(key))!r})",
            hint="give the key of the same set, and check which column holds the trial id",
        )
    missing, extra = len(key) - len(shared), len(answers.scores) - len(shared)
    if missing:
        notes.append(f"{missing} of {len(key)} trials of the key are not in the score file: counted as not answered")
    if extra:
        notes.append(f"{extra} scored trials are not in the key and are left out")
    out = {}
    for trial_id, known in key.items():
        own = answers.trials.get(trial_id)
        if own is not None and own.label is not None and known.label is not None and own.label != known.label:
            raise ScoreError(
                f"trial {trial_id!r} is labelled one way in {answers.path.name} and the other way in the key",
                hint="use the key of this very set; check --label-words",
            )
        out[trial_id] = known if own is None else _filled(known, own)
    return out, notes


def _filled(key: Trial, own: Trial) -> Trial:
    return Trial(
        label=own.label if key.label is None else key.label,
        cluster=key.cluster or own.cluster,
        generator=key.generator or own.generator,
        channel=key.channel or own.channel,
        split=key.split or own.split,
        attributes={**own.attributes, **key.attributes},
    )


def to_table(
    answers: Answers, key: Mapping[str, Trial] | None = None, *, name: str = "", llr: bool = False
) -> tuple[ScoreTable, list[str]]:
    """A `ScoreTable` with one row per trial that is to be judged, and notes for the reader.

    Args:
        name: of the detector; None = the file's name.
        llr: the scores are natural-log likelihood ratios (in the file's own polarity), declared by the user.

    Raises:
        ScoreError: see `merge_key`; no trial has a score; a label is missing.
    """
    trials, notes = merge_key(answers, key)
    ids = list(trials)
    values = [answers.scores.get(i) for i in ids]
    if all(v is None for v in values):
        raise ScoreError(f"{answers.path}: no trial has a score", hint="check the score column")
    n = len(ids)
    rows = [trials[i] for i in ids]
    reasons = [
        "" if v is not None else answers.reasons.get(i, "not in the score file")
        for i, v in zip(ids, values, strict=True)
    ]
    columns: dict[str, list] = {
        "sample_id": ids,
        "label": [t.label for t in rows],
        "cluster": [t.cluster or i for t, i in zip(rows, ids, strict=True)],
        "subjects": [[t.cluster] if t.cluster else [] for t in rows],
        "generator": [t.generator if t.label == FAKE else "" for t in rows],
        "channel": [t.channel for t in rows],
        "split": [t.split for t in rows],
        "attributes": [sorted(t.attributes.items()) if t.attributes else [] for t in rows],
        "duration_s": [None] * n,
        "score": values,
        "llr": values if llr else [None] * n,
        "status": [str(Status.OK) if v is not None else str(Status.ERROR) for v in values],
        "reason": reasons,
        "n_views": [1 if v is not None else 0 for v in values],
        "n_tracks": [0] * n,
        "seconds": [0.0] * n,
    }
    table = pa.table([pa.array(columns.get(c, [""] * n), SCHEMA.field(c).type) for c in COLUMNS], schema=SCHEMA)
    meta = {
        "detector": name or answers.path.name,
        "adapter": answers.format,
        "scores_file_sha256": sha256_file(answers.path),
        "higher_in_file": answers.higher,
        "clustered": any(t.cluster for t in rows),
        "calibrated": llr,
        "synthetic": False,
    }
    return ScoreTable(table, meta), [*answers.notes, *notes]


def aligned(tables: Sequence[ScoreTable]) -> tuple[list[ScoreTable], list[str]]:
    """The same tables on the trials that all of them hold, in the first one's order, for paired comparisons.

    Raises:
        ScoreError: no trial in common, or labels or clusters that contradict each other.
    """
    ids = [table.table.column("sample_id").to_pylist() for table in tables]
    common = set(ids[0]).intersection(*ids[1:])
    if not common:
        raise ScoreError("the score files have no trial in common", hint="compare systems on the same trials")
    order = [i for i in ids[0] if i in common]
    out = []
    for table, own in zip(tables, ids, strict=True):
        place = {trial: row for row, trial in enumerate(own)}
        taken = table.table.take(pa.array(np.array([place[i] for i in order], dtype=np.int64)))
        out.append(ScoreTable(taken, table.meta))
    for other in out[1:]:
        for column in ("label", "cluster"):
            if not out[0].table.column(column).equals(other.table.column(column)):
                raise ScoreError(
                    f"the files do not agree on the {column} of the same trials",
                    hint="give all systems the same key",
                )
    notes = []
    for table, own in zip(tables, ids, strict=True):
        if len(own) != len(order):
            notes.append(
                f"comparison: {len(own) - len(order)} of {len(own)} trials of {table.meta.get('detector', 'a file')} "
                "are not in every file and are left out of it"
            )
    return out, notes
