"""Carriers in FLV files: the script tag onMetaData (Adobe Flash Video File Format 10.1, annex E; AMF0)."""

import struct
from collections.abc import Iterator

from deepassay.marks.mark import GB45438, Carrier
from deepassay.marks.source import MAX_DEPTH, Broken, Source

_SCRIPT = 18
_NUMBER, _BOOLEAN, _STRING, _OBJECT, _NULL, _UNDEFINED, _REFERENCE, _ARRAY, _END, _LIST, _DATE, _LONG = (
    0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12,
)  # fmt: skip


def in_flv(source: Source) -> Iterator[Carrier]:
    """Values of names that contain AIGC in every script tag."""
    offset = struct.unpack(">I", source.read(5, 4))[0] + 4
    while offset + 11 <= source.size:
        source.step()
        head = source.read(offset, 11)
        size = int.from_bytes(head[1:4], "big")
        if offset + 11 + size > source.size:
            raise Broken(f"FLV tag at byte {offset} reaches beyond the end of the file")
        if head[0] & 0x1F == _SCRIPT:
            yield from _Script(source, source.read(offset + 11, size)).carriers()
        offset += 11 + size + 4


class _Script:
    """AMF0 values of one script tag, read one after the other."""

    def __init__(self, source: Source, data: bytes) -> None:
        self.source, self.data, self.at = source, data, 0
        self.found: list[Carrier] = []

    def carriers(self) -> list[Carrier]:
        while self.at < len(self.data):
            self._value("", 0)
        return self.found

    def _take(self, count: int) -> bytes:
        if self.at + count > len(self.data):
            raise Broken("an FLV script tag is cut off")
        self.at += count
        return self.data[self.at - count : self.at]

    def _text(self, width: int) -> bytes:
        return self._take(int.from_bytes(self._take(width), "big"))

    def _value(self, name: str, depth: int) -> None:
        self.source.step()
        if depth > MAX_DEPTH:
            raise Broken("FLV script objects are nested too deeply")
        kind = self._take(1)[0]
        if kind in (_STRING, _LONG):
            value = self._text(2 if kind == _STRING else 4)
            if "AIGC" in name.upper():
                self.found.append(Carrier(GB45438, "FLV script onMetaData", name, value))
        elif kind in (_OBJECT, _ARRAY):
            if kind == _ARRAY:
                self._take(4)
            self._properties(depth)
        elif kind == _LIST:
            for _ in range(int.from_bytes(self._take(4), "big")):
                self._value(name, depth + 1)
        elif kind in (_NUMBER, _BOOLEAN, _REFERENCE, _DATE):
            self._take({_NUMBER: 8, _BOOLEAN: 1, _REFERENCE: 2, _DATE: 10}[kind])
        elif kind not in (_NULL, _UNDEFINED):
            raise Broken(f"an FLV script value of unknown type {kind}")
        if "AIGC" in name.upper() and kind not in (_STRING, _LONG, _LIST):
            self.found.append(Carrier(GB45438, "FLV script onMetaData", name, b"", "the value is no text"))

    def _properties(self, depth: int) -> None:
        while True:
            name = self._text(2)
            if not name and self.data[self.at : self.at + 1] == bytes([_END]):
                self.at += 1
                return
            self._value(name.decode("utf-8", "replace"), depth + 1)
