"""Error rates at a threshold, achievable operating points and detection costs, in the words of ISO/IEC 30107-3.

``labels`` (n,) REAL = 0 and FAKE = 1, ``scores`` (n,) growing with fake; a trial is flagged iff score >= threshold.
BPCER is the share of real trials flagged, APCER the share of one generator's fakes not flagged. All functions raise
`deepassay.errors.ScoreError` on NaN, unequal lengths, or a class without trials.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from deepassay.errors import ScoreError
from deepassay.labels import FAKE, REAL
from deepassay.metrics.ranking import first_true
from deepassay.metrics.trials import Floats, check_trials, staircase


def bpcer(labels: ArrayLike, scores: ArrayLike, threshold: float, weights: ArrayLike | None = None) -> float:
    """Share of real trials with score >= threshold (false alarms). Fakes may be absent."""
    known, values, mass = check_trials(labels, scores, weights, classes=(REAL,))
    real = known == REAL
    return float(mass[real & (values >= threshold)].sum() / mass[real].sum())


def apcer(labels: ArrayLike, scores: ArrayLike, threshold: float, weights: ArrayLike | None = None) -> float:
    """Share of fake trials with score < threshold, pooled over generators: not ISO's APCER, see `worst_apcer`."""
    known, values, mass = check_trials(labels, scores, weights, classes=(FAKE,))
    fake = known == FAKE
    return float(mass[fake & (values < threshold)].sum() / mass[fake].sum())


def apcer_by_generator(
    labels: ArrayLike, scores: ArrayLike, generators: Sequence[str] | ArrayLike, threshold: float
) -> dict[str, tuple[int, int]]:
    """Missed fakes and fakes, (k, n), for every generator (ISO "attack species"), in name order.

    Args:
        generators: (n,) name per trial; entries of real trials are not read.
    """
    known, values, _ = check_trials(labels, scores, classes=(FAKE,))
    names = _names(generators, known.size)
    missed = values < threshold
    out = {}
    for name in sorted({str(g) for g in names[known == FAKE]}):
        own = (known == FAKE) & (names == name)
        out[name] = (int((own & missed).sum()), int(own.sum()))
    return out


def bpcer_counts(labels: ArrayLike, scores: ArrayLike, threshold: float) -> tuple[int, int]:
    """Flagged real trials and real trials, (k, n)."""
    known, values, _ = check_trials(labels, scores, classes=(REAL,))
    real = known == REAL
    return int((real & (values >= threshold)).sum()), int(real.sum())


def worst_apcer(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    generators: Sequence[str] | ArrayLike,
    weights: ArrayLike | None = None,
) -> float:
    """APCER of ISO/IEC 30107-3: the maximum over generators. Biased upward where a generator has few trials."""
    known, values, mass = check_trials(labels, scores, weights, classes=(FAKE,))
    fake = known == FAKE
    _, index = np.unique(_names(generators, known.size)[fake], return_inverse=True)
    total = np.bincount(index, weights=mass[fake])
    missed = np.bincount(index, weights=mass[fake] * (values[fake] < threshold))
    return float((missed[total > 0] / total[total > 0]).max())


def macro_apcer(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    generators: Sequence[str] | ArrayLike,
    weights: ArrayLike | None = None,
) -> float:
    """Mean over generators of APCER: every generator counts alike, however many fakes it made. Not ISO's maximum."""
    known, values, mass = check_trials(labels, scores, weights, classes=(FAKE,))
    fake = known == FAKE
    _, index = np.unique(_names(generators, known.size)[fake], return_inverse=True)
    total = np.bincount(index, weights=mass[fake])
    missed = np.bincount(index, weights=mass[fake] * (values[fake] < threshold))
    return float((missed[total > 0] / total[total > 0]).mean())


def worst_generator(
    labels: ArrayLike, scores: ArrayLike, generators: Sequence[str] | ArrayLike, threshold: float
) -> tuple[str, int, int]:
    """The generator with the highest APCER and its (k, n); the first by name where several tie."""
    counts = apcer_by_generator(labels, scores, generators, threshold)
    name = max(counts, key=lambda g: counts[g][0] / counts[g][1])
    return name, *counts[name]


def acer(
    labels: ArrayLike,
    scores: ArrayLike,
    threshold: float,
    generators: Sequence[str] | ArrayLike,
    weights: ArrayLike | None = None,
) -> float:
    """(worst APCER + BPCER) / 2. Hides the trade-off: secondary only."""
    return (worst_apcer(labels, scores, threshold, generators, weights) + bpcer(labels, scores, threshold, weights)) / 2


def _names(generators: Sequence[str] | ArrayLike, n: int) -> np.ndarray:
    names = np.asarray(generators, dtype=object)
    if names.shape != (n,):
        raise ScoreError(
            f"there are {names.size} generator names for {n} trials", hint="give one name per trial, '' for real ones"
        )
    return np.array(["" if g is None else str(g) for g in names], dtype=object)


def threshold_at_bpcer(labels: ArrayLike, scores: ArrayLike, target: float, weights: ArrayLike | None = None) -> float:
    """Smallest real score v whose BPCER at threshold v does not exceed ``target``; it does not look at fakes.

    Where not even the highest real score qualifies (target below 1/n), the next float above it. To be chosen on
    development data and applied elsewhere.

    Raises:
        ScoreError: target outside [0, 1).
    """
    if not 0.0 <= target < 1.0:
        raise ScoreError(f"the BPCER target is {target}", hint="give a fraction from 0 up to, not including, 1")
    known, values, mass = check_trials(labels, scores, weights, classes=(REAL,))
    real = known == REAL
    distinct, index = np.unique(values[real], return_inverse=True)
    per_value = np.bincount(index, weights=mass[real])
    flagged = np.cumsum(per_value[::-1])[::-1] / per_value.sum()
    allowed = np.flatnonzero(flagged <= target)
    if allowed.size == 0:
        return float(np.nextafter(distinct[-1], math.inf))
    return float(distinct[allowed[0]])


def tpr_at_fpr_of(fpr: Floats, fnr: Floats, target: float = 0.01) -> Floats:
    """Largest achievable TPR with FPR <= target for staircases (b, p)."""
    allowed = (fpr <= target).sum(axis=-1) - 1
    return 1.0 - np.take_along_axis(fnr, np.asarray(allowed)[..., None], -1)[..., 0]


def tpr_at_fpr(
    labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, *, target: float = 0.01
) -> float:
    """Largest TPR among thresholds whose BPCER does not exceed ``target``: an achievable point, not interpolated."""
    steps = staircase(labels, scores, weights)
    return float(tpr_at_fpr_of(steps.bpcer, steps.apcer, target))


def bpcer_at_apcer_of(fpr: Floats, fnr: Floats, target: float = 0.05) -> Floats:
    """Smallest achievable BPCER with APCER <= target for staircases (b, p)."""
    at = first_true(fnr <= target)[..., None]
    return np.take_along_axis(fpr, at, -1)[..., 0]


def bpcer_at_apcer(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    target: float = 0.05,
    generators: Sequence[str] | ArrayLike | None = None,
) -> float:
    """Smallest BPCER among thresholds whose APCER does not exceed ``target`` (BPCER20 at 5 %, BPCER100 at 1 %).

    Args:
        target: the APCER allowed.
        generators: (n,) names; given, the bound holds for every generator (ISO), not only for the pool.
    """
    if generators is None:
        steps = staircase(labels, scores, weights)
        return float(bpcer_at_apcer_of(steps.bpcer, steps.apcer, target))
    known, values, mass = check_trials(labels, scores, weights)
    names = _names(generators, known.size)
    worst = 0.0
    for name in sorted(set(names[(known == FAKE) & (mass > 0)])):
        keep = (known == REAL) | (names == name)
        steps = staircase(known[keep], values[keep], mass[keep])
        worst = max(worst, float(bpcer_at_apcer_of(steps.bpcer, steps.apcer, target)))
    return worst


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionCost:
    """Prior and costs of a detector alone; the defaults are those of ASVspoof 5 track 1.

    Args:
        fake_prior: share of fakes expected in use.
        false_alarm: cost of flagging a real sample (ASVspoof's Cmiss).
        missed_fake: cost of passing a fake (ASVspoof's Cfa).
    """

    fake_prior: float = 0.05
    false_alarm: float = 1.0
    missed_fake: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.fake_prior < 1 or not (self.false_alarm > 0 and self.missed_fake > 0):
            raise ScoreError(
                f"{self} is not a cost model", hint="the prior lies between 0 and 1, and both costs are above 0"
            )

    @property
    def real_term(self) -> float:
        """Weight of BPCER in the cost."""
        return self.false_alarm * (1 - self.fake_prior)

    @property
    def fake_term(self) -> float:
        """Weight of APCER in the cost."""
        return self.missed_fake * self.fake_prior

    @property
    def threshold(self) -> float:
        """Bayes threshold on an llr fake : bona fide, natural log: ln(real_term / fake_term)."""
        return math.log(self.real_term / self.fake_term)

    def of(self, bpcer: Floats | float, apcer: Floats | float) -> Floats:
        """Cost divided by that of the better of flagging all and flagging nothing."""
        total = self.real_term * np.asarray(bpcer) + self.fake_term * np.asarray(apcer)
        return total / min(self.real_term, self.fake_term)


ASVSPOOF5_COST = DetectionCost()


def min_dcf_of(fpr: Floats, fnr: Floats, cost: DetectionCost = ASVSPOOF5_COST) -> Floats:
    """Minimum normalised cost over the thresholds of staircases (b, p)."""
    return cost.of(fpr, fnr).min(axis=-1)


def min_dcf(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    cost: DetectionCost = ASVSPOOF5_COST,
) -> float:
    """Minimum normalised detection cost over all thresholds (ASVspoof 5 evaluation plan): an oracle, descriptive."""
    steps = staircase(labels, scores, weights)
    return float(min_dcf_of(steps.bpcer, steps.apcer, cost))


def act_dcf(
    labels: ArrayLike,
    llr: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    cost: DetectionCost = ASVSPOOF5_COST,
) -> float:
    """Normalised detection cost at the Bayes threshold; ``llr`` (n,) are natural-log ratios fake : bona fide.

    The official code accepts iff s >= tau, which flags strictly beyond it; here a tie with the threshold is flagged,
    as everywhere in this house.
    """
    known, values, mass = check_trials(labels, llr, weights, name="llr")
    return float(
        cost.of(
            bpcer(known, values, cost.threshold, mass),
            apcer(known, values, cost.threshold, mass),
        )
    )


def nonresponse_counts(labels: ArrayLike, answered: ArrayLike) -> dict[str, tuple[int, int]]:
    """Trials without a score and trials, (k, n), for ``real`` (BPNRR) and ``fake`` (APNRR); ``answered`` (n,) bool."""
    known, given = np.asarray(labels), np.asarray(answered, dtype=bool)
    if known.shape != given.shape:
        raise ScoreError(f"{known.size} labels and {given.size} answers", hint="give one of each per trial")
    return {
        word: (int(((known == label) & ~given).sum()), int((known == label).sum()))
        for label, word in ((REAL, "real"), (FAKE, "fake"))
    }


def silent_share(labels: ArrayLike, silence: ArrayLike, weights: ArrayLike | None = None, *, label: int) -> float:
    """Share of the trials of one class that got no answer; ``silence`` (n,) is 1 where there is none, else 0."""
    known, values, mass = check_trials(labels, silence, weights, name="silence", classes=(label,))
    own = known == label
    return float((mass[own] * values[own]).sum() / mass[own].sum())


def worst_case_scores(
    labels: ArrayLike, scores: ArrayLike, answered: ArrayLike, thresholds: Sequence[float] = ()
) -> Floats:
    """Scores (n,) in which every non-response counts as an error: a fake ranks lowest, a real trial highest.

    The filled values lie beyond all scores given and beyond ``thresholds``, so that error rates at those thresholds
    count them too.

    Raises:
        ScoreError: no trial has a score.
    """
    known, given = np.asarray(labels), np.asarray(answered, dtype=bool)
    out = np.array(scores, dtype=np.float64)
    if not given.any():
        raise ScoreError("no trial has a score", hint="see the statuses and reasons in the score table")
    bounds = np.concatenate([out[given], np.asarray(thresholds, dtype=np.float64)])
    low, high = float(bounds.min()), float(bounds.max())
    margin = max(1.0, abs(low), abs(high))
    out[~given & (known == FAKE)] = low - margin
    out[~given & (known == REAL)] = high + margin
    return out
