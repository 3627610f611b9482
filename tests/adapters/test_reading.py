"""One door for every format."""

import pytest

from deepassay.adapters.csv_scores import Columns
from deepassay.adapters.reading import read_key, read_scores, several, sniff
from deepassay.errors import ScoreError

LABELLED = "E_1 - bonafide 2.5\nE_2 A07 spoof -1.5\n"


def test_formats_are_told_from_the_file(tmp_path):
    (tmp_path / "la.txt").write_text(LABELLED)
    (tmp_path / "t.csv").write_text("sample_id,score,label\na,1,real\nb,2,fake\n")
    (tmp_path / "t.tsv").write_text("sample_id\tscore\tlabel\na\t1\treal\nb\t2\tfake\n")
    assert [sniff(tmp_path / n) for n in ("la.txt", "t.csv", "t.tsv")] == ["asvspoof", "csv", "csv"]
    ((table, _),) = read_scores(tmp_path / "la.txt")
    table.write(tmp_path / "t.parquet")
    assert sniff(tmp_path / "t.parquet") == "deepassay"
    ((again, notes),) = read_scores(tmp_path / "t.parquet")
    assert again.hash == table.hash
    assert notes == []
    for name in ("t.csv", "t.tsv"):
        ((other, _),) = read_scores(tmp_path / name, columns=Columns(label="label"), higher="fake", name="mine")
        assert other.column("label").tolist() == [0, 1]
        assert other.meta["detector"] == "mine"


def test_our_own_tables_keep_their_polarity_and_labels(tmp_path):
    (tmp_path / "la.txt").write_text(LABELLED)
    ((table, _),) = read_scores(tmp_path / "la.txt")
    table.write(tmp_path / "t.parquet")
    with pytest.raises(ScoreError, match="grow with fake"):
        read_scores(tmp_path / "t.parquet", higher="real")
    (tmp_path / "key.txt").write_text("S E_1 - A01 spoof\nS E_2 - A07 spoof\n")
    with pytest.raises(ScoreError, match="another label in the key"):
        read_scores(tmp_path / "t.parquet", key=read_key(tmp_path / "key.txt"))
    (tmp_path / "key.txt").write_text("S E_1 - - bonafide\nS E_2 - A07 spoof\n")
    ((_, notes),) = read_scores(tmp_path / "t.parquet", key=read_key(tmp_path / "key.txt"))
    assert "key agrees" in notes[0]


def test_refusals(tmp_path):
    (tmp_path / "la.txt").write_text(LABELLED)
    with pytest.raises(ScoreError, match="no score format 'npz'"):
        read_scores(tmp_path / "la.txt", format="npz")
    with pytest.raises(ScoreError, match="holds one system"):
        read_scores(tmp_path / "la.txt", systems=["a", "b"])
    with pytest.raises(ScoreError, match="no such file"):
        sniff(tmp_path / "nowhere")


def test_keys_of_any_kind(tmp_path):
    (tmp_path / "key.csv").write_text("id,truth\na,real\nb,fake\n")
    key = read_key(tmp_path / "key.csv", columns=Columns(id="id", label="truth"))
    assert key["b"].label == 1
    (tmp_path / "key.txt").write_text("S E_1 - - bonafide\n")
    assert read_key(tmp_path / "key.txt")["E_1"].cluster == "S"


def test_short_names():
    assert several(["x/a.txt", "y/b.csv.gz"]) == ["a", "b"]
    assert several(["x/a.txt", "y/a.txt"]) == ["x/a.txt", "y/a.txt"]
