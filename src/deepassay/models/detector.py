"""Detector: the contract of every network here, views in and one logit per view out, growing with FAKE."""

from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class DetectorOutput:
    """What a detector says of n views.

    Args:
        logit: (n,) float32, higher = more likely fake.
        aux: named further outputs for losses and probes; never exported. ``features`` (n, d); ``mask`` (n, h, w), the
            logits of a map of what was manipulated, from detectors with a mask head.
    """

    logit: Tensor
    aux: dict[str, Tensor] = field(default_factory=dict)


class Detector(nn.Module):
    """Base of all detectors.

    Subclasses set ``modality`` ("face" or "voice") and implement `forward`; normalisation and spectral front ends
    live inside, so that the exported graph takes exactly what a modality draws.
    """

    modality: str = ""

    def forward(self, views: Tensor) -> DetectorOutput:
        """Score n views.

        Args:
            views: faces uint8 (n, H, W, 3) RGB, or clips of them (n, frames, H, W, 3); voices float32 (n, T) in
                [-1, 1].
        """
        raise NotImplementedError

    @property
    def weight_origin(self) -> tuple[str, str]:
        """Name of the starting weights, in the licence ledger or outside it, and their licence as far as known."""
        return "random-initialisation", "none needed"

    def folded(self) -> "Detector":
        """The same function in the form that ships: adapters, where there are any, are added into their layers."""
        return self

    def head_parameters(self) -> list[nn.Parameter]:
        """What a pretrained network had to begin anew, and may learn at another rate; all of it by default."""
        return list(self.parameters())


def count_parameters(detector: nn.Module) -> int:
    """Number of trainable scalars."""
    return sum(p.numel() for p in detector.parameters() if p.requires_grad)
