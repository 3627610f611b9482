"""Error rates by subgroup at one global threshold: counts, gap, ratio, GARBE, FDR, and when not to print them.

The threshold is global and fixed on development data. Lead with counts, gap and ratio: FDR looks good whenever rates
are small. Groups are annotated, never inferred.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepassay.errors import ScoreError
from deepassay.labels import FAKE, REAL
from deepassay.metrics.intervals import Interval, clopper_pearson
from deepassay.metrics.resampling import codes_of
from deepassay.metrics.trials import check_trials

MINIMUM_EXPECTED_ERRORS = 30.0
MINIMUM_PERSONS = 5


@dataclass(frozen=True, slots=True)
class GroupRate:
    """Errors k of n trials of one class in a group, its exact interval (trials as independent), and clusters."""

    group: str
    k: int
    n: int
    interval: Interval
    n_clusters: int | None = None

    @property
    def rate(self) -> float:
        """k / n."""
        return self.k / self.n


def group_rates(
    labels: ArrayLike,
    scores: ArrayLike,
    groups: Sequence[str] | ArrayLike,
    threshold: float,
    *,
    kind: str = "bpcer",
    clusters: Sequence[Any] | ArrayLike | None = None,
    level: float = 0.95,
) -> dict[str, GroupRate]:
    """BPCER (``kind="bpcer"``) or pooled APCER (``kind="apcer"``) of every group that has trials of the class.

    Raises:
        ScoreError: another kind, no trial of the class, or a trial without a group.
    """
    if kind not in ("bpcer", "apcer"):
        raise ScoreError(f"there is no rate {kind!r} by group", hint="use bpcer or apcer")
    label = REAL if kind == "bpcer" else FAKE
    known, values, _ = check_trials(labels, scores, classes=(label,))
    own = known == label
    code, names = codes_of(groups, known.size, "group")
    wrong = (values >= threshold) == (label == REAL)
    units = None if clusters is None else codes_of(clusters, known.size, "cluster")[0]
    out = {}
    for index, name in enumerate(names):
        mask = own & (code == index)
        n = int(mask.sum())
        if n:
            k = int((mask & wrong).sum())
            persons = None if units is None else int(np.unique(units[mask]).size)
            out[str(name)] = GroupRate(str(name), k, n, clopper_pearson(k, n, level), persons)
    return out


def _rates(rates: Mapping[str, float] | Sequence[float]) -> np.ndarray:
    values = np.asarray(list(rates.values()) if isinstance(rates, Mapping) else list(rates), dtype=np.float64)
    if values.size < 2 or not ((values >= 0) & (values <= 1)).all():
        raise ScoreError(f"{values.size} group rates", hint="give a rate in [0, 1] for at least two groups")
    return values


def gap(rates: Mapping[str, float] | Sequence[float]) -> float:
    """Largest minus smallest rate."""
    values = _rates(rates)
    return float(values.max() - values.min())


def ratio(rates: Mapping[str, float] | Sequence[float]) -> float:
    """Largest over smallest rate; inf where the smallest is 0 and the largest is not, NaN where all are 0."""
    values = _rates(rates)
    if values.min() == 0:
        return float("nan") if values.max() == 0 else float("inf")
    return float(values.max() / values.min())


def worst_over_geometric_mean(rates: Mapping[str, float] | Sequence[float]) -> float:
    """Largest rate over the geometric mean of all (NIST IR 8280's inequity); inf or NaN as in `ratio`."""
    values = _rates(rates)
    if values.min() == 0:
        return float("nan") if values.max() == 0 else float("inf")
    return float(values.max() / np.exp(np.log(values).mean()))


def gini(rates: Mapping[str, float] | Sequence[float]) -> float:
    """Gini coefficient with the n / (n - 1) correction for few groups; 0 where all rates are 0."""
    values = _rates(rates)
    n, mean = values.size, values.mean()
    if mean == 0:
        return 0.0
    return float(np.abs(values[:, None] - values[None, :]).sum() / (2 * n * n * mean) * n / (n - 1))


def garbe(
    bpcers: Mapping[str, float] | Sequence[float], apcers: Mapping[str, float] | Sequence[float], alpha: float = 0.5
) -> float:
    """Gini aggregation rate for biometric equitability (Howard et al. 2022): Ginis of both rates, weighted by alpha."""
    return alpha * gini(bpcers) + (1 - alpha) * gini(apcers)


def fairness_discrepancy_rate(
    bpcers: Mapping[str, float] | Sequence[float], apcers: Mapping[str, float] | Sequence[float], alpha: float = 0.5
) -> float:
    """1 - (alpha gap(BPCER) + (1 - alpha) gap(APCER)) (Pereira and Marcel 2021): good whenever rates are small."""
    return 1 - (alpha * gap(bpcers) + (1 - alpha) * gap(apcers))


@dataclass(frozen=True, slots=True)
class Disparity:
    """Gap and ratio over groups; None with a reason where the data cannot carry them."""

    gap: float | None
    ratio: float | None
    worst: str
    reasons: tuple[str, ...]


def disparity(rates: Mapping[str, GroupRate]) -> Disparity:
    """Gap and ratio over groups, withheld where they would mislead.

    No ratio where any group is expected to make fewer than 30 errors at the pooled rate; no gap where a group has fewer
    than 5 clusters (small cells are suppressed).

    Raises:
        ScoreError: fewer than two groups.
    """
    if len(rates) < 2:
        raise ScoreError(f"{len(rates)} group has trials", hint="a disparity needs at least two groups")
    pooled = sum(r.k for r in rates.values()) / sum(r.n for r in rates.values())
    reasons = []
    few = [g for g, r in rates.items() if pooled * r.n < MINIMUM_EXPECTED_ERRORS]
    if few:
        reasons.append(f"no ratio: fewer than {MINIMUM_EXPECTED_ERRORS:g} errors expected in {', '.join(few)}")
    small = [g for g, r in rates.items() if r.n_clusters is not None and r.n_clusters < MINIMUM_PERSONS]
    if small:
        reasons.append(f"no gap: fewer than {MINIMUM_PERSONS} clusters in {', '.join(small)}")
    values = {g: r.rate for g, r in rates.items()}
    return Disparity(
        None if small else gap(values),
        None if few or small else ratio(values),
        max(values, key=lambda g: values[g]),
        tuple(reasons),
    )
