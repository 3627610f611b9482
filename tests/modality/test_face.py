"""Face modality: files become crops with tracks, and those without a face say so."""

import numpy as np
import pytest
from PIL import Image

from deepassay.errors import ConfigError, MediaError, MissingDependencyError
from deepassay.labels import Status, Unusable
from deepassay.media.image import read_image, write_image
from deepassay.media.sound import write_sound
from deepassay.media.video import write_video
from deepassay.modality.face import FaceModality
from deepassay.modality.finder import Faces
from deepassay.modality.tracks import patch_of
from deepassay.modality.views import Views
from deepassay.scoring import score_file


@pytest.fixture(scope="module")
def faces(finder):
    return FaceModality(finder_folder=str(finder), size=64)


def views(tracks: list[int]) -> Views:
    n = len(tracks)
    data = np.arange(n, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    return Views(data, np.arange(n, dtype=float), np.ones(n, np.float32), np.array(tracks, np.int32))


def test_a_photograph_gives_one_crop(faces, photographs):
    found = [faces.prepare(path) for path in photographs[:6]]
    for prepared in found:
        assert prepared.data.dtype == np.uint8
        assert prepared.data.shape[1:] == faces.input_shape == (64, 64, 3)
        assert prepared.track[0] == 0
        assert prepared.quality.min() >= 0.9
        assert prepared.size is not None
        assert prepared.size.min() >= 40
        assert prepared.landmarks is not None
        assert prepared.landmarks.shape == (len(prepared), 5, 2)
        assert ((prepared.landmarks > 5) & (prepared.landmarks < 59)).all()
    np.testing.assert_array_equal(faces.prepare(photographs[0]).data, found[0].data)


def test_alignment_levels_the_eyes(finder, photographs):
    aligned = FaceModality(finder_folder=str(finder), align="similarity", margin=0.6)
    for path in photographs[:6]:
        landmarks = aligned.prepare(path).landmarks
        assert landmarks is not None
        assert abs(landmarks[0, 0, 1] - landmarks[0, 1, 1]) < 12


def test_a_video_gives_one_track_per_person(faces, photographs, tmp_path):
    pictures, looks = [], []
    for path in photographs:
        image = read_image(path)
        found = faces.find(image)
        if image.shape != (256, 256, 3) or len(found) != 1:
            continue
        look = patch_of(image, found.landmarks[0])
        if all(float(look @ other) < 0.4 for other in looks):  # people who look different
            pictures.append(image)
            looks.append(look)
    left, right, later = pictures[:3]
    both = np.concatenate([left, right], axis=1)
    write_video(tmp_path / "a.mp4", [both] * 16, 4, crf=10)
    prepared = faces.prepare(tmp_path / "a.mp4")
    assert np.bincount(prepared.track).tolist() == [16, 16]
    np.testing.assert_allclose(prepared.start_s[:16], np.arange(16) / 4)

    write_video(tmp_path / "b.mp4", [left] * 8 + [later] * 8, 4, crf=10)
    prepared = faces.prepare(tmp_path / "b.mp4")
    assert np.bincount(prepared.track).tolist() == [8, 8]

    blank = np.zeros_like(left)
    write_video(tmp_path / "c.mp4", [left] * 14 + [right] * 2, 4, crf=10)
    assert np.bincount(faces.prepare(tmp_path / "c.mp4").track).tolist() == [14]  # two frames are too short a track
    write_video(tmp_path / "d.mp4", [blank] * 14 + [right] * 2, 4, crf=10)
    assert np.bincount(faces.prepare(tmp_path / "d.mp4").track).tolist() == [2]  # unless there is no longer one


def test_following_finds_what_searching_every_frame_finds(finder, photographs, tmp_path):
    pictures = [p for p in map(read_image, photographs) if p.shape == (256, 256, 3)][:2]
    frames = []
    for n in range(32):  # two people drift, one of them comes into view after a third of the clip
        canvas = np.full((320, 640, 3), 120, np.uint8)
        canvas[2 * n : 2 * n + 256, n : n + 256] = pictures[0]
        if n >= 10:
            canvas[64 - n : 320 - n, 380 - n : 636 - n] = pictures[1]
        frames.append(canvas)
    write_video(tmp_path / "a.mp4", frames, 10, crf=18)
    sparse = FaceModality(finder_folder=str(finder), size=32, views=32).prepare(tmp_path / "a.mp4")
    dense = FaceModality(finder_folder=str(finder), size=32, views=32, search_every=1).prepare(tmp_path / "a.mp4")
    assert np.bincount(sparse.track).tolist() == np.bincount(dense.track).tolist() == [32, 22]
    np.testing.assert_array_equal(np.sort(sparse.start_s), np.sort(dense.start_s))
    assert sparse.size is not None
    assert dense.size is not None
    assert np.abs(sparse.size - dense.size).max() < 0.25 * dense.size.max()


def test_only_the_loss_of_a_sure_face_has_a_frame_searched(faces, photographs):
    picture = read_image(photographs[0])
    found = faces.find(picture)
    again, complete = faces.follow(picture, found)
    assert complete
    assert len(again) == len(found)
    assert again.overlap(found.boxes[0]).max() > 0.7
    wall = np.full_like(picture, 90)
    assert len(faces.follow(wall, found)[0]) == 0
    assert not faces.follow(wall, found)[1]
    unsure = Faces(found.boxes, np.full(len(found), 0.93, np.float32), found.landmarks)
    assert faces.follow(wall, unsure)[1]


def test_a_face_that_moved_by_its_own_width_is_found_again_without_a_search(faces, photographs):
    picture = read_image(photographs[0])
    high, wide = picture.shape[:2]
    canvas = np.full((3 * high, 5 * wide, 3), 120, np.uint8)
    canvas[high : 2 * high, wide : 2 * wide] = picture
    found = faces.find(canvas)
    side = float((found.boxes[0, 2:] - found.boxes[0, :2]).max())
    for shift, reached in ((round(side), True), (round(2.6 * side), False)):
        again, complete = faces.follow(np.roll(canvas, shift, axis=1), found.take(np.array([0])))
        assert complete == reached
        if reached:
            moved = found.boxes[0] + np.array([shift, 0, shift, 0], np.float32)
            assert again.overlap(moved).max() > 0.7


def test_a_clip_is_as_fake_as_its_fake_face(faces, photographs, tmp_path):
    pictures = [p for p in map(read_image, photographs) if p.shape == (256, 256, 3)][:2]
    small = np.asarray(Image.fromarray(pictures[1]).resize((160, 160)))

    def clip(name: str, mark: bool) -> str:
        canvas = np.full((256, 440, 3), 90, np.uint8)
        canvas[:, :256] = pictures[0]
        canvas[40:200, 270:430] = small // 2 + np.array([0, 100, 0], np.uint8) * mark  # the "fake" is green
        write_video(tmp_path / name, [canvas] * 16, 8, crf=12)
        return str(tmp_path / name)

    def predict(data: np.ndarray) -> np.ndarray:
        colour = data.astype(np.float64).mean(axis=(1, 2))
        return (colour[:, 1] - colour[:, [0, 2]].mean(axis=1)) / 10 - 3

    real, fake = (score_file(faces, predict, clip(n, m), views=8) for n, m in (("real.mp4", False), ("fake.mp4", True)))
    assert real.n_tracks == fake.n_tracks == 2
    assert real.score is not None
    assert fake.score is not None
    assert real.score < 0 < fake.score
    assert fake.logits is not None
    assert fake.track is not None
    assert (fake.logits[fake.track == 0] < 0).all()  # the larger face is not the fake one
    assert fake.score == pytest.approx(fake.logits[fake.track == 1].mean())


def _exif(picture: Image.Image, path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter clockwise
    picture.rotate(90, expand=True).save(path, exif=exif, quality=95)


def likeness(plain: Views, found: Views, turned: int = 0) -> float:
    """Correlation of the first crops' grey values; colour moves the box a little, so it is not 1."""
    a, b = (np.asarray(v.data[0], float).mean(axis=2) for v in (plain, found))
    return float(np.corrcoef(a.ravel(), np.rot90(b, turned).ravel())[0, 1])


PICTURES = {
    "grey.jpg": lambda p, path: p.convert("L").save(path, quality=95),
    "grey16.png": lambda p, path: Image.fromarray(np.asarray(p.convert("L")).astype(np.uint16) * 257).save(path),
    "alpha.png": lambda p, path: p.convert("RGBA").save(path),
    "alpha.webp": lambda p, path: p.convert("RGBA").save(path, lossless=True),
    "palette.png": lambda p, path: p.quantize(256).save(path),
    "cmyk.jpg": lambda p, path: p.convert("CMYK").save(path, quality=95),
    "turned.jpg": _exif,
    "odd.png": lambda p, path: p.crop((0, 0, 255, 253)).save(path),
}


@pytest.mark.parametrize("name", sorted(PICTURES))
def test_pictures_of_every_kind_give_the_same_face(faces, photographs, tmp_path, name):
    picture = Image.fromarray(next(p for p in map(read_image, photographs) if p.shape == (256, 256, 3)))
    plain = faces.prepare_image(np.asarray(picture))
    PICTURES[name](picture, tmp_path / name)
    found = faces.prepare(tmp_path / name)
    assert likeness(plain, found) > 0.8 > likeness(plain, found, turned=1)


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [
        ("ten_bit.mp4", "libx265", "yuv420p10le"),
        ("ten_bit.mkv", "libx264", "yuv422p10le"),
        ("grey.mp4", "libx264", "gray"),
        ("alpha.webm", "libvpx-vp9", "yuva420p"),
        ("full.mp4", "libx264", "yuvj420p"),
        ("odd.mkv", "libx264", "yuv444p"),
    ],
)
def test_videos_of_every_kind_give_the_same_face(faces, photographs, tmp_path, name, codec, pixels):
    picture = next(p for p in map(read_image, photographs) if p.shape == (256, 256, 3))
    plain = faces.prepare_image(picture)
    if name.startswith("odd"):
        picture = picture[:253, :255]
    write_video(tmp_path / name, [picture] * 4, 4, codec, crf=12, pixel_format=pixels)
    found = faces.prepare(tmp_path / name)
    assert np.bincount(found.track).tolist() == [4]
    assert likeness(plain, found) > 0.8 > likeness(plain, found, turned=1)


def test_several_people_in_a_picture_largest_first(faces, photographs):
    small, large = (read_image(path) for path in photographs[:2])
    small = np.asarray(Image.fromarray(small).resize((128, 128)))
    canvas = np.full((256, 400, 3), 128, np.uint8)
    canvas[:128, :128] = small
    canvas[: large.shape[0], 140 : 140 + large.shape[1]] = large
    prepared = faces.prepare_image(canvas)
    assert prepared.track.tolist() == [0, 1]
    assert prepared.size is not None
    assert prepared.size[0] > prepared.size[1]


def test_small_faces_are_ignored(finder, photographs):
    picky = FaceModality(finder_folder=str(finder), min_face_px=400)
    with pytest.raises(Unusable, match="400 pixels") as caught:
        picky.prepare(photographs[0])
    assert caught.value.status == Status.NO_FACE


def test_a_face_that_fills_the_picture_is_found(faces, photographs):
    found = 0
    for path in photographs[:8]:
        image = read_image(path)
        box = faces.find(image).boxes[0].astype(int).clip(0)
        tight = image[box[1] : box[3], box[0] : box[2]]
        found += len(faces.prepare_image(tight)) > 0
    assert found == 8


def test_statuses(faces, tmp_path):
    grey = np.full((128, 128, 3), 90, np.uint8)
    write_image(tmp_path / "wall.jpg", grey)
    write_video(tmp_path / "wall.mp4", [grey] * 5)
    write_sound(tmp_path / "a.wav", np.ones(1000, np.float32) / 2)
    (tmp_path / "text.mp4").write_bytes(b"only text " * 100)
    (tmp_path / "empty.jpg").write_bytes(b"")
    cut = (tmp_path / "wall.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(cut[:-40])
    expected = {
        "wall.jpg": Status.NO_FACE,
        "wall.mp4": Status.NO_FACE,
        "a.wav": Status.UNDECODABLE,
        "text.mp4": Status.UNDECODABLE,
        "empty.jpg": Status.UNDECODABLE,
        "cut.jpg": Status.UNDECODABLE,
    }
    for name, status in expected.items():
        with pytest.raises(Unusable) as caught:
            faces.prepare(tmp_path / name)
        assert caught.value.status == status, name
    with pytest.raises(MediaError, match="hint"):
        faces.prepare(tmp_path / "none.jpg")


def test_even_drawing_shares_k_among_tracks_without_repeating(faces):
    prepared = views([0] * 16 + [1] * 4)
    for k, shares in ((1, [1]), (2, [1, 1]), (8, [4, 4]), (12, [8, 4]), (99, [16, 4])):
        drawn = faces.draw(prepared, k)
        assert np.bincount(drawn.track).tolist() == shares
        assert len(np.unique(drawn.start_s)) == len(drawn)
    assert faces.draw(views([0] * 16), 4).start_s.tolist() == [2, 6, 10, 14]


def test_random_drawing_is_exact_seeded_and_of_the_main_track(faces):
    prepared = views([0] * 5 + [1] * 9)
    for k in (1, 5, 12):
        drawn = faces.draw(prepared, k, np.random.default_rng(3))
        assert len(drawn) == k
        assert set(drawn.track) == {0}
        assert len(np.unique(drawn.start_s)) == min(k, 5)
        np.testing.assert_array_equal(drawn.start_s, faces.draw(prepared, k, np.random.default_rng(3)).start_s)


def test_pooling_is_mean_over_a_track_and_maximum_over_tracks(faces):
    assert faces.pool(np.array([0.0, 2.0, -1.0, 4.0, 4.0]), views([0, 0, 0, 1, 1])) == 4.0
    assert faces.pool(np.array([0.0, 3.0]), views([0, 0])) == 1.5
    with pytest.raises(ValueError, match="logits"):
        faces.pool(np.zeros(3), views([0, 0]))


def test_settings_are_checked_and_the_finder_is_needed_only_for_work(tmp_path):
    for options in ({"size": 4}, {"margin": -1.0}, {"align": "5pt"}, {"thresholds": (0.6, 0.7)}, {"min_face_px": 5}):
        with pytest.raises(ConfigError, match="hint"):
            FaceModality(**options)
    lacking = FaceModality(finder_folder=str(tmp_path))
    assert lacking.input_shape == (224, 224, 3)
    with pytest.raises(MissingDependencyError, match="doctor --fix"):
        _ = lacking.fingerprint
