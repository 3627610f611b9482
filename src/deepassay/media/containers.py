"""What a file is, by its first bytes, and opening it with exactly one demuxer that can open nothing else."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

from deepassay.errors import MediaError
from deepassay.labels import Status, Unusable
from deepassay.media.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from av.container import InputContainer

Media = Literal["image", "video", "audio"]
Reader = Literal["pillow", "soundfile", "pyav"]


@dataclass(frozen=True, slots=True)
class Container:
    """A format that is read here.

    Args:
        name: short name, recorded by `probe`.
        media: what it holds, or None where only its streams can tell (MP4, Matroska, Ogg ...).
        pillow: Pillow's format name, where Pillow reads it.
        soundfile: libsndfile's format names that are accepted for it.
        demuxer: the one FFmpeg demuxer it may be opened with.
    """

    name: str
    media: Media | None
    pillow: str | None = None
    soundfile: tuple[str, ...] = ()
    demuxer: str | None = None


_C = {
    c.name: c
    for c in (
        Container("jpeg", "image", pillow="JPEG"),
        Container("png", "image", pillow="PNG"),
        Container("webp", "image", pillow="WEBP"),
        Container("avif", "image", pillow="AVIF"),
        Container("gif", "image", pillow="GIF"),
        Container("bmp", "image", pillow="BMP"),
        Container("tiff", "image", pillow="TIFF"),
        Container("jpeg2000", "image", pillow="JPEG2000"),
        Container("pnm", "image", pillow="PPM"),
        Container("wav", "audio", soundfile=("WAV", "WAVEX"), demuxer="wav"),
        Container("rf64", "audio", soundfile=("RF64",), demuxer="wav"),
        Container("w64", "audio", soundfile=("W64",), demuxer="w64"),
        Container("flac", "audio", soundfile=("FLAC",), demuxer="flac"),
        Container("aiff", "audio", soundfile=("AIFF",), demuxer="aiff"),
        Container("caf", "audio", soundfile=("CAF",), demuxer="caf"),
        Container("au", "audio", soundfile=("AU",), demuxer="au"),
        Container("nist", "audio", soundfile=("NIST",), demuxer="nistsphere"),
        Container("mp3", "audio", soundfile=("MP3",), demuxer="mp3"),
        Container("aac", "audio", demuxer="aac"),
        Container("amr", "audio", demuxer="amr"),
        Container("ogg", None, soundfile=("OGG",), demuxer="ogg"),
        Container("mp4", None, demuxer="mov"),
        Container("matroska", None, demuxer="matroska"),
        Container("avi", None, demuxer="avi"),
        Container("asf", None, demuxer="asf"),
        Container("flv", None, demuxer="flv"),
        Container("mpegts", None, demuxer="mpegts"),
        Container("mpeg", None, demuxer="mpeg"),
    )
}

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"}
_MP4_BOXES = {b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp"}
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")

# What a container may carry: decoders of the codecs that speech and face corpora, phones and the web use.
_VIDEO = """
h264 hevc av1 libdav1d libaom-av1 vp8 vp9 libvpx libvpx-vp9 mpeg4 msmpeg4v2 msmpeg4v3 msmpeg4 mpeg1video mpeg2video
mjpeg h263 flv flv1 theora vc1 wmv1 wmv2 wmv3 prores dnxhd ffv1 huffyuv ffvhuff utvideo rawvideo
"""
_AUDIO = """
aac aac_latm mp3 mp3float mp2 mp2float mp1 mp1float vorbis libvorbis opus libopus flac alac ac3 eac3 wavpack
wmav1 wmav2 wmapro wmavoice amrnb amrwb amr_nb amr_wb libopencore_amrnb libopencore_amrwb gsm gsm_ms libgsm libgsm_ms
adpcm_ms adpcm_ima_wav adpcm_ima_qt adpcm_g722 g722 adpcm_g726 adpcm_g726le g726 g726le libspeex speex
pcm_s16le pcm_s16be pcm_s24le pcm_s24be pcm_s32le pcm_s32be pcm_u8 pcm_s8 pcm_f32le pcm_f32be pcm_f64le pcm_f64be
pcm_alaw pcm_mulaw
"""
VIDEO_CODECS = frozenset(_VIDEO.split())
AUDIO_CODECS = frozenset(_AUDIO.split())


def identify_bytes(head: bytes) -> Container | None:
    """The container that some first bytes (4096 where the file has them) announce; None where it is not read here.

    Raises:
        Unusable: HEIC, which is known but not decoded here.
    """
    name = _identify(head)
    return _C[name] if name else None


def _identify(head: bytes) -> str | None:
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head[:4] in (b"RIFF", b"RIFX"):
        return {b"WAVE": "wav", b"WEBP": "webp", b"AVI ": "avi"}.get(head[8:12])
    if head[:4] == b"RF64" and head[8:12] == b"WAVE":
        return "rf64"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "gif"
    if head[:4] in (b"II*\0", b"MM\0*"):
        return "tiff"
    if (
        head.startswith(b"BM")
        and len(head) >= 26
        and head[14:18] in (b"\x0c\0\0\0", b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0")
    ):
        return "bmp"
    if head.startswith(b"\x00\x00\x00\x0cjP  \r\n\x87\n") or head.startswith(b"\xff\x4f\xff\x51"):
        return "jpeg2000"
    if head[:2] in (b"P5", b"P6") and head[2:3] in b" \t\r\n":
        return "pnm"
    if head[4:8] in _MP4_BOXES:
        if head[4:8] == b"ftyp":
            brands = {head[8:12]} | {head[i : i + 4] for i in range(16, min(len(head), int.from_bytes(head[:4])), 4)}
            if brands & _AVIF_BRANDS:
                return "avif"
            if head[8:12] in _HEIF_BRANDS:
                raise Unusable(
                    Status.UNDECODABLE, "a HEIC/HEIF picture, which is not decoded; convert it to JPEG or PNG"
                )
        return "mp4"
    for magic, name in (
        (b"fLaC", "flac"),
        (b"OggS", "ogg"),
        (b"\x1a\x45\xdf\xa3", "matroska"),
        (b"caff", "caf"),
        (b".snd", "au"),
        (b"NIST_1A", "nist"),
        (b"#!AMR", "amr"),
        (b"FLV\x01", "flv"),
        (b"\x00\x00\x01\xba", "mpeg"),
        (_ASF, "asf"),
        (_W64, "w64"),
    ):
        if head.startswith(magic):
            return name
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if len(head) > 376 and head[0] == head[188] == head[376] == 0x47:
        return "mpegts"
    if head.startswith(b"ID3"):
        # A tag in front of MPEG audio; what follows it decides between MP3 and AAC.
        if len(head) >= 10:
            size = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True)) + 10
            rest = head[size : size + 4]
            if rest[:4] == b"fLaC":
                return "flac"
            if _mpeg_audio(rest) == "aac":
                return "aac"
        return "mp3"
    return _mpeg_audio(head)


def _mpeg_audio(head: bytes) -> str | None:
    """ADTS AAC or an MPEG-1/2 layer I-III frame header (ISO/IEC 13818-7 table 8, ISO/IEC 11172-3 clause 2.4.1.3)."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return None
    if head[1] & 0xF6 == 0xF0:
        return "aac" if (head[2] >> 2) & 0xF < 13 else None
    version, layer = (head[1] >> 3) & 3, (head[1] >> 1) & 3
    bitrate, rate = head[2] >> 4, (head[2] >> 2) & 3
    return "mp3" if version != 1 and layer != 0 and bitrate not in (0, 15) and rate != 3 else None


@contextmanager
def open_media(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> Iterator[tuple[BinaryIO, Container]]:
    """Open a regular file within the limits and say what it is.

    Raises:
        MediaError: nothing there, a folder, a device, or not readable.
        Unusable: empty, too large, or not a format that is read here.
    """
    try:
        # Non-blocking, so that a named pipe is refused instead of waited for.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except OSError as error:
        raise MediaError(
            f"{path}: cannot be opened ({error.strerror})", hint="check the path and that you may read the file"
        ) from error
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise MediaError(f"{path}: not a regular file", hint="give a media file, not a folder, pipe or device")
    with os.fdopen(handle, "rb") as stream:
        limits.check_bytes(status.st_size)
        head = stream.read(4096)
        stream.seek(0)
        container = identify_bytes(head)
        if container is None:
            raise Unusable(Status.UNDECODABLE, "not an image, video or sound format that is read here")
        yield stream, container


def _refuse_open(url: str, flags: int, options: dict[str, Any]) -> None:
    raise PermissionError("a media file may not open further files")


@contextmanager
def open_pyav(stream: BinaryIO, demuxer: str) -> "Iterator[InputContainer]":
    """Open a stream with one named demuxer; anything the file asks to open besides itself is refused (law 8).

    Raises:
        Unusable: the demuxer does not understand the file, or reading it fails inside the ``with``.
    """
    import av
    from av.error import FFmpegError

    try:
        with av.open(
            stream,
            mode="r",
            format=demuxer,
            container_options={"protocol_whitelist": "file", "format_whitelist": _whitelist(demuxer)},
            io_open=_refuse_open,
            metadata_errors="replace",
        ) as container:
            yield container
    except (FFmpegError, PermissionError) as error:
        raise Unusable(Status.UNDECODABLE, f"the {demuxer} container is broken ({type(error).__name__})") from error


def _whitelist(demuxer: str) -> str:
    return {"mov": "mov,mp4,m4a,3gp,3g2,mj2", "matroska": "matroska,webm"}.get(demuxer, demuxer)


def pick_stream(container: "InputContainer", media: Literal["video", "audio"]) -> Any:
    """The first stream of a kind that is not a cover picture, or None.

    Raises:
        Unusable: its codec is not on the allow-list.
    """
    from av.stream import Disposition

    if media == "audio":
        streams, allowed = container.streams.audio, AUDIO_CODECS
    else:
        streams = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
        allowed = VIDEO_CODECS
    if not streams:
        return None
    stream = streams[0]
    context = stream.codec_context
    if context is None or context.name not in allowed:
        name = "unknown" if context is None else context.name
        raise Unusable(Status.UNDECODABLE, f"the {media} codec {name!r} is not decoded here")
    return stream


def media_of(stream: BinaryIO, container: Container) -> Media:
    """Image, video or audio: from the container where that is enough, else from its streams.

    Raises:
        Unusable: neither video nor sound inside.
    """
    if container.media is not None:
        return container.media
    assert container.demuxer is not None
    with open_pyav(stream, container.demuxer) as opened:
        kind: Media | None = None
        if pick_stream(opened, "video") is not None:
            kind = "video"
        elif pick_stream(opened, "audio") is not None:
            kind = "audio"
    stream.seek(0)
    if kind is None:
        raise Unusable(Status.UNDECODABLE, f"the {container.name} container holds neither video nor sound")
    return kind


def sniff(path: str | Path, limits: Limits = DEFAULT_LIMITS) -> Media:
    """What a file holds, by content and never by its name.

    Raises:
        MediaError: no such file. Unusable: UNDECODABLE or OUT_OF_SCOPE.
    """
    with open_media(path, limits) as (stream, container):
        return media_of(stream, container)
