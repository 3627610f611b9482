"""Voice augmentation: blind to labels, a function of the generator alone, the amounts that were asked for."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

import deepassay.media.channels as channels
from deepassay.augment.rawboost import ALGORITHMS, RawBoost
from deepassay.augment.voice import VoiceAugment, measured_room, random_stretch
from deepassay.errors import ConfigError, MediaError, MissingDependencyError
from deepassay.media.channels import SOUND_LADDERS, speech_bounds
from deepassay.pipelines.build import build

RATE = 16000
CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "augment"
OFF = {"gain_db": (0, 0), "noise": 0, "equaliser": 0, "band_limit": 0, "companding": 0, "bits": 0}


def windows(n: int = 3, seconds: float = 1.0) -> np.ndarray:
    t = np.arange(round(seconds * RATE)) / RATE
    tone = 0.2 * np.sin(2 * np.pi * 300 * t + 3 * np.sin(2 * np.pi * 2 * t)) * (1 + 0.5 * np.sin(2 * np.pi * 3 * t))
    return np.stack([tone + 0.01 * np.random.default_rng(i).normal(size=len(t)) for i in range(n)]).astype(np.float32)


def ratio_db(x: np.ndarray, y: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(x.astype(np.float64) ** 2) / np.mean((y.astype(np.float64) - x) ** 2)))


def configured(name: str):
    return build(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("name", ["voice", "voice_channels", "rawboost"])
def test_the_configs_keep_shape_and_range_and_depend_on_the_generator_alone(name):
    augment, data = configured(name), windows()
    data.setflags(write=False)
    for seed in range(12):
        out = augment(data, np.random.default_rng(seed))
        assert out.shape == data.shape
        assert out.dtype == np.float32
        assert np.isfinite(out).all()
        assert np.abs(out).max() <= 1
        np.testing.assert_array_equal(out, augment(data, np.random.default_rng(seed)))
    assert list(inspect.signature(type(augment).__call__).parameters) == ["self", "data", "rng"], "labels are not seen"


def test_real_and_fake_get_the_same_draws(monkeypatch):
    """Two recordings with the same generator go through the same channel: what was drawn does not depend on sound."""
    import deepassay.augment.voice as room

    seen: list[tuple[str, float]] = []
    monkeypatch.setattr(room, "launder_sound", lambda x, rate, name, strength, rng: seen.append((name, strength)) or x)
    augment, (one, two, _) = configured("voice_channels"), windows()
    for seed in range(20):
        augment(one[None], np.random.default_rng(seed))
        first = list(seen)
        seen.clear()
        augment(two[None], np.random.default_rng(seed))
        assert first == seen
        seen.clear()


def test_channels_are_drawn_at_their_shares_within_their_spans(monkeypatch):
    import deepassay.augment.voice as room

    seen: list[tuple[str, float]] = []
    monkeypatch.setattr(room, "launder_sound", lambda x, rate, name, strength, rng: seen.append((name, strength)) or x)
    augment = VoiceAugment(**OFF, channel=0.5, channels={"mp3": 3.0, "g711": 1.0})
    x = windows(1)
    for seed in range(400):
        augment(x, np.random.default_rng(seed))
    assert len(seen) == pytest.approx(200, abs=30)
    assert sum(name == "mp3" for name, _ in seen) / len(seen) == pytest.approx(0.75, abs=0.08)
    for name, strength in seen:
        low, high = sorted(SOUND_LADDERS[name].span)
        assert low <= strength <= high


def test_a_missing_encoder_is_an_error_when_the_augmentation_is_built(monkeypatch):
    monkeypatch.setattr(channels, "_known", lambda name, mode: name != "libmp3lame")
    with pytest.raises(MissingDependencyError, match="libmp3lame"):
        configured("voice_channels")
    assert configured("voice")


@pytest.mark.parametrize("snr", [30.0, 10.0])
def test_noise_from_a_folder_arrives_at_the_asked_ratio(snr, tmp_path):
    soundfile.write(tmp_path / "a.wav", 0.3 * np.random.default_rng(0).normal(size=8000), 22050)
    soundfile.write(tmp_path / "b.flac", 0.1 * np.sin(np.arange(90000)), RATE)
    augment = VoiceAugment(**{**OFF, "noise": 1}, snr_db=(snr, snr), noise_folder=str(tmp_path))
    x = 0.2 * windows(1)
    outs = [augment(x, np.random.default_rng(seed)) for seed in range(6)]
    assert all(ratio_db(x, out) == pytest.approx(snr, abs=0.1) for out in outs)
    assert len({out.tobytes() for out in outs}) == 6


def test_rooms_keep_the_level_and_the_time():
    augment = VoiceAugment(**OFF, reverberation=1.0, rt60_s=(0.4, 0.4), direct_db=(6.0, 6.0))
    x = 0.05 * np.random.default_rng(7).standard_normal((1, 2 * RATE)).astype(np.float32)
    out = augment(x, np.random.default_rng(0))
    assert np.sqrt(np.mean(out**2)) == pytest.approx(np.sqrt(np.mean(x**2)), rel=0.01)
    assert 0 < ratio_db(x, out) < 15
    match = np.correlate(np.pad(out[0], 200), x[0], "valid")
    assert int(np.argmax(match)) - 200 == pytest.approx(0, abs=2)


def test_measured_rooms_begin_at_their_direct_sound(tmp_path):
    response = np.zeros(4000)
    response[700], response[1500] = -0.5, 0.2
    soundfile.write(tmp_path / "r.wav", response, RATE)
    taps = measured_room(tmp_path / "r.wav", RATE)
    assert taps[0] == 1
    assert taps[800] == pytest.approx(-0.4, abs=1e-3)
    augment = VoiceAugment(**OFF, reverberation=1.0, room_folder=str(tmp_path))
    assert augment(windows(1), np.random.default_rng(0)).shape == (1, RATE)


def test_folders_that_cannot_serve_are_errors(tmp_path):
    for key in ("noise_folder", "room_folder"):
        with pytest.raises(ConfigError, match="no sound files"):
            VoiceAugment(**{key: str(tmp_path)})
    (tmp_path / "x.wav").write_bytes(b"RIFF")
    soundfile.write(tmp_path / "y.wav", np.zeros(100), RATE)
    with pytest.raises(MediaError, match=r"x\.wav"):
        random_stretch(tmp_path / "x.wav", 100, RATE, np.random.default_rng(0))
    with pytest.raises(MediaError, match="silence"):
        measured_room(tmp_path / "y.wav", RATE)


def test_silence_is_limited_on_every_window():
    x = np.concatenate([np.zeros((2, 4000), np.float32), windows(2), np.zeros((2, 4000), np.float32)], axis=1)
    out = VoiceAugment(**OFF, silence=1.0, silence_s=(0.05, 0.05))(x, np.random.default_rng(0))
    for row in out:
        assert speech_bounds(row, RATE)[0] <= 0.05 * RATE + 320
        assert len(row) == x.shape[1]


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_rawboost_changes_by_the_amounts_of_its_kinds(algorithm):
    x = windows(1)
    out = RawBoost(algorithm=algorithm)(x, np.random.default_rng(1))
    assert out.shape == x.shape
    if algorithm == 0:
        np.testing.assert_array_equal(out, x)
    else:
        assert not np.array_equal(out, x)
    assert not np.array_equal(RawBoost()(x, np.random.default_rng(1)), RawBoost()(x, np.random.default_rng(2)))


def test_stationary_noise_has_its_ratio_and_its_notches():
    x = windows(1, 4.0)[0]
    boost = RawBoost(algorithm=3, snr_db=(15.0, 15.0))
    out = boost.one(x, np.random.default_rng(3))
    assert ratio_db(x, out) == pytest.approx(15, abs=0.1)
    taps = boost.notches(np.random.default_rng(0), (0.0, 0.0))
    gain = 20 * np.log10(np.abs(np.fft.rfft(taps, 4096)) + 1e-9)
    assert gain.max() == pytest.approx(0, abs=0.1)
    assert gain.min() < -6


def test_impulses_hit_a_share_of_the_samples_in_proportion_to_them():
    x = windows(1, 2.0)[0]
    boost = RawBoost(algorithm=2, impulses=10.0)
    shares = []
    for seed in range(40):
        out = boost.one(x, np.random.default_rng(seed))
        hit = out != x
        shares.append(hit.mean())
        assert np.all(np.abs(out[hit] - x[hit]) <= 2.0 * np.abs(x[hit]) + 1e-6)
    assert np.mean(shares) == pytest.approx(0.05, abs=0.015)
    assert max(shares) <= 0.1


def test_convolutive_noise_makes_overtones_of_a_tone():
    t = np.arange(2 * RATE) / RATE
    tone = (0.9 * np.sin(2 * np.pi * 500 * t)).astype(np.float32)

    def level(x, hz):
        power = np.abs(np.fft.rfft(x * np.hanning(len(x)))) ** 2
        return 10 * np.log10(power[int(hz * 2) - 3 : int(hz * 2) + 4].max())

    linear = RawBoost(algorithm=1, order=1).one(tone, np.random.default_rng(5))
    bent = RawBoost(algorithm=1, order=5).one(tone, np.random.default_rng(5))
    assert level(linear, 1500) < level(linear, 500) - 80
    assert -60 < level(bent, 1500) - level(bent, 500) < -3


def test_rawboost_on_silence_and_short_windows_is_finite():
    for algorithm in ALGORITHMS:
        for x in (np.zeros((1, 2000), np.float32), windows(1)[:, :50]):
            assert np.isfinite(RawBoost(algorithm=algorithm)(x, np.random.default_rng(0))).all()


def test_values_out_of_range_are_refused():
    for wrong in (
        {"channel": 0.5}, {"channel": 0.5, "channels": ["no_such"]}, {"channel": 0.5, "channels": {"mp3": -1.0}},
        {"reverberation": 2}, {"rt60_s": (0.5, 0.1)}, {"silence_s": (-1, 0)}, {"rawboost_algorithm": 9},
    ):  # fmt: skip
        with pytest.raises(ConfigError, match="hint"):
            VoiceAugment(**wrong)
    for wrong in ({"algorithm": 9}, {"bands": 0}, {"impulses": 200}, {"share": 2}, {"snr_db": (3,)}):
        with pytest.raises(ConfigError, match="hint"):
            RawBoost(**wrong)


def test_the_record_names_encoders_only_where_they_are_used():
    assert configured("voice").record == {"channels": [], "encoders": {}}
    record = configured("voice_channels").record
    assert "mp3" in record["channels"]
    assert set(record["encoders"]) >= {"pyav", "libavcodec"}
