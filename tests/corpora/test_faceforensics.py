"""FaceForensics++ and DeepFakeDetection: official pair lists, two sources per fake, and the folder-name trap."""

import json
import shutil

import numpy as np
import pytest

from deepassay.corpora.faceforensics import METHODS, DeepFakeDetection, FaceForensics
from deepassay.errors import ConfigError, LeakError, ManifestError
from deepassay.labels import FAKE, REAL
from deepassay.metrics.ranking import auc
from deepassay.scores import Scored, ScoreTable
from deepassay.splits import OfficialSplit

FOUR = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def tree(root, lists, methods=FOUR, compression="c23"):
    """The published tree with empty files, for every pair of the lists."""
    for pairs in lists.values():
        for one, two in pairs:
            for sequence in (one, two):
                touch(root / f"original_sequences/youtube/{compression}/videos/{sequence}.mp4")
            for method in methods:
                for name in (f"{one}_{two}", f"{two}_{one}"):
                    touch(root / f"manipulated_sequences/{method}/{compression}/videos/{name}.mp4")
    return root


@pytest.fixture(scope="session")
def official(shared):
    folder = shared / "data" / "official"
    if not (folder / "ffpp_splits" / "train.json").is_file():
        pytest.skip("no FaceForensics++ split lists beside the project")
    return folder


@pytest.fixture(scope="session")
def whole(official, tmp_path_factory):
    """All 5,000 names of the four methods at c23, from the official lists."""
    lists = {w: json.loads((official / "ffpp_splits" / f"{w}.json").read_text()) for w in ("train", "val", "test")}
    return tree(tmp_path_factory.mktemp("ffpp"), lists)


def door(root, **options) -> FaceForensics:
    return FaceForensics(**{"root": str(root), "progress": False, **options})


def small(tmp_path, **lists):
    """A tree of a few pairs with its own lists; the published counts do not fit it, so it is partial."""
    lists = lists or {"train": [["000", "003"], ["001", "002"]], "val": [["010", "011"]], "test": [["020", "021"]]}
    root = tree(tmp_path / "ff", lists)
    (root / "splits").mkdir()
    for word, pairs in lists.items():
        (root / "splits" / f"{word}.json").write_text(json.dumps(pairs))
    return root


def problems(root, **options) -> list[str]:
    """What is wrong with a miniature tree, without the counts that no miniature can meet."""
    found = door(root, allow_partial=True, **options).prepare().info["inventory"]["problems"]
    return [p for p in found if not p.startswith("count: ")]


def test_official_lists_give_720_140_140_originals_and_two_sources_per_fake(whole, official):
    out = door(whole, split_lists=str(official / "ffpp_splits")).prepare()
    rows = list(out)
    assert len(rows) == 5000
    assert out.info["inventory"]["partial"] is False
    assert out.info["status"] == "verified"
    for method in FOUR:
        fakes = [s for s in rows if s.generator == method]
        per_split = {split: [s for s in fakes if s.split == split] for split in ("train", "dev", "test")}
        assert {k: len(v) for k, v in per_split.items()} == {"train": 720, "dev": 140, "test": 140}
        # The originals that a method's fakes stem from, counted per split: every one, in its own split.
        assert {k: len({s.source_id for s in v}) for k, v in per_split.items()} == {
            "train": 720,
            "dev": 140,
            "test": 140,
        }
    real = {s.source_id: s for s in rows if s.label == REAL}
    assert len(real) == 1000
    for fake in (s for s in rows if s.label == FAKE):
        target, source = fake.path.rsplit("/", 1)[1].removesuffix(".mp4").split("_")
        assert fake.subjects == (f"faceforensics/{target}", f"faceforensics/{source}")
        assert fake.source_id == f"faceforensics/{target}"
        assert {real[p].split for p in fake.subjects} == {fake.split}
        assert fake.generator_family == METHODS[fake.generator]
    assert len({s.sample_id for s in rows}) == 5000
    OfficialSplit().apply(out)  # no sequence lies in two splits


def test_recordings_behind_two_splits_are_named_and_can_be_the_subject(whole, official):
    """977 YouTube videos make 1,000 sequences; seven of them feed two official splits at once."""
    lists = str(official / "ffpp_splits")
    out = door(whole, split_lists=lists).prepare()
    shared = out.info["shared_recordings"]
    assert len(shared) == 7
    assert shared["605, 606"] == ["dev", "train"]
    assert shared["755, 756"] == ["test", "train"]
    assert len({s.attributes["recording"] for s in out}) == 977
    strict = door(whole, split_lists=lists, people="recording").prepare()
    with pytest.raises(LeakError):
        OfficialSplit().apply(strict)


def test_folder_names_repeat_so_video_auc_is_per_sample_id(whole, official):
    """Grouping by folder name joins the four methods' fakes of one pair: a weak method hides behind the strong ones.

    Known example (DeepfakeBench's grouping): 700 videos fall into 280 groups and 0.9999 is printed for 0.8858.
    """
    out = door(whole, split_lists=str(official / "ffpp_splits")).prepare().split("test")
    frames = 8
    strength = {"": -2.0, "Deepfakes": 2.2, "Face2Face": 1.6, "FaceSwap": 1.4, "NeuralTextures": -1.95}
    rng = np.random.Generator(np.random.PCG64(20261123))
    per_frame = {s.sample_id: strength[s.generator] + rng.normal(0.0, 1.0, frames) for s in out}
    table = ScoreTable.from_scored(
        out, {k: Scored(score=float(v.mean()), n_views=frames) for k, v in per_frame.items()}
    )
    labels = table.column("label")
    correct = auc(labels, table.column("score"))
    assert len(table) == 700

    groups: dict[str, list[tuple[int, np.ndarray]]] = {}
    for sample in out:  # what a frame loader knows when it keeps the parent folder's name only
        folder = sample.path.rsplit("/", 1)[1].removesuffix(".mp4")
        groups.setdefault(folder, []).append((int(sample.label or 0), per_frame[sample.sample_id]))
    wrong = auc(
        np.array([rows[0][0] for rows in groups.values()]),
        np.array([np.concatenate([v for _, v in rows]).mean() for rows in groups.values()]),
    )
    assert len(groups) == 280
    assert wrong > 0.999
    assert 0.87 < correct < 0.90
    by_hand = np.mean(
        [
            (f > r) + 0.5 * (f == r)
            for f in table.column("score")[labels == 1]
            for r in table.column("score")[labels == 0]
        ]
    )
    assert correct == pytest.approx(by_hand, abs=1e-12)


def test_a_right_miniature_has_the_published_labels_and_ties(tmp_path):
    out = door(small(tmp_path), allow_partial=True).prepare()
    rows = {s.path: s for s in out}
    real = rows["original_sequences/youtube/c23/videos/010.mp4"]
    fake = rows["manipulated_sequences/NeuralTextures/c23/videos/011_010.mp4"]
    assert (real.label, real.split, real.generator, real.channel) == (REAL, "dev", "", "h264 crf 23")
    assert (fake.label, fake.split, fake.generator, fake.generator_family) == (
        FAKE, "dev", "NeuralTextures", "reenactment",
    )  # fmt: skip
    assert fake.sample_id == "faceforensics/manipulated_sequences/NeuralTextures/c23/videos/011_010.mp4"
    assert fake.subjects == ("faceforensics/011", "faceforensics/010")
    assert "FaceForensics terms" in fake.licence
    assert all(line.startswith("count: ") for line in out.info["inventory"]["problems"]), out.info["inventory"][
        "problems"
    ]


def test_swapped_folders_would_be_seen(tmp_path):
    """Originals that lie where fakes belong are missing there and extra here: labels cannot turn over unnoticed."""
    root = small(tmp_path)
    shutil.move(root / "original_sequences/youtube/c23/videos", tmp_path / "hold")
    shutil.move(root / "manipulated_sequences/Deepfakes/c23/videos", root / "original_sequences/youtube/c23/videos")
    shutil.move(tmp_path / "hold", root / "manipulated_sequences/Deepfakes/c23/videos")
    said = problems(root)
    assert "extra: original c23 videos: original_sequences/youtube/c23/videos/000_003.mp4" in said
    assert "missing: Deepfakes c23 videos: manipulated_sequences/Deepfakes/c23/videos/000_003.mp4" in said


def test_missing_extra_and_wrong_counts_are_named(tmp_path):
    root = small(tmp_path)
    (root / "manipulated_sequences/FaceSwap/c23/videos/003_000.mp4").unlink()
    touch(root / "original_sequences/youtube/c23/videos/999.mp4")
    assert problems(root) == [
        "extra: original c23 videos: original_sequences/youtube/c23/videos/999.mp4",
        "missing: FaceSwap c23 videos: manipulated_sequences/FaceSwap/c23/videos/003_000.mp4",
    ]
    with pytest.raises(ManifestError, match="1,000 published") as caught:
        door(root).prepare()
    assert "FaceSwap/c23/videos/003_000.mp4" in str(caught.value)
    assert "allow_partial=true" in str(caught.value)


def test_unparsable_lists_are_named_by_line(tmp_path):
    root = small(tmp_path)
    (root / "splits/val.json").write_text(json.dumps([["010", "011"], ["12", "013"], ["000", "014"], ["015"]]))
    said = problems(root)
    assert "unparsable: val.json, line 2: pair ['12', '013'] is not two three-digit sequence ids" in said
    assert "unparsable: val.json, line 3: sequence 000 is listed twice" in said
    assert any("line 4" in line for line in said)
    (root / "splits/val.json").write_text("{not json")
    with pytest.raises(ManifestError, match="not readable JSON"):
        door(root, allow_partial=True).prepare()


def test_without_lists_nothing_is_guessed(tmp_path):
    root = small(tmp_path)
    shutil.rmtree(root / "splits")
    with pytest.raises(ManifestError, match="split lists"):
        door(root).prepare()
    out = door(root, allow_partial=True).prepare()
    assert {s.split for s in out} == {""}
    assert out.info["inventory"]["partial"] is True
    with pytest.raises(ManifestError, match=r"has no train\.json"):
        door(root, split_lists=str(tmp_path)).prepare()


def test_faceshifter_masks_and_other_compressions(tmp_path):
    root = small(tmp_path)
    tree(root, {"train": [["000", "003"]]}, methods=["FaceShifter"], compression="c0")
    touch(root / "manipulated_sequences/Deepfakes/masks/videos/000_003.mp4")
    out = door(root, allow_partial=True, compression=["raw", "c23"], methods=["FaceShifter", "Deepfakes"]).prepare()
    rows = {s.path: s for s in out}
    shifter = rows["manipulated_sequences/FaceShifter/c0/videos/000_003.mp4"]
    assert (shifter.generator, shifter.channel) == ("FaceShifter", "h264 crf 0")
    swap = rows["manipulated_sequences/Deepfakes/c23/videos/000_003.mp4"]
    assert swap.attributes["mask"] == "manipulated_sequences/Deepfakes/masks/videos/000_003.mp4"
    assert "mask" not in rows["manipulated_sequences/Deepfakes/c23/videos/003_000.mp4"].attributes


@pytest.mark.parametrize(
    "options",
    [
        {"compression": "c50"},
        {"methods": ["DeepFake"]},
        {"people": "face"},
        {"compression": ["raw", "c0"]},
        {"methods": []},
    ],
)
def test_unknown_words_are_refused_before_anything_is_read(options):
    with pytest.raises(ConfigError):
        door("nowhere", **options)


def test_recording_needs_its_list_and_names_what_it_lacks(tmp_path):
    root = small(tmp_path)
    with pytest.raises(ManifestError, match=r"conversion_dict\.json"):
        door(root, people="recording", allow_partial=True).prepare()
    known = {s: f"video{int(s) // 2} 0" for s in ("000", "001", "002", "003", "010", "011", "020")}
    (root / "conversion_dict.json").write_text(json.dumps({**known, "021": "odd"}))
    out = door(root, people="recording", allow_partial=True).prepare()
    said = [p for p in out.info["inventory"]["problems"] if not p.startswith("count: ")]
    assert said == [
        "missing: conversion_dict.json: recording of sequence 021",
        "unparsable: conversion_dict.json, line 8: 021: 'odd' is not '<youtube id> <number>'",
    ]
    people = {s.path.rsplit("/", 1)[1]: s.subjects for s in out}
    assert people["000_003.mp4"] == ("youtube/video0", "youtube/video1")
    assert people["010_011.mp4"] == ("youtube/video5",)
    assert people["021_020.mp4"] == ("faceforensics/021", "youtube/video10")


def dfd(root, **options) -> DeepFakeDetection:
    return DeepFakeDetection(**{"root": str(root), "progress": False, "allow_partial": True, **options})


def test_deepfakedetection_names_tell_both_actors_and_the_scene(tmp_path):
    touch(tmp_path / "original_sequences/actors/c23/videos/01__exit_phone_room.mp4")
    touch(tmp_path / "original_sequences/actors/c23/videos/02__exit_phone_room.mp4")
    touch(tmp_path / "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__exit_phone_room__YVGY8LOK.mp4")
    out = dfd(tmp_path).prepare()
    rows = {s.path.rsplit("/", 1)[1]: s for s in out}
    fake = rows["01_02__exit_phone_room__YVGY8LOK.mp4"]
    real = rows["01__exit_phone_room.mp4"]
    assert (real.label, fake.label) == (REAL, FAKE)
    assert fake.subjects == ("deepfakedetection/01", "deepfakedetection/02")
    assert "mask" not in fake.attributes
    mask = "manipulated_sequences/DeepFakeDetection/masks/videos/01_02__exit_phone_room__YVGY8LOK.mp4"
    touch(tmp_path / mask)
    assert next(s for s in dfd(tmp_path).prepare() if s.label == FAKE).attributes["mask"] == mask
    assert fake.source_id == real.source_id == "deepfakedetection/01__exit_phone_room"
    assert (fake.generator, fake.split, out.info["status"]) == ("DeepFakeDetection", "", "unverified")
    assert out.info["inventory"]["problems"] == [
        "count: original c23 videos: 2 found, 363 published",
        "count: manipulated c23 videos: 1 found, 3,068 published",
    ]


def test_deepfakedetection_reports_foreign_names_and_the_servers_list(tmp_path):
    touch(tmp_path / "original_sequences/actors/c23/videos/01_02__exit_phone_room__YVGY8LOK.mp4")
    touch(tmp_path / "manipulated_sequences/DeepFakeDetection/c23/videos/01__exit_phone_room.mp4")
    touch(tmp_path / "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__hugging_happy__YVGY8LOK.mp4")
    said = dfd(tmp_path).prepare().info["inventory"]["problems"]
    assert sum(line.startswith("unparsable: ") for line in said) == 2
    names = {"actors": ["03__podium"], "DeepFakesDetection": ["01_02__hugging_happy__YVGY8LOK"]}
    (tmp_path / "deepfake_detection_filenames.json").write_text(json.dumps(names))
    said = dfd(tmp_path).prepare().info["inventory"]["problems"]
    assert "missing: original c23 videos: original_sequences/actors/c23/videos/03__podium.mp4" in said
    assert any(line.startswith("extra: manipulated") and "01__exit_phone_room" in line for line in said)
