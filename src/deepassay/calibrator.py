"""Affine calibration of scores to log-likelihood ratios, and operating points, both fixed on a dev score table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from deepassay.errors import LeakError, ScoreError
from deepassay.labels import FAKE, REAL

if TYPE_CHECKING:  # applying a calibration needs NumPy only; the score table brings Arrow
    from deepassay.scores import ScoreTable

INEQUALITY = "flag_if_score_ge"
DEV = "dev"
# Slope per standard deviation of the dev scores below which a detector says nothing (or says it the wrong way round).
MIN_SLOPE = 1e-6
# A threshold lies at most this far (llr) from the dev file that fixes it, so that rounding flips no decision on it.
MARGIN = 1e-3
_MAX_STEPS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """llr = scale * score + offset, natural log, at a flat prior; fitted by `fit_calibration`.

    Args:
        scale: llr per unit of score, always > 0, so that order is kept.
        offset: llr of score 0.
        dev_table_sha256: `dev_table_hash` of the table it was fitted on.
        n_real: answered real samples it was fitted on.
        n_fake: answered fake samples it was fitted on.
        informative: False where the dev scores do not grow with FAKE; llrs are then about 0 everywhere.
        n_real_unanswered: real dev samples without a score, left out of the fit.
        n_fake_unanswered: fake dev samples without a score, left out of the fit.
        warning: what a reader of llrs must know, or empty.
    """

    scale: float
    offset: float
    dev_table_sha256: str
    n_real: int
    n_fake: int
    informative: bool
    n_real_unanswered: int = 0
    n_fake_unanswered: int = 0
    warning: str = ""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0 and math.isfinite(self.offset)):
            raise ScoreError(
                f"a calibration with scale {self.scale} and offset {self.offset}",
                hint="scale must be positive and both must be finite; fit it again on a dev table",
            )

    def llr(self, scores: Any) -> np.ndarray:
        """Log-likelihood ratios fake : real (natural log) of scores of any shape; NaN stays NaN."""
        return self.scale * np.asarray(scores, dtype=np.float64) + self.offset

    def to_dict(self) -> dict[str, Any]:
        """JSON form; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Calibration":
        """Read `to_dict`'s form. Raises ScoreError on unknown or missing keys and on wrong types."""
        return cls(**_checked(cls, values))


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """A threshold on the llr scale, fixed on dev at a named false-alarm rate: flag iff llr >= threshold.

    Args:
        name: ``bpcer_5`` for a target of 5 %.
        target_bpcer: the highest false-alarm rate on dev that was allowed, a fraction.
        threshold: llr, natural log.
        dev_table_sha256: `dev_table_hash` of the table it was fixed on.
        realised_bpcer: false-alarm rate on answered real dev samples.
        n_real: answered real dev samples.
        n_clusters: clusters among them.
        supported: rule of 3 (ISO/IEC 19795-1): at least 3 / target independent real dev units (clusters when fewer).
        inequality: always ``flag_if_score_ge``; stored, because other tools use the strict one.
        n_real_unanswered: real dev samples without a score, not part of the rate.
    """

    name: str
    target_bpcer: float
    threshold: float
    dev_table_sha256: str
    realised_bpcer: float
    n_real: int
    n_clusters: int
    supported: bool
    inequality: str = INEQUALITY
    n_real_unanswered: int = 0

    def __post_init__(self) -> None:
        if self.inequality != INEQUALITY:
            raise ScoreError(
                f"operating point {self.name!r} has inequality {self.inequality!r}",
                hint=f"this version decides by {INEQUALITY} only; fit the operating point again",
            )
        if not math.isfinite(self.threshold):
            raise ScoreError(
                f"operating point {self.name!r} has threshold {self.threshold}", hint="fit it again on a dev table"
            )

    def flags(self, llr: Any) -> np.ndarray:
        """Boolean array of any shape: llr >= threshold; NaN is never flagged."""
        return np.asarray(llr, dtype=np.float64) >= self.threshold

    def to_dict(self) -> dict[str, Any]:
        """JSON form; `from_dict` reads it back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "OperatingPoint":
        """Read `to_dict`'s form. Raises ScoreError on unknown or missing keys and on wrong types."""
        return cls(**_checked(cls, values))


def operating_point_name(target_bpcer: float) -> str:
    """``bpcer_5`` for 0.05, ``bpcer_0.1`` for 0.001: per cent without trailing zeros."""
    return f"bpcer_{100 * target_bpcer:.10g}"


def dev_table_hash(dev: "ScoreTable") -> str:
    """Hash of a score table before calibration: the same for the raw table and for its copy with llrs."""
    from deepassay.scores import ScoreTable

    raw = dev.with_llr(np.full(len(dev), np.nan), dev_table_sha256="")
    return ScoreTable(raw.table, {}).hash


def fit_calibration(dev: "ScoreTable") -> Calibration:
    """Fit llr = scale * score + offset on answered dev samples by prior-free logistic regression.

    Each class carries half of the weight whatever its size, so the fitted log odds are log-likelihood ratios at a flat
    prior (Bruemmer and du Preez, Application-independent evaluation of speaker detection, Computer Speech and Language
    20, 2006, with effective prior 1/2). Targets are Platt's (Probabilistic outputs for support vector machines, 1999):
    (n + 1) / (n + 2) and 1 / (n + 2), n counted per class. They keep the slope finite when dev separates the classes,
    at a size that the number of samples supports, and vanish as n grows. Newton steps with step halving, as in Lin, Lin
    and Weng (A note on Platt's probabilistic outputs, Machine Learning 68, 2007).

    Raises:
        LeakError: a row is not of split dev.
        ScoreError: no answered sample of one class, an unlabelled row, or a score that is not finite.
    """
    labels, scores, answered = _dev_columns(dev)
    fake = labels[answered] == FAKE
    used = scores[answered]
    n_fake, n_real = int(fake.sum()), int((~fake).sum())
    if not n_fake or not n_real:
        raise ScoreError(
            f"the dev table has {n_real} real and {n_fake} fake samples with a score; calibration needs both",
            hint="put both classes into dev (split.dev), or find out why one class was not answered",
        )
    scale, offset, informative, warning = _fit(used, fake)
    return Calibration(
        scale=scale,
        offset=offset,
        dev_table_sha256=dev_table_hash(dev),
        n_real=n_real,
        n_fake=n_fake,
        informative=informative,
        n_real_unanswered=int((labels[~answered] == REAL).sum()),
        n_fake_unanswered=int((labels[~answered] == FAKE).sum()),
        warning=warning,
    )


def calibrate(table: "ScoreTable", calibration: Calibration) -> "ScoreTable":
    """A copy of any split's table with llrs from a calibration that was fitted on dev."""
    return table.with_llr(calibration.llr(table.column("score")), dev_table_sha256=calibration.dev_table_sha256)


def fit_operating_points(
    dev: "ScoreTable", targets: Sequence[float] = (0.05, 0.01), *, where_supported: Sequence[float] = (0.001,)
) -> list[OperatingPoint]:
    """Thresholds on the llr scale at named false-alarm rates, from a dev table that carries llrs.

    The threshold is the smallest real llr of dev at which dev BPCER <= target, and the next float above the largest
    where none is (`metrics.decision.threshold_at_bpcer`); then it is moved away from that file, by `MARGIN` or half the
    way to the next: dev BPCER stays, and a logit that another batch size or machine rounds otherwise flips no decision.
    Of a block of tied real samples all are flagged or none, and fakes have no say.

    Args:
        dev: rows of split dev only, calibrated (`calibrate`).
        targets: false-alarm rates that are always fixed, supported or not.
        where_supported: false-alarm rates that are fixed only where the rule of 3 supports them.

    Raises:
        LeakError: a row is not of split dev.
        ScoreError: no llrs, no answered real sample, or a target outside (0, 1).
    """
    from deepassay.metrics.decision import threshold_at_bpcer

    labels, _, answered = _dev_columns(dev)
    llr = dev.column("llr")
    if np.isnan(llr[answered]).any():
        raise ScoreError(
            "the dev table has answered samples without an llr", hint="calibrate it first: calibrate(dev, calibration)"
        )
    real = answered & (labels == REAL)
    n_real = int(real.sum())
    if not n_real:
        raise ScoreError(
            "the dev table has no real sample with a score", hint="put real samples into dev, thresholds rest on them"
        )
    n_clusters = len(set(dev.column("cluster")[real]))
    dev_hash = dev_table_hash(dev)
    points = []
    for target in (*targets, *where_supported):
        if not 0 < target < 1:
            raise ScoreError(f"target BPCER {target}", hint="give a fraction between 0 and 1, such as 0.05")
        supported = min(n_real, n_clusters) >= 3 / target - 1e-9
        if target in where_supported and target not in targets and not supported:
            continue
        threshold = _apart(threshold_at_bpcer(labels[real], llr[real], target), llr[real])
        points.append(
            OperatingPoint(
                name=operating_point_name(target),
                target_bpcer=float(target),
                threshold=threshold,
                dev_table_sha256=dev_hash,
                realised_bpcer=float(np.mean(llr[real] >= threshold)),
                n_real=n_real,
                n_clusters=n_clusters,
                supported=bool(supported),
                n_real_unanswered=int((~answered & (labels == REAL)).sum()),
            )
        )
    return points


def _apart(threshold: float, llr: np.ndarray) -> float:
    """The threshold between the real llr that fixes it and the next one below; above all, a margin above the last."""
    if not (llr >= threshold).any():
        return threshold + MARGIN
    below = float(llr[llr < threshold].max(initial=-math.inf))
    moved = threshold - min(MARGIN, (threshold - below) / 2)
    return moved if moved > below else threshold


def _dev_columns(dev: "ScoreTable") -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels (n,), scores (n,) and the answered mask (n,) of a table that is dev and nothing else."""
    splits = dev.column("split")
    foreign = [(i, s) for i, s in zip(dev.column("sample_id"), splits, strict=True) if s != DEV]
    if foreign:
        sample_id, split = foreign[0]
        raise LeakError(
            f"{len(foreign)} of {len(dev)} rows are not of split dev, first {sample_id!r} of {split or 'no split'}",
            hint="calibration and thresholds are fixed on dev only: pass table.select(table.column('split') == 'dev')",
        )
    labels, scores, answered = dev.column("label"), dev.column("score"), dev.answered
    if (labels < 0).any():
        raise ScoreError(
            f"{int((labels < 0).sum())} dev rows have no label", hint="label them real or fake, or take them out of dev"
        )
    wrong = answered & ~np.isfinite(scores)
    if wrong.any():
        first = dev.column("sample_id")[wrong][0]
        raise ScoreError(
            f"dev sample {first!r} is answered but its score is not a finite number",
            hint="find out why the detector returned it; report the sample with status error until then",
        )
    return labels, scores, answered


def _fit(scores: np.ndarray, fake: np.ndarray) -> tuple[float, float, bool, str]:
    """Scale, offset, whether dev scores grow with FAKE, and a warning, from finite scores (n,) and a mask (n,)."""
    from deepassay.metrics.ranking import auc

    with np.errstate(over="ignore", invalid="ignore"):
        centre, spread = float(np.mean(scores)), float(np.std(scores))
    if not math.isfinite(spread):
        raise ScoreError(
            f"dev scores reach {np.abs(scores).max():.3g}, too large to fit", hint="find out why the detector does that"
        )
    if not spread > 1e-12 * max(1.0, abs(centre)):
        return MIN_SLOPE, -MIN_SLOPE * centre, False, "all dev scores are equal: the detector says nothing"
    unit = (scores - centre) / spread
    n_fake, n_real = int(fake.sum()), int((~fake).sum())
    target = np.where(fake, (n_fake + 1) / (n_fake + 2), 1 / (n_real + 2))
    weight = np.where(fake, 0.5 / n_fake, 0.5 / n_real)
    slope, shift = _newton(unit, target, weight)
    ranked = auc(fake.astype(int), scores)
    if slope <= MIN_SLOPE or ranked <= 0.5:
        slope = MIN_SLOPE
        shift = -slope * float(np.sum(weight * unit))
        warning = f"dev scores do not grow with fake (dev AUC {ranked:.3f}): check the polarity and the training"
        return slope / spread, shift - slope * centre / spread, False, warning
    warning = ""
    if ranked == 1.0:
        warning = (
            "dev separates the two classes: the slope comes from the number of dev samples (Platt's targets), "
            "so large llrs are cautious guesses"
        )
    return slope / spread, shift - slope * centre / spread, True, warning


def _newton(x: np.ndarray, target: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
    """Slope and shift of least weighted cross-entropy with soft targets: convex, so Newton with halving works."""

    def loss(a: float, b: float) -> float:
        z = a * x + b
        return float(np.sum(weight * (np.logaddexp(0.0, z) - target * z)))

    a = b = 0.0
    best = loss(a, b)
    for _ in range(_MAX_STEPS):
        z = a * x + b
        p = np.exp(-np.logaddexp(0.0, -z))
        residual, curvature = weight * (p - target), weight * p * (1 - p)
        gradient = np.array([np.sum(residual * x), np.sum(residual)])
        if np.abs(gradient).max() < 1e-12:
            break
        hessian = np.array(
            [[np.sum(curvature * x * x), np.sum(curvature * x)], [np.sum(curvature * x), np.sum(curvature)]]
        )
        step = np.linalg.solve(hessian + 1e-12 * np.eye(2), gradient)
        size = 1.0
        while size > 1e-10:
            value = loss(a - size * step[0], b - size * step[1])
            if value <= best - 1e-4 * size * float(gradient @ step):
                break
            size /= 2
        else:
            break  # no further descent at float precision
        a, b, best = a - size * float(step[0]), b - size * float(step[1]), value
    return a, b


def _checked(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    known = {f.name: f.type for f in fields(kind)}
    unknown = sorted(set(values) - set(known))
    required = {f.name for f in fields(kind) if f.default is MISSING}
    missing = sorted(required - set(values))
    if unknown or missing:
        raise ScoreError(
            f"{kind.__name__}: unknown keys {unknown}, missing keys {missing}", hint="fit it again with this version"
        )
    out: dict[str, Any] = {}
    for key, value in values.items():
        wanted = known[key]
        good = (
            isinstance(value, bool)
            if wanted is bool
            else isinstance(value, str)
            if wanted is str
            else isinstance(value, int) and not isinstance(value, bool)
            if wanted is int
            else isinstance(value, int | float) and not isinstance(value, bool)
        )
        if not good:
            raise ScoreError(f"{kind.__name__}: {key} is {value!r}", hint="fit it again with this version")
        out[key] = float(value) if wanted is float else value
    return out
