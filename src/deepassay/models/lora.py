"""Low-rank adapters (LoRA) beside the linear and 1x1 convolution layers of any network: attach, and fold in."""

import warnings
from collections.abc import Sequence

from torch import nn

from deepassay.errors import ConfigError, MissingDependencyError


def adaptable(network: nn.Module, *, without: Sequence[str] = ()) -> list[str]:
    """Names of the layers that adapters can be put beside: linear ones and ungrouped 1x1 convolutions.

    Args:
        without: names of modules, such as the classifier, that are left out with all below them.
    """
    return [
        name
        for name, module in network.named_modules()
        if not any(name == left or name.startswith(f"{left}.") for left in without)
        and (
            isinstance(module, nn.Linear)
            or (isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1) and module.groups == 1)
        )
    ]


def attach(
    network: nn.Module, *, rank: int, alpha: float | None = None, dropout: float = 0.0,
    targets: Sequence[str] | None = None, without: Sequence[str] = (),
) -> list[str]:  # fmt: skip
    """Freeze a network and put trainable low-rank adapters beside its layers, in place.

    A layer W becomes W + (alpha / rank) B A with A (rank, in) random and B (out, rank) zero, so that nothing changes
    before training (Hu et al., "LoRA", ICLR 2022, section 4.1); for 1x1 convolutions likewise over channels.

    Args:
        rank: of the adapters. alpha: scale, ``2 * rank`` by default.
        dropout: on what enters the adapters.
        targets: endings of layer names, such as ["qkv", "proj"]; all adaptable layers by default.
        without: modules that stay as they are, and trainable (the classifier).

    Returns:
        the names of the adapted layers.

    Raises:
        ConfigError: a value out of range, or no layer of these names.
        MissingDependencyError: peft is not installed.
    """
    if rank < 1 or not 0 <= dropout < 1 or (alpha is not None and alpha <= 0):
        raise ConfigError(
            f"lora rank {rank}, alpha {alpha}, dropout {dropout}",
            hint="rank from 1 (8 is usual), alpha above 0 or null, dropout in [0, 1)",
        )
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise MissingDependencyError("LoRA needs peft", hint="pip install 'deepassay[train]'") from error

    names = adaptable(network, without=without)
    if targets is not None:
        picked = [name for name in names if any(name == t or name.endswith(f".{t}") for t in targets)]
        if not picked:
            raise ConfigError(
                f"no layer's name ends in one of {list(targets)}",
                hint=f"layers that can be adapted are {sorted({n.rsplit('.', 1)[-1] for n in names})}",
            )
        names = picked
    if not names:
        raise ConfigError("the network has no linear and no 1x1 convolution layer", hint="set lora_rank=0")
    config = LoraConfig(
        r=rank, lora_alpha=alpha if alpha is not None else 2 * rank, lora_dropout=dropout, target_modules=names  # type: ignore[arg-type]
    )  # fmt: skip
    trainable = [p for left in without for p in network.get_submodule(left).parameters() if p.requires_grad]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        inject_adapter_in_model(config, network)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(".lora_" in name)
    for parameter in trainable:
        parameter.requires_grad_(True)
    return names


def fold(module: nn.Module) -> int:
    """Add every adapter below a module into the layer that it belongs to, in place; returns how many there were.

    The function stays the same up to rounding; the network is then as large and as fast as without adapters.
    """
    from peft.tuners.lora import LoraLayer

    folded = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLayer):
                child.merge()  # type: ignore[operator]
                setattr(parent, name, child.get_base_layer())
                folded += 1
    return folded
