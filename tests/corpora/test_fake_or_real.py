"""Fake-or-Real's door: folders tell label and part, one release is read, an empty part is named."""

import pytest

from deepassay.corpora.fake_or_real import FakeOrReal
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL

PLACES = [f"{part}/{kind}" for part in ("training", "validation", "testing") for kind in ("real", "fake")]


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_parts_labels_and_release(tmp_path):
    touch(tmp_path, *(f"for-norm/for-norm/{p}/file1.wav" for p in PLACES), *(f"for-original/{p}/a.mp3" for p in PLACES))
    manifest = FakeOrReal(root=str(tmp_path), progress=False).prepare()
    assert {(s.label, s.split) for s in manifest} == {(k, s) for k in (REAL, FAKE) for s in ("train", "dev", "test")}
    assert {s.label for s in manifest if "/real/" in s.path} == {REAL}
    assert {s.generator for s in manifest} == {"", "FoR-unnamed"}
    assert len({s.sample_id for s in manifest}) == 6
    other = FakeOrReal(root=str(tmp_path), release="original", progress=False).prepare()
    assert {s.path.split("/")[0] for s in other} == {"for-original"}


def test_the_root_may_be_the_release(tmp_path):
    touch(tmp_path, *(f"{p.title()}/f.wav" for p in PLACES))
    assert len(FakeOrReal(root=str(tmp_path), release="rerec", progress=False).prepare()) == 6


def test_an_empty_part_and_a_stray_file_are_named(tmp_path):
    touch(tmp_path, *(f"for-2sec/for-2seconds/{p}/f.wav" for p in PLACES[:-1]), "for-2sec/for-2seconds/stray.wav")
    with pytest.raises(ManifestError, match="no sound file in for-2sec/testing/fake") as caught:
        FakeOrReal(root=str(tmp_path), release="2sec", progress=False).prepare()
    assert "extra: fake_or_real: for-2sec/for-2seconds/stray.wav" in str(caught.value)
    with pytest.raises(ConfigError, match="release is 'for-norm'"):
        FakeOrReal(root=str(tmp_path), release="for-norm")


def test_a_wrong_count_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(FakeOrReal, "published_counts", {"training/real": 2})
    touch(tmp_path, *(f"for-norm/{p}/f.wav" for p in PLACES))
    with pytest.raises(ManifestError, match="training/real: 1 found, 2 published"):
        FakeOrReal(root=str(tmp_path), progress=False).prepare()
