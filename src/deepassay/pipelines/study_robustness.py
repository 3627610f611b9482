"""Robustness of a chosen recipe: its trials through channels at several strengths, thresholds as dev fixed them."""

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from deepassay.pipelines.build import build, locate
from deepassay.pipelines.folder import RunFolder
from deepassay.pipelines.study_report import RANKING, GroupTrials, record
from deepassay.pipelines.study_trials import DONE, FAILED, predictor

CLEAN = "none"
Channel = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def ladder_steps(node: Any) -> list[tuple[str, str, Channel]]:
    """(channel, strength, change of views) of every step, weakest first.

    Args:
        node: the dotted name of a mapping in this package, or a mapping: channel -> steps, each a function (views,
            generator) -> views, a config node of one, or a pair (word of the strength, either).

    Raises:
        ConfigError: something else.
    """
    table = locate(node) if isinstance(node, str) else node
    if not isinstance(table, Mapping) or not table:
        raise ConfigError(f"ladders: {node!r} is no mapping of channels", hint="name one of deepassay.augment")
    out: list[tuple[str, str, Channel]] = []
    for channel, steps in table.items():
        named = steps.items() if isinstance(steps, Mapping) else _named(steps)
        for word, step in named:
            made = build(step) if isinstance(step, Mapping) else step
            if not callable(made):
                raise ConfigError(f"ladders: {channel} {word} is {made!r}", hint="a step is a function of views")
            out.append((str(channel), str(word), made))
    return out


def _named(steps: Sequence[Any]) -> Iterable[tuple[str, Any]]:
    for number, step in enumerate(steps, start=1):
        if isinstance(step, tuple | list) and len(step) == 2:
            yield str(step[0]), step[1]
        else:
            yield str(number), step


def drawn_trials(fold: Manifest, per_class: int | None) -> list[Sample]:
    """Trials of the test part, at most ``per_class`` of each class, drawn by the hash of their ids."""
    out = []
    for label in (REAL, FAKE):
        mine = [s for s in fold.split("test") if s.label == label]
        mine.sort(key=lambda s: sha256_bytes(s.sample_id.encode()))
        out += mine[: per_class or len(mine)]
    return out


def score_channels(
    run: str, ladders: Any, per_class: int | None, views: int, seed: int, path: str
) -> dict[str, Any]:  # fmt: skip
    """Scores of one run's test trials, clean and through every step; called in a worker process.

    The same sample meets the same random draws in every run, so that two trainings are compared on equal sounds.
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
            rows = _score(RunFolder.open(run), ladder_steps(ladders), per_class, views, seed)
        except AssayError as error:
            return {"status": FAILED, "reason": str(error)}
    table = pa.Table.from_pylist(rows)
    with atomic_path(target) as temporary:
        pq.write_table(table, temporary)
    facts = {"status": DONE, "reason": "", "seconds": round(time.monotonic() - begin, 1)}
    write_json(target.with_suffix(".json"), facts)
    return facts


def _score(
    run: RunFolder, steps: Sequence[tuple[str, str, Channel]], per_class: int | None, views: int, seed: int
) -> list[dict[str, Any]]:
    modality: Modality = run.modality()
    store, predict = run.store(modality), predictor(run.config, run.weights)
    rows = []
    for sample in drawn_trials(run.manifest(), per_class):
        if store.status(sample.sample_id) != Status.OK:
            rows += [_row(sample, c, s, None) for c, s, _ in [(CLEAN, "0", None), *steps]]
            continue
        drawn = modality.draw(store.views(sample.sample_id), views)
        data, keys = [drawn.data], [(CLEAN, "0")]
        for channel, strength, change in steps:
            words = f"{seed}\x1f{channel}\x1f{strength}\x1f{sample.sample_id}"
            rng = np.random.Generator(np.random.Philox(int(sha256_bytes(words.encode())[:16], 16)))
            data.append(np.asarray(change(drawn.data.copy(), rng)))
            keys.append((channel, strength))
        logits = np.split(np.asarray(predict(np.concatenate(data)), dtype=np.float64), len(data))
        rows += [_row(sample, *key, modality.pool(part, drawn)) for key, part in zip(keys, logits, strict=True)]
    return rows


def _row(sample: Sample, channel: str, strength: str, score: float | None) -> dict[str, Any]:
    return {"sample_id": sample.sample_id, "channel": channel, "strength": strength, "score": score}


def measure_channels(
    groups: Mapping[str, GroupTrials], found: Mapping[str, Mapping[str, tuple[Path, float]]], *, replicates: int,
    seed: int,
) -> list[dict[str, Any]]:  # fmt: skip
    """EER, BPCER and APCER at the dev threshold, macro over groups, per training and step.

    Args:
        groups: trials by name.
        found: training -> group -> (table of `score_channels`, threshold that dev fixed).
    """
    out = []
    for training, tables in found.items():
        read = {group: pq.read_table(path).to_pylist() for group, (path, _) in tables.items()}
        steps = list(dict.fromkeys((r["channel"], r["strength"]) for rows in read.values() for r in rows))
        for channel, strength in steps:
            parts = []
            for group, rows in read.items():
                here = {
                    r["sample_id"]: r["score"] for r in rows if (r["channel"], r["strength"]) == (channel, strength)
                }
                trials = groups[group]
                keep = np.array([i in here for i in trials.ids])
                score = np.array([np.nan if here.get(i) is None else here[i] for i in trials.ids], dtype=np.float64)
                own = GroupTrials(group, trials.table, {"s": [score - tables[group][1]]})
                part = own.part(["s"], keep, "counted_as_error")
                if part is not None:
                    parts.append(part)
            if parts:
                out.append(_step(parts, training, channel, strength, replicates, seed))
    return out


def _step(
    parts: Sequence[Part], training: str, channel: str, strength: str, replicates: int, seed: int
) -> dict[str, Any]:
    names = ("eer", "bpcer", "apcer_pooled")
    made = across(parts, [RANKING[n] for n in names], replicates=replicates, seed=seed)
    powered = "exploratory" if all(p.powered for p in parts) else "under_powered"
    facts = {"training": training, "channel": channel, "strength": strength, "groups": [p.name for p in parts]}
    return {**facts, **{n: record(*made.macro("s", n), status=powered) for n in names}}
