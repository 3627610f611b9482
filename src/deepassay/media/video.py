"""Videos: frames spread evenly over the whole clip at exact times, and encoding."""

import os
import queue
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

import numpy as np

from deepassay import files
from deepassay.errors import MediaError
from deepassay.labels import Status, Unusable
from deepassay.media.containers import open_media, open_pyav, pick_stream
from deepassay.media.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from av import VideoFrame
    from av.video.stream import VideoStream

_WORTH_SEEKING = 6  # pictures not decoded, against emptying and filling the decoder again
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames of one video, in order of time.

    Args:
        images: k arrays (H, W, 3) uint8 RGB, upright, square pixels.
        times_s: (k,) float64, when each is shown, seconds after the first frame.
        lost: how many wanted frames were damaged and are not among them.
    """

    images: list[np.ndarray]
    times_s: np.ndarray
    lost: int = 0

    def __len__(self) -> int:
        return len(self.images)


def read_frames(path: str | os.PathLike[str], k: int, limits: Limits = DEFAULT_LIMITS) -> Frames:
    """k frames shown at the middles of k equal parts of the clip; all frames where it has no more than k.

    The packets are listed first, without decoding, so the times are exact also where the frame rate varies; then only
    the groups of pictures that hold a wanted frame are decoded. Rotation metadata and non-square pixels are applied.

    Raises:
        Unusable: UNDECODABLE where no frame decodes, OUT_OF_SCOPE over a limit. MediaError: no such file.
    """
    images: list[np.ndarray] = []
    times: list[float] = []
    wanted = 0
    for image, time_s, wanted in iterate_frames(path, k, limits):  # noqa: B007
        images.append(image)
        times.append(time_s)
    return Frames(images, np.array(times, np.float64), wanted - len(images))


def iterate_frames(
    path: str | os.PathLike[str], k: int, limits: Limits = DEFAULT_LIMITS
) -> Iterator[tuple[np.ndarray, float, int]]:
    """Like `read_frames`, one (image, time_s, number of frames wanted) at a time, so that only one is in memory."""
    if k < 1:
        raise ValueError(f"cannot read {k} frames")
    with open_media(path, limits) as (stream, container):
        if container.demuxer is None:
            raise Unusable(Status.UNDECODABLE, f"a {container.name} file is not a video")
        times, keys, base, end = _list_packets(stream, container.demuxer, limits)
        stream.seek(0)
        if times:
            yield from _by_time(stream, container.demuxer, times, keys, base, end, k, limits)
        else:
            yield from _by_count(stream, container.demuxer, k, limits)


def ahead(items: Iterable[_Item]) -> Iterator[_Item]:
    """The same items, made in a thread of their own, one ahead of the reader: decoding and looking overlap."""
    handed: queue.Queue[tuple[bool, Any]] = queue.Queue(maxsize=1)
    stop = threading.Event()

    def give(last: bool, item: Any) -> bool:
        while not stop.is_set():
            try:
                handed.put((last, item), timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        source = iter(items)
        try:
            for item in source:
                if not give(False, item):
                    return
            give(True, None)
        except BaseException as error:  # handed on to the reader, who raises it
            give(True, error)
        finally:
            if isinstance(source, Generator):
                source.close()

    thread = threading.Thread(target=work, name="decoding", daemon=True)
    thread.start()
    try:
        while True:
            last, item = handed.get()
            if not last:
                yield item
            elif item is None:
                return
            else:
                raise item
    finally:
        stop.set()
        thread.join()


def _video_stream(opened: Any) -> "VideoStream":
    track = pick_stream(opened, "video")
    if track is None:
        raise Unusable(Status.UNDECODABLE, "the file has no video stream")
    track.thread_type = "AUTO"
    track.codec_context.thread_count = 2  # each more decodes one frame further beyond the one that is wanted
    return track


def _list_packets(stream: BinaryIO, demuxer: str, limits: Limits) -> tuple[list[int], list[int], Fraction, int]:
    """Presentation times of all frames and of the key frames, their unit, and the end of the last frame."""
    times: list[int] = []
    keys: list[int] = []
    end = 0
    count = 0
    complete = True
    with open_pyav(stream, demuxer) as opened:
        track = _video_stream(opened)
        base = track.time_base or Fraction(1, 1000)
        for packet in opened.demux(track):
            if not packet.size:
                continue
            count += 1
            limits.check_frames(count)
            if packet.is_discard:
                continue  # before the start of an edit list: decoded, never shown
            if packet.pts is None:
                complete = False
                continue
            times.append(packet.pts)
            end = max(end, packet.pts + (packet.duration or 0))
            if packet.is_keyframe:
                keys.append(packet.pts)
    if not count:
        raise Unusable(Status.UNDECODABLE, "the video stream holds no frames")
    times = sorted(set(times))
    if not complete or not keys or demuxer == "avi":  # AVI has no presentation times, FFmpeg's are guesses
        return [], [], base, 0
    limits.check_seconds(float((times[-1] - times[0]) * base))
    return times, sorted(set(keys)), base, max(end, times[-1] + 1)


def _by_time(
    stream: BinaryIO, demuxer: str, times: list[int], keys: list[int], base: Fraction, end: int, k: int, limits: Limits
) -> Iterator[tuple[np.ndarray, float, int]]:
    first, span = times[0], end - times[0]
    middles = [first + span * (2 * i + 1) // (2 * k) for i in range(k)]
    picked = times if len(times) <= k else sorted({times[max(0, bisect_right(times, t) - 1)] for t in middles})
    done, index = 0, 0
    # With seeking first; where a container's index turns out to be wrong, the rest is decoded from the start.
    for seeking in (True, False):
        stream.seek(0)
        with open_pyav(stream, demuxer) as opened:
            track = _video_stream(opened)
            shown: Iterator[VideoFrame] | None = None
            group = -1
            frame: VideoFrame | None = None
            while index < len(picked):
                target = picked[index]
                wanted = max(0, bisect_right(keys, target) - 1)
                left_out = bisect_left(times, keys[wanted]) - bisect_right(times, picked[max(0, index - 1)])
                if shown is None or (seeking and wanted > group and left_out >= _WORTH_SEEKING):
                    if seeking and not _seek(opened, track, keys[wanted]):
                        break
                    shown, frame = _decode(opened, track, set(picked)), None
                group = max(group, wanted)
                passed = 0
                while frame is None or frame.pts is None or frame.pts < target:
                    frame = next(shown, None)
                    if frame is None:
                        break
                    passed += 1
                if frame is not None and frame.pts == target:
                    if not frame.is_corrupt:
                        done += 1
                        yield _pixels(frame, track, limits), float((target - first) * base), len(picked)
                elif seeking and (frame is None or passed == 1):
                    break
                index += 1
        if index == len(picked):
            break
    if not done:
        raise Unusable(Status.UNDECODABLE, "no frame of the video decodes")


def _seek(opened: Any, track: "VideoStream", key: int) -> bool:
    from av.error import FFmpegError

    try:
        opened.seek(key, stream=track, backward=True)
    except FFmpegError:
        return False
    return True


def _by_count(stream: BinaryIO, demuxer: str, k: int, limits: Limits) -> Iterator[tuple[np.ndarray, float, int]]:
    """For streams without times (some AVI): decode all, twice; times follow from the frame rate."""
    with open_pyav(stream, demuxer) as opened:
        track = _video_stream(opened)
        rate = float(track.average_rate or 25)
        count = 0
        for count, _ in enumerate(_decode(opened, track), start=1):
            limits.check_frames(count)
    if not count:
        raise Unusable(Status.UNDECODABLE, "no frame of the video decodes")
    limits.check_seconds(count / rate)
    picked = set(range(count)) if count <= k else {(2 * i + 1) * count // (2 * k) for i in range(k)}
    stream.seek(0)
    with open_pyav(stream, demuxer) as opened:
        track = _video_stream(opened)
        for index, frame in enumerate(_decode(opened, track)):
            if index in picked:
                yield _pixels(frame, track, limits), index / rate, len(picked)


def _decode(opened: Any, track: "VideoStream", wanted: set[int] | None = None) -> "Iterator[VideoFrame]":
    """Frames that decode; a damaged packet costs its own frames only.

    Where it is known which times are wanted, H.264 pictures that no other refers to (nal_ref_idc = 0) are skipped: what
    is decoded stays the same, bit for bit.
    """
    from av.error import FFmpegError

    context = track.codec_context
    skip = wanted is not None and context.name == "h264"
    for packet in opened.demux(track):
        if skip:
            context.skip_frame = "DEFAULT" if not packet.size or packet.pts in wanted else "NONREF"
        try:
            frames = packet.decode()
        except FFmpegError:
            continue  # the frames that are missing are counted by the caller
        yield from frames


def _pixels(frame: "VideoFrame", track: "VideoStream", limits: Limits) -> np.ndarray:
    """Upright RGB of square pixels."""
    limits.check_pixels(frame.width, frame.height)
    width, height = frame.width, frame.height
    aspect = track.sample_aspect_ratio
    if aspect and aspect != 1 and Fraction(1, 4) <= aspect <= 4:
        width = max(1, round(width * aspect))
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    turns = round(frame.rotation / 90) % 4  # counter-clockwise degrees
    return np.ascontiguousarray(np.rot90(pixels, turns))


_X26 = {"libx264", "libx265"}
_QUANTISED = {"mpeg4", "mjpeg"}  # encoders without a rate factor


def write_video(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    fps: float | Fraction = 25,
    codec: str = "libx264",
    crf: int = 23,
    *,
    gop: int | None = None,
    preset: str = "medium",
    pixel_format: str = "yuv420p",
) -> None:
    """Write a video without sound atomically; the container follows from the suffix (.mp4, .mov, .mkv, .webm, .avi).

    The encoder runs on one thread, because x264's result depends on how many it has. Odd sides grow by one repeated row
    or column, which 4:2:0 needs.

    Args:
        frames: (H, W, 3) uint8 RGB, all of one size.
        codec: FFmpeg's name of an encoder: libx264, libx265, libvpx-vp9, libsvtav1, mpeg4, mjpeg ...
        crf: constant rate factor for x264, x265, VP9 and AV1; the quantiser for the others.
        gop: most frames between key frames.
        preset: speed of x264 and x265.

    Raises:
        MediaError: no frames, unequal sizes, unknown suffix, or an encoder that is not there.
    """
    import av
    from av.error import FFmpegError

    suffix = os.path.splitext(path)[1].lower()
    muxer = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi"}.get(suffix)
    if muxer is None:
        raise MediaError(
            f"{path}: no video container has the suffix {suffix!r}", hint="use .mp4, .mov, .mkv, .webm or .avi"
        )
    if codec not in av.codecs_available:
        raise MediaError(
            f"{path}: this PyAV has no encoder {codec!r}", hint="deepassay doctor lists the codecs that are there"
        )
    options = {} if codec in _QUANTISED else {"crf": str(crf)}
    if codec in _X26:
        options["preset"] = preset
    if codec == "libx265":
        options["x265-params"] = "log-level=error:pools=none:frame-threads=1"
    elif codec == "libvpx-vp9":
        options |= {"b": "0", "cpu-used": "4"}
    elif codec == "libsvtav1":
        options |= {"preset": "10", "svtav1-params": "lp=1"}
    try:
        av.VideoFormat(pixel_format)
    except ValueError as error:
        hint = "use yuv420p, yuv422p, yuv444p or yuv420p10le"
        raise MediaError(f"{path}: no pixel format {pixel_format!r}", hint=hint) from error
    shape: tuple[int, ...] | None = None
    try:
        with files.atomic_path(path) as temporary, av.open(temporary, "w", format=muxer) as container:
            rate = Fraction(fps).limit_denominator(1001)
            track = cast("VideoStream", container.add_stream(codec, rate=rate, options=options))
            track.pix_fmt = "yuvj420p" if (codec, pixel_format) == ("mjpeg", "yuv420p") else pixel_format
            track.codec_context.thread_count = 1
            if gop is not None:
                track.codec_context.gop_size = gop
            if codec in _QUANTISED:
                track.codec_context.qmin = track.codec_context.qmax = max(1, min(31, crf))
            for image in frames:
                if (
                    image.dtype != np.uint8
                    or image.ndim != 3
                    or image.shape[2] != 3
                    or image.shape != (shape or image.shape)
                ):
                    raise MediaError(
                        f"{path}: a frame is {image.dtype} {image.shape}, expected uint8 {shape or '(H, W, 3)'}",
                        hint="give 8-bit RGB frames of one size",
                    )
                if shape is None:
                    shape = image.shape
                    track.height, track.width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
                image = np.pad(image, ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0)), mode="edge")
                container.mux(track.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            if shape is None:
                raise MediaError(f"{path}: there are no frames to write", hint="give at least one frame")
            container.mux(track.encode(None))
    except FFmpegError as error:
        raise MediaError(
            f"{path}: {codec} failed ({error})", hint="check codec, crf, pixel format and frame size"
        ) from error
