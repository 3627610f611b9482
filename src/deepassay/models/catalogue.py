"""FAMILIES: one small, fast member of every detector family, for tests and tables that go over all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from deepassay.models.aasist import AASIST
from deepassay.models.clip_detector import ClipDetector
from deepassay.models.detector import Detector
from deepassay.models.lcnn import LCNN
from deepassay.models.rawnet2 import RawNet2
from deepassay.models.spectral_statistics import SpectralStatistics
from deepassay.models.timm_detector import TimmDetector


@dataclass(frozen=True, slots=True)
class Family:
    """A family of detectors.

    Args:
        name: as in ``configs/detector/``.
        modality: "face" or "voice".
        build: makes a small member without pretrained weights.
        input_shape: of one view that the member takes.
        reference: where the family comes from.
        full: only `make test-all` goes over it; the families without it stand for its kind in `make test`.
        lr: learning rate at which the member overfits eight samples within forty steps of AdamW.
    """

    name: str
    modality: str
    build: Callable[[], Detector]
    input_shape: tuple[int, ...]
    reference: str
    full: bool = False
    lr: float = 3e-3


_ALL = (
    Family(
        "tf_efficientnet_lite0", "face",
        lambda: TimmDetector(backbone="tf_efficientnet_lite0", size=64, drop_rate=0.0), (64, 64, 3),
        "Tan and Le, ICML 2019; Lite variant by Google, 2020; timm",
    ),
    Family(
        "timm_any", "face", lambda: TimmDetector(backbone="mobilenetv3_small_050", size=64, drop_rate=0.0), (64, 64, 3),
        "any model of timm by name; here MobileNetV3, Howard et al., ICCV 2019", full=True,
    ),
    Family(
        "linear_probe", "face", lambda: TimmDetector(pretrained="wheel", size=64, freeze="backbone", drop_rate=0.0),
        (64, 64, 3), "a linear classifier on frozen ImageNet features of EfficientNet-Lite0", full=True, lr=3e-2,
    ),
    Family(
        "efficientnet_b4", "face", lambda: TimmDetector(backbone="efficientnet_b4", size=64, drop_rate=0.0),
        (64, 64, 3), "Tan and Le, ICML 2019; timm", full=True, lr=1e-3,
    ),
    Family(
        "xception", "face", lambda: TimmDetector(backbone="legacy_xception", size=96, drop_rate=0.0), (96, 96, 3),
        "Chollet, CVPR 2017; Roessler et al., ICCV 2019; timm", full=True, lr=1e-3,
    ),
    Family(
        "convnext_tiny", "face", lambda: TimmDetector(backbone="convnext_tiny", size=64, drop_rate=0.0), (64, 64, 3),
        "Liu et al., CVPR 2022; timm", full=True, lr=1e-3,
    ),
    Family(
        # ViT-B would cost minutes; the tiny one is of the same code, and CLIP's own is tested in test_vision_folder.
        "vit_clip", "face",
        lambda: TimmDetector(
            backbone="vit_tiny_patch16_224", size=64, drop_rate=0.0, lora_rank=8, lora_targets=["qkv", "proj"]
        ),
        (64, 64, 3), "Dosovitskiy et al., ICLR 2021; CLIP: Radford et al., ICML 2021; LoRA: Hu et al., ICLR 2022",
        lr=1e-2,
    ),
    Family(
        "lite0_mask", "face", lambda: TimmDetector(size=64, drop_rate=0.0, mask_head=16), (64, 64, 3),
        "EfficientNet-Lite0 with a blending-mask head, after Face X-ray, Li et al., CVPR 2020", full=True,
    ),
    Family(
        "lite0_srm", "face", lambda: TimmDetector(size=64, drop_rate=0.0, residual="srm"), (64, 64, 3),
        "EfficientNet-Lite0 beside SRM residuals, Fridrich and Kodovsky, TIFS 2012; Zhou et al., CVPR 2018", full=True,
    ),
    Family(
        "temporal_lite0", "face",
        lambda: ClipDetector(backbone="mobilenetv3_small_050", size=32, frames=4, width=32, drop_rate=0.0),
        (4, 32, 32, 3), "a transformer over frame features, after Zheng et al., ICCV 2021", lr=1e-3,
    ),
    Family(
        "lcnn", "voice", lambda: LCNN(width=0.25, drop_rate=0.0), (16000,),
        "Lavrentyeva et al., Interspeech 2019; Wu et al., IEEE TIFS 2018",
    ),
    Family(
        "lfcc_statistics", "voice", lambda: SpectralStatistics(drop_rate=0.0), (16000,),
        "statistics pooling, Snyder et al., ICASSP 2018, on LFCC, Sahidullah et al., Interspeech 2015", lr=3e-2,
    ),
    Family(
        "aasist", "voice", lambda: AASIST(size="light", drop_factor=0.0, window_samples=8000), (8000,),
        "Jung et al., ICASSP 2022",
    ),
    Family(
        "rawnet2", "voice",
        lambda: RawNet2(
            filters=8, taps=129, channels=(8, 16), recurrent=32, recurrent_layers=1, window_samples=8000
        ),
        (8000,), "Tak et al., ICASSP 2021",
    ),
)  # fmt: skip
FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in _ALL})
