"""Scoring rules and curves of likelihood ratios."""

import numpy as np
import pytest

from deepassay.errors import ScoreError
from deepassay.metrics.calibration import (
    brier,
    calibration_loss,
    cllr,
    empirical_cross_entropy,
    expected_calibration_error,
    log_loss,
    min_cllr,
    pav_llr,
    posterior,
    reliability,
    tippett,
)


@pytest.fixture(scope="module")
def gaussian() -> tuple[np.ndarray, np.ndarray]:
    """Scores whose llr is known: N(-d/2, d) against N(d/2, d) in llr units."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [6000, 2000])
    return labels, rng.normal(size=8000) * 2.0 + np.where(labels == 1, 2.0, -2.0)


def test_true_ratios_are_calibrated(gaussian):
    labels, llr = gaussian
    assert calibration_loss(labels, llr) < 0.01
    assert calibration_loss(labels, 3 * llr) > 0.1
    assert min_cllr(labels, 3 * llr) == pytest.approx(min_cllr(labels, llr), abs=1e-12)
    balanced = np.where(labels == 1, 3.0, 1.0)
    assert expected_calibration_error(labels, llr, balanced) < 0.02
    assert expected_calibration_error(labels, llr) > 0.05  # class sizes matter to it, as its docstring says
    assert log_loss(labels, llr) == pytest.approx(np.log(2) * cllr(labels, llr), abs=1e-12)


def test_pav_gives_the_least_cllr(gaussian):
    labels, llr = gaussian
    best = pav_llr(labels, llr)
    assert cllr(labels, np.clip(best, -50, 50)) == pytest.approx(min_cllr(labels, llr), abs=1e-9)
    rising = best[np.argsort(llr)]
    assert (rising[1:] >= rising[:-1]).all()


def test_extreme_ratios_do_not_overflow():
    labels, llr = np.array([0, 0, 1, 1]), np.array([-1e4, -1e5, 1e4, 1e5])
    with np.errstate(over="raise"):
        assert cllr(labels, llr) == 0.0
        assert cllr(labels, -llr) == pytest.approx(55000 / np.log(2))
        assert posterior(llr).tolist() == [0.0, 0.0, 1.0, 1.0]
        assert brier(labels, llr) == 0.0


def test_reliability_bins_account_for_every_trial(gaussian):
    labels, llr = gaussian
    for scheme in ("equal_width", "equal_mass"):
        bins = reliability(labels, llr, scheme=scheme, bins=7)
        assert sum(b.weight for b in bins) == pytest.approx(labels.size)
        assert sum(b.weight * b.observed for b in bins) == pytest.approx(labels.sum())
        assert sum(b.weight * b.confidence for b in bins) == pytest.approx(posterior(llr).sum())
        assert all(b.low <= b.confidence <= b.high for b in bins)
    sizes = [b.weight for b in reliability(labels, llr, scheme="equal_mass", bins=7)]
    assert max(sizes) - min(sizes) <= 1 + 1e-9
    for wrong in ({"bins": 0}, {"scheme": "deciles"}):
        with pytest.raises(ScoreError, match="bins"):
            reliability(labels, llr, **wrong)


def test_edges_belong_to_the_bin_below():
    bins = reliability([0, 1], [0.0, 0.0], bins=2)  # probability one half, on the edge
    assert [(b.low, b.high, b.weight, b.observed) for b in bins] == [(0.0, 0.5, 2.0, 0.5)]


def test_tippett_shares():
    labels, llr = np.array([0, 0, 0, 1, 1]), np.array([-2.0, -1.0, 1.0, -0.5, 3.0])
    curve = tippett(labels, llr)
    assert curve["llr"].tolist() == [-2.0, -1.0, -0.5, 1.0, 3.0]
    assert curve["real"] == pytest.approx([1, 2 / 3, 1 / 3, 1 / 3, 0])
    assert curve["fake"] == pytest.approx([1, 1, 1, 0.5, 0.5])
    assert curve["misleading_real"][0] == pytest.approx(1 / 3)
    assert curve["misleading_fake"][0] == 0.5


def test_empirical_cross_entropy_at_even_odds_is_cllr(gaussian):
    labels, llr = gaussian
    curve = empirical_cross_entropy(labels, 2 * llr)
    middle = int(np.argmin(np.abs(curve["prior_log10_odds"])))
    assert curve["observed"][middle] == pytest.approx(cllr(labels, 2 * llr), abs=1e-12)
    assert curve["after_pav"][middle] == pytest.approx(min_cllr(labels, llr), abs=1e-9)
    assert curve["neutral"][middle] == pytest.approx(1.0)
    assert (curve["after_pav"] <= curve["observed"] + 1e-12).all()
    assert (curve["after_pav"] <= curve["neutral"] + 1e-12).all()


def test_prior_must_be_a_fraction():
    for function in (brier, log_loss):
        with pytest.raises(ScoreError, match="prior"):
            function([0, 1], [0.0, 1.0], prior=1.0)
