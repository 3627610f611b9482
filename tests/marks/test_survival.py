"""Survival is read back by a second parser, reproduces the published lab, and offers no way to drop metadata."""

import json
from pathlib import Path

import pytest
from PIL import Image

from deepassay.errors import ConfigError, MediaError
from deepassay.marks import survival
from deepassay.marks.lab import LABEL, SOURCES, not_repeated, run_lab
from deepassay.marks.second import ReadBack
from deepassay.marks.survival import PIPELINES, measure_survival, pipelines_for, survives


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    for name, (_, make) in SOURCES.items():
        make(folder / name)
    return folder


def outcome(made, name, pipeline, tmp_path):
    return survives(made / name, PIPELINES[pipeline], tmp_path)


def test_the_lab_reproduces_the_published_one_and_says_where_it_differs(shared):
    published = shared / "golden" / "gb45438_label_survival_lab.json"
    rows = run_lab(published)
    assert sum(row.published is not None for row in rows) == 89
    assert [(row.source, row.operation) for row in rows if row.differs] == []
    # Two rows of the published lab drop metadata on purpose; that is no ordinary processing and not done here.
    assert {operation for _, operation in not_repeated(published, rows)} == {"-map_metadata -1 copy"}


def test_a_row_that_differs_is_reported(tmp_path):
    wrong = {"results": [{"source": "a.jpg", "operation": "as written", "label_present": False}]}
    (tmp_path / "lab.json").write_text(json.dumps(wrong))
    rows = run_lab(tmp_path / "lab.json", sources=["a.jpg"])
    assert [(row.source, row.operation) for row in rows if row.differs] == [("a.jpg", "as written")]
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(ConfigError, match="not a published survival lab"):
        run_lab(tmp_path / "broken.json", sources=[])


def test_the_flag_decides_whether_mp4_keeps_a_label(made, tmp_path):
    assert outcome(made, "v_flag.mp4", "remux_mp4", tmp_path).survived is False
    kept = outcome(made, "v_flag.mp4", "remux_mp4_tags", tmp_path)
    assert kept.survived is True
    assert kept.reader == "FFmpeg"
    assert kept.first_agrees is True


def test_another_label_in_the_output_is_no_survival(made, tmp_path, monkeypatch):
    other = LABEL.replace("P-0001", "P-0002")
    monkeypatch.setattr(survival, "read_back", lambda path: ReadBack("FFmpeg", (other,)))
    found = outcome(made, "w.mp3", "flac", tmp_path)
    assert found.survived is False
    assert found.first_agrees is False


def test_the_published_exit_code_is_not_believed(made, tmp_path, monkeypatch):
    """A pipeline that ends well and writes no label is a loss, whatever it was asked to do (check F12)."""

    def empty(path: Path, stem: Path) -> Path:
        out = stem.with_name("out.png")
        Image.new("RGB", (4, 4)).save(out)
        return out

    fake = survival.Pipeline("fake", "image", "x", "x", empty)
    assert survives(made / "a.jpg", fake, tmp_path).survived is False


def test_a_pipeline_that_fails_has_no_outcome_and_says_why(made, tmp_path):
    silent = tmp_path / "silent.mkv"
    import av

    with av.open(str(silent), "w", format="matroska") as box:
        box.metadata["AIGC"] = LABEL
        stream = box.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"  # pyright: ignore[reportAttributeAccessIssue]
        for _ in range(3):
            box.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))  # pyright: ignore[reportAttributeAccessIssue]
        box.mux(stream.encode(None))  # pyright: ignore[reportAttributeAccessIssue]
    found = survives(silent, PIPELINES["sound_mp3"], tmp_path / "out")
    assert found.survived is None
    assert found.error


def test_only_a_single_label_can_survive(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    with pytest.raises(MediaError, match="carries 0 implicit labels"):
        survives(tmp_path / "plain.png", PIPELINES["crop"], tmp_path)


def test_inputs_stay_as_they_are_and_outputs_are_cleared(made, tmp_path):
    before = (made / "a.webp").read_bytes()
    rows = measure_survival([(made / "a.webp", "image")], tmp_path / "out")
    assert [row.pipeline for row in rows] == [one.name for one in pipelines_for("image")]
    assert (made / "a.webp").read_bytes() == before
    assert list((tmp_path / "out").iterdir()) == []


def test_odd_and_tiny_pictures_go_through_every_pipeline(tmp_path):
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    info.add_text("AIGC", LABEL)
    Image.new("RGB", (17, 9)).save(tmp_path / "odd.png", pnginfo=info)
    rows = measure_survival([(tmp_path / "odd.png", "image")], tmp_path / "out")
    assert [row.error for row in rows] == [""] * len(rows)
    assert not any(row.survived for row in rows)


def test_unknown_pipelines_are_named():
    with pytest.raises(MediaError, match="no pipeline 'strip'"):
        pipelines_for("image", ["strip"])


def test_no_pipeline_drops_metadata_on_purpose():
    """Law 13 and Art. 18: options whose purpose is to drop metadata are not offered."""
    text = Path(survival.__file__).read_text()
    code = text[text.index("import os") :]
    for word in ("map_metadata -1", "map_metadata=-1", "bitexact", "exif=b", "del "):
        assert word not in code, word
    for one in PIPELINES.values():
        assert "map_metadata" not in one.stands_for
