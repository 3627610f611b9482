"""Bundles that installed packages bring: found by their entry points, used where a command names no bundle."""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from deepassay.errors import BundleError, ConfigError

GROUP = "deepassay.bundles"
FACTS = "bundle.json"
NONE_INSTALLED = (
    "name one: --bundle runs/NAME/bundle, or install the reference bundles (pip install deepassay-reference; "
    "models/README.md says how to build that wheel)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A bundle that an installed package offers in the entry-point group ``deepassay.bundles``.

    Args:
        name: of the entry point. path: of the bundle, a folder or zip.
        package, version: of the distribution.
        modality: ``face`` or ``voice``, as its bundle.json says; every file is verified when it is loaded.
        restricted: some link of its licence chain does not allow commercial use, or does not say.
    """

    name: str
    path: Path
    package: str
    version: str
    modality: str
    restricted: bool

    def __str__(self) -> str:
        use = ", for research use" if self.restricted else ""
        return f"{self.name} ({self.package} {self.version}{use})"


def installed_bundles() -> list[Installed]:
    """Every bundle that is installed, by name.

    An entry point names a path in an importable module: ``face-reference = "deepassay_reference:FACE"``.

    Raises:
        ConfigError: an entry point that leads nowhere, by package.
        BundleError: what lies there has no readable bundle.json.
    """
    return sorted(map(_read, entry_points(group=GROUP)), key=lambda one: (one.name, one.package))


def default_bundles() -> list[Installed]:
    """The installed bundles where a command names none: at most one per modality.

    Raises:
        ConfigError: none is installed, or two judge the same modality.
    """
    found = installed_bundles()
    if not found:
        raise ConfigError("no bundle was named, and none is installed", hint=NONE_INSTALLED)
    by_modality: dict[str, Installed] = {}
    for one in found:
        other = by_modality.setdefault(one.modality, one)
        if other is not one:
            raise ConfigError(
                f"two installed bundles judge {one.modality}s: {other} and {one}",
                hint=f"name the one to use: --bundle {other.path} or --bundle {one.path}",
            )
    return list(by_modality.values())


def named_or_installed(named: Sequence[str] | None, *, tell: Any = None) -> list[str]:
    """Paths of the bundles that were named (`find_bundle`), else of the installed ones, which ``tell`` is told of.

    Args:
        named: paths or names. tell: a stream for people, or None.

    Raises: see `default_bundles`.
    """
    if named:
        return [find_bundle(word) for word in named]
    found = default_bundles()
    if tell is not None:
        print(f"bundles: {', '.join(map(str, found))}; a flag is no proof", file=tell)
    return [str(one.path) for one in found]


def find_bundle(word: str) -> str:
    """The path that a word means: a path that is there, else an installed bundle of that name, else the word itself.

    Raises:
        ConfigError: two packages install a bundle of that name.
    """
    if Path(word).exists():
        return word
    points = entry_points(group=GROUP, name=word)
    if len(points) > 1:
        both = " and ".join(str(point.dist.name) for point in points if point.dist)
        raise ConfigError(f"two packages bring a bundle {word!r}: {both}", hint="name its path (deepassay bundle list)")
    return str(_read(next(iter(points))).path) if points else word


def _read(point: EntryPoint) -> Installed:
    package, version = (point.dist.name, point.dist.version) if point.dist else ("an unknown package", "?")
    try:
        value = point.load()
        path = Path(value)
    except Exception as error:  # whatever a package does when it is imported
        raise ConfigError(
            f"{package} {version} offers the bundle {point.name} ({point.value}), which cannot be found "
            f"({type(error).__name__}: {error})",
            hint=f"install {package} again, remove it, or name a bundle with --bundle",
        ) from error
    facts = _facts(path, f"{package} {version}: {point.name}")
    links = facts.get("licence_chain") or [{}]
    return Installed(
        name=point.name, path=path, package=package, version=version, modality=str(facts["modality"]["name"]),
        restricted=any(link.get("commercial") != "yes" for link in links),
    )  # fmt: skip


def _facts(path: Path, whose: str) -> Mapping[str, Any]:
    """What bundle.json says, not verified: enough to choose by; `Bundle.load` verifies it."""
    try:
        if path.is_dir():
            facts = json.loads((path / FACTS).read_bytes())
        else:
            with zipfile.ZipFile(path) as archive:
                facts = json.loads(archive.read(FACTS))
        if not isinstance(facts["modality"]["name"], str):
            raise ValueError("no modality")
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise BundleError(
            f"{whose}: {path} is not a readable bundle ({error})", hint="install that package again, or remove it"
        ) from error
    return facts
