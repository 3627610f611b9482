"""DetectionTask: the one training task of both modalities; choosing happens on pooled dev scores."""

import inspect
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from deepassay.errors import AssayError
from deepassay.labels import FAKE, REAL
from deepassay.metrics.ranking import auc, eer
from deepassay.modality.views import Modality
from deepassay.models.detector import Detector
from deepassay.training.data import DevBatch, TrainBatch
from deepassay.training.optimizers import Recipe
from deepassay.training.randomness import stable_seed

_DIVERGED = (
    "nothing of it was kept: lower optimizer.lr, set trainer.gradient_clip=1, or use trainer.precision=32-true, "
    "under another name=... (the same command goes back to the last good state and would diverge again)"
)
MONITORS = {"dev_loss": -1.0, "dev_auc": 1.0, "dev_eer": -1.0}


def balanced_loss(labels: np.ndarray, scores: np.ndarray) -> float:
    """Cross-entropy of pooled scores read as logits, the mean of both classes' means (nats)."""
    signed = np.where(labels == FAKE, -scores, scores)
    loss = np.logaddexp(0, signed)
    return float(0.5 * (loss[labels == REAL].mean() + loss[labels == FAKE].mean()))


def wants_masks(loss: nn.Module) -> bool:
    """Whether a loss takes blending masks: its ``forward`` has a parameter ``mask``."""
    return "mask" in inspect.signature(loss.forward).parameters


class DetectionTask(LightningModule):
    """Steps, dev scores and optimiser of a detector.

    Args:
        detector: learns. loss: called with its output and labels (n,), and, where it takes ``mask``, with the batch's
            masks (n, h, w) in [0, 1]: 0 for real views, NaN where unknown, or None.
        recipe: optimiser and schedule.
        modality: pools dev views. dev_labels: (n,) of the dev samples, by position.
        total_steps: optimiser steps of the whole run, for the schedule.
        seed: of dropout and stochastic depth, re-seeded before every step.
    """

    def __init__(
        self, *, detector: Detector, loss: nn.Module, recipe: Recipe, modality: Modality, dev_labels: np.ndarray,
        total_steps: int, seed: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.detector = detector
        self.loss = loss
        self.masked = wants_masks(loss)
        self.recipe = recipe
        self.modality = modality
        self.dev_labels = dev_labels
        self.total_steps = total_steps
        self.seed = seed
        self.dev_scores = np.full(len(dev_labels), np.nan)
        self.dev_metrics: dict[str, float] = {}
        self.train_loss = float("nan")
        # Loss times views, and views, of the epoch so far on this rank; kept in checkpoints, for resuming within one.
        self.loss_sums = torch.zeros(2, dtype=torch.float64)

    def on_train_epoch_start(self) -> None:
        """Begin to count the loss anew."""
        self.loss_sums = torch.zeros(2, dtype=torch.float64)

    def on_train_batch_start(self, batch: TrainBatch, batch_idx: int) -> None:
        """Seed what the step draws (dropout), so that a resumed run draws the same."""
        torch.manual_seed(stable_seed("step", self.seed, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Loss of a batch. Raises RuntimeError where the loader is in another epoch than the trainer (exact resume)."""
        if batch.epoch != self.current_epoch:
            raise RuntimeError(f"the loader is in epoch {batch.epoch}, training in epoch {self.current_epoch}")
        views = batch.views.to(self.dtype) if batch.views.is_floating_point() else batch.views
        output = self.detector(views)
        if self.masked:
            loss = self.loss(output, batch.label, mask=batch.mask)
        else:
            loss = self.loss(output, batch.label)
        n = 0 if batch.void else len(batch.label)
        self._count(loss, n)
        # Every batch on the CPU; a GPU would have to be waited for, so there the sums of many are looked at.
        if (self.device.type == "cpu" or (batch_idx + 1) % 50 == 0) and not torch.isfinite(self.loss_sums[0]):
            raise AssayError(
                f"epoch {self.current_epoch}, batch {batch_idx}: the training loss is {float(loss.detach())}, "
                "training has diverged",
                hint=_DIVERGED,
            )
        self.log("loss", loss.detach(), on_step=True, on_epoch=False, batch_size=max(1, n), prog_bar=True)
        return loss if self.trainer.world_size == 1 else loss * self._share(batch, n)

    def _count(self, loss: Tensor, n: int) -> None:
        kind = torch.float32 if loss.device.type == "mps" else torch.float64
        if self.loss_sums.device != loss.device:
            self.loss_sums = self.loss_sums.to(loss.device, kind)
        if n:
            self.loss_sums += torch.stack(
                [loss.detach().to(kind) * n, torch.full((), n, dtype=kind, device=loss.device)]
            )

    def _share(self, batch: TrainBatch, n: int) -> Tensor:
        """What this rank's mean counts in the batch's, times ranks: gradients are averaged over the ranks next."""
        import torch.distributed

        if not n:
            mine = torch.zeros((), dtype=torch.float64, device=self.device)
        elif hasattr(self.loss, "weight_sum"):
            mine = self.loss.weight_sum(batch.label)  # type: ignore[operator]
        else:
            mine = torch.tensor(float(n), dtype=torch.float64, device=self.device)
        whole = mine.clone()
        torch.distributed.all_reduce(whole)
        return (mine * self.trainer.world_size / whole).to(self.dtype)

    def on_train_epoch_end(self) -> None:
        """The epoch's mean training loss over all ranks.

        Raises:
            AssayError: it is not finite: training has diverged.
        """
        total = self.trainer.strategy.reduce(self.loss_sums.to(self.device), reduce_op="sum")
        assert isinstance(total, Tensor)
        self.train_loss = float(total[0] / total[1])
        if not np.isfinite(self.train_loss):
            raise AssayError(
                f"epoch {self.current_epoch}: the training loss is {self.train_loss}, training has diverged",
                hint=_DIVERGED,
            )
        self.log("train_loss", self.train_loss, rank_zero_only=True)

    def on_validation_epoch_start(self) -> None:
        """Forget the scores of the epoch before."""
        self.dev_scores = np.full(len(self.dev_labels), np.nan)

    def validation_step(self, batch: DevBatch, batch_idx: int) -> None:
        """Score and pool whole samples."""
        views = batch.views.to(self.dtype) if batch.views.is_floating_point() else batch.views
        logits = self.detector(views).logit.float().cpu().numpy()
        ends = np.cumsum([n for _, n, _ in batch.members])
        for (position, n, views), end in zip(batch.members, ends, strict=True):
            self.dev_scores[position] = self.modality.pool(logits[end - n : end], views)

    def on_validation_epoch_end(self) -> None:
        """Dev metrics on pooled scores; samples without views are the same in every epoch and take no part in choosing.

        Raises:
            AssayError: a score is not finite: training has diverged.
        """
        self.dev_scores = self._gathered(self.dev_scores)
        if not np.isfinite(self.dev_scores).all():
            raise AssayError(
                f"epoch {self.current_epoch}: the detector's dev scores are not finite, training has diverged",
                hint=_DIVERGED,
            )
        self.dev_metrics = {
            "dev_loss": balanced_loss(self.dev_labels, self.dev_scores),
            "dev_auc": float(auc(self.dev_labels, self.dev_scores)),
            "dev_eer": float(eer(self.dev_labels, self.dev_scores)),
        }
        self.log_dict(self.dev_metrics, prog_bar=True, rank_zero_only=True)

    def _gathered(self, scores: np.ndarray) -> np.ndarray:
        """Scores (n,) of all ranks: of each position what a rank that has scored it says."""
        if self.trainer.world_size == 1:
            return scores
        ranks = self.all_gather(torch.from_numpy(scores).to(self.device))
        assert isinstance(ranks, Tensor)
        out = scores.copy()
        for other in ranks.cpu().numpy():
            out = np.where(np.isnan(out), other, out)
        return out

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser, with its schedule counted in steps of the whole run."""
        optimizer = self.recipe.build(self.detector)
        # Lightning's own estimate of the steps would open the loader before a resumed run knows its epoch.
        factor = partial(self.recipe.factor, total=self.total_steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: factor(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def better(monitor: str, new: Mapping[str, float], best: Mapping[str, float] | None) -> bool:
    """Whether new dev metrics beat the best so far, strictly; the first always does."""
    return best is None or MONITORS[monitor] * (new[monitor] - best[monitor]) > 0
