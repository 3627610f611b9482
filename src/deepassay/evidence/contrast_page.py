"""Power, pairs, controls, comparisons, ladders, groups and versions as rows and figures of one language's dossier."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepassay import figures as draw
from deepassay.evaluation import AS_ERROR, LEFT_OUT
from deepassay.evidence.conditions import LADDER
from deepassay.evidence.controls import EASY, HALVES, PERMUTED, REAL_AGAINST_REAL, holds

if TYPE_CHECKING:
    from deepassay.evidence.dossier import _Page

Record = Mapping[str, Any]
# Units that name a setting and stand before its value; the others are units of measurement.
_NAMES = ("quality", "CRF", "factor", "grade", "amount", "gamma", "1/gamma")


def contrast_content(page: "_Page") -> dict[str, Any]:
    """What the template shows of them, by name; empty lists where the log holds nothing."""
    return {
        "power_rows": _power(page),
        "pair_rows": _pairs(page),
        "control_rows": _controls(page),
        "comparison_rows": _compared(page, page.log.comparisons),
        "ladder_groups": _ladders(page),
        "half_rows": _halves(page),
        "coders": _coders(page),
        "ladder_point": page.point(page.points()[0]) if page.points() else "",
        "gap_rows": _gaps(page),
        "before": _before(page),
    }


def contrast_figures(page: "_Page") -> dict[str, str]:
    """``ladders`` and ``ece`` as SVG; empty where there is nothing to draw."""
    out = {"ladders": "", "ece": ""}
    panels = _panels(page)
    if panels:
        out["ladders"] = draw.robustness_panels(panels, title=page.w("H.figure"), words=page.chart_words)
    curves = page.log.detectors[0].curves
    if "ece" in curves:
        found = curves["ece"]
        out["ece"] = draw.cross_entropy(
            found["prior_log10_odds"], found["observed"], found["after_pav"], found["neutral"],
            title=page.w("G.figure_ece"), words=page.chart_words,
        )  # fmt: skip
    return out


def _where(page: "_Page", wanted: Mapping[str, str], metric: str, point: str, convention: str = AS_ERROR) -> Any:
    return page.find(metric, wanted, point, convention)


def _power(page: "_Page") -> list[dict[str, str]]:
    return [
        {
            "claim": one.claim,
            "n": str(one.n),
            "clusters": str(one.n_clusters),
            "effect": f"{one.design_effect:.2f}",
            "worth": str(one.n_effective),
            "power": page.percent(one.power_at_half_theta, 0),
            "rate": page.w("C.no_rate") if one.largest_rate is None else page.percent(one.largest_rate),
            "needed": str(one.n_needed),
        }
        for one in page.log.power
    ]


def _pairs(page: "_Page") -> list[dict[str, Any]]:
    name = page.tool.generator
    share = _where(page, {"pairs": name}, "pair_rank", "")
    gap = _where(page, {"pairs": name}, "pair_difference", "", LEFT_OUT)
    rows = []
    if share is not None:
        other = _where(page, {"pairs": name}, "pair_rank", "", LEFT_OUT)
        rows.append(page.row(share, page.w("metric.pair_rank"), other=other))
    if gap is not None:
        rows.append(page.row(gap, page.w("metric.pair_difference"), other=gap))
    return [{"title": "", "rows": rows}] if rows else []


def _controls(page: "_Page") -> list[dict[str, Any]]:
    out = []
    for number in page.numbers:
        where = number["slice"]
        kind = where.get("control")
        if kind is None or (kind == EASY and where.get("nonresponse") != AS_ERROR):
            continue
        metric = page.w("metric.apcer") if number["metric"] == "apcer" else "AUC"
        group = where.get("group", where.get("generator", ""))
        # Where no cluster holds both classes, labels are exchanged between whole clusters.
        key = "control.permuted_between" if where.get("exchanged") == "between clusters" else f"control.{kind}"
        title = page.w(key, name=group) if kind in (REAL_AGAINST_REAL, EASY) else page.w(key)
        title = page.at(title, number["operating_point"])
        good = holds(number)
        out.append(
            {
                "name": title,
                "metric": metric,
                "value": page.value(number),
                "interval": page.interval(number),
                "n": str(number["support"]["n_bona"] + number["support"]["n_attack"]),
                "clusters": str(number["support"]["n_clusters"]),
                "expected": page.w("control.found") if kind == EASY else page.w("control.chance"),
                "kind": "" if good is None else ("pass" if good else "warn"),
                "verdict": "" if good is None else page.w("control.yes" if good else "control.no"),
                "weak": number["status"] == "under_powered",
                "order": (REAL_AGAINST_REAL, HALVES, PERMUTED, EASY).index(kind),
            }
        )
    return sorted(out, key=lambda row: row["order"])


def _compared(page: "_Page", family: Sequence[Any]) -> list[dict[str, str]]:
    known = {number["id"]: number for number in page.numbers}
    out = []
    for one in family:
        number = known[one.number_id]
        share = one.metric != "auc"
        ci = number["ci"]
        between = "-"
        if ci is not None:
            scale, digits = (100.0, 1) if share else (1.0, 3)
            between = f"{scale * ci['lo']:+.{digits}f} – {scale * ci['hi']:+.{digits}f}"
        metric = page.at(page.w(f"metric.{one.metric}"), one.operating_point)
        out.append(
            {
                "id": one.id,
                "metric": metric,
                "first": f"{_side(page, one.first)}: {_plain(page, one.value_first, share)}",
                "second": f"{_side(page, one.second)}: {_plain(page, one.value_second, share)}",
                "value": f"{100 * number['value']:+.1f}" if share else f"{number['value']:+.3f}",
                "interval": between,
                "p": "-" if one.p is None else _p(one.p),
                "p_holm": "-" if one.p_holm is None else _p(one.p_holm),
                "weak": number["status"] == "under_powered",
            }
        )
    return out


def _plain(page: "_Page", value: float, share: bool) -> str:
    return page.percent(value) if share else f"{value:.3f}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _side(page: "_Page", text: str) -> str:
    name, _, step = text.partition("@")
    kind, _, generator = name.partition(":")
    shown = page.w(f"side.{kind}") if kind in ("tool", "real") and not generator else (generator or name)
    return f"{shown}{'，' if page.zh else ', '}{_step(page, step)}" if step else shown


def _step(page: "_Page", name: str) -> str:
    ladder, _, strength = name.partition("@")
    found = next((one for one in page.log.conditions if one.name == name), None)
    return f"{_ladder(page, ladder)} {strength if found is None else _amount(page, found)}"


def _ladder(page: "_Page", name: str) -> str:
    key = f"ladder.{page.tool.biometric}.{name}"
    return page.w(key) if key in page.w else name


def _unit(page: "_Page", unit: str) -> str:
    key = f"unit.{unit}"
    return page.w(key) if key in page.w else unit


def _amount(page: "_Page", step: Any) -> str:
    """``quality 75``, ``64 kbit/s``: a strength with its unit, in the order in which people say it."""
    unit, value = _unit(page, step.unit), f"{step.strength:g}"
    return f"{unit} {value}" if step.unit in _NAMES else f"{value} {unit}".strip()


def _steps(page: "_Page") -> dict[str, list[Any]]:
    out: dict[str, list[Any]] = {}
    for one in page.log.conditions:
        if one.kind == LADDER:
            out.setdefault(one.ladder, []).append(one)
    return out


def _ladders(page: "_Page") -> list[dict[str, Any]]:
    """Per ladder, a row for the files as they came and one per step: rates at the first operating point, and AUC."""
    if not page.points():
        return []
    point, own = page.points()[0], {"generator": page.tool.generator}

    def row(name: str, where: Mapping[str, str], silent: int | None) -> dict[str, Any]:
        missed, alarms = _where(page, {**where, **own}, "apcer", point), _where(page, where, "bpcer", point)
        area = _where(page, {**where, **own}, "auc", "")
        return {
            "name": name,
            "apcer": page.value(missed),
            "apcer_ci": page.interval(missed),
            "apcer_n": _fraction(missed),
            "bpcer": page.value(alarms),
            "bpcer_ci": page.interval(alarms),
            "bpcer_n": _fraction(alarms),
            "auc": page.value(area),
            "auc_ci": page.interval(area),
            "silent": "" if silent is None else str(silent),
            "weak": any(one is not None and one["status"] == "under_powered" for one in (missed, alarms)),
        }

    out = []
    clean = row(page.w("H.clean"), {}, None)
    for ladder, steps in _steps(page).items():
        rows = [row(_amount(page, step), {"condition": step.name}, step.n_nonresponse) for step in steps]
        out.append({"title": _ladder(page, ladder), "rows": rows})
    return [{"title": "", "rows": [clean]}, *out] if out else []


def _fraction(number: Record | None) -> str:
    count = None if number is None else number["support"].get("count")
    return f"{count['k']} / {count['n']}" if count else ""


def _panels(page: "_Page") -> list[draw.Ladder]:
    if not page.points():
        return []
    point, own = page.points()[0], {"generator": page.tool.generator}
    out = []
    for ladder, steps in _steps(page).items():
        wheres = [{}, *({"condition": step.name} for step in steps)]
        lines = []
        for key, metric, extra in (("missed", "apcer", own), ("alarms", "bpcer", {})):
            found = [_where(page, {**where, **extra}, metric, point) for where in wheres]
            keep = [i for i, n in enumerate(found) if n is not None and n["value"] is not None]
            ends = [(found[i]["ci"] or {"lo": found[i]["value"], "hi": found[i]["value"]}) for i in keep]
            lines.append(
                draw.Curve(
                    page.w(f"chart.{key}"), [float(i) for i in keep], [found[i]["value"] for i in keep],
                    [end["lo"] for end in ends], [end["hi"] for end in ends],
                )
            )  # fmt: skip
        unit = _unit(page, steps[0].unit)
        levels = [page.w("chart.as_is"), *(f"{step.strength:g}" for step in steps)]
        out.append(draw.Ladder(_ladder(page, ladder), unit, levels, lines))
    return out


def _halves(page: "_Page") -> list[dict[str, Any]]:
    """The second halves of checks F03 and F04: ranking over all fakes before and after."""
    rows = []
    for one in page.log.conditions:
        if one.kind == LADDER:
            continue
        title = page.w("H.trimmed")
        if one.kind == "recode":
            title = page.w("H.recoded", coder=_step(page, one.name.partition(":")[2]))
        for metric in ("auc", "eer"):
            after = _where(page, {"condition": one.name}, metric, "")
            before = _where(page, {}, metric, "")
            if after is not None and before is not None:
                rows.append(
                    {
                        "name": title, "metric": page.w(f"metric.{metric}"), "before": page.value(before),
                        "before_ci": page.interval(before), "after": page.value(after),
                        "after_ci": page.interval(after),
                        "silent": str(one.n_nonresponse),
                    }
                )  # fmt: skip
    return rows


def _coders(page: "_Page") -> list[str]:
    """Each coder once, and the versions of what they come from once."""
    names: dict[str, None] = {}
    versions: dict[str, None] = {}
    for one in page.log.conditions:
        coder, _, version = one.coder.partition(" (")
        names |= dict.fromkeys(part for part in coder.split(", ") if part)
        versions |= {version.removesuffix(")"): None} if version else {}
    return [*([", ".join(names)] if names else []), *versions]


def _gaps(page: "_Page") -> list[dict[str, Any]]:
    rows = []
    for number in page.numbers:
        group = number["slice"].get("gap_over")
        if group is None or number["slice"].get("nonresponse") != AS_ERROR:
            continue
        metric = page.w(f"metric.{number['metric']}")
        name = f"{page.slice(group)}{'：' if page.zh else ': '}{metric}"
        rows.append(page.row(number, page.at(name, number["operating_point"])))
    return [{"title": "", "rows": rows}] if rows else []


def _before(page: "_Page") -> dict[str, Any] | None:
    said = page.log.previous_version
    if said is None:
        return None
    w = page.w
    facts = [
        (w("V.dossier"), f"{said.dossier_id} ({said.created_utc[:10]})"),
        (w("field.version"), said.version),
        (w("V.detector"), page.yes(said.same_detector)),
        (w("V.thresholds"), page.yes(said.same_thresholds)),
        (w("V.inputs"), str(said.same_inputs)),
        (w("V.clusters"), str(said.shared_clusters)),
    ]
    return {"facts": facts, "rows": _compared(page, said.comparisons)}
