"""Recipes: who learns at which rate, what is decayed, how the rate moves."""

import pytest

from deepassay.errors import ConfigError
from deepassay.models.lcnn import LCNN
from deepassay.models.timm_detector import TimmDetector
from deepassay.training.optimizers import SGD, AdamW


def test_schedule_rises_and_falls():
    recipe = AdamW(warm_up=0.1, final=0.01)
    values = [recipe.factor(step, 100) for step in range(101)]
    assert values[:10] == sorted(values[:10])
    assert values[0] < 0.2
    assert max(values) == pytest.approx(1)
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[-1] == pytest.approx(0.01)
    assert {AdamW(schedule="constant", warm_up=0).factor(step, 100) for step in range(100)} == {1.0}


def test_groups_cover_every_parameter_once():
    detector = TimmDetector(backbone="mobilenetv3_small_050", size=32)
    optimizer = AdamW(lr=1e-3, head_factor=10, weight_decay=0.1).build(detector)
    ids = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(ids) == sorted(id(p) for p in detector.parameters())
    head = {id(p) for p in detector.head_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["lr"] == pytest.approx(1e-2 if id(parameter) in head else 1e-3)
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0)


def test_a_detector_without_pretrained_body_learns_at_one_rate():
    assert {group["lr"] for group in SGD(lr=0.5, head_factor=10).build(LCNN(width=0.25)).param_groups} == {0.5}


@pytest.mark.parametrize("wrong", [{"lr": 0}, {"warm_up": 1}, {"schedule": "step"}, {"final": 2}], ids=str)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        AdamW(**wrong)
