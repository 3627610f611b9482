"""Bounded reading of a file that nobody trusts: every read is checked against the end, a budget and a step count."""

from typing import BinaryIO

from deepassay.errors import MediaError

READ_BUDGET = 32 * 2**20  # bytes of metadata read from one file, however large the file is
MAX_BLOCK = 4 * 2**20  # bytes of one metadata block
MAX_STEPS = 300_000  # boxes, chunks, pages, tags of one file
MAX_DEPTH = 16


class MarkError(MediaError):
    """A file in which marks cannot be looked for, or not to its end."""


class Broken(Exception):
    """The structure of a file ends, contradicts itself or exceeds a limit here; what was found before stays found."""


class Source:
    """A seekable stream with hard limits.

    Args:
        stream: binary, seekable.
        size: its length in bytes.
    """

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self.size = size
        self._budget = READ_BUDGET
        self._steps = MAX_STEPS

    def read(self, offset: int, count: int) -> bytes:
        """Exactly ``count`` bytes. Raises Broken beyond the end or a limit."""
        if offset < 0 or count < 0 or offset + count > self.size:
            raise Broken(f"the file ends inside a block at byte {offset}")
        if count > MAX_BLOCK:
            raise Broken(f"a metadata block of {count} bytes at byte {offset} is larger than {MAX_BLOCK}")
        self._budget -= count
        if self._budget < 0:
            raise Broken(f"more than {READ_BUDGET} bytes of metadata")
        self._stream.seek(offset)
        data = self._stream.read(count)
        if len(data) != count:
            raise Broken(f"the file ends inside a block at byte {offset}")
        return data

    def step(self) -> None:
        """Count one structural element. Raises Broken when a file has too many of them."""
        self._steps -= 1
        if self._steps < 0:
            raise Broken(f"more than {MAX_STEPS} blocks")


def inflate(data: bytes) -> bytes:
    """zlib data, never more than MAX_BLOCK bytes of it. Raises Broken where it is damaged or larger."""
    import zlib

    unpacker = zlib.decompressobj()
    try:
        out = unpacker.decompress(data, MAX_BLOCK + 1)
    except zlib.error as error:
        raise Broken(f"damaged compressed text ({error})") from error
    if len(out) > MAX_BLOCK:
        raise Broken(f"compressed text expands beyond {MAX_BLOCK} bytes")
    if not unpacker.eof:
        raise Broken("compressed text is cut off")
    return out
