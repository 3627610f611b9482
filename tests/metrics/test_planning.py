"""Sample sizes against exhaustive search, and the design effect."""

import pytest
from scipy.stats import beta, binom

from deepassay.errors import ScoreError
from deepassay.metrics.planning import (
    claim_power,
    clusters_needed,
    design_effect,
    effective_n,
    largest_passing_count,
    power_table,
    rule_of_three,
    sample_size,
    zero_error_n,
)


@pytest.mark.parametrize(("rate", "claim"), [(0.05, 0.15), (0.1, 0.2), (0.02, 0.1)])
def test_first_n_with_the_power(rate, claim):
    def power(n: int) -> float:
        most = -1
        while beta.ppf(0.95, most + 2, n - most - 1) < claim:
            most += 1
        return binom.cdf(most, n, rate) if most >= 0 else 0.0

    n = next(n for n in range(1, 2000) if power(n) >= 0.9)
    found = sample_size(rate, claim)
    assert found.n_independent == n
    assert claim_power(n, rate, claim) == pytest.approx(power(n))


def test_counts_that_pass():
    assert largest_passing_count(10, 0.01) == -1
    assert largest_passing_count(59, 0.05) == 0
    assert largest_passing_count(58, 0.05) == -1
    assert zero_error_n(0.05) == 59
    assert rule_of_three(59) < 0.05 < rule_of_three(58)


def test_table_and_design_effect():
    table = power_table(true_rates=(0.05,), factors=(2.0, 3.0))
    assert [row.claim for row in table] == pytest.approx([0.1, 0.15])
    assert table[0].n_independent > table[1].n_independent
    assert design_effect(20, 0.3) == pytest.approx(6.7)
    assert effective_n(1200, 20, 0.3) == pytest.approx(179.1, abs=0.1)
    assert clusters_needed(839, 20, 0.3) == 282
    assert clusters_needed(839, 1, 0.0) == 839


def test_refusals():
    for call in (
        lambda: sample_size(0.05, 0.05),
        lambda: zero_error_n(0.0),
        lambda: rule_of_three(0),
        lambda: design_effect(0.5, 0.1),
        lambda: claim_power(10, 0.0, 0.1),
    ):
        with pytest.raises(ScoreError, match="hint"):
            call()
