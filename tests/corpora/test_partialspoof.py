"""PartialSpoof's door: lists, fake segments in seconds, contradictions, and labels that could run code."""

import os
import pickle

import numpy as np
import pytest

from deepassay.corpora.partialspoof import PartialSpoof, fake_segments, read_segment_labels
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL

LINES = ["LA_0079 LA_T_1 - - bonafide", "LA_0079 CON_T_2 - CON spoof"]
LABELS = {"LA_T_1": np.array(["1", "1"]), "CON_T_2": np.array(["0", "1", "0", "0", "1"])}
COUNTS = {"train bona fide": 1, "train spoofed": 1}


@pytest.fixture
def make(tmp_path, monkeypatch):
    monkeypatch.setattr(PartialSpoof, "published_counts", COUNTS)
    base = tmp_path / "database"

    def build(lines=LINES, labels=LABELS, files=("LA_T_1", "CON_T_2"), **options):
        for folder in ("protocols/PartialSpoof_LA_cm_protocols", "segment_labels", "train/con_wav"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        listing = base / "protocols/PartialSpoof_LA_cm_protocols/PartialSpoof.LA.cm.train.trl.txt"
        listing.write_text("\n".join(lines))
        np.save(base / "segment_labels/train_seglab_0.16.npy", labels, allow_pickle=True)
        for name in files:
            (base / f"train/con_wav/{name}.wav").touch()
        return PartialSpoof(root=str(tmp_path), subsets=["train"], progress=False, **options)

    return build


def test_fake_segments_are_seconds(make):
    manifest = make().prepare()
    real, fake = (next(s for s in manifest if s.label == label) for label in (REAL, FAKE))
    assert fake.attributes["fake_segments"] == "0-0.16;0.32-0.64"
    assert (fake.generator, fake.split, fake.subjects) == ("PartialSpoof-CON", "train", ("LA_0079",))
    assert "fake_segments" not in real.attributes
    assert real.generator == ""
    assert fake_segments(np.array([0, 0]), 0.16) == ""
    assert fake_segments(np.array([1, 1]), 0.01) == "0-0.02"


def test_exchanged_keys_or_segments_are_caught(make):
    flipped = ["LA_0079 LA_T_1 - - spoof", "LA_0079 CON_T_2 - CON bonafide"]
    with pytest.raises(ManifestError, match="spoof, yet of system '-'"):
        make(flipped).prepare()
    inverted = {name: np.where(values == "1", "0", "1") for name, values in LABELS.items()}
    with pytest.raises(ManifestError, match="LA_T_1 is bona fide, its segments say otherwise"):
        make(labels=inverted).prepare()


def test_what_is_wrong_is_named(make):
    with pytest.raises(ManifestError, match=r"missing: partialspoof train: database/train/con_wav/CON_T_2\.wav"):
        make(files=("LA_T_1",)).prepare()
    with pytest.raises(ManifestError, match=r"extra: partialspoof train: .*CON_T_9\.wav") as caught:
        make(files=("LA_T_1", "CON_T_2", "CON_T_9"), labels={"LA_T_1": LABELS["LA_T_1"]}).prepare()
    assert "no segment labels of CON_T_2" in str(caught.value)
    with pytest.raises(ManifestError, match="line 2: 4 columns instead of 5") as caught:
        make([LINES[0], "LA_0079 CON_T_2 CON spoof"]).prepare()
    assert "train spoofed: 0 found, 1 published" in str(caught.value)


def test_segment_labels_can_be_left_out_only_when_asked(make):
    with pytest.raises(ManifestError, match=r"train_seglab_0\.64\.npy \(resolution=null leaves segments out\)"):
        make(resolution=0.64).prepare()
    assert all("segment_resolution_s" not in s.attributes for s in make(resolution=None).prepare())
    with pytest.raises(ConfigError, match=r"resolution is 0\.5"):
        make(resolution=0.5)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_labels_that_would_run_code_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("bad.npy", np.array({"x": Evil()}, dtype=object), allow_pickle=True)
    with pytest.raises(ManifestError, match=r"it asks for posix\.mkdir|it asks for nt\.mkdir"):
        read_segment_labels("bad.npy")
    assert not (tmp_path / "ran").exists()
    np.load("bad.npy", allow_pickle=True)
    assert (tmp_path / "ran").exists(), "the planted file does run code where nothing stops it"


def test_other_files_are_no_labels(tmp_path):
    (tmp_path / "a.npy").write_bytes(pickle.dumps({"x": 1}))
    np.save(tmp_path / "b.npy", np.array({"x": np.array(["2"])}, dtype=object), allow_pickle=True)
    np.save(tmp_path / "c.npy", np.array(["x"], dtype=object), allow_pickle=True)
    for name, said in (("a.npy", "not a list of segment labels"), ("b.npy", "not 0 and 1"), ("c.npy", "not a dict")):
        with pytest.raises(ManifestError, match=said):
            read_segment_labels(tmp_path / name)
