"""Voice manipulations: nothing at strength 0, more with more strength; same length and level; only where they say."""

import numpy as np
import pytest
import soundfile

from deepassay.errors import AssayError, ConfigError, MediaError
from deepassay.manipulation.voice import VOICE_MANIPULATIONS, istft, mel_filters, pitch_track, stft

RATE = 16000


def tone_speech(seconds: float = 1.5, f0: float = 140.0, seed: int = 0) -> np.ndarray:
    """Harmonics under two formants with a pause and a little noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    pitch = f0 * (1 + 0.1 * np.sin(2 * np.pi * 1.3 * t))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    out = np.zeros_like(t)
    for k in range(1, 40):
        f = k * f0
        out += np.cos(k * phase) * (np.exp(-(((f - 600) / 300) ** 2)) + 0.5 * np.exp(-(((f - 1700) / 500) ** 2)) + 0.01)
    out *= np.clip(np.sin(2 * np.pi * 1.1 * t) + 0.5, 0, 1)
    return (0.05 * out + 0.001 * rng.standard_normal(len(t))).astype(np.float32)


SPEECH = tone_speech()
NAMES = sorted(VOICE_MANIPULATIONS)


def apply(name: str, strength: float, signal=SPEECH, seed: int = 1, **more):
    return VOICE_MANIPULATIONS[name](signal, rate_hz=RATE, strength=strength, rng=np.random.default_rng(seed), **more)


def log_spectral_distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(np.mean((np.log(np.abs(stft(a)) + 1e-4) - np.log(np.abs(stft(b)) + 1e-4)) ** 2)))


def test_the_families_are_all_there():
    assert set(NAMES) == {
        "lpc_resynthesis", "mel_vocoder", "griffin_lim", "phase_replacement", "pitch_formant_shift", "splice",
    }  # fmt: skip
    assert all(m.name == name and m.family for name, m in VOICE_MANIPULATIONS.items())


def test_analysis_and_synthesis_are_inverse():
    assert np.abs(istft(stft(SPEECH), len(SPEECH)) - SPEECH).max() < 1e-5


def test_pitch_is_found():
    f0, voicing = pitch_track(SPEECH, RATE)
    assert abs(np.median(f0[voicing > 0.8]) - 140) < 8
    assert voicing[: 2 * RATE // 128].max() <= 1


def test_mel_filters_match_librosa():
    librosa = pytest.importorskip("librosa")
    oracle = librosa.filters.mel(sr=RATE, n_fft=512, n_mels=64, htk=True, norm=None)
    assert np.abs(mel_filters(RATE, 64) - oracle).max() < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_strength_zero_is_the_input_bit_for_bit(name):
    out, segments = apply(name, 0)
    assert out.tobytes() == SPEECH.tobytes()
    assert out is not SPEECH
    assert segments.shape == (0, 2)


@pytest.mark.parametrize("name", NAMES)
def test_length_type_level_and_segments(name):
    out, segments = apply(name, 1)
    assert out.shape == SPEECH.shape
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert np.std(out) == pytest.approx(np.std(SPEECH), rel=0.02), "loudness must not tell"
    assert segments.ndim == 2
    assert (segments[:, 0] < segments[:, 1]).all()
    assert segments.min() >= 0
    assert segments.max() <= len(SPEECH) / RATE


@pytest.mark.parametrize("name", NAMES)
def test_the_effect_grows_with_strength(name):
    steps = [np.mean([log_spectral_distance(apply(name, s, seed=k)[0], SPEECH) for k in range(3)]) for s in (0, 0.3, 1)]
    assert steps[0] == 0
    assert 0 < steps[1] < steps[2]


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_samples_and_another_does_not(name):
    one = apply(name, 0.8)[0]
    assert one.tobytes() == apply(name, 0.8)[0].tobytes()
    assert any(one.tobytes() != apply(name, 0.8, seed=k)[0].tobytes() for k in (2, 3, 4))


def test_magnitude_survives_where_only_phase_is_rebuilt():
    assert log_spectral_distance(apply("griffin_lim", 1)[0], SPEECH) < 0.5
    # Random phases give nearly another waveform.
    out = apply("griffin_lim", 1)[0]
    assert abs(np.corrcoef(out, SPEECH)[0, 1]) < 0.9


def test_splices_are_where_they_say():
    donor = tone_speech(2.0, f0=210.0, seed=5)
    out, segments = apply("splice", 1, donor=donor)
    inside = np.zeros(len(SPEECH), dtype=bool)
    for begin, end in segments:
        inside[round(begin * RATE) : round(end * RATE)] = True
    scale = np.median(out[~inside] / np.where(SPEECH[~inside] == 0, 1, SPEECH[~inside]))
    assert np.allclose(out[~inside], SPEECH[~inside] * scale, atol=1e-6), "outside only the level changes"
    assert np.mean(np.abs(out[inside] - SPEECH[inside] * scale) > 1e-5) > 0.9
    assert 0.4 < inside.mean() <= 0.62


def test_a_splice_without_donor_takes_other_places_of_the_same_recording():
    out, segments = apply("splice", 0.3)
    assert len(segments) >= 1
    assert np.abs(out - SPEECH).max() > 0.01


def test_pitch_moves_by_whole_tones():
    before = np.median(pitch_track(SPEECH, RATE)[0][pitch_track(SPEECH, RATE)[1] > 0.8])
    ratios = []
    for seed in range(4):
        f0, voicing = pitch_track(apply("pitch_formant_shift", 1, seed=seed)[0], RATE)
        ratios.append(np.median(f0[voicing > 0.6]) / before)
    assert all(2 ** (2.5 / 12) < max(r, 1 / r) < 2 ** (5.5 / 12) for r in ratios)


@pytest.mark.parametrize(
    ("signal", "more", "error"),
    [
        (SPEECH, {"strength": 1.5}, ConfigError),
        (SPEECH, {"strength": -0.1}, ConfigError),
        (SPEECH, {"rate_hz": 4000}, ConfigError),
        (np.zeros((2, 20000), np.float32), {}, MediaError),
        (np.zeros(20000, np.int16), {}, MediaError),
        (np.zeros(100, np.float32), {}, MediaError),
        (np.full(20000, np.nan, np.float32), {}, MediaError),
        (SPEECH, {"donor": SPEECH}, MediaError),
    ],
)
def test_bad_input_is_refused_with_a_hint(signal, more, error):
    options = {"rate_hz": RATE, "strength": 1.0, "rng": np.random.default_rng(0), **more}
    with pytest.raises(error, match="hint: ") as caught:
        VOICE_MANIPULATIONS["griffin_lim"](signal, **options)
    assert isinstance(caught.value, AssayError)


@pytest.mark.parametrize("name", NAMES)
def test_silence_and_clicks_do_not_break_anything(name):
    click = np.zeros(8000, np.float32)
    click[4000] = 1
    for signal in (np.zeros(8000, np.float32), click, np.full(8000, 0.3, np.float32)):
        out, _ = apply(name, 1, signal=signal)
        assert np.isfinite(out).all()
        assert len(out) == 8000


@pytest.mark.parametrize("name", NAMES)
def test_real_speech_at_several_rates(shared, name):
    speech, rate = soundfile.read(shared / "data" / "voices" / "S00000.flac", dtype="float32")
    for factor in (1, 2):
        out, _ = VOICE_MANIPULATIONS[name](
            speech[::factor], rate_hz=rate // factor, strength=1.0, rng=np.random.default_rng(0)
        )
        assert len(out) == len(speech[::factor])
        assert np.std(out) == pytest.approx(np.std(speech[::factor]), rel=0.02)
