"""Subgroup rates, and when a gap or ratio is withheld."""

import numpy as np
import pytest

from deepassay.errors import ScoreError
from deepassay.metrics.subgroups import disparity, fairness_discrepancy_rate, gap, garbe, gini, group_rates, ratio


def test_rates_of_groups_at_one_threshold():
    labels = np.array([0, 0, 0, 0, 1, 1])
    scores = np.array([0.1, 0.9, 0.2, 0.3, 0.4, 0.8])
    groups = ["x", "x", "y", "y", "x", "y"]
    alarms = group_rates(labels, scores, groups, 0.5, clusters=list("abcdef"))
    assert {g: (r.k, r.n, r.n_clusters) for g, r in alarms.items()} == {"x": (1, 2, 2), "y": (0, 2, 2)}
    misses = group_rates(labels, scores, groups, 0.5, kind="apcer")
    assert {g: r.rate for g, r in misses.items()} == {"x": 1.0, "y": 0.0}
    with pytest.raises(ScoreError, match="bpcer or apcer"):
        group_rates(labels, scores, groups, 0.5, kind="far")
    with pytest.raises(ScoreError, match="has no group"):
        group_rates(labels, scores, ["x", "x", "", "y", "x", "y"], 0.5)


def _many(k_x: int, k_y: int, n: int, persons: int):
    labels = np.zeros(2 * n, int)
    scores = np.concatenate([np.arange(n) < k_x, np.arange(n) < k_y]).astype(float)
    clusters = np.concatenate([np.arange(n) % persons, 1000 + np.arange(n) % persons])
    return group_rates(labels, scores, np.repeat(["x", "y"], n), 0.5, clusters=clusters)


def test_ratio_needs_thirty_expected_errors_in_every_group():
    enough = disparity(_many(40, 80, 1000, 50))
    assert enough.ratio == pytest.approx(2.0)
    assert enough.gap == pytest.approx(0.04)
    assert (enough.worst, enough.reasons) == ("y", ())
    thin = disparity(_many(10, 40, 1000, 50))
    assert thin.ratio is None
    assert thin.gap == pytest.approx(0.03)


def test_small_cells_are_suppressed():
    told = disparity(_many(40, 80, 1000, 4))
    assert (told.gap, told.ratio) == (None, None)
    assert "fewer than 5 clusters" in " ".join(told.reasons)


def test_edges():
    assert gini([0.1, 0.1, 0.1]) == 0.0
    assert gini([0.0, 0.0, 1.0]) == pytest.approx(1.0)
    assert gini([0.0, 0.0]) == 0.0
    assert ratio([0.0, 0.1]) == np.inf
    assert np.isnan(ratio([0.0, 0.0]))
    assert garbe([0.1, 0.1], [0.0, 1.0], alpha=0.25) == pytest.approx(0.75)
    # Tiny rates: a fivefold disparity leaves FDR at 0.998.
    assert fairness_discrepancy_rate([0.001, 0.005], [0.001, 0.001]) == pytest.approx(0.998)
    assert gap({"a": 0.2, "b": 0.5}) == pytest.approx(0.3)
    with pytest.raises(ScoreError, match="at least two groups"):
        gap([0.1])
    with pytest.raises(ScoreError, match="at least two groups"):
        disparity({})
