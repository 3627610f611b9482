"""Ladders: every step changes the picture, harsher steps change it more, and nothing but the arguments decides."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from deepassay.errors import ConfigError
from deepassay.media.processing import (
    PICTURE_LADDERS,
    gamma_curve,
    grained,
    ladder_facts,
    launder,
    parse_step,
    resize_chain,
    unsharp,
)


def picture(height: int = 96, width: int = 112, seed: int = 0) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    base = np.stack([120 + 60 * np.sin(x / 7), 110 + 50 * np.cos(y / 9), 100 + 40 * np.sin((x + y) / 5)], axis=-1)
    return (base + np.random.default_rng(seed).normal(0, 6, base.shape)).clip(0, 255).astype(np.uint8)


def change(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.square(one.astype(np.float64) - two).mean())


@pytest.mark.parametrize("name", sorted(PICTURE_LADDERS))
def test_a_ladder_climbs(name):
    ladder, view = PICTURE_LADDERS[name], picture()
    before = view.copy()
    view.setflags(write=False)
    assert len(ladder.strengths) >= 3
    out = [launder(view, name, strength) for strength in ladder.strengths]
    for step in out:
        assert step.shape == view.shape
        assert step.dtype == np.uint8
    changes = [change(step, view) for step in out]
    assert changes[0] > 0
    assert changes == sorted(changes)
    assert changes[-1] > 1.2 * changes[0]
    np.testing.assert_array_equal(view, before)


@pytest.mark.parametrize("name", sorted(PICTURE_LADDERS))
def test_a_step_is_a_pure_function(name):
    strength = PICTURE_LADDERS[name].strengths[1]
    np.random.seed(1)  # noqa: NPY002
    one = launder(picture(), name, strength)
    np.random.seed(2)  # noqa: NPY002
    np.testing.assert_array_equal(one, launder(picture(), name, strength))
    odd = launder(picture(67, 51), name, strength)
    assert odd.shape == (67, 51, 3)


@pytest.mark.parametrize("name", sorted(PICTURE_LADDERS))
def test_what_training_may_draw_can_be_applied(name):
    ladder = PICTURE_LADDERS[name]
    for strength in np.linspace(*ladder.span, 5):
        assert launder(picture(48, 48), name, strength).shape == (48, 48, 3)


def test_a_step_is_the_same_whatever_the_label():
    # Laundering sees a picture, a name and a strength: there is no place for a label.
    import inspect

    assert list(inspect.signature(launder).parameters) == ["picture", "name", "strength"]


def test_what_the_words_say():
    view = picture()
    detail = lambda p: np.abs(np.diff(p.astype(float), axis=1)).mean()  # noqa: E731
    assert detail(resize_chain(view, 0.4)) < 0.8 * detail(view)
    assert detail(unsharp(view, 1.2, 1.0)) > 1.2 * detail(view)
    assert gamma_curve(view, 2.0).mean() < view.mean() < gamma_curve(view, 0.5).mean()
    np.testing.assert_array_equal(gamma_curve(view, 1.0), view)
    added = grained(np.full((200, 200, 3), 128, np.uint8), 8.0).astype(float) - 128
    assert added.std() == pytest.approx(8, rel=0.05)
    assert not np.array_equal(
        grained(picture(seed=1), 5) - picture(seed=1), grained(picture(seed=2), 5) - picture(seed=2)
    )


def test_steps_have_names_and_records():
    assert PICTURE_LADDERS["jpeg"].steps[0] == "jpeg@90"
    assert parse_step("resize@0.5") == ("resize", 0.5)
    facts = ladder_facts("h264")
    assert facts["coder"].startswith("libx264 core")
    assert ladder_facts("social")["coder"].startswith("Pillow ")


@pytest.mark.parametrize(
    "call",
    [
        lambda: launder(picture(), "jpeg", 0), lambda: launder(picture(), "fax", 1), lambda: parse_step("jpeg@soft"),
        lambda: parse_step("fax@1"), lambda: launder(picture(), "resize", 1.5),
    ],
)  # fmt: skip
def test_unknown_steps_are_refused(call):
    with pytest.raises(ConfigError, match=r"ladder|strength"):
        call()


def test_ladders_need_no_torch():
    code = "import sys, deepassay.media.processing; sys.exit('torch' in sys.modules)"
    src = str(Path(__file__).resolve().parents[2] / "src")
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": src}, check=False).returncode == 0
