"""Planning: before any output exists, how many outputs, real samples and persons each claim of a protocol needs."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from deepassay.errors import ConfigError
from deepassay.evidence.protocol import Claim, Protocol
from deepassay.metrics.planning import claim_power, clusters_needed, design_effect, sample_size

RATES = ("apcer", "bpcer", "apcer_pooled")


@dataclass(frozen=True, kw_only=True)
class Need:
    """What one claim needs.

    Args:
        claim: its id; ``stratum``: whose samples count, ``outputs`` of the tool or ``real`` samples.
        theta, true_rate: the declared limit, and the rate that is expected.
        power: chance of "supported" if the true rate is as expected.
        samples, clusters: samples, and persons (else sources) that they come from.
        max_errors: most errors among as many independent samples that still leave the interval below theta.
        reason: why there is no plan, or what raised the need above the statistical one.
    """

    claim: str
    stratum: str
    theta: float
    true_rate: float | None
    power: float
    samples: int | None
    clusters: int | None
    max_errors: int | None
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def plan(
    protocol: Protocol,
    *,
    true_rates: Mapping[str, float],
    per_person: float = 1.0,
    correlation: float = 0.3,
    power: float = 0.8,
) -> list[Need]:
    """What every claim of a protocol needs, by exact binomial power at the design effect of clustered samples.

    A claim "at most theta" is supported iff the two-sided interval lies below theta, which is planned with the exact
    one-sided bound at (1 + level) / 2 (Clopper and Pearson 1934), on samples that are worth n / (1 + (m - 1) rho)
    independent ones (Kish 1965). The protocol's own minima (clusters, outputs) and the rule of 3 for the operating
    point are kept.

    Args:
        true_rates: the rate expected of each claim, by claim id; a claim without one is planned at half of its theta.
        per_person: samples of one person (cluster), m.
        correlation: of errors within one person, rho; measured on dev, or assumed.
        power: chance of "supported" that is wanted.

    Raises:
        ConfigError: a rate for a claim that the protocol does not have.
        ScoreError: a rate that is not below theta, or numbers out of range.
    """
    unknown = sorted(set(true_rates) - {claim.id for claim in protocol.claims})
    if unknown:
        raise ConfigError(
            f"protocol {protocol.name} has no claim {unknown[0]!r}",
            hint=f"its claims are {', '.join(claim.id for claim in protocol.claims)}",
        )
    return [
        _need(claim, protocol, true_rates.get(claim.id), per_person, correlation, power) for claim in protocol.claims
    ]


def _need(
    claim: Claim, protocol: Protocol, rate: float | None, per_person: float, correlation: float, power: float
) -> Need:
    stratum = "real" if claim.metric == "bpcer" else "outputs"
    if claim.metric not in RATES or claim.side != "at_most":
        return Need(
            claim=claim.id, stratum="outputs and real", theta=claim.theta, true_rate=rate, power=power, samples=None,
            clusters=protocol.minimum_clusters, max_errors=None,
            reason=f"no plan for {claim.metric} {claim.side.replace('_', ' ')}: only the least number of persons",
        )  # fmt: skip
    expected = claim.theta / 2 if rate is None else rate
    found = sample_size(expected, claim.theta, power, (1 + protocol.level) / 2)
    clusters = clusters_needed(found.n_independent, per_person, correlation)
    reasons = [] if rate is not None else ["expected rate: half of theta"]
    least = protocol.minimum_clusters
    if stratum == "outputs":
        floor = protocol.minimum_attack
        why = f"the protocol's minimum of {floor} outputs"
    else:
        target = _target(claim.operating_point)
        floor = 0 if target is None else round(3 / target + 0.4999)
        why = f"rule of 3 at {claim.operating_point}: {floor} real samples, here and on dev"
    if clusters < least:
        clusters, reasons = least, [*reasons, f"the protocol's minimum of {least} persons"]
    samples = max(round(clusters * per_person), floor)
    if samples > round(clusters * per_person):
        clusters, reasons = max(clusters, -int(-samples // per_person)), [*reasons, why]
    return Need(
        claim=claim.id, stratum=stratum, theta=claim.theta, true_rate=expected, power=power, samples=samples,
        clusters=clusters, max_errors=found.max_errors, reason="; ".join(reasons),
    )  # fmt: skip


def _target(point: str) -> float | None:
    """The false-alarm rate in a name like ``bpcer_5``; None for other names."""
    try:
        return float(point.removeprefix("bpcer_")) / 100 if point.startswith("bpcer_") else None
    except ValueError:
        return None


def power_of(need: Need, protocol: Protocol, *, samples: int, per_person: float, correlation: float) -> float:
    """Chance of "supported" for a claim on another number of samples, at the same expected rate."""
    if need.true_rate is None or need.samples is None:
        raise ConfigError(f"claim {need.claim} has no plan", hint=need.reason)
    worth = int(samples / design_effect(per_person, correlation))
    return 0.0 if worth < 1 else claim_power(worth, need.true_rate, need.theta, (1 + protocol.level) / 2)
