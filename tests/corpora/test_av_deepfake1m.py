"""AV-Deepfake1M and ++: the kind of change decides the label of each modality; test files have none."""

import json

import pytest

from deepassay.corpora.av_deepfake1m import AVDeepfake1M, AVDeepfake1MPlusPlus
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL

KINDS = {
    "real": "real",
    "fake_video_real_audio": "visual_modified",
    "real_video_fake_audio": "audio_modified",
    "fake_video_fake_audio": "both_modified",
}


def row(folder, name, kind, **more):
    segments = [] if kind == "real" else [[0.48, 0.86]]
    return {
        "file": f"{folder}/{name}.mp4", "modify_type": kind, "fake_segments": segments, "audio_model": "vits",
        "visual_fake_segments": [[0.5, 0.8]] if kind in ("visual_modified", "both_modified") else [],
        "audio_fake_segments": segments if kind in ("audio_modified", "both_modified") else [], **more,
    }  # fmt: skip


def rows(folder, **more):
    return [row(folder, name, kind, **more) for name, kind in KINDS.items()]


def tree(root, **lists):
    for word, listed in lists.items():
        for one in listed:
            path = root / word / one.get("file", "x.mp4")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        (root / f"{word}_metadata.json").write_text(json.dumps(listed))
    return root


def prepare(kind, root, **options):
    return kind(**{"root": str(root), "progress": False, "allow_partial": True, **options}).prepare()


def problems(out) -> list[str]:
    return [p for p in out.info["inventory"]["problems"] if not p.startswith("count: ")]


def test_each_modality_has_its_own_label(tmp_path):
    tree(tmp_path, train=rows("id00012/21Uxsk56VDQ/00001"), val=rows("id02432/OmzNYuwUO4o/00041"))
    face = AVDeepfake1M(root=str(tmp_path), progress=False).prepare()
    voice = AVDeepfake1M(root=str(tmp_path), progress=False, modality="voice").prepare()
    train = {s.attributes["manipulated"]: s for s in face if s.split == "train"}
    dev = {s.attributes["manipulated"]: s for s in voice if s.split == "dev"}
    assert {k: s.label for k, s in train.items()} == {"nothing": REAL, "picture": FAKE, "sound": REAL, "both": FAKE}
    assert {k: s.label for k, s in dev.items()} == {"nothing": REAL, "picture": REAL, "sound": FAKE, "both": FAKE}
    assert train["both"].subjects == ("voxceleb2/id00012",)
    assert {s.source_id for s in train.values()} == {"av_deepfake1m/id00012/21Uxsk56VDQ/00001"}
    assert train["picture"].attributes["fake_segments"] == "0.5-0.8"
    assert dev["sound"].attributes["fake_segments"] == "0.48-0.86"
    assert (dev["sound"].generator, train["sound"].generator) == ("vits", "")
    assert train["picture"].generator == "av_deepfake1m lips"
    assert not {s.sample_id for s in face} & {s.sample_id for s in voice}


def test_a_flipped_list_fails(tmp_path):
    flipped = [
        row("id1/a/1", "real", "both_modified"),
        row("id1/a/1", "fake_video_fake_audio", "real"),
        row("id1/a/1", "real_p1", "real"),
    ]
    with pytest.raises(ManifestError, match=r"real\.mp4: modify_type both_modified with 1 fake segments") as caught:
        AVDeepfake1M(root=str(tree(tmp_path, val=flipped)), splits=["val"], progress=False).prepare()
    assert "2 label" in str(caught.value)


def test_missing_extra_and_unparsable_are_named(tmp_path):
    tree(tmp_path, val=[*rows("id00012/a/00001"), {"file": "id00012/a/00001/odd.mp4", "modify_type": "swapped"}])
    (tmp_path / "val/id00012/a/00001/real.mp4").unlink()
    assert problems(prepare(AVDeepfake1M, tmp_path)) == [
        "extra: val videos: val/id00012/a/00001/odd.mp4",
        "missing: list train_metadata.json",
        "missing: val videos: val/id00012/a/00001/real.mp4",
        "unparsable: val_metadata.json, entry 5: no file or no modify_type of ['real', 'visual_modified', "
        "'audio_modified', 'both_modified']",
    ]
    (tmp_path / "val_metadata.json").write_text("{}")
    with pytest.raises(ManifestError, match="holds no list"):
        prepare(AVDeepfake1M, tmp_path)


def test_plus_plus_names_generators_corpora_and_its_count(tmp_path):
    tree(
        tmp_path,
        val=[
            *rows("vox_celeb_2/id01358/_1nATum8x78/00030", video_model="Talklip"),
            *rows("lrs3/abc/00001"),
            row("silent_videos/subject_7_hash_vid_1_2", "real", "real"),
        ],
    )
    out = prepare(AVDeepfake1MPlusPlus, tmp_path, splits=["val"])
    rows_ = {s.path: s for s in out}
    fake = rows_["val/vox_celeb_2/id01358/_1nATum8x78/00030/fake_video_real_audio.mp4"]
    assert (fake.generator, fake.subjects, fake.attributes["parent"]) == (
        "Talklip",
        ("voxceleb2/id01358",),
        "VoxCeleb2",
    )
    assert {s.subjects[0].split("/")[0] for s in out} == {"voxceleb2", "lrs3", "av_deepfake1m"}
    with pytest.raises(ManifestError, match="val videos: 9 found, 77,326 published"):
        AVDeepfake1MPlusPlus(root=str(tmp_path), splits=["val"], progress=False).prepare()


def test_test_files_have_no_label(tmp_path):
    tree(tmp_path, val=rows("id1/a/1"))
    (tmp_path / "test").mkdir()
    for k in range(2):
        (tmp_path / f"test/00000{k}.mp4").touch()
    (tmp_path / "test_files.txt").write_text("000000.mp4\n000001.mp4\n000002.mp4\n")
    out = prepare(AVDeepfake1M, tmp_path, splits=["val"], test=True)
    assert [s.label for s in out if s.split == "test"] == [None, None]
    assert problems(out) == ["missing: test videos: test/000002.mp4"]


@pytest.mark.parametrize("options", [{"modality": "av"}, {"splits": ["dev"]}])
def test_unknown_words_are_refused(options):
    with pytest.raises(ConfigError):
        AVDeepfake1M(root="nowhere", **options)
