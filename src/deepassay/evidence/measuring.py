"""Everything that is measured for one assessment, from tables, plan and thresholds alone; to verify, made again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deepassay.calibrator import Calibration, OperatingPoint
from deepassay.evaluation import AS_ERROR, Number, curves, measure, measure_generator
from deepassay.evidence.comparisons import Compared, measure_comparisons
from deepassay.evidence.conditions import LADDER, ConditionScores
from deepassay.evidence.controls import measure_controls
from deepassay.evidence.log import INTERVALS, SCHEMA_VERSION
from deepassay.evidence.pairs import measure_pairs
from deepassay.evidence.power import power_statements
from deepassay.evidence.protocol import Claim, Protocol
from deepassay.evidence.tool import ToolUnderAssessment
from deepassay.labels import FAKE, REAL
from deepassay.scores import ScoreTable

FEWEST_PERSONS = 5
PLAIN_VERSIONS = ("0.1", "0.2")  # of the log; they hold the numbers of `evaluation.measure` and nothing else


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came out.

    Args:
        numbers: every record; those that claims rest on are confirmatory where they are powered.
        chosen: claim id -> the number that it rests on, with non-responses counted as errors.
        comparisons: of the protocol, Holm-adjusted. power: see `power.power_statements`.
        conditions: name -> calibrated table of the files that were scored under it.
    """

    numbers: list[Number]
    chosen: dict[str, Number | None]
    comparisons: list[Compared] = field(default_factory=list)
    power: list[dict[str, Any]] = field(default_factory=list)
    conditions: dict[str, ScoreTable] = field(default_factory=dict)


def measure_all(
    test: ScoreTable,
    dev: ScoreTable,
    protocol: Protocol,
    points: Sequence[OperatingPoint],
    tool: ToolUnderAssessment,
    *,
    generators_seen: Sequence[str] | None,
    scores: ConditionScores | None = None,
    kinds: Mapping[str, str] | None = None,
    calibration: Calibration | None = None,
    version: str = SCHEMA_VERSION,
) -> Measured:
    """Every number of the log.

    Args:
        test, dev: calibrated.
        scores: under conditions; None where no file was scored again.
        kinds: condition -> its kind.
        calibration: of the detector; needed with ``scores``.
        version: of the log that the numbers are for.

    Raises:
        ScoreError, LeakError: as `evaluation.measure`.
        ConfigError: controls or comparisons of something that is not there.
    """
    options: dict[str, Any] = {"replicates": protocol.replicates, "level": protocol.level, "seed": protocol.seed}
    least: dict[str, Any] = {"minimum_clusters": protocol.minimum_clusters, "minimum_attack": protocol.minimum_attack}
    numbers = measure(
        test, operating_points=points, slices=protocol.slices, generators_seen=generators_seen,
        method=INTERVALS[version], **options, **least,
    )  # fmt: skip
    comparisons: list[Compared] = []
    tables: dict[str, ScoreTable] = {}
    if version not in PLAIN_VERSIONS:
        numbers += group_gaps(numbers)
        numbers += measure_pairs(test, tool.generator, **options, **least)
        numbers += measure_controls(test, dev, protocol.controls, operating_points=points, **options, **least)
        if scores is not None and calibration is not None:
            tables = {name: scores.under(name, test, calibration) for name in scores.names}
        for name, table in tables.items():
            numbers += _under(name, (kinds or {}).get(name, LADDER), table, tool, points, {**options, **least})
        comparisons = measure_comparisons(
            protocol.comparisons, test, tables, tool.generator, operating_points=points,
            minimum_clusters=protocol.minimum_clusters, **options,
        )  # fmt: skip
        numbers += [one.number for one in comparisons]
    carrying = {n.id for claim in protocol.claims for n in [number_of(claim, numbers, tool)] if n is not None}
    numbers = [
        replace(n, status="confirmatory") if n.id in carrying and n.status == "exploratory" else n for n in numbers
    ]
    chosen = {claim.id: number_of(claim, numbers, tool) for claim in protocol.claims}
    power = [] if version in PLAIN_VERSIONS else power_statements(protocol, chosen)
    return Measured(numbers=numbers, chosen=chosen, comparisons=comparisons, power=power, conditions=tables)


def group_gaps(numbers: Sequence[Number]) -> list[Number]:
    """Largest minus smallest BPCER and APCER over the groups of each slice, at one threshold; groups of 5 persons on.

    Such a maximum is biased upward, so that it has no interval of its own: it is read beside the groups' intervals.
    Where a group is under-powered so is the gap.
    """
    groups: dict[tuple[str, str, str, str], list[Number]] = {}
    for number in numbers:
        where = dict(number.slice)
        convention = where.pop("nonresponse", "")
        if number.metric not in ("bpcer", "apcer_pooled") or len(where) != 1 or number.n_clusters < FEWEST_PERSONS:
            continue
        name = next(iter(where))
        if name not in ("generator", "generator_family", "exposure") and number.value is not None:
            groups.setdefault((name, number.metric, number.operating_point, convention), []).append(number)
    out = []
    for (name, metric, point, convention), found in groups.items():
        if len(found) < 2:
            continue
        short, rates = metric.removesuffix("_pooled"), [float(n.value or 0.0) for n in found]
        weak = any(n.status == "under_powered" for n in found)
        out.append(
            replace(
                found[0], id=f"gap_{short}/{point}/gap_over={name}/nonresponse={convention}", metric=f"gap_{short}",
                definition=f"m:gap@1 of {found[0].definition}", direction="lower_better",
                value=max(rates) - min(rates), ci=None, no_ci_reason="a maximum over groups is biased upward",
                count=None, slice={"gap_over": name, "nonresponse": convention},
                n_bona=sum(n.n_bona for n in found), n_attack=sum(n.n_attack for n in found),
                n_clusters=sum(n.n_clusters for n in found), n_nonresponse=sum(n.n_nonresponse for n in found),
                status="under_powered" if weak else "exploratory",
            )
        )  # fmt: skip
    return out


def _under(
    name: str,
    kind: str,
    table: ScoreTable,
    tool: ToolUnderAssessment,
    points: Sequence[OperatingPoint],
    options: Mapping[str, Any],
) -> list[Number]:
    where = {"condition": name}
    if not table.answered.any():
        return []
    if kind != LADDER:
        return measure_generator(table, "", where, ranking=("auc", "eer"), **options)
    return measure_generator(table, tool.generator, where, operating_points=points, **options)


def number_of(claim: Claim, numbers: Sequence[Number], tool: ToolUnderAssessment) -> Number | None:
    """The number that a claim rests on, with non-responses counted as errors."""
    for number in numbers:
        where = dict(number.slice)
        if number.metric != claim.metric or number.operating_point != claim.operating_point:
            continue
        if where.pop("nonresponse", AS_ERROR) != AS_ERROR and claim.metric not in ("cllr", "act_dcf"):
            continue
        if where.pop("condition", "") != claim.condition:
            continue
        wanted: bool = {
            "tool": where == {"generator": tool.generator},
            "worst_generator": set(where) == {"worst_generator"},
            "all": not where,
        }[claim.about]
        if wanted:
            return number
    return None


def drawn_from(
    test: ScoreTable,
    points: Sequence[OperatingPoint],
    tool: str,
    *,
    level: float,
    seed: int,
    version: str = SCHEMA_VERSION,
) -> dict[str, Any]:
    """What figures are drawn from: `evaluation.curves`, and since schema 0.3 the empirical cross-entropy."""
    out = curves(test, operating_points=points, highlight=tool, level=level, seed=seed)
    if version in PLAIN_VERSIONS or not test.meta.get("calibrated", False):
        return out
    from deepassay.metrics.calibration import empirical_cross_entropy

    given = test.select(test.answered)
    label = given.column("label")
    if not (label == REAL).any() or not (label == FAKE).any():
        return out
    found = empirical_cross_entropy(label, given.column("llr"), [step / 20 for step in range(-50, 51, 2)])
    return {**out, "ece": {name: [round(float(v), 6) for v in values] for name, values in found.items()}}
