"""Forges: the pair differs inside the mask alone, by the generator's draws alone, and nothing else gives it away."""

import time

import numpy as np
import pytest

from deepassay.augment.face import FaceAugment
from deepassay.augment.forge import CrossBlended, Forged, MixedForge, NoForge, SelfBlended
from deepassay.augment.none import NoAugment
from deepassay.errors import ConfigError
from deepassay.manipulation.face import MEAN_FIVE
from deepassay.modality.views import Views


def views(k: int = 4, size: int = 128, seed: int = 0) -> Views:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:size, 0:size] * (128 / size)
    tone = rng.uniform(80, 160, 3)
    data = np.stack([
        (tone + 40 * np.sin(x / 7 + i)[..., None] + 30 * np.cos(y / 9)[..., None] + rng.normal(0, 8, (size, size, 3)))
        for i in range(k)
    ]).clip(0, 255).astype(np.uint8)  # fmt: skip
    points = (MEAN_FIVE * 0.33 * size + (size / 2, 0.36 * size) + rng.normal(0, 1, (k, 5, 2))).astype(np.float32)
    data.setflags(write=False)  # as the store's memory maps are
    return Views(data, np.zeros(k), np.ones(k, np.float32), np.zeros(k, np.int32), points, np.full(k, 90, np.float32))


FORGES = [SelfBlended(), CrossBlended(), MixedForge(forges=[SelfBlended(), CrossBlended()])]


def make(forge, seed: int, k: int = 4) -> Forged:
    return forge(views(k), np.random.default_rng(seed), views(k, seed=9) if forge.needs_partner else None)


@pytest.mark.parametrize("forge", FORGES, ids=["sbi", "blend", "mixed"])
def test_a_pair_differs_inside_its_mask_and_only_there(forge):
    changed = 0
    for seed in range(12):
        pair = make(forge, seed)
        assert pair.mask is not None
        assert pair.real.shape == pair.fake.shape == views().data.shape
        assert pair.real.dtype == pair.fake.dtype == np.uint8
        assert pair.mask.shape == pair.real.shape[:3]
        assert pair.mask.dtype == np.float32
        assert pair.mask.min() >= 0
        assert pair.mask.max() <= 1
        np.testing.assert_array_equal(pair.real[pair.mask == 0], pair.fake[pair.mask == 0])
        changed += sum(not np.array_equal(r, f) for r, f in zip(pair.real, pair.fake, strict=True))
        assert (pair.mask.max((1, 2)) > 0.2).all()
        assert (pair.mask[:, :8, :8] == 0).all()  # hulls lie on the face
    assert changed == 48


@pytest.mark.parametrize("forge", FORGES, ids=["sbi", "blend", "mixed"])
def test_the_generator_decides_and_nothing_else(forge):
    np.random.seed(1)  # noqa: NPY002
    one = make(forge, 3)
    np.random.seed(2)  # noqa: NPY002
    two, other = make(forge, 3), make(forge, 4)
    np.testing.assert_array_equal(one.fake, two.fake)
    np.testing.assert_array_equal(one.real, two.real)
    np.testing.assert_array_equal(one.mask, two.mask)
    assert not np.array_equal(one.fake, other.fake)


def test_self_blending_changes_either_copy_about_equally_often():
    data = views(1)
    untouched = sum(np.array_equal(SelfBlended()(data, np.random.default_rng(i)).real, data.data) for i in range(200))
    assert 70 < untouched < 130


def test_blending_ratios_are_those_of_the_paper():
    peaks = [float(SelfBlended()(views(1), np.random.default_rng(i)).mask.max()) for i in range(300)]
    rounded = np.round(np.array(peaks) * 4) / 4
    np.testing.assert_allclose(peaks, rounded, atol=0.01)
    share = {ratio: float((rounded == ratio).mean()) for ratio in (0.25, 0.5, 0.75, 1.0)}
    assert 0.38 < share[1.0] < 0.62
    assert all(0.09 < share[ratio] < 0.25 for ratio in (0.25, 0.5, 0.75))


def test_a_blend_takes_the_partners_face_and_keeps_the_targets_frame():
    target, donor = views(1, seed=0), views(1, seed=5)
    plain = CrossBlended(hulls={"full": 1}, ratios=[1.0], match=(0, 0), restyled=0, elastic=(0, 0))
    pair = plain(target, np.random.default_rng(0), donor)
    np.testing.assert_array_equal(pair.real, target.data)
    deep = pair.mask[0] > 0.99
    to_donor = np.abs(pair.fake[0][deep].astype(int) - donor.data[0][deep]).mean()
    to_target = np.abs(pair.fake[0][deep].astype(int) - target.data[0][deep]).mean()
    assert to_donor < 0.6 * to_target


def test_colours_of_a_blend_are_matched():
    target, donor = views(1, seed=0), views(1, seed=5)
    gap = []
    for amount in (0.0, 1.0):
        forge = CrossBlended(hulls={"full": 1}, ratios=[1.0], match=(amount, amount), restyled=0)
        pair = forge(target, np.random.default_rng(0), donor)
        deep = pair.mask[0] > 0.99
        gap.append(np.abs(pair.fake[0][deep].mean(0) - target.data[0][deep].mean(0)).max())
    assert gap[1] < 0.4 * gap[0]


def test_what_cannot_be_forged_is_refused():
    plain = views()
    without = Views(plain.data, plain.start_s, plain.quality, plain.track)
    with pytest.raises(ConfigError, match="landmarks"):
        SelfBlended()(without, np.random.default_rng(0))
    sound = Views(np.zeros((2, 800), np.float32), np.zeros(2), np.ones(2, np.float32), np.zeros(2, np.int32))
    with pytest.raises(ConfigError, match="forge=none for voices"):
        SelfBlended()(sound, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="partner"):
        CrossBlended()(plain, np.random.default_rng(0))
    with pytest.raises(ConfigError, match="no forge"):
        NoForge()(plain, np.random.default_rng(0))
    for wrong in ({"zoom": 2.0}, {"restyle": {"colour": 1}}, {"restyle": {"soften": (0.5, 2)}}, {"hulls": {"ear": 1}}):
        with pytest.raises(ConfigError):
            SelfBlended(**wrong)
    with pytest.raises(ConfigError, match="forges"):
        MixedForge(forges=[NoForge()])


def test_masks_go_through_the_augmentation_as_their_pictures_do():
    geometry = FaceAugment(flip=1.0, crop=(0.6, 0.8), brightness=0, contrast=0, saturation=0, hue=0, grey=0, blur=0,
                           resample=0, jpeg=0, noise=0, ladder=0)  # fmt: skip
    mask = np.zeros((2, 128, 128), np.float32)
    mask[:, 30:60, 20:50] = 1
    pictures = np.repeat((mask * 255).astype(np.uint8)[..., None], 3, axis=-1)
    out, bent = geometry.with_mask(pictures, mask, np.random.default_rng(1))
    assert not np.array_equal(bent, mask)
    np.testing.assert_allclose(out[..., 0] / 255, bent, atol=0.02)
    augment = FaceAugment()
    with_mask, _ = augment.with_mask(views(3).data, np.zeros((3, 128, 128), np.float32), np.random.default_rng(2))
    np.testing.assert_array_equal(with_mask, augment(views(3).data, np.random.default_rng(2)))  # the same draws
    same = NoAugment().with_mask(pictures, mask, np.random.default_rng(0))
    np.testing.assert_array_equal(same[1], mask)


def test_forging_keeps_pace_with_training():
    data = views(1)
    forge = SelfBlended()
    forge(data, np.random.default_rng(0))
    times = []
    for seed in range(30):
        start = time.process_time()
        forge(data, np.random.default_rng(seed))
        times.append(time.process_time() - start)
    assert np.median(times) < 0.015  # 2 ms on a quiet core; the margin is for busy machines


@pytest.mark.parametrize("forge", FORGES[:2], ids=["sbi", "blend"])
def test_a_clip_is_forged_by_the_same_draws_in_every_frame(forge):
    one = views(2)
    still = Views(
        np.repeat(one.data[:, None], 3, axis=1), one.start_s, one.quality, one.track,
        np.repeat(one.landmarks[:, None], 3, axis=1), one.size,
    )  # fmt: skip
    points = still.landmarks + np.array([0, 3, 6], np.float32)[None, :, None, None]
    moved = Views(still.data, one.start_s, one.quality, one.track, points, one.size)
    partner = Views(
        still.data[::-1].copy(), one.start_s, one.quality, one.track, still.landmarks[::-1].copy(), one.size
    )
    pair = forge(still, np.random.default_rng(1), partner)
    assert pair.fake.shape == still.data.shape
    assert pair.mask.shape == still.data.shape[:4]
    for frame in (1, 2):
        np.testing.assert_array_equal(pair.fake[:, frame], pair.fake[:, 0])
    assert not np.array_equal(pair.mask[0, 0], pair.mask[1, 0])  # clips are forged apart
    follows = forge(moved, np.random.default_rng(1), partner).mask
    centres = [np.average(np.arange(128), weights=mask.sum(0)) for mask in follows[0]]
    np.testing.assert_allclose(np.diff(centres), 3, atol=0.5)  # and the blend goes with the face


def test_a_clip_is_augmented_by_the_same_draws_in_every_frame():
    clips = np.repeat(views(2).data[:, None], 3, axis=1)
    out, masks = FaceAugment().with_mask(clips, np.zeros(clips.shape[:4], np.float32), np.random.default_rng(1))
    assert out.shape == clips.shape
    assert masks.shape == clips.shape[:4]
    np.testing.assert_array_equal(out[:, 0], out[:, 2])
    assert not np.array_equal(out[0], out[1])
    np.testing.assert_array_equal(out, FaceAugment()(clips, np.random.default_rng(1)))
