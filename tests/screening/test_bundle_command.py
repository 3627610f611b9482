"""`deepassay bundle` and `deepassay journal`: what they print, and their exit codes."""

import argparse
import json
from dataclasses import replace

import numpy as np
import pytest

from deepassay.errors import BundleError, ConfigError
from deepassay.screening import bundle_command, journal
from deepassay.screening.bundle import write_bundle


def run(*words: object) -> int:
    parser = argparse.ArgumentParser()
    bundle_command.add_arguments(parser)
    return bundle_command.main(parser.parse_args([str(word) for word in words]))


@pytest.fixture
def pair(tmp_path, square, bundle_parts):
    from PIL import Image

    parts = bundle_parts(square)
    write_bundle(tmp_path / "old", **parts)
    points = [replace(parts["operating_points"][0], threshold=0.2)]
    write_bundle(tmp_path / "new", **{**parts, "operating_points": points})
    (tmp_path / "in").mkdir()
    for level in (0, 60, 150, 250):
        Image.fromarray(np.full((64, 64, 3), level, np.uint8)).save(tmp_path / "in" / f"{level:03}.png")
    return tmp_path


def test_show_says_what_a_decision_means(pair, capsys):
    assert run("show", pair / "old") == 0
    text = capsys.readouterr().out
    for part in ("stand-in face", "SYNTHETIC", "squares and noises", "bpcer_5", "UNDER-POWERED: needs 300",
                 "at most this share is right", "Apache-2.0"):  # fmt: skip
        assert part in text
    run("show", pair / "old", "--json")
    assert json.loads(capsys.readouterr().out)["name"] == "stand-in face"


def test_verify_accepts_the_bundle_and_refuses_another(pair, capsys):
    assert run("verify", pair / "old") == 0
    identity = capsys.readouterr().out.split("identity ")[1].split()[0]
    assert run("verify", pair / "old", "--sha256", identity) == 0
    with pytest.raises(BundleError, match="not "):
        run("verify", pair / "new", "--sha256", identity)
    (pair / "old" / "card.md").write_text("another")
    with pytest.raises(BundleError, match=r"card\.md was altered"):
        run("verify", pair / "old")


def test_diff_names_the_files_that_flip(pair, capsys):
    assert run("diff", pair / "old", pair / "new", pair / "in") == 1
    text = capsys.readouterr().out
    assert "150.png: fake -> no evidence of manipulation" in text
    assert "4 files, 1 decisions flip at bpcer_5" in text
    assert run("diff", pair / "old", pair / "old", pair / "in", "--format", "jsonl") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["old"] for row in rows] == [row["new"] for row in rows]
    assert rows[0]["old"] == "abstain"


def test_diff_of_two_modalities_makes_no_sense(pair, loud, bundle_parts):
    write_bundle(pair / "voice", **bundle_parts(loud))
    with pytest.raises(ConfigError, match="judges"):
        run("diff", pair / "old", pair / "voice", pair / "in")


def test_the_journal_verb_tells_valid_from_not(tmp_path, capsys):
    def check(*words):
        parser = argparse.ArgumentParser()
        journal.add_arguments(parser)
        return journal.main(parser.parse_args([str(word) for word in words]))

    book = journal.Journal(tmp_path / "j", sync=False)
    for i in range(3):
        book.append({"i": i})
    assert check("verify", tmp_path / "j") == 0
    assert "valid, 3 records" in capsys.readouterr().out
    assert check("head", tmp_path / "j") == 0
    head = capsys.readouterr().out.strip()
    assert check("verify", tmp_path / "j", "--head", head) == 0
    (tmp_path / "j").write_bytes((tmp_path / "j").read_bytes().replace(b'"i":1', b'"i":7'))
    capsys.readouterr()
    assert check("verify", tmp_path / "j") == 1
    assert "line 3: changed" in capsys.readouterr().out
