"""Voice modality: windows where there is sound, statuses where there is none."""

import numpy as np
import pytest

from deepassay.errors import ConfigError, ManifestError
from deepassay.labels import Status, Unusable
from deepassay.media.sound import write_sound
from deepassay.modality.views import DEFAULT_VIEWS, EVERY, Streams, Views, view_count
from deepassay.modality.voice import VoiceModality, parse_segments, window_labels

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


def joined(parts: list[Views]) -> Views:
    ends = [part.end_s for part in parts if part.end_s is not None]
    return Views(
        data=np.concatenate([part.data for part in parts]),
        start_s=np.concatenate([part.start_s for part in parts]),
        quality=np.concatenate([part.quality for part in parts]),
        track=np.concatenate([part.track for part in parts]),
        end_s=np.concatenate(ends),
    )


def same(left: Views, right: Views) -> None:
    for name in ("data", "start_s", "quality", "track", "end_s"):
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


@pytest.mark.parametrize("seconds", [0.4, 3.3, 61.7, 100.0])  # repeated, kept in memory, decoded a second time
@pytest.mark.parametrize("k", [3, EVERY])
@pytest.mark.parametrize("gain", [1.0, 30.0])
def test_streaming_gives_the_windows_of_prepare_and_draw(voices, tmp_path, seconds, k, gain):
    speech = noise(seconds) * (np.sin(np.arange(round(seconds * RATE)) / RATE) > -0.2)
    write_sound(tmp_path / "a.wav", speech * gain, subtype="FLOAT")
    drawn = voices.draw(voices.prepare(tmp_path / "a.wav"), k)
    parts = list(voices.stream(tmp_path / "a.wav", k, size=7))
    assert all(len(part) <= 7 for part in parts)
    same(joined(parts), drawn)
    same(joined(list(voices.stream(voices.prepare(tmp_path / "a.wav"), k, size=7))), drawn)
    assert len(voices.choose(tmp_path / "a.wav", k)) == len(drawn)


def test_streaming_gives_the_same_statuses(voices, tmp_path):
    for name, signal in {
        "zeros": silence(3), "faint": noise(3, 10 ** (-70 / 20)), "short": noise(0.25),
        "offset": np.full(5 * RATE, 0.3, np.float32),
    }.items():  # fmt: skip
        write_sound(tmp_path / "a.wav", signal, subtype="FLOAT")
        with pytest.raises(Unusable) as whole:
            voices.prepare(tmp_path / "a.wav")
        with pytest.raises(Unusable) as streamed:
            next(voices.stream(tmp_path / "a.wav"))
        assert (whole.value.status, whole.value.reason) == (streamed.value.status, streamed.value.reason), name


def test_choosing_can_be_handed_to_another_process_and_holds_no_sound_of_a_long_file(voices, tmp_path):
    import pickle

    write_sound(tmp_path / "a.flac", noise(90))
    chosen = voices.choose(tmp_path / "a.flac", EVERY)
    assert len(pickle.dumps(chosen)) < 20_000
    same(joined(list(pickle.loads(pickle.dumps(chosen)).parts(16))), joined(list(chosen.parts(16))))
    assert isinstance(voices, Streams)


def test_a_file_that_changes_between_the_passes_is_told(voices, tmp_path):
    write_sound(tmp_path / "a.flac", noise(90))
    parts = voices.choose(tmp_path / "a.flac", EVERY).parts(16)
    next(parts)
    parts = voices.choose(tmp_path / "a.flac", EVERY).parts(16)
    write_sound(tmp_path / "a.flac", noise(70))
    with pytest.raises(Unusable, match="changed") as caught:
        list(parts)
    assert caught.value.status == Status.UNDECODABLE


def test_an_offset_is_no_sound_and_does_not_hide_any(voices):
    with pytest.raises(Unusable) as caught:
        voices.prepare_signal(np.full(3 * RATE, 0.3, np.float32) + noise(3, 1e-5))
    assert caught.value.status == Status.NO_SPEECH
    speech = np.concatenate([noise(1), silence(3), noise(1)])
    shifted = voices.draw(voices.prepare_signal(speech + np.float32(0.2)), EVERY)
    assert shifted.start_s.tolist() == voices.draw(voices.prepare_signal(speech), EVERY).start_s.tolist()


def test_windows_say_where_they_end(voices):
    assert voices.draw(voices.prepare_signal(noise(3.3)), 9).end_s.tolist()[-2:] == [3.0, pytest.approx(3.3)]
    assert voices.draw(voices.prepare_signal(noise(0.4)), 9).end_s.tolist() == [pytest.approx(0.4)]


def test_a_low_rate_is_noted(voices, tmp_path):
    write_sound(tmp_path / "a.wav", noise(2)[::2], 8000)
    (note,) = voices.choose(tmp_path / "a.wav", 8).notes
    assert "8000 Hz" in note
    assert "above 4 kHz" in note
    write_sound(tmp_path / "a.wav", noise(2), RATE)
    assert voices.choose(tmp_path / "a.wav", 8).notes == ()


def test_pooling_by_stretch_finds_a_short_fake_and_equals_the_mean_of_a_short_file():
    whole = VoiceModality(window_samples=16000, hop_samples=8000)
    minute = VoiceModality(window_samples=16000, hop_samples=8000, pool_s=10.0)
    assert minute.pool_windows == 19
    rng = np.random.default_rng(0)
    logits = rng.normal(-3, 0.1, 400)
    start = np.arange(400) / 2
    views = Views(np.zeros((400, 0)), start, np.zeros(400, np.float32), np.zeros(400, np.int32))
    logits[100:130] += 6
    assert whole.pool(logits, views) < -2
    assert minute.pool(logits, views) == pytest.approx(3, abs=0.2)
    shuffled = rng.permutation(400)
    assert minute.pool(logits[shuffled], views.take(shuffled)) == pytest.approx(minute.pool(logits, views))
    few = views.take(np.arange(19))
    assert minute.pool(logits[:19], few) == whole.pool(logits[:19], few)
    slow = max(logits[i : i + 19].mean() for i in range(400 - 18))
    assert minute.pool(logits, views) == pytest.approx(slow)
    assert minute.fingerprint != whole.fingerprint
    with pytest.raises(ConfigError, match="pool_s"):
        VoiceModality(pool_s=1.0)


def test_views_per_file(voices):
    class Other:
        pass

    assert view_count(None, voices) == view_count("all", voices) == EVERY
    assert view_count(None, Other()) == DEFAULT_VIEWS  # type: ignore[arg-type]
    assert view_count(3, voices) == 3
    for wrong in (0, -1, True, "many", 2.5):
        with pytest.raises(ConfigError, match="views"):
            view_count(wrong, voices)  # type: ignore[arg-type]


def test_segments_become_window_labels():
    segments = parse_segments("0.5-1.5;4-4.05")
    assert segments.tolist() == [[0.5, 1.5], [4.0, 4.05]]
    start = np.array([0.0, 0.45, 1.0, 1.5, 3.5])
    assert window_labels(segments, start, 1.0).tolist() == [1, 1, 1, 0, 0]
    assert window_labels(segments, start, 1.0, min_fake_s=0.05).tolist() == [1, 1, 1, 0, 1]
    assert window_labels(segments, start, 1.0, min_fake_s=0.6).tolist() == [0, 1, 0, 0, 0]
    assert window_labels(segments, start, 1.0, min_fake_s=5.0).tolist() == [0, 0, 0, 0, 0]
    assert window_labels(parse_segments(""), start, 1.0).tolist() == [0] * 5
    # A repeated file is heard whole in every window, wherever its cycle begins.
    assert window_labels([[0.2, 0.4]], np.array([0.0, 0.35]), 4.0, duration_s=0.5).tolist() == [1, 1]
    # All of a window is fake, and shorter than the least that counts.
    assert window_labels([[0.0, 9.0]], np.array([1.0]), 0.05, min_fake_s=0.1).tolist() == [1]


def test_segments_that_make_no_sense_are_refused():
    for wrong in ("1", "a-b", "1-2-3", "2-1", "0-2;1-3", "1-1", "nan-2"):
        with pytest.raises(ManifestError, match="fake_segments"):
            parse_segments(wrong)
    with pytest.raises(ConfigError, match="hint"):
        window_labels([], np.zeros(1), 0.0)


def test_segments_as_the_partialspoof_door_writes_them():
    from deepassay.corpora.partialspoof import fake_segments

    labels = np.array([0, 1, 1, 0, 0, 1])
    np.testing.assert_allclose(parse_segments(fake_segments(labels, 0.16)), [[0.16, 0.48], [0.8, 0.96]])
    assert len(parse_segments(fake_segments(np.zeros(4, int), 0.16))) == 0
    assert parse_segments("5e-05-0.1; 2.5 - 1e+02").tolist() == [[5e-05, 0.1], [2.5, 100.0]]


def test_targets_of_drawn_windows_follow_the_segments(voices):
    prepared = voices.prepare_signal(noise(6))
    drawn = voices.draw(prepared, 50, np.random.default_rng(0))
    labels = voices.view_labels(drawn, 1, "2-3", 0.25)
    overlap = np.minimum(drawn.start_s + 1, 3) - np.maximum(drawn.start_s, 2)
    np.testing.assert_array_equal(labels, (overlap >= 0.25).astype(int))
    assert 0 < labels.sum() < 50
    assert voices.view_labels(drawn, 1, "").tolist() == [1] * 50
    assert voices.view_labels(drawn, 0, "").tolist() == [0] * 50
    short = voices.draw(voices.prepare_signal(noise(0.5)), 5, np.random.default_rng(0))
    assert voices.view_labels(short, 1, "0.1-0.3", 0.2).tolist() == [1] * 5
    with pytest.raises(ManifestError, match="not fake"):
        voices.view_labels(drawn, 0, "2-3")
