"""Parts of blended faces: hulls follow the face, masks have soft edges, changes are what they say."""

import numpy as np
import pytest
from PIL import Image

from deepassay.errors import ConfigError, MediaError
from deepassay.manipulation.blending import (
    HULLS,
    Restyle,
    check_hulls,
    check_ratios,
    deform,
    describe_face,
    draw_look,
    fit_mean_face,
    hull_points,
    match_colours,
    place,
    recolour,
    sharpen,
    soft_mask,
    soften,
    warp,
)
from deepassay.manipulation.face import MEAN_FIVE

SIZE = (128, 128)
POINTS = MEAN_FIVE * 42 + (64, 46)


def picture(seed: int = 0) -> np.ndarray:
    y, x = np.mgrid[0:128, 0:128]
    base = np.stack([120 + 60 * np.sin(x / 7), 110 + 50 * np.cos(y / 9), 100 + 40 * np.sin((x + y) / 5)], axis=-1)
    return (base + np.random.default_rng(seed).normal(0, 8, base.shape)).clip(0, 255).astype(np.uint8)


def turned(points: np.ndarray, degrees: float, scale: float = 1.0) -> np.ndarray:
    angle = np.deg2rad(degrees)
    matrix = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (points - 64) @ matrix.T + 64


@pytest.mark.parametrize("degrees", [0, 25, -40])
def test_the_hull_turns_and_grows_with_the_face(degrees):
    fit = fit_mean_face(POINTS, SIZE)
    other = fit_mean_face(turned(POINTS, degrees, 0.7), SIZE)
    assert fit.scale == pytest.approx(42, rel=1e-6)
    np.testing.assert_allclose(
        place(hull_points("full"), other), turned(place(hull_points("full"), fit), degrees, 0.7), atol=1e-6
    )


def test_hopeless_landmarks_fall_back_to_a_plausible_face():
    usual = fit_mean_face(np.full((5, 2), 64.0), SIZE)  # all in one point
    assert 0.3 * 128 < usual.scale < 0.4 * 128
    assert np.linalg.det(usual.matrix[:, :2]) > 0
    np.testing.assert_array_equal(fit_mean_face(POINTS + 500, SIZE).matrix, usual.matrix)  # outside the view
    profile = POINTS.copy()
    profile[:, 0] = 64 + 0.05 * (POINTS[:, 0] - 64)  # eyes 2 px apart: an affine fit would squeeze the hull to a line
    width = np.ptp(place(hull_points("full"), fit_mean_face(profile, SIZE))[:, 0])
    assert width > 20
    with pytest.raises(MediaError, match="finite"):
        fit_mean_face(np.full((5, 2), np.nan), SIZE)


@pytest.mark.parametrize("hull", sorted(HULLS))
def test_masks_cover_their_hull_softly(hull):
    points = place(hull_points(hull), fit_mean_face(POINTS, SIZE))
    mask = np.asarray(soft_mask(points, SIZE, erode_px=3, blur_px=5, ratio=1.0))
    assert mask.max() == 255
    assert mask[0, 0] == 0
    assert ((mask > 0) & (mask < 255)).sum() > 100  # the edge is soft
    hard = np.asarray(soft_mask(points, SIZE, erode_px=0, blur_px=0.01, ratio=1.0))
    assert (hard > 0).sum() > (np.asarray(soft_mask(points, SIZE, erode_px=8, blur_px=0.01, ratio=1.0)) > 0).sum()
    half = np.asarray(soft_mask(points, SIZE, erode_px=3, blur_px=5, ratio=0.5))
    assert half.max() in (127, 128)


def test_hulls_differ_as_their_names_say():
    fit = fit_mean_face(POINTS, SIZE)
    area = {}
    for name in HULLS:
        mask = soft_mask(place(hull_points(name), fit), SIZE, erode_px=0, blur_px=0.1, ratio=1)
        area[name] = (np.asarray(mask) > 127).sum()
    assert area["high"] > area["full"] > area["inner"] > area["lower"] > 500
    eyes = POINTS[:2].mean(0)
    assert place(hull_points("lower"), fit)[:, 1].min() > eyes[1]
    assert place(hull_points("high"), fit)[:, 1].min() < place(hull_points("full"), fit)[:, 1].min() - 20


def test_elastic_deformation_is_as_strong_as_asked_and_smooth():
    points = hull_points("full")
    moves = np.stack([deform(points, 0.1, np.random.default_rng(i)) - points for i in range(200)])
    assert np.sqrt((moves**2).mean()) == pytest.approx(0.1, rel=0.1)
    neighbours = np.square(np.diff(moves, axis=1)).mean()
    assert neighbours < 0.2 * np.square(moves).mean()
    np.testing.assert_array_equal(deform(points, 0.0, np.random.default_rng(0)), points)


def test_colours_shift_as_drawn_and_zero_ranges_change_nothing():
    still = draw_look(np.random.default_rng(0), shift=0, shift_share=1, hue=0, saturation=0, brightness=0, contrast=0)
    image = Image.fromarray(picture())
    assert np.abs(np.asarray(recolour(image, still)).astype(int) - picture()).max() <= 1
    look = draw_look(np.random.default_rng(0), shift=20, shift_share=1, hue=0, saturation=0, brightness=0, contrast=0)
    change = np.asarray(recolour(image, look)).astype(int).mean((0, 1)) - picture().mean((0, 1))
    expected = np.random.default_rng(0).uniform(-20, 20, 3)
    np.testing.assert_allclose(change, expected, atol=1.0)
    grey = Image.fromarray(np.full((16, 16, 3), 90, np.uint8))
    hue = draw_look(np.random.default_rng(1), shift=0, shift_share=0, hue=0.2, saturation=0, brightness=0, contrast=0)
    assert np.abs(np.asarray(recolour(grey, hue)).astype(int) - 90).max() <= 1  # grey has no hue


def detail(image: np.ndarray) -> float:
    return float(np.abs(np.diff(image.astype(np.float64), axis=1)).mean())


@pytest.mark.parametrize("kind", ["nearest", "bilinear", "bicubic"])
def test_softening_loses_detail_and_sharpening_adds_it(kind):
    image = Image.fromarray(picture())
    assert detail(np.asarray(soften(image, 2.5, kind))) < 0.7 * detail(picture())
    assert detail(np.asarray(sharpen(image, 1.2, 1.0))) > 1.2 * detail(picture())


def test_restyle_changes_a_copy_by_its_generator_alone():
    image = Image.fromarray(picture())
    one, two = (np.asarray(Restyle()(image, np.random.default_rng(4))) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, np.asarray(Restyle()(image, np.random.default_rng(5))))
    np.testing.assert_array_equal(np.asarray(image), picture())


def test_warp_moves_pixels_where_the_map_says():
    image = np.zeros((128, 128, 3), np.uint8)
    image[40, 30] = 255
    move = np.array([[1.0, 0.0, 5.0], [0.0, 1.0, -7.0]])
    moved = np.asarray(warp(image, move, SIZE))
    assert np.unravel_index(moved[..., 0].argmax(), SIZE) == (33, 35)
    np.testing.assert_array_equal(np.asarray(warp(picture(), np.eye(3)[:2], SIZE)), picture())
    zoomed = np.asarray(warp(np.full((128, 128, 3), 200, np.uint8), 0.95 * np.eye(3)[:2], SIZE))
    assert (zoomed == 200).all()  # the border is repeated, never black


def test_matched_colours_are_those_of_the_other_picture_under_the_mask():
    mask = soft_mask(place(hull_points("full"), fit_mean_face(POINTS, SIZE)), SIZE, erode_px=0, blur_px=1, ratio=1)
    other = Image.fromarray((picture(1) * 0.8 + 20).astype(np.uint8))
    matched = np.asarray(match_colours(Image.fromarray(picture()), other, mask, 1.0))
    where = np.asarray(mask) == 255
    np.testing.assert_allclose(matched[where].mean(0), np.asarray(other)[where].mean(0), atol=2)
    untouched = np.asarray(match_colours(Image.fromarray(picture()), other, mask, 0.0))
    assert np.abs(untouched.astype(int) - picture()).max() <= 1


def test_descriptions_know_look_and_pose_but_not_place_and_size():
    here = describe_face(picture(), POINTS)
    grown = np.asarray(Image.fromarray(picture()).resize((96, 96)))
    moved = describe_face(grown, POINTS * 0.75)
    darker = describe_face((picture() * 0.5).astype(np.uint8), POINTS)
    wider = POINTS.copy()
    wider[3:, 0] += (-10, 10)
    assert np.abs(here - moved).max() < 0.05
    assert np.linalg.norm(here - darker) > 2 * np.linalg.norm(here - moved)
    assert np.linalg.norm(here - describe_face(picture(), wider)) > 0.1


def test_wrong_settings_are_refused():
    with pytest.raises(ConfigError, match="hulls"):
        check_hulls({"nose": 1.0})
    with pytest.raises(ConfigError, match="hulls"):
        check_hulls({"full": 0.0})
    with pytest.raises(ConfigError, match="ratios"):
        check_ratios([0.5, 1.2])
