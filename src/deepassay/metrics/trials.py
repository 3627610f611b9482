"""What every metric is given: labels and scores of trials, checked at the door and sorted once."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from deepassay.errors import ScoreError
from deepassay.labels import FAKE, REAL

Floats = NDArray[np.float64]


def check_trials(
    labels: ArrayLike,
    scores: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    name: str = "score",
    classes: tuple[int, ...] = (REAL, FAKE),
) -> tuple[NDArray[np.int8], Floats, Floats]:
    """Labels (n,) int8, scores (n,) and weights (n,) as arrays, or an error that says why no honest number exists.

    Args:
        labels: (n,) REAL = 0, FAKE = 1 or booleans "is fake".
        scores: (n,) finite, higher = more likely fake.
        weights: (n,) finite and not negative; a whole number stands for that many repeats. None means one each.
        name: what the scores are called in messages.
        classes: the classes that must occur.

    Raises:
        ScoreError: unequal lengths, labels other than 0 and 1, NaN or infinite scores, bad weights, or a class without
            trials.
    """
    found = np.asarray(labels)
    values = np.asarray(scores)
    if values.dtype == object or values.dtype.kind not in "fiub":
        try:
            values = values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ScoreError(
                f"a {name} is not a number ({error})", hint="give rows without a score a status instead of a value"
            ) from error
    values = values.astype(np.float64, copy=False)
    if found.ndim != 1 or found.shape != values.shape:
        raise ScoreError(
            f"labels have shape {found.shape} and {name}s have shape {values.shape}",
            hint="give one label and one score per trial, both as flat arrays",
        )
    bad_labels = found[(found != REAL) & (found != FAKE)] if found.size else found
    if bad_labels.size:
        raise ScoreError(
            f"{bad_labels.size} labels are neither 0 (real) nor 1 (fake), the first is {bad_labels[0]!r}",
            hint="drop unlabelled rows, and translate label words with deepassay.labels.parse_label",
        )
    known = found.astype(np.int8)
    bad = ~np.isfinite(values)
    if bad.any():
        raise ScoreError(
            f"{int(bad.sum())} of {values.size} {name}s are NaN or infinite, the first at row {int(np.argmax(bad))}",
            hint="find out why the detector returned them; count such trials as non-responses, do not drop them",
        )
    if weights is None:
        mass = np.ones(values.size)
    else:
        mass = np.asarray(weights, dtype=np.float64)
        if mass.shape != values.shape or not np.isfinite(mass).all() or (mass < 0).any():
            raise ScoreError(
                "weights must be finite, not negative and one per trial", hint="check how the weights were made"
            )
    for label, word in ((REAL, "real"), (FAKE, "fake")):
        if label in classes and not mass[known == label].sum() > 0:
            raise ScoreError(
                f"there is no {word} trial among {values.size}",
                hint="an error rate needs trials of the class it is about; check the labels and the filter",
            )
    return known, values, mass


@dataclass(frozen=True, slots=True)
class Staircase:
    """Class weights at or above each distinct score, from the highest score down: everything a ROC or DET curve holds.

    Args:
        flagged_real: (p + 1,) weight of real trials flagged (score >= threshold); starts at 0, ends at the total.
        flagged_fake: (p + 1,) the same for fake trials.
        thresholds: (p + 1,) +inf (flag nothing), then the distinct scores in falling order.
    """

    flagged_real: Floats
    flagged_fake: Floats
    thresholds: Floats

    @property
    def bpcer(self) -> Floats:
        """(p + 1,) share of real trials flagged."""
        return self.flagged_real / self.flagged_real[-1]

    @property
    def apcer(self) -> Floats:
        """(p + 1,) share of fake trials missed."""
        total = self.flagged_fake[-1]
        return (total - self.flagged_fake) / total


def staircase(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None, **words: Any) -> Staircase:
    """Sort once; trials that tie in score share one step. Raises what `check_trials` raises."""
    known, values, mass = check_trials(labels, scores, weights, **words)
    order = np.argsort(-values, kind="stable")
    values, known, mass = values[order], known[order], mass[order]
    last = np.flatnonzero(np.append(values[1:] != values[:-1], True))
    real = np.cumsum(np.where(known == REAL, mass, 0.0))[last]
    fake = np.cumsum(np.where(known == FAKE, mass, 0.0))[last]
    zero = np.zeros(1)
    return Staircase(
        np.concatenate([zero, real]), np.concatenate([zero, fake]), np.concatenate([[np.inf], values[last]])
    )


def tie_report(labels: ArrayLike, scores: ArrayLike) -> dict[str, float]:
    """How far ties can move ranking metrics (check F09): cross-class tied pairs, and distinct scores per trial.

    Returns:
        ``cross_class_tied_pairs`` (share of real-fake pairs with equal scores), ``distinct`` (distinct scores / n),
        ``at_minimum`` and ``at_maximum`` (share of trials at the lowest and highest score).

    Raises:
        ScoreError: see `check_trials`.
    """
    known, values, _ = check_trials(labels, scores)
    distinct, inverse = np.unique(values, return_inverse=True)
    real = np.bincount(inverse[known == REAL], minlength=distinct.size).astype(np.float64)
    fake = np.bincount(inverse[known == FAKE], minlength=distinct.size).astype(np.float64)
    return {
        "cross_class_tied_pairs": float((real * fake).sum() / (real.sum() * fake.sum())),
        "distinct": distinct.size / values.size,
        "at_minimum": float((real[0] + fake[0]) / values.size),
        "at_maximum": float((real[-1] + fake[-1]) / values.size),
    }
