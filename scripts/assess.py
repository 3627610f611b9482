"""`python scripts/assess.py ...` is `deepassay assess ...`: the same door, for those who start from a script."""

import sys

from deepassay.cli import main

if __name__ == "__main__":
    sys.exit(main(["assess", *sys.argv[1:]]))
