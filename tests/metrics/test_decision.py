"""Error rates at thresholds, achievable points, costs and non-responses."""

import numpy as np
import pytest

from deepassay.errors import ScoreError
from deepassay.metrics.decision import (
    ASVSPOOF5_COST,
    DetectionCost,
    apcer,
    apcer_by_generator,
    bpcer,
    bpcer_at_apcer,
    min_dcf,
    nonresponse_counts,
    threshold_at_bpcer,
    tpr_at_fpr,
    worst_apcer,
    worst_case_scores,
)

LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
SCORES = np.array([0.1, 0.2, 0.3, 0.8, 0.4, 0.8, 0.9, 0.2])
NAMES = ["", None, "", "", "swap", "swap", "blend", "blend"]


def test_threshold_itself_is_flagged():
    assert bpcer(LABELS, SCORES, 0.8) == 0.25
    assert bpcer(LABELS, SCORES, np.nextafter(0.8, 1)) == 0.0
    assert apcer(LABELS, SCORES, 0.8) == 0.5
    assert bpcer([0, 0], [1.0, 2.0], 1.5) == 0.5  # one class is enough for its own rate
    with pytest.raises(ScoreError, match="no fake trial"):
        apcer([0, 0], [1.0, 2.0], 1.5)


def test_apcer_is_the_worst_generator():
    assert apcer_by_generator(LABELS, SCORES, NAMES, 0.5) == {"blend": (1, 2), "swap": (1, 2)}
    assert apcer_by_generator(LABELS, SCORES, NAMES, 0.85) == {"blend": (1, 2), "swap": (2, 2)}
    assert worst_apcer(LABELS, SCORES, 0.85, NAMES) == 1.0
    assert apcer(LABELS, SCORES, 0.85) == 0.75
    weights = [1, 1, 1, 1, 0, 0, 1, 3]
    assert worst_apcer(LABELS, SCORES, 0.85, NAMES, weights) == 0.75  # an absent generator cannot be the worst
    with pytest.raises(ScoreError, match="generator names"):
        apcer_by_generator(LABELS, SCORES, ["a"], 0.5)


@pytest.mark.parametrize("target", [0.0, 0.01, 0.05, 0.25, 0.5, 0.9])
def test_threshold_at_bpcer_is_the_smallest_real_score_that_keeps_the_promise(target):
    rng = np.random.default_rng(0)
    labels, scores = (rng.random(400) < 0.5).astype(int), np.round(rng.normal(size=400), 1)
    at = threshold_at_bpcer(labels, scores, target)
    assert bpcer(labels, scores, at) <= target
    real = np.unique(scores[labels == 0])
    below = real[real < at]
    assert below.size == 0 or bpcer(labels, scores, below[-1]) > target
    assert threshold_at_bpcer(labels, scores, target) == threshold_at_bpcer(
        labels[labels == 0], scores[labels == 0], target
    )


def test_threshold_at_bpcer_refuses_targets():
    for target in (-0.1, 1.0):
        with pytest.raises(ScoreError, match="target"):
            threshold_at_bpcer(LABELS, SCORES, target)


def test_rates_at_a_target_are_not_interpolated():
    assert tpr_at_fpr(LABELS, SCORES, target=0.24) == 0.25
    assert tpr_at_fpr(LABELS, SCORES, target=0.25) == 0.75
    assert bpcer_at_apcer(LABELS, SCORES, target=0.5) == 0.25
    assert bpcer_at_apcer(LABELS, SCORES, target=0.49) == 0.25
    assert bpcer_at_apcer(LABELS, SCORES, target=0.0) == 0.75
    # For each generator the bound must hold, not only on average.
    assert bpcer_at_apcer(LABELS, SCORES, target=0.25, generators=NAMES) == 0.75
    assert bpcer_at_apcer(LABELS, SCORES, target=0.25) == 0.25


def test_asvspoof5_cost_model():
    assert ASVSPOOF5_COST.threshold == pytest.approx(0.64185, abs=5e-6)  # -0.64185 where scores grow with bona fide
    assert (ASVSPOOF5_COST.real_term, ASVSPOOF5_COST.fake_term) == (0.95, 0.5)
    free = DetectionCost(fake_prior=0.5, false_alarm=1, missed_fake=1)
    assert min_dcf(LABELS, SCORES, cost=free) == pytest.approx(0.5)
    for wrong in ({"fake_prior": 0.0}, {"fake_prior": 1.0}, {"missed_fake": 0.0}):
        with pytest.raises(ScoreError, match="cost model"):
            DetectionCost(**wrong)


def test_non_responses_count_as_errors_on_both_sides():
    answered = np.array([True, False, True, True, True, True, False, True])
    assert nonresponse_counts(LABELS, answered) == {"real": (1, 4), "fake": (1, 4)}
    given = np.where(answered, SCORES, np.nan)
    filled = worst_case_scores(LABELS, given, answered, thresholds=[-5.0, 5.0])
    assert np.isfinite(filled).all()
    assert filled[answered] == pytest.approx(SCORES[answered])
    for threshold in (-5.0, 0.5, 5.0):
        flagged = filled >= threshold
        assert flagged[1], "a real trial without a score is a false alarm at every threshold"
        assert not flagged[6], "a fake without a score is missed at every threshold"
    with pytest.raises(ScoreError, match="no trial has a score"):
        worst_case_scores(LABELS, SCORES, np.zeros(8, bool))
