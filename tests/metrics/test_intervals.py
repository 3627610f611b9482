"""Intervals: oracles, what makes one unreliable, and coverage in the small."""

import math

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from deepassay.errors import ScoreError
from deepassay.metrics.intervals import (
    bounds,
    clopper_pearson,
    clopper_pearson_upper,
    cluster_bootstrap,
    cluster_bootstrap_many,
    clustered_proportion,
    delong,
    jeffreys,
    wilson,
)


@pytest.mark.parametrize(("k", "n"), [(0, 7), (1, 9), (13, 50), (50, 50), (3, 5000)])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_proportions_against_statsmodels(k, n, level):
    for ours, name in ((wilson, "wilson"), (clopper_pearson, "beta"), (jeffreys, "jeffreys")):
        found = ours(k, n, level)
        want = proportion_confint(k, n, alpha=1 - level, method=name)
        assert (found.lo, found.hi) == pytest.approx(want, abs=1e-12)
        assert (found.cluster_unit, found.n_clusters, found.level) == ("trial", n, level)
    assert clopper_pearson_upper(k, n, level) == pytest.approx(clopper_pearson(k, n, 2 * level - 1).hi)


def test_refusals():
    for k, n in ((1, 0), (-1, 5), (6, 5)):
        with pytest.raises(ScoreError, match="not a proportion"):
            wilson(k, n)
    with pytest.raises(ScoreError, match="confidence level"):
        wilson(1, 2, 95)
    with pytest.raises(ScoreError, match="one trial only"):
        delong([0, 1, 1], [0.0, 1.0, 2.0])
    with pytest.raises(ScoreError, match="bootstrap method 'magic'"):
        cluster_bootstrap("auc", [0, 1], [0.0, 1.0], ["a", "b"], method="magic")
    with pytest.raises(ScoreError, match="two-way"):
        cluster_bootstrap("auc", [0, 1], [0.0, 1.0], ["a", "b"], generators=["", "g"], method="bca")
    with pytest.raises(ScoreError, match="fractions"):
        cluster_bootstrap("cllr", [0, 1], [0.0, 1.0], ["a", "b"], method="logit_t")


def data(k: int, m: int = 10, seed: int = 0):
    rng = np.random.default_rng(seed)
    effect = 0.7 * rng.normal(size=k)
    unit = np.repeat(np.arange(k), 2 * m)
    labels = np.tile(np.repeat([0, 1], m), k)
    return labels, rng.normal(size=unit.size) + effect[unit] + 1.5 * labels, unit, rng


def test_clusters_widen_an_interval():
    labels, scores, unit, _ = data(40)
    threshold = 1.0
    by_cluster = cluster_bootstrap("bpcer", labels, scores, unit, threshold=threshold)
    by_trial = cluster_bootstrap("bpcer", labels, scores, np.arange(unit.size), threshold=threshold)
    assert by_cluster.width > 1.2 * by_trial.width
    assert (by_cluster.method, by_cluster.n_clusters, by_cluster.replicates) == (
        "bootstrap_cluster_percentile",
        40,
        2000,
    )
    record = cluster_bootstrap("bpcer", labels, scores, unit, threshold=1.0, cluster_unit="speaker").as_record()
    assert (record["cluster_unit"], record["n_clusters"], record["seed"]) == ("speaker", 40, 0)


def test_same_seed_same_interval():
    labels, scores, unit, _ = data(30)
    one = cluster_bootstrap("eer", labels, scores, unit, seed=1)
    assert one == cluster_bootstrap("eer", labels, scores, unit, seed=1)
    assert one != cluster_bootstrap("eer", labels, scores, unit, seed=2)
    many = cluster_bootstrap_many(["auc", "eer"], labels, scores, unit, seed=1)
    assert many[1] == one


def test_methods_order_by_width_with_few_clusters():
    labels, scores, unit, _ = data(10)
    width = {m: cluster_bootstrap("auc", labels, scores, unit, method=m).width for m in ("percentile", "expanded")}
    assert width["expanded"] > 1.1 * width["percentile"]
    logit = cluster_bootstrap("auc", labels, scores, unit, method="auto")
    assert logit.method == "bootstrap_cluster_logit_t"
    assert 0 < logit.lo < logit.hi < 1
    assert cluster_bootstrap("cllr", labels, scores, unit, method="auto").method == "bootstrap_cluster_expanded"


def test_bca_corrects_skew():
    """For a mean of skewed values BCa shifts both bounds towards the long tail (Efron 1987)."""
    rng = np.random.default_rng(0)
    sample = rng.exponential(size=30)
    draws = rng.choice(sample, (20000, 30)).mean(axis=1)
    left = np.array([np.delete(sample, i).mean() for i in range(30)])
    plain = bounds(sample.mean(), draws, 0.95, "percentile", 30)
    shifted = bounds(sample.mean(), draws, 0.95, "bca", 30, left)
    assert shifted[0] > plain[0]
    assert shifted[1] > plain[1]
    from scipy.stats import bootstrap

    oracle = bootstrap((sample,), np.mean, n_resamples=20000, rng=np.random.default_rng(1)).confidence_interval
    assert shifted == pytest.approx((oracle.low, oracle.high), abs=0.02)


def test_what_makes_an_interval_unreliable():
    labels, scores, unit, rng = data(19)
    few = cluster_bootstrap("auc", labels, scores, unit)
    assert not few.reliable
    assert "19 clusters" in few.note
    assert cluster_bootstrap("auc", *data(20)[:3]).reliable
    labels, scores, unit, rng = data(30)
    generators = np.where(labels == 1, np.array(["a", "b"], dtype=object)[rng.integers(0, 2, labels.size)], "")
    two = cluster_bootstrap("auc", labels, scores, unit, generators=generators)
    assert two.method == "bootstrap_twoway"
    assert not two.reliable
    assert "2 generators" in two.note
    none = cluster_bootstrap("bpcer", labels, scores, unit, threshold=1e6)
    assert (none.lo, none.hi, none.reliable) == (0.0, 0.0, False)
    assert "equal" in none.note
    perfect = cluster_bootstrap("auc", labels, scores + 100 * labels, unit, method="logit_t")
    assert not perfect.reliable
    assert "no logit" in perfect.note
    rare = np.full(60, "x", dtype=object)
    rare[1:] = [f"c{i}" for i in range(59)]
    one_real = cluster_bootstrap("auc", [0] + [1] * 59, rng.normal(size=60), rare)
    assert not one_real.reliable
    assert "undefined in" in one_real.note


def test_clustered_proportion_knows_clusters():
    wrong = np.zeros(600, bool)
    unit = np.repeat(np.arange(30), 20)
    nothing = clustered_proportion(wrong, unit)
    assert nothing.hi == pytest.approx(clopper_pearson(0, 30).hi)  # 30 speakers, not 600 trials
    wrong[:20] = True  # one speaker is always wrong
    lumped = clustered_proportion(wrong, unit)
    spread = clustered_proportion(np.arange(600) % 30 == 0, unit)
    assert lumped.width > 3 * spread.width
    assert spread.hi <= clopper_pearson(20, 600).hi + 1e-12
    assert (lumped.method, lumped.n_clusters, lumped.reliable) == ("korn_graubard", 30, True)
    with pytest.raises(ScoreError, match="one cluster"):
        clustered_proportion(wrong[:20], unit[:20])
    with pytest.raises(ScoreError, match="no trial"):
        clustered_proportion([], [])


def test_coverage_in_the_small():
    """60 clusters, correlation 0.3: the cluster interval covers the true BPCER, the trial interval does not."""
    rng = np.random.default_rng(7)
    cluster_hits = trial_hits = 0
    for _ in range(150):
        effect = math.sqrt(0.3) * rng.normal(size=60)
        scores = (effect[:, None] + math.sqrt(0.7) * rng.normal(size=(60, 20))).ravel()
        unit = np.repeat(np.arange(60), 20)
        wrong = scores >= 1.6448536269514722
        found = cluster_bootstrap(
            "bpcer", np.zeros(1200, int), scores, unit, threshold=1.6448536269514722, replicates=300, method="logit_t"
        )
        flat = wilson(int(wrong.sum()), 1200)
        cluster_hits += found.lo <= 0.05 <= found.hi
        trial_hits += flat.lo <= 0.05 <= flat.hi
    assert cluster_hits >= 0.90 * 150
    assert trial_hits <= 0.86 * 150
