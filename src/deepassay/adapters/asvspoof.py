"""Score and key files of ASVspoof 2019, 2021 and 5; their scores grow with bona fide and are negated here.

Scores: 2019 ``utterance attack key score``; 2021 ``utterance score``; 5 with a header (``filename cm-score``) or
``speaker utterance score key``. Keys: the protocols and trial_metadata.txt of 2019, 2021 (LA, DF, PA) and 5, and
5's tab- or space-separated keys with a header. Which one a file is, is told from its first line.

Generators, channels and splits are named as the doors of `deepassay.corpora.asvspoof` name them, so that a table made
here joins a manifest made there: attack ids repeat between the challenges for different systems, and ``progress`` of
2021 shares its speakers with ``eval``, so it is no development set.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from deepassay.adapters.rows import AnswerBuilder, Answers, Trial, check_higher, opened
from deepassay.errors import ScoreError
from deepassay.labels import FAKE, REAL

_KEYS = {"bonafide": REAL, "spoof": FAKE}
# Bona fide trials whose claimed speaker differs are bona fide for a detector.
_JOINT_KEYS = {"bonafide": REAL, "target": REAL, "nontarget": REAL, "spoof": FAKE}
_HEADER_WORDS = frozenset({"filename", "cm-score", "cm-label", "trial_anon", "cm_label"})


@dataclass(frozen=True, slots=True)
class _Protocol:
    """Columns of a key without a header, by how many there are."""

    name: str
    key: int
    generator: tuple[int, ...]
    channel: tuple[int, ...] = ()
    subset: int | None = None
    attributes: tuple[tuple[str, int], ...] = ()
    database: str = ""
    source: int | None = None


# speaker is always column 0 and the trial column 1.
_PROTOCOLS = {
    5: _Protocol("asvspoof2019", key=4, generator=(3,), channel=(2,), database="ASVspoof2019"),
    8: _Protocol(
        "asvspoof2021", key=5, generator=(4,), channel=(2, 3), subset=7, attributes=(("trim", 6),),
        database="ASVspoof2019",
    ),
    10: _Protocol(
        "asvspoof5", key=8, generator=(7,), channel=(3, 4), attributes=(("gender", 2), ("attack_tag", 6)),
        database="ASVspoof5",
    ),
    12: _Protocol(
        "asvspoof2021-pa", key=9, generator=(5, 6, 7, 8), channel=(2, 3, 4), subset=11, attributes=(("trim", 10),),
        database="ASVspoof2021-PA",
    ),
    13: _Protocol(
        "asvspoof2021-df", key=5, generator=(4,), channel=(2,), subset=7,
        attributes=(("source", 3), ("trim", 6), ("vocoder", 8)), database="ASVspoof2019", source=3,
    ),
}  # fmt: skip
_SPLITS = {"eval": "test"}


def _header(cells: list[str]) -> bool:
    return bool(_HEADER_WORDS & {cell.lower() for cell in cells})


def _first(path: Path) -> list[str]:
    with opened(path) as stream:
        for line in stream:
            if line.strip():
                return line.split()
    raise ScoreError(f"{path}: the file is empty", hint="give a score file or a key with one trial per line")


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return text.strip() == "-"
    return True


def looks_like_scores(path: str | Path) -> bool:
    """Whether the first line is one of ASVspoof's score formats."""
    cells = _first(Path(path))
    if _header(cells):
        return "cm-score" in [c.lower() for c in cells]
    if len(cells) == 2:
        return _number(cells[1])
    if len(cells) == 4:
        return (cells[2].lower() in _KEYS and _number(cells[3])) or (
            _number(cells[2]) and cells[3].lower() in _JOINT_KEYS
        )
    return False


def read_scores(path: str | Path, *, higher: str = "real") -> Answers:
    """Detector scores of any of the three challenges.

    Args:
        path: the score file, gzipped or not.
        higher: what higher means in the file; the challenges say ``real``.

    Raises:
        ScoreError: another format, a line with another number of columns, a score that is no number.
    """
    file = Path(path)
    higher = check_higher(higher, file)
    first = _first(file)
    if _header(first):
        return _with_header(file, higher, [c.lower() for c in first])
    if not looks_like_scores(file):
        raise ScoreError(
            f"{file}: the first line {' '.join(first)!r} is no ASVspoof score",
            hint="expected 'utterance score', 'utterance attack key score' or 'speaker utterance score key'; for a "
            "table with a header use --format csv",
        )
    four = len(first) == 4
    newer = four and _number(first[2]) and first[3].lower() in _JOINT_KEYS
    format = "asvspoof5" if newer else "asvspoof2019" if four else "asvspoof2021"
    built = AnswerBuilder(file, format, higher)
    with opened(file) as stream:
        for number, line in enumerate(stream, start=1):
            cells = line.split()
            if not cells:
                continue
            where = f"{file}, line {number}"
            if len(cells) != len(first):
                raise ScoreError(
                    f"{where}: {len(cells)} columns, and the first line has {len(first)}",
                    hint="correct or drop the line",
                )
            if not four:
                built.add(cells[0], cells[1], None, where=where)
            elif newer:
                label = _label(cells[3], _JOINT_KEYS, where)
                built.add(cells[1], cells[2], Trial(label=label, cluster=cells[0]), where=where)
            else:
                label = _label(cells[2], _KEYS, where)
                generator = _generator(cells[1], label, "ASVspoof2019")
                built.add(cells[0], cells[3], Trial(label=label, generator=generator), where=where)
    return built.done()


def _with_header(file: Path, higher: str, names: list[str]) -> Answers:
    """ASVspoof 5 submissions: ``filename cm-score`` or ``spk filename cm-score asv-score sasv-score``."""
    if "filename" not in names or "cm-score" not in names:
        raise ScoreError(f"{file}: columns {names}", hint="an ASVspoof 5 score file has filename and cm-score")
    trial, score = names.index("filename"), names.index("cm-score")
    built = AnswerBuilder(file, "asvspoof5", higher)
    with opened(file) as stream:
        for number, line in enumerate(stream, start=1):
            cells = line.split()
            if number == 1 or not cells:
                continue
            where = f"{file}, line {number}"
            if len(cells) != len(names):
                raise ScoreError(f"{where}: {len(cells)} columns instead of {len(names)}", hint="correct the line")
            built.add(cells[trial], cells[score], None, where=where)
    return built.done()


def _label(word: str, words: Mapping[str, int], where: str) -> int:
    if word.lower() not in words:
        raise ScoreError(f"{where}: {word!r} is not one of {sorted(words)}", hint="correct the key of this trial")
    return words[word.lower()]


def _generator(word: str, label: int, database: str) -> str:
    """``A07`` of 2019 is ``ASVspoof2019-A07``; replay attacks (``AA`` to ``CC``) are ``ASVspoof2019-PA-AA``."""
    if label == REAL or word in ("-", "bonafide"):
        return ""
    replay = database == "ASVspoof2019" and len(word) == 2 and word.isalpha()
    return f"{database}-PA-{word}" if replay else f"{database}-{word}"


def read_key(path: str | Path, *, subset: str | None = None) -> dict[str, Trial]:
    """Labels, speakers, attacks and channels by trial, from any of the challenges' keys.

    Args:
        path: protocol, trial_metadata.txt or key with a header.
        subset: keep only this subset of a 2021 key: ``eval``, ``progress`` or ``hidden``.

    Raises:
        ScoreError: another format, a key that is neither bonafide nor spoof, a trial with two keys, an empty subset.
    """
    file = Path(path)
    first = _first(file)
    names = [c.lower() for c in first] if _header(first) else None
    if names is None and (len(first) not in _PROTOCOLS or first[_PROTOCOLS[len(first)].key].lower() not in _KEYS):
        raise ScoreError(
            f"{file}: a first line of {len(first)} columns, {' '.join(first)!r}, is no ASVspoof key",
            hint="expected a protocol of 2019 (5 columns), 2021 (8, 12 or 13) or 5 (10), or a key with a header",
        )
    out: dict[str, Trial] = {}
    with opened(file) as stream:
        for number, line in enumerate(stream, start=1):
            cells = line.split()
            if not cells or (names is not None and number == 1):
                continue
            where = f"{file}, line {number}"
            if len(cells) != len(first):
                raise ScoreError(
                    f"{where}: {len(cells)} columns, and the first line has {len(first)}",
                    hint="correct or drop the line",
                )
            trial_id, trial, part = _key_row(cells, names, where)
            if subset is not None and part != subset:
                continue
            if trial_id in out and out[trial_id] != trial:
                if out[trial_id].label != trial.label:
                    raise ScoreError(f"{where}: trial {trial_id!r} has two keys", hint="give one key per trial")
                continue  # the same recording, claimed to be several speakers: its first claim names the cluster
            out[trial_id] = trial
    if not out:
        raise ScoreError(
            f"{file}: no trial{f' of subset {subset!r}' if subset else ''}", hint="check the file and --subset"
        )
    return out


def _key_row(cells: list[str], names: list[str] | None, where: str) -> tuple[str, Trial, str]:
    if names is None:
        own = _PROTOCOLS[len(cells)]
        label = _label(cells[own.key], _KEYS, where)
        attack = "-".join(cells[i] for i in own.generator)
        channel = " ".join(cells[i] for i in own.channel if cells[i] != "-")
        if own.name == "asvspoof5" and cells[own.channel[0]] == "-":
            channel = ""  # without a codec, its quality means nothing
        part = "" if own.subset is None else cells[own.subset]
        attributes = {name: cells[i] for name, i in own.attributes if cells[i] != "-"}
        cluster = "" if cells[0] == "-" else cells[0]
        source = "" if own.source is None else cells[own.source]
        database = own.database if source in ("", "asvspoof") else source.upper()
        return cells[1], Trial(
            label=label, cluster=cluster, generator=_generator(attack, label, database), channel=channel,
            split=_SPLITS.get(part, ""), attributes=attributes,
        ), part  # fmt: skip
    row = dict(zip(names, cells, strict=True))
    trial_id = row.get("filename") or row.get("trial_anon") or ""
    word = row.get("cm-label") or row.get("cm_label") or ""
    if not trial_id or not word:
        raise ScoreError(
            f"{where}: a key with a header needs filename (or trial_anon) and cm-label", hint=f"its columns are {names}"
        )
    label = _label(word, _KEYS, where)
    speaker = row.get("spk") or row.get("tar_spk_anon") or ""
    generator = _generator(row.get("attack_anon", "-"), label, "ASVspoof5")
    return trial_id, Trial(
        label=label, cluster="" if speaker == "-" else speaker,
        generator=generator, channel=row.get("codec", "").replace("-", ""),
    ), ""  # fmt: skip


def read_asv_scores(path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Similarities of target, non-target and spoof trials, each (n,), from the organisers' ASV score files.

    ``source type score``: ``bonafide target 7.98``, ``bonafide nontarget -3.1`` or ``A07 spoof 1.2``. They grow with
    the target speaker and are not negated.

    Raises:
        ScoreError: another format, or one of the three kinds missing.
    """
    file = Path(path)
    kinds: dict[str, list[float]] = {"target": [], "nontarget": [], "spoof": []}
    with opened(file) as stream:
        for number, line in enumerate(stream, start=1):
            cells = line.split()
            if not cells:
                continue
            if len(cells) < 3 or cells[-2].lower() not in kinds or not _number(cells[-1]) or cells[-1] == "-":
                raise ScoreError(
                    f"{file}, line {number}: {line.strip()!r} is no ASV score",
                    hint="expected 'source target|nontarget|spoof score'",
                )
            kinds[cells[-2].lower()].append(float(cells[-1]))
    for kind, values in kinds.items():
        if not values:
            raise ScoreError(
                f"{file}: no {kind} trial", hint="an ASV score file holds target, nontarget and spoof trials"
            )
    return tuple(np.array(kinds[kind]) for kind in ("target", "nontarget", "spoof"))  # pyright: ignore[reportReturnType]
