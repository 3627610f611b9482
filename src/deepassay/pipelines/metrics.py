"""metrics: official and tie-safe values of any score file, with intervals that respect the source, and paired tests."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from deepassay.adapters.asvspoof import read_asv_scores
from deepassay.adapters.csv_scores import Columns
from deepassay.adapters.reading import FORMATS, read_key, read_scores, several
from deepassay.adapters.rows import HIGHER, Trial, aligned
from deepassay.errors import ConfigError, ScoreError
from deepassay.evaluation import Number, curves
from deepassay.figures import Curve, det_figure, reliability, score_densities, tippett
from deepassay.files import sha256_file, slug, write_json, write_text
from deepassay.labels import FAKE, REAL
from deepassay.metrics.catalogue import METRICS
from deepassay.metrics.comparison import Difference, compare
from deepassay.metrics.decision import (
    apcer_by_generator,
    bpcer_counts,
    nonresponse_counts,
    threshold_at_bpcer,
    worst_case_scores,
)
from deepassay.metrics.intervals import (
    FEWEST_CLUSTERS,
    Interval,
    clustered_proportion,
    interval_of,
    replicate,
)
from deepassay.metrics.ranking import auc, eer
from deepassay.metrics.tandem import AsvRates, asv_rates_at_eer
from deepassay.metrics.trials import check_trials, tie_report
from deepassay.pipelines.terminal import terminal
from deepassay.scores import ScoreTable

RANKING = (
    "auc", "partial_auc_standardised", "eer", "eer_e1", "eer_e4", "tpr_at_fpr_1", "bpcer_at_apcer_5", "min_dcf",
    "min_cllr",
)  # fmt: skip
OF_LLR = ("cllr", "calibration_loss", "act_dcf", "brier", "ece_width")
TANDEM = ("min_tdcf", "min_tdcf_2019")
# Definitions whose replicates would cost a sort each; the interval of the tie-safe definition beside them serves.
POINT_ONLY = {
    "eer_e1": "official value, for comparison with published ones: see the interval of EER (E3)",
    "ece_width": "depends on binning: secondary, without an interval",
}
COMPARED = ("auc", "eer", "min_dcf")
TARGETS = (0.05, 0.01)
TIED_PAIRS, PILED_UP, DISTINCT = 0.001, 0.01, 0.5
CALIBRATION_LOSS, COST_RATIO = 0.1, 1.2  # check F08
AS_ERROR, LEFT_OUT = "counted_as_error", "left_out"


@dataclass(frozen=True)
class Warned:
    """Something a reader must know before believing a number: ``code`` for programs, ``text`` for people."""

    code: str
    text: str


def diagnose(labels: np.ndarray, scores: np.ndarray, *, n_clusters: int, clustered: bool) -> list[Warned]:
    """What is odd about scores (n,) that grow with fake: reversed, constant, tied, piled up, too few clusters.

    Raises:
        ScoreError: no honest number exists: one class only, or scores that are not finite.
    """
    known, values, _ = check_trials(labels, scores)
    out = []
    area, ties = auc(known, values), tie_report(known, values)
    if values.min() == values.max():
        out.append(Warned("constant", "all scores are equal: the detector tells nothing, and every rate is chance"))
    elif area < 0.5:
        out.append(
            Warned(
                "reversed",
                f"AUC is {area:.3f}, below 0.5: the polarity looks reversed; check --higher and the label words",
            )
        )  # fmt: skip
    if ties["cross_class_tied_pairs"] > TIED_PAIRS and values.min() < values.max():
        out.append(
            Warned(
                "ties",
                f"{100 * ties['cross_class_tied_pairs']:.2g} % of real-fake pairs tie: the ASVspoof EER (E1) is unsafe "
                f"here ({100 * eer(known, values, 'E1'):.2f} % against {100 * eer(known, values):.2f} %)",
            )
        )
    elif ties["distinct"] < DISTINCT and values.min() < values.max():
        out.append(
            Warned("few_distinct", f"only {100 * ties['distinct']:.0f} % of scores are distinct: were they rounded?")
        )
    for end, share in (("lowest", ties["at_minimum"]), ("highest", ties["at_maximum"])):
        if share > PILED_UP and share * values.size > 1.5 and values.min() < values.max():
            out.append(
                Warned(
                    "saturation", f"{100 * share:.1f} % of trials sit at the {end} score: it saturates or is clipped"
                )
            )
    if not clustered:
        out.append(
            Warned(
                "unclustered",
                "no cluster is known: trials are taken to be independent, and intervals are too narrow where several "
                "trials share a speaker or source; name it with --cluster",
            )
        )
    elif n_clusters < FEWEST_CLUSTERS:
        out.append(
            Warned(
                "few_clusters", f"{n_clusters} clusters, fewer than {FEWEST_CLUSTERS}: no claim may rest on an interval"
            )
        )
    return out


@dataclass(frozen=True, kw_only=True)
class Options:
    """How the trials are read and measured; see ``deepassay metrics --help``."""

    format: str = "auto"
    columns: Columns = Columns()  # noqa: RUF009 - frozen
    score_columns: tuple[str, ...] = ()
    higher: str | None = None
    label_words: Mapping[str, str] | None = None
    subset: str | None = None
    llr: bool = False
    cluster_unit: str = ""
    replicates: int = 2000
    level: float = 0.95
    seed: int = 0
    method: str = "auto"
    two_way: bool = False
    compared: tuple[str, ...] = COMPARED
    targets: tuple[float, ...] = TARGETS


@dataclass(frozen=True)
class _System:
    """One detector's trials, ready to be measured; scores hold worst-case values where there is no answer."""

    name: str
    table: ScoreTable
    notes: list[str]
    label: np.ndarray
    score: np.ndarray  # non-responses hold worst-case values
    answered: np.ndarray
    llr: np.ndarray
    cluster: np.ndarray
    generator: np.ndarray

    @property
    def calibrated(self) -> bool:
        return bool(self.table.meta.get("calibrated", False))

    @property
    def clustered(self) -> bool:
        return bool(self.table.meta.get("clustered", True)) and len(set(self.cluster.tolist())) < len(self.cluster)

    def only_answered(self) -> "_System":
        keep = self.answered
        return _System(
            self.name, self.table, self.notes, self.label[keep], self.score[keep], self.answered[keep], self.llr[keep],
            self.cluster[keep], self.generator[keep],
        )  # fmt: skip


def _system(name: str, table: ScoreTable, notes: list[str]) -> _System:
    label, answered = table.column("label"), table.answered
    if (label < 0).any():
        raise ScoreError(
            f"{name}: {int((label < 0).sum())} of {len(table)} trials have no label",
            hint="give the answers with --key FILE",
        )
    for kind, word in ((REAL, "real"), (FAKE, "fake")):
        if not (label == kind).any():
            raise ScoreError(
                f"{name}: there is no {word} trial among {len(table)}",
                hint="error rates need both classes; check --key, --label and --label-words",
            )
    raw = table.column("score")
    calibrated = bool(table.meta.get("calibrated", False))
    value = table.column("llr") if calibrated else raw
    filled = value if answered.all() else worst_case_scores(label, value, answered)
    generator = np.array([g or "" for g in table.column("generator")], dtype=object)
    generator[(label == FAKE) & (generator == "")] = "(not annotated)"
    return _System(
        name, table, notes, label, filled, answered, value if calibrated else np.full(len(label), np.nan),
        table.column("cluster"), generator,
    )  # fmt: skip


def run_metrics(
    scores: Path,
    *,
    key: Path | None = None,
    baseline: Sequence[Path] = (),
    asv_scores: Path | None = None,
    dev: Path | None = None,
    dev_key: Path | None = None,
    thresholds: Sequence[float] = (),
    options: Options | None = None,
    out: Path | None = None,
    console: Console | None = None,
) -> int:
    """Print every number of one score file and, where given, of others on the same trials; write JSON and SVG.

    Args:
        scores: our Parquet table, a CSV with named columns, or an ASVspoof score file.
        key: labels, speakers and attacks, where the score file does not hold them.
        baseline: further score files, compared with the first by paired tests.
        asv_scores: similarities of a speaker verifier, for t-DCF.
        dev, dev_key: a development score file in the same format: thresholds are fixed on it and applied here.
        thresholds: fixed thresholds in the scale of the files.
        options: see `Options`.
        out: folder for metrics.json and the plots.
        console: where to print.

    Returns:
        0.

    Raises:
        ScoreError: no honest number exists: one class only, no common trial, contradicting labels, unknown polarity.
    """
    chosen = options or Options()
    show = console or terminal()
    systems = _read_all(scores, baseline, key, chosen)
    asv = asv_rates_at_eer(*read_asv_scores(asv_scores)) if asv_scores else None
    unit = _unit(systems[0], chosen)
    fixed = _fixed_thresholds(systems, scores, baseline, dev, dev_key, thresholds, chosen)
    report: dict[str, Any] = {
        "schema": "1",
        "inputs": [
            {"file": str(p), "sha256": sha256_file(p)} for p in (scores, *baseline, key, asv_scores, dev, dev_key) if p
        ],
        "polarity": "scores here grow with fake; a trial is flagged iff score >= threshold",
        "higher_in_files": {s.name: s.table.meta.get("higher_in_file", "fake") for s in systems},
        "cluster_unit": unit,
        "interval": {
            "level": chosen.level, "replicates": chosen.replicates, "seed": chosen.seed, "method": chosen.method,
            "two_way": chosen.two_way,
        },
        "systems": {},
        "comparisons": [],
    }  # fmt: skip
    _print_head(show, systems, unit)
    tables: dict[str, dict[str, tuple[float, Interval | None]]] = {}
    for system in systems:
        warned = [
            *(Warned("input", note) for note in system.notes),
            *diagnose(
                system.label, system.score, n_clusters=len(set(system.cluster.tolist())), clustered=system.clustered
            ),
        ]  # fmt: skip
        values = _measure(system, chosen, unit, asv)
        tables[system.name] = values
        first = values["eer"][1]
        gap = abs(values["eer"][0] - values["eer_e1"][0])
        if first is not None and gap > max(first.width / 2, 1e-12):
            warned.append(
                Warned("definitions", "EER by E1 and by E3 differ by more than half the interval: state the definition")
            )
        if "cllr" in values:
            loss, ratio = values["calibration_loss"][0], values["act_dcf"][0] / max(values["min_dcf"][0], 1e-12)
            if loss > CALIBRATION_LOSS or ratio > COST_RATIO:
                warned.append(
                    Warned(
                        "uncalibrated",
                        f"called llrs, but calibration would save {loss:.3f} bits and actual DCF is {ratio:.1f} times "
                        "min DCF: treat them as scores",
                    )
                )
        numbers = [_number(system, name, value, interval, {}) for name, (value, interval) in values.items()]
        by_generator = _by_generator(system, chosen, unit)
        numbers += [n for row in by_generator for n in row.numbers]
        points = _points(system, fixed.get(system.name, []), chosen, unit)
        numbers += [n for point in points for n in point.numbers]
        second: dict[str, tuple[float, Interval | None]] = {}
        if not system.answered.all():
            second = _measure(system.only_answered(), chosen, unit, asv, names=("auc", "eer", "min_dcf"))
            numbers += [
                _number(system, name, value, interval, {"nonresponse": LEFT_OUT})
                for name, (value, interval) in second.items()
            ]
        report["systems"][system.name] = {
            "warnings": [asdict(w) for w in warned],
            "nonresponse": nonresponse_counts(system.label, system.answered),
            "numbers": [n.to_json() for n in numbers],
        }
        for warning in warned:
            show.print(f"[yellow]warning[/] {_escaped(system.name)}: {_escaped(warning.text)}", highlight=False)
        if second:
            show.print(
                f"{_escaped(system.name)} without its {int((~system.answered).sum())} non-responses: "
                + "; ".join(f"{METRICS[n].title} {_text(n, v, i)}" for n, (v, i) in second.items()),
                highlight=False,
            )
        if system is systems[0]:
            detail = by_generator, points
        else:
            _print_points(show, system, points)
    _print_values(show, tables, unit, chosen)
    _print_points(show, systems[0], detail[1])
    _print_generators(show, systems[0], detail[0])
    if len(systems) > 1:
        differences, notes = _compare(systems, chosen, unit)
        report["comparisons"] = [{**asdict(d), "interval": d.interval.as_record()} for d in differences]
        report["comparison_notes"] = notes
        _print_comparison(show, differences, notes, unit, chosen)
    if asv is not None:
        report["asv"] = asdict(asv)
        show.print(
            f"t-DCF: the verifier of {asv_scores} at its EER threshold {asv.threshold:.6g}: miss {asv.miss:.4%}, false "
            f"alarm {asv.false_alarm:.4%}, spoofs accepted {asv.false_alarm_spoof:.4%}",
            highlight=False,
        )
    used = {n["metric"] for s in report["systems"].values() for n in s["numbers"]}
    report["definitions"] = {
        name: {"title": m.title, "definition": m.definition, "reference": m.reference, "direction": m.direction}
        for name, m in METRICS.items()
        if name in used
    }
    if out is not None:
        written = _draw(systems, fixed, out, chosen)
        write_json(out / "metrics.json", _plain(report))
        show.print(f"written to {out}: metrics.json, {', '.join(written)}", highlight=False)
    return 0


def _read_all(scores: Path, baseline: Sequence[Path], key: Path | None, options: Options) -> list[_System]:
    trials = _key(key, options)
    files = [scores, *baseline]
    out: list[_System] = []
    for file, name in zip(files, several(files), strict=True):
        wanted = options.score_columns if file == scores else options.score_columns[:1]
        columns = replace(options.columns, score=wanted[0]) if wanted else options.columns
        read = read_scores(
            file, format=options.format, columns=columns, higher=options.higher, label_words=options.label_words,
            key=trials, name=name, llr=options.llr, systems=wanted,
        )  # fmt: skip
        names = list(wanted) if len(wanted) > 1 else [name]
        for label, (table, notes) in zip(names, read, strict=True):
            if label in {s.name for s in out}:
                raise ConfigError(f"two systems are called {label!r}", hint="rename one of the files")
            out.append(_system(label, table, notes))
    return out


def _key(path: Path | None, options: Options) -> dict[str, Trial] | None:
    if path is None:
        return None
    columns = options.columns if options.columns.label else replace(options.columns, label="label")
    return read_key(path, columns=columns, label_words=options.label_words, subset=options.subset)


def _unit(system: _System, options: Options) -> str:
    if options.cluster_unit:
        return options.cluster_unit
    if not system.clustered:
        return "trial"
    adapter = str(system.table.meta.get("adapter", ""))
    return options.columns.cluster or ("speaker" if adapter.startswith("asvspoof") else "subject, else source")


def _measure(
    system: _System,
    options: Options,
    unit: str,
    asv: AsvRates | None,
    *,
    names: Sequence[str] = RANKING,
) -> dict[str, tuple[float, Interval | None]]:
    """Value and interval by metric: ranking metrics on filled scores, llr metrics on answered trials."""
    out: dict[str, tuple[float, Interval | None]] = {}
    asked: list[tuple[str, dict[str, Any]]] = [(n, {}) for n in names]
    if asv is not None and names is RANKING:
        asked += [(n, {"asv": asv}) for n in TANDEM]
    out |= _values(system.label, system.score, system, asked, options, unit)
    if system.calibrated and names is RANKING:
        own = system.only_answered()
        found = _values(own.label, own.llr, own, [("min_cllr", {}), *((n, {}) for n in OF_LLR)], options, unit)
        out |= {n: found[n] for n in OF_LLR}
    return out


def _values(
    labels: np.ndarray,
    values: np.ndarray,
    system: _System,
    asked: Sequence[tuple[str, dict[str, Any]]],
    options: Options,
    unit: str,
) -> dict[str, tuple[float, Interval | None]]:
    direct = [(n, p) for n, p in asked if n not in POINT_ONLY and n != "calibration_loss"]
    made = replicate(
        direct, labels, values, system.cluster, replicates=options.replicates, seed=options.seed,
        generators=system.generator, two_way=options.two_way, jackknife=options.method == "bca",
    )  # fmt: skip
    column = {n: i for i, (n, _) in enumerate(direct)}

    def interval(name: str, point: float, drawn: np.ndarray, left: np.ndarray | None) -> Interval:
        fraction = METRICS[name].unit == "fraction"
        method = (
            ("logit_t" if fraction and 0 < point < 1 else "expanded") if options.method == "auto" else options.method
        )
        if method == "logit_t" and not fraction:
            method = "expanded"
        return interval_of(
            point, drawn, level=options.level, method=method, cluster_unit=unit, n_clusters=made.n_clusters,
            n_generators=made.n_generators, seed=options.seed, left_out=left,
        )  # fmt: skip

    out: dict[str, tuple[float, Interval | None]] = {}
    for name, parameters in asked:
        if name in POINT_ONLY:
            out[name] = METRICS[name](labels, values, **parameters), None
        elif name == "calibration_loss":
            a, b = column["cllr"], column["min_cllr"]
            left = None if made.left_out is None else made.left_out[:, a] - made.left_out[:, b]
            point = float(made.point[a] - made.point[b])
            out[name] = point, interval(name, point, made.values[:, a] - made.values[:, b], left)
        else:
            i = column[name]
            left = None if made.left_out is None else made.left_out[:, i]
            out[name] = float(made.point[i]), interval(name, float(made.point[i]), made.values[:, i], left)
    return out


def _number(
    system: _System,
    metric: str,
    value: float,
    interval: Interval | None,
    where: Mapping[str, str],
    *,
    point: str = "",
    count: tuple[int, int] | None = None,
    keep: np.ndarray | None = None,
    reason: str = "",
) -> Number:
    """A record (law 5). Numbers whose threshold is picked on these trials, or on too few clusters, say so."""
    rows = np.ones(len(system.label), dtype=bool) if keep is None else keep
    label, row = system.label[rows], METRICS[metric]
    clusters = len(set(system.cluster[rows].tolist()))
    known = interval is not None and np.isfinite([interval.lo, interval.hi]).all()
    parts = [metric, *([point] if point else []), *(f"{k}={v}" for k, v in where.items())]
    return Number(
        id="/".join(parts),
        metric=metric,
        definition=f"m:{row.definition}",
        direction=row.direction,
        unit=row.unit,
        value=value if np.isfinite(value) else None,
        ci=interval.as_record() if known and interval is not None else None,
        no_ci_reason="" if known else reason or POINT_ONLY.get(metric, "no bootstrap replicate has a value"),
        n_bona=int((label == REAL).sum()),
        n_attack=int((label == FAKE).sum()),
        n_clusters=clusters,
        n_nonresponse=int((~system.answered[rows]).sum()),
        count=count,
        slice={"nonresponse": AS_ERROR, **where},
        detector=system.name,
        operating_point=point,
        scores_sha256=str(system.table.meta.get("scores_file_sha256", "")) or system.table.hash,
        status="exploratory" if interval is None or interval.reliable else "under_powered",
    )


@dataclass(frozen=True)
class _Generator:
    """One generator against all real trials: trials, EERs, and errors at the threshold of BPCER 5 % on these trials."""

    name: str
    n: int
    clusters: int
    auc: float
    eer: float
    interval: Interval | None
    official: float
    missed: tuple[int, int]
    numbers: list[Number]


def _by_generator(system: _System, options: Options, unit: str) -> list[_Generator]:
    names = sorted({str(g) for g in system.generator[system.label == FAKE]})
    if len(names) < 2:
        return []
    threshold = threshold_at_bpcer(system.label, system.score, TARGETS[0])
    missed = apcer_by_generator(system.label, system.score, system.generator, threshold)
    out = []
    for name in names:
        keep = (system.label == REAL) | (system.generator == name)
        label, score = system.label[keep], system.score[keep]
        own = _System(
            system.name, system.table, [], label, score, system.answered[keep], system.llr[keep],
            system.cluster[keep], system.generator[keep],
        )  # fmt: skip
        found = _values(label, score, own, [("auc", {}), ("eer", {})], _one_way(options), unit)
        official = eer(label, score, "E1")
        numbers = [_number(system, m, v, i, {"generator": name}, keep=keep) for m, (v, i) in found.items()]
        numbers.append(_number(system, "eer_e1", official, None, {"generator": name}, keep=keep))
        fakes = system.generator == name
        clusters = len(set(system.cluster[fakes & (system.label == FAKE)].tolist()))
        out.append(
            _Generator(
                name, int((label == FAKE).sum()), clusters, found["auc"][0], found["eer"][0], found["eer"][1], official,
                missed[name], numbers,
            )
        )  # fmt: skip
    return out


def _one_way(options: Options) -> Options:
    """Within one generator there is nothing to draw generators from."""
    return replace(options, two_way=False)


@dataclass(frozen=True)
class _Point:
    """Errors at one fixed threshold: false alarms, and missed fakes by generator."""

    name: str
    threshold: float
    bpcer: tuple[int, int]
    bpcer_interval: Interval
    apcer: dict[str, tuple[int, int]]
    apcer_interval: dict[str, Interval]
    numbers: list[Number]

    @property
    def worst(self) -> str:
        return max(self.apcer, key=lambda g: self.apcer[g][0] / self.apcer[g][1])


def _fixed_thresholds(
    systems: Sequence[_System],
    scores: Path,
    baseline: Sequence[Path],
    dev: Path | None,
    dev_key: Path | None,
    thresholds: Sequence[float],
    options: Options,
) -> dict[str, list[tuple[str, float]]]:
    """(name, threshold in our polarity) by system: given ones, and those fixed on the development file."""
    out: dict[str, list[tuple[str, float]]] = {s.name: [] for s in systems}
    for system in systems:
        sign = -1.0 if system.table.meta.get("higher_in_file") == "real" else 1.0
        out[system.name] += [(f"given {value:g}", sign * value) for value in thresholds]
    if dev is None:
        return out
    if baseline:
        raise ConfigError(
            "a development file belongs to one system, and there are baselines",
            hint="run each system with its own --dev, or put all systems into columns of one file",
        )
    if sha256_file(dev) == sha256_file(scores):
        raise ConfigError(
            "the development file is the very file that is measured", hint="thresholds must come from other trials"
        )
    for system in _read_all(dev, (), dev_key, options):
        names = {s.name for s in systems}
        target = system.name if system.name in names else systems[0].name
        clash = set(system.table.column("sample_id").tolist()) & set(systems[0].table.column("sample_id").tolist())
        if clash and options.columns.id:
            raise ConfigError(
                f"{len(clash)} trials of the development file are also measured, the first is {min(clash)!r}",
                hint="fix thresholds on other trials",
            )
        out[target] += [
            (f"BPCER {100 * t:g} % on dev", threshold_at_bpcer(system.label, system.score, t)) for t in options.targets
        ]
    return out


def _points(system: _System, thresholds: Sequence[tuple[str, float]], options: Options, unit: str) -> list[_Point]:
    out = []
    for name, threshold in thresholds:
        score = system.score
        if not system.answered.all():
            score = worst_case_scores(system.label, score, system.answered, [threshold])
        real = system.label == REAL
        k, n = bpcer_counts(system.label, score, threshold)
        alarm = _proportion(score[real] >= threshold, system.cluster[real], options.level, unit)
        missed = apcer_by_generator(system.label, score, system.generator, threshold)
        intervals = {}
        numbers = [_number(system, "bpcer", k / n, alarm, {}, point=name, count=(k, n), keep=real)]
        for generator, (k_g, n_g) in missed.items():
            own = (system.label == FAKE) & (system.generator == generator)
            intervals[generator] = _proportion(score[own] < threshold, system.cluster[own], options.level, unit)
            numbers.append(
                _number(
                    system, "apcer", k_g / n_g, intervals[generator], {"generator": generator}, point=name,
                    count=(k_g, n_g), keep=own,
                )
            )  # fmt: skip
        out.append(_Point(name, threshold, (k, n), alarm, missed, intervals, numbers))
    return out


def _proportion(wrong: np.ndarray, clusters: np.ndarray, level: float, unit: str) -> Interval:
    if len(set(clusters.tolist())) < 2:
        return Interval(
            0.0, 1.0, level, "korn_graubard", unit, 1, reliable=False, note="one cluster: nothing is known about others"
        )
    return clustered_proportion(wrong, clusters, level, cluster_unit=unit)


def _compare(systems: Sequence[_System], options: Options, unit: str) -> tuple[list[Difference], list[str]]:
    tables, notes = aligned([s.table for s in systems])
    shared = [_system(s.name, t, []) for s, t in zip(systems, tables, strict=True)]
    differences = compare(
        {s.name: s.score for s in shared}, shared[0].label, shared[0].cluster, list(options.compared),
        replicates=options.replicates, level=options.level, seed=options.seed, generators=shared[0].generator,
        two_way=options.two_way, method="expanded" if options.method == "auto" else "percentile", cluster_unit=unit,
    )  # fmt: skip
    return differences, notes


# ---------------------------------------------------------------------------------------------------------------- print


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def _text(metric: str, value: float, interval: Interval | None) -> str:
    row = METRICS[metric]
    percent = row.unit == "fraction" and metric not in ("auc", "partial_auc", "partial_auc_standardised", "brier")
    scale, digits = (100.0, 2) if percent else (1.0, 4)
    unit = " %" if percent else ""
    told = f"{scale * value:.{digits}f}{unit}"
    if interval is None or not np.isfinite([interval.lo, interval.hi]).all():
        return told
    weak = "" if interval.reliable else " !"
    return f"{told} [{scale * interval.lo:.{digits}f}, {scale * interval.hi:.{digits}f}]{weak}"


def _rate(count: tuple[int, int], interval: Interval | None = None) -> str:
    k, n = count
    bounds = "" if interval is None else f" [{100 * interval.lo:.2f}, {100 * interval.hi:.2f}]"
    weak = " !" if interval is not None and not interval.reliable else ""
    return f"{100 * k / n:.2f} %{bounds}{weak}  {k}/{n}"


def _new_table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    for place, name in enumerate(columns):
        table.add_column(
            _escaped(name),
            justify="left" if place == 0 else "right",
            no_wrap=place > 0,
            overflow="fold",
            min_width=24 if place == 0 else None,
        )
    return table


def _print_head(show: Console, systems: Sequence[_System], unit: str) -> None:
    for system in systems:
        real, fake = int((system.label == REAL).sum()), int((system.label == FAKE).sum())
        silent = int((~system.answered).sum())
        generators = len({str(g) for g in system.generator[system.label == FAKE]})
        meant = system.table.meta.get("higher_in_file", "fake")
        turned = "higher = more likely fake" if meant == "fake" else "higher meant more likely real: negated"
        missing = f", {silent} without a score (counted as errors)" if silent else ""
        units = "" if unit == "trial" else f", {len(set(system.cluster.tolist()))} clusters ({unit})"
        show.print(
            f"[bold]{_escaped(system.name)}[/]: {real} real and {fake} fake trials of {generators} generators{units}"
            f"{missing}; {turned}",
            highlight=False,
        )
        if system.table.synthetic:
            show.print("[bold]SYNTHETIC DATA: these numbers say nothing about real media[/]")


def _print_values(
    show: Console, tables: Mapping[str, Mapping[str, tuple[float, Interval | None]]], unit: str, options: Options
) -> None:
    names = list(dict.fromkeys(n for values in tables.values() for n in values))
    table = _new_table("", ["metric", *tables])
    for name in names:
        cells = [_text(name, *values[name]) if name in values else "" for values in tables.values()]
        table.add_row(METRICS[name].title, *(_escaped(c) for c in cells))
    show.print(table)
    ways = sorted({i.method for values in tables.values() for _, i in values.values() if i is not None})
    show.print(
        f"intervals: {100 * options.level:g} %, {options.replicates} bootstrap replicates of whole clusters (unit: "
        f"{unit}{' and generator' if options.two_way else ''}), {', '.join(ways)}; ! = no claim may rest on it. EER, "
        "min DCF, min Cllr and rates at a target pick their threshold on these very trials: descriptive."
        + ("" if any("cllr" in v for v in tables.values()) else " Cllr and actual DCF need --llr."),
        highlight=False,
    )


def _print_points(show: Console, system: _System, points: Sequence[_Point]) -> None:
    if not points:
        return
    sign = -1.0 if system.table.meta.get("higher_in_file") == "real" else 1.0
    table = _new_table(
        f"\n{system.name} at fixed thresholds", ["point", "flagged iff", "BPCER", "APCER, worst generator"]
    )
    for point in points:
        rule = f"score {'>=' if sign > 0 else '<='} {sign * point.threshold:.6g}"
        worst = point.worst
        table.add_row(
            _escaped(point.name), rule, _escaped(_rate(point.bpcer, point.bpcer_interval)),
            _escaped(f"{worst}: {_rate(point.apcer[worst], point.apcer_interval[worst])}"),
        )  # fmt: skip
    show.print(table)


def _print_generators(show: Console, system: _System, rows: Sequence[_Generator]) -> None:
    if not rows:
        return
    table = _new_table(
        f"\n{system.name} by generator, against all real trials",
        ["generator", "fakes", "clusters", "AUC", "EER (E3)", "EER (E1)", "APCER at BPCER 5 %*"],
    )
    for row in sorted(rows, key=lambda r: -r.eer):
        table.add_row(
            _escaped(row.name), str(row.n), str(row.clusters), f"{row.auc:.4f}",
            _escaped(_text("eer", row.eer, row.interval)), f"{100 * row.official:.2f} %", _rate(row.missed),
        )  # fmt: skip
    show.print(table)
    rates = [r.missed[0] / r.missed[1] for r in rows]
    worst = rows[int(np.argmax(rates))]
    total = (sum(r.missed[0] for r in rows), sum(r.missed[1] for r in rows))
    show.print(
        f"* threshold picked on these trials: descriptive. APCER (ISO/IEC 30107-3, as defined there) is the worst "
        f"generator's: {100 * max(rates):.2f} % ({_escaped(worst.name)}); pooled {_rate(total)}",
        highlight=False,
    )


def _print_comparison(
    show: Console, differences: Sequence[Difference], notes: Sequence[str], unit: str, options: Options
) -> None:
    table = _new_table("\npaired comparison", ["first - second", "metric", "difference", "p", "p (Holm)"])
    for d in differences:
        percent = METRICS[d.metric].unit == "fraction" and d.metric != "auc"
        scale, digits, word = (100.0, 2, " points") if percent else (1.0, 4, "")
        weak = "" if d.interval.reliable else " !"
        table.add_row(
            _escaped(f"{d.first} - {d.second}"), METRICS[d.metric].title,
            _escaped(
                f"{scale * d.difference:+.{digits}f}{word} [{scale * d.interval.lo:+.{digits}f}, "
                f"{scale * d.interval.hi:+.{digits}f}]{weak}"
            ),
            "" if d.p is None else f"{d.p:.4f}", "" if d.p_adjusted is None else f"{d.p_adjusted:.4f}",
        )  # fmt: skip
    show.print(table)
    clusters = differences[0].interval.n_clusters
    show.print(
        f"paired bootstrap: both systems get the same {options.replicates} draws of {clusters} clusters (unit: {unit}"
        f"{' and generator' if options.two_way else ''}); Holm over these {differences[0].family} tests. The smallest "
        f"p that {options.replicates} replicates can give is {2 / (options.replicates + 1):.4f}.",
        highlight=False,
    )
    for note in notes:
        show.print(f"[yellow]warning[/] {_escaped(note)}", highlight=False)


# ----------------------------------------------------------------------------------------------------------------- draw


def _draw(
    systems: Sequence[_System], fixed: Mapping[str, Sequence[tuple[str, float]]], out: Path, options: Options
) -> list[str]:
    """DET of all systems, and densities, reliability and Tippett plot of each; returns the file names."""
    written, lines, marks = [], [], []
    for system in systems:
        found = curves(system.table, replicates=min(options.replicates, 500), level=options.level, seed=options.seed)
        det = found["det"][0]
        lines.append(Curve(system.name, det["bpcer"], det["apcer"], det["lo"], det["hi"]))
        tag = f"-{slug(system.name)}" if len(systems) > 1 else ""
        for name, threshold in fixed.get(system.name, ()):
            k, n = bpcer_counts(system.label, system.score, threshold)
            missed = apcer_by_generator(system.label, system.score, system.generator, threshold).values()
            marks.append(
                (
                    f"{system.name}: {name}" if len(systems) > 1 else name, k / n,
                    sum(a for a, _ in missed) / sum(b for _, b in missed),
                )
            )  # fmt: skip
        parts = found["densities"]
        picture = score_densities(
            parts["edges"], parts["shares"], unit=found["unit"], thresholds=fixed.get(system.name, ()),
            title=f"Scores of {system.name}",
        )  # fmt: skip
        written.append(_write(out, f"densities{tag}.svg", picture))
        if "reliability" in found:
            bins = found["reliability"]
            picture = reliability(
                bins["predicted"], bins["observed"], bins["counts"], title=f"Reliability of {system.name}"
            )
            written.append(_write(out, f"reliability{tag}.svg", picture))
            lr = found["tippett"]
            picture = tippett(lr["log10_lr"], lr["real"], lr["fake"], title=f"Tippett plot of {system.name}")
            written.append(_write(out, f"tippett{tag}.svg", picture))
    return [_write(out, "det.svg", det_figure(lines, marks)), *written]


def _write(folder: Path, name: str, svg: str) -> str:
    write_text(folder / name, svg + "\n")
    return name


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not np.isfinite(value) else value


# -------------------------------------------------------------------------------------------------------- command line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of ``deepassay metrics``."""
    parser.add_argument("scores", type=Path, help="score table (Parquet), CSV with a header, or ASVspoof score file")
    parser.add_argument("--key", type=Path, help="labels, speakers, attacks: an ASVspoof protocol or key, or a CSV")
    parser.add_argument("--baseline", type=Path, action="append", default=[], metavar="OTHER",
                        help="another score file on the same trials, for paired tests; may be repeated")  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder for metrics.json and the plots")
    read = parser.add_argument_group("reading")
    read.add_argument("--format", choices=FORMATS, default="auto")
    read.add_argument("--higher", choices=HIGHER, help="what a higher score means in the files; needed for a CSV")
    read.add_argument("--id", default=None, metavar="COLUMN", help="trial id (default sample_id; '' = line numbers)")
    read.add_argument("--score", nargs="+", default=[], metavar="COLUMN",
                      help="score column; several are several systems, and the first is the main one")  # fmt: skip
    for kind, what in (
        ("label", "real or fake, bonafide or spoof"), ("cluster", "unit of independence: speaker or source"),
        ("generator", "attack or method"), ("channel", "codec or transmission"),
    ):  # fmt: skip
        read.add_argument(f"--{kind}", default="", metavar="COLUMN", help=what)
    read.add_argument(
        "--label-words", nargs="+", default=[], metavar="WORD=real|fake", help="for example 1=fake 0=real"
    )
    read.add_argument("--subset", help="subset of an ASVspoof 2021 key: eval, progress or hidden")
    read.add_argument(
        "--llr", action="store_true", help="scores are natural-log likelihood ratios: adds Cllr, actual DCF"
    )
    more = parser.add_argument_group("measuring")
    more.add_argument("--asv-scores", type=Path, metavar="FILE", help="ASV scores, for min t-DCF (2019 and 2021)")
    more.add_argument("--dev", type=Path, metavar="FILE", help="development scores: thresholds are fixed on them")
    more.add_argument("--dev-key", type=Path, metavar="FILE")
    more.add_argument(
        "--threshold", type=float, action="append", default=[], help="a fixed threshold, in the files' scale"
    )
    more.add_argument("--targets", type=float, nargs="+", default=list(TARGETS), help="BPCER targets fixed on --dev")
    more.add_argument("--cluster-unit", default="", help="the word for a cluster in tables")
    more.add_argument("--two-way", action="store_true", help="resample generators too: for claims about new ones")
    more.add_argument("--replicates", type=int, default=2000)
    more.add_argument("--level", type=float, default=0.95)
    more.add_argument("--seed", type=int, default=0)
    more.add_argument("--method", choices=("auto", "percentile", "expanded", "logit_t", "bca"), default="auto")
    more.add_argument("--compare", nargs="+", default=list(COMPARED), metavar="METRIC", help="metrics of paired tests")
    parser.epilog = """examples:
  deepassay metrics runs/mine/scores/test.parquet --out report
  deepassay metrics cm_scores.txt --key ASVspoof2019.LA.cm.eval.trl.txt --asv-scores asv_scores.txt
  deepassay metrics scores.csv --id utterance --label key --score mine theirs --cluster speaker --generator attack \\
      --higher real --out report
"""


def label_words(pairs: Sequence[str]) -> dict[str, str] | None:
    """``["1=fake", "0=real"]`` as a map.

    Raises:
        ConfigError: an entry that is not WORD=real or WORD=fake.
    """
    out = {}
    for pair in pairs:
        word, sign, meant = pair.rpartition("=")
        if not sign or meant not in ("real", "fake"):
            raise ConfigError(f"--label-words {pair!r}", hint="write WORD=real or WORD=fake, for example 1=fake")
        out[word] = meant
    return out or None


def main(args: argparse.Namespace) -> int:
    """Run ``deepassay metrics``."""
    columns = Columns(
        id="sample_id" if args.id is None else args.id, score=args.score[0] if args.score else "score",
        label=args.label, cluster=args.cluster, generator=args.generator, channel=args.channel,
    )  # fmt: skip
    unknown = sorted(set(args.compare) - set(METRICS))
    if unknown or any(set(METRICS[m].needs) != {"scores"} for m in args.compare):
        fit = [m for m, row in METRICS.items() if set(row.needs) == {"scores"}]
        raise ConfigError(f"--compare {' '.join(args.compare)}", hint=f"use some of {', '.join(fit)}")
    options = Options(
        format=args.format, columns=columns, score_columns=tuple(args.score), higher=args.higher,
        label_words=label_words(args.label_words), subset=args.subset, llr=args.llr, cluster_unit=args.cluster_unit,
        replicates=args.replicates, level=args.level, seed=args.seed, method=args.method, two_way=args.two_way,
        compared=tuple(args.compare), targets=tuple(args.targets),
    )  # fmt: skip
    return run_metrics(
        args.scores, key=args.key, baseline=args.baseline, asv_scores=args.asv_scores, dev=args.dev,
        dev_key=args.dev_key, thresholds=args.threshold, options=options, out=args.out,
    )  # fmt: skip
