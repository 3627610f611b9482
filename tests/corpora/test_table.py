"""A user's own table: mapped columns, kept extras, and an error that names line, file and remedy for every mistake."""

import numpy as np
import pytest

from deepassay.corpora.table import TableCorpus
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL
from deepassay.media.sound import write_sound

GOOD = "file,label,who,tool,note\na.wav,bonafide,anna,,quiet\nsub/b.wav,spoof,anna;bea,VC-1,\nc.wav,real,,,\n"


@pytest.fixture
def root(tmp_path):
    (tmp_path / "sub").mkdir()
    for k, name in enumerate(("a.wav", "sub/b.wav", "c.wav")):
        write_sound(tmp_path / name, 0.1 * np.sin(np.arange(8000 + k) / 20).astype(np.float32), 16000)
    return tmp_path


def corpus(root, text=GOOD, **options) -> TableCorpus:
    (root / "list.csv").write_text(text)
    base = {
        "csv": str(root / "list.csv"), "modality": "voice", "subjects_separator": ";", "progress": False,
        "columns": {"path": "file", "subjects": "who", "generator": "tool"},
    }  # fmt: skip
    return TableCorpus(**{**base, **options})


def test_a_mapped_table_becomes_a_manifest(root):
    out = corpus(root, licence="CC0-1.0").prepare()
    a, b, c = out
    assert [s.label for s in out] == [REAL, FAKE, REAL]
    assert b.subjects == ("anna", "bea")
    assert b.generator == "VC-1"
    assert a.attributes == {"note": "quiet"}
    assert a.sample_id == "list/a.wav"
    assert b.sample_id == "list/sub/b.wav"
    assert c.cluster == c.sample_id, "a blank subject is its own source"
    assert {s.licence for s in out} == {"CC0-1.0"}
    assert (a.media, a.rate_hz, a.duration_s) == ("audio", 16000, 0.5)
    assert a.bytes == (root / "a.wav").stat().st_size
    assert len(a.sha256) == 64
    assert not out.synthetic


def test_contract_columns_need_no_mapping(root):
    head = "sample_id,path,media,modality,label,split,duration_s\n"
    text = head + "x,a.wav,audio,voice,real,dev,9.5\ny,c.wav,audio,voice,fake,test,\n"
    out = TableCorpus(csv=str(root / "list.csv"), progress=False)
    (root / "list.csv").write_text(text)
    out = out.prepare()
    assert [s.sample_id for s in out] == ["x", "y"]
    assert [s.split for s in out] == ["dev", "test"]
    assert out[0].duration_s == 9.5, "what the table says stands"


def test_constants_fill_what_is_missing_but_never_give_a_real_sample_a_generator(root):
    text = "file,label\na.wav,real\nc.wav,fake\n"
    out = corpus(root, text, columns={"path": "file"}, constants={"generator": "Tool 2", "channel": "phone"}).prepare()
    assert [s.generator for s in out] == ["", "Tool 2"]
    assert {s.channel for s in out} == {"phone"}


def test_numbers_as_labels_need_to_be_mapped(root):
    text = "file,label\na.wav,1\nc.wav,0\n"
    with pytest.raises(ManifestError, match="line 2: '1' is a number"):
        corpus(root, text, columns={"path": "file"}).prepare()
    out = corpus(root, text, columns={"path": "file"}, label_words={"1": "real", "0": "fake"}).prepare()
    assert [s.label for s in out] == [REAL, FAKE]


def test_unlabelled_tables_are_for_scoring(root):
    text = "file\na.wav\nc.wav\n"
    with pytest.raises(ManifestError, match="nothing gives label"):
        corpus(root, text, columns={"path": "file"}).prepare()
    out = corpus(root, text, columns={"path": "file"}, labelled=False).prepare()
    assert [s.label for s in out] == [None, None]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("spoof", "unsure"), "line 3: unknown label word 'unsure'"),
        (GOOD.replace("spoof", ""), "line 3: no label"),
        (GOOD + "a.wav,real,,,\n", "'list/a.wav' stands in line 2 and in line 5"),
        (GOOD.replace("spoof", "real").replace("VC-1", ""), "there is no fake sample"),
        (GOOD.replace("bonafide", "fake").replace("c.wav,real", "c.wav,fake"), "there is no real sample"),
        (GOOD + "gone.wav,real,,,\nlost.wav,fake,,,\n", "2 of 5 files are missing below"),
        (GOOD + ",real,,,\n", "line 5: no path"),
        (GOOD + "../up.wav,real,,,\n", "up.wav"),
        (GOOD.replace("c.wav", "c.xyz"), "line 4: 'c.xyz' has an extension"),
        (GOOD.replace("tool", "system"), "there is no column 'tool'"),
        (GOOD + "a.wav,real,x,,note,more\n", "line 5: more cells than columns"),
        (GOOD.replace("real,,,", "real,,VC-9,"), "is real but names generator 'VC-9'"),
        ("file,label,who,tool\n", "the table has no rows"),
        ("", "the file is empty"),
    ],
)
def test_every_mistake_has_its_place_and_remedy(root, text, said):
    with pytest.raises(ManifestError) as caught:
        corpus(root, text).prepare()
    assert said in str(caught.value)
    assert "\nhint: " in str(caught.value)


def test_missing_files_are_listed_or_dropped_and_counted(root):
    text = GOOD + "gone.wav,real,,,\n"
    with pytest.raises(ManifestError, match=r"gone\.wav\nhint: .*missing_files=drop"):
        corpus(root, text).prepare()
    out = corpus(root, text, missing_files="drop").prepare()
    assert len(out) == 3
    assert out.info["dropped"] == {"missing file": 1}
    with pytest.raises(ManifestError, match="none of the 3 files"):
        corpus(root, GOOD.replace(".wav", ".mp3"), missing_files="drop").prepare()


def test_no_table_at_all(tmp_path):
    with pytest.raises(ManifestError, match="no such table"):
        TableCorpus(csv=str(tmp_path / "x.csv"), modality="face").prepare()


def test_a_file_with_a_broken_header_stays_in_the_manifest(root):
    (root / "a.wav").write_text("this is text")
    out = corpus(root).prepare()
    assert len(out) == 3
    assert out.info["unreadable_headers"] == 1
    assert out[0].duration_s is None


def test_the_table_is_looked_for_below_the_root_first(root):
    (root / "list.csv").write_text(GOOD)
    out = TableCorpus(
        csv="list.csv",
        root=str(root),
        modality="voice",
        columns={"path": "file", "subjects": "who", "generator": "tool"},
        subjects_separator=";",
        progress=False,
    ).prepare()
    assert len(out) == 3


@pytest.mark.parametrize(
    "options",
    [
        {"columns": {"pfad": "file"}}, {"constants": {"attributes": "x"}}, {"missing_files": "ignore"},
        {"modality": "gait"}, {"label_words": {"1": "true"}},
    ],
)  # fmt: skip
def test_options_that_do_not_exist_are_refused(root, options):
    with pytest.raises(ConfigError, match="hint: "):
        corpus(root, **options)
