"""Find marks of synthetic content in a file (GB 45438-2025 labels, presence of C2PA manifests); nothing is changed."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from deepassay.marks.boxes import FIRST_BOXES, in_boxes
from deepassay.marks.flv import in_flv
from deepassay.marks.gb45438 import parse
from deepassay.marks.images import in_gif, in_jpeg, in_png, in_tiff
from deepassay.marks.mark import Carrier, Mark, Scan
from deepassay.marks.matroska import in_matroska
from deepassay.marks.riff import FORMS, in_riff
from deepassay.marks.source import Broken, MarkError, Source
from deepassay.marks.tags import id3_length, in_flac, in_id3, in_ogg

CONTAINERS = (
    "JPEG", "PNG", "GIF", "TIFF", "WebP", "HEIF", "WAV", "AVI", "MP4", "MOV", "Matroska", "WebM", "MP3", "ADTS", "FLAC",
    "Ogg", "FLV",
)  # fmt: skip
MAX_MARKS = 1000


def read_marks(path: str | os.PathLike[str]) -> list[Mark]:
    """Every mark in a file, in file order.

    Raises:
        MarkError: the file cannot be read, its container is not one of `CONTAINERS`, or its structure breaks off before
            any mark was found: an unread remainder is not an absence.
    """
    found = scan(path)
    if found.problems and not found.marks:
        raise MarkError(
            f"{path}: no mark up to where the {found.container} structure breaks off ({found.problems[0]})",
            hint="get a whole copy of the file; absence of a mark cannot be stated for this one",
        )
    return list(found.marks)


def scan(path: str | os.PathLike[str]) -> Scan:
    """Marks, and where the file could not be read to its end.

    Raises:
        MarkError: the file cannot be read or its container is not one of `CONTAINERS`.
    """
    try:
        with open(path, "rb") as stream:
            return scan_stream(stream, name=str(path))
    except OSError as error:
        raise MarkError(
            f"{path}: cannot be read ({error.strerror})", hint="check the path and its permissions"
        ) from error


def scan_stream(stream: BinaryIO, *, name: str = "stream") -> Scan:
    """Like `scan` for a seekable binary stream."""
    source = Source(stream, stream.seek(0, os.SEEK_END))
    marks: list[Mark] = []
    problems: list[str] = []
    container = ""
    try:
        container, carriers = _carriers(source)
        for carrier in carriers:
            marks.append(parse(carrier, container))
            if len(marks) >= MAX_MARKS:
                raise Broken(f"more than {MAX_MARKS} marks")
    except (Broken, struct.error) as error:
        problems.append(str(error))
    if not container:
        raise MarkError(
            f"{Path(name).name}: not a container in which marks are looked for",
            hint=f"marks are read in {', '.join(CONTAINERS)}; Base64 and text formats have no place for one",
        )
    return Scan(container, tuple(marks), tuple(problems))


def _carriers(source: Source) -> tuple[str, Iterator[Carrier]]:
    """What the file is by its first bytes, and the search through it; an empty name where it is nothing known."""
    head = source.read(0, min(source.size, 16))
    nothing: tuple[str, Iterator[Carrier]] = ("", iter(()))
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG", in_jpeg(source)
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG", in_png(source)
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF", in_gif(source)
    if head[:4] in (b"II*\x00", b"MM\x00*"):
        return "TIFF", in_tiff(source)
    if head[:4] in (b"RIFF", b"RF64", b"BW64"):
        form = FORMS.get(head[8:12])
        return (form, in_riff(source, form)) if form else nothing
    if len(head) >= 8 and head[4:8] in FIRST_BOXES:
        form = _brand(head)
        return form, in_boxes(source, form)
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        form = "WebM" if b"webm" in source.read(0, min(source.size, 64)) else "Matroska"
        return form, in_matroska(source, form)
    if head.startswith(b"OggS"):
        return "Ogg", in_ogg(source)
    if head.startswith(b"fLaC"):
        return "FLAC", in_flac(source, 0)
    if head.startswith(b"FLV\x01"):
        return "FLV", in_flv(source)
    if head.startswith(b"ID3"):
        return _after_id3(source)
    if _is_mpeg_frame(head):
        return ("ADTS" if head[1] & 0xF6 == 0xF0 else "MP3"), iter(())
    return nothing


def _brand(head: bytes) -> str:
    if head[4:8] != b"ftyp":
        return "MOV"
    brand = head[8:12]
    if brand == b"qt  ":
        return "MOV"
    return "HEIF" if brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis", b"miaf") else "MP4"


def _is_mpeg_frame(head: bytes) -> bool:
    if len(head) < 3 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return False
    if head[1] & 0xF6 == 0xF0:  # ADTS
        return (head[2] >> 2) & 15 < 13
    return (head[1] >> 3) & 3 != 1 and (head[1] >> 1) & 3 != 0 and head[2] >> 4 != 15 and (head[2] >> 2) & 3 != 3


def _after_id3(source: Source) -> tuple[str, Iterator[Carrier]]:
    """Tags may follow one another; what stands behind the last one is the container."""
    offset, starts = 0, []
    while length := id3_length(source, offset):
        source.step()
        starts.append(offset)
        offset += length
    flac = offset + 4 <= source.size and source.read(offset, 4) == b"fLaC"
    container = "FLAC" if flac else "MP3"

    def search() -> Iterator[Carrier]:
        for start in starts:
            yield from in_id3(source, start, f"{container} ID3v2", standard_place=not flac)
        if flac:
            yield from in_flac(source, offset)

    return container, search()
