"""The results page and its figures, written from numbers: Markdown and SVG, the same text for the same numbers."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deepassay.figures import Curve, Ladder, robustness_panels
from deepassay.pipelines.reference_licensed import NOT_RUN, TABLES, commands
from deepassay.pipelines.reference_numbers import METRICS
from deepassay.pipelines.study_report import AS_ERROR, CHOSEN, MACRO, MACRO_ALL, TITLES, cell
from deepassay.pipelines.study_robustness import CLEAN

WORDS = {"face": "Faces", "voice": "Voices"}
GOAL = 0.2  # largest rank correlation with a nuisance that the project asks of itself
REGENERATE = "python scripts/build_reference.py --tables-only"
EXPLAINED = {
    "imagenet_probe": "logistic regression on frozen ImageNet features",
    "nuisance_probe": "boosted trees on what a view shows beside its content (sharpness, tone, extent; duration, "
    "silence, level, bandwidth): no face or voice is looked at",
    "lfcc_probe": "logistic regression on mean and deviation of LFCC",
    "aasist_published": "AASIST, weights as published (ASVspoof 2019 LA)",
    "aasist_l_published": "AASIST-L, weights as published (ASVspoof 2019 LA)",
    CHOSEN: "for each group the recipe that was best on the other groups (nested)",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table with an empty line after it."""
    lines = ["| " + " | ".join(map(escaped, head)) + " |", "|" + " --- |" * len(head)]
    return [*lines, *("| " + " | ".join(escaped(c) for c in row) + " |" for row in rows), ""]


def escaped(text: str) -> str:
    """Text that stays in its cell and means no markup: only a trailing star is ours."""
    body = text.replace("|", "\\|")
    return body.replace("*", "\\*") if "**" not in body else body


def results_page(
    studies: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], bundles: Sequence[Mapping[str, Any]],
    figures: Mapping[str, str], speed: Mapping[str, Any] | None = None,
) -> str:  # fmt: skip
    """docs/results.md.

    Args:
        studies: (facts, numbers) of each, as `reference_tables` and `reference_numbers` give them.
        bundles: what `bundle_row` tells of each reference bundle that is there.
        figures: name of a study -> link to its robustness figure.
        speed: what `reference.measure_speed` wrote, or None.
    """
    out = [
        "# Results",
        "",
        f"Written by `{REGENERATE}` from the score tables in `models/scores/`; a test compares it with them. Do not "
        "edit it.",
        "",
        "Each study leaves whole groups of generators out of training, together with the places that the real media "
        "of that group's test come from. The recipe for a group is chosen on the other groups alone; then the group is "
        "opened once. The media are a small folder for research that lies beside this project in development and is "
        "not part of it; the tables hold pseudonyms, labels, generators, sources and scores.",
        "",
        "How to read the tables:",
        "",
        "- Intervals are 95 %, from a bootstrap of people (else sources), the same draws for all systems.",
        "- \\*: too few people or sources (under 20) or no usable interval. No claim rests on such a number.",
        "- Thresholds were fixed on development data, at the false-alarm rate that each section names. BPCER: "
        "real media flagged. APCER: fakes missed. Files without a score count as errors.",
        "- The macro mean over groups comes first, because a pooled number mixes easy groups with hard ones; the "
        "pooled one stands second.",
        "",
    ]
    if studies:
        out += ["## In short", "", *_in_short(studies)]
        out += [
            "Ahead and behind: the paired 95 % interval of the macro difference excludes zero. The p-values further "
            "down are adjusted for all the comparisons of their table (Holm), and are stricter.",
            "",
        ]
    for facts, numbers in studies:
        out += _study(facts, numbers, figures.get(facts["name"], ""))
    out += ["## The shipped bundles: size and speed", ""]
    out += _bundles(bundles) if bundles else ["No reference bundle has been built yet.", ""]
    if speed is not None:
        rows = [[r["name"], r["view"], f"{r['graph_mb']:.2f}", f"{r['ms_per_view']:.2f}"] for r in speed["rows"]]
        out += [f"One view at a time, {speed['rows'][0]['threads']} thread(s) of {speed['cpu']}, exported graphs:", ""]
        out += table(["graph", "a view", "MB", "ms a view"], rows)
    out += _licensed()
    return "\n".join(out).rstrip() + "\n"


def _title(facts: Mapping[str, Any]) -> str:
    word = WORDS[facts["modality"]]
    return word if facts["name"].startswith(word.lower()[:4]) and facts["name"] in ("faces", "voices") else (
        f"{word}: {facts['name']}"
    )  # fmt: skip


def _macro_name(block: Mapping[str, Any]) -> str:
    return MACRO if any(row["group"] == MACRO for row in block["numbers"]) else MACRO_ALL


def _in_short(studies: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> list[str]:
    rows = []
    for facts, numbers in studies:
        block = numbers["blocks"][0]
        macro = _macro_name(block)
        at = {(r["system"], r["metric"]): r for r in block["numbers"] if r["group"] == macro}
        head = numbers["headline"]
        rows.append([
            f"[{_title(facts)}](#{_anchor(_title(facts))})", head, cell(at.get((head, "auc"))),
            cell(at.get((head, "tpr_at_fpr_5"))), _standing(block, macro, "auc"),
            _standing(block, macro, "tpr_at_fpr_5"),
        ])  # fmt: skip
    head = [
        "study",
        "system",
        "macro AUC",
        "macro TPR at 5 % FPR",
        "AUC beside the baselines",
        "TPR beside the baselines",
    ]
    return table(head, rows)


def _anchor(title: str) -> str:
    return "".join(c for c in title.lower().replace(" ", "-") if c.isalnum() or c in "-_")


def _standing(block: Mapping[str, Any], macro: str, metric: str) -> str:
    """Where the headline system stands beside every baseline: ahead, behind, or not told apart, by paired interval."""
    found: dict[str, list[str]] = {"ahead of": [], "behind": [], "not told apart from": []}
    for row in block["differences"]:
        if row["group"] == macro and row["metric"] == metric:
            lo, hi = row["ci"]["lo"], row["ci"]["hi"]
            told = lo is not None and hi is not None and row["reliable"] and not lo <= 0 <= hi
            word = "not told apart from" if not told else "ahead of" if row["value"] > 0 else "behind"
            found[word].append(row["second"])
    return "; ".join(f"{word} {', '.join(names)}" for word, names in found.items() if names) or "no baseline"


def _study(facts: Mapping[str, Any], numbers: Mapping[str, Any], figure: str) -> list[str]:
    out = [f"## {_title(facts)}", ""]
    if facts["synthetic"]:
        out += ["**SYNTHETIC DATA: says that the machinery works, and nothing about real media.**", ""]
    out += ["```sh", facts["command"] or f"deepassay study study={facts['study']} root=FOLDER", "```", ""]
    out += [f"- {note}" for note in facts["notes"]]
    out += [f"- {name}: {EXPLAINED[name]}." for name in numbers["systems"] if name in EXPLAINED]
    out += [""]
    out += _tries(numbers)
    for block in numbers["blocks"]:
        out += _block(block, numbers)
    out += _pooled(numbers)
    out += _choices(facts)
    out += _seeds(numbers)
    out += _generators(numbers)
    out += _shortcuts(facts, numbers)
    if numbers["channels"]:
        out += _channels(facts, numbers, figure)
    return out


def _tries(numbers: Mapping[str, Any]) -> list[str]:
    """Every system in one table: how well it does, beside how much it follows places and nuisances."""
    block, found = numbers["blocks"][0], numbers["shortcuts"]
    macro = _macro_name(block)
    at = {(r["system"], r["metric"]): r for r in block["numbers"] if r["group"] == macro}
    apart = {r["system"]: r for r in found["real_against_real"] if r["metric"].startswith("largest")}
    lines = []
    for system in numbers["systems"]:
        worst = {
            label: max(
                (r for r in found["rank_correlations"]
                 if r["system"] == system and r["label"] == label and r["value"] is not None),
                key=lambda r: abs(r["value"]), default=None,
            )
            for label in ("real", "fake")
        }  # fmt: skip
        told = [f"{r['value']:.2f} {r['nuisance'].replace('_', ' ')}" if r else "-" for r in worst.values()]
        lines.append([system, cell(at.get((system, "auc"))), cell(at.get((system, "tpr_at_fpr_5"))),
                      cell(apart.get(system)), *told])  # fmt: skip
    head = ["system", "macro AUC", "macro TPR at 5 % FPR", "real against real: largest |AUC - 0.5|",
            "strongest nuisance, reals", "fakes"]  # fmt: skip
    out = ["### Every try, with its shortcuts", "", *table(head, lines)]
    paired = [r for r in numbers["arms"] if r["group"] == macro]
    if paired:
        of = {(r["second"], r["metric"]): r for r in paired}
        out += [f"{numbers['headline'].capitalize()} minus each recipe, paired; p after Holm over this table:", ""]
        out += table(
            ["minus", *(TITLES[m] for m in METRICS)],
            [[s, *(_paired(of.get((s, m))) for m in METRICS)] for s in dict.fromkeys(r["second"] for r in paired)],
        )
    return out


def _block(block: Mapping[str, Any], numbers: Mapping[str, Any]) -> list[str]:
    at = {(r["system"], r["metric"], r["group"]): r for r in block["numbers"]}
    names = [g["group"] for g in block["groups"]]
    whole = block["view"] == "all trials" and block["nonresponse"] == AS_ERROR
    how = "" if block["nonresponse"] == AS_ERROR else ", files without a score left out"
    view = block["view"][:1].upper() + block["view"][1:]
    out = [] if whole else [f"### {view}{how}", ""]
    for macro in (MACRO, MACRO_ALL):
        if not any(r["group"] == macro for r in block["numbers"]):
            continue
        over = next(r["over"] for r in block["numbers"] if r["group"] == macro)
        word = "groups with enough people or sources" if macro == MACRO else "all groups"
        title = f"Macro mean, {word}"
        out += [f"### {title}" if whole else f"**{title}**", "", f"Over {', '.join(over)}.", ""]
        out += table(
            ["system", *(TITLES[m] for m in METRICS)],
            [[s, *(cell(at.get((s, m, macro))) for m in METRICS)] for s in numbers["systems"]],
        )
        paired = [r for r in block["differences"] if r["group"] == macro]
        if paired:
            out += [
                f"{numbers['headline'].capitalize()} minus each baseline, paired; p after Holm over this table:",
                "",
            ]
            of = {(r["second"], r["metric"]): r for r in paired}
            seconds = list(dict.fromkeys(r["second"] for r in paired))
            out += table(
                ["minus", *(TITLES[m] for m in METRICS)],
                [[s, *(_paired(of.get((s, m))) for m in METRICS)] for s in seconds],
            )
    if whole:
        out += ["### The groups", ""]
        out += table(
            ["left-out group", "real", "fake", "people or sources: real", "fake", "enough for a claim"],
            [[g["group"], str(g["n_real"]), str(g["n_fake"]), str(g["real_clusters"]), str(g["fake_clusters"]),
              "yes" if g["powered"] else "no"] for g in block["groups"]],
        )  # fmt: skip
    for metric in METRICS if whole else ("auc", "tpr_at_fpr_5"):
        title = f"{TITLES[metric]} per left-out group"
        out += [f"### {title}" if whole else f"**{title}**", ""]
        out += table(
            ["system", *names],
            [[s, *(cell(at.get((s, metric, g))) for g in names)] for s in numbers["systems"]],
        )
    return out


def _paired(row: Mapping[str, Any] | None) -> str:
    text = cell(row)
    if row is None or row.get("p_holm") is None:
        return text
    return f"{text}, p {'< 0.001' if row['p_holm'] < 0.001 else format(row['p_holm'], '.3f')}"


def _pooled(numbers: Mapping[str, Any]) -> list[str]:
    rows = numbers["pooled"]
    if not rows:
        return []
    at = {(r["system"], r["metric"]): r for r in rows}
    n = rows[0]
    return [
        f"### Pooled, second: {n['n_real']} real and {n['n_fake']} fake trials of all groups in one pile",
        "",
        *table(
            ["system", *(TITLES[m] for m in METRICS)],
            [[s, *(cell(at.get((s, m))) for m in METRICS)] for s in numbers["systems"]],
        ),
    ]


def _choices(facts: Mapping[str, Any]) -> list[str]:
    if not facts["choices"]:
        return []
    arms = list(facts["arms"])
    rows = [
        [c["group"], *(f"{c['means'][a]:.3f}" if a in c["means"] else "-" for a in arms), c["chosen"]]
        for c in facts["choices"]
    ]
    by = facts["choices"][0]["by"].upper()
    return [f"### The nested choice: mean {by} on the other groups", "", *table(["group", *arms, "chosen"], rows)]


def _seeds(numbers: Mapping[str, Any]) -> list[str]:
    if not numbers["seeds"]:
        return []
    rows = [
        [r["system"], TITLES[r["metric"]], f"{r['mean']:.3f}", "-" if r["sd"] is None else f"{r['sd']:.3f}",
         ", ".join(f"{v:.3f}" for v in r["values"])] for r in numbers["seeds"]
    ]  # fmt: skip
    head = ["recipe", "metric", "mean of single trainings", "standard deviation", "each"]
    return ["### Seeds: macro over all groups of every single training", "", *table(head, rows)]


def _generators(numbers: Mapping[str, Any]) -> list[str]:
    rows = numbers["generators"]
    if not rows:
        return []
    systems = list(dict.fromkeys(r["system"] for r in rows))
    at = {(r["group"], r["generator"], r["system"]): r for r in rows}
    keys = list(dict.fromkeys((r["group"], r["generator"]) for r in rows))
    lines = []
    for group, generator in keys:
        first = next(at[group, generator, s] for s in systems if (group, generator, s) in at)
        cells = []
        for system in systems:
            row = at.get((group, generator, system))
            cells.append("-" if row is None else f"{cell(row)}; {row['k']:g} found")
        lines.append([generator, group, str(first["n_fake"]), str(first["fake_clusters"]), *cells])
    return [
        "### Per generator: AUC against the real trials of its group, and fakes found at the development threshold",
        "",
        *table(["generator", "group", "fakes", "people or sources", *systems], lines),
    ]


def _shortcuts(facts: Mapping[str, Any], numbers: Mapping[str, Any]) -> list[str]:
    found = numbers["shortcuts"]
    shown = {numbers["headline"], *numbers["baselines"]}
    apart, follows = (
        [r for r in found[key] if r["system"] in shown] for key in ("real_against_real", "rank_correlations")
    )
    out = []
    if numbers["within"]:
        rows = [[r[facts["by"]], r["group"], r["system"], cell(r), f"{r['n_real']}", f"{r['n_fake']}"]
                for r in numbers["within"]]  # fmt: skip
        out += ["### Within one source that holds both classes (AUC)", ""]
        out += table(["source", "group", "system", "AUC", "real", "fake"], rows)
    if apart:
        out += [
            "### Real against real from different places", "",
            "A detector of manipulation cannot tell them apart; a detector of places can. AUC 0.5 is wanted, so "
            "|AUC - 0.5| of 0.", "",
        ]  # fmt: skip
        rows = {}
        for r in apart:
            if "first" not in r:
                rows.setdefault(r["system"], {})[r["metric"]] = r
        quantities = list(dict.fromkeys(r["metric"] for r in apart if "first" not in r))
        out += table(["system", *quantities], [[s, *(cell(v.get(q)) for q in quantities)] for s, v in rows.items()])
        worst = sorted(
            (r for r in apart if "first" in r and r["system"] == numbers["headline"] and r["value"] is not None),
            key=lambda r: -abs(r["value"] - 0.5),
        )[:5]
        if worst:
            out += [f"The pairs that {numbers['headline']} tells apart best:", ""]
            out += table(["second over first", "first", "AUC"], [[r["second"], r["first"], cell(r)] for r in worst])
    if follows:
        systems = list(dict.fromkeys(r["system"] for r in follows))
        at = {(r["system"], r["label"], r["nuisance"]): r for r in follows}
        keys = list(dict.fromkeys((r["label"], r["nuisance"]) for r in follows))
        over = [f"{r['nuisance']} among {r['label']}s ({r['value']:.2f})" for r in follows
                if r["system"] == numbers["headline"] and r["value"] is not None and abs(r["value"]) > GOAL
                ]  # fmt: skip
        out += [
            f"### Rank correlation of the score with nuisances, within a class (goal: at most {GOAL:g} either way)", "",
            f"{numbers['headline'].capitalize()} is beyond the goal on: {', '.join(over) or 'none'}.", "",
        ]  # fmt: skip
        out += table(
            ["class", "nuisance", *systems],
            [[label, name.replace("_", " "), *(cell(at.get((s, label, name)), digits=2) for s in systems)]
             for label, name in keys],
        )  # fmt: skip
    return out


# --- robustness -----------------------------------------------------------------------------------------------------


def _ladder_words(modality: str, name: str) -> tuple[str, str]:
    """Title and unit of a channel."""
    if modality == "face":
        from deepassay.media.processing import PICTURE_LADDERS as LADDERS
    else:
        from deepassay.media.channels import SOUND_LADDERS as LADDERS
    found = LADDERS.get(name)
    return (found.title, found.unit) if found else (name, "")


def robustness_figure(facts: Mapping[str, Any], numbers: Mapping[str, Any]) -> str:
    """SVG: EER of the trainings over the strengths of every channel, the unchanged trials first."""
    rows = [r for r in numbers["channels"] if r["eer"]["value"] is not None]
    trainings = list(dict.fromkeys(r["training"] for r in rows))
    ladders = []
    for channel in dict.fromkeys(r["channel"] for r in rows if r["channel"] != CLEAN):
        title, unit = _ladder_words(facts["modality"], channel)
        steps = list(dict.fromkeys(r["strength"] for r in rows if r["channel"] == channel))
        levels = ["as is", *(f"{s:g}" for s in steps)]
        curves = []
        for training in trainings:
            mine = [r for r in rows if r["training"] == training]
            points = [next((r for r in mine if r["channel"] == CLEAN), None)]
            points += [next((r for r in mine if (r["channel"], r["strength"]) == (channel, s)), None) for s in steps]
            known = [(i, r["eer"]) for i, r in enumerate(points) if r is not None]
            ends = [(r["ci"]["lo"], r["ci"]["hi"]) for _, r in known]
            banded = all(lo is not None and hi is not None for lo, hi in ends)
            curves.append(
                Curve(
                    training, [i for i, _ in known], [r["value"] for _, r in known],
                    [lo for lo, _ in ends] if banded else None, [hi for _, hi in ends] if banded else None,
                )
            )  # fmt: skip
        ladders.append(Ladder(title, unit, levels, curves))
    name = f"EER through channels, {WORDS[facts['modality']].lower()}"
    return robustness_panels(ladders, title=name, words={"rate": "EER (%)"})


def _channels(facts: Mapping[str, Any], numbers: Mapping[str, Any], figure: str) -> list[str]:
    shown = ("eer", "bpcer", "apcer_pooled")
    rows = numbers["channels"]
    out = ["### Channels: the chosen recipe, macro over groups, thresholds as dev fixed them", ""]
    if figure:
        out += [f"![EER of the chosen recipe over the strengths of every channel]({figure})", ""]
    lines = []
    for row in rows:
        title, unit = _ladder_words(facts["modality"], row["channel"])
        name = "as they are" if row["channel"] == CLEAN else f"{title}, {row['strength']:g} {unit}".rstrip()
        lines.append([name, row["training"], *(cell(row[m]) for m in shown)])
    return [*out, *table(["channel", "training", *(TITLES[m] for m in shown)], lines)]


# --- bundles and corpora under licence --------------------------------------------------------------------------------


def _bundles(bundles: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [
        [b["name"], b["architecture"], b["precision"], f"{b['bundle_mb']:.1f}",
         f"{b['ms_per_view']:.1f}", f"{b['network_ms_per_view']:.1f}", f"{b['ms_per_file']:.0f}",
         f"{b['network_ms_per_file']:.0f}", str(b["threads"]), f"{b['max_logit_difference']:.1e}", str(b["n_files"])]
        for b in bundles
    ]  # fmt: skip
    head = ["bundle", "network", "precision", "MB", "ms a view", "in PyTorch", "ms a file, all told", "in PyTorch",
            "threads", "largest difference of logits", "over files"]  # fmt: skip
    return [
        "Times are medians on the machine that exported the bundle, both sides in turn; the difference is between the "
        "network in PyTorch and the bundle, from file to logit. Cards with error rates: `models/cards/`.",
        "",
        *table(head, rows),
    ]


def _licensed() -> list[str]:
    out = [
        f"## Tables that need corpora under licence: {NOT_RUN}",
        "",
        "None of these corpora was at hand, so these tables are empty, and say so in every row. Words in capitals are "
        "your own folders; the numbers come from `metrics.json` and `metrics.md` in the run's folder.",
        "",
    ]
    for licensed in TABLES:
        name = f"results/{licensed.name}.csv"
        out += [f"### {licensed.title}", "", f"Follows: {licensed.format}. File: [{name}]({name}), {NOT_RUN}.", ""]
        out += ["```sh", *commands(licensed), "```", ""]
    return out
