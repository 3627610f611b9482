"""The console that verbs print on: as wide as the terminal, and wide enough for tables where there is none."""

import sys

from rich.console import Console

WIDTH_WITHOUT_TERMINAL = 120


def terminal() -> Console:
    """A rich console on standard output."""
    return Console(width=None if sys.stdout.isatty() else WIDTH_WITHOUT_TERMINAL, highlight=False, soft_wrap=False)
