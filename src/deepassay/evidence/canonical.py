"""Canonical JSON by RFC 8785 (JCS): one byte string for one document, numbers as ECMAScript prints them."""

import json
import math
from collections.abc import Mapping
from typing import Any

from deepassay.errors import AssayError
from deepassay.files import sha256_bytes

MAX_INTEGER = 2**53 - 1  # I-JSON (RFC 7493): beyond it a reader that keeps doubles would see another number


class CanonicalError(AssayError):
    """A value that has no canonical JSON."""


def canonical(value: Any) -> bytes:
    """The UTF-8 bytes of RFC 8785: keys by UTF-16 code units, no spaces, shortest round-trip numbers.

    Raises:
        CanonicalError: NaN, infinity, an integer beyond 2**53 - 1, a key that is no string, half a surrogate pair, or
            a value that JSON does not know.
    """
    parts: list[str] = []
    try:
        _write(value, parts)
        return "".join(parts).encode()
    except UnicodeEncodeError as error:
        raise CanonicalError("half a surrogate pair cannot be written", hint="correct the text") from error
    except RecursionError as error:
        raise CanonicalError("the document is nested too deeply", hint="flatten it") from error


def canonical_sha256(value: Any) -> str:
    """SHA-256 of `canonical`."""
    return sha256_bytes(canonical(value))


def _write(value: Any, out: list[str]) -> None:
    if value is None or isinstance(value, bool):
        out.append({None: "null", True: "true", False: "false"}[value])
    elif isinstance(value, str):
        out.append(json.dumps(value, ensure_ascii=False))  # escapes exactly what RFC 8785, section 3.2.2.2 escapes
    elif isinstance(value, int):
        if abs(value) > MAX_INTEGER:
            raise CanonicalError(f"{value} is beyond what a double holds exactly", hint="write it as a string")
        out.append(str(int(value)))
    elif isinstance(value, float):
        out.append(number_text(value))
    elif isinstance(value, list | tuple):
        out.append("[")
        for i, entry in enumerate(value):
            out.append("," if i else "")
            _write(entry, out)
        out.append("]")
    elif isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise CanonicalError("a key is not a string", hint="JSON objects have strings as keys")
        out.append("{")
        for i, key in enumerate(sorted(value, key=lambda text: text.encode("utf-16-be"))):
            out.append("," if i else "")
            _write(key, out)
            out.append(":")
            _write(value[key], out)
        out.append("}")
    else:
        raise CanonicalError(f"{type(value).__name__} is no JSON value", hint="give JSON values only")


def number_text(value: float) -> str:
    """A double as ECMAScript's Number::toString prints it (ECMA-262, section 6.1.6.1.20): 1, 0.1, 1e-7, 1e+21.

    Raises:
        CanonicalError: NaN or infinity.
    """
    if not math.isfinite(value):
        raise CanonicalError(f"{value} is no JSON number", hint="write null and say why the number is missing")
    if value == 0:
        return "0"  # minus zero too
    sign = "-" if value < 0 else ""
    # Python's repr is the same shortest decimal that ECMAScript asks for; only the layout differs.
    mantissa, _, power = repr(abs(float(value))).partition("e")
    whole, _, fraction = mantissa.partition(".")
    fraction = "" if fraction == "0" else fraction
    point = len(whole) + int(power or 0)
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    n = len(digits)
    if n <= point <= 21:
        return sign + digits + "0" * (point - n)
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    tail = f".{digits[1:]}" if n > 1 else ""
    return f"{sign}{digits[0]}{tail}e{'+' if point > 0 else '-'}{abs(point - 1)}"
