"""Labels that mutagen writes, a tagger of its own: found, parsed, and read back the same by the second parser."""

import json

import av
import numpy as np
import pytest

from deepassay.marks.lab import LABEL
from deepassay.marks.sample import inspect_file

mutagen = pytest.importorskip("mutagen", reason="mutagen (a development tool) is not installed")


def sound(path, form, codec):
    with av.open(str(path), "w", format=form) as box:
        stream = box.add_stream(codec, rate=48_000 if codec == "libopus" else 16_000)
        stream.layout = "mono"  # pyright: ignore[reportAttributeAccessIssue]
        rate = stream.codec_context.sample_rate  # pyright: ignore[reportAttributeAccessIssue]
        size = stream.codec_context.frame_size or 1024  # pyright: ignore[reportAttributeAccessIssue]
        fit = av.AudioResampler(stream.format, "mono", rate, frame_size=size)  # pyright: ignore[reportAttributeAccessIssue]
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = rate, 0
        for part in [*fit.resample(frame), *fit.resample(None), None]:
            box.mux(stream.encode(part))  # pyright: ignore[reportAttributeAccessIssue]
    return path


def txxx(path, text, **keywords):
    from mutagen.id3 import TXXX
    from mutagen.mp3 import MP3

    file = MP3(path)
    if file.tags is None:
        file.add_tags()
    assert file.tags is not None
    file.tags.add(TXXX(encoding=keywords.pop("encoding", 3), desc="AIGC", text=text))
    file.save(**keywords)


def comment(path, text):
    file = mutagen.File(path)
    assert file is not None
    file["AIGC"] = text
    file.save()


WRITERS = {
    "mp3 id3v2.4": ("a.mp3", "mp3", "libmp3lame", txxx, "MP3 ID3v2 TXXX"),
    "mp3 id3v2.3 utf-16": (
        "a.mp3", "mp3", "libmp3lame", lambda p, t: txxx(p, t, encoding=1, v2_version=3), "MP3 ID3v2 TXXX"
    ),
    "flac": ("a.flac", "flac", "flac", comment, "FLAC VORBIS_COMMENT"),
    "ogg opus": ("a.opus", "opus", "libopus", comment, "Ogg Opus comment header"),
    "ogg flac": ("a.oga", "ogg", "flac", comment, "Ogg FLAC comment header"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRITERS)
def test_a_label_by_mutagen_is_found(name, tmp_path):
    file, form, codec, write, place = WRITERS[name]
    path = sound(tmp_path / file, form, codec)
    assert inspect_file(path).labels == ()
    write(path, LABEL)
    report = inspect_file(path)
    assert [(mark.place, mark.text) for mark in report.labels] == [(place, LABEL)]
    assert report.schema_valid
    assert report.standard_place
    assert report.parsers_agree is True


@pytest.mark.parametrize("name", WRITERS)
@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (LABEL.replace('"ProduceID":"P-0001",', ""), "missing_field"),
        (LABEL.replace('"Label":"1"', '"Label":1'), "string_values"),
        (LABEL.replace('"Label":"1"', '"Label":"0"'), "label_value"),
        (LABEL.replace("0010001", "00100012"), "provider_code"),
    ],
)
def test_damage_by_mutagen_is_reported(name, text, rule, tmp_path):
    file, form, codec, write, _ = WRITERS[name]
    path = sound(tmp_path / file, form, codec)
    write(path, text)
    assert json.loads(text)
    assert rule in {f.rule for f in inspect_file(path).findings if f.outcome == "fail"}


@pytest.mark.parametrize("name", ["flac", "ogg opus"])
def test_two_labels_by_mutagen_are_one_too_many(name, tmp_path):
    file, form, codec, write, _ = WRITERS[name]
    path = sound(tmp_path / file, form, codec)
    write(path, [LABEL, LABEL.replace("P-0001", "P-0002")])
    report = inspect_file(path)
    assert len(report.labels) == 2
    assert "exactly_one" in {f.rule for f in report.findings if f.outcome == "fail"}
