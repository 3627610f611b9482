"""Augmentation: the same shapes and ranges, a function of the generator alone, blind to labels, real effects."""

import inspect

import numpy as np
import pytest
import torch

from deepassay.augment.face import FaceAugment
from deepassay.augment.launder import (
    coloured_noise,
    compand,
    one_thread,
    recompress_picture,
    resample_picture,
    shape_spectrum,
)  # fmt: skip
from deepassay.augment.none import NoAugment
from deepassay.augment.voice import VoiceAugment
from deepassay.errors import ConfigError


def faces(n: int = 6) -> np.ndarray:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:48, 0:48]
    base = 90 + 60 * np.sin(x / 5) + 40 * np.cos(y / 7)
    return (base[None, :, :, None] + rng.normal(0, 10, (n, 48, 48, 3))).clip(0, 255).astype(np.uint8)


def sounds(n: int = 6) -> np.ndarray:
    t = np.arange(16000) / 16000
    tone = 0.3 * np.sin(2 * np.pi * 300 * t) * (1 + 0.5 * np.sin(2 * np.pi * 3 * t))
    return np.stack([tone + 0.01 * np.random.default_rng(i).normal(size=16000) for i in range(n)]).astype(np.float32)


CASES = [(FaceAugment(), faces()), (VoiceAugment(), sounds()), (NoAugment(), faces()), (NoAugment(), sounds())]


@pytest.mark.parametrize(("augment", "data"), CASES, ids=["face", "voice", "none-face", "none-voice"])
def test_shape_type_and_range_stay_and_the_input_is_left_alone(augment, data):
    before = data.copy()
    data.setflags(write=False)  # as the store's memory maps are
    for seed in range(8):
        out = augment(data, np.random.default_rng(seed))
        assert out.shape == data.shape
        assert out.dtype == data.dtype
        if data.dtype == np.float32:
            assert np.isfinite(out).all()
            assert np.abs(out).max() <= 1
    np.testing.assert_array_equal(data, before)


@pytest.mark.parametrize(("augment", "data"), CASES[:2], ids=["face", "voice"])
def test_the_generator_decides_and_nothing_else(augment, data):
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002
    one = augment(data, np.random.default_rng(5))
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002
    state = torch.get_rng_state()
    np.testing.assert_array_equal(one, augment(data, np.random.default_rng(5)))
    assert torch.equal(state, torch.get_rng_state())  # global randomness is not even touched
    assert not np.array_equal(one, augment(data, np.random.default_rng(6)))
    assert "label" not in inspect.signature(type(augment).__call__).parameters


def test_views_of_a_batch_are_changed_apart():
    data = np.repeat(faces(1), 4, axis=0)
    out = FaceAugment()(data, np.random.default_rng(0))
    assert len({view.tobytes() for view in out}) == 4


def test_everything_off_changes_nothing():
    off = FaceAugment(flip=0, crop=(1, 1), brightness=0, contrast=0, saturation=0, hue=0, grey=0, blur=0, resample=0,
                      jpeg=0, noise=0, ladder=0)  # fmt: skip
    np.testing.assert_array_equal(off(faces(), np.random.default_rng(0)), faces())
    quiet = VoiceAugment(gain_db=(0, 0), noise=0, equaliser=0, band_limit=0, companding=0, bits=0)
    np.testing.assert_array_equal(quiet(sounds(), np.random.default_rng(0)), sounds())


def test_flip_is_a_mirror():
    only = FaceAugment(flip=1, crop=(1, 1), brightness=0, contrast=0, saturation=0, hue=0, grey=0, blur=0, resample=0,
                       jpeg=0, noise=0, ladder=0)  # fmt: skip
    np.testing.assert_array_equal(only(faces(), np.random.default_rng(0)), faces()[:, :, ::-1])


def high_share(x: np.ndarray, cutoff_hz: float) -> float:
    power = np.abs(np.fft.rfft(x)) ** 2
    return float(power[int(cutoff_hz * len(x) / 16000) :].sum() / power.sum())


def test_voice_laundering_does_what_it_says():
    white = np.random.default_rng(0).normal(0, 0.1, 16000).astype(np.float32)
    assert high_share(white, 4500) > 0.3
    assert high_share(shape_spectrum(white, np.zeros(2), cutoff=0.5), 4500) < 1e-3
    np.testing.assert_allclose(shape_spectrum(white, np.zeros(2)), white, atol=1e-6)
    np.testing.assert_allclose(shape_spectrum(white, np.full(3, 20.0)), 10 * white, atol=1e-5)
    assert len(np.unique(compand(white))) <= 256
    assert np.abs(compand(white) - white).max() < 0.03
    assert high_share(coloured_noise(16000, 0, np.random.default_rng(1)), 1000) > 0.8
    assert high_share(coloured_noise(16000, 2, np.random.default_rng(1)), 1000) < 0.1


@pytest.mark.parametrize("snr", [0.0, 20.0])
def test_noise_arrives_at_the_asked_ratio(snr):
    x = sounds(1)
    noisy = VoiceAugment(gain_db=(0, 0), noise=1, snr_db=(snr, snr), equaliser=0, band_limit=0, companding=0, bits=0)
    added = noisy(0.1 * x, np.random.default_rng(0)) - 0.1 * x
    assert 10 * np.log10(np.mean((0.1 * x) ** 2) / np.mean(added**2)) == pytest.approx(snr, abs=0.1)


def test_picture_laundering_does_what_it_says():
    view = faces(1)[0]
    low, high = (np.abs(recompress_picture(view, q).astype(int) - view).mean() for q in (20, 95))
    assert low > high > 0
    picture = torch.from_numpy(view).permute(2, 0, 1)
    smaller = resample_picture(picture, 0.4)
    assert smaller.shape == picture.shape
    detail = [(p[:, :, 1:].int() - p[:, :, :-1].int()).abs().float().mean() for p in (picture, smaller)]
    assert detail[1] < 0.8 * detail[0]


def test_threads_are_given_back():
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (FaceAugment, {"flip": 1.5}), (FaceAugment, {"crop": (0.9, 0.5)}), (FaceAugment, {"jpeg_quality": (0, 200)}),
        (FaceAugment, {"hue": 0.7}), (VoiceAugment, {"noise": -0.1}), (VoiceAugment, {"cutoff_hz": (1000, 9000)}),
        (VoiceAugment, {"bands": 1}), (FaceAugment, {"ladder": 2.0}), (FaceAugment, {"ladders": {"jpeg": 0.0}}),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_settings_are_refused(kind, wrong):
    with pytest.raises(ConfigError, match="augment"):
        kind(**wrong)


def test_ladders_are_climbed_as_often_as_asked_and_alike_for_all():
    off = dict(flip=0, crop=(1, 1), brightness=0, contrast=0, saturation=0, hue=0, grey=0, blur=0, resample=0, jpeg=0,
               noise=0)  # fmt: skip
    data = np.repeat(faces(1), 200, axis=0)
    out = FaceAugment(**off, ladder=0.4, ladders={"webp": 1, "social": 1, "sharpen": 0})(data, np.random.default_rng(0))
    touched = np.array([not np.array_equal(a, b) for a, b in zip(out, data, strict=True)])
    assert 0.3 < touched.mean() < 0.5
    assert len({view.tobytes() for view in out[touched]}) > 20  # strengths vary
    with pytest.raises(ConfigError, match="ladder"):
        FaceAugment(ladders={"fax": 1})


@pytest.mark.parametrize("name", ["h264", "h265", "avif", "webp", "social", "resize"])
def test_every_coder_can_be_drawn(name):
    only = FaceAugment(ladder=1, ladders={name: 1})
    one = only(faces(2), np.random.default_rng(3))
    assert one.shape == faces(2).shape
    np.testing.assert_array_equal(one, only(faces(2), np.random.default_rng(3)))


def test_hue_turns_about_grey():
    only = FaceAugment(flip=0, crop=(1, 1), brightness=0, contrast=0, saturation=0, hue=0.1, grey=0, blur=0, resample=0,
                       jpeg=0, noise=0, ladder=0)  # fmt: skip
    grey = np.repeat(faces(1)[..., :1], 3, axis=-1)
    assert np.abs(only(grey, np.random.default_rng(0)).astype(int) - grey).max() <= 1
    red = np.zeros((1, 16, 16, 3), np.uint8)
    red[..., 0], red[..., 1:] = 180, 60
    turned = only(red, np.random.default_rng(0)).astype(int)
    assert np.abs(turned - red).max() > 5
    assert np.abs(turned.sum(-1) - red.astype(int).sum(-1)).max() <= 2  # brightness stays
