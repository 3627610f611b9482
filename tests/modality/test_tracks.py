"""Tracks: one per person, broken by cuts and jumps, mended over a missed frame."""

import numpy as np

from deepassay.modality.tracks import Sighting, link, overlap

RNG = np.random.default_rng(0)


def look() -> np.ndarray:
    patch = RNG.normal(size=1024).astype(np.float32)
    return patch / np.linalg.norm(patch)


ANNA, BERT = look(), look()


def face(frame: int, x: float, patch: np.ndarray, side: float = 100) -> Sighting:
    box = np.array([x, 50, x + side, 50 + side], np.float32)
    inside = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    return Sighting(frame, box, (box[:2] + inside * side).astype(np.float32), patch)


def test_two_people_side_by_side():
    sightings = [face(f, x, p) for f in range(5) for x, p in ((10 + 5 * f, ANNA), (300 - 5 * f, BERT))]
    assert link(sightings).tolist() == [0, 1] * 5


def test_a_cut_to_another_person_at_the_same_place_ends_a_track():
    sightings = [face(0, 50, ANNA), face(1, 52, ANNA), face(2, 80, BERT), face(3, 81, BERT)]
    assert link(sightings).tolist() == [0, 0, 1, 1]


def test_the_same_cut_without_the_look_would_go_unnoticed():
    sightings = [face(0, 50, ANNA), face(1, 52, ANNA), face(2, 80, ANNA), face(3, 81, ANNA)]
    assert link(sightings).tolist() == [0, 0, 0, 0]


def test_a_jump_ends_a_track():
    assert link([face(0, 50, ANNA), face(1, 400, ANNA)]).tolist() == [0, 1]


def test_a_missed_frame_is_bridged_and_a_long_absence_is_not():
    assert link([face(0, 50, ANNA), face(2, 55, ANNA), face(5, 60, ANNA)]).tolist() == [0, 0, 0]
    assert link([face(0, 50, ANNA), face(4, 55, ANNA)]).tolist() == [0, 1]


def test_crossing_people_keep_their_tracks():
    sightings = [face(f, x, p) for f in range(8) for x, p in ((100 + 12 * f, ANNA), (190 - 12 * f, BERT))]
    ids = link(sightings)
    assert ids[0::2].tolist() == [0] * 8
    assert ids[1::2].tolist() == [1] * 8


def test_overlap_and_nothing():
    assert overlap(np.array([0, 0, 10, 10.0]), np.array([5, 0, 15, 10.0])) == 50 / 150
    assert overlap(np.array([0, 0, 1, 1.0]), np.array([5, 5, 6, 6.0])) == 0
    assert len(link([])) == 0
