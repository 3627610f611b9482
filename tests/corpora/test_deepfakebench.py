"""DeepfakeBench's lists: polarity, one split per video, people by the names of this project's own doors."""

import json
from pathlib import Path

import pytest

from deepassay.corpora.deepfakebench import DeepfakeBench
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL
from deepassay.splits import SubjectSplit, assert_disjoint


def video(label: str, folder: str, frames: int = 3) -> dict:
    return {"label": label, "frames": [f"./datasets/rgb/{folder}/{k:03d}.png" for k in range(frames)]}


def ffpp() -> dict:
    """Two pairs; every method repeats the folder names (the known trap)."""
    real = "FaceForensics++/original_sequences/youtube/c23/frames"
    tree: dict = {"FF-real": {}, "FF-DF": {}, "FF-F2F": {}}
    for split, pair in (("train", ("000", "003")), ("val", ("010", "011")), ("test", ("020", "021"))):
        a, b = pair
        tree["FF-real"][split] = {"c23": {n: video("FF-real", f"{real}/{n}") for n in pair}}
        for label, method in (("FF-DF", "Deepfakes"), ("FF-F2F", "Face2Face")):
            folder = f"FaceForensics++/manipulated_sequences/{method}/c23/frames"
            names = (f"{a}_{b}", f"{b}_{a}")
            tree[label][split] = {"c23": {n: {**video(label, f"{folder}/{n}"), "masks": []} for n in names}}
    return {"FaceForensics++": tree}


def write(root: Path, tree: dict, *, leave: str = "") -> Path:
    def frames(node):
        if isinstance(node, dict):
            yield from node.get("frames", ())
            for value in node.values():
                yield from frames(value)

    for frame in frames(tree):
        path = root / frame.removeprefix("./datasets/")
        if not leave or leave not in frame:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (root / "list.json").write_text(json.dumps(tree))
    return root


def read(root: Path, **options):
    return DeepfakeBench(**{"json": "list.json", "root": str(root), "progress": False, **options}).prepare()


def test_faceforensics_list(tmp_path):
    m = read(write(tmp_path, ffpp()))
    assert len(m) == (6 + 12) * 3
    assert m.counts()["train"] == {"real": 6, "fake": 12, "unlabelled": 0}
    fake = next(s for s in m if s.generator == "Deepfakes")
    assert fake.label == FAKE
    assert fake.subjects == ("faceforensics/000", "faceforensics/003")
    assert fake.source_id == "faceforensics/000"
    assert fake.channel == "c23"
    assert fake.path == "rgb/FaceForensics++/manipulated_sequences/Deepfakes/c23/frames/000_003/000.png"
    assert len({s.sample_id for s in m}) == len(m), "methods that repeat folder names are told apart"
    assert {s.label for s in m if s.attributes["video"].startswith("FaceForensics++/FF-real")} == {REAL}
    assert_disjoint(m)


def test_canary_flipped_labels_are_noticed(tmp_path):
    m = read(write(tmp_path, ffpp()), labels={"FF-real": "fake", "FF-DF": "real", "FF-F2F": "real"})
    assert next(s for s in m if "/FF-real/" in s.sample_id).label == FAKE
    tree = ffpp()
    tree["FaceForensics++"]["FF-DF"]["train"]["c23"]["000_003"]["label"] = "FF-real"
    with pytest.raises(ManifestError, match="000_003 says label 'FF-real'"):
        read(write(tmp_path, tree))


def celebdf() -> dict:
    reals = {f"id{k}_000{k}": video("CelebDFv2_real", f"Celeb-DF-v2/Celeb-real/frames/id{k}_000{k}") for k in range(4)}
    fakes = {
        f"id{k}_id{k + 1}_0000": video("CelebDFv2_fake", f"Celeb-DF-v2/Celeb-synthesis/frames/id{k}_id{k + 1}_0000")
        for k in range(3)
    }
    last_real, last_fake = {"id3_0003": reals["id3_0003"]}, {"id2_id3_0000": fakes["id2_id3_0000"]}
    return {
        "Celeb-DF-v2": {
            "CelebDFv2_real": {"train": reals, "val": last_real, "test": last_real},
            "CelebDFv2_fake": {"train": fakes, "val": last_fake, "test": last_fake},
        }
    }


def test_a_video_in_several_splits_gets_one(tmp_path):
    m = read(write(tmp_path, celebdf()))
    where = {s.attributes["video"].rpartition("/")[2]: s.split for s in m}
    assert where["id3_0003"] == "test"
    assert where["id0_0000"] == "train"
    assert m.info["listed_in_several_splits"]["videos"] == {
        "Celeb-DF-v2/CelebDFv2_real": 1, "Celeb-DF-v2/CelebDFv2_fake": 1
    }  # fmt: skip
    fake = next(s for s in m if s.label == FAKE)
    assert fake.subjects == ("celebdf/id0", "celebdf/id1")
    assert fake.source_id == "celebdf/id0_0000"


def test_lists_that_put_everything_everywhere_have_no_official_split(tmp_path):
    def both(label: str, folder: str) -> dict:
        videos = {f"{n:04d}": video(label, f"UADFV/{folder}/frames/{n:04d}") for n in range(20)}
        return {"train": videos, "val": videos, "test": videos}

    m = read(
        write(tmp_path, {"UADFV": {"UADFV_Real": both("UADFV_Real", "real"), "UADFV_Fake": both("UADFV_Fake", "fake")}})
    )
    assert set(m.column("split")) == {""}
    assert m.info["listed_in_several_splits"]["no_official_split"] == ["UADFV/UADFV_Fake", "UADFV/UADFV_Real"]
    assert len({s.source_id for s in m}) == 20, "number 0007 is one source in both classes until somebody knows better"
    assert_disjoint(SubjectSplit().apply(m))


def test_frames_are_spread_and_missing_ones_named(tmp_path):
    root = write(tmp_path, ffpp(), leave="Face2Face/c23/frames/000_003/001")
    with pytest.raises(ManifestError, match=r"frame rgb/.*Face2Face/c23/frames/000_003/001\.png"):
        read(root)
    m = read(root, allow_partial=True)
    assert m.info["inventory"]["partial"]
    assert len(m) == 53
    few = read(root, allow_partial=True, frames_per_video=2)
    assert len([s for s in few if s.attributes["video"].endswith("FF-real/c23/000")]) == 2


def test_natural_order_of_frames(tmp_path):
    tree = ffpp()
    frames = [
        f"./datasets/rgb/FaceForensics++/original_sequences/youtube/c23/frames/000/{k}.png" for k in (10, 2, 1, 30)
    ]
    tree["FaceForensics++"]["FF-real"]["train"]["c23"]["000"]["frames"] = frames
    m = read(write(tmp_path, tree), frames_per_video=3)
    got = [Path(s.path).stem for s in m if s.attributes["video"].endswith("FF-real/c23/000")]
    assert got == ["1", "10", "30"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda t: t["FaceForensics++"].update({"FF-XX": {"train": {}}}), "unknown label 'FF-XX'"),
        (lambda t: t["FaceForensics++"]["FF-DF"].update({"eval": {}}), "has a split 'eval'"),
        (lambda t: t.update({"X": ["a"]}), "holds list where names"),
    ],
)
def test_another_structure_is_refused_by_name(tmp_path, spoil, said):
    tree = ffpp()
    spoil(tree)
    with pytest.raises(ManifestError, match=said):
        read(write(tmp_path, tree))


def test_the_broken_val_of_dfdc_is_reported(tmp_path):
    real = {"a": video("DFDC_Real", "DFDC/test/frames/a")}
    fake = {"b": video("DFDC_Fake", "DFDC/test/frames/b")}
    tree = {"DFDC": {"DFDC_Real": {"test": real, "val": real["a"]}, "DFDC_Fake": {"test": fake}}}
    with pytest.raises(ManifestError, match="DFDC/DFDC_Real/val holds one video instead of a list"):
        read(write(tmp_path, tree))
    assert len(read(tmp_path, allow_partial=True)) == 6


def test_nothing_to_read_is_said(tmp_path):
    root = write(tmp_path, ffpp())
    with pytest.raises(ManifestError, match="no videos of compression c40"):
        read(root, compression="c40")
    with pytest.raises(ManifestError, match="no such list"):
        read(root, json="none.json")
    (root / "list.json").write_text("{")
    with pytest.raises(ManifestError, match="not JSON"):
        read(root)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "list.json").write_text(json.dumps(ffpp()))
    with pytest.raises(ManifestError, match="no frame of the list lies below"):
        read(elsewhere)


@pytest.mark.parametrize("options", [{"compression": "c99"}, {"frames_per_video": 0}, {"labels": {"a": "spoof"}}])
def test_options_that_do_not_exist(options):
    with pytest.raises(ConfigError, match="hint: "):
        DeepfakeBench(json="x", root="y", **options)
