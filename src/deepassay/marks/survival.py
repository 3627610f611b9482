"""Whether a label outlives ordinary processing: named pipelines, each read back by a second parser (law 13).

Only what people and platforms do anyway is done here: save again, crop, rescale, convert, remux, transcode, cut, take
the sound out. Options whose purpose is to drop metadata are not among them and are not offered. FFmpeg's pipelines run
its libraries in process; they copy what its program copies by default, global and stream metadata, and each pipeline
names the command that it stands for.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deepassay.errors import MediaError, MissingDependencyError
from deepassay.labels import Unusable
from deepassay.marks.mark import GB45438
from deepassay.marks.scan import scan
from deepassay.marks.second import read_back, same_label
from deepassay.media.containers import open_media, open_pyav, pick_stream
from deepassay.media.image import read_image
from deepassay.media.limits import DEFAULT_LIMITS

LONGEST_S = 10.0  # of an input that is decoded: what becomes of a label does not depend on length
_FLAG = {"movflags": "use_metadata_tags"}
_PILLOW = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
_STILL = {"jpg": ("mjpeg", "yuvj420p"), "png": ("png", "rgb24"), "webp": ("libwebp", "yuv420p")}
_RATE_HZ = 48_000  # Opus knows no other


@dataclass(frozen=True, slots=True)
class Pipeline:
    """One ordinary way of processing a file.

    Args:
        name: stable short name, as in tables.
        media: what it takes: image, video or audio.
        stands_for: what a person would type or do.
        lab: name of the operation in the published survival lab, where that had it.
        run: (input, stem of the output) -> output.
    """

    name: str
    media: str
    stands_for: str
    lab: str
    run: Callable[[Path, Path], Path]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One file through one pipeline.

    Args:
        file: name of the input.
        container: carrier of the label in the input.
        pipeline: name.
        survived: the label is there after, with the same fields, by the second parser; None where the pipeline failed.
        reader: which second parser.
        first_agrees: whether the first parser says the same.
        error: why there is no outcome.
    """

    file: str
    container: str
    pipeline: str
    survived: bool | None
    reader: str = ""
    first_agrees: bool | None = None
    error: str = ""


# Still images -------------------------------------------------------------------------------------------------------


def _pillow(suffix: str, *, crop: bool = False) -> Callable[[Path, Path], Path]:
    def run(path: Path, stem: Path) -> Path:
        from PIL import Image

        ending = suffix or _suffix(path)
        out = stem.with_name(f"{stem.name}.{ending}")
        read_image(path)  # refuses what is too large or broken
        with Image.open(path) as image:
            if suffix:
                image = image.convert("RGB")
            if crop:
                width, height = image.size
                image = image.crop((width // 8, height // 8, width - width // 8, height - height // 8))
            image.save(out, _PILLOW[ending])
        return out

    return run


def _suffix(path: Path) -> str:
    with open_media(path) as (_, container):
        found = {"jpeg": "jpg", "png": "png", "webp": "webp"}.get(container.name)
    if found is None:
        raise MediaError(f"{path.name}: not a JPEG, PNG or WebP picture", hint="no pipeline is named for this format")
    return found


def _rescale(path: Path, stem: Path) -> Path:
    """Decoded, halved and encoded by FFmpeg, whose frames carry the text that its decoders found."""
    import av

    ending = _suffix(path)
    codec, layout = _STILL[ending]
    out = stem.with_name(f"{stem.name}.{ending}")
    read_image(path)
    reader = {"jpg": "jpeg_pipe", "png": "png_pipe", "webp": "webp_pipe"}[ending]
    form = "webp" if ending == "webp" else "image2"
    options = {} if ending == "webp" else {"update": "1"}
    with (
        open(path, "rb") as stream,
        open_pyav(stream, reader) as source,
        av.open(str(out), "w", format=form, options=options) as target,
    ):
        frame = next(source.decode(video=0))
        width, height = max(2, frame.width // 2 // 2 * 2), max(2, frame.height // 2 // 2 * 2)
        track: Any = _encoder(target, codec)
        track.width, track.height, track.pix_fmt = width, height, layout
        if ending == "jpg":
            track.codec_context.color_range = 2
        _copy_metadata(source, target, [(source.streams.video[0], track)])
        small = frame.reformat(width, height, layout)
        small.pts = 0
        target.mux(track.encode(small))
        target.mux(track.encode(None))
    return out


# Video and sound ------------------------------------------------------------------------------------------------------


def _encoder(target: Any, codec: str, **keywords: Any) -> Any:
    from av.codec.codec import UnknownCodecError

    try:
        return target.add_stream(codec, **keywords)
    except UnknownCodecError as error:
        raise MissingDependencyError(
            f"this build of FFmpeg has no encoder {codec}", hint="install the PyAV wheel that the lock file names"
        ) from error


def _copy_metadata(source: Any, target: Any, pairs: Sequence[tuple[Any, Any]]) -> None:
    """As the ffmpeg program does without -map_metadata: global to global, stream to stream."""
    target.metadata.update(source.metadata)
    for old, new in pairs:
        new.metadata.update({key: value for key, value in old.metadata.items() if key not in ("encoder", "ENCODER")})


def _remux(
    suffix: str,
    form: str,
    *,
    options: dict[str, str] | None = None,
    sound_only: bool = False,
    until_s: float | None = None,
) -> Callable[[Path, Path], Path]:
    """Packets copied unchanged (-c copy)."""

    def run(path: Path, stem: Path) -> Path:
        import av

        out = stem.with_name(f"{stem.name}.{suffix}")
        with open_media(path) as (stream, container):
            assert container.demuxer is not None
            with (
                open_pyav(stream, container.demuxer) as source,
                av.open(str(out), "w", format=form, options=options or {}) as target,
            ):
                kinds: tuple[Literal["video", "audio"], ...] = ("audio",) if sound_only else ("video", "audio")
                old = [one for kind in kinds if (one := pick_stream(source, kind)) is not None]
                if not old:
                    raise MediaError(f"{path.name}: holds no {' or '.join(kinds)}", hint="this pipeline needs it")
                new = {one.index: target.add_stream_from_template(one) for one in old}
                _copy_metadata(source, target, [(one, new[one.index]) for one in old])
                for packet in source.demux(old):
                    if packet.dts is None:
                        continue
                    if until_s is not None and float(packet.dts * packet.time_base) > until_s:
                        continue
                    packet.stream = new[packet.stream.index]
                    target.mux(packet)
        return out

    return run


def _transcode(
    suffix: str, form: str, *, video: tuple[str, dict[str, str]] | None = None, audio: str = "",
    options: dict[str, str] | None = None,
) -> Callable[[Path, Path], Path]:  # fmt: skip
    """Decoded and encoded again; of a long input the first `LONGEST_S` seconds."""

    def run(path: Path, stem: Path) -> Path:
        import av

        out = stem.with_name(f"{stem.name}.{suffix}")
        with open_media(path) as (stream, container):
            assert container.demuxer is not None
            with (
                open_pyav(stream, container.demuxer) as source,
                av.open(str(out), "w", format=form, options=options or {}) as target,
            ):
                old: list[Any] = []
                if video is not None:
                    old.append(pick_stream(source, "video"))
                if audio:
                    old.append(pick_stream(source, "audio"))
                old = [one for one in old if one is not None]
                if not old:
                    raise MediaError(
                        f"{path.name}: holds nothing that is converted here", hint="this pipeline needs it"
                    )
                tracks = {one.index: _Track(target, one, video, audio) for one in old}
                _copy_metadata(source, target, [(one, tracks[one.index].stream) for one in old])
                for packet in source.demux(old):
                    decoded: list[Any] = packet.decode()
                    for frame in decoded:
                        if frame.time is not None and frame.time > LONGEST_S:
                            continue
                        for coded in tracks[packet.stream.index].encode(frame):
                            target.mux(coded)
                for track in tracks.values():
                    for coded in track.encode(None):
                        target.mux(coded)
        return out

    return run


class _Track:
    """One stream decoded and encoded again."""

    def __init__(self, target: Any, old: Any, video: tuple[str, dict[str, str]] | None, audio: str) -> None:
        import av

        self.fit = None
        if old.type == "video":
            assert video is not None
            self.stream = _encoder(target, video[0], rate=old.average_rate or 25, options=video[1])
            DEFAULT_LIMITS.check_pixels(old.codec_context.width, old.codec_context.height)
            self.stream.width = old.codec_context.width // 2 * 2
            self.stream.height = old.codec_context.height // 2 * 2
            self.stream.pix_fmt = "yuv420p"
        else:
            rate = _RATE_HZ if audio == "libopus" else int(old.codec_context.sample_rate)
            self.stream = _encoder(target, audio, rate=rate)
            channels = old.codec_context.layout.nb_channels
            self.stream.layout = "mono" if channels == 1 else "stereo"
            self.fit = av.AudioResampler(
                self.stream.format, self.stream.layout, rate, frame_size=self.stream.codec_context.frame_size or 1024
            )

    def encode(self, frame: Any) -> Iterator[Any]:
        """Packets of one frame, or the last ones for None."""
        if self.fit is None:
            if frame is not None:
                frame = frame.reformat(self.stream.width, self.stream.height, "yuv420p")
            yield from self.stream.encode(frame)
            return
        for part in self.fit.resample(frame):
            yield from self.stream.encode(part)
        if frame is None:
            yield from self.stream.encode(None)


_H264 = {"crf": "28", "preset": "veryfast", "threads": "1"}
_VP9 = {"deadline": "realtime", "cpu-used": "8", "threads": "1"}

PIPELINES: dict[str, Pipeline] = {
    one.name: one
    for one in (
        Pipeline("save_jpeg", "image", 'Image.open(f).convert("RGB").save("out.jpg")',
                 "Pillow convert(RGB)+save jpg (default)", _pillow("jpg")),
        Pipeline("save_png", "image", 'Image.open(f).convert("RGB").save("out.png")',
                 "Pillow convert(RGB)+save png (default)", _pillow("png")),
        Pipeline("save_webp", "image", 'Image.open(f).convert("RGB").save("out.webp")',
                 "Pillow convert(RGB)+save webp (default)", _pillow("webp")),
        Pipeline("save_again", "image", "Image.open(f).save(out)",
                 "Pillow open+save same format (no metadata args)", _pillow("")),
        Pipeline("crop", "image", "Image.open(f).crop(box).save(out)",
                 "Pillow crop+save same format", _pillow("", crop=True)),
        Pipeline("rescale", "image", "ffmpeg -i IN -vf scale=iw/2:ih/2 OUT",
                 "ffmpeg rescale same format", _rescale),
        Pipeline("remux_mp4", "video", "ffmpeg -i IN -c copy OUT.mp4",
                 "remux -c copy to mp4 (default)", _remux("mp4", "mp4")),
        Pipeline("remux_mp4_tags", "video", "ffmpeg -i IN -c copy -movflags use_metadata_tags OUT.mp4",
                 "remux -c copy to mp4 +use_metadata_tags", _remux("mp4", "mp4", options=_FLAG)),
        Pipeline("h264_mp4", "video", "ffmpeg -i IN -c:v libx264 -crf 28 -c:a aac OUT.mp4",
                 "transcode h264 crf28 to mp4 (default)",
                 _transcode("mp4", "mp4", video=("libx264", _H264), audio="aac")),
        Pipeline("h264_mp4_tags", "video", "ffmpeg -i IN -c:v libx264 -c:a aac -movflags use_metadata_tags OUT.mp4",
                 "transcode h264 to mp4 +use_metadata_tags",
                 _transcode("mp4", "mp4", video=("libx264", _H264), audio="aac", options=_FLAG)),
        Pipeline("webm", "video", "ffmpeg -i IN -c:v libvpx-vp9 -c:a libopus OUT.webm",
                 "transcode to webm vp9/opus", _transcode("webm", "webm", video=("libvpx-vp9", _VP9), audio="libopus")),
        Pipeline("remux_mkv", "video", "ffmpeg -i IN -c copy OUT.mkv",
                 "remux -c copy to mkv", _remux("mkv", "matroska")),
        Pipeline("cut_mp4_tags", "video", "ffmpeg -i IN -t 1 -c copy -movflags use_metadata_tags OUT.mp4",
                 "cut 1 s -c copy +flag", _remux("mp4", "mp4", options=_FLAG, until_s=1.0)),
        Pipeline("sound_m4a", "video", "ffmpeg -i IN -vn -c:a copy OUT.m4a",
                 "extract audio to m4a copy (default)", _remux("m4a", "ipod", sound_only=True)),
        Pipeline("sound_mp3", "video", "ffmpeg -i IN -vn OUT.mp3",
                 "extract audio to mp3", _transcode("mp3", "mp3", audio="libmp3lame")),
        Pipeline("mp3", "audio", "ffmpeg -i IN OUT.mp3",
                 "ffmpeg transcode to mp3 (default)", _transcode("mp3", "mp3", audio="libmp3lame")),
        Pipeline("wav", "audio", "ffmpeg -i IN OUT.wav",
                 "ffmpeg transcode to wav (default)", _transcode("wav", "wav", audio="pcm_s16le")),
        Pipeline("flac", "audio", "ffmpeg -i IN OUT.flac",
                 "ffmpeg transcode to flac (default)", _transcode("flac", "flac", audio="flac")),
        Pipeline("opus", "audio", "ffmpeg -i IN OUT.opus",
                 "ffmpeg transcode to opus (default)", _transcode("opus", "opus", audio="libopus")),
        Pipeline("m4a", "audio", "ffmpeg -i IN OUT.m4a",
                 "ffmpeg transcode to m4a (default)", _transcode("m4a", "ipod", audio="aac")),
    )
}  # fmt: skip
MEDIA_OF = {
    "JPEG": "image", "PNG": "image", "WebP": "image", "MP4": "video", "MOV": "video", "Matroska": "video",
    "WebM": "video", "FLV": "video", "WAV": "audio", "MP3": "audio", "FLAC": "audio", "Ogg": "audio",
}  # fmt: skip


def survives(path: str | os.PathLike[str], pipeline: Pipeline, folder: str | os.PathLike[str]) -> Outcome:
    """One labelled file through one pipeline; the output is left in ``folder``.

    Raises:
        MediaError: the input carries no single label, so that nothing could survive.
    """
    place = Path(path)
    found = scan(place)
    labels = [mark.text for mark in found.marks if mark.kind == GB45438]
    if len(labels) != 1:
        raise MediaError(
            f"{place.name}: carries {len(labels)} implicit labels, not one", hint="survival is measured of one label"
        )
    common = (place.name, found.container, pipeline.name)
    Path(folder).mkdir(parents=True, exist_ok=True)
    try:
        out = pipeline.run(place, Path(folder) / f"{place.stem}.{pipeline.name}")
        back = read_back(out)
        again = [mark.text for mark in scan(out).marks if mark.kind == GB45438]
    except MissingDependencyError:
        raise
    except (MediaError, Unusable, OSError, ValueError) as error:
        text = error.message if isinstance(error, MediaError) else str(error)
        return Outcome(*common, survived=None, error=text or type(error).__name__)
    survived = any(same_label(labels[0], one) for one in back.texts)
    first = any(same_label(labels[0], one) for one in again)
    return Outcome(*common, survived=survived, reader=back.reader, first_agrees=first == survived)


def measure_survival(
    files: Iterable[tuple[str | os.PathLike[str], str]],
    folder: str | os.PathLike[str],
    *,
    names: Sequence[str] | None = None,
    done: Callable[[], object] = lambda: None,
) -> list[Outcome]:
    """Each file through every pipeline for its kind of media.

    Args:
        files: (path, image, video or audio).
        folder: for the outputs; they are removed one by one.
        names: of pipelines; all of them where None.
    """
    out: list[Outcome] = []
    for path, media in files:
        for pipeline in pipelines_for(media, names):
            out.append(survives(path, pipeline, folder))
            for left in Path(folder).glob(f"{Path(path).stem}.{pipeline.name}*"):
                left.unlink()
        done()
    return out


def pipelines_for(media: str, names: Sequence[str] | None = None) -> list[Pipeline]:
    """Pipelines that take this kind of media, in the order of the table.

    Raises:
        MediaError: a name that no pipeline has.
    """
    unknown = [name for name in names or () if name not in PIPELINES]
    if unknown:
        raise MediaError(f"there is no pipeline {unknown[0]!r}", hint=f"use some of {', '.join(PIPELINES)}")
    return [one for one in PIPELINES.values() if one.media == media and (names is None or one.name in names)]
