"""Plain baselines on the trials of a study: linear probes on frozen features, the nuisance probe, published weights."""

import contextlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from deepassay.errors import AssayError, ConfigError
from deepassay.files import write_json
from deepassay.labels import FAKE, REAL, Status
from deepassay.manifest import Manifest
from deepassay.modality.views import Modality, Views
from deepassay.pipelines.build import build
from deepassay.pipelines.study_plan import Design
from deepassay.pipelines.study_trials import DONE, FACTS, FAILED, predictor
from deepassay.scores import Scored, ScoreTable
from deepassay.store import Store

KINDS = ("imagenet_probe", "lfcc_probe", "nuisance_probe", "published")
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
_FOLDS = 5


def run_baseline(
    name: str, node: Mapping[str, Any], config: Mapping[str, Any], design: Design, store: str, folder: Path, views: int
) -> dict[str, Any]:
    """One baseline over every fold, in a worker process; writes ``GROUP.dev.parquet`` and ``GROUP.test.parquet``.

    Args:
        node: ``kind`` (see `KINDS`) and its options. ``published``: ``config``, composed by the parent.
        config: composed training configuration whose corpus, modality and views define the trials.
    """
    begin = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    with (
        open(folder / "log.txt", "a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            _run(name, node, config, design, Path(store), folder, views)
        except AssayError as error:
            return {"status": FAILED, "reason": str(error)}
    facts = {"status": DONE, "reason": "", "seconds": round(time.monotonic() - begin, 1)}
    write_json(folder / FACTS, facts)
    return facts


def _run(
    name: str, node: Mapping[str, Any], config: Mapping[str, Any], design: Design, store_folder: Path, folder: Path,
    views: int,
) -> None:  # fmt: skip
    options = dict(node)
    kind = options.pop("kind", None)
    if kind not in KINDS:
        raise ConfigError(f"baseline {name}: kind is {kind!r}", hint=f"use one of {list(KINDS)}")
    modality: Modality = build(config["modality"])
    manifest: Manifest = build(config["corpus"]).prepare()
    store = Store.open(store_folder, modality=modality)
    folds = design.folds(manifest)
    meta = {"detector": f"baseline:{name}", "kind": kind}
    if kind == "published":
        _published(options, manifest, folds, folder, modality, store, views, meta)
        return
    features = _features(_describer(kind, options, modality), manifest, modality, store, views)
    for group, fold in folds.items():
        train = fold.split("train")
        ids = [s.sample_id for s in train if s.sample_id in features]
        labels = {s.sample_id: s.label for s in train}
        clusters = {s.sample_id: s.cluster for s in train}
        x, y = np.stack([features[i] for i in ids]), np.array([labels[i] for i in ids])
        unit = np.array([clusters[i] for i in ids], dtype=object)
        judge, facts = _boosted(x, y) if kind == "nuisance_probe" else _logistic(x, y, unit)
        for split in ("dev", "test"):
            part = fold.split(split)
            scored = {}
            for sample in part:
                if sample.sample_id in features:
                    scored[sample.sample_id] = Scored(
                        score=float(judge(features[sample.sample_id][None])[0]), n_views=1
                    )
                else:
                    status = store.status(sample.sample_id)
                    scored[sample.sample_id] = Scored(status=status, reason=store.reason(sample.sample_id))
            ScoreTable.from_scored(part, scored, {**meta, **facts}).write(folder / f"{group}.{split}.parquet")


def _published(
    options: Mapping[str, Any], manifest: Manifest, folds: Mapping[str, Manifest], folder: Path, modality: Modality,
    store: Store, views: int, meta: Mapping[str, Any],
) -> None:  # fmt: skip
    from deepassay.scoring import score_manifest

    config, views = options["config"], int(options.get("views") or views)
    own: Modality = build(config["modality"])
    same = own.fingerprint == modality.fingerprint
    table = score_manifest(
        manifest, own, predictor(config, None), views=views, store=store if same else None, progress=False, meta=meta
    )
    at = {sample_id: row for row, sample_id in enumerate(table.column("sample_id"))}
    score, status, reason = table.column("score"), table.column("status"), table.column("reason")
    for group, fold in folds.items():
        for split in ("dev", "test"):
            part = fold.split(split)
            scored = {}
            for sample in part:
                row = at[sample.sample_id]
                value = None if np.isnan(score[row]) else float(score[row])
                scored[sample.sample_id] = Scored(
                    score=value, status=Status(status[row]), reason=str(reason[row] or "")
                )
            ScoreTable.from_scored(part, scored, meta).write(folder / f"{group}.{split}.parquet")


Describe = Callable[[Views, Views], np.ndarray]


def _describer(kind: str, options: Mapping[str, Any], modality: Modality) -> Describe:
    """A function from (prepared, drawn) views of one file to its features (d,)."""
    if kind == "nuisance_probe":
        from deepassay.audit.views import view_features

        def nuisances(prepared: Views, drawn: Views) -> np.ndarray:
            found = view_features(prepared, drawn)
            return np.array([float(found[name]) for name in sorted(found)], dtype=np.float64)

        return nuisances
    from deepassay.training.frozen import imagenet_features, lfcc_statistics

    if kind == "imagenet_probe":
        embed = imagenet_features(size=modality.input_shape[0], **options)
    else:
        embed = lfcc_statistics(**options)
    return lambda prepared, drawn: embed(drawn.data).mean(axis=0).astype(np.float64)


def _features(
    describe: Describe, manifest: Manifest, modality: Modality, store: Store, views: int
) -> dict[str, np.ndarray]:
    out = {}
    for sample in manifest:
        if store.status(sample.sample_id) == Status.OK:
            prepared = store.views(sample.sample_id)
            out[sample.sample_id] = describe(prepared, modality.draw(prepared, views))
    return out


Judge = Callable[[np.ndarray], np.ndarray]


def _boosted(x: np.ndarray, y: np.ndarray) -> tuple[Judge, dict[str, Any]]:
    """Gradient-boosted trees, as the audit's nuisance probe."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    settings: dict[str, Any] = {
        "max_iter": 60, "max_depth": 4, "min_samples_leaf": min(20, max(5, len(y) // 20)),
        "class_weight": "balanced", "early_stopping": False,
    }  # fmt: skip
    model = HistGradientBoostingClassifier(random_state=0, **settings)
    return model.fit(x, y).decision_function, {}


def _logistic(x: np.ndarray, y: np.ndarray, clusters: np.ndarray) -> tuple[Judge, dict[str, Any]]:
    """Standardised logistic regression, both classes weighing the same; its strength chosen by AUC across clusters."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    from deepassay.metrics.ranking import auc

    def model(strength: float) -> Any:
        return make_pipeline(StandardScaler(), LogisticRegression(C=strength, class_weight="balanced", max_iter=1000))

    few = min(len(set(clusters[y == label])) for label in (REAL, FAKE))
    found: dict[float, float] = {}
    if few >= 2:
        folds = StratifiedGroupKFold(min(_FOLDS, few), shuffle=True, random_state=0)
        for strength in STRENGTHS:
            scores, seen = np.zeros(len(y)), np.zeros(len(y), dtype=bool)
            values = []
            for train, held in folds.split(x, y, clusters):
                if len(set(y[train])) < 2 or len(set(y[held])) < 2:
                    continue
                scores[held] = model(strength).fit(x[train], y[train]).decision_function(x[held])
                seen[held] = True
                values.append(auc(y[held], scores[held]))
            if values:
                found[strength] = float(np.mean(values))
    best = max(found, key=lambda c: (found[c], -c)) if found else 1e-2
    return model(best).fit(x, y).decision_function, {"strength": best, "inner_auc": found.get(best)}
