"""Cutting a face out of a picture: a square with margin, or a similarity alignment on five landmarks."""

import numpy as np

# Left eye, right eye, nose, left and right mouth corner in a square of side 1: the 112-pixel template that ArcFace
# (Deng et al., CVPR 2019) and most face recognition since is trained on, divided by 112.
TEMPLATE = (
    np.array(
        [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float64
    )
    / 112
)


def crop_square(
    image: np.ndarray, centre: tuple[float, float], side: float, size: int, *, smooth: bool = True
) -> np.ndarray:
    """A square of a picture, resized with anti-aliasing; beyond the picture its border is repeated.

    Args:
        image: (H, W, 3) uint8.
        centre: x and y, pixels, not rounded.
        side: of the square, pixels.
        size: of the result, pixels.
        smooth: Lanczos with a window that grows with the reduction; else bilinear, likewise.

    Returns:
        (size, size, 3) uint8.
    """
    from PIL import Image

    height, width = image.shape[:2]
    reach = 4 * max(1.0, side / size)  # what the filter sees beyond the square
    x0, y0 = centre[0] - side / 2, centre[1] - side / 2
    left, top = int(np.floor(x0 - reach)), int(np.floor(y0 - reach))
    right, bottom = int(np.ceil(x0 + side + reach)), int(np.ceil(y0 + side + reach))
    outside = (max(0, -top), max(0, bottom - height)), (max(0, -left), max(0, right - width)), (0, 0)
    if left < width and top < height and right > 0 and bottom > 0:
        region = image[max(0, top) : bottom, max(0, left) : right]
        region = np.pad(region, outside, mode="edge") if any(map(any, outside)) else region
    else:  # far beyond the picture: nothing but border
        rows, columns = np.arange(top, bottom).clip(0, height - 1), np.arange(left, right).clip(0, width - 1)
        region = image[rows[:, None], columns[None]]
    box = (x0 - left, y0 - top, x0 - left + side, y0 - top + side)
    resample = Image.Resampling.LANCZOS if smooth else Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(np.ascontiguousarray(region)).resize((size, size), resample, box=box))


def crop_box(
    image: np.ndarray, box: np.ndarray, landmarks: np.ndarray, size: int, margin: float
) -> tuple[np.ndarray, np.ndarray]:
    """The square around a face box whose side is (1 + margin) times the box's longer side.

    Args:
        image: (H, W, 3) uint8.
        box: (4,) x0 y0 x1 y1.
        landmarks: (5, 2) pixels of the picture.

    Returns:
        (size, size, 3) uint8 and the landmarks in its pixels, (5, 2) float32.
    """
    centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], np.float64)
    side = float(max(box[2] - box[0], box[3] - box[1])) * (1 + margin)
    crop = crop_square(image, (float(centre[0]), float(centre[1])), side, size)
    return crop, ((landmarks - (centre - side / 2)) * (size / side)).astype(np.float32)


def similarity(points: np.ndarray, target: np.ndarray) -> tuple[complex, complex]:
    """Least-squares rotation, scale and shift: target = factor * point + shift, with x + iy as complex numbers.

    In the plane this is Umeyama's solution (IEEE TPAMI 13(4), 1991, eqs. 34-43, without reflection) in closed form.
    """
    source, goal = points[:, 0] + 1j * points[:, 1], target[:, 0] + 1j * target[:, 1]
    away = source - source.mean()
    spread = float((np.abs(away) ** 2).sum())
    factor = complex((away.conj() * (goal - goal.mean())).sum() / spread) if spread > 0 else 1 + 0j
    return factor, complex(goal.mean() - factor * source.mean())


def crop_aligned(
    image: np.ndarray, landmarks: np.ndarray, size: int, margin: float, *, smooth: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """The face turned, scaled and shifted so that its landmarks lie on `TEMPLATE`, shrunk by 1 + margin to the centre.

    The picture is first reduced to about the final scale with anti-aliasing, then turned with bicubic interpolation.

    Returns:
        (size, size, 3) uint8 and the landmarks in its pixels, (5, 2) float32.
    """
    from PIL import Image

    target = ((TEMPLATE - 0.5) / (1 + margin) + 0.5) * size
    points = landmarks.astype(np.float64)
    factor, shift = similarity(points, target)
    scale = max(abs(factor), 1e-3)
    middle = ((size / 2 + 1j * size / 2) - shift) / (factor if factor else 1)
    side = size / scale * 1.5  # a turned square fits into one 1.42 times as large
    coarse = max(2, round(side * scale))
    region = crop_square(image, (middle.real, middle.imag), side, coarse, smooth=smooth)
    # From pixels of the result back to pixels of the region.
    zoom = coarse / side
    corner = middle - (side / 2) * (1 + 1j)
    back = zoom / (factor if factor else 1)
    offset = -shift * back - corner * zoom
    coefficients = (back.real, -back.imag, offset.real, back.imag, back.real, offset.imag)
    resample = Image.Resampling.BICUBIC if smooth else Image.Resampling.BILINEAR
    turned = Image.fromarray(region).transform((size, size), Image.Transform.AFFINE, coefficients, resample)
    moved = (points[:, 0] + 1j * points[:, 1]) * factor + shift
    return np.asarray(turned), np.stack([moved.real, moved.imag], axis=1).astype(np.float32)
