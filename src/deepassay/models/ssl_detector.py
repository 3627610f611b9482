"""Detector on a self-supervised speech encoder (wav2vec 2.0, XLS-R, WavLM), frozen, with adapters or fully tuned."""

import copy
import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepassay.errors import ConfigError
from deepassay.models import lora
from deepassay.models.aasist import SIZES, ResidualBlock, SpectroTemporalGraphs
from deepassay.models.detector import Detector, DetectorOutput
from deepassay.models.speech_folder import encoder_from_folder
from deepassay.models.voice_heads import make_head

TUNE = ("frozen", "lora", "full")
_LORA_TARGETS = {"wavlm": ("intermediate_dense", "output_dense")}


class MeanPool(nn.Module):
    """Mean over time of the last layer."""

    def __init__(self, width: int, layers: int, steps: int) -> None:
        super().__init__()
        self.features = width

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Hidden states, each (n, T, width) -> (n, features)."""
        return states[-1].mean(dim=1)


class AttentivePool(nn.Module):
    """Attentive statistics over time of the last layer: weighted mean and standard deviation (Okabe, Koshinaka,
    Shinoda, Interspeech 2018, equations 4 to 6).
    """

    def __init__(self, width: int, layers: int, steps: int, hidden: int = 128) -> None:
        super().__init__()
        self.attend = nn.Sequential(nn.Linear(width, hidden), nn.Tanh(), nn.Linear(hidden, 1))
        self.features = 2 * width

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Hidden states, each (n, T, width) -> (n, features)."""
        x = states[-1]
        weight = torch.softmax(self.attend(x), dim=1)
        mean = (weight * x).sum(dim=1)
        variance = (weight * (x - mean.unsqueeze(1)).square()).sum(dim=1)
        return torch.cat([mean, torch.sqrt(torch.clamp_min(variance, 1e-6))], dim=1)


class LayerWeighted(nn.Module):
    """Sensitive layer selection: each layer is weighed by a sigmoid of its own mean over time, the sum is classified
    (Zhang, Wen, Hu, "Audio deepfake detection with self-supervised XLS-R and SLS classifier", ACM MM 2024, section 3).

    Theirs flattens a fixed map after 3 x 3 maxima; here the map is averaged over time, so that the window is free.
    """

    def __init__(self, width: int, layers: int, steps: int, hidden: int = 256) -> None:
        super().__init__()
        self.weigh = nn.Linear(width, 1)
        self.norm = nn.BatchNorm2d(1)
        self.embed = nn.Linear(width // 3, hidden)
        self.features = hidden

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Hidden states, each (n, T, width) -> (n, features)."""
        layers = torch.stack(list(states[1:]), dim=1)  # the first is the convolutional encoder's output
        weights = torch.sigmoid(self.weigh(layers.mean(dim=2))).unsqueeze(2)
        merged = (layers * weights).sum(dim=1)
        maps = F.max_pool2d(F.selu(self.norm(merged.unsqueeze(1))), 3)
        return F.selu(self.embed(maps.squeeze(1).mean(dim=1)))


class GraphTop(nn.Module):
    """AASIST's encoder and graphs on hidden states (Tak et al., "Automatic speaker verification spoofing and deepfake
    detection using wav2vec 2.0 and data augmentation", Odyssey 2022, section 3).

    The states are reduced to 128 features, seen as a map of features by time, pooled 3 x 3, and pass through six
    residual blocks that keep the length of time.
    """

    def __init__(self, width: int, layers: int, steps: int, reduced: int = 128, drop_factor: float = 1.0) -> None:
        super().__init__()
        size = SIZES["base"]
        if steps < 6:
            raise ConfigError(f"an AASIST-type top needs 6 steps of the encoder, there are {steps}",
                              hint="use a longer window (20 ms a step)")  # fmt: skip
        self.reduce = nn.Linear(width, reduced)
        self.stem_norm = nn.BatchNorm2d(1)
        a, b, c = size.channels
        widths = [1, a, b, c, c, c, c]
        self.blocks = nn.Sequential(*(ResidualBlock(i, o, shrink=1) for i, o in itertools.pairwise(widths)))
        self.graphs = SpectroTemporalGraphs(inside=c, rows=reduced // 3, size=size, drop_factor=drop_factor)
        self.features = self.graphs.features

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """Hidden states, each (n, T, width) -> (n, features)."""
        x = F.max_pool2d(self.reduce(states[-1]).transpose(1, 2).unsqueeze(1), 3)
        return self.graphs(self.blocks(F.selu(self.stem_norm(x))))


TOPS = {"mean": MeanPool, "attentive": AttentivePool, "sls": LayerWeighted, "aasist": GraphTop}


class SSLDetector(Detector):
    """A speech encoder from a local folder with a small network on top.

    Args:
        folder: as transformers saves one; nothing is downloaded. XLS-R and wav2vec 2.0 are "wav2vec2" there.
        tune: "frozen" trains the top alone, "lora" adds low-rank adapters to the encoder (folded in at export),
            "full" trains everything but the encoder's convolutions.
        top: "mean", "attentive", "sls" (weights over layers) or "aasist".
        layers: use the first so many transformer blocks; all by default.
        head: "linear", "one_class" or "margin", see `voice_heads`.
        lora_rank, lora_alpha, lora_targets: of the adapters, see `lora.attach`. Targets are by default the query and
            value projections, and for WavLM the feed-forward layers (its attention takes the weights of its projections
            without calling them, so that adapters there would never learn: refused).
        drop_rate: dropout before the head. drop_factor: multiplies the dropout rates inside an "aasist" top.
        window_samples: must equal the modality's.

    Raises:
        MissingDependencyError, ConfigError: see `speech_folder.encoder_from_folder`; an option out of range.
    """

    modality = "voice"

    def __init__(
        self, *, folder: str, tune: str = "frozen", top: str = "attentive", layers: int | None = None,
        head: str = "linear", lora_rank: int = 8, lora_alpha: float | None = None,
        lora_targets: Sequence[str] | None = None, drop_rate: float = 0.1,
        drop_factor: float = 1.0, window_samples: int = 64_600,
    ) -> None:  # fmt: skip
        super().__init__()
        if tune not in TUNE or top not in TOPS:
            raise ConfigError(f"tune is {tune!r}, top is {top!r}", hint=f"tune: {list(TUNE)}; top: {list(TOPS)}")
        if not 0 <= drop_rate < 1:
            raise ConfigError(f"drop_rate is {drop_rate}", hint="use 0 (off) up to below 1")
        found = encoder_from_folder(folder, layers=layers)
        self.encoder = found.network
        self.tune, self.normalise, self.window_samples = tune, found.normalise, window_samples
        self.origin = (f"{found.kind} encoder {found.name.rsplit('/', 1)[-1]}", "not stated")
        if tune == "frozen":
            self.encoder.requires_grad_(False)
        elif tune == "lora":
            targets = list(lora_targets or _LORA_TARGETS.get(found.kind, ("q_proj", "v_proj")))
            if found.kind == "wavlm" and any(target.endswith("_proj") for target in targets):
                raise ConfigError(
                    f"lora_targets {targets} for WavLM, whose attention would pass the adapters by",
                    hint=f"use {list(_LORA_TARGETS['wavlm'])}, or null",
                )
            lora.attach(self.encoder, rank=lora_rank, alpha=lora_alpha, targets=targets)
        else:
            self.encoder.feature_extractor.requires_grad_(False)  # type: ignore[union-attr]
            for name, parameter in self.encoder.named_parameters():
                if name.endswith("masked_spec_embed"):  # belongs to pre-training
                    parameter.requires_grad_(False)
        steps = int(self.encoder._get_feat_extract_output_lengths(torch.tensor(window_samples)))  # type: ignore[operator]
        if steps < 1:
            raise ConfigError(f"window_samples is {window_samples}: too short for the encoder", hint="use 4000 or more")
        more = {"drop_factor": drop_factor} if top == "aasist" else {}
        self.top = TOPS[top](found.width, found.layers, steps, **more)
        self.drop = nn.Dropout(drop_rate)
        self.classifier = make_head(head, self.top.features)

    @property
    def weight_origin(self) -> tuple[str, str]:
        """The kind and name of the encoder; its licence is not stated in its folder."""
        return self.origin

    def head_parameters(self) -> list[nn.Parameter]:
        """The top and the head."""
        return [*self.top.parameters(), *self.classifier.parameters()]

    def train(self, mode: bool = True) -> "SSLDetector":
        """As in torch, but a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.tune == "frozen":
            self.encoder.eval()
        return self

    def folded(self) -> "SSLDetector":
        """A copy with adapters added into their layers."""
        out = copy.deepcopy(self)
        if out.tune == "lora":
            lora.fold(out.encoder)
        return out

    def forward(self, views: Tensor) -> DetectorOutput:
        """Sound float32 (n, window_samples) -> logit (n,) and ``features`` (n, d)."""
        if views.shape[1] != self.window_samples:
            raise ConfigError(
                f"the detector takes windows of {self.window_samples} samples, these have {views.shape[1]}",
                hint="set detector.window_samples and modality.window_samples to the same number",
            )
        sound = views
        if self.normalise:  # as transformers' Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm
            centred = sound - sound.mean(dim=1, keepdim=True)
            sound = centred / torch.sqrt(centred.square().mean(dim=1, keepdim=True) + 1e-7)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.tune != "frozen"):
            out = self.encoder(sound, output_hidden_states=True)
        # In large models the last state of the list lacks the encoder's final normalisation.
        features = self.top((*out.hidden_states[:-1], out.last_hidden_state))
        logit, more = self.classifier.score(self.drop(features))
        return DetectorOutput(logit, {"features": features, **more})
