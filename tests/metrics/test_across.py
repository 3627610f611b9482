"""Macro means over left-out groups: values by hand, paired differences, shared clusters, and correlations."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from deepassay.errors import ScoreError
from deepassay.metrics.across import Part, across
from deepassay.metrics.association import Stratum, rank_correlation, separation, spearman
from deepassay.metrics.ranking import auc


def world(seed=0, n=120, shift=1.0, name="a", clusters=40):
    rng = np.random.default_rng(seed)
    y = (np.arange(n) % 3 == 0).astype(int)
    unit = np.array([f"{name}{i}" for i in rng.integers(0, clusters, n)], dtype=object)
    good = y * shift + rng.normal(size=n)
    return y, unit, good, rng.normal(size=n)


def test_macro_is_the_mean_of_parts_and_seeds_are_averaged():
    parts, by_hand = [], []
    for k, name in enumerate("ab"):
        y, unit, good, bad = world(k, name=name)
        parts.append(Part(name, y, unit, {"two": [good, bad], "one": [good]}))
        by_hand.append((auc(y, good) + auc(y, bad)) / 2)
    made = across(parts, ["auc", ("tpr_at_fpr_1", {"target": 0.1})], replicates=50)
    assert made.macro("two", "auc")[0] == pytest.approx(np.mean(by_hand))
    assert made.part("one", "a", "auc")[0] == pytest.approx(auc(parts[0].labels, parts[0].scores["one"][0]))
    assert made.metrics == ("auc", "tpr_at_fpr_10")
    assert all(part.powered for part in parts)


def test_a_system_never_differs_from_itself_and_a_better_one_does():
    parts = []
    for k, name in enumerate("ab"):
        y, unit, good, bad = world(k, n=400, shift=2.0, name=name)
        parts.append(Part(name, y, unit, {"good": [good], "same": [good], "bad": [bad]}))
    made = across(parts, ["auc"], replicates=300)
    same, interval, _ = made.difference("good", "same", "auc")
    assert same == 0
    assert interval.lo == interval.hi == 0
    better, interval, p = made.difference("good", "bad", "auc")
    assert better > 0.2
    assert interval.lo > 0
    assert p is not None
    assert p < 0.05


def test_a_cluster_in_two_parts_is_drawn_together():
    y, unit, good, _ = world(n=200, clusters=30)
    parts = [Part(name, y, unit, {"s": [good]}) for name in ("a", "b")]
    made = across(parts, ["auc"], replicates=40)
    np.testing.assert_array_equal(made.values[:, 0, 0], made.values[:, 0, 1])
    assert made.n_clusters == len(set(unit))


def test_few_clusters_are_told():
    y, unit, good, _ = world(clusters=5)
    assert not Part("a", y, unit, {"s": [good]}).powered
    made = across([Part("a", y, unit, {"s": [good]})], ["auc"], replicates=20)
    assert not made.part("s", "a", "auc")[1].reliable


def test_parts_with_other_systems_are_refused():
    y, unit, good, bad = world()
    with pytest.raises(ScoreError, match="different systems"):
        across([Part("a", y, unit, {"s": [good]}), Part("b", y, unit, {"t": [bad]})], ["auc"])


def test_spearman_is_scipys_and_weights_repeat_trials():
    rng = np.random.default_rng(3)
    x = rng.integers(0, 8, 60).astype(float)
    y = x + rng.normal(size=60)
    assert spearman(x, y) == pytest.approx(spearmanr(x, y).statistic)
    times = rng.integers(0, 4, 60)
    repeated = spearmanr(np.repeat(x, times), np.repeat(y, times)).statistic
    assert spearman(x, y, times) == pytest.approx(repeated)


def test_rank_correlation_sees_a_nuisance_and_stays_within_strata():
    rng = np.random.default_rng(4)
    strata = []
    for level in (0.0, 50.0):  # two networks on other scales: pooled, the level alone would correlate
        size = rng.normal(size=100) + level
        free = rng.normal(size=100) + level
        unit = [f"{level}{i}" for i in range(100)]
        strata.append(Stratum(level + size + 0.3 * rng.normal(size=100), unit, {"size": size, "free": free}))
    bound, interval, n = rank_correlation(strata, "size", replicates=100)
    assert bound > 0.8
    assert interval.lo > 0.5
    assert n == 200
    loose, interval, _ = rank_correlation(strata, "free", replicates=100)
    assert abs(loose) < 0.25
    assert interval.lo < 0 < interval.hi


def test_separation_finds_the_place_that_the_score_knows():
    rng = np.random.default_rng(5)
    places = np.repeat(["p", "q", "r", "tiny"], [60, 60, 60, 5]).astype(object)
    unit = np.array([f"c{i}" for i in range(185)], dtype=object)
    score = rng.normal(size=185) + 2.0 * (places == "r")
    found = separation([score], [places], [unit], replicates=100)
    assert found is not None
    assert set(found.pairs) == {("p", "q"), ("p", "r"), ("q", "r")}
    assert found.pairs["p", "r"][1].lo > 0.7
    assert found.pairs["p", "q"][1].lo < 0.5 < found.pairs["p", "q"][1].hi
    assert found.largest[0] > found.mean[0]
    assert separation([score[:60]], [places[:60]], [unit[:60]]) is None
