"""Optimisers with their learning-rate schedule, as plain values that a config can hold."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from deepassay.errors import ConfigError
from deepassay.models.detector import Detector

SCHEDULES = ("cosine", "constant")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Learning rate, weight decay and schedule, common to the optimisers below.

    Args:
        lr: peak learning rate. head_factor: multiplies it for the freshly initialised head of a pretrained network.
        weight_decay: of matrices and kernels; norms and biases are never decayed.
        schedule: "cosine" (to ``final`` of the peak; Loshchilov and Hutter, ICLR 2017) or "constant".
        warm_up: fraction of all steps with a linear rise from near zero.

    Raises:
        ConfigError: a value out of range.
    """

    lr: float = 3e-4
    weight_decay: float = 0.01
    head_factor: float = 1.0
    schedule: str = "cosine"
    warm_up: float = 0.05
    final: float = 0.01

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.weight_decay < 0 or self.head_factor <= 0:
            raise ConfigError(
                f"lr {self.lr}, weight_decay {self.weight_decay}, head_factor {self.head_factor}",
                hint="lr and head_factor above 0, weight_decay 0 or more",
            )
        if self.schedule not in SCHEDULES or not 0 <= self.warm_up < 1 or not 0 <= self.final <= 1:
            raise ConfigError(
                f"schedule {self.schedule!r}, warm_up {self.warm_up}, final {self.final}",
                hint=f"schedule is one of {list(SCHEDULES)}; warm_up in [0, 1), final in [0, 1]",
            )

    def factor(self, step: int, total: int) -> float:
        """What the peak learning rate is multiplied by at optimiser step ``step`` of ``total``."""
        rise = round(self.warm_up * total)
        if step < rise:
            return (step + 1) / (rise + 1)
        if self.schedule == "constant":
            return 1.0
        along = min(1.0, (step - rise) / max(1, total - rise))
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * along))

    def groups(self, detector: Detector) -> list[dict[str, object]]:
        """Parameter groups: body and head, each with and without decay."""
        head = {id(p) for p in detector.head_parameters()}
        # A detector without a pretrained body has no head of its own: everything learns at the peak rate.
        split = any(id(p) not in head for p in detector.parameters() if p.requires_grad)
        out: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for parameter in detector.parameters():
            if parameter.requires_grad:
                out.setdefault((split and id(parameter) in head, parameter.ndim > 1), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": self.lr * (self.head_factor if is_head else 1.0),
                "weight_decay": self.weight_decay if decayed else 0.0,
            }
            for (is_head, decayed), parameters in out.items()
        ]

    def build(self, detector: Detector) -> torch.optim.Optimizer:
        """The torch optimiser over the trainable parameters of a detector."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class AdamW(Recipe):
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019)."""

    beta1: float = 0.9
    beta2: float = 0.999

    def build(self, detector: Detector) -> torch.optim.Optimizer:
        """The torch optimiser over the trainable parameters of a detector."""
        return torch.optim.AdamW(self.groups(detector), lr=self.lr, betas=(self.beta1, self.beta2))


@dataclass(frozen=True, kw_only=True)
class SGD(Recipe):
    """Stochastic gradient descent with Nesterov momentum."""

    lr: float = 0.01
    momentum: float = 0.9

    def build(self, detector: Detector) -> torch.optim.Optimizer:
        """The torch optimiser over the trainable parameters of a detector."""
        return torch.optim.SGD(self.groups(detector), lr=self.lr, momentum=self.momentum, nesterov=self.momentum > 0)


def learning_rates(optimizers: Iterable[torch.optim.Optimizer]) -> list[float]:
    """Current learning rate of every parameter group."""
    return [float(group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
