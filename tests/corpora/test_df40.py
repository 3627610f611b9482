"""DF40: forty methods in four families; people keep their parent corpus's names; a video in both parts is found."""

import json

import pytest

from deepassay.corpora.df40 import DF40, FAMILIES, METHODS, UNKNOWN
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL

FF = "FaceForensics++/original_sequences/youtube/c23/frames"
CDF = "Celeb-DF-v2"


def touch(root, path, text=""):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def tree(root, methods=METHODS):
    for method in methods:
        family = METHODS[method][1]
        if method in UNKNOWN:
            touch(root, f"DF40/{method}/fake/frames/v1/0.png")
            touch(root, f"DF40/{method}/real/v2/0.png")
        elif family == "entire_synthesis":
            touch(root, f"DF40_train/{method}/001/seed0188.png")
            touch(root, f"DF40/{method}/ff/003/458.png")
            touch(root, f"DF40/{method}/cdf/YouTube-real/00043/458.png")
        else:
            touch(root, f"DF40_train/{method}/frames/001_870/000.png")
            touch(root, f"DF40/{method}/ff/frames/000_003/000.png")
            touch(root, f"DF40/{method}/cdf/frames/id0_id16_0003/000.png")
    for sequence in ("000", "001", "003", "870"):
        touch(root, f"{FF}/{sequence}/000.png")
    for word, pair in (("train", ["001", "870"]), ("val", ["010", "011"]), ("test", ["000", "003"])):
        touch(root, f"FaceForensics++/{word}.json", json.dumps([pair]))
    touch(root, f"{CDF}/Celeb-real/frames/id0_0003/000.png")
    touch(root, f"{CDF}/YouTube-real/frames/00043/000.png")
    touch(root, f"{CDF}/List_of_testing_videos.txt", "1 Celeb-real/id0_0003.mp4\n")
    return root


def prepare(root, **options):
    return DF40(**{"root": str(root), "progress": False, **options}).prepare()


def problems(root, **options):
    return prepare(root, allow_partial=True, **options).info["inventory"]["problems"]


def test_forty_methods_in_four_families():
    assert len(METHODS) == 40
    assert {f: len(n) for f, n in FAMILIES.items()} == {
        "face_swap": 10, "reenactment": 13, "entire_synthesis": 12, "attribute_edit": 5,
    }  # fmt: skip
    assert len(UNKNOWN) == 9
    assert set(UNKNOWN) < set(METHODS)


def test_a_whole_miniature_is_complete(tmp_path):
    out = prepare(tree(tmp_path))
    rows = {s.path: s for s in out}
    assert out.info["inventory"]["partial"] is False
    assert len({s.generator for s in out if s.label == FAKE}) == 40
    assert len({s.sample_id for s in out}) == len(out)
    train = rows["DF40_train/simswap/frames/001_870/000.png"]
    assert (train.label, train.split, train.media) == (FAKE, "train", "image")
    assert (train.generator, train.generator_family) == ("SimSwap", "face_swap")
    assert train.subjects == ("faceforensics/001", "faceforensics/870")
    cdf = rows["DF40/simswap/cdf/frames/id0_id16_0003/000.png"]
    assert (cdf.split, cdf.attributes["domain"]) == ("test", "cdf")
    assert cdf.subjects == ("celebdf/id0", "celebdf/id16")
    assert cdf.source_id == rows[f"{CDF}/Celeb-real/frames/id0_0003/000.png"].source_id == "celebdf/id0_0003"
    made = rows["DF40/dit/cdf/YouTube-real/00043/458.png"]
    assert (made.generator_family, made.subjects) == ("entire_synthesis", ())
    assert made.source_id == "df40/dit/cdf/YouTube-real/00043"
    assert made.label == FAKE  # its folder is named after the real videos it was fine-tuned on
    assert rows["DF40/midjourney/real/v2/0.png"].label == REAL
    assert rows["DF40/midjourney/real/v2/0.png"].generator == ""
    assert rows["DF40/midjourney/fake/frames/v1/0.png"].label == FAKE
    assert {p: s.split for p, s in rows.items() if p.startswith(FF)} == {
        f"{FF}/000/000.png": "test", f"{FF}/001/000.png": "train",
        f"{FF}/003/000.png": "test", f"{FF}/870/000.png": "train",
    }  # fmt: skip
    assert rows[f"{CDF}/YouTube-real/frames/00043/000.png"].split == ""


def test_missing_methods_unknown_folders_and_leaks_are_named(tmp_path):
    tree(tmp_path, methods=[m for m in METHODS if m != "lia"])
    touch(tmp_path, "DF40/newswap/ff/frames/000_003/000.png")
    touch(tmp_path, "DF40/simswap/ff/frames/001_870/000.png")  # a training video in the test archive
    said = problems(tmp_path)
    assert said == [
        "both splits: simswap: video ff/001_870 lies in training and in test",
        "count: methods for train: 30 found, 31 published",
        "count: methods for test: 39 found, 40 published",
        "extra: DF40/newswap is no folder of a DF40 method",
        "missing: train: no picture of method lia",
        "missing: test: no picture of method lia",
    ]
    with pytest.raises(ManifestError, match="no picture of method lia"):
        prepare(tmp_path)


def test_missing_real_pictures_and_lists_are_named(tmp_path):
    tree(tmp_path)
    for path in (tmp_path / FF).rglob("*.png"):
        path.unlink()
    (tmp_path / CDF / "List_of_testing_videos.txt").unlink()
    said = problems(tmp_path)
    assert f"missing: real pictures of FaceForensics++ ({FF})" in said
    assert f"missing: list {CDF}/List_of_testing_videos.txt" in said
    (tmp_path / "FaceForensics++/val.json").unlink()
    touch(tmp_path, f"{FF}/000/000.png")
    assert "missing: list FaceForensics++/val.json" in problems(tmp_path)


def test_some_methods_one_part_and_few_pictures_per_video(tmp_path):
    tree(tmp_path)
    for k in range(10):
        touch(tmp_path, f"DF40/fomm/ff/frames/000_003/{k:03d}.png")
    out = prepare(tmp_path, parts=["test"], methods=["FOMM", "e4e"], per_video=2)
    assert {s.generator for s in out} == {"FOMM", "e4e", ""}
    taken = [s.path.rsplit("/", 1)[1] for s in out if "fomm/ff" in s.path]
    assert taken == ["002.png", "007.png"]


@pytest.mark.parametrize("options", [{"parts": ["val"]}, {"methods": ["roop"]}, {"per_video": 0}])
def test_unknown_words_are_refused(options):
    with pytest.raises(ConfigError):
        DF40(root="nowhere", **options)
