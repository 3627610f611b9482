"""Cells of one length along a recording: their labels from fake segments, their scores from overlapping windows."""

import numpy as np
from numpy.typing import ArrayLike

from deepassay.errors import ScoreError
from deepassay.labels import FAKE, REAL


def cell_labels(segments: ArrayLike, duration_s: float, resolution_s: float) -> np.ndarray:
    """Labels (n,) int8 of cells of ``resolution_s`` seconds: FAKE where any of a cell is fake.

    n = ceil(duration_s / resolution_s); the last cell may be cut off. The task is that of Zhang et al., "The
    PartialSpoof database and countermeasures", IEEE/ACM TASLP 31, 2023, at resolutions from 0.02 to 0.64 s; the rule
    for a cell that is fake in part is stated here and not taken from there.

    Args:
        segments: (m, 2) seconds where the recording is fake.

    Raises:
        ScoreError: lengths that are not positive.
    """
    n = _count(duration_s, resolution_s)
    out = np.full(n, REAL, np.int8)
    for begin, end in np.asarray(segments, np.float64).reshape(-1, 2):
        first, last = int(begin / resolution_s + 1e-6), int(np.ceil(min(end, duration_s) / resolution_s - 1e-6))
        out[max(0, first) : min(n, last)] = FAKE
    return out


def cell_scores(
    start_s: ArrayLike, end_s: ArrayLike, scores: ArrayLike, duration_s: float, resolution_s: float
) -> np.ndarray:
    """Scores (n,) of cells: mean over the windows that hold the middle of a cell; NaN where none does (silence).

    Args:
        start_s, end_s, scores: (k,) of the windows.

    Raises:
        ScoreError: lengths that are not positive, or arrays of unequal length.
    """
    start, end, values = (np.asarray(a, np.float64) for a in (start_s, end_s, scores))
    if not start.shape == end.shape == values.shape or start.ndim != 1:
        raise ScoreError(
            f"windows of shapes {start.shape}, {end.shape} and scores {values.shape}",
            hint="give one of each per window",
        )
    n = _count(duration_s, resolution_s)
    middle = np.minimum((np.arange(n) + 0.5) * resolution_s, duration_s)
    first = np.searchsorted(middle, start - 1e-9, side="left")
    last = np.searchsorted(middle, end + 1e-9, side="right")
    total, held = np.zeros(n + 1), np.zeros(n + 1)
    for array, weight in ((total, values), (held, np.ones(len(values)))):
        np.add.at(array, first, weight)
        np.add.at(array, np.maximum(first, last), -weight)
    count = np.round(np.cumsum(held)[:n])
    return np.where(count > 0, np.cumsum(total)[:n] / np.maximum(count, 1), np.nan)


def _count(duration_s: float, resolution_s: float) -> int:
    if not (duration_s > 0 and resolution_s > 0) or not np.isfinite(duration_s):
        raise ScoreError(
            f"a recording of {duration_s} s in cells of {resolution_s} s", hint="give lengths above 0, in seconds"
        )
    return max(1, int(np.ceil(duration_s / resolution_s - 1e-6)))
