"""Comparing systems on the same trials: paired cluster bootstrap, paired DeLong, McNemar, Holm and max-T."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepassay.errors import ScoreError
from deepassay.metrics.intervals import Asked, Interval, delong_components, interval_of, replicate
from deepassay.metrics.trials import Floats


@dataclass(frozen=True, slots=True)
class Difference:
    """One metric of two systems on the same trials, first minus second.

    Args:
        metric: catalogue name.
        first, second: names of the systems.
        value_first, value_second: the metric of each.
        difference: value_first - value_second, in the metric's unit.
        interval: of the difference, from draws of clusters shared by both systems.
        p: two-sided, from the share of replicates beyond 0 (at least 1 / replicates); None where the test is undefined.
        p_adjusted: Holm over the family it was tested in; None until adjusted.
        family: how many tests that family has.
    """

    metric: str
    first: str
    second: str
    value_first: float
    value_second: float
    difference: float
    interval: Interval
    p: float | None
    p_adjusted: float | None = None
    family: int = 1


def bootstrap_p(differences: Floats) -> float | None:
    """Two-sided p of "no difference" from replicates (r,): twice the smaller tail at 0, ties in both tails, never 0."""
    found = differences[np.isfinite(differences)]
    if found.size == 0:
        return None
    tail = min(np.count_nonzero(found <= 0), np.count_nonzero(found >= 0))
    return float(min(1.0, 2 * (tail + 1) / (found.size + 1)))


def compare(
    systems: Mapping[str, ArrayLike],
    labels: ArrayLike,
    clusters: Sequence[Any] | ArrayLike,
    metrics: Sequence[Asked],
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    replicates: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    generators: Sequence[str] | ArrayLike | None = None,
    two_way: bool = False,
    method: str = "percentile",
    cluster_unit: str = "cluster",
) -> list[Difference]:
    """Paired cluster bootstrap of every metric for pairs of systems; all tests form one family for Holm.

    Args:
        systems: name -> scores (n,) on the same trials, in the same order.
        labels: (n,).
        clusters: (n,) unit of independence; both systems get the same draws.
        metrics: see `deepassay.metrics.intervals.replicate`.
        pairs: which pairs, declared beforehand; None = all.
        method: ``percentile`` or ``expanded``.

    Raises:
        ScoreError: fewer than two systems, an unknown name in pairs, or trials that give no honest number.
    """
    if len(systems) < 2:
        raise ScoreError("a comparison needs at least two systems", hint="add one with --baseline")
    chosen = list(combinations(systems, 2)) if pairs is None else list(pairs)
    unknown = {name for pair in chosen for name in pair} - set(systems)
    if unknown:
        raise ScoreError(f"there are no scores of {sorted(unknown)}", hint=f"the systems are {list(systems)}")
    if method not in ("percentile", "expanded"):
        raise ScoreError(f"differences have no {method!r} interval", hint="use percentile or expanded")
    made = {
        name: replicate(
            metrics, labels, scores, clusters, replicates=replicates, seed=seed, generators=generators, two_way=two_way
        )
        for name, scores in systems.items()
    }
    names = [_name(m) for m in metrics]
    out = []
    for first, second in chosen:
        a, b = made[first], made[second]
        for column, metric in enumerate(names):
            spread = a.values[:, column] - b.values[:, column]
            point = float(a.point[column] - b.point[column])
            interval = interval_of(
                point, spread, level=level, method=method, cluster_unit=cluster_unit, n_clusters=a.n_clusters,
                n_generators=a.n_generators, seed=seed,
            )  # fmt: skip
            out.append(
                Difference(
                    metric, first, second, float(a.point[column]), float(b.point[column]), point, interval,
                    bootstrap_p(spread),
                )
            )  # fmt: skip
    return adjust(out)


def _name(asked: Asked) -> str:
    row = asked[0] if isinstance(asked, tuple) else asked
    return row if isinstance(row, str) else row.name


def adjust(differences: Sequence[Difference]) -> list[Difference]:
    """The same differences with Holm's p over all of them; tests without a p stay out of the family."""
    tested = [i for i, d in enumerate(differences) if d.p is not None]
    adjusted = holm([d.p for d in differences if d.p is not None]) if tested else np.empty(0)
    out = list(differences)
    for i, p in zip(tested, adjusted, strict=True):
        out[i] = replace(out[i], p_adjusted=float(p), family=len(tested))
    return out


def paired_bootstrap(
    metric: Asked,
    labels: ArrayLike,
    first: ArrayLike,
    second: ArrayLike,
    clusters: Sequence[Any] | ArrayLike,
    **options: Any,
) -> Difference:
    """`compare` for one metric of two systems named ``first`` and ``second``."""
    return compare({"first": first, "second": second}, labels, clusters, [metric], **options)[0]


@dataclass(frozen=True, slots=True)
class PairedDeLong:
    """AUCs of two systems on the same trials, their difference (first - second), its standard error, z and p."""

    auc_first: float
    auc_second: float
    difference: float
    standard_error: float
    z: float
    p: float


def paired_delong(labels: ArrayLike, first: ArrayLike, second: ArrayLike) -> PairedDeLong:
    """Two-sided test of equal AUC for correlated ROC curves (DeLong et al. 1988). Trials are taken to be independent.

    Raises:
        ScoreError: fewer than two trials of a class.
    """
    from scipy.special import ndtr

    area_a, fakes_a, reals_a = delong_components(labels, first)
    area_b, fakes_b, reals_b = delong_components(labels, second)
    if min(fakes_a.size, reals_a.size) < 2:
        raise ScoreError("a class has one trial only", hint="a variance needs at least two trials per class")
    variance = np.var(fakes_a - fakes_b, ddof=1) / fakes_a.size + np.var(reals_a - reals_b, ddof=1) / reals_a.size
    error, gap = float(np.sqrt(variance)), area_a - area_b
    if error == 0:
        return PairedDeLong(
            area_a, area_b, gap, 0.0, 0.0 if gap == 0 else float(np.copysign(np.inf, gap)), float(gap == 0)
        )
    z = gap / error
    return PairedDeLong(area_a, area_b, gap, error, float(z), float(2 * ndtr(-abs(z))))


@dataclass(frozen=True, slots=True)
class McNemar:
    """Discordant decisions of two systems: ``table`` [[both right, first only], [second only, both wrong]]."""

    table: tuple[tuple[int, int], tuple[int, int]]
    p_exact: float
    p_mid: float


def mcnemar(right_first: ArrayLike, right_second: ArrayLike) -> McNemar:
    """McNemar's test on decisions at fixed thresholds, exact binomial and mid-p (Fagerland et al. 2013).

    Trials are taken to be independent; under clustering use `compare` on BPCER and APCER.

    Args:
        right_first, right_second: (n,) bool, whether each system decided rightly.
    """
    from scipy.special import betainc, gammaln

    a, b = np.asarray(right_first, dtype=bool), np.asarray(right_second, dtype=bool)
    if a.shape != b.shape or a.ndim != 1:
        raise ScoreError(f"decisions have shapes {a.shape} and {b.shape}", hint="give one decision per trial of each")
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    table = ((int((a & b).sum()), only_a), (only_b, int((~a & ~b).sum())))
    n, k = only_a + only_b, min(only_a, only_b)
    if n == 0:
        return McNemar(table, 1.0, 1.0)
    # P(X <= k) for X ~ Binomial(n, 1/2) is the regularised incomplete beta function.
    below = float(betainc(n - k, k + 1, 0.5))
    point = float(np.exp(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) - n * np.log(2.0)))
    return McNemar(table, min(1.0, 2 * below), min(1.0, 2 * below - point))


def holm(p_values: Sequence[float] | ArrayLike) -> Floats:
    """Holm's step-down adjusted p-values (m,), in the given order (Holm 1979).

    Raises:
        ScoreError: a value outside [0, 1].
    """
    p = np.asarray(p_values, dtype=np.float64)
    if p.size and not ((p >= 0) & (p <= 1)).all():
        raise ScoreError("a p-value lies outside [0, 1]", hint="leave out tests that are undefined")
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (p.size - np.arange(p.size)))
    out = np.empty_like(p)
    out[order] = np.minimum(1.0, stepped)
    return out


def max_t(points: Floats, replicates: Floats) -> Floats:
    """Single-step max-T adjusted p-values (m,) for all-pairs claims (Westfall and Young 1993).

    Args:
        points: (m,) differences.
        replicates: (r, m) bootstrap values of the same differences, drawn together.
    """
    spread = replicates.std(axis=0, ddof=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.abs(points) / spread
        null = np.abs(replicates - points) / spread
    largest = np.nanmax(null, axis=1)
    return (1 + (largest[:, None] >= observed[None, :]).sum(axis=0)) / (1 + replicates.shape[0])
