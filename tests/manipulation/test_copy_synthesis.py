"""Copy synthesis: nothing at strength 0, level and length kept, the envelope of speech kept, segments exact."""

import warnings

import numpy as np
import pytest

from deepassay.manipulation.copy_synthesis import (
    COPY_SYNTHESIS,
    VOICE_MAKERS,
    Grid,
    load_pyworld,
    slaney_mel_filters,
)
from deepassay.manipulation.voice import VOICE_MANIPULATIONS, stft

RATE = 16000
NAMES = sorted(COPY_SYNTHESIS)


def voiced(seconds: float = 1.5, rate: int = RATE) -> np.ndarray:
    rng = np.random.default_rng(0)
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(140 * (1 + 0.1 * np.sin(2 * np.pi * 1.3 * t))) / rate
    out = np.zeros_like(t)
    for k in range(1, 40):
        f = k * 140
        out += np.cos(k * phase) * (np.exp(-(((f - 600) / 300) ** 2)) + 0.5 * np.exp(-(((f - 1700) / 500) ** 2)) + 0.01)
    out *= np.clip(np.sin(2 * np.pi * 1.1 * t) + 0.5, 0, 1)
    return (0.05 * out + 0.001 * rng.standard_normal(len(t))).astype(np.float32)


SPEECH = voiced()


def apply(name: str, strength: float = 1.0, seed: int = 1, signal=SPEECH, rate: int = RATE):
    return COPY_SYNTHESIS[name](signal, rate_hz=rate, strength=strength, rng=np.random.default_rng(seed))


def loudness(x: np.ndarray) -> np.ndarray:
    return np.sqrt(np.convolve(x**2, np.ones(400) / 400, "same"))


def test_all_makers_have_their_own_names():
    assert len(VOICE_MAKERS) == len(VOICE_MANIPULATIONS) + len(COPY_SYNTHESIS)
    assert all(m.name == name and m.family for name, m in VOICE_MAKERS.items())


@pytest.mark.parametrize("name", NAMES)
def test_strength_zero_is_the_input_and_more_departs_further(name):
    out, segments = apply(name, 0)
    assert out.tobytes() == SPEECH.tobytes()
    assert segments.shape == (0, 2)
    far = [np.linalg.norm(apply(name, s)[0] - SPEECH) for s in (0.3, 1.0)]
    assert 0 < far[0] <= far[1] * 1.001


@pytest.mark.parametrize("name", NAMES)
def test_length_level_and_the_course_of_loudness_stay(name):
    for seed in range(3):
        out, segments = apply(name, seed=seed)
        assert out.shape == SPEECH.shape
        assert out.dtype == np.float32
        assert np.sqrt(np.mean(out**2)) == pytest.approx(np.sqrt(np.mean(SPEECH**2)), rel=0.01)
        assert np.corrcoef(loudness(out), loudness(SPEECH))[0, 1] > 0.9
        distance = np.sqrt(np.mean((np.log(np.abs(stft(out)) + 1e-2) - np.log(np.abs(stft(SPEECH)) + 1e-2)) ** 2))
        assert 0.02 < distance < 1.5
        assert segments.min() >= 0
        assert segments.max() <= len(SPEECH) / RATE


@pytest.mark.parametrize("name", NAMES)
def test_the_generator_decides(name):
    np.testing.assert_array_equal(apply(name, seed=3)[0], apply(name, seed=3)[0])


@pytest.mark.parametrize("rate", [8000, 44100])
@pytest.mark.parametrize("name", NAMES)
def test_other_rates_work(name, rate):
    signal = voiced(0.6, rate)
    out, _ = apply(name, signal=signal, rate=rate)
    assert out.shape == signal.shape
    assert np.isfinite(out).all()


@pytest.mark.parametrize("name", [n for n in NAMES if n.startswith("partial")])
def test_partial_copies_change_their_segments_only(name):
    for seed in range(4):
        out, segments = apply(name, seed=seed)
        inside = np.zeros(len(SPEECH), bool)
        for start, end in segments:
            inside[round(start * RATE) : round(end * RATE)] = True
        gain = (out[~inside] @ SPEECH[~inside]) / (SPEECH[~inside] @ SPEECH[~inside])
        np.testing.assert_allclose(out[~inside], gain * SPEECH[~inside], atol=1e-5)
        assert np.abs(out - gain * SPEECH)[inside].max() > 0.01
        assert 1 <= len(segments) <= 3


def test_spectra_are_inverted_and_filters_match_librosa():
    for window in (256, 512, 1024):
        grid = Grid(window)
        assert np.abs(grid.build(grid.analyse(SPEECH), len(SPEECH)) - SPEECH).max() < 1e-5
    librosa = pytest.importorskip("librosa")
    oracle = librosa.filters.mel(sr=RATE, n_fft=1024, n_mels=80, fmin=80, fmax=7600)
    assert np.abs(slaney_mel_filters(RATE, 1024, 80, 80, 7600) - oracle).max() < 1e-6


def test_pyworld_comes_without_its_warning_and_others_stay():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        load_pyworld()
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert [str(w.message) for w in seen] == ["something else"]
