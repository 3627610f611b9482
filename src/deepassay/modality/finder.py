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
            listed = json.loads(note.read_text(encoding="utf-8"))["graphs"]
        except (ValueError, KeyError, TypeError) as error:
            raise MissingDependencyError(f"{note}: cannot be read ({type(error).__name__})", hint=HINT) from error
        for name, value in hashes.items():
            if listed.get(name) != value:
                raise MissingDependencyError(f"{where / name}: is not the graph that finder.json lists", hint=HINT)
    return hashes


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
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ValueError(f"expected (H, W, 3) uint8, got {image.dtype} {image.shape}")
        height, width = image.shape[:2]
        table = _sums(image)
        boxes = self._propose(table, height, width)
        boxes = self._refine(table, boxes, height, width)
        return self._decide(table, boxes, height, width)

    def scales(self, height: int, width: int) -> list[float]:
        """The pyramid for a picture of some size."""
        scale = _CELL / self.min_face_px
        scale = min(scale, (self.max_search_pixels / (height * width)) ** 0.5)
        side = min(height, width) * scale
        found: list[float] = []
        while side >= _CELL:
            found.append(scale)
            scale *= self.factor
            side *= self.factor
        return found

    def _propose(self, table: np.ndarray, height: int, width: int) -> np.ndarray:
        """First stage: square boxes (n, 4)."""
        found = [np.zeros((0, 9), np.float32)]
        for scale in self.scales(height, width):
            out = self._run(0, _shrink(table, int(height * scale + 1), int(width * scale + 1))[None])
            probability = out["probability"][0]
            rows, columns = np.nonzero(probability >= self.thresholds[0])
            if not len(rows):
                continue
            cell = np.stack([columns, rows], axis=1).astype(np.float32) * np.float32(_STRIDE) + np.float32(1)
            corner = np.floor(cell / np.float32(scale))
            opposite = np.floor((cell + np.float32(_CELL - 1)) / np.float32(scale))
            score = probability[rows, columns]
            candidates = np.concatenate(
                [corner, opposite, score[:, None], out["offsets"][0][:, rows, columns].T], axis=1
            )
            found.append(candidates[_suppress(candidates[:, :4], score, 0.5)])
        boxes = np.concatenate(found)
        boxes = boxes[_suppress(boxes[:, :4], boxes[:, 4], 0.7)]
        sides = boxes[:, 2:4] - boxes[:, :2]
        moved = boxes[:, :4] + boxes[:, 5:9] * np.tile(sides, 2)
        return _square(moved)

    def _refine(self, table: np.ndarray, boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Second stage: square boxes (n, 4)."""
        boxes, crops = _crops(table, boxes, 24, height, width)
        if not len(boxes):
            return boxes
        out = self._run(1, crops)
        score = out["probability"]
        keep = score > self.thresholds[1]
        boxes, score, offsets = boxes[keep], score[keep], out["offsets"][keep]
        picked = _suppress(boxes, score, 0.7)
        return _square(_regress(boxes[picked], offsets[picked]))

    def _decide(self, table: np.ndarray, boxes: np.ndarray, height: int, width: int) -> Faces:
        """Third stage."""
        boxes, crops = _crops(table, boxes, 48, height, width)
        if not len(boxes):
            return Faces(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros((0, 5, 2), np.float32))
        out = self._run(2, crops)
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


def _sums(image: np.ndarray) -> np.ndarray:
    """Summed-area table (3, H + 1, W + 1) uint32.

    It may wrap around in large pictures; differences of it do not, as long as one window sums to less than 2**32, which
    16 million white pixels reach (Crow, SIGGRAPH 1984, for the table itself).
    """
    height, width = image.shape[:2]
    table = np.zeros((3, height + 1, width + 1), np.uint32)
    table[:, 1:, 1:] = image.transpose(2, 0, 1)
    np.cumsum(table, axis=2, dtype=np.uint32, out=table)
    for row in range(2, height + 1):  # NumPy's own cumsum walks down this axis column by column, at half the speed
        table[:, row] += table[:, row - 1]
    return table


def _edges(length: int, out: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows [start, end) of adaptive average pooling: floor(i * length / out) to ceil((i + 1) * length / out)."""
    index = np.arange(out)
    return index * length // out, -(-(index + 1) * length // out)


def _normalise(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """(mean - 127.5) / 128 as float32."""
    return sums.astype(np.float32) * (1 / (128.0 * counts)).astype(np.float32) - np.float32(127.5 / 128)


def _shrink(table: np.ndarray, height: int, width: int) -> np.ndarray:
    """The whole picture area-averaged to (3, height, width)."""
    y0, y1 = _edges(table.shape[1] - 1, height)
    x0, x1 = _edges(table.shape[2] - 1, width)
    rows = table[:, y1] - table[:, y0]
    sums = rows[:, :, x1] - rows[:, :, x0]
    return _normalise(sums, (y1 - y0)[:, None] * (x1 - x0)[None])


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
    stride = table.shape[2]
    flat = table.reshape(3, -1)
    at = lambda y, x: np.take(flat, y[:, :, None] * stride + x[:, None, :], axis=1)  # noqa: E731
    sums = at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left)
    counts = (bottom - top)[:, :, None] * (right - left)[:, None, :]
    return boxes, np.ascontiguousarray(_normalise(sums, counts).transpose(1, 0, 2, 3))


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
    x0, y0, x1, y1 = np.ascontiguousarray(boxes[order, :4].T)
    area = (x1 - x0 + extra) * (y1 - y0 + extra)
    alive = np.ones(len(order), bool)
    kept: list[int] = []
    with np.errstate(divide="ignore", invalid="ignore"):
        for i in range(len(order)):
            if not alive[i]:
                continue
            kept.append(i)
            rest = slice(i + 1, None)
            wide = np.minimum(x1[i], x1[rest]) - np.maximum(x0[i], x0[rest]) + extra
            high = np.minimum(y1[i], y1[rest]) - np.maximum(y0[i], y0[rest]) + extra
            inter = np.maximum(wide, 0) * np.maximum(high, 0)
            whole = np.minimum(area[i], area[rest]) if of_smaller else area[i] + area[rest] - inter
            alive[rest] &= ~(inter / whole > np.float64(threshold))  # compared in double, as torchvision does
    return order[np.array(kept, np.int64)]
