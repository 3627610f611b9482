"""The implicit label of GB 45438-2025: its payload parsed, and each rule that sources report checked.

The standard's text was not at hand. Rules are those that several independent public sources quote (standard 6.1 and
Annex E, practice guides TC260-PG-20252A for provider codes and 20257A, 20259A, 202510A for places in files). Where
those sources disagree, a finding is "disputed" and nothing is decided.
"""

import base64
import binascii
import json
import re
from collections.abc import Sequence
from typing import Any

from deepassay.marks.mark import C2PA, GB45438, Carrier, Finding, Mark

FIELDS = (
    "Label", "ContentProducer", "ProduceID", "ReservedCode1", "ContentPropagator", "PropagateID", "ReservedCode2",
)  # fmt: skip
LABEL_VALUES = {"1": "synthetic", "2": "may be synthetic", "3": "suspected synthetic"}
REQUIRED_NONEMPTY = ("Label", "ContentProducer", "ProduceID")
PROVIDER_CODE = re.compile(r"00[0-9A-Z]{20}(00000|[12][0-9A-Z]{4})")
MAX_TEXT = 65_536
_CREDIT_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"  # GB 32100-2015: no I, O, S, V, Z
_CREDIT_WEIGHTS = tuple(pow(3, i, 31) for i in range(17))


def parse(carrier: Carrier, container: str) -> Mark:
    """A carrier's payload as a mark; what cannot be parsed is kept as text with the reason in ``problem``."""
    common: dict[str, Any] = {
        "kind": carrier.kind, "container": container, "place": carrier.place, "key": carrier.key,
        "standard_place": carrier.standard_place,
    }  # fmt: skip
    if carrier.kind == C2PA:
        return Mark(**common)
    text = carrier.payload.decode("utf-8", "replace")[:MAX_TEXT]
    if carrier.problem:
        return Mark(**common, text=text, problem=carrier.problem)
    if len(carrier.payload) > MAX_TEXT:
        return Mark(**common, text=text, problem=f"the payload is longer than {MAX_TEXT} bytes")
    try:
        carrier.payload.decode()
    except UnicodeDecodeError:
        return Mark(**common, text=text, problem="the payload is not UTF-8 text")
    repeated: list[str] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in items]
        repeated.extend(sorted({name for name in names if names.count(name) > 1}))
        return dict(items)

    try:
        value = json.loads(text, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        return Mark(**common, text=text, problem=_why_not_json(text))
    wrapped = isinstance(value, dict) and set(value) == {"AIGC"}
    if wrapped:
        value = value["AIGC"]
    if not isinstance(value, dict):
        return Mark(**common, text=text, problem=f"the payload is a JSON {type(value).__name__}, not an object")
    return Mark(**common, text=text, fields=value, wrapped=wrapped, duplicate_keys=tuple(repeated))


def _why_not_json(text: str) -> str:
    if not text.strip():
        return "the payload is empty"
    try:
        inner = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return "the payload is not JSON"
    return "the payload is Base64, not plain JSON" if inner.lstrip().startswith(b"{") else "the payload is not JSON"


def validate_mark(mark: Mark) -> list[Finding]:
    """Every rule about one mark that is broken, disputed or worth a note; an empty list means nothing was found wrong.

    What a file cannot show is not claimed: whether the provider exists, the id is in its log, or the mark is honest.
    """
    if mark.kind == C2PA:
        return [Finding("c2pa_trust", "note", "a C2PA manifest is present; signature and trust were not checked")]
    out: list[Finding] = []
    if "AIGC" not in mark.key:
        out.append(Finding("keyword", "note", f"the field name {mark.key!r} does not hold AIGC in capitals"))
    if not mark.standard_place:
        if mark.key.startswith("{"):
            out.append(Finding("namespace", "fail", f"the XMP property is {mark.key}, not in the TC260 namespace"))
        else:
            out.append(Finding("place", "fail", f"{mark.place} is not a place that the practice guides name"))
    elif mark.place == "PNG tEXt":
        out.append(Finding("place", "disputed", "sources disagree on PNG: XMP in iTXt, or a tEXt chunk AIGC"))
    if mark.fields is None:
        return [*out, Finding("plain_json", "fail", mark.problem)]
    if mark.wrapped:
        out.append(
            Finding("wrapper", "disputed", 'sources disagree on {"AIGC": {...}} against the bare object; both are read')
        )
    out += [Finding("duplicate_field", "fail", f"field {name} occurs more than once") for name in mark.duplicate_keys]
    return out + _fields(mark.fields)


def _fields(fields: Any) -> list[Finding]:
    out: list[Finding] = []
    out += [Finding("missing_field", "fail", f"field {name} is missing") for name in FIELDS if name not in fields]
    out += [
        Finding("unknown_field", "fail", f"field {name!r} is not of the seven") for name in fields if name not in FIELDS
    ]
    texts: dict[str, str] = {}
    for name in FIELDS:
        if name in fields and not isinstance(fields[name], str):
            kind = type(fields[name]).__name__
            out.append(Finding("string_values", "fail", f"{name} is a JSON {kind}, not a string"))
        elif name in fields:
            texts[name] = fields[name]
    present = [name for name in fields if name in FIELDS]
    if present != [name for name in FIELDS if name in fields]:
        out.append(Finding("field_order", "note", "the fields are not in the order that sources print"))
    if "Label" in texts and texts["Label"] not in LABEL_VALUES:
        out.append(Finding("label_value", "fail", f"Label is {texts['Label']!r}, not one of '1', '2', '3'"))
    for name in REQUIRED_NONEMPTY[1:]:
        if name in texts and not texts[name]:
            out.append(Finding("required_nonempty", "fail", f"{name} is empty"))
    empty = [name for name in ("ContentPropagator", "PropagateID") if texts.get(name) == ""]
    if empty:
        words = "sources disagree on the first write: a copy of the producer's values, or left empty"
        out.append(Finding("empty_propagator", "disputed", f"{' and '.join(empty)} empty; {words}"))
    odd = [name for name, text in texts.items() if any(not 0x20 < ord(c) < 0x7F or c in '"\\' for c in text)]
    if odd:
        words = "sources disagree whether the character set is a rule or a recommendation"
        out.append(Finding("charset", "disputed", f"{', '.join(odd)}: space, quote, backslash or non-ASCII; {words}"))
    for name in ("ContentProducer", "ContentPropagator"):
        if texts.get(name):
            out += _provider(name, texts[name])
    return out


def _provider(name: str, text: str) -> list[Finding]:
    if PROVIDER_CODE.fullmatch(text):
        if text[3] == "1" and not credit_code_ok(text[4:22]):
            words = "the 18 characters in it fail the check digit of GB 32100"
            return [Finding("credit_code", "note", f"{name}: {words}")]
        return []
    if re.fullmatch(r"[0-9A-Za-z]{20,}", text):
        return [Finding("provider_code", "fail", f"{name} looks like a provider code but is not one of 27 characters")]
    return [
        Finding("provider_code", "note", f"{name} is read as a name (Labelling Measures Art. 5 allows name or code)")
    ]


def credit_code_ok(code: str) -> bool:
    """The check digit of an 18-character unified social credit code (GB 32100-2015)."""
    if len(code) != 18 or any(c not in _CREDIT_ALPHABET for c in code):
        return False
    total = sum(_CREDIT_ALPHABET.index(c) * w for c, w in zip(code, _CREDIT_WEIGHTS, strict=False))
    return _CREDIT_ALPHABET[-total % 31] == code[-1]


def validate_marks(marks: Sequence[Mark]) -> list[Finding]:
    """Findings about a file's marks together, then about each: exactly one implicit label per file (6.1 c)."""
    labels = [mark for mark in marks if mark.kind == GB45438]
    out: list[Finding] = []
    if not labels:
        out.append(Finding("exactly_one", "fail", "the file carries no implicit label"))
    elif len(labels) > 1:
        same = "the same content" if len({_content(m) for m in labels}) == 1 else "different contents"
        places = ", ".join(mark.place for mark in labels)
        out.append(Finding("exactly_one", "fail", f"the file carries {len(labels)} implicit labels, {same}: {places}"))
    for mark in marks:
        out += validate_mark(mark)
    return out


def _content(mark: Mark) -> str:
    return mark.text if mark.fields is None else json.dumps(mark.fields, sort_keys=True)
