"""Each rule of the implicit label fires on a label that breaks it, and disputed rules are never decided."""

import base64
import json

import pytest

from deepassay.marks import Mark, validate_mark, validate_marks
from deepassay.marks import gb45438 as rules
from deepassay.marks.mark import C2PA, GB45438, Carrier

CODE = "001191110000600037341L10001"  # the credit code inside is the textbook example of its check digit
GOOD = {
    "Label": "1", "ContentProducer": CODE, "ProduceID": "P-0001", "ReservedCode1": "",
    "ContentPropagator": CODE, "PropagateID": "P-0001", "ReservedCode2": "",
}  # fmt: skip


def mark(payload, *, key="TC260:AIGC", place="JPEG APP1 XMP", **more) -> Mark:
    if isinstance(payload, dict):
        payload = json.dumps(payload)
    data = payload if isinstance(payload, bytes) else payload.encode()
    return rules.parse(Carrier(GB45438, place, key, data, **more), "JPEG")


def outcomes(found: Mark) -> dict[str, str]:
    return {finding.rule: finding.outcome for finding in validate_mark(found)}


def without(name: str) -> dict:
    return {key: value for key, value in GOOD.items() if key != name}


def test_a_good_label_has_no_findings():
    assert validate_mark(mark(GOOD)) == []
    assert validate_marks([mark(GOOD)]) == []


def test_rules_equal_the_golden_digest(shared):
    digest = json.loads((shared / "golden" / "gb45438_rules.json").read_text())["implicit"]
    assert list(rules.FIELDS) == digest["fields_in_order"]
    assert set(rules.LABEL_VALUES) == set(digest["label_values"])
    assert list(rules.REQUIRED_NONEMPTY) == digest["required_nonempty"]["agreed"]
    assert "^" + rules.PROVIDER_CODE.pattern + "$" == digest["provider_code_27"]["regex"]


@pytest.mark.parametrize("name", rules.FIELDS)
def test_deleting_any_field_fails(name):
    assert outcomes(mark(without(name)))["missing_field"] == "fail"


@pytest.mark.parametrize("name", rules.FIELDS)
def test_a_number_in_any_field_fails(name):
    assert outcomes(mark({**GOOD, name: 1}))["string_values"] == "fail"


@pytest.mark.parametrize(
    ("payload", "rule"),
    [
        ({**GOOD, "Label": "4"}, "label_value"),
        ({**GOOD, "Label": "AIGC"}, "label_value"),
        ({**GOOD, "Label": ""}, "label_value"),
        ({**GOOD, "ContentProducer": ""}, "required_nonempty"),
        ({**GOOD, "ProduceID": ""}, "required_nonempty"),
        ({**GOOD, "Extra": "x"}, "unknown_field"),
        ({**GOOD, "ContentProducer": CODE[:-1]}, "provider_code"),
        ({**GOOD, "ContentProducer": "11" + CODE[2:]}, "provider_code"),
        (json.dumps(GOOD)[:-1], "plain_json"),
        ("", "plain_json"),
        ("[1]", "plain_json"),
        (b"\xff\xfe{", "plain_json"),
        ("[" * 5000, "plain_json"),
        ('{"Label":"1",' + json.dumps(GOOD)[1:], "duplicate_field"),
        (base64.b64encode(json.dumps(GOOD).encode()), "plain_json"),
        ("x" * 70_000, "plain_json"),
    ],
)
def test_each_mutation_fails_its_rule(payload, rule):
    assert outcomes(mark(payload))[rule] == "fail"


def test_base64_is_named_as_such():
    found = mark(base64.b64encode(json.dumps(GOOD).encode()))
    assert "Base64" in found.problem


@pytest.mark.parametrize(
    ("payload", "rule"),
    [
        ({**GOOD, "ContentPropagator": "", "PropagateID": ""}, "empty_propagator"),
        ({**GOOD, "ReservedCode1": "a b"}, "charset"),
        ({**GOOD, "ReservedCode1": 'a"b'}, "charset"),
        ({**GOOD, "ReservedCode1": "中"}, "charset"),
        ({"AIGC": GOOD}, "wrapper"),
    ],
)
def test_where_sources_disagree_nothing_is_decided(payload, rule):
    found = outcomes(mark(payload))
    assert found[rule] == "disputed"
    assert "fail" not in found.values()


def test_png_text_chunk_is_disputed_and_wrong_places_fail():
    assert outcomes(mark(GOOD, key="AIGC", place="PNG tEXt")) == {"place": "disputed"}
    assert outcomes(mark(GOOD, key="AIGC", place="WAV LIST/INFO", standard_place=False)) == {"place": "fail"}
    assert outcomes(mark(GOOD, key="{http://x/}AIGC", standard_place=False)) == {"namespace": "fail"}


def test_notes_are_not_failures():
    assert outcomes(mark({**GOOD, "ContentProducer": "Some Studio"}))["provider_code"] == "note"
    assert outcomes(mark({**GOOD, "ContentProducer": "001191110100000000000010001"})) == {"credit_code": "note"}
    assert outcomes(mark(dict(reversed(GOOD.items())))) == {"field_order": "note"}
    assert outcomes(mark(GOOD, key="aigc")) == {"keyword": "note"}
    assert outcomes(rules.parse(Carrier(C2PA, "PNG caBX", "caBX", b""), "PNG")) == {"c2pa_trust": "note"}


def test_credit_code_check_digit():
    assert rules.credit_code_ok("91350100M000100Y43")
    assert not rules.credit_code_ok("91350100M000100Y44")
    assert not rules.credit_code_ok("91350100M000100Y4")
    assert not rules.credit_code_ok("9135010OM000100Y43")


def test_exactly_one_label_per_file():
    assert [f.rule for f in validate_marks([])] == ["exactly_one"]
    two = validate_marks([mark(GOOD), mark({**GOOD, "Label": "2"})])
    assert two[0].outcome == "fail"
    assert "2 implicit labels, different contents" in two[0].message
    assert "same content" in validate_marks([mark(GOOD), mark(json.dumps(GOOD, indent=1))])[0].message
    c2pa = rules.parse(Carrier(C2PA, "PNG caBX", "caBX", b""), "PNG")
    assert [f.rule for f in validate_marks([mark(GOOD), c2pa])] == ["c2pa_trust"]


def test_trust_is_never_claimed():
    assert mark(GOOD).trust == "not checked"
