"""The bootstrap engine: exact, independent of blocks, of trial order and of which product it uses."""

import numpy as np
import pytest

from deepassay.errors import ScoreError
from deepassay.metrics import resampling
from deepassay.metrics.catalogue import METRICS
from deepassay.metrics.intervals import replicate
from deepassay.metrics.resampling import Cells, Replicator, codes_of

NAMES = ["auc", "eer", "min_dcf", "bpcer_at_apcer_5", "min_cllr", "cllr"]


def trials(n: int = 3000, k: int = 40, seed: int = 0):
    rng = np.random.default_rng(seed)
    clusters = np.array([f"s{i}" for i in rng.integers(0, k, n)], dtype=object)
    labels = (rng.random(n) < 0.5).astype(int)
    return labels, np.round(rng.normal(size=n) + labels, 2), clusters, rng


def test_blocks_do_not_matter(monkeypatch):
    labels, scores, clusters, _ = trials()
    whole = replicate(NAMES, labels, scores, clusters, replicates=50, seed=3)
    monkeypatch.setattr(Replicator, "block", lambda self, metrics: 7)
    small = replicate(NAMES, labels, scores, clusters, replicates=50, seed=3)
    assert small.values == pytest.approx(whole.values, abs=1e-13)
    cells = Cells.make(labels, clusters)
    assert (np.concatenate(list(cells.draws(50, 3, 7))) == np.concatenate(list(cells.draws(50, 3, 512)))).all()


def test_sparse_and_dense_products_agree(monkeypatch):
    labels, scores, clusters, _ = trials()
    dense = replicate(NAMES, labels, scores, clusters, replicates=20, seed=3)
    monkeypatch.setattr(resampling, "BLOCK_BYTES", 4096)
    sparse = replicate(NAMES, labels, scores, clusters, replicates=20, seed=3)
    assert sparse.values == pytest.approx(dense.values, abs=1e-13)
    engine = Replicator(labels, scores, Cells.make(labels, clusters))
    assert engine.runs[0].dense is None
    assert engine.runs[0].sparse is not None


def test_order_of_trials_does_not_matter():
    labels, scores, clusters, rng = trials()
    order = rng.permutation(labels.size)
    one = replicate(NAMES, labels, scores, clusters, replicates=20, seed=4)
    two = replicate(NAMES, labels[order], scores[order], clusters[order], replicates=20, seed=4)
    assert one.values == pytest.approx(two.values, abs=1e-12)


def test_two_way_weights_are_products():
    labels, scores, clusters, rng = trials(400, 8)
    generators = np.where(labels == 1, np.array(["a", "b", "c"], dtype=object)[rng.integers(0, 3, 400)], "")
    cells = Cells.make(labels, clusters, generators)
    assert (cells.n_clusters, cells.n_generators) == (8, 3)
    (weights,) = cells.draws(15, seed=2, block=100)
    engine = Replicator(labels, scores, cells)
    values = engine.values([(METRICS["auc"], {}), (METRICS["cllr"], {})], weights)
    by_cluster, by_generator = np.random.SeedSequence(2).spawn(2)
    counts = resampling._draw(np.random.Generator(np.random.PCG64(by_cluster)), 15, 8)
    other = resampling._draw(np.random.Generator(np.random.PCG64(by_generator)), 15, 3)
    code, _ = codes_of(clusters, 400, "cluster")
    kind = np.array([{"a": 0, "b": 1, "c": 2, "": -1}[g] for g in generators])
    for row in range(15):
        mass = counts[row][code] * np.where(kind >= 0, other[row][kind], 1.0)
        for column, name in enumerate(("auc", "cllr")):
            assert values[row, column] == pytest.approx(METRICS[name](labels, scores, mass), abs=1e-12)


def test_jackknife_leaves_each_cluster_out_once():
    labels, scores, clusters, _ = trials(300, 6)
    made = replicate(["auc"], labels, scores, clusters, replicates=2, jackknife=True)
    names = sorted(set(clusters))
    assert made.left_out is not None
    for row, name in enumerate(names):
        keep = clusters != name
        assert made.left_out[row, 0] == pytest.approx(METRICS["auc"](labels[keep], scores[keep]), abs=1e-12)


def test_draws_are_whole_clusters():
    cells = Cells.make([0, 1, 1], ["a", "b", "c"])
    weights = np.concatenate(list(cells.draws(500, seed=0, block=64)))
    assert (weights.sum(axis=1) == 3).all()
    assert (weights == np.rint(weights)).all()
    assert weights.mean(axis=0) == pytest.approx(np.ones(3), abs=0.1)


def test_a_class_that_is_not_drawn_is_undefined_not_zero():
    labels, scores = np.array([0, 1, 1, 1]), np.array([0.0, 1.0, 2.0, 3.0])
    made = replicate(
        ["auc", ("bpcer", {"threshold": 0.5}), "eer_e1"], labels, scores, ["a", "b", "c", "d"], replicates=200
    )
    drawn = next(Cells.make(labels, ["a", "b", "c", "d"]).draws(200, 0, 512))
    absent = drawn[:, 0] == 0
    assert 0 < absent.sum() < 200
    assert np.isnan(made.values[absent]).all()
    assert np.isfinite(made.values[~absent & (drawn[:, 1:].sum(axis=1) > 0)]).all()


def test_refusals():
    with pytest.raises(ScoreError, match="has no cluster"):
        Cells.make([0, 1], ["a", ""])
    with pytest.raises(ScoreError, match="cluster names for 2 trials"):
        Cells.make([0, 1], ["a"])
    with pytest.raises(ScoreError, match="has no generator"):
        Cells.make([0, 1], ["a", "b"], ["", None])
    with pytest.raises(ScoreError, match="needs fake trials"):
        replicate(["auc"], [0, 0], [1.0, 2.0], ["a", "b"])
    with pytest.raises(ScoreError, match="got no generators"):
        replicate(["auc"], [0, 1], [1.0, 2.0], ["a", "b"], two_way=True)
    with pytest.raises(ScoreError, match="0 replicates"):
        replicate(["auc"], [0, 1], [1.0, 2.0], ["a", "b"], replicates=0)


def test_memory_does_not_grow_with_replicates():
    """No copy of the trials per replicate: 200 replicates of 200,000 trials stay far below 200 copies."""
    import tracemalloc

    labels, scores, _, rng = trials(200_000, 50)
    clusters = rng.integers(0, 300, labels.size)
    tracemalloc.start()
    replicate(["auc", "eer"], labels, scores, clusters, replicates=200)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 400 * 2**20
