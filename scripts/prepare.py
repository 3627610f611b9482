"""`python scripts/prepare.py ...` is `deepassay prepare ...`: the same door, for those who start from a script."""

import sys

from deepassay.cli import main

if __name__ == "__main__":
    sys.exit(main(["prepare", *sys.argv[1:]]))
