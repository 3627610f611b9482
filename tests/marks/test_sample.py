"""A second parser finds every label that the first one finds, for every container; sample-level faults are reported."""

import json
import struct

import pytest
from PIL import Image, PngImagePlugin

from deepassay.errors import MediaError
from deepassay.marks import second
from deepassay.marks.lab import LABEL, SOURCES
from deepassay.marks.sample import CODE, MALFORMED, NAME, files_below, inspect_file, inspect_sample
from deepassay.marks.second import BYTES, FFMPEG, PILLOW, read_back, same_label

READERS = {
    "a_itxt.png": PILLOW, "a_text.png": PILLOW, "a.jpg": PILLOW, "a.webp": PILLOW, "v_flag.mp4": FFMPEG,
    "v.mkv": FFMPEG, "w.wav": BYTES, "w.mp3": FFMPEG, "w.flac": FFMPEG, "w.ogg": FFMPEG, "w.opus": FFMPEG,
    "w.m4a": FFMPEG,
}  # fmt: skip


def png(path, *texts, xmp=""):
    info = PngImagePlugin.PngInfo()
    for text in texts:
        info.add_text("AIGC", text)
    if xmp:
        info.add_itxt("XML:com.adobe.xmp", xmp)
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    return path


def label(**changes):
    fields = {**json.loads(LABEL), **changes}
    return json.dumps({k: v for k, v in fields.items() if v is not None})


@pytest.mark.parametrize("name", SOURCES)
def test_both_parsers_find_the_label_in_every_container(name, tmp_path):
    SOURCES[name][1](tmp_path / name)
    report = inspect_file(tmp_path / name)
    assert report.second is not None
    assert report.second.reader == READERS[name]
    assert report.one
    assert report.schema_valid
    assert report.standard_place
    assert report.parsers_agree is True
    assert report.provider == CODE


def test_the_second_parser_finds_nothing_where_nothing_is(tmp_path):
    path = png(tmp_path / "plain.png")
    report = inspect_file(path)
    assert report.second is not None
    assert report.second.texts == ()
    assert report.parsers_agree is True
    assert not report.labels


def test_a_label_that_only_one_parser_sees_is_a_disagreement(tmp_path, monkeypatch):
    path = png(tmp_path / "a.png", LABEL)
    monkeypatch.setattr("deepassay.marks.sample.read_back", lambda p: second.ReadBack(PILLOW, ()))
    assert inspect_file(path).parsers_agree is False
    other = second.ReadBack(PILLOW, (label(ProduceID="P-2"),))
    monkeypatch.setattr("deepassay.marks.sample.read_back", lambda p: other)
    assert inspect_file(path).parsers_agree is False


def test_labels_are_compared_by_their_fields():
    assert same_label(LABEL, json.dumps({"AIGC": json.loads(LABEL)}, indent=2))
    assert not same_label(LABEL, label(Label="2"))
    assert same_label(" broken ", "broken")
    assert not same_label("broken", LABEL)


def test_bytes_are_searched_over_block_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(second, "_WINDOW", 1000)
    for at in (960, 990, 999, 1000, 1001):
        path = tmp_path / f"{at}.wav"
        body = b"WAVEdata" + struct.pack("<I", at) + b"\x00" * (at + at % 2)
        body += b"AIGC" + struct.pack("<I", len(LABEL)) + LABEL.encode() + b"\x00" * (len(LABEL) % 2)
        path.write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
        assert read_back(path).texts == (LABEL,)
        assert inspect_file(path).parsers_agree is True


def test_attribute_form_and_escapes_of_xmp(tmp_path):
    xmp = (
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        '<rdf:Description rdf:about="" xmlns:T="http://www.tc260.org.cn/ns/AIGC/1.0/" '
        f'T:AIGC="{LABEL.replace(chr(34), "&quot;")}"/></rdf:RDF></x:xmpmeta>'
    )
    report = inspect_file(png(tmp_path / "a.png", xmp=xmp))
    assert [m.text for m in report.labels] == [LABEL]
    assert report.parsers_agree is True


def test_two_labels_a_wrong_type_and_a_missing_field_are_told_apart(tmp_path):
    two = inspect_file(png(tmp_path / "two.png", LABEL, label(ProduceID="P-9")))
    assert not two.one
    assert two.schema_valid
    typed = inspect_file(png(tmp_path / "typed.png", label(Label=1)))
    assert typed.one
    assert not typed.schema_valid
    missing = inspect_file(png(tmp_path / "missing.png", label(ReservedCode2=None)))
    assert not missing.schema_valid
    assert missing.parsers_agree is True


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("001191110100000000000010001", CODE),
        ("Acme Voice", NAME),
        ("0011911101000000000000100019", MALFORMED),
        ("", ""),
    ],
)
def test_provider_codes(value, kind, tmp_path):
    assert inspect_file(png(tmp_path / "a.png", label(ContentProducer=value))).provider == kind


def test_an_id_in_two_files_is_reported_and_other_providers_ids_are_not(tmp_path):
    paths = [
        png(tmp_path / "a.png", LABEL),
        png(tmp_path / "b.png", LABEL),
        png(tmp_path / "c.png", label(ContentProducer="Acme")),
        png(tmp_path / "d.png", label(ProduceID="P-2")),
        png(tmp_path / "e.png"),
    ]
    sample = inspect_sample(paths)
    assert [sample.unique(one) for one in sample.files] == [False, False, True, True, None]
    assert list(sample.repeated.values()) == [(str(paths[0]), str(paths[1]))]


def test_what_cannot_be_read_is_neither_marked_nor_unmarked(tmp_path):
    (tmp_path / "junk.png").write_bytes(b"hello")
    whole = png(tmp_path / "cut.png", LABEL).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: whole.index(b"AIGC") - 4])
    junk, cut = inspect_file(tmp_path / "junk.png"), inspect_file(tmp_path / "cut.png")
    assert junk.error
    assert not junk.looked_through
    assert not cut.looked_through
    assert cut.second_error


def test_folders_are_searched_and_links_are_not_followed(tmp_path):
    (tmp_path / "in").mkdir()
    png(tmp_path / "in" / "a.png")
    (tmp_path / "outside.txt").write_text("x")
    (tmp_path / "in" / "link.png").symlink_to(tmp_path / "outside.txt")
    assert [p.name for p in files_below([tmp_path / "in"])] == ["a.png"]
    with pytest.raises(MediaError, match="does not exist"):
        files_below([tmp_path / "none"])


def test_unmarked_real_media_have_no_hit_by_either_parser(shared):
    files = [
        *sorted((shared / "data" / "faces").glob("*.jpg"))[::100],
        *sorted((shared / "data" / "videos").glob("*.mp4"))[::10],
        *sorted((shared / "data" / "voices").glob("*.flac"))[::100],
    ]
    assert len(files) > 30
    sample = inspect_sample(files)
    assert [one.path for one in sample.files if one.marks or one.parsers_agree is not True] == []
