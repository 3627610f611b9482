"""Scoring rules and calibration of log-likelihood ratios: Cllr, Brier, log-loss, calibration error, curves.

``labels`` (n,) REAL = 0 and FAKE = 1; ``llr`` (n,) natural-log ratios fake : bona fide. Classes count equally, or as a
stated prior says, whatever their sizes, except in `expected_calibration_error` and `reliability`, which say so.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from deepassay.errors import ScoreError
from deepassay.labels import FAKE, REAL
from deepassay.metrics.ranking import hull_of
from deepassay.metrics.trials import Floats, check_trials, staircase

LN2 = float(np.log(2.0))


def _check_prior(prior: float) -> float:
    if not 0.0 < prior < 1.0:
        raise ScoreError(f"the prior of fake is {prior}", hint="give a fraction between 0 and 1")
    return float(prior)


def _class_means(labels: ArrayLike, values: Floats, weights: Floats) -> tuple[float, float]:
    known = np.asarray(labels)
    real, fake = known == REAL, known == FAKE
    return (
        float((weights[real] * values[real]).sum() / weights[real].sum()),
        float((weights[fake] * values[fake]).sum() / weights[fake].sum()),
    )


def _mean(labels: ArrayLike, terms: Floats, weights: Floats, prior: float, over_trials: bool) -> float:
    if over_trials:
        return float((weights * terms).sum() / weights.sum())
    real, fake = _class_means(labels, terms, weights)
    return (1 - prior) * real + prior * fake


def sign_of(labels: ArrayLike) -> Floats:
    """+1 for real and -1 for fake trials (n,): an llr times this is how wrong it is."""
    return np.where(np.asarray(labels) == REAL, 1.0, -1.0)


def cllr_terms(labels: ArrayLike, llr: ArrayLike) -> Floats:
    """Cost of each trial in bits (n,): log2(1 + exp(+-llr)), without overflow."""
    return np.logaddexp(0.0, sign_of(labels) * np.asarray(llr, dtype=np.float64)) / LN2


def cllr(labels: ArrayLike, llr: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Cost of log-likelihood ratio in bits (Brummer and du Preez 2006): 1 tells nothing, above 1 misleads."""
    known, values, mass = check_trials(labels, llr, weights, name="llr")
    real, fake = _class_means(known, cllr_terms(known, values), mass)
    return (real + fake) / 2


def min_cllr_of(hull_real: Floats, hull_fake: Floats) -> float:
    """min Cllr from the corners (h,) of one ROC convex hull: each segment gets the llr that its slope says."""
    real, fake = np.diff(hull_real) / hull_real[-1], np.diff(hull_fake) / hull_fake[-1]
    # A segment's own llr is ln(fake / real): log2(1 + e^-llr) = log2((real + fake) / fake), and 0 log 0 = 0.
    both = real + fake
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.where(fake > 0, fake * np.log2(both / fake), 0.0) + np.where(
            real > 0, real * np.log2(both / real), 0.0
        )
    return float(bits.sum() / 2)


def min_cllr(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Cllr after the best rising map of the scores, found by pool-adjacent-violators on these very labels (bits).

    Optimistic for small n, 0 under perfect separation; needs ranks only.
    """
    steps = staircase(labels, scores, weights)
    corners = hull_of(steps.flagged_real, steps.flagged_fake)
    return min_cllr_of(steps.flagged_real[corners], steps.flagged_fake[corners])


def calibration_loss(labels: ArrayLike, llr: ArrayLike, weights: ArrayLike | None = None) -> float:
    """Cllr - min Cllr in bits: what better calibration could save."""
    return cllr(labels, llr, weights) - min_cllr(labels, llr, weights)


def pav_llr(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """The llrs (n,) of pool-adjacent-violators on these labels, prior removed; -inf and +inf at pure ends."""
    steps = staircase(labels, scores, weights)
    corners = hull_of(steps.flagged_real, steps.flagged_fake)
    real = np.diff(steps.flagged_real[corners]) / steps.flagged_real[-1]
    fake = np.diff(steps.flagged_fake[corners]) / steps.flagged_fake[-1]
    with np.errstate(divide="ignore"):
        values = np.log(fake) - np.log(real)
    lowest = steps.thresholds[corners[1:]]
    values_of = np.asarray(scores, dtype=np.float64)
    # lowest falls along the hull; a score belongs to the first segment whose lowest score it reaches.
    segment = np.searchsorted(-lowest, -values_of, side="left")
    return values[np.minimum(segment, values.size - 1)]


def posterior(llr: ArrayLike, prior: float = 0.5) -> Floats:
    """Probability of fake (n,) for llrs at a prior of fake, without overflow."""
    odds = np.asarray(llr, dtype=np.float64) + np.log(_check_prior(prior)) - np.log1p(-prior)
    return np.exp(-np.logaddexp(0.0, -odds))


def brier_terms(labels: ArrayLike, llr: ArrayLike, prior: float = 0.5) -> Floats:
    """Squared error (n,) of the probability of fake at a prior."""
    return (posterior(llr, prior) - (np.asarray(labels) == FAKE)) ** 2


def brier(
    labels: ArrayLike,
    llr: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    prior: float = 0.5,
    over_trials: bool = False,
) -> float:
    """Brier score at a stated prior of fake; classes are weighted by that prior, not by their sizes.

    Args:
        over_trials: mean over trials as they are instead, which mixes the set's own class sizes in.
    """
    known, values, mass = check_trials(labels, llr, weights, name="llr")
    return _mean(known, brier_terms(known, values, prior), mass, prior, over_trials)


def log_loss_terms(labels: ArrayLike, llr: ArrayLike, prior: float = 0.5) -> Floats:
    """-ln p(label) (n,) at a prior of fake."""
    odds = np.asarray(llr, dtype=np.float64) + np.log(_check_prior(prior)) - np.log1p(-prior)
    return np.logaddexp(0.0, sign_of(labels) * odds)


def log_loss(
    labels: ArrayLike,
    llr: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    prior: float = 0.5,
    over_trials: bool = False,
) -> float:
    """Mean -ln p(label) in nats at a stated prior of fake, classes weighted by that prior. Flat prior: Cllr ln 2.

    Args:
        over_trials: mean over trials as they are instead, which mixes the set's own class sizes in.
    """
    known, values, mass = check_trials(labels, llr, weights, name="llr")
    return _mean(known, log_loss_terms(known, values, prior), mass, prior, over_trials)


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """One bin of a reliability diagram: edges of the probability of fake, weight, mean probability, share of fakes."""

    low: float
    high: float
    weight: float
    confidence: float
    observed: float


def reliability(
    labels: ArrayLike,
    llr: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    bins: int = 15,
    scheme: str = "equal_width",
    prior: float = 0.5,
) -> list[ReliabilityBin]:
    """Occupied bins of the probability of fake at a prior; trials count as they are, so class sizes matter.

    Args:
        bins: how many bins to make.
        scheme: ``equal_width`` (edges 0, 1/bins, ...; a value on an edge belongs to the bin below) or ``equal_mass``
            (trials sorted by probability and cut into stretches of equal weight, the first ones larger by one where
            whole weights do not divide evenly).

    Raises:
        ScoreError: an unknown scheme or fewer than one bin.
    """
    known, values, mass = check_trials(labels, llr, weights, name="llr")
    if bins < 1 or scheme not in ("equal_width", "equal_mass"):
        raise ScoreError(f"{bins} bins of scheme {scheme!r}", hint="use at least 1 bin, equal_width or equal_mass")
    chance = posterior(values, prior)
    # A bin is a stretch of trials sorted by probability; tied trials share a stretch evenly, whatever their order.
    distinct, index = np.unique(chance, return_inverse=True)
    fakes = (known == FAKE).astype(np.float64)
    parts = (mass, mass * chance, mass * fakes)
    running = [np.concatenate([[0.0], np.cumsum(np.bincount(index, part))]) for part in parts]
    total = running[0][-1]
    if scheme == "equal_width":
        below = np.searchsorted(distinct, np.arange(1, bins) / bins, side="right")
        edges = np.concatenate([[0.0], running[0][below], [total]])
    elif (mass == np.rint(mass)).all():
        size, more = divmod(int(total), bins)
        edges = np.array([number * size + min(number, more) for number in range(bins + 1)], dtype=np.float64)
    else:
        edges = total * np.arange(bins + 1) / bins
    weight, confidence, observed = (np.diff(np.interp(edges, running[0], r)) for r in running)
    out = []
    for number in np.flatnonzero(weight > 0):
        if scheme == "equal_width":
            low, high = number / bins, (number + 1) / bins
        else:
            ends = np.searchsorted(running[0], [edges[number] + 1e-9 * total, edges[number + 1] - 1e-9 * total]) - 1
            low, high = distinct[np.clip(ends, 0, distinct.size - 1)]
        w = float(weight[number])
        out.append(
            ReliabilityBin(float(low), float(high), w, float(confidence[number]) / w, float(observed[number]) / w)
        )
    return out


def expected_calibration_error(
    labels: ArrayLike,
    llr: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    bins: int = 15,
    scheme: str = "equal_width",
    prior: float = 0.5,
) -> float:
    """Weighted mean |share of fakes - mean probability of fake| over the bins of `reliability`.

    Depends on the binning and on class sizes: secondary only, with both stated. Not the forensic empirical
    cross-entropy, see `empirical_cross_entropy`.
    """
    found = reliability(labels, llr, weights, bins=bins, scheme=scheme, prior=prior)
    total = sum(b.weight for b in found)
    return float(sum(b.weight * abs(b.observed - b.confidence) for b in found) / total)


def tippett(labels: ArrayLike, llr: ArrayLike) -> dict[str, Floats]:
    """Tippett curves: share of trials of each class whose llr is at least x.

    Returns:
        ``llr`` (p,) distinct values rising, ``fake`` (p,) and ``real`` (p,) shares with llr >= x; ``misleading_real``
        (1,) share of real trials with llr > 0 and ``misleading_fake`` (1,) share of fake trials with llr < 0.
    """
    known, values, _ = check_trials(labels, llr, name="llr")
    steps = staircase(known, values)
    real, fake = values[known == REAL], values[known == FAKE]
    return {
        "llr": steps.thresholds[:0:-1],
        "fake": 1.0 - steps.apcer[:0:-1],
        "real": steps.bpcer[:0:-1],
        "misleading_real": np.array([(real > 0).mean()]),
        "misleading_fake": np.array([(fake < 0).mean()]),
    }


def empirical_cross_entropy(
    labels: ArrayLike, llr: ArrayLike, prior_log10_odds: Sequence[float] | Floats | None = None
) -> dict[str, Floats]:
    """Empirical cross-entropy in bits against the prior log-odds of fake (Ramos and Gonzalez-Rodriguez 2013).

    Args:
        prior_log10_odds: (q,) grid; None = -2.5 to 2.5 in 101 steps.

    Returns:
        ``prior_log10_odds``, ``observed``, ``after_pav`` (llrs of pool-adjacent-violators) and ``neutral`` (llr 0),
        each (q,). At even odds, observed is Cllr and after_pav is min Cllr.
    """
    known, values, _ = check_trials(labels, llr, name="llr")
    grid = np.linspace(-2.5, 2.5, 101) if prior_log10_odds is None else np.asarray(prior_log10_odds, dtype=np.float64)
    odds = grid * np.log(10.0)
    prior = np.exp(-np.logaddexp(0.0, -odds))

    def curve(ratios: Floats) -> Floats:
        distinct = {}
        for label in (REAL, FAKE):
            found, count = np.unique(ratios[known == label], return_counts=True)
            sign = 1.0 if label == REAL else -1.0
            cost = np.logaddexp(0.0, sign * (found[None, :] + odds[:, None])) / LN2
            distinct[label] = (cost * count).sum(axis=1) / count.sum()
        return (1 - prior) * distinct[REAL] + prior * distinct[FAKE]

    return {
        "prior_log10_odds": grid,
        "observed": curve(values),
        "after_pav": curve(pav_llr(known, values)),
        "neutral": curve(np.zeros_like(values)),
    }
