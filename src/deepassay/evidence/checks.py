"""Checks F01-F12: each gives a statistic, a threshold and an outcome; a failed or missing blocker bars support."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from deepassay.audit import AuditReport
from deepassay.calibrator import Calibration, OperatingPoint, calibrate, fit_calibration, fit_operating_points
from deepassay.errors import LeakError, ScoreError
from deepassay.evaluation import AS_ERROR, LEFT_OUT, MINIMUM_CLUSTERS, Number
from deepassay.evidence.annex import label_evidence
from deepassay.evidence.conditions import RECODE, TRIM
from deepassay.evidence.protocol import Protocol
from deepassay.evidence.pseudonyms import named_hashes
from deepassay.evidence.tool import ToolUnderAssessment
from deepassay.labels import FAKE, REAL
from deepassay.manifest import SPLITS, Manifest
from deepassay.metrics.calibration import cllr, min_cllr
from deepassay.metrics.decision import act_dcf, min_dcf
from deepassay.metrics.intervals import cluster_bootstrap, wilson
from deepassay.metrics.ranking import auc, eer
from deepassay.metrics.trials import tie_report
from deepassay.scores import ScoreTable

# Proposed limits; a protocol that wants others says so before it is frozen.
PROBE_AUC, PROBE_EER, TRIM_EER, WIDTH_RATIO = 0.60, 0.35, 0.05, 1.2
MACRO_MINUS_WORST, DOMINANT_SHARE, LEAVE_ONE_OUT_AUC = 0.20, 0.50, 0.02
CALIBRATION_LOSS_BITS, DCF_RATIO = 0.1, 1.2
TIED_PAIRS, DISTINCT = 0.001, 0.5
NONRESPONSE_GAP = 0.02
ROUNDING = 1e-3  # llr; the export's gate between machines
# What fills the rules ``threshold.F..`` of the string files.
LIMITS: Mapping[str, Mapping[str, Any]] = {
    "F03": {"auc": f"{PROBE_AUC:.2f}"},
    "F04": {"eer": f"{100 * PROBE_EER:.0f}", "points": f"{100 * TRIM_EER:.0f}"},
    "F06": {"clusters": MINIMUM_CLUSTERS, "ratio": WIDTH_RATIO},
    "F07": {"gap": f"{100 * MACRO_MINUS_WORST:.0f}", "share": f"{100 * DOMINANT_SHARE:.0f}", "move": LEAVE_ONE_OUT_AUC},
    "F08": {"loss": CALIBRATION_LOSS_BITS, "ratio": DCF_RATIO},
    "F09": {"ties": f"{100 * TIED_PAIRS:.1f}", "distinct": DISTINCT},
    "F10": {"gap": f"{100 * NONRESPONSE_GAP:.0f}"},
}
NUISANCES = ("bytes", "duration_s", "width", "height", "fps", "rate_hz")


@dataclass(frozen=True, kw_only=True)
class CheckResult:
    """What a check found.

    Args:
        outcome: ``pass``, ``warn``, ``fail`` or ``not_run``.
        severity: ``B`` blocks a verdict of supported, ``W`` warns.
        code: key of the sentence that says why, in the string files, with ``values`` to fill in.
        applicable: False where the question does not arise (a still picture has no duration): then it does not block.
    """

    id: str
    outcome: str
    statistic: Mapping[str, Any]
    code: str
    values: Mapping[str, Any] = field(default_factory=dict)
    severity: str = "B"
    applicable: bool = True

    @property
    def blocks(self) -> bool:
        """Whether it forbids ``supported``: it failed, or it applies, would block, and was not run."""
        return self.outcome == "fail" or (self.outcome == "not_run" and self.applicable and self.severity == "B")


@dataclass(frozen=True, kw_only=True)
class Material:
    """What the checks look at. Everything optional that is absent makes its check ``not_run``, never ``pass``.

    Args:
        dev, test: calibrated score tables.
        numbers: what `evaluation.measure` found on ``test``.
        operating_points, calibration: the detector's, from its bundle.
        manifest: the split manifest that the detector was trained with and the tables were scored from.
        preregistration: `Register.record`.
        generators_seen: generators in the detector's training data; None where unknown.
        detector: name, and ``bundle_sha256``, for the list of declared detectors.
        near_duplicates: ``method``, ``threshold``, ``pairs_across_splits``; from ``audit`` where there is one.
        audit: of the same manifest, with files opened; without it, probes see what the manifest records.
        labelling: ``labelling`` of the log, where labels of the outputs were looked for.
    """

    tool: ToolUnderAssessment
    protocol: Protocol
    dev: ScoreTable
    test: ScoreTable
    numbers: Sequence[Number]
    operating_points: Sequence[OperatingPoint]
    calibration: Calibration | None
    preregistration: Mapping[str, Any]
    manifest: Manifest | None = None
    generators_seen: Sequence[str] | None = None
    detector: str = ""
    bundle_sha256: str = ""
    bundle_created_utc: str = ""
    near_duplicates: Mapping[str, Any] | None = None
    audit: AuditReport | None = None
    seed: int = 0
    labelling: Mapping[str, Any] | None = None


def run_checks(material: Material) -> list[CheckResult]:
    """All twelve, in order."""
    return [check(material) for check in CHECKS.values()]


def f01_fitted_on_test(material: Material) -> CheckResult:
    """Thresholds and calibration name the dev table, which is not the test table; no suspiciously exact test rates."""
    dev, test = named_hashes(material.dev)[1], named_hashes(material.test)[1]
    named = {point.name: point.dev_table_sha256 for point in material.operating_points}
    if material.calibration is not None:
        named["calibration"] = material.calibration.dev_table_sha256
    wrong = sorted(name for name, value in named.items() if value != dev or value == test)
    # Another machine's rounding changes the hash and no threshold by more than the gate of the export.
    drift = None
    if wrong and len(set(named.values())) == 1 and test not in named.values() and len(wrong) == len(named):
        drift = refit_difference(material.dev, material.calibration, material.operating_points)
    rounded = drift is not None and drift <= ROUNDING
    late = False
    if material.bundle_created_utc:
        opened = str(material.preregistration["test_opened_utc"])
        late = _time(material.bundle_created_utc) > _time(opened)
    exact = []
    for point in material.operating_points:
        for number in material.numbers:
            if number.metric == "bpcer" and number.operating_point == point.name and number.count is not None:
                k, n = number.count
                if set(number.slice) == {"nonresponse"} and number.slice["nonresponse"] == AS_ERROR:
                    exact += [point.name] if k == int(np.floor(point.target_bpcer * n)) and k > 0 else []
    statistic = {
        "dev_table_sha256": dev, "test_table_sha256": test, "not_fitted_on_dev": wrong, "fitted_after_opening": late,
        "exact_rates": exact, **({} if drift is None else {"refit_difference": drift}),
    }  # fmt: skip
    if not named:
        return CheckResult(id="F01", outcome="not_run", statistic=statistic, code="f01.none")
    if (wrong and not rounded) or late:
        return CheckResult(
            id="F01",
            outcome="fail",
            statistic=statistic,
            code="f01.fail",
            values={"names": ", ".join(wrong) or "bundle"},
        )
    if len(exact) >= 2:
        return CheckResult(
            id="F01",
            outcome="warn",
            statistic=statistic,
            code="f01.exact",
            severity="W",
            values={"names": ", ".join(exact)},
        )
    code, values = ("f01.rounded", {"drift": f"{drift:.1g}"}) if rounded else ("f01.pass", {})
    return CheckResult(id="F01", outcome="pass", statistic=statistic, code=code, values={"n": len(named), **values})


def refit_difference(
    dev: ScoreTable, calibration: Calibration | None, points: Sequence[OperatingPoint]
) -> float | None:
    """Largest difference, in llr, between thresholds and calibration as stated and as this dev table gives them.

    Returns:
        None where there is no calibration, where nothing can be fitted on the table, or where other numbers of samples
        went into the fit.
    """
    if calibration is None or not points:
        return None
    try:
        again = fit_calibration(dev)
        targets = [point.target_bpcer for point in points]
        fitted = fit_operating_points(calibrate(dev, calibration), targets, where_supported=())
    except (LeakError, ScoreError):  # nothing can be fitted on such a table: the difference stays, and the check fails
        return None
    made = {point.name: point for point in fitted}
    if (again.n_real, again.n_fake) != (calibration.n_real, calibration.n_fake) or not made.keys() >= {
        point.name for point in points
    }:
        return None
    scores = dev.column("score")[dev.answered]
    moved = float(np.abs(again.llr(scores) - calibration.llr(scores)).max())
    return max(moved, *(abs(made[point.name].threshold - point.threshold) for point in points))


def overlap_counts(manifest: Manifest) -> dict[str, int]:
    """Values that lie in more than one split: sample ids, file hashes, persons (every subject of a swap), sources.

    Keys follow the log's schema: ``speaker`` for voices, ``identity`` for faces.
    """
    person = "speaker" if set(manifest.column("modality")) == {"voice"} else "identity"
    homes: dict[str, dict[str, set[str]]] = {"sample_id": {}, "file_sha256": {}, person: {}, "source_video": {}}
    for sample in manifest:
        if sample.split not in SPLITS:
            continue
        facts = [("sample_id", sample.sample_id), ("file_sha256", sample.sha256), ("source_video", sample.source_id)]
        facts += [(person, subject) for subject in sample.subjects]
        for name, value in facts:
            if value:
                homes[name].setdefault(value, set()).add(sample.split)
    return {name: sum(len(splits) > 1 for splits in values.values()) for name, values in homes.items()}


def f02_leak(material: Material) -> CheckResult:
    """No person, source or file lies in two splits."""
    if material.manifest is None:
        shared = {
            name: len(_values(material.dev, name) & _values(material.test, name))
            for name in ("sample_id", "source_id", "subjects")
        }
        outcome = "fail" if any(shared.values()) else "not_run"
        return CheckResult(
            id="F02",
            outcome=outcome,
            statistic={"dev_and_test": shared},
            code="f02.fail" if outcome == "fail" else "f02.no_manifest",
            values={"counts": _pairs(shared)},
        )
    counts = overlap_counts(material.manifest)
    known = {
        "with_person": int(sum(bool(s.subjects) for s in material.manifest)),
        "with_source": int(sum(bool(s.source_id) for s in material.manifest)),
        "with_file_hash": int(sum(bool(s.sha256) for s in material.manifest)),
        "n": len(material.manifest),
    }
    statistic = {"overlaps": counts, "coverage": known, "embedding_audit": "not run"}
    if any(counts.values()):
        return CheckResult(
            id="F02",
            outcome="fail",
            statistic=statistic,
            code="f02.fail",
            values={"counts": _pairs({name: n for name, n in counts.items() if n})},
        )
    if max(known["with_person"], known["with_source"]) < len(material.manifest):
        return CheckResult(id="F02", outcome="warn", statistic=statistic, code="f02.partial", values=known)
    return CheckResult(id="F02", outcome="pass", statistic=statistic, code="f02.pass", values=known)


def nuisance_probe(
    manifest: Manifest, names: Sequence[str] = NUISANCES, *, codec: bool = True, seed: int = 0, replicates: int = 1000
) -> dict[str, Any] | None:
    """How well a label can be told from file facts alone: boosted trees, folds by cluster, scores out of fold.

    Returns:
        ``auc`` with ``lo`` and ``hi`` (95 % cluster bootstrap), ``eer``, ``features``, ``n``, ``n_clusters``; None
        where no such fact is known, or a class has fewer than 20 clusters.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedGroupKFold

    rows = manifest.select(manifest.column("label") >= 0)
    label, cluster = rows.column("label").astype(int), rows.column("cluster").astype(str)
    weakest = min(len(set(cluster[label == REAL])), len(set(cluster[label == FAKE])))
    if weakest < MINIMUM_CLUSTERS:
        return None
    columns: dict[str, np.ndarray] = {}
    for name in names:
        values = np.array([np.nan if v is None else float(v) for v in rows.column(name)])
        if np.isfinite(values).any():
            columns[name] = values
    for top, bottom in (("bytes", "duration_s"), ("bytes", "pixels")):
        area = columns["width"] * columns["height"] if {"width", "height"} <= columns.keys() else None
        below = area if bottom == "pixels" else columns.get(bottom)
        if top in columns and below is not None and np.isfinite(below).any():
            with np.errstate(all="ignore"):
                ratio = columns[top] / below
            columns[f"{top}_per_{bottom}"] = np.where(np.isfinite(ratio), ratio, np.nan)
    if codec:
        kinds = np.array([str(v or "") for v in rows.column("codec")])
        if set(kinds) != {""}:
            for kind in sorted(set(kinds))[:16]:
                columns[f"codec={kind or 'unknown'}"] = (kinds == kind).astype(float)
    if not columns:
        return None
    table = np.column_stack(list(columns.values()))
    scores = np.full(len(label), 0.5)
    folds = StratifiedGroupKFold(n_splits=5, shuffle=True, random_state=seed)
    for train, test in folds.split(table, label, cluster):
        if len(set(label[train])) < 2:
            continue
        model = HistGradientBoostingClassifier(max_iter=60, max_depth=3, random_state=seed)
        model.fit(table[train], label[train])
        scores[test] = model.predict_proba(table[test])[:, 1]
    interval = cluster_bootstrap("auc", label, scores, cluster, replicates=replicates, level=0.95, seed=seed)
    return {
        "auc": auc(label, scores), "lo": interval.lo, "hi": interval.hi, "eer": eer(label, scores, definition="E3"),
        "features": list(columns), "n": len(label), "n_clusters": len(set(cluster)),
    }  # fmt: skip


def f03_container(material: Material) -> CheckResult:
    """Codec, size, rate and shape alone must not tell the label; re-encoding is a separate part."""
    probe = _audited(material, ("shortcut.container", "shortcut.geometry", "shortcut.channel"))
    if probe is None and material.manifest is not None:
        probe = nuisance_probe(material.manifest, seed=material.seed)
    if probe is None:
        return CheckResult(id="F03", outcome="not_run", statistic={"probe": None}, code="f03.no_fields")
    recoded = re_encoding(material.numbers)
    statistic = {"probe": probe, "re_encoding": recoded or "not run"}
    values = {"auc": f"{probe['auc']:.3f}", "lo": f"{probe['lo']:.3f}", "n": probe["n"]}
    if probe["lo"] > PROBE_AUC:
        return CheckResult(id="F03", outcome="fail", statistic=statistic, code="f03.fail", values=values)
    if recoded is None:
        return CheckResult(id="F03", outcome="not_run", statistic=statistic, code="f03.half", values=values)
    values |= {
        "coder": recoded["coder"], "before": f"{recoded['before']:.3f}", "after": f"{recoded['after']:.3f}",
        "low": f"{recoded['lo']:.3f}", "high": f"{recoded['hi']:.3f}",
    }  # fmt: skip
    outcome, code = ("pass", "f03.pass") if recoded["within"] else ("fail", "f03.recoded")
    return CheckResult(id="F03", outcome=outcome, statistic=statistic, code=code, values=values)


def re_encoding(numbers: Sequence[Number]) -> dict[str, Any] | None:
    """AUC of all fakes before and after both classes went through one coder; None where they did not.

    ``within``: the second lies in the interval of the first, both ends included.
    """
    before, after = _of(numbers, "auc", ""), _of(numbers, "auc", RECODE)
    if before is None or after is None or before.ci is None or before.value is None or after.value is None:
        return None
    lo, hi = before.ci["lo"], before.ci["hi"]
    return {
        "coder": after.slice["condition"].removeprefix(f"{RECODE}:"), "before": before.value, "lo": lo, "hi": hi,
        "after": after.value, "within": bool(lo - 1e-12 <= after.value <= hi + 1e-12),
    }  # fmt: skip


def trimming(numbers: Sequence[Number]) -> dict[str, Any] | None:
    """EER of all fakes before and after silence at both ends was cut off; None where it was not."""
    before, after = _of(numbers, "eer", ""), _of(numbers, "eer", TRIM)
    if before is None or after is None or before.value is None or after.value is None:
        return None
    return {"before": before.value, "after": after.value, "difference": after.value - before.value}


def _of(numbers: Sequence[Number], metric: str, kind: str) -> Number | None:
    """A number over all fakes, non-responses counted as errors: of the files as they came, or under a condition."""
    for number in numbers:
        where = dict(number.slice)
        condition = where.pop("condition", "")
        if number.metric == metric and where == {"nonresponse": AS_ERROR} and condition.partition(":")[0] == kind:
            return number
    return None


def f04_duration(material: Material) -> CheckResult:
    """Duration alone must not tell the label; silence and trimming are a separate part."""
    if material.tool.media == "image":
        return CheckResult(id="F04", outcome="not_run", statistic={}, code="f04.image", applicable=False)
    probe = _audited(material, ("shortcut.silence", "shortcut.duration"))
    looked = probe is not None
    if probe is None and material.manifest is not None:
        probe = nuisance_probe(material.manifest, ("duration_s",), codec=False, seed=material.seed)
    if probe is None:
        return CheckResult(id="F04", outcome="not_run", statistic={}, code="f04.no_duration")
    trimmed = trimming(material.numbers)
    statistic = {"probe": probe, "silence_looked_at": looked, "trimmed_scores": trimmed or "not run"}
    values = {"eer": f"{100 * probe['eer']:.1f}"}
    if probe["eer"] < PROBE_EER and probe["lo"] > 0.5:
        return CheckResult(id="F04", outcome="fail", statistic=statistic, code="f04.fail", values=values)
    if material.tool.media == "video":
        # Only the pictures of a video are judged: there is no sound whose silence could be cut off.
        return CheckResult(id="F04", outcome="pass", statistic=statistic, code="f04.video", values=values)
    if trimmed is not None:
        values |= {name: f"{100 * trimmed[name]:.1f}" for name in ("before", "after")}
        if abs(trimmed["difference"]) > TRIM_EER:
            return CheckResult(id="F04", outcome="fail", statistic=statistic, code="f04.trimmed", values=values)
        if looked:
            return CheckResult(id="F04", outcome="pass", statistic=statistic, code="f04.pass", values=values)
        return CheckResult(id="F04", outcome="not_run", statistic=statistic, code="f04.unheard", values=values)
    code = "f04.audited" if looked else "f04.half"
    return CheckResult(id="F04", outcome="not_run", statistic=statistic, code=code, values=values)


def _audited(material: Material, ids: Sequence[str]) -> dict[str, Any] | None:
    """The strongest of some probes of the audit that opened the files: auc, lo, hi, eer, n; None without one."""
    if material.audit is None:
        return None
    found = [
        {
            "auc": f.statistic["auc"],
            "lo": f.statistic["ci"]["lo"],
            "hi": f.statistic["ci"]["hi"],
            "eer": f.statistic["eer"],
            "n": f.statistic["n_real"] + f.statistic["n_fake"],
            "probe": f.id,
            "features": list(f.statistic["auc_of_each_alone"]),
        }
        for f in material.audit.findings
        if f.id in ids and "auc" in f.statistic
    ]
    return max(found, key=lambda probe: probe["lo"], default=None)


def f05_near_duplicates(material: Material) -> CheckResult:
    """No near-duplicate pair lies across splits; exact copies are always counted."""
    exact = None
    if material.manifest is not None and any(material.manifest.column("sha256")):
        exact = overlap_counts(material.manifest)["file_sha256"]
    statistic: dict[str, Any] = {"exact_copies_across_splits": exact, "audit": material.near_duplicates}
    pairs = 0 if material.near_duplicates is None else int(material.near_duplicates["pairs_across_splits"])
    if pairs or exact:
        return CheckResult(
            id="F05",
            outcome="fail",
            statistic=statistic,
            code="f05.fail",
            values={"pairs": pairs, "exact": exact or 0},
        )
    if material.near_duplicates is None:
        return CheckResult(
            id="F05",
            outcome="not_run",
            statistic=statistic,
            code="f05.exact_only" if exact == 0 else "f05.none",
        )
    return CheckResult(
        id="F05",
        outcome="pass",
        statistic=statistic,
        code="f05.pass",
        values={"method": material.near_duplicates["method"]},
    )


def f06_clusters(material: Material) -> CheckResult:
    """Every interval names its clusters; few clusters mean under-powered; naive widths stand beside cluster widths."""
    unnamed = [n.id for n in material.numbers if n.ci and not (n.ci.get("cluster_unit") and n.ci.get("n_clusters"))]
    bold = [
        n.id
        for n in material.numbers
        if n.ci
        and (n.ci.get("n_clusters") or 0) < MINIMUM_CLUSTERS
        and n.status not in ("under_powered", "not_reported")
    ]
    ratios = {}
    for number in material.numbers:
        if number.count and number.ci and number.ci["method"].startswith("bootstrap_cluster"):
            if set(number.slice) - {"nonresponse", "generator"} or number.slice.get("nonresponse") == LEFT_OUT:
                continue
            naive = wilson(*number.count, level=number.ci["level"])
            ratios[number.id] = (number.ci["hi"] - number.ci["lo"]) / (naive.hi - naive.lo)
    widest = max(ratios.values(), default=None)
    statistic = {
        "without_clusters": unnamed, "claimed_with_few_clusters": bold, "cluster_to_naive_width": ratios,
        "widest": widest,
    }  # fmt: skip
    failed = bool(unnamed or bold)
    return CheckResult(
        id="F06",
        outcome="fail" if failed else "pass",
        statistic=statistic,
        code="f06.fail" if failed else "f06.pass",
        values={"n": len(unnamed) + len(bold), "ratio": "-" if widest is None else f"{widest:.2f}"},
    )


def f07_domination(material: Material) -> CheckResult:
    """One generator must not carry a pooled number; governs claims about all generators, not about the tool itself."""
    label, scores, generator = _answered(material.test)
    fakes = generator[label == FAKE]
    names, counts = np.unique(fakes.astype(str), return_counts=True)
    share = float(counts.max() / counts.sum())
    gaps = {}
    for point in material.operating_points:
        rates = {
            n.metric: float(n.value)
            for n in material.numbers
            if n.operating_point == point.name
            and n.slice.get("nonresponse") == AS_ERROR
            and n.value is not None
            and (n.metric == "macro_apcer" or "worst_generator" in n.slice)
        }
        if len(rates) == 2:
            gaps[point.name] = rates["apcer"] - rates["macro_apcer"]
    whole = auc(label, scores)
    moves = {}
    if len(names) > 1:
        for name in names:
            keep = (label == REAL) | (generator != name)
            moves[str(name)] = auc(label[keep], scores[keep]) - whole
    move = max((abs(v) for v in moves.values()), default=0.0)
    flags = [
        *(["gap"] if max(gaps.values(), default=0.0) > MACRO_MINUS_WORST else []),
        *(["share"] if share > DOMINANT_SHARE else []),
        *(["leave_one_out"] if move > LEAVE_ONE_OUT_AUC else []),
    ]
    pooled = [claim.id for claim in material.protocol.claims if claim.about == "all" and claim.metric not in ("bpcer",)]
    statistic = {
        "worst_minus_macro": gaps, "largest_share": share, "leave_one_out_auc_change": moves, "flags": flags,
        "pooled_claims": pooled, "generators": len(names),
    }  # fmt: skip
    values = {"share": f"{100 * share:.0f}", "move": f"{move:.3f}", "claims": ", ".join(pooled) or "-"}
    if not flags:
        return CheckResult(id="F07", outcome="pass", statistic=statistic, code="f07.pass", values=values)
    outcome, code, severity = ("fail", "f07.fail", "B") if pooled else ("warn", "f07.warn", "W")
    return CheckResult(id="F07", outcome=outcome, statistic=statistic, code=code, values=values, severity=severity)


def f08_calibration(material: Material) -> CheckResult:
    """Scores grow with fake on dev; what is called an llr is one."""
    label, scores, _ = _answered(material.dev)
    on_dev = auc(label, scores)
    statistic: dict[str, Any] = {"dev_auc": on_dev}
    values: dict[str, Any] = {"auc": f"{on_dev:.3f}"}
    if on_dev <= 0.5:
        return CheckResult(id="F08", outcome="fail", statistic=statistic, code="f08.fail", values=values)
    if not material.test.meta.get("calibrated", False):
        return CheckResult(
            id="F08",
            outcome="warn",
            statistic=statistic,
            code="f08.uncalibrated",
            severity="W",
            values=values,
        )
    label, llr, _ = _answered(material.test, "llr")
    loss = cllr(label, llr) - min_cllr(label, llr)
    actual, least = act_dcf(label, llr), min_dcf(label, llr)
    ratio = actual / least if least > 0 else (1.0 if actual == 0 else float(np.finfo(float).max))
    statistic |= {"calibration_loss_bits": loss, "act_dcf": actual, "min_dcf": least, "dcf_ratio": ratio}
    values |= {"loss": f"{loss:.3f}", "ratio": f"{ratio:.2f}" if ratio < 1e6 else "> 1e6"}
    good = loss <= CALIBRATION_LOSS_BITS and ratio <= DCF_RATIO
    return CheckResult(
        id="F08",
        outcome="pass" if good else "warn",
        statistic=statistic,
        code="f08.pass" if good else "f08.warn",
        values=values,
        severity="B" if good else "W",
    )


def f09_ties(material: Material) -> CheckResult:
    """Finite scores, few ties, no saturation, no half precision, no repeated samples."""
    label, scores, _ = _answered(material.test)
    bad = int((~np.isfinite(scores)).sum())
    ids = material.test.column("sample_id")
    repeats = len(ids) - len(set(ids.tolist()))
    statistic: dict[str, Any] = {"not_finite": bad, "repeated_samples": repeats}
    faults = [name for name, n in (("not_finite", bad), ("repeated_samples", repeats)) if n]
    if not bad:
        report = tie_report(label, scores)
        distance = abs(eer(label, scores, definition="E1") - eer(label, scores, definition="E3"))
        number = next((n for n in material.numbers if n.metric == "eer" and n.slice == {"nonresponse": LEFT_OUT}), None)
        half = None
        if number is not None and number.ci is not None and number.ci["lo"] is not None and number.ci["hi"] is not None:
            half = (number.ci["hi"] - number.ci["lo"]) / 2
        with np.errstate(over="ignore"):
            halved = bool(len(scores) > 20 and (scores == scores.astype(np.float16).astype(np.float64)).all())
        statistic |= {
            "cross_class_ties": report["cross_class_tied_pairs"], "distinct": report["distinct"],
            "e1_minus_e3": distance, "half_interval": half, "float16": halved,
        }  # fmt: skip
        faults += ["ties"] if report["cross_class_tied_pairs"] >= TIED_PAIRS else []
        faults += ["saturation"] if report["distinct"] <= DISTINCT else []
        faults += ["eer_definitions"] if half is not None and distance > half + 1e-12 else []
        faults += ["float16"] if halved else []
    statistic["faults"] = faults
    return CheckResult(
        id="F09",
        outcome="fail" if faults else "pass",
        statistic=statistic,
        code="f09.fail" if faults else "f09.pass",
        values={"faults": ", ".join(faults), "n": len(scores)},
    )


def f10_exclusion(material: Material) -> CheckResult:
    """Every sample of the manifest is a row; both tables are shown; non-responses do not differ much by class."""
    test = material.test
    label, answered = test.column("label"), test.answered
    rates = [float((~answered)[label == one].mean()) for one in (REAL, FAKE)]
    gap = abs(rates[0] - rates[1])
    shown = {n.slice.get("nonresponse") for n in material.numbers}
    missing: list[str] = []
    extra: list[str] = []
    if material.manifest is not None:
        # A run's test table holds its test split; a table scored for the assessment holds a whole manifest.
        splits = set(test.column("split"))
        wanted = {s.sample_id for s in material.manifest if s.split in splits and s.label is not None}
        given = set(test.column("sample_id").tolist())
        missing, extra = sorted(wanted - given), sorted(given - wanted)
    statistic = {
        "rows": len(test), "scored": int(answered.sum()), "without_response": int((~answered).sum()),
        "missing_from_table": len(missing), "not_in_manifest": len(extra), "both_tables": {AS_ERROR, LEFT_OUT} <= shown,
        "rate_real": rates[0], "rate_fake": rates[1],
    }  # fmt: skip
    values = {"n": len(test), "silent": int((~answered).sum()), "missing": len(missing), "extra": len(extra),
              "gap": f"{100 * gap:.1f}"}  # fmt: skip
    if missing or extra or not statistic["both_tables"]:
        return CheckResult(id="F10", outcome="fail", statistic=statistic, code="f10.fail", values=values)
    if material.manifest is None:
        return CheckResult(id="F10", outcome="not_run", statistic=statistic, code="f10.no_manifest", values=values)
    if gap > NONRESPONSE_GAP:
        return CheckResult(
            id="F10",
            outcome="warn",
            statistic=statistic,
            code="f10.warn",
            values=values,
            severity="W",
        )
    return CheckResult(id="F10", outcome="pass", statistic=statistic, code="f10.pass", values=values)


def f11_selection(material: Material) -> CheckResult:
    """The protocol was frozen before the test labels were opened, once, and only declared detectors are reported."""
    record = material.preregistration
    openings = list(record.get("openings", []))
    late = _time(str(record["frozen_utc"])) >= _time(str(record["test_opened_utc"]))
    foreign = [o for o in openings if o["protocol_sha256"] != material.protocol.sha256]
    mismatch = record["protocol_sha256"] != material.protocol.sha256
    tables = {o["table_sha256"] for o in openings}
    declared = set(material.protocol.detectors)
    undeclared = bool(declared) and not declared & {material.detector, material.bundle_sha256}
    unseen = bool(openings) and named_hashes(material.test)[0] not in tables
    statistic = {
        "frozen_utc": record["frozen_utc"], "test_opened_utc": record["test_opened_utc"], "openings": len(openings),
        "late_protocol": late, "other_protocols": len(foreign), "undeclared_detector": undeclared,
        "table_never_opened": unseen, "different_tables": len(tables),
    }  # fmt: skip
    times = {"frozen": str(record["frozen_utc"])[:19], "opened": str(record["test_opened_utc"])[:19]}
    values = {**{name: f"{text.replace('T', ' ')} UTC" for name, text in times.items()}, "n": len(openings)}
    if late or foreign or mismatch or undeclared or unseen:
        return CheckResult(id="F11", outcome="fail", statistic=statistic, code="f11.fail", values=values)
    if len(openings) > 1:
        return CheckResult(
            id="F11",
            outcome="warn",
            statistic=statistic,
            code="f11.again",
            values=values,
            severity="W",
        )
    return CheckResult(id="F11", outcome="pass", statistic=statistic, code="f11.pass", values=values)


def f12_independence(material: Material) -> CheckResult:
    """What is said of exposure agrees with the training data; what is said of labels was read back and holds."""
    tool = material.tool
    named = None if material.generators_seen is None else tool.generator in set(material.generators_seen)
    copies = None
    if material.manifest is not None:
        training = {s.sha256 for s in material.manifest if s.split == "train" and s.sha256}
        outputs = {
            s.sha256 for s in material.manifest if s.split == "test" and s.generator == tool.generator and s.sha256
        }
        copies = len(training & outputs) if training and outputs else None
    statistic = {
        "stated": tool.seen_by_detectors, "generator_in_training": named, "files_in_training": copies,
        "mark_evidence": label_evidence(material.labelling) or "no statement about marks is made",
    }  # fmt: skip
    values = {"generator": tool.generator}
    faults = label_evidence(material.labelling).get("faults")
    if (tool.seen_by_detectors == "no" and named) or copies:
        return CheckResult(id="F12", outcome="fail", statistic=statistic, code="f12.fail", values=values)
    if faults:
        values = {"faults": ", ".join(faults)}
        return CheckResult(id="F12", outcome="fail", statistic=statistic, code="f12.labels", values=values)
    if tool.seen_by_detectors == "yes" or named:
        return CheckResult(
            id="F12",
            outcome="warn",
            statistic=statistic,
            code="f12.seen",
            values=values,
            severity="W",
        )
    if tool.seen_by_detectors == "unknown":
        return CheckResult(
            id="F12",
            outcome="warn",
            statistic=statistic,
            code="f12.unknown",
            values=values,
            severity="W",
        )
    if named is None:
        return CheckResult(id="F12", outcome="not_run", statistic=statistic, code="f12.no_training", values=values)
    return CheckResult(id="F12", outcome="pass", statistic=statistic, code="f12.pass", values=values)


CHECKS: Mapping[str, Callable[[Material], CheckResult]] = {
    "F01": f01_fitted_on_test,
    "F02": f02_leak,
    "F03": f03_container,
    "F04": f04_duration,
    "F05": f05_near_duplicates,
    "F06": f06_clusters,
    "F07": f07_domination,
    "F08": f08_calibration,
    "F09": f09_ties,
    "F10": f10_exclusion,
    "F11": f11_selection,
    "F12": f12_independence,
}


def _answered(table: ScoreTable, column: str = "score") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    keep = table.answered
    generator = np.array([name or "" for name in table.column("generator")], dtype=object)
    return table.column("label")[keep], table.column(column)[keep], generator[keep]


def _values(table: ScoreTable, name: str) -> set[str]:
    out: set[str] = set()
    for value in table.column(name):
        out |= {value} if isinstance(value, str) else set(value or ())
    return out - {""}


def _pairs(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {n}" for name, n in counts.items())


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    from datetime import UTC

    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
