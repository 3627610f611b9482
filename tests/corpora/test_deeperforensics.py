"""DeeperForensics-1.0: swaps tie a FaceForensics++ target to an actor; which videos are real is said, not guessed."""

import pytest

from deepassay.corpora.deeperforensics import VARIANTS, DeeperForensics
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL

SPLITS = {"train": ("000_M101", "001_W004"), "val": ("002_M005",), "test": ("003_W106",)}
ORIGINALS = "FF/original_sequences/youtube/c23/videos"


def touch(root, path, text=""):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def tree(root, folder="", variants=("end_to_end", "end_to_end_level_5")):
    for word, stems in SPLITS.items():
        touch(root, f"{folder}lists/splits/{word}.txt", "".join(f"{s}.mp4\n" for s in stems))
        for stem in stems:
            for variant in variants:
                touch(root, f"{folder}manipulated_videos/{variant}/{stem}.mp4")
            actor = stem[4:]
            touch(
                root, f"{folder}source_videos/{actor}/light_up/happy/camera_left/{actor}_light_up_happy_camera_left.mp4"
            )
            touch(root, f"{folder}source_videos/{actor}/BlendShape/camera_up/{actor}_BlendShape_camera_up.mp4")
    return root


def prepare(root, **options):
    given = {
        "root": str(root),
        "progress": False,
        "allow_partial": True,
        "variants": ["end_to_end", "end_to_end_level_5"],
    }
    return DeeperForensics(**{**given, **options}).prepare()


def problems(out) -> list[str]:
    return [p for p in out.info["inventory"]["problems"] if not p.startswith("count: ")]


def test_swaps_name_target_and_actor_and_follow_the_lists(tmp_path):
    out = prepare(tree(tmp_path))
    rows = {s.path: s for s in out}
    assert problems(out) == []
    swap = rows["manipulated_videos/end_to_end_level_5/000_M101.mp4"]
    assert (swap.label, swap.split, swap.generator, swap.channel) == (
        FAKE,
        "train",
        "DF-VAE",
        "one distortion, level 5",
    )
    assert swap.subjects == ("faceforensics/000", "deeperforensics/M101")
    assert swap.source_id == "faceforensics/000"
    assert (swap.attributes["gender"], swap.attributes["region"]) == ("male", "Asia")
    assert rows["manipulated_videos/end_to_end/002_M005.mp4"].split == "dev"
    assert len({s.sample_id for s in out}) == len(out)
    source = rows["source_videos/W106/light_up/happy/camera_left/W106_light_up_happy_camera_left.mp4"]
    assert (source.label, source.split, source.subjects) == (REAL, "test", ("deeperforensics/W106",))
    assert (source.attributes["camera"], source.attributes["emotion"]) == ("left", "happy")
    assert len(VARIANTS) == 11


def test_the_distortions_of_a_video_are_kept_in_their_order(tmp_path):
    meta = "lists/manipulated_videos_distortions_meta/manipulated_videos_end_to_end_level_5_meta.txt"
    path = "manipulated_videos/end_to_end_level_5/000_M101.mp4"
    touch(tree(tmp_path), meta, f"{path} CS:5 GNC:5\nmanipulated_videos/end_to_end_level_5/001_W004.mp4\n")
    out = prepare(tmp_path)
    rows = {s.path: s for s in out}
    assert rows[path].attributes["distortions"] == "CS:5 GNC:5"
    assert "distortions" not in rows["manipulated_videos/end_to_end/000_M101.mp4"].attributes
    assert len(problems(out)) == 1
    assert "line 2" in problems(out)[0]
    counts = [p for p in out.info["inventory"]["problems"] if "videos listed for" in p]
    assert counts == [
        "count: videos listed for train: 2 found, 703 published", "count: videos listed for dev: 1 found, 96 published",
    ]  # fmt: skip


def test_the_published_real_part_is_the_targets(tmp_path):
    tree(tmp_path, folder="DF/")
    for target in ("000", "001", "002", "003", "999"):
        touch(tmp_path, f"{ORIGINALS}/{target}.mp4")
    out = prepare(tmp_path, folder="DF", originals=ORIGINALS, reals="targets")
    real = [s for s in out if s.label == REAL]
    assert problems(out) == []
    assert {s.source_id[-3:]: s.split for s in real} == {"000": "train", "001": "train", "002": "dev", "003": "test"}
    (tmp_path / ORIGINALS / "002.mp4").unlink()
    assert problems(prepare(tmp_path, folder="DF", originals=ORIGINALS, reals="targets")) == [
        f"missing: target videos: {ORIGINALS}/002.mp4"
    ]
    assert {s.label for s in prepare(tmp_path, folder="DF", reals="none")} == {FAKE}


def test_broken_copies_are_described(tmp_path):
    tree(tmp_path)
    (tmp_path / "manipulated_videos/end_to_end/003_W106.mp4").unlink()
    touch(tmp_path, "manipulated_videos/end_to_end_level_5/500_M101.mp4")
    touch(tmp_path, "source_videos/M101/odd.mp4")
    touch(tmp_path, "lists/splits/val.txt", "002_M005.mp4\nnonsense\n000_M101.mp4\n")
    assert problems(prepare(tmp_path)) == [
        "extra: end_to_end_level_5 videos: manipulated_videos/end_to_end_level_5/500_M101.mp4",
        "missing: end_to_end videos: manipulated_videos/end_to_end/003_W106.mp4",
        "unparsable: lists/splits/val.txt, line 2: 'nonsense' is not <target>_<actor>.mp4",
        "unparsable: lists/splits/val.txt, line 3: 000_M101 is also listed for train",
        "unparsable: source_videos/M101/odd.mp4: not named <actor>_light_<light>_<emotion>_camera_<camera>",
    ]
    with pytest.raises(ManifestError, match=r"source videos: 9 found, 48,475 published|end_to_end videos: 3 found"):
        DeeperForensics(root=str(tmp_path), progress=False).prepare()


def test_the_source_list_is_counted_against_and_extras_are_known(tmp_path):
    tree(tmp_path)
    known = "source_videos/M101/BlendShape_extra/light_up/camera_up/M101_BlendShape_extra_light_up_camera_up.mp4"
    touch(tmp_path, known)
    paths = sorted(p.relative_to(tmp_path).as_posix() for p in (tmp_path / "source_videos").rglob("*.mp4"))
    listed = [p for p in paths if p != known]
    touch(
        tmp_path, "lists/source_videos_lists/source_videos_list.txt", "\n".join([*listed, "source_videos/X/gone.mp4"])
    )
    touch(tmp_path, "lists/source_videos_lists/source_videos_extra_list.txt", known)
    out = prepare(tmp_path)
    assert problems(out) == ["missing: source videos: source_videos/X/gone.mp4"]
    assert known not in {s.path for s in out}


def test_without_lists_there_is_no_split(tmp_path):
    tree(tmp_path)
    for word in SPLITS:
        (tmp_path / f"lists/splits/{word}.txt").unlink()
    out = prepare(tmp_path)
    assert {s.split for s in out} == {""}
    assert problems(out)[0] == "missing: list lists/splits/train.txt"


@pytest.mark.parametrize("options", [{"reals": "all"}, {"reals": "targets"}, {"variants": ["end"]}])
def test_unknown_words_are_refused(options):
    with pytest.raises(ConfigError):
        DeeperForensics(root="nowhere", **options)
