"""VoiceAugment: random level, noise, colour and coding of sound windows, drawn alike for real and fake."""

from collections.abc import Sequence

import numpy as np

from deepassay.augment.face import probability, span
from deepassay.augment.launder import coloured_noise, compand, shape_spectrum, uniform
from deepassay.errors import ConfigError


class VoiceAugment:
    """Random changes of the channel, so that level, noise and bandwidth do not give a corpus away. Labels are never
    seen here.

    Args:
        gain_db: [from, to] change of level, always drawn.
        noise: probability of added noise at ``snr_db``, its colour drawn from ``noise_exponent`` (0 white .. 2 brown).
        equaliser: probability of a random smooth gain curve over ``bands`` bands of at most ``equaliser_db`` each way.
        band_limit: probability of a low-pass at ``cutoff_hz``.
        companding: probability of 8-bit mu-law quantisation.
        bits: probability of coarse linear quantisation with ``bit_depth`` bits.
        rate_hz: sampling rate of the windows.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(
        self, *, gain_db: Sequence[float] = (-18.0, 6.0), noise: float = 0.5, snr_db: Sequence[float] = (10.0, 40.0),
        noise_exponent: Sequence[float] = (0.0, 2.0), equaliser: float = 0.3, equaliser_db: float = 6.0, bands: int = 6,
        band_limit: float = 0.2, cutoff_hz: Sequence[float] = (3400.0, 7500.0), companding: float = 0.1,
        bits: float = 0.1, bit_depth: Sequence[int] = (8, 14), rate_hz: int = 16000,
    ) -> None:  # fmt: skip
        self.gain_db = span("gain_db", gain_db, -60, 30)
        self.noise, self.snr_db = probability("noise", noise), span("snr_db", snr_db, -10, 100)
        self.noise_exponent = span("noise_exponent", noise_exponent, 0, 3)
        self.equaliser, self.band_limit = probability("equaliser", equaliser), probability("band_limit", band_limit)
        self.equaliser_db = span("equaliser_db", (-equaliser_db, equaliser_db), -30, 30)
        self.cutoff_hz = span("cutoff_hz", cutoff_hz, 300, rate_hz / 2)
        self.companding, self.bits = probability("companding", companding), probability("bits", bits)
        self.bit_depth = span("bit_depth", bit_depth, 4, 24)
        if not 2 <= bands <= 64:
            raise ConfigError(f"augment: bands is {bands}", hint="give 2 to 64")
        self.bands, self.rate_hz = bands, rate_hz

    def __call__(self, data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Sound float32 (k, T) in [-1, 1] -> the same shape, each window changed by its own draws from ``rng``."""
        return np.stack([self._one(view, rng) for view in data])

    def _one(self, sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        out = np.asarray(sound, np.float32)
        equalise, limit = rng.random() < self.equaliser, rng.random() < self.band_limit
        if equalise or limit:
            gains = rng.uniform(*self.equaliser_db, self.bands) if equalise else np.zeros(2)
            cutoff = uniform(rng, self.cutoff_hz) / (self.rate_hz / 2) if limit else 1.0
            out = shape_spectrum(out, gains, cutoff)
        if rng.random() < self.noise:
            power = float(np.mean(np.square(out, dtype=np.float64)))
            noise = coloured_noise(len(out), uniform(rng, self.noise_exponent), rng)
            out = out + noise * np.float32(np.sqrt(power) * 10 ** (-uniform(rng, self.snr_db) / 20))
        out = out * np.float32(10 ** (uniform(rng, self.gain_db) / 20))
        peak = float(np.abs(out).max(initial=0.0))
        if peak > 1:
            out = out / np.float32(peak)
        if rng.random() < self.companding:
            out = compand(out)
        if rng.random() < self.bits:
            steps = np.float32(2.0 ** (round(uniform(rng, self.bit_depth)) - 1))
            out = np.round(out * steps) / steps
        return out.astype(np.float32, copy=False)
