"""Frozen features: shapes, determinism, and that the level of a voice stays in its statistics."""

import numpy as np

from deepassay.training.frozen import imagenet_features, lfcc_statistics


def test_features_of_a_frozen_network_do_not_depend_on_the_batch():
    embed = imagenet_features(backbone="mobilenetv3_small_050", pretrained="none", size=64)
    faces = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    both = embed(faces)
    assert both.shape[0] == 3
    assert both.dtype == np.float32
    np.testing.assert_allclose(both[1:2], embed(faces[1:2]), atol=1e-4)


def test_lfcc_statistics_keep_level_and_colour():
    rng = np.random.default_rng(1)
    sound = rng.normal(size=(2, 16000)).astype(np.float32) * 0.1
    embed = lfcc_statistics()
    got = embed(sound)
    assert got.shape == (2, 120)
    assert np.isfinite(got).all()
    louder = embed(sound * 4)
    assert np.all(louder[:, 0] > got[:, 0] + 1)
    np.testing.assert_allclose(louder[:, 20:60], got[:, 20:60], atol=1e-3)
