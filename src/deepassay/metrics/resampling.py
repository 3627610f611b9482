"""Replicates of any metric under integer weights on clusters: scores are sorted once and no trial is ever copied.

All trials of one *cell* (a cluster, or a cluster and a generator) carry one weight in a replicate: how often the
cluster, times how often the generator, was drawn. Trials between two changes of class along the sorted scores form one
run, and every curve metric depends on runs only, so a replicate costs the runs, not the trials.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepassay.errors import ScoreError
from deepassay.labels import FAKE, REAL
from deepassay.metrics.catalogue import Metric
from deepassay.metrics.ranking import hull_of
from deepassay.metrics.trials import Floats, check_trials

BLOCK_BYTES = 48 * 2**20
Ints = NDArray[np.int64]


def codes_of(names: Sequence[Any] | ArrayLike, n: int, what: str) -> tuple[Ints, list[Any]]:
    """Codes (n,) and the distinct names in sorted order, so that codes do not depend on the order of trials.

    Raises:
        ScoreError: not one name per trial, or an empty or missing name.
    """
    values = np.asarray(names)
    if values.shape != (n,):
        raise ScoreError(f"there are {values.size} {what} names for {n} trials", hint=f"give one {what} per trial")
    if values.dtype.kind in "iu":
        distinct, index = np.unique(values, return_inverse=True)
        return index.astype(np.int64), distinct.tolist()
    words = values.tolist()
    if any(w is None or w == "" or w != w for w in words):
        raise ScoreError(
            f"a trial has no {what}", hint=f"name its {what}; use the sample id where a trial stands for itself"
        )
    names_sorted = sorted(set(map(str, words)))
    lookup = {name: code for code, name in enumerate(names_sorted)}
    return np.fromiter((lookup[str(w)] for w in words), dtype=np.int64, count=n), names_sorted


@dataclass(frozen=True, slots=True)
class Cells:
    """Which trials share a weight: the cluster of every cell and, two ways, its generator (-1 for real trials)."""

    of_trial: Ints
    cluster: Ints
    generator: Ints
    n_clusters: int
    n_generators: int

    @classmethod
    def make(cls, labels: ArrayLike, clusters: Sequence[Any] | ArrayLike, generators: Any = None) -> "Cells":
        """One way over clusters (n,), or two ways over clusters and the generators (n,) of fake trials."""
        known = np.asarray(labels)
        code, names = codes_of(clusters, known.size, "cluster")
        if generators is None:
            own = np.arange(len(names))
            return cls(code, own, np.full(own.size, -1), len(names), 0)
        fake = known == FAKE
        kind = np.full(known.size, -1, dtype=np.int64)
        kind[fake], kinds = codes_of(np.asarray(generators, dtype=object)[fake], int(fake.sum()), "generator")
        pair = code * (len(kinds) + 1) + kind + 1
        distinct, of_trial = np.unique(pair, return_inverse=True)
        cluster, shifted = np.divmod(distinct, len(kinds) + 1)
        return cls(of_trial.astype(np.int64), cluster, shifted - 1, len(names), len(kinds))

    def weights(self, cluster_counts: Floats, generator_counts: Floats | None = None) -> Floats:
        """Weights of the cells (b, m) from counts of clusters (b, k) and generators (b, g)."""
        if not self.n_generators:
            return cluster_counts
        out = cluster_counts[:, self.cluster]
        if generator_counts is not None:
            fake = self.generator >= 0
            out[:, fake] *= generator_counts[:, self.generator[fake]]
        return out

    def draws(self, replicates: int, seed: int, block: int) -> Iterator[Floats]:
        """Bootstrap weights in blocks of at most ``block`` replicates; the stream does not depend on the block size."""
        first, second = np.random.SeedSequence(seed).spawn(2)
        by_cluster, by_generator = (
            np.random.Generator(np.random.PCG64(first)),
            np.random.Generator(np.random.PCG64(second)),
        )
        done = 0
        while done < replicates:
            rows = min(block, replicates - done)
            counts = _draw(by_cluster, rows, self.n_clusters)
            other = _draw(by_generator, rows, self.n_generators) if self.n_generators else None
            yield self.weights(counts, other)
            done += rows

    def leave_one_out(self, block: int) -> Iterator[Floats]:
        """Jackknife weights over clusters, in blocks."""
        for start in range(0, self.n_clusters, block):
            rows = min(block, self.n_clusters - start)
            counts = np.ones((rows, self.n_clusters))
            counts[np.arange(rows), start + np.arange(rows)] = 0.0
            yield self.weights(counts)


def _draw(generator: np.random.Generator, rows: int, size: int) -> Floats:
    picked = generator.integers(0, size, size=(rows, size)) + size * np.arange(rows)[:, None]
    return np.bincount(picked.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64)


class _Runs:
    """Cumulative class weights at the ends of runs, for blocks of cell weights.

    Trials per (run, cell) are a sparse matrix of counts. Where it is small it is summed up along the runs beforehand,
    and a block is one dense product; else a block is one sparse product, summed up afterwards. Both are exact: all
    numbers are whole.
    """

    def __init__(self, run: Ints, cell: Ints, n_runs: int, n_cells: int) -> None:
        self.n_runs = n_runs
        self.dense: Floats | None = None
        self.sparse: Any = None
        if n_cells * n_runs * 8 <= BLOCK_BYTES and n_cells <= 512:
            table = np.bincount(cell * n_runs + run, minlength=n_cells * n_runs).reshape(n_cells, n_runs)
            self.dense = np.cumsum(table, axis=1, dtype=np.float64)
        else:
            from scipy.sparse import csr_array

            self.sparse = csr_array((np.ones(run.size), (run, cell)), shape=(n_runs, n_cells))
            self.sparse.sum_duplicates()

    def flagged(self, weights: Floats) -> Floats:
        """(b, p + 1) weight of this class at or above the lowest score of each run; starts at 0."""
        out = np.zeros((weights.shape[0], self.n_runs + 1))
        if self.dense is not None:
            np.matmul(weights, self.dense, out=out[:, 1:])
        else:
            out[:, 1:] = (self.sparse @ np.ascontiguousarray(weights.T)).T
            np.cumsum(out, axis=1, out=out)
        return out


class Replicator:
    """Computes metrics under many weightings of the same trials.

    Args:
        labels: (n,) REAL = 0, FAKE = 1.
        scores: (n,) scores or llrs.
        cells: which trials share a weight.

    Raises:
        ScoreError: NaN, unequal lengths or bad labels; a class without trials is refused by the metric that needs it.
    """

    def __init__(self, labels: ArrayLike, scores: ArrayLike, cells: Cells) -> None:
        self.labels, self.scores, _ = check_trials(labels, scores, classes=())
        if cells.of_trial.shape != self.labels.shape:
            raise ScoreError("clusters and trials differ in number", hint="give one cluster per trial")
        self.cells = cells
        self._runs: tuple[_Runs, _Runs] | None = None
        self._sums: dict[Any, Any] = {}

    @property
    def runs(self) -> tuple[_Runs, _Runs]:
        """Runs of the real and of the fake class, made on first use."""
        if self._runs is None:
            order = np.argsort(-self.scores, kind="stable")
            values, known, cell = self.scores[order], self.labels[order], self.cells.of_trial[order]
            step = np.cumsum(np.concatenate([[0], (values[1:] != values[:-1]).astype(np.int64)]))
            has = [np.bincount(step[known == c], minlength=step[-1] + 1) > 0 for c in (REAL, FAKE)]
            kind = has[0].astype(np.int8) + 2 * has[1].astype(np.int8)
            joined = (kind[1:] == kind[:-1]) & (kind[1:] != 3)
            run_of_step = np.cumsum(np.concatenate([[0], (~joined).astype(np.int64)]))
            run = run_of_step[step]
            n_runs, n_cells = int(run[-1]) + 1, self.cells.cluster.size
            made = [_Runs(run[known == c], cell[known == c], n_runs, n_cells) for c in (REAL, FAKE)]
            self._runs = made[0], made[1]
        return self._runs

    def block(self, metrics: Sequence[Metric]) -> int:
        """Replicates per block that keep working arrays within a few times `BLOCK_BYTES`."""
        per_row = 8 * self.cells.cluster.size
        if any(m.of_curve or m.of_hull for m in metrics):
            per_row += 6 * 8 * self.runs[0].n_runs
        if any(not (m.of_curve or m.of_hull or m.terms) for m in metrics):
            per_row += 8 * self.labels.size
        return int(max(1, min(512, BLOCK_BYTES // per_row)))

    def values(self, metrics: Sequence[tuple[Metric, Mapping[str, Any]]], weights: Floats) -> Floats:
        """Values (b, len(metrics)) under cell weights (b, m); NaN where a class has no weight in a replicate."""
        out = np.full((weights.shape[0], len(metrics)), np.nan)
        curves: tuple[Floats, Floats] | None = None
        rates: tuple[Floats, Floats] | None = None
        hulls: dict[int, Ints] = {}
        for column, (metric, parameters) in enumerate(metrics):
            arguments = metric.arguments(parameters)
            for label, word in ((REAL, "real"), (FAKE, "fake")):
                if label in metric.classes and not (self.labels == label).any():
                    raise ScoreError(
                        f"metric {metric.name} needs {word} trials and there are none",
                        hint="check the labels and the filter",
                    )
            if metric.terms is not None:
                out[:, column] = self._means(metric, arguments, weights)
                continue
            if metric.of_curve is None and metric.of_hull is None:
                out[:, column] = self._one_by_one(metric, arguments, weights)
                continue
            if curves is None:
                curves = self.runs[0].flagged(weights), self.runs[1].flagged(weights)
            known = (curves[0][:, -1] > 0) & (curves[1][:, -1] > 0)
            if metric.of_curve is not None:
                if rates is None:
                    with np.errstate(invalid="ignore", divide="ignore"):
                        rates = curves[0] / curves[0][:, -1:], (curves[1][:, -1:] - curves[1]) / curves[1][:, -1:]
                out[:, column] = np.where(known, metric.of_curve(*rates, **arguments), np.nan)
            else:
                assert metric.of_hull is not None
                for row in np.flatnonzero(known).tolist():
                    real, fake = curves[0][row], curves[1][row]
                    if row not in hulls:
                        hulls[row] = hull_of(real, fake)
                    corners = hulls[row]
                    out[row, column] = metric.of_hull(real[corners], fake[corners], **arguments)
        return out

    def _means(self, metric: Metric, arguments: dict[str, Any], weights: Floats) -> Floats:
        """Class means of per-trial terms under weights: sums per cell are taken once."""
        key = (metric.name, tuple(sorted((k, id(v) if k == "generators" else v) for k, v in arguments.items())))
        assert metric.terms is not None
        assert metric.combine is not None
        own = {k: v for k, v in arguments.items() if k != "generators"}
        if key not in self._sums:
            terms = metric.terms(self.labels, self.scores, **own)
            size = self.cells.cluster.size
            real, fake = self.labels == REAL, self.labels == FAKE
            cell = self.cells.of_trial
            sums = [
                np.bincount(cell[real], terms[real], size)[:, None],
                np.bincount(cell[real], minlength=size)[:, None],
            ]
            if metric.by_generator:
                names = np.asarray(arguments["generators"], dtype=object)[fake]
                code, kinds = codes_of(names, int(fake.sum()), "generator")
                at = cell[fake] * len(kinds) + code
                shape = (size, len(kinds))
                sums += [
                    np.bincount(at, terms[fake], size * len(kinds)).reshape(shape),
                    np.bincount(at, minlength=size * len(kinds)).reshape(shape),
                ]
            else:
                sums += [
                    np.bincount(cell[fake], terms[fake], size)[:, None],
                    np.bincount(cell[fake], minlength=size)[:, None],
                ]
            self._sums[key] = [s.astype(np.float64) for s in sums]
        s_real, n_real, s_fake, n_fake = self._sums[key]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean_real = (weights @ s_real) / (weights @ n_real)
            mean_fake = (weights @ s_fake) / (weights @ n_fake)
        known = np.ones(weights.shape[0], dtype=bool)
        if REAL in metric.classes:
            known &= ~np.isnan(mean_real[:, 0])
        if FAKE in metric.classes:
            known &= ~np.isnan(mean_fake).all(axis=1)
        out = np.full(weights.shape[0], np.nan)
        fakes = mean_fake if metric.by_generator else mean_fake[:, 0]
        out[known] = metric.combine(mean_real[known, 0], fakes[known], **own)
        return out

    def _one_by_one(self, metric: Metric, arguments: dict[str, Any], weights: Floats) -> Floats:
        out = np.full(weights.shape[0], np.nan)
        for row, cell_weights in enumerate(weights):
            mass = cell_weights[self.cells.of_trial]
            if all(mass[self.labels == c].any() for c in metric.classes):
                try:
                    out[row] = metric.function(self.labels, self.scores, weights=mass, **arguments)
                except ScoreError:
                    continue  # undefined in this replicate (a kind of trial was not drawn); counted by the caller
        return out
