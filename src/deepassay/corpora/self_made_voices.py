"""Another corpus of voices with fakes made from its own real recordings: training without, or beside, given fakes."""

import hashlib
import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from rich.console import Console
from rich.progress import track

from deepassay.errors import ConfigError, ManifestError, MediaError
from deepassay.files import cache_folder, fingerprint, sha256_file, slug, write_json
from deepassay.labels import FAKE, REAL, Status, Unusable
from deepassay.manifest import Manifest, Sample
from deepassay.manipulation.copy_synthesis import VOICE_MAKERS
from deepassay.media.sound import read_sound, write_sound

RECIPE = 1
PREFIX = "self-made/"
# Spread over the families; the slower and the overlapping ones are left to who asks for them.
DEFAULT_MAKERS = (
    "world", "mel_griffin_lim", "linear_griffin_lim", "excitation_replacement", "harmonic_noise", "lpc_resynthesis",
    "phase_replacement", "partial_world", "partial_mel_griffin_lim", "splice",
)  # fmt: skip
_LEAST = 4800  # samples: what is shorter is no speech that a maker could copy
_QUIET_RUN_S = 0.01
_LOW_HZ = (40.0, 60.0)


@runtime_checkable
class Maker(Protocol):
    """What turns a recording into a fake: a `VoiceManipulation`, or a neural vocoder named by ``_target_``."""

    @property
    def name(self) -> str:
        """What the manifest's generator is called, after ``self-made/``."""
        ...

    @property
    def family(self) -> str:
        """Likewise of its family."""
        ...

    def __call__(
        self, signal: np.ndarray, *, rate_hz: int, strength: float, rng: np.random.Generator, donor: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Signal (T,) -> fake (T,) and its fake parts (m, 2) in seconds."""
        ...


@dataclass(frozen=True)
class _Task:
    """One file to be written: a fake by a maker, or (``maker`` None) the recording itself in the common kind."""

    key: str
    source: Path
    sample: Sample
    maker: Maker | None
    donor: Path | None
    seed: str


class SelfMadeVoices:
    """The rows of another corpus, and fakes made from its *real* ones (Wang and Yamagishi 2023: copy synthesis).

    A fake has its original's subjects, source, published split, channel and attributes, so that every split keeps the
    two together. So that nothing trivial tells them apart a fake has the same number of samples, the same RMS, digital
    silence where the original has it, the original's sound below 50 Hz, and the same kind of file: mono 16-bit FLAC at
    ``rate_hz``. Files of the corpus that are of another kind are saved alike first.

    Files lie below ``folder/<corpus name>``, named by the hash of all that they depend on; what is there is kept, so
    that an interrupted run goes on and another selection of makers only makes what is missing. ``originals`` in that
    folder is a symbolic link to the corpus's own root.

    A fake's attributes: ``made_from`` (the original's sample_id) and ``fake_segments`` (``start-end;...`` in seconds).

    Args:
        corpus: the corpus to wrap: its config node, or any object with ``prepare() -> Manifest``.
        makers: names from `deepassay.manipulation.copy_synthesis.VOICE_MAKERS`, or maker objects such as
            ``{_target_: deepassay.augment.vocoder.NeuralVocoder, folder: ...}``; empty takes `DEFAULT_MAKERS`.
        per_real: fakes of each real recording, each by another maker, dealt evenly.
        folder: where to write; null for ``corpora/self_made_voices`` in the cache folder.
        seed: deals and draws differently.
        strength: of the makers, above 0 to 1.
        rate_hz: at which fakes are made and kept; as the modality's.
        max_seconds: only so much of a longer recording is copied (and the original saved alike).
        workers: processes; 0 works in this one. Results do not depend on it.
        progress: show a progress bar on stderr.

    Raises:
        ConfigError: a maker or number that cannot be used.
    """

    def __init__(
        self,
        *,
        corpus: Any,
        makers: Sequence[Any] = (),
        per_real: int = 1,
        folder: str | None = None,
        seed: int = 0,
        strength: float = 1.0,
        rate_hz: int = 16000,
        max_seconds: float = 60.0,
        workers: int = 0,
        progress: bool = True,
    ) -> None:
        if not callable(getattr(corpus, "prepare", None)):
            raise ConfigError(
                f"self-made voices: corpus is {corpus!r}, not a corpus",
                hint="name one by _target_, or pick one on the command line: corpus@corpus.corpus=real_voices",
            )
        self.makers = tuple(_maker(m) for m in (makers or DEFAULT_MAKERS))
        names = [m.name for m in self.makers]
        if len(set(names)) < len(names):
            raise ConfigError(f"self-made voices: makers {names} name one twice", hint="give each maker its own name")
        if not 1 <= per_real <= len(names):
            raise ConfigError(
                f"self-made voices: per_real is {per_real} with {len(names)} makers",
                hint="each fake of a recording has another maker: give 1 to as many as there are makers",
            )
        if not 0 < strength <= 1 or not 8000 <= rate_hz <= 48000 or max_seconds < 1 or workers < 0:
            raise ConfigError(
                f"self-made voices: strength {strength}, rate_hz {rate_hz}, max_seconds {max_seconds}, workers "
                f"{workers}",
                hint="strength above 0 to 1, 8000 to 48000 Hz, at least 1 s, at least 0 workers",
            )
        self.corpus, self.per_real, self.seed = corpus, int(per_real), int(seed)
        self.strength, self.rate_hz, self.max_seconds = float(strength), int(rate_hz), float(max_seconds)
        self.parent = Path(folder) if folder is not None else cache_folder() / "corpora" / "self_made_voices"
        self.workers, self.progress = workers, progress

    def prepare(self) -> Manifest:
        """The inner manifest with its fakes; what is missing is made.

        Raises:
            ManifestError: no real voices to copy; a link or file that cannot be made.
            MissingDependencyError: a maker's package or weights are absent.
        """
        inner: Manifest = self.corpus.prepare()
        rows = list(inner)
        reals = [s for s in rows if s.label == REAL and s.modality == "voice" and s.media == "audio"]
        if not reals:
            raise ManifestError(
                f"{inner.name}: no real voice recordings to make fakes from", hint="wrap a corpus with bona fide speech"
            )
        folder = self.parent / slug(inner.name)
        (folder / "made").mkdir(parents=True, exist_ok=True)
        _link(folder / "originals", inner.root)
        for maker in self.makers:
            ready = getattr(maker, "check", None)
            if callable(ready):
                ready()
        deal = self._deal(reals)
        donors = _donors(reals)
        alike = [s for s in rows if s.media == "audio" and not self._common_kind(inner.root / s.path)]
        tasks = [self._task(s, None, inner.root, {}) for s in alike]
        tasks += [self._task(s, m, inner.root, donors) for s in reals for m in deal[s.sample_id]]
        facts = dict(self._run(tasks, folder))
        out: list[Sample] = []
        lost: Counter[str] = Counter()
        fakes: dict[str, list[tuple[_Task, dict[str, Any]]]] = {}
        saved: dict[str, dict[str, Any]] = {}
        for task in tasks:
            fact = facts[task.key]
            if "lost" in fact:
                lost[fact["lost"]] += task.maker is not None
            elif task.maker is None:
                saved[task.sample.sample_id] = fact | {"key": task.key}
            else:
                fakes.setdefault(task.sample.sample_id, []).append((task, fact))
        for sample in rows:
            if sample.sample_id in fakes and not sample.source_id:
                sample = replace(sample, source_id=sample.sample_id)  # else nothing ties its fakes to it
            if sample.sample_id in saved:
                out.append(self._own(sample, saved[sample.sample_id]))
            else:
                out.append(replace(sample, path=f"originals/{sample.path}"))
            for task, fact in fakes.get(sample.sample_id, ()):
                out.append(self._fake(task, fact))
        if not any(fakes.values()):
            raise ManifestError(
                f"{inner.name}: not one fake could be made ({dict(lost)})", hint="check that the recordings are speech"
            )
        made = Counter(task.maker.name for pairs in fakes.values() for task, _ in pairs if task.maker)
        info = {
            **inner.info,
            "name": f"{inner.name}+self_made",
            "self_made": {
                "recipe": RECIPE, "makers": dict(sorted(made.items())), "per_real": self.per_real, "seed": self.seed,
                "strength": self.strength, "rate_hz": self.rate_hz, "inner_manifest_sha256": inner.hash,
                "saved_alike": len(saved), "not_made": dict(sorted(lost.items())),
                "level_not_kept": sum(not f["level_kept"] for pairs in fakes.values() for _, f in pairs),
            },
        }  # fmt: skip
        return Manifest.from_samples(out, folder, info)

    def _deal(self, reals: Sequence[Sample]) -> dict[str, list[Maker]]:
        """Makers of every real recording: ``per_real`` in turn from one shuffled deck after another."""
        order = sorted(reals, key=lambda s: hashlib.sha256(f"{self.seed}\0{s.sample_id}".encode()).hexdigest())
        out: dict[str, list[Maker]] = {}
        deck: list[Maker] = []
        for number, sample in enumerate(order):
            hand: list[Maker] = []
            while len(hand) < self.per_real:
                if not any(m not in hand for m in deck):
                    turn = _rng("deck", self.seed, number, len(hand)).permutation(len(self.makers))
                    deck += [self.makers[int(i)] for i in turn]
                first = next(i for i, m in enumerate(deck) if m not in hand)
                hand.append(deck.pop(first))
            out[sample.sample_id] = hand
        return out

    def _task(self, sample: Sample, maker: Maker | None, root: Path, donors: dict[str, Sample]) -> _Task:
        donor = donors.get(sample.sample_id) if maker is not None and _takes_donor(maker) else None
        path = root / sample.path
        key = fingerprint(
            {
                "recipe": RECIPE, "sample": sample.sample_id, "content": sample.sha256 or path.stat().st_size,
                "maker": maker.name if maker else "", "version": str(getattr(maker, "version", "")),
                "donor": (donor.sha256 or donor.sample_id) if donor else "", "seed": self.seed if maker else 0,
                "strength": self.strength if maker else 0, "rate_hz": self.rate_hz, "max_seconds": self.max_seconds,
            }
        )[:24]  # fmt: skip
        return _Task(key, path, sample, maker, root / donor.path if donor else None, f"{self.seed}\0{key}")

    def _run(self, tasks: Sequence[_Task], folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        """What is known of every file, making those that are missing or were damaged."""
        due = []
        for task in tasks:
            fact = _kept(folder, task.key)
            if fact is None:
                due.append(task)
            else:
                yield task.key, fact
        if not due:
            return
        settings = (folder, self.strength, self.rate_hz, self.max_seconds)
        steps: Iterable[tuple[str, dict[str, Any]]]
        bar: dict[str, Any] = {
            "description": "self-made voices", "total": len(due), "console": Console(stderr=True),
            "disable": not self.progress,
        }  # fmt: skip
        if not self.workers:
            steps = (_make(task, *settings) for task in due)
            yield from track(steps, **bar)
            return
        with ProcessPoolExecutor(self.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            jobs = [pool.submit(_make, task, *settings) for task in due]
            yield from track((job.result() for job in jobs), **bar)

    def _common_kind(self, path: Path) -> bool:
        import soundfile

        if not path.is_file():
            raise ManifestError(f"{path}: no such file", hint="correct the corpus's root")
        try:
            head = soundfile.info(str(path))
        except soundfile.LibsndfileError:
            return False
        return (head.format, head.subtype, head.channels, head.samplerate) == ("FLAC", "PCM_16", 1, self.rate_hz) and (
            head.duration <= self.max_seconds
        )

    def _own(self, sample: Sample, fact: dict[str, Any]) -> Sample:
        return replace(
            sample, path=_path(fact["key"]), sha256=fact["sha256"], bytes=fact["bytes"], duration_s=fact["duration_s"],
            rate_hz=self.rate_hz, codec="flac", attributes={**sample.attributes, "saved_alike": "yes"},
        )  # fmt: skip

    def _fake(self, task: _Task, fact: dict[str, Any]) -> Sample:
        sample, maker = task.sample, task.maker
        assert maker is not None
        return replace(
            sample,
            sample_id=f"{sample.sample_id}#{PREFIX}{maker.name}",
            path=_path(task.key),
            label=FAKE,
            generator=PREFIX + maker.name,
            generator_family=PREFIX + maker.family,
            source_id=sample.source_id or sample.sample_id,
            sha256=fact["sha256"],
            bytes=fact["bytes"],
            duration_s=fact["duration_s"],
            rate_hz=self.rate_hz,
            codec="flac",
            attributes={
                **sample.attributes,
                "made_from": sample.sample_id,
                "fake_segments": ";".join(f"{a:g}-{b:g}" for a, b in fact["segments"]),
            },
        )


def _maker(value: Any) -> Maker:
    if isinstance(value, str):
        if value not in VOICE_MAKERS:
            raise ConfigError(
                f"self-made voices: there is no maker {value!r}",
                hint=f"use some of {', '.join(VOICE_MAKERS)}, or a maker by _target_",
            )
        return VOICE_MAKERS[value]
    if not isinstance(value, Maker):
        raise ConfigError(
            f"self-made voices: {value!r} is no maker",
            hint="give a name, or an object with name, family and a call: deepassay.augment.vocoder.NeuralVocoder",
        )
    return value


def _takes_donor(maker: Maker) -> bool:
    return getattr(maker, "donor", "unused") != "unused"


def _rng(*parts: Any) -> np.random.Generator:
    digest = hashlib.sha256("\0".join(str(p) for p in parts).encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))


def _donors(reals: Sequence[Sample]) -> dict[str, Sample]:
    """The next recording of the same named subjects in the same published split; nothing else ties two sources."""
    groups: dict[tuple[Any, ...], list[Sample]] = {}
    for sample in sorted(reals, key=lambda s: s.sample_id):
        if sample.subjects:
            groups.setdefault((sample.subjects, sample.split, sample.corpus), []).append(sample)
    return {
        one.sample_id: other
        for group in groups.values()
        if len(group) > 1
        for one, other in zip(group, [*group[1:], group[0]], strict=True)
    }


def _path(key: str) -> str:
    return f"made/{key[:2]}/{key}.flac"


def _kept(folder: Path, key: str) -> dict[str, Any] | None:
    """The facts of a file that is there in full (or that cannot be made), else None."""
    record = (folder / _path(key)).with_suffix(".json")
    try:
        fact = json.loads(record.read_text(encoding="utf-8"))
        if "lost" in fact or (folder / _path(key)).stat().st_size == fact["bytes"]:
            return fact
    except (FileNotFoundError, ValueError, KeyError):
        return None
    return None


def _make(task: _Task, folder: Path, strength: float, rate_hz: int, max_seconds: float) -> tuple[str, dict[str, Any]]:
    """Write one file and then its record."""
    target = folder / _path(task.key)
    try:
        signal = read_sound(task.source, rate_hz, max_seconds=max_seconds)
        if task.maker is None:
            made, segments, kept = signal, np.zeros((0, 2)), True
        else:
            if len(signal) < _LEAST:
                raise Unusable(Status.TOO_SHORT, "shorter than a maker can copy")
            if not np.any(signal):
                raise Unusable(Status.NO_SPEECH, "digital silence")
            donor = read_sound(task.donor, rate_hz, max_seconds=max_seconds) if task.donor else None
            if donor is not None and (len(donor) < _LEAST or not np.any(donor)):
                donor = None
            made, segments = task.maker(signal, rate_hz=rate_hz, strength=strength, rng=_rng(task.seed), donor=donor)
            if made.shape != signal.shape or not np.isfinite(made).all():
                raise MediaError(
                    f"{task.maker.name} made {made.shape} samples of {signal.shape} from {task.sample.sample_id}, "
                    "or some are not numbers",
                    hint="report this maker, or leave it out of makers",
                )
            made, kept = like(made, signal, rate_hz)
    except Unusable as error:
        fact: dict[str, Any] = {"lost": str(error.status)}
        write_json(target.with_suffix(".json"), fact)
        return task.key, fact
    write_sound(target, made, rate_hz, format="flac", subtype="PCM_16")
    fact = {
        "sha256": sha256_file(target), "bytes": target.stat().st_size, "duration_s": len(made) / rate_hz,
        "segments": [[round(float(a), 4), round(float(b), 4)] for a, b in segments], "level_kept": kept,
    }  # fmt: skip
    write_json(target.with_suffix(".json"), fact)
    return task.key, fact


def like(made: np.ndarray, signal: np.ndarray, rate_hz: int) -> tuple[np.ndarray, bool]:
    """Take from a fake what would tell it apart without listening to the voice.

    The original's sound below 50 Hz (offset, hum, rumble; a raised cosine from 40 to 60 Hz between), its digital
    silence in stretches of 10 ms and more, and its RMS; peaks that would clip are turned down over 4 ms.

    Args:
        made: the fake (T,).
        signal: its original (T,) at ``rate_hz``.

    Returns:
        (T,) float32 within 16-bit full scale, and whether the power is the original's to 5 %.
    """
    n = len(signal)
    padded = n + rate_hz // 4
    place = np.clip((np.fft.rfftfreq(padded, 1 / rate_hz) - _LOW_HZ[0]) / (_LOW_HZ[1] - _LOW_HZ[0]), 0, 1)
    high = 0.5 - 0.5 * np.cos(np.pi * place)
    voice = np.fft.irfft(np.fft.rfft(made, padded) * high, padded)[:n]
    low = signal - np.fft.irfft(np.fft.rfft(signal, padded) * high, padded)[:n]
    heard = ~_silent(signal, round(_QUIET_RUN_S * rate_hz))
    voice, low = voice * heard, low * heard
    goal = float(np.sum(np.square(signal, dtype=np.float64)))
    top = 32767 / 32768
    for _ in range(8):
        # The gain that gives low + gain * voice the original's power.
        a, b, c = float(voice @ voice), 2 * float(low @ voice), float(low @ low) - goal
        if a > 0 and b * b - 4 * a * c >= 0:
            voice = voice * ((-b + np.sqrt(b * b - 4 * a * c)) / (2 * a))
        out = low + voice
        if float(np.abs(out).max(initial=0.0)) <= top:
            return out.astype(np.float32), True
        voice = _limited(out, 0.99 * top, rate_hz) - low
    out = _limited(low + voice, top, rate_hz)
    return out.astype(np.float32), abs(float(out @ out) / goal - 1) < 0.05


def _limited(signal: np.ndarray, top: float, rate_hz: int) -> np.ndarray:
    """Peaks above ``top`` turned down by a gain that changes over 4 ms."""
    from scipy.ndimage import minimum_filter1d, uniform_filter1d

    reach = max(3, round(0.002 * rate_hz) | 1)
    gain = minimum_filter1d(np.minimum(1.0, top / np.maximum(np.abs(signal), 1e-9)), 2 * reach + 1)
    return signal * uniform_filter1d(gain, 2 * reach + 1)


def _silent(signal: np.ndarray, least: int) -> np.ndarray:
    """(T,) bool: samples in runs of at least ``least`` exact zeros."""
    zero = np.concatenate([[0], (signal == 0).astype(np.int8), [0]])
    starts, ends = np.flatnonzero(np.diff(zero) == 1), np.flatnonzero(np.diff(zero) == -1)
    out = np.zeros(len(signal), bool)
    for start, end in zip(starts, ends, strict=True):
        out[start:end] = end - start >= least
    return out


def _link(link: Path, root: Path) -> None:
    """``link`` points to ``root``."""
    goal = root.resolve()
    if link.is_symlink() and link.resolve() == goal:
        return
    try:
        fresh = link.with_name(f".{link.name}.{os.getpid()}")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(goal, target_is_directory=True)
        os.replace(fresh, link)
    except OSError as error:
        raise ManifestError(
            f"{link}: cannot be made a link to {goal} ({error.strerror})",
            hint="give corpus.folder=... on a disk that knows symbolic links (on Windows: developer mode)",
        ) from error
