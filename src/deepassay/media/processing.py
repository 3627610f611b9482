"""Ladders of ordinary processing for pictures: pure functions of (picture, strength), from hardly visible to harsh.

Each ladder does to a picture what people and platforms do to it every day. A step is named ``jpeg@70``. The same
ladders measure robustness and, with strengths drawn at random and alike for real and fake, make training robust.
Nothing here draws a number: what looks random (noise) is a function of the picture itself.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from deepassay.errors import ConfigError
from deepassay.media.recode import encoder_version, recode_frame, recode_still


@dataclass(frozen=True, slots=True)
class PictureLadder:
    """One kind of processing in several strengths.

    Args:
        name, title: in records, and for people.
        unit: what ``strengths`` count.
        strengths: steps of the ladder, weakest first.
        span: strengths that may be drawn in training, (weakest, strongest).
        apply: (picture (H, W, 3) uint8, strength) -> picture of the same shape.
        coder: name of the video coder whose version belongs into records; empty for none.
    """

    name: str
    title: str
    unit: str
    strengths: tuple[float, ...]
    span: tuple[float, float]
    apply: Callable[[np.ndarray, float], np.ndarray]
    coder: str = ""

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the steps, weakest first."""
        return tuple(f"{self.name}@{strength:g}" for strength in self.strengths)


def resized(picture: np.ndarray, size: tuple[int, int], resample: str = "bilinear") -> np.ndarray:
    """A picture at another size (height, width); reductions are anti-aliased. ``resample``: bilinear, bicubic, lanczos.

    Other names raise ConfigError.
    """
    from PIL import Image

    if resample not in ("bilinear", "bicubic", "lanczos"):
        raise ConfigError(f"resample is {resample!r}", hint="use bilinear, bicubic or lanczos")
    kind = Image.Resampling[resample.upper()]
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((size[1], size[0]), kind))


def scaled_by(picture: np.ndarray, factor: float, resample: str = "bilinear") -> np.ndarray:
    """A picture whose sides are ``factor`` times as long, at least 16 px."""
    height, width = picture.shape[:2]
    return resized(picture, (max(16, round(height * factor)), max(16, round(width * factor))), resample)


def resize_chain(picture: np.ndarray, factor: float) -> np.ndarray:
    """Down by ``factor`` (0..1) and back to the first size, as a thumbnail that is enlarged again."""
    return resized(scaled_by(picture, factor), (picture.shape[0], picture.shape[1]), "bicubic")


def unsharp(picture: np.ndarray, radius: float, amount: float) -> np.ndarray:
    """Unsharp masking, which many platforms apply after reducing a picture."""
    from PIL import Image, ImageFilter

    image = Image.fromarray(np.ascontiguousarray(picture))
    return np.asarray(image.filter(ImageFilter.UnsharpMask(radius, round(100 * amount), 0)))


# Per grade: the factors, sharpening and JPEG qualities of one upload after the other. Platforms reduce, sharpen and
# re-encode with 4:2:0; their settings change without notice, so these are typical values and no platform's own.
_UPLOADS: dict[int, tuple[tuple[float, float, int], ...]] = {
    1: ((0.85, 0.3, 82),),
    2: ((0.7, 0.5, 75),),
    3: ((0.7, 0.5, 75), (0.85, 0.3, 68)),
    4: ((0.5, 0.6, 70), (0.85, 0.4, 60)),
}


def share(picture: np.ndarray, grade: float) -> np.ndarray:
    """Social-media-like uploads: reduced, sharpened, JPEG with 4:2:0, and shown at the first size again.

    Args:
        grade: 1 (one gentle upload) to 4 (two harsh ones); fractions are rounded.
    """
    out = picture
    for factor, sharpening, quality in _UPLOADS[min(4, max(1, round(grade)))]:
        out = recode_still(unsharp(scaled_by(out, factor, "lanczos"), 1.0, sharpening), "jpeg", quality)
    return resized(out, (picture.shape[0], picture.shape[1]), "bicubic")


def blurred(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of ``sigma`` pixels (Pillow's: three box filters)."""
    from PIL import Image, ImageFilter

    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).filter(ImageFilter.GaussianBlur(sigma)))


def grained(picture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian noise of ``sigma`` of 255, drawn from the picture's own hash: the same picture, the same grain."""
    seed = int.from_bytes(hashlib.sha256(np.ascontiguousarray(picture).tobytes()).digest()[:8], "big")
    grain = np.random.Generator(np.random.Philox(seed)).standard_normal(picture.shape, dtype=np.float32)
    return (picture + np.float32(sigma) * grain).round().clip(0, 255).astype(np.uint8)


def gamma_curve(picture: np.ndarray, gamma: float) -> np.ndarray:
    """Tone curve: 255 * (v / 255) ** gamma; above 1 darker."""
    table = np.round(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return table[picture]


def _still(format: str) -> Callable[[np.ndarray, float], np.ndarray]:
    return lambda picture, quality: recode_still(picture, format, round(quality))  # type: ignore[arg-type]


def _video(codec: str) -> Callable[[np.ndarray, float], np.ndarray]:
    return lambda picture, crf: recode_frame(picture, codec, round(crf))


PICTURE_LADDERS: dict[str, PictureLadder] = {
    ladder.name: ladder
    for ladder in (
        PictureLadder("jpeg", "JPEG, 4:2:0", "quality", (90, 75, 50, 30), (95, 30), _still("jpeg")),
        PictureLadder("webp", "WebP", "quality", (90, 70, 45, 20), (95, 20), _still("webp")),
        PictureLadder("avif", "AVIF, 4:2:0", "quality", (80, 60, 40), (90, 30), _still("avif")),
        PictureLadder("h264", "H.264, a predicted frame", "CRF", (18, 23, 30, 40), (18, 40), _video("h264"), "h264"),
        PictureLadder("h265", "H.265, a predicted frame", "CRF", (20, 26, 32, 40), (20, 40), _video("h265"), "h265"),
        PictureLadder("resize", "reduced and enlarged", "factor", (0.75, 0.5, 0.35, 0.25), (0.95, 0.25), resize_chain),
        PictureLadder("social", "shared on social media", "grade", (1, 2, 3, 4), (1, 4), share),
        PictureLadder("blur", "Gaussian blur", "px", (0.5, 1, 2), (0.3, 2), blurred),
        PictureLadder("noise", "Gaussian noise", "of 255", (2, 5, 10, 20), (1, 10), grained),
        PictureLadder("sharpen", "unsharp masking", "amount", (0.5, 1, 2), (0.2, 2), lambda p, a: unsharp(p, 1.2, a)),
        PictureLadder("darken", "tone curve", "gamma", (1.2, 1.5, 2.0), (1.0, 1.8), gamma_curve),
        PictureLadder(
            "brighten", "tone curve", "1/gamma", (1.2, 1.5, 2.0), (1.0, 1.8), lambda p, g: gamma_curve(p, 1 / g)
        ),
    )
}


def picture_ladder(name: str) -> PictureLadder:
    """Look a ladder up by name. Raises ConfigError, listing the names, if there is none."""
    if name not in PICTURE_LADDERS:
        raise ConfigError(f"there is no picture ladder {name!r}", hint=f"use one of {sorted(PICTURE_LADDERS)}")
    return PICTURE_LADDERS[name]


def launder(picture: np.ndarray, name: str, strength: float) -> np.ndarray:
    """One step of a ladder: uint8 (H, W, 3) -> the same shape and type, by these three arguments alone.

    Args:
        name: of `PICTURE_LADDERS`. strength: in that ladder's unit, within its weakest and strongest.

    Raises:
        ConfigError: no such ladder, or a strength outside it.
        MediaError: a picture that cannot be coded. MissingDependencyError: an encoder that is not there.
    """
    ladder = picture_ladder(name)
    low, high = min(*ladder.strengths, *ladder.span), max(*ladder.strengths, *ladder.span)
    if not low <= strength <= high:
        raise ConfigError(
            f"{name} has no strength {strength:g} {ladder.unit}", hint=f"give {low:g} to {high:g}, or a step of "
            f"{', '.join(ladder.steps)}"
        )  # fmt: skip
    return ladder.apply(picture, float(strength))


def parse_step(step: str) -> tuple[str, float]:
    """``jpeg@70`` -> ("jpeg", 70.0). Raises ConfigError where it is no step of a ladder."""
    name, _, value = step.partition("@")
    ladder = picture_ladder(name)
    try:
        return name, float(value)
    except ValueError as error:
        raise ConfigError(f"{step!r} is no step of a ladder", hint=f"write {ladder.steps[0]}, say") from error


def ladder_facts(name: str) -> dict[str, str]:
    """What a record says of a ladder: its title, and the coder's version where one takes part.

    Raises:
        ConfigError: no such ladder. MissingDependencyError: its encoder is not there.
    """
    from PIL import __version__

    ladder = picture_ladder(name)
    coder = encoder_version(ladder.coder) if ladder.coder else f"Pillow {__version__}"
    return {"ladder": name, "title": ladder.title, "unit": ladder.unit, "coder": coder}
