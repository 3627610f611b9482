"""The short form of scripts/chaos.py: killed, a shard damaged, the disk full, and the outputs are the same."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "chaos.py"


@pytest.mark.timeout(1500)
def test_killed_at_random_the_outputs_are_the_same(tmp_path):
    command = [sys.executable, str(SCRIPT), "--kills", "1", "--speakers", "8", "--json", str(tmp_path / "result.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    result = json.loads((tmp_path / "result.json").read_text())
    for step in ("prepare", "train", "score"):
        assert result[step]["kills"] == 1
        assert result[step]["identical"]
        assert result[step]["ends_compared"] >= 1
    assert result["train"]["errors_with_remedy"] == 2
