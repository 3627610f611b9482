"""Carriers in JPEG, PNG, GIF and TIFF files."""

import struct
from collections.abc import Iterator

from deepassay.marks.mark import C2PA, GB45438, Carrier
from deepassay.marks.source import MAX_BLOCK, Broken, Source, inflate
from deepassay.marks.xmp import in_xmp

_XMP = b"http://ns.adobe.com/xap/1.0/\x00"
_EXTENDED = b"http://ns.adobe.com/xmp/extension/\x00"
# JUMBF type of a C2PA manifest store (C2PA specification 2.x, section on JUMBF types).
_C2PA_TYPE = bytes.fromhex("6332706100110010800000aa00389b71")


def in_jpeg(source: Source) -> Iterator[Carrier]:
    """APP1 XMP (also extended XMP) and APP11 JUMBF; segments up to the start of the scan."""
    offset = 2
    extended: dict[bytes, dict[int, bytes]] = {}
    stored = 0
    c2pa = False
    while True:
        source.step()
        head = source.read(offset, 2)
        if head[0] != 0xFF:
            raise Broken(f"no JPEG marker at byte {offset}")
        code = head[1]
        if code == 0xFF:  # fill byte
            offset += 1
            continue
        if code in (0xD9, 0xDA):
            break
        if code == 0x01 or 0xD0 <= code <= 0xD8:
            offset += 2
            continue
        length = struct.unpack(">H", source.read(offset + 2, 2))[0]
        if length < 2:
            raise Broken(f"a JPEG segment of length {length} at byte {offset}")
        if code == 0xE1:
            data = source.read(offset + 4, length - 2)
            if data.startswith(_XMP):
                yield from in_xmp(data[len(_XMP) :], "JPEG APP1 XMP")
            elif data.startswith(_EXTENDED) and len(data) >= len(_EXTENDED) + 40:
                guid = data[len(_EXTENDED) : len(_EXTENDED) + 32]
                position = struct.unpack(">I", data[len(_EXTENDED) + 36 : len(_EXTENDED) + 40])[0]
                stored += len(data)
                if stored > MAX_BLOCK:
                    raise Broken("extended XMP is larger than the limit")
                extended.setdefault(guid, {})[position] = data[len(_EXTENDED) + 40 :]
        elif code == 0xEB and not c2pa:
            data = source.read(offset + 4, min(length - 2, 256))
            if data.startswith(b"JP") and b"jumb" in data[:32] and _C2PA_TYPE in data:
                c2pa = True
                yield Carrier(C2PA, "JPEG APP11 JUMBF", "c2pa", b"")
        offset += 2 + length
    for parts in extended.values():
        yield from in_xmp(b"".join(parts[k] for k in sorted(parts)), "JPEG APP1 extended XMP")


def in_png(source: Source) -> Iterator[Carrier]:
    """iTXt, tEXt and zTXt with the keyword of XMP or one that contains AIGC; chunk caBX of C2PA."""
    offset = 8
    while True:
        source.step()
        length, kind = struct.unpack(">I4s", source.read(offset, 8))
        if kind == b"IEND":
            return
        if offset + 12 + length > source.size:
            raise Broken(f"PNG chunk {kind!r} at byte {offset} reaches beyond the end of the file")
        if kind == b"caBX":
            yield Carrier(C2PA, "PNG caBX", "caBX", b"")
        elif kind in (b"iTXt", b"tEXt", b"zTXt"):
            yield from _png_text(kind, source.read(offset + 8, length))
        offset += 12 + length


def _png_text(kind: bytes, data: bytes) -> Iterator[Carrier]:
    keyword, _, rest = data.partition(b"\x00")
    name = keyword.decode("latin-1")
    is_xmp = keyword in (b"XML:com.adobe.xmp", b"Raw profile type xmp")
    if not is_xmp and "AIGC" not in name.upper():
        return
    word = kind.decode()
    try:
        if kind == b"zTXt":
            rest = inflate(rest[1:])
        elif kind == b"iTXt":
            compressed, parts = rest[:1] == b"\x01", rest[2:].split(b"\x00", 2)
            if len(parts) != 3:
                raise Broken("an iTXt chunk without its language and translated keyword")
            rest = inflate(parts[2]) if compressed else parts[2]
    except Broken as error:
        if not is_xmp:
            yield Carrier(GB45438, f"PNG {word}", name, data, str(error), False)
            return
        raise
    if keyword == b"XML:com.adobe.xmp":
        yield from in_xmp(rest, f"PNG {word} XMP", standard_place=kind == b"iTXt")
    elif is_xmp:  # ImageMagick's hexadecimal form
        digits = b"".join(rest.split()[2:])
        try:
            packet = bytes.fromhex(digits.decode("ascii"))
        except ValueError as error:
            raise Broken(f"damaged raw XMP profile ({error})") from error
        yield from in_xmp(packet, "PNG raw profile XMP", standard_place=False)
    else:
        if kind != b"iTXt":
            rest = rest.decode("latin-1").encode() if not _is_utf8(rest) else rest
        yield Carrier(GB45438, f"PNG {word}", name, rest, "", kind == b"tEXt")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def in_gif(source: Source) -> Iterator[Carrier]:
    """Application extensions of XMP and C2PA."""
    flags = source.read(10, 1)[0]
    offset = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    while True:
        source.step()
        kind = source.read(offset, 1)[0]
        if kind == 0x3B:
            return
        if kind == 0x2C:
            flags = source.read(offset + 9, 1)[0]
            offset += 10 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0) + 1
            offset = _sub_blocks(source, offset)
        elif kind == 0x21:
            label, size = source.read(offset + 1, 2)
            if label == 0xFF and size == 11:
                name = source.read(offset + 3, 11)
                start = offset + 14
                offset = _sub_blocks(source, start)
                if name == b"XMP DataXMP":
                    data = source.read(start, offset - start)
                    yield from in_xmp(data.partition(b"\x01\xff\xfe\xfd")[0], "GIF application extension XMP")
                elif name.startswith(b"C2PA_GIF"):
                    yield Carrier(C2PA, "GIF application extension", "C2PA_GIF", b"")
            else:
                offset = _sub_blocks(source, offset + 2)
        else:
            raise Broken(f"unknown GIF block {kind:#x} at byte {offset}")


def _sub_blocks(source: Source, offset: int) -> int:
    while True:
        source.step()
        size = source.read(offset, 1)[0]
        offset += 1 + size
        if size == 0:
            return offset


def in_tiff(source: Source) -> Iterator[Carrier]:
    """IFD0 tag 0x02BC (XMP) and 0xCD41 (C2PA)."""
    order = "<" if source.read(0, 2) == b"II" else ">"
    start = struct.unpack(order + "I", source.read(4, 4))[0]
    count = struct.unpack(order + "H", source.read(start, 2))[0]
    for index in range(count):
        source.step()
        entry = source.read(start + 2 + 12 * index, 12)
        tag, kind, length, value = struct.unpack(order + "HHII", entry)
        if tag == 0x02BC and kind in (1, 7):
            data = entry[8 : 8 + length] if length <= 4 else source.read(value, length)
            yield from in_xmp(data, "TIFF IFD0 XMP")
        elif tag == 0xCD41:
            yield Carrier(C2PA, "TIFF tag 52545", "52545", b"")
