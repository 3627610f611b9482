"""Carriers in sound tags: ID3v2 (MP3 and others), FLAC blocks, Vorbis comments in Ogg (Vorbis, Opus, FLAC, Speex)."""

import struct
from collections.abc import Iterator

from deepassay.marks.mark import C2PA, GB45438, Carrier
from deepassay.marks.source import MAX_BLOCK, Broken, Source, inflate

_HEADER_PACKETS = 3  # identification and comment packets come first in every Ogg mapping
_C2PA_MIME = ("application/x-c2pa-manifest-store", "application/c2pa")


def id3_length(source: Source, offset: int) -> int:
    """Bytes of the ID3v2 tag at an offset, with header and footer; 0 where there is none."""
    if offset + 10 > source.size:
        return 0
    head = source.read(offset, 10)
    if head[:3] != b"ID3" or head[3] == 0xFF or any(b & 0x80 for b in head[6:10]):
        return 0
    return 10 + _synchsafe(head[6:10]) + (10 if head[5] & 0x10 else 0)


def _synchsafe(data: bytes) -> int:
    return data[0] << 21 | data[1] << 14 | data[2] << 7 | data[3]


def in_id3(source: Source, offset: int, place: str, *, standard_place: bool = True) -> Iterator[Carrier]:
    """TXXX frames whose description contains AIGC, and GEOB frames of C2PA (ID3v2.2, 2.3, 2.4)."""
    head = source.read(offset, 10)
    if head[:3] != b"ID3":
        raise Broken(f"no ID3v2 tag at byte {offset}")
    version, flags = head[3], head[5]
    body = source.read(offset + 10, _synchsafe(head[6:10]))
    if version < 4 and flags & 0x80:
        body = body.replace(b"\xff\x00", b"\xff")
    at = 0
    if version >= 3 and flags & 0x40 and len(body) >= 4:
        at = _synchsafe(body[:4]) if version >= 4 else struct.unpack(">I", body[:4])[0] + 4
    name_size, frame_head = (3, 6) if version == 2 else (4, 10)
    while at + frame_head <= len(body) and body[at] != 0:
        source.step()
        name = body[at : at + name_size]
        if version == 2:
            size, frame_flags = int.from_bytes(body[at + 3 : at + 6], "big"), 0
        else:
            raw = body[at + 4 : at + 8]
            size = _synchsafe(raw) if version >= 4 else struct.unpack(">I", raw)[0]
            frame_flags = body[at + 9]
        if at + frame_head + size > len(body):
            raise Broken(f"ID3v2 frame {name!r} reaches beyond its tag")
        data = body[at + frame_head : at + frame_head + size]
        at += frame_head + size
        if name in (b"TXXX", b"TXX"):
            yield from _user_text(_frame_data(data, version, frame_flags), place, standard_place)
        elif name in (b"GEOB", b"GEO"):
            mime = _frame_data(data, version, frame_flags)[1:].partition(b"\x00")[0].decode("latin-1")
            if mime.lower() in _C2PA_MIME:
                yield Carrier(C2PA, f"{place} GEOB", mime, b"")


def _frame_data(data: bytes, version: int, flags: int) -> bytes:
    if version >= 4:
        if flags & 0x04:
            raise Broken("an encrypted ID3v2 frame")
        if flags & 0x40:
            data = data[1:]
        if flags & 0x01:
            data = data[4:]
        if flags & 0x02:
            data = data.replace(b"\xff\x00", b"\xff")
        return inflate(data) if flags & 0x08 else data
    if version == 3:
        if flags & 0x40:
            raise Broken("an encrypted ID3v2 frame")
        if flags & 0x80:
            data = inflate(data[4:])
        if flags & 0x20:
            data = data[1:]
    return data


def _user_text(data: bytes, place: str, standard_place: bool) -> Iterator[Carrier]:
    if not data:
        return
    encodings = {0: "latin-1", 1: "utf-16", 2: "utf-16-be", 3: "utf-8"}
    encoding, body = encodings.get(data[0]), data[1:]
    if encoding is None:
        if b"AIGC" in body:
            yield Carrier(GB45438, f"{place} TXXX", "AIGC", body, f"unknown text encoding {data[0]}", standard_place)
        return
    wide = 2 if data[0] in (1, 2) else 1
    cut = next((i for i in range(0, len(body), wide) if body[i : i + wide] == b"\x00" * wide), len(body))
    try:
        key = body[:cut].decode(encoding)
        text = body[cut + wide :].decode(encoding).rstrip("\x00")
    except UnicodeDecodeError as error:
        if b"AIGC" in body.replace(b"\x00", b""):
            problem = f"the text is not {encoding} as it says ({error.reason})"
            yield Carrier(GB45438, f"{place} TXXX", "AIGC", body, problem, standard_place)
        return
    if "AIGC" in key.upper():
        yield Carrier(GB45438, f"{place} TXXX", key, text.encode("utf-8", "replace"), "", standard_place)


def in_flac(source: Source, offset: int) -> Iterator[Carrier]:
    """Metadata blocks of type 4 (VORBIS_COMMENT) of a native FLAC stream that starts at ``offset``."""
    offset += 4
    while True:
        source.step()
        head = source.read(offset, 4)
        size = int.from_bytes(head[1:], "big")
        if offset + 4 + size > source.size:
            raise Broken(f"FLAC block at byte {offset} reaches beyond the end of the file")
        if head[0] & 0x7F == 4:
            yield from in_vorbis_comment(source, source.read(offset + 4, size), "FLAC VORBIS_COMMENT")
        offset += 4 + size
        if head[0] & 0x80:
            return


def in_vorbis_comment(source: Source, data: bytes, place: str) -> Iterator[Carrier]:
    """Entries ``NAME=value`` whose name contains AIGC."""

    def number(at: int) -> int:
        if at + 4 > len(data):
            raise Broken(f"{place}: the comment block is cut off")
        return struct.unpack_from("<I", data, at)[0]

    at = 4 + number(0)
    count = number(at)
    at += 4
    for _ in range(count):
        source.step()
        size = number(at)
        at += 4
        if at + size > len(data):
            raise Broken(f"{place}: an entry reaches beyond its block")
        key, found, value = data[at : at + size].partition(b"=")
        at += size
        name = key.decode("ascii", "replace")
        if found and "AIGC" in name.upper():
            yield Carrier(GB45438, place, name, value)


def in_ogg(source: Source) -> Iterator[Carrier]:
    """Comment headers of the streams of an Ogg file (Vorbis, Opus, FLAC, Speex), also of chained and parallel ones."""
    packets: dict[int, list[bytearray]] = {}
    done: set[int] = set()
    offset = 0
    while offset < source.size:
        source.step()
        head = source.read(offset, 27)
        if head[:4] != b"OggS":
            raise Broken(f"no Ogg page at byte {offset}")
        serial, segments = struct.unpack("<I", head[14:18])[0], head[26]
        lacing = source.read(offset + 27, segments)
        start = offset + 27 + segments
        offset = start + sum(lacing)
        if offset > source.size:
            raise Broken("the last Ogg page is cut off")
        if head[5] & 2:  # first page of a stream; a chained stream may use the serial of an earlier one
            packets[serial] = [bytearray()]
            done.discard(serial)
        if serial in done or serial not in packets:
            continue
        parts, at = packets[serial], start
        body = source.read(start, sum(lacing))
        for size in lacing:
            parts[-1] += body[at - start : at - start + size]
            at += size
            if len(parts[-1]) > MAX_BLOCK:
                raise Broken("an Ogg header packet is larger than the limit")
            if size < 255:
                yield from _ogg_packet(source, parts, bytes(parts[-1]))
                parts.append(bytearray())
                if len(parts) > _HEADER_PACKETS:
                    done.add(serial)
                    packets[serial] = [bytearray()]
                    break


def _ogg_packet(source: Source, parts: list[bytearray], packet: bytes) -> Iterator[Carrier]:
    if packet.startswith(b"\x03vorbis"):
        yield from in_vorbis_comment(source, packet[7:], "Ogg Vorbis comment header")
    elif packet.startswith(b"OpusTags"):
        yield from in_vorbis_comment(source, packet[8:], "Ogg Opus comment header")
    elif len(parts) > 1 and bytes(parts[0][:5]) == b"\x7fFLAC" and packet and packet[0] & 0x7F == 4:
        yield from in_vorbis_comment(source, packet[4:], "Ogg FLAC comment header")
    elif len(parts) == 2 and bytes(parts[0][:8]) == b"Speex   ":
        yield from in_vorbis_comment(source, packet, "Ogg Speex comment header")
