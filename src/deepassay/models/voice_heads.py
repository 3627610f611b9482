"""Last layers of voice detectors: linear, or cosines to learned centres, each giving one logit that grows with FAKE."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepassay.errors import ConfigError

HEADS = ("linear", "one_class", "margin")


class LogitHead(nn.Linear):
    """A linear layer with one output: features (n, d) -> (logit (n,), no cosines)."""

    def __init__(self, features: int) -> None:
        super().__init__(features, 1)

    def score(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (n, d) -> logit (n,) and nothing for losses beyond it."""
        return self(features).squeeze(-1).float(), {}


class CentreHead(nn.Module):
    """Cosines between an embedding and learned centres, turned into one logit.

    The centre (or the two centres) belong to the detector and not to the loss, so that what is trained is what is
    scored and exported. With ``one_class`` (Zhang, Jiang, Duan, "One-class learning towards synthetic voice spoofing
    detection", IEEE SPL 2021) the only centre stands for bona fide speech and ``logit = scale * (middle - cosine)``,
    where ``middle`` lies half way between the two margins of the loss. With ``margin`` (additive margin softmax: Wang,
    Cheng, Liu, Liu, IEEE SPL 2018) there is a centre for each class and ``logit = scale * (cosine_fake -
    cosine_real)``.

    Args:
        features: width of the embedding.
        kind: "one_class" or "margin".
        scale: factor of the cosine, alpha or s in the papers (20 in both).
        middle: for "one_class", the cosine at logit 0; 0.55 is half way between the paper's margins 0.9 and 0.2.
    """

    def __init__(self, features: int, *, kind: str, scale: float = 20.0, middle: float = 0.55) -> None:
        super().__init__()
        if kind not in ("one_class", "margin"):
            raise ConfigError(f"head is {kind!r}", hint=f"use one of {list(HEADS)}")
        if scale <= 0 or not -1 < middle < 1:
            raise ConfigError(f"scale {scale}, middle {middle}", hint="scale above 0, middle a cosine in (-1, 1)")
        self.kind, self.scale, self.middle = kind, scale, middle
        self.centres = nn.Parameter(torch.empty(1 if kind == "one_class" else 2, features))
        nn.init.kaiming_uniform_(self.centres, a=math.sqrt(5))

    def score(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Features (n, d) -> logit (n,) and ``cosines`` (n, 1) to bona fide, or (n, 2) to bona fide and fake."""
        # An embedding of zeros (silence) has no direction; the floor keeps it at cosine 0.
        length = torch.sqrt(torch.clamp_min(features.float().square().sum(-1, keepdim=True), 1e-6))
        cosines = (features.float() / length) @ F.normalize(self.centres.float(), dim=-1).T
        if self.kind == "one_class":
            logit = self.scale * (self.middle - cosines[:, 0])
        else:
            logit = self.scale * (cosines[:, 1] - cosines[:, 0])
        return logit, {"cosines": cosines}


def make_head(kind: str, features: int) -> LogitHead | CentreHead:
    """The head of a name in `HEADS`.

    Raises:
        ConfigError: no such head.
    """
    if kind not in HEADS:
        raise ConfigError(f"head is {kind!r}", hint=f"use one of {list(HEADS)}")
    return LogitHead(features) if kind == "linear" else CentreHead(features, kind=kind)
