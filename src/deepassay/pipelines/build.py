"""Objects from configuration: ``_target_`` within an allow-list, typed constructors as the schema, one fingerprint."""

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from deepassay.errors import AssayError, ConfigError
from deepassay.files import fingerprint

ALLOWED_TARGETS = ("deepassay", "torch", "timm", "lightning", "torchvision", "transformers", "peft")
# What may differ between two runs that are the same experiment: names, places, how many hands do the work, and which
# findings of the audit are gone on with (kept in audit.json).
VOLATILE = frozenset(
    {"name", "folder", "logger", "then", "workers", "progress", "resume", "store_folder", "root", "audit",
     "num_nodes", "strategy", "save_minutes", "save_steps", "loader_timeout_s"}
)  # fmt: skip
# Part of the fingerprint, and yet a run may go on with others: a cluster gives what it has.
ELASTIC = frozenset({"accelerator", "devices", "num_workers"})


def locate(target: str) -> Any:
    """The class or function a ``_target_`` names.

    Raises:
        ConfigError: the package is not on the allow-list (law 8), or the name does not exist.
    """
    top = target.split(".")[0]
    if top not in ALLOWED_TARGETS:
        raise ConfigError(
            f"_target_ {target!r} lies outside the allow-list {list(ALLOWED_TARGETS)}",
            hint="a config may only name classes of these packages; wrap yours in a plug-in of deepassay",
        )
    module_name, _, attribute = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except ModuleNotFoundError as error:
        if error.name and not module_name.startswith(error.name):
            raise
        raise ConfigError(f"_target_ {target!r}: no module {module_name!r}", hint="correct the spelling") from error
    except AttributeError as error:
        raise ConfigError(
            f"_target_ {target!r}: {module_name} has no {attribute!r}", hint="correct the spelling"
        ) from error


def build(node: Any, **extra: Any) -> Any:
    """Build a config node: dictionaries with ``_target_`` become objects, everything else stays data.

    Args:
        node: plain data, as it comes from YAML.
        extra: keyword arguments that the caller adds to the outermost object.

    Raises:
        ConfigError: an unknown key or a missing or wrong value, naming the class and what it accepts.
    """
    if isinstance(node, Mapping):
        values = {str(key): build(value) for key, value in node.items() if key != "_target_"}
        if "_target_" not in node:
            return values
        target = str(node["_target_"])
        factory = locate(target)
        keywords = {**values, **extra}
        try:
            inspect.signature(factory).bind(**keywords)
        except TypeError as error:
            accepted = [
                name for name in inspect.signature(factory).parameters if name not in ("self", "args", "kwargs")
            ]
            raise ConfigError(
                f"{target}: {error}", hint=f"it accepts {', '.join(accepted) or 'no keys'}; remove or rename the key"
            ) from error
        except ValueError:  # a builtin without a signature: let the call itself speak
            pass
        try:
            return factory(**keywords)
        except AssayError:
            raise
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"{target}: {error}", hint="correct the value in the config or on the command line"
            ) from error
    if isinstance(node, list | tuple):
        return [build(item) for item in node]
    return node


def stable(node: Any, without: frozenset[str] = VOLATILE) -> Any:
    """The config without what may differ between two runs of the same experiment."""
    if isinstance(node, Mapping):
        return {str(key): stable(value, without) for key, value in node.items() if key not in without}
    if isinstance(node, list | tuple):
        return [stable(item, without) for item in node]
    return node


def config_fingerprint(config: Mapping[str, Any]) -> str:
    """The fingerprint shared by prepare, train, evaluate and export of one experiment."""
    return fingerprint(stable(config))


def take(config: Mapping[str, Any], known: set[str], *, verb: str) -> dict[str, Any]:
    """A verb's configuration as a dictionary, refusing keys that the verb does not know.

    Raises:
        ConfigError: names the unknown key and the known ones.
    """
    unknown = sorted(set(config) - known)
    if unknown:
        raise ConfigError(
            f"{verb}: unknown config key {unknown[0]!r}", hint=f"known keys are {', '.join(sorted(known))}; remove it"
        )
    return dict(config)
