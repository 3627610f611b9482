"""Lists of voice corpora: widths, headers, delimiters; what does not fit is named with its line."""

import pytest

from deepassay.corpora.inventory import Inventory
from deepassay.corpora.voice_lists import (
    KEYS,
    Trial,
    attack_of,
    attributes,
    by_name,
    count_classes,
    label_of,
    present,
    rows,
    table,
)
from deepassay.labels import FAKE, REAL


@pytest.fixture
def inventory(tmp_path):
    return Inventory("corpus", tmp_path, allow_partial=True, progress=False)


def problems(inventory):
    return inventory.finish()["problems"]


def test_rows_of_two_widths_with_a_header(inventory):
    (inventory.root / "list.txt").write_text("\ufeffHEAD x\n\na b\na b c\na b c d\n")
    assert list(rows(inventory, "list.txt", 2, 3, header="HEAD")) == [(3, ["a", "b"]), (4, ["a", "b", "c"])]
    assert problems(inventory) == ["unparsable: list.txt, line 5: 4 columns instead of 2 or 3"]


def test_tables_by_column_name(inventory):
    (inventory.root / "t.csv").write_text('file,speaker\n1.wav,"A, B"\n2.wav\n')
    assert list(table(inventory, "t.csv", ["speaker"])) == [(2, {"file": "1.wav", "speaker": "A, B"})]
    assert list(table(inventory, "t.csv", ["label"])) == []
    assert list(table(inventory, "none.csv", ["label"])) == []
    assert problems(inventory) == [
        "missing: list none.csv", "unparsable: t.csv, line 3: 1 columns instead of 2",
        "unparsable: t.csv, line 1: columns ['label'] are missing, it has ['file', 'speaker']",
    ]  # fmt: skip


def test_unquoted_tables_keep_their_quotes(inventory):
    (inventory.root / "t.tsv").write_text('path\tsentence\na.mp3\tHe said "no\nb.mp3\tYes\n')
    rows_ = table(inventory, "t.tsv", ["path"], delimiter="\t", quoted=False)
    assert [row["sentence"] for _, row in rows_] == ['He said "no', "Yes"]


def test_labels_and_attacks_must_agree(inventory):
    assert label_of(inventory, "BonaFide", KEYS, "l", 1) == REAL
    assert label_of(inventory, "1", KEYS, "l", 2) is None
    assert attack_of(inventory, REAL, "-", "l", 3) == ""
    assert attack_of(inventory, FAKE, "A01", "l", 4) == "A01"
    assert attack_of(inventory, REAL, "A01", "l", 5) is None
    assert attack_of(inventory, FAKE, "bonafide", "l", 6) is None
    assert [p.split(":")[1] for p in problems(inventory)] == [" l, line 2", " l, line 5", " l, line 6"]


def test_files_against_trials(inventory):
    files = by_name(inventory, ["x/a.wav", "y/a.wav", "x/b.wav", "x/e.wav"], what="corpus")
    trials = [Trial("a", REAL), Trial("b", FAKE), Trial("c", FAKE), Trial("a", REAL)]
    there = present(inventory, trials, files, at="x/{}.wav".format, what="corpus")
    assert [(path, trial.name) for path, trial in there] == [("x/a.wav", "a"), ("x/b.wav", "b")]
    assert problems(inventory) == [
        "extra: corpus: y/a.wav has the name of x/a.wav", "extra: corpus: x/e.wav", "missing: corpus: x/c.wav",
        "unparsable: corpus: x/a.wav is listed twice",
    ]  # fmt: skip


def test_counts_and_attributes(inventory):
    count_classes(inventory, "train", [REAL, FAKE, FAKE], {"train bona fide": 1, "train spoofed": 3})
    record = inventory.finish()
    assert record["totals"] == {"train bona fide": 1, "train spoofed": 2}
    assert record["problems"] == ["count: train spoofed: 2 found, 3 published"]
    assert attributes(a="x", b="", c="-", d=None) == {"a": "x"}
