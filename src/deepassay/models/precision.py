"""An exported graph in half precision or 8-bit integers; spectral front ends and the first layer stay as they are."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from deepassay.errors import BundleError, ConfigError
from deepassay.files import atomic_path

PRECISIONS = ("fp32", "fp16", "int8")
_HEAVY = ("Conv", "Gemm", "MatMul")
_QUANTISED = (*_HEAVY, "Add", "Clip")  # what lies between two convolutions, so that values need not change back
# One at a time: the peak of a calibration pass grows with the batch.
_BATCH = 1


def lower_precision(graph: str | Path, path: str | Path, precision: str, views: np.ndarray) -> Path:
    """Write a graph of the same input and output whose inside is fp16 or int8.

    fp16: weights and activations in half precision (for GPUs; on a CPU onnxruntime computes most of it in fp32 with
    casts around). int8: static quantisation of convolutions and matrix products (QDQ, weights per channel, ranges from
    ``views``; Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference, CVPR 2018). In both, whatever comes before a logarithm (a spectral front end spans more decades than 16
    bits hold) stays in fp32; in int8 the first layer that sees the input does too.

    Args:
        graph: fp32 ONNX file. path: of the new one, written whole or not at all. precision: fp16 or int8.
        views: (n, *shape) for the ranges of activations, from training data.

    Raises:
        BundleError: the graph cannot be converted. ConfigError: another precision.
    """
    import onnx

    if precision not in ("fp16", "int8"):
        raise ConfigError(f"precision {precision!r}", hint=f"use one of {', '.join(PRECISIONS)}")
    try:
        with atomic_path(path) as temporary:
            if precision == "fp16":
                _half(Path(graph), temporary)
            else:
                _integers(Path(graph), temporary, views)
            model = onnx.load(str(temporary))
            onnx.checker.check_model(model, full_check=True)
    except (BundleError, ConfigError):
        raise
    except Exception as error:  # the converters raise classes of many packages
        raise BundleError(
            f"the graph cannot be made {precision}: {(str(error) or type(error).__name__).splitlines()[0][:200]}",
            hint="leave this variant out; an operation of the network is not known to the converter",
        ) from error
    return Path(path)


def kept_nodes(model: Any, *, first_layer: bool) -> list[str]:
    """Names of the nodes that stay in fp32: all before a logarithm, and the first layers where asked for."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    kept: dict[str, None] = {}
    stack = [node for node in model.graph.node if node.op_type == "Log"]
    while stack:
        node = stack.pop()
        if node.name not in kept:
            kept[node.name] = None
            stack.extend(made_by[name] for name in node.input if name in made_by)
    if first_layer:
        behind: set[str] = set()  # values that have gone through a layer
        for node in model.graph.node:
            layer = node.op_type in _HEAVY and node.name not in kept
            if any(name in behind for name in node.input):
                behind.update(node.output)
            elif layer:
                kept[node.name] = None
                behind.update(node.output)
    return list(kept)


def _half(graph: Path, path: Path) -> None:
    import onnx
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = onnx.load(str(graph))
    half = convert_float_to_float16(
        model, keep_io_types=True, node_block_list=kept_nodes(model, first_layer=False)
    )  # fmt: skip
    _sort(half)
    del half.graph.value_info[:]  # types of before
    path.write_bytes(half.SerializeToString(deterministic=True))


def _sort(model: Any) -> None:
    """Nodes in an order in which each follows what it needs; the converter puts its casts at the end."""
    nodes, done = list(model.graph.node), {value.name for value in (*model.graph.input, *model.graph.initializer)}
    ordered: list[Any] = []
    while nodes:
        ready = [node for node in nodes if all(not name or name in done for name in node.input)]
        if not ready:
            raise BundleError("the converted graph has a cycle", hint="leave this variant out")
        for node in ready:
            done.update(node.output)
        ordered += ready
        nodes = [node for node in nodes if not any(node is one for one in ready)]
    del model.graph.node[:]
    model.graph.node.extend(ordered)


def _integers(graph: Path, path: Path, views: np.ndarray) -> None:
    import logging
    import tempfile

    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    if not len(views):
        raise ConfigError("no views for the ranges of int8", hint="pass views of training files")

    class Reader(CalibrationDataReader):
        """Views one at a time."""

        def __init__(self, name: str) -> None:
            self._rows: Iterator[dict[str, np.ndarray]] = (
                {name: np.ascontiguousarray(views[i : i + _BATCH])} for i in range(0, len(views), _BATCH)
            )

        def get_next(self) -> dict[str, np.ndarray] | None:
            """The next view, None at the end."""
            return next(self._rows, None)

    level = logging.getLogger().level
    with tempfile.TemporaryDirectory(prefix="deepassay-int8-") as place:
        ready = Path(place) / "ready.onnx"
        try:
            logging.getLogger().setLevel(logging.ERROR)  # the quantiser advises on every call
            quant_pre_process(str(graph), str(ready), skip_symbolic_shape=True, skip_optimization=True)
            model = onnx.load(str(ready))
            out = Path(place) / "int8.onnx"
            quantize_static(
                str(ready), str(out), Reader(model.graph.input[0].name), quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(_QUANTISED), per_channel=True, activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8, nodes_to_exclude=kept_nodes(model, first_layer=True),
            )  # fmt: skip
        finally:
            logging.getLogger().setLevel(level)
        done = onnx.load(str(out))
        del done.metadata_props[:]
        path.write_bytes(done.SerializeToString(deterministic=True))
