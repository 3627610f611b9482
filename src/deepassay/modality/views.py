"""Views: the first waist. What a file becomes before a network sees it, and the contract every modality keeps."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True, slots=True)
class Views:
    """k model inputs cut from one file, or everything that was prepared of it.

    Args:
        data: (k, *shape). Faces: uint8 (k, H, W, 3) RGB. Voices: float32 (k, samples) mono in [-1, 1].
        start_s: (k,) float64, seconds from the start of the file (0 for images).
        quality: (k,) float32, larger is better: face detection probability; dB above the noise floor for voices.
        track: (k,) int32, which face track a view belongs to; 0 for voices.
        landmarks: (k, 5, 2) float32 in pixels of the view (eyes, nose, mouth corners) for faces, else None.
        size: (k,) float32, pixels of the face box's shorter side in the source, else None.
    """

    data: np.ndarray
    start_s: np.ndarray
    quality: np.ndarray
    track: np.ndarray
    landmarks: np.ndarray | None = None
    size: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.data)

    def take(self, index: np.ndarray) -> "Views":
        """The views at some positions (m,), in that order."""
        pick = lambda a: None if a is None else a[index]  # noqa: E731
        return Views(
            self.data[index], self.start_s[index], self.quality[index], self.track[index],
            pick(self.landmarks), pick(self.size),
        )  # fmt: skip


class Modality(Protocol):
    """What a modality does between a file and the network; free of torch. See FaceModality and VoiceModality.

    `prepare` is the expensive half (decode, find, crop) whose result a store keeps; `draw` is the cheap half that cuts
    network inputs from it, the same code in training and in screening (law 7).
    """

    name: str  # "face" or "voice"

    @property
    def contract(self) -> dict[str, Any]:
        """JSON description of everything that shapes a view: travels in bundle.json, rebuilds the modality."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hash of the contract and of the finder graphs: travels with stores, runs and bundles."""
        ...

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one view as the network sees it, without the batch axis: (H, W, 3) or (samples,)."""
        ...

    def prepare(self, path: str | Path) -> Views:
        """Everything usable in a file. Raises labels.Unusable with a status and reason where there is nothing."""
        ...

    def draw(self, prepared: Views, k: int, rng: np.random.Generator | None = None) -> Views:
        """k network inputs: spread evenly without ``rng`` (scoring), at random with it (training).

        Even drawing may return fewer than k views, and never repeats one; random drawing returns exactly k.
        """
        ...

    def pool(self, logits: np.ndarray, views: Views) -> float:
        """One score for the file from (k,) view logits, by the modality's one documented rule."""
        ...
