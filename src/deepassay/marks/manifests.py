"""C2PA manifests read by c2pa-python (extra `marks`): what was signed, whether it still fits, and trust told apart."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepassay.errors import MissingDependencyError
from deepassay.marks.source import MarkError

# Nothing is fetched: no remote manifest, no answer about revoked certificates (law 8).
_OFFLINE = {"verify": {"remote_manifest_fetch": False, "ocsp_fetch": False}}
_UNTRUSTED = "signingCredential.untrusted"
_SYNTHETIC = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "algorithmicMedia")
HINT = "pip install 'deepassay[marks]'; without it only the presence of a manifest is told"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A C2PA manifest as the library judged it.

    Args:
        state: ``valid`` (signature and hashes fit the file), ``invalid``, or ``unreadable``.
        trust: ``trusted`` or ``untrusted`` by the trust list given; ``not checked`` where none was given.
        issuer: organisation in the signing certificate, as it says of itself.
        generator: the program that wrote the claim, as it says of itself.
        says_synthetic: an action of the claim names a digital source type of generated media; None where none is named.
        failures: codes of what did not hold, trust left out.
    """

    state: str
    trust: str = "not checked"
    issuer: str = ""
    generator: str = ""
    says_synthetic: bool | None = None
    failures: tuple[str, ...] = ()


def c2pa_version() -> str:
    """Version of the library, empty where it is not installed."""
    try:
        import c2pa
    except ImportError:
        return ""
    return str(c2pa.sdk_version())


def read_manifest(path: str | os.PathLike[str], *, trust_anchors: str | os.PathLike[str] | None = None) -> Manifest:
    """The embedded manifest of a file in which one was found.

    "Valid" says that the signature fits; it says nothing about who may sign. The library reports a certificate that is
    not on the trust list beside "Valid": the two are given apart here.

    Args:
        trust_anchors: PEM file of certificates that are trusted; none: trust is not checked.

    Raises:
        MissingDependencyError: c2pa-python is not installed.
        MarkError: the trust list cannot be read.
    """
    try:
        import c2pa
    except ImportError as error:
        raise MissingDependencyError(f"{path}: its C2PA manifest needs c2pa-python", hint=HINT) from error
    settings: dict[str, Any] = dict(_OFFLINE)
    if trust_anchors is not None:
        try:
            settings["trust"] = {"trust_anchors": Path(trust_anchors).read_text(encoding="ascii")}
        except (OSError, UnicodeDecodeError) as error:
            raise MarkError(
                f"{trust_anchors}: not a readable list of certificates", hint="give a PEM file of trusted certificates"
            ) from error
    try:
        reader = c2pa.Reader.try_create(str(path), context=c2pa.Context(c2pa.Settings.from_dict(settings)))
        if reader is None:
            return Manifest("unreadable", failures=("no embedded manifest",))
        with reader:
            return _judged(json.loads(reader.json()), str(reader.get_validation_state()), trust_anchors is not None)
    except (c2pa.C2paError, OSError, ValueError) as error:
        return Manifest("unreadable", failures=(f"{type(error).__name__}: {error}"[:200],))


def _judged(store: dict[str, Any], state: str, checked: bool) -> Manifest:
    active = dict(store.get("manifests", {}).get(store.get("active_manifest"), {}))
    results = dict(store.get("validation_results", {}).get("activeManifest", {}))
    codes = [str(one.get("code")) for one in results.get("failure", [])]
    codes += [str(one.get("code")) for one in store.get("validation_status", []) if str(one.get("code")) not in codes]
    kinds = [
        str(action["digitalSourceType"])
        for assertion in active.get("assertions", [])
        if str(assertion.get("label", "")).startswith("c2pa.actions")
        for action in dict(assertion.get("data") or {}).get("actions", [])
        if action.get("digitalSourceType")
    ]
    trust = "not checked"
    if checked:
        trust = "untrusted" if _UNTRUSTED in codes else "trusted"
    makers = active.get("claim_generator_info") or []
    maker = makers[0] if makers else {}
    return Manifest(
        state="valid" if state in ("Valid", "Trusted") else "invalid",
        trust=trust,
        issuer=str(dict(active.get("signature_info") or {}).get("issuer") or ""),
        generator=" ".join(str(maker[key]) for key in ("name", "version") if maker.get(key)),
        says_synthetic=any(kind.rsplit("/", 1)[-1] in _SYNTHETIC for kind in kinds) if kinds else None,
        failures=tuple(code for code in codes if code != _UNTRUSTED),
    )
