"""Numbers of the results page and the cards from committed score tables alone: equal tables, equal numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepassay.calibrator import OperatingPoint
from deepassay.errors import ScoreError
from deepassay.evaluation import Number, measure
from deepassay.labels import FAKE, LABEL_WORDS, REAL
from deepassay.metrics.across import Part, across
from deepassay.metrics.intervals import wilson
from deepassay.pipelines.reference_tables import StudyTables
from deepassay.pipelines.study_report import (
    AS_ERROR,
    CHOSEN,
    LEFT_OUT,
    RANKING,
    GroupTrials,
    measure_groups,
    record,
    shortcuts,
    slices,
    spread_of_seeds,
)
from deepassay.pipelines.study_robustness import measure_channels
from deepassay.scores import ScoreTable

METRICS = ("auc", "tpr_at_fpr_5", "eer", "bpcer", "apcer_pooled")
POOLED = "pooled"


def measure_study(study: StudyTables) -> dict[str, Any]:
    """Every number of a study: per group, macro, pooled, paired, per generator, shortcuts, seeds, channels.

    Raises:
        ScoreError: no system has scored every group.
    """
    facts, groups = study.facts, study.groups
    order = [CHOSEN, *facts["arms"], *facts["baselines"]]
    systems = [name for name in order if groups and all(name in group.systems for group in groups)]
    if not systems:
        raise ScoreError(f"study {facts['name']}: no system has scored every group", hint="pack a finished study")
    headline = systems[0]
    baselines = [name for name in facts["baselines"] if name in systems]
    replicates, few = int(facts["replicates"]), int(facts["shortcut_replicates"])
    everyone = study.kept["all trials"]
    silent = any(not np.isfinite(v).all() for group in groups for name in systems for v in group.systems[name])
    blocks = []
    for view, keep in study.kept.items():
        for nonresponse in (AS_ERROR, LEFT_OUT) if silent and view == "all trials" else (AS_ERROR,):
            block = measure_groups(
                groups, systems, list(METRICS), keep=keep, view=view, nonresponse=nonresponse, replicates=replicates,
                seed=0, baselines=baselines, headline=headline,
            )  # fmt: skip
            blocks.append({"view": view, "nonresponse": nonresponse, **block})
    shown = [headline, *baselines]
    by = str(facts["by"])
    inside, single = slices(groups, shown, by, keep=everyone, replicates=few, seed=0)
    arms = [arm for arm in facts["arms"] if arm in systems]
    seeds = [CHOSEN, *arms] if headline == CHOSEN else arms
    channels = (
        measure_channels(
            {group.name: group for group in groups}, study.channels, study.thresholds, replicates=few, seed=0
        )
        if study.channels
        else []
    )
    return {
        "headline": headline, "systems": systems, "baselines": baselines, "blocks": blocks,
        "pooled": _pooled(groups, systems, everyone, replicates), "within": inside, "generators": single,
        "seeds": spread_of_seeds(groups, seeds, ["auc", "tpr_at_fpr_5"], everyone),
        "arms": _arms(groups, arms, headline, everyone, replicates),
        "shortcuts": shortcuts(groups, systems, by, study.nuisances, keep=everyone, replicates=few, seed=0),
        "channels": channels,
    }  # fmt: skip


def _arms(
    groups: Sequence[GroupTrials], arms: Sequence[str], headline: str,
    keep: Mapping[str, np.ndarray], replicates: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """Paired differences of the headline system and every recipe, apart from those with the baselines."""
    others = [arm for arm in arms if arm != headline]
    if not others:
        return []
    made = measure_groups(
        groups, [headline, *others], list(METRICS), keep=keep, view="all trials", nonresponse=AS_ERROR,
        replicates=replicates, seed=0, baselines=others, headline=headline,
    )  # fmt: skip
    return made["differences"]


def _pooled(
    groups: Sequence[GroupTrials], systems: Sequence[str], keep: Mapping[str, np.ndarray], replicates: int
) -> list[dict[str, Any]]:
    """All trials of all groups in one pile, scores counted from each group's own dev threshold."""
    parts = [p for group in groups if (p := group.part(systems, keep[group.name], AS_ERROR)) is not None]
    if not parts:
        return []
    labels = np.concatenate([np.asarray(p.labels) for p in parts])
    clusters = np.concatenate([np.asarray(p.clusters, dtype=object) for p in parts])
    scores = {name: [np.concatenate([np.asarray(p.scores[name][0]) for p in parts])] for name in systems}
    pile = Part(POOLED, labels, clusters, scores)
    made = across([pile], [RANKING[metric] for metric in METRICS], replicates=replicates, seed=0)
    counts = {"n_real": int((labels == REAL).sum()), "n_fake": int((labels == FAKE).sum())}
    status = "exploratory" if pile.powered else "under_powered"
    return [
        record(
            *made.part(name, POOLED, column), system=name, metric=metric, group=POOLED, status=status, **counts
        )
        for name in systems
        for metric, column in zip(METRICS, made.metrics, strict=True)
    ]  # fmt: skip


def measure_scores(table: ScoreTable, points: Sequence[OperatingPoint]) -> list[Number]:
    """Numbers of a bundle's scores over all of them, non-responses counted as errors; rates come from `rates_by`.

    A table with one class has no AUC, and gives none.
    """
    if set(table.column("label").tolist()) != {REAL, FAKE}:
        return []
    found = measure(table, operating_points=points, slices=())
    return [number for number in found if number.slice.get("nonresponse") == AS_ERROR]


def rates_by(table: ScoreTable, point: OperatingPoint, by: str) -> list[dict[str, Any]]:
    """Error rate of every generator (missed) and of the real files of every place (flagged), as k of n.

    A file without a score counts as an error. The interval is Wilson's with one trial per cluster, which is wider than
    one with a trial per file.
    """
    labels, clusters = table.column("label"), table.column("cluster")
    flagged = point.flags(table.column("llr"))
    answered = np.isfinite(table.column("llr"))
    groups = {
        REAL: np.array([dict(a or []).get(by, "") for a in table.column("attributes")], dtype=object),
        FAKE: np.array([str(g or "") for g in table.column("generator")], dtype=object),
    }
    out = []
    for label in (REAL, FAKE):
        for name in sorted(set(groups[label][labels == label])):
            some = (labels == label) & (groups[label] == name)
            wrong = ~answered | (flagged if label == REAL else ~flagged)
            k, n, m = int(wrong[some].sum()), int(some.sum()), len(set(clusters[some]))
            interval = wilson(k * m / n, m)
            out.append(
                {"label": LABEL_WORDS[label], "name": name, "k": k, "n": n, "clusters": m, "lo": interval.lo,
                 "hi": interval.hi}
            )  # fmt: skip
    return out
