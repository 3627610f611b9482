"""Writes the generated part of data/README.md from the ledger and the doors (a test fails where it is out of step)."""

from pathlib import Path

from deepassay.corpora.catalogue import replaced
from deepassay.files import write_text

PAGE = Path(__file__).resolve().parents[1] / "data" / "README.md"

if __name__ == "__main__":
    write_text(PAGE, replaced(PAGE.read_text(encoding="utf-8")))
    print(PAGE)
