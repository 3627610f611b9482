"""What happens to sound on its way: codecs, telephones, messengers, lost packets, rooms and noise; NumPy and PyAV."""

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, cast

import numpy as np

from deepassay.errors import ConfigError, MediaError, MissingDependencyError

_MP3_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000)
_OPUS_RATES = (8000, 12000, 16000, 24000, 48000)


@dataclass(frozen=True)
class Codec:
    """One way of coding sound.

    Args:
        name: in `CODECS`.
        encoder, decoder: FFmpeg's names; empty where libsndfile does it.
        rates: sampling rates it takes; the signal is resampled to the nearest one that is not below it, else the
            highest.
        delay: samples (at the codec's rate) by which the decoded sound is late.
        form: sample format of the encoder.
        bitrates: bits per second it may be asked for; none where it has one.
        options: of the encoder.
    """

    name: str
    encoder: str
    decoder: str
    rates: tuple[int, ...]
    delay: int = 0
    form: str = "s16"
    bitrates: tuple[int, int] | None = None
    options: Mapping[str, str] | None = None

    def rate_for(self, rate_hz: int) -> int:
        """Its own rate for a signal."""
        return min((r for r in self.rates if r >= rate_hz), default=max(self.rates))


CODECS: dict[str, Codec] = {
    c.name: c
    for c in (
        Codec("mp3", "libmp3lame", "mp3", _MP3_RATES, 0, "s16p", (8_000, 320_000)),
        Codec("aac", "aac", "aac", _AAC_RATES, 1024, "fltp", (8_000, 320_000)),
        Codec("opus", "libopus", "libopus", _OPUS_RATES, 0, "s16", (6_000, 256_000), {"application": "audio"}),
        Codec("opus_voip", "libopus", "libopus", _OPUS_RATES, 0, "s16", (6_000, 256_000), {"application": "voip"}),
        Codec("g711_a", "pcm_alaw", "pcm_alaw", (8000,)),
        Codec("g711_mu", "pcm_mulaw", "pcm_mulaw", (8000,)),
        Codec("g722", "g722", "g722", (16000,), 22),
        Codec("amr_nb", "libopencore_amrnb", "amrnb", (8000,), 40, "s16", (4_750, 12_200)),
        Codec("gsm", "", "", (8000,)),
        Codec("amr_wb", "libvo_amrwbenc", "amrwb", (16000,), 0, "s16", (6_600, 23_850)),
        Codec("speex", "libspeex", "speex", (8000, 16000), 0, "s16", (4_000, 44_000)),
    )
}


def _known(name: str, mode: Any) -> bool:
    """Whether this FFmpeg has an encoder (mode ``w``) or decoder (``r``)."""
    import av
    from av.codec.codec import UnknownCodecError

    try:
        av.Codec(name, mode)
    except UnknownCodecError:
        return False
    return True


def _gsm_known() -> bool:
    import soundfile

    return "GSM610" in soundfile.available_subtypes("WAV")


def require_codec(name: str) -> Codec:
    """The codec, if it can be used here.

    Raises:
        ConfigError: no such codec.
        MissingDependencyError: this build of PyAV or libsndfile lacks it. Nothing else is ever used in its stead.
    """
    if name not in CODECS:
        raise ConfigError(f"there is no codec {name!r}", hint=f"use one of {', '.join(CODECS)}")
    codec = CODECS[name]
    if not codec.encoder:
        if not _gsm_known():
            raise MissingDependencyError(
                "this libsndfile was built without GSM 6.10", hint="install the soundfile wheel, or leave gsm out"
            )
    elif not _known(codec.encoder, "w") or not _known(codec.decoder, "r"):
        raise MissingDependencyError(
            f"{name}: this build of PyAV has no encoder {codec.encoder} or no decoder {codec.decoder}",
            hint=f"install PyAV's own wheel (av>=18.1), which has all but amr_wb and speex; or leave {name} out",
        )
    return codec


def encoder_versions() -> dict[str, str]:
    """What coded the sound: versions of PyAV, its FFmpeg libraries and libsndfile. PyAV's wheel pins LAME and Opus."""
    import av
    import soundfile

    libraries = {name: ".".join(map(str, v)) for name, v in av.library_versions.items()}
    return {
        "pyav": av.__version__,
        "libavcodec": libraries["libavcodec"],
        "libswresample": libraries["libswresample"],
        "libsndfile": soundfile.__libsndfile_version__,
    }


def _fit(signal: np.ndarray, length: int) -> np.ndarray:
    """Cut or padded with silence at the end: float32 (length,) within [-1, 1]."""
    out = np.pad(signal[:length], (0, max(0, length - len(signal))))
    return np.clip(out, -1.0, 1.0).astype(np.float32)


def _resampled(signal: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    import soxr

    if from_hz == to_hz:
        return signal
    return cast(np.ndarray, soxr.resample(signal.astype(np.float32), from_hz, to_hz, quality="HQ"))


def code(
    signal: np.ndarray, rate_hz: int, codec: str, *, bitrate: int | None = None, bits_per_codeword: int | None = None
) -> np.ndarray:
    """There and back through a codec, put back in time and cut to length.

    Args:
        signal: (T,) in [-1, 1].
        codec: of `CODECS`.
        bitrate: bits per second.
        bits_per_codeword: of G.722: 8, 7 or 6 (64, 56 or 48 kbit/s).

    Returns:
        (T,) float32 in [-1, 1].

    Raises:
        ConfigError: a codec that does not exist or a bitrate that it does not take.
        MissingDependencyError: see `require_codec`.
        MediaError: the encoder refuses.
    """
    kind = require_codec(codec)
    if (bitrate is None) != (kind.bitrates is None) or (
        kind.bitrates and not kind.bitrates[0] <= cast(int, bitrate) <= kind.bitrates[1]
    ):
        span = "no bitrate" if kind.bitrates is None else f"{kind.bitrates[0]} to {kind.bitrates[1]} bit/s"
        raise ConfigError(f"{codec}: bitrate is {bitrate}", hint=f"it takes {span}")
    if bits_per_codeword is not None and (codec != "g722" or bits_per_codeword not in (6, 7, 8)):
        raise ConfigError(f"{codec}: bits_per_codeword is {bits_per_codeword}", hint="6, 7 or 8, and g722 only")
    own = kind.rate_for(rate_hz)
    sent = np.clip(_resampled(np.asarray(signal, np.float32), rate_hz, own), -1, 1)
    if not kind.encoder:
        heard, heard_hz = _gsm(sent), own
    else:
        heard, heard_hz = _through(kind, sent, own, bitrate, bits_per_codeword)
    heard = heard[kind.delay * heard_hz // own :]
    return _fit(_resampled(heard, heard_hz, rate_hz), len(signal))


def _gsm(signal: np.ndarray) -> np.ndarray:
    import io

    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, signal, 8000, subtype="GSM610", format="WAV")
    stream.seek(0)
    return soundfile.read(stream, dtype="float32")[0]


def _through(
    kind: Codec, signal: np.ndarray, rate: int, bitrate: int | None, codeword: int | None
) -> tuple[np.ndarray, int]:
    """Packets from a fresh encoder into a fresh decoder: sound and its rate."""
    import av
    from av.error import FFmpegError

    try:
        encoder: Any = av.CodecContext.create(kind.encoder, "w")
        encoder.sample_rate, encoder.layout, encoder.format = rate, "mono", kind.form
        encoder.time_base = Fraction(1, rate)
        if bitrate is not None:
            encoder.bit_rate = bitrate
        encoder.options = dict(kind.options or {})
        encoder.open()
        size = encoder.frame_size or rate // 50
        # Some frames of silence push the last sound out of encoder and decoder.
        padded = np.pad(signal, (0, 4 * size + (-len(signal)) % size))
        if kind.form.startswith("s16"):
            padded = np.round(padded * 32767).astype(np.int16)
        packets = []
        for start in range(0, len(padded), size):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(padded[None, start : start + size]), format=kind.form, layout="mono"
            )
            frame.sample_rate, frame.pts, frame.time_base = rate, start, encoder.time_base
            packets += encoder.encode(frame)
        packets += encoder.encode(None)
        decoder: Any = av.CodecContext.create(kind.decoder, "r")
        decoder.sample_rate, decoder.layout = rate, "mono"
        if encoder.extradata:
            decoder.extradata = encoder.extradata
        if codeword is not None:
            decoder.options = {"bits_per_codeword": str(codeword)}
        pieces, heard_hz = [], rate
        for packet in [*packets, None]:
            for frame in decoder.decode(packet):
                values = frame.to_ndarray()
                planar = frame.format.is_planar or frame.layout.nb_channels == 1
                values = values[0] if planar else values.reshape(-1, frame.layout.nb_channels)[:, 0]
                pieces.append(values / np.float32(32768) if values.dtype == np.int16 else values)
                heard_hz = frame.sample_rate
    except FFmpegError as error:
        raise MediaError(
            f"{kind.encoder} refused {rate} Hz at {bitrate} bit/s ({error})", hint="use a bitrate that the codec knows"
        ) from error
    return np.concatenate(pieces).astype(np.float32), heard_hz


def shape_spectrum(sound: np.ndarray, gains_db: np.ndarray, cutoff: float = 1.0) -> np.ndarray:
    """Equaliser and low-pass in one pass: float32 (T,) -> the same length.

    Args:
        gains_db: gains at evenly spaced frequencies from 0 to half the sampling rate, linearly interpolated between.
        cutoff: fraction of half the sampling rate above which a 5 % wide slope falls to nothing; 1 for none.
    """
    # A zero tail as long as the filter's practical response, so that the end does not wrap around onto the beginning.
    padded = len(sound) + 1024
    spectrum = np.fft.rfft(sound, padded)
    place = np.linspace(0, 1, len(spectrum))
    gain = 10 ** (np.interp(place, np.linspace(0, 1, len(gains_db)), gains_db) / 20)
    if cutoff < 1:
        gain *= np.clip((cutoff * 1.05 - place) / (cutoff * 0.05), 0, 1)
    return np.fft.irfft(spectrum * gain, padded)[: len(sound)].astype(np.float32)


def coloured_noise(length: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise (length,) float32 of unit power that falls as 1 / f ** exponent (0 white, 1 pink, 2 brown)."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum[1:] *= np.arange(1, len(spectrum), dtype=np.float64) ** (-exponent / 2)
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, length)
    return (noise / max(np.sqrt(np.mean(noise**2)), 1e-12)).astype(np.float32)


def compand(sound: np.ndarray, levels: int = 256) -> np.ndarray:
    """Quantise on the continuous mu-law curve (mu = 255, the characteristic behind ITU-T G.711): (T,) -> (T,)."""
    mu = 255.0
    curve = np.sign(sound) * np.log1p(mu * np.minimum(np.abs(sound), 1)) / np.log1p(mu)
    steps = np.round((curve + 1) / 2 * (levels - 1)) / (levels - 1) * 2 - 1
    return (np.sign(steps) * np.expm1(np.abs(steps) * np.log1p(mu)) / mu).astype(np.float32)


def band_limit(signal: np.ndarray, rate_hz: int, low_hz: float, high_hz: float) -> np.ndarray:
    """A band-pass without delay, with raised-cosine slopes a tenth of each edge wide: (T,) -> (T,) float32.

    Raises:
        ConfigError: edges that are not 0 <= low < high.
    """
    if not 0 <= low_hz < high_hz:
        raise ConfigError(f"band {low_hz} to {high_hz} Hz", hint="give 0 <= low < high")
    padded = len(signal) + rate_hz // 4
    freqs = np.fft.rfftfreq(padded, 1 / rate_hz)

    def rise(edge: float) -> np.ndarray:
        place = np.clip((freqs - 0.95 * edge) / (0.1 * edge), 0, 1)
        return 0.5 - 0.5 * np.cos(np.pi * place)

    gain = (rise(low_hz) if low_hz > 0 else 1.0) * (1 - rise(high_hz))
    return np.fft.irfft(np.fft.rfft(signal, padded) * gain, padded)[: len(signal)].astype(np.float32)


def lose_packets(
    signal: np.ndarray,
    rate_hz: int,
    rng: np.random.Generator,
    *,
    share: float,
    burst: float = 1.5,
    frame_s: float = 0.02,
) -> np.ndarray:
    """Frames lost in bursts (Gilbert 1960) and concealed: the last frame is repeated, 6 dB down each time, then mute.

    Args:
        share: of frames that are lost in the long run, 0 to 0.5.
        burst: mean length of a loss in frames.
        frame_s: seconds per frame.

    Returns:
        (T,) float32; where nothing was lost, as it was.

    Raises:
        ConfigError: a share or burst that cannot be.
    """
    if not 0 <= share <= 0.5 or burst < 1:
        raise ConfigError(
            f"packet loss: share {share}, burst {burst}", hint="a share of 0 to 0.5, a burst of at least 1"
        )
    size = max(8, round(frame_s * rate_hz))
    count = -(-len(signal) // size)
    leave = 1 / burst
    enter = min(1.0, leave * share / (1 - share)) if share else 0.0
    draws, lost, inside = rng.random(count), np.zeros(count, bool), False
    for at in range(1, count):  # the first packet opens the call
        inside = draws[at] >= leave if inside else draws[at] < enter
        lost[at] = inside
    out = np.array(signal, np.float32)
    fade = np.linspace(0, 1, max(2, size // 8), dtype=np.float32)
    last = out[:size].copy()
    run = 0
    for at in range(count):
        here = slice(at * size, min((at + 1) * size, len(out)))
        n = here.stop - here.start
        if lost[at]:
            run += 1
            piece = last * np.float32(0.5 ** (run - 1) if run <= 3 else 0.0)
            out[here] = piece[:n]
            continue
        if run:  # fade the next good frame in over what concealment would have said
            k = min(len(fade), n)
            piece = last * np.float32(0.5**run if run < 3 else 0.0)
            out[here.start : here.start + k] = fade[:k] * out[here.start : here.start + k] + (1 - fade[:k]) * piece[:k]
        run = 0
        if n == size:
            last = out[here].copy()
    return out


def room(
    rate_hz: int, rng: np.random.Generator, *, rt60_s: float, direct_db: float = 6.0, early: int = 8
) -> np.ndarray:
    """A made-up room: the direct sound, some early reflections, a noise tail that decays by 60 dB in ``rt60_s``.

    High frequencies decay twice as fast as low ones (crossing at 2 kHz), as walls and air make them.

    Args:
        rt60_s: reverberation time, 0.05 to 5 s.
        direct_db: energy of the direct sound over that of all the rest, in dB.
        early: reflections between 3 and 40 ms.

    Returns:
        Impulse response (n,) float64; the direct sound is its first sample and is 1.

    Raises:
        ConfigError: a reverberation time out of range.
    """
    if not 0.05 <= rt60_s <= 5:
        raise ConfigError(f"room: rt60_s is {rt60_s}", hint="give 0.05 to 5 s")
    n = max(16, round(1.1 * rt60_s * rate_hz))
    t = np.arange(n) / rate_hz
    noise = rng.standard_normal(n)
    spectrum, freqs = np.fft.rfft(noise), np.fft.rfftfreq(n, 1 / rate_hz)
    share = 1 / (1 + (freqs / 2000) ** 4)
    low, high = np.fft.irfft(spectrum * share, n), np.fft.irfft(spectrum * (1 - share), n)
    fall = math.log(1000.0)
    tail = low * np.exp(-fall * t / rt60_s) + high * np.exp(-2 * fall * t / rt60_s)
    start = min(round(0.01 * rate_hz), n // 4)
    tail[:start] *= np.linspace(0, 1, start) ** 2
    out = tail / np.sqrt(np.sum(tail**2))
    at = np.minimum((rng.uniform(0.003, 0.04, early) * rate_hz).astype(int) + 1, n - 1)
    gains = rng.choice([-1.0, 1.0], early) * rng.uniform(0.3, 1.0, early) * np.exp(-fall * at / rate_hz / rt60_s)
    np.add.at(out, at, gains * 0.5)
    out[0] = 0
    out *= 10 ** (-direct_db / 20) / np.sqrt(np.sum(out**2))
    out[0] = 1.0
    return out


def reverberate(signal: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Sound in a room (its direct sound the first sample), at the level it had: (T,) -> (T,) float32."""
    from scipy.signal import fftconvolve

    wet = fftconvolve(np.asarray(signal, np.float64), response)[: len(signal)]
    before, after = (math.sqrt(float(np.mean(np.square(x, dtype=np.float64)))) for x in (signal, wet))
    return below_full_scale(wet * (before / after if after > 1e-12 else 1.0))


def add_noise(signal: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Noise (T,) at a ratio to the whole signal's power: (T,) float32. Silence and silent noise stay as they are."""
    power, other = (float(np.mean(np.square(x, dtype=np.float64))) for x in (signal, noise))
    if power <= 0 or other <= 0:
        return np.array(signal, np.float32)
    return (signal + noise * np.float32(math.sqrt(power / other) * 10 ** (-snr_db / 20))).astype(np.float32)


def below_full_scale(signal: np.ndarray) -> np.ndarray:
    """Divided by its peak where that is above 1: float32."""
    peak = float(np.abs(signal).max(initial=0.0))
    return (signal / peak if peak > 1 else signal).astype(np.float32)


def speech_bounds(signal: np.ndarray, rate_hz: int, range_db: float = 35.0) -> tuple[int, int]:
    """First and last sample of what is within ``range_db`` of the loud frames (20 ms, the 95th percentile)."""
    size = round(0.02 * rate_hz)
    count = max(1, len(signal) // size)
    frames = np.square(signal[: count * size], dtype=np.float64)
    power = frames.reshape(count, -1).mean(axis=1) if len(frames) else np.zeros(1)
    active = np.flatnonzero((power > 0) & (power >= np.quantile(power, 0.95) * 10 ** (-range_db / 10)))
    if not len(active):
        return 0, len(signal)
    last = (int(active[-1]) + 1) * size
    return int(active[0]) * size, len(signal) if active[-1] == count - 1 else last


def set_silence(signal: np.ndarray, rate_hz: int, lead_s: float, tail_s: float) -> np.ndarray:
    """At most so much silence at both ends, the rest filled by beginning again, as the modality repeats short files.

    Args:
        lead_s, tail_s: most seconds of silence that stay before and after the speech.

    Returns:
        (T,) float32 of the same length; a signal without longer silences as it was.
    """
    first, last = speech_bounds(signal, rate_hz)
    start = max(0, first - round(lead_s * rate_hz))
    end = min(len(signal), last + round(tail_s * rate_hz))
    return np.resize(np.asarray(signal, np.float32)[start:end], len(signal))


def telephone(
    signal: np.ndarray, rate_hz: int, rng: np.random.Generator, *, codecs: tuple[str, ...], loss: float, noise_db: float
) -> np.ndarray:
    """A call: line noise, the telephone's band (300 to 3400 Hz), one of some codecs, lost packets. (T,) -> (T,)."""
    line = add_noise(signal, coloured_noise(len(signal), float(rng.uniform(0, 1)), rng), noise_db)
    line = below_full_scale(band_limit(line, rate_hz, 300, 3400))
    name = codecs[int(rng.integers(len(codecs)))]
    rates = {"amr_nb": (12_200, 7_950, 5_900)}.get(name)
    heard = code(line, rate_hz, name, bitrate=rates[int(rng.integers(3))] if rates else None)
    return lose_packets(heard, rate_hz, rng, share=loss, burst=1.5)


def messenger(
    signal: np.ndarray, rate_hz: int, rng: np.random.Generator, *, bitrate: int, loss: float, again: str
) -> np.ndarray:
    """A voice message: Opus for speech, lost packets, and another coding where it is passed on. (T,) -> (T,)."""
    heard = code(signal, rate_hz, "opus_voip", bitrate=bitrate)
    heard = lose_packets(heard, rate_hz, rng, share=loss, burst=2.0) if loss else heard
    return code(heard, rate_hz, again, bitrate=32_000) if again else heard


@dataclass(frozen=True)
class SoundLadder:
    """Ordinary processing of sound in growing strengths; the counterpart of `media.processing.PictureLadder`.

    Args:
        name: in `SOUND_LADDERS`.
        title, unit: for tables and plots.
        strengths: of the ladder's steps, mild to harsh, three or more.
        span: [mild, harsh] between which augmentation draws.
        apply: ``(signal, rate_hz, strength, rng) -> signal``.
        codecs: of `CODECS` that may take part.
    """

    name: str
    title: str
    unit: str
    strengths: tuple[float, ...]
    span: tuple[float, float]
    apply: Callable[[np.ndarray, int, float, np.random.Generator], np.ndarray]
    codecs: tuple[str, ...] = ()

    @property
    def steps(self) -> tuple[str, ...]:
        """``name@strength``, mild to harsh."""
        return tuple(f"{self.name}@{strength:g}" for strength in self.strengths)


def _coded(codec: str) -> Callable[..., np.ndarray]:
    return lambda signal, rate_hz, kbit_s, rng: code(signal, rate_hz, codec, bitrate=round(1000 * kbit_s))


def _amr(signal: np.ndarray, rate_hz: int, kbit_s: float, rng: np.random.Generator) -> np.ndarray:
    modes = (4.75, 5.15, 5.9, 6.7, 7.4, 7.95, 10.2, 12.2)  # 3GPP TS 26.071
    nearest = min(modes, key=lambda mode: abs(mode - kbit_s))
    return code(signal, rate_hz, "amr_nb", bitrate=round(1000 * nearest))


def _g722(signal: np.ndarray, rate_hz: int, kbit_s: float, rng: np.random.Generator) -> np.ndarray:
    return code(signal, rate_hz, "g722", bits_per_codeword=round(kbit_s / 8))


def _again(*codecs: str) -> Callable[..., np.ndarray]:
    def apply(signal: np.ndarray, rate_hz: int, times: float, rng: np.random.Generator) -> np.ndarray:
        for number in range(round(times)):
            signal = code(signal, rate_hz, codecs[number % len(codecs)])
        return signal

    return apply


def _low_pass(signal: np.ndarray, rate_hz: int, khz: float, rng: np.random.Generator) -> np.ndarray:
    return _fit(band_limit(signal, rate_hz, 0, 1000 * khz), len(signal))


def _high_pass(signal: np.ndarray, rate_hz: int, hertz: float, rng: np.random.Generator) -> np.ndarray:
    return _fit(band_limit(signal, rate_hz, hertz, 0.6 * rate_hz), len(signal))


def _lossy(signal: np.ndarray, rate_hz: int, percent: float, rng: np.random.Generator) -> np.ndarray:
    return lose_packets(signal, rate_hz, rng, share=percent / 100)


def _noisy(signal: np.ndarray, rate_hz: int, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    noise = coloured_noise(len(signal), float(rng.uniform(0, 2)), rng)
    return below_full_scale(add_noise(signal, noise, snr_db))


def _roomy(signal: np.ndarray, rate_hz: int, rt60_s: float, rng: np.random.Generator) -> np.ndarray:
    # The longer it rings the further away one stands: 9 dB of direct sound at 0.3 s, 0 dB at 1.2 s.
    direct = float(np.clip(9 - 10 * (rt60_s - 0.3), -3, 12))
    return reverberate(signal, room(rate_hz, rng, rt60_s=rt60_s, direct_db=direct))


def _trimmed(signal: np.ndarray, rate_hz: int, keep_s: float, rng: np.random.Generator) -> np.ndarray:
    return set_silence(signal, rate_hz, keep_s, keep_s)


def _quieter(signal: np.ndarray, rate_hz: int, gain_db: float, rng: np.random.Generator) -> np.ndarray:
    return (np.round(signal * (10 ** (gain_db / 20) * 32767)) / 32767).astype(np.float32)


def _clipped(signal: np.ndarray, rate_hz: int, percent: float, rng: np.random.Generator) -> np.ndarray:
    top = max(float(np.quantile(np.abs(signal), 1 - percent / 100)), 1e-6)
    return np.clip(signal, -top, top).astype(np.float32)


_FIXED_LINE, _MOBILE = ("g711_a", "g711_mu"), ("amr_nb", "gsm")
# Per grade: codecs of the call, share of lost packets, line noise in dB below the voice.
_CALLS: dict[int, tuple[tuple[str, ...], float, float]] = {
    1: (_FIXED_LINE, 0.0, 40.0),
    2: (_FIXED_LINE + _MOBILE, 0.02, 25.0),
    3: (_MOBILE, 0.08, 12.0),
}
# Per grade: Opus bitrate, share of lost packets, the codec in which it is passed on.
_MESSAGES: dict[int, tuple[int, float, str]] = {
    1: (24_000, 0.0, ""),
    2: (16_000, 0.02, "aac"),
    3: (8_000, 0.08, "mp3"),
}


def _call(signal: np.ndarray, rate_hz: int, grade: float, rng: np.random.Generator) -> np.ndarray:
    codecs, loss, noise_db = _CALLS[min(3, max(1, round(grade)))]
    return telephone(signal, rate_hz, rng, codecs=codecs, loss=loss, noise_db=noise_db)


def _message(signal: np.ndarray, rate_hz: int, grade: float, rng: np.random.Generator) -> np.ndarray:
    bitrate, loss, again = _MESSAGES[min(3, max(1, round(grade)))]
    return messenger(signal, rate_hz, rng, bitrate=bitrate, loss=loss, again=again)


SOUND_LADDERS: dict[str, SoundLadder] = {
    ladder.name: ladder
    for ladder in (
        SoundLadder("mp3", "MP3 (LAME)", "kbit/s", (64, 32, 16), (96, 16), _coded("mp3"), ("mp3",)),
        SoundLadder("aac", "AAC-LC", "kbit/s", (64, 32, 16), (96, 16), _coded("aac"), ("aac",)),
        SoundLadder("opus", "Opus", "kbit/s", (32, 16, 8), (48, 8), _coded("opus"), ("opus",)),
        SoundLadder("g711", "G.711 A-law, mu-law, ...", "times", (1, 2, 4), (1, 2), _again(*_FIXED_LINE), _FIXED_LINE),
        SoundLadder("g722", "G.722", "kbit/s", (64, 56, 48), (64, 48), _g722, ("g722",)),
        SoundLadder("amr_nb", "AMR narrow band", "kbit/s", (12.2, 7.4, 4.75), (12.2, 4.75), _amr, ("amr_nb",)),
        SoundLadder("gsm", "GSM 06.10", "times", (1, 2, 3), (1, 2), _again("gsm"), ("gsm",)),
        SoundLadder("low_pass", "low-pass", "kHz", (6, 4, 2.5), (7.5, 2.5), _low_pass),
        SoundLadder("high_pass", "high-pass", "Hz", (100, 300, 600), (60, 400), _high_pass),
        SoundLadder("packet_loss", "lost packets, concealed", "%", (2, 8, 20), (0.5, 15), _lossy),
        SoundLadder("telephone", "telephone call", "grade", (1, 2, 3), (1, 3), _call, _FIXED_LINE + _MOBILE),
        SoundLadder("messenger", "voice message", "grade", (1, 2, 3), (1, 3), _message, ("opus_voip", "aac", "mp3")),
        SoundLadder("noise", "white to brown noise", "dB SNR", (20, 10, 0), (30, 5), _noisy),
        SoundLadder("reverberation", "made-up room", "s RT60", (0.3, 0.6, 1.2), (0.15, 1.0), _roomy),
        SoundLadder("silence", "silence at the ends, at most", "s", (0.25, 0.1, 0), (0.5, 0), _trimmed),
        SoundLadder("level", "quieter, in 16 bits", "dB", (-10, -20, -30), (0, -30), _quieter),
        SoundLadder("clipping", "clipped samples", "%", (1, 5, 15), (0.1, 5), _clipped),
    )
}


def sound_ladder(name: str) -> SoundLadder:
    """A ladder whose codecs are all here.

    Raises:
        ConfigError: no such ladder. MissingDependencyError: see `require_codec`.
    """
    if name not in SOUND_LADDERS:
        raise ConfigError(f"there is no sound ladder {name!r}", hint=f"use some of {', '.join(SOUND_LADDERS)}")
    for codec in SOUND_LADDERS[name].codecs:
        require_codec(codec)
    return SOUND_LADDERS[name]


def launder_sound(
    signal: np.ndarray, rate_hz: int, name: str, strength: float, rng: np.random.Generator | None = None
) -> np.ndarray:
    """One step of a ladder: float32 (T,) -> the same length, not shifted, within [-1, 1].

    Args:
        strength: in that ladder's unit, within its mildest and harshest.
        rng: for what is drawn (noise, rooms, losses); where None from the sound's own hash, so that the same sound
            and step give the same samples.

    Raises:
        ConfigError: no such ladder, or a strength outside it. MissingDependencyError: a codec that is not there.
    """
    ladder = sound_ladder(name)
    low, high = min(*ladder.strengths, *ladder.span), max(*ladder.strengths, *ladder.span)
    if not low <= strength <= high:
        raise ConfigError(
            f"{name} has no strength {strength:g} {ladder.unit}",
            hint=f"give {low:g} to {high:g}, or a step of {', '.join(ladder.steps)}",
        )
    sound = np.ascontiguousarray(signal, np.float32)
    if rng is None:
        digest = hashlib.sha256(f"{name}@{strength:g}".encode() + sound.tobytes()).digest()
        rng = np.random.Generator(np.random.Philox(int.from_bytes(digest[:8], "big")))
    return np.clip(ladder.apply(sound, rate_hz, float(strength), rng), -1, 1).astype(np.float32)


def parse_sound_step(step: str) -> tuple[str, float]:
    """``mp3@32`` -> ("mp3", 32.0). Raises ConfigError where it is no step of a ladder."""
    name, _, value = step.partition("@")
    if name not in SOUND_LADDERS:
        raise ConfigError(f"there is no sound ladder {name!r}", hint=f"use some of {', '.join(SOUND_LADDERS)}")
    try:
        return name, float(value)
    except ValueError as error:
        raise ConfigError(
            f"{step!r} is no step of a ladder", hint=f"write {SOUND_LADDERS[name].steps[0]}, say"
        ) from error


def sound_ladder_facts(name: str) -> dict[str, str]:
    """What a record says of a ladder: its title, unit, and the coders with their versions where any take part.

    Raises:
        ConfigError: no such ladder. MissingDependencyError: a codec is not there.
    """
    ladder = sound_ladder(name)
    coders = ", ".join(sorted({CODECS[c].encoder or "libsndfile GSM610" for c in ladder.codecs}))
    versions = ", ".join(f"{k} {v}" for k, v in encoder_versions().items())
    return {
        "ladder": name, "title": ladder.title, "unit": ladder.unit,
        "coder": f"{coders} ({versions})" if coders else "NumPy " + np.__version__,
    }  # fmt: skip
