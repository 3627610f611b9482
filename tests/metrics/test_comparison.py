"""Paired comparisons: the pairing, the family, and exact tests against oracles."""

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as mcnemar_oracle
from statsmodels.stats.multitest import multipletests

from deepassay.errors import ScoreError
from deepassay.metrics.comparison import bootstrap_p, compare, holm, max_t, mcnemar, paired_bootstrap, paired_delong
from deepassay.metrics.intervals import cluster_bootstrap


def systems(k: int = 40, seed: int = 0):
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(k), 20)
    labels = np.tile(np.repeat([0, 1], 10), k)
    shared = rng.normal(size=k)[unit] + rng.normal(size=unit.size)
    good = shared + 2.0 * labels
    return labels, unit, good, good + 0.05 * rng.normal(size=unit.size), shared + 0.8 * labels


def test_pairing_narrows_the_difference():
    labels, unit, good, twin, poor = systems()
    close = paired_bootstrap("auc", labels, good, twin, unit)
    alone = cluster_bootstrap("auc", labels, good, unit)
    assert close.interval.width < 0.3 * alone.width
    far = paired_bootstrap("auc", labels, good, poor, unit)
    assert far.difference > 0.1
    assert far.interval.lo > 0
    assert far.p == pytest.approx(2 / 2001)
    same = paired_bootstrap("auc", labels, good, good, unit)
    assert (same.difference, same.p) == (0.0, 1.0)


def test_family_holds_every_test():
    labels, unit, good, twin, poor = systems()
    found = compare({"a": good, "b": twin, "c": poor}, labels, unit, ["auc", "eer"], replicates=300)
    assert [(d.first, d.second, d.metric) for d in found] == [
        (x, y, m) for x, y in (("a", "b"), ("a", "c"), ("b", "c")) for m in ("auc", "eer")
    ]
    assert {d.family for d in found} == {6}
    raw = np.array([d.p for d in found], dtype=float)
    assert [d.p_adjusted for d in found] == pytest.approx(holm(raw))
    declared = compare({"a": good, "b": twin, "c": poor}, labels, unit, ["auc"], pairs=[("a", "c")], replicates=50)
    assert len(declared) == 1
    with pytest.raises(ScoreError, match="no scores of"):
        compare({"a": good, "b": twin}, labels, unit, ["auc"], pairs=[("a", "z")])
    with pytest.raises(ScoreError, match="at least two systems"):
        compare({"a": good}, labels, unit, ["auc"])


def test_false_alarm_rate_of_the_paired_test():
    """Two systems of equal quality differ at 5 % in about 5 % of data sets."""
    hits = 0
    for seed in range(120):
        rng = np.random.default_rng(seed)
        unit = np.repeat(np.arange(40), 6)
        labels = np.tile([0, 0, 0, 1, 1, 1], 40)
        shared = rng.normal(size=40)[unit]
        a, b = (shared + rng.normal(size=240) + labels for _ in range(2))
        p = paired_bootstrap("auc", labels, a, b, unit, replicates=200, seed=seed).p
        hits += p is not None and p < 0.05
    assert 1 <= hits <= 15


def test_bootstrap_p():
    assert bootstrap_p(np.array([1.0] * 99)) == pytest.approx(0.02)
    assert bootstrap_p(np.array([np.nan])) is None
    assert bootstrap_p(np.zeros(10)) == 1.0


def test_mcnemar_and_holm_against_statsmodels():
    rng = np.random.default_rng(1)
    a, b = rng.random(500) < 0.8, rng.random(500) < 0.7
    found = mcnemar(a, b)
    table = np.array(found.table)
    assert table.sum() == 500
    assert found.p_exact == pytest.approx(mcnemar_oracle(table, exact=True).pvalue, abs=1e-12)
    assert found.p_mid < found.p_exact
    assert mcnemar([True, False], [True, False]).p_exact == 1.0
    p = rng.random(12) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    with pytest.raises(ScoreError, match="p-value"):
        holm([0.5, 1.5])
    with pytest.raises(ScoreError, match="shapes"):
        mcnemar([True], [True, False])


def test_paired_delong_of_equal_scores():
    labels, _, good, _, poor = systems()
    same = paired_delong(labels, good, good)
    assert (same.difference, same.p) == (0.0, 1.0)
    assert paired_delong(labels, good, poor).p < 1e-6
    assert paired_delong(labels, poor, good).z == pytest.approx(-paired_delong(labels, good, poor).z)


def test_max_t_is_between_raw_and_bonferroni():
    rng = np.random.default_rng(2)
    draws = rng.normal(size=(5000, 4)) @ np.linalg.cholesky(0.5 * np.eye(4) + 0.5)
    points = np.array([0.0, 1.5, 2.2, 3.5])
    adjusted = max_t(points, draws + points)
    raw = np.array([1.0, 0.134, 0.028, 0.0005])
    assert (adjusted >= raw - 0.005).all()
    assert (adjusted <= np.minimum(1.0, 4 * raw + 0.02)).all()
    assert (np.diff(adjusted) <= 0).all()
