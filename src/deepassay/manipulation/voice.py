"""Making fakes from real speech: copy synthesis, phase changes, splices, voice conversion; each with a strength 0 to 1.

Every manipulation takes a mono signal and returns one of the same length, with the fake parts in seconds. Strength 0
returns the input bit for bit; growing strength departs further from it; 1 is the full effect. All work on any speech,
and draw their randomness from the generator they are given.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import scipy.fft
import soxr
from scipy.signal import medfilt

from deepassay.errors import ConfigError, MediaError

WINDOW = 512
HOP = 128
LPC_ORDER = 18
_FLOOR = 1e-5
_MIN_SAMPLES = 4 * WINDOW

Process = Callable[..., tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class VoiceManipulation:
    """One named generator.

    Args:
        name: the manifest's ``generator``.
        family: the manifest's ``generator_family``.
        process: ``(signal, rate_hz, strength, rng, donor) -> (signal (T,) float32, segments (m, 2) seconds)``.
        donor: ``unused``, or ``optional`` where sound of a second recording can be spliced in.
    """

    name: str
    family: str
    process: Process
    donor: str = "unused"

    def __call__(
        self,
        signal: np.ndarray,
        *,
        rate_hz: int,
        strength: float,
        rng: np.random.Generator,
        donor: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Apply it.

        Args:
            signal: mono speech (T,), finite, at least 2,048 samples, nominally within [-1, 1].
            rate_hz: sampling rate; the analysis is laid out for 16 kHz speech and accepts 8 kHz to 48 kHz.
            strength: 0 (the input, bit for bit) to 1 (the full effect).
            rng: source of every random choice.
            donor: second recording (T2,) at the same rate, for splices.

        Returns:
            The manipulated signal (T,) float32 and its fake parts (m, 2) in seconds; none of them at strength 0.

        Raises:
            ConfigError: a strength outside [0, 1] or a rate outside 8-48 kHz.
            MediaError: a signal that is not mono, not finite or too short; a donor where none is used.
        """
        if not 0 <= strength <= 1:
            raise ConfigError(f"{self.name}: strength {strength} is outside [0, 1]", hint="give a number from 0 to 1")
        if not 8000 <= rate_hz <= 48000:
            raise ConfigError(f"{self.name}: rate {rate_hz} Hz", hint="resample to 16000 Hz first")
        signal = _checked(signal, self.name)
        if donor is not None:
            if self.donor == "unused":
                raise MediaError(f"{self.name} takes no donor recording", hint="leave donor out, or use splice")
            donor = _checked(donor, f"{self.name} donor")
        if strength == 0:
            return signal.copy(), np.zeros((0, 2))
        out, segments = self.process(signal, rate_hz, float(strength), rng, donor)
        return _match_level(out, signal), segments


def _checked(signal: np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(signal)
    if array.ndim != 1 or array.dtype.kind != "f":
        raise MediaError(
            f"{name}: needs a mono floating-point signal (T,), got {array.dtype} of shape {array.shape}",
            hint="mix down to one channel and scale to [-1, 1]",
        )
    if len(array) < _MIN_SAMPLES:
        raise MediaError(
            f"{name}: {len(array)} samples are too few", hint=f"give at least {_MIN_SAMPLES} samples (0.13 s at 16 kHz)"
        )
    if not np.isfinite(array).all():
        raise MediaError(f"{name}: the signal holds NaN or infinity", hint="repair the recording or leave it out")
    return array.astype(np.float32)


def _match_level(out: np.ndarray, signal: np.ndarray) -> np.ndarray:
    # Loudness must not tell what was manipulated.
    before = float(np.sqrt(np.mean(np.square(signal, dtype=np.float64))))
    after = float(np.sqrt(np.mean(np.square(out, dtype=np.float64))))
    gain = before / after if after > 1e-9 else 1.0
    return np.asarray(out * gain, dtype=np.float32)


def _whole(signal: np.ndarray, rate_hz: int) -> np.ndarray:
    return np.array([[0.0, len(signal) / rate_hz]])


def _hann(size: int) -> np.ndarray:
    """Periodic Hann window."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


def _rfft(frames: np.ndarray, n: int | None = None) -> np.ndarray:
    # SciPy's keeps single precision.
    return cast(np.ndarray, scipy.fft.rfft(frames, n=n, axis=-1))


def _irfft(spectrum: np.ndarray, n: int | None = None) -> np.ndarray:
    return cast(np.ndarray, scipy.fft.irfft(spectrum, n=n, axis=-1))


_HANN = _hann(WINDOW)


def _frames(signal: np.ndarray) -> np.ndarray:
    padded = np.pad(signal, (WINDOW, 2 * WINDOW))
    return np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * _HANN


def _overlap_add(frames: np.ndarray, length: int) -> np.ndarray:
    n, size = frames.shape
    parts = frames.reshape(n, size // HOP, HOP)
    out = np.zeros((n + size // HOP, HOP), dtype=frames.dtype)
    for k in range(size // HOP):
        out[k : k + n] += parts[:, k]
    return out.reshape(-1)[WINDOW : WINDOW + length]


def stft(signal: np.ndarray) -> np.ndarray:
    """Short-time spectrum (n, 257) complex64: periodic Hann of 512, hop 128, zero-padded by a window on both sides."""
    return _rfft(_frames(np.asarray(signal, dtype=np.float32)))


def istft(spectrum: np.ndarray, length: int) -> np.ndarray:
    """Least-squares inverse of `stft` (Griffin and Lim 1984, eq. 6): float32 (length,)."""
    frames = _irfft(spectrum, n=WINDOW) * _HANN
    return (_overlap_add(frames, length) / _SQUARES).astype(np.float32)


# The sum of squared Hann windows at a quarter-window hop is this constant.
_SQUARES = np.float32(np.sum(_HANN**2) / HOP)


def _unit(spectrum: np.ndarray) -> np.ndarray:
    return spectrum / np.maximum(np.abs(spectrum), 1e-12)


def _rebuild(magnitude: np.ndarray, start: np.ndarray, length: int, iterations: int) -> np.ndarray:
    """Fast Griffin-Lim (Perraudin, Balazs and Sondergaard 2013, algorithm 2), momentum 0.99, from unit phases."""
    phases = start
    previous = np.zeros_like(start)
    for _ in range(iterations):
        rebuilt = stft(istft(magnitude * phases, length))
        phases = _unit(rebuilt - np.float32(0.99 / 1.99) * previous)
        previous = rebuilt
    return istft(magnitude * phases, length)


def _random_turn(spectrum: np.ndarray, strength: float, rng: np.random.Generator) -> np.ndarray:
    angles = rng.uniform(-np.pi, np.pi, size=spectrum.shape).astype(np.float32)
    return _unit(spectrum) * np.exp(np.complex64(1j) * np.float32(strength) * angles)


def _griffin_lim(signal, rate_hz, strength, rng, donor):
    spectrum = stft(signal)
    out = _rebuild(np.abs(spectrum), _random_turn(spectrum, strength, rng), len(signal), 16)
    return out, _whole(signal, rate_hz)


def mel_filters(rate_hz: int, bands: int) -> np.ndarray:
    """Triangular mel filters (bands, 257) with unit peak, mel = 2595 log10(1 + f/700), 0 Hz to half the rate."""
    top = 2595 * np.log10(1 + rate_hz / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    freqs = np.linspace(0, rate_hz / 2, WINDOW // 2 + 1)
    rise = (freqs - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    fall = (edges[2:, None] - freqs) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)


def _mel_vocoder(signal, rate_hz, strength, rng, donor):
    spectrum = stft(signal)
    magnitude = np.abs(spectrum)
    filters = mel_filters(rate_hz, 64)
    filters = filters[filters.sum(axis=1) > 0]
    # Spread each band's mean power over its bins: what a mel vocoder has to start from.
    power = magnitude**2 @ (filters / filters.sum(axis=1, keepdims=True)).T
    spread = filters / np.maximum(filters.sum(axis=0), 1e-6)
    coarse = np.sqrt(np.maximum(power @ spread, 0))
    mixed = np.exp((1 - strength) * np.log(magnitude + _FLOOR) + strength * np.log(coarse + _FLOOR))
    out = _rebuild(mixed.astype(np.float32), _random_turn(spectrum, strength, rng), len(signal), 16)
    return out, _whole(signal, rate_hz)


def _minimum_phase(magnitude: np.ndarray) -> np.ndarray:
    """Minimum phase of each frame from its folded real cepstrum (Oppenheim and Schafer 1989, section 12.1)."""
    cepstrum = _irfft(np.log(magnitude + _FLOOR), n=WINDOW)
    cepstrum[:, 1 : WINDOW // 2] *= 2
    cepstrum[:, WINDOW // 2 + 1 :] = 0
    return np.imag(_rfft(cepstrum))


def _phase_replacement(signal, rate_hz, strength, rng, donor):
    spectrum = stft(signal)
    kind = rng.choice(["minimum", "zero", "random"])
    # Replaced phases are centred in the window, else the synthesis window would fade the pulses out.
    centre = -np.pi * np.arange(WINDOW // 2 + 1, dtype=np.float32)
    if kind == "random":
        new = rng.uniform(-np.pi, np.pi, size=spectrum.shape).astype(np.float32)
    else:
        new = np.broadcast_to(centre, spectrum.shape)
        if kind == "minimum":
            new = new + _minimum_phase(np.abs(spectrum))
    old = np.angle(spectrum)
    turn = np.angle(np.exp(1j * (new - old)))
    return istft(np.abs(spectrum) * np.exp(1j * (old + strength * turn)), len(signal)), _whole(signal, rate_hz)


def pitch_track(signal: np.ndarray, rate_hz: int) -> tuple[np.ndarray, np.ndarray]:
    """Pitch and voicing per hop of 128 samples by the normalised autocorrelation of 1,024-sample frames.

    Args:
        signal: mono speech (T,).
        rate_hz: sampling rate.

    Returns:
        ``f0`` (n,) in Hz between 60 and 400, and ``voicing`` (n,) in [0, 1]; frame i is centred on sample 128 * i.
    """
    span = 2 * WINDOW * max(1, round(rate_hz / 16000))
    padded = np.pad(signal, (span // 2, span))
    frames = np.lib.stride_tricks.sliding_window_view(padded, span)[: len(signal) + HOP : HOP]
    frames = (frames - frames.mean(axis=1, keepdims=True)) * _hann(span)
    power = np.abs(_rfft(frames, n=2 * span)) ** 2
    correlation = _irfft(power)[:, : span // 2]
    window = _hann(span)
    taper = _irfft(np.abs(_rfft(window, n=2 * span)) ** 2)[: span // 2]
    normal = correlation / np.maximum(correlation[:, :1], 1e-9) / (taper / taper[0])
    low, high = int(rate_hz / 400), min(int(rate_hz / 60), span // 2 - 1)
    # A small price for long lags keeps the tracker off sub-harmonics.
    lags = np.arange(low, high)
    best = lags[np.argmax(normal[:, low:high] - 0.1 * np.log2(lags / low)[None, :] / 3, axis=1)]
    peak = normal[np.arange(len(normal)), best]
    loud = correlation[:, 0] > 1e-3 * np.quantile(correlation[:, 0], 0.95)
    f0 = medfilt(rate_hz / best, 5)
    return np.clip(f0, 60, 400), np.clip((peak - 0.3) / 0.4, 0, 1) * loud


def _lpc(frames: np.ndarray, order: int) -> np.ndarray:
    """Prediction polynomials (n, order + 1) by autocorrelation (Makhoul 1975), with a little white noise."""
    spectrum = _rfft(frames, n=2 * WINDOW)
    r = _irfft(np.abs(spectrum) ** 2)[:, : order + 1].astype(np.float64)
    r[:, 0] = r[:, 0] * 1.0001 + 1e-9
    toeplitz = r[:, np.abs(np.subtract.outer(np.arange(order), np.arange(order)))]
    a = np.linalg.solve(toeplitz, r[:, 1:, None])[:, :, 0]
    return np.concatenate([np.ones((len(frames), 1)), -a], axis=1)


def _lpc_resynthesis(signal, rate_hz, strength, rng, donor):
    frames = _frames(signal)
    size = 2 * WINDOW
    whitening = _rfft(_lpc(frames, LPC_ORDER), n=size)
    residual = _rfft(frames, n=size) * whitening
    f0, voicing = pitch_track(signal, rate_hz)
    times = np.arange(len(signal))
    hops = np.arange(len(f0)) * HOP
    pitch = np.interp(times, hops, f0)
    voiced = np.interp(times, hops, voicing)
    pulses = np.diff(np.floor(np.cumsum(pitch / rate_hz)), prepend=0.0) * np.sqrt(rate_hz / pitch)
    noise = rng.standard_normal(len(signal))
    excitation = np.asarray(_rfft(_frames((voiced * pulses + (1 - voiced) * noise).astype(np.float32)), n=size))
    gain = np.sqrt((np.abs(residual) ** 2).sum(axis=1) / np.maximum((np.abs(excitation) ** 2).sum(axis=1), 1e-9))
    mixed = (1 - strength) * residual + strength * gain[:, None] * excitation
    out = _irfft(mixed / whitening, n=size)
    return _overlap_add(out, len(signal)) / 2, _whole(signal, rate_hz)


def _envelope(magnitude: np.ndarray, rate_hz: int) -> np.ndarray:
    """Log spectral envelope (n, 257) by cepstral smoothing below the shortest pitch period."""
    cepstrum = _irfft(np.log(magnitude + _FLOOR), n=WINDOW)
    keep = int(rate_hz / 500)
    cepstrum[:, keep : WINDOW - keep + 1] = 0
    return np.real(_rfft(cepstrum))


def _pitch_formant_shift(signal, rate_hz, strength, rng, donor):
    """Pitch shift by phase vocoder (Flanagan and Golden 1966) and resampling; envelope corrected, formants warped."""
    direction = float(rng.choice([-1.0, 1.0]))
    ratio = float(2 ** (direction * strength * rng.uniform(3.0, 5.0) / 12))
    formant = float(1 + direction * strength * rng.uniform(0.06, 0.14))
    spectrum = stft(signal)
    magnitude, phase = np.abs(spectrum), np.angle(spectrum)
    at = np.arange(0, len(spectrum) - 1, 1 / ratio)
    low = at.astype(int)
    part = (at - low)[:, None].astype(np.float32)
    stretched = (1 - part) * magnitude[low] + part * magnitude[low + 1]
    advance = 2 * np.pi * HOP * np.arange(WINDOW // 2 + 1) / WINDOW
    turn = np.angle(np.exp(1j * (phase[low + 1] - phase[low] - advance))) + advance
    phases = phase[0] + np.concatenate([np.zeros((1, turn.shape[1])), np.cumsum(turn[:-1], axis=0)])
    # The first WINDOW samples of padding are stretched too: cut at the stretched place.
    long = round(len(signal) * ratio)
    shift = round(WINDOW * (ratio - 1))
    padded = istft(stretched * np.exp(1j * phases), long + max(shift, 0) + WINDOW)
    padded = padded[shift:] if shift >= 0 else np.pad(padded, (-shift, 0))
    moved = soxr.resample(padded.astype(np.float32), rate_hz * ratio, rate_hz)[: len(signal)]
    moved = np.pad(moved, (0, len(signal) - len(moved)))
    target = _envelope(magnitude, rate_hz)
    bins = np.arange(WINDOW // 2 + 1) / formant
    left = np.minimum(bins.astype(int), WINDOW // 2)
    right = np.minimum(left + 1, WINDOW // 2)
    part = np.clip(bins - left, 0, 1)
    target = (1 - part) * target[:, left] + part * target[:, right]
    spectrum = stft(moved)
    correction = np.clip(target - _envelope(np.abs(spectrum), rate_hz), -2.0, 2.0)
    return istft(spectrum * np.exp(correction).astype(np.float32), len(signal)), _whole(signal, rate_hz)


def _splice(signal, rate_hz, strength, rng, donor):
    """Replace one to three stretches, at most three fifths of the signal, by the donor's sound or its own."""
    length = len(signal)
    fade = max(2, int(0.004 * rate_hz))
    other = signal if donor is None else donor
    total = max(int(0.6 * strength * length), 4 * fade)
    count = int(np.clip(total // int(0.25 * rate_hz), 1, 3))
    size = min(total // count, len(other), length // count)
    gaps = rng.dirichlet(np.ones(count + 1)) * (length - count * size)
    out = signal.copy()
    segments = []
    begin = 0
    for k in range(count):
        begin += int(gaps[k])
        end = begin + size
        starts = rng.integers(0, len(other) - size + 1, size=8)
        if donor is None:
            # Its own sound put back in its own place would be no splice.
            starts = np.where(np.abs(starts - begin) < 4 * fade, (starts + length // 2) % (length - size + 1), starts)
        start = int(max(starts, key=lambda at: float(np.mean(np.square(other[int(at) : int(at) + size])))))
        piece = other[start : start + size]
        level = np.sqrt(np.mean(np.square(signal[begin:end])) / max(float(np.mean(np.square(piece))), 1e-12))
        piece = piece * np.float32(np.clip(level, 0.25, 4.0))
        ramp = np.ones(size, dtype=np.float32)
        ramp[:fade] = np.linspace(0, 1, fade)
        ramp[size - fade :] = np.linspace(1, 0, fade)
        out[begin:end] = (1 - ramp) * signal[begin:end] + ramp * piece
        segments.append([begin / rate_hz, end / rate_hz])
        begin = end
    return out, np.array(segments)


VOICE_MANIPULATIONS: dict[str, VoiceManipulation] = {
    m.name: m
    for m in (
        VoiceManipulation("lpc_resynthesis", "parametric_vocoder", _lpc_resynthesis),
        VoiceManipulation("mel_vocoder", "spectral_vocoder", _mel_vocoder),
        VoiceManipulation("griffin_lim", "phase_reconstruction", _griffin_lim),
        VoiceManipulation("phase_replacement", "phase_reconstruction", _phase_replacement),
        VoiceManipulation("pitch_formant_shift", "voice_conversion", _pitch_formant_shift),
        VoiceManipulation("splice", "partial_splice", _splice, donor="optional"),
    )
}
