"""LAV-DF: flags per stream, segments, and the videos that the release itself does not list."""

import json

import pytest

from deepassay.corpora import lavdf
from deepassay.corpora.lavdf import LAVDF
from deepassay.errors import ManifestError
from deepassay.labels import FAKE, REAL


def row(file, video=False, audio=False, original=None, **more):
    fake = video or audio
    return {
        "file": file, "modify_video": video, "modify_audio": audio, "split": file.split("/")[0], "n_fakes": int(fake),
        "fake_periods": [[0.5, 1.25]] if fake else [], "original": original, **more,
    }  # fmt: skip


ROWS = (
    row("train/000001.mp4"),
    row("train/000002.mp4", video=True, original="train/000001.mp4"),
    row("dev/000003.mp4", audio=True, original="dev/000009.mp4"),
    row("test/000004.mp4", video=True, audio=True, original="test/000008.mp4"),
)


def tree(root, rows=ROWS, name="metadata.json"):
    for one in rows:
        (root / one["file"]).parent.mkdir(parents=True, exist_ok=True)
        (root / one["file"]).touch()
    (root / name).write_text(json.dumps(list(rows)))
    return root


def prepare(root, **options):
    return LAVDF(**{"root": str(root), "progress": False, "allow_partial": True, **options}).prepare()


def problems(out) -> list[str]:
    return [p for p in out.info["inventory"]["problems"] if not p.startswith("count: ")]


@pytest.mark.parametrize("name", ["metadata.json", "metadata.min.json"])
def test_each_modality_has_its_own_label_and_segments(tmp_path, name):
    tree(tmp_path, name=name)
    face = {s.path: s for s in prepare(tmp_path)}
    voice = {s.path: s for s in prepare(tmp_path, modality="voice")}
    assert problems(prepare(tmp_path)) == []
    assert [face[r["file"]].label for r in ROWS] == [REAL, FAKE, REAL, FAKE]
    assert [voice[r["file"]].label for r in ROWS] == [REAL, REAL, FAKE, FAKE]
    assert face["train/000002.mp4"].attributes["fake_segments"] == "0.5-1.25"
    assert "fake_segments" not in face["dev/000003.mp4"].attributes
    assert face["dev/000003.mp4"].attributes["manipulated"] == "sound"
    assert face["train/000002.mp4"].source_id == face["train/000001.mp4"].source_id == "lavdf/000001"
    assert [face[r["file"]].split for r in ROWS] == ["train", "train", "dev", "test"]
    assert not {s.sample_id for s in face.values()} & {s.sample_id for s in voice.values()}


def test_a_flipped_list_fails(tmp_path):
    flipped = [{**r, "modify_video": not r["modify_video"], "modify_audio": not r["modify_audio"]} for r in ROWS[:1]]
    with pytest.raises(ManifestError, match=r"train/000001\.mp4: modify_video True, modify_audio True, but 0 fake"):
        LAVDF(root=str(tree(tmp_path, flipped)), progress=False).prepare()


def test_missing_extra_unparsable_and_counts_are_named(tmp_path):
    tree(tmp_path, (*ROWS, {"file": "train/000007.mp4", "split": "val"}))
    (tmp_path / "test/000004.mp4").unlink()
    assert problems(prepare(tmp_path)) == [
        "extra: videos: train/000007.mp4",
        "missing: videos: test/000004.mp4",
        "unparsable: metadata.json, entry 5: no file, split or modify flags",
    ]
    with pytest.raises(ManifestError, match="dev videos: 1 found, 31,501 published"):
        LAVDF(root=str(tmp_path), progress=False).prepare()
    (tmp_path / "metadata.json").write_text("{}")
    with pytest.raises(ManifestError, match="holds no list"):
        prepare(tmp_path)
    (tmp_path / "metadata.json").unlink()
    with pytest.raises(ManifestError, match=r"list metadata\.json"):
        LAVDF(root=str(tmp_path), progress=False).prepare()


def test_the_unlisted_videos_of_the_release_are_counted_not_blamed(tmp_path, monkeypatch):
    tree(tmp_path)
    for k in range(2):
        (tmp_path / f"dev/00900{k}.mp4").touch()
    assert len(problems(prepare(tmp_path))) == 2
    monkeypatch.setattr(lavdf, "_UNLISTED", 2)
    out = prepare(tmp_path)
    assert problems(out) == []
    assert out.info["inventory"]["totals"]["videos without metadata (left out)"] == 2
    assert len(out) == len(ROWS)
