"""Robustness of a chosen recipe: its trials through channels at several strengths, thresholds as dev fixed them."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deepassay.errors import AssayError, ConfigError
from deepassay.files import atomic_path, sha256_bytes, write_json
from deepassay.labels import FAKE, REAL, Status
from deepassay.manifest import Manifest, Sample
from deepassay.metrics.across import Part, across
from deepassay.modality.views import Modality
from deepassay.pipelines.folder import RunFolder
from deepassay.pipelines.study_report import AS_ERROR, RANKING, GroupTrials, record
from deepassay.pipelines.study_trials import DONE, FAILED, predictor

CLEAN = "none"
Channel = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def ladder_steps(names: Sequence[str], modality: Modality, strengths: int = 3) -> list[tuple[str, float, Channel]]:
    """(channel, strength, change of one view) of every step, mildest first.

    Args:
        names: of `media.processing.PICTURE_LADDERS` for faces, of `media.channels.SOUND_LADDERS` for voices.
        strengths: how many of a ladder's own strengths, spread evenly from the mildest to the harshest.

    Raises:
        ConfigError: no such ladder, or fewer than one strength.
        MissingDependencyError: an encoder that is not there.
    """
    if strengths < 1 or isinstance(names, str):
        raise ConfigError(f"ladders {names!r}, {strengths} strengths", hint="give a list of names, and at least one")
    out: list[tuple[str, float, Channel]] = []
    for name in names:
        ladder: Any
        if modality.name == "face":
            from deepassay.media.processing import picture_ladder

            ladder = picture_ladder(name)
        else:
            from deepassay.media.channels import sound_ladder

            ladder = sound_ladder(name)
        picked = np.unique(np.linspace(0, len(ladder.strengths) - 1, strengths).round().astype(int))
        rate = int(modality.contract["settings"]["rate_hz"]) if modality.name == "voice" else 0
        out += [
            (name, float(ladder.strengths[k]), _change(ladder.apply, float(ladder.strengths[k]), rate)) for k in picked
        ]
    return out


def _change(apply: Callable[..., np.ndarray], strength: float, rate_hz: int) -> Channel:
    if rate_hz:
        return lambda view, rng: apply(view, rate_hz, strength, rng)
    return lambda view, rng: apply(view, strength)


def drawn_trials(fold: Manifest, per_class: int | None) -> list[Sample]:
    """Trials of the test part, at most ``per_class`` of each class, drawn by the hash of their ids."""
    out = []
    for label in (REAL, FAKE):
        mine = [s for s in fold.split("test") if s.label == label]
        mine.sort(key=lambda s: sha256_bytes(s.sample_id.encode()))
        out += mine[: per_class or len(mine)]
    return out


def score_channels(
    runs: Mapping[str, str], ladders: Sequence[str], strengths: int, per_class: int | None, views: int, seed: int,
    path: str,
) -> dict[str, Any]:  # fmt: skip
    """Scores of the same test trials by several runs, clean and through every step; called in a worker process.

    Views are changed once and scored by every run, so that two trainings are compared on equal pictures or sounds.

    Args:
        runs: word -> run folder; all of one split and modality.
        per_class: see `drawn_trials`.
    """
    begin = time.monotonic()
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with (
        open(target.with_suffix(".log"), "a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            opened = {word: RunFolder.open(folder) for word, folder in runs.items()}
            rows = _score(opened, ladders, strengths, per_class, views, seed)
        except AssayError as error:
            return {"status": FAILED, "reason": str(error)}
    table = pa.Table.from_pylist(rows)
    with atomic_path(target) as temporary:
        pq.write_table(table, temporary)
    facts = {"status": DONE, "reason": "", "seconds": round(time.monotonic() - begin, 1)}
    write_json(target.with_suffix(".json"), facts)
    return facts


def _score(
    runs: Mapping[str, RunFolder], ladders: Sequence[str], strengths: int, per_class: int | None, views: int, seed: int
) -> list[dict[str, Any]]:
    first = next(iter(runs.values()))
    modality: Modality = first.modality()
    steps = ladder_steps(ladders, modality, strengths)
    store = first.store(modality)
    predict = {word: predictor(run.config, run.weights) for word, run in runs.items()}
    rows = []
    for sample in drawn_trials(first.manifest(), per_class):
        if store.status(sample.sample_id) != Status.OK:
            keys = [(CLEAN, 0.0), *((c, s) for c, s, _ in steps)]
            rows += [_row(sample, word, *key, None) for word in runs for key in keys]
            continue
        drawn = modality.draw(store.views(sample.sample_id), views)
        data, keys = [drawn.data], [(CLEAN, 0.0)]
        for channel, strength, change in steps:
            words = f"{seed}\x1f{channel}\x1f{strength}\x1f{sample.sample_id}"
            rng = np.random.Generator(np.random.Philox(int(sha256_bytes(words.encode())[:16], 16)))
            data.append(np.stack([change(np.array(view), rng) for view in drawn.data]).astype(drawn.data.dtype))
            keys.append((channel, strength))
        together = np.concatenate(data)
        for word, judge in predict.items():
            parts = np.split(np.asarray(judge(together), dtype=np.float64), len(data))
            pairs = zip(keys, parts, strict=True)
            rows += [_row(sample, word, *key, modality.pool(logits, drawn)) for key, logits in pairs]
    return rows


def _row(sample: Sample, training: str, channel: str, strength: float, score: float | None) -> dict[str, Any]:
    return {
        "sample_id": sample.sample_id, "training": training, "channel": channel, "strength": strength, "score": score,
    }  # fmt: skip


def measure_channels(
    groups: Mapping[str, GroupTrials], tables: Mapping[str, Path], thresholds: Mapping[tuple[str, str], float], *,
    replicates: int, seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """EER, BPCER and APCER at the dev threshold, macro over groups, per training and step.

    Args:
        groups: trials by name.
        tables: group -> file of `score_channels`.
        thresholds: (training, group) -> threshold that dev fixed.
    """
    read = {group: pq.read_table(path).to_pylist() for group, path in tables.items()}
    keys = dict.fromkeys((r["training"], r["channel"], r["strength"]) for rows in read.values() for r in rows)
    out = []
    for key in keys:
        parts = []
        for group, rows in read.items():
            here = {r["sample_id"]: r["score"] for r in rows if (r["training"], r["channel"], r["strength"]) == key}
            trials, threshold = groups[group], thresholds[key[0], group]
            keep = np.array([i in here for i in trials.ids])
            score = np.array([np.nan if here.get(i) is None else here[i] for i in trials.ids], dtype=np.float64)
            own = GroupTrials(group, trials.table, {"s": [score - threshold]})
            part = own.part(["s"], keep, AS_ERROR)
            if part is not None:
                parts.append(part)
        if parts:
            out.append(_step(parts, *key, replicates, seed))
    return out


def _step(
    parts: Sequence[Part], training: str, channel: str, strength: float, replicates: int, seed: int
) -> dict[str, Any]:
    names = ("eer", "bpcer", "apcer_pooled")
    made = across(parts, [RANKING[n] for n in names], replicates=replicates, seed=seed)
    powered = "exploratory" if all(p.powered for p in parts) else "under_powered"
    facts = {"training": training, "channel": channel, "strength": strength, "groups": [p.name for p in parts]}
    return {**facts, **{n: record(*made.macro("s", n), status=powered) for n in names}}
