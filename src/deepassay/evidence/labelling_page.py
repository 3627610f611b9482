"""Section I of the dossier: the numbers of the labelling annex as rows and sentences in one language."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from deepassay.marks.survival import PIPELINES

if TYPE_CHECKING:
    from deepassay.evidence.dossier import _Page

DISPUTED = ("implicit_disputed", "explicit_disputed")


def labelling_content(page: "_Page", strip: Callable[[Mapping[str, Any]], Any]) -> dict[str, Any]:
    """Rows of the three tables, disputed rules, and what was not looked at.

    Args:
        page: language and small words. strip: a number -> its drawing on a scale from 0 to 1.
    """
    w, part = page.w, page.log.labelling
    numbers = {
        name: [one.model_dump(mode="json") for one in getattr(part, name)]
        for name in ("explicit", "implicit", "survival")
    }
    found = next((n for n in numbers["implicit"] if n["metric"] == "implicit_found" and not n["slice"]), None)
    sentences = []
    if not numbers["explicit"]:
        sentences.append(w("mark.no_explicit"))
    if found is not None and not numbers["survival"]:
        sentences.append(w("mark.nothing_survives" if not found["value"] else "mark.no_survival"))
    every = [*numbers["explicit"], *numbers["implicit"]]
    return {
        "explicit": _rows(page, numbers["explicit"], strip),
        "implicit": _rows(page, numbers["implicit"], strip),
        "survival": _survival(page, numbers["survival"], strip),
        "disputed": [_disputed(page, n) for n in every if n["metric"] in DISPUTED],
        "sentences": sentences,
        "weak": any(n["status"] == "under_powered" for some in numbers.values() for n in some),
    }  # fmt: skip


def _row(
    page: "_Page", number: Mapping[str, Any], name: str, strip: Callable[[Mapping[str, Any]], Any]
) -> dict[str, Any]:
    fraction, ci = number["support"].get("count"), number["ci"]
    unread = number["support"]["n_nonresponse"]
    if number["unit"] == "seconds":
        value = f"{number['value']:g} s"
    else:
        value = page.percent(number["value"])
    interval = "" if ci is None else f"{100 * ci['lo']:.1f} – {100 * ci['hi']:.1f}"
    return {
        "name": name,
        "value": value,
        "interval": interval or page.w("no_ci.other"),
        "count": f"{fraction['k']} / {fraction['n']}" if fraction else "",
        "clusters": number["support"]["n_clusters"],
        "strip": strip(number) if fraction else "",
        "weak": number["status"] in ("under_powered", "not_reported"),
        "unread": page.w("mark.unread", n=unread) if unread else "",
    }


def _rows(
    page: "_Page", numbers: Sequence[Mapping[str, Any]], strip: Callable[[Mapping[str, Any]], Any]
) -> list[dict[str, Any]]:
    out = []
    for number in numbers:
        if number["metric"] in DISPUTED:
            continue
        name, where = page.w(f"mark.{number['metric']}"), number["slice"]
        if "carrier" in where:
            name = page.w("mark.in_carrier", name=name, carrier=where["carrier"])
        if "rule" in where:
            name = page.w("mark.with_rule", name=name, rule=_named(page, "mark.rule", where["rule"]))
        out.append(_row(page, number, name, strip))
    return out


def _survival(
    page: "_Page", numbers: Sequence[Mapping[str, Any]], strip: Callable[[Mapping[str, Any]], Any]
) -> list[dict[str, Any]]:
    """One group of rows per carrier; the agreement of both parsers last."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for number in numbers:
        where = number["slice"]
        if "pipeline" not in where:
            continue
        row = _row(page, number, _named(page, "mark.pipe", where["pipeline"]), strip)
        known = PIPELINES.get(where["pipeline"])
        row["command"] = known.stands_for if known else ""
        row["reader"] = _named(page, "mark.reader", where.get("reader", ""))
        groups.setdefault(where["carrier"], []).append(row)
    out = [{"title": page.w("mark.carrier", carrier=name), "rows": rows} for name, rows in groups.items()]
    for number in numbers:
        if "pipeline" not in number["slice"]:
            row = _row(page, number, page.w(f"mark.{number['metric']}"), strip)
            out.append({"title": page.w("mark.all_carriers"), "rows": [{**row, "command": "", "reader": ""}]})
    return out


def _disputed(page: "_Page", number: Mapping[str, Any]) -> dict[str, Any]:
    fraction, rule = number["support"]["count"], number["slice"]["rule"]
    return {"text": _named(page, "mark.dispute", rule), "count": f"{fraction['k']} / {fraction['n']}"}


def _named(page: "_Page", head: str, name: str) -> str:
    """The word of this language, where there is one; else the name as the log has it."""
    key = f"{head}.{name}"
    return page.w(key) if key in page.w else name
