"""`python -m deepassay` is the `deepassay` command."""

import sys

from deepassay.cli import main

sys.exit(main())
