"""Ordinary processing that hides clues (re-encoding, resampling, companding), its randomness drawn outside."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from deepassay.media.channels import coloured_noise, compand, shape_spectrum
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


def as_picture(view: np.ndarray) -> Tensor:
    """uint8 (H, W, 3) -> tensor uint8 (3, H, W)."""
    return torch.from_numpy(np.array(view)).permute(2, 0, 1)  # a copy: views may lie on a read-only memory map


def as_view(picture: Tensor) -> np.ndarray:
    """Tensor uint8 (3, H, W) -> uint8 (H, W, 3)."""
    return picture.permute(1, 2, 0).contiguous().numpy()
