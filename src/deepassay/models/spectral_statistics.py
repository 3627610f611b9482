"""SpectralStatistics: mean and deviation of LFCC over time under one linear layer, for voices; hard to overfit."""

import torch
from torch import Tensor, nn

from deepassay.errors import ConfigError
from deepassay.models.detector import Detector, DetectorOutput
from deepassay.models.frontends import LFCC
from deepassay.models.voice_heads import LogitHead


class SpectralStatistics(Detector):
    """Logistic regression, or a network with one hidden layer, on what LFCC are like over a window.

    The order of frames is not seen. Statistics of cepstra over time as features: long-term average spectra, and the
    statistics pooling of x-vectors (Snyder et al., ICASSP 2018) without a network below it.

    Args:
        hidden: width of a hidden layer; 0 for none.
        level: whether the mean of the first coefficient, which is the loudness, counts.
        drop_rate: dropout of the statistics.
        rate_hz, n_filters, n_coefficients, hop_s, deltas, floor: see `frontends.LFCC`. Means over time stay in.

    Raises:
        ConfigError: an argument out of range.
    """

    modality = "voice"

    def __init__(
        self, *, hidden: int = 0, level: bool = False, drop_rate: float = 0.1, rate_hz: int = 16000,
        n_filters: int = 20, n_coefficients: int = 20, hop_s: float = 0.01, deltas: int = 2, floor: float = 1e-6,
    ) -> None:  # fmt: skip
        super().__init__()
        if hidden < 0 or not 0 <= drop_rate < 1:
            raise ConfigError(f"hidden {hidden}, drop_rate {drop_rate}", hint="hidden 0 or more, drop_rate in [0, 1)")
        self.frontend = LFCC(
            rate_hz=rate_hz, hop_s=hop_s, n_filters=n_filters, n_coefficients=n_coefficients, deltas=deltas,
            floor=floor, normalise="none",
        )  # fmt: skip
        self.first = 0 if level else 1
        d = 2 * self.frontend.features - self.first
        self.norm = nn.BatchNorm1d(d, affine=False)
        self.drop = nn.Dropout(drop_rate)
        self.embed = nn.Sequential(nn.Linear(d, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.classifier = LogitHead(hidden or d)

    def forward(self, views: Tensor) -> DetectorOutput:
        """Sound float32 (n, T) -> logit (n,) and ``features`` (n, d); T of at least one frame."""
        frames = self.frontend(views)[:, 0]
        mean = frames.mean(dim=-1)
        variance = (frames - mean.unsqueeze(-1)).square().mean(dim=-1)
        # The floor keeps the root's slope finite on constant sound, and the exported graph equal to this one there.
        deviation = torch.sqrt(torch.clamp_min(variance, 1e-6))
        features = self.embed(self.drop(self.norm(torch.cat([mean[:, self.first :], deviation], dim=1))))
        logit, more = self.classifier.score(features)
        return DetectorOutput(logit, {"features": features, **more})
