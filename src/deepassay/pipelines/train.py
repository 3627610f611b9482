"""train: one detector from corpus to chosen weights, then (by config) export and evaluation."""

import inspect
import logging
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from deepassay.errors import ConfigError
from deepassay.files import slug, write_text
from deepassay.manifest import Manifest
from deepassay.modality.views import DEFAULT_VIEWS, Modality, view_count
from deepassay.pipelines.build import build, take
from deepassay.pipelines.folder import RunFolder
from deepassay.pipelines.gate import Gate
from deepassay.pipelines.prepare import ensure_finder, open_store, read_corpus, split_corpus
from deepassay.pipelines.terminal import terminal
from deepassay.processes import Place
from deepassay.store import Store

log = logging.getLogger(__name__)
KEYS = {
    "corpus", "modality", "split", "store", "augment", "detector", "loss", "optimizer", "trainer", "logger", "seed",
    "name", "views", "warm_start", "forge", "resume", "then", "operating_points", "replicates", "licence_use", "slices",
    "audit",
}  # fmt: skip
STEPS = ("export", "evaluate")


def train(config: Mapping[str, Any], folder: Path) -> int:
    """`deepassay train`: returns 0, or 130/143 where an interruption left a resumable run.

    Where torchrun or srun has started several processes, the first reads, prepares and audits; the others wait for it,
    learn with it, and leave export and evaluation to it.

    Raises:
        ConfigError: an unknown key or step, or a test set handed to training.
        AuditError: the corpus leaks its labels, and ``audit.allow`` does not say that this is known.
        LeakError, ManifestError: see `split_corpus`.
    """
    if "test" in config:
        raise ConfigError(
            "train was given a test set; checkpoints, thresholds and calibration must never see one (law 3)",
            hint="remove test=...; score it afterwards with `deepassay evaluate run=... corpus=...`",
        )
    settings = take(config, KEYS, verb="train")
    gate = Gate.from_config(settings.get("audit"))
    unknown = [step for step in settings["then"] if step not in STEPS]
    if unknown:
        raise ConfigError(f"then: there is no step {unknown[0]!r}", hint=f"use any of {list(STEPS)}")
    from deepassay.training.fit import fit

    accepted = set(inspect.signature(fit).parameters)
    strange = sorted(set(settings["trainer"]) - accepted)
    if strange:
        raise ConfigError(f"trainer: unknown key {strange[0]!r}", hint=f"it accepts {', '.join(sorted(accepted))}")
    console, place = terminal(), Place.here()
    if place.rank:
        return _follow(settings, folder, place)
    ensure_finder(settings["modality"])
    modality: Modality = build(settings["modality"])
    view_count(settings["views"]["score"], modality)  # what export will use: refused now where it makes no sense
    whole = read_corpus(settings["corpus"], modality)
    mark = "  [bold]SYNTHETIC DATA[/]" if whole.synthetic else ""
    console.print(f"[bold]corpus[/] {whole.name}, {len(whole)} samples{mark}")
    run = RunFolder.start(folder, config, resume=bool(settings["resume"]))
    store = open_store(settings["store"], whole, modality)
    forge = build(settings.get("forge"))
    manifest = split_corpus(settings["split"], whole, real_only=_forged_splits(forge, settings["trainer"]))
    run.keep_data(manifest, store)
    for name, cell in sorted(manifest.counts().items()):
        console.print(f"  {name:<8} real {cell['real']:>6}  fake {cell['fake']:>6}")
    for reason, n in dict(manifest.info.get("dropped") or {}).items():
        console.print(f"  left out {n:>6}  {reason}")
    gate.pass_on(manifest, run.path / "audit.json", console, modality=modality, store=store, again=False)
    if place.ranks > 1:
        write_text(_ready(folder, place), "what the other processes wait for\n")
    console.print(f"[bold]train[/]  {settings['detector'].get('_target_', '').rpartition('.')[2]}")
    result = fit(**_arguments(settings, run, manifest, store, modality))
    if result.interrupted:
        console.print(f"interrupted; the same command goes on from the last batch (run {run.path})")
        return result.exit_code
    console.print(f"  weights chosen on dev: epoch {(result.best_epoch or 0) + 1}  ({run.weights})")
    if "export" in settings["then"]:
        from deepassay.pipelines.export import export_run

        export_run(run, console=console)
    if "evaluate" in settings["then"]:
        from deepassay.pipelines.evaluate import evaluate_run

        evaluate_run(run, console=console)
    console.print(f"[bold]run[/]    {run.path}")
    return 0


def _arguments(
    settings: Mapping[str, Any], run: RunFolder, manifest: Manifest, store: Store, modality: Modality
) -> dict[str, Any]:
    """What `fit` is called with, the same in every process; picklable."""
    views = settings["views"]["score"]
    return {
        "detector": partial(build, settings["detector"]), "modality": modality, "train": manifest.split("train"),
        "dev": manifest.split("dev"), "store": store, "folder": run.path / "checkpoints",
        "loss": build(settings["loss"]), "optimizer": build(settings["optimizer"]),
        "augment": build(settings["augment"]), "forge": build(settings.get("forge")),
        "logger": build(settings["logger"]), "seed": int(settings["seed"]), "views": int(settings["views"]["train"]),
        "score_views": views if isinstance(views, int) else DEFAULT_VIEWS,  # to choose a checkpoint
        "warm_start": settings["warm_start"], "resume": bool(settings["resume"]), **settings["trainer"],
    }  # fmt: skip


def _ready(folder: Path, place: Place) -> Path:
    return folder / f".ready-{slug(place.job)}"


def _follow(settings: Mapping[str, Any], folder: Path, place: Place, *, every_s: float = 0.5) -> int:
    """Every process but the first: wait until the first has prepared the run, then learn with it."""
    from deepassay.training.fit import fit

    begin, told = time.monotonic(), False
    while not _ready(folder, place).is_file():  # if the first fails, its launcher ends the others
        time.sleep(every_s)
        if not told and time.monotonic() - begin > 600:
            told = True
            log.warning("process %d still waits for the first to prepare %s; name=... must be given, and the folder "
                        "be one that all machines share", place.rank, folder)  # fmt: skip
    run = RunFolder.open(folder)
    modality = run.modality()
    result = fit(**_arguments(settings, run, run.manifest(), run.store(modality), modality))
    return result.exit_code


def _forged_splits(forge: Any, trainer: Mapping[str, Any]) -> set[str]:
    """Splits whose fakes a forge makes, and which may therefore hold real samples alone."""
    if forge is None or not forge.names:
        return set()
    return ({"train"} if trainer.get("forge_share", 1.0) == 1 else set()) | (
        {"dev"} if trainer.get("dev_forge") else set()
    )
