"""Joining the faces of successive frames into tracks of one person each, without any recognition of who it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from deepassay.modality.crops import TEMPLATE, similarity

_PATCH = 32
_MEMORY = 3  # patches of a track that a new face is compared with
_MAX_GAP = 2  # sampled frames a track may miss in between


@dataclass(frozen=True, slots=True)
class Sighting:
    """One face in one frame.

    Args:
        frame: number of the sampled frame.
        box: (4,) x0 y0 x1 y1 pixels.
        landmarks: (5, 2) pixels.
        patch: (1024,) unit vector of the aligned face's grey values without their mean.
    """

    frame: int
    box: np.ndarray
    landmarks: np.ndarray
    patch: np.ndarray


def patch_of(image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """A coarse look of a face: (1024,) float32 of length 1 (32 x 32 grey, aligned, mean removed)."""
    from PIL import Image

    factor, shift = similarity(landmarks.astype(np.float64), TEMPLATE * _PATCH)
    factor = factor if abs(factor) > 1e-3 else 1e-3 + 0j
    corners = (np.array([0, _PATCH, _PATCH * 1j, _PATCH * (1 + 1j)]) - shift) / factor
    height, width = image.shape[:2]
    left, top = int(np.floor(corners.real.min())), int(np.floor(corners.imag.min()))
    right, bottom = int(np.ceil(corners.real.max())), int(np.ceil(corners.imag.max()))
    inside = image[max(top, 0) : max(bottom, 1), max(left, 0) : max(right, 1)]
    if not inside.size:
        return np.zeros(_PATCH**2, np.float32)
    # The border is repeated: a dark one would make strangers look alike.
    beyond = (max(0, -top), max(0, bottom - height)), (max(0, -left), max(0, right - width)), (0, 0)
    if any(map(any, beyond)):
        inside = np.pad(inside, beyond, mode="edge")
    region = Image.fromarray(np.ascontiguousarray(inside))
    fewer = max(1, min(int(1 / abs(factor)), *region.size))  # means of so many pixels are what one of the patch sees
    back = 1 / (factor * fewer)
    offset = (-shift / factor - complex(left, top)) / fewer
    coefficients = (back.real, -back.imag, offset.real, back.imag, back.real, offset.imag)
    crop = region.reduce(fewer).transform(
        (_PATCH, _PATCH), Image.Transform.AFFINE, coefficients, Image.Resampling.BILINEAR
    )
    grey = np.asarray(crop, np.float32).mean(axis=2).reshape(-1)
    grey -= grey.mean()
    return grey / max(float(np.linalg.norm(grey)), 1e-6)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    sides = np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0)
    inter = float(sides.prod())
    union = float((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod()) - inter
    return inter / union if union > 0 else 0.0


def landmark_shift(a: Sighting, b: Sighting) -> float:
    """Mean distance between corresponding landmarks, in sides of the face box."""
    side = max(float(np.sqrt(max((a.box[2:] - a.box[:2]).prod(), 1.0))), 1.0)
    return float(np.linalg.norm(a.landmarks - b.landmarks, axis=1).mean()) / side


def link(
    sightings: Sequence[Sighting],
    *,
    min_overlap: float = 0.1,
    max_shift: float = 0.6,
    min_likeness: float = 0.45,
    min_agreement: float = 1.0,
) -> np.ndarray:
    """Track numbers (n,) int32 for sightings in order of frames, numbered by first appearance.

    A face continues a track where their boxes overlap, the landmarks moved little, they look alike, and overlap plus
    likeness reaches ``min_agreement``; likeness is the largest correlation of its patch with the track's last three. So
    a jump ends a track, and so does a cut to another person, the more surely the less the boxes overlap. The numbers
    were chosen on seven FaceForensics++ videos: none of 109 steps of one person (0.4 to 1.9 s apart) falls below 0.57
    and 1.08. Photographs of different people cropped alike, the worst case, would be joined in 20 % of pairs: an
    unnoticed switch puts two people into one track, whose score is then their mean. The best pairs are joined first.
    """
    ids = np.full(len(sightings), -1, np.int32)
    tracks: list[list[int]] = []
    frames = sorted({s.frame for s in sightings})
    for frame in frames:
        here = [i for i, s in enumerate(sightings) if s.frame == frame]
        pairs: list[tuple[float, int, int]] = []
        for number, members in enumerate(tracks):
            last = sightings[members[-1]]
            if frame - last.frame > _MAX_GAP + 1:
                continue
            for i in here:
                face = sightings[i]
                shared = overlap(last.box, face.box)
                if shared < min_overlap or landmark_shift(last, face) > max_shift:
                    continue
                likeness = max(float(sightings[m].patch @ face.patch) for m in members[-_MEMORY:])
                if likeness >= min_likeness and shared + likeness >= min_agreement:
                    pairs.append((shared + likeness, number, i))
        taken: set[int] = set()
        for _, number, i in sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2])):
            if number in taken or ids[i] >= 0:
                continue
            taken.add(number)
            ids[i] = number
            tracks[number].append(i)
        for i in here:
            if ids[i] < 0:
                ids[i] = len(tracks)
                tracks.append([i])
    return ids
