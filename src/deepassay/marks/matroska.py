"""Carriers in Matroska and WebM files: Segment.Tags.Tag.SimpleTag."""

from collections.abc import Iterator

from deepassay.marks.mark import GB45438, Carrier
from deepassay.marks.source import MAX_DEPTH, Broken, Source

_SEGMENT, _CLUSTER, _TAGS, _TAG, _SIMPLE = 0x18538067, 0x1F43B675, 0x1254C367, 0x7373, 0x67C8
_NAME, _STRING, _BINARY = 0x45A3, 0x4487, 0x4485


def _number(source: Source, offset: int, *, keep_marker: bool) -> tuple[int, int, bool]:
    """(value, bytes, all value bits set) of a variable-length integer (RFC 8794 section 4)."""
    first = source.read(offset, 1)[0]
    length = 9 - first.bit_length()
    if length > 8 or (keep_marker and length > 4):
        raise Broken(f"no EBML element at byte {offset}")
    data = source.read(offset, length)
    value = int.from_bytes(data, "big")
    plain = value & ((1 << (7 * length)) - 1)
    return (value if keep_marker else plain), length, plain == (1 << (7 * length)) - 1


def _elements(source: Source, offset: int, end: int) -> Iterator[tuple[int, int, int, bool]]:
    """(id, start of the content, end, size unknown) of the elements in a range."""
    while offset < end:
        source.step()
        name, a, _ = _number(source, offset, keep_marker=True)
        size, b, unknown = _number(source, offset + a, keep_marker=False)
        start = offset + a + b
        if unknown:
            # Live recordings leave Segment and Cluster open: their children are read as if they stood one level up.
            if name not in (_SEGMENT, _CLUSTER):
                raise Broken(f"element {name:#x} at byte {offset} has no size")
            yield name, start, start, True
            offset = start
            continue
        if start + size > end:
            raise Broken(f"element {name:#x} at byte {offset} reaches beyond its parent")
        yield name, start, start + size, False
        offset = start + size


def in_matroska(source: Source, container: str) -> Iterator[Carrier]:
    """SimpleTags whose name contains AIGC, wherever Tags stand in the segment."""
    yield from _segment(source, 0, source.size, container, 0)


def _segment(source: Source, start: int, end: int, container: str, depth: int) -> Iterator[Carrier]:
    if depth > 2:
        raise Broken("a segment inside a segment")
    for name, first, last, _unknown in _elements(source, start, end):
        if name == _SEGMENT and last > first:
            yield from _segment(source, first, last, container, depth + 1)
        elif name == _TAGS:
            for tag, a, b, _ in _elements(source, first, last):
                if tag == _TAG:
                    yield from _simple_tags(source, a, b, f"{container} Segment.Tags.Tag", 0)


def _simple_tags(source: Source, start: int, end: int, place: str, depth: int) -> Iterator[Carrier]:
    if depth > MAX_DEPTH:
        raise Broken("tags are nested too deeply")
    for name, first, last, _ in _elements(source, start, end):
        if name != _SIMPLE:
            continue
        key, value = "", None
        for part, a, b, _ in _elements(source, first, last):
            if part == _NAME:
                key = source.read(a, b - a).rstrip(b"\x00").decode("utf-8", "replace")
            elif part in (_STRING, _BINARY):
                value = (a, b)
        if "AIGC" in key.upper():
            data = source.read(value[0], value[1] - value[0]).rstrip(b"\x00") if value else b""
            yield Carrier(GB45438, f"{place}.SimpleTag", key, data, "" if value else "the tag has no value")
        yield from _simple_tags(source, first, last, f"{place}.SimpleTag", depth + 1)
