"""Encoders and back: harsher settings lose more, the same arguments give the same bytes, absent encoders say so."""

import numpy as np
import pytest

from deepassay.errors import MediaError, MissingDependencyError
from deepassay.media import recode
from deepassay.media.recode import encoder_version, recode_clip, recode_frame, recode_still


def picture(height: int = 96, width: int = 128) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([120 + 60 * np.sin(x / 7), 110 + 50 * np.cos(y / 9), 100 + 40 * np.sin((x + y) / 5)], axis=-1)
    return (base + np.random.default_rng(0).normal(0, 6, base.shape)).clip(0, 255).astype(np.uint8)


def loss(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.abs(one.astype(int) - two).mean())


@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_a_higher_rate_factor_loses_more(codec):
    view = picture()
    fine, usual, harsh = (recode_frame(view, codec, crf) for crf in (12, 28, 45))
    assert fine.shape == view.shape
    assert fine.dtype == np.uint8
    assert 0 < loss(fine, view) < loss(usual, view) < loss(harsh, view) < 40
    np.testing.assert_array_equal(usual, recode_frame(view, codec, 28))


@pytest.mark.parametrize("size", [(16, 16), (97, 131), (224, 224)])
def test_any_size_comes_back_as_it_went(size):
    view = picture(*size)
    assert recode_frame(view, "h264", 23).shape == view.shape
    assert loss(recode_frame(view, "h264", 10), view) < 8


def test_a_clip_keeps_its_frames_and_their_order():
    levels = (40, 120, 200)
    clip = np.stack([np.full((64, 64, 3), level, np.uint8) for level in levels])
    out = recode_clip(clip, "h264", 20)
    np.testing.assert_allclose(out.mean((1, 2, 3)), levels, atol=3)


def test_a_predicted_frame_is_not_an_intra_frame():
    view = picture()
    assert not np.array_equal(recode_frame(view, "h264", 30), recode_clip(view[None], "h264", 30)[0])


@pytest.mark.parametrize("format", ["jpeg", "webp", "avif"])
def test_stills_lose_more_at_lower_quality(format):
    view = picture()
    assert 0 < loss(recode_still(view, format, 95), view) < loss(recode_still(view, format, 20), view)


def test_versions_are_the_encoders_own_words():
    assert encoder_version("h264").startswith("libx264 core 1")
    assert encoder_version("h265").startswith("libx265 build ")


def test_an_absent_encoder_is_an_error_with_a_hint(monkeypatch):
    monkeypatch.setitem(recode.VIDEO_CODERS, "h264", ("no_such_encoder", "h264"))
    with pytest.raises(MissingDependencyError, match=r"no_such_encoder.*\n?hint: install PyAV"):
        recode_frame(picture(), "h264", 23)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((picture()[None], "vp8", 23), "no video coder"), ((picture()[None], "h264", 80), "crf"),
        ((picture()[None].astype(np.float32), "h264", 23), "float32"), ((picture(8, 8)[None], "h264", 23), "sides"),
        ((np.zeros((0, 32, 32, 3), np.uint8), "h264", 23), "pictures to code"),
    ],
    ids=["codec", "crf", "type", "small", "empty"],
)  # fmt: skip
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(MediaError, match=message):
        recode_clip(*arguments)
    with pytest.raises(MediaError, match="preset"):
        recode_clip(picture()[None], "h264", 23, preset="sloth")
