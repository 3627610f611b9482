"""FFIW-10K: source is real, target is fake, and equal numbers are tied."""

import pytest

from deepassay.corpora.ffiw import FFIW
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL


def tree(root):
    for word, top in (
        ("train", "FFIW10K-v1-release"),
        ("val", "FFIW10K-v1-release"),
        ("test", "FFIW10K-v1-release-test"),
    ):
        for kind in ("source", "target", "target_mask"):
            path = root / top / kind / word / "00000007.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


def prepare(root, **options):
    return FFIW(**{"root": str(root), "progress": False, "allow_partial": True, **options}).prepare()


def test_labels_splits_and_ties(tmp_path):
    out = prepare(tree(tmp_path))
    assert {(s.label, s.split) for s in out} == {(label, s) for label in (REAL, FAKE) for s in ("train", "dev", "test")}
    rows = {s.path: s for s in out}
    fake = rows["FFIW10K-v1-release/target/val/00000007.mp4"]
    real = rows["FFIW10K-v1-release/source/val/00000007.mp4"]
    assert (fake.label, real.label) == (FAKE, REAL)
    assert fake.source_id == real.source_id == "ffiw/val/00000007"
    assert len({s.source_id for s in out}) == 3  # a number repeats in every split
    assert len({s.sample_id for s in out}) == 6
    assert len(prepare(tmp_path, splits=["test"])) == 2


def test_foreign_names_and_counts_are_named(tmp_path):
    tree(tmp_path)
    (tmp_path / "FFIW10K-v1-release/target/val/clip.mp4").touch()
    assert (
        "unparsable: FFIW10K-v1-release/target/val/clip.mp4: not named by a number"
        in (prepare(tmp_path).info["inventory"]["problems"])
    )
    with pytest.raises(ManifestError, match="target val videos: 2 found, 250 published"):
        FFIW(root=str(tmp_path), progress=False).prepare()
    with pytest.raises(ConfigError, match="splits"):
        FFIW(root="nowhere", splits=["dev"])
