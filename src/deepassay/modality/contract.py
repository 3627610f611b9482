"""From a contract, as a bundle carries it, back to the modality that wrote it."""

from pathlib import Path
from typing import Any

from deepassay import files
from deepassay.errors import BundleError, ConfigError, MissingDependencyError
from deepassay.modality.face import FaceModality
from deepassay.modality.finder import GRAPHS
from deepassay.modality.views import Modality
from deepassay.modality.voice import VoiceModality

_HINT = "use a bundle or store written by this version of deepassay, unaltered"


def modality_from_contract(contract: dict[str, Any], folder: str | Path | None = None) -> Modality:
    """Rebuild a modality whose contract is exactly the one given.

    Args:
        contract: what `Modality.contract` returned.
        folder: holds pnet.onnx, rnet.onnx and onet.onnx for faces (the user's cache where None); not used for voices.

    Raises:
        BundleError: an unknown modality, version or setting, a contract that this version would write differently, or
            graphs that are not the ones the contract names.
        MissingDependencyError: a graph is not there.
    """
    kind, version = contract.get("modality"), contract.get("version")
    settings = contract.get("settings")
    if kind not in ("face", "voice") or version != 1 or not isinstance(settings, dict):
        raise BundleError(f"view contract of modality {kind!r}, version {version!r}, cannot be used", hint=_HINT)
    modality: FaceModality | VoiceModality
    try:
        if kind == "face":
            modality = FaceModality(finder_folder=None if folder is None else str(folder), **settings)
        else:
            modality = VoiceModality(**settings)
    except (TypeError, ConfigError) as error:
        detail = error.message if isinstance(error, ConfigError) else str(error)
        raise BundleError(f"view contract: a setting cannot be used ({detail})", hint=_HINT) from error
    if isinstance(modality, FaceModality):
        try:
            hashes = modality.finder_hashes
        except MissingDependencyError as error:
            if folder is None:
                raise
            raise BundleError(error.message, hint=_HINT) from error
        wanted = contract.get("finder") or {}
        for name in GRAPHS:
            if hashes[name] != wanted.get(name):
                raise BundleError(f"{name}: is not the graph that the view contract names", hint=_HINT)
    if files.canonical_json(modality.contract) != files.canonical_json(contract):
        different = sorted(k for k in {*contract, *modality.contract} if contract.get(k) != modality.contract.get(k))
        raise BundleError(f"view contract: this version reads {', '.join(different)} differently", hint=_HINT)
    return modality
