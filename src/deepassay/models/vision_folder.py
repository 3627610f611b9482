"""Image backbones from a local folder, as timm or transformers save them: config.json and model.safetensors, no hub."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import timm
import timm.data
import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from deepassay.errors import ConfigError
from deepassay.models.weights import read_weights

CLIP_TYPES = ("clip", "clip_vision_model")
_HINT = (
    "give a folder with config.json and model.safetensors, as timm's save_for_hf(safe_serialization=True) or "
    "transformers' CLIPVisionModel.save_pretrained write it"
)


@dataclass(frozen=True)
class FolderNetwork:
    """A backbone with one output and where it came from.

    Args:
        network: with pretrained weights everywhere but in the classifier.
        name: of the architecture.
        mean, std: of the pixels it was trained on, on 0..1.
    """

    network: nn.Module
    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def network_from_folder(
    folder: str | Path, *, size: int, drop_rate: float = 0.0, drop_path_rate: float = 0.0
) -> FolderNetwork:
    """Build the image network that a folder describes, and fill it with the folder's weights.

    Two kinds of folders are known. One holds a model of timm (``architecture`` in its config.json). The other holds
    CLIP (Radford et al., ICML 2021) as transformers saves it, whole or the vision tower alone; its weights go into
    timm's VisionTransformer, which computes the same function (tested against CLIPVisionModel), so that whatever holds
    for timm's networks holds for it. Position embeddings are resampled where the size is another.

    Args:
        folder: with config.json and model.safetensors; for CLIP also preprocessor_config.json where pixels are not
            scaled as OpenAI did.
        size: side of the input in pixels.

    Raises:
        ConfigError: no such folder, another kind of model, pickled weights, or tensors that do not fit.
    """
    folder = Path(folder)
    config = _read_json(folder, "config.json")
    if not (folder / "model.safetensors").is_file():
        found = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".safetensors"))
        raise ConfigError(f"{folder}: no model.safetensors (there is {found or 'no weights file'})", hint=_HINT)
    state = read_weights(folder / "model.safetensors")
    if "architecture" in config:
        return _timm(folder, config, state, size, drop_rate, drop_path_rate)
    if config.get("model_type") in CLIP_TYPES:
        return _clip(folder, config, state, size, drop_rate, drop_path_rate)
    raise ConfigError(
        f"{folder}: config.json names no architecture of timm and model_type {config.get('model_type')!r}",
        hint=f"known are models of timm and transformers' {list(CLIP_TYPES)}; {_HINT}",
    )


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    path = folder / name
    if not path.is_file():
        raise ConfigError(f"{folder}: no {name} there", hint=_HINT)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error})", hint=_HINT) from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: not a JSON object", hint=_HINT)
    return value


def fit_state(network: nn.Module, state: Mapping[str, Tensor], where: str | Path) -> None:
    """Copy pretrained tensors into a timm network with a classifier of its own; nothing else may stay random.

    Position embeddings of another grid are resampled (bicubic, as timm does). A classifier in ``state`` is not used.

    Raises:
        ConfigError: a tensor is missing, unknown, or of another shape.
    """
    target = network.state_dict()
    head = {f"{name}." for name in classifier_names(network)}
    wanted = {name for name in target if not any(name.startswith(prefix) for prefix in head)}
    given = {name: value for name, value in state.items() if not any(name.startswith(prefix) for prefix in head)}
    if "pos_embed" in given and "pos_embed" in wanted and given["pos_embed"].shape != target["pos_embed"].shape:
        given["pos_embed"] = resample_abs_pos_embed(
            given["pos_embed"],
            list(network.patch_embed.grid_size),  # type: ignore[union-attr]
            num_prefix_tokens=0 if getattr(network, "no_embed_class", False) else network.num_prefix_tokens,  # type: ignore[arg-type]
        )
    missing, unknown = sorted(wanted - set(given)), sorted(set(given) - wanted)
    other = sorted(name for name in wanted & set(given) if given[name].shape != target[name].shape)
    if missing or unknown or other:
        example = next((f"{what} {names[0]}" for what, names in (
            ("missing", missing), ("unknown", unknown), ("of another shape", other)) if names))  # fmt: skip
        raise ConfigError(
            f"{where} does not fit this network: {len(missing)} missing, {len(unknown)} unknown, {len(other)} of "
            f"another shape; {example}",
            hint="use the backbone that the weights were trained as",
        )
    network.load_state_dict({**target, **given})


def classifier_names(network: nn.Module) -> tuple[str, ...]:
    """Module names of a timm network's classifier."""
    name = (getattr(network, "pretrained_cfg", None) or {}).get("classifier") or "head"
    return (name,) if isinstance(name, str) else tuple(name)


def _timm(
    folder: Path, config: Mapping[str, Any], state: Mapping[str, Tensor], size: int, drop_rate: float, drop_path: float
) -> FolderNetwork:
    name = str(config["architecture"])
    if not timm.is_model(name):
        raise ConfigError(f"{folder}: this version of timm has no model {name!r}", hint="use another folder or timm")
    arguments = {**config.get("model_args", {}), "num_classes": 1, "drop_rate": drop_rate}
    if drop_path:
        arguments["drop_path_rate"] = drop_path
    if "global_pool" in config:
        arguments.setdefault("global_pool", config["global_pool"])
    data = config.get("pretrained_cfg", config)
    if timm.models.get_pretrained_cfg_value(name, "fixed_input_size"):
        arguments["img_size"] = size
    try:
        network = timm.create_model(name, **arguments)
    except TypeError as error:
        raise ConfigError(
            f"{folder}: timm's {name} does not take these arguments: {error}",
            hint="set detector.drop_path_rate=0, or save the folder again with this version of timm",
        ) from error
    fit_state(network, state, folder)
    usual = timm.get_pretrained_cfg(name)
    mean = data.get("mean", usual.mean if usual else timm.data.IMAGENET_DEFAULT_MEAN)
    std = data.get("std", usual.std if usual else timm.data.IMAGENET_DEFAULT_STD)
    return FolderNetwork(network, name, tuple(mean), tuple(std))


def _clip(
    folder: Path, config: Mapping[str, Any], state: Mapping[str, Tensor], size: int, drop_rate: float, drop_path: float
) -> FolderNetwork:
    vision = dict(config.get("vision_config") or {}) if config["model_type"] == "clip" else dict(config)
    # What transformers leaves out of a config is at the default of its CLIPVisionConfig, which is ViT-B/32.
    read = {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
        "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, **vision,
    }  # fmt: skip
    activations = {"quick_gelu": "quick_gelu", "gelu": "gelu"}
    if read["hidden_act"] not in activations:
        raise ConfigError(f"{folder}: activation {read['hidden_act']!r} is not known", hint="known: quick_gelu, gelu")
    width, depth, patch = int(read["hidden_size"]), int(read["num_hidden_layers"]), int(read["patch_size"])
    if size % patch:
        raise ConfigError(f"size {size} is no multiple of the patch, {patch}", hint="change detector.size")
    network = VisionTransformer(
        img_size=size, patch_size=patch, num_classes=1, embed_dim=width, depth=depth,
        num_heads=int(read["num_attention_heads"]), mlp_ratio=int(read["intermediate_size"]) / width, pre_norm=True,
        norm_layer=partial(nn.LayerNorm, eps=float(read["layer_norm_eps"])), act_layer=activations[read["hidden_act"]],
        drop_rate=drop_rate, drop_path_rate=drop_path,
    )  # fmt: skip
    try:
        fit_state(network, clip_to_timm(state, depth), folder)
    except KeyError as error:
        raise ConfigError(f"{folder}: model.safetensors holds no tensor {error}", hint=_HINT) from error
    data: Mapping[str, Any] = {}
    if (folder / "preprocessor_config.json").is_file():
        data = _read_json(folder, "preprocessor_config.json")
    mean = data.get("image_mean", timm.data.OPENAI_CLIP_MEAN)
    std = data.get("image_std", timm.data.OPENAI_CLIP_STD)
    return FolderNetwork(network, f"CLIP ViT {width}x{depth} patch {patch}", tuple(mean), tuple(std))


def clip_to_timm(state: Mapping[str, Tensor], depth: int) -> dict[str, Tensor]:
    """Tensors of transformers' CLIP vision tower (alone or inside CLIPModel) under the names of timm's
    VisionTransformer.

    Raises:
        KeyError: a tensor is not there.
    """
    whole = any(name.startswith("vision_model.") for name in state)
    tower = {
        name.removeprefix("vision_model."): value
        for name, value in state.items()
        if not whole or name.startswith("vision_model.")
    }
    out = {
        "cls_token": tower.pop("embeddings.class_embedding").reshape(1, 1, -1),
        "pos_embed": tower.pop("embeddings.position_embedding.weight").unsqueeze(0),
        "patch_embed.proj.weight": tower.pop("embeddings.patch_embedding.weight"),
    }
    tower.pop("embeddings.position_ids", None)
    tower.pop("visual_projection.weight", None)  # CLIPVisionModelWithProjection
    pairs = [("pre_layrnorm", "norm_pre"), ("post_layernorm", "norm")]
    for i in range(depth):
        theirs, ours = f"encoder.layers.{i}", f"blocks.{i}"
        for kind in ("weight", "bias"):
            parts = [tower.pop(f"{theirs}.self_attn.{name}_proj.{kind}") for name in ("q", "k", "v")]
            out[f"{ours}.attn.qkv.{kind}"] = torch.cat(parts)
        pairs += [
            (f"{theirs}.self_attn.out_proj", f"{ours}.attn.proj"),
            (f"{theirs}.layer_norm1", f"{ours}.norm1"), (f"{theirs}.layer_norm2", f"{ours}.norm2"),
            (f"{theirs}.mlp.fc1", f"{ours}.mlp.fc1"), (f"{theirs}.mlp.fc2", f"{ours}.mlp.fc2"),
        ]  # fmt: skip
    for theirs, ours in pairs:
        for kind in ("weight", "bias"):
            out[f"{ours}.{kind}"] = tower.pop(f"{theirs}.{kind}")
    return {**out, **tower}  # what is left over has no place and is refused by name
