"""Ranking metrics against scikit-learn and against geometry."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from deepassay.errors import ScoreError
from deepassay.metrics.ranking import (
    EER_DEFINITIONS,
    auc,
    average_precision,
    det_curve,
    eer,
    partial_auc,
    roc_convex_hull,
    roc_points,
    standardised_partial_auc,
)
from deepassay.metrics.trials import check_trials, tie_report


def cases():
    rng = np.random.default_rng(0)
    for digits in (0, 1, 8):
        for shift in (-1.0, 0.0, 2.0):
            labels = (rng.random(300) < 0.3).astype(int)
            yield labels, np.round(rng.normal(size=300) + shift * labels, digits), rng.integers(1, 4, 300).astype(float)


@pytest.mark.parametrize(("labels", "scores", "weights"), list(cases()))
def test_against_scikit_learn(labels, scores, weights):
    assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert auc(labels, scores, weights) == pytest.approx(
        roc_auc_score(labels, scores, sample_weight=weights), abs=1e-12
    )
    assert average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    for limit in (0.05, 0.1, 0.5):
        want = roc_auc_score(labels, scores, max_fpr=limit)
        assert standardised_partial_auc(labels, scores, max_fpr=limit) == pytest.approx(want, abs=1e-12)
    fpr, tpr, thresholds = roc_points(labels, scores)
    want_fpr, want_tpr, want_thresholds = roc_curve(labels, scores, drop_intermediate=False)
    assert fpr == pytest.approx(want_fpr)
    assert tpr == pytest.approx(want_tpr)
    assert thresholds == pytest.approx(want_thresholds)


def test_partial_auc_is_the_integral():
    labels, scores, _ = next(iter(cases()))
    fpr, tpr, _ = roc_points(labels, scores)
    grid = np.linspace(0, 0.2, 200_001)
    assert partial_auc(labels, scores, max_fpr=0.2) == pytest.approx(
        np.trapezoid(np.interp(grid, fpr, tpr), grid), abs=1e-4
    )
    assert partial_auc(labels, scores, max_fpr=1.0) == pytest.approx(auc(labels, scores), abs=1e-12)
    with pytest.raises(ScoreError, match="max_fpr"):
        partial_auc(labels, scores, max_fpr=0.0)


def test_det_points_are_achievable_rates():
    labels, scores, _ = list(cases())[1]
    fpr, fnr, thresholds = det_curve(labels, scores)
    for a, b, t in zip(fpr, fnr, thresholds, strict=True):
        assert a == pytest.approx((scores[labels == 0] >= t).mean())
        assert b == pytest.approx((scores[labels == 1] < t).mean())
    assert (fpr[0], fnr[0], thresholds[0]) == (0.0, 1.0, np.inf)
    assert (fpr[-1], fnr[-1]) == (1.0, 0.0)


def test_hull_lies_below_the_curve_and_is_convex():
    labels, scores, _ = list(cases())[2]
    fpr, fnr, _ = det_curve(labels, scores)
    x, y, _ = roc_convex_hull(labels, scores)
    assert (np.interp(fpr, x, y) <= fnr + 1e-12).all()
    slope = np.diff(y) / np.maximum(np.diff(x), 1e-12)
    assert (np.diff(slope) >= -1e-9).all()
    assert eer(labels, scores, "E4") <= eer(labels, scores, "E3") + 1e-12


def test_definitions_agree_on_a_concave_curve_through_a_crossing_point():
    labels, scores = np.repeat([0, 1], 4), np.array([0.1, 0.2, 0.3, 0.6, 0.5, 0.7, 0.8, 0.9])
    assert {eer(labels, scores, d) for d in EER_DEFINITIONS if d != "E4"} == {0.25}
    assert eer(labels, scores, "E4") == pytest.approx(0.125)  # the hull cuts the corner
    with pytest.raises(ScoreError, match="no EER definition 'E6'"):
        eer(labels, scores, "E6")
    with pytest.raises(ScoreError, match="whole numbers"):
        eer(labels, scores, "E1", np.full(8, 0.5))


def test_average_precision_at_another_prevalence():
    """On constant scores, AP is the prevalence; stating it makes sets comparable."""
    labels = np.repeat([0, 1], [90, 10])
    assert average_precision(labels, np.zeros(100)) == pytest.approx(0.1)
    assert average_precision(labels, np.zeros(100), prevalence=0.5) == pytest.approx(0.5)
    with pytest.raises(ScoreError, match="prevalence"):
        average_precision(labels, np.zeros(100), prevalence=1.5)


def test_what_the_door_refuses():
    with pytest.raises(ScoreError, match="no fake trial"):
        check_trials([0, 0], [1.0, 2.0])
    with pytest.raises(ScoreError, match="NaN or infinite"):
        check_trials([0, 1], [1.0, None])
    with pytest.raises(ScoreError, match="not a number"):
        check_trials([0, 1], ["a", "b"])
    with pytest.raises(ScoreError, match="weights"):
        check_trials([0, 1], [1.0, 2.0], [1.0, -1.0])
    with pytest.raises(ScoreError, match="no real trial"):
        check_trials([0, 1], [1.0, 2.0], [0.0, 1.0])
    labels, scores, weights = check_trials([False, True], [1, 2])
    assert (labels.dtype, scores.dtype, weights.sum()) == (np.int8, np.float64, 2.0)


def test_tie_report():
    told = tie_report([0, 0, 1, 1], [0.0, 1.0, 1.0, 1.0])
    assert told == {"cross_class_tied_pairs": 0.5, "distinct": 0.5, "at_minimum": 0.25, "at_maximum": 0.75}
