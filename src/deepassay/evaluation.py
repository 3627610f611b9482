"""From a score table to records of numbers (law 5): ranking, errors per generator, llr quality; all with intervals."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from deepassay.calibrator import OperatingPoint, dev_table_hash
from deepassay.errors import LeakError, ScoreError
from deepassay.files import write_json
from deepassay.labels import FAKE, REAL
from deepassay.metrics.calibration import reliability
from deepassay.metrics.catalogue import Metric, find_metric
from deepassay.metrics.decision import apcer_by_generator, worst_case_scores
from deepassay.metrics.intervals import Interval, clopper_pearson, cluster_bootstrap, cluster_bootstrap_many
from deepassay.scores import ScoreTable

if TYPE_CHECKING:
    from rich.table import Table

    from deepassay.manifest import Sample
    from deepassay.scoring import FileScore

SCHEMA_VERSION = "1"
AS_ERROR, LEFT_OUT = "counted_as_error", "left_out"
CLUSTER_UNIT = "subject, else source"
MINIMUM_CLUSTERS = 20  # law 4
MINIMUM_ATTACK = 59  # zero misses among 59 bound a rate by 5 %
_LLR_METRICS = ("cllr", "min_cllr", "act_dcf", "min_dcf")  # they leave non-responses out by definition
STATUSES = ("confirmatory", "exploratory", "under_powered", "not_reported")
NOT_ANNOTATED = "(not annotated)"
# Slice "length": seconds from which on a recording is in the bin; a bin holds its lower end.
LENGTHS = {
    0.0: "under 1 s", 1.0: "1 to 2 s", 2.0: "2 to 4 s", 4.0: "4 to 10 s", 10.0: "10 to 30 s", 30.0: "30 s to 2 min",
    120.0: "2 to 10 min", 600.0: "10 to 60 min", 3600.0: "1 h and more",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Number:
    """One measured value; `to_json` gives exactly ``$defs/number`` of the dossier's schema.

    Args:
        id: unique within one report, and the same for the same quantity in the next one.
        metric, definition: name, and pointer into the catalogue with its version (``m:auc@1``).
        direction: ``higher_better``, ``lower_better`` or ``descriptive``.
        value: the value, None where it cannot be computed.
        ci: ``level``, ``method``, ``lo``, ``hi``, ``cluster_unit``, ``n_clusters``, ``replicates``, ``seed``; or None.
        no_ci_reason: why there is no interval; required where ``ci`` is None.
        count: (k, n) behind a proportion.
        slice: what part of the table, and how non-responses count (``nonresponse``).
        status: word of `STATUSES`.
    """

    id: str
    metric: str
    definition: str
    direction: str
    value: float | None
    ci: Mapping[str, Any] | None
    n_bona: int
    n_attack: int
    n_clusters: int
    status: str
    slice: Mapping[str, str] = field(default_factory=dict)
    unit: str = "fraction"
    no_ci_reason: str = ""
    n_nonresponse: int = 0
    count: tuple[int, int] | None = None
    detector: str = ""
    operating_point: str = ""
    scores_sha256: str = ""

    def __post_init__(self) -> None:
        if self.ci is None and not self.no_ci_reason:
            raise ScoreError(
                f"number {self.id} has neither an interval nor a reason for having none", hint="give no_ci_reason"
            )

    def to_json(self) -> dict[str, Any]:
        """JSON values in the order of the schema, optional keys only where they say something."""
        support: dict[str, Any] = {
            "n_bona": self.n_bona,
            "n_attack": self.n_attack,
            "n_clusters": self.n_clusters,
            "n_nonresponse": self.n_nonresponse,
        }
        if self.count is not None:
            support["count"] = {"k": self.count[0], "n": self.count[1]}
        out: dict[str, Any] = {
            "id": self.id, "metric": self.metric, "definition": self.definition, "direction": self.direction,
            "unit": self.unit, "value": self.value, "ci": None if self.ci is None else dict(self.ci),
        }  # fmt: skip
        if self.ci is None:
            out["no_ci_reason"] = self.no_ci_reason
        out |= {"support": support, "slice": dict(self.slice)}
        for key in ("detector", "operating_point", "scores_sha256"):
            if getattr(self, key):
                out[key] = getattr(self, key)
        return {**out, "status": self.status}


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What every number of one report shares."""

    detector: str
    scores_sha256: str
    replicates: int
    level: float
    seed: int
    status: str
    minimum_clusters: int
    minimum_attack: int
    method: str = "auto"


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The columns that metrics need, for some rows of a table: arrays (n,)."""

    label: np.ndarray
    value: np.ndarray  # llr where calibrated, else score; NaN without an answer
    answered: np.ndarray
    cluster: np.ndarray
    generator: np.ndarray

    def take(self, keep: np.ndarray) -> "_Rows":
        return _Rows(
            label=self.label[keep], value=self.value[keep], answered=self.answered[keep], cluster=self.cluster[keep],
            generator=self.generator[keep],
        )  # fmt: skip

    @property
    def counts(self) -> tuple[int, int]:
        """Real and fake samples."""
        return int((self.label == REAL).sum()), int((self.label == FAKE).sum())

    @property
    def silent(self) -> int:
        """Samples without an answer."""
        return int((~self.answered).sum())

    def clusters(self, label: int | None = None) -> int:
        """Distinct clusters, of one class or of all."""
        rows = self.cluster if label is None else self.cluster[self.label == label]
        return len(set(rows.tolist()))

    def scores(self, convention: str, thresholds: Sequence[float]) -> "_Rows":
        """Without NaN: worst-case values for non-responses, or only the answered rows (law 2)."""
        if convention == LEFT_OUT:
            return self.take(self.answered)
        filled = self.value
        if self.silent:
            filled = worst_case_scores(self.label, self.value, self.answered, list(thresholds))
        return _Rows(
            label=self.label, value=filled, answered=self.answered, cluster=self.cluster, generator=self.generator
        )


def measure(
    table: ScoreTable,
    *,
    operating_points: Sequence[OperatingPoint] = (),
    slices: Sequence[str] = ("generator",),
    replicates: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    status: str = "exploratory",
    generators_seen: Iterable[str] | None = None,
    minimum_clusters: int = MINIMUM_CLUSTERS,
    minimum_attack: int = MINIMUM_ATTACK,
    method: str = "auto",
) -> list[Number]:
    """Every number of one detector on one table, once with non-responses as errors and once without them (law 2).

    AUC and EER (E3) over all and AUC per generator; BPCER, APCER per generator, of the worst and their mean at every
    operating point; non-response rates; Cllr, actual DCF and their minima where the table is calibrated. Intervals are
    of the cluster bootstrap: Student's t on the logit scale for fractions, which holds its 95 % where percentiles cover
    89 to 94 % (about 20 clusters), and widened percentiles for bits and costs. Where nothing or everything failed,
    resampling says nothing: rates get the exact (Clopper-Pearson) interval with one trial per cluster, an AUC of 0 or 1
    one with one comparison per disjoint pair of a real and a fake cluster, an EER none. Numbers that too few samples or
    clusters support are ``under_powered`` (law 4; minimum sizes: zero misses among 59 bound a rate by 5 %, the rule of
    3 for BPCER).

    Args:
        table: labelled rows; calibrated where operating points are given (thresholds lie on the llr scale).
        operating_points: fixed on dev.
        slices: ``generator``, ``generator_family``, ``length`` (``duration_s`` in the bins of `LENGTHS`), any other
            column of the table, or a name in ``attributes``.
        generators_seen: generators in the detector's training data; adds the slice ``exposure`` (seen, left_out).
        status: ``confirmatory`` or ``exploratory``, for numbers that are powered.
        method: of the cluster bootstrap, see `metrics.intervals.cluster_bootstrap`; ``percentile`` repeats what logs of
            schema 0.1 hold.

    Raises:
        LeakError: an operating point without the hash of its dev table, or fitted on this very table.
        ScoreError: unlabelled rows, one class only, no answered sample, or an uncalibrated table with operating points.
    """
    if status not in STATUSES:
        raise ScoreError(f"status {status!r}", hint=f"use one of {list(STATUSES)}")
    rows = _rows(table)
    _refuse_leaks(table, operating_points)
    plan = _Plan(
        detector=str(table.meta.get("detector", "")),
        scores_sha256=table.hash,
        replicates=replicates,
        level=level,
        seed=seed,
        status=status,
        minimum_clusters=minimum_clusters,
        minimum_attack=minimum_attack,
        method=method,
    )
    calibrated = bool(table.meta.get("calibrated", False))
    out: list[Number] = []
    for convention in (AS_ERROR, LEFT_OUT):
        if convention == LEFT_OUT and not rows.silent:
            # The two tables agree where everything was answered: the second is written, not computed again.
            out += [_as_left_out(number) for number in out if number.slice.get("nonresponse") == AS_ERROR]
            continue
        thresholds = [point.threshold for point in operating_points]
        used = rows.scores(convention, thresholds)
        if not all(used.counts):
            continue
        where = {"nonresponse": convention}
        out += _ranking(used, plan, where, names=("auc", "eer"))
        out += _decisions(used, plan, where, operating_points)
        for name in slices:
            out += _slice(table, rows, used, plan, where, operating_points, name, convention)
        if generators_seen is not None:
            seen = set(generators_seen)
            group = np.array(["seen" if name in seen else "left_out" for name in used.generator], dtype=object)
            out += _by_group(used, plan, where, operating_points, "exposure", group)
    out += _nonresponse(rows, plan)
    if calibrated:
        out += _llr_quality(rows.take(rows.answered), plan, rows.silent)
    return out


def measure_generator(
    table: ScoreTable,
    generator: str,
    where: Mapping[str, str],
    *,
    operating_points: Sequence[OperatingPoint] = (),
    replicates: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    minimum_clusters: int = MINIMUM_CLUSTERS,
    minimum_attack: int = MINIMUM_ATTACK,
    ranking: Sequence[str] = ("auc",),
) -> list[Number]:
    """AUC and APCER of one generator against all real rows, and their BPCER, under a name for the circumstances.

    Args:
        table: as for `measure`; other generators are ignored.
        generator: name of the fakes that count; empty for all, without rates by generator.
        ranking: metrics without a threshold, of ``auc`` and ``eer``.
        where: slice that every number carries besides generator and convention: ``{"condition": "jpeg@75"}``.

    Raises:
        LeakError, ScoreError: as `measure`.
    """
    keep = (table.column("label") == REAL) | (table.column("generator") == generator)
    part = table.select(keep) if generator else table
    rows = _rows(part)
    _refuse_leaks(table, operating_points)
    plan = _Plan(
        detector=str(table.meta.get("detector", "")), scores_sha256=table.hash, replicates=replicates, level=level,
        seed=seed, status="exploratory", minimum_clusters=minimum_clusters, minimum_attack=minimum_attack,
    )  # fmt: skip
    out: list[Number] = []
    for convention in (AS_ERROR, LEFT_OUT):
        if convention == LEFT_OUT and not rows.silent:
            out += [_as_left_out(number) for number in out]
            continue
        used = rows.scores(convention, [point.threshold for point in operating_points])
        if not all(used.counts):
            continue
        here = {**where, "nonresponse": convention}
        own = {**where, **({"generator": generator} if generator else {}), "nonresponse": convention}
        out += _ranking(used, plan, own, names=ranking)
        out += _rates(plan, "bpcer", here, used, operating_points, label=REAL)
        if generator:
            out += _rates(plan, "apcer", own, used, operating_points, label=FAKE)
    return out


def _rows(table: ScoreTable) -> _Rows:
    label = table.column("label")
    if (label < 0).any():
        raise ScoreError(
            f"{int((label < 0).sum())} of {len(table)} rows have no label, and error rates need one",
            hint="label them real or fake in the manifest, or leave them to `deepassay screen`",
        )
    if not (label == REAL).any() or not (label == FAKE).any():
        raise ScoreError(
            f"the table has {int((label == REAL).sum())} real and {int((label == FAKE).sum())} fake samples",
            hint="an evaluation needs both classes; add the missing one to the split",
        )
    answered = table.answered
    if not answered.any():
        raise ScoreError("no sample of the table has a score", hint="see the column reason for what went wrong")
    value = table.column("llr" if table.meta.get("calibrated", False) else "score")
    if not np.isfinite(value[answered]).all():
        raise ScoreError(
            f"{int((~np.isfinite(value[answered])).sum())} answered samples have no finite score",
            hint="calibrate the whole table, or report such samples with status error",
        )
    generator = np.array([name or "" for name in table.column("generator")], dtype=object)
    generator[(label == FAKE) & (generator == "")] = NOT_ANNOTATED
    return _Rows(label=label, value=value, answered=answered, cluster=table.column("cluster"), generator=generator)


def _refuse_leaks(table: ScoreTable, points: Sequence[OperatingPoint]) -> None:
    if not points:
        return
    own = dev_table_hash(table)
    for point in points:
        if not point.dev_table_sha256:
            raise LeakError(
                f"operating point {point.name!r} does not say which dev table it was fixed on",
                hint="fit it again with calibrator.fit_operating_points on a dev table",
            )
        if point.dev_table_sha256 in (own, table.hash):
            raise LeakError(
                f"operating point {point.name!r} was fixed on the very table that is to be measured",
                hint="measure another split, or measure this one without operating points",
            )
    if points and not table.meta.get("calibrated", False):
        raise ScoreError(
            "the table is not calibrated, and thresholds lie on the llr scale",
            hint="calibrate it with the calibration that was fitted on dev: calibrator.calibrate(table, calibration)",
        )


def _as_left_out(number: Number) -> Number:
    return replace(
        number,
        id=number.id.replace(f"nonresponse={AS_ERROR}", f"nonresponse={LEFT_OUT}"),
        slice={**number.slice, "nonresponse": LEFT_OUT},
    )


def _definition(metric: str) -> tuple[str, str, str]:
    """Pointer, direction and unit of a metric, from the catalogue."""
    entry = metric_row(metric)
    return f"m:{entry.definition}", entry.direction, entry.unit


def _number_id(metric: str, point: str, where: Mapping[str, str]) -> str:
    parts = [metric, *([point] if point else []), *(f"{key}={value}" for key, value in where.items())]
    return "/".join(parts)


def _number(
    plan: _Plan,
    metric: str,
    where: Mapping[str, str],
    rows: _Rows,
    *,
    value: float | None,
    ci: Mapping[str, Any] | None,
    no_ci_reason: str = "",
    point: OperatingPoint | None = None,
    count: tuple[int, int] | None = None,
    n_clusters: int,
    weak: bool,
    silent: int | None = None,
) -> Number:
    definition, direction, unit = _definition(metric)
    n_bona, n_attack = rows.counts
    return Number(
        id=_number_id(metric, point.name if point else "", where),
        metric=metric,
        definition=definition,
        direction=direction,
        unit=unit,
        value=None if value is None else float(value),
        ci=ci,
        no_ci_reason="" if ci is not None else no_ci_reason,
        n_bona=n_bona,
        n_attack=n_attack,
        n_clusters=n_clusters,
        n_nonresponse=rows.silent if silent is None else silent,
        count=count,
        slice=dict(where),
        detector=plan.detector,
        operating_point=point.name if point else "",
        scores_sha256=plan.scores_sha256,
        status="under_powered" if weak else plan.status,
    )


def metric_row(name: str) -> Metric:
    """The definition behind a number's ``metric``, from the catalogue."""
    return find_metric(name)


def _intervals(asks: Sequence[tuple[str, Mapping[str, Any]]], rows: _Rows, plan: _Plan) -> list[Interval]:
    """Intervals of several metrics on the same draws of clusters."""
    return cluster_bootstrap_many(
        [(metric_row(name), parameters) for name, parameters in asks], rows.label, rows.value, rows.cluster,
        replicates=plan.replicates, level=plan.level, seed=plan.seed, cluster_unit=CLUSTER_UNIT, method=plan.method,
    )  # fmt: skip


def _ci(interval: Interval) -> dict[str, Any] | None:
    record = interval.as_record()
    return record if np.isfinite(record["lo"]) and np.isfinite(record["hi"]) else None


def _rate_ci(plan: _Plan, k: int, n: int, interval: Interval) -> dict[str, Any] | None:
    """The bootstrap interval, or one trial per cluster where k is 0 or n and resampling cannot move."""
    if 0 < k < n:
        return _ci(interval)
    units = interval.n_clusters
    exact = clopper_pearson(0 if k == 0 else units, units, level=plan.level).as_record()
    return {**exact, "cluster_unit": CLUSTER_UNIT, "n_clusters": units}


_NO_REPLICATE = "no bootstrap replicate has a value"
_SEPARATED = "the classes do not overlap: resampling cannot move"


def _ranking_ci(plan: _Plan, name: str, value: float, rows: _Rows, interval: Interval) -> dict[str, Any] | None:
    """The bootstrap interval; where the classes do not overlap, an exact one for AUC and none for the others.

    Of disjoint pairs of a real and a fake cluster, one comparison each is independent and right with probability AUC
    (clusters weighted alike): with all of m right, Clopper and Pearson bound it. Never more pairs than half of the
    clusters are counted, so that a cluster of both classes is used once.
    """
    if 0 < value < 1 or plan.method == "percentile":
        return _ci(interval)
    if name != "auc":
        return None
    pairs = min(rows.clusters(REAL), rows.clusters(FAKE), rows.clusters() // 2)
    if pairs < 1:
        return None
    exact = clopper_pearson(0 if value == 0 else pairs, pairs, level=plan.level).as_record()
    return {**exact, "cluster_unit": f"pair of clusters ({CLUSTER_UNIT})", "n_clusters": pairs}


def _ranking(rows: _Rows, plan: _Plan, where: Mapping[str, str], *, names: Sequence[str]) -> Iterator[Number]:
    """AUC, EER: threshold-free, over the rows given; nothing where a class is missing."""
    if not all(rows.counts):
        return
    weakest = min(rows.clusters(REAL), rows.clusters(FAKE))
    found = _intervals([(name, {}) for name in names], rows, plan)
    for name, interval in zip(names, found, strict=True):
        value = metric_row(name)(rows.label, rows.value)
        ci = _ranking_ci(plan, name, value, rows, interval)
        units = weakest if ci is None else min(weakest, ci["n_clusters"])
        yield _number(
            plan, name, where, rows, value=value, ci=ci, no_ci_reason=_NO_REPLICATE if 0 < value < 1 else _SEPARATED,
            n_clusters=rows.clusters(), weak=units < plan.minimum_clusters,
        )  # fmt: skip


def _rates(
    plan: _Plan, metric: str, where: Mapping[str, str], rows: _Rows, points: Sequence[OperatingPoint], *, label: int
) -> Iterator[Number]:
    """BPCER (label real) or the share of these fakes that is missed, at each point; nothing where there are none."""
    own = rows.take(rows.label == label)
    n = len(own.label)
    if not n or not points:
        return
    units = own.clusters()
    name = "bpcer" if label == REAL else "apcer_pooled"  # over the rows of one generator, pooled and its own are one
    found = _intervals([(name, {"threshold": point.threshold}) for point in points], own, plan)
    for point, interval in zip(points, found, strict=True):
        flagged = own.value >= point.threshold
        k = int((flagged if label == REAL else ~flagged).sum())
        needed = 3.0 / point.target_bpcer if label == REAL else plan.minimum_attack
        yield _number(
            plan, metric, where, own, value=k / n, ci=_rate_ci(plan, k, n, interval), no_ci_reason=_NO_REPLICATE,
            point=point, count=(k, n), n_clusters=units,
            weak=units < plan.minimum_clusters or n < needed - 1e-9 or not point.supported,
        )  # fmt: skip


def _decisions(
    rows: _Rows, plan: _Plan, where: Mapping[str, str], points: Sequence[OperatingPoint]
) -> Iterator[Number]:
    """At each point: BPCER, then APCER of the worst generator (ISO) and the mean over generators."""
    yield from _rates(plan, "bpcer", where, rows, points, label=REAL)
    own = rows.take(rows.label == FAKE)
    asks = [
        (name, {"threshold": point.threshold, "generators": own.generator})
        for point in points
        for name in ("apcer", "macro_apcer")
    ]
    if not asks:
        return
    found = iter(_intervals(asks, own, plan))
    for point in points:
        counts = apcer_by_generator(own.label, own.value, own.generator, point.threshold)
        worst = max(counts, key=lambda name: counts[name][0] / counts[name][1])
        k, n = counts[worst]
        units = own.take(own.generator == worst).clusters()
        weak = (
            units < plan.minimum_clusters
            or min(total for _, total in counts.values()) < plan.minimum_attack
            or not point.supported
        )
        highest, mean = next(found), next(found)
        ci = _rate_ci(plan, k, n, highest)
        yield _number(
            plan, "apcer", {**where, "worst_generator": worst}, own, value=k / n,
            ci=None if ci is None else {**ci, "n_clusters": units}, no_ci_reason=_NO_REPLICATE, point=point,
            count=(k, n), n_clusters=units, weak=weak,
        )  # fmt: skip
        rates = [a / b for a, b in counts.values()]
        flat = all(rate in (0.0, 1.0) for rate in rates)
        yield _number(
            plan, "macro_apcer", where, own, value=float(np.mean(rates)), ci=None if flat else _ci(mean),
            no_ci_reason="every generator is missed wholly or not at all: resampling cannot move", point=point,
            n_clusters=own.clusters(), weak=weak,
        )  # fmt: skip


def _slice(
    table: ScoreTable,
    rows: _Rows,
    used: _Rows,
    plan: _Plan,
    where: Mapping[str, str],
    points: Sequence[OperatingPoint],
    name: str,
    convention: str,
) -> Iterator[Number]:
    """Numbers by the values of one column or attribute; fakes of a generator meet all real samples."""
    value = rows.generator if name == "generator" else _column(table, name)
    group = value if convention == AS_ERROR else value[rows.answered]
    if name in ("generator", "generator_family"):
        for one in sorted({str(v) for v in group[used.label == FAKE]}):
            keep = (used.label == REAL) | ((used.label == FAKE) & (group == one))
            part = used.take(keep)
            yield from _ranking(part, plan, {**where, name: one}, names=("auc",))
            metric = "apcer" if name == "generator" else "apcer_pooled"  # a family may hold several generators
            yield from _rates(plan, metric, {**where, name: one}, part, points, label=FAKE)
        return
    yield from _by_group(used, plan, where, points, name, group)


def _by_group(
    rows: _Rows, plan: _Plan, where: Mapping[str, str], points: Sequence[OperatingPoint], name: str, group: np.ndarray
) -> Iterator[Number]:
    """AUC, BPCER and APCER (pooled over generators) by groups of samples; an exposure group meets all real samples."""
    rank = {bin_: i for i, bin_ in enumerate(LENGTHS.values())}
    found = {str(v) for v in group[(rows.label == FAKE) if name == "exposure" else slice(None)]}
    for one in sorted(found, key=lambda v: (rank.get(v, -1), v)):
        keep = group == one
        if name == "exposure":
            keep = (rows.label == REAL) | (keep & (rows.label == FAKE))
        part = rows.take(keep)
        here = {**where, name: one}
        yield from _ranking(part, plan, here, names=("auc",))
        if name != "exposure":
            yield from _rates(plan, "bpcer", here, part, points, label=REAL)
        yield from _rates(plan, "apcer_pooled", here, part, points, label=FAKE)


def _length_bins(table: ScoreTable) -> list[str]:
    seconds = table.column("duration_s")
    if np.isnan(seconds).all():
        raise ScoreError(
            "no row of the score table says how long its file is, and a slice by length was asked for",
            hint="read the corpus with probe=true, or give duration_s in its table",
        )
    edges, names = np.array(list(LENGTHS)), list(LENGTHS.values())
    bins = np.searchsorted(edges, np.nan_to_num(seconds), side="right") - 1
    return [NOT_ANNOTATED if np.isnan(s) else names[max(0, b)] for s, b in zip(seconds, bins, strict=True)]


def _column(table: ScoreTable, name: str) -> np.ndarray:
    if name == "length":
        values = _length_bins(table)
    elif name in table.table.column_names:
        values = [str(v) if v not in (None, "") else NOT_ANNOTATED for v in table.table.column(name).to_pylist()]
    else:
        found = [dict(v or ()).get(name) for v in table.table.column("attributes").to_pylist()]
        if not any(found):
            known = sorted({key for v in table.table.column("attributes").to_pylist() for key, _ in v or ()})
            raise ScoreError(
                f"no column and no attribute of the score table is called {name!r}",
                hint=f"slice by a column such as generator, channel, corpus, or by an attribute of {known}",
            )
        values = [v or NOT_ANNOTATED for v in found]
    out = np.empty(len(values), dtype=object)
    out[:] = values
    return out


def _nonresponse(rows: _Rows, plan: _Plan) -> Iterator[Number]:
    for label, metric in ((REAL, "bpnrr"), (FAKE, "apnrr")):
        own = rows.take(rows.label == label)
        k, n, units = own.silent, len(own.label), own.clusters()
        interval = cluster_bootstrap(
            metric_row(metric), own.label, (~own.answered).astype(float), own.cluster, replicates=plan.replicates,
            level=plan.level, seed=plan.seed, cluster_unit=CLUSTER_UNIT, method=plan.method,
        )  # fmt: skip
        yield _number(
            plan, metric, {}, own, value=k / n, ci=_rate_ci(plan, k, n, interval), no_ci_reason=_NO_REPLICATE,
            count=(k, n), n_clusters=units, weak=units < plan.minimum_clusters,
        )  # fmt: skip


def _llr_quality(rows: _Rows, plan: _Plan, silent: int) -> Iterator[Number]:
    if not all(rows.counts):
        return
    where = {"nonresponse": LEFT_OUT}
    weak = min(rows.clusters(REAL), rows.clusters(FAKE)) < plan.minimum_clusters
    names = ("cllr", "act_dcf")
    for name, interval in zip(names, _intervals([(name, {}) for name in names], rows, plan), strict=True):
        yield _number(
            plan, name, where, rows, value=metric_row(name)(rows.label, rows.value), ci=_ci(interval),
            no_ci_reason=_NO_REPLICATE, n_clusters=rows.clusters(), weak=weak, silent=silent,
        )  # fmt: skip
    for name in ("min_cllr", "min_dcf"):
        yield _number(
            plan, name, where, rows, value=metric_row(name)(rows.label, rows.value), ci=None,
            no_ci_reason="descriptive: it is optimised on the labels that it measures", n_clusters=rows.clusters(),
            weak=weak, silent=silent,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class SegmentedFile:
    """One file of which it is known where it is fake, with the scores of its windows.

    Args:
        duration_s: length of the file in seconds.
        segments: (m, 2) seconds where it is fake; none for a real file.
        start_s, end_s, scores: (k,) of the windows; empty where the file has no score.
        cluster: unit of independence.
        generator: what made the fake parts; empty for a real file.
    """

    duration_s: float
    segments: np.ndarray
    start_s: np.ndarray
    end_s: np.ndarray
    scores: np.ndarray
    cluster: str
    generator: str = ""


def segmented_file(sample: "Sample", outcome: "FileScore") -> SegmentedFile:
    """What `scoring.score_timelines` gives of a sample, made ready for `measure_segments`.

    Raises:
        ScoreError: a fake sample without the attribute ``fake_segments``, no length or no label.
        ManifestError: segments that cannot be read.
    """
    from deepassay.modality.voice import parse_segments

    text = sample.attributes.get("fake_segments", "")
    if sample.label is None or sample.duration_s is None or (sample.label == FAKE) != bool(text):
        raise ScoreError(
            f"sample {sample.sample_id!r}: label {sample.label}, {sample.duration_s} s, fake_segments {text[:40]!r}",
            hint="segment-level evaluation needs labels, lengths (probe=true) and, of fakes alone, fake_segments",
        )
    nothing = np.zeros(0)
    known = outcome.logits is not None and outcome.start_s is not None and outcome.end_s is not None
    return SegmentedFile(
        duration_s=sample.duration_s, segments=parse_segments(text), cluster=sample.cluster, generator=sample.generator,
        start_s=outcome.start_s if known and outcome.start_s is not None else nothing,
        end_s=outcome.end_s if known and outcome.end_s is not None else nothing,
        scores=outcome.logits if known and outcome.logits is not None else nothing,
    )  # fmt: skip


def measure_segments(
    rows: Iterable[SegmentedFile],
    *,
    resolution_s: float = 0.16,
    replicates: int = 200,
    level: float = 0.95,
    seed: int = 0,
    status: str = "exploratory",
    minimum_clusters: int = MINIMUM_CLUSTERS,
) -> list[Number]:
    """AUC and EER (E3) over cells of ``resolution_s`` seconds: how well a timeline says where a file is fake.

    A cell is fake where any of it is (`metrics.segments.cell_labels`); its score is the mean logit of the windows that
    hold its middle. Windows longer than a cell blur what they report: state the window and hop beside the number.
    Cells without a score (silence, files without an answer) count as errors, and in a second set are left out (law 2).
    Cells of one cluster are resampled together.

    Raises:
        ScoreError: cells of one class only, or none with a score.
    """
    from deepassay.metrics.segments import cell_labels, cell_scores

    label, value, cluster, generator = [], [], [], []
    for row in rows:
        label.append(cell_labels(row.segments, row.duration_s, resolution_s))
        value.append(cell_scores(row.start_s, row.end_s, row.scores, row.duration_s, resolution_s))
        cluster.append(np.full(len(label[-1]), row.cluster, dtype=object))
        generator.append(np.where(label[-1] == FAKE, row.generator or NOT_ANNOTATED, "").astype(object))
    if not label:
        raise ScoreError("no file to evaluate by segment", hint="give files with fake_segments")
    values = np.concatenate(value)
    cells = _Rows(
        label=np.concatenate(label), value=values, answered=~np.isnan(values), cluster=np.concatenate(cluster),
        generator=np.concatenate(generator),
    )  # fmt: skip
    if not all(cells.counts) or not cells.answered.any():
        raise ScoreError(
            f"{cells.counts[0]} real and {cells.counts[1]} fake cells, {cells.silent} of them without a score",
            hint="segment-level evaluation needs real and fake parts, and windows that cover them",
        )
    plan = _Plan(
        detector="", scores_sha256="", replicates=replicates, level=level, seed=seed, status=status,
        minimum_clusters=minimum_clusters, minimum_attack=MINIMUM_ATTACK,
    )  # fmt: skip
    out: list[Number] = []
    for convention in (AS_ERROR, LEFT_OUT):
        where = {"cells": f"{resolution_s:g} s", "nonresponse": convention}
        out += _ranking(cells.scores(convention, []), plan, where, names=("auc", "eer"))
    return out


def strata(table: ScoreTable) -> list[dict[str, Any]]:
    """Samples of the real class and of every generator: name, label, n, n_nonresponse, n_clusters."""
    rows = _rows(table)
    out = []
    names = sorted({str(name) for name in rows.generator[rows.label == FAKE]})
    for name, label in [("real", REAL), *((name, FAKE) for name in names)]:
        keep = rows.label == label
        part = rows.take(keep if label == REAL else keep & (rows.generator == name))
        out.append(
            {
                "name": name,
                "label": ("real", "fake")[label],
                "n": len(part.label),
                "n_nonresponse": part.silent,
                "n_clusters": part.clusters(),
            }
        )
    return out


def curves(
    table: ScoreTable,
    *,
    operating_points: Sequence[OperatingPoint] = (),
    highlight: str = "",
    replicates: int = 200,
    level: float = 0.95,
    seed: int = 0,
    bins: int = 40,
) -> dict[str, Any]:
    """What figures are drawn from, as JSON values: DET with a cluster band, densities, Tippett, reliability.

    Args:
        table: as for `measure`.
        highlight: a generator that gets its own DET curve and density besides all fakes.
        replicates: of the cluster bootstrap behind the DET band.

    Returns:
        ``unit`` (llr or score); ``det`` (list of name, bpcer, apcer, lo, hi; non-responses count as errors), ``points``
        (name, threshold, bpcer, apcer, apcer_highlight), ``densities`` (edges, shares by group; answered samples only)
        and, for calibrated tables, ``tippett`` (log10_lr, real, fake), ``reliability`` (predicted, observed, counts).

    Raises:
        LeakError, ScoreError: as `measure`.
    """
    rows = _rows(table)
    _refuse_leaks(table, operating_points)
    calibrated = bool(table.meta.get("calibrated", False))
    used = rows.scores(AS_ERROR, [point.threshold for point in operating_points])
    tail = 50.0 * (1.0 - level)
    grid = np.concatenate([np.geomspace(0.002, 0.1, 30), np.linspace(0.11, 0.95, 43)])
    shown = [("", np.ones(len(used.label), dtype=bool))]
    if highlight and (rows.generator == highlight).any():
        shown.append((highlight, (used.label == REAL) | (used.generator == highlight)))
    det = []
    for name, keep in shown:
        line, band = _det(used.take(keep), grid, replicates, np.random.Generator(np.random.PCG64([seed, len(name)])))
        lo, hi = np.percentile(band, [tail, 100.0 - tail], axis=0)
        det.append({"name": name, "bpcer": _plain(grid), "apcer": _plain(line), "lo": _plain(lo), "hi": _plain(hi)})
    real, fake = used.label == REAL, used.label == FAKE
    points = []
    for point in operating_points:
        flagged = used.value >= point.threshold
        entry = {
            "name": point.name,
            "threshold": point.threshold,
            "bpcer": float(flagged[real].mean()),
            "apcer": float((~flagged)[fake].mean()),
        }
        if len(shown) > 1:
            entry["apcer_highlight"] = float((~flagged)[used.generator == highlight].mean())
        points.append(entry)
    out: dict[str, Any] = {"unit": "llr" if calibrated else "score", "det": det, "points": points}
    given = rows.take(rows.answered)
    groups = {"real": given.value[given.label == REAL], "fake": given.value[given.label == FAKE]}
    if len(shown) > 1:
        groups[highlight] = given.value[given.generator == highlight]
    low, high = np.percentile(given.value, [0.5, 99.5])
    margin = max(0.05 * (high - low), 0.01)  # scores that hardly differ still need bins wider than the rounding
    edges = np.linspace(low - margin, high + margin, bins + 1)
    out["densities"] = {
        "edges": _plain(edges),
        "shares": {
            name: _plain(np.histogram(np.clip(values, edges[0], edges[-1]), edges)[0] / max(1, len(values)))
            for name, values in groups.items()
        },
    }
    if calibrated and len(groups["real"]) and len(groups["fake"]):
        logs = {name: groups[name] / np.log(10.0) for name in ("real", "fake")}
        reach = max(1.0, float(np.percentile(np.abs(np.concatenate(list(logs.values()))), 99.5)))
        x = np.linspace(-reach, reach, 121)
        out["tippett"] = {
            "log10_lr": _plain(x),
            **{name: _plain((values[None, :] > x[:, None]).mean(axis=1)) for name, values in logs.items()},
        }
        n_real, n_fake = given.counts
        weight = np.where(given.label == REAL, 0.5 / n_real, 0.5 / n_fake)  # the flat prior of the llr
        chance = 1.0 / (1.0 + np.exp(-np.clip(given.value, -700, 700)))
        found = reliability(given.label, given.value, weight, bins=10)
        out["reliability"] = {
            "predicted": [bin_.confidence for bin_ in found],
            "observed": [bin_.observed for bin_ in found],
            "counts": [
                int(((chance > bin_.low) & (chance <= bin_.high)).sum() + (bin_.low == 0.0) * (chance == 0.0).sum())
                for bin_ in found
            ],
        }
    return out


def _det(rows: _Rows, grid: np.ndarray, replicates: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Achievable APCER at BPCER <= each grid value (g,), and the same for resampled clusters (replicates, g)."""
    order = np.argsort(-rows.value, kind="stable")
    value, fake = rows.value[order], rows.label[order] == FAKE
    last = np.flatnonzero(np.append(value[1:] != value[:-1], True))
    units, unit = np.unique(rows.cluster.astype(str), return_inverse=True)
    unit = unit[order]

    def line(weights: np.ndarray) -> np.ndarray:
        alarms, hits = np.cumsum(weights * ~fake), np.cumsum(weights * fake)
        if not alarms[-1] or not hits[-1]:
            return np.full(len(grid), np.nan)
        step = np.searchsorted(alarms[last] / alarms[-1], grid + 1e-12, side="right")
        return 1.0 - np.concatenate([[0.0], hits[last] / hits[-1]])[step]

    even = np.full(len(units), 1.0 / len(units))
    band = np.array([line(rng.multinomial(len(units), even)[unit].astype(float)) for _ in range(replicates)])
    return line(np.ones(len(value))), band[~np.isnan(band).any(axis=1)]


def _plain(values: np.ndarray) -> list[float]:
    return [round(float(v), 6) for v in values]


def describe_slice(where: Mapping[str, str]) -> str:
    """``generator blend``: a slice in words, without the convention on non-responses."""
    parts = [f"{key.replace('_', ' ')} {value}" for key, value in where.items() if key != "nonresponse"]
    return ", ".join(parts) or "all"


def _title(number: Number) -> str:
    if number.metric == "apcer" and "worst_generator" not in number.slice:
        return "APCER"
    return metric_row(number.metric).title


def summary_table(numbers: Sequence[Number], *, convention: str = AS_ERROR) -> list[dict[str, str]]:
    """Rows of text for people: metric, slice, operating point, value, interval, k/n, clusters, status.

    Args:
        convention: numbers of this convention on non-responses are listed, besides those without one.
    """
    out = []
    for number in numbers:
        if number.slice.get("nonresponse", convention) != convention and number.metric not in _LLR_METRICS:
            continue
        share = number.unit == "fraction"
        scale, digits = (100.0, 1) if share and number.metric != "auc" else (1.0, 3)
        suffix = " %" if scale == 100.0 else f" {number.unit}" if number.unit != "fraction" else ""
        value = "-" if number.value is None else f"{scale * number.value:.{digits}f}{suffix}"
        interval = "none"
        if number.ci is not None and number.ci["lo"] is not None and number.ci["hi"] is not None:
            interval = f"{scale * number.ci['lo']:.{digits}f} to {scale * number.ci['hi']:.{digits}f}"
        out.append(
            {
                "metric": _title(number),
                "slice": describe_slice(number.slice),
                "operating point": number.operating_point,
                "value": value,
                "interval": interval,
                "k/n": f"{number.count[0]}/{number.count[1]}" if number.count else "",
                "clusters": str(number.n_clusters),
                "status": number.status.replace("_", "-"),
            }
        )
    return out


def rich_table(numbers: Sequence[Number], *, title: str = "", convention: str = AS_ERROR) -> "Table":
    """`summary_table` for a terminal."""
    from rich.table import Table

    rows = summary_table(numbers, convention=convention)
    table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
    for name in rows[0] if rows else ():
        table.add_column(name, justify="right" if name in ("value", "interval", "k/n", "clusters") else "left")
    for row in rows:
        table.add_row(*row.values(), style="dim" if row["status"] == "under-powered" else "")
    return table


def markdown_table(numbers: Sequence[Number], *, convention: str = AS_ERROR) -> str:
    """`summary_table` as a Markdown table."""
    rows = summary_table(numbers, convention=convention)
    if not rows:
        return ""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "|".join("---" for _ in rows[0]) + "|"]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row.values()) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def write_metrics(
    numbers: Sequence[Number], path: str | Path, *, table: ScoreTable | None = None, **facts: Any
) -> None:
    """Write ``metrics.json`` atomically: schema version, what was measured, and the numbers.

    Args:
        table: the measured table; its hash, detector and synthetic mark are written beside the numbers.
        facts: further JSON values.
    """
    head: dict[str, Any] = {"schema": SCHEMA_VERSION}
    if table is not None:
        head |= {
            "detector": table.meta.get("detector", ""),
            "scores_sha256": table.hash,
            "corpus": table.meta.get("corpus", ""),
            "synthetic": table.synthetic,
        }
    write_json(path, {**head, **facts, "numbers": [number.to_json() for number in numbers]})
