"""Self-supervised speech encoders from a local folder of transformers: wav2vec 2.0, XLS-R, HuBERT, WavLM; no hub."""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from deepassay.errors import ConfigError, MissingDependencyError

KINDS = ("wav2vec2", "wavlm", "hubert", "unispeech-sat")
_HINT = (
    "download one on a machine with internet (for XLS-R: huggingface-cli download facebook/wav2vec2-xls-r-300m "
    "--local-dir FOLDER) and give it as detector.folder; it holds config.json and model.safetensors"
)


@dataclass(frozen=True)
class SpeechEncoder:
    """An encoder and what goes with it.

    Args:
        network: takes sound (n, T), gives ``hidden_states``. kind: transformers' model_type.
        name: of the model, as far as its folder says. width: of a hidden state. layers: transformer blocks.
        normalise: whether it was trained on sound of zero mean and unit variance (preprocessor_config.json).
    """

    network: nn.Module
    kind: str
    name: str
    width: int
    layers: int
    normalise: bool


def encoder_from_folder(folder: str | Path, *, layers: int | None = None) -> SpeechEncoder:
    """Load a speech encoder from a folder as ``save_pretrained`` writes it.

    What draws from random generators beside the network's own dropout is switched off: SpecAugment inside the model
    and layer drop.

    Args:
        folder: with config.json and model.safetensors; preprocessor_config.json says how sound is scaled.
        layers: use the first so many transformer blocks; all by default.

    Raises:
        MissingDependencyError: no such folder, no weights in it, or no transformers.
        ConfigError: another kind of model, pickled weights only, or layers out of range.
    """
    folder = Path(folder)
    if not (folder / "config.json").is_file():
        raise MissingDependencyError(f"{folder}: no speech encoder there (config.json is missing)", hint=_HINT)
    config = _json(folder / "config.json")
    kind = str(config.get("model_type"))
    if kind not in KINDS:
        raise ConfigError(
            f"{folder}: model_type is {kind!r}",
            hint=f"known speech encoders are {', '.join(KINDS)} (XLS-R is wav2vec2)",
        )
    if not list(folder.glob("model*.safetensors")):
        if list(folder.glob("*.bin")):
            raise ConfigError(
                f"{folder}: holds pickled weights only, which are not read",
                hint="convert once with transformers: AutoModel.from_pretrained(FOLDER).save_pretrained(OTHER)",
            )
        raise MissingDependencyError(f"{folder}: config.json is there, model.safetensors is not", hint=_HINT)
    try:
        from transformers import AutoConfig, AutoModel
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "speech encoders need transformers", hint="pip install 'deepassay[train]'"
        ) from error
    total = int(config.get("num_hidden_layers", 0))
    used = total if layers is None else layers
    if not 1 <= used <= total:
        raise ConfigError(f"layers is {layers}, the encoder has {total}", hint=f"use 1 to {total}, or null for all")
    settings = AutoConfig.from_pretrained(folder, local_files_only=True)
    settings.update({"apply_spec_augment": False, "layerdrop": 0.0, "num_hidden_layers": used})
    with warnings.catch_warnings(), _no_bars():
        warnings.simplefilter("ignore")
        network, report = AutoModel.from_pretrained(
            folder, config=settings, local_files_only=True, use_safetensors=True, output_loading_info=True,
            attn_implementation="eager",
        )  # fmt: skip
    absent = sorted(name for name in report["missing_keys"] if not name.endswith("masked_spec_embed"))
    if absent or report.get("mismatched_keys"):
        raise ConfigError(
            f"{folder}: {len(absent)} tensors of the encoder are missing, such as {absent[:1] or 'none'}",
            hint="the folder is damaged or belongs to another model; save it again with save_pretrained",
        )
    network.requires_grad_(True)
    scaling = folder / "preprocessor_config.json"
    normalise = (
        bool(_json(scaling).get("do_normalize", True))
        if scaling.is_file()
        else (
            config.get("feat_extract_norm") == "layer"  # the large models, which were trained on normalised sound
        )
    )
    name = str(config.get("_name_or_path") or folder.name)
    return SpeechEncoder(network.float(), kind, name, int(settings.hidden_size), used, normalise)


@contextmanager
def _no_bars() -> Iterator[None]:
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not JSON ({error})", hint="save the model again with save_pretrained") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: not a JSON object", hint="save the model again with save_pretrained")
    return value
