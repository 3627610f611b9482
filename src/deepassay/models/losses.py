"""Losses on the logit: weighted binary cross-entropy with label smoothing, and the focal loss."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepassay.errors import ConfigError
from deepassay.models.detector import DetectorOutput


class WeightedBCE(nn.Module):
    """Binary cross-entropy on the logit, averaged over views with class weights.

    Args:
        real_weight, fake_weight: weights of the two classes; the mean is taken over the sum of weights.
        label_smoothing: targets become ``s / 2`` and ``1 - s / 2`` (Szegedy et al., CVPR 2016, for two classes).

    Raises:
        ConfigError: a weight that is not positive or a smoothing outside [0, 1).
    """

    def __init__(self, *, real_weight: float = 1.0, fake_weight: float = 1.0, label_smoothing: float = 0.0) -> None:
        super().__init__()
        if real_weight <= 0 or fake_weight <= 0:
            raise ConfigError(f"class weights {real_weight} and {fake_weight}", hint="both must be above 0")
        if not 0 <= label_smoothing < 1:
            raise ConfigError(f"label_smoothing is {label_smoothing}", hint="use 0 (off) up to about 0.2")
        self.real_weight = real_weight
        self.fake_weight = fake_weight
        self.label_smoothing = label_smoothing

    def per_view(self, logit: Tensor, label: Tensor) -> Tensor:
        """Unweighted loss of each view: logit (n,) and label (n,) in {0, 1} -> (n,)."""
        target = label * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        return F.binary_cross_entropy_with_logits(logit, target, reduction="none")

    def forward(self, output: DetectorOutput, label: Tensor) -> Tensor:
        """Detector output and labels (n,) in {0, 1} -> scalar."""
        logit = output.logit.float()
        label = label.to(logit.dtype)
        weight = torch.where(label > 0.5, self.fake_weight, self.real_weight)
        return (weight * self.per_view(logit, label)).sum() / weight.sum()


class FocalLoss(WeightedBCE):
    """Focal loss, (1 - p_t)^gamma * BCE (Lin et al., "Focal loss for dense object detection", ICCV 2017, equation 4).

    Args:
        gamma: how strongly easy views are turned down; 0 gives plain cross-entropy.
        Others as in `WeightedBCE`.
    """

    def __init__(
        self, *, gamma: float = 2.0, real_weight: float = 1.0, fake_weight: float = 1.0, label_smoothing: float = 0.0
    ) -> None:
        super().__init__(real_weight=real_weight, fake_weight=fake_weight, label_smoothing=label_smoothing)
        if gamma < 0:
            raise ConfigError(f"gamma is {gamma}", hint="use 0 (plain cross-entropy) or more; 2 is the paper's")
        self.gamma = gamma

    def per_view(self, logit: Tensor, label: Tensor) -> Tensor:
        """Focal loss of each view: logit (n,) and label (n,) in {0, 1} -> (n,)."""
        right = torch.sigmoid(torch.where(label > 0.5, logit, -logit))
        return (1 - right) ** self.gamma * super().per_view(logit, label)
