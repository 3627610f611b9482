"""Intervals that respect the source: Wilson, Clopper-Pearson, DeLong, the cluster bootstrap one way and two ways."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from deepassay.errors import ScoreError
from deepassay.labels import FAKE, REAL
from deepassay.metrics.catalogue import Metric, find_metric
from deepassay.metrics.resampling import Cells, Replicator, codes_of
from deepassay.metrics.trials import Floats, check_trials

FEWEST_CLUSTERS = 20
FEWEST_GENERATORS = 10


@dataclass(frozen=True, slots=True)
class Interval:
    """A confidence interval that says how it was made.

    Args:
        lo, hi: bounds, in the metric's unit.
        level: nominal coverage, such as 0.95.
        method: ``wilson``, ``clopper_pearson``, ``jeffreys``, ``delong``, ``delong_logit``, ``rule_of_3``,
            ``korn_graubard``, ``bootstrap_cluster_percentile``, ``bootstrap_cluster_expanded``,
            ``bootstrap_cluster_logit_t``, ``bootstrap_cluster_bca``, ``bootstrap_twoway``.
        cluster_unit: what was taken to be independent: ``trial`` or the word given for clusters.
        n_clusters: how many there are.
        replicates: bootstrap replicates, 0 where there are none.
        seed: of the replicates.
        reliable: False where no claim may rest on it; ``note`` says why.
        note: why it is unreliable, or how many replicates were undefined.
    """

    lo: float
    hi: float
    level: float
    method: str
    cluster_unit: str
    n_clusters: int
    replicates: int = 0
    seed: int | None = None
    reliable: bool = True
    note: str = ""

    @property
    def width(self) -> float:
        """hi - lo."""
        return self.hi - self.lo

    def as_record(self) -> dict[str, Any]:
        """The ``ci`` object of the assessment log."""
        return {
            "level": self.level, "method": self.method, "lo": self.lo, "hi": self.hi, "cluster_unit": self.cluster_unit,
            "n_clusters": self.n_clusters, "replicates": self.replicates or None, "seed": self.seed,
        }  # fmt: skip


def _check_level(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise ScoreError(f"the confidence level is {level}", hint="give a fraction between 0 and 1, such as 0.95")
    return 1.0 - level


def _check_counts(k: float, n: float) -> None:
    if not (n > 0 and 0 <= k <= n):
        raise ScoreError(f"{k} of {n} is not a proportion", hint="give counts with 0 <= k <= n and n above 0")


def normal_quantile(p: float) -> float:
    """Quantile of the standard normal distribution."""
    from scipy.special import ndtri

    return float(ndtri(p))


def wilson(k: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval for k of n independent trials (Wilson 1927): a good default away from claims."""
    alpha = _check_level(level)
    _check_counts(k, n)
    z = normal_quantile(1 - alpha / 2)
    p = k / n
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    lo = 0.0 if k == 0 else max(0.0, float(middle - half))
    hi = 1.0 if k == n else min(1.0, float(middle + half))
    return Interval(lo, hi, level, "wilson", "trial", int(n))


def clopper_pearson(k: float, n: float, level: float = 0.95) -> Interval:
    """Exact two-sided interval from beta quantiles (Clopper and Pearson 1934): for claims, and for k = 0."""
    from scipy.special import betaincinv

    alpha = _check_level(level)
    _check_counts(k, n)
    lo = 0.0 if k == 0 else float(betaincinv(k, n - k + 1, alpha / 2))
    hi = 1.0 if k == n else float(betaincinv(k + 1, n - k, 1 - alpha / 2))
    return Interval(lo, hi, level, "clopper_pearson", "trial", int(n))


def clopper_pearson_upper(k: float, n: float, level: float = 0.95) -> float:
    """One-sided exact upper bound; for k = 0 it is 1 - (1 - level)^(1/n), about 3/n (the rule of 3)."""
    from scipy.special import betaincinv

    _check_level(level)
    _check_counts(k, n)
    return 1.0 if k == n else float(betaincinv(k + 1, n - k, level))


def jeffreys(k: float, n: float, level: float = 0.95) -> Interval:
    """Equal-tailed interval of the Jeffreys posterior Beta(k + 1/2, n - k + 1/2)."""
    from scipy.special import betaincinv

    alpha = _check_level(level)
    _check_counts(k, n)
    lo, hi = (float(betaincinv(k + 0.5, n - k + 0.5, q)) for q in (alpha / 2, 1 - alpha / 2))
    return Interval(lo, hi, level, "jeffreys", "trial", int(n))


def clustered_proportion(
    wrong: ArrayLike, clusters: Sequence[Any] | ArrayLike, level: float = 0.95, *, cluster_unit: str = "cluster"
) -> Interval:
    """Clopper-Pearson interval of a share at the effective sample size of clustered trials (Korn and Graubard 1998).

    Honest where a bootstrap cannot be: with no error at all the effective size is the number of clusters.

    Args:
        wrong: (n,) bool, the trials of one class and whether each is an error.
        clusters: (n,) unit of independence.

    Raises:
        ScoreError: no trial, or fewer clusters than two.
    """
    from scipy.special import betaincinv, stdtrit

    alpha = _check_level(level)
    errors = np.asarray(wrong, dtype=bool)
    if errors.size == 0:
        raise ScoreError("there is no trial of this class", hint="check the labels and the filter")
    code, names = codes_of(clusters, errors.size, "cluster")
    size = np.bincount(code)
    hits = np.bincount(code, weights=errors)
    n, k = errors.size, len(names)
    share = float(errors.mean())
    if k < 2:
        raise ScoreError("all trials are of one cluster", hint="an interval needs at least two independent clusters")
    if share in (0.0, 1.0):
        effective = float(k)
    else:
        variance = k / (k - 1) * ((hits - share * size) ** 2).sum() / n**2
        shrink = (stdtrit(n - 1, 1 - alpha / 2) / stdtrit(k - 1, 1 - alpha / 2)) ** 2
        effective = float(min(n, shrink * share * (1 - share) / variance)) if variance > 0 else float(k)
    x = share * effective
    lo = 0.0 if x == 0 else float(betaincinv(x, effective - x + 1, alpha / 2))
    hi = 1.0 if x == effective else float(betaincinv(x + 1, effective - x, 1 - alpha / 2))
    note = "" if k >= FEWEST_CLUSTERS else f"{k} clusters, fewer than {FEWEST_CLUSTERS}"
    return Interval(lo, hi, level, "korn_graubard", cluster_unit, k, reliable=not note, note=note)


def delong_components(labels: ArrayLike, scores: ArrayLike) -> tuple[float, Floats, Floats]:
    """AUC and the placement values of fakes (m,) and reals (n,) (DeLong et al. 1988, midranks of Sun and Xu 2014)."""
    from scipy.stats import rankdata

    known, values, _ = check_trials(labels, scores)
    fake, real = values[known == FAKE], values[known == REAL]
    joint = rankdata(np.concatenate([fake, real]))
    among_reals = (joint[: fake.size] - rankdata(fake)) / real.size
    among_fakes = 1 - (joint[fake.size :] - rankdata(real)) / fake.size
    return float(among_reals.mean()), among_reals, among_fakes


def _variance(values: Floats) -> float:
    return float(np.var(values, ddof=1)) if values.size > 1 else float("nan")


def delong(labels: ArrayLike, scores: ArrayLike, level: float = 0.95, *, logit: bool = False) -> Interval:
    """DeLong interval of AUC: trials are taken to be independent, and the interval says so.

    Args:
        logit: build it on the logit scale, for AUCs near 1.

    Raises:
        ScoreError: fewer than two trials of a class.
    """
    alpha = _check_level(level)
    area, fakes, reals = delong_components(labels, scores)
    error = float(np.sqrt(_variance(fakes) / fakes.size + _variance(reals) / reals.size))
    if np.isnan(error):
        raise ScoreError("a class has one trial only", hint="a variance needs at least two trials per class")
    z = normal_quantile(1 - alpha / 2)
    n = int(fakes.size + reals.size)
    if not logit:
        return Interval(
            max(0.0, area - z * error), min(1.0, area + z * error), level, "delong", "trial", n, reliable=error > 0,
            note="" if error > 0 else "the variance is 0 under perfect separation",
        )  # fmt: skip
    if not 0 < area < 1:
        return Interval(
            area, area, level, "delong_logit", "trial", n, reliable=False, note="the AUC is 0 or 1: no logit"
        )
    centre, spread = np.log(area / (1 - area)), z * error / (area * (1 - area))
    lo, hi = (float(1 / (1 + np.exp(-(centre + s * spread)))) for s in (-1, 1))
    return Interval(lo, hi, level, "delong_logit", "trial", n)


Asked = str | Metric | tuple[str | Metric, Mapping[str, Any]]


def _asked(metric: Asked, generators: Any) -> tuple[Metric, dict[str, Any]]:
    row, parameters = metric if isinstance(metric, tuple) else (metric, {})
    found = find_metric(row)
    given = dict(parameters)
    if "generators" in found.needs and "generators" not in given and generators is not None:
        given["generators"] = generators
    return found, given


@dataclass(frozen=True, slots=True)
class Replicates:
    """Point values (q,), bootstrap values (r, q) and, where asked, jackknife values (k, q) of q metrics."""

    point: Floats
    values: Floats
    left_out: Floats | None
    n_clusters: int
    n_generators: int
    seed: int


def replicate(
    metrics: Sequence[Asked],
    labels: ArrayLike,
    scores: ArrayLike,
    clusters: Sequence[Any] | ArrayLike,
    *,
    replicates: int = 2000,
    seed: int = 0,
    generators: Sequence[str] | ArrayLike | None = None,
    two_way: bool = False,
    jackknife: bool = False,
) -> Replicates:
    """Bootstrap values of several metrics on the same draws of clusters; thresholds inside metrics are recomputed.

    Two calls with the same labels, clusters, generators and seed use the same draws, whatever the scores: differences
    of two systems are paired.

    Args:
        metrics: names, `Metric` rows, or (name or row, parameters).
        clusters: (n,) unit of independence per trial.
        generators: (n,) names, for metrics that need them and for ``two_way``.
        two_way: draw generators too, and weight a fake by the product (Owen and Eckles 2012).
        jackknife: also leave out each cluster once, for BCa.
    """
    if replicates < 1:
        raise ScoreError(f"{replicates} replicates", hint="use at least 1, 2000 for a published interval")
    if two_way and generators is None:
        raise ScoreError("two-way resampling got no generators", hint="pass one generator name per trial")
    asked = [_asked(m, generators) for m in metrics]
    cells = Cells.make(labels, clusters, generators if two_way else None)
    engine = Replicator(labels, scores, cells)
    block = engine.block([m for m, _ in asked])
    point = engine.values(asked, np.ones((1, cells.cluster.size)))[0]
    values = np.concatenate([engine.values(asked, w) for w in cells.draws(replicates, seed, block)])
    left = np.concatenate([engine.values(asked, w) for w in cells.leave_one_out(block)]) if jackknife else None
    return Replicates(point, values, left, cells.n_clusters, cells.n_generators, seed)


def bounds(
    point: float, values: Floats, level: float, method: str, n_clusters: int, left_out: Floats | None = None
) -> tuple[float, float]:
    """Interval bounds from the defined replicates of one number.

    ``percentile``: quantiles. ``expanded``: quantiles widened for few clusters by Student's t and sqrt(k / (k - 1))
    (Hesterberg 2015, section 4.6). ``bca``: bias-corrected and accelerated (Efron 1987), with the
    acceleration of the cluster jackknife.
    """
    alpha = _check_level(level)
    tails = (alpha / 2, 1 - alpha / 2)
    if method == "expanded":
        from scipy.special import ndtr, stdtrit

        if n_clusters < 2:
            return float("nan"), float("nan")
        wide = float(ndtr(np.sqrt(n_clusters / (n_clusters - 1)) * stdtrit(n_clusters - 1, tails[0])))
        tails = (wide, 1 - wide)
    elif method == "bca":
        from scipy.special import ndtr, ndtri

        assert left_out is not None
        below = (np.count_nonzero(values < point) + 0.5 * np.count_nonzero(values == point)) / values.size
        if 0 < below < 1:
            kept = left_out[np.isfinite(left_out)]
            pull = kept.mean() - kept
            spread = (pull**2).sum()
            acceleration = (pull**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
            bias = ndtri(below)
            shifted = [bias + ndtri(t) for t in tails]
            tails = tuple(float(ndtr(bias + s / (1 - acceleration * s))) for s in shifted)
    elif method == "logit_t":
        from scipy.special import expit, logit, stdtrit

        if n_clusters < 2 or not 0 < point < 1:
            return point, point
        # Replicates at 0 or 1 have no logit: they are put half way between there and the nearest other value.
        inner = np.append(values[(values > 0) & (values < 1)], point)
        clipped = np.clip(values, inner.min() / 2, 1 - (1 - inner.max()) / 2)
        error = logit(clipped).std(ddof=1) * np.sqrt(n_clusters / (n_clusters - 1))
        reach = stdtrit(n_clusters - 1, tails[1]) * error
        return float(expit(logit(point) - reach)), float(expit(logit(point) + reach))
    lo, hi = np.quantile(values, tails)
    return float(lo), float(hi)


def interval_of(
    point: float,
    values: Floats,
    *,
    level: float,
    method: str,
    cluster_unit: str,
    n_clusters: int,
    n_generators: int,
    seed: int,
    left_out: Floats | None = None,
) -> Interval:
    """An `Interval` from replicates (r,), with what makes it unreliable spelled out."""
    defined = values[np.isfinite(values)]
    name = "bootstrap_twoway" if n_generators else f"bootstrap_cluster_{method}"
    notes = []
    if n_clusters < FEWEST_CLUSTERS:
        notes.append(f"{n_clusters} clusters, fewer than {FEWEST_CLUSTERS}")
    if 0 < n_generators < FEWEST_GENERATORS:
        notes.append(f"{n_generators} generators, fewer than {FEWEST_GENERATORS}")
    if defined.size < 0.95 * values.size:
        notes.append(f"undefined in {values.size - defined.size} of {values.size} replicates")
    if defined.size == 0 or not np.isfinite(point):
        return Interval(
            float("nan"), float("nan"), level, name, cluster_unit, n_clusters, values.size, seed, False,
            "; ".join([*notes, "no replicate has a value"]),
        )  # fmt: skip
    lo, hi = bounds(point, defined, level, method, n_clusters, left_out)
    if method == "logit_t" and not 0 < point < 1:
        notes.append("the value is 0 or 1 and has no logit: use an exact bound on clusters")
    elif defined.min() == defined.max():
        notes.append("all replicates are equal: resampling cannot see rarer errors, use an exact bound on clusters")
    return Interval(lo, hi, level, name, cluster_unit, n_clusters, values.size, seed, not notes, "; ".join(notes))


def cluster_bootstrap(
    metric: Asked,
    labels: ArrayLike,
    scores: ArrayLike,
    clusters: Sequence[Any] | ArrayLike,
    *,
    replicates: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    generators: Sequence[str] | ArrayLike | None = None,
    method: str = "percentile",
    two_way: bool | None = None,
    cluster_unit: str = "cluster",
    **parameters: Any,
) -> Interval:
    """Interval of one metric by resampling whole clusters.

    Args:
        metric: catalogue name, `Metric`, or (either, parameters).
        clusters: (n,) unit of independence per trial; the trial's own id makes it a trial-level interval.
        generators: (n,) names. Given, and where the metric does not itself need them, generators are resampled too
            (two-way), which is for claims that generalise over generators; ``two_way`` says so explicitly.
        method: ``percentile``, ``expanded``, ``bca`` (one way only), ``logit_t`` (fractions only) or ``auto``
            (``logit_t`` for fractions, else ``expanded``); see `bounds`.
        cluster_unit: the word for a cluster, kept in the record.
        parameters: what the metric needs, such as ``threshold``.

    Raises:
        ScoreError: unknown metric or method, or trials from which the metric cannot be computed.
    """
    asked = (metric[0], {**metric[1], **parameters}) if isinstance(metric, tuple) else (metric, parameters)
    row = find_metric(asked[0])
    both = (generators is not None and "generators" not in row.needs) if two_way is None else two_way
    return cluster_bootstrap_many(
        [asked], labels, scores, clusters, replicates=replicates, level=level, seed=seed, generators=generators,
        method=method, two_way=both, cluster_unit=cluster_unit,
    )[0]  # fmt: skip


def cluster_bootstrap_many(
    metrics: Sequence[Asked],
    labels: ArrayLike,
    scores: ArrayLike,
    clusters: Sequence[Any] | ArrayLike,
    *,
    replicates: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    generators: Sequence[str] | ArrayLike | None = None,
    method: str = "percentile",
    two_way: bool = False,
    cluster_unit: str = "cluster",
) -> list[Interval]:
    """`cluster_bootstrap` of several metrics on the same draws, which costs little more than one."""
    if method not in ("percentile", "expanded", "bca", "logit_t", "auto") or (method == "bca" and two_way):
        raise ScoreError(
            f"there is no {'two-way ' if two_way else ''}bootstrap method {method!r}",
            hint="use auto, percentile, expanded, logit_t, or bca, which works one way only",
        )
    _check_level(level)
    units = [find_metric(m[0] if isinstance(m, tuple) else m).unit for m in metrics]
    if method == "logit_t" and set(units) != {"fraction"}:
        raise ScoreError(
            "logit_t is for fractions, and a metric here has another unit", hint="use method auto or expanded"
        )
    ways = [("logit_t" if unit == "fraction" else "expanded") if method == "auto" else method for unit in units]
    made = replicate(
        metrics, labels, scores, clusters, replicates=replicates, seed=seed, generators=generators, two_way=two_way,
        jackknife=method == "bca",
    )  # fmt: skip
    return [
        interval_of(
            float(made.point[i]), made.values[:, i], level=level, method=ways[i], cluster_unit=cluster_unit,
            n_clusters=made.n_clusters, n_generators=made.n_generators, seed=seed,
            left_out=None if made.left_out is None else made.left_out[:, i],
        )
        for i in range(len(metrics))
    ]  # fmt: skip
