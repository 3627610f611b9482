"""What is found in a file and what is said of it: carriers (raw), marks (parsed) and findings (judged)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

GB45438 = "gb45438"
C2PA = "c2pa"


@dataclass(frozen=True, slots=True)
class Carrier:
    """A place in a file that holds, or claims to hold, a mark.

    Args:
        kind: `GB45438` or `C2PA`.
        place: where, in words: ``JPEG APP1 XMP``, ``MP4 moov.udta.meta`` ...
        key: the field name or keyword as written.
        payload: the bytes as found, metadata encoding removed where the format fixes one.
        problem: why the payload could not be taken out whole; empty where it could.
        standard_place: a place that the practice guides name; False is reported, never hidden.
    """

    kind: str
    place: str
    key: str
    payload: bytes
    problem: str = ""
    standard_place: bool = True


@dataclass(frozen=True, slots=True)
class Mark:
    """One mark of synthetic content.

    Args:
        kind: "gb45438" (an implicit label of GB 45438-2025) or "c2pa" (presence of a manifest only).
        container: JPEG, PNG, MP4, WAV ...
        place: where in the container.
        key: field name or keyword as written.
        text: the payload as text, replacement characters where it is not UTF-8; empty for c2pa.
        fields: the JSON object's fields, as found; None where the payload is not one.
        wrapped: the object stood inside ``{"AIGC": ...}``.
        problem: why ``fields`` is None; else empty.
        duplicate_keys: keys that the JSON object repeats.
        standard_place: see `Carrier`.
        trust: always "not checked": neither signatures nor who wrote the mark are verified here.
    """

    kind: str
    container: str
    place: str
    key: str
    text: str = ""
    fields: Mapping[str, Any] | None = None
    wrapped: bool = False
    problem: str = ""
    duplicate_keys: tuple[str, ...] = ()
    standard_place: bool = True
    trust: str = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing said of a mark.

    Args:
        rule: short name of the rule.
        outcome: "fail" (broken, as all sources read the rule), "disputed" (sources disagree on the rule: not decided
            here), or "note".
        message: one sentence.
    """

    rule: str
    outcome: str
    message: str


@dataclass(frozen=True, slots=True)
class Scan:
    """Everything that looking through one file gave.

    Args:
        container: what the file is, by its content.
        marks: in file order.
        problems: where the structure broke off or exceeded a limit; what lies behind was not looked at.
    """

    container: str
    marks: tuple[Mark, ...]
    problems: tuple[str, ...]
