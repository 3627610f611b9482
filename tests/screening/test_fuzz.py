"""The short form of the fuzz run: nothing crashes, hangs or is judged that cannot be decoded; and the run can fail."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = str(ROOT / "scripts" / "fuzz_screening.py")


def run(*words: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, "--workers", "1", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=500, check=False, env=env)


@pytest.mark.parametrize(("inputs", "bundles"), [(170, 60), pytest.param(20_000, 2_000, marks=pytest.mark.full)])
def test_nothing_is_found(inputs, bundles):
    done = run("--inputs", str(inputs), "--bundles", str(bundles), "--seed", "7")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "0 found" in done.stdout
    assert "undecodable" in done.stdout
    assert "refused" in done.stdout


def test_a_decoder_that_crashes_or_hangs_is_found(tmp_path):
    import os

    (tmp_path / "sitecustomize.py").write_text(
        "import os\n"
        "import deepassay.media.image as room\n"
        "real = room.read_image\n"
        "def trapped(path, *rest, **more):\n"
        "    if str(path).endswith('7.png'):\n"
        "        os.abort()\n"
        "    return real(path, *rest, **more)\n"
        "room.read_image = trapped\n"
    )
    path = os.pathsep.join([str(tmp_path), str(ROOT / "src")])
    done = run("--inputs", "140", "--bundles", "1", env={**os.environ, "PYTHONPATH": path})
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-2000:]
    assert "SIGABRT" in done.stdout
