"""Video: the frames and times are exact, whatever the codec, rate, rotation or size."""

import threading
from fractions import Fraction

import av
import numpy as np
import pytest

from deepassay.errors import MediaError
from deepassay.labels import Status, Unusable
from deepassay.media.limits import Limits
from deepassay.media.probe import probe
from deepassay.media.video import ahead, iterate_frames, read_frames, write_video


def ramp(n: int = 50, height: int = 48, width: int = 64) -> list[np.ndarray]:
    return [np.full((height, width, 3), 5 * i, np.uint8) for i in range(n)]


def numbers(frames) -> list[int]:
    """Which of ramp()'s frames these are."""
    return [round(float(image.mean()) / 5) for image in frames.images]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {}),
        ("a.mp4", "libx264", {"gop": 6}),
        ("a.mkv", "libx265", {"gop": 10}),
        ("a.webm", "libvpx-vp9", {}),
        ("a.mp4", "libsvtav1", {}),
        ("a.avi", "mpeg4", {"crf": 3}),
        ("a.avi", "libx264", {"gop": 12}),
        ("a.mov", "libx264", {"pixel_format": "yuv420p10le", "gop": 5}),
        ("a.avi", "mjpeg", {"crf": 3}),
    ],
)
def test_even_frames_at_exact_times(tmp_path, name, codec, options):
    write_video(tmp_path / name, ramp(), 10, codec, **options)
    frames = read_frames(tmp_path / name, 8)
    assert frames.lost == 0
    np.testing.assert_allclose(frames.times_s * 10, [3, 9, 15, 21, 28, 34, 40, 46], atol=1e-6)
    assert max(abs(a - b) for a, b in zip(numbers(frames), (frames.times_s * 10).round(), strict=True)) <= 1
    assert frames.images[0].shape == (48, 64, 3)


def test_all_frames_of_a_short_clip(tmp_path):
    write_video(tmp_path / "a.mp4", ramp(5), 25)
    frames = read_frames(tmp_path / "a.mp4", 16)
    assert numbers(frames) == [0, 1, 2, 3, 4]
    np.testing.assert_allclose(frames.times_s, np.arange(5) / 25)
    assert len(read_frames(tmp_path / "a.mp4", 1)) == 1


def test_varying_frame_rate_is_spread_by_time(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        track = container.add_stream("libx264", rate=100)
        track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
        track.codec_context.time_base = Fraction(1, 1000)
        times = [*range(0, 1000, 50), *range(1000, 10000, 1000)]  # twenty frames in the first second, then one a second
        for image, time in zip(ramp(), times, strict=False):
            frame = av.VideoFrame.from_ndarray(image)
            frame.pts, frame.time_base = time, Fraction(1, 1000)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    frames = read_frames(tmp_path / "a.mkv", 4)
    np.testing.assert_allclose(frames.times_s, [1, 3, 5, 7], atol=1.01)
    assert numbers(frames) == [times.index(round(t * 1000)) for t in frames.times_s]


def test_odd_sizes_grow_by_a_repeated_line(tmp_path):
    frames = [np.random.default_rng(0).integers(0, 256, (31, 45, 3), dtype=np.uint8)] * 3
    write_video(tmp_path / "a.mp4", frames, crf=1, pixel_format="yuv420p")
    image = read_frames(tmp_path / "a.mp4", 1).images[0]
    assert image.shape == (32, 46, 3)


def test_rotation_metadata_is_applied(tmp_path):
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = 255  # bright top left
    write_video(tmp_path / "a.mp4", [picture] * 5)
    data = bytearray((tmp_path / "a.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # version 0 of the box, ISO/IEC 14496-12 clause 8.3.2
    one, minus = (1 << 16).to_bytes(4, "big"), (-(1 << 16)).to_bytes(4, "big", signed=True)
    zero = bytes(4)
    quarter_clockwise = [zero, one, zero, minus, zero, zero]
    data[matrix : matrix + 24] = b"".join(quarter_clockwise)
    (tmp_path / "b.mp4").write_bytes(data)
    image = read_frames(tmp_path / "b.mp4", 1).images[0]
    assert image.shape == (64, 48, 3)
    assert image[:32, 24:].mean() > 240  # bright top right
    assert image[:32, :24].mean() < 20
    facts = probe(tmp_path / "b.mp4")
    assert (facts["width"], facts["height"]) == (48, 64)


def test_writing_twice_gives_the_same_bytes(tmp_path):
    noise = list(np.random.default_rng(0).integers(0, 256, (6, 64, 64, 3), dtype=np.uint8))
    write_video(tmp_path / "a.mp4", noise)
    write_video(tmp_path / "b.mp4", noise)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


def test_broken_videos_are_undecodable(tmp_path):
    write_video(tmp_path / "good.mp4", ramp())
    good = (tmp_path / "good.mp4").read_bytes()
    cases = {
        "text": b"this is text " * 300,
        "empty": b"",
        "half": good[: len(good) // 2],
        "head": good[:40] + bytes(4000),
    }
    for name, data in cases.items():
        (tmp_path / f"{name}.mp4").write_bytes(data)
        with pytest.raises(Unusable) as caught:
            read_frames(tmp_path / f"{name}.mp4", 4)
        assert caught.value.status == Status.UNDECODABLE, name


def test_a_damaged_middle_loses_frames_and_says_how_many(tmp_path):
    noise = list(np.random.default_rng(0).integers(0, 256, (40, 64, 64, 3), dtype=np.uint8))
    write_video(tmp_path / "a.mkv", noise, 10, gop=4)
    data = bytearray((tmp_path / "a.mkv").read_bytes())
    third = len(data) // 3
    data[third : third + 20000] = bytes(20000)
    (tmp_path / "b.mkv").write_bytes(data)
    frames = read_frames(tmp_path / "b.mkv", 16)
    assert 0 < len(frames) <= 16
    assert len(frames) + frames.lost <= 16


def test_limits(tmp_path):
    write_video(tmp_path / "a.mp4", ramp(), 10)
    for limits in (Limits(max_frames=49), Limits(max_seconds=4.0), Limits(max_pixels=48 * 64 - 1)):
        with pytest.raises(Unusable) as caught:
            read_frames(tmp_path / "a.mp4", 4, limits)
        assert caught.value.status == Status.OUT_OF_SCOPE


def test_writing_refuses_what_it_cannot_do(tmp_path):
    for name, frames, options in (
        ("a.xyz", ramp(2), {}),
        ("a.mp4", [], {}),
        ("a.mp4", [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)], {}),
        ("a.mp4", ramp(2), {"codec": "no_such_codec"}),
        ("a.mp4", ramp(2), {"pixel_format": "no_such_format"}),
    ):
        with pytest.raises(MediaError, match="hint"):
            write_video(tmp_path / name, frames, 10, **options)
    assert list(tmp_path.iterdir()) == []


def test_decoding_ahead_gives_the_same_and_passes_errors_on(tmp_path):
    write_video(tmp_path / "a.mp4", ramp(), 10)
    plain = [(time_s, int(image.mean())) for image, time_s, _ in iterate_frames(tmp_path / "a.mp4", 9)]
    assert [(t, int(image.mean())) for image, t, _ in ahead(iterate_frames(tmp_path / "a.mp4", 9))] == plain
    (tmp_path / "b.mp4").write_bytes(b"no video at all" * 99)
    with pytest.raises(Unusable):
        list(ahead(iterate_frames(tmp_path / "b.mp4", 9)))


def test_a_reader_that_stops_early_ends_the_thread():
    made: list[int] = []
    closed: list[bool] = []

    def endless():
        try:
            for number in range(10**9):
                made.append(number)
                yield number
        finally:
            closed.append(True)

    reader = ahead(endless())
    assert [next(reader), next(reader)] == [0, 1]
    reader.close()
    assert closed == [True]
    assert len(made) <= 5
    assert not [t for t in threading.enumerate() if t.name == "decoding"]


def test_frames_without_times_to_seek_by_are_still_spread(tmp_path):
    write_video(tmp_path / "a.avi", ramp(), 10, "mpeg4", crf=3)
    assert numbers(read_frames(tmp_path / "a.avi", 5)) == [5, 15, 25, 35, 45]


def test_real_videos_equal_a_full_decode(shared):
    path = shared / "data" / "videos" / "V00.mp4"
    if not path.is_file():
        pytest.skip("no real videos beside the project")
    frames = read_frames(path, 5)
    with av.open(str(path)) as container:
        wanted = {round(t, 6): image for t, image in zip(frames.times_s, frames.images, strict=True)}
        found = 0
        for frame in container.decode(video=0):
            image = wanted.get(round(frame.time, 6))
            if image is not None:
                np.testing.assert_array_equal(image, frame.to_ndarray(format="rgb24"))
                found += 1
    assert found == 5
