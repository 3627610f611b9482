"""DFADD's door: folders are systems and parts, the VCTK utterance ties fake and real."""

import pytest

from deepassay.corpora.dfadd import DFADD, FOLDERS
from deepassay.errors import ManifestError
from deepassay.labels import FAKE, REAL


@pytest.fixture
def copy(tmp_path, monkeypatch):
    for folder in FOLDERS:
        for part, reader in (("train", "p226"), ("valid", "p225"), ("test", "p227")):
            (tmp_path / folder / part).mkdir(parents=True)
            name = f"{reader}_001.wav" if "BONAFIDE" in folder else f"{reader}_001_{folder[8:]}.flac"
            (tmp_path / folder / part / name).touch()
    monkeypatch.setattr(DFADD, "published_counts", {k: 1 for k in DFADD.published_counts})
    return tmp_path


def test_folders_become_samples(copy):
    manifest = DFADD(root=str(copy), progress=False).prepare()
    assert manifest.counts() == {s: {"real": 1, "fake": 5, "unlabelled": 0} for s in ("train", "dev", "test")}
    assert {s.label for s in manifest if "BONAFIDE" in s.path} == {REAL}
    assert {s.generator_family for s in manifest if s.label == FAKE} == {"diffusion TTS", "flow-matching TTS"}
    assert {(s.cluster, s.source_id) for s in manifest if s.split == "test"} == {("p227", "p227_001")}


def test_what_is_wrong_is_named(copy):
    (copy / "DATASET_GradTTS/valid/p225_001_GradTTS.flac").rename(copy / "DATASET_GradTTS/test/p227_002_G.flac")
    (copy / "DATASET_Other").mkdir()
    (copy / "DATASET_Other/x.wav").touch()
    with pytest.raises(ManifestError, match="no file in DATASET_GradTTS/valid") as caught:
        DFADD(root=str(copy), progress=False).prepare()
    assert "DATASET_GradTTS test: 2 found, 1 published" in str(caught.value)
    assert "extra: dfadd: DATASET_Other/x.wav" in str(caught.value)
