"""Detector and speaker verifier judged together: t-DCF of 2019 and 2021, a-DCF, t-EER, SASV error rates.

Detector and joint (SASV) scores follow the law of polarity: they grow with fake, that is with *reject*; joint systems
usually score acceptance, so negate theirs at the door. ``asv_scores`` are similarities and grow with the target
speaker. Trials: a fake is a spoof; a real trial is ``target`` or not. All rates and values are fractions, the t-EER
too (the official code prints that one in percent).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from deepassay.errors import ScoreError
from deepassay.labels import FAKE, REAL
from deepassay.metrics.ranking import eer
from deepassay.metrics.trials import Floats, check_trials, staircase


@dataclass(frozen=True, slots=True, kw_only=True)
class AsvRates:
    """Error rates of a speaker verifier at its own threshold: accept iff similarity >= threshold.

    Args:
        miss: share of target trials rejected.
        false_alarm: share of non-target trials accepted.
        false_alarm_spoof: share of spoofs accepted. Not ``miss_spoof`` = 1 - this: the ASVspoof 5 package once took
            one for the other.
        threshold: similarity at which the rates were taken, if known.
    """

    miss: float
    false_alarm: float
    false_alarm_spoof: float
    threshold: float | None = None

    def __post_init__(self) -> None:
        for name in ("miss", "false_alarm", "false_alarm_spoof"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ScoreError(f"ASV rate {name} is {getattr(self, name)}", hint="rates are fractions from 0 to 1")

    @property
    def miss_spoof(self) -> float:
        """Share of spoofs rejected by the verifier."""
        return 1.0 - self.false_alarm_spoof


def _similarities(values: ArrayLike, kind: str) -> Floats:
    out = np.asarray(values, dtype=np.float64)
    if out.ndim != 1 or out.size == 0 or not np.isfinite(out).all():
        raise ScoreError(
            f"the {kind} ASV scores are {'empty' if out.size == 0 else 'not a flat array of finite numbers'}",
            hint="give target, non-target and spoof trials of the same verifier",
        )
    return out


def asv_rates(target: ArrayLike, nontarget: ArrayLike, spoof: ArrayLike, threshold: float) -> AsvRates:
    """Rates of a verifier from its similarities (each (n,)) at a threshold."""
    return AsvRates(
        miss=float((_similarities(target, "target") < threshold).mean()),
        false_alarm=float((_similarities(nontarget, "non-target") >= threshold).mean()),
        false_alarm_spoof=float((_similarities(spoof, "spoof") >= threshold).mean()),
        threshold=float(threshold),
    )


def asv_eer_threshold(target: ArrayLike, nontarget: ArrayLike) -> float:
    """The similarity at which the ASVspoof walk (E1) finds the verifier's EER: first of least |miss - false alarm|."""
    wanted, others = _similarities(target, "target"), _similarities(nontarget, "non-target")
    values = np.concatenate([wanted, others])
    is_target = np.concatenate([np.ones(wanted.size), np.zeros(others.size)])
    order = np.argsort(values, kind="stable")
    miss = np.cumsum(is_target[order]) / wanted.size
    false_alarm = (others.size - np.cumsum(1 - is_target[order])) / others.size
    return float(values[order][np.argmin(np.abs(miss - false_alarm))])


def asv_rates_at_eer(target: ArrayLike, nontarget: ArrayLike, spoof: ArrayLike) -> AsvRates:
    """Rates of a verifier at its own EER threshold, as ASVspoof fixes it before judging detectors."""
    return asv_rates(target, nontarget, spoof, asv_eer_threshold(target, nontarget))


@dataclass(frozen=True, slots=True, kw_only=True)
class TandemCost:
    """Priors and costs of a tandem; the defaults are those of ASVspoof 2019, 2021 and 5 (track 2 t-DCF).

    Args:
        spoof_prior, target_prior, nontarget_prior: shares of trials, which sum to 1.
        miss: cost of rejecting a target, whichever part of the tandem does it.
        false_alarm: cost of accepting a non-target.
        false_alarm_spoof: cost of accepting a spoof.
    """

    spoof_prior: float = 0.05
    target_prior: float = 0.9405
    nontarget_prior: float = 0.0095
    miss: float = 1.0
    false_alarm: float = 10.0
    false_alarm_spoof: float = 10.0

    def __post_init__(self) -> None:
        total = self.spoof_prior + self.target_prior + self.nontarget_prior
        if abs(total - 1.0) > 1e-9 or min(self.spoof_prior, self.target_prior, self.nontarget_prior) < 0:
            raise ScoreError(f"the priors of {self} sum to {total}", hint="give three shares of trials that sum to 1")
        if min(self.miss, self.false_alarm, self.false_alarm_spoof) <= 0:
            raise ScoreError(f"a cost in {self} is not above 0", hint="give positive costs")


ASVSPOOF_TANDEM = TandemCost()
ADCF_PACKAGE_DEFAULT = TandemCost(
    spoof_prior=0.05, target_prior=0.9, nontarget_prior=0.05, miss=1.0, false_alarm=10.0, false_alarm_spoof=20.0
)


def tdcf_weights(
    asv: AsvRates, cost: TandemCost = ASVSPOOF_TANDEM, version: str = "2021"
) -> tuple[float, float, float]:
    """C0, C1, C2 of t-DCF = C0 + C1 BPCER + C2 APCER, before normalising.

    ``2021`` is the ASV-constrained form of Kinnunen et al. 2020 (IEEE/ACM TASLP 28); ``2019`` the first form of the
    ASVspoof 2019 plan, which leaves out C0. The two are not comparable.

    Raises:
        ScoreError: another version, or weights that are not positive (the verifier is too poor for the 2019 form).
    """
    verifier = cost.target_prior * cost.miss * asv.miss + cost.nontarget_prior * cost.false_alarm * asv.false_alarm
    second = cost.spoof_prior * cost.false_alarm_spoof * asv.false_alarm_spoof
    first = cost.target_prior * cost.miss - verifier
    if version == "2021":
        weights = verifier, first, second
    elif version == "2019":
        weights = 0.0, first, second
    else:
        raise ScoreError(f"there is no t-DCF version {version!r}", hint="use '2021' or '2019'")
    if first <= 0 or second <= 0:
        raise ScoreError(
            f"the t-DCF weights are C1 = {first:.6g} and C2 = {second:.6g}, and both must be above 0",
            hint="the verifier rejects too many targets or every spoof at this threshold; check its scores",
        )
    return weights


def tdcf_of(
    fpr: Floats,
    fnr: Floats,
    asv: AsvRates,
    cost: TandemCost = ASVSPOOF_TANDEM,
    version: str = "2021",
) -> Floats:
    """Minimum normalised t-DCF over the thresholds of staircases (b, p)."""
    zero, first, second = tdcf_weights(asv, cost, version)
    return ((zero + first * fpr + second * fnr) / (zero + min(first, second))).min(axis=-1)


def min_tdcf(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    asv: AsvRates,
    cost: TandemCost = ASVSPOOF_TANDEM,
    version: str = "2021",
) -> float:
    """Minimum normalised tandem detection cost of a detector before a fixed verifier.

    Args:
        asv: the verifier's rates at its own threshold; name where they come from beside the number.
        version: ``2021`` (also called ASV-constrained; ASVspoof 2021 and 5) or ``2019`` (legacy).
    """
    steps = staircase(labels, scores, weights)
    return float(tdcf_of(steps.bpcer, steps.apcer, asv, cost, version))


def _targets(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None, target: ArrayLike):
    known, values, mass = check_trials(labels, scores, weights)
    wanted = np.asarray(target, dtype=bool)
    if wanted.shape != known.shape:
        raise ScoreError(f"{wanted.size} target flags for {known.size} trials", hint="give one flag per trial")
    wanted = wanted & (known == REAL)
    others = (known == REAL) & ~wanted
    for mask, word in ((wanted, "target"), (others, "non-target")):
        if not mass[mask].sum() > 0:
            raise ScoreError(f"there is no {word} trial", hint="joint metrics need target, non-target and spoof trials")
    return known, values, mass, wanted, others


def a_dcf(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    target: ArrayLike,
    cost: TandemCost = ASVSPOOF_TANDEM,
) -> float:
    """Minimum normalised a-DCF (Shim et al. 2024) of one joint system, over tie-safe thresholds.

    Args:
        scores: (n,) joint scores that grow with reject; a trial is rejected iff score >= threshold.
        target: (n,) bool, real trials of the claimed speaker.
        cost: ASVspoof 5's by default; the public package's own default, `ADCF_PACKAGE_DEFAULT`, gives other values.
    """
    known, values, mass, wanted, others = _targets(labels, scores, weights, target)
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.append(values[order][1:] != values[order][:-1], True))

    def rejected(mask: np.ndarray) -> Floats:
        run = np.cumsum(np.where(mask, mass, 0.0)[order])[last]
        return np.concatenate([[0.0], run]) / mass[mask].sum()

    total = (
        cost.miss * cost.target_prior * rejected(wanted)
        + cost.false_alarm * cost.nontarget_prior * (1 - rejected(others))
        + cost.false_alarm_spoof * cost.spoof_prior * (1 - rejected(known == FAKE))
    )
    accept_all = cost.false_alarm * cost.nontarget_prior + cost.false_alarm_spoof * cost.spoof_prior
    return float(total.min() / min(accept_all, cost.miss * cost.target_prior))


def sasv_eer(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    target: ArrayLike,
    against: str = "both",
    definition: str = "E3",
) -> float:
    """EER of a joint system between targets and what must be rejected (SASV challenge 2022).

    Args:
        scores: (n,) joint scores that grow with reject.
        against: ``both`` non-targets and spoofs pooled (SASV-EER), ``nontarget`` (SV-EER) or ``spoof`` (SPF-EER).
        definition: see `deepassay.metrics.ranking.EER_DEFINITIONS`; E1 is the official one.

    Raises:
        ScoreError: another word for ``against``.
    """
    known, values, mass, wanted, others = _targets(labels, scores, weights, target)
    negatives = {"both": ~wanted, "nontarget": others, "spoof": known == FAKE}
    if against not in negatives:
        raise ScoreError(f"there is no joint EER against {against!r}", hint=f"use one of {list(negatives)}")
    keep = wanted | negatives[against]
    return eer((~wanted)[keep].astype(np.int8), values[keep], definition, mass[keep])


def t_eer(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    target: ArrayLike,
    asv_scores: ArrayLike,
) -> float:
    """Concurrent tandem EER (Kinnunen et al. 2023, IEEE TPAMI): the rate at which tandem misses and both kinds of
    tandem false alarm meet, whatever the share of spoofs.

    For every verifier threshold the detector threshold is taken where tandem miss is nearest to the false alarm on
    non-targets; among those, the pair at which false alarms on non-targets and on spoofs are closest as a ratio is the
    crossing, and the spoof false alarm there is returned, as the official code does (a fraction here, percent there).

    Args:
        scores: (n,) detector scores that grow with fake.
        target: (n,) bool.
        asv_scores: (n,) similarities that grow with the target speaker.

    Raises:
        ScoreError: target, non-target or spoof trials are missing.
    """
    known, values, mass, wanted, others = _targets(labels, scores, weights, target)
    _, similar, _ = check_trials(known, asv_scores, mass, name="asv score")
    steps = staircase(known, values, mass)
    cm_miss, cm_pass = steps.bpcer, steps.apcer
    order = np.argsort(similar, kind="stable")
    last = np.flatnonzero(np.append(similar[order][1:] != similar[order][:-1], True))

    def below(mask: np.ndarray) -> Floats:
        run = np.cumsum(np.where(mask, mass, 0.0)[order])[last]
        return np.concatenate([[0.0], run]) / mass[mask].sum()

    miss, accept, accept_spoof = below(wanted), 1 - below(others), 1 - below(known == FAKE)

    # For a fixed verifier threshold, tandem miss minus tandem false alarm rises with the detector's BPCER: bisect for
    # all verifier thresholds at once. Half the attacks are spoofs on this path, as in the ASVspoof 5 package.
    def gap(at: np.ndarray) -> Floats:
        passed = 1 - cm_miss[at]
        return cm_miss[at] + passed * miss - 0.5 * (passed * accept + cm_pass[at] * accept_spoof)

    low, high = np.zeros(miss.size, dtype=np.intp), np.full(miss.size, cm_miss.size - 1, dtype=np.intp)
    while (low < high).any():
        middle = (low + high) // 2
        beyond = gap(middle) >= 0
        high = np.where(beyond, middle, high)
        low = np.where(beyond, low, middle + 1)
    before = np.maximum(high - 1, 0)
    at = np.where(np.abs(gap(before)) <= np.abs(gap(high)), before, high)
    # The lowest verifier threshold accepts everybody and is always allowed.
    allowed = (miss < 0.5 * (accept + accept_spoof)) & (accept_spoof > 0) & (cm_miss[at] < 1)
    distance = np.full(miss.size, np.inf)
    distance[allowed] = np.abs(
        accept[allowed] / accept_spoof[allowed] - cm_pass[at][allowed] / (1 - cm_miss[at][allowed])
    )
    best = int(np.argmin(distance))
    return float(accept_spoof[best] * cm_pass[at[best]])
