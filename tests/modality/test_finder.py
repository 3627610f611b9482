"""Finder: the cascade without torch finds the faces that facenet_pytorch finds."""

import pickle

import numpy as np
import pytest

from deepassay.errors import MissingDependencyError
from deepassay.media.image import read_image
from deepassay.media.video import read_frames
from deepassay.modality import finder as finder_module
from deepassay.modality.finder import GRAPHS, Finder, finder_hashes, finder_ready


def make(folder, **options) -> Finder:
    return Finder(*(folder / name for name in GRAPHS), **options)


def test_agrees_with_facenet_pytorch(finder, photographs, shared):
    from facenet_pytorch import MTCNN

    images = [read_image(path) for path in photographs]
    for video in sorted((shared / "data" / "videos").glob("*.mp4"))[:3]:
        images += read_frames(video, 2).images
    for minimum, pictures in ((20, images), (40, images[::4])):
        ours, theirs = make(finder, min_face_px=minimum), MTCNN(keep_all=True, min_face_size=minimum)
        several = 0
        for image in pictures:
            found = ours.find(image)
            try:
                boxes, probs, landmarks = theirs.detect(image, landmarks=True)
            except RuntimeError:  # it fails where P-Net proposes nothing
                assert len(found) == 0
                continue
            assert len(found) == (0 if boxes is None else len(boxes))
            if boxes is None:
                continue
            several += len(found) > 1
            np.testing.assert_allclose(found.boxes, boxes.astype(np.float64), atol=0.01)
            np.testing.assert_allclose(found.probs, probs.astype(np.float64), atol=1e-5)
            np.testing.assert_allclose(found.landmarks, landmarks.astype(np.float64), atol=0.01)
    assert len(images) > 30


def test_area_resampling_is_torchs(finder):
    import torch

    image = np.random.default_rng(0).integers(0, 256, (61, 83, 3), dtype=np.uint8)
    table = finder_module._sums(image)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    for size in ((12, 17), (61, 83), (40, 83), (100, 90)):
        expected = (torch.nn.functional.interpolate(tensor, size, mode="area") - 127.5) * 0.0078125
        np.testing.assert_allclose(finder_module._shrink(table, *size), expected[0].numpy(), atol=1e-5)
    boxes = np.array([[-5, 3.7, 20, 40], [60, 50, 200, 200], [10, 10, 13, 12], [90, 5, 99, 9]], np.float32)
    kept, crops = finder_module._crops(table, boxes, 24, 61, 83)
    assert len(kept) == 3  # the last lies outside
    for crop, (x0, y0, x1, y1) in zip(crops, ((0, 2, 20, 40), (59, 49, 83, 61), (9, 9, 13, 12)), strict=True):
        expected = torch.nn.functional.interpolate(tensor[..., y0:y1, x0:x1], (24, 24), mode="area")
        np.testing.assert_allclose(crop, ((expected - 127.5) * 0.0078125)[0].numpy(), atol=1e-5)


def test_table_may_wrap_around():
    image = np.full((4200, 4200, 3), 255, np.uint8)  # sums to more than 2**32
    table = finder_module._sums(image)
    np.testing.assert_allclose(finder_module._shrink(table, 5, 7), 127.5 / 128, atol=1e-6)


def test_suppression_is_torchvisions(finder):
    import torch
    from torchvision.ops import nms

    rng = np.random.default_rng(0)
    for _ in range(5):
        corner = rng.integers(0, 60, (80, 2))
        boxes = np.concatenate([corner, corner + rng.integers(5, 40, (80, 2))], axis=1).astype(np.float32)
        scores = rng.random(80).astype(np.float32)
        for threshold in (0.3, 0.5, 0.7):
            expected = nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold).numpy()
            np.testing.assert_array_equal(finder_module._suppress(boxes, scores, threshold), expected)


def test_nothing_in_noise_and_tiny_pictures(finder):
    tool = make(finder)
    rng = np.random.default_rng(0)
    for shape in ((1, 1), (5, 300), (19, 19), (200, 150)):
        found = tool.find(rng.integers(0, 256, (*shape, 3), dtype=np.uint8))
        assert (len(found), found.boxes.shape[1:], found.landmarks.shape[1:]) == (0, (4,), (5, 2))
    with pytest.raises(ValueError, match="uint8"):
        tool.find(np.zeros((30, 30), np.uint8))


def test_pyramid_is_bounded_in_large_pictures(finder):
    tool = make(finder, max_search_pixels=10_000)
    assert tool.scales(100, 100)[0] == pytest.approx(12 / 20)
    assert max(tool.scales(8000, 8000)) * 8000 == pytest.approx(100)


def test_a_pickled_finder_finds_the_same(finder, photographs):
    tool = make(finder)
    image = read_image(photographs[0])
    first = tool.find(image)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(tool)).find(image).boxes, first.boxes)


def test_ready_and_hashes_notice_missing_and_altered_graphs(finder, tmp_path):
    assert finder_ready(finder)
    assert not finder_ready(tmp_path)
    for name in (*GRAPHS, "finder.json"):
        (tmp_path / name).write_bytes((finder / name).read_bytes())
    assert finder_hashes(tmp_path) == finder_hashes(finder)
    data = bytearray((tmp_path / "rnet.onnx").read_bytes())
    data[1000] ^= 1
    (tmp_path / "rnet.onnx").write_bytes(data)
    with pytest.raises(MissingDependencyError, match=r"rnet\.onnx[^$]*hint"):
        finder_hashes(tmp_path)
    (tmp_path / "onet.onnx").unlink()
    with pytest.raises(MissingDependencyError, match=r"onet\.onnx"):
        finder_hashes(tmp_path)
    with pytest.raises(MissingDependencyError, match="hint"):
        make(tmp_path).find(np.zeros((64, 64, 3), np.uint8))
