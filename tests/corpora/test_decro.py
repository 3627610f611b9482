"""DECRO's door: six lists, bona fide lines that name a parent corpus, ASVspoof's speakers in English."""

import pytest

from deepassay.corpora.decro import DECRO
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL

LISTS = {
    "en_train": ["LA_0001 LA_T_1 - - bonafide", "unknown vits_1 - vits spoof"],
    "en_dev": ["LA_0002 LA_D_1 - - bonafide", "LA_0002 n_1 - nvcnet spoof"],
    "en_eval": ["LA_0003 LA_E_1 - - bonafide", "unknown b_1 - baidu spoof"],
    "ch_train": ["G0019 T0055G0019S0420 - aidatatang bonafide", "unknown 2003 - baidu spoof"],
    "ch_dev": ["G0020 T0055G0020S0420 - aidatatang bonafide", "unknown 2004 - baidu spoof"],
    "ch_eval": ["S1 BAC1 - aishell1 bonafide", "unknown 2005 - baidu spoof"],
}


@pytest.fixture
def copy(tmp_path, monkeypatch):
    for part, lines in LISTS.items():
        (tmp_path / f"DECRO/{part}").mkdir(parents=True)
        (tmp_path / f"DECRO/{part}.txt").write_text(" \n".join(lines) + " \n")
        for line in lines:
            (tmp_path / f"DECRO/{part}/{line.split()[1]}.wav").touch()
    monkeypatch.setattr(DECRO, "published_counts", {k: 1 for k in DECRO.published_counts})
    return tmp_path


def test_lists_become_samples(copy):
    manifest = DECRO(root=str(copy), progress=False).prepare()
    assert manifest.counts() == {s: {"real": 2, "fake": 2, "unlabelled": 0} for s in ("train", "dev", "test")}
    chinese = next(s for s in manifest if s.path.endswith("T0055G0019S0420.wav"))
    assert (chinese.label, chinese.generator, chinese.subjects) == (REAL, "", ("aidatatang/G0019",))
    assert chinese.attributes == {"language": "zh", "parent": "aidatatang"}
    assert next(s for s in manifest if s.path.endswith("LA_T_1.wav")).subjects == ("LA_0001",)
    fakes = {s.generator: s for s in manifest if s.label == FAKE}
    assert set(fakes) == {"DECRO-vits", "DECRO-nvcnet", "DECRO-baidu"}
    assert (fakes["DECRO-nvcnet"].generator_family, fakes["DECRO-vits"].subjects) == ("VC", ())
    assert len(DECRO(root=str(copy), languages=["ch"], progress=False).prepare()) == 6


def test_exchanged_keys_are_caught(copy):
    listing = copy / "DECRO/en_train.txt"
    listing.write_text("LA_0001 LA_T_1 - - spoof\nunknown vits_1 - vits bonafide\n")
    with pytest.raises(ManifestError, match="spoofed, yet of no system"):
        DECRO(root=str(copy), progress=False).prepare()


def test_what_is_wrong_is_named(copy):
    (copy / "DECRO/ch_dev/2004.wav").rename(copy / "DECRO/ch_dev/2044.wav")
    (copy / "DECRO/en_eval.txt").write_text("LA_0003 LA_E_1 - bonafide\nunknown b_1 - baidu fake\n")
    (copy / "DECRO/en_dev.txt").unlink()
    with pytest.raises(ManifestError, match=r"missing: decro ch_dev: DECRO/ch_dev/2004\.wav") as caught:
        DECRO(root=str(copy), progress=False).prepare()
    said = str(caught.value)
    assert "extra: decro ch_dev: DECRO/ch_dev/2044.wav" in said
    assert "en_eval.txt, line 1: 4 columns instead of 5" in said
    assert "key 'fake' is none of" in said
    assert "missing: list en_dev.txt" in said
    assert "en_dev bona fide: 0 found, 1 published" in said
    with pytest.raises(ConfigError, match="language is 'zh'"):
        DECRO(root=str(copy), languages=["zh"])
