"""Signatures: Ed25519 keys in files of one's own, and DSSE envelopes around in-toto statements."""

import base64
import binascii
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deepassay.errors import AssayError
from deepassay.files import sha256_bytes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PAYLOAD_TYPE = "application/vnd.in-toto+json"
_MAKE_ONE = "make a key with `deepassay seal keygen KEY`"


class SealError(AssayError):
    """A key, an envelope or what it seals that cannot be used."""


@dataclass(frozen=True)
class SigningKey:
    """A private Ed25519 key; `keyid` is the SHA-256 of its public half (SubjectPublicKeyInfo, DER)."""

    private: "Ed25519PrivateKey"

    @property
    def public(self) -> "PublicKey":
        """The half that others verify with."""
        return PublicKey(self.private.public_key())

    def sign(self, data: bytes) -> bytes:
        """64 bytes; the same data always gives the same signature (RFC 8032)."""
        return self.private.sign(data)


@dataclass(frozen=True)
class PublicKey:
    """A public Ed25519 key."""

    public: "Ed25519PublicKey"

    @property
    def keyid(self) -> str:
        """SHA-256 of the SubjectPublicKeyInfo in DER."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return sha256_bytes(self.public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def pem(self) -> bytes:
        """The key as PEM text."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self.public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verifies(self, data: bytes, signature: bytes) -> bool:
        """Whether this key signed these bytes."""
        from cryptography.exceptions import InvalidSignature

        try:
            self.public.verify(signature, data)
        except InvalidSignature:
            return False
        return True


def make_key(path: str | Path) -> SigningKey:
    """Write a new private key (PKCS 8, PEM, mode 0600) and, beside it, ``<path>.pub``; an existing file is kept.

    Raises:
        SealError: one of the two files exists, or cannot be written.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    place = Path(path)
    public_place = place.with_name(f"{place.name}.pub")
    if public_place.exists():
        raise SealError(f"{public_place} exists already", hint="choose another name; a key is never overwritten")
    key = SigningKey(Ed25519PrivateKey.generate())
    text = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise SealError(f"{place} exists already", hint="choose another name; a key is never overwritten") from error
    except OSError as error:
        raise SealError(f"{place} cannot be written ({error})", hint="choose another folder") from error
    with open(handle, "wb") as stream:
        stream.write(text)
    public_place.write_bytes(key.public.pem())
    return key


def read_key(path: str | Path) -> SigningKey:
    """A private key that `make_key` wrote.

    Raises:
        SealError: not such a file, another kind of key, or a file that others can read.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        data = Path(path).read_bytes()
        mode = stat.S_IMODE(Path(path).stat().st_mode)
    except OSError as error:
        raise SealError(f"{path}: no readable key ({error})", hint=_MAKE_ONE) from error
    if os.name == "posix" and mode & 0o077:
        raise SealError(f"{path}: other users can read this key (mode {mode:04o})", hint=f"chmod 600 {path}")
    try:
        key = load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise SealError(f"{path}: not a private key in PEM ({error})", hint=_MAKE_ONE) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SealError(f"{path}: not an Ed25519 key", hint=_MAKE_ONE)
    return SigningKey(key)


def read_public_key(data: bytes, where: str) -> PublicKey:
    """A public key from PEM text. Raises SealError where it is none, or of another kind."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(data)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SealError(f"{where}: not a public key in PEM", hint="give the .pub file beside the key") from error
    if not isinstance(key, Ed25519PublicKey):
        raise SealError(f"{where}: not an Ed25519 key", hint="give the .pub file that `deepassay seal keygen` wrote")
    return PublicKey(key)


def authenticated(payload_type: str, payload: bytes) -> bytes:
    """What is signed: DSSE's pre-authentication encoding, version 1."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def wrap(payload: bytes, key: SigningKey) -> dict[str, Any]:
    """A DSSE envelope around a payload, with one signature."""
    signature = key.sign(authenticated(PAYLOAD_TYPE, payload))
    return {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": PAYLOAD_TYPE,
        "signatures": [{"keyid": key.public.keyid, "sig": base64.b64encode(signature).decode()}],
    }


@dataclass(frozen=True)
class Envelope:
    """A DSSE envelope that was read: its payload, and (keyid, signature) pairs."""

    payload: bytes
    signatures: tuple[tuple[str, bytes], ...]

    def signed_by(self, key: PublicKey) -> bool:
        """Whether one of the signatures is of this key; the stated keyid is a hint and is not trusted."""
        data = authenticated(PAYLOAD_TYPE, self.payload)
        return any(key.verifies(data, signature) for _, signature in self.signatures)


def unwrap(data: bytes, where: str) -> Envelope:
    """Read an envelope. Raises SealError where it is none, or holds something else than an in-toto statement."""
    try:
        value = json.loads(data)
        if not isinstance(value, Mapping) or value.get("payloadType") != PAYLOAD_TYPE:
            raise ValueError(f"payloadType is not {PAYLOAD_TYPE}")
        payload = base64.b64decode(value["payload"], validate=True)
        pairs = tuple(
            (str(one.get("keyid", "")), base64.b64decode(one["sig"], validate=True)) for one in value["signatures"]
        )
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error, RecursionError) as error:
        raise SealError(f"{where}: not a DSSE envelope ({error})", hint="get it again from who issued it") from error
    return Envelope(payload, pairs)
