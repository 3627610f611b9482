"""Comparisons that the protocol declared: differences with paired cluster intervals, and Holm over the whole family."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from deepassay.calibrator import OperatingPoint
from deepassay.errors import ConfigError, ScoreError
from deepassay.evaluation import AS_ERROR, CLUSTER_UNIT, Number, metric_row
from deepassay.labels import FAKE, REAL
from deepassay.metrics.comparison import bootstrap_p, holm
from deepassay.metrics.decision import worst_case_scores
from deepassay.metrics.ranking import auc
from deepassay.scores import ScoreTable

TOOL, REALS = "tool", "real"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a difference: some rows of a table, non-responses already counted as errors.

    Args:
        name: for people. label, value, cluster: (n,). ids: sample ids (n,), to keep to what both sides have.
    """

    name: str
    label: np.ndarray
    value: np.ndarray
    cluster: np.ndarray
    ids: np.ndarray

    def take(self, keep: np.ndarray) -> "Side":
        """Some of its rows."""
        return Side(
            name=self.name, label=self.label[keep], value=self.value[keep], cluster=self.cluster[keep],
            ids=self.ids[keep],
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One test of the family.

    Args:
        number: the difference, first minus second. p: two-sided; None where it is undefined. p_holm: after Holm.
    """

    id: str
    metric: str
    operating_point: str
    first: str
    second: str
    value_first: float
    value_second: float
    number: Number
    p: float | None
    p_holm: float | None = None
    family: int = 1

    def to_json(self) -> dict[str, Any]:
        """The entry of the log's ``comparisons``; the number stands among the results."""
        out = {k: v for k, v in asdict(self).items() if k != "number"}
        return {**out, "number_id": self.number.id}


def side_of(
    name: str,
    table: ScoreTable,
    generator: str,
    metric: str,
    points: Sequence[OperatingPoint],
) -> Side:
    """Rows that a metric needs of a table: real ones, and those of one generator.

    Raises:
        ScoreError: a class that the metric needs has no row.
    """
    label = table.column("label")
    own = (label == FAKE) & (table.column("generator") == generator)
    keep = {"bpcer": label == REAL, "apcer": own}.get(metric, (label == REAL) | own)
    part = table.select(keep)
    known = part.column("label")
    if not len(part) or (metric == "auc" and len(set(known.tolist())) < 2):
        raise ScoreError(f"{name}: no samples to compare", hint="correct first and second of the comparison")
    value = part.column("llr")
    if not part.answered.all():
        value = worst_case_scores(known, value, part.answered, [p.threshold for p in points])
    return Side(
        name=name, label=known, value=value, cluster=part.column("cluster").astype(str), ids=part.column("sample_id")
    )


def difference(
    first: Side,
    second: Side,
    *,
    metric: str,
    threshold: float | None,
    replicates: int,
    level: float,
    seed: int,
) -> tuple[float, float, np.ndarray, int]:
    """Both values, replicates (r,) of first minus second under the same draws of clusters, and how many clusters.

    Clusters of one name on both sides are drawn together: what two sides share stays shared, and equal trials are
    paired.
    """
    names, code = np.unique(np.concatenate([first.cluster, second.cluster]), return_inverse=True)
    codes = (code[: len(first.cluster)], code[len(first.cluster) :])
    sides = (first, second)

    def value(side: Side, weight: np.ndarray) -> float:
        if metric == "auc":
            if not (weight[side.label == REAL] > 0).any() or not (weight[side.label == FAKE] > 0).any():
                return float("nan")
            return auc(side.label, side.value, weight)
        flagged = side.value >= threshold
        wrong = flagged if metric == "bpcer" else ~flagged
        total = weight.sum()
        return float((weight * wrong).sum() / total) if total else float("nan")

    points = [value(side, np.ones(len(side.label))) for side in sides]
    rng = np.random.Generator(np.random.PCG64([seed, 11]))
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=replicates).astype(float)
    spread = np.array([value(first, d[codes[0]]) - value(second, d[codes[1]]) for d in draws])
    return points[0], points[1], spread, len(names)


def compare_sides(
    first: Side,
    second: Side,
    *,
    id: str,
    metric: str,
    point: OperatingPoint | None,
    test: ScoreTable,
    replicates: int,
    level: float,
    seed: int,
    minimum_clusters: int,
    key: str = "comparison",
) -> Compared:
    """One comparison, p not yet adjusted."""
    a, b, spread, clusters = difference(
        first, second, metric=metric, threshold=None if point is None else point.threshold, replicates=replicates,
        level=level, seed=seed,
    )  # fmt: skip
    known = spread[np.isfinite(spread)]
    where = {key: id, "nonresponse": AS_ERROR}
    ci = None
    if len(known) and np.ptp(known) > 0:
        lo, hi = np.percentile(known, [50 * (1 - level), 100 - 50 * (1 - level)])
        ci = {
            "level": level, "method": "bootstrap_cluster_percentile", "lo": float(lo), "hi": float(hi),
            "cluster_unit": CLUSTER_UNIT, "n_clusters": clusters, "replicates": replicates, "seed": seed,
        }  # fmt: skip
    label = np.concatenate([first.label, second.label])
    name = point.name if point is not None else ""
    number = Number(
        id="/".join([f"delta_{metric}", *([name] if name else []), *(f"{k}={v}" for k, v in where.items())]),
        metric=f"delta_{metric}", definition=f"m:{metric_row(metric).definition}, first minus second",
        direction="descriptive", value=a - b, ci=ci,
        no_ci_reason="" if ci is not None else "no replicate moves the difference", n_bona=int((label == REAL).sum()),
        n_attack=int((label == FAKE).sum()), n_clusters=clusters, slice=where,
        detector=str(test.meta.get("detector", "")), operating_point=name, scores_sha256=test.hash,
        status="under_powered" if clusters < minimum_clusters or (point and not point.supported) else "confirmatory",
    )  # fmt: skip
    return Compared(
        id=id, metric=metric, operating_point=name, first=first.name, second=second.name, value_first=a,
        value_second=b, number=number, p=bootstrap_p(known) if ci is not None else None,
    )  # fmt: skip


def measure_comparisons(
    plan: Sequence[Mapping[str, str]],
    test: ScoreTable,
    conditions: Mapping[str, ScoreTable],
    tool: str,
    *,
    operating_points: Sequence[OperatingPoint],
    replicates: int,
    level: float,
    seed: int,
    minimum_clusters: int,
) -> list[Compared]:
    """Every comparison of the protocol, with p-values adjusted by Holm over those that have one.

    Args:
        plan: `Protocol.comparisons`.
        conditions: calibrated tables by name of the condition.
        tool: generator name of the tool's outputs.

    Raises:
        ConfigError: a side that does not exist.
    """
    points = {point.name: point for point in operating_points}
    out = []
    for one in plan:
        metric, point = str(one["metric"]), points.get(str(one.get("operating_point", "")))
        sides = [
            _side(str(one[name]), metric, test, conditions, tool, list(operating_points))
            for name in ("first", "second")
        ]
        # Equal trials where the sides are the same samples before and after processing.
        if any("@" in side.name for side in sides):
            shared = set(sides[0].ids.tolist()) & set(sides[1].ids.tolist())
            fakes = [set(side.ids[side.label == FAKE].tolist()) for side in sides]
            if metric == "bpcer" or fakes[0] & fakes[1]:
                sides = [side.take(np.array([i in shared for i in side.ids])) for side in sides]
        out.append(
            compare_sides(
                *sides, id=str(one["id"]), metric=metric, point=point, test=test, replicates=replicates, level=level,
                seed=seed, minimum_clusters=minimum_clusters,
            )
        )  # fmt: skip
    return adjusted(out)


def adjusted(family: Sequence[Compared]) -> list[Compared]:
    """The same tests with Holm's p over all of them; those without a p stay out of the family."""
    from dataclasses import replace

    tested = [i for i, one in enumerate(family) if one.p is not None]
    found = holm([one.p for one in family if one.p is not None]) if tested else []
    out = list(family)
    for i, p in zip(tested, found, strict=True):
        out[i] = replace(out[i], p_holm=float(p), family=len(tested))
    return out


def _side(
    text: str, metric: str, test: ScoreTable, conditions: Mapping[str, ScoreTable], tool: str,
    points: Sequence[OperatingPoint],
) -> Side:  # fmt: skip
    name, _, step = text.partition("@")
    kind, _, generator = name.partition(":")
    table = test
    if step:
        if step not in conditions:
            raise ConfigError(
                f"comparison side {text!r}: no file was scored under {step!r}",
                hint=f"declare its ladder; scored are {sorted(conditions) or 'none'}",
            )
        table = conditions[step]
    if kind == "generator" and generator and not step:
        return side_of(text, table, generator, metric, points)
    if kind in (TOOL, REALS) and not generator and (kind == TOOL or metric == "bpcer"):
        return side_of(text, table, tool, metric, points)
    raise ConfigError(
        f"comparison side {text!r} with metric {metric}",
        hint="a side is tool, tool@STEP, generator:NAME, or, for bpcer, real and real@STEP",
    )
