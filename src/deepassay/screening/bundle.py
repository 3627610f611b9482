"""Bundle: an exported detector as a folder or one zip, verified file by file before anything of it is used."""

import hashlib
import json
import math
import os
import re
import stat
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from deepassay.calibrator import Calibration, OperatingPoint
from deepassay.errors import AssayError, BundleError, MissingDependencyError, ScoreError
from deepassay.files import atomic_folder, atomic_path, sha256_bytes, write_bytes
from deepassay.modality.views import Modality
from deepassay.screening.abstention import AbstentionLimits, guarded

if TYPE_CHECKING:
    from deepassay.screening.envelope import Envelope, PublicKey

SCHEMA = "deepassay.bundle"
SCHEMA_VERSION = "2"
READS = ("1", SCHEMA_VERSION)  # 1 had neither precision nor abstention limits
PRECISIONS = ("fp32", "fp16", "int8")
FACTS, SUMS, CARD, DETECTOR, FINDER = "bundle.json", "SHA256SUMS", "card.md", "detector.onnx", "finder"
SIGNATURE = "signature.json"
CPU = "CPUExecutionProvider"
DTYPES = {"uint8": "tensor(uint8)", "float32": "tensor(float)"}
MAX_FILES = 64
MAX_BYTES = 4 << 30
MAX_TEXT_BYTES = 8 << 20
_SAFE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*(/[A-Za-z0-9_][A-Za-z0-9._-]*)*")
_HEX = re.compile(r"[0-9a-f]{64}")
_AGAIN = "fetch or export the bundle again; do not edit it by hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What a bundle may be asked about.

    Args:
        statement: one paragraph for people: on what it was trained, for which files its numbers hold.
        media: kinds of file it judges: image, video, audio. Others get status out_of_scope.
        not_for: uses that the numbers do not cover.
        limits: abstention limits in plain words or numbers, for readers; the view contract enforces them.
    """

    statement: str
    media: tuple[str, ...]
    not_for: tuple[str, ...] = ()
    limits: Mapping[str, Any] = field(default_factory=dict)


def write_bundle(
    path: str | Path,
    *,
    name: str,
    detector_onnx: bytes | str | Path,
    modality: Modality,
    calibration: Calibration,
    operating_points: Sequence[OperatingPoint],
    scope: Scope | Mapping[str, Any],
    licence_chain: Sequence[Mapping[str, Any]],
    generators_seen: Iterable[str],
    manifest_sha256s: Mapping[str, str],
    synthetic: bool,
    card_md: str | Callable[[Mapping[str, Any]], str],
    provenance: Mapping[str, Any],
    abstention: AbstentionLimits | None = None,
    precision: str = "fp32",
    views: int = 8,
    architecture: str = "",
    graphs: Mapping[str, bytes | str | Path] | None = None,
    created: str | None = None,
) -> "Bundle":
    """Write a bundle, whole or not at all; the same arguments give the same bytes.

    Args:
        path: the folder, or one file where it ends in ``.zip``; an existing bundle of that name is replaced.
        name: detector name, as verdicts show it.
        detector_onnx: the graph, as bytes or a file: one input (n, *modality.input_shape) uint8 or float32, one output
            (n,), logits that grow with FAKE.
        modality: its contract and fingerprint travel in the bundle.
        calibration: fitted on dev scores of this graph, with ``views`` views per file.
        operating_points: fixed on the same dev table.
        scope: see `Scope`.
        licence_chain: one mapping per link (weights, corpora, finder, run time) with at least ``name`` and ``licence``.
        generators_seen: generators among the training fakes.
        manifest_sha256s: split or corpus name -> manifest hash of what it was trained, selected and calibrated on.
        synthetic: any of that stems from the built-in synthetic corpora (law 10).
        card_md: model card for people, Markdown; or what makes it of the facts of bundle.json (`card.render_card`).
        provenance: code identity and packages (`provenance.collect`), JSON values.
        abstention: limits learnt on the same dev table; None: there are none.
        precision: of the graph: fp32, fp16 or int8.
        views: most views per file; screening uses as many as calibration did.
        architecture: what the network is, for readers.
        graphs: file name -> face-finder graph; by default ``modality.finder_paths`` where it has any.
        created: ISO 8601 time; by default ``provenance["created_utc"]``, else now.

    Raises:
        BundleError: the parts do not fit each other (shape, dtype, dev tables), or a value is not JSON.
    """
    finder: Mapping[str, bytes | str | Path] = getattr(modality, "finder_paths", {}) if graphs is None else graphs
    if abstention is None:
        abstention = AbstentionLimits(modality=modality.name, missing="none were learnt")
    scope = scope if isinstance(scope, Scope) else Scope(**{**scope, "media": tuple(scope.get("media", ()))})
    files = {DETECTOR: _content(detector_onnx)}
    files |= {f"{FINDER}/{name}": _content(graph) for name, graph in sorted(finder.items())}
    facts = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "architecture": architecture,
        "created": created or provenance.get("created_utc") or datetime.now(UTC).isoformat(timespec="seconds"),
        "synthetic": bool(synthetic),
        "modality": {
            "name": modality.name,
            "contract": dict(modality.contract),
            "fingerprint": modality.fingerprint,
            "input_shape": list(modality.input_shape),
        },
        "precision": precision,
        "views": views,
        "pooling": str(modality.contract.get("pool", "as the view contract says")),
        "calibration": calibration.to_dict(),
        "operating_points": [point.to_dict() for point in operating_points],
        "abstention": abstention.to_dict(),
        "scope": {**asdict(scope), "media": list(scope.media), "not_for": list(scope.not_for)},
        "generators_seen": sorted(set(generators_seen)),
        "licence_chain": [dict(link) for link in licence_chain],
        "manifest_sha256s": dict(manifest_sha256s),
        "provenance": dict(provenance),
    }
    files[CARD] = (card_md if isinstance(card_md, str) else card_md(facts)).encode()
    facts["files"] = {name: sha256_bytes(content) for name, content in files.items()}
    try:
        files[FACTS] = _canonical(facts)
    except (TypeError, ValueError) as error:
        raise BundleError(
            f"{path}: a value of the bundle's facts is not JSON ({error})", hint="pass plain, finite values"
        ) from error
    files[SUMS] = _sums({name: sha256_bytes(content) for name, content in files.items()})
    target = Path(path)
    from deepassay.screening.schema import check_schema

    check_schema(facts, str(target))
    Bundle(target, _verify(target, files), files, None, CPU).check()
    if target.suffix == ".zip":
        with atomic_path(target) as temporary:
            _write_zip(temporary, files)
    else:
        if target.is_file() or (target.is_dir() and any(target.iterdir()) and not (target / FACTS).is_file()):
            raise BundleError(f"{target} is there and is not a bundle", hint="give another folder, or empty this one")
        with atomic_folder(target) as temporary:
            for file_name, content in files.items():
                place = temporary / file_name
                place.parent.mkdir(exist_ok=True)
                place.write_bytes(content)
    return Bundle.load(target)


class Bundle:
    """A verified bundle, ready to predict. Made by `load` or `write_bundle`.

    Attributes:
        path: the folder or zip.
        hash: SHA-256 of its bundle.json, which holds the hashes of all other files: the bundle's identity.
        facts: the content of bundle.json.
        name, synthetic, views, generators_seen, licence_chain, precision: see `write_bundle`.
        n_bytes: size of all its files.
        abstention: limits beyond which files are not judged; empty where none were learnt.
        signature: the DSSE envelope that was signed over it, or None; see `signed_by`.
        calibration, operating_points, scope: what verdicts rest on.
        card: the model card, Markdown.
    """

    def __init__(
        self, path: Path, facts: Mapping[str, Any], files: Mapping[str, bytes], threads: int | None, provider: str,
        remote: str | None = None,
    ) -> None:  # fmt: skip
        self.path = path
        self.facts = facts
        self.hash = sha256_bytes(files[FACTS])
        self.name: str = facts["name"]
        self.synthetic: bool = facts["synthetic"]
        self.views: int = facts["views"]
        self.generators_seen: tuple[str, ...] = tuple(facts["generators_seen"])
        self.licence_chain: tuple[Mapping[str, Any], ...] = tuple(facts["licence_chain"])
        self.calibration = Calibration.from_dict(facts["calibration"])
        self.operating_points = tuple(OperatingPoint.from_dict(point) for point in facts["operating_points"])
        self.scope = Scope(
            **{
                **facts["scope"],
                "media": tuple(facts["scope"]["media"]),
                "not_for": tuple(facts["scope"]["not_for"]),
            }
        )
        self.card = files[CARD].decode()
        self.n_bytes = sum(map(len, files.values()))
        self.precision: str = facts.get("precision", "fp32")
        learnt = facts.get("abstention")
        self.abstention = (
            AbstentionLimits.from_dict(learnt)
            if learnt
            else AbstentionLimits(modality=facts["modality"]["name"], missing="a bundle of version 1 has none")
        )
        self.signature = _envelope(path, files, self.hash)
        self._detector: bytes | None = files[DETECTOR]
        self._graphs = {name: content for name, content in files.items() if name.startswith(f"{FINDER}/")}
        self._threads = threads
        self._provider = provider
        self._remote = remote
        self._session: Any = None
        self._modality: Modality | None = None
        self._guarded: Modality | None = None
        self._unpacked: tempfile.TemporaryDirectory[str] | None = None

    def __repr__(self) -> str:
        return f"Bundle({self.name!r}, {self.modality_name}, {self.hash[:12]})"

    @property
    def modality_name(self) -> str:
        """``face`` or ``voice``."""
        return self.facts["modality"]["name"]

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        sha256: str | None = None,
        threads: int | None = None,
        provider: str = CPU,
        remote: str | None = None,
        key: str | Path | None = None,
    ) -> "Bundle":
        """Read a folder or zip and verify every file of it.

        Args:
            path: what `write_bundle` wrote.
            sha256: refuse any bundle but the one with this hash (hashes inside show damage, this one shows exchange).
            threads: onnxruntime threads; at most four of those available by default.
            provider: onnxruntime execution provider.
            remote: address of the same graph on an inference server (`kserve.RemoteModel`), which then predicts.
            key: a public key, PEM: refuse a bundle that it did not sign.

        Raises:
            BundleError: a missing, extra or altered file, an unknown key or schema version, by name.
            MissingDependencyError: the provider is not there.
        """
        place = Path(path)
        files = _read(place)
        facts = _verify(place, files)
        bundle = cls(place, facts, files, threads, provider, remote)
        if sha256 is not None and bundle.hash != sha256:
            raise BundleError(
                f"{place} is bundle {bundle.hash}, not {sha256}",
                hint="fetch the bundle that was agreed on, or its new hash",
            )
        if key is not None:
            bundle.require_signature(key)
        return bundle

    def signed_by(self, key: "PublicKey") -> bool:
        """Whether this key signed this very bundle."""
        return self.signature is not None and self.signature.signed_by(key)

    def require_signature(self, key: str | Path) -> None:
        """Raises BundleError unless the public key in a file signed this bundle; SealError where that is no key."""
        from deepassay.screening.envelope import SealError, read_public_key

        try:
            public = read_public_key(Path(key).read_bytes(), str(key))
        except OSError as error:
            raise SealError(f"{key}: no readable key ({error.strerror})", hint="give the maker's .pub file") from error
        if self.signature is None:
            raise BundleError(
                f"{self.path} is not signed, and a signature by {public.keyid[:12]} was asked for",
                hint="ask its maker for the signed bundle; with `deepassay bundle sign` a maker signs one",
            )
        if not self.signed_by(public):
            raise BundleError(
                f"{self.path} is not signed by key {public.keyid[:12]} ({key})",
                hint="somebody else signed it, or the signature was altered; ask its maker for the key or the bundle",
            )

    def operating_point(self, name: str) -> OperatingPoint:
        """One operating point. Raises BundleError where the bundle has none of that name, listing those it has."""
        for point in self.operating_points:
            if point.name == name:
                return point
        names = ", ".join(point.name for point in self.operating_points)
        raise BundleError(
            f"{self.path} has no operating point {name!r}{self._too_few(name)}",
            hint=f"use one of {names}" if names else "it has none at all: export it again with dev data",
        )

    def _too_few(self, name: str) -> str:
        """Why an operating point of a name like bpcer_0.1 is not there, where the rule of 3 is the reason."""
        rate = re.fullmatch(r"bpcer_(\d+(?:\.\d+)?)", name)
        if rate is None or not self.operating_points or not 0 < float(rate[1]) < 100:
            return ""
        have = min(min(point.n_real, point.n_clusters) for point in self.operating_points)
        need = math.ceil(300 / float(rate[1]) - 1e-9)
        return (
            f": such a false-alarm rate needs at least {need} independent real dev files (rule of 3), and there were "
            f"{have}"
            if have < need
            else ""
        )

    def modality(self, *, limits: bool = True) -> Modality:
        """What turns files into views, rebuilt from the contract and the bundle's own finder graphs; built once.

        Args:
            limits: refuse files beyond the abstention limits, with status out_of_scope, once they are scored.

        Raises:
            BundleError: this version of the package would prepare other views than those the bundle was calibrated on.
        """
        if self._modality is None:
            from deepassay.modality.contract import modality_from_contract

            wanted = self.facts["modality"]
            modality: Modality = modality_from_contract(wanted["contract"], self._graph_folder())
            if modality.fingerprint != wanted["fingerprint"] or modality.name != wanted["name"]:
                raise BundleError(
                    f"{self.path}: this version prepares views unlike the bundle's "
                    f"({modality.fingerprint[:12]}, not {wanted['fingerprint'][:12]})",
                    hint="screen with the version named under provenance in bundle.json, or export the bundle again",
                )
            self._modality = modality
            self._guarded = guarded(modality, self.abstention) if self.abstention else modality
        assert self._guarded is not None
        return self._guarded if limits else self._modality

    def predict(self, data: np.ndarray, batch_size: int | None = None) -> np.ndarray:
        """Logits (n,) float64 of views (n, *input_shape), uncalibrated, higher = more likely fake.

        Args:
            data: views. batch_size: views at a time; by default one on the CPU, where that is quickest and smallest and
                gives a file the same logits in any company, and 32 on other devices.

        Raises:
            BundleError: the graph cannot be run, or is not what bundle.json says.
            ScoreError: data of another shape or dtype.
        """
        session = self._open()
        shape, kind = session.get_inputs()[0].shape, session.get_inputs()[0].type
        data = np.ascontiguousarray(data)
        if data.shape[1:] != tuple(self.facts["modality"]["input_shape"]) or DTYPES.get(str(data.dtype)) != kind:
            raise ScoreError(
                f"{self.name}: views of shape {data.shape} and {data.dtype}, and the graph takes {shape} and {kind}",
                hint="prepare views with bundle.modality()",
            )
        out = np.empty(len(data), dtype=np.float64)
        batch_size = batch_size or (1 if self._provider == CPU and self._remote is None else 32)
        for begin in range(0, len(data), batch_size):
            batch = data[begin : begin + batch_size]
            out[begin : begin + batch_size] = session.run(None, {session.get_inputs()[0].name: batch})[0]
        return out

    def check(self) -> None:
        """Open the graph and compare it with bundle.json. Raises BundleError."""
        self._open()

    @property
    def graph(self) -> bytes:
        """The detector, ONNX. Raises BundleError where the bundle was altered since it was loaded."""
        if self._detector is not None:
            return self._detector
        files = _read(self.path)
        _verify(self.path, files)
        if sha256_bytes(files[FACTS]) != self.hash:
            raise BundleError(f"{self.path}: {FACTS} was altered since it was loaded", hint=_AGAIN)
        return files[DETECTOR]

    def session(self) -> Any:
        """The open onnxruntime session of the graph, or the remote one."""
        return self._open()

    def to_zip(self, path: str | Path) -> Path:
        """Write the bundle as one zip with fixed times: the same bundle always gives the same bytes."""
        files = _read(self.path)
        if sha256_bytes(files.get(FACTS, b"")) != self.hash:
            raise BundleError(f"{self.path}: {FACTS} was altered since it was loaded", hint=_AGAIN)
        _verify(self.path, files)
        with atomic_path(path) as temporary:
            _write_zip(temporary, files)
        return Path(path)

    def sign(self, key: str | Path) -> "Bundle":
        """Put a signature beside the facts, in place of any before, and return the bundle anew; its hash stays.

        The signature is Ed25519 over an in-toto statement of the hash of bundle.json, in a DSSE envelope. The same key
        always gives the same bytes.

        Args:
            key: file of a private key (`deepassay seal keygen`).

        Raises:
            SealError: no such key. BundleError: the bundle was altered since it was loaded.
        """
        from deepassay.screening.envelope import read_key, wrap

        files = _read(self.path)
        _verify(self.path, files)
        if sha256_bytes(files[FACTS]) != self.hash:
            raise BundleError(f"{self.path}: {FACTS} was altered since it was loaded", hint=_AGAIN)
        statement = {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": FACTS, "digest": {"sha256": self.hash}}],
            "predicateType": "urn:deepassay:bundle:1",
            "predicate": {"name": self.name, "modality": self.modality_name, "precision": self.precision},
        }
        payload = json.dumps(statement, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
        files[SIGNATURE] = (json.dumps(wrap(payload, read_key(key)), sort_keys=True, indent=1) + "\n").encode()
        if self.path.is_dir():
            write_bytes(self.path / SIGNATURE, files[SIGNATURE])
        else:
            with atomic_path(self.path) as temporary:
                _write_zip(temporary, files)
        return Bundle.load(self.path, sha256=self.hash)

    def _graph_folder(self) -> Path:
        """A folder with the verified finder graphs; always our own copy, so that nobody can change them in between."""
        if self._unpacked is None:
            self._unpacked = tempfile.TemporaryDirectory(prefix="deepassay-")
            for name, content in self._graphs.items():
                (Path(self._unpacked.name) / name.removeprefix(f"{FINDER}/")).write_bytes(content)
        return Path(self._unpacked.name)

    def _open(self) -> Any:
        if self._session is None:
            session = self._local()
            self._check_graph(session)
            if self._remote is not None:
                from deepassay.screening.kserve import RemoteModel, check_same_graph

                remote = RemoteModel(self._remote)
                self._check_graph(remote)
                dtype = next(kind for kind, name in DTYPES.items() if name == session.get_inputs()[0].type)
                check_same_graph(remote, session, tuple(self.facts["modality"]["input_shape"]), dtype)
                session = remote
            self._session, self._detector = session, None
        return self._session

    def _local(self) -> Any:
        import onnxruntime

        available = onnxruntime.get_available_providers()
        if self._provider not in available:
            raise MissingDependencyError(
                f"onnxruntime has no {self._provider} here, only {', '.join(available)}",
                hint=f"install the onnxruntime build for that device, or use {CPU}",
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads or min(4, _cores())
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        # Threads that spin between two files take time from decoding the next one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return onnxruntime.InferenceSession(self._detector or b"", options, providers=[self._provider])
        except Exception as error:  # onnxruntime raises classes of its own, without a common base
            raise BundleError(
                f"{self.path}: {DETECTOR} cannot be opened ({str(error).splitlines()[0][:200]})", hint=_AGAIN
            ) from error

    def _check_graph(self, session: Any) -> None:
        inputs, outputs = session.get_inputs(), session.get_outputs()
        shape = tuple(self.facts["modality"]["input_shape"])
        wrong = ""
        if len(inputs) != 1 or len(outputs) != 1:
            wrong = f"{len(inputs)} inputs and {len(outputs)} outputs, not one of each"
        elif tuple(inputs[0].shape[1:]) != shape or isinstance(inputs[0].shape[0], int):
            wrong = f"input shape {inputs[0].shape}, not a free batch of {shape}"
        elif inputs[0].type not in DTYPES.values():
            wrong = f"input type {inputs[0].type}, not one of {', '.join(DTYPES.values())}"
        elif len(outputs[0].shape) != 1:
            wrong = f"output shape {outputs[0].shape}, not one logit per view"
        if wrong:
            raise BundleError(f"{self.path}: {DETECTOR} has {wrong}", hint="export the detector again")


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _content(source: bytes | str | Path) -> bytes:
    return source if isinstance(source, bytes) else Path(source).read_bytes()


def _canonical(facts: Mapping[str, Any]) -> bytes:
    """The one form of bundle.json: readable, and the same bytes for the same facts."""
    return (json.dumps(facts, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _sums(hashes: Mapping[str, str]) -> bytes:
    """Text that ``sha256sum -c`` reads; ends with its own hash, so that damage to it is told from damage to a file."""
    body = "".join(f"{hashes[name]}  {name}\n" for name in sorted(hashes))
    return f"{body}# {sha256_bytes(body.encode())}  the lines above\n".encode()


def _write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.create_system = 3
            archive.writestr(entry, files[name])


def _read(place: Path) -> dict[str, bytes]:
    """Every file of a folder or zip by its name, bounded in number and size; nothing is unpacked to disk."""
    if place.is_dir():
        return _read_folder(place)
    if not place.is_file():
        raise BundleError(f"{place}: no such bundle", hint="give the folder or zip that `deepassay export` wrote")
    try:
        with zipfile.ZipFile(place) as archive:
            return _read_zip(place, archive)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, ValueError, zlib.error, struct.error) as error:
        raise BundleError(
            f"{place}: not a readable zip ({error})", hint="give the folder or zip that `deepassay export` wrote"
        ) from error


def _read_folder(place: Path) -> dict[str, bytes]:
    names = []
    for folder, folders, files in os.walk(place):
        for name in sorted(folders + files):
            full = Path(folder, name)
            relative = full.relative_to(place).as_posix()
            if full.is_symlink() or not (full.is_dir() or full.is_file()):
                raise BundleError(f"{place}: {relative} is a link or no plain file", hint=_AGAIN)
            if full.is_file():
                names.append((relative, full, full.stat().st_size))
    _check_names(place, [(name, size) for name, _, size in names])
    return {name: full.read_bytes() for name, full, _ in names}


def _read_zip(place: Path, archive: zipfile.ZipFile) -> dict[str, bytes]:
    entries = [entry for entry in archive.infolist() if not entry.filename.endswith("/")]
    for entry in archive.infolist():
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR) or entry.flag_bits & 1:
            raise BundleError(f"{place}: {entry.filename} is a link, encrypted or no plain file", hint=_AGAIN)
    _check_names(place, [(entry.filename, entry.file_size) for entry in entries])
    out = {}
    for entry in entries:
        with archive.open(entry) as stream:
            try:
                out[entry.filename] = stream.read(entry.file_size + 1)
            except (zipfile.BadZipFile, EOFError, zlib.error) as error:
                raise BundleError(f"{place}: {entry.filename} was altered ({error})", hint=_AGAIN) from error
        if len(out[entry.filename]) != entry.file_size:
            raise BundleError(f"{place}: {entry.filename} is not of the size that the zip says", hint=_AGAIN)
    return out


def _check_names(place: Path, sizes: Sequence[tuple[str, int]]) -> None:
    seen: set[str] = set()
    for name, size in sizes:
        if not _SAFE_NAME.fullmatch(name) or ".." in PurePosixPath(name).parts:
            raise BundleError(f"{place}: {name!r} is no name of a bundle's file", hint=_AGAIN)
        if name.casefold() in seen:
            raise BundleError(f"{place}: {name} occurs twice", hint=_AGAIN)
        seen.add(name.casefold())
        if size > (MAX_TEXT_BYTES if name in (FACTS, SUMS, CARD, SIGNATURE) else MAX_BYTES):
            raise BundleError(f"{place}: {name} has {size} bytes, more than a bundle may", hint=_AGAIN)
    if len(sizes) > MAX_FILES or sum(size for _, size in sizes) > MAX_BYTES:
        raise BundleError(f"{place}: more files or bytes than a bundle may have", hint=_AGAIN)


def _verify(place: Path, files: Mapping[str, bytes]) -> dict[str, Any]:
    """The facts, once every file is there, unaltered and known."""
    for name in (SUMS, FACTS):
        if name not in files:
            raise BundleError(
                f"{place}: {name} is missing", hint="give the folder or zip that `deepassay export` wrote"
            )
    recorded = _recorded(place, files[SUMS])
    missing, extra = sorted(set(recorded) - set(files)), sorted(set(files) - set(recorded) - {SUMS, SIGNATURE})
    if missing:
        raise BundleError(f"{place}: {missing[0]} is missing", hint=_AGAIN)
    if extra:
        raise BundleError(f"{place}: {extra[0]} does not belong to the bundle", hint=f"move it away, or {_AGAIN}")
    for name, digest in recorded.items():
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise BundleError(f"{place}: {name} was altered", hint=_AGAIN)
    facts = _parse(place, files[FACTS])
    _check_facts(facts, str(place))
    if facts["files"] != {name: digest for name, digest in recorded.items() if name != FACTS}:
        raise BundleError(f"{place}: {FACTS} and {SUMS} name different files or hashes", hint=_AGAIN)
    for name in (DETECTOR, CARD):
        if name not in facts["files"]:
            raise BundleError(f"{place}: {name} is missing", hint=_AGAIN)
    for name in facts["files"]:
        if name not in (DETECTOR, CARD) and not re.fullmatch(rf"{FINDER}/[^/]+\.onnx", name):
            raise BundleError(f"{place}: {name} is of no kind that this version knows", hint=_AGAIN)
    return facts


def _recorded(place: Path, sums: bytes) -> dict[str, str]:
    out: dict[str, str] = {}
    lines = sums.decode(errors="replace").splitlines()
    for line in lines[:-1]:
        digest, _, name = line.partition("  ")
        out[name] = digest
    if not out or FACTS not in out or _sums(out) != sums or not all(_HEX.fullmatch(d) for d in out.values()):
        raise BundleError(f"{place}: {SUMS} was altered", hint=_AGAIN)
    return out


def _envelope(place: Path, files: Mapping[str, bytes], digest: str) -> "Envelope | None":
    """The signature beside the facts, which must be of these very facts; by whom is for `signed_by` to say."""
    if SIGNATURE not in files:
        return None
    from deepassay.screening.envelope import SealError, unwrap

    try:
        envelope = unwrap(files[SIGNATURE], f"{place}: {SIGNATURE}")
        subjects = json.loads(envelope.payload)["subject"]
        if subjects != [{"name": FACTS, "digest": {"sha256": digest}}]:
            raise ValueError("it is of another bundle")
    except (SealError, ValueError, KeyError, TypeError, RecursionError) as error:
        text = error.message if isinstance(error, SealError) else str(error)
        raise BundleError(f"{place}: {SIGNATURE} cannot be used ({text})", hint=_AGAIN) from error
    return envelope


def _parse(place: Path, content: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) != len(pairs):
            raise ValueError("a key occurs twice")
        return out

    try:
        facts = json.loads(content, object_pairs_hook=unique)
        if not isinstance(facts, dict):
            raise ValueError("not an object")
        if facts.get("schema") != SCHEMA or facts.get("schema_version") not in READS:
            raise BundleError(
                f"{place}: {FACTS} has schema {facts.get('schema')!r} version {facts.get('schema_version')!r}; "
                f"this version reads {SCHEMA} version {' and '.join(READS)}",
                hint="use the version of deepassay that wrote it, or export it again",
            )
        if _canonical(facts) != content:
            raise ValueError("not in the canonical form")
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{place}: {FACTS} cannot be read ({error})", hint=_AGAIN) from error
    return facts


@contextmanager
def _naming(place: str):
    try:
        yield
    except BundleError:
        raise
    except (AssayError, TypeError, ValueError, KeyError, OverflowError) as error:
        text = error.message if isinstance(error, AssayError) else f"{type(error).__name__}: {error}"
        raise BundleError(f"{place}: {FACTS} cannot be used ({text})", hint=_AGAIN) from error


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _hashes(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(v, str) and _HEX.fullmatch(v) for v in value.values())


def _links(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(link, dict) and all(isinstance(link.get(key), str) and link[key] for key in ("name", "licence"))
        for link in value
    )


_MODALITY: dict[str, Callable[[Any], Any]] = {
    "name": lambda v: v in ("face", "voice"),
    "contract": lambda v: isinstance(v, dict),
    "fingerprint": _text,
    "input_shape": lambda v: isinstance(v, list) and v and all(isinstance(n, int) and n > 0 for n in v),
}
_SCOPE: dict[str, Callable[[Any], Any]] = {
    "statement": lambda v: _text(v) and v.strip(),
    "media": lambda v: _texts(v) and v and set(v) <= {"image", "video", "audio"},
    "not_for": _texts,
    "limits": lambda v: isinstance(v, dict),
}
_FACTS: dict[str, Callable[[Any], Any]] = {
    "schema": lambda v: v == SCHEMA,
    "schema_version": lambda v: v in READS,
    "name": lambda v: _text(v) and v,
    "architecture": _text,
    "created": _text,
    "synthetic": lambda v: isinstance(v, bool),
    "modality": lambda v: _record(v, _MODALITY, "modality"),
    "precision": lambda v: v in PRECISIONS,
    "views": lambda v: isinstance(v, int) and not isinstance(v, bool) and v > 0,
    "pooling": _text,
    "calibration": lambda v: isinstance(v, dict) and Calibration.from_dict(v),
    "operating_points": lambda v: isinstance(v, list) and all(OperatingPoint.from_dict(point) for point in v),
    "abstention": lambda v: isinstance(v, dict) and _limits(v),
    "scope": lambda v: _record(v, _SCOPE, "scope"),
    "generators_seen": _texts,
    "licence_chain": _links,
    "manifest_sha256s": _hashes,
    "provenance": lambda v: isinstance(v, dict),
    "files": _hashes,
}


_SINCE_2 = ("precision", "abstention")


def _limits(value: dict[str, Any]) -> bool:
    AbstentionLimits.from_dict(value)
    return True


def _record(value: Any, known: Mapping[str, Callable[[Any], Any]], where: str) -> bool:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not an object")
    prefix = f"{where}." if where else ""
    unknown, missing = sorted(set(value) - set(known)), sorted(set(known) - set(value))
    if unknown:
        raise ValueError(f"unknown key {prefix}{unknown[0]}")
    if missing:
        raise ValueError(f"missing key {prefix}{missing[0]}")
    for key, good in known.items():
        if not good(value[key]):
            raise ValueError(f"{prefix}{key} is {json.dumps(value[key])[:80]}")
    return True


def _check_facts(facts: Mapping[str, Any], place: str) -> None:
    """Refuse unknown or missing keys, wrong types, and parts that do not belong together. Raises BundleError."""
    with _naming(place):
        old = facts["schema_version"] == "1"
        _record(dict(facts), {k: v for k, v in _FACTS.items() if not (old and k in _SINCE_2)}, "")
        limits = facts.get("abstention")
        if limits is not None and limits["modality"] != facts["modality"]["name"]:
            raise ValueError("the abstention limits are of another modality")
        points = facts["operating_points"]
        if len({point["name"] for point in points}) != len(points):
            raise ValueError("two operating points have the same name")
        for point in points:
            if point["dev_table_sha256"] != facts["calibration"]["dev_table_sha256"]:
                raise ValueError(f"operating point {point['name']} was fixed on another dev table than the calibration")
