"""MTCNN weights of facenet-pytorch's wheel as three ONNX graphs, the form in which faces are found everywhere else.

Zhang, Zhang, Li, Qiao: "Joint Face Detection and Alignment Using Multitask Cascaded Convolutional Networks", IEEE
Signal Processing Letters 23(10), 2016. The layers are written down one by one rather than traced, so that the bytes of
a graph depend on nothing but the weights, and every machine that exports them gets the same fingerprint.
"""

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from deepassay import files
from deepassay.errors import MissingDependencyError

if TYPE_CHECKING:
    import onnx

WHEEL = "facenet-pytorch"
WHEEL_VERSION = "2.5.3"
WEIGHTS_SHA256 = {
    "pnet.pt": "a2a71925e0b9996a42f63e47efc1ca19043e69558b5c523b978d611dfae49c8f",
    "rnet.pt": "bbb937de72efc9ef83b186c49f5f558467a1d7e3453a8ece0d71a886633f6a86",
    "onet.pt": "165bfbe42940416ccfb977545cf0e976d5bf321f67083ae2aaaa5c764280118d",
}
LICENCE = "MIT (facenet-pytorch 2.5.3, Tim Esler; weights converted there from davidsandberg/facenet, MIT)"
OPSET, IR_VERSION = 17, 8


def export_finder_graphs(folder: str | Path | None = None) -> dict[str, str]:
    """Write pnet.onnx, rnet.onnx, onet.onnx and finder.json, each whole or absent.

    Every graph takes (x - 127.5) / 128 of RGB as float32. P-Net: image (n, 3, h, w) -> offsets (n, 4, h', w'),
    probability (n, h', w') with free n, h and w. R-Net: (n, 3, 24, 24) -> offsets (n, 4), probability (n,).
    O-Net: (n, 3, 48, 48) -> offsets (n, 4), landmarks (n, 10: five x, then five y), probability (n,).

    Args:
        folder: ``files.cache_folder() / "finder"`` where None.

    Returns:
        SHA-256 of each file of graphs.

    Raises:
        MissingDependencyError: the wheel is not installed, or its weights are not the pinned ones.
    """
    target = Path(folder) if folder is not None else files.cache_folder() / "finder"
    hashes: dict[str, str] = {}
    for name, build in (("pnet", _pnet), ("rnet", _rnet), ("onet", _onet)):
        model = build(_weights(f"{name}.pt"))
        data = model.SerializeToString(deterministic=True)
        files.write_bytes(target / f"{name}.onnx", data)
        hashes[f"{name}.onnx"] = files.sha256_bytes(data)
    # Written last: a folder with finder.json in it is complete.
    files.write_json(
        target / "finder.json",
        {
            "schema": 1,
            "graphs": hashes,
            "weights": {"package": f"{WHEEL}=={WHEEL_VERSION}", "sha256": WEIGHTS_SHA256},
            "licence": LICENCE,
            "reference": "Zhang et al., IEEE Signal Processing Letters 23(10), 2016 (MTCNN)",
        },
    )
    return hashes


def _weights(name: str) -> dict[str, np.ndarray]:
    """One network's tensors from the wheel: a pickle, so hash first and `weights_only` after (law 8)."""
    import torch

    hint = f"pip install '{WHEEL}=={WHEEL_VERSION}' (it is part of the train extra), then run deepassay doctor --fix"
    try:
        entries = metadata.distribution(WHEEL).files or []
    except metadata.PackageNotFoundError as error:
        raise MissingDependencyError(
            f"{WHEEL} is not installed; it holds the face finder's weights", hint=hint
        ) from error
    found = [Path(str(e.locate())) for e in entries if e.as_posix().endswith(f"facenet_pytorch/data/{name}")]
    if not found or not found[0].is_file():
        raise MissingDependencyError(f"{WHEEL} is installed but holds no {name}", hint=hint)
    actual = files.sha256_file(found[0])
    if actual != WEIGHTS_SHA256[name]:
        raise MissingDependencyError(
            f"{found[0].name}: SHA-256 {actual} is not that of {WHEEL} {WHEEL_VERSION} ({WEIGHTS_SHA256[name]})",
            hint=hint,
        )
    state = torch.load(found[0], map_location="cpu", weights_only=True)
    return {key: value.to(torch.float32).numpy() for key, value in state.items()}


class _Graph:
    """Layers written one after another, with the wheel's tensors as initializers."""

    def __init__(self, weights: dict[str, np.ndarray]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def add(self, op: str, inputs: list[str], output: str, **attributes) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def tensor(self, name: str, value: np.ndarray) -> str:
        from onnx import numpy_helper

        self.initializers.append(numpy_helper.from_array(np.array(value, order="C"), name))
        return name

    def conv(self, x: str, layer: str) -> str:
        weight, bias = self.weights[f"{layer}.weight"], self.weights[f"{layer}.bias"]
        names = [x, self.tensor(f"{layer}.weight", weight), self.tensor(f"{layer}.bias", bias)]
        return self.add("Conv", names, layer, kernel_shape=list(weight.shape[2:]))

    def prelu(self, x: str, layer: str, trailing: int) -> str:
        slope = self.weights[f"{layer}.weight"].reshape((-1, *[1] * trailing))
        return self.add("PRelu", [x, self.tensor(f"{layer}.weight", slope)], layer)

    def pool(self, x: str, layer: str, kernel: int) -> str:
        return self.add("MaxPool", [x], layer, kernel_shape=[kernel] * 2, strides=[2, 2], ceil_mode=1)

    def dense(self, x: str, layer: str) -> str:
        weight, bias = self.weights[f"{layer}.weight"], self.weights[f"{layer}.bias"]
        names = [x, self.tensor(f"{layer}.weight", weight), self.tensor(f"{layer}.bias", bias)]
        return self.add("Gemm", names, layer, transB=1)

    def flat(self, x: str) -> str:
        """Channels last with width before height, as the weights were converted from MATLAB order."""
        return self.add("Flatten", [self.add("Transpose", [x], "transposed", perm=[0, 3, 2, 1])], "flat", axis=1)

    def probability(self, x: str) -> str:
        """The face's share of a two-way softmax along axis 1, without that axis."""
        soft = self.add("Softmax", [x], "softmax", axis=1)
        return self.add("Gather", [soft, self.tensor("face", np.array(1, np.int64))], "probability", axis=1)

    def model(
        self, name: str, inputs: tuple[int | str, ...], outputs: dict[str, tuple[int | str, ...]]
    ) -> "onnx.ModelProto":
        import onnx
        from onnx import TensorProto, helper

        info = lambda n, s: helper.make_tensor_value_info(n, TensorProto.FLOAT, list(s))  # noqa: E731
        graph = helper.make_graph(
            self.nodes, name, [info("image", inputs)], [info(n, s) for n, s in outputs.items()], self.initializers
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
        model.producer_name = "deepassay"
        onnx.checker.check_model(model, full_check=True)
        return model


def _pnet(weights: dict[str, np.ndarray]) -> "onnx.ModelProto":
    g = _Graph(weights)
    x = g.prelu(g.conv("image", "conv1"), "prelu1", 2)
    x = g.pool(x, "pool1", 2)
    x = g.prelu(g.conv(x, "conv2"), "prelu2", 2)
    x = g.prelu(g.conv(x, "conv3"), "prelu3", 2)
    g.probability(g.conv(x, "conv4_1"))
    g.add("Identity", [g.conv(x, "conv4_2")], "offsets")
    return g.model("pnet", ("n", 3, "h", "w"), {"offsets": ("n", 4, "oh", "ow"), "probability": ("n", "oh", "ow")})


def _rnet(weights: dict[str, np.ndarray]) -> "onnx.ModelProto":
    g = _Graph(weights)
    x = g.pool(g.prelu(g.conv("image", "conv1"), "prelu1", 2), "pool1", 3)
    x = g.pool(g.prelu(g.conv(x, "conv2"), "prelu2", 2), "pool2", 3)
    x = g.prelu(g.conv(x, "conv3"), "prelu3", 2)
    x = g.prelu(g.dense(g.flat(x), "dense4"), "prelu4", 0)
    g.probability(g.dense(x, "dense5_1"))
    g.add("Identity", [g.dense(x, "dense5_2")], "offsets")
    return g.model("rnet", ("n", 3, 24, 24), {"offsets": ("n", 4), "probability": ("n",)})


def _onet(weights: dict[str, np.ndarray]) -> "onnx.ModelProto":
    g = _Graph(weights)
    x = g.pool(g.prelu(g.conv("image", "conv1"), "prelu1", 2), "pool1", 3)
    x = g.pool(g.prelu(g.conv(x, "conv2"), "prelu2", 2), "pool2", 3)
    x = g.pool(g.prelu(g.conv(x, "conv3"), "prelu3", 2), "pool3", 2)
    x = g.prelu(g.conv(x, "conv4"), "prelu4", 2)
    x = g.prelu(g.dense(g.flat(x), "dense5"), "prelu5", 0)
    g.probability(g.dense(x, "dense6_1"))
    g.add("Identity", [g.dense(x, "dense6_2")], "offsets")
    g.add("Identity", [g.dense(x, "dense6_3")], "landmarks")
    return g.model("onet", ("n", 3, 48, 48), {"offsets": ("n", 4), "landmarks": ("n", 10), "probability": ("n",)})
