"""Leaks and shortcuts, looked for before anyone trains: overlaps, near-duplicates, labels that nuisances give away.

Checks are numbered by failure mode: F02 (identity and source overlap), F03 (codec, container, size), F04 (silence,
duration), F05 (near-duplicates). What was not looked at is listed as skipped, with the reason.
"""

from deepassay.audit.checks import BLOCKING, audit, audit_for_training, check_allowed
from deepassay.audit.door import add_arguments, main, open_manifest
from deepassay.audit.duplicates import DETAIL_COSINE, MEL_COSINE, aligned_cosine
from deepassay.audit.hashes import HAMMING, cluster_hashes, near_hashes
from deepassay.audit.looking import log_mels, picture_prints
from deepassay.audit.report import BLOCK, PASS, SKIP, WARN, AuditError, AuditFinding, AuditReport, show

__all__ = [
    "BLOCK",
    "BLOCKING",
    "DETAIL_COSINE",
    "HAMMING",
    "MEL_COSINE",
    "PASS",
    "SKIP",
    "WARN",
    "AuditError",
    "AuditFinding",
    "AuditReport",
    "add_arguments",
    "aligned_cosine",
    "audit",
    "audit_for_training",
    "check_allowed",
    "cluster_hashes",
    "log_mels",
    "main",
    "near_hashes",
    "open_manifest",
    "picture_prints",
    "show",
]
