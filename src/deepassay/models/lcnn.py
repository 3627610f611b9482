"""LCNN: a light convolutional network with max-feature-map units on LFCC, for voices."""

import torch
from torch import Tensor, nn

from deepassay.errors import ConfigError
from deepassay.models.detector import Detector, DetectorOutput
from deepassay.models.frontends import LFCC, LogMel
from deepassay.models.voice_heads import make_head


class MaxFeatureMap(nn.Module):
    """Element-wise maximum of the two halves of the channels: (n, 2c, ...) -> (n, c, ...).

    Wu, He, Sun, Tan, "A light CNN for deep face representation with noisy labels", IEEE TIFS 2018, equation 1.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(n, 2c, ...) -> (n, c, ...)."""
        first, second = x.chunk(2, dim=1)
        return torch.maximum(first, second)


class LCNN(Detector):
    """Light CNN over a spectral front end.

    Layers after Lavrentyeva et al., "STC antispoofing systems for the ASVspoof2019 challenge", Interspeech 2019,
    table 2. Theirs flattens a fixed 863 x 600 map; here the last maps are averaged over time, so that the length of
    a window is free. With LFCC-60 and width 1 it has about 0.2 million parameters.

    Args:
        frontend: "lfcc" (20 ms frames, 20 coefficients with two slopes) or "logmel".
        width: factor on all channel counts; 1 is the paper's, 0.5 and below suit small corpora and two CPU cores.
        pool: over time: "statistics" (mean and standard deviation, as in x-vectors, Snyder et al., ICASSP 2018) or
            "mean".
        drop_rate: dropout before the classifier (the paper uses 0.75).
        head: "linear", "one_class" or "margin", see `voice_heads`.
        rate_hz, n_filters, n_coefficients, hop_s, deltas, floor, normalise: see `frontends.LFCC`; the cepstral ones
            do nothing for "logmel".

    Raises:
        ConfigError: an argument out of range.
    """

    modality = "voice"

    def __init__(
        self, *, frontend: str = "lfcc", width: float = 1.0, pool: str = "statistics", drop_rate: float = 0.5,
        head: str = "linear",
        rate_hz: int = 16000,
        n_filters: int = 20, n_coefficients: int = 20, hop_s: float = 0.01, deltas: int = 2, floor: float = 1e-6,
        normalise: str = "mean",
    ) -> None:  # fmt: skip
        super().__init__()
        if frontend == "lfcc":
            self.frontend: LFCC | LogMel = LFCC(
                rate_hz=rate_hz, hop_s=hop_s, n_filters=n_filters, n_coefficients=n_coefficients, deltas=deltas,
                floor=floor, normalise=normalise,
            )  # fmt: skip
        elif frontend == "logmel":
            self.frontend = LogMel(rate_hz=rate_hz, hop_s=hop_s, n_filters=n_filters, floor=floor, normalise=normalise)
        else:
            raise ConfigError(f"frontend is {frontend!r}", hint="use lfcc or logmel")
        if self.frontend.features < 16:
            raise ConfigError(
                f"the front end gives {self.frontend.features} features, the network halves them four times",
                hint="use at least 16: more coefficients or deltas",
            )
        if pool not in ("statistics", "mean"):
            raise ConfigError(f"pool is {pool!r}", hint="use statistics or mean")
        if width <= 0 or not 0 <= drop_rate < 1:
            raise ConfigError(f"width {width}, drop_rate {drop_rate}", hint="width above 0, drop_rate in [0, 1)")

        def channels(paper: int) -> int:
            return max(4, round(paper * width))

        c32, c48, c64, c80 = channels(32), channels(48), channels(64), channels(80)

        def conv(inside: int, out: int, kernel: int) -> list[nn.Module]:
            return [nn.Conv2d(inside, 2 * out, kernel, padding=kernel // 2), MaxFeatureMap()]

        halve = nn.MaxPool2d(2)
        self.input_norm = nn.BatchNorm2d(1)
        self.body = nn.Sequential(
            *conv(1, c32, 5), halve,
            *conv(c32, c32, 1), nn.BatchNorm2d(c32), *conv(c32, c48, 3), halve, nn.BatchNorm2d(c48),
            *conv(c48, c48, 1), nn.BatchNorm2d(c48), *conv(c48, c64, 3), halve,
            *conv(c64, c64, 1), nn.BatchNorm2d(c64), *conv(c64, c32, 3), nn.BatchNorm2d(c32),
            *conv(c32, c32, 1), nn.BatchNorm2d(c32), *conv(c32, c32, 3), halve,
        )  # fmt: skip
        self.pool = pool
        pooled = c32 * (self.frontend.features // 16) * (2 if pool == "statistics" else 1)
        self.embed = nn.Sequential(
            nn.Dropout(drop_rate),
            nn.Linear(pooled, 2 * c80),
            MaxFeatureMap(),
            nn.BatchNorm1d(c80),
        )
        self.classifier = make_head(head, c80)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, views: Tensor) -> DetectorOutput:
        """Sound float32 (n, T) -> logit (n,) and ``features`` (n, d); T of at least 16 hops and one frame."""
        maps = self.body(self.input_norm(self.frontend(views)))
        pooled = maps.mean(dim=-1).flatten(1)
        if self.pool == "statistics":
            # The floor keeps the root's slope finite on constant sound, and the exported graph equal to this one there.
            variance = (maps - maps.mean(dim=-1, keepdim=True)).square().mean(dim=-1).flatten(1)
            pooled = torch.cat([pooled, torch.sqrt(torch.clamp_min(variance, 1e-4))], dim=1)
        features = self.embed(pooled)
        logit, more = self.classifier.score(features)
        return DetectorOutput(logit, {"features": features, **more})
