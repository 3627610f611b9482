"""Abstention limits: how small, blurred, short, noisy or unlike its development data a file may be; learnt on dev."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np

from deepassay.errors import ScoreError
from deepassay.modality.views import EvenViews, Modality, Streams, Views

VERSION = 1
MIN_FILES = 50
# A limit lies this share of the way from the dev median to the dev extreme beyond that extreme; of pixels and seconds,
# in their logarithm, so that it stays above nothing.
SLACK = 0.1
_RATIOS = ("face_px", "speech_s")
_FOLDS = 5
_SHRINKAGE = 0.1
_BANDS, _FRAME = 8, 512
_OCTAVES = 4
_ACTIVE_DB, _SOUND_DB = 35.0, -60.0
# name -> (unit, what is missing where a file is below it)
MEASURES: dict[str, dict[str, tuple[str, str]]] = {
    "face": {
        "face_px": ("px", "the face is smaller"),
        "sharpness": ("log10 of the Laplacian's variance", "the face is more blurred"),
    },
    "voice": {"speech_s": ("s", "less speech was heard"), "snr_db": ("dB", "the sound is noisier")},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The least value of one measure.

    Args:
        name: a key of `MEASURES`. least: below it a file is not judged. unit: of all four numbers.
        dev_least, dev_median: of the answered dev files.
    """

    name: str
    least: float
    unit: str
    dev_least: float
    dev_median: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Distance:
    """Mahalanobis distance of a file's mean statistics from those of the dev files.

    Args:
        mean: (d,). whitening: (d, d); the distance is the length of whitening @ (statistics - mean).
        most: above it a file is not judged. dev_most, dev_median: of dev files, each measured by a fit without its
            cluster's fold.
    """

    mean: tuple[float, ...]
    whitening: tuple[tuple[float, ...], ...]
    most: float
    dev_most: float
    dev_median: float

    def of(self, statistics: np.ndarray) -> float:
        """Distance of the statistics (d,) of one file."""
        return float(np.linalg.norm(np.array(self.whitening) @ (statistics - np.array(self.mean))))


@dataclass(frozen=True, slots=True, kw_only=True)
class AbstentionLimits:
    """What a file must be like to be judged; `learn_limits` makes them.

    No dev file lies beyond them, so calibration and thresholds rest on the same files with and without them. They speak
    of simple statistics of pictures and sounds and not of what the network has learnt: a file within them may still be
    unlike any that the detector was made for.

    Args:
        modality: face or voice. version: of the measures' definitions. n_files: answered dev files.
        slack: see `SLACK`. limits: lower bounds. distance: None where it was not learnt.
        missing: why there are none, or empty.
    """

    modality: str
    version: int = VERSION
    n_files: int = 0
    slack: float = SLACK
    limits: tuple[Limit, ...] = ()
    distance: Distance | None = None
    missing: str = ""

    def __bool__(self) -> bool:
        return bool(self.limits) or self.distance is not None

    def to_dict(self) -> dict[str, Any]:
        """JSON form; `from_dict` reads it back."""
        out = asdict(self)
        out["limits"] = [asdict(limit) for limit in self.limits]
        if self.distance is not None:
            out["distance"] |= {
                "mean": list(self.distance.mean),
                "whitening": [list(row) for row in self.distance.whitening],
            }
        return out

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "AbstentionLimits":
        """Read `to_dict`'s form. Raises ScoreError on anything else."""
        try:
            _exact(cls, values)
            limits = []
            for limit in values["limits"]:
                _exact(Limit, limit)
                limits.append(Limit(**limit))
            distance = values["distance"]
            if distance is not None:
                _exact(Distance, distance)
                rows = tuple(tuple(map(_number, row)) for row in distance["whitening"])
                mean = tuple(map(_number, distance["mean"]))
                distance = Distance(**{**distance, "mean": mean, "whitening": rows})
            out = cls(**{**values, "limits": tuple(limits), "distance": distance})
            _check(out)
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
            raise ScoreError(f"abstention limits cannot be used ({error})", hint="export the bundle again") from error
        return out

    def refuse(self, facts: "FileFacts") -> str:
        """One sentence for a file beyond a limit, else empty."""
        words = MEASURES[self.modality]
        for limit in self.limits:
            value = getattr(facts, limit.name)
            if value is not None and value < limit.least:
                unit = f" {limit.unit}" if len(limit.unit) < 4 else ""
                return (
                    f"{words[limit.name][1]} than in any file that the thresholds were fixed on "
                    f"({limit.name} {value:.3g}{unit}; limit {limit.least:.3g}, least on dev {limit.dev_least:.3g})"
                )
        if self.distance is not None:
            value = self.distance.of(facts.statistics)
            if not value <= self.distance.most:
                thing = "picture" if self.modality == "face" else "sound"
                return (
                    f"the {thing} is unlike the files that the thresholds were fixed on (distance {value:.3g}; limit "
                    f"{self.distance.most:.3g}, largest on dev {self.distance.dev_most:.3g})"
                )
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What was measured of one file: of the face track that decides, or of all windows of a recording.

    Args:
        statistics: (d,) means over views.
        face_px: median shorter side of the face box in the source. sharpness: median log10 of the variance of the
            Laplacian of the crop's luma, 0 to 255 (Pech-Pacheco et al., Diatom autofocusing in brightfield microscopy,
            ICPR 2000).
        speech_s: seconds of the windows' span that are active. snr_db: median `Views.quality`.
    """

    statistics: np.ndarray
    face_px: float | None = None
    sharpness: float | None = None
    speech_s: float | None = None
    snr_db: float | None = None


def measure(name: str, views: Views) -> np.ndarray:
    """(k, 1 + d) numbers of k views: sharpness (faces) or the active share (voices), then the statistics.

    Faces: luma mean, luma spread, red and blue over green, and log10 energies of the details at four octaves. Voices:
    level in dBFS and the shares of power in eight bands, in dB. NumPy only, about 1 ms a view.
    """
    rows = [_of_picture(view) if name == "face" else _of_sound(view) for view in views.data]
    return np.array(rows, dtype=np.float64)


def file_facts(name: str, numbers: np.ndarray, logits: np.ndarray, views: Views) -> FileFacts:
    """What the views of one file come to.

    Args:
        name: face or voice. numbers: (k, 1 + d) of `measure`. logits: (k,). views: of which only data may be gone.
    """
    if name == "face":
        tracks = np.unique(views.track)
        decides = tracks[int(np.argmax([logits[views.track == t].mean() for t in tracks]))]
        mine = views.track == decides
        return FileFacts(
            statistics=numbers[mine, 1:].mean(axis=0),
            face_px=None if views.size is None else float(np.median(views.size[mine])),
            sharpness=float(np.median(numbers[mine, 0])),
        )
    spoken = None
    if views.end_s is not None:
        spoken = float(numbers[:, 0].mean() * _union(views.start_s, views.end_s))
    return FileFacts(
        statistics=numbers[:, 1:].mean(axis=0), speech_s=spoken, snr_db=float(np.median(views.quality))
    )  # fmt: skip


def learn_limits(name: str, facts: Sequence[FileFacts], clusters: Sequence[str]) -> AbstentionLimits:
    """Limits from the answered dev files.

    A lower limit is the least dev value, less `SLACK` times its distance from the median (in the logarithm, for pixels
    and seconds). The distance's limit is found the same way above the largest distance of a dev file to the others,
    those of its own fold of clusters left out.

    Args:
        name: face or voice. facts: of each file. clusters: of each file, the units of independence.
    """
    if len(facts) < MIN_FILES:
        missing = f"{len(facts)} dev files with a score, and at least {MIN_FILES} are needed"
        return AbstentionLimits(modality=name, n_files=len(facts), missing=missing)
    limits = []
    for measured, (unit, _) in MEASURES[name].items():
        values = [getattr(fact, measured) for fact in facts]
        if any(value is None for value in values):
            continue
        least, median = float(np.min(values)), float(np.median(values))
        if measured in _RATIOS:
            limit = least * (least / median) ** SLACK if least > 0 else 0.0
        else:
            limit = least - SLACK * (median - least)
        limits.append(Limit(name=measured, least=limit, unit=unit, dev_least=least, dev_median=median))
    return AbstentionLimits(
        modality=name,
        n_files=len(facts),
        limits=tuple(limits),
        distance=_learn_distance(np.stack([fact.statistics for fact in facts]), clusters),
    )


def _learn_distance(rows: np.ndarray, clusters: Sequence[str]) -> Distance:
    order = {cluster: i for i, cluster in enumerate(dict.fromkeys(clusters))}
    fold = np.array([order[cluster] % _FOLDS for cluster in clusters])
    apart = np.zeros(len(rows))
    for number in range(_FOLDS):
        mine = fold == number
        if mine.any() and (~mine).sum() > 1:
            mean, whitening = _fit(rows[~mine])
            apart[mine] = np.linalg.norm((rows[mine] - mean) @ whitening.T, axis=1)
    mean, whitening = _fit(rows)
    within = np.linalg.norm((rows - mean) @ whitening.T, axis=1)
    distances = np.maximum(apart, within)  # no dev file may lie beyond, however the folds fell
    most, median = float(distances.max()), float(np.median(distances))
    return Distance(
        mean=tuple(mean.tolist()),
        whitening=tuple(tuple(row) for row in whitening.tolist()),
        most=most + SLACK * (most - median),
        dev_most=most,
        dev_median=median,
    )


def _fit(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (d,) and whitening (d, d) of a covariance that is shrunk towards its own diagonal."""
    mean = rows.mean(axis=0)
    covariance = np.cov(rows, rowvar=False).reshape(rows.shape[1], rows.shape[1])
    spread = np.diag(np.maximum(np.diag(covariance), 1e-6))
    covariance = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * spread
    values, vectors = np.linalg.eigh(covariance)
    return mean, (vectors / np.sqrt(np.maximum(values, 1e-9))).T


def _of_picture(view: np.ndarray) -> list[float]:
    frames = view.reshape(-1, *view.shape[-3:])
    colour = frames[len(frames) // 2].astype(np.float32)  # of a clip, its middle frame
    luma = colour @ np.array([0.299, 0.587, 0.114], np.float32)
    inner = luma[1:-1, 1:-1]
    bent = 4 * inner - luma[:-2, 1:-1] - luma[2:, 1:-1] - luma[1:-1, :-2] - luma[1:-1, 2:]
    red, green, blue = (float(colour[..., i].mean()) for i in range(3))
    out = [math.log10(float(bent.var()) + 0.1), float(luma.mean()), float(luma.std()), red - green, blue - green]
    for _ in range(min(_OCTAVES, int(math.log2(min(luma.shape))))):
        height, width = (side // 2 * 2 for side in luma.shape)
        cells = luma[:height, :width].reshape(height // 2, 2, width // 2, 2)
        luma = cells.mean(axis=(1, 3))
        details = cells - luma[:, None, :, None]
        out.append(math.log10(float(np.square(details).mean()) + 0.1))
    return out


def _of_sound(view: np.ndarray) -> list[float]:
    frame = min(_FRAME, len(view))
    rows = view[: len(view) // frame * frame].reshape(-1, frame).astype(np.float64)
    rows = rows - rows.mean(axis=1, keepdims=True)
    levels = 10 * np.log10(np.maximum(np.square(rows).mean(axis=1), 1e-12))
    active = levels > max(_SOUND_DB, float(np.percentile(levels, 95)) - _ACTIVE_DB)
    power = np.square(np.abs(np.fft.rfft(rows, axis=1))).mean(axis=0)[1:]
    edges = np.unique(np.geomspace(1, len(power), _BANDS + 1).round().astype(int) - 1)
    bands = np.add.reduceat(power, edges[:-1]) if len(edges) > 1 else power[:1]
    bands = np.concatenate([bands, np.zeros(_BANDS - len(bands))])
    shares = 10 * np.log10(bands / max(float(power.sum()), 1e-12) + 1e-6)
    return [float(active.mean()), float(10 * np.log10(max(float(np.square(rows).mean()), 1e-12))), *shares.tolist()]


def _union(start_s: np.ndarray, end_s: np.ndarray) -> float:
    """Seconds that at least one span covers."""
    order = np.argsort(start_s, kind="stable")
    reached = np.maximum.accumulate(end_s[order])
    before = np.concatenate([[-np.inf], reached[:-1]])
    return float(np.maximum(0.0, reached - np.maximum(start_s[order], before)).sum())


class Guard:
    """A modality with limits: scoring asks `facts` of each part and `refuse` of each file (`modality.views.Guarded`).

    Everything else is the modality's own, its fingerprint too: stores and calibrations stay theirs.

    Args:
        inner: the modality. limits: what its files must be like; None only records.
    """

    name: str

    def __init__(self, inner: Modality, limits: AbstentionLimits | None) -> None:
        self.name = inner.name
        self._inner = inner
        self._limits = limits
        self.seen: list[FileFacts] = []

    def __getattr__(self, key: str) -> Any:
        if key.startswith("_"):
            raise AttributeError(key)
        return getattr(self._inner, key)

    @property
    def contract(self) -> dict[str, Any]:
        """The modality's."""
        return self._inner.contract

    @property
    def fingerprint(self) -> str:
        """The modality's."""
        return self._inner.fingerprint

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The modality's."""
        return self._inner.input_shape

    def prepare(self, path: str | Path) -> Views:
        """The modality's."""
        return self._inner.prepare(path)

    def draw(self, prepared: Views, k: int, rng: np.random.Generator | None = None) -> Views:
        """The modality's."""
        return self._inner.draw(prepared, k, rng)

    def pool(self, logits: np.ndarray, views: Views) -> float:
        """The modality's."""
        return self._inner.pool(logits, views)

    def facts(self, views: Views) -> np.ndarray:
        """Numbers (k, m) of k views."""
        return measure(self.name, views)

    def refuse(self, facts: np.ndarray, logits: np.ndarray, views: Views) -> str:
        """Why a file is beyond the limits, or empty; without limits it is recorded in `seen`."""
        found = file_facts(self.name, facts, logits, views)
        if self._limits is None:
            self.seen.append(found)
            return ""
        return self._limits.refuse(found)


class _StreamGuard(Guard):
    """A guard around a modality that streams."""

    def choose(self, source: str | Path | Views, k: int) -> EvenViews:
        """The modality's."""
        return cast(Streams, self._inner).choose(source, k)


def guarded(modality: Modality, limits: AbstentionLimits | None) -> Guard:
    """A modality that asks for the limits, or one that records what would be asked where they are None."""
    return (_StreamGuard if isinstance(modality, Streams) else Guard)(modality, limits)


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{value!r} is not a finite number")
    return float(value)


def _exact(kind: type, values: Mapping[str, Any]) -> None:
    names = {f.name for f in fields(kind)}
    if set(values) != names:
        raise ValueError(f"{kind.__name__}: {', '.join(sorted(set(values) ^ names))} missing or unknown")


def _check(limits: AbstentionLimits) -> None:
    if limits.modality not in MEASURES or limits.version != VERSION or not isinstance(limits.missing, str):
        raise ValueError(f"modality {limits.modality!r}, version {limits.version!r}")
    if isinstance(limits.n_files, bool) or not isinstance(limits.n_files, int):
        raise ValueError("n_files is not a whole number")
    _number(limits.slack)
    for limit in limits.limits:
        if limit.name not in MEASURES[limits.modality] or not isinstance(limit.unit, str):
            raise ValueError(f"unknown measure {limit.name!r}")
        for value in (limit.least, limit.dev_least, limit.dev_median):
            _number(value)
    if limits.distance is not None:
        d = len(limits.distance.mean)
        if not d or len(limits.distance.whitening) != d or any(len(row) != d for row in limits.distance.whitening):
            raise ValueError("the distance's mean and whitening do not fit each other")
        for value in (limits.distance.most, limits.distance.dev_most, limits.distance.dev_median):
            _number(value)
