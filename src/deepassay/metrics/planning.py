"""How many independent units a claim needs: rule of 3, rule of 30, power of an exact bound, design effect."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from deepassay.errors import ScoreError
from deepassay.metrics.intervals import clopper_pearson_upper

CLAIM_FACTORS = (1.5, 2.0, 3.0)
TRUE_RATES = (0.05, 0.01, 0.005, 0.001)


def _check_rate(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise ScoreError(f"{name} is {value}", hint=f"give {name} as a fraction between 0 and 1")


def rule_of_three(n: int, level: float = 0.95) -> float:
    """Exact one-sided upper bound after 0 errors in n independent trials: 1 - (1 - level)^(1/n), about 3/n at 95 %."""
    if n < 1:
        raise ScoreError(f"n is {n}", hint="give at least one trial")
    _check_rate("the level", level)
    return -math.expm1(math.log1p(-level) / n)


def zero_error_n(claim: float, level: float = 0.95) -> int:
    """Smallest n for which 0 errors in n independent trials show "rate <= claim" at a one-sided level."""
    _check_rate("the claim", claim)
    _check_rate("the level", level)
    return math.ceil(math.log1p(-level) / math.log1p(-claim) - 1e-12)


def rule_of_thirty(true_rate: float, errors: int = 30) -> int:
    """n at which 30 errors are expected: the rate is then known to about +-30 % at 90 % (Doddington et al. 2000)."""
    _check_rate("the true rate", true_rate)
    return math.ceil(errors / true_rate - 1e-9)


def largest_passing_count(n: int, claim: float, level: float = 0.95) -> int:
    """Most errors k among n for which the one-sided Clopper-Pearson bound stays below the claim; -1 if none does."""
    _check_rate("the claim", claim)
    low, high = -1, n
    while low < high:
        middle = (low + high + 1) // 2
        if clopper_pearson_upper(middle, n, level) < claim:
            low = middle
        else:
            high = middle - 1
    return low


def claim_power(n: int, true_rate: float, claim: float, level: float = 0.95) -> float:
    """Probability that n independent trials at ``true_rate`` show "rate < claim" by the exact one-sided bound."""
    from scipy.special import bdtr

    _check_rate("the true rate", true_rate)
    most = largest_passing_count(n, claim, level)
    return 0.0 if most < 0 else float(bdtr(most, n, true_rate))


@dataclass(frozen=True, slots=True)
class SampleSize:
    """Independent units that show a claim with the given power, and the most errors that still pass."""

    true_rate: float
    claim: float
    power: float
    n_independent: int
    max_errors: int


def sample_size(true_rate: float, claim: float, power: float = 0.9, level: float = 0.95) -> SampleSize:
    """Smallest n of independent units whose power to show "rate < claim" reaches ``power``.

    Power saws up and down with n, since counts are whole; this is the first n that reaches it, the peak of a tooth: for
    each number of errors allowed, power is highest at the smallest n that allows it. A few more may fall short again.

    Raises:
        ScoreError: the claim is not above the true rate.
    """
    from scipy.special import bdtr

    _check_rate("the claim", claim)
    _check_rate("the true rate", true_rate)
    _check_rate("the power", power)
    if claim <= true_rate:
        raise ScoreError(
            f"a claim of {claim} cannot be shown where the true rate is {true_rate}",
            hint="claim a rate above the one you expect",
        )
    errors, n = 0, zero_error_n(claim, level)
    while True:
        while not clopper_pearson_upper(errors, n, level) < claim:
            n += 1
        if bdtr(errors, n, true_rate) >= power:
            return SampleSize(true_rate, claim, power, n, errors)
        errors += 1
        # The next tooth starts about 1 / claim further on; step back to be sure not to jump over it.
        n += max(1, int(0.5 / claim))
        while clopper_pearson_upper(errors, n, level) < claim:
            n -= 1
        n += 1


def power_table(
    true_rates: Sequence[float] = TRUE_RATES,
    factors: Sequence[float] = CLAIM_FACTORS,
    power: float = 0.9,
    level: float = 0.95,
) -> list[SampleSize]:
    """`sample_size` for claims of each factor times each true rate."""
    return [sample_size(rate, factor * rate, power, level) for rate in true_rates for factor in factors]


def design_effect(cluster_size: float, correlation: float) -> float:
    """Kish's design effect 1 + (m - 1) rho for clusters of m trials with intra-cluster correlation rho."""
    if cluster_size < 1 or not 0 <= correlation <= 1:
        raise ScoreError(
            f"cluster size {cluster_size} and correlation {correlation}",
            hint="a cluster has at least one trial, and the correlation lies between 0 and 1",
        )
    return 1 + (cluster_size - 1) * correlation


def effective_n(n: float, cluster_size: float, correlation: float) -> float:
    """Independent trials that n clustered ones are worth: n / design effect."""
    return n / design_effect(cluster_size, correlation)


def clusters_needed(n_independent: int, cluster_size: float, correlation: float) -> int:
    """Clusters of m trials each that are worth ``n_independent`` trials."""
    return math.ceil(n_independent * design_effect(cluster_size, correlation) / cluster_size - 1e-9)
