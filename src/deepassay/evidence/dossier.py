"""The dossier: one self-contained HTML page per language, a pure function of the assessment log, and its JSON twin."""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from deepassay import figures as draw
from deepassay.evaluation import AS_ERROR, LEFT_OUT
from deepassay.evidence.contrast_page import contrast_content, contrast_figures
from deepassay.evidence.labelling_page import labelling_content
from deepassay.evidence.language import LANGUAGES, TEMPLATES, Words
from deepassay.evidence.log import AssessmentLog, parse_log
from deepassay.files import atomic_path, sha256_bytes, slug

LETTERS = tuple("ABCDEFGHIJKLMNOP")
SMALLEST_CELL = 5  # persons; smaller counts are not printed
_PERCENT = (
    "apcer", "bpcer", "apcer_pooled", "macro_apcer", "eer", "bpnrr", "apnrr", "pair_rank", "gap_bpcer", "gap_apcer",
)  # fmt: skip
# Slices that have tables of their own, outside of section K.
_ELSEWHERE = (
    "generator", "worst_generator", "exposure", "condition", "control", "pairs", "comparison", "version_comparison",
    "gap_over",
)  # fmt: skip


def write_dossier(log: AssessmentLog, folder: str | Path, languages: Sequence[str] = LANGUAGES) -> dict[str, Path]:
    """Write ``<modality>.json`` and ``<modality>.<language>.html`` (face or voice) atomically; the log goes first.

    Returns:
        Paths by ``json`` and by language.
    """
    tool = log.tool_under_assessment
    stem = slug(tool.biometric or tool.modality)
    place = Path(folder)
    text = json.dumps(log.to_json(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    pages = {language: render_dossier(log, language, log_sha256=sha256_bytes(text.encode())) for language in languages}
    out = {"json": place / f"{stem}.json"}
    for name, content in (("json", text), *pages.items()):
        out[name] = place / (f"{stem}.json" if name == "json" else f"{stem}.{name}.html")
        with atomic_path(out[name]) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return out


def render_dossier(log: AssessmentLog, language: str = "en", *, log_sha256: str = "") -> str:
    """One HTML page without script, network or font files; prints on A4.

    Args:
        log: validated; nothing else is looked at, so that anybody can render the same page again.
        language: ``en`` or ``zh``.
        log_sha256: hash of the JSON twin, printed in section O.

    Raises:
        ConfigError: an unknown language.
        LogError: a log that was put together past its rules: a number without an interval or a reason for having none,
            a threshold fitted on test, "supported" beside what bars it. Such a page is never made.
    """
    parse_log(log.to_json())
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    page = _Page(log, Words(language))
    css = (TEMPLATES / "dossier.css").read_text(encoding="utf-8")
    tool = log.tool_under_assessment
    foot = f"{page.w('doc.title')}: {tool.name} {tool.version}, {log.created_utc[:10]}"
    head = page.w("synthetic.mark") if log.synthetic else ""
    css = css.replace("%FOOT%", _css_text(foot)).replace("%HEAD%", _css_text(head))
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    charts = page.charts()
    safe: dict[str, Any] = {name: Markup(value) for name, value in charts.items() if isinstance(value, str)}
    safe["generators"] = [{"point": one["point"], "svg": Markup(one["svg"])} for one in charts["generators"]]
    tables, drawn = count(1), count(1)
    text = environment.get_template("dossier.html.j2").render(
        w=page.w,
        css=Markup(css),
        language=language,
        letters=LETTERS,
        log=log,
        log_sha256=log_sha256,
        tool=tool,
        figures=safe,
        table=partial(_numbered, page.w("tab.label"), tables, language),
        figure=partial(_numbered, page.w("fig.label"), drawn, language),
        **page.content(Markup),
    )
    return re.sub(r"\n\s*\n+", "\n", text)


def _numbered(label: str, counter: Iterator[int], language: str) -> str:
    return f"{label} {next(counter)}" if language == "en" else f"{label}{next(counter)}"


def _css_text(text: str) -> str:
    """A CSS string without anything that could end it."""
    return re.sub(r"[\\\"<>{}\x00-\x1f]", " ", text)


def _plain_dollars(text: str) -> str:
    """For matplotlib: dollars are no mathematics, control characters no text, a leading _ hides no label."""
    clean = re.sub(r"[\x00-\x1f\x7f]", " ", text).replace("$", r"\$")
    clean = clean if len(clean) <= 36 else f"{clean[:35]}…"
    return f"\u200b{clean}" if clean.startswith("_") else clean


class _Page:
    """What the template shows, worded in one language."""

    def __init__(self, log: AssessmentLog, words: Words) -> None:
        self.log = log
        self.w = words
        self.english = Words("en")
        self.zh = words.language == "zh"
        self.numbers = [number.model_dump(mode="json") for number in log.results]
        self.tool = log.tool_under_assessment
        self.chart_words = words.chart()

    # Small words -----------------------------------------------------------------------------------------------------

    def text(self, record: Any, name: str) -> str:
        """A field of a record in this language, else as it was written."""
        return str((getattr(record, f"{name}_zh", "") if self.zh else "") or getattr(record, name))

    def percent(self, value: float | None, digits: int = 1) -> str:
        if value is None:
            return "-"
        return f"{100 * value:.{digits}f}%" if self.zh else f"{100 * value:.{digits}f} %"

    def value(self, number: Mapping[str, Any] | None) -> str:
        if number is None or number["value"] is None:
            return "-"
        if number["metric"] in _PERCENT:
            return self.percent(number["value"])
        unit = f" {self.w('unit.bits')}" if number["unit"] == "bits" else ""
        return f"{number['value']:.3f}{unit}"

    def interval(self, number: Mapping[str, Any] | None) -> str:
        if number is None:
            return "-"
        ci = number["ci"]
        if ci is None or ci["lo"] is None or ci["hi"] is None:
            starts = {"descriptive": "no_ci.optimised", "a maximum": "no_ci.maximum", "small cell": "no_ci.other"}
            return self.w(next((k for s, k in starts.items() if number["no_ci_reason"].startswith(s)), "no_ci.other"))
        if number["metric"] in _PERCENT:
            return f"{100 * ci['lo']:.1f} – {100 * ci['hi']:.1f}"
        return f"{ci['lo']:.3f} – {ci['hi']:.3f}"

    def point(self, name: str) -> str:
        found = re.fullmatch(r"bpcer_([\d.]+)", name)
        return self.w("point.bpcer", percent=found[1]) if found else name

    def yes(self, value: bool) -> str:
        return self.w("field.yes" if value else "field.no")

    def or_none(self, value: Any, key: str = "field.not_given") -> str:
        return self.w(key) if value in (None, "") else str(value)

    def known(self, text: str) -> str:
        """The same stock phrase in this language, where the log holds one; else the text itself."""
        for key in ("field.not_given", "data.not_stated", "data.built_in"):
            if text == self.english(key):
                return self.w(key)
        return text

    def counts(self, data: Any) -> str:
        if not (data.n_real or data.n_fake):
            return str(data.n_items)
        parts = f"{self.w('class.real')} {data.n_real}, {self.w('class.fake')} {data.n_fake}"
        return f"{data.n_items} ({parts})"

    def moment(self, text: str) -> str:
        """An ISO time to the millisecond; anything else as it stands."""
        found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d(?:\.\d{1,3})?)\d*(?:\+00:00|Z)", text)
        return f"{found[1]} {found[2]} UTC" if found else text

    def strata_name(self, name: str) -> str:
        return self.w("class.real") if name == "real" else name

    def slice(self, name: str) -> str:
        """The name of a column or attribute that the plan slices by."""
        return self.w(f"slice.{name}") if f"slice.{name}" in self.w else name.replace("_", " ")

    def at(self, name: str, point: str) -> str:
        """``BPCER, BPCER 5 %``: a metric at an operating point."""
        return f"{name}{'，' if self.zh else ', '}{self.point(point)}" if point else name

    # Numbers ---------------------------------------------------------------------------------------------------------

    def find(self, metric: str, where: Mapping[str, str], point: str = "", convention: str = AS_ERROR) -> Any:
        wanted = dict(where)
        for number in self.numbers:
            there = dict(number["slice"])
            stated = there.pop("nonresponse", convention)
            if (
                (number["metric"], number["operating_point"]) == (metric, point)
                and stated == convention
                and (there == wanted)
            ):
                return number
        return None

    def row(
        self, number: Mapping[str, Any], name: str, *, tool: bool = False, other: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        fraction = number["support"].get("count")
        return {
            "name": name,
            "value": self.value(number),
            "interval": self.interval(number),
            "count": f"{fraction['k']} / {fraction['n']}" if fraction else "",
            "clusters": number["support"]["n_clusters"],
            "other": "" if other is None else self.value(other),
            "status": self.w(f"status.{number['status']}"),
            "weak": number["status"] in ("under_powered", "not_reported"),
            "tool": tool,
        }

    def pair(
        self, metric: str, where: Mapping[str, str], point: str, name: str, **keywords: Any
    ) -> list[dict[str, Any]]:
        """One row with the headline number and, beside it, the one that leaves non-responses out."""
        number = self.find(metric, where, point)
        if number is None:
            return []
        return [self.row(number, name, other=self.find(metric, where, point, LEFT_OUT), **keywords)]

    def points(self) -> list[str]:
        return [point.id for point in self.log.operating_points]

    def generators(self) -> list[str]:
        names = {n["slice"]["generator"] for n in self.numbers if set(n["slice"]) == {"generator", "nonresponse"}}
        return sorted(names, key=lambda name: (name != self.tool.generator, name))

    def worst(self, point: str, convention: str) -> Any:
        return next(
            (
                n
                for n in self.numbers
                if "worst_generator" in n["slice"]
                and n["operating_point"] == point
                and n["slice"].get("nonresponse") == convention
            ),
            None,
        )

    def tool_rows(self) -> list[dict[str, Any]]:
        own = {"generator": self.tool.generator}
        out = []
        for point in self.points():
            rows = self.pair("apcer", own, point, self.w("metric.apcer"), tool=True)
            rows += self.pair("bpcer", {}, point, self.w("metric.bpcer"))
            out.append({"title": self.point(point), "rows": rows})
        silent = [
            self.row(number, self.w(f"metric.{name}"))
            for name in ("apnrr", "bpnrr")
            for number in [self.find(name, {})]
            if number is not None
        ]
        return [*out, {"title": self.w("col.nonresponse"), "rows": silent}]

    def generator_rows(self) -> list[dict[str, Any]]:
        out = []
        for point in self.points():
            rows = []
            for name in self.generators():
                rows += self.pair("apcer", {"generator": name}, point, name, tool=name == self.tool.generator)
            worst, other = self.worst(point, AS_ERROR), self.worst(point, LEFT_OUT)
            if worst is not None:
                title = f"{self.w('G.worst')}: {worst['slice']['worst_generator']}"
                rows.append(self.row(worst, title, other=other))
            rows += self.pair("macro_apcer", {}, point, self.w("G.macro"))
            out.append({"title": self.point(point), "rows": rows})
        return out

    def description_rows(self) -> list[dict[str, Any]]:
        own = {"generator": self.tool.generator}
        rows = self.pair("auc", own, "", f"{self.w('metric.auc')}: {self.tool.generator}", tool=True)
        rows += self.pair("auc", {}, "", f"{self.w('metric.auc')}: {self.w('chart.all_fakes')}")
        rows += self.pair("eer", {}, "", f"{self.w('metric.eer')}: {self.w('chart.all_fakes')}")
        for name in ("cllr", "min_cllr", "act_dcf", "min_dcf"):
            number = self.find(name, {}, "", LEFT_OUT)
            if number is not None:
                rows.append(self.row(number, self.w(f"metric.{name}"), other=number))
        return [{"title": "", "rows": rows}]

    def exposure_rows(self) -> list[dict[str, Any]]:
        out = []
        for group in ("seen", "left_out"):
            where = {"exposure": group}
            rows = self.pair("auc", where, "", self.w("metric.auc"))
            for point in self.points():
                name = self.at(self.w("metric.apcer_pooled"), point)
                rows += self.pair("apcer_pooled", where, point, name)
            if rows:
                out.append({"title": self.w(f"exposure.{group}"), "rows": rows})
        return out

    def slice_rows(self) -> list[dict[str, Any]]:
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for number in self.numbers:
            where = dict(number["slice"])
            if where.pop("nonresponse", "") != AS_ERROR or len(where) != 1:
                continue
            key, value = next(iter(where.items()))
            if key in _ELSEWHERE:
                continue
            name = self.at(self.w(f"metric.{number['metric']}"), number["operating_point"])
            if number["support"]["n_clusters"] < SMALLEST_CELL:
                number = _suppressed(number, self.w("small_cell"))
            other = self.find(number["metric"], where, number["operating_point"], LEFT_OUT)
            groups.setdefault((key, value), []).append(self.row(number, name, other=other))
        colon = "：" if self.zh else ": "
        return [{"title": f"{self.slice(key)}{colon}{value}", "rows": rows} for (key, value), rows in groups.items()]

    # Sections --------------------------------------------------------------------------------------------------------

    def content(self, markup: Callable[[str], Any]) -> dict[str, Any]:
        log, w = self.log, self.w
        non_claims = (log.scope.non_claims_zh if self.zh else []) or log.scope.non_claims
        limitations = (log.scope.limitations_zh if self.zh else []) or log.limitations
        record = log.preregistration
        deviations = (record.deviations_zh if self.zh else []) or record.deviations
        return {
            "claim": self.text(log.scope, "claim"),
            "claims": [self.claim(claim, markup) for claim in log.claims],
            "non_claims": non_claims,
            "limitations": limitations,
            "identity": self.identity(),
            "legal": self.legal(),
            "sources": sorted({row.text_source for row in log.legal_map if row.text_source}),
            "plan": [
                (w("C.name"), f"{record.protocol_name} {record.protocol_version}".strip() or w("field.not_given")),
                (w("C.hash"), record.protocol_sha256),
                (w("C.frozen"), self.moment(record.frozen_utc)),
                (w("C.opened"), self.moment(record.test_opened_utc)),
                (w("C.openings"), len(record.openings) or w("field.not_given")),
            ],
            "deviations": deviations,
            "sampling": self.sampling(),
            "strata": self.strata(),
            "datasets": [
                {
                    "name": data.name,
                    "facts": [
                        (w("field.version"), self.known(data.version)),
                        (w("col.n"), self.counts(data)),
                        (w("col.licence"), self.known(data.licence)),
                        (w("col.use_allowed"), self.yes(data.licence_allows_this_use)),
                        (w("col.source"), self.known(data.source)),
                        (w("col.consent"), self.known(self.text(data, "consent_basis"))),
                        (w("col.languages"), ", ".join(self.known(name) for name in data.languages_or_regions)),
                        (w("field.manifest"), data.manifest_sha256),
                    ],
                }
                for data in log.datasets
            ],
            "overlaps": self.overlaps(),
            "detectors": [self.detector(one) for one in log.detectors],
            "points": [
                {
                    "name": self.point(point.id),
                    "target": self.percent(point.target_bpcer, 0) if point.target_bpcer is not None else "-",
                    "threshold": f"{point.threshold:.4f}",
                    "realised": self.percent(point.realised_dev_bpcer) if point.realised_dev_bpcer is not None else "-",
                    "n": f"{point.n_real_dev} ({point.n_clusters_dev})" if point.n_real_dev else "-",
                    "supported": self.yes(point.supported_on_dev),
                    "good": point.supported_on_dev,
                }
                for point in log.operating_points
            ],
            "tool_rows": self.tool_rows(),
            "generator_rows": self.generator_rows(),
            "description_rows": self.description_rows(),
            "exposure_rows": self.exposure_rows(),
            "slice_rows": self.slice_rows(),
            **contrast_content(self),
            "labelled": bool(log.labelling.explicit or log.labelling.implicit or log.labelling.survival),
            "marks": labelling_content(self, lambda number: markup(_strip(number, None, None, ""))),
            "checks": [
                {
                    "id": check.id,
                    "title": w(f"check.{check.id}") if f"check.{check.id}" in w else "",
                    "kind": check.outcome if check.applicable else "not_applicable",
                    "reason": self.text(check, "reason"),
                    "threshold": self.text(check, "threshold"),
                }
                for check in log.checks
            ],
            "reproduction": self.reproduction(),
            "privacy": [
                (w("P.pseudonym"), self.text(log.privacy, "pseudonymisation")),
                (w("P.retention"), self.text(log.privacy, "retention_until")),
                *([(w("col.consent"), ", ".join(log.privacy.consent_refs))] if log.privacy.consent_refs else []),
            ],
        }  # fmt: skip

    def claim(self, claim: Any, markup: Callable[[str], Any]) -> dict[str, Any]:
        known = {number["id"]: number for number in self.numbers}
        number = known[claim.number_ids[0]] if claim.number_ids else None
        fraction = number["support"].get("count") if number else None
        return {
            "id": claim.id,
            "text": self.text(claim, "text"),
            "rule": self.text(claim, "rule"),
            "value": self.value(number),
            "count": f"{fraction['k']} / {fraction['n']}" if fraction else "",
            "interval": self.interval(number),
            "strip": markup(_strip(number, claim.theta, claim.side, self.w("col.limit"))) if number else "",
            "verdict": claim.verdict,
            "reason": self.text(claim, "reason"),
        }

    def identity(self) -> list[tuple[str, str]]:
        log, w, tool = self.log, self.w, self.tool
        kind = w(f"modality.{tool.modality}")
        if tool.biometric:
            kind = f"{w(f'biometric.{tool.biometric}')}{'，' if self.zh else ', '}{kind}"
        return [
            (w("field.provider"), self.or_none(tool.provider)),
            (w("field.functions"), ("、" if self.zh else ", ").join(w(f"function.{name}") for name in tool.functions)),
            (w("field.modality"), kind),
            (w("field.seen"), w(f"field.{tool.seen_by_detectors}")),
            (w("field.issuer"), f"{self.known(log.issuer.name)} ({w(f'role.{log.issuer.role}')})"),
            (w("field.independence"), self.text(log.issuer, "independence")),
            (w("field.created"), log.created_utc[:10]),
            (w("field.expires"), (log.expires_utc or w("field.not_given"))[:10]),
            (w("field.dossier_id"), log.dossier_id),
            (w("field.supersedes"), self.or_none(log.supersedes, "field.none")),
        ]

    def legal(self) -> list[dict[str, Any]]:
        groups: dict[str, list[dict[str, str]]] = {}
        for row in self.log.legal_map:
            groups.setdefault(self.text(row, "instrument"), []).append(
                {
                    "provision": self.text(row, "provision"),
                    "status": row.status,
                    "evidence": ", ".join(row.evidence_ids),
                    "note": self.text(row, "note"),
                }
            )
        return [{"instrument": name, "rows": rows} for name, rows in groups.items()]

    def sampling(self) -> list[tuple[str, str]]:
        w, tool = self.w, self.tool
        settings = ", ".join(f"{key} = {value}" for key, value in tool.settings.items())
        out = [(w("field.generator"), self.or_none(tool.generator)), (w("field.settings"), self.or_none(settings))]
        if tool.sampling is not None:
            drawn = tool.sampling.drawn_by
            known = f"drawn.{drawn}" in w
            out += [
                (w("D.drawn_by"), w(f"drawn.{drawn}") if known else drawn),
                (w("D.how"), self.text(tool.sampling, "rule")),
                (w("D.seed"), self.or_none(tool.sampling.seed, "field.none")),
                (w("D.refusals"), self.or_none(tool.sampling.refusals, "D.not_counted")),
            ]
        return [
            *out,
            (w("field.artefact"), self.or_none(tool.artefact_sha256)),
            (w("field.outputs"), tool.outputs_manifest_sha256),
        ]

    def strata(self) -> list[dict[str, Any]]:
        if self.tool.sampling is None:
            return []
        return [
            {
                "name": self.strata_name(layer.name),
                "label": self.w(f"class.{layer.label}"),
                "n": layer.n,
                "silent": layer.n_nonresponse,
                "clusters": layer.n_clusters if layer.n_clusters >= SMALLEST_CELL else self.w("small_cell"),
                "tool": layer.name == self.tool.generator,
            }
            for layer in self.tool.sampling.strata
        ]

    def overlaps(self) -> list[dict[str, Any]]:
        w, splits = self.w, self.log.splits
        out = [
            {"name": w(f"overlap.{name}") if f"overlap.{name}" in w else name, "count": value}
            for name, value in splits.overlap_counts.items()
        ]
        audit = splits.near_duplicate_audit
        name = f"{w('overlap.near_duplicates')} ({self.text(audit, 'method')})"
        return [*out, {"name": name, "count": audit.pairs_across_splits}]

    def detector(self, one: Any) -> dict[str, Any]:
        w = self.w
        facts: list[tuple[str, str]] = [
            (w("F.meaning"), w(f"semantics.{one.score_semantics}")),
            (w("F.training"), "; ".join(one.training_data) or w("field.not_given")),
            (w("F.exposure"), ", ".join(one.generators_seen) or w("field.not_given")),
        ]
        if {"scale", "offset", "n_real", "n_fake"} <= set(one.calibration):
            fit = one.calibration
            sign = "+" if fit["offset"] >= 0 else "-"
            text = w(
                "F.calibration_text", scale=f"{fit['scale']:.4f}", offset=f"{sign} {abs(fit['offset']):.4f}",
                n_real=fit["n_real"], n_fake=fit["n_fake"],
            )  # fmt: skip
            facts.append((w("F.calibration"), text))
        if one.scope.get("statement"):
            facts.append((w("F.scope"), str(one.scope["statement"])))
        if one.licence_chain:
            chain = "; ".join(f"{link.get('name', '?')}: {link.get('licence', '?')}" for link in one.licence_chain)
            facts.append((w("F.licences"), chain))
        facts.append((w("F.weights"), one.weights_sha256))
        if one.bundle_sha256:
            facts.append((w("F.bundle"), one.bundle_sha256))
        return {"name": one.name or one.id, "facts": facts}

    def reproduction(self) -> list[tuple[str, str]]:
        w, how = self.w, self.log.reproducibility
        values = {"tolerance": f"{how.tolerance:g}"} if how.determinism == "within_tolerance" else {}
        state = w("N.dirty") if how.code.dirty else w("N.clean")
        return [
            (w("N.code"), f"{w(f'code.{how.code.kind}')} {how.code.id} ({state})"),
            (w("N.config"), how.config_sha256),
            (w("N.lock"), how.environment_lock_sha256),
            (w("N.seeds"), ", ".join(map(str, how.seeds))),
            (w("N.hardware"), how.hardware),
            (w("N.class"), w(f"determinism.{how.determinism}", **values)),
        ]

    # Figures ---------------------------------------------------------------------------------------------------------

    def charts(self) -> dict[str, Any]:
        """SVG text by name; an empty string where the log holds nothing to draw."""
        names = ("counts", "nuisance", "det", "densities", "tippett", "reliability")
        out: dict[str, Any] = {**dict.fromkeys(names, ""), "generators": []}
        words, w = self.chart_words, self.w
        if self.tool.sampling is not None:
            out["counts"] = draw.sample_counts(
                [
                    (_plain_dollars(self.strata_name(s.name)), s.n - s.n_nonresponse, s.n_nonresponse)
                    for s in self.tool.sampling.strata
                ],
                title=w("D.counts"), words=words,
            )  # fmt: skip
        panels = [
            draw.Panel(
                w(f"nuisance.{d.name}") if f"nuisance.{d.name}" in w else d.name,
                d.unit, [_plain_dollars(v) if isinstance(v, str) else v for v in d.bins], d.real, d.fake,  # pyright: ignore[reportArgumentType]
            )
            for data in self.log.datasets
            for d in data.distributions
        ]  # fmt: skip
        if panels:
            out["nuisance"] = draw.nuisance_distributions(panels, title=w("E.nuisance"), words=words)
        out |= contrast_figures(self)
        found = self.log.detectors[0].curves
        if found:
            out |= self.score_charts(found)
        for point in self.points():
            rows = self.rates(point)
            if rows:
                title = w("G.figure_generators", point=self.point(point))
                out["generators"].append(
                    {
                        "point": self.point(point),
                        "svg": draw.per_generator_rates(rows, limit=self.limit(point), title=title, words=words),
                    }
                )
        return out

    def rates(self, point: str) -> list[draw.Rate]:
        rows = []
        for name in self.generators():
            number = self.find("apcer", {"generator": name}, point)
            if number is None:
                continue
            ci, fraction = number["ci"] or {}, number["support"].get("count")
            rows.append(
                draw.Rate(
                    _plain_dollars(name), number["value"], ci.get("lo"), ci.get("hi"),
                    note=f"{fraction['k']}/{fraction['n']}" if fraction else "",
                    weak=number["status"] == "under_powered", highlight=name == self.tool.generator,
                )
            )  # fmt: skip
        return rows

    def limit(self, point: str) -> tuple[str, float] | None:
        """The declared limit of a claim about the tool's APCER at this point."""
        wanted = self.find("apcer", {"generator": self.tool.generator}, point)
        for claim in self.log.claims:
            if wanted is not None and claim.theta is not None and claim.number_ids == [wanted["id"]]:
                return f"{claim.id}: {self.w('col.limit')} {self.percent(claim.theta, 0)}", claim.theta
        return None

    def score_charts(self, found: Mapping[str, Any]) -> dict[str, str]:
        words, w = self.chart_words, self.w
        lines = [
            draw.Curve(
                _plain_dollars(line["name"]) if line["name"] else w("chart.all_fakes"), line["bpcer"], line["apcer"],
                line["lo"], line["hi"],
            )
            for line in found["det"]
        ]  # fmt: skip
        marks = [(self.point(p["name"]), p["bpcer"], p.get("apcer_highlight", p["apcer"])) for p in found["points"]]
        shares = {
            name if name in ("real", "fake") else _plain_dollars(name): values
            for name, values in found["densities"]["shares"].items()
        }
        out = {
            "det": draw.det_figure(lines, marks, title=w("G.figure_det"), words=words),
            "densities": draw.score_densities(
                found["densities"]["edges"], shares, unit=found["unit"],
                thresholds=[(self.point(p["name"]), p["threshold"]) for p in found["points"]],
                title=w("G.figure_scores"), words=words,
            ),
        }  # fmt: skip
        if "tippett" in found:
            curve = found["tippett"]
            out["tippett"] = draw.tippett(
                curve["log10_lr"], curve["real"], curve["fake"], title=w("G.figure_tippett"), words=words
            )
            bins = found["reliability"]
            out["reliability"] = draw.reliability(
                bins["predicted"], bins["observed"], bins["counts"], title=w("G.figure_reliability"), words=words
            )
        return out


def _suppressed(number: Mapping[str, Any], words: str) -> dict[str, Any]:
    """A number of a group so small that printing it would speak of persons."""
    support = {**number["support"], "n_clusters": words, "count": None}
    return {**number, "value": None, "ci": None, "no_ci_reason": "small cell", "support": support}


def _strip(number: Mapping[str, Any], theta: float | None, side: str | None, label: str) -> str:
    """A small scale from 0 to 1 with the interval, the value, and the declared limit with its good side shaded."""
    ci, value = number["ci"], number["value"]
    if number["unit"] != "fraction" or value is None:
        return ""

    def x(rate: float) -> float:
        return 4 + 152 * min(1.0, max(0.0, rate))

    parts = ['<line x1="4" y1="15" x2="156" y2="15" stroke="#d3d8de" stroke-width="1.2"/>']
    if theta is not None:
        left, right = (x(0), x(theta)) if side == "at_most" else (x(theta), x(1))
        parts.append(
            f'<rect x="{left:.1f}" y="9" width="{right - left:.1f}" height="12" fill="#1f5f3b" opacity="0.12"/>'
        )
        parts.append(
            f'<line x1="{x(theta):.1f}" y1="5" x2="{x(theta):.1f}" y2="25" stroke="#1b1f24" stroke-width="1.2" '
            'stroke-dasharray="2 1.6"/>'
        )
    if ci is not None and ci["lo"] is not None and ci["hi"] is not None:
        parts.append(
            f'<line x1="{x(ci["lo"]):.1f}" y1="15" x2="{x(ci["hi"]):.1f}" y2="15" stroke="#1f5f8b" stroke-width="4"/>'
        )
    weak = number["status"] == "under_powered"
    parts.append(
        f'<circle cx="{x(value):.1f}" cy="15" r="3" fill="{"#fff" if weak else "#1f5f8b"}" stroke="#1f5f8b" '
        'stroke-width="1.6"/>'
    )
    title = f"{label} {theta:g}" if theta is not None else ""
    return f'<svg class="strip" role="img" viewBox="0 0 160 30"><title>{title}</title>{"".join(parts)}</svg>'
