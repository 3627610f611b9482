"""Watching: faces are followed between searches, found anew after a cut, and not missed where they came in between."""

import numpy as np
import pytest

from deepassay.modality.finder import Faces
from deepassay.modality.watch import MAX_FOLLOW_S, watch

PIXELS = np.zeros((8, 8, 3), np.uint8)


def faces(*places: float) -> Faces:
    """Faces of side 10 at some places along a line."""
    boxes = np.array([[x, 0, x + 10, 10] for x in places], np.float32).reshape(-1, 4)
    return Faces(boxes, np.ones(len(boxes), np.float32), np.zeros((len(boxes), 5, 2), np.float32))


class Scene:
    """Frames whose number is in their first pixel, and the places of the faces in each."""

    def __init__(self, places: list[tuple[float, ...]], step_s: float = 0.1, shape: tuple[int, int] = (8, 8)) -> None:
        self.places, self.step_s, self.shape = places, step_s, shape
        self.searched: list[int] = []
        self.alive = self.most = 0

    def frames(self):
        for number in range(len(self.places)):
            image = np.zeros((*self.shape, 3), np.uint8)
            image[0, 0] = number
            yield image, number * self.step_s

    def find(self, image: np.ndarray) -> Faces:
        self.searched.append(int(image[0, 0, 0]))
        return faces(*self.places[int(image[0, 0, 0])])

    def follow(self, image: np.ndarray, before: Faces) -> tuple[Faces, bool]:
        here = self.places[int(image[0, 0, 0])]
        found = [x for box in before.boxes for x in here if abs(x - box[0]) < 4]
        return faces(*found), len(found) == len(before)

    def watch(self, every: int) -> list[list[float]]:
        seen = list(watch(self.frames(), self.find, self.follow, every=every))
        assert [int(s.image[0, 0, 0]) for s in seen] == list(range(len(self.places)))
        assert [s.time_s for s in seen] == [n * self.step_s for n in range(len(self.places))]
        assert [n for n, s in enumerate(seen) if s.searched] == self.searched
        return [sorted(s.faces.boxes[:, 0].tolist()) for s in seen]


@pytest.mark.parametrize(("every", "searched"), [(1, list(range(9))), (4, [0, 4, 8]), (8, [0, 8])])
def test_moving_faces_are_followed_between_searches(every, searched):
    scene = Scene([(2.0 * n, 100.0 - n) for n in range(9)])
    assert scene.watch(every) == [sorted(p) for p in scene.places]
    assert scene.searched == searched


def test_a_cut_is_searched_at_once():
    scene = Scene([(0.0,)] * 3 + [(50.0, 80.0)] * 3)
    assert scene.watch(6) == [sorted(p) for p in scene.places]
    assert scene.searched == [0, 3]


def test_a_face_that_leaves_is_not_carried_on():
    scene = Scene([(0.0, 50.0)] * 3 + [(50.0,)] * 3)
    assert scene.watch(6) == [sorted(p) for p in scene.places]
    assert scene.searched == [0, 3]


def test_a_face_that_came_in_between_is_followed_back():
    scene = Scene([(0.0,)] * 2 + [(0.0, 50.0 + n) for n in range(4)])
    assert scene.watch(5) == [sorted(p) for p in scene.places]
    assert scene.searched == [0, 5]


def test_looking_back_does_not_find_a_face_twice():
    scene = Scene([(0.0,), (0.0,), (0.0, 30.0), (0.0, 30.0)])
    found = scene.watch(3)
    assert found == [[0.0], [0.0], [0.0, 30.0], [0.0, 30.0]]


def test_frames_without_faces_are_all_searched():
    scene = Scene([()] * 4 + [(9.0,)])
    assert scene.watch(8) == [list(p) for p in scene.places]
    assert scene.searched == [0, 1, 2, 3, 4]


def test_long_steps_are_searched():
    scene = Scene([(0.0,)] * 4, step_s=MAX_FOLLOW_S * 0.7)
    scene.watch(8)
    assert scene.searched == [0, 2]
    scene = Scene([(0.0,)] * 3, step_s=MAX_FOLLOW_S * 1.1)
    scene.watch(8)
    assert scene.searched == [0, 1, 2]


def test_few_large_frames_are_held():
    scene = Scene([(0.0,)] * 5, shape=(4000, 4000))
    scene.watch(8)
    assert scene.searched == [0, 2, 4]


def test_a_broken_reader_is_heard_and_nothing_is_no_frame():
    def broken():
        yield PIXELS, 0.0
        raise ValueError("the file ends here")

    scene = Scene([(0.0,)])
    with pytest.raises(ValueError, match="ends here"):
        list(watch(broken(), scene.find, scene.follow, every=2))
    assert list(watch([], scene.find, scene.follow, every=2)) == []
