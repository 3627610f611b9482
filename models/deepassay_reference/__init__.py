"""Where the two reference bundles lie; `deepassay screen` finds them by the entry points that name these paths."""

from pathlib import Path

FACE = Path(__file__).parent / "face-reference"
VOICE = Path(__file__).parent / "voice-reference"
