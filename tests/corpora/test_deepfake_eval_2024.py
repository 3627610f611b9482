"""Deepfake-Eval-2024: a truth per stream, unknown truths counted, and names that the published list lost."""

import pytest

from deepassay.corpora.deepfake_eval_2024 import DeepfakeEval2024
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL

LISTS = {
    "image-metadata-publish.csv": "Filename,Ground Truth,Finetuning Set\na.jpg,Real,Train\nb.webp,Fake,Test\n"
    "c.png,Unknown,Test\n#NAME?,Fake,Train\n",
    "video-metadata-publish.csv": "Filename,Video Ground Truth,Audio Ground Truth,Finetuning Set\n"
    "v.mp4,Real,Fake,Train\nw.mp4,Fake,Unknown,Test\n",
    "audio-metadata-publish.csv": "Filename,Ground Truth,Finetuning Set\ns.mp3,Fake,Train\nt.m4a,Real,Test\n",
}
FILES = ("image-data/a.jpg", "image-data/b.webp", "image-data/c.png", "video-data/v.mp4", "video-data/w.mp4",
         "audio-data/s.mp3", "audio-data/t.m4a")  # fmt: skip


def tree(root, lists=LISTS):
    for name, text in lists.items():
        (root / name).write_text(text)
    for path in FILES:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def prepare(root, **options):
    return DeepfakeEval2024(**{"root": str(root), "progress": False, "allow_partial": True, **options}).prepare()


def problems(out) -> list[str]:
    return [p for p in out.info["inventory"]["problems"] if not p.startswith("count: ")]


def test_faces_are_pictures_and_videos(tmp_path):
    out = prepare(tree(tmp_path))
    rows = {s.path: s for s in out}
    assert problems(out) == []
    assert {p: s.label for p, s in rows.items()} == {
        "image-data/a.jpg": REAL, "image-data/b.webp": FAKE, "video-data/v.mp4": REAL, "video-data/w.mp4": FAKE,
    }  # fmt: skip
    assert {p: s.media for p, s in rows.items() if "video" in p} == {
        "video-data/v.mp4": "video",
        "video-data/w.mp4": "video",
    }
    assert rows["image-data/b.webp"].split == "test"
    totals = out.info["inventory"]["totals"]
    assert totals["image files of unknown truth (left out)"] == 1
    assert totals["image rows without a name, as published (left out)"] == 1


def test_voices_are_sound_files_and_the_sound_of_videos(tmp_path):
    tree(tmp_path)
    out = prepare(tmp_path, modality="voice")
    assert {s.path: (s.label, s.media) for s in out} == {
        "audio-data/s.mp3": (FAKE, "audio"), "audio-data/t.m4a": (REAL, "audio"),
    }  # fmt: skip
    both = prepare(tmp_path, modality="voice", parts=["audio", "video"])
    video = next(s for s in both if s.media == "video")
    assert (video.path, video.label) == ("video-data/v.mp4", FAKE)  # its picture is real
    assert not {s.sample_id for s in both} & {s.sample_id for s in prepare(tmp_path)}


def test_broken_copies_are_described(tmp_path):
    tree(
        tmp_path, {**LISTS, "audio-metadata-publish.csv": LISTS["audio-metadata-publish.csv"] + "u.wav,perhaps,Test\n"}
    )
    (tmp_path / "audio-data/s.mp3").unlink()
    (tmp_path / "audio-data/x.mp3").touch()
    assert problems(prepare(tmp_path, modality="voice")) == [
        "extra: audio files: audio-data/x.mp3",
        "missing: audio files: audio-data/s.mp3",
        "unparsable: audio-metadata-publish.csv, line 4: 'u.wav' has truth 'perhaps'",
    ]
    with pytest.raises(ManifestError, match="image rows: 4 found, 1,975 published"):
        DeepfakeEval2024(root=str(tmp_path), progress=False).prepare()
    (tmp_path / "audio-metadata-publish.csv").write_text("Filename,Label\na,b\n")
    with pytest.raises(ManifestError, match="no column Finetuning Set"):
        DeepfakeEval2024(root=str(tmp_path), modality="voice", progress=False).prepare()


def test_lists_with_links_are_read_where_the_others_are_not(tmp_path):
    tree(tmp_path)
    (tmp_path / "video-metadata-publish.csv").rename(tmp_path / "video-metadata-publish-with-links.csv")
    assert len(prepare(tmp_path, parts=["video"])) == 2


@pytest.mark.parametrize(
    "options", [{"modality": "av"}, {"parts": ["audio"]}, {"modality": "voice", "parts": ["image"]}]
)
def test_what_has_no_truth_is_refused(options):
    with pytest.raises(ConfigError):
        DeepfakeEval2024(root="nowhere", **options)
