"""Clips: several frames of one face track as one view, for detectors that look at how a face changes in time."""

import numpy as np

from deepassay.modality.views import Views


def draw_clips(prepared: Views, k: int, frames: int, rng: np.random.Generator | None = None) -> Views:
    """Views of ``frames`` crops each, cut from the tracks of what was prepared.

    A track of m crops is divided into m // frames stretches of neighbouring crops (at least one), so that clips have
    the same pace however many are drawn. A clip takes its frames evenly from a stretch, in order of time; a track with
    fewer crops than a clip has frames, such as an image, repeats them.

    Without ``rng``: at most k clips from different stretches, shared among the tracks and spread over each. With it:
    exactly k from the main track, each from a stretch that begins anywhere and with its frames drawn from equal parts
    of it (Wang et al., "Temporal segment networks", ECCV 2016).

    Args:
        prepared: crops (m, H, W, 3), ordered by track and time.
        k: clips. frames: per clip.

    Returns:
        data (n, frames, H, W, 3); start_s of a clip is that of its first frame, quality and size are means over its
        frames, landmarks are (n, frames, 5, 2).
    """
    if k < 1 or frames < 1:
        raise ValueError(f"cannot draw {k} clips of {frames} frames")
    if rng is not None:
        main = np.nonzero(prepared.track == prepared.track.min())[0]
        return _take(prepared, np.stack([_random_clip(main, frames, rng) for _ in range(k)]))
    stretches = [
        np.array_split(where, max(1, len(where) // frames))
        for where in (np.nonzero(prepared.track == t)[0] for t in np.unique(prepared.track))
    ]
    shares = np.zeros(len(stretches), np.int64)
    while shares.sum() < min(k, sum(len(s) for s in stretches)):
        for i, parts in enumerate(stretches):
            if shares.sum() < k and shares[i] < len(parts):
                shares[i] += 1
    picked = [
        parts[j][_spread(len(parts[j]), frames)]
        for parts, n in zip(stretches, shares, strict=True)
        if n
        for j in _spread(len(parts), int(n))
    ]
    return _take(prepared, np.stack(picked))


def _spread(length: int, n: int) -> np.ndarray:
    """n positions (n,) spread evenly over 0..length - 1, repeated where there are fewer."""
    return ((np.arange(n) + 0.5) * length / n).astype(np.int64)


def _random_clip(where: np.ndarray, frames: int, rng: np.random.Generator) -> np.ndarray:
    length = -(-len(where) // max(1, len(where) // frames))
    start = int(rng.integers(len(where) - length + 1))
    if length < frames:
        return where[_spread(length, frames)]
    edges = (np.arange(frames + 1) * length) // frames
    return where[start + rng.integers(edges[:-1], edges[1:])]


def _take(prepared: Views, index: np.ndarray) -> Views:
    """Clips of the crops at positions (n, frames)."""
    return Views(
        data=prepared.data[index],
        start_s=prepared.start_s[index[:, 0]],
        quality=prepared.quality[index].mean(axis=1),
        track=prepared.track[index[:, 0]],
        landmarks=None if prepared.landmarks is None else prepared.landmarks[index],
        size=None if prepared.size is None else prepared.size[index].mean(axis=1),
    )
