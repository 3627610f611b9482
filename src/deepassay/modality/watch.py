"""Finding faces in successive frames: a full search now and then, and following what it found in between."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from deepassay.modality.finder import Faces

MAX_FOLLOW_S = 2.5
_MAX_PIXELS = 32_000_000  # in memory between two searches
_SAME = 0.3  # intersection over union


@dataclass(slots=True)
class Watched:
    """One frame and the faces in it.

    Args:
        image: (H, W, 3) uint8 RGB.
        time_s: when it is shown.
        faces: see Faces.
        searched: whether the whole frame was searched for faces.
    """

    image: np.ndarray
    time_s: float
    faces: Faces
    searched: bool


def watch(
    frames: Iterable[tuple[np.ndarray, float]],
    find: Callable[[np.ndarray], Faces],
    follow: Callable[[np.ndarray, Faces], tuple[Faces, bool]],
    *,
    every: int,
) -> Iterator[Watched]:
    """Frames with their faces, in order.

    A frame is searched in full where it is the ``every``-th since the last that was, or shown more than `MAX_FOLLOW_S`
    after it, or comes after one without a face, or where a face cannot be followed into it (a cut, an exit). In the
    others the faces of the frame before are followed. A face that a search finds anew is followed back to the frame
    after the last search, so that it is not missed where it came in between; one that comes and goes between two
    searches is missed. Who is who is not decided here: see `tracks.link`.

    Args:
        frames: images (H, W, 3) and times in seconds, in order of time.
        find: faces of a whole picture.
        follow: the faces of another frame found again in a picture, and whether none that matters was lost.
        every: frames from one search to the next at most; 1 searches each. So many frames are in memory, fewer where
            they are larger than 4 million pixels.
    """
    window: list[Watched] = []
    for image, time_s in frames:
        room = min(every, max(1, _MAX_PIXELS // (image.shape[0] * image.shape[1])))
        if window and len(window) < room and time_s - window[0].time_s <= MAX_FOLLOW_S:
            known = window[-1].faces
            if len(known):
                faces, complete = follow(image, known)
                if complete:
                    window.append(Watched(image, time_s, faces, False))
                    continue
        faces = find(image)
        if window:
            _look_back(window, faces, follow)
            yield from window
        window = [Watched(image, time_s, faces, True)]
    yield from window


def _look_back(window: list[Watched], faces: Faces, follow: Callable[[np.ndarray, Faces], tuple[Faces, bool]]) -> None:
    """Add to the frames after the search that began the window what the next search found anew."""
    new = _apart(faces, window[-1].faces)
    for earlier in reversed(window[1:]):
        if not len(new):
            return
        new = _apart(follow(earlier.image, new)[0], earlier.faces)
        earlier.faces = earlier.faces.joined(new)


def _apart(faces: Faces, known: Faces) -> Faces:
    """Those of some faces that lie on none of the others."""
    return faces.take(
        np.array([i for i in range(len(faces)) if not (known.overlap(faces.boxes[i]) > _SAME).any()], int)
    )
