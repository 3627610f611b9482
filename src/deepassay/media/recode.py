"""Pictures through a still or video encoder and back, in memory: what a platform's transcoder leaves of them."""

import re
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from deepassay.errors import MediaError, MissingDependencyError
from deepassay.media.image import ImageFormat, decode_image, encode_image

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

VIDEO_CODERS = {"h264": ("libx264", "h264"), "h265": ("libx265", "hevc")}  # name: encoder and decoder of FFmpeg
_SIGN = {"h264": re.compile(rb"x264 - (core \d+[^-]*)"), "h265": re.compile(rb"x265 \((build \d+)\) - ([\w.+-]+)")}
# No frame is held back and no thread started: the result depends on pictures and settings alone.
_PRIVATE = {
    "h264": ("x264-params", "bframes=0:rc-lookahead=0:sync-lookahead=0:threads=1"),
    "h265": ("x265-params", "bframes=0:rc-lookahead=0:pools=none:frame-threads=1:log-level=none"),
}


def recode_still(picture: np.ndarray, format: ImageFormat, quality: int, *, subsampling: str = "4:2:0") -> np.ndarray:
    """Through JPEG, WebP or AVIF and back: uint8 (H, W, 3) -> the same.

    Raises:
        MediaError: a quality outside 1..100, a wrong array, or an encoder that Pillow was built without.
    """
    return decode_image(encode_image(picture, format, quality, subsampling=subsampling))


def recode_clip(pictures: np.ndarray, codec: str, crf: float, *, preset: str = "veryfast") -> np.ndarray:
    """Frames through H.264 or H.265 and back, as one group of pictures: an I frame, the others P frames.

    4:2:0 at a constant rate factor, on one thread. Odd sides grow by one repeated row or column while coded.

    Args:
        pictures: (n, H, W, 3) uint8, sides of 16 px or more. codec: h264 or h265.
        crf: 0 (best) to 51, as x264 and x265 mean it. preset: of either.

    Returns:
        (n, H, W, 3) uint8.

    Raises:
        MediaError: a wrong array, codec, crf or preset.
        MissingDependencyError: this build of FFmpeg has no such encoder.
    """
    shown, _ = _recode(pictures, codec, crf, preset)
    return shown


def recode_frame(picture: np.ndarray, codec: str, crf: float, *, preset: str = "veryfast") -> np.ndarray:
    """One picture (H, W, 3) uint8 as the second frame of a clip: a P frame, predicted from itself moved by 2 px.

    Most frames of real files are predicted ones, which a constant rate factor quantises more than I frames.

    Raises:
        MediaError, MissingDependencyError: as `recode_clip`.
    """
    if picture.ndim != 3:
        raise MediaError(f"a picture of shape {picture.shape}", hint="give (H, W, 3) uint8")
    before = np.pad(picture, ((0, 1), (0, 2), (0, 0)), mode="edge")[1:, 2:]
    return recode_clip(np.stack([before, picture]), codec, crf, preset=preset)[1]


@cache
def encoder_version(codec: str) -> str:
    """Encoder and version as it signs its own streams, such as ``libx264 core 165 r3222``.

    Raises:
        MediaError, MissingDependencyError: as `recode_clip`.
    """
    _, stream = _recode(np.full((1, 32, 32, 3), 90, np.uint8), codec, 30, "ultrafast")
    found = _SIGN[codec].search(stream)
    version = b" ".join(part.strip() for part in found.groups()).decode("ascii") if found else "unsigned"
    return f"{VIDEO_CODERS[codec][0]} {version}"


def _recode(pictures: np.ndarray, codec: str, crf: float, preset: str) -> tuple[np.ndarray, bytes]:
    import av
    from av.error import FFmpegError

    if codec not in VIDEO_CODERS:
        raise MediaError(f"there is no video coder {codec!r}", hint=f"use one of {sorted(VIDEO_CODERS)}")
    if not 0 <= crf <= 51:
        raise MediaError(f"crf is {crf}", hint="give 0 (best) to 51; 23 is usual")
    shape = pictures.shape
    if pictures.dtype != np.uint8 or len(shape) != 4 or shape[3] != 3 or not shape[0] or min(shape[1:3]) < 16:
        raise MediaError(
            f"pictures to code are {pictures.dtype} {shape}", hint="give uint8 (n, H, W, 3) with sides of 16 px or more"
        )
    height, width = shape[1:3]
    even = np.pad(pictures, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    encoder, decoder = (_open(av, name, side) for name, side in zip(VIDEO_CODERS[codec], "wr", strict=True))
    encoder.width, encoder.height, encoder.pix_fmt = even.shape[2], even.shape[1], "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    name, value = _PRIVATE[codec]
    encoder.options = {"preset": preset, "crf": f"{crf:g}", name: value}
    try:
        packets = []
        for number, picture in enumerate(even):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame = frame.reformat(format="yuv420p")
            frame.pts = number
            packets += encoder.encode(frame)
        packets += encoder.encode(None)
        shown = [frame for packet in packets for frame in decoder.decode(packet)] + list(decoder.decode(None))
    except (FFmpegError, ValueError) as error:
        raise MediaError(
            f"{codec} at crf {crf:g} with preset {preset!r} failed ({error})",
            hint="presets go from ultrafast to veryslow; deepassay doctor lists the codecs that are there",
        ) from error
    if len(shown) != len(pictures):
        raise MediaError(f"{codec} gave {len(shown)} frames for {len(pictures)}", hint="report this FFmpeg build")
    out = np.stack([frame.to_ndarray(format="rgb24") for frame in shown])
    return out[:, :height, :width], b"".join(bytes(packet) for packet in packets)


def _open(av: Any, name: str, side: str) -> "VideoCodecContext":
    try:
        context = av.CodecContext.create(name, side)
    except (av.error.FFmpegError, ValueError) as error:
        raise MissingDependencyError(
            f"this build of FFmpeg has no {'encoder' if side == 'w' else 'decoder'} {name!r}",
            hint="install PyAV's own wheel (av), which carries x264 and x265, or use ladders without video coding",
        ) from error
    context.thread_count = 1
    return context
