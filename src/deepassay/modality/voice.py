"""Voices: a sound file to windows of one length, silence told from speech by level alone."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from deepassay import files
from deepassay.errors import ConfigError
from deepassay.labels import Status, Unusable
from deepassay.media.limits import DEFAULT_LIMITS
from deepassay.media.sound import read_sound
from deepassay.modality.views import Views

_FRAME_S, _HOP_S = 0.02, 0.01
_FLOOR_DB = -120.0


class VoiceModality:
    """Any container in, windows of mono sound out.

    The whole file is kept by `prepare`, leading and trailing silence included; nothing is normalised in level (only a
    recording whose peak is above full scale is divided by it). Activity is a matter of level, not of a speech model: a
    frame of 20 ms (every 10 ms) is active where its RMS is above ``min_level_dbfs`` and within ``activity_range_db`` of
    the file's loud frames: the 95th percentile, or the mean of the ten loudest where that is more, so that one short
    word in a long silence is not judged by the silence. Steady noise and music count as active.

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
    """

    name = "voice"

    def __init__(
        self,
        *,
        rate_hz: int = 16000,
        window_samples: int = 64600,
        hop_samples: int | None = None,
        min_speech_s: float = 0.3,
        min_level_dbfs: float = -60.0,
        activity_range_db: float = 35.0,
        max_seconds: float = 1800.0,
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
        ):
            if not low <= value <= high:
                raise ConfigError(
                    f"voice modality: {name}={value} is outside [{low:g}, {high:g}]", hint=f"change {name}"
                )
        self.rate_hz, self.window_samples, self.hop_samples = int(rate_hz), int(window_samples), int(hop)
        self.min_speech_s, self.min_level_dbfs = float(min_speech_s), float(min_level_dbfs)
        self.activity_range_db, self.max_seconds = float(activity_range_db), float(max_seconds)

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
            },
            "view": {"shape": [self.window_samples], "dtype": "float32", "layout": "mono samples in [-1, 1]"},
            "decode": "channels averaged; soxr HQ; divided by the peak where it is above 1",
            "draw": "windows every hop and one at the end, without silent ones, spread evenly; shorter files repeated",
            "pool": "mean over windows",
        }

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the contract."""
        return files.fingerprint(self.contract)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """(samples,)"""
        return (self.window_samples,)

    def prepare(self, path: str | Path) -> Views:
        """The whole file: data (1, T) float32.

        Raises:
            Unusable: NO_SPEECH, TOO_SHORT, OUT_OF_SCOPE or UNDECODABLE. MediaError: no such file.
        """
        return self.prepare_signal(
            read_sound(path, self.rate_hz, replace(DEFAULT_LIMITS, max_seconds=self.max_seconds))
        )

    def prepare_signal(self, signal: np.ndarray) -> Views:
        """Like `prepare`, for a signal (T,) float32 that is already mono at ``rate_hz``."""
        signal = np.ascontiguousarray(signal, np.float32)
        if not np.any(signal):
            raise Unusable(Status.NO_SPEECH, "digital silence")
        levels = self._levels(signal)
        if _loud_db(levels) < self.min_level_dbfs:
            raise Unusable(Status.NO_SPEECH, f"the level stays below {self.min_level_dbfs:g} dBFS")
        active_s = float(self._active(levels).sum()) * _HOP_S
        if min(active_s, len(signal) / self.rate_hz) < self.min_speech_s:
            raise Unusable(
                Status.TOO_SHORT,
                f"{active_s:.2f} s of sound above the noise, at least {self.min_speech_s:g} s are needed",
            )
        return Views(
            data=signal[None],
            start_s=np.zeros(1),
            quality=np.array([_range_db(levels)], np.float32),
            track=np.zeros(1, np.int32),
        )

    def draw(self, prepared: Views, k: int, rng: np.random.Generator | None = None) -> Views:
        """Windows (k, window_samples): evenly spread without ``rng``, at random places with it.

        A file shorter than a window is repeated until it fills one: from its start in even drawing (one view), from a
        random point of the cycle in random drawing. Random drawing tries a few places for one that holds speech.
        """
        if k < 1:
            raise ValueError(f"cannot draw {k} views")
        signal = prepared.data[0]
        window = self.window_samples
        activity = np.concatenate([[0], np.cumsum(self._active(self._levels(signal)))])
        if rng is None:
            starts = self._even_starts(len(signal), activity, k)
        else:
            starts = np.array([self._random_start(len(signal), activity, rng) for _ in range(k)])
        if len(signal) <= window:
            data = np.stack([np.resize(np.roll(signal, -start), window) for start in starts])
        else:
            data = np.stack([signal[start : start + window] for start in starts])
        return Views(
            data=data,
            start_s=starts / self.rate_hz + float(prepared.start_s[0]),
            quality=np.array([_range_db(self._levels(row)) for row in data], np.float32),
            track=np.zeros(len(starts), np.int32),
        )

    def pool(self, logits: np.ndarray, views: Views) -> float:
        """Mean over windows."""
        if len(logits) != len(views) or not len(views):
            raise ValueError(f"{len(logits)} logits for {len(views)} views")
        return float(np.mean(np.asarray(logits, np.float64)))

    def _levels(self, signal: np.ndarray) -> np.ndarray:
        """(frames,) dBFS of the RMS of frames of 20 ms every 10 ms."""
        frame, hop = round(_FRAME_S * self.rate_hz), round(_HOP_S * self.rate_hz)
        power = np.concatenate([[0.0], np.cumsum(np.square(signal, dtype=np.float64))])
        starts = np.arange(0, max(len(signal) - frame, 0) + 1, hop)
        ends = np.minimum(starts + frame, len(signal))
        mean = np.maximum((power[ends] - power[starts]) / np.maximum(ends - starts, 1), 0)
        return 10 * np.log10(np.maximum(mean, 10 ** (_FLOOR_DB / 10)))

    def _active(self, levels: np.ndarray) -> np.ndarray:
        """(frames,) bool."""
        return levels >= max(self.min_level_dbfs, _loud_db(levels) - self.activity_range_db)

    def _speech_s(self, start: int, activity: np.ndarray) -> float:
        """Active seconds of the window at a sample."""
        hop = round(_HOP_S * self.rate_hz)
        first, last = start // hop, (start + self.window_samples) // hop
        return float(activity[min(last, len(activity) - 1)] - activity[min(first, len(activity) - 1)]) * _HOP_S

    def _even_starts(self, length: int, activity: np.ndarray, k: int) -> np.ndarray:
        if length <= self.window_samples:
            return np.zeros(1, np.int64)
        last = length - self.window_samples
        starts = np.arange(0, last + 1, self.hop_samples)
        if starts[-1] != last:
            starts = np.append(starts, last)
        speech = np.array([self._speech_s(int(s), activity) for s in starts])
        spoken = speech >= self.min_speech_s
        starts = starts[spoken] if spoken.any() else starts[[int(speech.argmax())]]
        if len(starts) <= k:
            return starts
        return starts[((np.arange(k) + 0.5) * len(starts) / k).astype(np.int64)]

    def _random_start(self, length: int, activity: np.ndarray, rng: np.random.Generator) -> int:
        if length <= self.window_samples:
            return int(rng.integers(length))
        tried = rng.integers(length - self.window_samples + 1, size=8)
        speech = [self._speech_s(int(s), activity) for s in tried]
        good = [s for s, spoken in zip(tried, speech, strict=True) if spoken >= self.min_speech_s]
        return int(good[0]) if good else int(tried[int(np.argmax(speech))])


def _loud_db(levels: np.ndarray) -> float:
    """Level of the loud frames, dBFS."""
    return max(float(np.percentile(levels, 95)), float(np.sort(levels)[-10:].mean()))


def _range_db(levels: np.ndarray) -> float:
    """Loud frames above the quietest: 95th minus 10th percentile, dB, an estimate of the signal-to-noise ratio."""
    return float(np.percentile(levels, 95) - np.percentile(levels, 10))
