"""ClipDetector: a transformer over the frame features of a clip of one face, on top of any frame detector."""

import copy
from collections.abc import Sequence

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from deepassay.errors import ConfigError
from deepassay.models.detector import Detector, DetectorOutput
from deepassay.models.timm_detector import TimmDetector
from deepassay.models.weights import load_weights


class ClipDetector(Detector):
    """Frames through one `TimmDetector`, their features through a transformer along time.

    The logit is the mean of the frames' own logits plus what the transformer adds, and the latter's last layer begins
    at zero: an untrained one is the frame detector averaged over the clip, and training departs from there. The
    transformer has a class token and learned positions (Dosovitskiy et al., "ViT", ICLR 2021, over time instead of
    space; over deepfake frames: Zheng et al., "Exploring temporal coherence for more general video face forgery
    detection", ICCV 2021).

    Args:
        frames: of a clip; must equal the modality's ``clip_frames``.
        width, depth, heads: of the transformer. temporal_drop: dropout in it.
        frame_weights: safetensors of a trained `TimmDetector` of the same settings, to start from; null for none.
        Others as in `TimmDetector`, of the frame detector.

    Raises:
        ConfigError, MissingDependencyError: a value out of range, or as `TimmDetector`.
    """

    modality = "face"

    def __init__(
        self, *, frames: int = 8, width: int = 256, depth: int = 2, heads: int = 4, temporal_drop: float = 0.1,
        frame_weights: str | None = None, backbone: str | None = "tf_efficientnet_lite0", size: int = 224,
        pretrained: str = "none", weights: str | None = None, mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None, drop_rate: float = 0.2, drop_path_rate: float = 0.0, freeze: str = "none",
        lora_rank: int = 0, lora_alpha: float | None = None, lora_dropout: float = 0.0,
        lora_targets: Sequence[str] | None = None, residual: str = "none",
    ) -> None:  # fmt: skip
        super().__init__()
        if frames < 2 or depth < 1 or width < 8 or width % heads or not 0 <= temporal_drop < 1:
            raise ConfigError(
                f"frames {frames}, width {width}, depth {depth}, heads {heads}, temporal_drop {temporal_drop}",
                hint="frames from 2, depth from 1, width a multiple of heads, temporal_drop in [0, 1)",
            )
        self.frames = frames
        self.frame = TimmDetector(
            backbone=backbone, size=size, pretrained=pretrained, weights=weights, mean=mean, std=std,
            drop_rate=drop_rate, drop_path_rate=drop_path_rate, freeze=freeze, lora_rank=lora_rank,
            lora_alpha=lora_alpha, lora_dropout=lora_dropout, lora_targets=lora_targets, residual=residual,
        )  # fmt: skip
        if frame_weights is not None:
            load_weights(self.frame, frame_weights)
        inside = self.frame.feature_width
        self.narrow = nn.Sequential(nn.LayerNorm(inside), nn.Linear(inside, width))
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        # As large as what the frames bring in: with ViT's 0.02 the order of frames drowns (it was not learned at all).
        self.position = nn.Parameter(0.5 * torch.randn(1, frames + 1, width))
        self.blocks = nn.Sequential(
            *(Block(width, heads, qkv_bias=True, proj_drop=temporal_drop) for _ in range(depth))
        )
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, 1)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    @property
    def weight_origin(self) -> tuple[str, str]:
        """As the frame detector's."""
        return self.frame.weight_origin

    def head_parameters(self) -> list[nn.Parameter]:
        """Everything but the frame detector's body."""
        body = {id(p) for p in self.frame.parameters()}
        return [*self.frame.head_parameters(), *(p for p in self.parameters() if id(p) not in body)]

    def folded(self) -> "ClipDetector":
        """As in `Detector`."""
        if not self.frame.lora:
            return self
        out = copy.deepcopy(self)
        out.frame = self.frame.folded()
        return out

    def looked_at(self) -> nn.Module:
        """As in `TimmDetector`, of every frame."""
        return self.frame.looked_at()

    def as_maps(self, seen: Tensor) -> Tensor:
        """As in `TimmDetector`, of every frame."""
        return self.frame.as_maps(seen)

    def forward(self, views: Tensor) -> DetectorOutput:
        """Clips uint8 (n, frames, size, size, 3) -> logit (n,), ``features`` (n, d) and ``frame_logit`` (n, frames)."""
        if views.ndim != 5 or views.shape[1] != self.frames:
            raise ConfigError(
                f"the detector takes clips of {self.frames} frames, the views are {tuple(views.shape[1:])}",
                hint="use modality=face_clip, and set detector.frames and modality.clip_frames to the same number",
            )
        output = self.frame(views.flatten(0, 1))
        logit = output.logit.unflatten(0, (-1, self.frames))
        x = self.narrow(output.aux["features"]).unflatten(0, (-1, self.frames))
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.position
        features = self.norm(self.blocks(x))[:, 0]
        out = logit.mean(dim=1) + self.classifier(features).squeeze(-1).float()
        return DetectorOutput(out, {"features": features, "frame_logit": logit})
