"""Losses on cosines for voices: one-class softmax and additive margin softmax; the centres belong to the detector."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deepassay.errors import ConfigError
from deepassay.models.detector import DetectorOutput


class _OnCosines(nn.Module):
    """Class-weighted mean of a loss on a detector's cosines to its centres."""

    head = ""
    centres = 0

    def __init__(self, *, real_weight: float, fake_weight: float) -> None:
        super().__init__()
        if real_weight <= 0 or fake_weight <= 0:
            raise ConfigError(f"class weights {real_weight} and {fake_weight}", hint="both must be above 0")
        self.real_weight = real_weight
        self.fake_weight = fake_weight

    def excess(self, cosines: Tensor, fake: Tensor) -> Tensor:
        """What softplus is taken of: cosines (n, centres) and booleans (n,) -> (n,)."""
        raise NotImplementedError

    def forward(self, output: DetectorOutput, label: Tensor) -> Tensor:
        """Detector output with ``cosines`` and labels (n,) in {0, 1} -> scalar.

        Raises:
            ConfigError: the detector has no such centres.
        """
        cosines = output.aux.get("cosines")
        if cosines is None or cosines.shape[1] != self.centres:
            raise ConfigError(
                f"{type(self).__name__} needs a detector with {self.centres} centre(s), this one has "
                f"{0 if cosines is None else cosines.shape[1]}",
                hint=f"set detector.head={self.head}, or use loss=bce with detector.head=linear",
            )
        fake = label > 0.5
        weight = torch.where(fake, self.fake_weight, self.real_weight).to(cosines.dtype)
        return (weight * F.softplus(self.excess(cosines.float(), fake))).sum() / weight.sum()


class OneClassSoftmax(_OnCosines):
    """OC-Softmax (Zhang, Jiang, Duan, IEEE SPL 2021, equation 4): ``log(1 + exp(alpha (m_y - cos) (-1)^y))``.

    Bona fide speech is pulled within the cosine ``real_margin`` of the only centre, fakes are pushed beyond
    ``fake_margin``. Use with ``head=one_class``, whose logit is ``alpha (0.55 - cos)``: the score grows with FAKE,
    while the paper's (the cosine) grows with bona fide.

    Args:
        alpha: scale, 20 in the paper. real_margin, fake_margin: 0.9 and 0.2 there.
        real_weight, fake_weight: weights of the two classes; the mean is taken over the sum of weights.

    Raises:
        ConfigError: a value out of range, or margins the wrong way round.
    """

    head, centres = "one_class", 1

    def __init__(
        self, *, alpha: float = 20.0, real_margin: float = 0.9, fake_margin: float = 0.2, real_weight: float = 1.0,
        fake_weight: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(real_weight=real_weight, fake_weight=fake_weight)
        if alpha <= 0 or not -1 <= fake_margin < real_margin <= 1:
            raise ConfigError(
                f"alpha {alpha}, real_margin {real_margin}, fake_margin {fake_margin}",
                hint="alpha above 0; -1 <= fake_margin < real_margin <= 1 (20, 0.2 and 0.9 in the paper)",
            )
        self.alpha, self.real_margin, self.fake_margin = alpha, real_margin, fake_margin

    def excess(self, cosines: Tensor, fake: Tensor) -> Tensor:
        """alpha (cos - fake_margin) for fakes, alpha (real_margin - cos) for the others."""
        cosine = cosines[:, 0]
        return self.alpha * torch.where(fake, cosine - self.fake_margin, self.real_margin - cosine)


class AdditiveMarginSoftmax(_OnCosines):
    """Additive margin softmax (Wang, Cheng, Liu, Liu, IEEE SPL 2018, equation 5) over bona fide and fake.

    Use with ``head=margin``, whose logit is ``scale (cos_fake - cos_real)``.

    Args:
        scale: s. margin: m, taken off the cosine of the true class; 20 and 0.9 are the values that Zhang et al. 2021
            compare one-class softmax with.
        real_weight, fake_weight: weights of the two classes.

    Raises:
        ConfigError: a value out of range.
    """

    head, centres = "margin", 2

    def __init__(
        self, *, scale: float = 20.0, margin: float = 0.9, real_weight: float = 1.0, fake_weight: float = 1.0
    ) -> None:
        super().__init__(real_weight=real_weight, fake_weight=fake_weight)
        if scale <= 0 or not 0 <= margin < 2:
            raise ConfigError(f"scale {scale}, margin {margin}", hint="scale above 0, margin in [0, 2)")
        self.scale, self.margin = scale, margin

    def excess(self, cosines: Tensor, fake: Tensor) -> Tensor:
        """scale (cos of the other class - cos of the true one + margin)."""
        ahead = cosines[:, 1] - cosines[:, 0]
        return self.scale * (torch.where(fake, -ahead, ahead) + self.margin)
