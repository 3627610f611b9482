"""fit: train one detector, choose a checkpoint on dev, survive interruptions; there is no argument for test data."""

import errno
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
from deepassay.files import check_space, fingerprint, sha256_file, write_json
from deepassay.manifest import Manifest
from deepassay.modality.views import Modality
from deepassay.models.detector import Detector
from deepassay.models.losses import WeightedBCE
from deepassay.models.weights import load_weights, save_weights
from deepassay.processes import Place
from deepassay.store import Store
from deepassay.training.data import Augment, ViewsDataModule
from deepassay.training.launch import PeerLostError, local_processes, run_ranks
from deepassay.training.loggers import CsvLog, MlflowLog, NoLog, TensorBoardLog, WandbLog
from deepassay.training.optimizers import AdamW, Recipe, learning_rates
from deepassay.training.randomness import stable_seed
from deepassay.training.task import MONITORS, DetectionTask, better, wants_masks

LAST = "last.ckpt"
BEST = "best.safetensors"
BEST_FACTS = "best.json"
STATE = "state.json"
HISTORY = "history.json"
_PREFIX = "detector."
Log = CsvLog | TensorBoardLog | MlflowLog | WandbLog | NoLog
# Ranks ask one another at every so many optimiser steps whether to save or to stop: each time costs a round trip.
_AGREE = 10
_SAVE, _STOP = 1, 2


class Interrupted(BaseException):
    """SIGTERM or Ctrl-C arrived during training; not an Exception, so that nothing swallows it."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class _Signal:
    """The signal that has arrived, if any; it is acted on between batches, when the state is whole."""

    def __init__(self) -> None:
        self.number: int | None = None
        self.listen: Callable[[], None] = lambda: None


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
    """Keeps the last state and the best weights at every epoch boundary, and the state alone in between.

    It stops when dev no longer gets better, and at the first batch after a signal.
    """

    def __init__(
        self, folder: Path, *, monitor: str, patience: int | None, facts: Mapping[str, Any], show: bool,
        save_minutes: float | None, save_steps: int | None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.folder, self.monitor, self.patience, self.facts, self.show = folder, monitor, patience, dict(facts), show
        self.save_minutes, self.save_steps = save_minutes, save_steps
        self.history: list[dict[str, Any]] = []
        self.signal = _Signal()
        self.since = self.saved = time.monotonic()
        self.loss_sums: list[float] | None = None

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
        return {"history": self.history, "loss_sums": self.loss_sums}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history = list(state_dict["history"])
        self.loss_sums = state_dict.get("loss_sums")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, DetectionTask)
        self.signal.listen()  # again: Lightning has put its own in front, which ends at any batch and saves nothing
        if self.loss_sums is not None and trainer.is_global_zero:
            pl_module.loss_sums = torch.tensor(self.loss_sums, dtype=torch.float64)
        self.loss_sums = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done, every = batch_idx + 1, trainer.accumulate_grad_batches
        # The state after the last batch is kept once dev has been scored; in between only whole steps can be resumed.
        if done >= trainer.num_training_batches or done % every:
            return
        wanted = _STOP if self.signal.number is not None else _SAVE if self._due(done // every) else 0
        if trainer.world_size > 1:
            if (done // every) % _AGREE:
                return
            said = torch.tensor(wanted, device=trainer.strategy.root_device)
            wanted = int(trainer.strategy.reduce(said, reduce_op="max"))
        if wanted:
            self._keep_state(trainer, pl_module)
        if wanted == _STOP:
            raise Interrupted(self.signal.number or signal.SIGTERM)

    def on_validation_batch_end(self, *_: Any, **__: Any) -> None:
        if self.signal.number is not None:
            raise Interrupted(self.signal.number)

    def _due(self, step: int) -> bool:
        if self.save_steps is not None:
            # Ranks ask one another at their own pace; between two questions a due step must not be forgotten.
            return step % self.save_steps < (_AGREE if self.save_steps >= _AGREE else 1) and step >= self.save_steps
        return self.save_minutes is not None and time.monotonic() - self.saved >= 60 * self.save_minutes

    def _keep_state(self, trainer: Trainer, task: LightningModule) -> None:
        """Write last.ckpt within an epoch."""
        assert isinstance(task, DetectionTask)
        total = trainer.strategy.reduce(task.loss_sums.to(trainer.strategy.root_device), reduce_op="sum")
        assert isinstance(total, torch.Tensor)
        self.loss_sums = [float(v) for v in total.cpu()]
        fresh = self._write(trainer)
        self.loss_sums = None
        if trainer.is_global_zero:
            os.replace(fresh, self.folder / LAST)
        trainer.strategy.barrier()

    def _write(self, trainer: Trainer) -> Path:
        """The whole state in a part file, on the disk."""
        fresh = self.folder / f".{LAST}.part"
        try:
            trainer.save_checkpoint(fresh)
            if trainer.is_global_zero:
                with open(fresh, "rb") as stream:
                    os.fsync(stream.fileno())
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        self.saved = time.monotonic()
        return fresh

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.since = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, DetectionTask)
        record = {
            "epoch": trainer.current_epoch, "train_loss": pl_module.train_loss, **pl_module.dev_metrics,
            "lr": max(learning_rates(trainer.optimizers)), "seconds": round(time.monotonic() - self.since, 2),
        }  # fmt: skip
        is_best = better(self.monitor, record, self.best)
        self.history.append(record)
        last, fresh = self.folder / LAST, self._write(trainer)
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
    """Note the first SIGTERM or Ctrl-C, to be acted on between batches; one after two seconds has its usual effect.

    A cluster launcher's own signals (submitit's SIGUSR2 before preemption) are noted as well, and handed on to it once
    the state is saved: it then requeues the job.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [signal.SIGTERM, signal.SIGINT]
    numbers += [n for n in (getattr(signal, name, None) for name in ("SIGUSR1", "SIGUSR2")) if n is not None]
    before = {number: signal.getsignal(number) for number in numbers}
    theirs = {n for n in numbers[2:] if callable(before[n])}
    since = 0.0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal since
        # Schedulers and terminals signal the whole group, launchers hand on what they get: the same signal twice.
        if arrived.number is None:
            arrived.number, since = number, time.monotonic()
        elif time.monotonic() - since > 2:
            for each in (signal.SIGTERM, signal.SIGINT):
                signal.signal(each, signal.SIG_DFL)
            signal.raise_signal(number if number not in theirs else signal.SIGTERM)

    numbers = [n for n in numbers if n in theirs or n in numbers[:2]]

    # Torch notices the death of a loader process by SIGCHLD and sets that up once; Lightning, which puts all signals
    # back at its end, would undo it, and a second training in this process would wait for its dead in vain.
    child = getattr(signal, "SIGCHLD", None)
    deaths: list[Any] = []

    def listen() -> None:
        for number in numbers:
            signal.signal(number, stop)
        if child is not None and callable(signal.getsignal(child)):
            deaths[:] = [signal.getsignal(child)]

    arrived.listen = listen
    listen()
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])
        for handler in deaths:
            signal.signal(child, handler)  # type: ignore[arg-type]


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's banners and hints kept out of the output; warnings that concern data and results stay."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for text in (
                ".*does not have many workers.*", ".*number of training batches.*", ".*Checkpoint directory.*exists.*",
                ".*Experiment logs directory.*", ".*GPU available but not used.*", ".*isinstance.treespec.*",
                ".*LeafSpec.*", ".*lr_scheduler.step.*before.*optimizer.step.*", ".*`log_dir` is None.*",
                ".*sync_dist=True.*", ".*all_gather. is deprecated.*",
                ".*all_gather is deprecated.*", ".*your dataloader is not resumable.*",
            ):  # fmt: skip
                warnings.filterwarnings("ignore", text)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
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
    dev_forge: bool = False, min_fake_s: float | None = None, num_nodes: int = 1, strategy: str = "auto",
    sync_batchnorm: bool = False, channels_last: bool | None = None, compile: bool | str = False,
    save_minutes: float | None = 10.0, save_steps: int | None = None, loader_timeout_s: float = 600.0,
) -> FitResult:  # fmt: skip
    """Train a detector and choose its weights on dev.

    On the CPU the same arguments give the same weights, whatever ``num_workers`` is, and a run that was killed and
    called again gives the weights of an uninterrupted one (it goes on from its last saved state, in mid-epoch too).

    Several processes (``devices``, ``num_nodes``) share every batch, and the loss is the mean over the whole batch: for
    a network whose views do not see one another (group or layer norm), the weights are those of one process up to the
    order of sums. Batch norm takes each process's own views for its statistics, as if the batch were smaller
    (``sync_batchnorm`` on GPUs takes all of them); dropout draws other masks on each rank.

    Args:
        detector: one, or better a function that builds one: it is then called after seeding, so that fresh weights
            are a function of ``seed``.
        train, dev: disjoint manifests; see `data.check_splits`. store: prepared views of both.
        folder: of this training: last.ckpt (to resume), best.safetensors, best.json, history.json, state.json, logs/.
        loss: called with (DetectorOutput, labels); WeightedBCE by default. optimizer: AdamW by default.
        augment: changes training views. logger: CsvLog by default.
        views: random views per drawn sample; a batch has ``batch_size * views``. score_views: even views per dev
            sample.
        balance, epoch_samples: see `order.EpochOrder`.
        patience: epochs without a better ``monitor`` before stopping; None never stops early.
        monitor: "dev_loss" (balanced cross-entropy of pooled scores), "dev_auc" or "dev_eer"; of equals the first is
            kept.
        precision: "auto" (mixed only where there is a GPU) or any of Lightning's.
        gradient_clip: largest gradient norm, None for none. accumulate: batches per optimiser step.
        ema: decay of an exponential moving average of the weights (0.999, say), which is then what is scored and kept.
        batch_size: samples per batch, over all processes together.
        num_workers: loader processes of each process. loader_timeout_s: for one batch; a loader that hangs is an error.
        accelerator, devices, num_nodes, strategy, sync_batchnorm: as Lightning's Trainer. With several devices the
            processes are started here (arguments must then be picklable), unless torchrun or srun has started them;
            several nodes need one of these.
        channels_last: memory format of kernels; None: for faces. compile: ``torch.compile``, True or one of its modes.
        save_minutes: between states saved within an epoch, None for none. save_steps: optimiser steps instead.
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
        AssayError: training diverged; memory or the disk is full; a loader process or another rank died or hangs; a
            file of the store is gone or damaged. What was saved before stays, and the same call goes on from there.
    """
    arguments = dict(locals())
    place, processes = Place.here(), local_processes(accelerator, devices)
    if place.ranks > 1 and place.ranks != processes * num_nodes:
        raise ConfigError(
            f"{place.ranks} processes were started, and trainer.devices x trainer.num_nodes is {processes * num_nodes}",
            hint="start devices x num_nodes processes (torchrun --nproc-per-node, sbatch --ntasks-per-node)",
        )
    if place.ranks == 1 and num_nodes > 1:
        raise ConfigError(
            f"num_nodes is {num_nodes}, and nothing has started processes on other machines",
            hint="use hydra/launcher=submitit_slurm, srun or torchrun; see docs/scale.md",
        )
    if place.ranks == 1 and processes > 1:
        return run_ranks(fit, arguments, processes)
    if save_steps is not None and save_steps < 1:
        raise ConfigError(f"save_steps is {save_steps}", hint="at least 1, or null")
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
        loader_timeout_s=loader_timeout_s,
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
    if network.modality == "face" if channels_last is None else channels_last:
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
            **({"sync_batchnorm": True} if sync_batchnorm else {}),
        }
    )  # fmt: skip
    state = _open_folder(folder, mark, resume) if place.rank == 0 else _status(folder)
    keeper = _Keeper(
        folder, monitor=monitor, patience=patience, facts=facts, show=progress, save_minutes=save_minutes,
        save_steps=save_steps,
    )  # fmt: skip
    last = folder / LAST
    if last.is_file():
        keeper.load_state_dict(_read_state(last)["callbacks"][keeper.state_key])
    if state == "finished" or len(keeper.history) >= max_epochs or keeper.exhausted:
        return _finish(folder, mark, keeper, data, None, place)
    if place.rank == 0:
        size = sum(v.numel() * v.element_size() for v in network.state_dict().values())
        check_space(folder, size * (3 + (2 if ema else 0)) * 2 + size, what="checkpoints (last, next and best)")
        write_json(folder / STATE, {"status": "running", "fingerprint": mark})
    if compile:
        network.compile(**({} if compile is True else {"mode": compile}))
    steps = -(-data.steps_per_epoch // accumulate) * max_epochs
    task = DetectionTask(
        detector=network, loss=loss, recipe=recipe, modality=modality, dev_labels=data.dev_labels, total_steps=steps,
        seed=seed,
    )  # fmt: skip
    callbacks: list[Callback] = [keeper]
    if ema is not None:
        callbacks.insert(0, EMAWeightAveraging(decay=ema))
    bar = progress and sys.stderr.isatty() and place.rank == 0
    if place.ranks > 1 and strategy == "auto":
        strategy = "ddp"
    if bar:
        callbacks.append(RichProgressBar(leave=False))
    log = logger if logger is not None else CsvLog()
    interruption: Interrupted | None = None
    with _quiet(), _signals(keeper.signal):
        try:
            trainer = Trainer(
                accelerator=accelerator, devices=devices, num_nodes=num_nodes, strategy=strategy,
                sync_batchnorm=sync_batchnorm, plugins=_environment(place), precision=_precision(precision),
                max_epochs=max_epochs,
                accumulate_grad_batches=accumulate, gradient_clip_val=gradient_clip, callbacks=callbacks,
                logger=log.build(folder, len(keeper.history)) or False, log_every_n_steps=log.every_n_steps,
                enable_progress_bar=bar, enable_model_summary=False, num_sanity_val_steps=0,
                use_distributed_sampler=False, default_root_dir=folder,
            )  # fmt: skip
            trainer.fit(task, datamodule=data, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
        except Interrupted as signalled:
            interruption = signalled
        except Exception as error:
            # A scheduler signals loader processes and other ranks as well; their death must not hide why all ends.
            if keeper.signal.number is None:
                told = _explained(error, batch_size, num_workers)
                if place.rank == 0:
                    _note_failure(folder, mark, str(told or error))
                if told is None:
                    raise
                raise told from error
            interruption = Interrupted(keeper.signal.number)
    result = _finish(folder, mark, keeper, data, interruption, place)
    if interruption is not None and interruption.number not in (signal.SIGTERM, signal.SIGINT):
        signal.raise_signal(interruption.number)  # the launcher's: it requeues and ends this process
    return result


def _note_failure(folder: Path, mark: str, reason: str) -> None:
    try:
        write_json(folder / STATE, {"status": "failed", "fingerprint": mark, "reason": reason})
    except (OSError, AssayError) as error:  # a full disk, say: the failure itself is what has to be told
        logging.getLogger(__name__).warning("%s could not be written: %s", folder / STATE, error)


def _environment(place: Place) -> list[Any]:
    """Lightning's place among several processes; nothing where there is one. Requeueing is the launcher's business."""
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

    slurm = place.ranks > 1 and "SLURM_PROCID" in os.environ and "TORCHELASTIC_RUN_ID" not in os.environ
    return [SLURMEnvironment(auto_requeue=False)] if slurm else []


def _read_state(path: Path) -> dict[str, Any]:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise AssayError(
            f"{path}: not a readable state of training ({type(error).__name__}), damaged or not ours",
            hint=f"delete it to begin this training anew, or restore it; {BEST} beside it is not affected",
        ) from error


def _explained(error: BaseException, batch_size: int, num_workers: int) -> AssayError | None:
    """What a user can do about an error of torch's or the system's; None where nobody knows."""
    again = "the same command then goes on from the last saved state"
    text = str(error)
    if isinstance(error, AssayError):
        return error
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in text:
        return AssayError(
            f"out of memory with batch_size {batch_size} ({text.splitlines()[0][:200] if text else 'MemoryError'})",
            hint=f"halve trainer.batch_size and double trainer.accumulate under another name=..., use "
            f"trainer.precision=bf16-mixed, or free the memory that other programs hold; {again}",
        )
    if "Expected more than 1 value per channel" in text:
        return AssayError(
            "batch norm was given a single view, which has no variance",
            hint="raise trainer.batch_size: at least two samples for each process",
        )
    if "DataLoader timed out" in text:
        return AssayError(
            f"a loader process has given nothing for too long ({text.splitlines()[0][:200]})",
            hint=f"look at the store's disk; raise trainer.loader_timeout_s, or use trainer.num_workers=0; {again}",
        )
    if "DataLoader worker" in text:
        return AssayError(
            f"one of {num_workers} loader processes died ({text.splitlines()[0][:200]})",
            hint=f"for lack of memory, most often: lower trainer.num_workers; {again}",
        )
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or "PytorchStreamWriter failed" in text or "file write failed" in text:
        return AssayError("no space left on the disk for a checkpoint", hint=f"free some space; {again}")
    if isinstance(error, FileNotFoundError):
        return AssayError(f"a file is gone: {error.filename}", hint=f"restore it or prepare again; {again}")
    if any(word in text for word in ("Connection closed by peer", "Connection reset", "NCCL", "Gloo", "gloo")):
        return PeerLostError(
            f"another process of this training is gone ({text.splitlines()[0][:200]})",
            hint=f"look for the first error among the processes' outputs; {again}",
        )
    return None


def _status(folder: Path) -> str:
    path = folder / STATE
    return json.loads(path.read_text(encoding="utf-8"))["status"] if path.is_file() else "new"


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
    folder: Path, mark: str, keeper: _Keeper, data: ViewsDataModule, interruption: Interrupted | None, place: Place
) -> FitResult:
    status = "finished" if interruption is None else "interrupted"
    # A signal between the weights' file and the checkpoint leaves an epoch that only the file knows of: it will be
    # replayed.
    history = keeper.history
    if interruption is not None and (folder / HISTORY).is_file():
        history = json.loads((folder / HISTORY).read_text(encoding="utf-8"))
    elif interruption is not None:
        history = []
    if place.rank == 0:
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
