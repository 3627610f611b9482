"""`deepassay screen`: one JSON line per file on stdout, the batch goes on, the exit code tells; and it stays light."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepassay.errors import BundleError, ConfigError
from deepassay.screening import command
from deepassay.screening.bundle import write_bundle


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.main(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def box(tmp_path, monkeypatch, square, bundle_parts) -> Path:
    from PIL import Image

    write_bundle(tmp_path / "face", **bundle_parts(square))
    (tmp_path / "in").mkdir()
    for name, level in (("a_light.png", 250), ("b_dim.png", 60)):
        Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(tmp_path / "in" / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_line_per_file_in_order_and_nothing_else_on_stdout(box, capfd):
    assert run("in", "--bundle", "face") == 0
    out, err = capfd.readouterr()
    rows = lines(out)
    assert [(row["path"], row["decision"]) for row in rows] == [
        ("in/a_light.png", "fake"),
        ("in/b_dim.png", "no evidence of manipulation"),
    ]
    assert set(rows[0]) == {
        "path", "modality", "media", "status", "reason", "decision", "llr", "score", "posterior", "prior",
        "operating_point", "timeline", "n_views", "n_tracks", "bundle", "detector", "synthetic", "warnings", "seconds",
    }  # fmt: skip
    assert rows[0]["operating_point"]["name"] == "bpcer_5"
    assert err.strip() == "2 files: 1 fake, 1 no evidence of manipulation"


def test_a_bad_file_does_not_stop_the_batch_and_the_exit_code_tells(box, capfd):
    (box / "in" / "a.mp4").write_text("no film")
    (box / "in" / "empty").mkdir()
    assert run("gone.jpg", "in", "--bundle", "face", "--prior", "0.5") == 3
    out, err = capfd.readouterr()
    rows = lines(out)
    assert [(row["path"], row["status"]) for row in rows] == [
        ("gone.jpg", "error"),
        ("in/a.mp4", "undecodable"),
        ("in/a_light.png", "ok"),
        ("in/b_dim.png", "ok"),
        ("in/empty", "error"),
    ]
    assert all(row["reason"] for row in rows if row["status"] != "ok")
    assert rows[2]["prior"] == 0.5
    assert 0.5 < rows[2]["posterior"] < 1
    assert "3 abstain" in err
    assert "(2 error, 1 undecodable)" in err


def test_flags_change_the_exit_code_only_when_asked(box, capfd):
    assert run("in", "--bundle", "face", "--fail-on-fake", "--quiet") == 4
    assert run("in/b_dim.png", "--bundle", "face", "--fail-on-fake", "--quiet") == 0
    assert run("in", "gone", "--bundle", "face", "--fail-on-fake", "--quiet") == 4
    assert capfd.readouterr().err == ""


def test_bundles_and_settings_that_cannot_be_used_are_errors_before_any_line(box, capfd):
    with pytest.raises(BundleError, match="no such bundle"):
        run("in", "--bundle", "nowhere", "--output", "out.jsonl")
    with pytest.raises(BundleError, match="no operating point"):
        run("in", "--bundle", "face", "--operating-point", "eer")
    (box / "list").write_text("\n")
    with pytest.raises(ConfigError, match="name no file"):
        run("@list", "--bundle", "face")
    with pytest.raises(ConfigError, match="cannot be written"):
        run("in", "--bundle", "face", "--output", "no/such/folder/out.jsonl")
    with pytest.raises(ConfigError, match="--threads 0"):
        run("in", "--bundle", "face", "--threads", 0)
    assert capfd.readouterr().out == ""
    assert not list(box.glob("out*"))


def test_output_appears_under_its_name_only_when_it_is_whole(box, capfd, monkeypatch):
    assert run("in", "--bundle", "face", "--output", "out.jsonl") == 0
    assert len(lines((box / "out.jsonl").read_text())) == 2
    assert capfd.readouterr().out == ""
    from deepassay.screening.screener import Screener

    judge = Screener.screen

    def interrupted(self, path):
        if "dim" in str(path):
            raise KeyboardInterrupt
        return judge(self, path)

    monkeypatch.setattr(Screener, "screen", interrupted)
    (box / "out.jsonl").unlink()
    with pytest.raises(KeyboardInterrupt):
        run("in", "--bundle", "face", "--output", "out.jsonl")
    assert not (box / "out.jsonl").exists()
    assert [row["path"] for row in lines((box / "out.jsonl.part").read_text())] == ["in/a_light.png"]
    assert "the lines so far are in out.jsonl.part" in capfd.readouterr().err


def test_table_is_for_people(box, capfd):
    run("in", "gone\x1b31m.jpg", "--bundle", "face", "--format", "table")
    head, light, dim, gone = capfd.readouterr().out.splitlines()
    assert head.split() == ["decision", "llr", "modality", "status", "path"]
    assert light.split() == ["fake", "0.48", "face", "ok", "in/a_light.png"]
    assert dim.startswith("no evidence of manipulation")
    assert "no such file" in gone
    assert "\x1b" not in gone


def test_names_that_are_no_text_stay_valid_json(box, capfd):
    odd = os.fsdecode(b"in/caf\xe9 \xff.png")
    try:
        os.rename("in/b_dim.png", odd)
    except OSError:
        pytest.skip("this file system refuses such names")
    run("in", "--bundle", "face")
    out = capfd.readouterr().out
    out.encode("ascii", "strict")
    assert [row["path"] for row in lines(out)][1] == odd


HEAVY = ("torch", "lightning", "pyarrow", "sklearn", "scipy", "hydra", "omegaconf", "matplotlib", "pydantic", "rich")


def loaded_after(code: str, folder: Path) -> set[str]:
    """Names of the heavy packages that a fresh process has loaded once the code has run."""
    end = f"\nimport sys, json\nprint(json.dumps(sorted({set(HEAVY)!r} & set(sys.modules))))"
    done = subprocess.run([sys.executable, "-c", code + end], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


SCREEN = """
import sys
sys.path.insert(0, {tests!r})
import conftest as stand_ins
import deepassay.modality.contract
deepassay.modality.contract.modality_from_contract = lambda values, folder: stand_ins.Square(folder, values["limit"])
from deepassay.cli import main
assert main(["screen", "in", "--bundle", "face", "--quiet"]) == 0
"""


def test_screening_never_loads_torch_or_anything_heavy(box):
    code = SCREEN.format(tests=str(Path(__file__).parent))
    assert loaded_after(code, box) == set()


def test_canary_the_check_above_sees_a_heavy_import(box):
    code = SCREEN.format(tests=str(Path(__file__).parent)) + "\nimport deepassay.scores"
    assert "pyarrow" in loaded_after(code, box)


def test_the_help_explains_exit_codes(capsys):
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    command.add_arguments(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    said = capsys.readouterr().out
    assert "exit codes:" in said
    assert "at least one file was not judged" in said
