"""Losses: weighted binary cross-entropy with label smoothing, the focal loss, and one that learns a blending mask."""

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

    def weight_sum(self, label: Tensor) -> Tensor:
        """Sum of the weights of labels (n,): what ranks with different labels weight their means by."""
        return torch.where(label > 0.5, self.fake_weight, self.real_weight).double().sum()

    def per_view(self, logit: Tensor, label: Tensor) -> Tensor:
        """Unweighted loss of each view: logit (n,) and label (n,) in {0, 1} -> (n,)."""
        target = label * (1 - self.label_smoothing) + 0.5 * self.label_smoothing
        return F.binary_cross_entropy_with_logits(logit, target, reduction="none")

    def forward(self, output: DetectorOutput, label: Tensor) -> Tensor:
        """Detector output and labels (n,) in {0, 1} -> scalar."""
        logit = output.logit if output.logit.dtype == torch.float64 else output.logit.float()
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


class MaskedBCE(WeightedBCE):
    """`WeightedBCE` on the logit plus a loss on the map of a detector with a mask head, where a mask is known.

    The whole is ``BCE(logit) + mask_weight * mask_loss``. A network that must also say *where* it sees a blend cannot
    live on cues of the whole picture alone: the idea of Face X-ray (Li et al., CVPR 2020), there with a map of the
    blending boundary, here with the blending mask. Training calls it with ``mask=``; where a batch knows no mask it is
    `WeightedBCE`.

    Args:
        mask_weight: of the map's loss.
        mask_loss: "bce" (mean over pixels), "dice" (1 - 2|ab| / (|a|^2 + |b|^2), Milletari et al., 3DV 2016, over
            views whose mask is not empty), or "both" (their sum).
        Others as in `WeightedBCE`.

    Raises:
        ConfigError: a value out of range; called with masks and the output of a detector without a mask head.
    """

    def __init__(
        self, *, mask_weight: float = 1.0, mask_loss: str = "bce", real_weight: float = 1.0, fake_weight: float = 1.0,
        label_smoothing: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__(real_weight=real_weight, fake_weight=fake_weight, label_smoothing=label_smoothing)
        if mask_weight <= 0 or mask_loss not in ("bce", "dice", "both"):
            raise ConfigError(
                f"mask_weight {mask_weight}, mask_loss {mask_loss!r}",
                hint="mask_weight above 0 (for none, use loss=bce); mask_loss is bce, dice or both",
            )
        self.mask_weight = mask_weight
        self.mask_loss = mask_loss

    def forward(self, output: DetectorOutput, label: Tensor, mask: Tensor | None = None) -> Tensor:
        """Detector output, labels (n,) in {0, 1} and masks -> scalar.

        Args:
            mask: (n, H, W) float in [0, 1], how much of each pixel was manipulated, at any size; zeros for a real view;
                NaN or below 0 throughout for a view whose mask is not known. None where no mask of the batch is known.
        """
        loss = super().forward(output, label)
        if mask is None:
            return loss
        if "mask" not in output.aux:
            raise ConfigError(
                "the loss got blending masks, and the detector has no mask head",
                hint="set detector.mask_head=64 (say), or use loss=bce",
            )
        known = mask.flatten(1).amin(dim=1) >= 0  # false for NaN
        if not bool(known.any()):
            return loss
        found = output.aux["mask"][known].float()
        wanted = F.adaptive_avg_pool2d(
            mask[known].to(found.dtype).unsqueeze(1), (found.shape[-2], found.shape[-1])
        ).squeeze(1)
        parts = []
        if self.mask_loss != "dice":
            parts.append(F.binary_cross_entropy_with_logits(found, wanted))
        if self.mask_loss != "bce":
            parts.append(soft_dice(found, wanted))
        return loss + self.mask_weight * torch.stack(parts).sum()


def soft_dice(logits: Tensor, wanted: Tensor) -> Tensor:
    """Dice loss of maps (n, h, w) of logits against masks (n, h, w) in [0, 1], the mean over masks that are not empty.

    0 where all are empty. Milletari, Navab, Ahmadi, "V-Net", 3DV 2016, section 3, as 1 - D.
    """
    present = (wanted.flatten(1).amax(dim=1) > 0).to(logits.dtype)
    p, q = torch.sigmoid(logits).flatten(1), wanted.flatten(1)
    dice = 2 * (p * q).sum(dim=1) / (p.square().sum(dim=1) + q.square().sum(dim=1)).clamp_min(1e-6)
    return (present * (1 - dice)).sum() / present.sum().clamp_min(1)
