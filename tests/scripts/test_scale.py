"""docs/scale.md is what the measured costs give, and every figure of its tables says what it is."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "scale.py"


def test_the_page_is_what_the_costs_give():
    done = subprocess.run([sys.executable, str(SCRIPT), "check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_another_page_is_found(tmp_path):
    """The canary."""
    for name in ("docs", "scripts"):
        (tmp_path / name).mkdir()
    for name in ("docs/scale.md", "docs/scale.costs.json", "scripts/scale.py"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    page = tmp_path / "docs" / "scale.md"
    page.write_text(page.read_text().replace("| DFDC |", "| DFDC, better |"))
    command = [sys.executable, str(tmp_path / "scripts" / "scale.py"), "check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "scale.py write" in done.stderr


def test_every_figure_is_marked():
    text = (ROOT / "docs" / "scale.md").read_text()
    made = text.split("<!-- made by")[1].split("Assumed (a)")[0]
    for row in (line for line in made.splitlines() if line.startswith("| ") and not line.startswith("| one unit")):
        for cell in row.strip("|").split("|")[1:]:
            if re.search(r"\d\s*(ms|s|min|h|d|MB|GB|TB|GFLOP)\b", cell) and "(" not in cell:
                assert "(m" in row, row
