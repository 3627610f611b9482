"""RawBoost (Tak et al., ICASSP 2022): convolutive, impulsive and stationary noise for raw sound, alone or combined."""

from collections.abc import Sequence

import numpy as np

from deepassay.augment.face import probability, span
from deepassay.errors import ConfigError

# Algorithms by the numbers of the authors' code: 1 linear and non-linear convolutive (LnL), 2 impulsive
# signal-dependent (ISD), 3 stationary signal-independent (SSI); 4 to 7 in series, 8 the first two in parallel.
ALGORITHMS: dict[int, tuple[int, ...]] = {
    0: (), 1: (1,), 2: (2,), 3: (3,), 4: (1, 2, 3), 5: (1, 2), 6: (1, 3), 7: (2, 3), 8: (1, 2),
}  # fmt: skip


class RawBoost:
    """Noise of the kinds that telephony makes, without any other data.

    Defaults are the published settings at 16 kHz. The authors found algorithm 5 (LnL and ISD in series) best for
    ASVspoof 2021 LA, and 3 (SSI) for 2021 DF.

    Args:
        algorithm: 0 to 8, see `ALGORITHMS`.
        share: probability that a window is changed.
        bands: notch filters in series; band_hz: their centres; width_hz: their widths; taps: of each (made odd).
        gain_db: of the linear filter; order: highest power of the signal in LnL; drop_db: [from, to] by how much each
            higher power lies below the linear part.
        impulses: up to this percentage of samples is hit; impulse_gain: standard deviation of the hits.
        snr_db: of the stationary noise.
        rate_hz: sampling rate of the windows.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(
        self, *, algorithm: int = 4, share: float = 1.0, bands: int = 5, band_hz: Sequence[float] = (20.0, 8000.0),
        width_hz: Sequence[float] = (100.0, 1000.0), taps: Sequence[int] = (10, 100),
        gain_db: Sequence[float] = (0.0, 0.0), order: int = 5, drop_db: Sequence[float] = (5.0, 20.0),
        impulses: float = 10.0, impulse_gain: float = 2.0, snr_db: Sequence[float] = (10.0, 40.0),
        rate_hz: int = 16000,
    ) -> None:  # fmt: skip
        if algorithm not in ALGORITHMS:
            raise ConfigError(f"augment: RawBoost algorithm {algorithm}", hint=f"use one of {list(ALGORITHMS)}")
        if not 1 <= bands <= 50 or not 1 <= order <= 10 or not 0 <= impulses <= 100 or impulse_gain < 0:
            raise ConfigError(
                f"augment: RawBoost bands {bands}, order {order}, impulses {impulses} %, impulse_gain {impulse_gain}",
                hint="1 to 50 bands, order 1 to 10, 0 to 100 % impulses, a gain of at least 0",
            )
        self.algorithm, self.share = algorithm, probability("share", share)
        self.bands, self.order, self.rate_hz = bands, order, rate_hz
        self.band_hz, self.width_hz = span("band_hz", band_hz, 1, 96_000), span("width_hz", width_hz, 1, 96_000)
        self.taps, self.gain_db = span("taps", taps, 3, 2000), span("gain_db", gain_db, -60, 60)
        self.drop_db, self.snr_db = span("drop_db", drop_db, 0, 100), span("snr_db", snr_db, -20, 100)
        self.impulses, self.impulse_gain = float(impulses), float(impulse_gain)

    def __call__(self, data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Sound float32 (k, T) in [-1, 1] -> the same shape, each window changed by its own draws from ``rng``."""
        return np.stack([self.one(view, rng) if rng.random() < self.share else view for view in data])

    def one(self, sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One window (T,) -> (T,) float32 within [-1, 1]."""
        steps = {1: self.convolutive, 2: self.impulsive, 3: self.stationary}
        chosen = ALGORITHMS[self.algorithm]
        x = np.asarray(sound, np.float64)
        if self.algorithm == 8:
            return _peak(sum((steps[k](x, rng) for k in chosen), np.zeros_like(x))).astype(np.float32)
        for k in chosen:
            x = steps[k](x, rng)
        return x.astype(np.float32)

    def notches(self, rng: np.random.Generator, gain_db: tuple[float, float]) -> np.ndarray:
        """Taps (n,) of band-stop filters in series, their largest gain as drawn from ``gain_db``."""
        from scipy.signal import firwin

        taps = np.ones(1)
        top = self.rate_hz / 2
        for _ in range(self.bands):
            centre, width = rng.uniform(*self.band_hz), rng.uniform(*self.width_hz)
            size = int(rng.integers(int(self.taps[0]), int(self.taps[1]) + 1)) | 1
            low = min(max(centre - width / 2, 1e-3), top - 2e-3)
            high = min(max(centre + width / 2, low + 1e-3), top - 1e-3)
            taps = np.convolve(np.asarray(firwin(size, [low, high], window="hamming", fs=self.rate_hz)), taps)
        largest = float(np.abs(np.fft.rfft(taps, 2048)).max())
        return taps * 10 ** (rng.uniform(*gain_db) / 20) / largest

    def convolutive(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """LnL (eq. 1): powers of the signal, each through its own notch filters, summed; the mean taken off."""
        low, high = self.gain_db
        out = np.zeros_like(x)
        for power in range(1, self.order + 1):
            span_db = (low, high) if power == 1 else (low - self.drop_db[1], high - self.drop_db[0])
            out += _filtered(x**power, self.notches(rng, span_db))
        return _peak(out - out.mean())

    def impulsive(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """ISD (eq. 2): a random share of the samples is hit by noise in proportion to themselves."""
        count = int(len(x) * rng.uniform(0, self.impulses) / 100)
        places = rng.permutation(len(x))[:count]
        hits = rng.uniform(-1, 1, count) * rng.uniform(-1, 1, count)
        out = x.copy()
        out[places] += self.impulse_gain * x[places] * hits
        return _peak(out)

    def stationary(self, x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """SSI (eq. 3): white noise through notch filters, at a ratio to the signal."""
        noise = _filtered(rng.standard_normal(len(x)), self.notches(rng, self.gain_db))
        size = float(np.linalg.norm(noise))
        if size == 0:
            return x
        gain = np.linalg.norm(x) / size * 10 ** (-rng.uniform(*self.snr_db) / 20)
        return _peak(x + gain * noise)


def _filtered(x: np.ndarray, taps: np.ndarray) -> np.ndarray:
    from scipy.signal import oaconvolve

    return np.asarray(oaconvolve(x, taps, mode="full"))[len(taps) // 2 :][: len(x)]


def _peak(x: np.ndarray) -> np.ndarray:
    peak = float(np.abs(x).max(initial=0.0))
    return x / peak if peak > 1 else x
