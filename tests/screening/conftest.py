"""Hand-made graphs and modalities small enough to see through: a face is a light square, a voice is anything loud."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import deepassay.modality.contract
from deepassay.calibrator import Calibration, OperatingPoint
from deepassay.files import fingerprint, sha256_file
from deepassay.labels import Status, Unusable
from deepassay.modality.views import Views

DEV = "d" * 64


class Square:
    """A face stand-in: k views of 4 x 4 pixels; dark pictures have no face. Carries one finder graph."""

    name = "face"
    input_shape = (4, 4, 3)

    def __init__(self, folder: Path, limit: int = 10) -> None:
        self.folder, self.limit = Path(folder), limit

    @property
    def finder_paths(self) -> dict[str, Path]:
        return {"pnet.onnx": self.folder / "pnet.onnx"}

    @property
    def contract(self) -> dict[str, Any]:
        return {"kind": "square", "limit": self.limit, "pool": "mean of views, most fake track"}

    @property
    def fingerprint(self) -> str:
        return fingerprint({**self.contract, "pnet": sha256_file(self.folder / "pnet.onnx")})

    def prepare(self, path: str | Path) -> Views:
        from deepassay.media.image import read_image
        from deepassay.media.probe import sniff

        if sniff(path) == "video":
            from deepassay.media.video import read_frames

            frames = read_frames(path, 4)
            images, times = list(frames.images), np.asarray(frames.times_s, dtype=np.float64)
        else:
            images, times = [read_image(path)], np.zeros(1)
        if max(int(image.max()) for image in images) < self.limit:
            raise Unusable(Status.NO_FACE, "no face was found in it")
        n = len(images)
        data = np.stack([image[:4, :4] for image in images])
        return Views(data, times, np.ones(n, np.float32), np.zeros(n, np.int32))

    def draw(self, prepared: Views, k: int, rng: np.random.Generator | None = None) -> Views:
        return prepared.take(np.unique(np.linspace(0, len(prepared) - 1, k).round().astype(int)))

    def pool(self, logits: np.ndarray, views: Views) -> float:
        return float(np.mean(logits))


class Loud:
    """A voice stand-in: windows of 100 samples; silence holds no speech."""

    name = "voice"
    input_shape = (100,)
    contract: dict[str, Any] = {"kind": "loud", "pool": "mean of windows"}  # noqa: RUF012
    fingerprint = fingerprint({"kind": "loud", "pool": "mean of windows"})

    def prepare(self, path: str | Path) -> Views:
        from deepassay.media.sound import read_sound

        signal = read_sound(path)
        if len(signal) < 1000:
            raise Unusable(Status.TOO_SHORT, f"{len(signal) / 16000:.2f} s of sound")
        if np.abs(signal).max() < 0.01:
            raise Unusable(Status.NO_SPEECH, "no speech was found in it")
        data = signal[: len(signal) // 100 * 100].reshape(-1, 100)
        n = len(data)
        return Views(data, np.arange(n) / 160, np.ones(n, np.float32), np.zeros(n, np.int32))

    def draw(self, prepared: Views, k: int, rng: np.random.Generator | None = None) -> Views:
        return prepared.take(np.unique(np.linspace(0, len(prepared) - 1, k).round().astype(int)))

    def pool(self, logits: np.ndarray, views: Views) -> float:
        return float(np.mean(logits))


def graph(shape: tuple[int, ...], kind: str, *, scale: float, outputs: int = 1, batch: Any = "n") -> bytes:
    """ONNX: logit = scale * mean of the absolute view (pixels over 255)."""
    from onnx import TensorProto, helper, numpy_helper

    element = TensorProto.UINT8 if kind == "uint8" else TensorProto.FLOAT
    nodes = [
        helper.make_node("Cast", ["views"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Abs", ["real"], ["size"]),
        helper.make_node("ReduceMean", ["size", "axes"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "scale"], ["logit"]),
        *[helper.make_node("Identity", ["logit"], [f"more{i}"]) for i in range(1, outputs)],
    ]
    constants = [
        numpy_helper.from_array(np.arange(1, 1 + len(shape), dtype=np.int64), "axes"),
        numpy_helper.from_array(np.float32(scale), "scale"),
    ]
    made = helper.make_graph(
        nodes,
        "stand_in",
        [helper.make_tensor_value_info("views", element, [batch, *shape])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch])
            for name in ["logit", *[f"more{i}" for i in range(1, outputs)]]
        ],
        constants,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9).SerializeToString()


def parts(modality: Any, **more: Any) -> dict[str, Any]:
    """Arguments of `write_bundle`: llr = score - 0.5, flagged from llr 0."""
    kind = "uint8" if modality.name == "face" else "float32"
    scale = 1 / 255 if modality.name == "face" else 1.0
    point = {"dev_table_sha256": DEV, "n_real": 100, "n_clusters": 100}
    return {
        "name": f"stand-in {modality.name}",
        "detector_onnx": graph(modality.input_shape, kind, scale=scale),
        "modality": modality,
        "calibration": Calibration(
            scale=1.0, offset=-0.5, dev_table_sha256=DEV, n_real=100, n_fake=90, informative=True
        ),
        "operating_points": [
            OperatingPoint(
                name="bpcer_5", target_bpcer=0.05, threshold=0.0, realised_bpcer=0.04, supported=True, **point
            ),
            OperatingPoint(
                name="bpcer_1", target_bpcer=0.01, threshold=0.3, realised_bpcer=0.01, supported=False, **point
            ),
        ],
        "scope": {
            "statement": "squares and noises of this test",
            "media": ["image", "video"] if modality.name == "face" else ["audio", "video"],
        },
        "licence_chain": [{"name": "weights", "licence": "Apache-2.0"}],
        "generators_seen": ["b", "a", "b"],
        "manifest_sha256s": {"train": "a" * 64},
        "synthetic": True,
        "card_md": "# a stand-in\n",
        "provenance": {"created_utc": "2026-01-01T00:00:00+00:00", "code": {"version": "0.1.0"}},
        **more,
    }  # fmt: skip


@pytest.fixture
def square(tmp_path: Path) -> Square:
    folder = tmp_path / "graphs"
    folder.mkdir()
    (folder / "pnet.onnx").write_bytes(b"a finder graph")
    return Square(folder)


@pytest.fixture(autouse=True)
def contract(monkeypatch: pytest.MonkeyPatch):
    """Bundles of this folder's tests rebuild the stand-ins; every other contract goes the real way."""
    real = deepassay.modality.contract.modality_from_contract

    def modality_from_contract(values: dict[str, Any], folder: Path) -> Any:
        if values.get("kind") == "loud":
            return Loud()
        if values.get("kind") == "square":
            return Square(folder, values["limit"])
        return real(values, folder)

    monkeypatch.setattr(deepassay.modality.contract, "modality_from_contract", modality_from_contract)


@pytest.fixture(autouse=True)
def fork(monkeypatch: pytest.MonkeyPatch):
    """Workers of this folder's tests must know the stand-ins, so they are forks."""
    monkeypatch.setattr("deepassay.screening.crew._start_method", lambda: "fork")


@pytest.fixture
def bundle_parts():
    return parts


@pytest.fixture
def make_graph():
    return graph


@pytest.fixture
def loud() -> Loud:
    return Loud()
