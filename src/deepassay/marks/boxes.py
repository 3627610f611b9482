"""Carriers in ISO base media files: MP4, MOV, M4A (moov.udta.meta) and HEIF, AVIF (XMP items)."""

import struct
from collections.abc import Iterator

from deepassay.marks.mark import C2PA, GB45438, Carrier
from deepassay.marks.source import MAX_DEPTH, Broken, Source
from deepassay.marks.xmp import in_xmp

_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")  # C2PA specification, embedding in BMFF
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")  # Adobe XMP specification part 3
FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"styp")


def _boxes(source: Source, offset: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """(type, start of the content, end) of the boxes in a range."""
    while offset + 8 <= end:
        source.step()
        size, kind = struct.unpack(">I4s", source.read(offset, 8))
        start = offset + 8
        if size == 1:
            size = struct.unpack(">Q", source.read(start, 8))[0]
            start += 8
        elif size == 0:
            if offset and kind == b"\x00\x00\x00\x00":  # four zero bytes may end a QuickTime user data list
                return
            size = end - offset
        if size < start - offset or offset + size > end:
            raise Broken(f"box {kind!r} at byte {offset} does not fit where it stands")
        yield kind, start, offset + size
        offset += size


def in_boxes(source: Source, container: str) -> Iterator[Carrier]:
    """Metadata of the movie, its tracks and its items; top-level uuid boxes of XMP and C2PA."""
    for kind, start, end in _boxes(source, 0, source.size):
        if kind == b"moov":
            yield from _movie(source, start, end, f"{container} moov", 0)
        elif kind == b"meta":
            yield from _meta(source, start, end, f"{container} meta", standard_place=True)
        elif kind == b"uuid" and end - start >= 16:
            name = source.read(start, 16)
            if name == _C2PA:
                yield Carrier(C2PA, f"{container} uuid box", "c2pa", b"")
            elif name == _XMP:
                data = source.read(start + 16, end - start - 16)
                yield from in_xmp(data, f"{container} uuid XMP", standard_place=False)


def _movie(source: Source, start: int, end: int, place: str, depth: int) -> Iterator[Carrier]:
    if depth > MAX_DEPTH:
        raise Broken("boxes are nested too deeply")
    for kind, first, last in _boxes(source, start, end):
        name = kind.decode("latin-1")
        if kind in (b"udta", b"trak"):
            yield from _movie(source, first, last, f"{place}.{name}", depth + 1)
        elif kind == b"meta":
            where = f"{place}.meta"
            yield from _meta(source, first, last, where, standard_place=where.endswith(" moov.udta.meta"))
        elif kind == b"XMP_":
            yield from in_xmp(source.read(first, last - first), f"{place}.XMP_", standard_place=False)


def _meta(source: Source, start: int, end: int, place: str, *, standard_place: bool) -> Iterator[Carrier]:
    # ISO files have version and flags here, QuickTime files do not.
    if end - start >= 8 and source.read(start + 4, 4) != b"hdlr":
        start += 4
    keys: list[str] = []
    lists: list[tuple[int, int]] = []
    items: list[int] = []
    places: tuple[int, int] | None = None
    store: int | None = None
    for kind, first, last in _boxes(source, start, end):
        if kind == b"keys":
            keys = _keys(source, first, last)
        elif kind == b"ilst":
            lists.append((first, last))
        elif kind == b"iinf":
            items = _xmp_items(source, first, last)
        elif kind == b"iloc":
            places = (first, last)
        elif kind == b"idat":
            store = first
    for first, last in lists:
        yield from _item_list(source, first, last, keys, place, standard_place)
    if items and places:
        for data in _item_data(source, *places, items, store):
            yield from in_xmp(data, f"{place} XMP item")


def _keys(source: Source, start: int, end: int) -> list[str]:
    count = struct.unpack(">I", source.read(start + 4, 4))[0]
    names: list[str] = []
    for _kind, first, last in _boxes(source, start + 8, end):
        names.append(source.read(first, last - first).decode("utf-8", "replace"))
        if len(names) == count:
            break
    return names


def _item_list(
    source: Source, start: int, end: int, keys: list[str], place: str, standard_place: bool
) -> Iterator[Carrier]:
    for kind, first, last in _boxes(source, start, end):
        index = int.from_bytes(kind, "big")
        name = keys[index - 1] if 1 <= index <= len(keys) else ""
        freeform = kind == b"----"
        value: bytes | None = None
        for part, a, b in _boxes(source, first, last):
            if part == b"name" and freeform and b - a >= 4:
                name = source.read(a + 4, b - a - 4).decode("utf-8", "replace")
            elif part == b"data" and value is None and b - a >= 8 and ("AIGC" in name.upper() or not name):
                value = source.read(a + 8, b - a - 8) if name else None
        if "AIGC" in name.upper():
            where = f"{place} {'freeform item' if freeform else 'keys/ilst'}"
            problem = "" if value is not None else "the key has no value"
            yield Carrier(GB45438, where, name, value or b"", problem, standard_place and not freeform)


def _xmp_items(source: Source, start: int, end: int) -> list[int]:
    """Ids of items of content type application/rdf+xml (ISO/IEC 23008-12, ISO/IEC 14496-12 8.11.6)."""
    version = source.read(start, 1)[0]
    out = []
    for kind, first, last in _boxes(source, start + (6 if version == 0 else 8), end):
        if kind != b"infe":
            continue
        data = source.read(first, min(last - first, 1024))
        wide = data[0] >= 3
        if data[0] < 2 or len(data) < (14 if wide else 12):
            continue
        item = int.from_bytes(data[4:8] if wide else data[4:6], "big")
        rest = data[10 if wide else 8 :]
        if rest[:4] == b"mime" and b"application/rdf+xml" in rest[4:].split(b"\x00")[1:2]:
            out.append(item)
    return out


def _item_data(source: Source, start: int, end: int, items: list[int], store: int | None) -> Iterator[bytes]:
    """Content of items, by the item location box (ISO/IEC 14496-12 8.11.3)."""
    version = source.read(start, 1)[0]
    sizes = source.read(start + 4, 2)
    offset_size, length_size, base_size = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4
    index_size = sizes[1] & 15 if version in (1, 2) else 0
    at = start + 6

    def number(count: int) -> int:
        nonlocal at
        if count not in (0, 2, 4, 8) or at + count > end:
            raise Broken("damaged item location box")
        at += count
        return int.from_bytes(source.read(at - count, count), "big")

    wide = 4 if version == 2 else 2
    for _ in range(number(wide)):
        source.step()
        item = number(wide)
        method = number(2) & 15 if version in (1, 2) else 0
        number(2)  # data reference index
        base = number(base_size)
        data = b""
        for _ in range(number(2)):
            source.step()
            number(index_size)
            offset, length = base + number(offset_size), number(length_size)
            if item not in items:
                continue
            if method == 1 and store is not None:
                offset += store
            elif method != 0:
                raise Broken(f"an XMP item is stored by method {method}, which is not read here")
            data += source.read(offset, length)
        if item in items:
            yield data
