"""From the words of a command line to files, in a stable order; what cannot be a file is named, never skipped."""

import glob
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from deepassay.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Input:
    """One path to be screened.

    Args:
        path: as given, or found below a folder as given.
        refusal: why there is nothing to open there, or empty.
    """

    path: str
    refusal: str = ""


def expand(words: Iterable[str], stdin: BinaryIO | None = None) -> Iterator[Input]:
    """Files, folders (recursively, hidden files too), globs, ``@list`` (a file of paths) and ``-`` (paths on stdin).

    Order: as given, and by name within a folder or glob. Lists hold one path per line, or are separated by NUL where
    they contain one, as ``find -print0`` writes them; their entries are files or folders, taken literally. A file whose
    name begins with ``@`` is given as ``./@name``.

    Args:
        words: what the user typed.
        stdin: where ``-`` reads from; the process's own by default.

    Raises:
        ConfigError: a list that cannot be read.
    """
    for word in words:
        if word == "-":
            yield from _listed((stdin or sys.stdin.buffer).read())
        elif word.startswith("@"):
            try:
                with open(word[1:], "rb") as stream:
                    content = stream.read()
            except OSError as error:
                raise ConfigError(
                    f"{word}: the list {word[1:]!r} cannot be read ({error.strerror})",
                    hint="@NAME means a file of paths; for a file that begins with @ write ./@NAME",
                ) from error
            yield from _listed(content)
        elif os.path.lexists(word) or not glob.has_magic(word):
            yield from _walk(word)
        else:
            found = sorted(glob.glob(word, recursive=True, include_hidden=True))
            if not found:
                yield Input(word, "no file matches the pattern")
            seen: set[str] = set()  # a recursive pattern names a folder and then each file in it
            for one in (one for path in found for one in _walk(path)):
                if one.path not in seen:
                    seen.add(one.path)
                    yield one


def _listed(content: bytes) -> Iterator[Input]:
    for line in content.split(b"\0" if b"\0" in content else b"\n"):
        name = line if b"\0" in content else line.rstrip(b"\r")
        if name:
            yield from _walk(os.fsdecode(name))


def _walk(path: str) -> Iterator[Input]:
    """A file as it is; a folder's files, depth first by name."""
    if not os.path.isdir(path):
        yield Input(path, _refusal(path))
        return
    try:
        with os.scandir(path) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield Input(path, f"the folder cannot be read ({error.strerror})")
        return
    if not inside:
        yield Input(path, "the folder is empty")
    for entry in inside:
        if entry.is_dir() and entry.is_symlink():
            yield Input(entry.path, "a link to a folder is not followed; give the folder itself")
        else:
            yield from _walk(entry.path)


def _refusal(path: str) -> str:
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        return "no such file" if isinstance(error, FileNotFoundError) else f"cannot be opened ({error.strerror})"
    return "" if stat.S_ISREG(mode) else "no plain file (a device, pipe or socket)"
