"""All doors of public corpora by name: every `PublicCorpus` defined in a file of this folder is found by itself."""

import importlib
import pkgutil
from collections.abc import Iterator

import deepassay.corpora
from deepassay.corpora.inventory import PublicCorpus

_NO_DOORS = {"doors", "catalogue"}  # they look at the doors


def _found() -> Iterator[type[PublicCorpus]]:
    for module in sorted(pkgutil.iter_modules(deepassay.corpora.__path__), key=lambda m: m.name):
        if module.name in _NO_DOORS:
            continue
        members = vars(importlib.import_module(f"deepassay.corpora.{module.name}"))
        for value in members.values():
            own = isinstance(value, type) and value.__module__ == f"deepassay.corpora.{module.name}"
            if own and issubclass(value, PublicCorpus) and "name" in vars(value):
                yield value


def collect() -> dict[str, type[PublicCorpus]]:
    """Name -> door, by name. Two doors of one name are a mistake in this folder and raise ValueError."""
    doors: dict[str, type[PublicCorpus]] = {}
    for door in _found():
        if door.name in doors:
            raise ValueError(f"{door.__module__} and {doors[door.name].__module__} both define corpus {door.name!r}")
        doors[door.name] = door
    return dict(sorted(doors.items()))


DOORS: dict[str, type[PublicCorpus]] = collect()
