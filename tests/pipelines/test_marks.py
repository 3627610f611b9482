"""deepassay marks: tables and JSON from the same facts, exit codes, and the lab beside a published one."""

import json

import pytest
from PIL import Image, PngImagePlugin

from deepassay.cli import main
from deepassay.marks.lab import LABEL, SOURCES


def picture(path, *labels):
    info = PngImagePlugin.PngInfo()
    for text in labels:
        info.add_text("AIGC", text)
    Image.new("RGB", (24, 16)).save(path, pnginfo=info)
    return path


def labelled(number):
    return LABEL.replace("P-0001", f"P-{number}")


def test_good_files_exit_zero_and_json_holds_everything(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(3):
        picture(folder / f"{i}.png", labelled(i))
    assert main(["marks", str(folder), "--json", "-"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert [one["file"] for one in out["files"]] == ["0.png", "1.png", "2.png"]
    assert all(one["exactly_one"] and one["schema_valid"] and one["parsers_agree"] for one in out["files"])
    assert out["files"][0]["marks"][0]["fields"]["ProduceID"] == "P-0"
    assert out["numbers"]["implicit"][0]["support"]["count"] == {"k": 3, "n": 3}


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([], "no implicit label"),
        ([LABEL, LABEL], "2 implicit labels"),
        ([LABEL.replace('"1"', "1")], "not a string"),
        ([LABEL.replace('"ReservedCode1":"",', "")], "ReservedCode1 is missing"),
        ([LABEL.replace('"Label":"1"', '"Label":"9"')], "not one of"),
        ([LABEL.replace("0010001", "00100011")], "looks like a provider code"),
    ],
)
def test_a_broken_rule_is_named_and_exits_one(labels, said, tmp_path, capsys):
    assert main(["marks", str(picture(tmp_path / "a.png", *labels))]) == 1
    assert said in " ".join(capsys.readouterr().out.split())


def test_an_id_used_twice_and_an_unreadable_file_exit_one(tmp_path, capsys):
    paths = [str(picture(tmp_path / name, LABEL)) for name in ("a.png", "b.png")]
    assert main(["marks", *paths]) == 1
    assert "stands in 2 files" in " ".join(capsys.readouterr().out.split())
    (tmp_path / "junk.jpg").write_text("hello")
    assert main(["marks", str(tmp_path / "junk.jpg")]) == 1


def test_annotations_and_survival_are_shown(tmp_path, capsys):
    SOURCES["w.mp3"][1](tmp_path / "a.mp3")
    (tmp_path / "a.csv").write_text("file,media,present,form,text,place\na.mp3,audio,yes,voice,人工智能合成,start\n")
    arguments = ["marks", str(tmp_path / "a.mp3"), "--annotations", str(tmp_path / "a.csv"), "--survival"]
    assert main([*arguments, "--json", str(tmp_path / "o.json")]) == 0
    out = json.loads((tmp_path / "o.json").read_text())
    assert {one["pipeline"]: one["survived"] for one in out["survival"]} == {
        "mp3": True, "wav": False, "flac": True, "opus": True, "m4a": False,
    }  # fmt: skip
    assert out["annotations"][0]["outcomes"]["elements"] == "pass"
    assert out["pipelines"]["m4a"].startswith("ffmpeg")
    assert "elements pass" in capsys.readouterr().out


def test_an_annotation_that_fails_exits_one(tmp_path):
    picture(tmp_path / "a.png", LABEL)
    (tmp_path / "a.csv").write_text("file,media,present,text\na.png,image,yes,AI\n")
    assert main(["marks", str(tmp_path / "a.png"), "--annotations", str(tmp_path / "a.csv")]) == 1


def test_the_lab_beside_the_published_one(shared, tmp_path, capsys):
    published = shared / "golden" / "gb45438_label_survival_lab.json"
    assert main(["marks", "--lab", "--against", str(published), "--json", str(tmp_path / "lab.json")]) == 0
    out = json.loads((tmp_path / "lab.json").read_text())
    assert out["lab"]["differing"] == []
    assert len(out["lab"]["not_repeated"]) == 2
    assert "89 rows compared with the published lab, 0 differ" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["--against", "x.json"], ["none.png"], ["--lab", "--against", "none.json"]])
def test_what_cannot_be_done_ends_with_a_hint(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["marks", *arguments]) == 2
    assert "hint: " in capsys.readouterr().err
