"""Face manipulations: identity at strength 0, growth with strength, confinement to the mask, determinism, refusals."""

import itertools

import numpy as np
import pytest

from deepassay.corpora.procedural_face import draw_capture, draw_identity, render_face
from deepassay.errors import ConfigError, MediaError
from deepassay.manipulation import face


@pytest.fixture(scope="module")
def scene():
    """A target and a donor with their landmarks; the target is not square and its face is off centre."""
    rng = np.random.default_rng(4)
    target = render_face(draw_identity(11, 0.3), draw_capture(rng), 200)
    donor = render_face(draw_identity(12, 0.45), draw_capture(rng), 240)
    image = np.pad(target.image, ((0, 0), (0, 37), (0, 0)), mode="edge")
    return image, target.landmarks, donor.image, donor.landmarks


def make(name, scene, strength, seed=5):
    image, landmarks, donor, donor_landmarks = scene
    rng = np.random.default_rng(seed)
    return face.GENERATORS[name].make(image, landmarks, strength, rng, donor, donor_landmarks)


NAMES = sorted(face.GENERATORS)


@pytest.mark.parametrize("name", NAMES)
def test_strength_zero_is_the_identity_with_an_empty_mask(name, scene):
    out, mask = make(name, scene, 0.0)
    assert np.array_equal(out, scene[0])
    assert out is not scene[0]
    assert not mask.any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_change_grows_with_strength(name, seed, scene):
    original = scene[0].astype(float)
    changes = [np.abs(make(name, scene, s, seed)[0] - original).mean() for s in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)]
    assert changes[0] == 0
    assert all(a < b for a, b in itertools.pairwise(changes))


@pytest.mark.parametrize("name", NAMES)
def test_a_small_strength_changes_little(name, scene):
    """The map is continuous at 0: no step between nothing and a little."""
    small, full = (np.abs(make(name, scene, s)[0] - scene[0].astype(float)).mean() for s in (0.05, 1.0))
    assert small < 0.15 * full


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("strength", [0.3, 1.0])
@pytest.mark.parametrize("seed", range(6))
def test_change_is_confined_to_the_mask(name, strength, seed, scene):
    out, mask = make(name, scene, strength, seed)
    changed = (out != scene[0]).any(axis=2)
    assert not (changed & (mask == 0)).any()
    assert changed[mask > 0.8 * mask.max()].mean() > 0.5  # and the mask is not merely large


@pytest.mark.parametrize("name", NAMES)
def test_shapes_types_and_ranges(name, scene):
    out, mask = make(name, scene, 1.0)
    assert out.dtype == np.uint8
    assert out.shape == scene[0].shape
    assert mask.dtype == np.float32
    assert mask.shape == scene[0].shape[:2]
    assert mask.min() == 0.0
    assert 0.2 < mask.max() <= 1.0
    # The face is where the mask is: its centre of weight lies between eyes and mouth.
    yy, xx = np.nonzero(mask > 0.1)
    middle = scene[1].mean(axis=0)
    assert np.hypot(xx.mean() - middle[0], yy.mean() - middle[1]) < 0.5 * face.eye_distance(scene[1])


@pytest.mark.parametrize("name", NAMES)
def test_same_generator_state_gives_same_bytes_and_another_gives_others(name, scene):
    first, again, other = make(name, scene, 1.0, 8), make(name, scene, 1.0, 8), make(name, scene, 1.0, 9)
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_left_alone(name, scene):
    before = [np.array(part, copy=True) for part in scene]
    make(name, scene, 1.0)
    for part, kept in zip(scene, before, strict=True):
        assert np.array_equal(part, kept)


@pytest.mark.parametrize("name", NAMES)
def test_moves_with_the_face(name, scene):
    """The same draws on a shifted picture give the shifted result: what makes clips coherent."""
    image, landmarks, donor, donor_landmarks = scene
    moved = np.roll(image, (6, 9), axis=(0, 1))
    shift = np.array([9, 6])
    make_ = face.GENERATORS[name].make
    out, mask = make_(image, landmarks, 1.0, np.random.default_rng(3), donor, donor_landmarks)
    shifted, shifted_mask = make_(moved, landmarks + shift, 1.0, np.random.default_rng(3), donor, donor_landmarks)
    inner = slice(20, -20), slice(20, -20)
    back = np.roll(shifted, (-6, -9), axis=(0, 1))
    assert np.abs(back[inner].astype(float) - out[inner]).mean() < 0.5
    assert np.abs(np.roll(shifted_mask, (-6, -9), axis=(0, 1))[inner] - mask[inner]).mean() < 0.01


def test_swap_brings_the_donor_in(scene):
    """The swapped region is closer in structure to the donor than to the target."""
    image, landmarks, donor, donor_landmarks = scene
    out, mask = make("blend_swap", scene, 1.0)
    aligned = face._warp(donor, face.similarity(donor_landmarks, landmarks), image.shape[:2])
    deep = mask > 0.95
    grey = lambda a: a.astype(float).mean(axis=2)[deep]  # noqa: E731
    like = lambda a, b: np.corrcoef(grey(a), grey(b))[0, 1]  # noqa: E731
    assert like(out, aligned) > like(out, image)
    assert like(out, aligned) > 0.8


def test_swap_never_blends_the_frame_of_a_tight_donor(scene):
    image, landmarks, donor, donor_landmarks = scene
    low = np.floor(donor_landmarks.min(axis=0) - 4).astype(int)
    high = np.ceil(donor_landmarks.max(axis=0) + 4).astype(int)
    tight = donor[low[1] : high[1], low[0] : high[0]]
    out, mask = face.blend_swap(image, tight, landmarks, donor_landmarks - low, 1.0, np.random.default_rng(0))
    forward = face.similarity(donor_landmarks - low, landmarks)
    yy, xx = np.nonzero(mask)
    back = np.linalg.inv(np.vstack([forward, [0, 0, 1]]))[:2]
    inside = np.stack([xx, yy, np.ones_like(xx)], axis=1) @ back.T
    assert (inside > -1).all()
    assert (inside < np.array([tight.shape[1], tight.shape[0]])).all()
    assert not np.array_equal(out, image)


def test_smooth_resynth_loses_high_frequencies_and_keeps_low_ones(scene):
    from scipy import ndimage

    image = scene[0]
    out, mask = make("smooth_resynth", scene, 1.0)
    deep = mask > 0.95

    def power(a):
        low = ndimage.gaussian_filter(a.astype(float).mean(axis=2), 2.0)
        return ((a.astype(float).mean(axis=2) - low)[deep] ** 2).mean(), low[deep]

    (high_before, low_before), (high_after, low_after) = power(image), power(out)
    assert high_after < 0.7 * high_before
    assert np.corrcoef(low_before, low_after)[0, 1] > 0.95


def test_self_blend_pair_differs_only_inside_the_mask_whichever_side(scene):
    image, landmarks = scene[:2]
    seen = set()
    for seed in range(12):
        real, fake, mask = face.self_blend_pair(image, landmarks, 1.0, np.random.default_rng(seed))
        assert not ((real != fake).any(axis=2) & (mask == 0)).any()
        assert (real != fake).any()
        seen.add(np.array_equal(real, image))
    assert seen == {True, False}  # both sides are drawn


def test_self_blend_draws_the_ratios_of_the_paper(scene):
    image, landmarks = scene[:2]
    tops = [face.self_blend(image, landmarks, 1.0, np.random.default_rng(s))[1].max() for s in range(60)]
    rounded = np.round(tops, 2)
    assert {0.25, 0.5, 0.75, 1.0} <= set(rounded.tolist())
    assert (rounded == 1.0).sum() > (rounded == 0.25).sum()


def test_local_warp_touches_only_the_named_parts(scene):
    image, landmarks = scene[:2]
    _, mask = face.local_warp(image, landmarks, 1.0, np.random.default_rng(0), parts=("mouth",))
    for eye in landmarks[:2]:
        x, y = np.rint(eye).astype(int)
        assert mask[y, x] == 0
    x, y = np.rint(landmarks[3:].mean(axis=0)).astype(int)
    assert mask[y, x] == 1
    with pytest.raises(ConfigError, match="ear"):
        face.local_warp(image, landmarks, 1.0, np.random.default_rng(0), parts=("ear",))


def test_similarity_and_affine_recover_known_maps():
    rng = np.random.default_rng(1)
    source = rng.normal(size=(5, 2)) * 30
    turn = 1.7 * np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    known = np.concatenate([turn, [[4.0], [-9.0]]], axis=1)
    target = source @ turn.T + known[:, 2]
    assert np.allclose(face.similarity(source, target), known)
    assert np.allclose(face.affine(source, target), known)
    # A reflection cannot be reached by a similarity.
    mirrored = face.similarity(source, source * [-1, 1])
    assert np.linalg.det(mirrored[:, :2]) > 0


def test_works_on_a_rotated_face_and_at_the_border(scene):
    image, landmarks, donor, donor_landmarks = scene
    quarter = np.ascontiguousarray(np.rot90(image))
    turned = np.stack([landmarks[:, 1], image.shape[1] - 1 - landmarks[:, 0]], axis=1)
    cut = int(landmarks[:, 0].min()) + 2
    cropped, outside = image[:, cut:], landmarks - [cut, 0]
    for picture, points in ((quarter, turned), (cropped, outside)):
        for generator in face.GENERATORS.values():
            out, mask = generator.make(picture, points, 1.0, np.random.default_rng(2), donor, donor_landmarks)
            assert (out != picture).any()
            assert not ((out != picture).any(axis=2) & (mask == 0)).any()


def bad(points, **change):
    out = np.array(points, dtype=float)
    for index, value in change.items():
        out[int(index[1:])] = value
    return out


@pytest.mark.parametrize("name", NAMES)
def test_bad_landmarks_are_refused_with_the_reason(name, scene):
    image, good = scene[0], scene[1]
    cases = {
        r"shape \(4, 2\)": good[:4],
        r"shape \(10,\)": good.ravel(),
        "not finite": bad(good, p2=np.nan),
        "outside the picture": good * 10,
        "px apart": bad(good, p1=good[0] + [1, 0]),
        "exchanged": good[[1, 0, 2, 4, 3]],
        "not below the eyes": bad(good, p3=good[0], p4=good[1]),
    }
    for words, landmarks in cases.items():
        with pytest.raises(MediaError, match=words) as caught:
            face.GENERATORS[name].make(image, landmarks, 0.5, np.random.default_rng(0), scene[2], scene[3])
        assert "hint:" in str(caught.value)


def test_bad_donor_is_refused_by_name(scene):
    image, landmarks, donor, donor_landmarks = scene
    with pytest.raises(MediaError, match="donor landmarks"):
        face.blend_swap(image, donor, landmarks, donor_landmarks[:3], 1.0, np.random.default_rng(0))
    with pytest.raises(MediaError, match="donor image"):
        face.blend_swap(image, donor[..., 0], landmarks, donor_landmarks, 1.0, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="donor"):
        face.GENERATORS["blend_swap"].make(image, landmarks, 1.0, np.random.default_rng(0))


@pytest.mark.parametrize("strength", [-0.1, 1.01, float("nan"), "much", None])
def test_bad_strength_is_refused(strength, scene):
    for name in NAMES:
        with pytest.raises(ConfigError, match="strength"):
            make(name, scene, strength)


def test_bad_pictures_and_generators_of_numbers_are_refused(scene):
    image, landmarks = scene[:2]
    for picture in (image.astype(np.float32), image[..., 0], image[..., :2], image[:8, :8], None):
        with pytest.raises(MediaError):
            face.smooth_resynth(picture, landmarks, 1.0, np.random.default_rng(0))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="Generator"):
        face.smooth_resynth(image, landmarks, 1.0, 7)  # type: ignore[arg-type]


def test_unknown_generator_lists_the_known_ones():
    with pytest.raises(ConfigError, match="morph") as caught:
        face.face_generator("morph")
    for name in NAMES:
        assert name in str(caught.value)
    assert {g.family for g in face.GENERATORS.values()} >= {"face_swap", "attribute_edit", "reenactment"}
