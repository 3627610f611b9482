"""Model cards of the reference bundles with error rates, in English and Chinese, from committed facts and tables."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deepassay.calibrator import OperatingPoint
from deepassay.pipelines.reference_numbers import METRICS
from deepassay.pipelines.reference_pages import GOAL, REGENERATE, escaped, table
from deepassay.pipelines.reference_tables import typed
from deepassay.pipelines.study_report import MACRO, MACRO_ALL, cell

HALF = 0.5
WORDS: dict[str, dict[str, str]] = json.loads(
    Path(__file__).with_name("reference_words.json").read_text(encoding="utf-8")
)
_FILES = {"en": "{name}.md", "zh": "{name}.zh.md"}


@dataclass(frozen=True, kw_only=True)
class CardInput:
    """Everything a card is a function of.

    Args:
        facts: bundle.json. identity: its SHA-256. n_bytes: of the bundle.
        parity: row of the parity report for this bundle.
        notes: of the build: ``recipe`` (system of the study), ``repeat`` (see `reference.compare_training`), or empty.
        study: facts and numbers of the study of this modality, or None.
        sets: (name, numbers by `measure_scores`, rates by `rates_by`, counts) of every scored set.
    """

    facts: Mapping[str, Any]
    identity: str
    n_bytes: int
    parity: Mapping[str, Any]
    notes: Mapping[str, Any] = field(default_factory=dict)
    study: tuple[Mapping[str, Any], Mapping[str, Any]] | None = None
    sets: Sequence[tuple[str, Sequence[Any], Sequence[Mapping[str, Any]], Mapping[str, int]]] = ()


def card_files(name: str) -> dict[str, str]:
    """Language -> file name of the card."""
    return {language: pattern.format(name=name) for language, pattern in _FILES.items()}


def render_reference_card(given: CardInput, language: str) -> str:
    """Markdown of one card. Raises KeyError for another language than ``en`` and ``zh``."""
    w, facts = WORDS[language], given.facts
    name, provenance = facts["name"], facts["provenance"]
    other = next(file for word, file in card_files(name).items() if word != language)
    point = OperatingPoint.from_dict(facts["operating_points"][0])
    out = [
        f"# {name}", "", f"[{w['other']}]({other})", "",
        *([f"**{w['synthetic']}**", ""] if facts["synthetic"] else []),
        f"**{w['use']}**", "", f"## {w['what']}", "",
        f"- {w['detects']}: {w[facts['modality']['name']]}",
        f"- {w['network']}: {facts['architecture']}",
        f"- {w['precision']}: {facts['precision']}; {w['size']}: {given.n_bytes / 1e6:.1f} MB",
        f"- {w['identity']}: `{given.identity}`",
        f"- {w['weights']}: `{provenance.get('weights_sha256', '')}`",
        f"- {w['made']}: {provenance.get('created_utc', facts['created'])}; "
        f"{w['seed']}: {', '.join(map(str, provenance.get('seeds', [])))}",
        f"- {w['command']}: `{typed(provenance)}`",
        "", _repeat(given.notes.get("repeat"), w), "",
        f"## {w['data']}", "", w["data_note"], "", *_data(facts, w),
        f"## {w['scope']}", "",
        f"- {w['judges']}: {', '.join(facts['scope']['media'])}",
        *(f"- {w['not_for']}: {text}" for text in facts["scope"]["not_for"]),
        "", f"### {w['points']}", "",
        *table(
            [w["point"], w["llr"], w["bpcer_dev"]],
            [[p["name"], f"{p['threshold']:.3f}", f"{100 * p['realised_bpcer']:.2g} % (n = {p['n_real']})"]
             for p in facts["operating_points"]],
        ),
    ]  # fmt: skip
    if given.study is not None:
        out += _unseen(given, w)
    if given.sets:
        out += [f"## {w['own']}", "", w["own_note"].format(point=point.name), ""]
        for entry in given.sets:
            out += _set(entry, set(facts["generators_seen"]), facts["modality"]["name"], w)
    out += [f"## {w['miss']}", "", *(f"- {text}" for text in _misses(given, w)), ""]
    files = given.parity
    flips = ", ".join(f"{n} ({word})" for word, n in sorted(files["flips"].items())) or w["none"]
    out += [
        f"## {w['parity']}", "",
        w["parity_text"].format(
            n=files["n_files"], d=f"{files['max_logit_difference']:.1e}", flips=flips, ms=files["ms_per_view"],
            theirs=files["network_ms_per_view"], threads=files["threads"],
        ),
        "", f"## {w['licence']}", "", w["licence_text"], "", w["written"].format(command=REGENERATE),
    ]  # fmt: skip
    text = "\n".join(out).rstrip() + "\n"
    if language == "zh":
        text = re.sub(r"(\d) to (-?\d)", r"\1 至 \2", text)
        text = re.sub(r"^(- [^:`\n]*): ", r"\1：", text, flags=re.MULTILINE)
        text = re.sub(r"; ([\u4e00-\u9fff]+): ", r"；\1：", text)
        text = re.sub(r"([\u4e00-\u9fff]):$", r"\1：", text, flags=re.MULTILINE)
    return text


def _repeat(repeat: Mapping[str, Any] | None, w: Mapping[str, str]) -> str:
    if not repeat:
        return w["repeat_none"]
    return w["repeat"].format(
        machine=repeat["machine"], n=repeat["n"], d=f"{repeat['max_difference']:.1e}", point=repeat["point"],
        flips=repeat["flips"],
    )  # fmt: skip


def _data(facts: Mapping[str, Any], w: Mapping[str, str]) -> list[str]:
    data = facts["provenance"].get("data")
    out = []
    if data:
        rows = [[w[part], str(data[part]["real"]), str(data[part]["fake"])] for part in ("train", "dev")]
        out += table([w["part"], w["real"], w["fake"]], rows)
    out += [f"{w['seen']}: {', '.join(map(escaped, facts['generators_seen'])) or w['none']}", ""]
    links = [link for link in facts["licence_chain"] if link.get("kind") in ("corpus", "weights")]
    rows = [
        [f"{link['licence']} ({link['name']})" if link.get("kind") == "weights" else link["licence"],
         str(link.get("note", "")).split(" samples")[0].replace(" of ", " / ") if link.get("kind") == "corpus" else "-",
         w[link.get("commercial") or "unknown"]]
        for link in links
    ]  # fmt: skip
    return [*out, *(table([w["terms"], w["share"], w["commercial"]], rows) if rows else [])]


def _unseen(given: CardInput, w: Mapping[str, str]) -> list[str]:
    assert given.study is not None
    facts, numbers = given.study
    recipe = given.notes.get("recipe") or numbers["headline"]
    block = numbers["blocks"][0]
    at = {(r["system"], r["metric"], r["group"]): r for r in block["numbers"]}
    have = list(dict.fromkeys(r["group"] for r in block["numbers"]))
    macros = [(key, word) for key, word in ((MACRO, w["macro"]), (MACRO_ALL, w["macro_all"])) if key in have]
    names = [g["group"] for g in block["groups"]]
    out = [
        f"## {w['unseen']}", "", w["unseen_note"].format(seeds=len(facts["seeds"]), recipe=f"`{recipe}`"), "",
        *table(
            [w["group"], *(w[m] for m in METRICS)],
            [[word, *(cell(at.get((recipe, m, key))) for m in METRICS)]
             for key, word in [*macros, *((name, name) for name in names)]],
        ),
    ]  # fmt: skip
    first = macros[0][0] if macros else names[0]
    systems = [s for s in (recipe, *numbers["baselines"])]
    rows = [[s, *(cell(at.get((s, m, first))) for m in METRICS)] for s in systems]
    return [*out, f"{w['beside']}:", "", *table(["", *(w[m] for m in METRICS)], rows)]


def _rate(row: Mapping[str, Any]) -> str:
    return f"{row['k']}/{row['n']} ({row['lo']:.2f} to {row['hi']:.2f})"


def _set(entry: tuple[str, Sequence[Any], Sequence[Mapping[str, Any]], Mapping[str, int]], seen: set[str],
         modality: str, w: Mapping[str, str]) -> list[str]:  # fmt: skip
    name, numbers, rates, counts = entry
    whole = next((n for n in numbers if n.metric == "auc" and set(n.slice) == {"nonresponse"}), None)
    text = "-"
    if whole is not None and whole.value is not None:
        text = f"{whole.value:.3f}"
        if whole.ci and whole.ci["lo"] is not None:
            text += f" ({whole.ci['lo']:.3f} to {whole.ci['hi']:.3f})"
        text += "\\*" if whole.status == "under_powered" else ""
    out = [f"### {w['set_test'] if name == 'test' else w['set'].format(name=name)}", ""]
    out += [w["headline"].format(real=counts["real"], fake=counts["fake"], silent=counts["silent"], auc=text), ""]
    fakes = [r for r in rates if r["label"] == "fake"]
    reals = [r for r in rates if r["label"] == "real"]
    if fakes:
        out += table(
            [w["generator"], w["in_training"], w["missed"], w["people"]],
            [[r["name"] or "-", w["seen_yes"] if r["name"] in seen else w["seen_no"], _rate(r), str(r["clusters"])]
             for r in fakes],
        )  # fmt: skip
    if reals:
        out += table(
            [w["place"], w["flagged"], w["people"]], [[r["name"] or "-", _rate(r), str(r["clusters"])] for r in reals]
        )
    return out


def _misses(given: CardInput, w: Mapping[str, str]) -> list[str]:
    """What the numbers say against it, worst first within each kind."""
    out = []
    if given.study is not None:
        _, numbers = given.study
        recipe = given.notes.get("recipe") or numbers["headline"]
        names = {g["group"] for g in numbers["blocks"][0]["groups"]}
        for row in numbers["blocks"][0]["numbers"]:
            here = row["system"] == recipe and row["metric"] == "apcer_pooled" and row["group"] in names
            if here and row["value"] is not None and row["value"] >= HALF:
                out.append(w["miss_group"].format(name=row["group"], value=f"{100 * row['value']:.3g} %"))
    for name, _, rates, _ in given.sets:
        word = w["in_test"] if name == "test" else name
        for row in rates:
            words = {"name": escaped(row["name"]) or "-", "k": row["k"], "n": row["n"], "set": word}
            if row["label"] == "fake" and row["k"] >= HALF * row["n"]:
                out.append(w["miss_generator"].format(**words))
            if row["label"] == "real" and row["n"] >= 10 and row["k"] > 0.1 * row["n"]:
                out.append(w["alarm_place"].format(**words))
    if given.study is not None:
        _, numbers = given.study
        head = given.notes.get("recipe") or numbers["headline"]
        for row in numbers["shortcuts"]["rank_correlations"]:
            if row["system"] == head and row["value"] is not None and abs(row["value"]) > GOAL:
                out.append(w["follows"].format(name=row["nuisance"].replace("_", " "), label=w[f"{row['label']}s"],
                                               value=f"{row['value']:.2f}", goal=f"{GOAL:g}"))  # fmt: skip
        for row in numbers["shortcuts"]["real_against_real"]:
            if row["system"] == head and row["metric"].startswith("largest") and row["value"] is not None:
                out.append(w["apart"].format(value=f"{row['value']:.2f}"))
    return [*out, w["miss_rest"]]
