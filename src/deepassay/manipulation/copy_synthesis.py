"""More makers of fakes from real speech: WORLD, Griffin-Lim on other grids, sources and harmonics, partial copies."""

import importlib
import warnings
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, cast

import numpy as np
import scipy.fft

from deepassay.errors import MissingDependencyError
from deepassay.manipulation.voice import (
    HOP,
    VOICE_MANIPULATIONS,
    WINDOW,
    Process,
    VoiceManipulation,
    istft,
    pitch_track,
    stft,
)  # fmt: skip

_FLOOR = 1e-5


def slaney_mel_filters(
    rate_hz: int, window: int, bands: int, low_hz: float = 0.0, high_hz: float | None = None
) -> np.ndarray:
    """Mel filters (bands, window // 2 + 1) as vocoders use them: Slaney's scale, triangles of unit area.

    Slaney 1998 (Auditory Toolbox): linear below 1 kHz at 66.7 Hz per mel, then 27 mels per factor 6.4.
    """
    high_hz = rate_hz / 2 if high_hz is None else high_hz
    step, knee = 200.0 / 3, 1000.0
    log_step = np.log(6.4) / 27

    def mel(hz: float) -> float:
        return hz / step if hz < knee else knee / step + float(np.log(hz / knee)) / log_step

    mels = np.linspace(mel(low_hz), mel(high_hz), bands + 2)
    edges = np.where(mels < knee / step, mels * step, knee * np.exp(log_step * (mels - knee / step)))
    freqs = np.linspace(0, rate_hz / 2, window // 2 + 1)
    rise = (freqs - edges[:-2, None]) / np.diff(edges)[:-1, None]
    fall = (edges[2:, None] - freqs) / np.diff(edges)[1:, None]
    area = 2 / (edges[2:] - edges[:-2])
    return (np.maximum(0, np.minimum(rise, fall)) * area[:, None]).astype(np.float32)


@dataclass(frozen=True)
class Grid:
    """Short-time spectra of one window length: periodic Hann, hop a quarter of it, padded by a window on both sides."""

    window: int

    @property
    def hop(self) -> int:
        """Samples between frames."""
        return self.window // 4

    @property
    def hann(self) -> np.ndarray:
        """The window (window,) float32."""
        return _hann(self.window)

    def analyse(self, signal: np.ndarray) -> np.ndarray:
        """(T,) -> (n, window // 2 + 1) complex64."""
        padded = np.pad(np.asarray(signal, np.float32), (self.window, 2 * self.window))
        frames = np.lib.stride_tricks.sliding_window_view(padded, self.window)[:: self.hop] * self.hann
        return cast(np.ndarray, scipy.fft.rfft(frames, axis=-1))

    def build(self, spectrum: np.ndarray, length: int) -> np.ndarray:
        """Least-squares inverse (Griffin and Lim 1984, eq. 6): float32 (length,)."""
        frames = cast(np.ndarray, scipy.fft.irfft(spectrum, n=self.window, axis=-1)) * self.hann
        n = len(frames)
        parts = frames.reshape(n, 4, self.hop)
        out = np.zeros((n + 4, self.hop), dtype=np.float32)
        for k in range(4):
            out[k : k + n] += parts[:, k]
        squares = np.float32(np.sum(self.hann**2) / self.hop)
        return out.reshape(-1)[self.window : self.window + length] / squares

    def rebuild(self, magnitude: np.ndarray, turns: np.ndarray, length: int, iterations: int) -> np.ndarray:
        """Fast Griffin-Lim (Perraudin, Balazs and Sondergaard 2013, algorithm 2), momentum 0.99, from phases."""
        phases, previous = turns, np.zeros_like(turns)
        for _ in range(iterations):
            rebuilt = self.analyse(self.build(magnitude * phases, length))
            step = rebuilt - np.float32(0.99 / 1.99) * previous
            phases = step / np.maximum(np.abs(step), 1e-12)
            previous = rebuilt
        return self.build(magnitude * phases, length)


@lru_cache(maxsize=8)
def _hann(size: int) -> np.ndarray:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)).astype(np.float32)


@lru_cache(maxsize=32)
def _mel_pair(rate_hz: int, window: int, bands: int, high_hz: float) -> tuple[np.ndarray, np.ndarray]:
    filters = slaney_mel_filters(rate_hz, window, bands, 0.0, high_hz)
    filters = filters[filters.sum(axis=1) > 0]
    return filters, np.linalg.pinv(filters).astype(np.float32)


def _whole(signal: np.ndarray, rate_hz: int) -> np.ndarray:
    return np.array([[0.0, len(signal) / rate_hz]])


def _blend(signal: np.ndarray, made: np.ndarray, strength: float) -> np.ndarray:
    return made if strength == 1 else ((1 - strength) * signal + strength * made).astype(np.float32)


def _turns(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    angles = rng.uniform(-np.pi, np.pi, size=shape).astype(np.float32)
    return np.exp(np.complex64(1j) * angles)


def _power_of_two(milliseconds: int, rate_hz: int) -> int:
    return 1 << round(np.log2(milliseconds * rate_hz / 1000))


def _linear_griffin_lim(signal, rate_hz, strength, rng, donor):
    grid = Grid(_power_of_two(int(rng.choice([16, 32, 64])), rate_hz))
    magnitude = np.abs(grid.analyse(signal))
    made = grid.rebuild(magnitude, _turns(magnitude.shape, rng), len(signal), int(rng.integers(8, 41)))
    return _blend(signal, made, strength), _whole(signal, rate_hz)


def _mel_griffin_lim(signal, rate_hz, strength, rng, donor):
    grid = Grid(_power_of_two(64, rate_hz))
    high = min(float(rng.choice([7600.0, 8000.0])), rate_hz / 2)
    filters, inverse = _mel_pair(rate_hz, grid.window, int(rng.choice([64, 80, 100])), high)
    magnitude = np.abs(grid.analyse(signal))
    coarse = np.maximum((magnitude @ filters.T) @ inverse.T, 0)
    made = grid.rebuild(coarse, _turns(coarse.shape, rng), len(signal), int(rng.integers(12, 41)))
    return _blend(signal, made, strength), _whole(signal, rate_hz)


def load_pyworld() -> Any:
    """The WORLD vocoder's package. Raises MissingDependencyError where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
            return importlib.import_module("pyworld")
    except ImportError as error:
        raise MissingDependencyError(
            f"the maker world needs pyworld, which cannot be imported ({error})",
            hint="pip install 'deepassay[train]' (pyworld 0.3.5 also needs setuptools<81), or drop the maker",
        ) from error


def _world(signal, rate_hz, strength, rng, donor):
    """WORLD (Morise, Yokomori and Ozawa 2016): DIO and StoneMask, CheapTrick, D4C; in half of the draws mel-coded."""
    world = load_pyworld()
    x = signal.astype(np.float64)
    f0, times = world.dio(x, rate_hz)
    f0 = world.stonemask(x, f0, times, rate_hz)
    envelope = world.cheaptrick(x, f0, times, rate_hz)
    aperiodicity = world.d4c(x, f0, times, rate_hz)
    if rng.random() < 0.5:
        size = world.get_cheaptrick_fft_size(rate_hz)
        coded = world.code_spectral_envelope(envelope, rate_hz, int(rng.integers(30, 61)))
        envelope = world.decode_spectral_envelope(coded, rate_hz, size)
        aperiodicity = world.decode_aperiodicity(world.code_aperiodicity(aperiodicity, rate_hz), rate_hz, size)
    made = np.asarray(world.synthesize(f0, envelope, aperiodicity, rate_hz), np.float32)[: len(signal)]
    made = np.pad(made, (0, len(signal) - len(made)))
    return _blend(signal, made, strength), _whole(signal, rate_hz)


def _envelope(magnitude: np.ndarray, keep: int) -> np.ndarray:
    """Log envelope (n, bins) by the first ``keep`` cepstral coefficients."""
    cepstrum = cast(np.ndarray, scipy.fft.irfft(np.log(magnitude + _FLOOR), n=WINDOW, axis=-1))
    cepstrum[:, keep : WINDOW - keep + 1] = 0
    return np.real(cast(np.ndarray, scipy.fft.rfft(cepstrum, axis=-1)))


def _excitation_replacement(signal, rate_hz, strength, rng, donor):
    """The cepstral envelope and energy of every frame kept, what excites it replaced: pulses, a sawtooth or sines."""
    kind = str(rng.choice(["pulses", "sawtooth", "sines"]))
    spectrum = stft(signal)
    keep = int(rate_hz / 500)
    f0, voicing = pitch_track(signal, rate_hz)
    times, grid = np.arange(len(signal)), np.arange(len(f0)) * HOP
    pitch = np.interp(times, grid, f0)
    cycles = np.cumsum(pitch / rate_hz) + rng.random()
    voiced = np.interp(times, grid, voicing)
    if kind == "pulses":
        tone = np.diff(np.floor(cycles), prepend=np.floor(cycles[0])) * np.sqrt(rate_hz / pitch)
    elif kind == "sawtooth":
        tone = 2 * np.sqrt(3) * (cycles % 1 - 0.5)
    else:
        tone = np.zeros(len(signal), np.float32)
        for k in range(1, int(0.5 * rate_hz / f0.min())):
            wave = np.cos((2 * np.pi * (k * cycles + rng.random())).astype(np.float32))
            tone += np.where(k * pitch < 0.48 * rate_hz, wave, 0).astype(np.float32)
        tone *= np.sqrt(4 * pitch / rate_hz).astype(np.float32)
    noise = rng.standard_normal(len(signal))
    source = stft((voiced * tone + np.sqrt(1 - voiced**2) * noise).astype(np.float32))
    made = source * np.exp(_envelope(np.abs(spectrum), keep) - _envelope(np.abs(source), keep)).astype(np.float32)
    before, after = (np.sum(np.abs(s) ** 2, axis=1, keepdims=True) for s in (spectrum, made))
    return _blend(signal, istft(made * np.sqrt(before / np.maximum(after, 1e-9)), len(signal)), strength), _whole(
        signal, rate_hz
    )


def _harmonic_noise(signal, rate_hz, strength, rng, donor):
    """Harmonic plus noise (Stylianou 2001): sines at multiples of the pitch up to a limit, shaped noise."""
    f0, voicing = pitch_track(signal, rate_hz)
    spectrum = np.abs(stft(signal))
    # Frame i of the spectrum is centred on sample HOP * i - WINDOW / 2.
    frames = np.arange(len(f0)) * HOP
    rows = np.clip((frames + WINDOW // 2) // HOP, 0, len(spectrum) - 1)
    magnitude = spectrum[rows]
    limit = float(rng.uniform(3000, min(7000, 0.45 * rate_hz)))
    times = np.arange(len(signal))
    turn = 2 * np.pi * np.cumsum(np.interp(times, frames, f0) / rate_hz)
    bins = rate_hz / WINDOW
    made = np.zeros(len(signal), np.float32)
    for k in range(1, int(limit / f0.min()) + 1):
        place = k * f0 / bins
        inside = place * bins < limit
        if not inside.any():
            break
        low, at = np.minimum(place.astype(int), WINDOW // 2 - 1), np.arange(len(f0))
        level = np.maximum(magnitude[at, low], magnitude[at, low + 1]) * inside * voicing
        if not level.any():
            continue
        amplitude = np.interp(times, frames, level * (4 / WINDOW)).astype(np.float32)
        made += amplitude * np.cos(k * turn + rng.uniform(0, 2 * np.pi)).astype(np.float32)
    share = np.ones_like(magnitude)
    edge = int(limit / bins)
    share[:, :edge] = np.sqrt(1 - voicing**2)[:, None]
    noise = stft(rng.standard_normal(len(signal)).astype(np.float32))
    gain = np.exp(_envelope(spectrum, int(rate_hz / 500)))
    weight = np.interp(np.arange(len(spectrum)) * HOP - WINDOW // 2, frames, np.arange(len(frames)))
    gain *= share[np.round(weight).astype(int)]
    # Unit noise has a mean magnitude of sqrt(pi / 4 * sum of squared window) in this spectrum.
    scale = np.sqrt(np.pi / 4 * np.sum(_hann(WINDOW) ** 2))
    made += istft(noise * (gain / scale).astype(np.float32), len(signal))
    return _blend(signal, made, strength), _whole(signal, rate_hz)


def _partial(signal, rate_hz, strength, rng, donor, *, inner: Process):
    """One to three stretches of a recording replaced in place by their copies from another maker."""
    length = len(signal)
    fade = max(2, int(0.004 * rate_hz))
    copy, _ = inner(signal, rate_hz, 1.0, rng, None)
    total = max(int(rng.uniform(0.15, 0.5) * strength * length), min(int(0.2 * rate_hz), length // 2))
    count = int(np.clip(total // int(0.2 * rate_hz), 1, rng.integers(1, 4)))
    size = total // count
    energy = np.concatenate([[0.0], np.cumsum(np.square(signal, dtype=np.float64))])
    # Of several layouts the one that replaces most sound: a replaced pause is no fake worth finding.
    layouts = [np.cumsum(rng.dirichlet(np.ones(count + 1))[:count] * (length - count * size)) for _ in range(8)]
    begins = [(gaps + size * np.arange(count)).astype(int) for gaps in layouts]
    begin = max(begins, key=lambda b: float(np.sum(energy[b + size] - energy[b])))
    out, segments = signal.copy(), []
    ramp = np.ones(size, np.float32)
    ramp[:fade] = np.linspace(0, 1, fade)
    ramp[size - fade :] = np.linspace(1, 0, fade)
    for first in begin.tolist():
        last = first + size
        piece = copy[first:last]
        before = float(np.mean(np.square(signal[first:last], dtype=np.float64)))
        after = float(np.mean(np.square(piece, dtype=np.float64)))
        level = np.float32(np.clip(np.sqrt(before / max(after, 1e-12)), 0.25, 4.0))
        out[first:last] = (1 - ramp) * signal[first:last] + ramp * level * piece
        segments.append([first / rate_hz, last / rate_hz])
    return out, np.array(segments)


COPY_SYNTHESIS: dict[str, VoiceManipulation] = {
    m.name: m
    for m in (
        VoiceManipulation("world", "parametric_vocoder", _world),
        VoiceManipulation("linear_griffin_lim", "phase_reconstruction", _linear_griffin_lim),
        VoiceManipulation("mel_griffin_lim", "spectral_vocoder", _mel_griffin_lim),
        VoiceManipulation("excitation_replacement", "source_filter", _excitation_replacement),
        VoiceManipulation("harmonic_noise", "sinusoidal_model", _harmonic_noise),
        VoiceManipulation("partial_world", "partial_splice", partial(_partial, inner=_world)),
        VoiceManipulation("partial_mel_griffin_lim", "partial_splice", partial(_partial, inner=_mel_griffin_lim)),
        VoiceManipulation("partial_harmonic_noise", "partial_splice", partial(_partial, inner=_harmonic_noise)),
    )
}
# Everything that makes a fake from a recording without weights.
VOICE_MAKERS: dict[str, VoiceManipulation] = {**VOICE_MANIPULATIONS, **COPY_SYNTHESIS}
