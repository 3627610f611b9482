"""`python scripts/train.py ...` is `deepassay train ...`: the same door, for those who start from a script."""

import sys

from deepassay.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
