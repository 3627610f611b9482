"""Ranking metrics: AUC, partial AUC, EER in its five named definitions, DET and ROC points, convex hull, AP.

Every function takes ``labels`` (n,) with REAL = 0 and FAKE = 1, ``scores`` (n,) that grow with fake, and optional
``weights`` (n,), where a whole number stands for repeats. A trial is flagged iff score >= threshold; ``fpr`` is BPCER
and ``fnr`` is APCER pooled over generators. All raise `deepassay.errors.ScoreError` on one class only, NaN or unequal
lengths. The ``*_of`` functions work on the corners of a ROC staircase for many replicates at once: ``fpr`` and ``fnr``
(b, p), threshold falling along the last axis, from (0, 1) to (1, 0).
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepassay.errors import ScoreError
from deepassay.labels import FAKE, REAL
from deepassay.metrics.trials import Floats, Staircase, check_trials, staircase

EER_DEFINITIONS = {
    "E1": "official ASVspoof walk: one trial at a time, real before fake within a tie, point of least |BPCER - APCER|",
    "E2": "as E1, on distinct thresholds only",
    "E3": "crossing of the piecewise linear ROC (headline)",
    "E4": "crossing of the ROC convex hull",
    "E5": "midpoint of the interval between the two points beside the crossing (FVC 2000)",
}


def det_curve(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> tuple[Floats, Floats, Floats]:
    """Detection error trade-off at every distinct threshold.

    Returns:
        ``fpr`` (p + 1,), ``fnr`` (p + 1,) and ``thresholds`` (p + 1,): +inf, then the distinct scores in falling order.
    """
    steps = staircase(labels, scores, weights)
    return steps.bpcer, steps.apcer, steps.thresholds


def roc_points(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> tuple[Floats, Floats, Floats]:
    """ROC: ``fpr``, ``tpr`` and ``thresholds``, each (p + 1,), at every distinct threshold; no point is dropped."""
    steps = staircase(labels, scores, weights)
    return steps.bpcer, steps.flagged_fake / steps.flagged_fake[-1], steps.thresholds


def auc_of(fpr: Floats, fnr: Floats) -> Floats:
    """Area under ROC polylines (b, p): trapezoids, so ties between classes count one half."""
    rise = np.diff(fpr, axis=-1)
    height = fnr[..., 1:] + fnr[..., :-1]
    return 1.0 - 0.5 * np.einsum("...p,...p->...", rise, height)


def auc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Probability that a fake outranks a real trial, ties one half (Mann-Whitney U / (n_real n_fake)). In [0, 1]."""
    steps = staircase(labels, scores, weights)
    return float(auc_of(steps.bpcer, steps.apcer))


def partial_auc_of(fpr: Floats, fnr: Floats, max_fpr: float = 0.1) -> Floats:
    """Integral of TPR over FPR in [0, max_fpr] for polylines (b, p), linear between corners."""
    left, right = fpr[..., :-1], fpr[..., 1:]
    width = np.clip(max_fpr - left, 0.0, right - left)
    rise = right - left
    slope = np.divide(np.diff(fnr, axis=-1), rise, out=np.zeros_like(rise), where=rise > 0)
    tpr = 1.0 - fnr[..., :-1]
    return (width * (tpr - 0.5 * slope * width)).sum(axis=-1)


def partial_auc(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, *, max_fpr: float = 0.1
) -> float:
    """Raw partial AUC: the integral of TPR over FPR in [0, max_fpr]; at most max_fpr, max_fpr^2 / 2 by chance.

    Raises:
        ScoreError: max_fpr outside (0, 1].
    """
    _check_rate("max_fpr", max_fpr)
    steps = staircase(labels, scores, weights)
    return float(partial_auc_of(steps.bpcer, steps.apcer, max_fpr))


def standardise_partial_auc(raw: Any, max_fpr: float = 0.1) -> Any:
    """McClish (1989): 1/2 [1 + (raw - chance) / (max_fpr - chance)], chance = max_fpr^2 / 2."""
    chance = 0.5 * max_fpr**2
    return 0.5 * (1.0 + (raw - chance) / (max_fpr - chance))


def standardised_partial_auc(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, *, max_fpr: float = 0.1
) -> float:
    """McClish-standardised partial AUC (0.5 by chance, 1 perfect): what scikit-learn's ``max_fpr`` returns."""
    return float(standardise_partial_auc(partial_auc(labels, scores, weights, max_fpr=max_fpr), max_fpr))


def _check_rate(name: str, value: float) -> None:
    if not 0.0 < value <= 1.0:
        raise ScoreError(f"{name} is {value}", hint=f"give {name} as a fraction above 0 and at most 1")


def first_true(values: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Index of the first True along the last axis, where each row is False ... False True ... True (b, p)."""
    return np.argmax(values, axis=-1)


def crossing_of(fpr: Floats, fnr: Floats) -> Floats:
    """Value at which polylines (b, p) cross fpr = fnr, linear between corners: EER definition E3."""
    after = first_true(fpr >= fnr)[..., None]
    x0, x1 = np.take_along_axis(fpr, after - 1, -1), np.take_along_axis(fpr, after, -1)
    y0, y1 = np.take_along_axis(fnr, after - 1, -1), np.take_along_axis(fnr, after, -1)
    gap0, gap1 = y0 - x0, x1 - y1
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((x0 * gap1 + x1 * gap0) / (gap0 + gap1))[..., 0]


def hull_of(flagged_real: Floats, flagged_fake: Floats) -> NDArray[np.intp]:
    """Indices of the corners of one staircase (p + 1,) that lie on the upper ROC convex hull, first and last included.

    The hull's slopes are the pool-adjacent-violators fit of the share of fakes (Fawcett and Niculescu-Mizil 2007).
    """
    from scipy.optimize import isotonic_regression

    real, fake = np.diff(flagged_real), np.diff(flagged_fake)
    kept = np.flatnonzero(real + fake > 0)
    mass = real[kept] + fake[kept]
    blocks = isotonic_regression(fake[kept] / mass, weights=mass, increasing=False).blocks
    ends = kept[blocks[1:] - 1] + 1
    return np.concatenate([[0], ends])


def roc_convex_hull(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None
) -> tuple[Floats, Floats, Floats]:
    """Corners of the ROC convex hull in DET coordinates: ``fpr``, ``fnr``, ``thresholds``, each (h,)."""
    steps = staircase(labels, scores, weights)
    corners = hull_of(steps.flagged_real, steps.flagged_fake)
    return steps.bpcer[corners], steps.apcer[corners], steps.thresholds[corners]


def _eer_walk(steps: Staircase) -> float:
    """E1: the crossing step is walked one unit at a time, first its real and then its fake trials."""
    real, fake = steps.flagged_real, steps.flagged_fake
    n_real, n_fake = real[-1], fake[-1]
    if (real != np.rint(real)).any() or (fake != np.rint(fake)).any():
        raise ScoreError(
            "EER by definition E1 walks trial by trial and got weights that are not whole numbers",
            hint="use definition E3, or give whole numbers of repeats",
        )
    after = int(np.argmax(steps.bpcer >= steps.apcer))
    x = np.arange(real[after - 1], real[after] + 1) / n_real
    y = (n_fake - np.arange(fake[after - 1], fake[after] + 1)) / n_fake
    walk_x = np.concatenate([x, np.full(y.size - 1, x[-1])])
    walk_y = np.concatenate([np.full(x.size, y[0]), y[1:]])
    best = int(np.argmin(np.abs(walk_x - walk_y)))
    return float((walk_x[best] + walk_y[best]) / 2)


def _eer_midpoint(fpr: Floats, fnr: Floats) -> float:
    """E5: of the points at and beside the crossing, the pair with the smaller sum; its mean (Maio et al. 2002)."""
    upper = int(np.argmax(fpr >= fnr))
    lower = upper if fpr[upper] == fnr[upper] else upper - 1
    return float(min(fpr[lower] + fnr[lower], fpr[upper] + fnr[upper]) / 2)


def eer(labels: ArrayLike, scores: ArrayLike, definition: str = "E3", weights: ArrayLike | None = None) -> float:
    """Equal error rate, in [0, 1], in one of the five definitions of `EER_DEFINITIONS`.

    E1 equals the official ASVspoof 2019/2021/5 code and is unsafe with ties (100 % on constant scores); E4 is at most
    one half and hides a sign flip. The threshold behind an EER is picked on the very trials it is measured on: the
    number is descriptive.

    Raises:
        ScoreError: an unknown definition, or E1 with weights that are not whole numbers.
    """
    if definition not in EER_DEFINITIONS:
        raise ScoreError(f"there is no EER definition {definition!r}", hint=f"use one of {list(EER_DEFINITIONS)}")
    steps = staircase(labels, scores, weights)
    if definition == "E1":
        return _eer_walk(steps)
    if definition == "E3":
        return float(crossing_of(steps.bpcer, steps.apcer))
    if definition == "E4":
        corners = hull_of(steps.flagged_real, steps.flagged_fake)
        return float(crossing_of(steps.bpcer[corners], steps.apcer[corners]))
    fpr, fnr = steps.bpcer, steps.apcer
    if definition == "E5":
        return _eer_midpoint(fpr, fnr)
    best = int(np.argmin(np.abs(fpr - fnr)))
    return float((fpr[best] + fnr[best]) / 2)


def average_precision(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    positive: int = FAKE,
    prevalence: float | None = None,
) -> float:
    """Average precision, sum of (R_i - R_(i-1)) P_i without interpolation; it depends on prevalence: state both.

    Args:
        positive: the class that counts as found: FAKE (scores as they are) or REAL (scores negated).
        prevalence: share of the positive class to compute for, by weighting classes; None = as in the trials.
    """
    known, values, mass = check_trials(labels, scores, weights)
    if positive == REAL:
        known, values = (1 - known).astype(np.int8), -values
    if prevalence is not None:
        _check_rate("prevalence", prevalence)
        share = mass[known == FAKE].sum() / mass.sum()
        mass = mass * np.where(known == FAKE, prevalence / share, (1 - prevalence) / (1 - share))
    steps = staircase(known, values, mass)
    found, wrong = steps.flagged_fake[1:], steps.flagged_real[1:]
    flagged = found + wrong
    precision = np.divide(found, flagged, out=np.zeros_like(found), where=flagged > 0)
    return float((np.diff(steps.flagged_fake) * precision).sum() / found[-1])
