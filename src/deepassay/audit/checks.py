"""The audit: every check on one manifest in one report, and the gate that training and assessment pass."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deepassay.audit.duplicates import exact_copies, near_duplicates
from deepassay.audit.looking import Looked, drawn, look_at, unreadable
from deepassay.audit.overlaps import contradictions, origins, overlaps
from deepassay.audit.parents import shared_parents
from deepassay.audit.probes import FAMILIES, probes
from deepassay.audit.report import SKIP, AuditFinding, AuditReport
from deepassay.audit.views import FAMILIES as VIEW_FAMILIES
from deepassay.audit.views import view_probes
from deepassay.errors import ConfigError, ManifestError
from deepassay.manifest import Manifest, Sample
from deepassay.modality.views import Modality, Views

# Every finding that can block, and so be allowed.
BLOCKING = (
    *(f"overlap.{name}" for name in ("subject", "source", "sha256", "path", "generator")),
    *("parents", "labels", "near_duplicates", "copies"),
    *(f"shortcut.{name}" for name in (*FAMILIES, "all")),
    *(f"view.{name}" for name in (*VIEW_FAMILIES, "all")),
)


def audit(
    manifest: Manifest,
    *,
    leave_out: Mapping[str, Sequence[str]] | None = None,
    look: bool = True,
    max_files: int = 5000,
    replicates: int = 1000,
    seed: int = 0,
    progress: bool = False,
    modality: Modality | None = None,
    views: Callable[[Sample], Views] | None = None,
    max_views: int = 1000,
) -> AuditReport:
    """Every check on one manifest.

    Args:
        manifest: with or without splits.
        leave_out: split -> generators or families claimed to occur in that split only; by default what the split
            recorded in ``manifest.info["split"]["leave_out"]``.
        look: open files; False checks the table only.
        max_files: at most so many files are opened, drawn by the hash of their id; the report says so.
        replicates: of the cluster bootstrap.
        seed: of folds and bootstrap.
        progress: show a bar on stderr.
        modality: probe also the views that this modality would feed a detector; not on the built-in synthetic corpora,
            where what tells the views apart is the forgery by construction (at strength 0 nothing does).
        views: gives views that are prepared already (a store); without it ``modality`` prepares the files anew.
        max_views: of at most so many files.

    Raises:
        ManifestError: the manifest is empty, or files that were to be opened are not there.
    """
    if not len(manifest):
        raise ManifestError(f"{manifest.name}: nothing to audit", hint="prepare the corpus again")
    claimed = (manifest.info.get("split") or {}).get("leave_out", {}) if leave_out is None else leave_out
    findings, counts = overlaps(manifest, claimed)
    findings += [*shared_parents(manifest), contradictions(manifest), origins(manifest)]
    near: dict[str, Any] | None = None
    looked: list[Looked] = []
    if look:
        looked = look_at(manifest, drawn(manifest, max_files), progress)
        findings += unreadable(looked)
        found, near = near_duplicates(looked)
        findings.append(found)
        exact, copies = exact_copies(looked)
        findings.append(exact)
        counts["sha256"] = max(counts.get("sha256", 0), copies)
        findings += probes(looked, replicates, seed)
        if modality is not None and manifest.synthetic:
            why = "built-in synthetic corpus: what its views differ in is the forgery, by construction"
            findings.append(AuditFinding("view", "F03", SKIP, why))
        elif modality is not None:
            findings += view_probes(manifest, drawn(manifest, max_views), modality, replicates, seed, progress, views)
    else:
        why = "files were not opened"
        findings += [
            AuditFinding(name, failure, SKIP, why)
            for name, failure in (("near_duplicates", "F05"), ("copies", "F05"), ("shortcut", "F03"))
        ]
    return AuditReport(
        name=manifest.name,
        manifest_sha256=manifest.hash,
        synthetic=manifest.synthetic,
        samples=len(manifest),
        looked_at=len(looked),
        findings=tuple(findings),
        overlap_counts=counts,
        near_duplicates=near,
    )


def audit_for_training(
    manifest: Manifest,
    allow: Sequence[str] = (),
    *,
    look: bool = True,
    max_files: int = 2000,
    replicates: int = 500,
    seed: int = 0,
    progress: bool = False,
) -> AuditReport:
    """The audit of a manifest before a training of your own; `deepassay train` and `assess` run theirs.

    Args:
        manifest: with its splits.
        allow: ids of findings that may block and are gone on with knowingly, for example ``[shortcut.container]``.
        look, max_files, replicates, seed, progress: see `audit`.

    Raises:
        AuditError: a block that is not allowed; names it and how to go on.
        ConfigError: an allowed id that no check has.
    """
    check_allowed(allow)
    report = audit(manifest, look=look, max_files=max_files, replicates=replicates, seed=seed, progress=progress)
    report.raise_on_block(allow=allow)
    return report


def check_allowed(allow: Sequence[str]) -> None:
    """Refuse a list of allowed findings that is no list, or names what no check reports.

    Raises:
        ConfigError: see above; names those that block.
    """
    if isinstance(allow, str):
        raise ConfigError(f"allowed findings are the text {allow!r}", hint=f"write a list: [{allow}]")
    unknown = sorted(set(allow) - set(BLOCKING))
    if unknown:
        raise ConfigError(
            f"there is no finding {unknown[0]!r} that could be allowed", hint=f"those that block: {', '.join(BLOCKING)}"
        )
