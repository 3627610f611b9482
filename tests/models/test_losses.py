"""Losses against their formulas, and in the direction that the law of polarity asks for."""

import math

import pytest
import torch
from torch.nn import functional as F

from deepassay.errors import ConfigError
from deepassay.models.detector import DetectorOutput
from deepassay.models.losses import FocalLoss, MaskedBCE, WeightedBCE, soft_dice

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


MAPS = torch.stack([torch.full((4, 4), -3.0), torch.full((4, 4), 2.0), torch.zeros(4, 4), torch.ones(4, 4)])


def masks() -> torch.Tensor:
    """A real view (zeros), two fakes with masks of twice the map's size, and one view whose mask is not known."""
    out = torch.zeros(4, 8, 8)
    out[1, :, :4] = 1
    out[2, :2, :2] = 0.5
    out[3] = float("nan")
    return out


def test_masked_bce_is_bce_plus_the_maps_loss_over_known_masks():
    output, plain = DetectorOutput(LOGIT, {"mask": MAPS}), WeightedBCE()(DetectorOutput(LOGIT), LABEL)
    small = F.avg_pool2d(masks()[:3], 2)
    pixels = F.binary_cross_entropy_with_logits(MAPS[:3], small)
    torch.testing.assert_close(MaskedBCE(mask_weight=0.5)(output, LABEL, mask=masks()), plain + 0.5 * pixels)
    torch.testing.assert_close(
        MaskedBCE(mask_loss="both")(output, LABEL, mask=masks()), plain + pixels + soft_dice(MAPS[:3], small)
    )
    negative = masks().nan_to_num(-1.0)  # the other way to say unknown
    torch.testing.assert_close(MaskedBCE()(output, LABEL, mask=negative), MaskedBCE()(output, LABEL, mask=masks()))


def test_masked_bce_without_known_masks_is_bce():
    output, plain = DetectorOutput(LOGIT, {"mask": MAPS}), WeightedBCE()(DetectorOutput(LOGIT), LABEL)
    torch.testing.assert_close(MaskedBCE()(output, LABEL), plain)
    unknown = torch.full((4, 8, 8), float("nan"))
    torch.testing.assert_close(MaskedBCE()(output, LABEL, mask=unknown), plain)
    with pytest.raises(ConfigError, match="no mask head"):
        MaskedBCE()(DetectorOutput(LOGIT), LABEL, mask=masks())


def test_maps_move_towards_their_masks_and_unknown_ones_stay():
    for kind in ("bce", "dice", "both"):
        maps = torch.zeros(4, 8, 8, requires_grad=True)
        MaskedBCE(mask_loss=kind)(DetectorOutput(LOGIT, {"mask": maps}), LABEL, mask=masks()).backward()
        assert maps.grad is not None
        assert (maps.grad[1, :, :4] < 0).all(), "descent raises the map where the mask is"
        assert (maps.grad[1, :, 4:] > 0).all()
        assert not maps.grad[3].any()
        assert torch.isfinite(maps.grad).all()


def test_dice_is_zero_for_a_perfect_map_and_leaves_empty_masks_out():
    wanted = torch.zeros(2, 4, 4)
    wanted[0, :2] = 1
    assert soft_dice(40 * (wanted - 0.5), wanted).item() == pytest.approx(0, abs=1e-6)
    assert soft_dice(-40 * (wanted - 0.5), wanted).item() == pytest.approx(1, abs=1e-6)
    assert soft_dice(torch.ones(1, 4, 4), torch.zeros(1, 4, 4)).item() == 0


@pytest.mark.parametrize("wrong", [{"mask_weight": 0}, {"mask_loss": "iou"}], ids=str)
def test_wrong_mask_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        MaskedBCE(**wrong)
