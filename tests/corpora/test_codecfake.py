"""The two CodecFake doors: codec and VCTK utterance by file name; lists of files, labels and codecs."""

import pytest

from deepassay.corpora.codecfake import CodecFakeWu, CodecfakeXie
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL


def put(root, files):
    """Files with their text, or empty ones."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


WU = {
    "processed/encodec_24khz+p272_103.wav": "", "processed/dac_16k+p272_103.wav": "",
    "VCTK/wav48_silence_trimmed/p272/p272_103_mic1.flac": "", "VCTK/wav48_silence_trimmed/p272/p272_103_mic2.flac": "",
}  # fmt: skip


def test_wu_ties_codecs_to_the_recording(tmp_path):
    put(tmp_path, WU)
    manifest = CodecFakeWu(root=str(tmp_path), progress=False).prepare()
    assert {(s.label, s.generator, s.cluster, s.source_id) for s in manifest} == {
        (REAL, "", "p272", "p272_103"), (FAKE, "CodecFake-encodec_24khz", "p272", "p272_103"),
        (FAKE, "CodecFake-dac_16k", "p272", "p272_103"),
    }  # fmt: skip
    assert len(manifest) == 3
    assert len(CodecFakeWu(root=str(tmp_path / "processed"), bona_fide=None, progress=False).prepare()) == 2


def test_wu_names_what_is_wrong(tmp_path):
    put(tmp_path, {"a+p1_001.wav": "", "a+p1_002.wav": "", "b+p1_001.wav": "", "stray.wav": ""})
    with pytest.raises(ManifestError, match="b: 1 files, another codec has 2 of the same set") as caught:
        CodecFakeWu(root=str(tmp_path), progress=False).prepare()
    assert "extra: codecfake_wu: stray.wav" in str(caught.value)
    assert "(VCTK) below VCTK (bona_fide=null indexes the fakes alone)" in str(caught.value)


XIE = {
    "label/train.txt": "SSB13650058.wav real 0\nF01_SSB13650058.wav fake 1\n",
    "train/SSB13650058.wav": "", "train/F01_SSB13650058.wav": "",
    "label/dev.txt": "F02_p258_054.wav fake 2\n", "val/F02_p258_054.wav": "",
    "label/C1.txt": "SSB13650058.wav real 0\n", "test/C1/SSB13650058.wav": "",
    "label/A1.txt": "x1.wav real L1\nx2.wav fake L1\n", "test/A1/x1.wav": "", "test/A1/x2.wav": "",
}  # fmt: skip
PARTS = ["train", "dev", "C1", "A1"]


@pytest.fixture
def copy(tmp_path, monkeypatch):
    put(tmp_path, XIE)
    counts = {**CodecfakeXie.published_counts, "train": 2, "dev": 1, "C1": 1, "A1": 2}
    monkeypatch.setattr(CodecfakeXie, "published_counts", counts)
    return tmp_path


def test_xie_parts_codecs_and_sources(copy):
    manifest = CodecfakeXie(root=str(copy), parts=PARTS, progress=False).prepare()
    assert {(s.label, s.generator, s.split) for s in manifest} == {
        (REAL, "", "train"), (FAKE, "Codecfake-F01", "train"), (FAKE, "Codecfake-F02", "dev"), (REAL, "", "test"),
        (FAKE, "Codecfake-A1", "test"),
    }  # fmt: skip
    assert {s.source_id for s in manifest if s.split == "train"} == {"SSB13650058"}
    assert next(s for s in manifest if s.split == "dev").subjects == ("p258",)
    assert {s.generator_family for s in manifest} == {"", "neural codec", "audio language model"}
    assert len({s.sample_id for s in manifest}) == len(manifest) == 6


def test_xie_exchanged_labels_are_caught(copy):
    put(copy, {"label/train.txt": "SSB13650058.wav fake 0\nF01_SSB13650058.wav real 1\n"})
    with pytest.raises(ManifestError, match="fake, yet of system '0'") as caught:
        CodecfakeXie(root=str(copy), parts=["train"], progress=False).prepare()
    assert "real, yet of codec '1'" in str(caught.value)


def test_xie_names_what_is_wrong(copy):
    put(copy, {"label/train.txt": "SSB13650058.wav real 0\nF09.wav fake 1\nbroken\n", "train/more.wav": ""})
    with pytest.raises(ManifestError, match=r"missing: codecfake_xie train: train/F09\.wav") as caught:
        CodecfakeXie(root=str(copy), parts=["train"], progress=False).prepare()
    said = str(caught.value)
    assert "extra: codecfake_xie train: train/more.wav" in said
    assert "train.txt, line 3: 1 columns instead of 3" in said
    assert "train: 3 found, 2 published" in said
    with pytest.raises(ConfigError, match="part is 'C8'"):
        CodecfakeXie(root=str(copy), parts=["C8"])
