"""VoiceAugment: random silence, rooms, noise, colour, level, channels and coding, drawn alike for real and fake."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from deepassay.augment.face import probability, span
from deepassay.augment.rawboost import RawBoost
from deepassay.errors import ConfigError, MediaError
from deepassay.labels import Unusable
from deepassay.media.channels import (
    add_noise,
    coloured_noise,
    compand,
    encoder_versions,
    launder_sound,
    reverberate,
    room,
    set_silence,
    shape_spectrum,
    sound_ladder,
)
from deepassay.media.sound import read_sound

_SOUNDS = {".wav", ".flac", ".ogg", ".mp3", ".opus", ".m4a", ".aac"}


class VoiceAugment:
    """Random changes of the channel, so that silence, level, noise, bandwidth and coding do not give a corpus away.
    Labels are never seen here: real and fake get the same draws.

    In the order in which they happen to a voice: silence at the ends, RawBoost, the room, an equaliser and a band
    limit, noise, the level, a channel (codec, telephone, messenger, lost packets ...), companding, coarse bits.

    Args:
        gain_db: [from, to] change of level, always drawn.
        noise: probability of added noise at ``snr_db``, its colour drawn from ``noise_exponent`` (0 white .. 2 brown).
        noise_folder: take it from the sound files below this folder instead (MUSAN, say).
        equaliser: probability of a random smooth gain curve over ``bands`` bands of at most ``equaliser_db`` each way.
        band_limit: probability of a low-pass at ``cutoff_hz``.
        companding: probability of 8-bit mu-law quantisation.
        bits: probability of coarse linear quantisation with ``bit_depth`` bits.
        reverberation: probability of a made-up room with a reverberation time drawn from ``rt60_s`` and a direct sound
            of ``direct_db`` over the rest.
        room_folder: take the impulse responses below this folder instead (OpenSLR 28, say).
        channel: probability of one of ``channels`` (names of `deepassay.media.channels.SOUND_LADDERS`, with weights if
            a mapping), at a strength drawn from that ladder's span.
        silence: probability that at most ``silence_s`` seconds of silence (drawn for each end) stay.
        rawboost: probability of RawBoost, ``rawboost_algorithm`` of `deepassay.augment.rawboost.ALGORITHMS`.
        rate_hz: sampling rate of the windows.

    Raises:
        ConfigError: a value out of range, or a folder without sound files.
        MissingDependencyError: a channel whose encoder is not there.
    """

    def __init__(
        self, *, gain_db: Sequence[float] = (-18.0, 6.0), noise: float = 0.5, snr_db: Sequence[float] = (10.0, 40.0),
        noise_exponent: Sequence[float] = (0.0, 2.0), noise_folder: str | None = None, equaliser: float = 0.3,
        equaliser_db: float = 6.0, bands: int = 6, band_limit: float = 0.2,
        cutoff_hz: Sequence[float] = (3400.0, 7500.0), companding: float = 0.1, bits: float = 0.1,
        bit_depth: Sequence[int] = (8, 14), reverberation: float = 0.0, rt60_s: Sequence[float] = (0.1, 0.8),
        direct_db: Sequence[float] = (0.0, 12.0), room_folder: str | None = None, channel: float = 0.0,
        channels: Sequence[str] | Mapping[str, float] = (), silence: float = 0.0,
        silence_s: Sequence[float] = (0.0, 0.3), rawboost: float = 0.0, rawboost_algorithm: int = 5,
        rate_hz: int = 16000,
    ) -> None:  # fmt: skip
        self.gain_db = span("gain_db", gain_db, -60, 30)
        self.noise, self.snr_db = probability("noise", noise), span("snr_db", snr_db, -10, 100)
        self.noise_exponent = span("noise_exponent", noise_exponent, 0, 3)
        self.equaliser, self.band_limit = probability("equaliser", equaliser), probability("band_limit", band_limit)
        self.equaliser_db = span("equaliser_db", (-equaliser_db, equaliser_db), -30, 30)
        self.cutoff_hz = span("cutoff_hz", cutoff_hz, 300, rate_hz / 2)
        self.companding, self.bits = probability("companding", companding), probability("bits", bits)
        self.bit_depth = span("bit_depth", bit_depth, 4, 24)
        if not 2 <= bands <= 64:
            raise ConfigError(f"augment: bands is {bands}", hint="give 2 to 64")
        self.bands, self.rate_hz = bands, rate_hz
        self.reverberation, self.rt60_s = probability("reverberation", reverberation), span("rt60_s", rt60_s, 0.05, 5)
        self.direct_db = span("direct_db", direct_db, -20, 40)
        self.silence, self.silence_s = probability("silence", silence), span("silence_s", silence_s, 0, 60)
        self.channel = probability("channel", channel)
        weights = dict(channels) if isinstance(channels, Mapping) else dict.fromkeys(channels, 1.0)
        if self.channel and (not weights or min(weights.values()) < 0 or sum(weights.values()) <= 0):
            raise ConfigError(f"augment: channel is {channel} of channels {channels}", hint="name at least one channel")
        self.channels = [sound_ladder(name) for name in weights]
        self.channel_shares = np.array(list(weights.values()), np.float64) / max(sum(weights.values()), 1e-12)
        self.rawboost = probability("rawboost", rawboost)
        self._boost = RawBoost(algorithm=rawboost_algorithm, rate_hz=rate_hz)
        self.noises = sound_files("noise_folder", noise_folder)
        self.rooms = sound_files("room_folder", room_folder)

    @property
    def record(self) -> dict[str, Any]:
        """What a run should remember: the channels, and the versions of what encodes them."""
        return {"channels": [c.name for c in self.channels], "encoders": encoder_versions() if self.channels else {}}

    def __call__(self, data: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Sound float32 (k, T) in [-1, 1] -> the same shape, each window changed by its own draws from ``rng``."""
        return np.stack([self._one(view, rng) for view in data])

    def _one(self, sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        out = np.asarray(sound, np.float32)
        if rng.random() < self.silence:
            out = set_silence(out, self.rate_hz, *rng.uniform(self.silence_s[0], self.silence_s[1], 2))
        if rng.random() < self.rawboost:
            out = self._boost.one(out, rng)
        if rng.random() < self.reverberation:
            out = reverberate(out, self._room(rng))
        equalise, limit = rng.random() < self.equaliser, rng.random() < self.band_limit
        if equalise or limit:
            gains = rng.uniform(self.equaliser_db[0], self.equaliser_db[1], self.bands) if equalise else np.zeros(2)
            cutoff = rng.uniform(*self.cutoff_hz) / (self.rate_hz / 2) if limit else 1.0
            out = shape_spectrum(out, gains, cutoff)
        if rng.random() < self.noise:
            out = add_noise(out, self._noise(len(out), rng), rng.uniform(*self.snr_db))
        out = out * np.float32(10 ** (rng.uniform(*self.gain_db) / 20))
        peak = float(np.abs(out).max(initial=0.0))
        if peak > 1:
            out = out / np.float32(peak)
        if rng.random() < self.channel:
            ladder = self.channels[int(rng.choice(len(self.channels), p=self.channel_shares))]
            strength = float(rng.uniform(min(ladder.span), max(ladder.span)))
            out = launder_sound(out, self.rate_hz, ladder.name, strength, rng)
        if rng.random() < self.companding:
            out = compand(out)
        if rng.random() < self.bits:
            steps = np.float32(2.0 ** (round(rng.uniform(*self.bit_depth)) - 1))
            out = np.round(out * steps) / steps
        return out.astype(np.float32, copy=False)

    def _noise(self, length: int, rng: np.random.Generator) -> np.ndarray:
        if not self.noises:
            return coloured_noise(length, rng.uniform(*self.noise_exponent), rng)
        return random_stretch(self.noises[int(rng.integers(len(self.noises)))], length, self.rate_hz, rng)

    def _room(self, rng: np.random.Generator) -> np.ndarray:
        if not self.rooms:
            return room(self.rate_hz, rng, rt60_s=rng.uniform(*self.rt60_s), direct_db=rng.uniform(*self.direct_db))
        return measured_room(self.rooms[int(rng.integers(len(self.rooms)))], self.rate_hz)


def sound_files(key: str, folder: str | None) -> list[Path]:
    """Sound files below a folder, in order; none where no folder is given. Raises ConfigError where it holds none."""
    if folder is None:
        return []
    found = sorted(p for p in Path(folder).rglob("*") if p.suffix.lower() in _SOUNDS)
    if not found:
        raise ConfigError(
            f"augment: {key} {folder} holds no sound files", hint=f"give the unpacked corpus, or {key}=null"
        )
    return found


def random_stretch(path: Path, length: int, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    """So many samples from a random place of a file, repeated where it is shorter: float32 (length,).

    Raises:
        MediaError: a file that cannot be read.
    """
    import soundfile
    import soxr

    try:
        with soundfile.SoundFile(path) as stream:
            wanted = -(-length * stream.samplerate // rate_hz)
            start = int(rng.integers(max(1, stream.frames - wanted + 1)))
            stream.seek(start)
            values = stream.read(wanted, dtype="float32", always_2d=True).mean(axis=1)
            values = soxr.resample(values, stream.samplerate, rate_hz) if stream.samplerate != rate_hz else values
    except soundfile.LibsndfileError:
        try:
            values = read_sound(path, rate_hz)
        except Unusable as error:
            raise _unreadable(path, error) from error
        start = int(rng.integers(max(1, len(values) - length + 1)))
        values = values[start : start + length]
    if not len(values):
        raise _unreadable(path, "no samples")
    return np.resize(values, length).astype(np.float32)


def measured_room(path: Path, rate_hz: int) -> np.ndarray:
    """An impulse response from a file: cut at its largest peak (the direct sound), which is scaled to 1.

    Raises:
        MediaError: a file that cannot be read or is silent.
    """
    try:
        response = read_sound(path, rate_hz, max_seconds=5.0).astype(np.float64)
    except Unusable as error:
        raise _unreadable(path, error) from error
    at = int(np.argmax(np.abs(response)))
    if response[at] == 0:
        raise _unreadable(path, "silence")
    return response[at:] / response[at]


def _unreadable(path: Path, why: object) -> MediaError:
    return MediaError(f"{path}: cannot be used for augmentation ({why})", hint="remove that file from the folder")
