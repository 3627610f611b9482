"""Parts of blended faces, fast enough for every training step: hulls on five points, soft masks, changes of a copy.

`manipulation.face` makes fakes for corpora, where the same face must move with a clip and strength is swept. Here each
call costs a fraction of a millisecond at 128 px (Pillow does the pixels), and every number is drawn by the caller's
generator. Lengths are relative to the face (`face_scale`), so that one setting serves views of 112 to 380 px.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from deepassay.errors import ConfigError, MediaError
from deepassay.manipulation.face import MEAN_FIVE, MEAN_HULL, affine, similarity

# Outlines in the units of `manipulation.face.MEAN_HULL`: eye distances from the point midway between the eyes.
HULLS: dict[str, np.ndarray] = {
    "full": MEAN_HULL,  # brows to chin
    "high": np.concatenate(  # with most of the forehead
        [MEAN_HULL[:11], [(0.97, -0.5), (0.78, -0.95), (0.42, -1.18), (0.0, -1.25), (-0.42, -1.18), (-0.78, -0.95),
                          (-0.97, -0.5)]]
    ),
    "inner": np.array(  # eyes, nose and mouth
        [(-0.86, -0.2), (-0.8, 0.2), (-0.55, 0.75), (-0.55, 1.2), (-0.25, 1.38), (0.25, 1.38), (0.55, 1.2),
         (0.55, 0.75), (0.8, 0.2), (0.86, -0.2), (0.5, -0.36), (0.0, -0.24), (-0.5, -0.36)]
    ),
    "lower": np.array(  # below the nose: what a change of speech redraws
        [(-0.85, 0.62), (-0.74, 1.1), (-0.42, 1.48), (0.0, 1.6), (0.42, 1.48), (0.74, 1.1), (0.85, 0.62), (0.4, 0.5),
         (0.0, 0.66), (-0.4, 0.5)]
    ),
}  # fmt: skip
RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)
_MIDDLE = np.array([0.0, 0.5])


class Fit(NamedTuple):
    """Where a mean face lies in a view: affine map (2, 3) from its units, and the length of its unit in pixels."""

    matrix: np.ndarray
    scale: float


def fit_mean_face(landmarks: np.ndarray, size: tuple[int, int]) -> Fit:
    """The mean face laid over five landmarks, for any landmarks that a finder may give.

    The affine fit follows a turned head. Where it would squeeze or shear the face (profiles, badly found points), a
    similarity takes its place; where even that is no face of the view (less than a tenth or more than 0.8 of it
    between the eyes, or its middle outside), the face is taken to fill the view as in a crop of usual margin.

    Args:
        landmarks: (5, 2) pixels. size: height and width of the view.

    Raises:
        MediaError: landmarks of another shape, or not finite.
    """
    points = np.asarray(landmarks, np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all():
        raise MediaError(
            f"landmarks of shape {points.shape}, finite: {bool(np.isfinite(points).all())}",
            hint="views to be blended need five finite landmarks each, as the face modality gives them",
        )
    height, width = size
    plain = similarity(MEAN_FIVE, points) if np.ptp(points, axis=0).max() > 1 else np.zeros((2, 3))
    scale = float(np.hypot(plain[0, 0], plain[1, 0]))
    middle = plain[:, :2] @ _MIDDLE + plain[:, 2]
    side = min(height, width)
    if not (0.1 * side <= scale <= 0.8 * side and 0 <= middle[0] < width and 0 <= middle[1] < height):
        scale = 0.33 * side
        centre = np.array([width, height]) / 2 - scale * _MIDDLE
        return Fit(np.array([[scale, 0.0, centre[0]], [0.0, scale, centre[1]]]), scale)
    matrix = affine(MEAN_FIVE, points)
    stretches = np.linalg.svd(matrix[:, :2], compute_uv=False)
    if np.linalg.det(matrix[:, :2]) <= 0 or stretches[0] > 1.5 * scale or stretches[1] < 0.6 * scale:
        matrix = plain
    return Fit(matrix, scale)


def hull_points(hull: str, *, grow: float = 1.0) -> np.ndarray:
    """A hull of `HULLS` with 5 points per edge: (m, 2) in the mean face's units."""
    corners = HULLS[hull]
    centre = corners.mean(0)
    corners = (corners - centre) * grow + centre
    steps = np.linspace(0, 1, 5, endpoint=False)[None, :, None]
    return (corners[:, None] * (1 - steps) + np.roll(corners, -1, axis=0)[:, None] * steps).reshape(-1, 2)


def place(points: np.ndarray, fit: Fit) -> np.ndarray:
    """Points (m, 2) of the mean face in pixels of the view."""
    return points @ fit.matrix[:, :2].T + fit.matrix[:, 2]


_GRID = np.arange(-2.5, 2.51, 0.25)  # eye distances; a hull reaches 1.8 at most, growth included


def deform(points: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Elastic deformation of a hull (m, 2), displaced by a smooth random field of RMS ``amount``; in eye distances.

    The field is Gaussian-filtered white noise (Simard et al., ICDAR 2003), here on a grid of a quarter eye distance
    that lies on the mean face, so that it turns and moves with the face; it is looked up at the outline alone, since
    inside a mask it would change nothing.
    """
    noise = rng.standard_normal((2, len(_GRID), len(_GRID)))
    # A Gaussian of one grid step around each point, separable, scaled to unit variance.
    across, down = (np.exp(-0.5 * np.square((_GRID[None] - points[:, i, None]) / 0.25)) for i in (0, 1))
    across /= np.sqrt(np.square(across).sum(1, keepdims=True))
    down /= np.sqrt(np.square(down).sum(1, keepdims=True))
    return points + amount * np.einsum("py,cyx,px->pc", down, noise, across, optimize=True)


def soft_mask(
    points: np.ndarray, size: tuple[int, int], *, erode_px: float, blur_px: float, ratio: float
) -> Image.Image:
    """An outline filled, eroded, blurred, its peak brought to ``ratio``: Pillow L picture of the view's size.

    After the two blurs of self-blended images: the first, thresholded where it is still full, erodes by about
    ``erode_px``; the second makes an edge of about ``2 * blur_px``.
    """
    height, width = size
    filled = Image.new("L", (width, height), 0)
    ImageDraw.Draw(filled).polygon([(float(x), float(y)) for x, y in points], fill=255)
    eroded = filled.filter(ImageFilter.GaussianBlur(erode_px / 2.4)).point(_FULL)
    if eroded.getbbox() is None:
        eroded = filled
    soft = eroded.filter(ImageFilter.GaussianBlur(blur_px / math.sqrt(3)))
    peak = soft.getextrema()[1]
    assert isinstance(peak, int)
    if not peak:
        return soft
    return soft.point([min(255, round(v * 255 * ratio / peak)) for v in range(256)])


_FULL = [255 if value >= 254 else 0 for value in range(256)]


class Look(NamedTuple):
    """A change of colours: 3 x 4 matrix on RGB, row by row, in units of 255."""

    matrix: tuple[float, ...]


def draw_look(
    rng: np.random.Generator, *, shift: float, shift_share: float, hue: float, saturation: float, brightness: float,
    contrast: float,
) -> Look:  # fmt: skip
    """A random change of colours. Every number is drawn whatever the others are.

    Args:
        shift: largest shift of a channel, of 255, with probability ``shift_share``.
        hue: largest turn about the grey axis, in turns. saturation, brightness, contrast: largest relative changes.
    """
    moves = rng.uniform(-shift, shift, 3) * (rng.random() < shift_share)
    angle = 2 * math.pi * rng.uniform(-hue, hue)
    vivid, gain, spread = 1 + rng.uniform(-saturation, saturation), 1 + rng.uniform(-brightness, brightness), 1 + (
        rng.uniform(-contrast, contrast)
    )  # fmt: skip
    luma = np.tile([0.299, 0.587, 0.114], (3, 1))
    colours = (vivid * np.eye(3) + (1 - vivid) * luma) @ _hue_matrix(angle) * (gain * spread)
    offset = 127.5 * (1 - spread) + moves
    rows = np.concatenate([colours, offset[:, None]], axis=1)
    return Look(tuple(rows.ravel().tolist()))


def _hue_matrix(angle: float) -> np.ndarray:
    """Rotation (3, 3) of colours about the grey axis."""
    grey = np.full((3, 3), 1 / 3)
    across = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    return math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * across + grey


def turn_hue(picture: np.ndarray, turns: float) -> np.ndarray:
    """Colours of a view uint8 (H, W, 3) turned about the grey axis; a fifteenth of the cost of a way through HSV."""
    rows = np.concatenate([_hue_matrix(2 * math.pi * turns), np.zeros((3, 1))], axis=1)
    return np.asarray(recolour(Image.fromarray(np.ascontiguousarray(picture)), Look(tuple(rows.ravel().tolist()))))


def recolour(picture: Image.Image, look: Look) -> Image.Image:
    """Apply a change of colours, clipped to 0..255."""
    return picture.convert("RGB", look.matrix)


def soften(picture: Image.Image, factor: float, kind: str) -> Image.Image:
    """Shrink by ``factor`` and grow again: ``nearest`` (with aliasing), ``bilinear`` or ``bicubic``."""
    width, height = picture.size
    small = (max(8, round(width / factor)), max(8, round(height / factor)))
    down = Image.Resampling.NEAREST if kind == "nearest" else Image.Resampling.BOX
    up = Image.Resampling.BICUBIC if kind == "bicubic" else Image.Resampling.BILINEAR
    return picture.resize(small, down).resize((width, height), up)


def sharpen(picture: Image.Image, radius: float, amount: float) -> Image.Image:
    """Unsharp masking: the difference to a blur of ``radius`` pixels is added ``amount`` times."""
    return picture.filter(ImageFilter.UnsharpMask(radius, round(100 * amount), 0))


@dataclass(frozen=True, slots=True)
class Restyle:
    """How one copy of a pair is changed in statistics and frequencies.

    Args:
        shift, shift_share, hue, saturation, brightness, contrast: see `draw_look`.
        soften: [from, to] factor of reduction. sharpen: [from, to] amount of unsharp masking. One of the two is drawn.
    """

    shift: float = 20.0
    shift_share: float = 0.3
    hue: float = 0.02
    saturation: float = 0.3
    brightness: float = 0.1
    contrast: float = 0.1
    soften: tuple[float, float] = (1.25, 3.0)
    sharpen: tuple[float, float] = (0.3, 1.5)

    def __call__(self, picture: Image.Image, rng: np.random.Generator) -> Image.Image:
        look = draw_look(
            rng, shift=self.shift, shift_share=self.shift_share, hue=self.hue, saturation=self.saturation,
            brightness=self.brightness, contrast=self.contrast,
        )  # fmt: skip
        softer, factor = rng.random() < 0.5, rng.uniform(*self.soften)
        kind = ("nearest", "bilinear", "bicubic")[int(rng.integers(3))]
        radius, amount = rng.uniform(0.8, 1.6), rng.uniform(*self.sharpen)
        changed = recolour(picture, look)
        return soften(changed, factor, kind) if softer else sharpen(changed, radius, amount)


def warp(picture: np.ndarray, forward: np.ndarray, size: tuple[int, int], *, smooth: bool = True) -> Image.Image:
    """Resample a view by an affine map (2, 3) of pixel coordinates; beyond its border, the border is repeated.

    Args:
        picture: (h, w, 3) uint8. forward: from its pixels to those of the result. size: height, width of the result.
        smooth: bicubic, else bilinear.
    """
    pad = round(0.15 * max(picture.shape[:2]))
    padded = np.pad(picture, ((pad, pad), (pad, pad), (0, 0)), mode="edge")
    back = np.linalg.inv(forward[:, :2])
    # Pillow takes pixel corners as whole numbers; the maps here count from pixel centres.
    offset = pad + 0.5 - back @ (forward[:, 2] + 0.5)
    data = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
    resample = Image.Resampling.BICUBIC if smooth else Image.Resampling.BILINEAR
    return Image.fromarray(padded).transform((size[1], size[0]), Image.Transform.AFFINE, data, resample)


def match_colours(picture: Image.Image, like: Image.Image, mask: Image.Image, amount: float) -> Image.Image:
    """Give a picture the mean and spread per channel of another where a mask is, by ``amount`` (0..1).

    After E. Reinhard et al., "Color transfer between images", IEEE CG&A 2001, in RGB; gains stay within [0.6, 1.6].
    """
    from PIL import ImageStat

    here, there = ImageStat.Stat(picture, mask), ImageStat.Stat(like, mask)
    matrix: list[float] = []
    for channel in range(3):
        gain = min(1.6, max(0.6, there.stddev[channel] / max(here.stddev[channel], 1e-3)))
        gain = 1 + amount * (gain - 1)
        mean = here.mean[channel] + amount * (there.mean[channel] - here.mean[channel])
        row = [0.0, 0.0, 0.0, mean - gain * here.mean[channel]]
        row[channel] = gain
        matrix += row
    return picture.convert("RGB", tuple(matrix))


def describe_face(picture: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """What makes faces interchangeable, (11,) float32: five points in the mean face's units, and colours of the face.

    Points are taken after a similarity fit, so that size and place do not count; colours are mean log brightness and
    two chromaticities over the inner face, weighted to be of the same order as the points.
    """
    size = (picture.shape[0], picture.shape[1])
    points = np.asarray(landmarks, np.float64)
    fit = fit_mean_face(points, size)
    plain = similarity(points, MEAN_FIVE) if np.ptp(points, axis=0).max() > 1 else np.zeros((2, 3))
    shape = points @ plain[:, :2].T + plain[:, 2]
    mask = Image.new("L", (size[1], size[0]), 0)
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in place(hull_points("inner"), fit)], fill=255)
    inside = np.asarray(mask) > 0
    colour = picture[inside].mean(0) if inside.any() else picture.reshape(-1, 3).mean(0)
    r, g, b = np.log(np.maximum(colour, 1.0)).tolist()
    tone = np.array([0.15 * (r + g + b) / 3, 0.5 * (r - g), 0.5 * (b - g)])
    return np.concatenate([(shape - MEAN_FIVE).ravel()[:8], tone]).astype(np.float32)


def check_hulls(hulls: Mapping[str, float]) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and probabilities of hulls. Raises ConfigError on an unknown name or weights that are no distribution."""
    names = tuple(sorted(hulls))
    unknown = [name for name in names if name not in HULLS]
    weights = np.array([float(hulls[name]) for name in names])
    if unknown or not len(names) or (weights < 0).any() or weights.sum() <= 0:
        raise ConfigError(f"hulls are {dict(hulls)}", hint=f"give weights of at least 0 for any of {sorted(HULLS)}")
    return names, weights / weights.sum()


def check_ratios(ratios: Sequence[float]) -> tuple[float, ...]:
    """Blending ratios. Raises ConfigError unless each is in (0, 1]."""
    if not ratios or not all(0 < ratio <= 1 for ratio in ratios):
        raise ConfigError(f"ratios are {list(ratios)}", hint="give numbers above 0 and up to 1")
    return tuple(float(ratio) for ratio in ratios)
