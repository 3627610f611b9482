"""The law of polarity: words become REAL = 0 and FAKE = 1, unknown words and bare numbers are refused."""

import pickle

import pytest

from deepassay.errors import AssayError, ManifestError
from deepassay.labels import FAKE, LABEL_WORDS, REAL, Status, Unusable, parse_label


@pytest.mark.parametrize(
    ("word", "label"),
    [("real", REAL), (" Bona-Fide ", REAL), ("bonafide", REAL), ("GENUINE", REAL), ("fake", FAKE), ("spoof", FAKE)],
)
def test_words_of_public_corpora(word, label):
    assert parse_label(word) == label
    assert LABEL_WORDS[label] == ("real", "fake")[label]


@pytest.mark.parametrize("word", [None, "", "   "])
def test_blank_is_unlabelled_not_real(word):
    assert parse_label(word) is None


@pytest.mark.parametrize("word", ["0", "1", "-1", "1.0"])
def test_numbers_are_refused_because_corpora_disagree(word):
    with pytest.raises(ManifestError, match="hint: map it explicitly"):
        parse_label(word)


def test_an_unknown_word_is_named_with_its_place_and_remedy():
    with pytest.raises(ManifestError, match=r"list.csv, line 7: unknown label word 'dunno'\nhint: .*label_words"):
        parse_label("dunno", where="list.csv, line 7")


def test_unusable_carries_a_status_that_is_no_answer():
    error = Unusable(Status.NO_FACE, "nobody in the picture")
    again = pickle.loads(pickle.dumps(error))
    assert (again.status, again.reason) == (Status.NO_FACE, "nobody in the picture")
    with pytest.raises(ValueError, match="ok"):
        Unusable(Status.OK, "fine")


def test_errors_survive_worker_processes_with_their_hint():
    again = pickle.loads(pickle.dumps(ManifestError("what", hint="do this")))
    assert isinstance(again, AssayError)
    assert str(again) == "what\nhint: do this"
