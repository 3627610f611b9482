"""Clips keep to one track and to the order of time, spread over it, and never invent a frame."""

import numpy as np
import pytest

from deepassay.modality.clips import draw_clips
from deepassay.modality.contract import modality_from_contract
from deepassay.modality.face import FaceModality
from deepassay.modality.views import Views


def prepared(*lengths: int) -> Views:
    """Tracks of some lengths whose crops carry their position in their pixels."""
    n = sum(lengths)
    track = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    data = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 4, 4, 3)).copy()
    time = np.concatenate([np.arange(m, dtype=np.float64) for m in lengths])
    landmarks = np.arange(n * 10, dtype=np.float32).reshape(n, 5, 2)
    return Views(data, time, np.linspace(0, 1, n, dtype=np.float32), track, landmarks, np.full(n, 50, np.float32))


def positions(views: Views) -> np.ndarray:
    return views.data[:, :, 0, 0, 0].astype(int)


def test_even_clips_are_different_stretches_in_order_of_time():
    clips = draw_clips(prepared(16), 8, 4)
    assert clips.data.shape == (4, 4, 4, 4, 3)  # 16 crops hold four clips of four, whatever k asks for
    assert positions(clips).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15]]
    assert clips.start_s.tolist() == [0, 4, 8, 12]
    assert clips.landmarks is not None
    assert clips.landmarks.shape == (4, 4, 5, 2)
    assert clips.landmarks[1, 2, 0, 0] == 60
    fewer = positions(draw_clips(prepared(16), 2, 4))
    assert fewer.tolist() == [[4, 5, 6, 7], [12, 13, 14, 15]]  # the same pace, spread over the track


def test_even_clips_are_shared_among_tracks_and_never_mix_them():
    clips = draw_clips(prepared(9, 4, 2), 3, 4)
    assert clips.track.tolist() == [0, 1, 2]
    assert positions(clips)[1:].tolist() == [[9, 10, 11, 12], [13, 13, 14, 14]]
    for row, track in zip(positions(clips), clips.track, strict=True):
        first, last = {0: (0, 8), 1: (9, 12), 2: (13, 14)}[int(track)]
        assert first <= row.min() <= row.max() <= last
        assert (np.diff(row) >= 0).all()
    assert len(draw_clips(prepared(9, 4, 2), 20, 4)) == 4


def test_an_image_is_a_clip_of_one_crop_repeated():
    clips = draw_clips(prepared(1), 8, 4)
    assert positions(clips).tolist() == [[0, 0, 0, 0]]
    assert positions(draw_clips(prepared(1), 2, 4, np.random.default_rng(0))).tolist() == [[0] * 4] * 2


def test_random_clips_come_from_the_main_track_in_order_and_differ():
    rng = np.random.default_rng(1)
    clips = draw_clips(prepared(20, 20), 50, 4, rng)
    rows = positions(clips)
    assert rows.shape == (50, 4)
    assert set(clips.track.tolist()) == {0}
    assert (np.diff(rows, axis=1) > 0).all()
    assert (rows.max(axis=1) - rows.min(axis=1) < 4).all()  # 20 crops make five stretches of four
    assert len({tuple(r) for r in rows.tolist()}) > 10
    wide = positions(draw_clips(prepared(7), 50, 4, rng))
    assert len({tuple(r) for r in wide.tolist()}) > 5  # one stretch of seven: frames are drawn within it
    again = positions(draw_clips(prepared(20), 3, 4, np.random.default_rng(5)))
    np.testing.assert_array_equal(again, positions(draw_clips(prepared(20), 3, 4, np.random.default_rng(5))))


def test_wrong_numbers_are_refused():
    for k, frames in ((0, 4), (2, 0)):
        with pytest.raises(ValueError, match="cannot draw"):
            draw_clips(prepared(4), k, frames)


def test_the_face_modality_draws_clips_and_its_contract_says_so(finder):
    plain = FaceModality(finder_folder=str(finder), size=32)
    clip = FaceModality(finder_folder=str(finder), size=32, clip_frames=4)
    assert clip.input_shape == (4, 32, 32, 3)
    assert clip.contract["view"]["shape"] == [4, 32, 32, 3]
    assert "clip_frames" not in plain.contract["settings"]  # bundles and stores made before clips stay what they are
    assert clip.fingerprint != plain.fingerprint
    rebuilt = modality_from_contract(clip.contract, finder)
    assert rebuilt.fingerprint == clip.fingerprint
    drawn = rebuilt.draw(prepared(8, 8), 8)
    assert drawn.data.shape == (4, 4, 4, 4, 3)
    logits = np.array([0.0, 0.0, 4.0, 2.0])
    assert rebuilt.pool(logits, drawn) == 3.0, "mean over the clips of a track, maximum over tracks"
