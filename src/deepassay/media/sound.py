"""Sound: bounded decoding of any accepted container to mono at one rate; encoding to WAV, FLAC, MP3, Opus and AAC."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, BinaryIO, Literal, cast

import numpy as np

from deepassay import files
from deepassay.errors import MediaError
from deepassay.labels import Status, Unusable
from deepassay.media.containers import Container, open_media, open_pyav, pick_stream
from deepassay.media.limits import DEFAULT_LIMITS, Limits

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler
    from av.audio.stream import AudioStream

SoundFormat = Literal["wav", "flac", "ogg", "mp3", "opus", "aac", "m4a"]
_BLOCK = 1 << 18
_MAX_CHANNELS = 64
_MIN_RATE, _MAX_RATE = 1000, 768_000


def read_sound(
    path: str | os.PathLike[str],
    rate_hz: int = 16000,
    limits: Limits = DEFAULT_LIMITS,
    max_seconds: float | None = None,
) -> np.ndarray:
    """Decode one file to mono at one sampling rate: the blocks of `stream_sound` as one array.

    A signal whose peak is above 1 is divided by that peak.

    Args:
        rate_hz: sampling rate of the result.
        max_seconds: decode only this many seconds from the start.

    Returns:
        (T,) float32 in [-1, 1].

    Raises:
        Unusable, MediaError: see `stream_sound`.
    """
    signal = np.concatenate([block for block, _ in stream_sound(path, rate_hz, limits, max_seconds)])
    peak = float(np.abs(signal).max(initial=0.0))
    return signal / np.float32(peak) if peak > 1 else signal


def stream_sound(
    path: str | os.PathLike[str],
    rate_hz: int = 16000,
    limits: Limits = DEFAULT_LIMITS,
    max_seconds: float | None = None,
) -> Iterator[tuple[np.ndarray, int]]:
    """Decode one file block by block, in memory that does not grow with its length.

    libsndfile reads what it knows, FFmpeg (PyAV) the rest, including the first sound stream of a video. All channels
    are averaged with equal weight, whatever their layout says (stereo, 5.1 with its low-frequency channel), before the
    rate is changed by soxr's HQ recipe (`ResampleStream`). Length is what time demands: ceil(samples * rate_hz / source
    rate), zeros or nothing being added by the resampler's own delay. Level is left as it is: values may lie beyond 1.

    Args:
        rate_hz: sampling rate of the blocks.
        max_seconds: decode only this many seconds from the start.

    Yields:
        blocks (n,) float32, n at least 1, and the sampling rate of the source in Hz. The same file gives the same
        blocks every time.

    Raises:
        Unusable: UNDECODABLE where empty, damaged, cut short, without sound, or with samples that are not numbers;
            OUT_OF_SCOPE over a limit.
        MediaError: no such file.
    """
    import soxr

    length = done = source_hz = 0
    resampler: soxr.ResampleStream | None = None
    held = np.zeros(0, np.float32)  # the last block waits, since only the end of the file says how long it may be
    with open_media(path, limits) as (stream, container):
        for block, source_hz in _blocks(stream, container, limits):
            if max_seconds is not None:
                block = block[: max(0, round(max_seconds * source_hz) - length)]
            length += len(block)
            limits.check_seconds(length / source_hz)
            if not np.isfinite(block).all():
                raise Unusable(Status.UNDECODABLE, "the sound holds samples that are not numbers (NaN or infinity)")
            if source_hz != rate_hz:
                resampler = resampler or soxr.ResampleStream(source_hz, rate_hz, 1, dtype="float32", quality="HQ")
                block = resampler.resample_chunk(block)
            if len(block):
                if len(held):
                    done += len(held)
                    yield held, source_hz
                held = block
            if max_seconds is not None and length >= round(max_seconds * source_hz):
                break
    if not length:
        raise Unusable(Status.UNDECODABLE, "the file holds no sound samples")
    if resampler is not None:
        held = np.concatenate([held, resampler.resample_chunk(np.zeros(0, np.float32), last=True)])
        # The resampler's own length varies by a sample; the length that time demands does not.
        wanted = -(-length * rate_hz // source_hz) - done
        held = np.pad(held[:wanted], (0, max(0, wanted - len(held))))
    yield held, source_hz


def _blocks(stream: BinaryIO, container: Container, limits: Limits) -> Iterator[tuple[np.ndarray, int]]:
    """Mono float32 blocks and their rate, the same throughout."""
    if container.pillow is not None:
        raise Unusable(Status.UNDECODABLE, f"a {container.name} image has no sound")
    if container.soundfile:
        import soundfile

        class Forward(soundfile.SoundFile):
            """Reads on without seeking to where it is after every block, which costs MP3 a warning and work each."""

            def seekable(self) -> bool:
                return False

        try:
            opened = Forward(stream)
        except soundfile.LibsndfileError:
            opened = None  # a codec inside the container that libsndfile lacks: FFmpeg's turn
        if opened is not None:
            with opened:
                if opened.format in container.soundfile:
                    yield from _soundfile_blocks(opened, limits)
                    return
        stream.seek(0)
    assert container.demuxer is not None
    yield from _pyav_blocks(stream, container.demuxer)


def _check_layout(rate: int, channels: int) -> None:
    if not _MIN_RATE <= rate <= _MAX_RATE or not 1 <= channels <= _MAX_CHANNELS:
        raise Unusable(Status.UNDECODABLE, f"a sound of {rate} Hz in {channels} channels cannot be meant")


def _soundfile_blocks(opened, limits: Limits) -> Iterator[tuple[np.ndarray, int]]:
    import soundfile

    _check_layout(opened.samplerate, opened.channels)
    if opened.format != "MP3":  # its frame count is an estimate
        limits.check_seconds(opened.frames / opened.samplerate)
    done = 0
    try:
        while True:
            block = opened.read(max(1, _BLOCK // opened.channels), dtype="float32", always_2d=True)
            if not len(block):
                break
            done += len(block)
            yield _mono(block), opened.samplerate
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise Unusable(Status.UNDECODABLE, f"the {opened.format} sound is damaged ({type(error).__name__})") from error
    if opened.format in ("FLAC", "OGG") and done < opened.frames:
        raise Unusable(
            Status.UNDECODABLE, f"the {opened.format} sound is cut short ({done} of {opened.frames} samples decode)"
        )


def _mono(block: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(block[:, 0]) if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)


class _Converter:
    """Decoded frames to mono float32 at the rate of the first; a stream may change layout, format or rate midway."""

    def __init__(self) -> None:
        self.rate = 0
        self._kind: tuple[str, str, int] | None = None
        self._resampler: AudioResampler | None = None

    def __call__(self, frame: "AudioFrame") -> list[np.ndarray]:
        import av

        out = []
        kind = (frame.format.name, frame.layout.name, frame.sample_rate)
        if kind != self._kind:
            _check_layout(frame.sample_rate, frame.layout.nb_channels)
            self.rate = self.rate or frame.sample_rate
            out = self.flush()
            self._kind = kind
            self._resampler = av.AudioResampler(format="fltp", layout=frame.layout.name, rate=self.rate)
        assert self._resampler is not None
        frame.pts = None
        return out + [_mono(part.to_ndarray().T) for part in self._resampler.resample(frame)]

    def flush(self) -> list[np.ndarray]:
        """What the converter still holds."""
        return [] if self._resampler is None else [_mono(p.to_ndarray().T) for p in self._resampler.resample(None)]


def _pyav_blocks(stream: BinaryIO, demuxer: str) -> Iterator[tuple[np.ndarray, int]]:
    from av.error import FFmpegError

    with open_pyav(stream, demuxer) as container:
        track = pick_stream(container, "audio")
        if track is None:
            raise Unusable(Status.UNDECODABLE, "the file has no sound stream")
        rate = 0
        broken: list[str] = []
        got = False
        converter = _Converter()
        pieces: list[np.ndarray] = []
        for packet in container.demux(track):
            try:
                frames = packet.decode()
            except FFmpegError as error:
                broken.append(type(error).__name__)
                continue
            for frame in frames:
                pieces += converter(frame)
            rate = converter.rate
            if sum(map(len, pieces)) >= _BLOCK // 4:
                yield np.concatenate(pieces), rate
                got, pieces = True, []
        pieces += converter.flush()
        if pieces:
            yield np.concatenate(pieces), rate
            got = True
        if broken and not got:
            raise Unusable(Status.UNDECODABLE, f"no packet of the sound stream decodes ({broken[0]})")
        if len(broken) > 2:
            raise Unusable(Status.UNDECODABLE, f"{len(broken)} packets of the sound stream are damaged ({broken[0]})")


_FORMATS: dict[str, SoundFormat] = {
    ".wav": "wav", ".flac": "flac", ".ogg": "ogg", ".mp3": "mp3", ".opus": "opus", ".aac": "aac", ".m4a": "m4a",
}  # fmt: skip
_SUBTYPES = {"wav": "PCM_16", "flac": "PCM_16", "ogg": "VORBIS"}
_ENCODERS = {"mp3": ("libmp3lame", "mp3"), "opus": ("libopus", "ogg"), "aac": ("aac", "adts"), "m4a": ("aac", "ipod")}


def write_sound(
    path: str | os.PathLike[str],
    signal: np.ndarray,
    rate_hz: int = 16000,
    *,
    format: SoundFormat | None = None,
    subtype: str | None = None,
    bitrate: int = 64_000,
) -> None:
    """Write mono or multi-channel sound atomically.

    Args:
        path: its suffix decides on the format unless ``format`` does.
        signal: (T,) or (T, channels) float in [-1, 1]; values beyond are clipped by integer formats.
        format: wav, flac, ogg (Vorbis), mp3, opus (in Ogg), aac (ADTS) or m4a.
        subtype: libsndfile's name for wav, flac and ogg: PCM_16, PCM_24, FLOAT, ULAW, ALAW, GSM610 ...
        bitrate: bits per second for mp3, opus, aac and m4a. Opus is written at 48 kHz where it does not know the rate.

    Raises:
        MediaError: an array, format or encoder that cannot be used.
    """
    chosen = format or _FORMATS.get(os.path.splitext(path)[1].lower())
    if chosen is None or chosen not in _FORMATS.values():
        raise MediaError(
            f"{path}: no sound format for this name", hint=f"use one of {sorted(_FORMATS)} or pass format="
        )
    values = np.asarray(signal, dtype=np.float32)
    if values.ndim not in (1, 2) or not values.size or not np.isfinite(values).all():
        raise MediaError(
            f"{path}: a sound to write must be finite, not empty and (T,) or (T, channels), not {values.shape}",
            hint="check the signal for NaN and its axes",
        )
    if chosen in _SUBTYPES:
        import soundfile

        kind = subtype or _SUBTYPES[chosen]
        if not soundfile.check_format(chosen.upper(), kind):
            raise MediaError(
                f"{path}: {chosen} cannot hold {kind}",
                hint=f"use one of {sorted(soundfile.available_subtypes(chosen.upper()))}",
            )
        with files.atomic_path(path) as temporary:
            soundfile.write(temporary, values, rate_hz, subtype=kind, format=chosen.upper())
        return
    if subtype is not None:
        raise MediaError(f"{path}: {chosen} has no subtypes", hint="pass bitrate= instead")
    with files.atomic_path(path) as temporary, open(temporary, "wb") as stream:
        _encode(stream, values if values.ndim == 2 else values[:, None], rate_hz, chosen, bitrate)


def _encode(stream: BinaryIO, values: np.ndarray, rate_hz: int, format: str, bitrate: int) -> None:
    import av
    from av.error import FFmpegError

    codec, muxer = _ENCODERS[format]
    if codec not in av.codecs_available:
        raise MediaError(f"this PyAV was built without {codec}", hint="install PyAV's own wheel, or write wav or flac")
    rate = rate_hz
    if codec == "libopus" and rate not in (8000, 12000, 16000, 24000, 48000):
        rate = 48000
    try:
        with av.open(stream, "w", format=muxer) as container:
            layout = {1: "mono", 2: "stereo"}.get(values.shape[1])
            if layout is None:
                raise MediaError(
                    f"{format} is written with one or two channels, not {values.shape[1]}", hint="mix down"
                )
            track = cast("AudioStream", container.add_stream(codec, rate=rate, layout=layout))
            track.bit_rate = bitrate
            encoder = track.codec_context.format.name
            resampler = av.AudioResampler(format=encoder, layout=layout, rate=rate)
            block = 8192
            for start in range(0, len(values), block):
                piece = np.ascontiguousarray(np.clip(values[start : start + block], -1, 1).T)
                frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
                frame.sample_rate = rate_hz
                frame.pts = None
                for part in resampler.resample(frame):
                    container.mux(track.encode(part))
            for part in resampler.resample(None):
                container.mux(track.encode(part))
            container.mux(track.encode(None))
    except FFmpegError as error:
        raise MediaError(
            f"{codec} refused {rate} Hz at {bitrate} bit/s ({error})",
            hint="use a rate and bitrate that the codec knows",
        ) from error
