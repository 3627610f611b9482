"""What a media file says of itself, without decoding it: kind, length, size, rates, codec."""

import os
from typing import Any, BinaryIO

from deepassay.labels import Status, Unusable
from deepassay.media.containers import Container, media_of, open_media, open_pyav, pick_stream, sniff
from deepassay.media.image import image_size
from deepassay.media.limits import DEFAULT_LIMITS, Limits

__all__ = ["probe", "sniff"]


def probe(path: str | os.PathLike[str], limits: Limits = DEFAULT_LIMITS) -> dict[str, Any]:
    """Facts from headers; pixels and samples are not decoded, so a damaged body is not noticed here.

    Returns:
        media ("image", "video" or "audio"), bytes, duration_s, width, height (as seen), fps, rate_hz, codec, container;
        None where a kind of media has no such thing or the header does not say.

    Raises:
        MediaError: no such file. Unusable: UNDECODABLE or OUT_OF_SCOPE.
    """
    facts: dict[str, Any] = dict.fromkeys(("duration_s", "width", "height", "fps", "rate_hz", "codec"))
    with open_media(path, limits) as (stream, container):
        facts |= {
            "media": media_of(stream, container),
            "bytes": os.fstat(stream.fileno()).st_size,
            "container": container.name,
        }
        if facts["media"] == "image":
            facts["width"], facts["height"] = image_size(stream, container, limits)
            facts["codec"] = container.name
        elif facts["media"] == "video":
            facts |= _video(stream, container)
        else:
            facts |= _sound(stream, container)
    return facts


def _video(stream: BinaryIO, container: Container) -> dict[str, Any]:
    assert container.demuxer is not None
    with open_pyav(stream, container.demuxer) as opened:
        track = pick_stream(opened, "video")
        if track is None:
            raise Unusable(Status.UNDECODABLE, "the file has no video stream")
        rotation = 0
        for frame in opened.decode(track):
            rotation = frame.rotation
            break
        width, height = track.codec_context.width, track.codec_context.height
        if rotation % 180:
            width, height = height, width
        sound = pick_stream(opened, "audio")
        return {
            "width": width,
            "height": height,
            "fps": float(track.average_rate) if track.average_rate else None,
            "duration_s": _seconds(opened, track),
            "codec": track.codec_context.codec.canonical_name,
            "rate_hz": sound.codec_context.sample_rate if sound is not None else None,
        }


def _sound(stream: BinaryIO, container: Container) -> dict[str, Any]:
    if container.soundfile:
        import soundfile

        try:
            with soundfile.SoundFile(stream) as opened:
                if opened.format in container.soundfile:
                    return {
                        "duration_s": opened.frames / opened.samplerate,
                        "rate_hz": opened.samplerate,
                        "codec": opened.subtype.lower(),
                    }
        except soundfile.LibsndfileError:
            pass  # a codec that libsndfile lacks: FFmpeg's turn, as in read_sound
        stream.seek(0)
    assert container.demuxer is not None
    with open_pyav(stream, container.demuxer) as opened:
        track = pick_stream(opened, "audio")
        if track is None:
            raise Unusable(Status.UNDECODABLE, "the file has no sound stream")
        return {
            "duration_s": _seconds(opened, track),
            "rate_hz": track.codec_context.sample_rate,
            "codec": track.codec_context.codec.canonical_name,
        }


def _seconds(container: Any, track: Any) -> float | None:
    if track.duration is not None and track.time_base is not None:
        return float(track.duration * track.time_base)
    return container.duration / 1e6 if container.duration is not None else None
