"""MLAAD's door: systems with their lists, M-AILABS as the other side, sources that tie the two."""

import pytest

from deepassay.corpora.mlaad import MLAAD
from deepassay.errors import ManifestError
from deepassay.labels import FAKE, REAL

HEADER = "path|original_file|language|is_original_language|duration|training_data|model_name|architecture|transcript\n"
RECORDED = "en_UK/by_book/female/elizabeth_klett/jane_eyre/wavs/jane_eyre_01_f000001.wav"


def put(root, files):
    """Files with their text, or empty ones."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


def full(root):
    row = f'./fake/en/vits one/jane_eyre_01_f000001.wav|{RECORDED}|en|True|2|vctk|v|vits|"He said ""no""|twice"\n'
    other = f"./fake/de/bark/x_f2.wav;{RECORDED};de;False;1;;bark;bark;Ja\n"
    put(root, {
        "fake/en/vits one/meta.csv": HEADER + row,
        "fake/en/vits one/jane_eyre_01_f000001.wav": "",
        "fake/de/bark/meta.csv": HEADER.replace("|", ";") + other,
        "fake/de/bark/x_f2.wav": "",
        f"M-AILABS/{RECORDED}": "",
    })  # fmt: skip


def test_fakes_and_recordings_share_their_source(tmp_path):
    full(tmp_path)
    manifest = MLAAD(root=str(tmp_path), bona_fide="M-AILABS", version="9", progress=False).prepare()
    assert {s.source_id for s in manifest} == {"m-ailabs/jane_eyre_01_f000001"}
    fake = next(s for s in manifest if "vits" in s.path)
    assert (fake.label, fake.generator, fake.generator_family) == (FAKE, "MLAAD-vits one", "vits")
    assert (fake.attributes["training_data"], fake.attributes["release"]) == ("vctk", "9")
    real = next(s for s in manifest if s.label == REAL)
    assert (real.generator, real.subjects, real.attributes["gender"]) == ("", ("m-ailabs/elizabeth_klett",), "female")
    german = MLAAD(root=str(tmp_path), bona_fide=None, languages=["de"], progress=False).prepare()
    assert [s.generator for s in german] == ["MLAAD-bark"]


def test_the_bona_fide_side_is_left_out_only_when_asked(tmp_path):
    full(tmp_path)
    with pytest.raises(ManifestError, match=r"bona fide recordings \(M-AILABS\) below original \(bona_fide=null"):
        MLAAD(root=str(tmp_path), progress=False).prepare()


def test_missing_extra_and_unparsable_are_named(tmp_path):
    full(tmp_path)
    put(tmp_path, {"fake/en/vits one/meta.csv": HEADER + f"a.wav|{RECORDED}|en|True|1|v|m|a|t\nb.wav|short\n",
                   "fake/fr/new/y.wav": ""})  # fmt: skip
    with pytest.raises(ManifestError, match=r"missing: mlaad fake/en/vits one: fake/en/vits one/a\.wav") as caught:
        MLAAD(root=str(tmp_path), bona_fide=None, languages=["en", "fr", "xx"], progress=False).prepare()
    said = str(caught.value)
    assert "extra: mlaad fake/en/vits one: fake/en/vits one/jane_eyre_01_f000001.wav" in said
    assert "meta.csv, line 3: 2 columns instead of 9" in said
    assert "missing: list fake/fr/new/meta.csv" in said
    assert "no system below fake/xx" in said


def test_tiny_has_no_lists(tmp_path):
    put(tmp_path, {"fake/de/CaroTTS/Kanzlerin_03_f000019.wav": "", "original/de/Kanzlerin_03_f000019.wav": ""})
    manifest = MLAAD(root=str(tmp_path), lists=False, progress=False).prepare()
    assert [(s.label, s.source_id) for s in manifest] == [
        (FAKE, "m-ailabs/Kanzlerin_03_f000019"), (REAL, "m-ailabs/Kanzlerin_03_f000019"),
    ]  # fmt: skip
    assert {s.attributes["language"] for s in manifest} == {"de"}
