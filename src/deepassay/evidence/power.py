"""Power: how many independent samples a measured rate was worth, and what could have been shown with them."""

from collections.abc import Mapping, Sequence
from typing import Any

from deepassay.evaluation import Number
from deepassay.evidence.protocol import Claim, Protocol
from deepassay.metrics.intervals import wilson
from deepassay.metrics.planning import claim_power, sample_size

CHANCE = 0.8  # of support that is called enough
RATES = ("apcer", "bpcer", "apcer_pooled")


def power_statements(protocol: Protocol, chosen: Mapping[str, Number | None]) -> list[dict[str, Any]]:
    """One statement per claim "a rate is at most theta": what this test could have shown.

    The design effect is the squared ratio of the cluster interval's width to Wilson's for as many independent samples
    (Kish 1965); where none or all failed, each cluster is worth one sample. Power is that of the exact one-sided bound
    at (1 + level) / 2.

    Returns:
        JSON values: claim, theta, n, n_clusters, design_effect, n_effective, power_at_half_theta, largest_rate (the
        highest true rate at which support had a chance of 0.8; None where none had), n_needed (independent samples for
        that chance at half of theta).
    """
    out = []
    for claim in protocol.claims:
        number = chosen.get(claim.id)
        found = None if number is None else _statement(claim, number, (1 + protocol.level) / 2)
        out += [] if found is None else [found]
    return out


def _statement(claim: Claim, number: Number, level: float) -> dict[str, Any] | None:
    if claim.metric not in RATES or claim.side != "at_most" or number.count is None or number.ci is None:
        return None
    k, n = number.count
    if 0 < k < n:
        naive = wilson(k, n, level=number.ci["level"])
        effect = max(1.0, ((number.ci["hi"] - number.ci["lo"]) / (naive.hi - naive.lo)) ** 2)
    else:
        effect = n / max(1, number.n_clusters)
    worth = max(1, int(n / effect))
    half = claim.theta / 2
    rates = [claim.theta * step / 40 for step in range(1, 40)]
    good = [rate for rate in rates if claim_power(worth, rate, claim.theta, level) >= CHANCE]
    return {
        "claim": claim.id,
        "theta": claim.theta,
        "n": n,
        "n_clusters": number.n_clusters,
        "design_effect": round(effect, 3),
        "n_effective": worth,
        "power_at_half_theta": round(float(claim_power(worth, half, claim.theta, level)), 4),
        "largest_rate": round(max(good), 6) if good else None,
        "n_needed": sample_size(half, claim.theta, CHANCE, level).n_independent,
    }


def shortest(statements: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The statement with the least power."""
    return min(statements, key=lambda one: one["power_at_half_theta"], default=None)
