"""Fixtures that every test may use."""

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real media and golden values that lies beside the project, where it is present."""
    if not (SHARED / "golden").is_dir():
        pytest.skip(f"no folder of real media and golden values at {SHARED.name!r} beside the project")
    return SHARED
