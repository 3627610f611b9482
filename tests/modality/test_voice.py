"""Voice modality: windows where there is sound, statuses where there is none."""

import numpy as np
import pytest

from deepassay.errors import ConfigError
from deepassay.labels import Status, Unusable
from deepassay.media.sound import write_sound
from deepassay.modality.voice import VoiceModality

RATE = 16000


def noise(seconds: float, level: float = 0.1) -> np.ndarray:
    return np.random.default_rng(0).normal(0, level, round(seconds * RATE)).astype(np.float32).clip(-1, 1)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


@pytest.fixture(scope="module")
def voices():
    return VoiceModality(window_samples=16000, hop_samples=8000)


def test_a_file_becomes_one_signal(voices, tmp_path):
    write_sound(tmp_path / "a.wav", noise(3), subtype="FLOAT")
    prepared = voices.prepare(tmp_path / "a.wav")
    assert prepared.data.dtype == np.float32
    np.testing.assert_array_equal(prepared.data[0], noise(3))
    assert (prepared.start_s.tolist(), prepared.track.tolist(), prepared.landmarks) == ([0.0], [0], None)


def test_statuses(voices, tmp_path):
    cases = {
        "zeros": (silence(3), Status.NO_SPEECH),
        "faint": (noise(3, 10 ** (-70 / 20)), Status.NO_SPEECH),
        "short": (noise(0.25), Status.TOO_SHORT),
        "click": (np.concatenate([silence(2), noise(0.2), silence(2)]), Status.TOO_SHORT),
        "one": (np.ones(1, np.float32), Status.TOO_SHORT),
    }
    for name, (signal, status) in cases.items():
        write_sound(tmp_path / f"{name}.wav", signal, subtype="FLOAT")
        with pytest.raises(Unusable) as caught:
            voices.prepare(tmp_path / f"{name}.wav")
        assert caught.value.status == status, name
    write_sound(tmp_path / "long.wav", noise(3))
    with pytest.raises(Unusable) as caught:
        VoiceModality(max_seconds=2.0).prepare(tmp_path / "long.wav")
    assert caught.value.status == Status.OUT_OF_SCOPE


def test_a_short_word_in_a_long_silence_counts(voices):
    assert len(voices.prepare_signal(np.concatenate([silence(20), noise(0.5), silence(20)]))) == 1


def test_quiet_speech_above_the_level_counts(voices):
    assert len(voices.prepare_signal(noise(1, 10 ** (-55 / 20)))) == 1


def test_even_windows_cover_the_file(voices):
    prepared = voices.prepare_signal(noise(3.3))
    drawn = voices.draw(prepared, 100)
    assert drawn.start_s.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, pytest.approx(2.3)]
    assert drawn.data.shape == (6, 16000)
    np.testing.assert_array_equal(drawn.data[-1], noise(3.3)[-16000:])
    spread = voices.draw(prepared, 3).start_s
    assert len(spread) == 3
    assert spread[0] < 1
    assert spread[-1] > 1.5


def test_silent_windows_are_left_out(voices):
    signal = np.concatenate([noise(1), silence(3), noise(1)])
    assert voices.draw(voices.prepare_signal(signal), 100).start_s.tolist() == [0.0, 0.5, 3.5, 4.0]
    spread_thin = np.concatenate([np.concatenate([noise(0.1), silence(1.9)]) for _ in range(5)])
    assert len(voices.draw(voices.prepare_signal(spread_thin), 100)) == 1


def test_a_short_file_is_repeated(voices):
    prepared = voices.prepare_signal(noise(0.4))
    drawn = voices.draw(prepared, 8)
    assert drawn.data.shape == (1, 16000)
    np.testing.assert_array_equal(drawn.data[0], np.tile(noise(0.4), 3)[:16000])
    turned = voices.draw(prepared, 2, np.random.default_rng(0))
    assert turned.data.shape == (2, 16000)
    start = round(turned.start_s[0] * RATE)
    np.testing.assert_array_equal(turned.data[0][: 6400 - start], noise(0.4)[start:])
    np.testing.assert_array_equal(turned.data[0][6400:12800], turned.data[0][:6400])


def test_random_windows_are_exact_seeded_and_seek_sound(voices):
    prepared = voices.prepare_signal(np.concatenate([silence(5), noise(1.5), silence(2)]))
    drawn = voices.draw(prepared, 20, np.random.default_rng(5))
    assert drawn.data.shape == (20, 16000)
    np.testing.assert_array_equal(drawn.data, voices.draw(prepared, 20, np.random.default_rng(5)).data)
    spoken = ((drawn.start_s > 4.2) & (drawn.start_s < 6.3)).mean()
    assert spoken > 0.8
    assert len(np.unique(drawn.start_s)) > 10


def test_quality_tells_noise_from_a_clean_recording(voices):
    speech = np.concatenate([np.concatenate([noise(0.3), silence(0.2)]) for _ in range(4)])
    clean = voices.prepare_signal(speech + noise(2, 1e-4)).quality[0]
    noisy = voices.prepare_signal(speech + noise(2, 3e-2)).quality[0]
    assert clean > 40
    assert noisy < 20


def test_pooling_is_the_mean(voices):
    drawn = voices.draw(voices.prepare_signal(noise(2)), 3)
    assert voices.pool(np.array([1.0, 2.0, 6.0]), drawn) == 3.0
    with pytest.raises(ValueError, match="logits"):
        voices.pool(np.zeros(2), drawn)


def test_settings_are_checked():
    for options in (
        {"rate_hz": 10},
        {"window_samples": 10},
        {"hop_samples": 0},
        {"min_speech_s": 9.0},
        {"max_seconds": 0},
    ):
        with pytest.raises(ConfigError, match="hint"):
            VoiceModality(**options)


def test_most_real_voices_are_usable(shared):
    paths = sorted((shared / "data" / "voices").glob("*.flac"))[::60]
    if not paths:
        pytest.skip("no real voices beside the project")
    voices = VoiceModality()
    usable = 0
    for path in paths:
        try:
            usable += voices.draw(voices.prepare(path), 8).data.shape[1] == 64600
        except Unusable:
            continue
    assert usable >= 0.95 * len(paths)
