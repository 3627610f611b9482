"""Losses against their formulas, and in the direction that the law of polarity asks for."""

import math

import pytest
import torch
from torch.nn import functional as F

from deepassay.errors import ConfigError
from deepassay.models.detector import DetectorOutput
from deepassay.models.losses import FocalLoss, WeightedBCE

LOGIT = torch.tensor([-2.0, 0.5, 3.0, -0.1])
LABEL = torch.tensor([0, 1, 1, 0])


def test_bce_equals_torchs_and_weights_count():
    plain = WeightedBCE()(DetectorOutput(LOGIT), LABEL)
    torch.testing.assert_close(plain, F.binary_cross_entropy_with_logits(LOGIT, LABEL.float()))
    each = F.binary_cross_entropy_with_logits(LOGIT, LABEL.float(), reduction="none")
    weighted = WeightedBCE(fake_weight=3)(DetectorOutput(LOGIT), LABEL)
    torch.testing.assert_close(weighted, (each * torch.tensor([1.0, 3, 3, 1])).sum() / 8)


def test_higher_logits_suit_fakes():
    logit = torch.zeros(2, requires_grad=True)
    WeightedBCE()(DetectorOutput(logit), torch.tensor([0, 1])).backward()
    assert logit.grad is not None
    assert logit.grad[0] > 0 > logit.grad[1]  # descent lowers the real one's logit and raises the fake one's


def test_label_smoothing_ends_at_a_finite_logit():
    best = math.log(0.95 / 0.05)
    loss = WeightedBCE(label_smoothing=0.1)
    values = [loss(DetectorOutput(torch.tensor([v])), torch.tensor([1])).item() for v in (best - 0.1, best, best + 0.1)]
    assert values[1] < min(values[0], values[2])


def test_focal_is_bce_at_gamma_zero_and_turns_easy_views_down():
    torch.testing.assert_close(
        FocalLoss(gamma=0)(DetectorOutput(LOGIT), LABEL), WeightedBCE()(DetectorOutput(LOGIT), LABEL)
    )
    easy, hard = torch.tensor([4.0]), torch.tensor([-1.0])
    one = torch.tensor([1])
    focal, plain = FocalLoss(gamma=2), WeightedBCE()
    ratio = [(focal(DetectorOutput(v), one) / plain(DetectorOutput(v), one)).item() for v in (easy, hard)]
    p = torch.sigmoid(torch.cat([easy, hard]))
    assert ratio == pytest.approx(((1 - p) ** 2).tolist(), rel=1e-4)


@pytest.mark.parametrize("wrong", [{"fake_weight": 0}, {"label_smoothing": 1.0}, {"gamma": -1}], ids=str)
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        FocalLoss(**wrong)
