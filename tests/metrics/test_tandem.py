"""Joint metrics: what they refuse, and limits that are known by hand."""

import numpy as np
import pytest

from deepassay.errors import ScoreError
from deepassay.metrics.tandem import (
    AsvRates,
    TandemCost,
    a_dcf,
    asv_rates_at_eer,
    min_tdcf,
    sasv_eer,
    t_eer,
    tdcf_weights,
)

LABELS = np.array([0, 0, 0, 0, 1, 1])
TARGET = np.array([True, True, False, False, False, False])


def test_perfect_systems():
    scores = np.array([-2.0, -1.0, 1.0, 2.0, 3.0, 4.0])  # grow with reject
    assert a_dcf(LABELS, scores, target=TARGET) == 0.0
    assert sasv_eer(LABELS, scores, target=TARGET) == 0.0
    detector = np.array([-1.0, -2.0, -1.5, -3.0, 1.0, 2.0])
    similarity = np.array([5.0, 6.0, -5.0, -6.0, 4.0, 4.5])
    assert t_eer(LABELS, detector, target=TARGET, asv_scores=similarity) == 0.0


def test_perfect_detector_leaves_the_verifier_s_own_cost():
    rates = AsvRates(miss=0.1, false_alarm=0.1, false_alarm_spoof=0.5)
    labels, scores = np.array([0, 0, 1, 1]), np.array([0.0, 0.1, 1.0, 1.1])
    c0, c1, c2 = tdcf_weights(rates)
    assert min_tdcf(labels, scores, asv=rates) == pytest.approx(c0 / (c0 + min(c1, c2)))
    assert min_tdcf(labels, scores, asv=rates, version="2019") == 0.0


def test_useless_detector_costs_one():
    rates = AsvRates(miss=0.1, false_alarm=0.1, false_alarm_spoof=0.5)
    for version in ("2019", "2021"):
        assert min_tdcf(np.array([0, 1]), np.array([0.0, 0.0]), asv=rates, version=version) == pytest.approx(1.0)


def test_refusals():
    with pytest.raises(ScoreError, match="ASV rate miss"):
        AsvRates(miss=1.2, false_alarm=0.1, false_alarm_spoof=0.5)
    with pytest.raises(ScoreError, match="priors"):
        TandemCost(spoof_prior=0.5)
    with pytest.raises(ScoreError, match="not above 0"):
        TandemCost(miss=0.0)
    with pytest.raises(ScoreError, match="version '2020'"):
        tdcf_weights(AsvRates(miss=0.1, false_alarm=0.1, false_alarm_spoof=0.5), version="2020")
    with pytest.raises(ScoreError, match="must be above 0"):
        tdcf_weights(AsvRates(miss=0.1, false_alarm=0.1, false_alarm_spoof=0.0))
    with pytest.raises(ScoreError, match="no non-target trial"):
        a_dcf(LABELS, np.arange(6.0), target=LABELS == 0)
    with pytest.raises(ScoreError, match="no joint EER against 'all'"):
        sasv_eer(LABELS, np.arange(6.0), target=TARGET, against="all")
    with pytest.raises(ScoreError, match="empty"):
        asv_rates_at_eer([1.0], [], [0.0])
    with pytest.raises(ScoreError, match="asv scores are NaN"):
        t_eer(LABELS, np.arange(6.0), target=TARGET, asv_scores=np.full(6, np.nan))
