"""Findings of an audit, numbered by failure mode, and the report that people and later steps read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from deepassay.errors import LeakError
from deepassay.files import sha256_bytes

BLOCK, WARN, PASS, SKIP = "block", "warn", "pass", "skip"
SHOWN = 5  # examples of one finding


class AuditError(LeakError):
    """An audit found something that must stop training and assessment."""


@dataclass(frozen=True, slots=True)
class AuditFinding:
    """The outcome of one check.

    Args:
        id: ``overlap.subject``, ``near_duplicates``, ``shortcut.silence`` ...
        failure: F02, F03, F04 or F05, or empty.
        severity: `BLOCK`, `WARN`, `PASS` or `SKIP`.
        message: one sentence.
        statistic: the numbers behind it, JSON values.
        examples: what it was found in; values of ``subject`` are replaced by salted hashes in `AuditReport.to_dict`.
        hint: what to do about a block or warning.
    """

    id: str
    failure: str
    severity: str
    message: str
    statistic: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[Mapping[str, Any], ...] = ()
    hint: str = ""


@dataclass(frozen=True)
class AuditReport:
    """All checks of one audit, passed and skipped ones included.

    Args:
        name, manifest_sha256, synthetic: of the manifest.
        samples: how many the manifest has.
        looked_at: how many files were opened.
        findings: in a fixed order.
        overlap_counts: id column -> values that occur in more than one split.
        near_duplicates: ``method``, ``threshold``, ``pairs_across_splits``; None where it was skipped.
    """

    name: str
    manifest_sha256: str
    synthetic: bool
    samples: int
    looked_at: int
    findings: tuple[AuditFinding, ...]
    overlap_counts: Mapping[str, int]
    near_duplicates: Mapping[str, Any] | None

    @property
    def blocks(self) -> list[AuditFinding]:
        """Findings that must stop a run."""
        return [f for f in self.findings if f.severity == BLOCK]

    def to_dict(self) -> dict[str, Any]:
        """JSON values; subjects as hashes salted with the manifest's (law 12)."""
        rows = []
        for f in self.findings:
            examples = [
                {k: self._hidden(v) if k == "subject" else v for k, v in example.items()} for example in f.examples
            ]
            rows.append(
                {"id": f.id, "failure": f.failure, "severity": f.severity, "message": f.message,
                 "statistic": dict(f.statistic), "examples": examples, "hint": f.hint}
            )  # fmt: skip
        return {
            "schema": "1", "name": self.name, "manifest_sha256": self.manifest_sha256, "synthetic": self.synthetic,
            "samples": self.samples, "looked_at": self.looked_at, "findings": rows,
            "overlap_counts": dict(self.overlap_counts),
            "near_duplicates": None if self.near_duplicates is None else dict(self.near_duplicates),
        }  # fmt: skip

    def record(self, allow: Sequence[str] = ()) -> dict[str, Any]:
        """What a run keeps: `to_dict`, and which blocks were gone on with knowingly."""
        return {**self.to_dict(), "allowed": sorted({f.id for f in self.blocks} & set(allow))}

    def _hidden(self, value: Any) -> str:
        return "subject-" + sha256_bytes(f"{self.manifest_sha256}\0{value}".encode())[:12]

    def raise_on_block(self, *, allow: Sequence[str] = ()) -> None:
        """Fail loudly.

        Args:
            allow: ids of findings that the user knows of and goes on with; the caller records them.

        Raises:
            AuditError: a block that is not allowed.
        """
        left = [f for f in self.blocks if f.id not in allow]
        if left:
            lines = "\n".join(f"  {f.id}: {f.message}" for f in left)
            ids = ",".join(dict.fromkeys([*allow, *(f.id for f in left)]))
            hints = " ".join(dict.fromkeys(f.hint for f in left if f.hint))
            raise AuditError(
                f"{self.name}: the audit blocks on {len(left)} findings\n{lines}",
                hint=f"{hints} To go on knowingly, which is recorded with the results: audit.allow=[{ids}]".strip(),
            )


def show(report: AuditReport, *, allow: Sequence[str] = (), console: Any = None) -> None:
    """Print a report for people."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = console or Console()
    style = {BLOCK: "bold red", WARN: "yellow", PASS: "green", SKIP: "dim"}
    mark = " [bold]SYNTHETIC[/]" if report.synthetic else ""
    title = f"audit of {escape(report.name)}{mark}: {report.samples} samples, {report.looked_at} files opened"
    table = Table("check", "", "outcome", "what was found", title=title)
    for f in report.findings:
        lines = [escape(f.message)]
        if f.severity in (BLOCK, WARN):
            lines += [f"[dim]{escape(_example(e))}[/]" for e in f.examples[:3]]
            lines += [f"hint: {escape(f.hint)}"] if f.hint else []
        word = f"{f.severity} (allowed)" if f.severity == BLOCK and f.id in allow else f.severity
        table.add_row(escape(f.id), f.failure, f"[{style[f.severity]}]{word}[/]", "\n".join(lines))
    console.print(table)
    left = [f.id for f in report.blocks if f.id not in allow]
    if left:
        console.print(f"[bold red]blocked[/] by {', '.join(left)}; --allow ID goes on knowingly")
    else:
        console.print("[green]nothing blocks[/]; an audit finds known kinds of leaks only")


def _example(example: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{k}: {' | '.join(f'{a} {b}' for a, b in v.items()) if isinstance(v, Mapping) else v}"
        for k, v in example.items()
    )
