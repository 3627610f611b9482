"""Tables with a header: named columns, explicit polarity, label words."""

import pytest

from deepassay.adapters.csv_scores import Columns, read_csv_key, read_csv_scores
from deepassay.errors import ScoreError

TEXT = "utt,who,attack,truth,one,two\na,s1,-,bonafide,1.5,0\nb,s2,A07,spoof,-2,3\nc,s2,A08,spoof,,1\n"
COLUMNS = Columns(id="utt", score="one", label="truth", cluster="who", generator="attack", attributes=("two",))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text(TEXT)
    return path


def test_polarity_is_never_guessed(file):
    with pytest.raises(ScoreError, match="not known what a higher score means"):
        read_csv_scores(file, COLUMNS, higher=None)
    with pytest.raises(ScoreError, match="cannot mean 'spoof'"):
        read_csv_scores(file, COLUMNS, higher="spoof")
    (real,) = read_csv_scores(file, COLUMNS, higher="real")
    (fake,) = read_csv_scores(file, COLUMNS, higher="fake")
    assert real.scores == {"a": -1.5, "b": 2.0, "c": None}
    assert fake.scores == {"a": 1.5, "b": -2.0, "c": None}


def test_named_columns(file):
    (answers,) = read_csv_scores(file, COLUMNS, higher="real")
    trial = answers.trials["b"]
    assert (trial.label, trial.cluster, trial.generator, trial.attributes) == (1, "s2", "A07", {"two": "3"})
    assert answers.trials["a"].generator == ""
    for columns, kind in ((Columns(id="utt", score="three"), "score"), (Columns(id="x", score="one"), "id")):
        with pytest.raises(ScoreError, match=f"for the {kind}"):
            read_csv_scores(file, columns, higher="real")


def test_several_systems_in_one_pass(file):
    one, two = read_csv_scores(file, COLUMNS, higher="fake", systems=["one", "two"])
    assert one.scores["b"] == -2.0
    assert two.scores == {"a": 0.0, "b": 3.0, "c": 1.0}


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_delimiters_and_byte_order_marks(tmp_path, delimiter):
    path = tmp_path / "x.tsv"
    path.write_text(TEXT.replace(",", delimiter), encoding="utf-8-sig")
    (answers,) = read_csv_scores(path, COLUMNS, higher="fake")
    assert answers.scores["a"] == 1.5


def test_numbers_as_labels_need_a_map(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("sample_id,score,label\na,1,0\nb,2,1\n")
    columns = Columns(label="label")
    with pytest.raises(ScoreError, match="neither real nor fake"):
        read_csv_scores(path, columns, higher="fake")
    (answers,) = read_csv_scores(path, columns, higher="fake", label_words={"0": "fake", "1": "real"})
    assert (answers.trials["a"].label, answers.trials["b"].label) == (1, 0)
    with pytest.raises(ScoreError, match="mapped to 'spoof'"):
        read_csv_scores(path, columns, higher="fake", label_words={"0": "spoof"})


def test_line_numbers_as_ids(file):
    (answers,) = read_csv_scores(file, Columns(id="", score="two", label="truth"), higher="fake")
    assert list(answers.scores) == ["line 2", "line 3", "line 4"]


def test_bad_tables(tmp_path):
    path = tmp_path / "x.csv"
    for text, message in (
        ("1.0\n2.0\n", "no header"),
        ("sample_id,score\n,1\n", "has no id"),
        ("sample_id,score\na,high\n", "not a number"),
        ("sample_id,score\n", "holds no trial"),
        ("sample_id,score\na,1\na,2\n", "occurs again"),
    ):
        path.write_text(text)
        with pytest.raises(ScoreError, match=message):
            read_csv_scores(path, Columns(), higher="fake")


def test_keys_as_tables(file):
    key = read_csv_key(file, COLUMNS)
    assert (key["c"].label, key["c"].generator) == (1, "A08")
    with pytest.raises(ScoreError, match="needs an id and a label"):
        read_csv_key(file, Columns(id="utt"))
    file.write_text(TEXT + "a,s1,-,spoof,1,1\n")
    with pytest.raises(ScoreError, match="two keys"):
        read_csv_key(file, COLUMNS)
