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
SCHEMA = 2  # of finder.json; 1 had PReLU layers
_BLOCK = 16  # channels in one block of onnxruntime's layout on wide processors


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
            "schema": SCHEMA,
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
    """Layers written one after another, with the wheel's tensors as initializers.

    PReLU is written as a x + (1 - a) max(x, 0), in convolutions, and channels are filled up to sixteens: onnxruntime
    runs that in its blocked layout throughout, in half the time that it needs with its own PReLU in between.
    """

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

    def convolve(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray | None = None, group: int = 1) -> str:
        names = [x, self.tensor(f"{name}.weight", weight.astype(np.float32))]
        if bias is not None:
            names.append(self.tensor(f"{name}.bias", bias.astype(np.float32)))
        return self.add("Conv", names, name, kernel_shape=list(weight.shape[2:]), group=group)

    def conv(self, x: str, layer: str) -> str:
        return self.convolve(x, layer, self.weights[f"{layer}.weight"], self.weights[f"{layer}.bias"])

    def entrance(self, x: str, follower: str) -> str:
        """conv1 and prelu1 as the sum of two convolutions, one of them rectified.

        That sum is convex in each channel, so a slope above 1 does not fit into it. Such a channel is handed on
        unrectified, with its positive part in a spare channel, and the follower's weights join them again; the pooling
        in between may go first, because the slope is positive.
        """
        weight, bias, slope = (self.weights[n] for n in ("conv1.weight", "conv1.bias", "prelu1.weight"))
        steep = np.nonzero(slope > 1)[0]
        n = len(slope)
        width = -(-(n + len(steep)) // _BLOCK) * _BLOCK
        linear, rectified = (np.zeros((width, *weight.shape[1:])) for _ in range(2))
        biases = np.zeros((2, width))
        a = np.where(slope > 1, 1.0, slope.astype(np.float64))
        linear[:n], biases[0, :n] = a[:, None, None, None] * weight, a * bias
        rectified[:n], biases[1, :n] = (1 - a)[:, None, None, None] * weight, (1 - a) * bias
        after = np.zeros(
            (len(self.weights[f"{follower}.weight"]), width, *self.weights[f"{follower}.weight"].shape[2:])
        )
        after[:, :n] = self.weights[f"{follower}.weight"]
        for spare, channel in enumerate(steep, start=n):
            rectified[spare], biases[1, spare] = weight[channel], bias[channel]
            after[:, spare] = (1 - slope[channel]) * after[:, channel]
            after[:, channel] *= slope[channel]
        self.weights = {**self.weights, f"{follower}.weight": after}
        positive = self.add("Relu", [self.convolve(x, "conv1_positive", rectified, biases[1])], "conv1_rectified")
        return self.add("Add", [positive, self.convolve(x, "conv1_linear", linear, biases[0])], "prelu1")

    def prelu(self, x: str, layer: str) -> str:
        slope = self.weights[f"{layer}.weight"].astype(np.float64).reshape(-1, 1, 1, 1)
        positive = self.add("Relu", [x], f"{layer}_positive")
        scaled = self.convolve(x, f"{layer}_scaled", slope, group=len(slope))
        return self.add("Add", [self.convolve(positive, f"{layer}_rest", 1 - slope, group=len(slope)), scaled], layer)

    def pool(self, x: str, layer: str, kernel: int) -> str:
        return self.add("MaxPool", [x], layer, kernel_shape=[kernel] * 2, strides=[2, 2], ceil_mode=1)

    def gemm(self, x: str, name: str, weight: np.ndarray, bias: np.ndarray) -> str:
        names = [x, self.tensor(f"{name}.weight", weight), self.tensor(f"{name}.bias", bias)]
        return self.add("Gemm", names, name, transB=1)

    def dense(self, x: str, layer: str, channels: int, prelu: str) -> str:
        """A dense layer on a feature map, and its PReLU; the weights were converted from MATLAB order, width first."""
        weight = self.weights[f"{layer}.weight"]
        side = round((weight.shape[1] / channels) ** 0.5)
        weight = weight.reshape(-1, side, side, channels).transpose(0, 3, 2, 1).reshape(len(weight), -1)
        y = self.gemm(self.add("Flatten", [x], "flat", axis=1), layer, weight, self.weights[f"{layer}.bias"])
        return self.add("PRelu", [y, self.tensor(f"{prelu}.weight", self.weights[f"{prelu}.weight"])], prelu)

    def joined(self, face: str, others: dict[str, str]) -> tuple[np.ndarray, np.ndarray, dict[str, int]]:
        """Weights and biases of the heads as one, in the order of the lengths returned.

        A two-way softmax's share of the face is the logistic function of the difference of its two inputs.
        """
        head, bias = self.weights[f"{face}.weight"].astype(np.float64), self.weights[f"{face}.bias"].astype(np.float64)
        weights, biases, lengths = [head[1:] - head[:1]], [bias[1:] - bias[:1]], {"logit": 1}
        for name, layer in others.items():
            weights.append(self.weights[f"{layer}.weight"])
            biases.append(self.weights[f"{layer}.bias"])
            lengths[name] = len(biases[-1])
        return np.concatenate(weights).astype(np.float32), np.concatenate(biases).astype(np.float32), lengths

    def split(self, x: str, lengths: dict[str, int]) -> None:
        """The joined heads apart again along axis 1, and the probability out of the logit."""
        from onnx import helper

        sizes = self.tensor("lengths", np.array(list(lengths.values()), np.int64))
        self.nodes.append(helper.make_node("Split", [x, sizes], list(lengths), name="heads", axis=1))
        squeezed = self.add("Squeeze", ["logit", self.tensor("axis", np.array([1], np.int64))], "squeezed")
        self.add("Sigmoid", [squeezed], "probability")

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
    x = g.pool(g.entrance("image", "conv2"), "pool1", 2)
    x = g.prelu(g.conv(x, "conv2"), "prelu2")
    x = g.conv(x, "conv3")
    # prelu3 lies inside the heads: they are linear.
    weight, bias, lengths = g.joined("conv4_1", {"offsets": "conv4_2"})
    slope = weights["prelu3.weight"].astype(np.float64)[None, :, None, None]
    positive = g.convolve(g.add("Relu", [x], "prelu3_positive"), "heads_positive", weight * (1 - slope), bias)
    g.split(g.add("Add", [g.convolve(x, "heads_linear", weight * slope), positive], "together"), lengths)
    return g.model("pnet", ("n", 3, "h", "w"), {"offsets": ("n", 4, "oh", "ow"), "probability": ("n", "oh", "ow")})


def _rnet(weights: dict[str, np.ndarray]) -> "onnx.ModelProto":
    g = _Graph(weights)
    x = g.pool(g.entrance("image", "conv2"), "pool1", 3)
    x = g.pool(g.prelu(g.conv(x, "conv2"), "prelu2"), "pool2", 3)
    x = g.prelu(g.conv(x, "conv3"), "prelu3")
    x = g.dense(x, "dense4", 64, "prelu4")
    weight, bias, lengths = g.joined("dense5_1", {"offsets": "dense5_2"})
    g.split(g.gemm(x, "together", weight, bias), lengths)
    return g.model("rnet", ("n", 3, 24, 24), {"offsets": ("n", 4), "probability": ("n",)})


def _onet(weights: dict[str, np.ndarray]) -> "onnx.ModelProto":
    g = _Graph(weights)
    x = g.pool(g.entrance("image", "conv2"), "pool1", 3)
    x = g.pool(g.prelu(g.conv(x, "conv2"), "prelu2"), "pool2", 3)
    x = g.pool(g.prelu(g.conv(x, "conv3"), "prelu3"), "pool3", 2)
    x = g.prelu(g.conv(x, "conv4"), "prelu4")
    x = g.dense(x, "dense5", 128, "prelu5")
    weight, bias, lengths = g.joined("dense6_1", {"offsets": "dense6_2", "landmarks": "dense6_3"})
    g.split(g.gemm(x, "together", weight, bias), lengths)
    return g.model("onet", ("n", 3, 48, 48), {"offsets": ("n", 4), "landmarks": ("n", 10), "probability": ("n",)})
