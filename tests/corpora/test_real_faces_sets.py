"""LFW, CelebA and FFHQ: all real, with people, splits and licences as far as they are published."""

import json

import pytest

from deepassay.corpora.real_faces_sets import FFHQ, LFW, CelebA
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import REAL


def touch(root, path, text=""):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def prepare(kind, root, **options):
    return kind(**{"root": str(root), "progress": False, "allow_partial": True, **options}).prepare()


def problems(out) -> list[str]:
    return [p for p in out.info["inventory"]["problems"] if not p.startswith("count: ")]


@pytest.mark.parametrize("top", ["", "lfw/", "lfw-deepfunneled/"])
def test_lfw_people_come_from_folders(tmp_path, top):
    for path in ("Ann_Other/Ann_Other_0001.jpg", "Ann_Other/Ann_Other_0002.jpg", "B_C/B_C_0001.jpg"):
        touch(tmp_path, top + path)
    out = prepare(LFW, tmp_path)
    assert problems(out) == []
    assert [s.label for s in out] == [REAL] * 3
    assert {s.subjects for s in out} == {("lfw/Ann_Other",), ("lfw/B_C",)}
    touch(tmp_path, f"{top}B_C/Ann_Other_0003.jpg")
    assert problems(prepare(LFW, tmp_path)) == [
        f"unparsable: {top}B_C/Ann_Other_0003.jpg: not named <person>/<person>_<number>"
    ]
    with pytest.raises(ManifestError, match="images: 3 found, 13,233 published"):
        LFW(root=str(tmp_path), progress=False).prepare()


def celeba(root):
    for k in range(1, 4):
        touch(root, f"Img/img_align_celeba/{k:06d}.jpg")
    touch(root, "Eval/list_eval_partition.txt", "000001.jpg 0\n000002.jpg 1\n000003.jpg 2\n")
    touch(root, "Anno/identity_CelebA.txt", "000001.jpg 2880\n000002.jpg 2880\n000003.jpg 17\n")
    touch(
        root,
        "Anno/list_attr_celeba.txt",
        "3\nBald Male Young\n000001.jpg -1 1 -1\n000002.jpg 1 -1 1\n000003.jpg -1 1 1\n",
    )
    return root


def test_celeba_splits_people_and_attributes(tmp_path):
    out = prepare(CelebA, celeba(tmp_path))
    rows = {s.path.rsplit("/", 1)[1]: s for s in out}
    assert problems(out) == []
    assert {s.label for s in out} == {REAL}
    assert [rows[f"{k:06d}.jpg"].split for k in (1, 2, 3)] == ["train", "dev", "test"]
    assert rows["000001.jpg"].subjects == rows["000002.jpg"].subjects == ("celeba/2880",)
    assert rows["000001.jpg"].attributes == {"gender": "male", "age_band": "not young"}
    (tmp_path / "Anno/identity_CelebA.txt").unlink()
    assert {s.subjects for s in prepare(CelebA, tmp_path)} == {()}


def test_celeba_broken_copies_are_described(tmp_path):
    celeba(tmp_path)
    touch(tmp_path, "Eval/list_eval_partition.txt", "000001.jpg 0\n000002.jpg 7\n000009.jpg 2\n")
    assert problems(prepare(CelebA, tmp_path)) == [
        "extra: pictures: Img/img_align_celeba/000002.jpg",
        "extra: pictures: Img/img_align_celeba/000003.jpg",
        "missing: pictures: Img/img_align_celeba/000009.jpg",
        "unparsable: Eval/list_eval_partition.txt, line 2: '000002.jpg 7' is not '<file> <0|1|2>'",
    ]
    (tmp_path / "Eval/list_eval_partition.txt").unlink()
    with pytest.raises(ManifestError, match=r"list list_eval_partition\.txt"):
        CelebA(root=str(tmp_path), progress=False).prepare()
    with pytest.raises(ConfigError, match="variant"):
        CelebA(root="nowhere", variant="cropped")


def test_ffhq_halves_licences_and_photographs(tmp_path):
    facts = {}
    for number, half, licence, photo in (
        (0, "training", "Attribution License", "p/1"),
        (65000, "validation", "", "p/1"),
    ):
        path = f"images1024x1024/{number // 1000 * 1000:05d}/{number:05d}.png"
        touch(tmp_path, path)
        facts[str(number)] = {
            "category": half,
            "metadata": {"license": licence, "photo_url": photo},
            "image": {"file_path": path},
        }
    without = {s.path[-9:-4]: s for s in prepare(FFHQ, tmp_path)}
    assert {k: s.split for k, s in without.items()} == {"00000": "train", "65000": "dev"}
    assert without["00000"].source_id != without["65000"].source_id
    touch(tmp_path, "ffhq-dataset-v2.json", json.dumps(facts))
    out = prepare(FFHQ, tmp_path)
    rows = {s.path[-9:-4]: s for s in out}
    assert problems(out) == []
    assert rows["00000"].source_id == rows["65000"].source_id  # two portraits of one photograph
    assert "p/1" not in rows["00000"].source_id
    assert (rows["00000"].licence, rows["65000"].licence) == ("Attribution License", FFHQ.licence)
    (tmp_path / "images1024x1024/65000/65000.png").unlink()
    touch(tmp_path, "images1024x1024/00000/x.png")
    assert problems(prepare(FFHQ, tmp_path)) == [
        "extra: portraits: images1024x1024/00000/x.png",
        "missing: portraits: images1024x1024/65000/65000.png",
    ]
    with pytest.raises(ManifestError, match="images: 1 found, 70,000 published"):
        FFHQ(root=str(tmp_path), progress=False).prepare()
    with pytest.raises(ConfigError, match="folder"):
        FFHQ(root="nowhere", folder="in-the-wild-images")
