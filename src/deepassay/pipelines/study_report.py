"""From the score tables of a study to its numbers: per group, macro, paired with baselines, shortcuts, robustness."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from deepassay.errors import ScoreError
from deepassay.labels import FAKE, REAL
from deepassay.metrics.across import Across, Part, across
from deepassay.metrics.association import Stratum, rank_correlation, separation
from deepassay.metrics.comparison import holm
from deepassay.metrics.decision import threshold_at_bpcer, worst_case_scores
from deepassay.metrics.intervals import FEWEST_CLUSTERS, Interval
from deepassay.scores import ScoreTable

CHOSEN = "chosen recipe"
AS_ERROR, LEFT_OUT = "counted_as_error", "left_out"
RANKING: dict[str, tuple[str, dict[str, float]]] = {
    "auc": ("auc", {}),
    "eer": ("eer", {}),
    "min_dcf": ("min_dcf", {}),
    "tpr_at_fpr_1": ("tpr_at_fpr_1", {}),
    "tpr_at_fpr_5": ("tpr_at_fpr_1", {"target": 0.05}),
    "tpr_at_fpr_10": ("tpr_at_fpr_1", {"target": 0.10}),
    "bpcer_at_apcer_5": ("bpcer_at_apcer_5", {}),
    # Scores are counted from the threshold that dev fixed.
    "bpcer": ("bpcer", {"threshold": 0.0}),
    "apcer_pooled": ("apcer_pooled", {"threshold": 0.0}),
}
TITLES = {
    "auc": "AUC", "eer": "EER", "min_dcf": "minDCF", "tpr_at_fpr_1": "TPR at 1 % FPR", "tpr_at_fpr_5": "TPR at 5 % FPR",
    "tpr_at_fpr_10": "TPR at 10 % FPR", "bpcer_at_apcer_5": "BPCER at APCER 5 %", "bpcer": "BPCER at dev threshold",
    "apcer_pooled": "APCER at dev threshold",
}  # fmt: skip
FEWEST_TRIALS = 10


@dataclass
class GroupTrials:
    """The trials of one left-out group and what was said of them.

    Args:
        name: of the group.
        table: any score table of these trials; its order is the order of all vectors.
        systems: system -> one or several vectors (n,), higher = more likely fake, counted from the dev threshold, NaN
            where there is no score.
    """

    name: str
    table: ScoreTable
    systems: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ids = self.table.column("sample_id")
        self.labels = self.table.column("label").astype(np.int64)
        self.clusters = self.table.column("cluster")
        self.generators = np.array([str(g or "") for g in self.table.column("generator")], dtype=object)
        self.subjects = self.table.column("subjects")

    def places(self, by: str) -> np.ndarray:
        """(n,) value of an attribute, "" where there is none."""
        return np.array([dict(a or []).get(by, "") for a in self.table.column("attributes")], dtype=object)

    def add(self, system: str, runs: Sequence[tuple[ScoreTable, ScoreTable]], target: float) -> None:
        """A system's (dev, test) tables, one pair per seed; seeds are also averaged into one score per trial.

        Raises:
            ScoreError: a trial without a row, or a dev table without an answered real sample.
        """
        devs = [dev.column("score") for dev, _ in runs]
        tests = [self._aligned(test) for _, test in runs]
        real = runs[0][0].column("label") == REAL
        if any(not np.array_equal(dev.column("sample_id"), runs[0][0].column("sample_id")) for dev, _ in runs):
            raise ScoreError(f"{system}: seeds of group {self.name} have other dev samples", hint="run the study anew")
        self.systems[system] = [_mean(tests) - _threshold(real, _mean(devs), target)]
        if len(runs) > 1:
            pairs = zip(devs, tests, strict=True)
            self.systems[f"{system} (single)"] = [test - _threshold(real, dev, target) for dev, test in pairs]

    def _aligned(self, test: ScoreTable) -> np.ndarray:
        score = dict(zip(test.column("sample_id"), test.column("score"), strict=True))
        absent = [i for i in self.ids if i not in score]
        if absent:
            raise ScoreError(
                f"group {self.name}: {len(absent)} trials have no row, the first is {absent[0]!r}",
                hint="all arms must be given the same trials; do their corpora differ?",
            )
        return np.array([score[i] for i in self.ids], dtype=np.float64)

    def part(self, systems: Sequence[str], keep: np.ndarray, nonresponse: str, name: str = "") -> Part | None:
        """Trials as `across` takes them; None where a class is missing."""
        some = keep.copy()
        if nonresponse == LEFT_OUT:
            for system in systems:
                some &= np.all([np.isfinite(v) for v in self.systems[system]], axis=0)
        labels = self.labels[some]
        if {REAL, FAKE} - set(labels.tolist()):
            return None
        scores = {s: [_filled(labels, v[some]) for v in self.systems[s]] for s in systems}
        return Part(name or self.name, labels, self.clusters[some], scores)


def _mean(vectors: Sequence[np.ndarray]) -> np.ndarray:
    return np.mean(np.stack(vectors), axis=0)


def _threshold(real: np.ndarray, dev: np.ndarray, target: float) -> float:
    known = real & np.isfinite(dev)
    if not known.any():
        raise ScoreError("dev has no real sample with a score", hint="thresholds rest on them; see the dev table")
    return threshold_at_bpcer(np.zeros(int(known.sum()), dtype=int), dev[known], target)


def _filled(labels: np.ndarray, scores: np.ndarray) -> np.ndarray:
    return worst_case_scores(labels, scores, np.isfinite(scores), [0.0])


def record(value: float, interval: Interval, **facts: Any) -> dict[str, Any]:
    """One number with its interval, as JSON."""
    clean = None if not np.isfinite(value) else round(float(value), 6)
    ci = interval.as_record()
    for key in ("lo", "hi"):
        ci[key] = None if not np.isfinite(ci[key]) else round(float(ci[key]), 6)
    return {**facts, "value": clean, "ci": ci, "reliable": interval.reliable, "note": interval.note}


def measure_groups(
    groups: Sequence[GroupTrials], systems: Sequence[str], metrics: Sequence[str], *, keep: Mapping[str, np.ndarray],
    view: str, nonresponse: str, replicates: int, seed: int, baselines: Sequence[str], headline: str,
) -> dict[str, Any]:  # fmt: skip
    """Numbers per group, macro over powered groups and over all, and paired differences of the headline system.

    Returns:
        ``numbers`` and ``differences`` (records), ``powered`` (names) and ``groups`` (counts).
    """
    parts = [p for g in groups if (p := g.part(systems, keep[g.name], nonresponse)) is not None]
    if not parts:
        return {"numbers": [], "differences": [], "powered": [], "groups": []}
    made = across(parts, [RANKING[m] for m in metrics], replicates=replicates, seed=seed)
    powered = [p.name for p in parts if p.powered]
    where = {"view": view, "nonresponse": nonresponse}
    numbers, differences = [], []
    for system in systems:
        for metric, column in zip(metrics, made.metrics, strict=True):
            for part in parts:
                known = np.asarray(part.labels)
                counts = {"n_real": int((known == REAL).sum()), "n_fake": int((known == FAKE).sum())}
                facts = {**where, "system": system, "metric": metric, "group": part.name, **counts}
                facts |= {"fake_clusters": part.clusters_of(FAKE), "real_clusters": part.clusters_of(REAL)}
                facts["status"] = "exploratory" if part.powered else "under_powered"
                numbers.append(record(*made.part(system, part.name, column), **facts))
            for name, over in _macros(powered, parts):
                facts = {**where, "system": system, "metric": metric, "group": name, "over": over}
                facts["status"] = "exploratory" if name == MACRO else "under_powered"
                numbers.append(record(*made.macro(system, column, over), **facts))
    differences = _differences(made, parts, powered, metrics, headline, baselines, where)
    listed = [
        {"group": p.name, "n_fake": int((np.asarray(p.labels) == FAKE).sum()), "powered": p.powered,
         "n_real": int((np.asarray(p.labels) == REAL).sum()), "fake_clusters": p.clusters_of(FAKE),
         "real_clusters": p.clusters_of(REAL)} for p in parts
    ]  # fmt: skip
    return {"numbers": numbers, "differences": differences, "powered": powered, "groups": listed}


MACRO, MACRO_ALL = "macro (powered groups)", "macro (all groups)"


def _macros(powered: Sequence[str], parts: Sequence[Part]) -> list[tuple[str, list[str]]]:
    every = [p.name for p in parts]
    return ([(MACRO, list(powered))] if powered else []) + ([(MACRO_ALL, every)] if every != list(powered) else [])


def _differences(
    made: Across, parts: Sequence[Part], powered: Sequence[str], metrics: Sequence[str], headline: str,
    baselines: Sequence[str], where: Mapping[str, str],
) -> list[dict[str, Any]]:  # fmt: skip
    if headline not in made.systems:
        return []
    out = []
    for name, over in _macros(powered, parts):
        family: list[dict[str, Any]] = []
        for metric, column in zip(metrics, made.metrics, strict=True):
            for other in baselines:
                if other in made.systems and other != headline:
                    value, interval, p = made.difference(headline, other, column, over)
                    facts = {**where, "first": headline, "second": other, "metric": metric, "group": name, "over": over}
                    facts["status"] = "exploratory" if name == MACRO else "under_powered"
                    family.append(record(value, interval, **facts, p=p, p_holm=None))
        tested = [row for row in family if row["p"] is not None]
        for row, adjusted in zip(tested, holm([row["p"] for row in tested]) if tested else [], strict=True):
            row["p_holm"], row["family"] = float(adjusted), len(tested)
        out += family
    return out


def spread_of_seeds(
    groups: Sequence[GroupTrials], arms: Iterable[str], metrics: Sequence[str], keep: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Macro over the groups of every single seed: mean, standard deviation and the values."""
    out = []
    for arm in arms:
        single = f"{arm} (single)"
        parts = [
            p for g in groups if single in g.systems and (p := g.part([single], keep[g.name], AS_ERROR)) is not None
        ]
        if not parts:
            continue
        seeds = min(len(p.scores[single]) for p in parts)
        for metric in metrics:
            values = []
            for k in range(seeds):
                alone = [Part(p.name, p.labels, p.clusters, {single: [p.scores[single][k]]}) for p in parts]
                values.append(float(across(alone, [RANKING[metric]], replicates=1).point[0, :, 0].mean()))
            out.append({
                "system": arm, "metric": metric, "group": MACRO_ALL if len(parts) > 1 else parts[0].name,
                "mean": round(float(np.mean(values)), 6), "values": [round(v, 6) for v in values],
                "sd": round(float(np.std(values, ddof=1)), 6) if seeds > 1 else None,
            })  # fmt: skip
    return out


def slices(
    groups: Sequence[GroupTrials], systems: Sequence[str], by: str, *, keep: Mapping[str, np.ndarray], replicates: int,
    seed: int,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:  # fmt: skip
    """AUC within places that hold both classes, and per generator: AUC and how many fakes are flagged (k of n)."""
    inside, single = [], []
    for group in groups:
        places = group.places(by)
        for place in sorted(set(places) - {""}):
            some = keep[group.name] & (places == place)
            few = min((group.labels[some] == label).sum() for label in (REAL, FAKE))
            part = group.part(systems, some, AS_ERROR, f"{group.name}: {place}") if few >= FEWEST_TRIALS else None
            if part is not None:
                inside += _slice(part, systems, replicates, seed, {"group": group.name, by: place})
        for generator in sorted(set(group.generators[group.labels == FAKE])):
            some = keep[group.name] & ((group.labels == REAL) | (group.generators == generator))
            part = group.part(systems, some, AS_ERROR, f"{group.name}: {generator}")
            if part is not None:
                single += _slice(part, systems, replicates, seed, {"group": group.name, "generator": generator})
    return inside, single


def _slice(
    part: Part, systems: Sequence[str], replicates: int, seed: int, facts: Mapping[str, Any]
) -> list[dict[str, Any]]:
    made = across([part], ["auc"], replicates=replicates, seed=seed)
    fake = np.asarray(part.labels) == FAKE
    out = []
    for system in systems:
        vectors = part.scores[system]
        flagged = round(float(np.mean([(np.asarray(v)[fake] >= 0).sum() for v in vectors])), 2)
        out.append(
            record(
                *made.part(system, part.name, "auc"), **facts, system=system, metric="auc", k=flagged,
                n_fake=int(fake.sum()), n_real=int((~fake).sum()), fake_clusters=part.clusters_of(FAKE),
                status="exploratory" if part.powered else "under_powered",
            )
        )  # fmt: skip
    return out


def shortcuts(
    groups: Sequence[GroupTrials], systems: Sequence[str], by: str, nuisances: Mapping[str, Mapping[str, float]], *,
    keep: Mapping[str, np.ndarray], replicates: int, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """Real against real from different places, and rank correlations with nuisances within each class."""
    names = sorted({name for values in nuisances.values() for name in values})
    apart, follows = [], []
    for system in systems:
        rows = [(g, keep[g.name], _mean(g.systems[system])) for g in groups if system in g.systems]
        real = [(g, some & (g.labels == REAL), score) for g, some, score in rows]
        found = separation(
            [score[some] for _, some, score in real], [g.places(by)[some] for g, some, _ in real],
            [g.clusters[some] for g, some, _ in real], replicates=replicates, seed=seed,
        )  # fmt: skip
        if found is not None:
            for pair, (value, interval) in found.pairs.items():
                apart.append(record(value, interval, system=system, metric="auc", first=pair[0], second=pair[1]))
            for metric, (value, interval) in (("largest", found.largest), ("mean", found.mean)):
                apart.append(record(value, interval, system=system, metric=f"{metric} |AUC - 0.5|"))
        for label, word in ((REAL, "real"), (FAKE, "fake")):
            strata = [_stratum(g, some & (g.labels == label), score, nuisances, names) for g, some, score in rows]
            for name in names:
                try:
                    value, interval, n = rank_correlation(strata, name, replicates=replicates, seed=seed)
                except ScoreError:
                    continue
                follows.append(record(value, interval, system=system, label=word, nuisance=name, n=n))
    return {"real_against_real": apart, "rank_correlations": follows}


def _stratum(
    group: GroupTrials, some: np.ndarray, score: np.ndarray, nuisances: Mapping[str, Mapping[str, float]],
    names: Sequence[str],
) -> Stratum:  # fmt: skip
    ids = group.ids[some]
    features = {n: [nuisances.get(i, {}).get(n, float("nan")) for i in ids] for n in names}
    return Stratum(score[some], group.clusters[some], features)


# --- Markdown -------------------------------------------------------------------------------------------------------


def cell(row: Mapping[str, Any] | None, *, digits: int = 3) -> str:
    """``0.912 (0.874 to 0.941)``; a star where no claim rests on it."""
    if row is None or row["value"] is None:
        return "-"
    ci = row["ci"]
    text = f"{row['value']:.{digits}f}"
    if ci["lo"] is not None:
        text += f" ({ci['lo']:.{digits}f} to {ci['hi']:.{digits}f})"
    return text + ("" if row["reliable"] and row.get("status") != "under_powered" else "*")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def markdown(result: Mapping[str, Any]) -> str:
    """The tables of a study for people, from its JSON."""
    out = [f"# Study {result['name']}\n"]
    if result["synthetic"]:
        out.append("**SYNTHETIC DATA: says that the machinery works, and nothing about real media.**\n")
    out += [f"- {note}" for note in result["notes"]]
    out.append("")
    for block in result["results"]:
        out += _block(block, result)
    out += _rest(result)
    return "\n".join(out) + "\n"


def _block(block: Mapping[str, Any], result: Mapping[str, Any]) -> list[str]:
    numbers = {(n["system"], n["metric"], n["group"]): n for n in block["numbers"]}
    systems = list(dict.fromkeys(n["system"] for n in block["numbers"]))
    metrics = list(dict.fromkeys(n["metric"] for n in block["numbers"]))
    groups = list(dict.fromkeys(n["group"] for n in block["numbers"]))
    how = "non-responses counted as errors" if block["nonresponse"] == AS_ERROR else "non-responses left out"
    out = [f"## {block['view'].capitalize()}, {how}\n"]
    out.append(_table(
        ["left-out group", "real", "fake", "clusters of reals", "clusters of fakes", "powered"],
        [[g["group"], str(g["n_real"]), str(g["n_fake"]), str(g["real_clusters"]), str(g["fake_clusters"]),
          "yes" if g["powered"] else "under_powered"] for g in block["groups"]],
    ))  # fmt: skip
    for group in [g for g in (MACRO, MACRO_ALL) if g in groups]:
        out.append(f"### {group.capitalize()}\n")
        out.append(_table(
            ["system", *(TITLES[m] for m in metrics)],
            [[s, *(cell(numbers.get((s, m, group))) for m in metrics)] for s in systems],
        ))  # fmt: skip
        differences = [d for d in block["differences"] if d["group"] == group]
        if differences:
            seconds = list(dict.fromkeys(d["second"] for d in differences))
            at = {(d["second"], d["metric"]): d for d in differences}
            out.append(f"Difference, {differences[0]['first']} minus the other, paired by cluster:\n")
            out.append(_table(
                ["minus", *(TITLES[m] for m in metrics)],
                [[s, *(cell(at.get((s, m))) for m in metrics)] for s in seconds],
            ))  # fmt: skip
    for metric in metrics:
        names = [g["group"] for g in block["groups"]]
        out.append(f"### {TITLES[metric]} per left-out group\n")
        out.append(_table(
            ["system", *names], [[s, *(cell(numbers.get((s, metric, g))) for g in names)] for s in systems]
        ))  # fmt: skip
    return out


def _rest(result: Mapping[str, Any]) -> list[str]:
    out = []
    if result["choice"]:
        arms = list(dict.fromkeys(a for c in result["choice"] for a in c["means"]))
        out.append("## Nested choice\n")
        out.append(_table(
            ["left-out group", *(f"inner mean, {a}" for a in arms), "chosen", "written at"],
            [[c["group"], *(f"{c['means'][a]:.3f}" if a in c["means"] else "-" for a in arms), c["chosen"],
              c["written_at"]] for c in result["choice"]],
        ))  # fmt: skip
    if result["seeds"]:
        out.append("## Seeds\n")
        out.append(_table(
            ["recipe", "metric", "mean over seeds", "standard deviation", "each"],
            [[s["system"], TITLES[s["metric"]], f"{s['mean']:.3f}", "-" if s["sd"] is None else f"{s['sd']:.3f}",
              ", ".join(f"{v:.3f}" for v in s["values"])] for s in result["seeds"]],
        ))  # fmt: skip
    for title, rows, key in (
        ("Within a source that holds both classes (AUC)", result["within_source"], result["by"]),
        ("Per generator, against the real trials of its group (AUC; flagged at the dev threshold)",
         result["generators"], "generator"),
    ):  # fmt: skip
        if rows:
            out.append(f"## {title}\n")
            out.append(_table(
                ["group", key, "system", "AUC", "flagged of fakes", "clusters of fakes"],
                [[r["group"], r[key], r["system"], cell(r), f"{r['k']:g}/{r['n_fake']}", str(r["fake_clusters"])]
                 for r in rows],
            ))  # fmt: skip
    found = result["shortcuts"]
    if found["real_against_real"]:
        out.append("## Real against real from different places\n")
        pairs = [r for r in found["real_against_real"] if "first" not in r]
        out.append(_table(["system", "quantity", "value"], [[r["system"], r["metric"], cell(r)] for r in pairs]))
        pairs = [r for r in found["real_against_real"] if "first" in r]
        out.append(_table(
            ["system", "first", "second", "AUC of second over first"],
            [[r["system"], r["first"], r["second"], cell(r)] for r in pairs],
        ))  # fmt: skip
    if found["rank_correlations"]:
        out.append("## Rank correlation of the score with nuisances, within a class (goal: at most 0.2)\n")
        rows = found["rank_correlations"]
        systems = list(dict.fromkeys(r["system"] for r in rows))
        at = {(r["system"], r["label"], r["nuisance"]): r for r in rows}
        keys = list(dict.fromkeys((r["label"], r["nuisance"]) for r in rows))
        out.append(_table(
            ["class", "nuisance", *systems],
            [[label, name, *(cell(at.get((s, label, name)), digits=2) for s in systems)] for label, name in keys],
        ))  # fmt: skip
    if result["robustness"]:
        out.append("## Robustness of the chosen recipe, macro over groups; thresholds as dev fixed them\n")
        shown = ("eer", "bpcer", "apcer_pooled")
        out.append(_table(
            ["channel", "strength", "training", *(TITLES[m] for m in shown)],
            [[r["channel"], f"{r['strength']:g}", r["training"], *(cell(r[m]) for m in shown)]
             for r in result["robustness"]],
        ))  # fmt: skip
    out.append(f"\\* fewer than {FEWEST_CLUSTERS} clusters, or an interval on which no claim may rest.\n")
    return out
