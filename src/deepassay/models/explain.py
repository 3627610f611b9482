"""Where a face detector looks: Grad-CAM and mask-head maps, and how faithful they are by deletion and insertion."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deepassay.errors import ConfigError
from deepassay.labels import FAKE
from deepassay.models.detector import Detector

METHODS = ("grad_cam", "mask_head")
REFERENCES = ("random", "centre")


class Explainer:
    """Maps of what a face detector's logit rests on. Pictures in, maps out; nothing is written anywhere.

    Args:
        detector: a face detector with trained weights; put into evaluation mode on the CPU.
        batch_size: views at a time.

    Raises:
        ConfigError: a detector that cannot be looked into.
    """

    def __init__(self, detector: Detector, *, batch_size: int = 16) -> None:
        if detector.modality != "face" or not (hasattr(detector, "looked_at") and hasattr(detector, "as_maps")):
            raise ConfigError(
                f"{type(detector).__name__} cannot be explained by maps",
                hint="explanations are of faces; what a voice detector says along a recording is in its timeline",
            )
        self.detector = detector.eval().cpu()
        self.batch_size = batch_size
        for parameter in self.detector.parameters():
            parameter.requires_grad_(False)

    @property
    def methods(self) -> tuple[str, ...]:
        """The methods that this detector offers."""
        return METHODS if getattr(self.detector, "mask_head", None) is not None else METHODS[:1]

    def logits(self, data: np.ndarray) -> np.ndarray:
        """Views (n, *shape) -> logits (n,) float64."""
        with torch.inference_mode():
            parts = [self.detector(batch).logit.double().numpy() for batch in self._batches(data)]
        return np.concatenate(parts) if parts else np.zeros(0)

    def maps(self, method: str, data: np.ndarray, *, toward: int = FAKE) -> np.ndarray:
        """What speaks for a class, place by place.

        Args:
            method: one of `methods`, or of `REFERENCES`, which know nothing of the detector: "random" (uniform noise
                on 7 x 7 cells, from a fixed seed and the pixels), "centre" (a Gaussian of a quarter of the side: where
                faces are).
            data: views (n, H, W, 3) or clips (n, frames, H, W, 3), uint8.
            toward: FAKE or REAL; a mask head knows only what speaks for FAKE.

        Returns:
            (n, H, W) or (n, frames, H, W) float32 in [0, 1]; the largest value of a view is 1 unless all are 0.

        Raises:
            ConfigError: a method that this detector does not offer.
        """
        if method in REFERENCES:
            return reference_maps(method, data)
        if method not in self.methods:
            raise ConfigError(
                f"the detector does not offer {method!r}", hint=f"use one of {list(self.methods)} or {list(REFERENCES)}"
            )
        if method == "mask_head" and toward != FAKE:
            raise ConfigError("a mask head maps what speaks for fake only", hint="use grad_cam to see the other side")
        make = self._grad_cam if method == "grad_cam" else self._mask
        parts = [make(batch, toward) for batch in self._batches(data)]
        return np.concatenate(parts) if parts else np.zeros(data.shape[:-1], np.float32)

    def _batches(self, data: np.ndarray) -> list[Tensor]:
        pieces = range(0, len(data), self.batch_size)
        return [torch.from_numpy(np.ascontiguousarray(data[i : i + self.batch_size])) for i in pieces]

    def _grad_cam(self, views: Tensor, toward: int) -> np.ndarray:
        """Selvaraju et al., "Grad-CAM", ICCV 2017, equations 1 and 2, of the logit or of its negative."""
        seen: list[Tensor] = []

        def keep(_module: object, _inputs: object, output: Tensor) -> Tensor:
            # Cut off from what lies below, which need not be differentiated (and in a frozen network cannot).
            seen.append(output.detach().requires_grad_(True))
            return seen[-1].clone()

        hook = self.detector.looked_at().register_forward_hook(keep)  # type: ignore[operator]
        try:
            with torch.enable_grad():
                logit = self.detector(views).logit.sum() * (1 if toward == FAKE else -1)
                slope = torch.autograd.grad(logit, seen[0])[0]
        finally:
            hook.remove()
        maps, slope = (self.detector.as_maps(x.float()) for x in (seen[0].detach(), slope))  # type: ignore[operator]
        weights = slope.mean(dim=(2, 3), keepdim=True)
        return _upright(F.relu((weights * maps).sum(dim=1)), views)

    def _mask(self, views: Tensor, _toward: int) -> np.ndarray:
        with torch.inference_mode():
            return _upright(torch.sigmoid(self.detector(views).aux["mask"]), views)


def _upright(maps: Tensor, views: Tensor) -> np.ndarray:
    """Coarse maps (m, h, w) to the size of the views, each divided by its largest value."""
    large = F.interpolate(maps.unsqueeze(1).float(), size=views.shape[-3:-1], mode="bilinear", align_corners=False)
    large = large.reshape(views.shape[:-1])  # clips: frames come back to their clip
    peak = large.flatten(1).amax(dim=1).clamp_min(1e-12).view(-1, *[1] * (large.ndim - 1))
    return (large / peak).numpy().astype(np.float32)


def reference_maps(method: str, data: np.ndarray) -> np.ndarray:
    """Maps (n, ..., H, W) that know nothing of a detector; see `Explainer.maps`."""
    height, width = data.shape[-3:-1]
    if method == "centre":
        y, x = ((np.arange(side) + 0.5) / side - 0.5 for side in (height, width))
        bump = np.exp(-0.5 * (y[:, None] ** 2 + x[None, :] ** 2) / 0.25**2).astype(np.float32)
        return np.broadcast_to(bump / bump.max(), data.shape[:-1]).copy()
    out = []
    for view in data:
        rng = np.random.Generator(np.random.Philox(int(view.astype(np.uint64).sum()) + 1))
        cells = rng.random((*view.shape[:-3], 7, 7)).astype(np.float32)
        flat = torch.from_numpy(cells.reshape(-1, 1, 7, 7))
        out.append(_upright(flat.squeeze(1), torch.zeros(1, *view.shape))[0])
    return np.stack(out) if out else np.zeros(data.shape[:-1], np.float32)


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """How a view's score moves when the places that a map names are taken out, or put in.

    Args:
        deletion: area under P(fake) against the fraction of pixels replaced by the view's mean colour, most important
            first. The lower, the more the score rests on what the map names.
        insertion: area under P(fake) against the fraction of pixels put back into the blurred view, most important
            first. The higher, the more the map names what the score needs.
        deletion_curve, insertion_curve: (steps + 1,) P(fake) at fractions 0, 1/steps ... 1.
    """

    deletion: float
    insertion: float
    deletion_curve: np.ndarray
    insertion_curve: np.ndarray


def faithfulness(
    predict: Callable[[np.ndarray], np.ndarray], view: np.ndarray, importance: np.ndarray, *, steps: int = 16
) -> Faithfulness:
    """Deletion and insertion (Petsiuk, Das, Saenko, "RISE", BMVC 2018, section 4.1, algorithm 1).

    Both ask the detector about pictures unlike any it was trained on, so they are read against maps that know nothing
    (`REFERENCES`) on the same views, never alone. Places of equal importance go in an order of chance.

    Args:
        predict: views (n, *shape) -> logits (n,).
        view: (H, W, 3) or (frames, H, W, 3) uint8.
        importance: (H, W) or (frames, H, W), larger = more important.
        steps: how many equal parts the pixels are replaced in.
    """
    if importance.shape != view.shape[:-1] or steps < 1:
        raise ValueError(f"importance {importance.shape} of a view {view.shape}, {steps} steps")
    n = importance.size
    chance = np.random.Generator(np.random.Philox(n)).permutation(n)
    order = chance[np.argsort(-importance.reshape(-1)[chance], kind="stable")]
    pixels = view.reshape(n, 3)
    grey = np.broadcast_to(np.round(pixels.mean(axis=0)).astype(np.uint8), (n, 3))
    soft = blurred(view).reshape(n, 3)
    deleted, inserted = [], []
    for step in range(steps + 1):
        where = order[: round(n * step / steps)]
        one, two = pixels.copy(), soft.copy()
        one[where], two[where] = grey[where], pixels[where]
        deleted.append(one.reshape(view.shape))
        inserted.append(two.reshape(view.shape))
    with np.errstate(over="ignore"):
        curves = [1 / (1 + np.exp(-predict(np.stack(c)).astype(np.float64))) for c in (deleted, inserted)]
    down, up = (float((c[1:] + c[:-1]).mean() / 2) for c in curves)
    return Faithfulness(down, up, curves[0], curves[1])


def blurred(view: np.ndarray) -> np.ndarray:
    """A view (..., H, W, 3) uint8 under a Gaussian of 5 pixels in 224, as in RISE."""
    sigma = 5 * view.shape[-2] / 224
    reach = max(1, round(2 * sigma))
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel = torch.from_numpy((bell / bell.sum()).astype(np.float32))
    x = torch.from_numpy(np.ascontiguousarray(view)).float().reshape(-1, *view.shape[-3:]).permute(0, 3, 1, 2)
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    x = F.conv2d(x, kernel.view(1, 1, 1, -1).expand(3, 1, 1, -1), groups=3)
    x = F.conv2d(x, kernel.view(1, 1, -1, 1).expand(3, 1, -1, 1), groups=3)
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).reshape(view.shape).numpy()
