"""Macro means over left-out groups, and differences of systems on the same trials, from one draw of clusters for all.

A *part* holds the trials that belong to one left-out group. A cluster may lie in several parts (a speaker of several
vocoders, say): every replicate draws the clusters of all parts together, so that what is shared stays shared and
systems stay paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepassay.errors import ScoreError
from deepassay.labels import FAKE, REAL
from deepassay.metrics.catalogue import Metric, find_metric
from deepassay.metrics.comparison import bootstrap_p
from deepassay.metrics.intervals import FEWEST_CLUSTERS, Asked, Interval, interval_of
from deepassay.metrics.resampling import Cells, Replicator, codes_of
from deepassay.metrics.trials import Floats

_BLOCK = 256


@dataclass(frozen=True)
class Part:
    """Trials of one left-out group, and what every system says of them.

    Args:
        name: of the group.
        labels: (n,) REAL = 0, FAKE = 1.
        clusters: (n,) unit of independence; the same name in two parts is the same cluster.
        scores: system -> score vectors (n,), one or several (seeds). The value of a system with several is the mean of
            the metric over them: what one training gives on average.
    """

    name: str
    labels: ArrayLike
    clusters: Sequence[str] | ArrayLike
    scores: Mapping[str, Sequence[ArrayLike]]

    def clusters_of(self, label: int) -> int:
        """How many clusters hold trials of a class."""
        known = np.asarray(self.labels)
        return len(set(np.asarray(self.clusters, dtype=object)[known == label].tolist()))

    @property
    def powered(self) -> bool:
        """Whether both classes have enough clusters for a claim (law 4)."""
        return min(self.clusters_of(REAL), self.clusters_of(FAKE)) >= FEWEST_CLUSTERS


@dataclass(frozen=True)
class Across:
    """Values of every system in every part, with replicates from shared draws.

    Args:
        systems, parts, metrics: names along the axes.
        point: (systems, parts, metrics).
        values: (replicates, systems, parts, metrics), NaN where a class was not drawn.
        n_clusters: clusters in all parts together.
    """

    systems: tuple[str, ...]
    parts: tuple[str, ...]
    metrics: tuple[str, ...]
    point: Floats
    values: Floats
    n_clusters: int
    part_clusters: tuple[int, ...]
    seed: int

    def _at(self, system: str, metric: str) -> tuple[int, int]:
        if system not in self.systems or metric not in self.metrics:
            raise ScoreError(
                f"there is no {metric} of {system}", hint=f"systems: {self.systems}, metrics: {self.metrics}"
            )
        return self.systems.index(system), self.metrics.index(metric)

    def _columns(self, parts: Sequence[str] | None) -> list[int]:
        chosen = list(self.parts) if parts is None else list(parts)
        if not chosen or set(chosen) - set(self.parts):
            raise ScoreError(f"no macro mean over {chosen}", hint=f"the parts are {list(self.parts)}")
        return [self.parts.index(name) for name in chosen]

    def part(self, system: str, part: str, metric: str, *, level: float = 0.95) -> tuple[float, Interval]:
        """Value and interval in one part."""
        s, m = self._at(system, metric)
        (p,) = self._columns([part])
        value = float(self.point[s, p, m])
        return value, self._interval(value, self.values[:, s, p, m], level, self.part_clusters[p])

    def macro(
        self, system: str, metric: str, parts: Sequence[str] | None = None, *, level: float = 0.95
    ) -> tuple[float, Interval]:
        """Unweighted mean over parts, and its interval."""
        s, m = self._at(system, metric)
        columns = self._columns(parts)
        value = float(self.point[s, columns, m].mean())
        return value, self._interval(value, self.values[:, s, columns, m].mean(axis=1), level, self.n_clusters)

    def difference(
        self, first: str, second: str, metric: str, parts: Sequence[str] | None = None, *, level: float = 0.95
    ) -> tuple[float, Interval, float | None]:
        """Macro of the first system minus the second's, paired interval and two-sided p (not adjusted)."""
        (a, m), (b, _) = self._at(first, metric), self._at(second, metric)
        columns = self._columns(parts)
        value = float((self.point[a, columns, m] - self.point[b, columns, m]).mean())
        spread = (self.values[:, a, columns, m] - self.values[:, b, columns, m]).mean(axis=1)
        return value, self._interval(value, spread, level, self.n_clusters), bootstrap_p(spread)

    def _interval(self, value: float, replicates: Floats, level: float, n_clusters: int) -> Interval:
        return interval_of(
            value, replicates, level=level, method="percentile", cluster_unit="subject, else source",
            n_clusters=n_clusters, n_generators=0, seed=self.seed,
        )  # fmt: skip


def across(parts: Sequence[Part], metrics: Sequence[Asked], *, replicates: int = 2000, seed: int = 0) -> Across:
    """Every metric of every system in every part, and bootstrap replicates over the union of clusters.

    Args:
        parts: each with the same systems.
        metrics: catalogue names, rows, or (name, parameters); a threshold is a parameter.

    Raises:
        ScoreError: no part, differing systems, or a class missing from a part.
    """
    if not parts:
        raise ScoreError("there is no part to measure", hint="give at least one left-out group")
    systems = tuple(parts[0].scores)
    if any(tuple(part.scores) != systems for part in parts):
        raise ScoreError("the parts have different systems", hint="score every system on every part's trials")
    asked = [_asked(metric) for metric in metrics]
    names = tuple(_title(row, parameters) for row, parameters in asked)
    sizes = [len(np.asarray(part.labels)) for part in parts]
    every = np.concatenate([np.asarray(part.clusters, dtype=object) for part in parts])
    code, distinct = codes_of(every, len(every), "cluster")
    own = np.split(code, np.cumsum(sizes)[:-1])
    used, engines = [], []
    for part, codes in zip(parts, own, strict=True):
        here, of_trial = np.unique(codes, return_inverse=True)
        cells = Cells(of_trial.astype(np.int64), np.arange(here.size), np.full(here.size, -1), here.size, 0)
        used.append(here)
        engines.append([[Replicator(part.labels, v, cells) for v in part.scores[name]] for name in systems])

    def values(counts: Floats) -> Floats:
        out = np.empty((len(counts), len(systems), len(parts), len(asked)))
        for p, here in enumerate(used):
            weights = np.ascontiguousarray(counts[:, here])
            for s in range(len(systems)):
                got = np.stack([engine.values(asked, weights) for engine in engines[p][s]])
                out[:, s, p] = got.mean(axis=0)
        return out

    blocks = [values(counts) for counts in draws(len(distinct), replicates, seed)]
    return Across(
        systems, tuple(part.name for part in parts), names, values(np.ones((1, len(distinct))))[0],
        np.concatenate(blocks), len(distinct), tuple(len(here) for here in used), seed,
    )  # fmt: skip


def draws(size: int, replicates: int, seed: int) -> list[NDArray[np.float64]]:
    """How often each of ``size`` clusters is drawn in every replicate, in blocks (b, size)."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    out = []
    for start in range(0, replicates, _BLOCK):
        rows = min(_BLOCK, replicates - start)
        picked = rng.integers(0, size, size=(rows, size)) + size * np.arange(rows)[:, None]
        out.append(np.bincount(picked.ravel(), minlength=rows * size).reshape(rows, size).astype(np.float64))
    return out


def _asked(metric: Asked) -> tuple[Metric, dict[str, float]]:
    row, parameters = metric if isinstance(metric, tuple) else (metric, {})
    return (find_metric(row) if isinstance(row, str) else row), dict(parameters)


def _title(row: Metric, parameters: Mapping[str, float]) -> str:
    if "target" not in parameters:
        return row.name
    stem, _, last = row.name.rpartition("_")
    return f"{stem if last.isdigit() else row.name}_{100 * parameters['target']:g}"
