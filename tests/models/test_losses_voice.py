"""One-class and margin losses against their formulas, and the one logit that their detectors give."""

import math

import pytest
import torch

from deepassay.errors import ConfigError
from deepassay.models.detector import DetectorOutput
from deepassay.models.lcnn import LCNN
from deepassay.models.losses import WeightedBCE
from deepassay.models.losses_voice import AdditiveMarginSoftmax, OneClassSoftmax
from deepassay.models.voice_heads import CentreHead, LogitHead, make_head

LABEL = torch.tensor([0, 1, 1, 0])


def on(*rows: list[float]) -> DetectorOutput:
    return DetectorOutput(torch.zeros(len(rows)), {"cosines": torch.tensor(rows)})


def test_one_class_softmax_is_equation_4():
    cosines = [0.95, 0.1, 0.6, -0.3]
    expected = [
        math.log1p(math.exp(20 * ((0.2 if y else 0.9) - c) * (-1) ** y))
        for c, y in zip(cosines, LABEL.tolist(), strict=True)
    ]
    loss = OneClassSoftmax()(on(*[[c] for c in cosines]), LABEL)
    assert loss.item() == pytest.approx(sum(expected) / 4, rel=1e-5)
    weighted = OneClassSoftmax(real_weight=3)(on(*[[c] for c in cosines]), LABEL)
    assert weighted.item() == pytest.approx((3 * expected[0] + expected[1] + expected[2] + 3 * expected[3]) / 8)


def test_additive_margin_softmax_is_equation_5():
    cosines = torch.tensor([[0.9, -0.2], [0.4, 0.5], [0.1, 0.8], [-0.6, 0.3]])
    shifted = 20 * (cosines - 0.9 * torch.nn.functional.one_hot(LABEL, 2))
    expected = torch.nn.functional.cross_entropy(shifted, LABEL)
    torch.testing.assert_close(AdditiveMarginSoftmax()(on(*cosines.tolist()), LABEL), expected)


@pytest.mark.parametrize(
    ("kind", "loss"), [("one_class", OneClassSoftmax(alpha=1)), ("margin", AdditiveMarginSoftmax(scale=1))]
)
def test_descent_on_the_loss_raises_the_logit_of_fakes_and_lowers_that_of_real_ones(kind, loss):
    torch.manual_seed(0)
    head = CentreHead(8, kind=kind)
    features = torch.randn(4, 8, requires_grad=True)
    logit, more = head.score(features)
    loss(DetectorOutput(logit, more), LABEL).backward()
    with torch.no_grad():
        moved, _ = head.score(features - 0.01 * features.grad)
    assert ((moved - logit)[LABEL == 1] > 0).all()
    assert ((moved - logit)[LABEL == 0] < 0).all()


def test_swapped_labels_would_show():
    easy = on([0.95], [-0.5], [-0.5], [0.95])
    assert OneClassSoftmax()(easy, LABEL) < 1 < OneClassSoftmax()(easy, 1 - LABEL)


def test_zero_logit_lies_between_the_margins():
    head = CentreHead(4, kind="one_class")
    with torch.no_grad():
        head.centres.copy_(torch.tensor([[2.0, 0, 0, 0]]))
    at = torch.tensor([[0.55, math.sqrt(1 - 0.55**2), 0, 0], [1.0, 0, 0, 0], [-3.0, 0, 0, 0], [0, 0, 0, 0.0]])
    logit, more = head.score(at)
    assert logit.tolist() == pytest.approx([0, -9, 31, 11], abs=1e-4)  # silence has no direction: cosine 0
    assert more["cosines"][:, 0].tolist() == pytest.approx([0.55, 1, -1, 0], abs=1e-5)


def test_a_loss_without_its_centres_says_what_to_set():
    views = torch.randn(4, 8000) * 0.1
    plain, one = LCNN(width=0.125), LCNN(width=0.125, head="one_class")
    with pytest.raises(ConfigError, match="head=one_class"):
        OneClassSoftmax()(plain(views), LABEL)
    with pytest.raises(ConfigError, match="head=margin"):
        AdditiveMarginSoftmax()(one(views), LABEL)
    assert torch.isfinite(WeightedBCE()(one(views), LABEL))  # the logit is a logit all the same


def test_centres_belong_to_the_detector_and_travel_with_its_weights():
    one = LCNN(width=0.125, head="margin")
    assert [n for n, _ in one.named_parameters() if "centres" in n] == ["classifier.centres"]
    assert not list(AdditiveMarginSoftmax().parameters())
    assert isinstance(make_head("linear", 3), LogitHead)


@pytest.mark.parametrize(
    ("loss", "wrong"),
    [
        (OneClassSoftmax, {"alpha": 0}), (OneClassSoftmax, {"real_margin": 0.1}), (OneClassSoftmax, {"fake_weight": 0}),
        (AdditiveMarginSoftmax, {"scale": -1}), (AdditiveMarginSoftmax, {"margin": 2}),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_settings_are_refused(loss, wrong):
    with pytest.raises(ConfigError):
        loss(**wrong)
    with pytest.raises(ConfigError):
        CentreHead(4, kind="linear")
