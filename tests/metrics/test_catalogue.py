"""Invariances that hold over the whole catalogue, and the catalogue's own order."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from deepassay.errors import ScoreError
from deepassay.metrics.catalogue import METRICS, find_metric
from deepassay.metrics.intervals import cluster_bootstrap, replicate
from deepassay.metrics.tandem import AsvRates

NAMES = sorted(METRICS)
RANKING = [n for n in NAMES if METRICS[n].ranking]
CHEAP = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
RATES = AsvRates(miss=0.02, false_alarm=0.03, false_alarm_spoof=0.4)


def arguments(name: str, n: int, rng: np.random.Generator, labels: np.ndarray) -> dict[str, Any]:
    """What a metric needs besides labels and scores, one value per trial where it is per trial."""
    needs = METRICS[name].needs
    out: dict[str, Any] = {}
    if "threshold" in needs:
        out["threshold"] = 0.5
    if "generators" in needs:
        out["generators"] = np.array(["g1", "g2"], dtype=object)[rng.integers(0, 2, n)]
    if "asv" in needs:
        out["asv"] = RATES
    if "target" in needs:
        target = rng.random(n) < 0.5
        real = np.flatnonzero(labels == 0)
        target[real[0]], target[real[1]] = True, False
        out["target"] = target
    if "asv_scores" in needs:
        out["asv_scores"] = np.round(rng.normal(size=n), 1) + 4.0 * out["target"]
    return out


def shuffled(values: dict[str, Any], order: np.ndarray) -> dict[str, Any]:
    return {k: v[order] if isinstance(v, np.ndarray) else v for k, v in values.items()}


@st.composite
def trials(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
    """Labels and scores with ties: both classes, at least two real trials."""
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    n_real, n_fake = draw(st.integers(2, 25)), draw(st.integers(1, 25))
    digits = draw(st.sampled_from([0, 1, 6]))
    labels = np.repeat([0, 1], [n_real, n_fake])
    scores = np.round(rng.normal(size=n_real + n_fake) + draw(st.floats(0, 3)) * labels, digits)
    return labels, scores + 0.0, rng


def value(name: str, *args: Any, **kwargs: Any) -> float:
    """The metric, or NaN where a joint metric says that there is no honest number (no target trial was drawn)."""
    try:
        return METRICS[name](*args, **kwargs)
    except ScoreError:
        if "target" not in METRICS[name].needs:
            raise
        return float("nan")


def test_rows_are_complete():
    for name, row in METRICS.items():
        assert row.name == name
        assert row.definition == f"{name}@{row.version}"
        assert row.direction in ("higher_better", "lower_better", "descriptive")
        assert row.unit in ("fraction", "bits", "nats", "cost")
        assert len(row.reference) > 10
        assert len(row.title) > 2
        assert sum(kind in row.needs for kind in ("scores", "llr", "silence")) == 1
        ways = [row.of_curve is not None, row.of_hull is not None, row.terms is not None]
        assert sum(ways) <= 1
        assert (row.terms is None) == (row.combine is None)


def test_unknown_names_and_keywords():
    with pytest.raises(ScoreError, match="no metric 'accuracy'"):
        find_metric("accuracy")
    with pytest.raises(ScoreError, match="needs \\['threshold'\\]"):
        METRICS["bpcer"]([0, 1], [0.0, 1.0])
    with pytest.raises(ScoreError, match="takes no \\['treshold'\\]"):
        METRICS["bpcer"]([0, 1], [0.0, 1.0], treshold=0.5)


@pytest.mark.parametrize("name", NAMES)
@CHEAP
@given(data=trials())
def test_order_of_trials_does_not_matter(name, data):
    labels, scores, rng = data
    more = arguments(name, labels.size, rng, labels)
    order = rng.permutation(labels.size)
    before = value(name, labels, scores, **more)
    after = value(name, labels[order], scores[order], **shuffled(more, order))
    assert after == pytest.approx(before, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", RANKING)
@CHEAP
@given(data=trials())
def test_rising_maps_do_not_matter_to_ranking(name, data):
    labels, scores, rng = data
    more = arguments(name, labels.size, rng, labels)
    before = value(name, labels, scores, **more)
    for rising in (lambda s: 3.0 * s - 7.0, lambda s: np.round(np.arctan(s), 12), lambda s: s**3):
        mapped = rising(scores)
        assume(np.unique(mapped).size == np.unique(scores).size)
        assert value(name, labels, mapped, **more) == pytest.approx(before, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", NAMES)
@CHEAP
@given(data=trials())
def test_whole_weights_are_repeats(name, data):
    labels, scores, rng = data
    more = arguments(name, labels.size, rng, labels)
    weights = rng.integers(0, 4, labels.size)
    weights[[0, 1, labels.size - 1]] = np.maximum(1, weights[[0, 1, labels.size - 1]])
    again = np.repeat(np.arange(labels.size), weights)
    weighted = value(name, labels, scores, weights=weights.astype(float), **more)
    repeated = value(name, labels[again], scores[again], **shuffled(more, again))
    assert weighted == pytest.approx(repeated, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("name", ["auc", "eer", "eer_e4", "min_cllr", "cllr", "brier", "log_loss", "calibration_loss"])
@CHEAP
@given(data=trials())
def test_flipping_labels_and_scores_changes_nothing(name, data):
    labels, scores, _ = data
    assert METRICS[name](1 - labels, -scores) == pytest.approx(METRICS[name](labels, scores), abs=1e-12)


@pytest.mark.parametrize("name", ["auc", "eer", "tpr_at_fpr_1", "min_dcf", "cllr", "average_precision"])
def test_flipping_only_one_of_them_does_not(name):
    """The law of polarity: a detector read the wrong way round must look bad."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], 200)
    scores = rng.normal(size=400) + 3.0 * labels
    row = METRICS[name]
    right, wrong = row(labels, scores), row(1 - labels, scores)
    assert wrong < right - 0.2 if row.direction == "higher_better" or name == "tpr_at_fpr_1" else wrong > right + 0.2


@pytest.mark.parametrize("name", NAMES)
def test_no_honest_number_is_refused(name):
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [6, 5])
    scores = rng.normal(size=11)
    more = arguments(name, 11, rng, labels)
    row = METRICS[name]
    for kind in row.classes:
        with pytest.raises(ScoreError, match="hint"):
            row(np.full(11, 1 - kind), scores, **more)
    for bad in (np.nan, np.inf, -np.inf):
        broken = scores.copy()
        broken[3] = bad
        with pytest.raises(ScoreError, match="NaN or infinite"):
            row(labels, broken, **more)
    with pytest.raises(ScoreError, match="shape"):
        row(labels, scores[:-1], **more)
    with pytest.raises(ScoreError, match="neither 0"):
        row(np.where(labels == 0, 2, labels), scores, **more)


@pytest.mark.parametrize("name", NAMES)
def test_constant_scores_are_chance(name):
    labels = np.repeat([0, 1], [8, 8])
    more = arguments(name, 16, np.random.default_rng(2), labels)
    chance = {
        "auc": 0.5, "eer": 0.5, "eer_e1": 1.0, "eer_e2": 0.5, "eer_e4": 0.5, "eer_e5": 0.5, "partial_auc": 0.005,
        "partial_auc_standardised": 0.5, "average_precision": 0.5, "tpr_at_fpr_1": 0.0, "bpcer_at_apcer_5": 1.0,
        "min_dcf": 1.0, "act_dcf": 1.0, "cllr": 1.0, "min_cllr": 1.0, "calibration_loss": 0.0, "brier": 0.25,
        "log_loss": np.log(2), "ece_width": 0.0, "ece_mass": 0.0, "min_tdcf": 1.0, "min_tdcf_2019": 1.0, "a_dcf": 1.0,
        "bpcer": 0.0, "apcer": 1.0, "apcer_pooled": 1.0, "acer": 0.5, "sasv_eer": 0.5, "sv_eer": 0.5, "spf_eer": 0.5,
        "macro_apcer": 1.0, "bpnrr": 0.0, "apnrr": 0.0,
    }  # fmt: skip
    if name == "t_eer":
        assert 0 <= METRICS[name](labels, np.zeros(16), **more) <= 1
    else:
        assert METRICS[name](labels, np.zeros(16), **more) == pytest.approx(chance[name], abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_replicates_equal_resampled_trials(name):
    """The engine's values under cluster weights are those of the plain metric on the copied trials."""
    from deepassay.metrics.resampling import Cells

    rng = np.random.default_rng(3)
    n, k = 120, 9
    clusters = rng.integers(0, k, n)
    labels = (rng.random(n) < 0.6).astype(int)
    labels[:2] = 0
    scores = np.round(rng.normal(size=n) + labels, 1)
    more = arguments(name, n, rng, labels)
    made = replicate([(name, more)], labels, scores, clusters, replicates=30, seed=5)
    assert made.point[0] == pytest.approx(METRICS[name](labels, scores, **more), abs=1e-12)
    cells = Cells.make(labels, clusters)
    weights = np.concatenate(list(cells.draws(30, 5, 7)))
    for row in range(30):
        index = np.concatenate([np.flatnonzero(clusters == c) for c in range(k) for _ in range(int(weights[row, c]))])
        if len(set(labels[index])) < 2:
            continue
        plain = value(name, labels[index], scores[index], **shuffled(more, index))
        assert made.values[row, 0] == pytest.approx(plain, abs=1e-10, nan_ok=True), row


@pytest.mark.parametrize("name", NAMES)
def test_every_metric_gets_an_interval(name):
    rng = np.random.default_rng(4)
    n, k = 200, 25
    labels = (rng.random(n) < 0.5).astype(int)
    scores = rng.normal(size=n) + 1.2 * labels
    if "silence" in METRICS[name].needs:
        scores = (scores > 1.0).astype(float)
    more = arguments(name, n, rng, labels)
    generators = more.pop("generators", None)
    found = cluster_bootstrap(
        name, labels, scores, rng.integers(0, k, n), replicates=60, generators=generators, method="auto", **more
    )
    assert found.lo <= found.hi
    assert found.n_clusters == k
    assert found.reliable, found.note


def test_rates_by_generator_and_of_silence_by_hand():
    labels, names = np.array([1, 1, 1, 1, 0]), np.array(["a", "a", "a", "b", ""], dtype=object)
    missed_of_a_and_all_of_b = np.array([0.0, 1.0, 1.0, 0.0, 9.0])
    more = {"threshold": 0.5, "generators": names}
    assert METRICS["macro_apcer"](labels, missed_of_a_and_all_of_b, **more) == pytest.approx((1 / 3 + 1) / 2)
    assert METRICS["apcer_pooled"](labels, missed_of_a_and_all_of_b, threshold=0.5) == pytest.approx(0.5)
    silence = np.array([1.0, 0.0, 0.0, 0.0, 1.0])
    assert METRICS["apnrr"](labels, silence) == 0.25
    assert METRICS["bpnrr"](labels, silence) == 1.0
