"""Making fake faces from real pictures: blended swaps, local warps, self-blending and low-pass resynthesis.

Every generator takes any RGB picture and its five landmarks (eyes, nose tip, mouth corners: the order of MTCNN), a
``strength`` in [0, 1] and a NumPy generator of random numbers, and returns the picture and a mask:

- the same arguments give the same bytes; strength 0 returns the input exactly and an all-zero mask;
- the random choices do not depend on the strength, so that a sweep over strengths changes one thing only;
- outside the mask (where it is 0) no pixel changes; inside, the change grows with the strength;
- choices are drawn relative to the face, so calling again with an equally seeded generator on the next frame of a clip
  gives
  a manipulation that moves with the face.

These are honest, simple manipulations with known masks, for built-in corpora, augmentation and tests. They say nothing
of how a detector fares on any editing tool.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from deepassay.errors import ConfigError, MediaError

# Mean positions of the five landmarks and of a face's outline, in units of the distance between the eyes, origin midway
# between them; own measurements on upright frontal faces, rounded.
MEAN_FIVE = np.array([(-0.5, 0.0), (0.5, 0.0), (0.0, 0.58), (-0.4, 1.1), (0.4, 1.1)], dtype=np.float64)
MEAN_HULL = np.array(
    [
        (-0.98, -0.12), (-0.99, 0.3), (-0.93, 0.72), (-0.76, 1.15), (-0.42, 1.5), (0.0, 1.62), (0.42, 1.5),
        (0.76, 1.15), (0.93, 0.72), (0.99, 0.3), (0.98, -0.12), (0.82, -0.44), (0.45, -0.52),
        (0.0, -0.46), (-0.45, -0.52), (-0.82, -0.44),
    ],
    dtype=np.float64,
)  # fmt: skip
_MIN_EYE_DISTANCE_PX = 6.0


@dataclass(frozen=True, slots=True)
class FaceGenerator:
    """A named way of making a fake.

    Args:
        name: goes into a manifest's ``generator``.
        family: goes into ``generator_family``.
        needs_donor: whether a second picture and its landmarks are needed.
        make: (image, landmarks, strength, rng, donor, donor_landmarks) -> (image, mask).
    """

    name: str
    family: str
    needs_donor: bool
    make: Callable[..., tuple[np.ndarray, np.ndarray]]


def check_image(image: np.ndarray, what: str = "image") -> None:
    """Raise MediaError unless ``image`` is (H, W, 3) uint8 with sides of 16 px or more."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        found = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}"
        raise MediaError(
            f"{what} is {found}, not (H, W, 3) uint8", hint="read it with deepassay.media.image.read_image"
        )
    if min(image.shape[:2]) < 16:
        raise MediaError(
            f"{what} is only {image.shape[1]} x {image.shape[0]} px", hint="use a picture of at least 16 px"
        )


def check_landmarks(landmarks: np.ndarray, image: np.ndarray, what: str = "landmarks") -> np.ndarray:
    """Five landmarks as float64 (5, 2), or a refusal that says why they cannot be a face in this picture.

    Raises:
        MediaError: wrong shape, not finite, outside the picture, eyes closer than 6 px, mouth on the eyes, or mirrored
        order.
    """
    order = "give (5, 2) pixels: left eye, right eye, nose tip, left and right mouth corner, as seen in the picture"
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (5, 2):
        raise MediaError(f"{what} have shape {points.shape}", hint=order)
    if not np.isfinite(points).all():
        raise MediaError(f"{what} hold values that are not finite", hint="drop this face or find it again")
    height, width = image.shape[:2]
    slack = 0.1 * max(height, width)
    if (points < -slack).any() or (points > np.array([width, height]) - 1 + slack).any():
        raise MediaError(
            f"{what} lie outside the picture of {width} x {height} px",
            hint="landmarks must be in pixels of this picture, not of a crop or of another size",
        )
    across = points[1] - points[0]
    eyes = float(np.hypot(*across))
    if eyes < _MIN_EYE_DISTANCE_PX:
        raise MediaError(
            f"{what}: the eyes are {eyes:.1f} px apart",
            hint=f"use a face with eyes {_MIN_EYE_DISTANCE_PX:.0f} px apart",
        )
    down = 0.5 * (points[3] + points[4]) - 0.5 * (points[0] + points[1])
    if (across[0] * down[1] - across[1] * down[0]) / eyes < 0.3 * eyes:
        raise MediaError(f"{what}: the mouth is not below the eyes, or left and right are exchanged", hint=order)
    return points


def _check(
    image: np.ndarray, landmarks: np.ndarray, strength: float, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    check_image(image)
    if not isinstance(rng, np.random.Generator):
        raise ConfigError("rng is not a numpy Generator", hint="pass np.random.default_rng(seed)")
    try:
        amount = float(strength)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"strength is {strength!r}", hint="give a number from 0 to 1") from error
    if not 0.0 <= amount <= 1.0:
        raise ConfigError(f"strength is {strength!r}", hint="give a number from 0 (nothing happens) to 1")
    return check_landmarks(landmarks, image), amount


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares similarity (2, 3) that takes points ``source`` (n, 2) onto ``target`` (n, 2), without reflection.

    Source: S. Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991;
    in the plane it is the solution of four linear equations.
    """
    a, b = source - source.mean(0), target - target.mean(0)
    power = float((a * a).sum())
    cos = float((a * b).sum()) / power
    sin = float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()) / power
    matrix = np.array([[cos, -sin], [sin, cos]])
    return np.concatenate([matrix, (target.mean(0) - matrix @ source.mean(0))[:, None]], axis=1)


def affine(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Least-squares affine map (2, 3) that takes points ``source`` (n, 2) onto ``target`` (n, 2)."""
    basis = np.concatenate([source, np.ones((len(source), 1))], axis=1)
    return np.linalg.lstsq(basis, target, rcond=None)[0].T


def mean_hull(landmarks: np.ndarray, grow: float = 1.0, wobble: np.ndarray | None = None) -> np.ndarray:
    """The mean face's outline laid over five landmarks by an affine fit: (m, 2) pixels.

    Args:
        landmarks: (5, 2) pixels.
        grow: scale about the hull's centre.
        wobble: radial factors (m,), for elastic deformation.
    """
    points = landmarks.astype(np.float64)
    centre = np.array([0.0, 0.5])
    outline = (MEAN_HULL - centre) * grow
    if wobble is not None:
        outline = outline * wobble[:, None]
    fit = affine(MEAN_FIVE, points)
    return (outline + centre) @ fit[:, :2].T + fit[:, 2]


def eye_distance(landmarks: np.ndarray) -> float:
    """A length that survives turning the head: the larger of eye distance and 0.9 x eyes-to-mouth distance, pixels."""
    eyes = np.hypot(*(landmarks[1] - landmarks[0]))
    mouth = np.hypot(*(0.5 * (landmarks[3] + landmarks[4]) - 0.5 * (landmarks[0] + landmarks[1])))
    return float(max(eyes, 0.9 * mouth))


def soft_mask(outline: np.ndarray, shape: tuple[int, int], feather_px: float) -> np.ndarray:
    """A polygon's inside with an edge that fades inwards: (H, W) float32, 0 outside the polygon, 1 deep inside."""
    from scipy import ndimage

    height, width = shape
    canvas = Image.new("L", (width, height), 0)
    ImageDraw.Draw(canvas).polygon([(float(x), float(y)) for x, y in outline], fill=1)
    inside = np.asarray(canvas, dtype=bool)
    out = np.zeros((height, width), dtype=np.float32)
    rows, cols = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if not len(rows):
        return out
    box = slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)
    depth = np.asarray(ndimage.distance_transform_edt(np.pad(inside[box], 1)))[1:-1, 1:-1]
    t = np.clip(depth / max(feather_px, 0.5), 0.0, 1.0)
    out[box] = (t * t * (3.0 - 2.0 * t)).astype(np.float32)
    return out


def _wobble(rng: np.random.Generator, amount: float) -> np.ndarray:
    """Smooth radial factors around the hull: a short random Fourier series."""
    turn = np.linspace(0, 2 * np.pi, len(MEAN_HULL), endpoint=False)
    total = np.zeros_like(turn)
    for order in range(2, 6):
        total += rng.normal(0, 1.0 / order) * np.cos(order * turn + rng.uniform(0, 2 * np.pi))
    return 1.0 + amount * np.clip(total, -1.5, 1.5)


def _warp(image: np.ndarray, forward: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resample a picture by an affine map of pixel-centre coordinates (2, 3), bicubic: (H, W, 3) float32."""
    back = np.linalg.inv(np.concatenate([forward, [[0.0, 0.0, 1.0]]]))[:2]
    half = np.array([0.5, 0.5])
    offset = back @ np.array([-0.5, -0.5, 1.0]) + half
    data = (back[0, 0], back[0, 1], offset[0], back[1, 0], back[1, 1], offset[1])
    out = Image.fromarray(image).transform(
        (shape[1], shape[0]), Image.Transform.AFFINE, data, resample=Image.Resampling.BICUBIC
    )
    return np.asarray(out, dtype=np.float32)


def _blend(base: np.ndarray, other: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """uint8 picture: base where the weight (H, W) is 0, ``other`` where it is 1."""
    mixed = base.astype(np.float32)
    mixed += (other - mixed) * weight[..., None]
    return np.rint(np.clip(mixed, 0.0, 255.0)).astype(np.uint8)


def _moments(image: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    w = weight[..., None] / max(float(weight.sum()), 1e-6)
    mean = (image * w).sum((0, 1))
    return mean, np.sqrt((((image - mean) ** 2) * w).sum((0, 1)) + 1e-6)


def transfer_colour(image: np.ndarray, like: np.ndarray, weight: np.ndarray, amount: float = 1.0) -> np.ndarray:
    """Give ``image`` the per-channel mean and spread of ``like`` under a weight (H, W).

    After E. Reinhard et al., "Color transfer between images", IEEE CG&A 2001, in RGB; gains are held within [0.6, 1.6].
    """
    here, spread = _moments(image, weight)
    there, wanted = _moments(like.astype(np.float32), weight)
    moved = (image - here) * np.clip(wanted / spread, 0.6, 1.6) + there
    return image + amount * (moved - image)


def _lose_detail(image: np.ndarray, box: tuple[slice, slice], factor: float, kind: str) -> np.ndarray:
    """Shrink and regrow a box of a picture (H, W, 3) float32 by ``factor``: what a decoder of low resolution leaves."""
    out = image.copy()
    part = np.rint(np.clip(image[box], 0, 255)).astype(np.uint8)
    height, width = part.shape[:2]
    small = (max(2, round(width / factor)), max(2, round(height / factor)))
    shrunk = Image.fromarray(part).resize(small, Image.Resampling.BOX)
    if kind == "stepped":
        # The last doubling is done without interpolation: the two-pixel grid that decoders leave in the spectrum.
        half = (max(2, round(width / 2)), max(2, round(height / 2)))
        grown = shrunk.resize(half, Image.Resampling.BICUBIC).resize((width, height), Image.Resampling.NEAREST)
    elif kind == "bicubic":
        grown = shrunk.resize((width, height), Image.Resampling.BICUBIC)
    else:
        grown = shrunk.resize((width, height), Image.Resampling.BILINEAR)
    out[box] = np.asarray(grown, dtype=np.float32)
    return out


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    rows, cols = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(cols[0]), int(cols[-1]) + 1)


def blend_swap(
    target: np.ndarray,
    donor: np.ndarray,
    target_landmarks: np.ndarray,
    donor_landmarks: np.ndarray,
    strength: float,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Put a donor's inner face onto a target: the classical swap by alignment, colour transfer and feathered blending.

    The donor is aligned by a similarity on five points, loses detail as a swap network of 64 to 128 px would, takes on
    most of the target's colour statistics, and is blended through a feathered hull. Strength is the opacity of the
    blend.

    Args:
        target: (H, W, 3) uint8, the picture that keeps its background.
        donor: (h, w, 3) uint8, the picture whose inner face is used.
        target_landmarks: (5, 2) pixels of ``target``.
        donor_landmarks: (5, 2) pixels of ``donor``.
        strength: in [0, 1].
        rng: source of the feather's width, the hull's shape and the colour transfer's completeness.

    Returns:
        Picture (H, W, 3) uint8 and mask (H, W) float32, the weight of the donor.

    Raises:
        MediaError: a picture or landmarks that cannot be used.
        ConfigError: a strength outside [0, 1], or rng is not a Generator.
    """
    points, amount = _check(target, target_landmarks, strength, rng)
    check_image(donor, "donor image")
    given = check_landmarks(donor_landmarks, donor, "donor landmarks")
    grow, feather = rng.uniform(0.86, 1.0), rng.uniform(0.05, 0.16)
    wobble, colour = _wobble(rng, 0.02), rng.uniform(0.55, 0.95)
    cells = rng.uniform(18.0, 32.0)
    shape = target.shape[0], target.shape[1]
    if amount == 0.0:
        return target.copy(), np.zeros(shape, dtype=np.float32)
    forward = similarity(given, points)
    # Where the donor's picture ends, nothing may be blended: the frame of a cropped donor would show.
    known = _warp(np.full((*donor.shape[:2], 3), 255, dtype=np.uint8), forward, shape)[..., 0] / 255.0
    mask = soft_mask(mean_hull(points, grow, wobble), shape, feather * eye_distance(points))
    mask = mask * np.clip(known * 2.0 - 1.0, 0.0, 1.0)
    moved = _warp(donor, forward, shape)
    factor = eye_distance(points) / cells
    if factor > 1.0:
        moved = _lose_detail(moved, _box(mask > 0), factor, "bicubic")
    moved = transfer_colour(moved, target, mask, colour)
    weight = (mask * amount).astype(np.float32)
    return _blend(target, moved, weight), weight


# Radius of each part's warp in eye distances.
_PARTS = {"mouth": 0.66, "eyes": 0.46, "nose": 0.5}


def local_warp(
    image: np.ndarray,
    landmarks: np.ndarray,
    strength: float,
    rng: np.random.Generator,
    parts: tuple[str, ...] = ("mouth", "eyes", "nose"),
) -> tuple[np.ndarray, np.ndarray]:
    """Bend and rescale mouth, eyes or nose and re-render the bent region: an attribute edit.

    One or two parts are drawn. Each part is magnified or shrunk and its shape bent (mouth corners up or down, eyes
    opened) by a displacement that fades to exactly zero; the bent region is redrawn slightly softer and with slightly
    altered tone. Strength scales displacement, softening and tone alike.

    Args:
        image: (H, W, 3) uint8.
        landmarks: (5, 2) pixels.
        strength: in [0, 1].
        rng: source of the choice of parts and of the sizes of the changes.
        parts: from which parts to draw.

    Returns:
        Picture (H, W, 3) uint8 and mask (H, W) float32, the fading weight of the edit times the strength.

    Raises:
        MediaError: a picture or landmarks that cannot be used.
        ConfigError: a strength outside [0, 1], an unknown part, or rng is not a Generator.
    """
    from scipy import ndimage

    points, amount = _check(image, landmarks, strength, rng)
    unknown = [p for p in parts if p not in _PARTS]
    if unknown or not parts:
        raise ConfigError(f"parts to warp: {list(parts)}", hint=f"choose one or more of {sorted(_PARTS)}")
    chosen = [parts[i] for i in rng.permutation(len(parts))[: min(len(parts), 2)]]
    draws = {
        part: (rng.choice((-1.0, 1.0)) * rng.uniform(0.25, 0.42), rng.choice((-1.0, 1.0)) * rng.uniform(0.12, 0.22))
        for part in sorted(chosen)
    }
    cells, tone = rng.uniform(11.0, 16.0), rng.normal(0.0, 5.0, 3) + rng.choice((-1.0, 1.0)) * rng.uniform(4.0, 10.0)
    height, width = image.shape[:2]
    if amount == 0.0:
        return image.copy(), np.zeros((height, width), dtype=np.float32)
    scale = eye_distance(points)
    fit = similarity(MEAN_FIVE, points)
    right, down = fit[:, 0] / np.hypot(*fit[:, 0]), fit[:, 1] / np.hypot(*fit[:, 1])
    spots = {
        "mouth": [0.5 * (points[3] + points[4])],
        "eyes": [points[0], points[1]],
        "nose": [points[2] - 0.1 * scale * down],
    }
    yy, xx = np.mgrid[0:height, 0:width].astype(np.float32)
    shift_x, shift_y, weight = np.zeros_like(xx), np.zeros_like(xx), np.zeros_like(xx)
    for part in sorted(chosen):
        zoom, bend = draws[part]
        for centre in spots[part]:
            radius = _PARTS[part] * scale
            dx, dy = xx - centre[0], yy - centre[1]
            fade = np.clip(1.0 - (dx * dx + dy * dy) / radius**2, 0.0, 1.0) ** 2
            along = (dx * right[0] + dy * right[1]) / radius
            lift = bend * radius * ((2.4 * along) ** 2 - 0.4).clip(-0.4, 1.0) if part == "mouth" else bend * 0.3 * dy
            # Pull sampling: reading nearer to the centre magnifies.
            shift_x += fade * (-zoom * dx + lift * down[0])
            shift_y += fade * (-zoom * dy + lift * down[1])
            weight = np.maximum(weight, np.clip(2.2 * fade, 0.0, 1.0))
    box = _box(weight > 0)
    places = [yy[box] + amount * shift_y[box], xx[box] + amount * shift_x[box]]
    base = image.astype(np.float32)
    bent = base.copy()
    for channel in range(3):
        bent[..., channel][box] = ndimage.map_coordinates(base[..., channel], places, order=1, mode="nearest")
    soft = _lose_detail(bent, box, max(1.0, scale / cells), "bilinear") + tone.astype(np.float32)
    redrawn = bent + amount * weight[..., None] * (soft - bent)
    touched = weight > 0
    out = np.where(touched[..., None], np.rint(np.clip(redrawn, 0, 255)), base).astype(np.uint8)
    return out, (weight * amount).astype(np.float32)


def _restyle(image: np.ndarray, rng: np.random.Generator, face_px: float, amount: float) -> np.ndarray:
    """Statistics and frequency changes of a copy: shifts of channels, saturation, brightness, contrast; detail lost or
    sharpened. Every draw is made whatever the amount."""
    from scipy import ndimage

    shifts = rng.uniform(-20.0, 20.0, 3)
    saturation, brightness, contrast = rng.uniform(-0.3, 0.3), rng.uniform(-0.12, 0.12), rng.uniform(-0.15, 0.15)
    sharpen, cells, gain = rng.random() < 0.4, rng.uniform(10.0, 17.0), rng.uniform(0.9, 1.6)
    copy = image.astype(np.float32)
    grey = copy.mean(2, keepdims=True)
    styled = grey + (copy - grey) * (1.0 + saturation)
    styled = (styled - 127.5) * (1.0 + contrast) + 127.5 * (1.0 + brightness) + shifts.astype(np.float32)
    whole = slice(0, image.shape[0]), slice(0, image.shape[1])
    if sharpen:
        styled = styled + gain * (styled - ndimage.gaussian_filter(styled, (1.2, 1.2, 0)))
    elif face_px > cells:
        styled = _lose_detail(styled, whole, face_px / cells, "bilinear")
    return copy + amount * (np.clip(styled, 0.0, 255.0) - copy)


PAPER_RATIOS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)


def self_blend_pair(
    image: np.ndarray,
    landmarks: np.ndarray,
    strength: float,
    rng: np.random.Generator,
    side: str = "either",
    ratios: tuple[float, ...] = PAPER_RATIOS,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A pseudo-fake from one picture and the picture to compare it with: self-blended images.

    After K. Shiohara and T. Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022, section 3: one of two
    copies (the source, or the target) is changed in its statistics and frequencies, the source is moved and rescaled a
    little, the mask is a landmark hull with an elastic deformation, a soft edge and a blending ratio from
    {0.25, 0.5, 0.75, 1, 1, 1}, and the source is blended onto the target. Here the hull comes from five points and its
    deformation from a radial Fourier series; strength scales the change, the motion and the ratio.

    Args:
        image: (H, W, 3) uint8.
        landmarks: (5, 2) pixels.
        strength: in [0, 1].
        rng: source of all draws.
        side: which copy is restyled: ``source``, ``target``, or ``either`` (drawn evenly, as in the paper).
        ratios: blending ratios to draw from, each in (0, 1].

    Returns:
        The real half (the target copy), the fake half, both (H, W, 3) uint8, and the mask (H, W) float32. The halves
        differ only inside the mask; with ``target`` the real half itself differs from ``image``.

    Raises:
        MediaError: a picture or landmarks that cannot be used.
        ConfigError: an unknown side, a ratio outside (0, 1], a strength outside [0, 1], or rng is not a Generator.
    """
    points, amount = _check(image, landmarks, strength, rng)
    if side not in ("source", "target", "either"):
        raise ConfigError(f"side is {side!r}", hint="use source, target or either")
    if not ratios or not all(0.0 < r <= 1.0 for r in ratios):
        raise ConfigError(f"ratios are {ratios}", hint="give numbers above 0 and up to 1")
    on_source = bool(rng.random() < 0.5)
    if side != "either":
        on_source = side == "source"
    zoom, move = rng.uniform(-0.05, 0.05), rng.uniform((-0.03, -0.015), (0.03, 0.015))
    grow, wobble, feather = rng.uniform(0.75, 1.02), _wobble(rng, 0.06), rng.uniform(0.03, 0.18)
    ratio = float(rng.choice(ratios))
    shape = image.shape[0], image.shape[1]
    if amount == 0.0:
        return image.copy(), image.copy(), np.zeros(shape, dtype=np.float32)
    scale = eye_distance(points)
    styled = np.rint(_restyle(image, rng, scale, amount)).astype(np.uint8)
    source, target = (styled, image) if on_source else (image, styled)
    # Translation in the paper is relative to the face box, whose side is about 2.2 eye distances.
    centre = points.mean(0)
    factor = 1.0 + amount * zoom
    offset = centre - factor * centre + amount * move * 2.2 * scale
    moved = _warp(source, np.array([[factor, 0.0, offset[0]], [0.0, factor, offset[1]]]), shape)
    mask = soft_mask(mean_hull(points, grow, wobble), shape, feather * scale)
    # The frame that the motion uncovers is unknown.
    known = _warp(np.full((*shape, 3), 255, dtype=np.uint8), np.array([[factor, 0, offset[0]], [0, factor, offset[1]]]), shape)  # noqa: E501  # fmt: skip
    weight = (mask * np.clip(known[..., 0] / 127.5 - 1.0, 0.0, 1.0) * (amount * ratio)).astype(np.float32)
    return target.copy(), _blend(target, moved, weight), weight


def self_blend(
    image: np.ndarray,
    landmarks: np.ndarray,
    strength: float,
    rng: np.random.Generator,
    ratios: tuple[float, ...] = PAPER_RATIOS,
) -> tuple[np.ndarray, np.ndarray]:
    """The fake half of `self_blend_pair` with the changes on the source copy, so that nothing outside the mask changes.

    Returns:
        Picture (H, W, 3) uint8 and mask (H, W) float32, the weight of the changed copy.

    Raises:
        MediaError, ConfigError: see `self_blend_pair`.
    """
    _, fake, mask = self_blend_pair(image, landmarks, strength, rng, "source", ratios)
    return fake, mask


def smooth_resynth(
    image: np.ndarray, landmarks: np.ndarray, strength: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Redraw the inner face from a coarse grid of itself: a face-region decoder that lacks high frequencies.

    The hull is shrunk to 11 to 17 samples per eye distance and grown again (bicubic, bilinear, or stepped, which leaves
    the two-pixel grid of a plain doubling), without the sensor's noise. Strength is the opacity of the redrawn region.
    Spectral shortfall of decoders: R. Durall et al., "Watch Your Up-Convolution", CVPR 2020.

    Returns:
        Picture (H, W, 3) uint8 and mask (H, W) float32, the weight of the redrawn region.

    Raises:
        MediaError: a picture or landmarks that cannot be used.
        ConfigError: a strength outside [0, 1], or rng is not a Generator.
    """
    points, amount = _check(image, landmarks, strength, rng)
    grow, feather = rng.uniform(0.85, 1.0), rng.uniform(0.05, 0.18)
    cells, kind = rng.uniform(11.0, 17.0), str(rng.choice(("bicubic", "bilinear", "stepped")))
    shape = image.shape[0], image.shape[1]
    if amount == 0.0:
        return image.copy(), np.zeros(shape, dtype=np.float32)
    scale = eye_distance(points)
    mask = soft_mask(mean_hull(points, grow), shape, feather * scale)
    redrawn = _lose_detail(image.astype(np.float32), _box(mask > 0), max(1.25, scale / cells), kind)
    weight = (mask * amount).astype(np.float32)
    return _blend(image, redrawn, weight), weight


def _one_picture(
    function: Callable[..., tuple[np.ndarray, np.ndarray]],
) -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    def make(image, landmarks, strength, rng, donor=None, donor_landmarks=None):
        return function(image, landmarks, strength, rng)

    return make


def _firm_self_blend(image, landmarks, strength, rng, donor=None, donor_landmarks=None):
    # As a generator of a corpus: a quarter of a small change would be a wrong label more than a fake.
    return self_blend(image, landmarks, strength, rng, (0.5, 0.75, 1.0, 1.0, 1.0))


def _swap(image, landmarks, strength, rng, donor=None, donor_landmarks=None):
    if donor is None or donor_landmarks is None:
        raise ConfigError("blend_swap needs a donor picture and its landmarks", hint="pass donor= and donor_landmarks=")
    return blend_swap(image, donor, landmarks, donor_landmarks, strength, rng)


GENERATORS: dict[str, FaceGenerator] = {
    g.name: g
    for g in (
        FaceGenerator("blend_swap", "face_swap", True, _swap),
        FaceGenerator("self_blend", "self_blending", False, _firm_self_blend),
        FaceGenerator("local_warp", "attribute_edit", False, _one_picture(local_warp)),
        FaceGenerator("smooth_resynth", "reenactment", False, _one_picture(smooth_resynth)),
    )
}


def face_generator(name: str) -> FaceGenerator:
    """Look a generator up by name. Raises ConfigError, listing the names, if there is none."""
    if name not in GENERATORS:
        raise ConfigError(f"there is no face generator {name!r}", hint=f"use one of {sorted(GENERATORS)}")
    return GENERATORS[name]
