"""`python scripts/evaluate.py ...` is `deepassay evaluate ...`: the same door, for those who start from a script."""

import sys

from deepassay.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
