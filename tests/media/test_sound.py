"""Sound: any container becomes mono at one rate, and damage is told."""

from contextlib import suppress

import numpy as np
import pytest
import soundfile

from deepassay.errors import MediaError
from deepassay.labels import Status, Unusable
from deepassay.media.limits import Limits
from deepassay.media.sound import read_sound, stream_sound, write_sound


def tone(rate: int = 16000, seconds: float = 1.0, hz: float = 440.0) -> np.ndarray:
    return (0.4 * np.sin(2 * np.pi * hz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def peak_hz(signal: np.ndarray, rate: int = 16000) -> float:
    return float(np.abs(np.fft.rfft(signal * np.hanning(len(signal)))).argmax() * rate / len(signal))


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "opus", "aac", "m4a"])
def test_containers_round_trip(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    write_sound(path, tone(seconds=2.0))
    back = read_sound(path)
    assert back.dtype == np.float32
    assert 32000 <= len(back) <= 32000 + 2 * 1024
    assert abs(peak_hz(back) - 440) < 2
    assert 0.3 < np.abs(back).max() < 0.5


@pytest.mark.parametrize(
    "subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "PCM_U8", "ULAW", "ALAW", "GSM610"]
)
def test_subtypes_at_8_khz(tmp_path, subtype):
    write_sound(tmp_path / "a.wav", tone(8000), 8000, subtype=subtype)
    back = read_sound(tmp_path / "a.wav")
    assert abs(len(back) - 16000) <= 640  # GSM comes in frames of 160
    assert abs(peak_hz(back) - 440) < 3


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_length_after_resampling_is_what_time_demands(tmp_path, rate):
    write_sound(tmp_path / "a.wav", tone(rate, 1.5), rate, subtype="FLOAT")
    back = read_sound(tmp_path / "a.wav")
    assert len(back) == -(-round(rate * 1.5) * 16000 // rate)
    middle = slice(4000, 20000)
    np.testing.assert_allclose(back[middle], tone(16000, 1.5)[middle], atol=2e-3)


def test_stereo_is_averaged(tmp_path):
    write_sound(tmp_path / "a.wav", np.stack([tone(), np.zeros(16000, np.float32)], axis=1), subtype="FLOAT")
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav"), tone() / 2, atol=1e-6)


def test_beyond_full_scale_is_scaled_not_clipped(tmp_path):
    write_sound(tmp_path / "a.wav", tone() * 10, subtype="FLOAT")
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav"), tone() * 10 / np.abs(tone() * 10).max(), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_a_number_is_undecodable(tmp_path, value):
    signal = tone()
    signal[5000] = value
    soundfile.write(tmp_path / "a.wav", signal, 16000, subtype="FLOAT")
    with pytest.raises(Unusable, match="not numbers") as caught:
        read_sound(tmp_path / "a.wav")
    assert caught.value.status == Status.UNDECODABLE


def test_sound_of_a_video_is_read(tmp_path):
    import av

    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        picture, sound = (
            container.add_stream("libx264", rate=10),
            container.add_stream("aac", rate=16000, layout="mono"),
        )
        picture.width = picture.height = 32
        picture.pix_fmt = "yuv420p"
        for _ in range(10):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        container.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(tone()[None], format="fltp", layout="mono")
        frame.sample_rate = 16000
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    assert abs(peak_hz(read_sound(tmp_path / "a.mp4")[2000:14000]) - 440) < 3


def test_only_the_start_on_request(tmp_path):
    write_sound(tmp_path / "a.wav", tone(44100, 3.0), 44100)
    assert len(read_sound(tmp_path / "a.wav", max_seconds=0.5)) == 8000


def test_limit_of_length(tmp_path):
    write_sound(tmp_path / "a.flac", tone(seconds=3.0))
    write_sound(tmp_path / "a.opus", tone(seconds=3.0))
    for name in ("a.flac", "a.opus"):
        with pytest.raises(Unusable, match="longer") as caught:
            read_sound(tmp_path / name, limits=Limits(max_seconds=2.0))
        assert caught.value.status == Status.OUT_OF_SCOPE


def test_cut_flac_empty_text_and_header_only(tmp_path):
    write_sound(tmp_path / "a.flac", np.random.default_rng(0).normal(0, 0.1, 32000).astype(np.float32))
    whole = (tmp_path / "a.flac").read_bytes()
    write_sound(tmp_path / "b.wav", tone())
    head = (tmp_path / "b.wav").read_bytes()[:44]
    for name, data in {
        "a.flac": whole[: len(whole) // 2],
        "e.wav": b"",
        "t.mp3": b"no music " * 99,
        "h.wav": head,
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(Unusable) as caught:
            read_sound(tmp_path / name)
        assert caught.value.status == Status.UNDECODABLE, name


def test_random_damage_never_escapes_as_another_error(tmp_path):
    rng = np.random.default_rng(2)
    for suffix in ("flac", "mp3", "opus", "m4a"):
        write_sound(tmp_path / f"a.{suffix}", tone())
        good = np.frombuffer((tmp_path / f"a.{suffix}").read_bytes(), np.uint8)
        for _ in range(10):
            bad = good.copy()
            bad[rng.integers(4, len(bad), 20)] = rng.integers(0, 256, 20)
            (tmp_path / "bad").write_bytes(bad.tobytes())
            with suppress(Unusable):
                assert np.isfinite(read_sound(tmp_path / "bad")).all()


def test_writing_refuses_what_it_cannot_hold(tmp_path):
    with pytest.raises(MediaError, match="hint"):
        write_sound(tmp_path / "a.xyz", tone())
    with pytest.raises(MediaError, match="finite"):
        write_sound(tmp_path / "a.wav", np.array([np.nan], np.float32))
    with pytest.raises(MediaError, match="cannot hold"):
        write_sound(tmp_path / "a.flac", tone(), subtype="GSM610")
    assert list(tmp_path.iterdir()) == []


def test_real_voices_read_as_librosa_reads_them(shared):
    librosa = pytest.importorskip("librosa")
    paths = sorted((shared / "data" / "voices").glob("*.flac"))[::400]
    if not paths:
        pytest.skip("no real voices beside the project")
    for path in paths:
        expected, _ = librosa.load(path, sr=16000, mono=True)
        np.testing.assert_allclose(read_sound(path), expected, atol=1e-6)


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 32000, 44100, 48000])
def test_streamed_resampling_is_that_of_the_whole_signal(tmp_path, rate):
    soxr = pytest.importorskip("soxr")
    signal = np.random.default_rng(3).normal(0, 0.1, rate * 25 + 7).astype(np.float32)  # several blocks
    write_sound(tmp_path / "a.wav", signal, rate, subtype="FLOAT")
    whole = soxr.resample(signal, rate, 16000, quality="HQ")
    back = read_sound(tmp_path / "a.wav")
    assert abs(len(back) - len(whole)) <= 1
    n = min(len(back), len(whole))
    np.testing.assert_allclose(back[:n], whole[:n], atol=1e-6)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.opus", "a.m4a"])
def test_blocks_are_the_whole_and_bounded(tmp_path, name):
    signal = np.random.default_rng(4).normal(0, 0.1, 48000 * 20).astype(np.float32)
    write_sound(tmp_path / name, np.stack([signal, -signal / 3], axis=1), 48000)
    blocks = list(stream_sound(tmp_path / name))
    assert len(blocks) > 1
    assert {source for _, source in blocks} == {48000}
    assert max(len(block) for block, _ in blocks) <= 1 << 18
    np.testing.assert_array_equal(np.concatenate([block for block, _ in blocks]), read_sound(tmp_path / name))
    again = list(stream_sound(tmp_path / name))
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(blocks, again, strict=True))


def test_every_channel_weighs_the_same_whatever_the_layout(tmp_path):
    five = np.zeros((16000, 6), np.float32)
    five[:, 3] = tone() * 0.9  # the low-frequency channel of 5.1
    soundfile.write(tmp_path / "a.wav", five, 16000, subtype="FLOAT")
    np.testing.assert_allclose(read_sound(tmp_path / "a.wav"), tone() * 0.9 / 6, atol=1e-6)
    write_sound(tmp_path / "c.wav", np.stack([tone(), -tone()], axis=1), subtype="FLOAT")
    assert not read_sound(tmp_path / "c.wav").any()


def test_a_stream_that_changes_its_channels_midway_is_read_through(tmp_path):
    parts = []
    for channels in (1, 2):
        signal = np.stack([tone(seconds=2.0)] * channels, axis=1)
        write_sound(tmp_path / "part.aac", signal)
        parts.append((tmp_path / "part.aac").read_bytes())
    (tmp_path / "a.aac").write_bytes(b"".join(parts))
    back = read_sound(tmp_path / "a.aac")
    assert 64000 <= len(back) <= 64000 + 4 * 1024
    for half in (back[4000:28000], back[40000:60000]):
        assert abs(peak_hz(half) - 440) < 3
        assert 0.3 < np.abs(half).max() < 0.5


def test_damage_near_the_end_is_told_while_streaming(tmp_path):
    write_sound(tmp_path / "a.flac", np.random.default_rng(0).normal(0, 0.1, 16000 * 60).astype(np.float32))
    whole = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(whole[: int(len(whole) * 0.9)])
    stream = stream_sound(tmp_path / "a.flac")
    assert len(next(stream)[0])
    with pytest.raises(Unusable) as caught:
        list(stream)
    assert caught.value.status == Status.UNDECODABLE


def test_blocks_of_a_long_mp3_are_those_of_one_read_and_the_decoder_stays_silent(tmp_path, capfd):
    rng = np.random.default_rng(6)
    t = np.arange(16000 * 70) / 16000
    signal = 0.3 * np.sin(2 * np.pi * (200 + 50 * np.sin(t)) * t) * (np.sin(3 * t) > 0) + rng.normal(0, 1e-3, len(t))
    soundfile.write(tmp_path / "a.mp3", signal.astype(np.float32), 16000)
    whole, _ = soundfile.read(tmp_path / "a.mp3", dtype="float32")
    capfd.readouterr()
    blocks = [block for block, _ in stream_sound(tmp_path / "a.mp3")]
    assert len(blocks) > 3
    np.testing.assert_allclose(np.concatenate(blocks), whole, atol=1e-6)
    assert capfd.readouterr().err == ""
