"""FAMILIES: one small, fast member of every detector family, for tests and tables that go over all of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from deepassay.models.detector import Detector
from deepassay.models.lcnn import LCNN
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
    """

    name: str
    modality: str
    build: Callable[[], Detector]
    input_shape: tuple[int, ...]
    reference: str


_ALL = (
    Family(
        "tf_efficientnet_lite0", "face",
        lambda: TimmDetector(backbone="tf_efficientnet_lite0", size=64, drop_rate=0.0), (64, 64, 3),
        "Tan and Le, ICML 2019; Lite variant by Google, 2020; timm",
    ),
    Family(
        "timm_any", "face", lambda: TimmDetector(backbone="mobilenetv3_small_050", size=64, drop_rate=0.0), (64, 64, 3),
        "any model of timm by name; here MobileNetV3, Howard et al., ICCV 2019",
    ),
    Family(
        "lcnn", "voice", lambda: LCNN(width=0.25, drop_rate=0.0), (16000,),
        "Lavrentyeva et al., Interspeech 2019; Wu et al., IEEE TIFS 2018",
    ),
)  # fmt: skip
FAMILIES: Mapping[str, Family] = MappingProxyType({family.name: family for family in _ALL})
