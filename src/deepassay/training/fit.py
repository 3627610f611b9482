"""fit: train one detector, choose a checkpoint on dev, survive interruptions; there is no argument for test data."""

import json
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint, EMAWeightAveraging, RichProgressBar
from torch import nn

from deepassay.augment.forge import Forge
from deepassay.errors import AssayError, ConfigError
from deepassay.files import fingerprint, sha256_file, write_json
from deepassay.manifest import Manifest
from deepassay.modality.views import Modality
from deepassay.models.detector import Detector
from deepassay.models.losses import WeightedBCE
from deepassay.models.weights import load_weights, save_weights
from deepassay.store import Store
from deepassay.training.data import Augment, ViewsDataModule
from deepassay.training.loggers import CsvLog, NoLog, TensorBoardLog
from deepassay.training.optimizers import AdamW, Recipe, learning_rates
from deepassay.training.randomness import stable_seed
from deepassay.training.task import MONITORS, DetectionTask, better, wants_masks

LAST = "last.ckpt"
BEST = "best.safetensors"
BEST_FACTS = "best.json"
STATE = "state.json"
HISTORY = "history.json"
_PREFIX = "detector."
Log = CsvLog | TensorBoardLog | NoLog


class Interrupted(BaseException):
    """SIGTERM or Ctrl-C arrived during training; not an Exception, so that nothing swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Signal:
    """The signal that has arrived, if any."""

    def __init__(self) -> None:
        self.number: int | None = None

    def check(self) -> None:
        """Raise where Python had to swallow the exception that the handler raised (in a destructor, say)."""
        if self.number is not None:
            raise Interrupted(self.number)


@dataclass(frozen=True)
class FitResult:
    """What training left behind.

    Args:
        best_weights: safetensors file of the detector chosen on dev; None where no epoch was finished.
        best_epoch: counted from 0.
        history: one record per finished epoch: epoch, train_loss, dev_loss, dev_auc, dev_eer, lr, seconds.
        interrupted: a signal ended it; calling `fit` again with the same arguments goes on.
        exit_code: what a command should end with: 0, 130 after Ctrl-C, 143 after SIGTERM.
        left_out: samples without views, by split, status and label word.
    """

    best_weights: Path | None
    best_epoch: int | None
    history: list[dict[str, Any]]
    interrupted: bool = False
    exit_code: int = 0
    left_out: Mapping[str, Any] = field(default_factory=dict)


class _Keeper(Checkpoint):
    """Keeps the last state and the best weights at every epoch boundary, and stops when dev no longer gets better."""

    def __init__(
        self, folder: Path, *, monitor: str, patience: int | None, facts: Mapping[str, Any], show: bool
    ) -> None:
        super().__init__()
        self.folder, self.monitor, self.patience, self.facts, self.show = folder, monitor, patience, dict(facts), show
        self.history: list[dict[str, Any]] = []
        self.signal = _Signal()
        self.since = time.monotonic()

    @property
    def best(self) -> dict[str, Any] | None:
        best = None
        for record in self.history:
            if better(self.monitor, record, best):
                best = record
        return best

    @property
    def exhausted(self) -> bool:
        """Whether the last ``patience`` epochs brought nothing better."""
        best = self.best
        if best is None or self.patience is None:
            return False
        return self.history[-1]["epoch"] - best["epoch"] >= self.patience

    def state_dict(self) -> dict[str, Any]:
        return {"history": self.history}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = list(state_dict["history"])

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.signal.check()

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        self.signal.check()

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.since = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, DetectionTask)
        train_loss = float(trainer.callback_metrics["train_loss"])
        if not torch.isfinite(torch.tensor(train_loss)):
            raise AssayError(
                f"epoch {trainer.current_epoch}: the training loss is {train_loss}, training has diverged",
                hint="lower optimizer.lr, set trainer.gradient_clip, or use precision=32-true",
            )
        record = {
            "epoch": trainer.current_epoch, "train_loss": train_loss, **pl_module.dev_metrics,
            "lr": max(learning_rates(trainer.optimizers)), "seconds": round(time.monotonic() - self.since, 2),
        }  # fmt: skip
        is_best = better(self.monitor, record, self.best)
        self.history.append(record)
        last, fresh = self.folder / LAST, self.folder / f".{LAST}.part"
        trainer.save_checkpoint(fresh)
        if trainer.is_global_zero:
            # The best weights come before the state that knows of them: a kill in between replays the epoch and
            # rewrites them.
            if is_best:
                self._keep_best(fresh, record)
            os.replace(fresh, last)
            write_json(self.folder / HISTORY, self.history)
            if self.show:
                self._print(record, is_best, trainer)
        trainer.strategy.barrier()
        if self.exhausted:
            trainer.should_stop = True

    def _keep_best(self, checkpoint: Path, record: Mapping[str, Any]) -> None:
        # From the file and not from memory: with weight averaging the checkpoint holds the average, which is what
        # was scored.
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        weights = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
        facts = {**self.facts, "epoch": record["epoch"], "monitor": self.monitor}
        facts["dev"] = {name: record[name] for name in MONITORS}
        save_weights(weights, self.folder / BEST, facts)
        write_json(self.folder / BEST_FACTS, {**facts, "sha256": sha256_file(self.folder / BEST)})

    def _print(self, record: Mapping[str, Any], is_best: bool, trainer: Trainer) -> None:
        print(
            f"epoch {record['epoch'] + 1}/{trainer.max_epochs}  train_loss {record['train_loss']:.4f}  "
            f"dev_loss {record['dev_loss']:.4f}  dev_auc {record['dev_auc']:.4f}  {record['seconds']:.1f} s"
            f"{'  *' if is_best else ''}",
            file=sys.stderr,
            flush=True,
        )


@contextmanager
def _signals(arrived: _Signal) -> Iterator[None]:
    """Turn the first SIGTERM or Ctrl-C into `Interrupted`; a second one has its usual effect."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def stop(number: int, frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_DFL)
        arrived.number = number
        raise Interrupted(number)

    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's banners and hints kept out of the output; warnings that concern data and results stay."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for text in (
                ".*does not have many workers.*", ".*number of training batches.*", ".*Checkpoint directory.*exists.*",
                ".*Experiment logs directory.*", ".*GPU available but not used.*", ".*isinstance.treespec.*",
                ".*LeafSpec.*", ".*lr_scheduler.step.*before.*optimizer.step.*", ".*`log_dir` is None.*",
            ):  # fmt: skip
                warnings.filterwarnings("ignore", text)
            yield
    finally:
        logger.setLevel(level)


def _precision(name: str) -> Any:
    if name != "auto":
        return name
    if not torch.cuda.is_available():
        return "32-true"
    return "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"


def _described(value: Any) -> Any:
    """A JSON description of a config-built object, to tell whether two calls mean the same run."""
    if value is None:
        return None
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if is_dataclass(value) and not isinstance(value, type):
        return [name, asdict(value)]
    if isinstance(value, nn.Module):
        return [name, {k: list(v.shape) for k, v in value.state_dict().items()}]
    return [name, repr(sorted((k, repr(v)) for k, v in vars(value).items() if not callable(v)))]


def find_weights(source: str | Path) -> Path:
    """The safetensors file meant by a path: the file itself, a training folder, or a run folder with ``checkpoints/``.

    Raises:
        ConfigError: there is none.
    """
    path = Path(source)
    for candidate in (path, path / BEST, path / "checkpoints" / BEST):
        if candidate.is_file():
            return candidate
    raise ConfigError(f"{path}: no weights there", hint=f"give a .safetensors file, or a run folder with {BEST}")


def fit(
    *, detector: Detector | Callable[[], Detector], modality: Modality, train: Manifest, dev: Manifest, store: Store,
    folder: str | Path, loss: nn.Module | None = None, optimizer: Recipe | None = None, augment: Augment | None = None,
    logger: Log | None = None, max_epochs: int = 10, batch_size: int = 32, views: int = 1, score_views: int = 8,
    balance: str = "label", epoch_samples: int | None = None, patience: int | None = None, monitor: str = "dev_loss",
    precision: str = "auto", gradient_clip: float | None = 1.0, accumulate: int = 1, ema: float | None = None,
    num_workers: int = 0, accelerator: str = "auto", devices: int | str = 1, warm_start: str | Path | None = None,
    seed: int = 0, resume: bool = True, progress: bool = True, forge: Forge | None = None, forge_share: float = 1.0,
    dev_forge: bool = False, min_fake_s: float | None = None,
) -> FitResult:  # fmt: skip
    """Train a detector and choose its weights on dev.

    On the CPU the same arguments give the same weights, whatever ``num_workers`` is, and a run that was killed and
    called again gives the weights of an uninterrupted one (replayed from its last epoch boundary).

    Args:
        detector: one, or better a function that builds one: it is then called after seeding, so that fresh weights
            are a function of ``seed``.
        train, dev: disjoint manifests; see `data.check_splits`. store: prepared views of both.
        folder: of this training: last.ckpt (to resume), best.safetensors, best.json, history.json, state.json, logs/.
        loss: called with (DetectorOutput, labels); WeightedBCE by default. optimizer: AdamW by default.
        augment: changes training views. logger: CsvLog by default.
        views: random views per drawn sample; a batch has ``batch_size * views``. score_views: even views per dev
            sample.
        balance, epoch_samples: see `data.EpochOrder`.
        patience: epochs without a better ``monitor`` before stopping; None never stops early.
        monitor: "dev_loss" (balanced cross-entropy of pooled scores), "dev_auc" or "dev_eer"; of equals the first is
            kept.
        precision: "auto" (mixed only where there is a GPU) or any of Lightning's.
        gradient_clip: largest gradient norm, None for none. accumulate: batches per optimiser step.
        ema: decay of an exponential moving average of the weights (0.999, say), which is then what is scored and kept.
        num_workers: loader processes. accelerator, devices: as Lightning's Trainer.
        warm_start: a .safetensors file or a run folder, whose weights must fit the detector exactly.
        resume: go on with an unfinished training in ``folder``; False refuses to touch one.
        progress: a bar on a terminal, and one line per epoch.
        forge: makes fakes of the real training samples; None, or one without names, for none.
        forge_share: share of the fake half of every batch that is forged. At 1, given fakes of train are not used, and
            train may hold none.
        dev_forge: choose on fakes forged of the real dev samples, the same in every epoch, instead of on the given
            fakes of dev, which may then be absent.
        min_fake_s: least fake seconds in a fake view, where the corpus has segments; see `data.ViewsDataModule`.

    Returns:
        also after SIGTERM and Ctrl-C, with ``interrupted``; end the process with its ``exit_code``.

    Raises:
        LeakError, ManifestError: see `data.ViewsDataModule`.
        ConfigError: an argument out of range; a folder with another training; weights that do not fit.
        AssayError: training diverged.
    """
    if monitor not in MONITORS:
        raise ConfigError(f"monitor is {monitor!r}", hint=f"use one of {list(MONITORS)}")
    if max_epochs < 1 or accumulate < 1 or (patience is not None and patience < 1):
        raise ConfigError(
            f"max_epochs {max_epochs}, accumulate {accumulate}, patience {patience}", hint="each is at least 1"
        )
    if ema is not None and not 0 < ema < 1:
        raise ConfigError(f"ema is {ema}", hint="give a decay such as 0.999, or null")
    folder = Path(folder)
    forge = forge if forge is not None and forge.names else None
    loss = loss if loss is not None else WeightedBCE()
    masks = wants_masks(loss)
    data = ViewsDataModule(
        train=train, dev=dev, store=store, modality=modality, augment=augment, views=views, score_views=score_views,
        batch_size=batch_size, balance=balance, epoch_samples=epoch_samples, num_workers=num_workers, seed=seed,
        forge=forge, forge_share=forge_share, dev_forge=dev_forge, masks=masks, min_fake_s=min_fake_s,
    )  # fmt: skip
    torch.manual_seed(stable_seed("weights", seed))
    network = detector if isinstance(detector, Detector) else detector()
    if network.modality != modality.name:
        raise ConfigError(
            f"{type(network).__name__} takes {network.modality} views, the modality is {modality.name}",
            hint="choose a detector config of the same modality",
        )
    start = find_weights(warm_start) if warm_start else None
    if start is not None:
        load_weights(network, start)
    if network.modality == "face":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    recipe = optimizer if optimizer is not None else AdamW()
    facts = {
        "detector": f"{type(network).__module__}.{type(network).__qualname__}", "modality": modality.name,
        "modality_fingerprint": modality.fingerprint, "train_manifest_sha256": train.hash,
        "dev_manifest_sha256": dev.hash, "synthetic": train.synthetic or dev.synthetic, "seed": seed,
        "warm_start_sha256": sha256_file(start) if start else None, "store_lossless": store.lossless,
    }  # fmt: skip
    if forge is not None:
        facts["forge"] = {"names": list(forge.names), "share": forge_share, "chosen_on_forged": dev_forge}
    mark = fingerprint(
        {
            **facts, "network": _described(network), "loss": _described(loss), "optimizer": _described(recipe),
            "augment": _described(augment), "max_epochs": max_epochs, "batch_size": batch_size, "views": views,
            "score_views": score_views, "balance": balance, "epoch_samples": epoch_samples,
            "patience": patience, "monitor": monitor, "precision": precision, "gradient_clip": gradient_clip,
            "accumulate": accumulate, "ema": ema, **({} if forge is None else {"forge": _described(forge)}),
        }
    )  # fmt: skip
    state = _open_folder(folder, mark, resume)
    keeper = _Keeper(folder, monitor=monitor, patience=patience, facts=facts, show=progress)
    last = folder / LAST
    if last.is_file():
        saved = torch.load(last, map_location="cpu", weights_only=True)
        keeper.load_state_dict(saved["callbacks"][keeper.state_key])
    if state == "finished" or len(keeper.history) >= max_epochs or keeper.exhausted:
        return _finish(folder, mark, keeper, data, None)
    write_json(folder / STATE, {"status": "running", "fingerprint": mark})
    steps = -(-data.steps_per_epoch // accumulate) * max_epochs
    task = DetectionTask(
        detector=network, loss=loss, recipe=recipe, modality=modality, dev_labels=data.dev_labels, total_steps=steps,
        seed=seed,
    )  # fmt: skip
    callbacks: list[Callback] = [keeper]
    if ema is not None:
        callbacks.insert(0, EMAWeightAveraging(decay=ema))
    bar = progress and sys.stderr.isatty()
    if bar:
        callbacks.append(RichProgressBar(leave=False))
    log = logger if logger is not None else CsvLog()
    interruption: Interrupted | None = None
    with _quiet(), _signals(keeper.signal):
        try:
            trainer = Trainer(
                accelerator=accelerator, devices=devices, precision=_precision(precision), max_epochs=max_epochs,
                accumulate_grad_batches=accumulate, gradient_clip_val=gradient_clip, callbacks=callbacks,
                logger=log.build(folder, len(keeper.history)) or False, log_every_n_steps=log.every_n_steps,
                enable_progress_bar=bar, enable_model_summary=False, num_sanity_val_steps=0,
                use_distributed_sampler=False, default_root_dir=folder,
            )  # fmt: skip
            trainer.fit(task, datamodule=data, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
        except Interrupted as signalled:
            interruption = signalled
        except Exception:
            # A scheduler signals loader processes as well; their death must not hide why everything ends.
            if keeper.signal.number is None:
                raise
            interruption = Interrupted(keeper.signal.number)
    return _finish(folder, mark, keeper, data, interruption)


def _open_folder(folder: Path, mark: str, resume: bool) -> str:
    """Status of what is in the folder; refuses another training, and any if not resuming."""
    if not (folder / STATE).is_file():
        if (folder / LAST).exists() or (folder / BEST).exists():
            raise ConfigError(f"{folder} holds checkpoints of unknown origin", hint="give another folder")
        folder.mkdir(parents=True, exist_ok=True)
        return "new"
    state = json.loads((folder / STATE).read_text(encoding="utf-8"))
    if not resume:
        raise ConfigError(f"{folder} holds a training ({state['status']})", hint="resume it, or give another folder")
    if state["fingerprint"] != mark:
        raise ConfigError(
            f"{folder} holds a training with other settings or data",
            hint="give another folder (its weights can be a warm start), or repeat the settings that it was begun with",
        )
    return state["status"]


def _finish(
    folder: Path, mark: str, keeper: _Keeper, data: ViewsDataModule, interruption: Interrupted | None
) -> FitResult:
    status = "finished" if interruption is None else "interrupted"
    # A signal between the weights' file and the checkpoint leaves an epoch that only the file knows of: it will be
    # replayed.
    history = keeper.history
    if interruption is not None and (folder / HISTORY).is_file():
        history = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
    elif interruption is not None:
        history = []
    write_json(folder / STATE, {"status": status, "fingerprint": mark, "epochs": len(history)})
    best = None
    for record in history:
        if better(keeper.monitor, record, best):
            best = record
    return FitResult(
        best_weights=folder / BEST if best is not None else None,
        best_epoch=None if best is None else best["epoch"],
        history=history,
        interrupted=interruption is not None,
        exit_code=0 if interruption is None else 128 + interruption.number,
        left_out=data.left_out,
    )
