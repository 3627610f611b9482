"""FaceAugment: random geometry, light and laundering of face crops, drawn alike for real and fake."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torchvision.transforms.v2 import functional as F

from deepassay.augment.launder import (
    as_picture,
    as_view,
    one_thread,
    recompress_picture,
    resample_picture,
    uniform,
)  # fmt: skip
from deepassay.errors import ConfigError
from deepassay.manipulation.blending import turn_hue
from deepassay.media.processing import PICTURE_LADDERS, blurred, launder, picture_ladder


def span(name: str, value: Sequence[float], low: float, high: float) -> tuple[float, float]:
    """Check a [from, to] pair of a config. Raises ConfigError naming it."""
    if len(value) != 2 or not low <= value[0] <= value[1] <= high:
        raise ConfigError(f"augment: {name} is {list(value)}", hint=f"give [from, to] within [{low:g}, {high:g}]")
    return float(value[0]), float(value[1])


def probability(name: str, value: float) -> float:
    """Check a probability of a config. Raises ConfigError naming it."""
    if not 0 <= value <= 1:
        raise ConfigError(f"augment: {name} is {value}", hint="give a probability in [0, 1]")
    return float(value)


class FaceAugment:
    """Random changes that leave a real face real and a fake one fake. Labels are never seen here.

    Args:
        flip: probability of a mirror image.
        crop: [from, to] side of a random crop that is scaled back, as a fraction.
        brightness, contrast, saturation: largest relative change; hue: largest turn about the grey axis (0..0.5 turns).
        grey: probability of dropping colour.
        blur: probability of a Gaussian blur of ``blur_sigma`` pixels.
        resample: probability of scaling down by ``resample_factor`` and up again.
        jpeg: probability of a JPEG round trip at ``jpeg_quality``.
        noise: probability of Gaussian noise with ``noise_sigma`` of 255.
        ladder: probability of one step of one of ``ladders`` (names of `media.processing.PICTURE_LADDERS`, with
            weights), its strength drawn evenly from the ladder's span; it comes before the JPEG round trip.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(
        self, *, flip: float = 0.5, crop: Sequence[float] = (0.85, 1.0), brightness: float = 0.2, contrast: float = 0.2,
        saturation: float = 0.2, hue: float = 0.03, grey: float = 0.05, blur: float = 0.15,
        blur_sigma: Sequence[float] = (0.3, 1.2), resample: float = 0.2, resample_factor: Sequence[float] = (0.5, 0.95),
        jpeg: float = 0.5, jpeg_quality: Sequence[int] = (50, 95), noise: float = 0.15,
        noise_sigma: Sequence[float] = (1.0, 6.0), ladder: float = 0.2,
        ladders: Mapping[str, float] = {"h264": 2.0, "social": 2.0, "webp": 1.0},
    ) -> None:  # fmt: skip
        self.flip, self.grey = probability("flip", flip), probability("grey", grey)
        self.blur, self.resample = probability("blur", blur), probability("resample", resample)
        self.jpeg, self.noise = probability("jpeg", jpeg), probability("noise", noise)
        self.crop = span("crop", crop, 0.2, 1)
        self.light = [
            (adjust, span(name, (1 - amount, 1 + amount), 0, 2))
            for name, amount, adjust in (
                ("brightness", brightness, F.adjust_brightness),
                ("contrast", contrast, F.adjust_contrast),
                ("saturation", saturation, F.adjust_saturation),
            )
            if amount
        ]
        self.hue = span("hue", (-hue, hue), -0.5, 0.5)
        self.blur_sigma = span("blur_sigma", blur_sigma, 0.05, 20)
        self.resample_factor = span("resample_factor", resample_factor, 0.05, 1)
        self.jpeg_quality = span("jpeg_quality", jpeg_quality, 1, 100)
        self.noise_sigma = span("noise_sigma", noise_sigma, 0, 255)
        self.ladder = probability("ladder", ladder)
        self.ladders = {picture_ladder(name).name: float(weight) for name, weight in sorted(ladders.items())}
        if self.ladder and (not self.ladders or min(self.ladders.values()) < 0 or not sum(self.ladders.values())):
            raise ConfigError(f"augment: ladders are {dict(ladders)}", hint="give each ladder a weight of at least 0")

    def __call__(self, data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Faces uint8 (k, H, W, 3), or clips (k, frames, H, W, 3) -> the same shape, each view by its own draws."""
        with one_thread():
            return np.stack([self._view(view, None, rng)[0] for view in data])

    def with_mask(self, data: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Faces and blending masks (k, H, W) float32 -> both, mirrored and cropped alike; the draws of `__call__`."""
        with one_thread():
            pairs = [self._view(view, m, rng) for view, m in zip(data, mask, strict=True)]
        return np.stack([view for view, _ in pairs]), np.stack([m for _, m in pairs if m is not None])

    def _view(
        self, view: np.ndarray, mask: np.ndarray | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """One view (H, W, 3), or a clip (frames, H, W, 3) whose frames are all changed by the same draws."""
        if view.ndim == 3:
            out, bent = self._one(view, None if mask is None else torch.from_numpy(mask)[None], rng)
            return out, None if bent is None else bent[0].numpy()
        seed = int(rng.integers(2**63))
        frames = [
            self._view(frame, None if mask is None else mask[i], np.random.Generator(np.random.Philox(seed)))
            for i, frame in enumerate(view)
        ]
        masks = [m for _, m in frames if m is not None]
        return np.stack([frame for frame, _ in frames]), np.stack(masks) if masks else None

    def _one(
        self, view: np.ndarray, mask: torch.Tensor | None, rng: np.random.Generator
    ) -> tuple[np.ndarray, torch.Tensor | None]:
        picture = as_picture(view)
        height, width = picture.shape[-2:]
        if rng.random() < self.flip:
            picture = F.horizontal_flip(picture)
            mask = None if mask is None else F.horizontal_flip(mask)
        scale = uniform(rng, self.crop)
        if scale < 1:
            h, w = max(1, round(height * scale)), max(1, round(width * scale))
            top, left = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
            picture = F.resized_crop(picture, top, left, h, w, [height, width], antialias=True)
            mask = None if mask is None else F.resized_crop(mask, top, left, h, w, [height, width], antialias=True)
        for adjust, amount in self.light:
            picture = adjust(picture, uniform(rng, amount))
        turn = uniform(rng, self.hue)
        if rng.random() < self.grey:
            picture = F.rgb_to_grayscale(picture, num_output_channels=3)
        soften = rng.random() < self.blur
        sigma = uniform(rng, self.blur_sigma)
        if rng.random() < self.resample:
            picture = resample_picture(picture, uniform(rng, self.resample_factor))
        out = as_view(picture)
        if soften:
            out = blurred(out, sigma)
        if self.hue[1]:
            out = turn_hue(out, turn)
        if rng.random() < self.noise:
            grain = rng.standard_normal(out.shape, dtype=np.float32) * uniform(rng, self.noise_sigma)
            out = (out + grain).round().clip(0, 255).astype(np.uint8)
        if self.ladder and rng.random() < self.ladder:
            weights = np.array(list(self.ladders.values()))
            name = list(self.ladders)[int(rng.choice(len(weights), p=weights / weights.sum()))]
            weak, strong = PICTURE_LADDERS[name].span
            out = launder(out, name, weak + (strong - weak) * rng.random())
        if rng.random() < self.jpeg:
            out = recompress_picture(out, round(uniform(rng, self.jpeg_quality)))
        return out, mask
