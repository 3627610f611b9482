"""Reading what voice corpora publish: lists of fixed columns, sound files found by bare name, both held together."""

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from deepassay.corpora.inventory import Inventory
from deepassay.labels import FAKE, REAL

SOUND = (".flac", ".wav", ".mp3", ".ogg", ".opus", ".m4a")

# ASVspoof's words, which most later voice corpora took over; their own numbers (bona fide = 1) are never read.
KEYS: Mapping[str, int] = {"bonafide": REAL, "bona-fide": REAL, "spoof": FAKE}
GENUINE: Mapping[str, int] = {"genuine": REAL, "fake": FAKE}
# Parent corpora by the names that lists and folders use, as attribute ``parent`` spells them in every door.
PARENTS = {"aishell1": "AISHELL-1", "aishell2": "AISHELL-2", "aishell3": "AISHELL-3", "thchs30": "THCHS-30"}
GENDERS = {"f": "female", "m": "male", "female": "female", "male": "male"}


@dataclass(frozen=True, slots=True)
class Trial:
    """One line of a published list: the file's bare name, the label already translated, and the sample's columns."""

    name: str
    label: int
    values: Mapping[str, Any] = field(default_factory=dict)


def bare(path: str) -> str:
    """File name without folders and extension."""
    return PurePosixPath(path).stem


def by_name(inventory: Inventory, paths: Iterable[str], *, what: str) -> dict[str, str]:
    """Paths by bare name, wherever the archives were unpacked; a name met twice is a problem, the first one counts."""
    out: dict[str, str] = {}
    for path in paths:
        first = out.setdefault(bare(path), path)
        if first != path:
            inventory.problem("extra", f"{what}: {path} has the name of {first}")
    return out


def rows(inventory: Inventory, path: str, *widths: int, header: str = "") -> Iterator[tuple[int, list[str]]]:
    """Numbered lines of a space- or tab-separated list, split into cells; another width is an unparsable line.

    Args:
        inventory: where problems go.
        path: of the list, below the root (or absolute).
        widths: numbers of cells that are right.
        header: first cell of an optional header line, which is passed over.
    """
    for number, line in inventory.lines(path):
        cells = line.split()
        if header and number == 1 and cells[0] == header:
            continue
        if len(cells) not in widths:
            wanted = " or ".join(str(w) for w in widths)
            inventory.unparsable(path, number, f"{len(cells)} columns instead of {wanted}")
            continue
        yield number, cells


def table(
    inventory: Inventory, path: str, needed: Collection[str], *, delimiter: str = ",", quoted: bool = True
) -> Iterator[tuple[int, dict[str, str]]]:
    """Numbered rows of a delimited list with a header, by column name; a missing column or a short row is a problem.

    Args:
        inventory: where problems go.
        path: of the list, below the root (or absolute).
        needed: columns that the door reads.
        delimiter: between cells.
        quoted: whether double quotes hold a cell together.
    """
    lines = inventory.lines(path)
    if not lines:
        return
    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    parsed = csv.reader((text for _, text in lines), delimiter=delimiter, quoting=quoting)
    names: list[str] = []
    for number, cells in zip((n for n, _ in lines), parsed, strict=False):
        if not names:
            names = [c.strip() for c in cells]
            missing = sorted(set(needed) - set(names))
            if missing:
                inventory.unparsable(path, number, f"columns {missing} are missing, it has {names}")
                return
            continue
        if len(cells) != len(names):
            inventory.unparsable(path, number, f"{len(cells)} columns instead of {len(names)}")
            continue
        yield number, dict(zip(names, (c.strip() for c in cells), strict=True))


def label_of(inventory: Inventory, word: str, words: Mapping[str, int], path: str, line: int) -> int | None:
    """The label of a corpus's own word; another word is an unparsable line and None."""
    label = words.get(word.lower())
    if label is None:
        inventory.unparsable(path, line, f"key {word!r} is none of {sorted(words)}")
    return label


def attack_of(inventory: Inventory, label: int, word: str, path: str, line: int) -> str | None:
    """The attack of a line, "" for bona fide; bona fide with an attack, or a fake without one, is a problem and None.

    This is what catches a list whose keys were exchanged.
    """
    none = word in ("-", "bonafide", "")
    if none == (label == REAL):
        return "" if none else word
    why = f"bona fide, yet of attack {word!r}" if label == REAL else "spoofed, yet of no attack"
    inventory.unparsable(path, line, why)
    return None


def present(
    inventory: Inventory, trials: Iterable[Trial], files: Mapping[str, str], *, at: Callable[[str], str], what: str
) -> list[tuple[str, Trial]]:
    """Hold a list against the files: (path, trial) of those that are there; missing, extra and repeated ones by name.

    Args:
        inventory: where problems go.
        trials: what the list names.
        files: bare name -> path of what was found.
        at: bare name -> the published path, to name what is missing.
        what: for messages.
    """
    listed: dict[str, Trial] = {}
    wanted: list[str] = []
    for trial in trials:
        path = files.get(trial.name) or at(trial.name)
        listed.setdefault(path, trial)
        wanted.append(path)
    return [(path, listed[path]) for path in inventory.expect(wanted, found=set(files.values()), what=what)]


def count_classes(inventory: Inventory, what: str, labels: Iterable[int], published: Mapping[str, int]) -> None:
    """Count bona fide and spoofed samples of one part against the published numbers (where there are any)."""
    values = list(labels)
    fake = sum(v == FAKE for v in values)
    for word, number in (("bona fide", len(values) - fake), ("spoofed", fake)):
        inventory.count(f"{what} {word}", number, published.get(f"{what} {word}"))


def attributes(**values: str | None) -> dict[str, str]:
    """Attributes without the empty ones and the dashes that lists put for "none"."""
    return {k: v for k, v in values.items() if v and v != "-"}
