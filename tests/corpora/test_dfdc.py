"""DFDC and its preview: metadata rows tie fakes to originals; labels that contradict what is known are found."""

import json

import pytest

from deepassay.corpora.dfdc import DFDC, DFDCPreview
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL

PART = {
    "aa.mp4": {"label": "FAKE", "split": "train", "original": "bb.mp4"},
    "bb.mp4": {"label": "REAL", "split": "train", "original": None},
    "cc.mp4": {"label": "FAKE", "split": "train", "original": "bb.mp4"},
}


def write(root, path, text=""):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def tree(root, rows=PART, top="train/dfdc_train_part_0"):
    write(root, f"{top}/metadata.json", json.dumps(rows))
    for name in rows:
        write(root, f"{top}/{name}")
    for part in ("validation", "test"):
        write(root, f"{part}/labels.csv", "filename,label\n0001.mp4,1\n0002.mp4,0\n")
        for name in ("0001.mp4", "0002.mp4"):
            write(root, f"{part}/{name}")
    return root


def prepare(root, kind=DFDC, **options):
    return kind(**{"root": str(root), "progress": False, "allow_partial": True, **options}).prepare()


def problems(out) -> list[str]:
    return [p for p in out.info["inventory"]["problems"] if not p.startswith("count: ")]


def test_labels_originals_and_splits(tmp_path):
    out = prepare(tree(tmp_path))
    rows = {s.path: s for s in out}
    assert problems(out) == []
    fake, real = rows["train/dfdc_train_part_0/aa.mp4"], rows["train/dfdc_train_part_0/bb.mp4"]
    assert (fake.label, real.label) == (FAKE, REAL)
    assert fake.source_id == real.source_id == "dfdc/bb"
    assert (fake.split, fake.generator, real.generator) == ("train", "DFDC", "")
    assert (rows["validation/0001.mp4"].label, rows["validation/0001.mp4"].split) == (FAKE, "dev")
    assert (rows["test/0002.mp4"].label, rows["test/0002.mp4"].split) == (REAL, "test")
    # The same file name in two parts: two ids.
    assert rows["validation/0001.mp4"].sample_id != rows["test/0001.mp4"].sample_id
    assert {s.split for s in prepare(tmp_path, parts=["validation"])} == {"dev"}


def test_the_official_sample_rows_read_as_published(shared, tmp_path):
    path = shared / "data" / "official" / "dfdc_train_sample_metadata_5rows.json"
    if not path.is_file():
        pytest.skip("no DFDC sample metadata beside the project")
    rows = json.loads(path.read_text())
    out = prepare(tree(tmp_path, rows, top="train_sample_videos"), parts=["train"])
    assert problems(out) == []
    assert {s.path.rsplit("/", 1)[1]: s.label for s in out} == {
        name: REAL if row["label"] == "REAL" else FAKE for name, row in rows.items()
    }
    assert {s.source_id for s in out if s.label == FAKE} == {
        "dfdc/vudstovrck", "dfdc/jdubbvfswz", "dfdc/atvmxvwyns", "dfdc/qzimuostzz",
    }  # fmt: skip


def test_a_flipped_list_fails(tmp_path):
    other = {"REAL": "FAKE", "FAKE": "REAL"}
    flipped = {name: {**row, "label": other[row["label"]]} for name, row in PART.items()}
    with pytest.raises(ManifestError, match=r"aa\.mp4: labelled real, but its original is 'bb\.mp4'") as caught:
        DFDC(root=str(tree(tmp_path, flipped)), parts=["train"], progress=False).prepare()
    assert "3 label" in str(caught.value)


def test_missing_extra_unparsable_and_counts_are_named(tmp_path):
    root = tree(tmp_path, {**PART, "dd.mp4": {"split": "train"}})
    (root / "train/dfdc_train_part_0/cc.mp4").unlink()
    write(root, "train/dfdc_train_part_0/zz.mp4")
    (root / "train/dfdc_train_part_1").mkdir()
    write(root, "test/labels.csv", "filename,label\n0001.mp4,fake\n0002.mp4,0\n")
    assert problems(prepare(root)) == [
        "extra: training videos: train/dfdc_train_part_0/zz.mp4",
        "extra: test videos: test/0001.mp4",
        "missing: training videos: train/dfdc_train_part_0/cc.mp4",
        "missing: train/dfdc_train_part_1/metadata.json",
        "unparsable: train/dfdc_train_part_0/metadata.json, dd.mp4: {'split': 'train'} has no label REAL or FAKE",
        "unparsable: test/labels.csv, line 2: '0001.mp4,fake' is not '<file name>,<0 real or 1 fake>'",
    ]
    with pytest.raises(ManifestError, match=r"training parts: 2 found, 50 published"):
        DFDC(root=str(root), progress=False).prepare()
    write(root, "train/dfdc_train_part_0/metadata.json", "[]")
    with pytest.raises(ManifestError, match="holds a list"):
        prepare(root)


@pytest.mark.parametrize("parts", [["dev"], [], ["test", "test"]])
def test_unknown_parts_are_refused(parts):
    with pytest.raises(ConfigError, match="parts"):
        DFDC(root="nowhere", parts=parts)


PREVIEW = {
    "original_videos/643669/643669_C_001.mp4": {"label": "real", "set": "test", "augmentations": []},
    "method_A/643669/643669_C/1044619_643669_C_001.mp4": {
        "label": "fake", "set": "test", "swapped_id": "1044619", "target_id": "643669", "augmentations": [],
    },
    "method_B/643669/643669_C/1255229_643669_C_001.mp4": {"label": "fake", "set": "train", "augmentations": []},
}  # fmt: skip


def preview(root, rows=PREVIEW):
    write(root, "dataset.json", json.dumps(rows))
    for path in PREVIEW:
        write(root, path)
    return root


def test_preview_ties_a_swap_to_the_targets_clip(tmp_path):
    out = DFDCPreview(root=str(preview(tmp_path)), progress=False).prepare()
    rows = {s.path.split("/")[0]: s for s in out}
    assert {k: s.label for k, s in rows.items()} == {"original_videos": REAL, "method_A": FAKE, "method_B": FAKE}
    assert rows["method_A"].subjects == ("dfdc_preview/643669", "dfdc_preview/1044619")
    assert rows["method_A"].source_id == rows["original_videos"].source_id == "dfdc_preview/643669_C_001"
    assert (rows["method_A"].generator, rows["method_B"].generator) == ("method_A", "method_B")
    assert (rows["original_videos"].split, rows["method_B"].split) == ("test", "train")
    assert out.info["inventory"]["totals"]["test fake videos"] == 1


def test_preview_flipped_missing_and_odd_rows_are_named(tmp_path):
    other = {"real": "fake", "fake": "real"}
    root = preview(tmp_path, {p: {**row, "label": other[row["label"]]} for p, row in PREVIEW.items()})
    with pytest.raises(ManifestError, match="labelled fake, but lies in original_videos"):
        DFDCPreview(root=str(root), progress=False).prepare()
    preview(root, {**PREVIEW, "method_A/1/1_A/2_1_A_001.mp4": {}, "method_B/x.mp4": {"label": "fake", "set": "train"}})
    write(root, "method_A/1/1_A/2_1_A_001.mp4")
    write(root, "method_B/y.mp4")
    assert problems(prepare(root, DFDCPreview)) == [
        "extra: videos: method_B/y.mp4",
        "missing: videos: method_B/x.mp4",
        "unparsable: dataset.json, method_A/1/1_A/2_1_A_001.mp4: {} has no label and set",
    ]


def test_preview_without_its_list_has_nothing_to_say(tmp_path):
    root = preview(tmp_path)
    (root / "dataset.json").unlink()
    with pytest.raises(ManifestError, match=r"list dataset\.json"):
        DFDCPreview(root=str(root), progress=False).prepare()
