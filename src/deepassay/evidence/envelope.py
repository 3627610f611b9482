"""Signatures of evidence: the keys and envelopes that bundles are signed with too (`screening.envelope`)."""

from deepassay.screening.envelope import (
    PAYLOAD_TYPE,
    Envelope,
    PublicKey,
    SealError,
    SigningKey,
    authenticated,
    make_key,
    read_key,
    read_public_key,
    unwrap,
    wrap,
)

__all__ = [
    "PAYLOAD_TYPE",
    "Envelope",
    "PublicKey",
    "SealError",
    "SigningKey",
    "authenticated",
    "make_key",
    "read_key",
    "read_public_key",
    "unwrap",
    "wrap",
]
