"""Ordinary processing that hides clues (re-encoding, resampling, companding), its randomness drawn outside."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from deepassay.media.processing import PICTURE_LADDERS, launder
from deepassay.media.recode import recode_still

__all__ = [
    "PICTURE_LADDERS", "as_picture", "as_view", "coloured_noise", "compand", "launder", "one_thread",
    "recompress_picture", "resample_picture", "shape_spectrum", "uniform",
]  # fmt: skip


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: sharing out operations on one small picture slows them down, up to thirtyfold."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def uniform(rng: np.random.Generator, span: tuple[float, float]) -> float:
    """A number drawn evenly from [low, high]."""
    return float(rng.uniform(span[0], span[1]))


def recompress_picture(view: np.ndarray, quality: int) -> np.ndarray:
    """JPEG there and back, by the same encoder and decoder as everywhere here: uint8 (H, W, 3) -> the same."""
    return recode_still(view, "jpeg", quality)


def resample_picture(picture: Tensor, factor: float) -> Tensor:
    """Down by ``factor`` (0..1) and back up, bilinear with antialiasing: uint8 (3, H, W) -> the same."""
    height, width = picture.shape[-2:]
    small = [max(8, round(height * factor)), max(8, round(width * factor))]
    return F.resize(
        F.resize(picture, small, antialias=True), [height, width], InterpolationMode.BILINEAR, antialias=True
    )


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


def as_picture(view: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) -> tensor uint8 (3, H, W)."""
    return torch.from_numpy(np.array(view)).permute(2, 0, 1)  # a copy: views may lie on a read-only memory map


def as_view(picture: Tensor) -> np.ndarray:
    """Tensor uint8 (3, H, W) -> uint8 (H, W, 3)."""
    return picture.permute(1, 2, 0).contiguous().numpy()
