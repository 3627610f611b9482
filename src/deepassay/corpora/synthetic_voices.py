"""The built-in voice corpus: seeded source-filter speakers, and fakes made from their recordings by manipulations."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy.signal import fftconvolve, lfilter

from deepassay.errors import ConfigError, ManifestError
from deepassay.files import cache_folder, fingerprint, sha256_file, write_json
from deepassay.labels import FAKE, REAL
from deepassay.manifest import Manifest, Sample
from deepassay.manipulation.voice import VOICE_MANIPULATIONS
from deepassay.media.sound import write_sound

RATE_HZ = 16000
RECIPE = 1
LICENCE = "CC0-1.0 (computed; no person heard)"
_HOP = 160
_FRAME = 320
_FFT = 1024

# Formants F1-F3 in Hz of ten vowels, men's averages (Peterson and Barney 1952, table II).
_VOWELS = np.array(
    [
        [270, 2290, 3010], [390, 1990, 2550], [530, 1840, 2480], [660, 1720, 2410], [730, 1090, 2440],
        [570, 840, 2410], [440, 1020, 2240], [300, 870, 2240], [640, 1190, 2390], [490, 1350, 1690],
    ],
    dtype=np.float64,
)  # fmt: skip
_NASAL = np.array([280.0, 1300.0, 2300.0])
_GLIDES = np.array([[300.0, 2100.0, 2900.0], [310.0, 700.0, 2200.0], [360.0, 1200.0, 2500.0], [330.0, 1150.0, 1600.0]])
_UPPER = np.array([3400.0, 4400.0, 5400.0, 6300.0])
_BANDWIDTHS = np.array([70.0, 90.0, 130.0, 200.0, 260.0, 320.0, 380.0])
# Centre and width in Hz of frication: s, sh, f, th, x.
_FRICATIVES = np.array([[6200.0, 1300.0], [3600.0, 1100.0], [5200.0, 3000.0], [6000.0, 2500.0], [1900.0, 800.0]])
_BURSTS = np.array([[900.0, 700.0], [4200.0, 1500.0], [2000.0, 700.0]])


def _rng(*parts: Any) -> np.random.Generator:
    digest = hashlib.sha256("\0".join(str(p) for p in parts).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


@dataclass(frozen=True)
class Speaker:
    """What stays the same from utterance to utterance of one invented voice."""

    f0_hz: float
    f0_semitones: float
    tract: float
    open_quotient: float
    tilt: float
    jitter: float
    shimmer: float
    breath: float
    syllables_s: float
    pause: float
    vowels: np.ndarray
    room_s: float
    room_mix: float
    noise_db: float
    noise_colour: float
    low_cut_hz: float


def draw_speaker(rng: np.random.Generator) -> Speaker:
    """A random speaker: pitch 75-280 Hz, vocal tract factor 0.85-1.25 (tied to pitch), own room and microphone."""
    height = rng.uniform(0, 1)
    return Speaker(
        f0_hz=float(np.clip(85 * 2 ** (1.35 * height) * np.exp(rng.normal(0, 0.08)), 75, 280)),
        f0_semitones=rng.uniform(1.5, 4.0),
        tract=float(np.clip(0.92 + 0.24 * height + rng.normal(0, 0.03), 0.85, 1.25)),
        open_quotient=rng.uniform(0.45, 0.75),
        tilt=rng.uniform(-0.4, 0.3),
        jitter=rng.uniform(0.003, 0.012),
        shimmer=rng.uniform(0.02, 0.08),
        breath=rng.uniform(0.01, 0.08),
        syllables_s=rng.uniform(3.2, 5.6),
        pause=rng.uniform(0.08, 0.25),
        vowels=_VOWELS * np.exp(rng.normal(0, 0.03, size=_VOWELS.shape)),
        room_s=rng.uniform(0.08, 0.4),
        room_mix=rng.uniform(0.02, 0.25),
        noise_db=rng.uniform(-62, -42),
        noise_colour=rng.uniform(0.3, 0.95),
        low_cut_hz=rng.uniform(40, 110),
    )


@dataclass
class _Score:
    """Control tracks on a 10 ms grid, filled syllable by syllable."""

    frames: int

    def __post_init__(self) -> None:
        n = self.frames
        self.voice = np.zeros(n)
        self.hiss = np.zeros(n)
        self.centre = np.full(n, 5000.0)
        self.width = np.full(n, 1500.0)
        self.formants = np.tile(np.array([500.0, 1500.0, 2500.0]), (n, 1))
        self.nasal = np.zeros(n)
        self.accent = np.zeros(n)
        self.phrase = np.zeros(n)


def _plan(speaker: Speaker, frames: int, rng: np.random.Generator) -> _Score:
    score = _Score(frames)
    at = int(rng.uniform(5, 25))
    end = frames - int(rng.uniform(5, 25))
    phrase_start = at
    while at < end - 8:
        length = max(9, round(100 / speaker.syllables_s * rng.uniform(0.7, 1.35)))
        onset = rng.choice(["none", "stop", "fricative", "nasal", "glide"], p=[0.12, 0.28, 0.24, 0.18, 0.18])
        vowel = speaker.vowels[rng.integers(len(speaker.vowels))]
        mark = int(length * rng.uniform(0.25, 0.4)) if onset != "none" else 0
        stop = min(at + length, end)
        head = slice(at, min(at + mark, stop))
        body = slice(min(at + mark, stop), stop)
        score.formants[at:stop] = vowel
        score.voice[body] = rng.uniform(0.8, 1.0)
        if rng.random() < 0.3:
            score.accent[at:stop] = rng.uniform(0.5, 1.0)
            score.voice[body] *= 1.2
        if onset == "stop":
            burst = min(at + mark, stop - 1)
            voiced = rng.random() < 0.5
            score.voice[head] = 0.05 if voiced else 0.0
            span = slice(burst, min(burst + (1 if voiced else 4), stop))
            score.hiss[span] = rng.uniform(0.25, 0.6)
            score.centre[span], score.width[span] = _BURSTS[rng.integers(3)]
        elif onset == "fricative":
            score.hiss[head] = rng.uniform(0.15, 0.5)
            score.centre[head], score.width[head] = _FRICATIVES[rng.integers(len(_FRICATIVES))]
            score.voice[head] = 0.3 if rng.random() < 0.35 else 0.0
        elif onset == "nasal":
            score.voice[head] = 0.45
            score.nasal[head] = 1.0
            score.formants[head] = _NASAL
        elif onset == "glide":
            score.voice[head] = 0.7
            score.formants[head] = _GLIDES[rng.integers(len(_GLIDES))]
        if rng.random() < 0.25:
            tail = slice(max(stop - 5, body.start), stop)
            if rng.random() < 0.5:
                score.voice[tail], score.nasal[tail], score.formants[tail] = 0.45, 1.0, _NASAL
            else:
                score.voice[tail], score.hiss[tail] = 0.0, rng.uniform(0.15, 0.4)
                score.centre[tail], score.width[tail] = _FRICATIVES[rng.integers(len(_FRICATIVES))]
        at = stop
        if rng.random() < speaker.pause or at >= end - 8:
            score.phrase[phrase_start:at] = np.linspace(1, 0, max(at - phrase_start, 1))
            at += int(rng.uniform(12, 45))
            phrase_start = at
    if phrase_start < end:
        score.phrase[phrase_start:end] = np.linspace(1, 0, end - phrase_start)
    return score


def _smooth(track_: np.ndarray, frames: int) -> np.ndarray:
    window = np.hanning(frames + 2)[1:-1]
    window /= window.sum()
    padded = np.pad(track_, [(frames // 2, frames - 1 - frames // 2)] + [(0, 0)] * (track_.ndim - 1), mode="edge")
    if track_.ndim == 1:
        return np.convolve(padded, window, mode="valid")
    return np.stack([np.convolve(padded[:, k], window, mode="valid") for k in range(track_.shape[1])], axis=1)


def _glottis(speaker: Speaker, f0: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Derivative of Rosenberg's (1971) pulse B per sample, with jitter and shimmer by cycle and a spectral tilt."""
    steps = f0 / RATE_HZ
    cycles = np.floor(np.cumsum(steps)).astype(int)
    wobble = 1 + speaker.jitter * rng.standard_normal(cycles[-1] + 2)
    phase = np.cumsum(steps * wobble[cycles])
    cycle = np.floor(phase).astype(int)
    inside = phase - cycle
    strength = 1 + speaker.shimmer * rng.standard_normal(cycle[-1] + 2)
    rise = speaker.open_quotient * 0.67
    fall = speaker.open_quotient - rise
    flow = np.where(
        inside < rise,
        np.sin(np.pi * inside / rise) * 0.5 * np.pi / rise,
        np.where(inside < rise + fall, -2 * (inside - rise) / fall**2, 0.0),
    )
    pulses = flow * strength[cycle] / 10
    return np.asarray(lfilter([1 - speaker.tilt], [1, -speaker.tilt], pulses))


def _vocal_tract(formants: np.ndarray, nasal: np.ndarray) -> np.ndarray:
    """Frequency responses (n, 513) of seven resonances in cascade (Klatt 1980), and a nasal pole and zero."""
    n = len(formants)

    def polynomial(centres: np.ndarray, widths: np.ndarray) -> np.ndarray:
        out = np.ones((n, 1))
        for k in range(centres.shape[1]):
            radius = np.exp(-np.pi * widths[:, k] / RATE_HZ)
            middle = -2 * radius * np.cos(2 * np.pi * centres[:, k] / RATE_HZ)
            wide = np.zeros((n, out.shape[1] + 2))
            wide[:, :-2] += out
            wide[:, 1:-1] += out * middle[:, None]
            wide[:, 2:] += out * (radius**2)[:, None]
            out = wide
        return out

    widths = np.tile(_BANDWIDTHS, (n, 1)) * (formants / np.array([500, 1500, 2500, *_UPPER])) ** 0.3
    widths *= 1 + 0.8 * nasal[:, None]
    poles = polynomial(
        np.concatenate([formants, np.full((n, 1), 270.0)], axis=1),
        np.concatenate([widths, np.full((n, 1), 100.0)], axis=1),
    )
    # Where there is no nasal, zero and pole cancel (Klatt's FNZ = FNP).
    zeros = polynomial((270 + 600 * nasal)[:, None], np.full((n, 1), 100.0))
    gain = np.sum(poles, axis=1) / np.sum(zeros, axis=1)
    response = np.fft.rfft(zeros, n=_FFT, axis=1) / np.fft.rfft(poles, n=_FFT, axis=1)
    return np.asarray(response * gain[:, None])


def _filtered(sources: Sequence[tuple[np.ndarray, np.ndarray]], length: int) -> np.ndarray:
    """Sum of sources, each filtered by responses (n, 513) that change every 10 ms, by overlap-add."""
    window = np.hanning(_FRAME + 1)[:-1]
    total = np.zeros(1, dtype=np.complex128)
    for source, response in sources:
        padded = np.pad(source, (_HOP, _FRAME))
        frames = np.lib.stride_tricks.sliding_window_view(padded, _FRAME)[::_HOP][: len(response)] * window
        total = total + np.fft.rfft(frames, n=_FFT, axis=1) * response
    pieces = np.fft.irfft(total, n=_FFT, axis=1)
    parts = -(-_FFT // _HOP)
    pieces = np.pad(pieces, [(0, 0), (0, parts * _HOP - _FFT)]).reshape(len(pieces), parts, _HOP)
    out = np.zeros((len(pieces) + parts, _HOP))
    for k in range(parts):
        out[k : k + len(pieces)] += pieces[:, k]
    return out.reshape(-1)[_HOP : _HOP + length]


def speak(speaker: Speaker, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """Random syllables in the speaker's room and microphone: float32 (seconds * 16000,), RMS 0.05."""
    length = round(seconds * RATE_HZ)
    frames = length // _HOP + 2
    score = _plan(speaker, frames, rng)
    formants = _smooth(score.formants, 7) * speaker.tract
    upper = _UPPER * speaker.tract * np.ones((frames, 1))
    formants = np.clip(np.concatenate([formants, upper], axis=1), 150, 7400)
    semitones = speaker.f0_semitones * (_smooth(score.accent, 15) + _smooth(score.phrase, 9) - 0.7) + 0.25 * _smooth(
        rng.standard_normal(frames), 9
    )
    times, grid = np.arange(length), np.arange(frames) * _HOP
    f0 = np.interp(times, grid, speaker.f0_hz * rng.uniform(0.94, 1.06) * 2 ** (semitones / 12))
    voice = np.interp(times, grid, _smooth(score.voice, 4))
    hiss = np.interp(times, grid, _smooth(score.hiss, 3))
    noise = rng.standard_normal(length)
    pulses = _glottis(speaker, f0, rng)
    voiced = voice * (pulses + speaker.breath * noise * np.maximum(pulses + 0.5, 0.1))
    frequencies = np.linspace(0, RATE_HZ / 2, _FFT // 2 + 1)
    band = np.exp(-0.5 * ((frequencies - score.centre[:, None]) / score.width[:, None]) ** 2)
    tract = _vocal_tract(formants, _smooth(score.nasal, 5))
    clean = _filtered([(voiced, tract), (0.6 * hiss * rng.standard_normal(length), band)], length)
    clean /= np.sqrt(np.mean(clean**2)) + 1e-9
    return _record(speaker, clean, rng)


def _record(speaker: Speaker, clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    taps = round(speaker.room_s * RATE_HZ)
    echo = rng.standard_normal(taps) * np.exp(-6.9 * np.arange(taps) / taps)
    echo[: round(0.002 * RATE_HZ)] = 0
    echo *= speaker.room_mix / np.sqrt(np.sum(echo**2))
    echo[0] = 1.0
    wet = fftconvolve(clean, echo)[: len(clean)]
    hum = np.asarray(lfilter([1.0], [1.0, -speaker.noise_colour], rng.standard_normal(len(clean))))
    hum *= 10 ** ((speaker.noise_db + rng.uniform(-3, 3) + 26) / 20) / np.sqrt(np.mean(hum**2))
    pole = np.exp(-2 * np.pi * speaker.low_cut_hz / RATE_HZ)
    recorded = np.asarray(lfilter([1.0, -1.0], [1.0, -pole], wet + hum))
    return (0.05 * recorded / np.sqrt(np.mean(recorded**2))).astype(np.float32)


def _finish(signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The last step of real and fake alike: a random level, kept off the ceiling, and 16-bit triangular dither."""
    level = 10 ** (rng.uniform(-32, -20) / 20)
    scaled = signal * (level / np.sqrt(np.mean(np.square(signal, dtype=np.float64)) + 1e-12))
    peak = float(np.max(np.abs(scaled)))
    scaled *= min(1.0, 0.95 / max(peak, 1e-9))
    dither = (rng.uniform(-0.5, 0.5, len(signal)) + rng.uniform(-0.5, 0.5, len(signal))) / 32768
    return (scaled + dither).astype(np.float32)


class SyntheticVoices:
    """Invented speakers and manipulations of their own recordings, as sound files on disk (law 10: marked synthetic).

    Each speaker has ``per_speaker / 2`` utterances; each becomes one real file and one fake file of the same length,
    file format and speaker, with its own level and dither, so that speaker, duration, format, level and file size tell
    nothing. The fake went through one of ``manipulations`` at ``strength``; at strength 0 real and fake come from the
    same distribution.

    The published split (``split=official``) puts every third and fourth speaker of four into dev and test.

    Files lie under ``root/<name>-<recipe hash>``: another seed or strength is another folder. ``corpus.json`` is
    written last; a complete folder is reused, an interrupted one is continued.

    Args:
        root: folder below which the corpus folder is made; by default ``corpora/synthetic_voices`` in the user's cache.
        seed: everything is a function of this and of the numbers below.
        speakers: number of speakers.
        per_speaker: files per speaker, even: half real, half fake.
        strength: of the manipulations, 0 to 1.
        seconds: shortest and longest utterance.
        manipulations: names from `deepassay.manipulation.voice.VOICE_MANIPULATIONS`; empty means all, dealt evenly.
        formats: share per file format: ``flac``, ``wav``, ``mp3`` ...; a pair shares its format.
        name: the manifest's corpus name.
        progress: show a progress bar on stderr.

    Raises:
        ConfigError: numbers or names that cannot be used.
    """

    def __init__(
        self,
        *,
        root: str | None = None,
        seed: int = 0,
        speakers: int = 80,
        per_speaker: int = 6,
        strength: float = 1.0,
        seconds: Sequence[float] = (2.0, 5.0),
        manipulations: Sequence[str] = (),
        formats: Mapping[str, float] | None = None,
        name: str = "synthetic_voices",
        progress: bool = True,
    ) -> None:
        formats = {"flac": 0.6, "wav": 0.4} if formats is None else dict(formats)
        manipulations = tuple(manipulations) or tuple(VOICE_MANIPULATIONS)
        unknown = [m for m in manipulations if m not in VOICE_MANIPULATIONS]
        if unknown:
            raise ConfigError(
                f"{name}: there is no voice manipulation {unknown[0]!r}",
                hint=f"use some of {list(VOICE_MANIPULATIONS)}",
            )
        if speakers < 2 or per_speaker < 2 or per_speaker % 2:
            raise ConfigError(
                f"{name}: {speakers} speakers with {per_speaker} files each",
                hint="give at least 2 speakers and an even number of files per speaker, half of them become fakes",
            )
        if not 0 <= strength <= 1:
            raise ConfigError(f"{name}: strength {strength} is outside [0, 1]", hint="give a number from 0 to 1")
        if len(seconds) != 2 or not 0.5 <= seconds[0] <= seconds[1] <= 60:
            raise ConfigError(f"{name}: seconds {list(seconds)}", hint="give shortest and longest, such as [2.0, 5.0]")
        if not formats or any(w < 0 for w in formats.values()) or sum(formats.values()) <= 0:
            raise ConfigError(f"{name}: formats {formats}", hint="give shares, such as {flac: 0.6, wav: 0.4}")
        self.parent = Path(root) if root is not None else cache_folder() / "corpora" / "synthetic_voices"
        self.name = name
        self.progress = progress
        self.seed = seed
        self.speakers = speakers
        self.per_speaker = per_speaker
        self.strength = float(strength)
        self.seconds = (float(seconds[0]), float(seconds[1]))
        self.manipulations = manipulations
        self.formats = {k: float(v) / sum(formats.values()) for k, v in formats.items()}

    @property
    def recipe(self) -> dict[str, Any]:
        """Everything the files depend on."""
        return {
            "recipe": RECIPE,
            "name": self.name,
            "seed": self.seed,
            "speakers": self.speakers,
            "per_speaker": self.per_speaker,
            "strength": self.strength,
            "seconds": list(self.seconds),
            "manipulations": list(self.manipulations),
            "formats": self.formats,
        }

    @property
    def folder(self) -> Path:
        """Where the files of this recipe lie."""
        return self.parent / f"{self.name}-{fingerprint(self.recipe)[:10]}"

    def prepare(self) -> Manifest:
        """Make what is not there yet and return the manifest.

        Raises:
            ManifestError: a finished corpus whose files are gone or were changed.
        """
        done = self._finished()
        if done is not None:
            return done
        self.folder.mkdir(parents=True, exist_ok=True)
        pairs = [(s, u) for s in range(self.speakers) for u in range(self.per_speaker // 2)]
        steps = track(
            pairs,
            description=f"{self.name} (synthetic)",
            console=Console(stderr=True),
            disable=not self.progress,
        )
        samples = [sample for speaker, utterance in steps for sample in self._pair(speaker, utterance)]
        manifest = Manifest.from_samples(samples, self.folder, self._info())
        manifest.to_parquet(self.folder / "manifest.parquet")
        write_json(
            self.folder / "corpus.json",
            {"recipe": self.recipe, "synthetic": True, "n": len(manifest), "manifest_sha256": manifest.hash},
        )
        return manifest

    def _info(self) -> dict[str, Any]:
        return {"name": self.name, "synthetic": True, "licence": LICENCE, "version": str(RECIPE), "recipe": self.recipe}

    def _finished(self) -> Manifest | None:
        last = self.folder / "corpus.json"
        if not last.is_file():
            return None
        head = json.loads(last.read_text(encoding="utf-8"))
        manifest = Manifest.read_parquet(self.folder / "manifest.parquet", self.folder)
        if head.get("recipe") != json.loads(json.dumps(self.recipe)) or head.get("manifest_sha256") != manifest.hash:
            raise ManifestError(
                f"{last}: does not belong to the files beside it",
                hint=f"delete {self.folder} and run the command again",
            )
        sizes = {f"sound/{entry.name}": entry.stat().st_size for entry in os.scandir(self.folder / "sound")}
        wrong = [s.path for s in manifest if sizes.get(s.path) != s.bytes]
        if wrong:
            raise ManifestError(
                f"{self.folder}: {len(wrong)} files are missing or were changed, the first is {wrong[0]}",
                hint="delete that folder and run the command again",
            )
        return manifest

    def generator_of(self, speaker: int, utterance: int) -> str:
        """Manipulations are dealt in turn, so that every few speakers have met them all."""
        half = self.per_speaker // 2
        deck = _rng(self.seed, "deck", (speaker * half + utterance) // len(self.manipulations))
        return self.manipulations[
            int(deck.permutation(len(self.manipulations))[(speaker * half + utterance) % len(self.manipulations)])
        ]

    def _pair(self, speaker: int, utterance: int) -> list[Sample]:
        voice = draw_speaker(_rng(self.seed, "speaker", speaker))
        draw = _rng(self.seed, "utterance", speaker, utterance)
        form = str(draw.choice(list(self.formats), p=list(self.formats.values())))
        seconds = round(float(draw.uniform(*self.seconds)), 3)
        generator = VOICE_MANIPULATIONS[self.generator_of(speaker, utterance)]
        source = f"{self.name}/s{speaker:03d}u{utterance:02d}"
        recorded: np.ndarray | None = None
        out = []
        for label in (REAL, FAKE):
            stem = f"s{speaker:03d}u{utterance:02d}-{'real' if label == REAL else generator.name}"
            path = f"sound/{stem}.{form}"
            target = self.folder / path
            record = self.folder / "segments" / f"{stem}.json"
            if not target.is_file() or not record.is_file():
                segments: list[list[float]] = []
                if recorded is None:
                    recorded = speak(voice, seconds, _rng(self.seed, "speech", speaker, utterance))
                signal = recorded
                if label == FAKE:
                    donor = None
                    chance = _rng(self.seed, "fake", speaker, utterance)
                    if generator.donor != "unused":
                        donor = self._donor(voice, seconds, speaker, utterance)
                    signal, parts = generator(
                        recorded, rate_hz=RATE_HZ, strength=self.strength, rng=chance, donor=donor
                    )
                    segments = [[round(float(a), 4), round(float(b), 4)] for a, b in parts]
                write_json(record, segments)
                write_sound(target, _finish(signal, _rng(self.seed, "finish", speaker, utterance, label)), RATE_HZ)
            segments = json.loads(record.read_text(encoding="utf-8"))
            attributes = {"pitch": "low" if voice.f0_hz < 130 else "middle" if voice.f0_hz < 180 else "high"}
            if label == FAKE:
                attributes["strength"] = f"{self.strength:g}"
                attributes["fake_segments"] = ";".join(f"{a:g}-{b:g}" for a, b in segments)
            out.append(
                Sample(
                    sample_id=f"{self.name}/{path}",
                    path=path,
                    media="audio",
                    modality="voice",
                    label=label,
                    source_id=source,
                    subjects=(f"{self.name}/speaker{speaker:03d}",),
                    generator=generator.name if label == FAKE else "",
                    generator_family=generator.family if label == FAKE else "",
                    corpus=self.name,
                    split=("train", "train", "dev", "test")[speaker % 4],
                    channel=form,
                    attributes=attributes,
                    licence=LICENCE,
                    sha256=sha256_file(target),
                    bytes=target.stat().st_size,
                    duration_s=round(seconds * RATE_HZ) / RATE_HZ,
                    rate_hz=RATE_HZ,
                    codec=form,
                )
            )
        return out

    def _donor(self, voice: Speaker, seconds: float, speaker: int, utterance: int) -> np.ndarray:
        """What is spliced in: other words of the same speaker and room, through a mel vocoder of this strength."""
        chance = _rng(self.seed, "donor", speaker, utterance)
        words = speak(voice, seconds, chance)
        made, _ = VOICE_MANIPULATIONS["mel_vocoder"](words, rate_hz=RATE_HZ, strength=self.strength, rng=chance)
        return made
