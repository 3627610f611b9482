"""Nuisance probes: how well a small model tells the label from container, size, loudness, silence ... alone."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from deepassay.audit.duplicates import root_of
from deepassay.audit.looking import Looked
from deepassay.audit.report import BLOCK, PASS, SKIP, WARN, AuditFinding
from deepassay.labels import FAKE, REAL

PROBE_AUC = 0.60
SILENCE_EER = 0.35
FEWEST_PER_CLASS = 20
FEWEST_GROUPS = 10

Families = Mapping[str, tuple[str, tuple[str, ...]]]

FAMILIES: Families = {
    "container": ("F03", ("suffix", "container", "codec", "bytes", "bits_per_pixel", "bits_per_second", "fps")),
    "geometry": ("F03", ("width", "height", "aspect")),
    "channel": ("F03", ("rate", "bandwidth", "level", "peak")),
    "duration": ("F04", ("duration",)),
    "silence": ("F04", ("leading_silence", "trailing_silence", "zeros")),
    "sharpness": ("F03", ("sharpness",)),
}


def _groups(looked: list[Looked]) -> np.ndarray:
    """(n,) number of the component that a sample's subjects and source tie together."""
    parent = list(range(len(looked)))
    first: dict[tuple[str, str], int] = {}
    for n, item in enumerate(looked):
        ids = [("subject", s) for s in item.sample.subjects if s]
        ids += [("source", item.sample.source_id)] if item.sample.source_id else []
        for key in ids:
            other = first.setdefault(key, n)
            parent[root_of(parent, other)] = root_of(parent, n)
    return np.array([root_of(parent, n) for n in range(len(looked))])


def _matrix(looked: list[Looked], names: Sequence[str]) -> tuple[np.ndarray, list[str], list[bool]]:
    """Features that vary as floats (n, k) with categories numbered, their names, and which are categories."""
    columns, kept, words = [], [], []
    for name in names:
        cells = [item.features.get(name) for item in looked]
        if any(isinstance(cell, str) for cell in cells):
            common = [word for word, _ in Counter(str(c) for c in cells).most_common(50)]
            column = np.array([common.index(str(c)) if str(c) in common else 50 for c in cells], dtype=np.float64)
            words.append(True)
        else:
            column = np.array([np.nan if c is None else float(c) for c in cells], dtype=np.float64)
            words.append(False)
        seen = column[~np.isnan(column)]
        if len(seen) and (seen != seen[0]).any():
            columns.append(column)
            kept.append(name)
        else:
            words.pop()
    return (np.stack(columns, axis=1) if columns else np.zeros((len(looked), 0))), kept, words


def _out_of_fold(x: np.ndarray, words: list[bool], y: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import StratifiedGroupKFold

    scores = np.full(len(y), np.nan)
    for train, test in StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(x, y, groups):
        settings: dict[str, Any] = {
            "max_iter": 60, "max_depth": 4, "min_samples_leaf": min(20, max(5, len(train) // 20)),
            "class_weight": "balanced", "categorical_features": np.array(words), "early_stopping": False,
        }  # fmt: skip
        model = HistGradientBoostingClassifier(random_state=seed, **settings)
        scores[test] = model.fit(x[train], y[train]).decision_function(x[test])
    return scores


def probes(looked: list[Looked], replicates: int, seed: int) -> list[AuditFinding]:
    """Probes named ``shortcut.FAMILY`` on the files as they are."""
    return probe_families("shortcut", FAMILIES, looked, replicates, seed)


def probe_families(
    prefix: str, families: Families, looked: list[Looked], replicates: int, seed: int
) -> list[AuditFinding]:
    """One probe per family of features, and one on all of them; grouped by subject and source.

    Args:
        prefix: of the findings' ids.
        families: name -> (failure mode, names of features).
        looked: files; those without a label or features are left out.
        replicates, seed: of the cluster bootstrap, and of the folds.
    """
    used = [item for item in looked if item.sample.label is not None and item.features]
    y = np.array([item.sample.label for item in used], dtype=np.int8)
    groups = _groups(used)
    few = [
        word
        for value, word in ((REAL, "real"), (FAKE, "fake"))
        if (y == value).sum() < FEWEST_PER_CLASS or len(set(groups[y == value])) < FEWEST_GROUPS
    ]
    if few:
        why = f"fewer than {FEWEST_PER_CLASS} {few[0]} files or {FEWEST_GROUPS} independent groups of them"
        return [AuditFinding(prefix, "F03", SKIP, why)]
    out = []
    everything = tuple(name for _, names in families.values() for name in names)
    for family, (failure, names) in {**families, "all": ("F03", everything)}.items():
        if not any(name in item.features for item in used for name in names):
            continue  # a family of the other kind of media
        x, kept, words = _matrix(used, names)
        if not kept:
            out.append(AuditFinding(f"{prefix}.{family}", failure, PASS, "the same for every file"))
            continue
        out.append(_probe(f"{prefix}.{family}", failure, x, kept, words, y, groups, replicates, seed))
    return out


def _probe(
    name: str, failure: str, x: np.ndarray, names: list[str], words: list[bool], y: np.ndarray, groups: np.ndarray,
    replicates: int, seed: int,
) -> AuditFinding:  # fmt: skip
    from deepassay.metrics.intervals import FEWEST_CLUSTERS, cluster_bootstrap
    from deepassay.metrics.ranking import auc, eer

    scores = _out_of_fold(x, words, y, groups, seed)
    value, equal = auc(y, scores), eer(y, scores)
    interval = cluster_bootstrap("auc", y, scores, groups, replicates=replicates, seed=seed)
    alone = {name: _alone(x[:, k], words[k], y) for k, name in enumerate(names)}
    told_by = sorted(alone, key=lambda name: -alone[name])
    statistic = {
        "auc": round(value, 4), "ci": interval.as_record(), "ci_note": interval.note, "eer": round(equal, 4),
        "n_real": int((y == REAL).sum()), "n_fake": int((y == FAKE).sum()),
        "auc_of_each_alone": {name: round(alone[name], 4) for name in told_by},
    }  # fmt: skip
    text = (
        f"AUC {value:.3f} [{interval.lo:.3f}, {interval.hi:.3f}], EER {equal:.1%}, from {', '.join(told_by[:4])} alone"
    )
    leaks = interval.lo > PROBE_AUC or (name.endswith(".silence") and equal < SILENCE_EER and interval.lo > 0.5)
    if not leaks:
        return AuditFinding(name, failure, PASS, text, statistic)
    hint = f"Give both classes the same {told_by[0].replace('_', ' ')} (re-encode, resample, trim or crop them alike)."
    # A perfect probe has equal replicates and so no honest upper end, but the lower one is what blocks.
    if interval.n_clusters < FEWEST_CLUSTERS:
        text = f"{text}; only {interval.n_clusters} groups, so no claim rests on it"
        return AuditFinding(name, failure, WARN, text, statistic, hint=hint)
    return AuditFinding(name, failure, BLOCK, text, statistic, hint=hint)


def _alone(column: np.ndarray, word: bool, y: np.ndarray) -> float:
    """In-sample AUC of one feature, whichever way it points: it ranks features, no claim rests on it."""
    from deepassay.metrics.ranking import auc

    if word:
        rate = {v: y[column == v].mean() for v in np.unique(column)}
        column = np.array([rate[v] for v in column])
    known = ~np.isnan(column)
    if len(set(y[known].tolist())) < 2:
        return 0.5
    value = auc(y[known], column[known])
    return max(value, 1 - value)
