"""What a public corpus's door is made of: the inventory that counts a copy against what was published, and the door."""

import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, Literal

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from deepassay.corpora.table import MEDIA_BY_SUFFIX, with_file_facts
from deepassay.errors import ConfigError, ManifestError
from deepassay.manifest import Manifest, Sample

_NAMED_PER_KIND = 100
_SHOWN = 6


class Inventory:
    """Counts what a door finds against what was published; a missing or extra file, a wrong count, an unparsable line,
    each by name.

    Problems are collected, so that one pass names them all; `finish` raises or, knowingly, lets them pass.

    Args:
        name: of the corpus, for messages.
        root: folder that all paths are relative to.
        allow_partial: let `finish` return the problems instead of raising.
        progress: show the running count on stderr.
    """

    def __init__(self, name: str, root: Path, *, allow_partial: bool = False, progress: bool = True) -> None:
        self.name = name
        self.root = Path(root)
        self.allow_partial = allow_partial
        self.progress = progress
        self._named: dict[str, list[str]] = {}
        self._numbers: Counter[str] = Counter()
        self._totals: dict[str, int] = {}

    def problem(self, kind: str, text: str) -> None:
        """Record a problem of one kind (``missing``, ``extra``, ``count``, ``unparsable``, ``link`` ...), by name."""
        self._numbers[kind] += 1
        named = self._named.setdefault(kind, [])
        if len(named) < _NAMED_PER_KIND:
            named.append(text)

    def files(self, under: str = "", suffixes: tuple[str, ...] = ()) -> list[str]:
        """Files below ``root/under``: paths relative to ``root``, posix, sorted; hidden files are passed over.

        A link that leads out of the root is not followed and is a problem; one inside the root is followed once.

        Args:
            under: relative folder; nothing is found where it does not exist.
            suffixes: with the dot, in lower case; empty takes every file.

        Raises:
            ManifestError: there is no such root folder.
        """
        if not self.root.is_dir():
            raise ManifestError(
                f"{self.name}: there is no folder {self.root}",
                hint="give the folder that holds the unpacked corpus (corpus.root=..., or ROOT of corpus verify)",
            )
        found: list[str] = []
        start = self.root / under
        if not start.is_dir():
            return found
        shown = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), console=Console(stderr=True), transient=True,
            disable=not self.progress,
        )  # fmt: skip
        with shown:
            task = shown.add_task(f"{self.name}: listing {under or '.'}", total=None)
            for number, path in enumerate(self._walk(start), start=1):
                if not suffixes or os.path.splitext(path)[1].lower() in suffixes:
                    found.append(path)
                if number % 10_000 == 0:
                    shown.update(task, description=f"{self.name}: listing {under or '.'}, {number:,} files")
        return sorted(found)

    def _walk(self, start: Path) -> Iterator[str]:
        top = os.path.realpath(self.root)
        lead = len(str(self.root).rstrip(os.sep)) + 1
        seen = {os.path.realpath(start)}
        waiting = [str(start)]
        while waiting:
            folder = waiting.pop()
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    relative = entry.path[lead:].replace(os.sep, "/")
                    if entry.is_symlink():
                        target = os.path.realpath(entry.path)
                        if target != top and not target.startswith(top + os.sep):
                            self.problem("link", f"{relative} is a link out of the corpus's folder")
                            continue
                        if not os.path.exists(target):
                            self.problem("link", f"{relative} is a link to nothing")
                            continue
                    if entry.is_dir():
                        real = os.path.realpath(entry.path)
                        if real not in seen:
                            seen.add(real)
                            waiting.append(entry.path)
                    else:
                        yield relative

    def lines(self, path: str) -> list[tuple[int, str]]:
        """Numbered lines of a published list, without blank ones; a list that is not there is a missing file."""
        whole = self.root / path
        if not whole.is_file():
            self.problem("missing", f"list {path}")
            return []
        text = whole.read_text(encoding="utf-8-sig")
        return [(n, line.strip()) for n, line in enumerate(text.splitlines(), start=1) if line.strip()]

    def expect(self, paths: Iterable[str], *, found: Collection[str], what: str) -> list[str]:
        """Record missing paths (expected, not found) and extra ones (found, not expected).

        Args:
            paths: what the corpus publishes, each once.
            found: what lies there, as from `files`.
            what: for messages, such as ``Deepfakes c23 videos``.

        Returns:
            Those that are there, in the order of ``paths``.
        """
        there = found if isinstance(found, (set, frozenset)) else set(found)
        present: list[str] = []
        wanted: set[str] = set()
        for path in paths:
            if path in wanted:
                self.problem("unparsable", f"{what}: {path} is listed twice")
                continue
            wanted.add(path)
            if path in there:
                present.append(path)
            else:
                self.problem("missing", f"{what}: {path}")
        for path in sorted(there - wanted):
            self.problem("extra", f"{what}: {path}")
        return present

    def count(self, what: str, found: int, published: int | None) -> None:
        """Keep a total; another number than the published one (where one is) is a problem."""
        self._totals[what] = int(found)
        if published is not None and found != published:
            self.problem("count", f"{what}: {found:,} found, {published:,} published")

    def unparsable(self, path: str, line: int, why: str) -> None:
        """Record a line of a list that cannot be read."""
        self.problem("unparsable", f"{path}, line {line}: {why}")

    def finish(self) -> dict[str, Any]:
        """The record for ``manifest.info["inventory"]``: partial, problems (by name, the first of each kind), totals.

        Raises:
            ManifestError: there are problems and they are not allowed; names the first and the totals.
        """
        numbers = dict(sorted(self._numbers.items()))
        record = {
            "partial": bool(numbers),
            "problems": [f"{kind}: {text}" for kind in numbers for text in self._named[kind]],
            "numbers": numbers,
            "totals": dict(sorted(self._totals.items())),
        }
        if numbers and not self.allow_partial:
            words = ", ".join(f"{n:,} {kind}" for kind, n in numbers.items())
            first = [f"{kind}: {t}" for kind in numbers for t in self._named[kind][:_SHOWN]]
            shown = "".join(f"\n  {line}" for line in first)
            totals = ", ".join(f"{what} {n:,}" for what, n in self._totals.items())
            more = sum(self._numbers.values()) - len(first)
            raise ManifestError(
                f"{self.name}: the copy below {self.root} is not what was published ({words}){shown}"
                + (f"\n  and {more:,} more" if more > 0 else "")
                + (f"\n  totals: {totals}" if totals else ""),
                hint="complete or correct the copy, or go on knowingly with allow_partial=true (corpus verify: "
                "--allow-partial), which is recorded in the manifest",
            )
        return record


class PublicCorpus(ABC):
    """The door of one published corpus; a subclass says where files lie and what they are in `samples`.

    The constructor touches no disk. Labels are translated here (law 1), and nowhere later.

    Args:
        root: folder that holds the unpacked corpus.
        allow_partial: go on with a copy that differs from what was published; recorded in ``info["inventory"]``.
        progress: show progress on stderr.
        hash_files: compute SHA-256 of every file (slow on a large corpus).
        probe: read size, duration, rate and codec from every header (slow on a large corpus).

    Class attributes: ``name``; ``modality``; ``status``: ``verified`` (against an official list or a real copy) or
    ``unverified`` (from documentation only); ``documented_at``: paper, README, official script; ``published_counts``:
    what the inventory counts against; ``version``, ``licence``: as the corpus's own page states them.
    """

    name: ClassVar[str]
    modality: ClassVar[Literal["face", "voice"]]
    status: ClassVar[Literal["verified", "unverified"]]
    documented_at: ClassVar[tuple[str, ...]]
    published_counts: ClassVar[Mapping[str, int]] = {}
    version: ClassVar[str] = ""
    licence: ClassVar[str] = ""

    def __init__(
        self,
        *,
        root: str,
        allow_partial: bool = False,
        progress: bool = True,
        hash_files: bool = False,
        probe: bool = False,
    ) -> None:
        self.root = Path(root)
        self.allow_partial = allow_partial
        self.progress = progress
        self.hash_files = hash_files
        self.probe = probe

    @abstractmethod
    def samples(self, inventory: Inventory) -> Iterable[Sample]:
        """Every sample whose file is there; what is missing, extra or unreadable goes to the inventory."""

    def sample(self, path: str, **values: Any) -> Sample:
        """A Sample of this corpus: media by extension, ``sample_id`` from corpus and path (so never a bare folder)."""
        values.setdefault("sample_id", f"{self.name}/{path}")
        if "media" not in values:
            values["media"] = MEDIA_BY_SUFFIX.get(PurePosixPath(path).suffix.lower(), "")
        values.setdefault("modality", self.modality)
        values.setdefault("corpus", self.name)
        values.setdefault("licence", self.licence)
        return Sample(path=path, **values)

    def prepare(self) -> Manifest:
        """Index and verify the copy below ``root``.

        Raises:
            ManifestError: no such folder, nothing of the corpus in it, or a copy that differs from what was published.
        """
        inventory = Inventory(self.name, self.root, allow_partial=self.allow_partial, progress=self.progress)
        if not self.root.is_dir():
            inventory.files()  # raises, with the same words
        rows = list(self.samples(inventory))
        record = inventory.finish()
        if not rows:
            raise ManifestError(
                f"{self.name}: none of its files lies below {self.root}",
                hint=f"give the folder that holds the published tree; `deepassay corpus show {self.name}` describes it",
            )
        info: dict[str, Any] = {
            "name": self.name, "synthetic": False, "version": self.version, "licence": self.licence,
            "status": self.status, "documented_at": list(self.documented_at), "inventory": record,
        }  # fmt: skip
        if self.hash_files or self.probe:
            rows, unread = with_file_facts(
                rows, self.root, name=self.name, hash_files=self.hash_files, probe=self.probe, progress=self.progress
            )
            if unread:
                info["unreadable_headers"] = unread
        return Manifest.from_samples(rows, self.root, info)


def one_of(value: str, allowed: Collection[str], *, what: str) -> str:
    """``value``, checked in a door's constructor.

    Raises:
        ConfigError: it is none of the allowed words.
    """
    if value not in allowed:
        raise ConfigError(f"{what} is {value!r}", hint=f"use one of {sorted(allowed)}")
    return value


def read_json(path: Path, name: str) -> Any:
    """A JSON file of a corpus.

    Raises:
        ManifestError: it cannot be read as UTF-8 JSON; names the file and the place.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ManifestError(f"{name}: {path} is not readable JSON ({error})", hint="download it again") from error
