"""Crops: geometry and borders are right to the pixel."""

import numpy as np
import pytest

from deepassay.modality.crops import TEMPLATE, crop_aligned, crop_box, crop_square, similarity


def spots(points: np.ndarray, height: int = 300, width: int = 400) -> np.ndarray:
    """A picture with a soft bright spot at each point."""
    y, x = np.mgrid[:height, :width] + 0.5
    light = sum(np.exp(-((x - px) ** 2 + (y - py) ** 2) / 50) for px, py in points)
    return np.repeat((np.clip(light, 0, 1) * 255).astype(np.uint8)[..., None], 3, axis=2)


def centre_of_light(crop: np.ndarray, at: np.ndarray, reach: int = 12) -> np.ndarray:
    x, y = at.round().astype(int)
    part = crop[y - reach : y + reach, x - reach : x + reach, 0].astype(float)
    v, u = np.mgrid[y - reach : y + reach, x - reach : x + reach] + 0.5
    return np.array([(part * u).sum(), (part * v).sum()]) / part.sum()


POINTS = np.array([[160, 120], [240, 130], [198, 170], [160, 210], [230, 216]], np.float32)


@pytest.mark.parametrize("size", [112, 224, 300])
def test_landmarks_follow_the_crop(size):
    crop, landmarks = crop_box(spots(POINTS), np.array([140, 90, 260, 240], np.float32), POINTS, size, 0.3)
    assert crop.shape == (size, size, 3)
    for point in landmarks:
        np.testing.assert_allclose(centre_of_light(crop, point), point, atol=0.6)


@pytest.mark.parametrize("size", [112, 224])
@pytest.mark.parametrize("degrees", [-40, 0, 25, 180])
def test_alignment_puts_landmarks_on_the_template(size, degrees):
    target = (TEMPLATE - 0.5) * 150
    turn = np.deg2rad(degrees)
    points = target @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]) + (205, 148)
    crop, landmarks = crop_aligned(spots(points), points.astype(np.float32), size, 0.5)
    expected = ((TEMPLATE - 0.5) / 1.5 + 0.5) * size
    np.testing.assert_allclose(landmarks, expected, atol=1e-3)
    for point in expected:
        np.testing.assert_allclose(centre_of_light(crop, point, reach=6), point, atol=0.6)


def test_similarity_is_exact_where_an_exact_one_exists():
    factor, shift = similarity(TEMPLATE, TEMPLATE @ np.array([[0.0, 2.0], [-2.0, 0.0]]) + (3, 4))
    assert factor == pytest.approx(2j)
    assert shift == pytest.approx(3 + 4j)


def test_border_is_repeated():
    image = np.zeros((20, 20, 3), np.uint8)
    image[:, -1] = 200
    crop = crop_square(image, (40.0, 10.0), 20.0, 20)
    assert (crop == 200).all()


def test_reduction_does_not_alias():
    stripes = np.zeros((400, 400, 3), np.uint8)
    stripes[:, ::2] = 255
    crop = crop_square(stripes, (200.0, 200.0), 333.0, 37)
    assert np.abs(crop.astype(int) - 127).max() <= 3


def test_inside_and_clipped_paths_agree():
    image = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    padded = np.pad(image, ((50, 50), (50, 50), (0, 0)), mode="edge")
    for centre in ((20.3, 30.9), (100.0, 100.0), (190.0, 5.0)):
        moved = (centre[0] + 50, centre[1] + 50)
        np.testing.assert_array_equal(crop_square(image, centre, 60.5, 64), crop_square(padded, moved, 60.5, 64))
