"""Marks by independent writers are found in every container; damaged or hostile files never crash the reader."""

import ast
import io
import json
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin, TiffImagePlugin

from deepassay import marks
from deepassay.marks import source as limits

GOOD = json.dumps(
    {"Label": "1", "ContentProducer": "001191110000600037341L10001", "ProduceID": "P-1", "ReservedCode1": "",
     "ContentPropagator": "001191110000600037341L10001", "PropagateID": "P-1", "ReservedCode2": ""}
)  # fmt: skip
XMP = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    'xmlns:TC260="http://www.tc260.org.cn/ns/AIGC/1.0/">'
    f"<TC260:AIGC>{GOOD}</TC260:AIGC></rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end='w'?>"
).encode()


# --- writers: Pillow and PyAV where they can, bytes by hand where they cannot ---


def _picture() -> Image.Image:
    return Image.fromarray((np.random.default_rng(0).random((24, 32, 3)) * 255).astype(np.uint8))


def _pillow(format: str, **options) -> bytes:
    out = io.BytesIO()
    _picture().save(out, format, **options)
    return out.getvalue()


def jpeg(xmp: bytes = XMP) -> bytes:
    return _pillow("JPEG", xmp=xmp)


def webp() -> bytes:
    return _pillow("WEBP", xmp=XMP)


def avif() -> bytes:
    return _pillow("AVIF", xmp=XMP)


def tiff() -> bytes:
    info = TiffImagePlugin.ImageFileDirectory_v2()
    info[700] = XMP
    info.tagtype[700] = 7
    return _pillow("TIFF", tiffinfo=info)


def png_itxt(compressed: bool = False) -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=compressed)
    return _pillow("PNG", pnginfo=info)


def png_text() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("AIGC", GOOD)
    return _pillow("PNG", pnginfo=info)


def png_ztxt() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("AIGC", GOOD, zip=True)
    return _pillow("PNG", pnginfo=info)


def gif() -> bytes:
    plain = _pillow("GIF")
    trailer = b"\x01" + bytes(range(255, -1, -1)) + b"\x00"
    return plain[:-1] + b"\x21\xff\x0bXMP DataXMP" + XMP + trailer + b";"


def _av(name: str, codec: str, format: str, metadata: dict[str, str], options: dict[str, str] | None = None) -> bytes:
    out = io.BytesIO()
    with av.open(out, "w", format=format, options=options or {}) as box:
        box.metadata.update(metadata)
        if codec in ("libx264", "libvpx-vp9", "mpeg4"):
            stream: Any = box.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for index in range(3):
                frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 60 * index, np.uint8), format="rgb24")
                box.mux(stream.encode(frame))
            box.mux(stream.encode(None))
        else:
            rate = 48_000 if codec == "libopus" else 16_000
            stream: Any = box.add_stream(codec, rate=rate)
            stream.layout = "mono"
            fit = av.AudioResampler(stream.format, "mono", rate, frame_size=stream.codec_context.frame_size or 1024)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
            frame.sample_rate = rate
            for part in [*fit.resample(frame), *fit.resample(None), None]:
                box.mux(stream.encode(part))
    return out.getvalue()


FLAG = {"movflags": "use_metadata_tags"}
LABEL = {"AIGC": GOOD}


def _riff(form: bytes, *chunks: tuple[bytes, bytes], head: bytes = b"RIFF") -> bytes:
    body = b"".join(n + struct.pack("<I", len(d)) + d + b"\x00" * (len(d) % 2) for n, d in chunks)
    return head + struct.pack("<I", 4 + len(body)) + form + body


FORMAT = (b"fmt ", struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16))
SOUND = (b"data", b"\x00" * 101)


def wav(*chunks: tuple[bytes, bytes]) -> bytes:
    return _riff(b"WAVE", FORMAT, SOUND, *(chunks or ((b"AIGC", GOOD.encode()),)))


def _info() -> tuple[bytes, bytes]:
    data = GOOD.encode() + b"\x00"
    return b"LIST", b"INFOISFT" + struct.pack("<I", 3) + b"ab\x00\x00AIGC" + struct.pack("<I", len(data)) + data


def avi() -> bytes:
    return _riff(b"AVI ", (b"LIST", b"hdrl" + b"\x00" * 20), _info(), (b"LIST", b"movi" + b"\x00" * 99))


def _synchsafe(n: int) -> bytes:
    return bytes([n >> 21 & 127, n >> 14 & 127, n >> 7 & 127, n & 127])


def id3(version: int, encoding: int = 3, *, unsynchronised: bool = False, packed: bool = False) -> bytes:
    codec = {0: "latin-1", 1: "utf-16", 2: "utf-16-be", 3: "utf-8"}[encoding]
    end = b"\x00\x00" if encoding in (1, 2) else b"\x00"
    data = bytes([encoding]) + "AIGC".encode(codec) + end + GOOD.encode(codec)
    flags = b"\x00\x00"
    if packed:
        flags = b"\x00\x80" if version == 3 else b"\x00\x09"
        size = struct.pack(">I", len(data)) if version == 3 else _synchsafe(len(data))
        data = size + zlib.compress(data)
    if version == 2:
        frame = b"TT2" + (4).to_bytes(3, "big") + b"\x00abc" + b"TXX" + len(data).to_bytes(3, "big") + data
    else:
        size = _synchsafe(len(data)) if version == 4 else struct.pack(">I", len(data))
        frame = b"TIT2" + struct.pack(">I", 4) + b"\x00\x00\x00abc" + b"TXXX" + size + flags + data
    head_flags = 0
    if unsynchronised:
        frame, head_flags = frame.replace(b"\xff", b"\xff\x00"), 0x80
    body = frame + b"\x00" * 20
    return b"ID3" + bytes([version, 0, head_flags]) + _synchsafe(len(body)) + body + b"\xff\xfb\x90\x00" + b"\x00" * 400


def ogg(first: bytes, head: bytes) -> bytes:
    """Header pages of one stream; the comment packet is long enough to run over a page's end."""
    entries = [b"ENCODER=" + b"x" * 66_000, b"AIGC=" + GOOD.encode()]
    comment = head + struct.pack("<I", 3) + b"me!" + struct.pack("<I", len(entries))
    comment += b"".join(struct.pack("<I", len(e)) + e for e in entries)
    lacing = [255] * (len(comment) // 255) + [len(comment) % 255]
    pages, at = [], 0
    for start in range(0, len(lacing), 255):
        part = lacing[start : start + 255]
        pages.append((1 if start else 0, part, comment[at : at + sum(part)]))
        at += sum(part)
    pages = [(2, [len(first)], first), *pages, (4, [10], b"\x05" * 10)]
    return b"".join(
        b"OggS\x00" + bytes([flag]) + b"\x00" * 8 + b"\x07\x00\x00\x00" + struct.pack("<II", n, 0) + bytes([len(part)])
        + bytes(part) + body
        for n, (flag, part, body) in enumerate(pages)
    )  # fmt: skip


def _box(kind: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + kind + body


def mov_freeform() -> bytes:
    """An iTunes-style item under udta.meta, as some taggers write M4A."""
    item = _box(
        b"----", _box(b"mean", b"\x00" * 4, b"com.apple.iTunes"), _box(b"name", b"\x00" * 4, b"AIGC"),
        _box(b"data", struct.pack(">II", 1, 0), GOOD.encode()),
    )  # fmt: skip
    meta = _box(b"meta", b"\x00" * 4, _box(b"hdlr", b"\x00" * 25), _box(b"ilst", item))
    return _box(b"ftyp", b"M4A \x00\x00\x00\x00") + _box(b"moov", _box(b"udta", meta)) + _box(b"mdat", b"x" * 9)


WRITERS: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "jpeg": ("JPEG", "JPEG APP1 XMP", jpeg),
    "png itxt": ("PNG", "PNG iTXt XMP", png_itxt),
    "png itxt compressed": ("PNG", "PNG iTXt XMP", lambda: png_itxt(True)),
    "png text": ("PNG", "PNG tEXt", png_text),
    "png ztxt": ("PNG", "PNG zTXt", png_ztxt),
    "webp": ("WebP", "WebP XMP chunk", webp),
    "avif": ("HEIF", "HEIF meta XMP item", avif),
    "tiff": ("TIFF", "TIFF IFD0 XMP", tiff),
    "gif": ("GIF", "GIF application extension XMP", gif),
    "mp4": ("MP4", "MP4 moov.udta.meta keys/ilst", lambda: _av("a.mp4", "libx264", "mp4", LABEL, FLAG)),
    "mov": ("MOV", "MOV moov.udta.meta keys/ilst", lambda: _av("a.mov", "libx264", "mov", LABEL, FLAG)),
    "m4a": ("MP4", "MP4 moov.udta.meta keys/ilst", lambda: _av("a.m4a", "aac", "ipod", LABEL, FLAG)),
    "m4a freeform": ("MP4", "MP4 moov.udta.meta freeform item", mov_freeform),
    "mkv": ("Matroska", "Matroska Segment.Tags.Tag.SimpleTag", lambda: _av("a.mkv", "libx264", "matroska", LABEL)),
    "webm": ("WebM", "WebM Segment.Tags.Tag.SimpleTag", lambda: _av("a.webm", "libvpx-vp9", "webm", LABEL)),
    "flv": ("FLV", "FLV script onMetaData", lambda: _av("a.flv", "libx264", "flv", LABEL)),
    "flac": ("FLAC", "FLAC VORBIS_COMMENT", lambda: _av("a.flac", "flac", "flac", LABEL)),
    "ogg opus": ("Ogg", "Ogg Opus comment header", lambda: _av("a.opus", "libopus", "opus", LABEL)),
    "ogg flac": ("Ogg", "Ogg FLAC comment header", lambda: ogg(b"\x7fFLAC\x01\x00\x00\x01fLaC", b"\x84\x00\x01\x00")),
    "ogg vorbis": ("Ogg", "Ogg Vorbis comment header", lambda: ogg(b"\x01vorbis" + b"\x00" * 23, b"\x03vorbis")),
    "ogg speex": ("Ogg", "Ogg Speex comment header", lambda: ogg(b"Speex   1.2" + b"\x00" * 69, b"")),
    "mp3": ("MP3", "MP3 ID3v2 TXXX", lambda: _av("a.mp3", "libmp3lame", "mp3", LABEL)),
    "id3v2.2": ("MP3", "MP3 ID3v2 TXXX", lambda: id3(2, 0)),
    "id3v2.3 utf-16": ("MP3", "MP3 ID3v2 TXXX", lambda: id3(3, 1)),
    "id3v2.3 unsynchronised": ("MP3", "MP3 ID3v2 TXXX", lambda: id3(3, 1, unsynchronised=True)),
    "id3v2.3 packed": ("MP3", "MP3 ID3v2 TXXX", lambda: id3(3, 0, packed=True)),
    "id3v2.4 utf-16be": ("MP3", "MP3 ID3v2 TXXX", lambda: id3(4, 2)),
    "id3v2.4 packed": ("MP3", "MP3 ID3v2 TXXX", lambda: id3(4, 3, packed=True)),
    "wav": ("WAV", "WAV chunk AIGC", wav),
    "wav info": ("WAV", "WAV LIST/INFO", lambda: wav(_info())),
    "avi": ("AVI", "AVI LIST/INFO", avi),
}
_MADE: dict[str, bytes] = {}


def made(name: str) -> bytes:
    if name not in _MADE:
        _MADE[name] = WRITERS[name][2]()
    return _MADE[name]


def look(data: bytes) -> marks.Scan:
    return marks.scan_stream(io.BytesIO(data))


# --- found ---


@pytest.mark.parametrize("name", WRITERS)
def test_a_mark_by_an_independent_writer_is_found(name, tmp_path):
    container, place, _ = WRITERS[name]
    path = tmp_path / "file.bin"  # the name says nothing: only the content counts
    path.write_bytes(made(name))
    found = marks.read_marks(path)
    assert [(m.kind, m.container, m.place, m.text) for m in found] == [("gb45438", container, place, GOOD)]
    fails = {f.rule for f in marks.validate_marks(found) if f.outcome == "fail"}
    assert fails == ({"place"} if name in ("png ztxt", "m4a freeform", "wav info") else set())


@pytest.mark.parametrize(
    "name", ["mp4", "mkv", "flv", "flac", "mp3", "png itxt", "wav", "ogg opus", "id3v2.4 utf-16be"]
)
def test_a_changed_label_is_reported(name):
    data = made(name)
    for before, after, rule in (
        ('"Label": "1"', '"Label": "7"', "label_value"),
        ('"ProduceID"', '"ProducfID"', "missing_field"),
        ('"ReservedCode2": ""', '"ReservedCode2": 11', "string_values"),
    ):
        encoding = "utf-16-be" if "utf-16be" in name else "utf-8"
        changed = data.replace(before.encode(encoding), after.encode(encoding))
        assert changed != data
        findings = marks.validate_marks(look(changed).marks)
        assert rule in {f.rule for f in findings if f.outcome == "fail"}


def test_ffmpeg_without_its_flag_writes_no_label_and_we_say_so():
    found = look(_av("a.mp4", "libx264", "mp4", LABEL))
    assert found.marks == ()
    assert [f.rule for f in marks.validate_marks(found.marks)] == ["exactly_one"]


def test_two_labels_in_one_file_are_one_too_many():
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    info.add_text("AIGC", GOOD)
    found = look(_pillow("PNG", pnginfo=info))
    assert len(found.marks) == 2
    assert marks.validate_marks(found.marks)[0].rule == "exactly_one"


def test_xmp_property_as_attribute_or_in_a_strange_namespace():
    escaped = GOOD.replace('"', "&quot;")
    attribute = XMP.replace(f"<TC260:AIGC>{GOOD}</TC260:AIGC>".encode(), b"").replace(
        b'rdf:about=""', f'rdf:about="" TC260:AIGC="{escaped}"'.encode()
    )
    assert look(jpeg(attribute)).marks[0].text == GOOD
    strange = look(jpeg(XMP.replace(b"http://www.tc260.org.cn/ns/AIGC/1.0/", b"http://example.org/"))).marks
    assert "namespace" in {f.rule for f in marks.validate_marks(strange) if f.outcome == "fail"}


@pytest.mark.parametrize(
    "packet",
    [XMP.replace(b"</x:xmpmeta>", b""), XMP.replace(b"<x:xmpmeta", b'<!DOCTYPE a [<!ENTITY b "c">]><x:xmpmeta', 1)],
)
def test_a_broken_or_dangerous_packet_with_a_label_is_reported_not_lost(packet):
    found = look(jpeg(packet)).marks
    assert len(found) == 1
    assert "plain_json" in {f.rule for f in marks.validate_marks(found) if f.outcome == "fail"}


def test_extended_xmp_and_fill_bytes_in_jpeg():
    guid = b"0123456789ABCDEF0123456789ABCDEF"
    half = len(XMP) // 2
    plain = jpeg(b"<x/>")
    parts = b""
    for start, piece in ((half, XMP[half:]), (0, XMP[:half])):  # out of order on purpose
        body = b"http://ns.adobe.com/xmp/extension/\x00" + guid + struct.pack(">II", len(XMP), start) + piece
        parts += b"\xff\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    assert look(plain[:2] + parts + plain[2:]).marks[0].text == GOOD


def test_flac_behind_id3_and_tags_in_a_row():
    tag = id3(4)[: -(4 + 400)]
    found = look(tag + tag + made("flac"))
    assert found.container == "FLAC"
    assert [m.place for m in found.marks] == ["FLAC ID3v2 TXXX", "FLAC ID3v2 TXXX", "FLAC VORBIS_COMMENT"]


def test_rf64_and_an_open_recording_are_walked_through():
    size = (b"ds64", struct.pack("<QQQI", 0, 100, 50, 0))
    whole = _riff(b"WAVE", size, FORMAT, (b"data", b"\x00" * 100), (b"AIGC", GOOD.encode()), head=b"RF64")
    whole = whole.replace(b"data" + struct.pack("<I", 100), b"data\xff\xff\xff\xff")
    assert look(whole).marks[0].text == GOOD


def test_matroska_of_a_live_recording_with_open_sizes():
    def element(name: bytes, *parts: bytes, size: bytes | None = None) -> bytes:
        body = b"".join(parts)
        return name + (struct.pack(">Q", len(body) | 1 << 56) if size is None else size) + body

    simple = element(b"\x67\xc8", element(b"\x45\xa3", b"AIGC"), element(b"\x44\x87", GOOD.encode()))
    tags = element(b"\x12\x54\xc3\x67", element(b"\x73\x73", element(b"\x63\xc0"), simple))
    cluster = element(
        b"\x1f\x43\xb6\x75", element(b"\xe7", b"\x00"), element(b"\xa3", b"x" * 50), size=b"\x01" + b"\xff" * 7
    )
    head = element(b"\x1a\x45\xdf\xa3", element(b"\x42\x82", b"matroska"))
    found = look(head + element(b"\x18\x53\x80\x67", cluster, tags, size=b"\x01" + b"\xff" * 7))
    assert [m.text for m in found.marks] == [GOOD]
    assert found.problems == ()


# --- C2PA ---

STORE = bytes.fromhex("6332706100110010800000aa00389b71")


def _c2pa_jpeg() -> bytes:
    jumd = _box(b"jumd", STORE, b"\x03c2pa\x00")
    body = b"JP" + struct.pack(">HI", 1, 1) + _box(b"jumb", jumd)
    plain = jpeg(b"<x/>")
    return plain[:2] + b"\xff\xeb" + struct.pack(">H", len(body) + 2) + body + plain[2:]


def _c2pa_png() -> bytes:
    plain = _pillow("PNG")
    chunk = struct.pack(">I4s", 4, b"caBX") + b"jumb" + struct.pack(">I", zlib.crc32(b"caBXjumb"))
    return plain[:33] + chunk + plain[33:]


def _c2pa_mp3() -> bytes:
    data = b"\x00application/x-c2pa-manifest-store\x00name\x00\x00jumb"
    frame = b"GEOB" + struct.pack(">I", len(data)) + b"\x00\x00" + data
    return b"ID3\x03\x00\x00" + _synchsafe(len(frame)) + frame + b"\xff\xfb\x90\x00"


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (_c2pa_jpeg, "JPEG APP11 JUMBF"),
        (_c2pa_png, "PNG caBX"),
        (_c2pa_mp3, "MP3 ID3v2 GEOB"),
        (lambda: wav((b"C2PA", b"jumb")), "WAV chunk C2PA"),
        (
            lambda: made("mp4") + _box(b"uuid", bytes.fromhex("d8fec3d61b0e483c92975828877ec481"), b"\x00" * 9),
            "MP4 uuid box",
        ),
        (
            lambda: jpeg(
                b'<r xmlns:d="http://purl.org/dc/terms/"><d:provenance>https://example.org/m.c2pa</d:provenance></r>'
            ),
            "JPEG APP1 XMP dcterms:provenance",
        ),
    ],
)
def test_presence_of_c2pa_is_told_and_trust_is_not(data, place):
    found = [m for m in look(data()).marks if m.kind == "c2pa"]
    assert [m.place for m in found] == [place]
    assert found[0].trust == "not checked"


def test_other_jumbf_is_not_c2pa():
    assert look(_c2pa_jpeg().replace(STORE, b"0" * 16)).marks == ()


# --- absence, damage, hostility ---


def test_unmarked_files_give_nothing():
    for data in (
        _pillow("JPEG"), _pillow("PNG"), _pillow("WEBP"), _pillow("AVIF"), _pillow("GIF"), _pillow("TIFF"),
        _av("a.mp4", "libx264", "mp4", {"title": "x"}, FLAG), _av("a.mkv", "libx264", "matroska", {"title": "x"}),
        _av("a.flac", "flac", "flac", {"title": "AIGC"}), _av("a.mp3", "libmp3lame", "mp3", {"title": "AIGC"}),
        _av("a.avi", "mpeg4", "avi", LABEL), _av("a.flv", "libx264", "flv", {"title": "AIGC"}),
        _riff(b"WAVE", FORMAT, SOUND),
    ):  # fmt: skip
        found = look(data)
        assert found.marks == ()
        assert found.problems == ()


def test_unmarked_real_media_give_no_false_hit(shared):
    files = [
        *sorted((shared / "data" / "faces").glob("*.jpg")),
        *sorted((shared / "data" / "videos").glob("*.mp4")),
        *sorted((shared / "data" / "voices").glob("*.flac")),
    ]
    assert len(files) > 5000
    for path in files:
        assert marks.read_marks(path) == [], path.name


@pytest.mark.parametrize("name", ["png text", "mp4", "mkv", "flv", "flac", "wav", "jpeg"])
def test_a_file_cut_before_its_mark_is_not_called_unmarked(name, tmp_path):
    data = made(name)
    path = tmp_path / "cut"
    path.write_bytes(data[: data.index(b"AIGC") - 6])
    with pytest.raises(marks.MarkError, match="breaks off"):
        marks.read_marks(path)


def test_a_mark_before_the_damage_is_kept(tmp_path):
    data = made("png text")
    cut = data[: data.index(b"IDAT") + 30]
    path = tmp_path / "cut.png"
    path.write_bytes(cut)
    assert len(marks.read_marks(path)) == 1
    assert marks.scan(path).problems


@pytest.mark.parametrize("data", [b"", b"x", b"hello world, this is text", b"RIFF\x00\x00\x00\x00QLCM", b"\x00" * 64])
def test_what_is_no_container_is_an_error_with_a_hint(data, tmp_path):
    path = tmp_path / "thing"
    path.write_bytes(data)
    with pytest.raises(marks.MarkError, match="hint: "):
        marks.read_marks(path)


def test_a_missing_file_is_an_error_with_a_hint(tmp_path):
    with pytest.raises(marks.MarkError, match="cannot be read"):
        marks.read_marks(tmp_path / "none.jpg")
    with pytest.raises(marks.MarkError, match="cannot be read"):
        marks.read_marks(tmp_path)


def _zip_bomb() -> bytes:
    packed = zlib.compress(b"A" * (limits.MAX_BLOCK + 10), 9)
    data = b"XML:com.adobe.xmp\x00\x01\x00\x00\x00" + packed
    chunk = struct.pack(">I4s", len(data), b"iTXt") + data + b"\x00" * 4
    plain = _pillow("PNG")
    return plain[:33] + chunk + plain[33:]


def _many_chunks() -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sI", 0, b"tEXt", 0) * (limits.MAX_STEPS + 5)


def _deep_tags() -> bytes:
    inner = b""
    for _ in range(40):
        inner = b"\x67\xc8" + struct.pack(">Q", len(inner) | 1 << 56) + inner
    for name in (b"\x73\x73", b"\x12\x54\xc3\x67", b"\x18\x53\x80\x67"):
        inner = name + struct.pack(">Q", len(inner) | 1 << 56) + inner
    return b"\x1a\x45\xdf\xa3\x80" + inner


def _deep_boxes() -> bytes:
    inner = b""
    for _ in range(40):
        inner = _box(b"udta", inner)
    return _box(b"ftyp", b"isom\x00\x00\x00\x00") + _box(b"moov", inner)


def _huge_block() -> bytes:
    data = b"AIGC" + struct.pack("<I", limits.MAX_BLOCK + 2) + b"x" * (limits.MAX_BLOCK + 2)
    return b"RIFF" + struct.pack("<I", 4 + len(data)) + b"WAVE" + data


@pytest.mark.parametrize("make", [_zip_bomb, _many_chunks, _deep_tags, _deep_boxes, _huge_block])
def test_limits_end_the_search_quickly_and_say_so(make):
    data = make()
    start = time.perf_counter()
    found = look(data)
    assert time.perf_counter() - start < 5
    assert found.problems


def test_no_entity_is_expanded():
    bomb = b'<!DOCTYPE l [<!ENTITY a "AIGC"><!ENTITY b "&a;&a;&a;&a;">]><x>&b;</x>'
    assert "document type" in look(jpeg(bomb)).marks[0].problem


HEADS = (
    b"\xff\xd8\xff\xe1", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\x00\x08\x00\x00\x00", b"MM\x00*\x00\x00\x00\x08",
    b"RIFF\x00\x00\x00\x00WEBP", b"RIFF\x00\x00\x00\x00WAVE", b"RIFF\x00\x00\x00\x00AVI ", b"\x00\x00\x00\x14ftypisom",
    b"\x00\x00\x01\x00moov", b"\x1a\x45\xdf\xa3", b"OggS\x00\x02", b"fLaC",
    b"FLV\x01\x05\x00\x00\x00\x09\x00\x00\x00\x00\x12", b"ID3\x03\x00\x00", b"ID3\x04\x00\x40", b"",
)  # fmt: skip


def _survives(data: bytes) -> None:
    try:
        found = look(data)
    except marks.MarkError:
        return
    for finding in marks.validate_marks(found.marks):
        assert finding.outcome in ("fail", "disputed", "note")


@given(head=st.sampled_from(HEADS), tail=st.binary(max_size=400))
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_random_bytes_never_crash(head, tail):
    _survives(head + tail)


@given(name=st.sampled_from(sorted(WRITERS)), data=st.data())
@settings(max_examples=1500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_mutated_marked_files_never_crash(name, data):
    whole = bytearray(made(name))
    near = bytes(whole).find(b"AIGC") if data.draw(st.booleans()) else 0
    for _ in range(data.draw(st.integers(1, 4))):
        low, high = max(0, near - 200), min(len(whole) - 1, near + 300)
        at = data.draw(st.integers(low, high))
        action = data.draw(st.sampled_from(["set", "cut", "repeat", "insert"]))
        if action == "set":
            whole[at] = data.draw(st.integers(0, 255))
        elif action == "cut":
            del whole[at : at + data.draw(st.integers(1, 64))]
        elif action == "repeat":
            whole[at:at] = whole[at : at + 40]
        else:
            whole[at:at] = data.draw(st.binary(min_size=1, max_size=16))
        if not whole:
            break
    _survives(bytes(whole))


def test_nothing_here_writes_or_strips():
    """Law 13: the reader opens files for reading only and the package offers no function that removes a mark."""
    folder = Path(marks.__file__).parent
    for path in folder.glob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef):
                assert not any(word in node.name for word in ("strip", "remove", "write", "erase")), node.name
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "open":
                assert [a.value for a in node.args[1:] if isinstance(a, ast.Constant)] == ["rb"]
