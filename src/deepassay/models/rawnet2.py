"""RawNet2 for spoofing: sinc filters, residual blocks with feature-map scaling and recurrent layers on raw sound."""

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepassay.errors import ConfigError
from deepassay.models.detector import Detector, DetectorOutput
from deepassay.models.frontends import SincBank
from deepassay.models.voice_heads import make_head


class FeatureMapScaling(nn.Module):
    """Filter-wise feature map scaling, ``x * s + s`` with s a sigmoid of each filter's mean (Jung et al., "Improved
    RawNet with filter-wise rescaling", Interspeech 2020, equation 1).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(n, channels, T) -> the same shape."""
        s = torch.sigmoid(self.scale(x.mean(dim=-1))).unsqueeze(-1)
        return x * s + s


class ScaledBlock(nn.Module):
    """Pre-activated residual block of two convolutions of 3, a maximum over 3 steps, and feature-map scaling."""

    def __init__(self, inside: int, out: int, *, first: bool) -> None:
        super().__init__()
        self.norm1 = None if first else nn.BatchNorm1d(inside)
        self.conv1 = nn.Conv1d(inside, out, 3, padding=1)
        self.norm2 = nn.BatchNorm1d(out)
        self.conv2 = nn.Conv1d(out, out, 3, padding=1)
        self.short_cut = nn.Conv1d(inside, out, 1) if inside != out else nn.Identity()
        self.scaling = FeatureMapScaling(out)

    def forward(self, x: Tensor) -> Tensor:
        """(n, inside, T) -> (n, out, T // 3)."""
        y = x if self.norm1 is None else F.leaky_relu(self.norm1(x), 0.3)
        y = self.conv2(F.leaky_relu(self.norm2(self.conv1(y)), 0.3))
        return self.scaling(F.max_pool1d(y + self.short_cut(x), 3))


class RawNet2(Detector):
    """RawNet2 (Tak, Patino, Todisco, Nautsch, Evans, Larcher, "End-to-end anti-spoofing with RawNet2", ICASSP 2021).

    Fixed sinc filters, two narrow and four wide residual blocks, gated recurrent layers whose last state is the
    embedding. The defaults are those of the ASVspoof 2021 baseline (20 filters of 1,025 taps, 20 and 128 channels,
    three recurrent layers of 1,024: 17.6 million parameters); the paper's table has 128 filters of 129 taps, 128 and
    512 channels and one recurrent layer.

    Args:
        filters, taps, scale: of the sinc filters ("mel", "linear", "inverse_mel": S1, S3 and S2 of the paper).
        channels: of the two narrow and the four wide blocks.
        recurrent: width of the recurrent layers and the embedding. recurrent_layers: how many.
        head: "linear", "one_class" or "margin", see `voice_heads`.
        window_samples: must equal the modality's.

    Raises:
        ConfigError: an argument out of range.
    """

    modality = "voice"

    def __init__(
        self, *, filters: int = 20, taps: int = 1025, scale: str = "mel", channels: Sequence[int] = (20, 128),
        recurrent: int = 1024, recurrent_layers: int = 3, head: str = "linear", window_samples: int = 64_600,
    ) -> None:  # fmt: skip
        super().__init__()
        if len(channels) != 2 or min(*channels, recurrent, recurrent_layers) < 1:
            raise ConfigError(
                f"channels {list(channels)}, recurrent {recurrent}, recurrent_layers {recurrent_layers}",
                hint="channels are two numbers (narrow, wide); all are at least 1",
            )
        if (window_samples - taps + 1) // 3**7 < 1:
            raise ConfigError(
                f"window_samples is {window_samples}, seven maxima over three steps leave nothing of it",
                hint=f"use at least {3**7 + taps - 1} samples, or fewer taps",
            )
        self.window_samples = window_samples
        self.sinc = SincBank(n_filters=filters, width=taps, scale=scale)
        self.stem_norm = nn.BatchNorm1d(filters)
        widths = [filters, *(channels[0],) * 2, *(channels[1],) * 4]
        self.blocks = nn.Sequential(
            *(ScaledBlock(a, b, first=i == 0) for i, (a, b) in enumerate(itertools.pairwise(widths)))
        )
        self.norm = nn.BatchNorm1d(channels[1])
        self.recurrent = nn.GRU(channels[1], recurrent, recurrent_layers, batch_first=True)
        self.embed = nn.Linear(recurrent, recurrent)
        self.classifier = make_head(head, recurrent)

    def forward(self, views: Tensor) -> DetectorOutput:
        """Sound float32 (n, window_samples) -> logit (n,) and ``features`` (n, recurrent)."""
        if views.shape[1] != self.window_samples:
            raise ConfigError(
                f"the detector takes windows of {self.window_samples} samples, these have {views.shape[1]}",
                hint="set detector.window_samples and modality.window_samples to the same number",
            )
        x = F.selu(self.stem_norm(F.max_pool1d(self.sinc(views).abs(), 3)))
        x = F.selu(self.norm(self.blocks(x))).transpose(1, 2)
        states, _ = self.recurrent(x)
        features = self.embed(states[:, -1])
        logit, more = self.classifier.score(features)
        return DetectorOutput(logit, {"features": features, **more})
