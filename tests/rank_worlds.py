"""Small networks that can be handed to other processes: group norm, batch norm, faults at a chosen moment."""

import os
import signal
import time

import torch
from torch import nn

from deepassay.models.detector import Detector, DetectorOutput


class Grouped(Detector):
    """Convolution, group norm (no view sees another) and a linear layer over sound (n, T)."""

    modality = "voice"

    def __init__(self, *, batch_norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 8, 64, stride=32)
        self.norm = nn.BatchNorm1d(8) if batch_norm else nn.GroupNorm(2, 8)
        self.line = nn.Linear(8, 1)

    def forward(self, views: torch.Tensor) -> DetectorOutput:
        hidden = torch.relu(self.norm(self.conv(views.unsqueeze(1))))
        return DetectorOutput(self.line(hidden.square().mean(-1)).squeeze(-1))


def grouped() -> Grouped:
    return Grouped()


def batched() -> Grouped:
    return Grouped(batch_norm=True)


class Faulty(Grouped):
    """Fails on rank 1 in its third forward pass: killed, hanging, or out of memory."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.calls = kind, 0

    def forward(self, views: torch.Tensor) -> DetectorOutput:
        self.calls += 1
        if self.calls == 3 and os.environ.get("RANK", "1") == "1":
            if self.kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            elif self.kind == "memory":
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            elif self.kind == "sleep":
                time.sleep(600)
        return super().forward(views)


def killed() -> Faulty:
    return Faulty("kill")


def starved() -> Faulty:
    return Faulty("memory")
