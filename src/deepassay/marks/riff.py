"""Carriers in RIFF files: WebP, WAV (also RF64 and BW64) and AVI."""

import struct
from collections.abc import Iterator

from deepassay.marks.mark import C2PA, GB45438, Carrier
from deepassay.marks.source import Broken, Source
from deepassay.marks.tags import in_id3
from deepassay.marks.xmp import in_xmp

FORMS = {b"WEBP": "WebP", b"WAVE": "WAV", b"AVI ": "AVI"}
_UNKNOWN = 0xFFFFFFFF  # RF64 keeps the true size of `data` in `ds64`


def in_riff(source: Source, container: str) -> Iterator[Carrier]:
    """Chunks ``XMP `` (WebP), ``AIGC`` (WAV), ``LIST/INFO`` sub-chunk ``AIGC`` (AVI) and ``C2PA``."""
    long_size: int | None = None
    offset = 12
    while offset < source.size - 1:  # one pad byte may follow the last chunk
        source.step()
        name, size = struct.unpack("<4sI", source.read(offset, 8))
        start = offset + 8
        if name == b"ds64" and size >= 16:
            long_size = struct.unpack("<Q", source.read(start + 8, 8))[0]
        if name == b"data" and size == _UNKNOWN:
            # A recorder that was cut off leaves the size open: the rest of the file is sound.
            size = long_size if long_size is not None else source.size - start
        if start + size > source.size:
            raise Broken(f"{container} chunk {name!r} at byte {offset} reaches beyond the end of the file")
        if name == b"XMP ":
            yield from in_xmp(source.read(start, size), f"{container} XMP chunk", standard_place=container == "WebP")
        elif name == b"_PMX":
            yield from in_xmp(source.read(start, size), f"{container} _PMX chunk", standard_place=False)
        elif name == b"AIGC":
            yield Carrier(
                GB45438, f"{container} chunk AIGC", "AIGC", _text(source, start, size), "", container == "WAV"
            )
        elif name == b"C2PA":
            yield Carrier(C2PA, f"{container} chunk C2PA", "C2PA", b"")
        elif name in (b"id3 ", b"ID3 "):
            yield from in_id3(source, start, f"{container} id3 chunk", standard_place=False)
        elif name == b"LIST" and size >= 4 and source.read(start, 4) == b"INFO":
            yield from _info(source, start + 4, start + size, container)
        offset = start + size + (size & 1)


def _info(source: Source, offset: int, end: int, container: str) -> Iterator[Carrier]:
    while offset + 8 <= end:
        source.step()
        name, size = struct.unpack("<4sI", source.read(offset, 8))
        if offset + 8 + size > end:
            raise Broken(f"{container} INFO entry {name!r} at byte {offset} reaches beyond its list")
        if name == b"AIGC":
            data = _text(source, offset + 8, size)
            yield Carrier(GB45438, f"{container} LIST/INFO", "AIGC", data, "", container == "AVI")
        offset += 8 + size + (size & 1)


def _text(source: Source, start: int, size: int) -> bytes:
    return source.read(start, size).rstrip(b"\x00")
