"""Nuisance probes on the views: what a detector is fed after decoding, cropping and resizing, not what lies on disk."""

from collections.abc import Callable, Sequence

import numpy as np

from deepassay.audit.looking import Looked, bandwidth, sharpness, silences
from deepassay.audit.probes import Families, probe_families
from deepassay.audit.report import SKIP, AuditFinding
from deepassay.labels import Unusable
from deepassay.manifest import Manifest, Sample
from deepassay.modality.views import Modality, Views

_DRAWN = 2

FAMILIES: Families = {
    "sharpness": ("F03", ("view_sharpness", "view_blocks")),
    "tone": ("F03", ("view_brightness", "view_contrast", "view_saturation", "view_clipped")),
    "extent": ("F04", ("view_number", "view_face_pixels")),
    "channel": ("F03", ("view_bandwidth", "view_level", "view_peak", "view_offset")),
    "silence": ("F04", ("view_leading_silence", "view_trailing_silence", "view_zeros", "view_repeats")),
}


def view_probes(
    manifest: Manifest,
    samples: Sequence[Sample],
    modality: Modality,
    replicates: int,
    seed: int,
    progress: bool,
    views: Callable[[Sample], Views] | None = None,
) -> list[AuditFinding]:
    """Probes named ``view.FAMILY``: can the label be told from such features of the views alone?

    Files without usable views (no face, no speech) are left out here; scoring counts them. ``views`` gives what is
    prepared already (a store); without it the modality prepares the files anew.
    """
    from rich.console import Console
    from rich.progress import track

    looked = []
    bar = Console(stderr=True)
    for sample in track(samples, "audit: views", console=bar, disable=not progress, transient=True):
        item = Looked(sample)
        try:
            prepared = views(sample) if views is not None else modality.prepare(manifest.file(sample))
            item.features = view_features(prepared, modality.draw(prepared, _DRAWN))
        except Unusable as error:
            item.problem = str(error)
        looked.append(item)
    if not any(item.features for item in looked):
        return [AuditFinding("view", "F03", SKIP, f"none of {len(looked)} files has usable views")]
    return probe_families("view", FAMILIES, looked, replicates, seed)


def view_features(prepared: Views, drawn: Views) -> dict[str, float | str]:
    """Nuisance features of the views of one file.

    Args:
        prepared: everything usable in the file.
        drawn: what would be fed: uint8 (k, H, W, 3) for faces, float32 (k, samples) for voices.
    """
    out: dict[str, float | str] = {"view_number": float(np.log(len(prepared)))}
    if drawn.data.ndim == 4:
        rows = [_seen(view) for view in drawn.data]
        if prepared.size is not None:
            out["view_face_pixels"] = float(np.log(np.median(prepared.size)))
    else:
        rows = [_heard(view) for view in drawn.data]
    return out | {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}


def _seen(view: np.ndarray) -> dict[str, float]:
    values = view.astype(np.float32)
    grey = values.mean(axis=2)
    steps = np.abs(np.diff(grey, axis=1)).mean(axis=0)
    edges = np.arange(len(steps)) % 8 == 7
    return {
        "view_sharpness": sharpness(view),
        "view_blocks": float(steps[edges].mean() / (steps[~edges].mean() + 1e-6)) if len(steps) > 8 else 1.0,
        "view_brightness": float(grey.mean()),
        "view_contrast": float(grey.std()),
        "view_saturation": float((values.max(axis=2) - values.min(axis=2)).mean()),
        "view_clipped": float(((view == 0) | (view == 255)).mean()),
    }


def _heard(view: np.ndarray) -> dict[str, float]:
    level = float(np.sqrt(np.mean(view.astype(np.float64) ** 2)))
    out = {
        "view_bandwidth": bandwidth(view),
        "view_level": 20 * float(np.log10(level + 1e-6)),
        "view_peak": float(np.abs(view).max(initial=0.0)),
        "view_offset": float(view.mean()),
        "view_repeats": _repeats(view),
    }
    return out | {f"view_{name}": value for name, value in silences(view).items()}


def _repeats(view: np.ndarray) -> float:
    """Share of a view that is its own beginning again: short clips are repeated to fill a window."""
    head = view[:64]
    if len(view) < 256 or not head.any():
        return 0.0
    at = np.flatnonzero(view[64:-64] == head[0]) + 64
    for start in at[:4096].tolist():
        if np.array_equal(view[start : start + 64], head):
            return 1 - start / len(view)
    return 0.0
