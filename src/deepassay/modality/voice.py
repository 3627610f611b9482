"""Voices: a sound file to windows of one length, silence told from speech by level alone, at any length."""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from deepassay import files
from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import FAKE, REAL, Status, Unusable
from deepassay.media.limits import DEFAULT_LIMITS, Limits
from deepassay.media.sound import read_sound, stream_sound
from deepassay.modality.views import EVERY, Views

_HOP_S = 0.01
_FLOOR_DB = -120.0
_BLOCK = 1 << 18
_SECONDS = r"(\d+(?:\.\d*)?(?:e[+-]?\d+)?)"
_SEGMENT = re.compile(rf"{_SECONDS}\s*-\s*{_SECONDS}")
_KEPT_S = 60.0  # a shorter recording is kept from the first pass over it; a longer one is decoded a second time


class VoiceModality:
    """Any container in, windows of mono sound out.

    The whole file is judged, leading and trailing silence included; nothing is normalised in level (only a recording
    whose peak is above full scale is divided by it). Activity is a matter of level, not of a speech model: a frame of
    20 ms (every 10 ms) is active where its RMS about its own mean (a constant offset is no sound) is above
    ``min_level_dbfs`` and within ``activity_range_db`` of the file's loud frames: the 95th percentile, or the mean of
    the ten loudest where that is more, so that one short word in a long silence is not judged by the silence. Steady
    noise and music count as active.

    Windows lie every ``hop_samples``, and one at the end; those without speech are left out. Scoring takes all of them
    (``even_views``), or k spread evenly where it is asked for k. `prepare` holds the file in memory, as a store of
    training views needs it; `choose` gives the same windows in memory that does not grow with the file: it decodes a
    recording of more than a minute twice, once for its levels and once for its windows.

    The score of a file is the mean of its windows' logits. With ``pool_s`` it is the largest mean over as many windows
    in a row as ``pool_s`` seconds hold: a long recording is then as fake as its most fake stretch, which finds a short
    manipulation in it and raises false alarms with length. Up to ``pool_s`` both are the same. Calibration and
    thresholds come after pooling and hold for the lengths that they were fixed on.

    Statuses: NO_SPEECH where the loud frames stay below ``min_level_dbfs``; TOO_SHORT where less than ``min_speech_s``
    is active or the file is shorter than that; OUT_OF_SCOPE where it is longer than ``max_seconds``; UNDECODABLE.

    Args:
        rate_hz: sampling rate of the windows.
        window_samples: length of a window (64,600 is AASIST's: Jung et al., ICASSP 2022). Shorter files are repeated.
        hop_samples: distance of windows in even drawing; half a window where None.
        min_speech_s: least active seconds in a file; even drawing leaves out windows with less unless all have less.
        min_level_dbfs: level below which nothing counts as sound; 0 dBFS is an RMS of 1.
        activity_range_db: how far below the loudest frames a frame is still active.
        max_seconds: longest file accepted.
        pool_s: length of the stretches that are pooled, in seconds of windows that hold speech; the whole file where
            None.
    """

    name = "voice"
    even_views = EVERY

    def __init__(
        self,
        *,
        rate_hz: int = 16000,
        window_samples: int = 64600,
        hop_samples: int | None = None,
        min_speech_s: float = 0.3,
        min_level_dbfs: float = -60.0,
        activity_range_db: float = 35.0,
        max_seconds: float = 10800.0,
        pool_s: float | None = None,
    ) -> None:
        hop = window_samples // 2 if hop_samples is None else hop_samples
        window_s = window_samples / rate_hz if rate_hz > 0 else 0.0
        for name, value, low, high in (
            ("rate_hz", rate_hz, 4000, 192_000),
            ("window_samples", window_samples, 320, 10_000_000),
            ("hop_samples", hop, 1, window_samples),
            ("min_speech_s", min_speech_s, 0.02, window_s),
            ("min_level_dbfs", min_level_dbfs, -100.0, -1.0),
            ("activity_range_db", activity_range_db, 3.0, 100.0),
            ("max_seconds", max_seconds, 1.0, 24 * 3600.0),
            *(() if pool_s is None else (("pool_s", pool_s, window_s, 24 * 3600.0),)),
        ):
            if not low <= value <= high:
                raise ConfigError(
                    f"voice modality: {name}={value} is outside [{low:g}, {high:g}]", hint=f"change {name}"
                )
        self.rate_hz, self.window_samples, self.hop_samples = int(rate_hz), int(window_samples), int(hop)
        self.min_speech_s, self.min_level_dbfs = float(min_speech_s), float(min_level_dbfs)
        self.activity_range_db, self.max_seconds = float(activity_range_db), float(max_seconds)
        self.pool_s = None if pool_s is None else float(pool_s)

    @property
    def contract(self) -> dict[str, Any]:
        """Settings, the shape and range of a view, and the rules in words."""
        return {
            "modality": self.name,
            "version": 1,
            "settings": {
                "rate_hz": self.rate_hz,
                "window_samples": self.window_samples,
                "hop_samples": self.hop_samples,
                "min_speech_s": self.min_speech_s,
                "min_level_dbfs": self.min_level_dbfs,
                "activity_range_db": self.activity_range_db,
                "max_seconds": self.max_seconds,
                "pool_s": self.pool_s,
            },
            "view": {"shape": [self.window_samples], "dtype": "float32", "layout": "mono samples in [-1, 1]"},
            "decode": "channels averaged; soxr HQ; divided by the peak where it is above 1",
            "activity": "frames of 20 ms every 10 ms, RMS about their mean",
            "draw": "windows every hop and one at the end, without silent ones, spread evenly; shorter files repeated",
            "pool": "mean over windows"
            if self.pool_s is None
            else f"mean over {self.pool_windows} windows in a row, largest over the file",
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the contract."""
        return files.fingerprint(self.contract)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(samples,)"""
        return (self.window_samples,)

    @property
    def window_s(self) -> float:
        """Length of a window in seconds."""
        return self.window_samples / self.rate_hz

    @property
    def pool_windows(self) -> int:
        """How many windows in a row make a stretch of ``pool_s``; 0 where the whole file is pooled."""
        if self.pool_s is None:
            return 0
        return 1 + round((self.pool_s - self.window_s) * self.rate_hz / self.hop_samples)

    def prepare(self, path: str | Path) -> Views:
        """The whole file: data (1, T) float32.

        Raises:
            Unusable: NO_SPEECH, TOO_SHORT, OUT_OF_SCOPE or UNDECODABLE. MediaError: no such file.
        """
        return self.prepare_signal(read_sound(path, self.rate_hz, self._limits()))

    def prepare_signal(self, signal: np.ndarray) -> Views:
        """Like `prepare`, for a signal (T,) float32 that is already mono at ``rate_hz``."""
        signal = np.ascontiguousarray(signal, np.float32)
        levels = self._levels(signal)
        self._check(levels, len(signal), silent=not np.any(signal))
        return Views(
            data=signal[None],
            start_s=np.zeros(1),
            quality=np.array([_range_db(levels)], np.float32),
            track=np.zeros(1, np.int32),
            end_s=np.array([len(signal) / self.rate_hz]),
        )

    def draw(self, prepared: Views, k: int, rng: np.random.Generator | None = None) -> Views:
        """Windows (k, window_samples): evenly spread without ``rng``, at random places with it.

        A file shorter than a window is repeated until it fills one: from its start in even drawing (one view), from a
        random point of the cycle in random drawing. Random drawing tries a few places for one that holds speech.
        """
        if rng is None:
            chosen = self.choose(prepared, k)
            return next(chosen.parts(len(chosen)))
        if k < 1:
            raise ValueError(f"cannot draw {k} views")
        signal = prepared.data[0]
        activity = self._activity(self._levels(signal))
        starts = np.array([self._random_start(len(signal), activity, rng) for _ in range(k)])
        return self._views([self._cut(signal, int(s)) for s in starts], starts, len(signal), float(prepared.start_s[0]))

    def choose(self, source: str | Path | Views, k: int) -> "EvenWindows":
        """The windows of even drawing, found and not yet cut: those of ``draw(prepare(path), k)``.

        Args:
            source: a file, or what `prepare` made of it.
            k: most windows; spread evenly where the recording has more.

        Raises:
            Unusable, MediaError: as `prepare`.
        """
        if k < 1:
            raise ValueError(f"cannot draw {k} views")
        if isinstance(source, Views):
            signal = source.data[0]
            starts = self._even_starts(len(signal), self._activity(self._levels(signal)), k)
            return EvenWindows(self, starts, len(signal), signal, offset_s=float(source.start_s[0]))
        found = self._scan(source)
        self._check(found.levels, found.length, silent=found.peak == 0)
        starts = self._even_starts(found.length, self._activity(found.levels), k)
        notes = ()
        if found.source_hz < self.rate_hz:
            notes = (
                f"recorded at {found.source_hz} Hz: it holds nothing above {found.source_hz / 2000:g} kHz, and the "
                f"detector hears up to {self.rate_hz / 2000:g} kHz",
            )
        return EvenWindows(
            self, starts, found.length, found.signal, path=Path(source), scale=max(1.0, found.peak), notes=notes
        )

    def stream(self, source: str | Path | Views, k: int = EVERY, size: int = 16) -> Iterator[Views]:
        """Every window of a file in order, ``size`` at a time (each size x window_samples x 4 bytes); see `choose`."""
        yield from self.choose(source, k).parts(size)

    def view_labels(self, views: Views, label: int, segments: str, min_fake_s: float = 0.1) -> np.ndarray:
        """Targets (k,) of windows drawn from a sample: its label, or by `window_labels` where segments are annotated.

        Args:
            views: drawn by this modality.
            label: of the sample.
            segments: attribute ``fake_segments`` of the sample; empty: the label holds throughout.
            min_fake_s: least fake seconds in a fake window.

        Raises:
            ManifestError: segments that cannot be read, or of a real sample.
        """
        if not segments:
            return np.full(len(views), label, np.int8)
        if label != FAKE or views.end_s is None:
            raise ManifestError(
                f"fake_segments {segments[:60]!r} of a sample that is not fake, or of views without an end",
                hint="only fake samples have fake_segments; draw views with this modality",
            )
        held = float(views.end_s[0] - views.start_s[0])
        short = held < self.window_s - 1e-6  # then the file is repeated, and every window holds all of it
        return window_labels(
            parse_segments(segments), views.start_s, self.window_s, min_fake_s, duration_s=held if short else None
        )

    def pool(self, logits: np.ndarray, views: Views) -> float:
        """Mean over windows; with ``pool_s`` the largest mean over `pool_windows` windows in a row."""
        if len(logits) != len(views) or not len(views):
            raise ValueError(f"{len(logits)} logits for {len(views)} views")
        values = np.asarray(logits, np.float64)[np.argsort(views.start_s, kind="stable")]
        if self.pool_s is None or len(values) <= self.pool_windows:
            return float(np.mean(values))
        total = np.concatenate([[0.0], np.cumsum(values)])
        return float((total[self.pool_windows :] - total[: -self.pool_windows]).max() / self.pool_windows)

    def _limits(self) -> Limits:
        return replace(DEFAULT_LIMITS, max_seconds=self.max_seconds)

    def _check(self, levels: np.ndarray, length: int, *, silent: bool) -> None:
        """Raise Unusable where a recording of these levels and this many samples cannot be judged."""
        if silent:
            raise Unusable(Status.NO_SPEECH, "digital silence (or channels that cancel each other)")
        if length < self.min_speech_s * self.rate_hz:
            raise Unusable(
                Status.TOO_SHORT, f"{length / self.rate_hz:.2f} s long, at least {self.min_speech_s:g} s are needed"
            )
        if _loud_db(levels) < self.min_level_dbfs:
            raise Unusable(Status.NO_SPEECH, f"the level stays below {self.min_level_dbfs:g} dBFS")
        active_s = float(self._active(levels).sum()) * _HOP_S
        if active_s < self.min_speech_s:
            raise Unusable(
                Status.TOO_SHORT,
                f"{active_s:.2f} s of sound above the noise, at least {self.min_speech_s:g} s are needed",
            )

    def _scan(self, path: str | Path) -> "_Scan":
        """One pass over a file: its length, levels and peak, and the signal itself where it is short."""
        meter, kept, length, peak, source_hz = self._meter(), [], 0, 0.0, 0
        for block, rate in stream_sound(path, self.rate_hz, self._limits()):
            source_hz = rate
            meter.feed(block)
            length += len(block)
            peak = max(peak, float(np.abs(block).max(initial=0.0)))
            kept = [*kept, block] if kept is not None and length <= _KEPT_S * self.rate_hz else None
        signal = None if kept is None else np.concatenate(kept)
        levels = meter.levels()
        if peak > 1:  # the levels of what is scored, to the last bit: those of the scaled signal
            meter = self._meter()
            for block in [signal] if signal is not None else self._blocks(path):
                meter.feed(block / np.float32(peak))
            levels = meter.levels()
            signal = None if signal is None else signal / np.float32(peak)
        return _Scan(length, peak, levels, source_hz, signal)

    def _blocks(self, path: str | Path) -> Iterator[np.ndarray]:
        return (block for block, _ in stream_sound(path, self.rate_hz, self._limits()))

    def _meter(self) -> "_LevelMeter":
        return _LevelMeter(round(_HOP_S * self.rate_hz))

    def _levels(self, signal: np.ndarray) -> np.ndarray:
        """(frames,) dBFS of frames of 20 ms every 10 ms."""
        meter = self._meter()
        for start in range(0, len(signal), _BLOCK):
            meter.feed(signal[start : start + _BLOCK])
        return meter.levels()

    def _active(self, levels: np.ndarray) -> np.ndarray:
        """(frames,) bool."""
        return levels >= max(self.min_level_dbfs, _loud_db(levels) - self.activity_range_db)

    def _activity(self, levels: np.ndarray) -> np.ndarray:
        """(frames + 1,) active frames before each frame."""
        return np.concatenate([[0], np.cumsum(self._active(levels))])

    def _speech_s(self, starts: np.ndarray, activity: np.ndarray) -> np.ndarray:
        """Active seconds of the windows at some samples."""
        hop = round(_HOP_S * self.rate_hz)
        first, last = (np.minimum(at // hop, len(activity) - 1) for at in (starts, starts + self.window_samples))
        return (activity[last] - activity[first]) * _HOP_S

    def _even_starts(self, length: int, activity: np.ndarray, k: int) -> np.ndarray:
        if length <= self.window_samples:
            return np.zeros(1, np.int64)
        last = length - self.window_samples
        starts = np.arange(0, last + 1, self.hop_samples)
        if starts[-1] != last:
            starts = np.append(starts, last)
        speech = self._speech_s(starts, activity)
        spoken = speech >= self.min_speech_s
        starts = starts[spoken] if spoken.any() else starts[[int(speech.argmax())]]
        if len(starts) <= k:
            return starts
        return starts[((np.arange(k) + 0.5) * len(starts) / k).astype(np.int64)]

    def _random_start(self, length: int, activity: np.ndarray, rng: np.random.Generator) -> int:
        if length <= self.window_samples:
            return int(rng.integers(length))
        tried = rng.integers(length - self.window_samples + 1, size=8)
        speech = self._speech_s(tried, activity)
        good = tried[speech >= self.min_speech_s]
        return int(good[0]) if len(good) else int(tried[int(np.argmax(speech))])

    def _cut(self, signal: np.ndarray, start: int) -> np.ndarray:
        """One window; a file shorter than a window is a cycle."""
        if len(signal) <= self.window_samples:
            return np.resize(np.roll(signal, -start), self.window_samples)
        return signal[start : start + self.window_samples]

    def _views(self, rows: Sequence[np.ndarray], starts: np.ndarray, length: int, offset_s: float) -> Views:
        start_s = starts / self.rate_hz + offset_s
        return Views(
            data=np.stack(rows),
            start_s=start_s,
            quality=np.array([_range_db(self._levels(row)) for row in rows], np.float32),
            track=np.zeros(len(starts), np.int32),
            end_s=start_s + min(length, self.window_samples) / self.rate_hz,
        )


@dataclass(frozen=True, slots=True)
class _Scan:
    """What one pass over a file found: samples, largest absolute value, levels, rate of the source, short signals."""

    length: int
    peak: float
    levels: np.ndarray
    source_hz: int
    signal: np.ndarray | None


class _LevelMeter:
    """Levels of frames, the same to the last bit however the signal is cut into blocks."""

    def __init__(self, hop: int) -> None:
        self.hop = hop
        self._rest = np.zeros(0, np.float32)
        self._sums: list[np.ndarray] = []
        self._squares: list[np.ndarray] = []

    def feed(self, block: np.ndarray) -> None:
        signal = np.concatenate([self._rest, block]) if len(self._rest) else block
        n = len(signal) // self.hop
        halves = signal[: n * self.hop].astype(np.float64).reshape(n, self.hop)
        self._sums.append(halves.sum(axis=1))
        self._squares.append(np.einsum("ij,ij->i", halves, halves))
        self._rest = signal[n * self.hop :].copy()

    def levels(self) -> np.ndarray:
        """(frames,) dBFS of the whole frames so far, each two hops long; of a shorter signal, of what there is."""
        total, square = (np.concatenate(parts or [np.zeros(0)]) for parts in (self._sums, self._squares))
        if len(total) < 2:
            rest = self._rest.astype(np.float64)
            n = max(1, len(total) * self.hop + len(rest))
            mean, power = np.array([total.sum() + rest.sum()]) / n, np.array([square.sum() + rest @ rest]) / n
        else:
            mean, power = ((part[:-1] + part[1:]) / (2 * self.hop) for part in (total, square))
        return 10 * np.log10(np.maximum(power - mean * mean, 10 ** (_FLOOR_DB / 10)))


@dataclass(frozen=True, eq=False)
class EvenWindows:
    """Windows of one recording, chosen and not yet cut; small enough to hand to another process. See `choose`.

    Attributes:
        starts: (k,) samples.
        length: samples of the recording.
        notes: what a reader of its score must know of the file.
    """

    modality: VoiceModality
    starts: np.ndarray
    length: int
    signal: np.ndarray | None = None
    path: Path | None = None
    scale: float = 1.0
    offset_s: float = 0.0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.starts)

    def parts(self, size: int) -> Iterator[Views]:
        """The windows in order, at most ``size`` at a time.

        Raises:
            Unusable: UNDECODABLE where the file is no longer what it was when the windows were chosen.
        """
        rows: list[np.ndarray] = []
        done = 0
        for row in self._rows():
            rows.append(row)
            if len(rows) == size or done + len(rows) == len(self.starts):
                starts = self.starts[done : done + len(rows)]
                done += len(rows)
                yield self.modality._views(rows, starts, self.length, self.offset_s)
                rows = []
        if done < len(self.starts):
            raise Unusable(Status.UNDECODABLE, "the file changed while it was read")

    def _rows(self) -> Iterator[np.ndarray]:
        if self.signal is not None:
            yield from (self.modality._cut(self.signal, int(start)) for start in self.starts)
            return
        assert self.path is not None
        window = self.modality.window_samples
        held, first, number = np.zeros(0, np.float32), 0, 0
        for block in self.modality._blocks(self.path):
            held = np.concatenate([held, block / np.float32(self.scale) if self.scale > 1 else block])
            while number < len(self.starts) and self.starts[number] + window <= first + len(held):
                begin = int(self.starts[number]) - first
                yield held[begin : begin + window]
                number += 1
            if number == len(self.starts):
                return
            drop = min(len(held), max(0, int(self.starts[number]) - first))
            held, first = held[drop:].copy(), first + drop


def parse_segments(text: str) -> np.ndarray:
    """``0.32-1.6;2-2.5`` (attribute ``fake_segments`` of a sample) as (n, 2) float64 seconds, in order; empty: none.

    Raises:
        ManifestError: not pairs of seconds, each ending after it begins and not before the last one ends.
    """
    pairs = [_SEGMENT.fullmatch(part.strip()) for part in text.split(";") if part.strip()]
    if not all(pairs):
        raise ManifestError(
            f"fake_segments {text[:60]!r} is not a list of start-end;start-end in seconds",
            hint="write seconds as plain numbers, such as 0.32-1.6;2-2.5",
        )
    out = np.array([[float(v) for v in pair.groups()] for pair in pairs if pair], np.float64).reshape(-1, 2)
    if (np.diff(out.ravel()) < 0).any() or (out[:, 0] == out[:, 1]).any():
        raise ManifestError(
            f"fake_segments {text[:60]!r}: segments must lie one after the other", hint="sort and join them"
        )
    return out


def window_labels(
    segments: np.ndarray | Sequence[Sequence[float]],
    start_s: np.ndarray,
    window_s: float,
    min_fake_s: float = 0.1,
    duration_s: float | None = None,
) -> np.ndarray:
    """Labels of windows from where a recording is fake: FAKE where at least ``min_fake_s`` of a window are.

    Args:
        segments: (n, 2) seconds, apart from each other; see `parse_segments`.
        start_s: (k,) seconds, where windows start.
        window_s: length of a window.
        min_fake_s: least fake seconds in a fake window; a window that is fake throughout is FAKE however short it is.
        duration_s: length of the recording. Where it is shorter than a window, the window holds all of it (repeated).

    Returns:
        (k,) int8, REAL or FAKE.

    Raises:
        ConfigError: a length that is not positive.
    """
    if not (window_s > 0 and min_fake_s > 0) or not math.isfinite(window_s):
        raise ConfigError(f"window_s={window_s}, min_fake_s={min_fake_s}", hint="give seconds above 0")
    start = np.asarray(start_s, np.float64)
    spans = np.asarray(segments, np.float64).reshape(-1, 2)
    if duration_s is not None and duration_s <= window_s:
        start, window_s = np.zeros_like(start), duration_s
    overlap = np.minimum(spans[None, :, 1], start[:, None] + window_s) - np.maximum(spans[None, :, 0], start[:, None])
    fake_s = np.maximum(overlap, 0.0).sum(axis=1)
    return np.where(fake_s >= min(min_fake_s, window_s) - 1e-9, FAKE, REAL).astype(np.int8)


def _loud_db(levels: np.ndarray) -> float:
    """Level of the loud frames, dBFS."""
    return max(float(np.percentile(levels, 95)), float(np.sort(levels)[-10:].mean()))


def _range_db(levels: np.ndarray) -> float:
    """Loud frames above the quietest: 95th minus 10th percentile, dB, an estimate of the signal-to-noise ratio."""
    low, high = np.percentile(levels, [10, 95])
    return float(high - low)
