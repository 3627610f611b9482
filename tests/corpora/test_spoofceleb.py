"""SpoofCeleb's door: three lists, attack a00 is bona fide, videos are sources."""

import pytest

from deepassay.corpora.spoofceleb import SpoofCeleb
from deepassay.errors import ManifestError
from deepassay.labels import FAKE, REAL

REAL_FILE, FAKE_FILE = "a00/id10318/YYsxcZ5saac-00002-006.flac", "a06/id10318/text_1.flac"


@pytest.fixture
def copy(tmp_path):
    for part in ("train", "development", "evaluation"):
        lines = ["file,speaker,attack", f"{REAL_FILE},id10318,a00", f"{FAKE_FILE},id10318,a06"]
        (tmp_path / "spoofceleb/metadata").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"spoofceleb/metadata/{part}.csv").write_text("\n".join(lines))
        for file in (REAL_FILE, FAKE_FILE):
            path = tmp_path / f"spoofceleb/flac/{part}/{file}"
            path.parent.mkdir(parents=True)
            path.touch()
    return tmp_path


@pytest.mark.parametrize("below", [".", "spoofceleb"])
def test_lists_become_samples(copy, below):
    manifest = SpoofCeleb(root=str(copy / below), progress=False).prepare()
    assert manifest.counts() == {s: {"real": 1, "fake": 1, "unlabelled": 0} for s in ("train", "dev", "test")}
    real = next(s for s in manifest if s.label == REAL)
    assert (real.generator, real.subjects, real.source_id) == ("", ("voxceleb1/id10318",), "voxceleb1/YYsxcZ5saac")
    fake = next(s for s in manifest if s.label == FAKE)
    assert (fake.generator, fake.generator_family, fake.source_id) == ("SpoofCeleb-a06", "TTS", "")


def test_exchanged_attacks_are_caught_by_their_folders(copy):
    listing = copy / "spoofceleb/metadata/train.csv"
    listing.write_text(f"file,speaker,attack\n{REAL_FILE},id10318,a06\n{FAKE_FILE},id10318,a00\n")
    with pytest.raises(ManifestError, match="lies in another attack's folder"):
        SpoofCeleb(root=str(copy), progress=False).prepare()


def test_what_is_wrong_is_named(copy, monkeypatch):
    monkeypatch.setattr(SpoofCeleb, "published_counts", {"evaluation spoofed": 2})
    (copy / f"spoofceleb/flac/train/{FAKE_FILE}").rename(copy / "spoofceleb/flac/train/a06/id10318/text_9.flac")
    (copy / "spoofceleb/metadata/development.csv").write_text(f"file,speaker,attack\n{REAL_FILE},id10318,bonafide\n")
    with pytest.raises(ManifestError, match=r"missing: spoofceleb train: .*a06/.*text_1\.flac") as caught:
        SpoofCeleb(root=str(copy), progress=False).prepare()
    said = str(caught.value)
    assert "extra: spoofceleb train: spoofceleb/flac/train/a06/id10318/text_9.flac" in said
    assert "attack 'bonafide' is none of a00" in said
    assert "evaluation spoofed: 1 found, 2 published" in said
