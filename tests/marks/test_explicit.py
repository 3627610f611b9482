"""Explicit labels are judged from annotations alone: what passes, what fails, what depends on a disputed reading."""

import json

import pytest

from deepassay.errors import ConfigError
from deepassay.marks import explicit
from deepassay.marks.explicit import DISPUTED, FAIL, PASS, Annotation, judge, read_annotations


def image(**changes):
    values = {"file": "a.png", "media": "image", "present": True, "form": "text", "text": "AI生成",
              "places": ("corner",), "height_px": 70.0,
              "shortest_side_px": 1000.0, "height_of": "glyph", "legible": True}  # fmt: skip
    return judge(Annotation(**{**values, **changes}))


def test_a_good_image_label_passes_every_rule():
    assert set(image().outcomes.values()) == {PASS}


@pytest.mark.parametrize(
    ("changes", "rule", "outcome"),
    [
        ({"text": "AI"}, "elements", FAIL),
        ({"text": "人工智能"}, "elements", FAIL),
        ({"text": "合成"}, "elements", FAIL),
        ({"text": "人工智能合成"}, "elements", PASS),
        ({"text": "内容由ai生成"}, "elements", PASS),
        ({"places": ("inside",)}, "place", FAIL),
        ({"places": ("edge", "inside")}, "place", PASS),
        ({"legible": False}, "legible", FAIL),
        ({"form": "voice"}, "form", FAIL),
        ({"height_px": 50.0}, "height", PASS),
        ({"height_px": 30.0}, "height", FAIL),
        ({"height_px": 49.0}, "height", DISPUTED),
        ({"height_px": 60.0, "height_of": "em"}, "height", DISPUTED),
        ({"height_px": 66.0, "height_of": "em"}, "height", PASS),
        ({"height_px": 49.0, "height_of": "em"}, "height", FAIL),
        ({"height_px": 60.0, "height_of": ""}, "height", DISPUTED),
        ({"height_px": 70.0, "height_of": ""}, "height", PASS),
    ],
)
def test_image_rules(changes, rule, outcome):
    assert image(**changes).outcomes[rule] == outcome


def test_no_label_fails_presence_and_nothing_else_is_said():
    assert image(present=False).outcomes == {"present": FAIL}


def test_what_nobody_annotated_is_not_passed():
    bare = judge(Annotation(file="a", media="image", present=True))
    assert bare.outcomes == {"present": PASS}


def test_video_needs_the_start_frame_and_two_seconds():
    def video(**changes):
        values = {"file": "a.mp4", "media": "video", "present": True, "text": "AI合成", "places": ("start_frame",),
                  "duration_s": 2.0}  # fmt: skip
        return judge(Annotation(**{**values, **changes})).outcomes

    assert video()["place"] == video()["duration"] == PASS
    assert video(duration_s=1.99)["duration"] == FAIL
    assert video(places=("end",))["place"] == FAIL


def test_audio_takes_voice_or_rhythm():
    def audio(**changes):
        values = {"file": "a.wav", "media": "audio", "present": True, "form": "voice", "text": "本音频由人工智能生成",
                  "places": ("end",)}  # fmt: skip
        return judge(Annotation(**{**values, **changes}))

    assert set(audio().outcomes.values()) == {PASS}
    assert audio(text="注意").outcomes["elements"] == FAIL
    assert audio(form="rhythm", text="Short-long short-short").outcomes["elements"] == PASS
    assert audio(form="rhythm", text="短长 短短").outcomes["elements"] == PASS
    assert audio(form="rhythm", text="long-short short-short").outcomes["elements"] == FAIL
    assert audio(form="text").outcomes["form"] == FAIL
    # Speed is a note of the standard, not a rule: it fails nothing and is said.
    quick = audio(chars_per_minute=300.0)
    assert FAIL not in quick.outcomes.values()
    assert "300" in quick.notes[0]


def test_the_rules_are_those_of_the_digest(shared):
    rules = json.loads((shared / "golden" / "gb45438_rules.json").read_text())["explicit"]
    assert list(explicit.AI_WORDS) == rules["required_elements"]["ai"]
    assert list(explicit.SYNTHESIS_WORDS) == rules["required_elements"]["synthesis_any"]
    assert rules["image"]["min_text_height_ratio_of_shortest_side"] == explicit.SMALLEST_HEIGHT
    assert rules["video"]["min_duration_s_at_normal_speed"] == explicit.SHORTEST_S
    assert explicit.RHYTHM in rules["audio"]["rhythm"]


def table(path, *rows, header="file,media,present,form,text,place,height_px,shortest_side_px,duration_s"):
    path.write_text("\n".join([header, *rows]), encoding="utf-8")
    return path


def test_a_csv_is_read_with_quotes_byte_order_mark_and_chinese(tmp_path):
    path = table(tmp_path / "a.csv", 'a.png,image,yes,text,"人工智能,\n生成",corner,50,1000,', "b.png,image,否,,,,,,")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    first, second = read_annotations(path)
    assert first.outcomes["elements"] == PASS
    assert second.outcomes == {"present": FAIL}


def test_the_shortest_side_is_taken_from_the_file_where_it_is_left_out(tmp_path):
    from PIL import Image

    Image.new("RGB", (400, 200)).save(tmp_path / "a.png")
    (judged,) = read_annotations(table(tmp_path / "a.csv", "a.png,,yes,text,AI生成,corner,14,,"))
    assert judged.annotation.shortest_side_px == 200
    assert judged.annotation.media == "image"
    assert judged.outcomes["height"] == PASS


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["a.png,image,,,,,,,"], "present is empty"),
        (["a.png,image,maybe,,,,,,"], "present is 'maybe'"),
        (["a.png,picture,yes,,,,,,"], "media is 'picture'"),
        (["a.png,image,yes,text,x,nowhere,,,"], "place is 'nowhere'"),
        (["a.png,image,yes,shout,x,,,,"], "form is 'shout'"),
        (["a.png,image,yes,text,x,,tall,100,"], "height_px is 'tall'"),
        (["a.png,image,yes,text,x,,-3,100,"], "height_px is '-3'"),
        (["a.png,image,yes,,,,,,", "a.png,image,no,,,,,,"], "annotated twice"),
        ([",image,yes,,,,,,"], "names no file"),
        (["none.png,,yes,,,,,,"], "cannot be read"),
        ([], "holds no annotation"),
    ],
)
def test_faults_of_the_csv_are_named(rows, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        read_annotations(table(tmp_path / "a.csv", *rows))


def test_columns_are_checked(tmp_path):
    with pytest.raises(ConfigError, match="no column 'present'"):
        read_annotations(table(tmp_path / "a.csv", "a", header="file"))
    with pytest.raises(ConfigError, match="'colour' that is unknown"):
        read_annotations(table(tmp_path / "b.csv", "a,yes,x", header="file,present,colour"))
    with pytest.raises(ConfigError, match="cannot be read"):
        read_annotations(tmp_path / "none.csv")
