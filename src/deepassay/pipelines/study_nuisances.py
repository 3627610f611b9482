"""What a score should not follow: sharpness, size and crop of faces; length, silence, level and noise of voices."""

from pathlib import Path
from typing import Any

import numpy as np

from deepassay.audit.looking import bandwidth, sharpness, silences
from deepassay.labels import Status, Unusable
from deepassay.manifest import Manifest, Sample
from deepassay.media.probe import probe
from deepassay.modality.views import Modality
from deepassay.store import Store

FACE = ("sharpness", "bits_per_pixel", "size", "tightness")
VOICE = ("duration", "leading_silence", "trailing_silence", "level", "bandwidth", "snr")


def trial_nuisances(manifest: Manifest, modality: Modality, store: Store) -> dict[str, dict[str, float]]:
    """Nuisances by sample id, of samples that have views.

    Faces: log sharpness of the crop as fed; bits per pixel of the file; shorter side of the face box in pixels of the
    source; that side over the picture's shorter side (tightness). Voices: seconds; seconds of silence at both ends;
    level in dBFS; frequency below which 99 % of the energy lies, Hz; dB of the sound over its noise floor.
    """
    names = FACE if modality.name == "face" else VOICE
    out = {}
    for sample in manifest:
        if store.status(sample.sample_id) != Status.OK:
            continue
        try:
            found = (_seen if modality.name == "face" else _heard)(sample, manifest.file(sample), modality, store)
        except Unusable:
            continue
        out[sample.sample_id] = {name: float(found.get(name, np.nan)) for name in names}
    return out


def _seen(sample: Sample, path: Path, modality: Modality, store: Store) -> dict[str, Any]:
    drawn = modality.draw(store.views(sample.sample_id), 1)
    facts = probe(path)
    width, height = facts.get("width"), facts.get("height")
    out: dict[str, Any] = {"sharpness": sharpness(drawn.data[0])}
    if drawn.size is not None:
        out["size"] = float(drawn.size[0])
    if width and height:
        out["bits_per_pixel"] = 8 * float(facts["bytes"]) / (width * height)
        if "size" in out:
            out["tightness"] = out["size"] / min(width, height)
    return out


def _heard(sample: Sample, path: Path, modality: Modality, store: Store) -> dict[str, Any]:
    from deepassay.media.sound import read_sound

    signal = read_sound(path, 16000)
    level = float(np.sqrt(np.mean(signal.astype(np.float64) ** 2))) if len(signal) else 0.0
    quality = modality.draw(store.views(sample.sample_id), 8).quality
    return {
        "duration": len(signal) / 16000,
        "level": 20 * np.log10(level + 1e-6),
        "bandwidth": bandwidth(signal),
        "snr": float(np.mean(quality)),
        **silences(signal),
    }
