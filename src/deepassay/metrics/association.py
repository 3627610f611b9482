"""What a score should not follow: places of real samples, and nuisances such as sharpness or level, with intervals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from deepassay.errors import ScoreError
from deepassay.metrics.across import Part, across, draws
from deepassay.metrics.intervals import FEWEST_CLUSTERS, Interval, interval_of
from deepassay.metrics.resampling import codes_of
from deepassay.metrics.trials import Floats

_UNIT = "subject, else source"


@dataclass(frozen=True)
class Stratum:
    """Trials of one class scored by one network: correlations are taken within it.

    Args:
        scores: (n,), NaN where there is none.
        clusters: (n,) unit of independence.
        features: name -> (n,) values, NaN where unknown.
    """

    scores: ArrayLike
    clusters: Sequence[str] | ArrayLike
    features: Mapping[str, ArrayLike]


def ranks(values: Floats, weights: Floats) -> Floats:
    """Mid-ranks (n,) of values (n,) that count ``weights`` (n,) times each."""
    distinct, index = np.unique(values, return_inverse=True)
    mass = np.bincount(index, weights, minlength=distinct.size)
    below = np.cumsum(mass) - mass
    return (below + (mass + 1) / 2)[index]


def spearman(one: ArrayLike, two: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Spearman's rank correlation with mid-ranks, trials counted ``weights`` times; NaN where a side is constant."""
    x, y = np.asarray(one, dtype=np.float64), np.asarray(two, dtype=np.float64)
    w = np.ones(x.size) if weights is None else np.asarray(weights, dtype=np.float64)
    some = w > 0
    x, y, w = x[some], y[some], w[some]
    if x.size < 3:
        return float("nan")
    a, b = ranks(x, w), ranks(y, w)
    a, b = a - np.average(a, weights=w), b - np.average(b, weights=w)
    scale = np.sqrt((w * a * a).sum() * (w * b * b).sum())
    return float((w * a * b).sum() / scale) if scale > 0 else float("nan")


def rank_correlation(
    strata: Sequence[Stratum], feature: str, *, replicates: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[float, Interval, int]:
    """Rank correlation of score and one feature within strata, averaged with their sizes as weights.

    Scores of different networks are never mixed: ranks are taken inside each stratum. Clusters are drawn jointly.

    Returns:
        value, interval of the cluster bootstrap, and the number of trials with a score and the feature.

    Raises:
        ScoreError: no stratum has three trials with both.
    """
    kept = []
    for stratum in strata:
        score, value = np.asarray(stratum.scores, np.float64), np.asarray(stratum.features[feature], np.float64)
        some = np.isfinite(score) & np.isfinite(value)
        if some.sum() >= 3:
            kept.append((score[some], value[some], np.asarray(stratum.clusters, dtype=object)[some]))
    if not kept:
        raise ScoreError(f"too few trials have a score and {feature}", hint="leave this feature out of the report")
    every = np.concatenate([clusters for _, _, clusters in kept])
    code, names = codes_of(every, len(every), "cluster")
    own = np.split(code, np.cumsum([len(score) for score, _, _ in kept])[:-1])
    sizes = np.array([len(score) for score, _, _ in kept], dtype=np.float64)

    def average(counts: Floats) -> float:
        found = np.array([spearman(s, f, counts[c]) for (s, f, _), c in zip(kept, own, strict=True)])
        some = np.isfinite(found)
        return float(np.average(found[some], weights=sizes[some])) if some.any() else float("nan")

    point = average(np.ones(len(names)))
    spread = np.array([average(row) for block in draws(len(names), replicates, seed) for row in block])
    interval = interval_of(
        point, spread, level=level, method="percentile", cluster_unit=_UNIT, n_clusters=len(names), n_generators=0,
        seed=seed,
    )  # fmt: skip
    return point, interval, int(sizes.sum())


@dataclass(frozen=True)
class Separation:
    """How far scores tell places apart within one class: AUC between two places, less one half.

    Args:
        pairs: (first, second) -> (AUC of second over first, interval).
        largest, mean: of |AUC - 0.5| over pairs, with intervals. Both are pushed upward by chance: a detector that
            tells nothing apart has values above 0, and intervals that lie above 0.
    """

    pairs: Mapping[tuple[str, str], tuple[float, Interval]]
    largest: tuple[float, Interval]
    mean: tuple[float, Interval]


def separation(
    scores: Sequence[ArrayLike],
    places: Sequence[Sequence[str] | ArrayLike],
    clusters: Sequence[Sequence[str] | ArrayLike],
    *,
    fewest: int = FEWEST_CLUSTERS,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Separation | None:
    """Real against real: AUC of scores between all pairs of places that one network judged.

    Args:
        scores, places, clusters: one entry (n,) per network (left-out group); pairs are formed within an entry. Trials
            without a score (NaN) are left out.
        fewest: clusters that a place needs to be compared.

    Returns:
        None where no entry has two such places.
    """
    parts, names = [], []
    for score, place, cluster in zip(scores, places, clusters, strict=True):
        s, where = np.asarray(score, dtype=np.float64), np.asarray(place, dtype=object)
        unit = np.asarray(cluster, dtype=object)
        known = np.isfinite(s)
        large = [p for p in sorted(set(where[known])) if p and len(set(unit[known & (where == p)])) >= fewest]
        for first, second in combinations(large, 2):
            some = known & np.isin(where, [first, second])
            parts.append(Part(f"{first} | {second}", (where[some] == second).astype(int), unit[some], {"s": [s[some]]}))
            names.append((first, second))
    if not parts:
        return None
    made = across(parts, ["auc"], replicates=replicates, seed=seed)
    point, spread = np.abs(made.point[0, :, 0] - 0.5), np.abs(made.values[:, 0, :, 0] - 0.5)

    def summary(value: float, values: Floats) -> tuple[float, Interval]:
        return value, interval_of(
            value, values, level=level, method="percentile", cluster_unit=_UNIT, n_clusters=made.n_clusters,
            n_generators=0, seed=seed,
        )  # fmt: skip

    return Separation(
        {pair: made.part("s", part.name, "auc", level=level) for pair, part in zip(names, parts, strict=True)},
        summary(float(point.max()), spread.max(axis=1)),
        summary(float(point.mean()), spread.mean(axis=1)),
    )
