"""Pseudonyms: ids of samples, persons and sources as salted hashes, so that a sealed table names nobody."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from deepassay.calibrator import dev_table_hash
from deepassay.errors import AssayError
from deepassay.evidence.conditions import ConditionScores
from deepassay.evidence.pairs import ORIGINAL
from deepassay.scores import SCHEMA, ScoreTable

SALT_BYTES = 32
MARK = "pseudonym_of"


class PseudonymError(AssayError):
    """A salt that cannot be used."""


class Pseudonyms:
    """Maps ids to ``id-`` and 16 hex digits of HMAC-SHA256 under a salt; equal ids stay equal.

    Whoever has the salt can tell whether a known id is in a table; without it, guessing ids and hashing them tells
    nothing. The salt stays with the issuer, outside of the sealed dossier.

    Args:
        salt: 32 bytes.
    """

    def __init__(self, salt: bytes) -> None:
        if len(salt) != SALT_BYTES:
            raise PseudonymError(
                f"a salt of {len(salt)} bytes", hint=f"a salt has {SALT_BYTES}; delete it to get a new one"
            )
        self._salt = salt

    @classmethod
    def keep(cls, path: str | Path) -> "Pseudonyms":
        """With the salt in a file, which is made (mode 0600) where there is none.

        Raises:
            PseudonymError: the file is not a salt.
        """
        place = Path(path)
        if not place.exists():
            place.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as stream:
                stream.write(secrets.token_hex(SALT_BYTES) + "\n")
        try:
            return cls(bytes.fromhex(place.read_text().strip()))
        except (OSError, ValueError, UnicodeDecodeError) as error:
            raise PseudonymError(
                f"{place}: not a salt ({error})", hint="restore the file; a new salt gives new ids"
            ) from error

    def __call__(self, text: str) -> str:
        """The pseudonym of an id; an empty one stays empty."""
        if not text:
            return ""
        return "id-" + hmac.new(self._salt, text.encode(), hashlib.sha256).hexdigest()[:16]

    def table(self, table: ScoreTable, keep: Sequence[str] = ()) -> ScoreTable:
        """A score table without the corpus's ids: pseudonyms for samples, clusters, sources and subjects.

        Free text goes (reasons, attributes), but for the attributes in ``keep``, which the plan slices by; lengths go
        unless ``length`` is in it. The meta key ``pseudonym_of`` names the hashes of the table as it was.
        """
        out = table.table
        columns: dict[str, list] = {
            name: [self(str(value or "")) for value in out.column(name).to_pylist()]
            for name in ("sample_id", "cluster", "source_id")
        }
        columns["subjects"] = [[self(one) for one in value or ()] for value in out.column("subjects").to_pylist()]
        columns["reason"] = [""] * len(table)
        columns["attributes"] = [
            sorted(
                (key, ";".join(self(one) for one in value.split(";")) if key == ORIGINAL else value)
                for key, value in dict(row or ()).items()
                if key in keep or key == ORIGINAL
            )
            for row in out.column("attributes").to_pylist()
        ]
        if "length" not in keep:
            columns["duration_s"] = [None] * len(table)
        for name, values in columns.items():
            at = SCHEMA.get_field_index(name)
            out = out.set_column(at, SCHEMA.field(at), pa.array(values, SCHEMA.field(at).type))
        # Rows keep no order that a public list of the corpus would give away.
        order = np.argsort(np.array(columns["sample_id"], dtype=str), kind="stable")
        mark = {"hash": table.hash, "raw_hash": dev_table_hash(table)}
        return ScoreTable(out.take(pa.array(order)), {**table.meta, MARK: mark})

    def conditions(self, scores: ConditionScores) -> ConditionScores:
        """Scores under conditions, by the same pseudonyms."""
        return scores.renamed(self)


def named_hashes(table: ScoreTable) -> tuple[str, str]:
    """(hash, hash before calibration) by which bundle and register know a table, pseudonymised or not."""
    mark = table.meta.get(MARK)
    if isinstance(mark, dict):
        return str(mark["hash"]), str(mark["raw_hash"])
    return table.hash, dev_table_hash(table)
