"""ADD's doors: genuine and fake by list, parts to splits, and what is wrong by name."""

import pytest

from deepassay.corpora.add_challenge import ADD2022, ADD2023
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL


def put(root, files):
    """Files with their text, or empty ones."""
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)


ADD22 = {
    "ADD_train_dev/label/train_label.txt": "ADD_T_1.wav genuine\nADD_T_2.wav fake\n",
    "ADD_train_dev/train/ADD_T_1.wav": "", "ADD_train_dev/train/ADD_T_2.wav": "",
    "ADD_train_dev/label/dev_label.txt": "ADD_D_1.wav fake\n", "ADD_train_dev/dev/ADD_D_1.wav": "",
    "track1adp_out/label.txt": "ADD_A_1.wav genuine\n", "track1adp_out/ADD_A_1.wav": "",
}  # fmt: skip


def test_2022_parts_and_polarity(tmp_path):
    put(tmp_path, ADD22)
    manifest = ADD2022(root=str(tmp_path), progress=False).prepare()
    assert [(s.path.rsplit("/", 1)[1], s.label, s.split) for s in manifest] == [
        ("ADD_T_1.wav", REAL, "train"), ("ADD_T_2.wav", FAKE, "train"), ("ADD_D_1.wav", FAKE, "dev"),
        ("ADD_A_1.wav", REAL, ""),
    ]  # fmt: skip
    assert manifest[1].generator == "ADD2022-unnamed"
    assert manifest[0].generator == ""


def test_2022_tests_need_their_list(tmp_path):
    with pytest.raises(ConfigError, match="no list is known for track1_test"):
        ADD2022(root=str(tmp_path), parts=["track1_test"])
    put(tmp_path, {"lists/t1.txt": "ADD_E1_0.wav fake\n", "track1test/ADD_E1_0.wav": ""})
    door = ADD2022(root=str(tmp_path), parts=["track1_test"], lists={"track1_test": "lists/t1.txt"}, progress=False)
    assert [(s.label, s.split) for s in door.prepare()] == [(FAKE, "test")]
    with pytest.raises(ConfigError, match="part is 'test'"):
        ADD2022(root=str(tmp_path), parts=["test"])


def test_2022_names_what_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(ADD2022, "published_counts", {"train bona fide": 1, "train spoofed": 1})
    put(tmp_path, {**ADD22, "ADD_train_dev/train/ADD_T_9.wav": "", "ADD_train_dev/label/train_label.txt":
        "ADD_T_1.wav fake\nADD_T_2.wav spoof\nADD_T_3.wav fake\n"})  # fmt: skip
    with pytest.raises(ManifestError, match="train bona fide: 0 found, 1 published") as caught:
        ADD2022(root=str(tmp_path), parts=["train"], progress=False).prepare()
    said = str(caught.value)
    assert "line 2: key 'spoof' is none of ['fake', 'genuine']" in said
    assert "missing: add2022 train: ADD_train_dev/train/ADD_T_3.wav" in said
    assert "extra: add2022 train: ADD_train_dev/train/ADD_T_9.wav" in said


def test_2023_finds_its_parts(tmp_path):
    put(tmp_path, {
        "Track1.2/testR2/label.txt": "ADD2023_T1.2R2_E_1.wav genuine\nADD2023_T1.2R2_E_2.wav fake\n",
        "Track1.2/testR2/wav/ADD2023_T1.2R2_E_1.wav": "", "Track1.2/testR2/wav/ADD2023_T1.2R2_E_2.wav": "",
        "Track1.2/dev/label.txt": "d.wav fake\n", "Track1.2/dev/wav/d.wav": "",
    })  # fmt: skip
    manifest = ADD2023(root=str(tmp_path), progress=False).prepare()
    assert {(s.label, s.split) for s in manifest} == {(FAKE, "dev"), (REAL, "test"), (FAKE, "test")}
    (tmp_path / "Track1.2/testR2/wav/ADD2023_T1.2R2_E_2.wav").unlink()
    with pytest.raises(ManifestError, match=r"missing: add2023 testR2: .*ADD2023_T1\.2R2_E_2\.wav"):
        ADD2023(root=str(tmp_path), progress=False).prepare()
    with pytest.raises(ManifestError, match=r"list Track1\.2/testR1/label\.txt"):
        ADD2023(root=str(tmp_path), parts=["testR1"], progress=False).prepare()
