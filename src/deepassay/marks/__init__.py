"""Marks of synthetic content (GB 45438-2025, C2PA): found, parsed and validated, never removed (law 13)."""

from deepassay.marks.gb45438 import validate_mark, validate_marks
from deepassay.marks.mark import Finding, Mark, Scan
from deepassay.marks.scan import read_marks, scan, scan_stream
from deepassay.marks.source import MarkError

__all__ = [
    "Finding",
    "Mark",
    "MarkError",
    "Scan",
    "read_marks",
    "scan",
    "scan_stream",
    "validate_mark",
    "validate_marks",
]
