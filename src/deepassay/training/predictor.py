"""TorchPredictor: a detector as a plain function from view arrays to logit arrays."""

import numpy as np
import torch

from deepassay.errors import MissingDependencyError
from deepassay.models.detector import Detector


def pick_device(name: str) -> torch.device:
    """ "auto" (a GPU where there is one) or any name of torch's.

    Raises:
        MissingDependencyError: a GPU is asked for and is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise MissingDependencyError(
            f"device {name} is not available", hint="use device=auto or cpu; see `deepassay doctor`"
        )
    return torch.device(name)


class TorchPredictor:
    """Views in, logits out, in evaluation mode and full precision.

    Args:
        detector: put into evaluation mode and moved to the device.
        device: "auto", "cpu", "cuda" ...
        batch_size: views per forward pass.
    """

    def __init__(self, detector: Detector, *, device: str = "auto", batch_size: int = 64) -> None:
        self.device = pick_device(device)
        self.batch_size = batch_size
        self.detector = detector.eval().to(self.device)
        if detector.modality == "face":
            self.detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @torch.inference_mode()
    def __call__(self, data: np.ndarray) -> np.ndarray:
        """Views (n, *shape) as the modality draws them -> logits (n,) float32."""
        if len(data) == 0:
            return np.zeros(0, np.float32)
        out = []
        for start in range(0, len(data), self.batch_size):
            batch = torch.from_numpy(np.array(data[start : start + self.batch_size]))
            out.append(self.detector(batch.to(self.device)).logit.float().cpu().numpy())
        return np.concatenate(out)
