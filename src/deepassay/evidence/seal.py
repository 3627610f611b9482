"""The seal: one zip with log, dossiers, scores, protocol and bundle facts; an in-toto statement of it, signed, chained.

::

    dossier/    the log (JSON), its pages, and audit.json where there is one
    scores/     dev.parquet, test.parquet and, where files were scored again, conditions.parquet: every number can be
                computed from them again; ids are salted hashes (`pseudonyms`)
    protocol/   protocol.json and openings.jsonl: what was frozen and opened when
    bundle/     bundle.json and card.md of the detector, without its graphs
    seal/       public.pem; statement.dsse.json: the signed statement, which names the SHA-256 of everything else
    SHA256SUMS  the same hashes for `sha256sum -c`

The statement is of type in-toto Statement v1 with a test-result predicate v0.1; its ``result`` speaks of the checks F01
to F12 and of nothing else. A signature shows who sealed and that nothing changed since, not that it is right.
"""

import json
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from deepassay.evidence.canonical import canonical, canonical_sha256
from deepassay.evidence.dossier import write_dossier
from deepassay.evidence.envelope import Envelope, PublicKey, SealError, SigningKey, read_public_key, unwrap, wrap
from deepassay.evidence.language import LANGUAGES, TEMPLATES, Words
from deepassay.evidence.log import AssessmentLog, parse_log
from deepassay.files import atomic_path, sha256_bytes, slug

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
FACTS = "urn:deepassay:seal:1"  # in-toto's predicates are extended by keys that are URIs
MEANING = "result, passedTests, warnedTests and failedTests speak of the checks F01 to F12; nothing here speaks of law"
ENVELOPE, PUBLIC, SUMS = "seal/statement.dsse.json", "seal/public.pem", "SHA256SUMS"
DEV, TEST, CONDITIONS = "scores/dev.parquet", "scores/test.parquet", "scores/conditions.parquet"
PROTOCOL, OPENINGS = "protocol/protocol.json", "protocol/openings.jsonl"
BUNDLE, CARD = "bundle/bundle.json", "bundle/card.md"
MAX_FILES, MAX_BYTES = 64, 2**31
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,200}")
_AGAIN = "get the sealed dossier again from who issued it"


@dataclass(frozen=True)
class Sealed:
    """A sealed dossier as it was read: nothing of it has been verified.

    Args:
        path: the zip.
        files: every file but the envelope, by name.
        envelope: the signed payload.
        statement: the payload as JSON.
    """

    path: Path
    files: Mapping[str, bytes]
    envelope: Envelope
    statement: Mapping[str, Any]

    @property
    def statement_sha256(self) -> str:
        """What the next dossier of the chain names."""
        return sha256_bytes(self.envelope.payload)

    @property
    def facts(self) -> Mapping[str, Any]:
        """What this house adds to the predicate. Raises SealError where it is not there."""
        predicate = self.statement.get("predicate")
        facts = predicate.get(FACTS) if isinstance(predicate, Mapping) else None
        if not isinstance(facts, Mapping):
            raise SealError(f"{self.path}: its statement is not one of deepassay", hint=_AGAIN)
        return facts

    def carried_key(self) -> PublicKey:
        """The public key that lies in the zip: whose it is, only the issuer can say."""
        if PUBLIC not in self.files:
            raise SealError(f"{self.path}: {PUBLIC} is missing", hint=_AGAIN)
        return read_public_key(self.files[PUBLIC], f"{self.path}: {PUBLIC}")


def log_name(log: AssessmentLog) -> str:
    """Where the log lies in the zip."""
    tool = log.tool_under_assessment
    return f"dossier/{slug(tool.biometric or tool.modality)}.json"


def page_name(log: AssessmentLog, language: str) -> str:
    """Where the page of a language lies in the zip."""
    return log_name(log).removesuffix(".json") + f".{language}.html"


def seal_dossier(
    log: AssessmentLog,
    *,
    key: SigningKey,
    folder: str | Path,
    dev: str | Path,
    test: str | Path,
    protocol: str | Path,
    bundle: str | Path,
    out: str | Path,
    conditions: str | Path | None = None,
    previous: str | Path | None = None,
    languages: Sequence[str] = LANGUAGES,
) -> Path:
    """Write log and pages once more with the facts of the seal in them, then the signed zip; the same bytes each time.

    Args:
        folder: of the dossier; log and pages in it are written again.
        dev, test: the score tables that the log was measured on.
        protocol: folder of the register (`protocol.Register`).
        bundle: folder or zip of the detector's bundle.
        conditions: scores of the test files under conditions; needed where the log has any.
        previous: sealed dossier of the same tool that this one follows.

    Returns:
        ``out``.

    Raises:
        SealError: ``previous`` is of another tool, not older, or not intact; a file is missing.
    """
    before = None if previous is None else _before(read_sealed(previous), log, key)
    if log.conditions and conditions is None:
        raise SealError(f"{folder}: the scores under conditions are missing", hint="assess the tool again")
    if log.previous_version is not None and (
        before is None or before["statement_sha256"] != log.previous_version.statement_sha256
    ):
        raise SealError(
            f"{folder}: the log compares with {log.previous_version.dossier_id}, which is not the one to follow",
            hint="seal with the same previous dossier that the assessment was made with",
        )
    sealed_log = with_seal(log, key.public, before)
    paths = write_dossier(sealed_log, folder, languages)
    files = {
        log_name(log): paths["json"].read_bytes(),
        **{page_name(log, language): paths[language].read_bytes() for language in languages},
        DEV: _content(dev),
        TEST: _content(test),
        PROTOCOL: _content(Path(protocol) / "protocol.json"),
        OPENINGS: _content(Path(protocol) / "openings.jsonl"),
        **_bundle_files(Path(bundle)),
        PUBLIC: key.public.pem(),
        **({} if conditions is None else {CONDITIONS: _content(conditions)}),
    }
    audit = Path(folder) / "audit.json"
    if audit.is_file():
        files["dossier/audit.json"] = without_examples(audit.read_bytes(), audit)
    files[SUMS] = sums(files)
    digests = {name: sha256_bytes(data) for name, data in files.items()}
    statement = statement_of(sealed_log, digests, before, renderer())
    return write_sealed(out, files, canonical(statement), key)


def with_seal(log: AssessmentLog, key: PublicKey, before: Mapping[str, Any] | None) -> AssessmentLog:
    """The log with the key, the head of the chain and what the tables hold on record, for the pages to print."""
    document = log.to_json()
    if not log.privacy.salted_ids:
        document["privacy"] |= {
            "pseudonymisation": Words("en")("P.pseudonym_sealed"),
            "pseudonymisation_zh": Words("zh")("P.pseudonym_sealed"),
        }
    document["integrity"] |= {
        "previous_head_sha256": None if before is None else before["statement_sha256"],
        "signature": {"algorithm": "Ed25519", "keyid": key.keyid, "envelope": ENVELOPE},
    }
    return parse_log(document)


def statement_of(
    log: AssessmentLog,
    digests: Mapping[str, str],
    before: Mapping[str, Any] | None,
    drawn_by: Mapping[str, str],
) -> dict[str, Any]:
    """The in-toto statement: a pure function of the log, the hashes, the previous dossier and the renderer."""
    outcome: dict[str, list[str]] = {"pass": [], "warn": [], "fail": [], "not_run": []}
    for check in log.checks:
        outcome[check.outcome if check.applicable else "pass"].append(check.id)
    left_out = [check.id for check in log.checks if not check.applicable]
    tool = log.tool_under_assessment
    result = "FAILED" if outcome["fail"] else "WARNED" if outcome["warn"] or outcome["not_run"] else "PASSED"
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": {"sha256": digests[name]}} for name in sorted(digests)],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "result": result,
            "configuration": [
                {"name": PROTOCOL, "digest": {"sha256": digests[PROTOCOL]}},
                {"name": BUNDLE, "digest": {"sha256": digests[BUNDLE]}},
            ],
            "passedTests": [name for name in outcome["pass"] if name not in left_out],
            "warnedTests": outcome["warn"],
            "failedTests": outcome["fail"],
            FACTS: {
                "meaning": MEANING,
                "dossier_id": log.dossier_id,
                "created_utc": log.created_utc,
                "tool": {
                    "provider": tool.provider, "name": tool.name, "version": tool.version,
                    "modality": tool.biometric or tool.modality, "generator": tool.generator,
                },
                "protocol_sha256": log.preregistration.protocol_sha256,
                "log_sha256": canonical_sha256(log.to_json()),
                "verdicts": {claim.id: claim.verdict for claim in log.claims},
                "not_run": outcome["not_run"],
                "not_applicable": left_out,
                "synthetic": log.synthetic,
                "renderer": dict(drawn_by),
                "sequence": 1 if before is None else before["sequence"] + 1,
                "previous": None if before is None else dict(before),
            },
        },
    }  # fmt: skip


def renderer() -> dict[str, str]:
    """What makes the pages: hashes of its source and templates, and the version of what draws."""
    from importlib import metadata

    here = Path(__file__).parent
    files = [here / "dossier.py", here / "language.py", here.parent / "figures.py", *sorted(here.glob("*_page.py"))]
    files += sorted(TEMPLATES.iterdir())
    rows = [[path.name, sha256_bytes(path.read_bytes())] for path in files if path.is_file()]
    return {"sha256": canonical_sha256(rows), "matplotlib": metadata.version("matplotlib")}


def link(sealed: Sealed) -> dict[str, Any]:
    """What a dossier says of the one that it follows. Raises SealError where that is not sealed by this house."""
    facts = sealed.facts
    try:
        return {
            "statement_sha256": sealed.statement_sha256,
            "dossier_id": str(facts["dossier_id"]),
            "created_utc": str(facts["created_utc"]),
            "sequence": int(facts["sequence"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise SealError(f"{sealed.path}: its statement lacks {error}", hint=_AGAIN) from error


def same_tool(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two ``facts`` speak of the same tool, whatever its version."""
    names = ("provider", "name", "modality")
    return [one.get("tool", {}).get(n) for n in names] == [other.get("tool", {}).get(n) for n in names]


def _before(previous: Sealed, log: AssessmentLog, key: SigningKey) -> dict[str, Any]:
    tool = log.tool_under_assessment
    mine = {"tool": {"provider": tool.provider, "name": tool.name, "modality": tool.biometric or tool.modality}}
    if not same_tool(previous.facts, mine):
        raise SealError(
            f"{previous.path}: a dossier of {previous.facts.get('tool')}, not of {tool.name}",
            hint="a chain holds dossiers of one tool, whatever its version",
        )
    if not (previous.envelope.signed_by(key.public) or previous.envelope.signed_by(previous.carried_key())):
        raise SealError(f"{previous.path}: its signature does not hold", hint=_AGAIN)
    before = link(previous)
    if datetime.fromisoformat(before["created_utc"]) >= datetime.fromisoformat(log.created_utc):
        raise SealError(
            f"{previous.path}: written {before['created_utc']}, not before this one ({log.created_utc})",
            hint="give the dossier that came before",
        )
    return before


def without_examples(data: bytes, place: Path) -> bytes:
    """A report of the audit as it is sealed: its examples, which name samples of the corpus, are counted only."""
    try:
        report = json.loads(data)
        for finding in report.get("findings", []):
            finding["examples"] = []
    except (ValueError, AttributeError, TypeError, KeyError) as error:
        raise SealError(f"{place}: not a report of the audit ({error})", hint="assess the tool again") from error
    return json.dumps(report, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def sums(files: Mapping[str, bytes]) -> bytes:
    """Text for `sha256sum -c`, of everything but itself and the envelope."""
    return "".join(f"{sha256_bytes(files[name])}  {name}\n" for name in sorted(files)).encode()


def _content(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SealError(f"{path}: cannot be read ({error})", hint="assess the tool again") from error


def _bundle_files(place: Path) -> dict[str, bytes]:
    if place.is_dir():
        return {BUNDLE: _content(place / "bundle.json"), CARD: _content(place / "card.md")}
    try:
        with zipfile.ZipFile(place) as archive:
            return {BUNDLE: archive.read("bundle.json"), CARD: archive.read("card.md")}
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise SealError(f"{place}: no bundle ({error})", hint="give the bundle's folder or zip") from error


def write_sealed(out: str | Path, files: Mapping[str, bytes], payload: bytes, key: SigningKey) -> Path:
    """Sign a payload and write the zip: uncompressed, in name order, with fixed times, so that bytes repeat."""
    envelope = json.dumps(wrap(payload, key), indent=1, sort_keys=True).encode() + b"\n"
    with atomic_path(out) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted({**files, ENVELOPE: envelope}.items()):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.create_system = 3
            archive.writestr(entry, data)
    return Path(out)


def read_sealed(path: str | Path) -> Sealed:
    """Read a sealed dossier, bounded in names, number and size; nothing is unpacked to disk.

    Raises:
        SealError: no such file, no zip, names that no sealed dossier has, or no envelope with a statement.
    """
    place = Path(path)
    if not place.is_file():
        raise SealError(f"{place}: no such file", hint="give the zip that `deepassay assess seal.key=...` wrote")
    try:
        with zipfile.ZipFile(place) as archive:
            files = _read(place, archive)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, ValueError, zlib.error, struct.error) as error:
        raise SealError(f"{place}: not a readable zip ({error})", hint=_AGAIN) from error
    if ENVELOPE not in files:
        raise SealError(f"{place}: {ENVELOPE} is missing: this is no sealed dossier", hint=_AGAIN)
    envelope = unwrap(files.pop(ENVELOPE), f"{place}: {ENVELOPE}")
    try:
        statement = json.loads(envelope.payload)
        if not isinstance(statement, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError) as error:
        raise SealError(f"{place}: the signed statement cannot be read ({error})", hint=_AGAIN) from error
    return Sealed(place, files, envelope, statement)


def _read(place: Path, archive: zipfile.ZipFile) -> dict[str, bytes]:
    entries = archive.infolist()
    if len(entries) > MAX_FILES or sum(entry.file_size for entry in entries) > MAX_BYTES:
        raise SealError(f"{place}: more files or bytes than a sealed dossier may have", hint=_AGAIN)
    out: dict[str, bytes] = {}
    for entry in entries:
        name = entry.filename
        kind = stat.S_IFMT(entry.external_attr >> 16)
        # Stored only: nothing in it can swell to more than the file on disk.
        plain = kind in (0, stat.S_IFREG) and not entry.flag_bits & 1 and entry.compress_type == zipfile.ZIP_STORED
        if not plain or not _NAME.fullmatch(name) or ".." in PurePosixPath(name).parts or name.endswith("/"):
            raise SealError(f"{place}: {name!r} is no file of a sealed dossier", hint=_AGAIN)
        if name in out:
            raise SealError(f"{place}: {name} occurs twice", hint=_AGAIN)
        with archive.open(entry) as stream:
            out[name] = stream.read(entry.file_size + 1)
        if len(out[name]) != entry.file_size:
            raise SealError(f"{place}: {name} is not of the size that the zip says", hint=_AGAIN)
    return out
