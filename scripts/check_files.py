"""Refuses what must not be committed: large files, media and weights, private keys, marks of an unfinished merge."""

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

MOST_BYTES = 500_000
# Lock files, and the reference bundles that are meant to be there; where they lie and how large they may be.
ALLOWED = (("requirements.lock", 2_000_000), ("models/", 40_000_000))
MEDIA = {
    ".jpg", ".jpeg", ".png", ".webp", ".avif", ".mp4", ".mov", ".webm", ".mkv", ".wav", ".flac", ".mp3", ".m4a",
    ".opus", ".ogg", ".pt", ".pth", ".ckpt", ".npz", ".safetensors", ".pkl",
}  # fmt: skip
# Written in pieces, so that this file does not hold what it looks for.
SECRET = re.compile("-----BEGIN [A-Z ]*PRIVATE " + "KEY-----")
CONFLICT = re.compile("^(<{7} |>{7} )", re.MULTILINE)


def problems(path: Path, name: str) -> Iterator[str]:
    """What is wrong with one file; ``name`` is its path from the root of the repository, with slashes."""
    size = path.stat().st_size
    limit = next((most for start, most in ALLOWED if name.startswith(start)), MOST_BYTES)
    if size > limit:
        yield f"{size:,} bytes, at most {limit:,} are taken; large data stay outside the repository"
    if path.suffix.lower() in MEDIA:
        yield f"{path.suffix} is media or weights; tests make theirs when they run"
    if size <= 2_000_000:
        text = path.read_text(encoding="utf-8", errors="ignore")
        if SECRET.search(text):
            yield "holds a private key; it must be replaced, not only removed"
        if CONFLICT.search(text):
            yield "holds marks of an unfinished merge"


def main(arguments: list[str] | None = None) -> int:
    """Check the files named, relative to the current folder; 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path)
    bad = False
    for path in parser.parse_args(arguments).paths:
        for text in problems(path, path.as_posix()) if path.is_file() else ():
            print(f"{path}: {text}")
            bad = True
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
