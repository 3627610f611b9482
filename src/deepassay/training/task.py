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

    def on_train_batch_start(self, batch: TrainBatch, batch_idx: int) -> None:
        """Seed what the step draws (dropout), so that a resumed run draws the same."""
        torch.manual_seed(stable_seed("step", self.seed, self.current_epoch, batch_idx, self.global_rank))

    def training_step(self, batch: TrainBatch, batch_idx: int) -> Tensor:
        """Loss of a batch. Raises RuntimeError where the loader is in another epoch than the trainer (exact resume)."""
        if batch.epoch != self.current_epoch:
            raise RuntimeError(f"the loader is in epoch {batch.epoch}, training in epoch {self.current_epoch}")
        output = self.detector(batch.views)
        if self.masked:
            loss = self.loss(output, batch.label, mask=batch.mask)
        else:
            loss = self.loss(output, batch.label)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch.label), prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Forget the scores of the epoch before."""
        self.dev_scores = np.full(len(self.dev_labels), np.nan)

    def validation_step(self, batch: DevBatch, batch_idx: int) -> None:
        """Score and pool whole samples."""
        logits = self.detector(batch.views).logit.float().cpu().numpy()
        ends = np.cumsum([n for _, n, _ in batch.members])
        for (position, n, views), end in zip(batch.members, ends, strict=True):
            self.dev_scores[position] = self.modality.pool(logits[end - n : end], views)

    def on_validation_epoch_end(self) -> None:
        """Dev metrics on pooled scores; samples without views are the same in every epoch and take no part in choosing.

        Raises:
            AssayError: a score is not finite: training has diverged.
        """
        if not np.isfinite(self.dev_scores).all():
            raise AssayError(
                f"epoch {self.current_epoch}: the detector's dev scores are not finite, training has diverged",
                hint="lower optimizer.lr, set trainer.gradient_clip, or use precision=32-true",
            )
        self.dev_metrics = {
            "dev_loss": balanced_loss(self.dev_labels, self.dev_scores),
            "dev_auc": float(auc(self.dev_labels, self.dev_scores)),
            "dev_eer": float(eer(self.dev_labels, self.dev_scores)),
        }
        self.log_dict(self.dev_metrics, prog_bar=True, rank_zero_only=True)

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
