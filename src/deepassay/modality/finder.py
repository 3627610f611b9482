"""Finding faces: the MTCNN cascade in NumPy over three onnxruntime graphs, as facenet_pytorch.MTCNN.detect finds them.

Zhang, Zhang, Li, Qiao, IEEE Signal Processing Letters 23(10), 2016. facenet-pytorch 2.5.3 decides where the paper
leaves things open: area resampling, integer box corners, 1-based crops, the order and kind of the suppressions.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from deepassay import files
from deepassay.errors import AssayError, MissingDependencyError

GRAPHS = ("pnet.onnx", "rnet.onnx", "onet.onnx")
HINT = "where the train extra is installed, run `deepassay doctor --fix`: it exports the graphs from facenet-pytorch"
_SCHEMA = 2  # of finder.json, as `deepassay.models.mtcnn` writes it
_CELL, _STRIDE = 12, 2  # P-Net's receptive field and step, in pixels of its input


@dataclass(frozen=True, slots=True)
class Faces:
    """Faces in one picture, largest box first.

    Args:
        boxes: (n, 4) float32, x0 y0 x1 y1 in pixels; may reach beyond the picture.
        probs: (n,) float32 in [0, 1], O-Net's face probability.
        landmarks: (n, 5, 2) float32, x and y of left eye, right eye, nose, left and right mouth corner (as seen).
    """

    boxes: np.ndarray
    probs: np.ndarray
    landmarks: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, index: np.ndarray) -> "Faces":
        """Some of the faces, in that order."""
        return Faces(self.boxes[index], self.probs[index], self.landmarks[index])

    def joined(self, more: "Faces") -> "Faces":
        """These and others, largest first."""
        boxes = np.concatenate([self.boxes, more.boxes])
        both = Faces(boxes, np.concatenate([self.probs, more.probs]), np.concatenate([self.landmarks, more.landmarks]))
        return both.take(np.argsort(-(boxes[:, 2:] - boxes[:, :2]).prod(axis=1), kind="stable"))

    def overlap(self, box: np.ndarray) -> np.ndarray:
        """Intersection over union of each face's box with one, (n,)."""
        sides = np.maximum(np.minimum(self.boxes[:, 2:], box[2:]) - np.maximum(self.boxes[:, :2], box[:2]), 0)
        inter = sides.prod(axis=1)
        return inter / ((self.boxes[:, 2:] - self.boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - inter)


def _no_faces() -> Faces:
    return Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))


def finder_folder(folder: str | Path | None = None) -> Path:
    """Where the graphs are looked for: the folder given, else the user's cache."""
    return Path(folder) if folder is not None else files.cache_folder() / "finder"


def finder_ready(folder: str | Path | None = None) -> bool:
    """Whether all three graphs are there and are the ones that finder.json lists."""
    try:
        finder_hashes(folder)
    except AssayError:
        return False
    return True


def finder_hashes(folder: str | Path | None = None) -> dict[str, str]:
    """SHA-256 of each graph, checked against finder.json where the folder has one.

    Raises:
        MissingDependencyError: a graph is missing or altered.
    """
    where = finder_folder(folder)
    missing = [name for name in GRAPHS if not (where / name).is_file()]
    if missing:
        raise MissingDependencyError(f"{where}: the face finder's {', '.join(missing)} is not there", hint=HINT)
    hashes = {name: files.sha256_file(where / name) for name in GRAPHS}
    note = where / "finder.json"
    if note.is_file():
        try:
            content = json.loads(note.read_text(encoding="utf-8"))
            listed, schema = content["graphs"], int(content["schema"])
        except (ValueError, KeyError, TypeError) as error:
            raise MissingDependencyError(f"{note}: cannot be read ({type(error).__name__})", hint=HINT) from error
        if schema < _SCHEMA:
            raise MissingDependencyError(f"{where}: these graphs of the face finder are out of date", hint=HINT)
        for name, value in hashes.items():
            if listed.get(name) != value:
                raise MissingDependencyError(f"{where / name}: is not the graph that finder.json lists", hint=HINT)
    return hashes


_STRIP_PIXELS = 12_000  # of P-Net's input at a time
_CHUNK = {1: 16, 2: 8}  # crops at a time through R- and O-Net

_FIELDS = ("boxes", "probs", "landmarks")
_LEAST_OVERLAP = 0.2  # of a face with the box that it was followed from
_REACH, _ALIKE = 1.6, (0.6, 1.6)  # how far, in its sides, and how large a face is sought that is not where it was
_FOLLOW_PX = 64  # faces are followed at this size or up to twice as large: O-Net sees 48 pixels
_AROUND = np.array(  # shift x, shift y, scale
    [[x, y, 1] for x in (-0.2, 0, 0.2) for y in (-0.2, 0, 0.2)] + [[0, 0, 0.8], [0, 0, 1.25]], np.float64
)

# Bound on the largest picture of P-Net's pyramid: keeps time and memory flat for huge photographs.
MAX_SEARCH_PIXELS = 2_000_000


class Finder:
    """The cascade. Sessions are made on first use and kept; a pickled copy makes its own.

    Args:
        pnet, rnet, onet: paths of the graphs written by `deepassay.models.mtcnn.export_finder_graphs`.
        min_face_px: smallest face searched for, pixels; cost grows with 1 / min_face_px squared.
        thresholds: least probability at P-, R- and O-Net.
        factor: ratio between neighbouring scales of the pyramid.
        max_search_pixels: bound on the largest picture P-Net sees. In a picture so large that ``min_face_px`` would
            need more, the smallest face searched for grows with the picture.
        threads: of onnxruntime inside one operator.
    """

    def __init__(
        self,
        pnet: str | os.PathLike[str],
        rnet: str | os.PathLike[str],
        onet: str | os.PathLike[str],
        *,
        min_face_px: float = 20,
        thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7),
        factor: float = 0.709,
        max_search_pixels: int = MAX_SEARCH_PIXELS,
        threads: int = 1,
    ) -> None:
        if min_face_px < _CELL or not 0.1 <= factor <= 0.95 or len(thresholds) != 3:
            raise ValueError("min_face_px must be at least 12, factor in [0.1, 0.95], thresholds three numbers")
        self._paths = [Path(p) for p in (pnet, rnet, onet)]
        self.min_face_px, self.thresholds, self.factor = float(min_face_px), tuple(thresholds), float(factor)
        self.max_search_pixels, self.threads = int(max_search_pixels), int(threads)
        self._sessions: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_sessions": []}

    def _run(self, stage: int, image: np.ndarray) -> dict[str, np.ndarray]:
        if not self._sessions:
            self._sessions = [_session(path, self.threads) for path in self._paths]
        session, names = self._sessions[stage]
        return dict(zip(names, session.run(names, {"image": image}), strict=True))

    def find(self, image: np.ndarray) -> Faces:
        """Faces in a picture.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            Faces, largest first; empty where there is none.

        Raises:
            MissingDependencyError: a graph is not there or not readable.
        """
        _check(image)
        height, width = image.shape[:2]
        table = _sums(image)
        boxes = self._propose(table, height, width)
        boxes = self._refine(table, boxes, height, width)
        return self._decide(table, boxes, height, width)

    def follow(self, image: np.ndarray, boxes: np.ndarray) -> tuple[Faces, np.ndarray]:
        """Faces about where some were a moment ago: R- and O-Net on boxes around them, without a pyramid.

        Each box is tried shifted by a fifth of its side, smaller and larger; where that fails, the whole cascade
        looks for a face of about its size in the part of the picture around it. Nothing is taken over unseen: O-Net
        decides on the picture given, as it does in `find`. Of two boxes that end on one face only the surer is kept.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes: (m, 4) x0 y0 x1 y1.

        Returns:
            Faces, at most one per box, largest first, and for each the row of ``boxes`` it came from, (n,).
        """
        _check(image)
        joined = _no_faces()
        rows: list[int] = []
        for row, box in enumerate(np.asarray(boxes, np.float64).reshape(-1, 4)):
            face = self._near(image, box) or self._about(image, box)
            if face is not None:
                joined = Faces(*(np.concatenate([getattr(f, n) for f in (joined, face)]) for n in _FIELDS))
                rows.append(row)
        picked = _suppress(joined.boxes, joined.probs, 0.5)
        area = np.prod(joined.boxes[picked, 2:] - joined.boxes[picked, :2], axis=1)
        picked = picked[np.argsort(-area, kind="stable")]
        return joined.take(picked), np.array(rows, np.int64)[picked]

    def _near(self, image: np.ndarray, box: np.ndarray) -> Faces | None:
        """The face that overlaps a box most, or None."""
        side = float(max(box[2] - box[0], box[3] - box[1], 1.0))
        middle = (box[:2] + box[2:]) / 2
        height, width = image.shape[:2]
        left, top = (max(0, int(v - 1.1 * side)) for v in middle)
        right, bottom = (min(n, int(v + 1.1 * side) + 1) for v, n in zip(middle, (width, height), strict=True))
        factor = max(1, int(side // _FOLLOW_PX))
        if min(right - left, bottom - top) < 2 * factor:
            return None
        region = _reduce(image[top:bottom, left:right], factor)
        sides = _AROUND[:, 2:] * side
        centres = middle + _AROUND[:, :2] * side
        squares = np.concatenate([centres - sides / 2, centres + sides / 2], axis=1)
        squares = ((squares - np.tile([left, top], 2)) / factor).astype(np.float32)
        table = _sums(region)
        size = region.shape[:2]
        faces = self._decide(table, self._refine(table, squares, *size, most=3), *size)
        if not len(faces):
            return None
        points = faces.landmarks * np.float32(factor) + np.array([left, top], np.float32)
        faces = Faces(_enlarge(faces.boxes, factor, (left, top)), faces.probs, points)
        shared = faces.overlap(box)
        best = int(np.lexsort((faces.probs, shared))[-1])
        return faces.take(np.array([best])) if shared[best] >= _LEAST_OVERLAP else None

    def _about(self, image: np.ndarray, box: np.ndarray) -> Faces | None:
        """The face nearest to a box among those of about its size in a few sides' distance, or None.

        The whole cascade on a small part of the picture, for faces that moved further than `_near` looks.
        """
        side = float(max(box[2] - box[0], box[3] - box[1], 1.0))
        middle = (box[:2] + box[2:]) / 2
        height, width = image.shape[:2]
        left, top = (max(0, int(v - _REACH * side)) for v in middle)
        right, bottom = (min(n, int(v + _REACH * side) + 1) for v, n in zip(middle, (width, height), strict=True))
        factor = max(1, int(side // _FOLLOW_PX))
        if min(right - left, bottom - top) < _CELL * factor:
            return None
        region = _reduce(image[top:bottom, left:right], factor)
        table, (high, wide) = _sums(region), region.shape[:2]
        smallest, largest = (side * ratio / factor for ratio in _ALIKE)
        scales = [s for s in self.scales(high, wide, max(smallest, _CELL)) if s * largest >= _CELL * self.factor]
        faces = self._decide(
            table, self._refine(table, self._propose(table, high, wide, scales), high, wide), high, wide
        )
        if not len(faces):
            return None
        points = faces.landmarks * np.float32(factor) + np.array([left, top], np.float32)
        faces = Faces(_enlarge(faces.boxes, factor, (left, top)), faces.probs, points)
        sides = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1)
        faces = faces.take(np.nonzero((sides >= _ALIKE[0] * side) & (sides <= _ALIKE[1] * side))[0])
        if not len(faces):
            return None
        away = np.linalg.norm((faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2 - middle, axis=1)
        return faces.take(np.array([int(away.argmin())]))

    def scales(self, height: int, width: int, min_face_px: float | None = None) -> list[float]:
        """The pyramid for a picture of some size, down to the finder's smallest face or another."""
        scale = _CELL / (min_face_px or self.min_face_px)
        scale = min(scale, (self.max_search_pixels / (height * width)) ** 0.5)
        side = min(height, width) * scale
        found: list[float] = []
        while side >= _CELL:
            found.append(scale)
            scale *= self.factor
            side *= self.factor
        return found

    def _propose(self, table: np.ndarray, height: int, width: int, scales: list[float] | None = None) -> np.ndarray:
        """First stage: square boxes (n, 4)."""
        found = [np.zeros((0, 9), np.float32)]
        for scale in self.scales(height, width) if scales is None else scales:
            small = _shrink(table, int(height * scale + 1), int(width * scale + 1))
            probability, offsets = self._scan(small)
            rows, columns = np.nonzero(probability >= self.thresholds[0])
            if not len(rows):
                continue
            cell = np.stack([columns, rows], axis=1).astype(np.float32) * np.float32(_STRIDE) + np.float32(1)
            corner = np.floor(cell / np.float32(scale))
            opposite = np.floor((cell + np.float32(_CELL - 1)) / np.float32(scale))
            score = probability[rows, columns]
            candidates = np.concatenate([corner, opposite, score[:, None], offsets[:, rows, columns].T], axis=1)
            found.append(candidates[_suppress(candidates[:, :4], score, 0.5)])
        boxes = np.concatenate(found)
        boxes = boxes[_suppress(boxes[:, :4], boxes[:, 4], 0.7)]
        sides = boxes[:, 2:4] - boxes[:, :2]
        moved = boxes[:, :4] + boxes[:, 5:9] * np.tile(sides, 2)
        return _square(moved)

    def _scan(self, small: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """P-Net over a picture (3, h, w), in strips that stay in the processor's cache: probability, offsets."""
        height, width = small.shape[1:]
        rows = max(8, _STRIP_PIXELS // width // _STRIDE)  # of the result, per strip
        total = (height - _CELL + 1) // _STRIDE + 1
        parts = []
        for top in range(0, total, rows):
            bottom = height if top + rows >= total else _STRIDE * (top + rows) + _CELL - _STRIDE
            parts.append(self._run(0, small[None, :, _STRIDE * top : bottom]))
        if len(parts) == 1:
            return parts[0]["probability"][0], parts[0]["offsets"][0]
        return (
            np.concatenate([p["probability"][0] for p in parts], axis=0),
            np.concatenate([p["offsets"][0] for p in parts], axis=1),
        )

    def _in_chunks(self, stage: int, crops: np.ndarray) -> dict[str, np.ndarray]:
        """R- or O-Net over crops, as many at a time as stay in the cache."""
        size = _CHUNK[stage]
        parts = [self._run(stage, crops[i : i + size]) for i in range(0, len(crops), size)]
        return parts[0] if len(parts) == 1 else {k: np.concatenate([p[k] for p in parts]) for k in parts[0]}

    def _refine(
        self, table: np.ndarray, boxes: np.ndarray, height: int, width: int, most: int | None = None
    ) -> np.ndarray:
        """Second stage: square boxes (n, 4), the surest first and at most so many."""
        boxes, crops = _crops(table, boxes, 24, height, width)
        if not len(boxes):
            return boxes
        out = self._in_chunks(1, crops)
        score = out["probability"]
        keep = score > self.thresholds[1]
        boxes, score, offsets = boxes[keep], score[keep], out["offsets"][keep]
        picked = _suppress(boxes, score, 0.7)[:most]
        return _square(_regress(boxes[picked], offsets[picked]))

    def _decide(self, table: np.ndarray, boxes: np.ndarray, height: int, width: int) -> Faces:
        """Third stage."""
        boxes, crops = _crops(table, boxes, 48, height, width)
        if not len(boxes):
            return _no_faces()
        out = self._in_chunks(2, crops)
        keep = out["probability"] > self.thresholds[2]
        boxes, score, offsets = boxes[keep], out["probability"][keep], out["offsets"][keep]
        sides = boxes[:, 2:4] - boxes[:, :2] + 1
        points = out["landmarks"][keep].reshape(-1, 2, 5).transpose(0, 2, 1)
        points = sides[:, None] * points + boxes[:, None, :2] - 1
        boxes = _regress(boxes, offsets)
        picked = _suppress(boxes, score, 0.7, of_smaller=True)
        boxes, score, points = boxes[picked], score[picked], points[picked]
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        order = np.argsort(-area, kind="stable")
        return Faces(boxes[order], score[order], np.ascontiguousarray(points[order]))


def _session(path: Path, threads: int) -> tuple[Any, list[str]]:
    import onnxruntime as ort

    if not path.is_file():
        raise MissingDependencyError(f"{path}: the face finder's graph is not there", hint=HINT)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exception types are not importable in every version
        raise MissingDependencyError(
            f"{path}: onnxruntime cannot load it ({type(error).__name__})", hint=HINT
        ) from error
    return session, [o.name for o in session.get_outputs()]


def _check(image: np.ndarray) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"expected (H, W, 3) uint8, got {image.dtype} {image.shape}")


def _reduce(image: np.ndarray, factor: int) -> np.ndarray:
    """Means of squares of ``factor`` pixels, of what is left at the edges too."""
    from PIL import Image

    return image if factor == 1 else np.asarray(Image.fromarray(np.ascontiguousarray(image)).reduce(factor))


def _enlarge(boxes: np.ndarray, factor: int, corner: tuple[int, int]) -> np.ndarray:
    """Boxes of a reduced part of a picture in the picture's pixels; a box's first pixel is counted from 1."""
    moved = boxes * np.float32(factor) + np.tile(np.array(corner, np.float32), 2)
    moved[:, :2] += 1 - factor
    return moved.astype(np.float32)


def _sums(image: np.ndarray) -> np.ndarray:
    """Summed-area table (H + 1, W + 1, 3) uint32.

    It may wrap around in large pictures; differences of it do not, as long as one window sums to less than 2**32, which
    16 million white pixels reach (Crow, SIGGRAPH 1984, for the table itself).
    """
    height, width = image.shape[:2]
    table = np.zeros((height + 1, width + 1, 3), np.uint32)
    table[1:, 1:] = image
    np.cumsum(table, axis=1, dtype=np.uint32, out=table)
    for row in range(2, height + 1):  # NumPy's own cumsum walks down this axis column by column, more slowly
        table[row] += table[row - 1]
    return table


def _edges(length: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows [start, end) of adaptive average pooling: floor(i * length / out) to ceil((i + 1) * length / out)."""
    index = np.arange(out)
    return index * length // out, -(-(index + 1) * length // out)


def _normalise(sums: np.ndarray, high: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """(mean - 127.5) / 128, (..., 3, h, w), of sums (..., h, w, 3) over windows of some heights and widths."""
    inverse = (1 / (128.0 * high)).astype(np.float32)[..., :, None] * (1.0 / wide).astype(np.float32)[..., None, :]
    out = np.empty((*sums.shape[:-3], 3, *sums.shape[-3:-1]), np.float32)
    for channel in range(3):
        np.multiply(sums[..., channel], inverse, out=out[..., channel, :, :])
    out -= np.float32(127.5 / 128)
    return out


def _shrink(table: np.ndarray, height: int, width: int) -> np.ndarray:
    """The whole picture area-averaged to (3, height, width)."""
    y0, y1 = _edges(table.shape[0] - 1, height)
    x0, x1 = _edges(table.shape[1] - 1, width)
    rows = np.take(table, y1, axis=0)
    rows -= np.take(table, y0, axis=0)
    sums = np.take(rows, x1, axis=1)
    sums -= np.take(rows, x0, axis=1)
    return _normalise(sums, y1 - y0, x1 - x0)


def _crops(table: np.ndarray, boxes: np.ndarray, size: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Boxes that hold any pixel, and their area-averaged crops (n, 3, size, size); the picture's edge cuts them off."""
    corners = np.trunc(boxes).astype(np.int64)
    x0, y0 = np.maximum(corners[:, 0], 1) - 1, np.maximum(corners[:, 1], 1) - 1
    x1, y1 = np.minimum(corners[:, 2], width), np.minimum(corners[:, 3], height)
    keep = (x1 > x0) & (y1 > y0)
    boxes, x0, x1, y0, y1 = boxes[keep], x0[keep, None], x1[keep, None], y0[keep, None], y1[keep, None]
    if not len(boxes):
        return boxes, np.zeros((0, 3, size, size), np.float32)
    index = np.arange(size)
    top, bottom = y0 + index * (y1 - y0) // size, y0 - (-(index + 1) * (y1 - y0) // size)
    left, right = x0 + index * (x1 - x0) // size, x0 - (-(index + 1) * (x1 - x0) // size)
    flat, stride = table.reshape(-1, 3), table.shape[1]
    at = lambda y, x: np.take(flat, y[:, :, None] * stride + x[:, None, :], axis=0)  # noqa: E731
    sums = at(bottom, right)
    sums -= at(top, right)
    sums -= at(bottom, left)
    sums += at(top, left)
    return boxes, _normalise(sums, bottom - top, right - left)


def _square(boxes: np.ndarray) -> np.ndarray:
    """Squares of the longer side around the same centres."""
    sides = boxes[:, 2:4] - boxes[:, :2]
    longer = sides.max(axis=1, keepdims=True, initial=0)
    corner = boxes[:, :2] + sides * np.float32(0.5) - longer * np.float32(0.5)
    return np.concatenate([corner, corner + longer], axis=1)


def _regress(boxes: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Boxes moved by a network's offsets, which count in box sides of inclusive corners."""
    sides = boxes[:, 2:4] - boxes[:, :2] + 1
    return boxes[:, :4] + offsets * np.tile(sides, 2)


def _suppress(boxes: np.ndarray, scores: np.ndarray, threshold: float, *, of_smaller: bool = False) -> np.ndarray:
    """Greedy non-maximum suppression: indices kept, best score first.

    Overlap is intersection over union; with ``of_smaller``, over the smaller of two areas of inclusive corners.
    """
    extra = np.float32(1 if of_smaller else 0)
    order = np.argsort(-scores, kind="stable")
    if of_smaller:
        order = np.argsort(scores, kind="stable")[::-1]
    if len(order) < 2:
        return order
    x0, y0, x1, y1 = np.ascontiguousarray(boxes[order, :4].T)
    area = (x1 - x0 + extra) * (y1 - y0 + extra)
    alive = np.ones(len(order), bool)
    kept: list[int] = []
    block = 64  # rows of the overlap matrix at a time: one NumPy call for many boxes, without squaring large numbers
    with np.errstate(divide="ignore", invalid="ignore"):
        for start in range(0, len(order), block):
            mine = start + np.nonzero(alive[start : start + block])[0]
            if not len(mine):
                continue
            wide = np.minimum(x1[mine, None], x1[start:]) - np.maximum(x0[mine, None], x0[start:]) + extra
            high = np.minimum(y1[mine, None], y1[start:]) - np.maximum(y0[mine, None], y0[start:]) + extra
            inter = np.maximum(wide, 0) * np.maximum(high, 0)
            if of_smaller:
                whole = np.minimum(area[mine, None], area[start:])
            else:
                whole = area[mine, None] + area[start:] - inter
            clear = ~(inter / whole > np.float64(threshold))  # compared in double, as torchvision does
            for i, row in zip(mine.tolist(), clear, strict=True):
                if alive[i]:
                    kept.append(i)
                    alive[start:] &= row
    return order[np.array(kept, np.int64)]
