"""Containers: kinds are told by content, and no file makes the reader open another one (law 8)."""

import io

import numpy as np
import pytest

from deepassay.labels import Status, Unusable
from deepassay.media import containers
from deepassay.media.image import write_image
from deepassay.media.probe import probe, sniff
from deepassay.media.sound import write_sound
from deepassay.media.video import write_video

PICTURE = np.zeros((32, 48, 3), np.uint8)
TONE = (0.3 * np.sin(np.arange(16000) / 5)).astype(np.float32)


def test_sniff_by_content_not_by_name(tmp_path):
    made = {}
    for name in ("a.jpg", "a.png", "a.webp", "a.avif"):
        write_image(tmp_path / name, PICTURE)
        made[name] = "image"
    for name in ("a.wav", "a.flac", "a.ogg", "a.mp3", "a.opus", "a.aac", "a.m4a"):
        write_sound(tmp_path / name, TONE)
        made[name] = "audio"
    for name in ("a.mp4", "a.mkv", "a.mov", "a.avi"):
        write_video(tmp_path / name, [PICTURE] * 5)
        made[name] = "video"
    for name, kind in made.items():
        disguised = tmp_path / f"{name}.txt"
        (tmp_path / name).rename(disguised)
        assert sniff(disguised) == kind, name


def test_probe_facts(tmp_path):
    write_image(tmp_path / "a.png", PICTURE)
    write_sound(tmp_path / "a.flac", TONE[:8000], 8000)
    write_video(tmp_path / "a.mp4", [PICTURE] * 20, 10)
    image, sound, video = (probe(tmp_path / name) for name in ("a.png", "a.flac", "a.mp4"))
    assert (image["media"], image["width"], image["height"], image["duration_s"]) == ("image", 48, 32, None)
    assert (sound["media"], sound["rate_hz"], sound["duration_s"], sound["width"]) == ("audio", 8000, 1.0, None)
    assert (video["media"], video["width"], video["height"], video["fps"]) == ("video", 48, 32, 10.0)
    assert video["codec"] == "h264"
    assert video["duration_s"] == pytest.approx(2.0)
    assert set(image) == set(sound) == set(video)
    assert image["bytes"] == (tmp_path / "a.png").stat().st_size


def test_a_cover_picture_does_not_make_music_a_video(tmp_path):
    import av

    write_image(tmp_path / "cover.jpg", PICTURE)
    with av.open(str(tmp_path / "a.m4a"), "w", format="mp4") as out, av.open(str(tmp_path / "cover.jpg")) as cover:
        sound = out.add_stream("aac", rate=16000, layout="mono")
        art = out.add_stream_from_template(cover.streams.video[0])
        art.disposition = av.stream.Disposition.attached_pic
        packet = next(p for p in cover.demux(video=0) if p.size)
        packet.stream = art
        frame = av.AudioFrame.from_ndarray(TONE[None], format="fltp", layout="mono")
        frame.sample_rate = 16000
        out.mux(packet)
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    assert sniff(tmp_path / "a.m4a") == "audio"


PLAYLISTS = {
    "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n%s\n#EXT-X-ENDLIST\n",
    "concat": b"ffconcat version 1.0\nfile '%s'\n",
}


@pytest.mark.parametrize("kind", PLAYLISTS)
def test_playlists_are_not_media(tmp_path, kind):
    (tmp_path / "list.mp4").write_bytes(PLAYLISTS[kind] % b"a.mp4")
    with pytest.raises(Unusable) as caught:
        sniff(tmp_path / "list.mp4")
    assert caught.value.status == Status.UNDECODABLE


def test_second_lock_even_a_playlist_demuxer_opens_nothing(tmp_path, monkeypatch):
    """Were the list of formats wrong, a file would still open nothing; without the lock the same playlist does."""
    import av

    target = tmp_path / "a.ts"
    with av.open(str(target), "w", format="mpegts") as out:
        track = out.add_stream("libx264", rate=10)
        track.width, track.height, track.pix_fmt = 48, 32, "yuv420p"
        for _ in range(10):
            out.mux(track.encode(av.VideoFrame.from_ndarray(PICTURE)))
        out.mux(track.encode(None))
    playlist = tmp_path / "list.m3u8"
    playlist.write_bytes(PLAYLISTS["hls"] % b"a.ts")
    with av.open(str(playlist), format="hls") as opened:
        assert sum(1 for _ in opened.decode(video=0)) == 10

    asked: list[str] = []

    def refuse(url, flags, options):
        asked.append(url)
        raise PermissionError(url)

    monkeypatch.setattr(containers, "_refuse_open", refuse)
    absolute = PLAYLISTS["hls"] % str(target).encode()
    with pytest.raises(Unusable), containers.open_pyav(io.BytesIO(absolute), "hls") as opened:
        list(opened.decode(video=0))
    assert asked == [str(target)]


def test_codecs_not_on_the_list_are_refused(tmp_path, monkeypatch):
    write_video(tmp_path / "a.mp4", [PICTURE] * 5)
    monkeypatch.setattr(containers, "VIDEO_CODECS", frozenset({"hevc"}))
    with pytest.raises(Unusable, match="h264"):
        sniff(tmp_path / "a.mp4")
