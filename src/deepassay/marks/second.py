"""Labels read back by parsers that share no code with the first: Pillow, FFmpeg's demuxers, or the plain bytes."""

import html
import json
import os
import re
from dataclasses import dataclass
from typing import Any, BinaryIO

from deepassay.labels import Unusable
from deepassay.marks.source import MarkError
from deepassay.media.containers import Container, open_media, open_pyav
from deepassay.media.limits import DEFAULT_LIMITS

PILLOW, FFMPEG, BYTES = "Pillow", "FFmpeg", "bytes"
# FFmpeg shows no unknown RIFF chunk, so a label in one can only be looked for in the bytes.
_BY_BYTES = ("wav", "rf64")
_ELEMENT = re.compile(r"<(?:[\w.-]+:)?\w*AIGC\w*(?:\s[^>]*)?>(.*?)</", re.DOTALL)
_ATTRIBUTE = re.compile(r"\s(?:[\w.-]+:)?\w*AIGC\w*\s*=\s*(\"[^\"]*\"|'[^']*')")
_NEAR = 64  # bytes between the keyword and the object
_WINDOW = 1 << 20


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What a second parser found.

    Args:
        reader: `PILLOW`, `FFMPEG` or `BYTES`.
        texts: values under names that contain AIGC, as it gave them.
    """

    reader: str
    texts: tuple[str, ...]


def read_back(path: str | os.PathLike[str]) -> ReadBack:
    """Labels in a file, found without `deepassay.marks.scan`.

    Raises:
        MarkError: the file cannot be opened by the second parser.
    """
    try:
        with open_media(path) as (stream, container):
            if container.name in _BY_BYTES:
                return ReadBack(BYTES, tuple(_in_bytes(stream)))
            if container.pillow:
                return ReadBack(PILLOW, tuple(_by_pillow(stream, container)))
            return ReadBack(FFMPEG, tuple(_by_ffmpeg(stream, container)))
    except Unusable as error:
        raise MarkError(
            f"{path}: the second parser cannot read it ({error.reason})", hint="check that the file is whole"
        ) from error


def fields_of(text: str) -> dict[str, Any] | None:
    """The label's fields, the wrapper taken off; None where the text is no JSON object."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, dict) and set(value) == {"AIGC"}:
        value = value["AIGC"]
    return value if isinstance(value, dict) else None


def same_label(one: str, other: str) -> bool:
    """Both texts hold the same fields; texts that hold none are compared as they stand."""
    left, right = fields_of(one), fields_of(other)
    return one.strip() == other.strip() if left is None or right is None else left == right


def _by_pillow(stream: BinaryIO, container: Container) -> list[str]:
    from PIL import Image

    assert container.pillow is not None
    try:
        with Image.open(stream, formats=[container.pillow]) as image:
            DEFAULT_LIMITS.check_pixels(*image.size)
            image.load()  # PNG: text may stand behind the pixels
            info = dict(image.info)
            packets = [info.get("xmp"), info.get("XML:com.adobe.xmp")]
            if container.name == "tiff":
                packets.append(getattr(image, "tag_v2", {}).get(700))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise MarkError(
            f"the second parser (Pillow) cannot read the picture ({error})", hint="check that the file is whole"
        ) from error
    out = [str(value) for key, value in info.items() if "AIGC" in str(key).upper() and isinstance(value, str)]
    seen: set[str] = set()
    for packet in packets:
        text = packet.decode("utf-8", "replace") if isinstance(packet, bytes) else str(packet or "")
        if text and text not in seen:
            seen.add(text)
            out += _in_packet(text)
    return out


def _in_packet(text: str) -> list[str]:
    values = [one.strip() for one in _ELEMENT.findall(text)] + [one[1:-1].strip() for one in _ATTRIBUTE.findall(text)]
    return [html.unescape(value) for value in values if value]


def _by_ffmpeg(stream: BinaryIO, container: Container) -> list[str]:
    assert container.demuxer is not None
    with open_pyav(stream, container.demuxer) as opened:
        places = [opened.metadata, *(one.metadata for one in opened.streams)]
        return [str(value) for place in places for key, value in place.items() if "AIGC" in str(key).upper()]


def _in_bytes(stream: BinaryIO) -> list[str]:
    """JSON objects that follow the word AIGC closely."""
    out: list[str] = []
    decoder = json.JSONDecoder()
    before, start, done = b"", 0, -1
    while block := stream.read(_WINDOW):
        data = before + block
        for hit in re.finditer(rb"AIGC", data):
            brace = data.find(b"{", hit.end(), hit.end() + _NEAR)
            if brace < 0 or start + brace <= done:
                continue
            text = data[brace : brace + 65_536].decode("utf-8", "replace")
            try:
                _, length = decoder.raw_decode(text)
            except (ValueError, RecursionError):
                continue
            done = start + brace
            out.append(text[:length])
        keep = min(len(data), 65_536 + _NEAR)
        start += len(data) - keep
        before = data[-keep:]
    return out
