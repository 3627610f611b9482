"""An outside detector behind a command: allowed by hand only, one answer per file."""

import sys
from pathlib import Path

import pytest

from deepassay.adapters.command import CommandDetector
from deepassay.errors import ConfigError, ScoreError
from deepassay.manifest import Manifest, Sample

PROGRAM = """
import csv, sys
files = sys.argv[1:] or [line.rstrip("\\n") for line in sys.stdin]
out = csv.writer(sys.stdout)
out.writerow(["path", "score"])
for file in files:
    text = open(file).read().strip()
    out.writerow([file, text])
"""


@pytest.fixture
def program(tmp_path) -> Path:
    path = tmp_path / "detector.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def manifest(tmp_path) -> Manifest:
    samples = []
    for name, text, label in (("a", "1.5", 0), ("b", "-2", 1), ("c", "", 1), ("d", "nan", 0)):
        (tmp_path / f"{name}, 1.wav").write_text(text)
        samples.append(Sample(sample_id=name, path=f"{name}, 1.wav", media="audio", modality="voice", label=label))
    return Manifest.from_samples(samples, tmp_path, {"name": "tiny"})


@pytest.mark.parametrize("inline", [True, False])
def test_every_sample_gets_a_row(program, manifest, inline):
    command = [sys.executable, str(program), *(["{files}"] if inline else [])]
    detector = CommandDetector(command=command, higher="real", allow_command=True, batch_size=3, name="theirs")
    table = detector.score_manifest(manifest, {"sealed": True})
    assert table.column("score")[:2].tolist() == [-1.5, 2.0]
    assert table.column("status").tolist() == ["ok", "ok", "error", "error"]
    assert table.column("reason").tolist()[2:] == ["the detector gave no score", "the detector said nan"]
    assert table.meta["detector"] == "theirs"
    assert table.meta["manifest_sha256"] == manifest.hash


def test_a_configuration_alone_may_not_start_programs(program, manifest):
    detector = CommandDetector(command=[sys.executable, str(program)], higher="fake")
    with pytest.raises(ConfigError, match="--allow-command"):
        detector.score_manifest(manifest)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import sys; print('boom', file=sys.stderr); sys.exit(3)", "ended with code 3: boom"),
        ("print('hello')", "no header"),
        ("print('path,score')", "1 of 1 files got no line"),
        ("print('path,score'); print('/elsewhere.wav,1')", "was not asked about"),
        ("import sys; f = sys.stdin.read().strip(); print('path,score'); print(f'\"{f}\",high')", "not a number"),
        ("import time; time.sleep(5)", "no answer within"),
    ],
)
def test_misbehaving_commands(tmp_path, body, message):
    (tmp_path / "x.wav").write_text("1")
    detector = CommandDetector(command=[sys.executable, "-c", body], higher="fake", allow_command=True, timeout_s=1.5)
    with pytest.raises(ScoreError, match=message):
        detector.score([tmp_path / "x.wav"])


def test_bad_settings(program):
    for wrong in ({"command": []}, {"command": "python detector.py"}, {"command": ["x"], "batch_size": 0}):
        with pytest.raises(ConfigError):
            CommandDetector(**{"higher": "fake", **wrong})
    with pytest.raises(ScoreError, match="cannot mean"):
        CommandDetector(command=["x"], higher="spoof")
    with pytest.raises(ScoreError, match="cannot be started"):
        CommandDetector(command=["/no/such/program"], higher="fake", allow_command=True).score([program])
