"""Views: the first waist. What a file becomes before a network sees it, and the contract every modality keeps."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from deepassay.errors import ConfigError

EVERY = 1_000_000  # views per file where none is to be left out: more than `Limits` lets a file have
DEFAULT_VIEWS = 8


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
        end_s: (k,) float64, seconds from the start of the file where a view ends; None where a view is one instant.
    """

    data: np.ndarray
    start_s: np.ndarray
    quality: np.ndarray
    track: np.ndarray
    landmarks: np.ndarray | None = None
    size: np.ndarray | None = None
    end_s: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.data)

    def take(self, index: np.ndarray) -> "Views":
        """The views at some positions (m,), in that order."""
        pick = lambda a: None if a is None else a[index]  # noqa: E731
        return Views(
            self.data[index], self.start_s[index], self.quality[index], self.track[index],
            pick(self.landmarks), pick(self.size), pick(self.end_s),
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


class EvenViews(Protocol):
    """Even views of one file that are chosen and not yet cut: what scoring needs of a recording of any length.

    Attributes:
        notes: what a reader of the score must know of the file, one sentence each.
    """

    notes: tuple[str, ...]

    def __len__(self) -> int:
        """How many views there are."""
        ...

    def parts(self, size: int) -> Iterator[Views]:
        """The views in order, at most ``size`` at a time."""
        ...


@runtime_checkable
class Streams(Protocol):
    """A modality that scores long files without holding them in memory; `choose` equals `prepare` and `draw`."""

    def choose(self, source: str | Path | Views, k: int) -> EvenViews:
        """The k even views of a file or of what was prepared of it. Raises labels.Unusable, as `prepare` does."""
        ...


@runtime_checkable
class Guarded(Protocol):
    """A modality that refuses files beyond limits, after the detector has seen them (`screening.abstention.Guard`)."""

    def facts(self, views: Views) -> np.ndarray:
        """Numbers (k, m) of k views, measured before their data is let go."""
        ...

    def refuse(self, facts: np.ndarray, logits: np.ndarray, views: Views) -> str:
        """One sentence where the file of these views is not to be judged, else empty.

        Args:
            facts: (k, m). logits: (k,). views: of which data and landmarks may be gone.
        """
        ...


def view_count(value: int | str | None, modality: Modality) -> int:
    """The setting ``views.score`` as a number: a whole number, ``all``, or null for the modality's own default.

    The default is `DEFAULT_VIEWS` where the modality has no ``even_views`` of its own: faces are judged by 8 views, a
    voice by every window, so that no part of a long recording is left unheard.

    Raises:
        ConfigError: anything else.
    """
    if value is None:
        return int(getattr(modality, "even_views", DEFAULT_VIEWS))
    if value == "all":
        return EVERY
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"views per file is {value!r}", hint="give a whole number from 1 on, or all")
    return min(value, EVERY)
