"""Trainings of a study in worker processes: each trains one run and scores its dev and test parts."""

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

from deepassay.errors import AssayError, ManifestError
from deepassay.files import write_json
from deepassay.modality.views import Modality
from deepassay.pipelines.build import build, config_fingerprint
from deepassay.pipelines.folder import RunFolder
from deepassay.processes import die_with_parent
from deepassay.provenance import code_identity
from deepassay.scores import ScoreTable

DONE, IMPOSSIBLE, INTERRUPTED, FAILED = "done", "impossible", "interrupted", "failed"
FACTS = "study.json"


class StudyInterrupted(KeyboardInterrupt):
    """A worker was interrupted; what is finished stays, and the same command goes on."""


def finished(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether a run with this configuration has trained and scored.

    Raises:
        ConfigError: the folder holds a run with another configuration (told by `RunFolder.start` when it is begun).
    """
    path = folder / FACTS
    if not path.is_file():
        return False
    return json.loads(path.read_text(encoding="utf-8")).get("fingerprint") == config_fingerprint(config)


def facts_of(folder: Path) -> dict[str, Any]:
    """What became of a finished run: status, reason, seconds, hashes of its tables, when they were written."""
    return json.loads((folder / FACTS).read_text(encoding="utf-8"))


def train_and_score(config: Mapping[str, Any], folder: Path, views: int, keep_checkpoints: bool) -> dict[str, Any]:
    """Train one run and score its dev and test parts; called in a worker process. Returns what `facts_of` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    out: dict[str, Any] = {"fingerprint": config_fingerprint(config), "status": DONE, "reason": ""}
    with (
        open(folder / "log.txt", "a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            from deepassay.pipelines.train import train

            code = train(config, folder)
            if code:
                return {**out, "status": INTERRUPTED}
            out["tables"] = score_run(RunFolder.open(folder), views)
        except KeyboardInterrupt:
            return {**out, "status": INTERRUPTED}
        except ManifestError as error:  # too few samples are left to train or choose on
            out |= {"status": IMPOSSIBLE, "reason": error.message}
        except AssayError as error:  # errors with hints do not survive pickling
            return {**out, "status": FAILED, "reason": str(error)}
    if not keep_checkpoints:
        (folder / "checkpoints" / "last.ckpt").unlink(missing_ok=True)
    out |= {"seconds": round(time.monotonic() - begin, 1), "finished_at": datetime.now(UTC).isoformat()}
    write_json(folder / FACTS, out)
    return out


def score_run(run: RunFolder, views: int) -> dict[str, str]:
    """Score the dev and test parts of a run with the weights chosen on dev; returns the tables' hashes."""
    from deepassay.scoring import score_manifest

    config = run.config
    modality: Modality = run.modality()
    manifest, store, predict = run.manifest(), run.store(modality), predictor(config, run.weights)
    out = {}
    for split in ("dev", "test"):
        table = score_manifest(
            manifest.split(split), modality, predict, views=views, store=store, progress=False,
            meta={"detector": str(config["detector"]["_target_"]), "config_fingerprint": run.fingerprint,
                  "code": code_identity()},
        )  # fmt: skip
        table.write(run.scores(split))
        out[split] = table.hash
    return out


def predictor(config: Mapping[str, Any], weights: Path | None) -> Any:
    """The detector of a training configuration as a function from views to logits."""
    from deepassay.models.weights import load_weights
    from deepassay.training.predictor import TorchPredictor

    detector = build(config["detector"])
    if weights is not None:
        load_weights(detector, weights)
    return TorchPredictor(detector)


def run_jobs(
    jobs: Sequence[tuple[str, Any, tuple[Any, ...]]], *, workers: int, threads: int, console: Console, title: str
) -> dict[str, dict[str, Any]]:
    """Run (name, function, arguments) in worker processes, telling each that ends and the time left.

    Raises:
        StudyInterrupted: Ctrl-C, here or in a worker; finished work is kept.
        AssayError: a job failed; the others are finished first.
    """
    if not jobs:
        return {}
    # Workers read these when they import torch and NumPy; two trainings with one thread each beat one with two.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    begin, out = time.monotonic(), {}
    failures: list[str] = []
    pool = ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"), initializer=die_with_parent)
    try:
        waiting = {pool.submit(function, *arguments): name for name, function, arguments in jobs}
        for done in as_completed(waiting):
            name = waiting[done]
            result = done.result()
            out[name] = result
            passed = time.monotonic() - begin
            left = passed / len(out) * (len(jobs) - len(out))
            word = "" if result["status"] == DONE else f"  [yellow]{result['status']}[/] {result['reason']}"
            console.print(
                f"  {title} {len(out)}/{len(jobs)}  {name}  {result.get('seconds', 0):.0f} s, "
                f"about {left / 60:.0f} min left{word}"
            )
            if result["status"] == INTERRUPTED:
                raise StudyInterrupted
            if result["status"] == FAILED:
                failures.append(f"{name}: {result['reason']}")
    except BrokenProcessPool as error:
        raise AssayError(
            f"{title}: a worker process died (out of memory, or killed)",
            hint="run the same command again with workers=1; finished trainings are kept",
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    if failures:
        raise AssayError(
            f"{len(failures)} of {len(jobs)} {title} failed, the first: {failures[0]}",
            hint="see log.txt in its folder; the same command goes on with what is missing",
        )
    return out


def table_of(folder: Path, split: str) -> ScoreTable:
    """The score table of a finished run."""
    return ScoreTable.read(RunFolder(folder).scores(split))
