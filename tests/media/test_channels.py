"""Channels do to sound what they say, in time and at length, and an absent encoder is an error, never a bypass."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import deepassay.media.channels as channels
from deepassay.errors import ConfigError, MissingDependencyError
from deepassay.media.channels import (
    CODECS,
    SOUND_LADDERS,
    add_noise,
    band_limit,
    code,
    coloured_noise,
    encoder_versions,
    launder_sound,
    lose_packets,
    parse_sound_step,
    reverberate,
    room,
    set_silence,
    sound_ladder,
    sound_ladder_facts,
    speech_bounds,
)

RATE = 16000
HERE = [name for name in CODECS if name not in ("amr_wb", "speex")]
BITRATES = {"mp3": 32_000, "aac": 32_000, "opus": 24_000, "opus_voip": 24_000, "amr_nb": 12_200}


def speech(seconds: float = 2.0, rate: int = RATE, seed: int = 0) -> np.ndarray:
    """Harmonics under moving formants, syllables, a little noise."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * np.cumsum(150 * (1 + 0.15 * np.sin(2 * np.pi * 0.9 * t))) / rate
    out = np.zeros_like(t)
    for k in range(1, min(50, int(0.45 * rate / 180))):
        f = k * 150
        first, second = 600 + 250 * np.sin(2 * np.pi * 2.1 * t), 1600 + 500 * np.sin(2 * np.pi * 1.3 * t)
        out += np.cos(k * phase) * (
            np.exp(-(((f - first) / 250) ** 2)) + 0.6 * np.exp(-(((f - second) / 400) ** 2)) + 0.02
        )
    out *= np.clip(np.sin(2 * np.pi * 3.1 * t) + 0.4, 0, 1)
    return (0.1 * out + 0.002 * rng.standard_normal(len(t))).astype(np.float32)


SPEECH = speech()


def lag_and_snr(x: np.ndarray, y: np.ndarray, rate: int = RATE, low: float = 300, high: float = 3000):
    """Lag of the best match and signal-to-error ratio in dB, in the band where telephones keep the phase."""
    a, b = (band_limit(v, rate, low, high).astype(np.float64) for v in (x, y))
    size = 1 << (2 * len(a)).bit_length()
    match = np.fft.irfft(np.fft.rfft(b, size) * np.conj(np.fft.rfft(a, size)))
    lag = int(np.argmax(match))
    gain = (a @ b) / (a @ a)
    return lag if lag < size // 2 else lag - size, 10 * np.log10(np.sum((gain * a) ** 2) / np.sum((b - gain * a) ** 2))


def top_hz(x: np.ndarray, rate: int = RATE, share: float = 0.999) -> float:
    """Frequency below which this share of the power lies."""
    power = np.cumsum(np.abs(np.fft.rfft(x.astype(np.float64))) ** 2)
    return float(np.searchsorted(power, share * power[-1])) * rate / len(x)


@pytest.mark.parametrize(
    ("codec", "least_db", "most_db"),
    [("mp3", 10, 40), ("aac", 8, 40), ("opus", 6, 40), ("opus_voip", 3, 40), ("g711_a", 25, 45), ("g711_mu", 25, 45),
     ("g722", 15, 40), ("amr_nb", 3, 30), ("gsm", 4, 30)],
)  # fmt: skip
def test_codecs_are_back_in_time_and_lose_what_they_should(codec, least_db, most_db):
    out = code(SPEECH, RATE, codec, bitrate=BITRATES.get(codec))
    assert out.shape == SPEECH.shape
    assert out.dtype == np.float32
    assert np.abs(out).max() <= 1
    lag, ratio = lag_and_snr(SPEECH, out)
    assert abs(lag) <= 1
    assert least_db < ratio < most_db
    np.testing.assert_array_equal(out, code(SPEECH, RATE, codec, bitrate=BITRATES.get(codec)))


@pytest.mark.parametrize("codec", ["aac", "g722", "amr_nb"])
def test_without_the_known_delay_the_time_would_be_wrong(codec, monkeypatch):
    kind = CODECS[codec]
    monkeypatch.setitem(CODECS, codec, replace(kind, delay=0))
    lag, _ = lag_and_snr(SPEECH, code(SPEECH, RATE, codec, bitrate=BITRATES.get(codec)))
    assert lag == pytest.approx(kind.delay * RATE / kind.rate_for(RATE), abs=2)


@pytest.mark.parametrize("length", [1, 7, 159, 1023, 16001])
@pytest.mark.parametrize("codec", ["mp3", "aac", "opus", "g711_a", "g722", "amr_nb", "gsm"])
def test_any_length_comes_back_as_it_was(codec, length):
    out = code(SPEECH[:length], RATE, codec, bitrate=BITRATES.get(codec))
    assert out.shape == (length,)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("rate", [8000, 22050, 44100])
@pytest.mark.parametrize("codec", ["mp3", "opus", "g711_mu", "g722"])
def test_other_sampling_rates_work(codec, rate):
    x = speech(1.0, rate)
    out = code(x, rate, codec, bitrate=BITRATES.get(codec))
    lag, ratio = lag_and_snr(x, out, rate)
    assert len(out) == len(x)
    assert abs(lag) <= 3
    assert ratio > 5


def test_silence_stays_silence():
    for codec in HERE:
        assert np.abs(code(np.zeros(8000, np.float32), RATE, codec, bitrate=BITRATES.get(codec))).max() < 2e-3, codec


def test_lower_bitrates_lose_more():
    for codec, rates in (("mp3", (64, 32, 16)), ("aac", (64, 32, 16)), ("opus", (32, 16, 8))):
        ratios = [lag_and_snr(SPEECH, code(SPEECH, RATE, codec, bitrate=1000 * r))[1] for r in rates]
        assert ratios[0] > ratios[1] > ratios[2], codec
    words = [lag_and_snr(SPEECH, code(SPEECH, RATE, "g722", bits_per_codeword=b))[1] for b in (8, 7, 6)]
    assert words[0] > words[1] > words[2]


def test_narrow_band_codecs_end_below_4_khz():
    noise = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    assert top_hz(noise) > 7900
    for codec in ("g711_a", "g711_mu", "amr_nb", "gsm"):
        assert top_hz(code(noise, RATE, codec, bitrate=BITRATES.get(codec))) < 4100


@pytest.mark.parametrize("codec", HERE)
def test_a_missing_encoder_is_an_error(codec, monkeypatch):
    monkeypatch.setattr(channels, "_known", lambda name, mode: False)
    monkeypatch.setattr(channels, "_gsm_known", lambda: False)
    with pytest.raises(MissingDependencyError, match="hint"):
        code(SPEECH, RATE, codec, bitrate=BITRATES.get(codec))


@pytest.mark.parametrize("codec", ["amr_wb", "speex"])
def test_codecs_that_no_wheel_has_say_so(codec):
    with pytest.raises(MissingDependencyError, match=codec):
        code(SPEECH, RATE, codec, bitrate=12_650)


def test_ladders_ask_for_their_encoders_first(monkeypatch):
    monkeypatch.setattr(channels, "_known", lambda name, mode: name != "libopus")
    with pytest.raises(MissingDependencyError, match="libopus"):
        sound_ladder("messenger")
    assert sound_ladder("mp3").steps == ("mp3@64", "mp3@32", "mp3@16")


def test_wrong_numbers_are_refused():
    rng = np.random.default_rng(0)
    for wrong in (
        lambda: code(SPEECH, RATE, "mp3"),
        lambda: code(SPEECH, RATE, "mp3", bitrate=1),
        lambda: code(SPEECH, RATE, "no_such"),
        lambda: code(SPEECH, RATE, "g711_a", bitrate=64_000),
        lambda: code(SPEECH, RATE, "g722", bits_per_codeword=5),
        lambda: band_limit(SPEECH, RATE, 3000, 300),
        lambda: room(RATE, rng, rt60_s=0.0),
        lambda: lose_packets(SPEECH, RATE, rng, share=0.9),
        lambda: launder_sound(SPEECH, RATE, "no_such", 1),
        lambda: launder_sound(SPEECH, RATE, "mp3", 1000),
        lambda: parse_sound_step("mp3"),
        lambda: parse_sound_step("no_such@1"),
    ):
        with pytest.raises(ConfigError, match="hint"):
            wrong()


@pytest.mark.parametrize("name", sorted(SOUND_LADDERS))
def test_every_ladder_changes_sound_keeps_length_and_time_and_is_repeatable(name):
    ladder = SOUND_LADDERS[name]
    assert len(ladder.strengths) >= 3
    quiet = np.concatenate([np.zeros(8000, np.float32), SPEECH[:16000], np.zeros(8000, np.float32)])
    for strength in ladder.strengths:
        out = launder_sound(quiet, RATE, name, strength)
        assert out.shape == quiet.shape
        assert out.dtype == np.float32
        assert np.isfinite(out).all()
        assert np.abs(out).max() <= 1
        if name != "packet_loss" or strength > 5:  # two lost frames in a hundred may fall on silence
            assert np.abs(out - quiet).max() > 1e-4
        np.testing.assert_array_equal(out, launder_sound(quiet, RATE, name, strength))
        if name != "silence":
            assert abs(lag_and_snr(quiet, out)[0]) <= 1
        assert parse_sound_step(f"{name}@{strength:g}") == (name, strength)
    facts = sound_ladder_facts(name)
    assert facts["title"]
    assert facts["coder"]


@pytest.mark.parametrize("name", ["mp3", "aac", "opus", "g711", "g722", "gsm", "noise", "reverberation", "clipping",
                                  "level", "telephone", "messenger"])  # fmt: skip
def test_ladders_grow_harsher(name):
    ratios = [lag_and_snr(SPEECH, launder_sound(SPEECH, RATE, name, s), low=100, high=7000)[1]
              for s in (SOUND_LADDERS[name].strengths[0], SOUND_LADDERS[name].strengths[-1])]  # fmt: skip
    assert ratios[0] > ratios[1]


def test_the_same_generator_gives_the_same_samples_and_another_others():
    for name in ("telephone", "messenger", "noise", "reverberation", "packet_loss"):
        step = SOUND_LADDERS[name].strengths[1]
        one, two, three = (launder_sound(SPEECH, RATE, name, step, np.random.default_rng(s)) for s in (1, 1, 2))
        np.testing.assert_array_equal(one, two)
        assert not np.array_equal(one, three), name


@pytest.mark.parametrize("snr", [20.0, 0.0])
def test_noise_arrives_at_the_ratio_asked_for(snr):
    out = add_noise(SPEECH, coloured_noise(len(SPEECH), 1.0, np.random.default_rng(0)), snr)
    added = out - SPEECH
    assert 10 * np.log10(np.mean(SPEECH**2) / np.mean(added**2)) == pytest.approx(snr, abs=0.05)
    assert not add_noise(np.zeros(100, np.float32), np.ones(100, np.float32), 0.0).any()


def test_a_band_is_kept_and_the_rest_is_gone():
    noise = np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32) * 0.1
    out = band_limit(noise, RATE, 300, 3400)
    before, after = (np.abs(np.fft.rfft(v)) ** 2 for v in (noise, out))
    hz = np.fft.rfftfreq(len(noise), 1 / RATE)
    inside, outside = (hz > 330) & (hz < 3200), (hz < 270) | (hz > 3600)
    assert after[inside].sum() / before[inside].sum() == pytest.approx(1, abs=0.01)
    assert 10 * np.log10(after[outside].sum() / before[outside].sum()) < -40


def test_packets_are_lost_at_the_asked_rate_and_concealed():
    x = (0.1 * np.random.default_rng(0).standard_normal(60 * RATE)).astype(np.float32)
    out = lose_packets(x, RATE, np.random.default_rng(1), share=0.1)
    frames = (x.reshape(-1, 320) != out.reshape(-1, 320)).mean(axis=1) > 0.9
    assert frames.mean() == pytest.approx(0.1, abs=0.02)
    lengths = np.diff(np.flatnonzero(np.diff(np.concatenate([[0], frames.astype(int), [0]]))))[::2]
    assert lengths.mean() == pytest.approx(1.5, abs=0.25)
    assert not frames[0]
    np.testing.assert_array_equal(lose_packets(x, RATE, np.random.default_rng(1), share=0.0), x)
    lost = np.flatnonzero(frames & ~np.roll(frames, 1))[0]
    np.testing.assert_array_equal(out[lost * 320 : lost * 320 + 320], out[(lost - 1) * 320 : lost * 320])


@pytest.mark.parametrize("rt60", [0.3, 0.8])
def test_rooms_ring_as_long_as_asked_and_begin_with_the_direct_sound(rt60):
    response = room(RATE, np.random.default_rng(0), rt60_s=rt60, direct_db=3.0)
    assert response[0] == 1
    assert np.argmax(np.abs(response)) == 0
    assert 10 * np.log10(1 / np.sum(response[1:] ** 2)) == pytest.approx(3.0, abs=0.01)
    tail = band_limit(response, RATE, 0, 1000)[round(0.05 * RATE) :]
    decay = 10 * np.log10(np.cumsum(tail[::-1].astype(np.float64) ** 2)[::-1])  # Schroeder 1965
    fall = np.polyfit(np.arange(len(decay))[: round(0.5 * rt60 * RATE)] / RATE, decay[: round(0.5 * rt60 * RATE)], 1)[0]
    assert -60 / fall == pytest.approx(rt60, rel=0.25)
    wet = reverberate(SPEECH, response)
    assert np.sqrt(np.mean(wet**2)) == pytest.approx(np.sqrt(np.mean(SPEECH**2)), rel=0.01)


def test_silence_at_the_ends_is_cut_to_what_may_stay():
    core = SPEECH[500:20500] + 0.05 * np.sin(np.arange(20000)).astype(np.float32)
    x = np.concatenate([np.zeros(6400, np.float32), core, np.zeros(9600, np.float32)])
    first, last = speech_bounds(x, RATE)
    assert (first, last) == pytest.approx((6400, 26400), abs=320)
    out = set_silence(x, RATE, 0.1, 0.0)
    assert len(out) == len(x)
    start, _ = speech_bounds(out, RATE)
    assert start == pytest.approx(1600, abs=320)
    np.testing.assert_array_equal(out[start : start + 10000], x[first : first + 10000])
    np.testing.assert_array_equal(set_silence(x, RATE, 10, 10), x)
    assert set_silence(np.zeros(100, np.float32), RATE, 0, 0).shape == (100,)


def test_versions_are_on_record():
    versions = encoder_versions()
    assert set(versions) == {"pyav", "libavcodec", "libswresample", "libsndfile"}
    assert all(v[0].isdigit() for v in versions.values())
    assert "libmp3lame" in sound_ladder_facts("mp3")["coder"]
    assert versions["libavcodec"] in sound_ladder_facts("mp3")["coder"]


def test_no_torch_is_needed():
    text = (
        "import sys, numpy as np; from deepassay.media.channels import launder_sound; "
        "launder_sound(np.ones(4000, np.float32) * .1, 16000, 'telephone', 2); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", text], check=False).returncode == 0
