"""assess: score tables, a frozen protocol and what is known about tool and detector become an assessment log."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np

from deepassay.audit import AuditReport
from deepassay.calibrator import Calibration, OperatingPoint, dev_table_hash
from deepassay.errors import LeakError, ScoreError
from deepassay.evaluation import Number, strata
from deepassay.evidence.checks import LIMITS, CheckResult, Material, overlap_counts, run_checks
from deepassay.evidence.conditions import LADDER, Condition, ConditionScores
from deepassay.evidence.controls import holds
from deepassay.evidence.language import Words, legal_texts
from deepassay.evidence.log import SCHEMA_VERSION, AssessmentLog, Check, parse_log
from deepassay.evidence.measuring import drawn_from, measure_all
from deepassay.evidence.protocol import Claim, Protocol, decide
from deepassay.evidence.pseudonyms import Pseudonyms
from deepassay.evidence.tool import ToolUnderAssessment
from deepassay.evidence.versions import Earlier, compare_versions
from deepassay.files import fingerprint, slug
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Manifest
from deepassay.provenance import describe_hardware
from deepassay.scores import ScoreTable

if TYPE_CHECKING:
    from deepassay.screening.bundle import Bundle

DISJOINT_WORDS = ("file_sha256", "speaker", "identity", "source_video")
PREDICATE = "https://in-toto.io/attestation/test-result/v0.1"
LABEL_RULES = "gb45438-2025/digest-1"
# Pass/fail of the whole chain rests on logits that agree within the export gate between machines.
TOLERANCE = 1e-3


def bundle_info(bundle: "Bundle") -> dict[str, Any]:
    """What an assessment needs to know of a bundle, as `assess` takes it."""
    facts = bundle.facts
    return {
        "name": bundle.name,
        "bundle_sha256": bundle.hash,
        "weights_sha256": facts["files"]["detector.onnx"],
        "calibration": bundle.calibration,
        "operating_points": list(bundle.operating_points),
        "generators_seen": list(bundle.generators_seen),
        "licence_chain": [dict(link) for link in bundle.licence_chain],
        "scope": dict(facts["scope"]),
        "manifest_sha256s": dict(facts["manifest_sha256s"]),
        "created_utc": facts["created"],
        "synthetic": bundle.synthetic,
    }


def assess(
    *,
    tool: ToolUnderAssessment,
    protocol: Protocol,
    preregistration: Mapping[str, Any],
    dev: ScoreTable,
    test: ScoreTable,
    bundle_info: Mapping[str, Any],
    manifest: Manifest | None,
    provenance: Mapping[str, Any],
    issuer: Mapping[str, str] | None = None,
    datasets: Sequence[Mapping[str, Any]] | None = None,
    audit: AuditReport | None = None,
    audit_allowed: Sequence[str] = (),
    near_duplicates: Mapping[str, Any] | None = None,
    conditions: Sequence[Condition] = (),
    condition_scores: ConditionScores | None = None,
    salt: Pseudonyms | None = None,
    previous: Earlier | None = None,
    labelling: Mapping[str, Any] | None = None,
    human_conclusion: Mapping[str, Any] | None = None,
    supersedes: str | None = None,
    now: datetime | None = None,
) -> AssessmentLog:
    """One assessment: numbers, checks, three-state verdicts, and everything that a reader needs to judge them.

    Args:
        tool: its outputs are the rows of ``test`` with ``generator == tool.generator``.
        protocol: must be the one frozen in ``preregistration``.
        preregistration: `Register.record`: hash, times, openings, deviations.
        dev, test: calibrated tables; ``test`` holds real samples, the tool's outputs and reference generators.
        bundle_info: see `bundle_info`; operating points and calibration come from here.
        manifest: the split manifest; without it several checks cannot run, and the log says so.
        provenance: `provenance.collect`.
        issuer: ``name``, ``role``, ``independence``; an unnamed self-assessment where None.
        datasets: entries of the log's ``datasets``; made from the manifest where None.
        audit: `deepassay.audit.audit` of the manifest, with files opened: feeds checks F03, F04 and F05.
        audit_allowed: ids of its findings that block and were gone on with knowingly: named among the limitations.
        near_duplicates: result of another audit: ``method``, ``threshold``, ``pairs_across_splits``.
        conditions: how the test files were changed, and ``condition_scores`` what was scored then: robustness, and the
            second halves of checks F03 and F04.
        salt: measures tables whose ids are pseudonyms, as they are then sealed (`enclosed`).
        previous: the dossier of an earlier version, which this one is compared with.
        labelling: the log's entry of the same name, from ``marks``: ``rules_version``, ``explicit``, ``implicit``,
            ``survival``; None where marks were not looked at, which the dossier and its limitations then say.
        human_conclusion: the assessor's own words, never generated: ``text``, ``name``, ``date``.
        supersedes: id of the dossier that this one replaces.
        now: time of writing; the current time where None.

    Raises:
        ScoreError: no row of ``test`` comes from the tool, or no operating point that the protocol names exists.
        LeakError: a threshold fitted on the test table.
        LogError: the outcome breaks a rule of the log.
    """
    fakes = test.column("label") == FAKE
    outputs = fakes & (test.column("generator") == tool.generator)
    if not outputs.any():
        known = sorted({str(name) for name in test.column("generator")[fakes]})
        raise ScoreError(
            f"no fake sample of the test table comes from generator {tool.generator!r}",
            hint=f"set tool.generator to one of {known}, or score the tool's outputs",
        )
    if audit is not None:
        near_duplicates = near_duplicates or audit.near_duplicates
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    points = _points(bundle_info, protocol, test)
    calibration = bundle_info.get("calibration")
    calibration = Calibration.from_dict(calibration) if isinstance(calibration, Mapping) else calibration
    seen = bundle_info.get("generators_seen")
    detector = str(test.meta.get("detector") or bundle_info["name"])
    own = enclosed(test, dev, condition_scores, protocol, salt)
    found = measure_all(
        own.test, own.dev, protocol, points, tool, generators_seen=seen, scores=own.conditions,
        kinds={c.name: c.kind for c in conditions}, calibration=calibration,
    )  # fmt: skip
    against, more = (None, [])
    if previous is not None:
        against, more = compare_versions(previous, own.test, tool, protocol, points, str(bundle_info["bundle_sha256"]))
    numbers, chosen = [*found.numbers, *more], found.chosen
    material = Material(
        tool=tool,
        protocol=protocol,
        dev=dev,
        test=test,
        numbers=numbers,
        operating_points=points,
        calibration=calibration,
        preregistration=preregistration,
        manifest=manifest,
        generators_seen=seen,
        detector=detector,
        bundle_sha256=str(bundle_info["bundle_sha256"]),
        bundle_created_utc=str(bundle_info.get("created_utc") or ""),
        near_duplicates=near_duplicates,
        audit=audit,
        seed=protocol.seed,
        labelling=labelling,
    )
    checks = run_checks(material)
    english, chinese = Words("en"), Words("zh")
    synthetic = bool(
        test.synthetic or dev.synthetic or bundle_info.get("synthetic") or (manifest is not None and manifest.synthetic)
    )
    layers = strata(own.test)
    outputs = (own.test.column("label") == FAKE) & (own.test.column("generator") == tool.generator)
    splits = _splits(test, dev, manifest, near_duplicates)
    data = [dict(entry) for entry in datasets] if datasets is not None else _datasets(test, manifest, synthetic)
    code = dict(provenance["code"])
    bars = bars_of(checks, splits, code)
    limits = _limits(
        tool=tool, checks=checks, numbers=numbers, synthetic=synthetic, data=data, code=code, seen=seen,
        clusters=len(set(test.column("cluster").tolist())),
        allowed=[] if audit is None else [f.id for f in audit.blocks if f.id in audit_allowed],
        labelled=labelling is not None, laddered=any(c.kind == LADDER for c in conditions),
    )  # fmt: skip
    fill = {"tool": tool.name, "version": tool.version}
    document: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "dossier_id": "-".join(
            [slug(tool.name), slug(tool.version), tool.modality, protocol.sha256[:8], test.hash[:8]]
        ),
        "supersedes": supersedes,
        "created_utc": moment.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "issuer": _issuer(issuer, english, chinese),
        "scope": {
            "claim": protocol.headline["en"].format(**fill),
            "claim_zh": protocol.headline.get("zh", protocol.headline["en"]).format(**fill),
            "non_claims": [*_non_claims(english), *protocol.non_claims.get("en", ())],
            "non_claims_zh": [*_non_claims(chinese), *protocol.non_claims.get("zh", ())],
            "limitations_zh": [chinese(code, **values) for code, values in limits],
        },
        "tool_under_assessment": _tool(tool, own.test, outputs, layers, english),
        "legal_map": legal_rows([claim.id for claim in protocol.claims], labelling),
        "preregistration": dict(preregistration),
        "datasets": data,
        "splits": splits,
        "detectors": [_detector(detector, bundle_info, own.test, points, calibration, tool, protocol)],
        "operating_points": [point_record(point, detector) for point in points],
        "claims": [
            claim_record(claim, chosen[claim.id], bars, tool, protocol, english, chinese) for claim in protocol.claims
        ],
        "results": [number_record(number, detector) for number in numbers],
        "labelling": dict(labelling or {"rules_version": LABEL_RULES, "explicit": [], "implicit": [], "survival": []}),
        "checks": [check_record(check, english, chinese) for check in checks],
        "limitations": [english(code, **values) for code, values in limits],
        "reproducibility": _reproducibility(provenance, protocol, tool),
        "privacy": {
            "contains_faces_or_voices": False,
            "consent_refs": [],
            "pseudonymisation": english("P.pseudonym_text" if salt is None else "P.pseudonym_salted"),
            "pseudonymisation_zh": chinese("P.pseudonym_text" if salt is None else "P.pseudonym_salted"),
            "salted_ids": salt is not None,
            "retention_until": protocol.retention["en"],
            "retention_until_zh": protocol.retention.get("zh", protocol.retention["en"]),
        },
        "integrity": _integrity(own, bundle_info, manifest, preregistration),
        "human_conclusion": None if human_conclusion is None else dict(human_conclusion),
        "expires_utc": (moment + timedelta(days=protocol.valid_days))
        .isoformat(timespec="seconds")
        .replace("+00:00", "Z"),
        "synthetic": synthetic,
        "conditions": [condition_record(c, found.conditions[c.name]) for c in conditions if c.name in found.conditions],
        "comparisons": [one.to_json() for one in found.comparisons],
        "power": found.power,
        "previous_version": against,
    }
    return parse_log(plain_json(document))


@dataclass(frozen=True)
class Enclosed:
    """The tables that are measured and sealed; with pseudonyms for ids where there is a salt."""

    test: ScoreTable
    dev: ScoreTable
    conditions: ConditionScores | None


def enclosed(
    test: ScoreTable, dev: ScoreTable, conditions: ConditionScores | None, protocol: Protocol, salt: Pseudonyms | None
) -> Enclosed:
    """What is measured and sealed of a run's tables. With a salt no id of the corpus is left in them."""
    if salt is None:
        return Enclosed(test, dev, conditions)
    keep = [*protocol.slices, protocol.controls.get("real_by", "")]
    hidden = None if conditions is None else salt.conditions(conditions)
    return Enclosed(salt.table(test, keep), salt.table(dev, keep), hidden)


def condition_record(condition: Condition, table: ScoreTable) -> dict[str, Any]:
    """An entry of the log's ``conditions``."""
    label = table.column("label")
    return {
        **condition.to_json(), "n_real": int((label == REAL).sum()), "n_fake": int((label == FAKE).sum()),
        "n_nonresponse": int((~table.answered).sum()),
    }  # fmt: skip


def plain_json(value: Any) -> Any:
    """NumPy scalars and tuples as JSON values; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain_json(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(inner) for inner in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _points(info: Mapping[str, Any], protocol: Protocol, test: ScoreTable) -> list[OperatingPoint]:
    given = [
        OperatingPoint.from_dict(point) if isinstance(point, Mapping) else point for point in info["operating_points"]
    ]
    named = {point.name: point for point in given}
    missing = [name for name in protocol.operating_points if name not in named]
    if missing:
        raise ScoreError(
            f"the detector has no operating point {missing[0]!r}, which the protocol declares",
            hint=f"it has {sorted(named)}; export it with that target, or declare another",
        )
    own = (test.hash, dev_table_hash(test))
    for name in protocol.operating_points:
        if named[name].dev_table_sha256 in own:
            raise LeakError(
                f"operating point {name!r} was fixed on the very table that is to be measured",
                hint="fix thresholds on dev, and assess another split",
            )
    return [named[name] for name in protocol.operating_points]


def bars_of(checks: Sequence[CheckResult | Check], splits: Mapping[str, Any], code: Mapping[str, Any]) -> list[str]:
    """What forbids support, whatever the numbers say."""
    out = [check.id for check in checks if check.blocks]
    if any(splits["overlap_counts"].values()) or splits["near_duplicate_audit"]["pairs_across_splits"]:
        out += [] if "F02" in out else ["overlap"]
    return [*out, *(["dirty_tree"] if code["dirty"] else [])]


def claim_record(
    claim: Claim,
    number: Number | None,
    bars: Sequence[str],
    tool: ToolUnderAssessment,
    protocol: Protocol,
    english: Words,
    chinese: Words,
) -> dict[str, Any]:
    """An entry of the log's ``claims``: the verdict that number, rule and bars give, in words of both languages."""
    verdict = decide(claim, number)
    blocked: list[str] = []
    if number is None or number.ci is None:
        reason = "reason.missing"
    elif number.status == "under_powered":
        reason = "reason.under_powered"
    elif verdict == "supported" and bars:
        verdict, reason, blocked = "inconclusive", "reason.blocked", list(bars)
    else:
        reason = {"supported": "reason.supported", "not_supported": "reason.not_supported"}.get(
            verdict, "reason.straddles"
        )
    percent = claim.metric not in ("auc", "cllr", "min_cllr", "act_dcf", "min_dcf")
    theta = f"{100 * claim.theta:g} %" if percent else f"{claim.theta:g}"
    whole = f"{100 * protocol.level:g} %"
    english_bars, chinese_bars = (
        {"names": mark.join(words(f"bar.{bar}") if f"bar.{bar}" in words else bar for bar in blocked)}
        if blocked
        else {}
        for words, mark in ((english, ", "), (chinese, "、"))
    )
    return {
        "id": claim.id,
        "text": claim.text["en"].format(tool=tool.name, theta=theta),
        "text_zh": claim.text.get("zh", claim.text["en"]).format(tool=tool.name, theta=theta.replace(" %", "%")),
        "rule": english(f"rule.{claim.side}", level=whole, theta=theta),
        "rule_zh": chinese(f"rule.{claim.side}", level=whole.replace(" ", ""), theta=theta.replace(" ", "")),
        "verdict": verdict,
        "number_ids": [] if number is None else [number.id],
        "blocked_by": blocked,
        "reason": english(reason, **english_bars),
        "reason_zh": chinese(reason, **chinese_bars),
        "theta": claim.theta,
        "side": claim.side,
    }


def check_record(check: CheckResult, english: Words, chinese: Words) -> dict[str, Any]:
    """An entry of the log's ``checks``."""
    return {
        "id": check.id,
        "outcome": check.outcome,
        "statistic": dict(check.statistic),
        "severity": check.severity,
        "threshold": english(f"threshold.{check.id}", **LIMITS.get(check.id, {})),
        "threshold_zh": chinese(f"threshold.{check.id}", **LIMITS.get(check.id, {})),
        "reason": english(check.code, **check.values),
        "reason_zh": chinese(check.code, **_translated(check.values, chinese)),
        "applicable": check.applicable,
    }


def _translated(values: Mapping[str, Any], words: Words) -> dict[str, Any]:
    """What fills a sentence, with the audit's own phrase in its language."""
    return {name: words.method(str(value)) if name == "method" else value for name, value in values.items()}


def number_record(number: Number, detector: str) -> dict[str, Any]:
    """An entry of the log's ``results``."""
    return {**number.to_json(), "detector": detector}


def _issuer(issuer: Mapping[str, str] | None, english: Words, chinese: Words) -> dict[str, str]:
    if issuer is not None:
        return dict(issuer)
    return {
        "name": english("field.not_given"),
        "role": "self_assessment",
        "independence": english("issuer.independence"),
        "independence_zh": chinese("issuer.independence"),
    }


def _non_claims(words: Words) -> list[str]:
    return [words(f"nonclaim.{name}") for name in ("law", "safe", "lawful", "other")]


def _tool(
    tool: ToolUnderAssessment, test: ScoreTable, outputs: np.ndarray, layers: Sequence[Mapping[str, Any]], words: Words
) -> dict[str, Any]:
    rule = str(tool.sampling.get("en") or words("D.not_described"))
    return {
        "name": tool.name,
        "version": tool.version,
        "provider": tool.provider,
        "functions": list(tool.functions),
        "modality": tool.media,
        "biometric": tool.modality,
        "generator": tool.generator,
        "settings": dict(tool.settings),
        "artefact_sha256": tool.artefact_sha256,
        "outputs_manifest_sha256": outputs_sha256(test, outputs),
        "seen_by_detectors": tool.seen_by_detectors,
        "sampling": {
            "drawn_by": tool.drawn_by,
            "rule": rule,
            "rule_zh": str(tool.sampling.get("zh") or rule),
            "seed": tool.sampling_seed,
            "refusals": tool.refusals,
            "strata": [dict(layer) for layer in layers],
        },
    }


def outputs_sha256(test: ScoreTable, outputs: np.ndarray) -> str:
    """Names the tool's outputs: the manifest that was scored and the ids (mask (n,)) in it."""
    return fingerprint([str(test.meta.get("manifest_sha256", "")), sorted(test.column("sample_id")[outputs].tolist())])


def legal_rows(claims: Sequence[str], labelling: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The log's ``legal_map``; where a provision is served by claims, they are named.

    Args:
        labelling: ``labelling`` of the log: provisions on labels are measured where it holds numbers on them.
    """
    out = []
    for instrument in legal_texts():
        for row in instrument["provisions"]:
            evidence: list[str] = []
            measured = row.get("labelled")
            if measured is not None and (labelling or {}).get(measured["needs"]):
                row = {**row, **measured}
            for name in row["evidence"]:
                evidence += claims if name == "claims" else [name]
            out.append(
                {
                    "instrument": instrument["instrument"]["en"],
                    "instrument_zh": instrument["instrument"]["zh"],
                    "provision": row["provision"]["en"],
                    "provision_zh": row["provision"]["zh"],
                    "status": row["status"],
                    "evidence_ids": evidence,
                    "text_source": instrument["source"],
                    "note": row["note"]["en"],
                    "note_zh": row["note"]["zh"],
                }
            )
    return out


def _splits(
    test: ScoreTable, dev: ScoreTable, manifest: Manifest | None, near_duplicates: Mapping[str, Any] | None
) -> dict[str, Any]:
    if manifest is not None:
        counts, sha, cells = overlap_counts(manifest), manifest.hash, manifest.counts()
    else:
        shared = set(dev.column("sample_id").tolist()) & set(test.column("sample_id").tolist())
        clusters = set(dev.column("cluster").tolist()) & set(test.column("cluster").tolist())
        counts, sha = {"sample_id": len(shared), "source_id": len(clusters)}, str(test.meta.get("manifest_sha256", ""))
        cells = {}
    exact = counts.get("file_sha256", 0)
    if near_duplicates is not None:
        audit = {
            "method": str(near_duplicates["method"]),
            "method_zh": Words("zh").method(str(near_duplicates["method"])),
            "threshold": float(near_duplicates["threshold"]),
            "pairs_across_splits": int(near_duplicates["pairs_across_splits"]),
        }
    else:
        hashed = manifest is not None and any(manifest.column("sha256"))
        key = "E.near_exact" if hashed else "E.near_none"
        audit = {
            "method": Words("en")(key), "method_zh": Words("zh")(key), "threshold": 0.0, "pairs_across_splits": exact,
        }  # fmt: skip
    return {
        "manifest_sha256": sha or fingerprint(None),
        "disjoint_on": [name for name in DISJOINT_WORDS if counts.get(name) == 0 and _covered(manifest, name)],
        "overlap_counts": counts,
        "near_duplicate_audit": audit,
        "counts": cells,
    }


def _covered(manifest: Manifest | None, name: str) -> bool:
    """Whether the column behind an overlap count is known of every sample; else its zero proves nothing."""
    if manifest is None:
        return False
    column = {"file_sha256": "sha256", "source_video": "source_id"}.get(name, "subjects")
    return all(bool(value) for value in manifest.column(column))


def _datasets(test: ScoreTable, manifest: Manifest | None, synthetic: bool) -> list[dict[str, Any]]:
    words, chinese = Words("en"), Words("zh")
    info = dict(manifest.info) if manifest is not None else {}
    licences = sorted({str(v) for v in manifest.column("licence") if v}) if manifest is not None else []
    label = manifest.column("label") if manifest is not None else test.column("label")
    unknown = words("data.not_stated")
    consent, consent_zh = info.get("consent_basis") or unknown, info.get("consent_basis") or chinese("data.not_stated")
    if synthetic and "consent_basis" not in info:
        consent, consent_zh = words("data.synthetic_consent"), chinese("data.synthetic_consent")
    return [
        {
            "name": manifest.name if manifest is not None else str(test.meta.get("corpus") or unknown),
            "version": str(info.get("version") or unknown),
            "licence": str(info.get("licence") or "; ".join(licences[:6]) or unknown),
            "licence_allows_this_use": bool(info.get("licence_allows_this_use", synthetic)),
            "source": str(info.get("source") or (words("data.built_in") if synthetic else unknown)),
            "manifest_sha256": manifest.hash if manifest is not None else str(test.meta["manifest_sha256"]),
            "n_items": len(label),
            "consent_basis": str(consent),
            "consent_basis_zh": str(consent_zh),
            "languages_or_regions": [str(v) for v in info.get("languages", [])] or [unknown],
            "role": "train, dev, test" if manifest is not None else "test",
            "n_real": int((label == REAL).sum()),
            "n_fake": int((label == FAKE).sum()),
            "distributions": [] if manifest is None else _distributions(manifest),
        }
    ]


def _distributions(manifest: Manifest, bins: int = 24) -> list[dict[str, Any]]:
    """Shares of real and fake samples per bin of each file fact that the manifest holds and that varies."""
    label = manifest.column("label")
    out: list[dict[str, Any]] = []
    units = {"bytes": (1024.0, "KiB"), "duration_s": (1.0, "s"), "width": (1.0, "px"), "height": (1.0, "px"),
             "fps": (1.0, "1/s"), "rate_hz": (1000.0, "kHz")}  # fmt: skip
    for name, (scale, unit) in units.items():
        values = np.array([np.nan if v is None else float(v) / scale for v in manifest.column(name)])
        known = np.isfinite(values)
        if not known.any() or np.ptp(values[known]) == 0:
            continue
        low, high = np.percentile(values[known], [0.5, 99.5])
        edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
        shares = []
        for kind in (REAL, FAKE):
            own = np.clip(values[known & (label == kind)], edges[0], edges[-1])
            shares.append((np.histogram(own, edges)[0] / max(1, len(own))).round(6).tolist())
        out.append({"name": name, "unit": unit, "bins": edges.round(6).tolist(), "real": shares[0], "fake": shares[1]})
    kinds = np.array([str(v or "") for v in manifest.column("codec")])
    names = sorted(set(kinds) - {""})
    if len(names) > 1:
        shares = [[float((kinds[label == kind] == one).mean()) for one in names] for kind in (REAL, FAKE)]
        out.append({"name": "codec", "unit": "", "bins": names, "real": shares[0], "fake": shares[1]})
    return out


def _detector(
    name: str,
    info: Mapping[str, Any],
    test: ScoreTable,
    points: Sequence[OperatingPoint],
    calibration: Calibration | None,
    tool: ToolUnderAssessment,
    protocol: Protocol,
) -> dict[str, Any]:
    return {
        "id": name,
        "name": str(info["name"]),
        "weights_sha256": str(info["weights_sha256"]),
        "bundle_sha256": str(info["bundle_sha256"]),
        "training_data": [f"{key} {value}" for key, value in dict(info.get("manifest_sha256s") or {}).items()],
        "score_semantics": "llr_fake_vs_bona" if test.meta.get("calibrated") else "uncalibrated_higher_is_fake",
        "calibration": {} if calibration is None else asdict(calibration),
        "scope": dict(info.get("scope") or {}),
        "generators_seen": list(info.get("generators_seen") or []),
        "licence_chain": [dict(link) for link in info.get("licence_chain") or []],
        "curves": drawn_from(test, points, tool.generator, level=protocol.level, seed=protocol.seed),
    }


def point_record(point: OperatingPoint, detector: str) -> dict[str, Any]:
    """An entry of the log's ``operating_points``."""
    return {
        "id": point.name,
        "detector": detector,
        "rule": Words("en")("point.rule", percent=f"{100 * point.target_bpcer:g}"),
        "fitted_on": "dev",
        "threshold": point.threshold,
        "inequality": point.inequality,
        "dev_table_sha256": point.dev_table_sha256,
        "target_bpcer": point.target_bpcer,
        "realised_dev_bpcer": point.realised_bpcer,
        "n_real_dev": point.n_real,
        "n_clusters_dev": point.n_clusters,
        "supported_on_dev": point.supported,
    }


def _limits(
    *,
    tool: ToolUnderAssessment,
    checks: Sequence[CheckResult],
    numbers: Sequence[Number],
    synthetic: bool,
    data: Sequence[Mapping[str, Any]],
    code: Mapping[str, Any],
    seen: Sequence[str] | None,
    clusters: int,
    allowed: Sequence[str],
    labelled: bool,
    laddered: bool,
) -> list[tuple[str, dict[str, Any]]]:
    """Keys of sentences and what fills them: specific to this assessment, the general ones last."""
    out: list[tuple[str, dict[str, Any]]] = []
    if synthetic:
        out.append(("limit.synthetic", {}))
    if tool.generator in (seen or ()) or tool.seen_by_detectors == "yes":
        out.append(("limit.seen", {}))
    elif tool.seen_by_detectors == "unknown":
        out.append(("limit.unknown", {}))
    if tool.drawn_by in ("provider", "corpus"):
        out.append((f"limit.drawn_{tool.drawn_by}", {}))
    weak = sum(number.status == "under_powered" for number in numbers)
    if weak:
        out.append(("limit.under_powered", {"n": weak, "total": len(numbers)}))
    silent = [check.id for check in checks if check.outcome == "not_run" and check.applicable]
    if silent:
        out.append(("limit.checks", {"names": ", ".join(silent)}))
    if allowed:
        out.append(("limit.audit", {"names": ", ".join(allowed)}))
    closed = [str(entry["name"]) for entry in data if not entry["licence_allows_this_use"]]
    if closed:
        out.append(("limit.licence", {"names": ", ".join(closed)}))
    if code["dirty"]:
        out.append(("limit.dirty", {}))
    odd = [n for n in numbers if "control" in n.slice and holds(n) is False and n.status != "under_powered"]
    if odd:
        names = ", ".join(str(n.slice.get("group") or n.slice["control"]) for n in odd)
        out.append(("limit.control", {"names": names}))
    return [
        *out,
        *([] if laddered else [("limit.robustness", {})]),
        *([] if labelled else [("limit.labels", {})]),
        ("limit.statistical", {"clusters": clusters}),
        ("limit.external", {}),
        ("limit.construct", {}),
        ("limit.ethical", {}),
    ]


def _reproducibility(provenance: Mapping[str, Any], protocol: Protocol, tool: ToolUnderAssessment) -> dict[str, Any]:
    code = provenance["code"]
    known = code["kind"] in ("commit", "wheel")
    hardware = provenance["hardware"]
    return {
        "command": str(provenance["command"]),
        "config_sha256": provenance.get("config_sha256") or fingerprint([protocol.to_json(), asdict(tool)]),
        "environment_lock_sha256": provenance.get("lock_sha256") or provenance["environment_sha256"],
        "seeds": sorted({protocol.seed, *(int(seed) for seed in provenance.get("seeds", ()))}),
        "hardware": hardware if isinstance(hardware, str) else describe_hardware(hardware),
        "determinism": "within_tolerance",
        "tolerance": TOLERANCE,
        "code": {
            "kind": code["kind"] if known else "commit",
            "id": str(code["id"]) if known else f"no commit; source tree {code['id']}",
            "dirty": bool(code["dirty"]),
        },
        "packages": {name: str(version) for name, version in (provenance.get("packages") or {}).items() if version},
    }


def _integrity(
    own: Enclosed, info: Mapping[str, Any], manifest: Manifest | None, preregistration: Mapping[str, Any]
) -> dict[str, Any]:
    subjects = {
        "scores/test (content)": own.test.hash,
        "scores/dev (content, before calibration)": dev_table_hash(own.dev),
        **({} if own.conditions is None else {"scores/conditions (content)": own.conditions.hash}),
        "protocol (content)": str(preregistration["protocol_sha256"]),
        "bundle.json": str(info["bundle_sha256"]),
        "detector.onnx": str(info["weights_sha256"]),
        **({} if manifest is None else {"manifest (content)": manifest.hash}),
    }
    return {
        "canonicalisation": "RFC8785",
        "statement_type": "https://in-toto.io/Statement/v1",
        "predicate_type": PREDICATE,
        "subjects": [{"name": name, "digest": {"sha256": value}} for name, value in subjects.items()],
        "previous_head_sha256": None,
        "signature": None,
    }
