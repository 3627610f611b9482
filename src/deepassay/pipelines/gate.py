"""The audit that a run passes before it trains or is assessed: it refuses on a block, or records what was allowed."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from deepassay.audit import AuditReport, audit, check_allowed
from deepassay.errors import ConfigError
from deepassay.files import write_json
from deepassay.manifest import Manifest
from deepassay.modality.views import Modality
from deepassay.store import Store


@dataclass(frozen=True, kw_only=True)
class Gate:
    """The key ``audit`` of `deepassay train` and `deepassay assess`.

    Args:
        allow: ids of findings that may block and are gone on with knowingly.
        skip: make no audit, knowingly; recorded, and said on the terminal.
        max_files: at most so many files are opened, drawn by the hash of their id.
        replicates: of the cluster bootstrap.
    """

    allow: tuple[str, ...] = ()
    skip: bool = False
    max_files: int = 2000
    replicates: int = 500

    @classmethod
    def from_config(cls, node: Mapping[str, Any] | None) -> "Gate":
        """From plain data; an absent key is an audit that allows nothing.

        Raises:
            ConfigError: an unknown key, a value of the wrong kind, or an allowed id that no check has.
        """
        values = dict(node or {})
        known = ("allow", "skip", "max_files", "replicates")
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ConfigError(f"audit: unknown key {unknown[0]!r}", hint=f"it accepts {', '.join(known)}")
        allow = values.get("allow") or []
        check_allowed(allow)
        if not isinstance(values.get("skip", False), bool):
            raise ConfigError(f"audit.skip is {values['skip']!r}", hint="write true or false")
        for name in ("max_files", "replicates"):
            n = values.get(name, 1)
            if isinstance(n, bool) or not isinstance(n, int) or n < 1:
                raise ConfigError(f"audit.{name} is {n!r}", hint="write a whole number of at least 1")
        return cls(**{**values, "allow": tuple(sorted(set(allow)))})

    def pass_on(
        self,
        manifest: Manifest,
        record: Path,
        console: Console,
        *,
        leave_out: Mapping[str, Any] | None = None,
        modality: Modality | None = None,
        store: Store | None = None,
        again: bool = True,
    ) -> AuditReport | None:
        """Audit, record, and refuse where something blocks; None where the audit was skipped or stands already.

        Args:
            manifest: with its splits.
            record: the JSON file that keeps the report; also written on a refusal, with ``passed: false``.
            leave_out: see `deepassay.audit.audit`.
            modality, store: probe the prepared views as well as the files.
            again: False keeps a recorded audit that passed with the same manifest, views and settings.

        Raises:
            AuditError: a block that is not allowed; names it and how to go on.
        """
        terms = {
            "allow": list(self.allow), "skip": self.skip, "max_files": self.max_files, "replicates": self.replicates,
            "views": modality.fingerprint if modality is not None else None,
        }  # fmt: skip
        if not again and _stands(record, manifest, terms):
            console.print("[bold]audit[/]  passed before, on the same data")
            return None
        if self.skip:
            facts = {"schema": "1", "name": manifest.name, "manifest_sha256": manifest.hash, "findings": []}
            write_json(record, {**facts, "terms": terms, "passed": True, "allowed": [], "skipped": True})
            console.print("[bold yellow]audit[/]  SKIPPED, knowingly: nothing is known of leaks and shortcuts")
            return None
        console.print("[bold]audit[/]  looking for leaks and shortcuts")
        report = audit(
            manifest,
            leave_out=leave_out,
            max_files=self.max_files,
            replicates=self.replicates,
            modality=modality,
            views=None if store is None else lambda sample: store.views(sample.sample_id),
            progress=console.is_terminal,
        )
        left = [f.id for f in report.blocks if f.id not in self.allow]
        write_json(record, {**report.record(self.allow), "terms": terms, "passed": not left, "skipped": False})
        report.raise_on_block(allow=self.allow)
        warned = [f.id for f in report.findings if f.severity == "warn"]
        for f in report.blocks:
            console.print(f"  allowed knowingly: {f.id}: {f.message}")
        said = f"warns of {', '.join(warned)}" if warned else "no warning"
        console.print(f"  {'nothing else blocks' if report.blocks else 'nothing blocks'}; {said}  ({record})")
        return report


def _stands(record: Path, manifest: Manifest, terms: Mapping[str, Any]) -> bool:
    """A whole record of a passed audit of the same manifest on the same terms lies there."""
    if not record.is_file():
        return False
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
    except ValueError:  # cut off or edited: the audit is made again
        return False
    return (
        isinstance(found, dict)
        and found.get("manifest_sha256") == manifest.hash
        and found.get("terms") == terms
        and found.get("passed") is True
    )
