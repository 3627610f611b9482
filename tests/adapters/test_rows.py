"""From answers to a score table: every trial of the key is a row, contradictions are errors."""

import numpy as np
import pytest

from deepassay.adapters.asvspoof import read_key, read_scores
from deepassay.adapters.rows import Trial, aligned, opened, to_table
from deepassay.errors import ScoreError
from deepassay.scores import ScoreTable


def answers(folder, text, name="scores.txt"):
    path = folder / name
    path.write_text(text)
    return read_scores(path)


KEY = {
    "a": Trial(label=0, cluster="s1"),
    "b": Trial(label=1, cluster="s1", generator="A07"),
    "c": Trial(label=1, cluster="s2", generator="A08"),
}


def test_missing_and_extra_trials(tmp_path):
    table, notes = to_table(answers(tmp_path, "a 1\nb -2\nz 5\n"), KEY)
    assert table.column("sample_id").tolist() == ["a", "b", "c"]
    assert table.column("status").tolist() == ["ok", "ok", "error"]
    assert table.column("reason").tolist()[2] == "not in the score file"
    assert np.isnan(table.column("score")[2])
    assert table.column("score")[:2].tolist() == [-1.0, 2.0]
    assert table.column("label").tolist() == [0, 1, 1]
    assert table.column("cluster").tolist() == ["s1", "s1", "s2"]
    assert table.column("generator").tolist() == ["", "A07", "A08"]
    assert "1 of 3 trials of the key are not in the score file" in notes[0]
    assert "1 scored trials are not in the key" in notes[1]
    assert table.meta["higher_in_file"] == "real"


def test_table_survives_writing(tmp_path):
    table, _ = to_table(answers(tmp_path, "a 1\nb -2\nc 3\n"), KEY, name="mine", llr=True)
    table.write(tmp_path / "table.parquet")
    again = ScoreTable.read(tmp_path / "table.parquet")
    assert again.hash == table.hash
    assert again.meta["detector"] == "mine"
    assert again.column("llr").tolist() == [-1.0, 2.0, -3.0]


def test_contradictions_are_errors(tmp_path):
    with pytest.raises(ScoreError, match="no label"):
        to_table(answers(tmp_path, "a 1\nb 2\n"))
    with pytest.raises(ScoreError, match="none of its 2 trials is in the key"):
        to_table(answers(tmp_path, "x 1\ny 2\n"), KEY)
    with pytest.raises(ScoreError, match="labelled one way"):
        to_table(answers(tmp_path, "a A07 spoof 1\nb A07 spoof 2\n"), KEY)
    with pytest.raises(ScoreError, match="no trial has a score"):
        to_table(answers(tmp_path, "a -\nb -\n"), KEY)


def test_key_and_score_file_fill_each_other(tmp_path):
    (tmp_path / "key.txt").write_text("filename\tcm-label\na\tbonafide\nb\tspoof\n")
    table, _ = to_table(answers(tmp_path, "S1 a 1 bonafide\nS2 b 2 spoof\n"), read_key(tmp_path / "key.txt"))
    assert table.column("cluster").tolist() == ["S1", "S2"]


def test_aligned_tables_share_trials_in_one_order(tmp_path):
    one, _ = to_table(answers(tmp_path, "a 1\nb 2\nc 3\n"), KEY)
    two, _ = to_table(answers(tmp_path, "c 30\na 10\n"), {k: KEY[k] for k in ("c", "a")})
    (first, second), notes = aligned([one, two])
    assert first.column("sample_id").tolist() == second.column("sample_id").tolist() == ["a", "c"]
    assert second.column("score").tolist() == [-10.0, -30.0]
    assert "1 of 3 trials" in notes[0]
    other, _ = to_table(answers(tmp_path, "a 1\nb 2\n"), {"a": Trial(label=0, cluster="elsewhere"), "b": KEY["b"]})
    with pytest.raises(ScoreError, match="agree on the cluster"):
        aligned([one, other])
    apart, _ = to_table(answers(tmp_path, "y 1\nz 2\n"), {"y": Trial(label=0), "z": Trial(label=1)})
    with pytest.raises(ScoreError, match="no trial in common"):
        aligned([one, apart])


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ScoreError, match="not a readable text"), opened(tmp_path / "x") as stream:
        stream.read()
    (tmp_path / "y").write_bytes(b"\x1f\x8bbroken")
    with pytest.raises(ScoreError, match="not a readable text"), opened(tmp_path / "y") as stream:
        stream.read()
    with pytest.raises(ScoreError, match="no such file"), opened(tmp_path / "nowhere") as stream:
        stream.read()
