"""Canonical JSON (RFC 8785) of what a request may hold."""
import json
import math

SAFE_INTEGER_MAX = 2 ** 53 - 1
DEPTH_MAX = 64


class NotCanonical(ValueError):
    """A value that the protocol does not sign."""


def canonical(value):
    """The canonical bytes of a JSON value.

    Refused are numbers beyond 2^53 - 1 either way (send them as strings), infinities, keys that are not strings,
    lone surrogates, and nesting deeper than 64.
    """
    parts = []
    _write(value, parts, 0)
    try:
        return "".join(parts).encode("utf-8")
    except UnicodeEncodeError:
        raise NotCanonical("a string holds a lone surrogate")


def _write(value, parts, depth):
    if value is None:
        parts.append("null")
    elif value is True:
        parts.append("true")
    elif value is False:
        parts.append("false")
    elif isinstance(value, str):
        parts.append(_text(value))
    elif isinstance(value, int):
        if abs(value) > SAFE_INTEGER_MAX:
            raise NotCanonical("the integer %d is beyond 2^53 - 1; send it as a string" % value)
        parts.append(int.__repr__(value))
    elif isinstance(value, float):
        parts.append(_double(value))
    elif isinstance(value, (list, tuple)):
        _deeper(depth)
        parts.append("[")
        for at, item in enumerate(value):
            if at:
                parts.append(",")
            _write(item, parts, depth + 1)
        parts.append("]")
    elif isinstance(value, dict):
        _deeper(depth)
        if not all(isinstance(key, str) for key in value):
            raise NotCanonical("a key is not a string")
        parts.append("{")
        # RFC 8785 sorts by UTF-16 code units; big-endian bytes have their order.
        for at, key in enumerate(sorted(value, key=lambda key: key.encode("utf-16-be", "surrogatepass"))):
            if at:
                parts.append(",")
            parts.append(_text(key))
            parts.append(":")
            _write(value[key], parts, depth + 1)
        parts.append("}")
    else:
        raise NotCanonical("%s is not a JSON value" % type(value).__name__)


def _deeper(depth):
    if depth >= DEPTH_MAX:
        raise NotCanonical("nested deeper than %d" % DEPTH_MAX)


def _text(text):
    # Python escapes what the RFC asks for, in the RFC's forms, and nothing else.
    return json.dumps(text, ensure_ascii=False)


def _double(number):
    if not math.isfinite(number):
        raise NotCanonical("%r is not a JSON number" % number)
    if abs(number) > SAFE_INTEGER_MAX:
        raise NotCanonical("the number %r is beyond 2^53 - 1; send it as a string" % number)
    if number == int(number):
        return str(int(number))
    # The shortest digits that give the number back, as ECMAScript takes them too; only their layout differs.
    mantissa, _, exponent = float.__repr__(abs(number)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction
    point = len(whole) + int(exponent or 0)
    leading = len(digits) - len(digits.lstrip("0"))
    digits = digits.strip("0")
    point -= leading
    sign = "-" if number < 0 else ""
    if point > 0:
        # Never an integer here, and never as large as 10^21: the point stands among the digits.
        return sign + digits[:point] + "." + digits[point:]
    if point > -6:
        return sign + "0." + "0" * -point + digits
    rest = "." + digits[1:] if len(digits) > 1 else ""
    return "%s%s%se%d" % (sign, digits[0], rest, point - 1)
