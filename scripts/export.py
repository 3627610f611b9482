"""`python scripts/export.py ...` is `deepassay export ...`: the same door, for those who start from a script."""

import sys

from deepassay.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
