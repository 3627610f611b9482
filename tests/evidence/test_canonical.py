"""Canonical JSON: equal to another implementation of RFC 8785, and to the numbers that the RFC prints."""

import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepassay.evidence.canonical import MAX_INTEGER, CanonicalError, canonical, canonical_sha256, number_text

rfc8785 = pytest.importorskip("rfc8785")

# Appendix B of RFC 8785: bits of the double, and its text.
APPENDIX_B = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555554", "333333333.33333325"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]


@pytest.mark.parametrize(("bits", "text"), APPENDIX_B)
def test_numbers_of_the_rfc(bits, text):
    assert number_text(struct.unpack(">d", bytes.fromhex(bits))[0]) == text


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INTEGER, MAX_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_equal_to_another_implementation(value):
    assert canonical(value) == rfc8785.dumps(value)


@settings(max_examples=500, deadline=None)
@given(st.integers(0, 2**64 - 1))
def test_any_bits_read_back_as_the_same_double(bits):
    value = struct.unpack(">d", bits.to_bytes(8, "big"))[0]
    if math.isfinite(value):
        assert float(number_text(value)) == value
        assert number_text(value).encode() == rfc8785.dumps(value)


def test_keys_are_sorted_by_utf16_and_not_by_code_point():
    assert canonical({"\ufb33": 1, "\U0001f600": 2, "1": 3}) == '{"1":3,"\U0001f600":2,"\ufb33":1}'.encode()
    assert canonical_sha256({"b": 1, "a": 2}) == canonical_sha256({"a": 2, "b": 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 2**53, {1: 2}, {"a": b"x"}, "\ud800", object()])
def test_what_has_no_canonical_form_is_refused(value):
    with pytest.raises(CanonicalError, match="hint:"):
        canonical(value)
