"""Versions of pacman's packages in the order that its library gives them."""

import re

_EPOCH = re.compile(r"([0-9]*):(.*)", re.DOTALL)
_PIECE = re.compile(r"([^A-Za-z0-9]*)([0-9]+|[A-Za-z]+)?")


def compare(one: str, other: str) -> int:
    """-1, 0 or 1 as pacman sorts version `one` before, beside or after `other`."""
    if one == other:
        return 0
    first, second = _parts(one), _parts(other)
    order = _compare(first[0], second[0]) or _compare(first[1], second[1])
    if order or first[2] is None or second[2] is None:  # a version without a release is any release of it
        return order
    return _compare(first[2], second[2])


def _parts(version: str) -> tuple[str, str, str | None]:
    """Epoch, version and release; each byte that is no ASCII counts as one sign."""
    if not version.isascii():
        version = version.encode("utf-8", "surrogateescape").decode("latin-1")
    found = _EPOCH.fullmatch(version)
    epoch, rest = (found[1] or "0", found[2]) if found else ("0", version)
    upstream, dash, release = rest.rpartition("-")
    return (epoch, upstream, release) if dash else (epoch, rest, None)


def _compare(one: str, other: str) -> int:
    if one == other:
        return 0
    first = second = 0
    while first < len(one) and second < len(other):
        left, right = _piece(one, first), _piece(other, second)
        if not (left[2] and right[2]):
            first, second = first + len(left[1]), second + len(right[1])
            break
        if len(left[1]) != len(right[1]):  # what separates, counted and not read
            return -1 if len(left[1]) < len(right[1]) else 1
        if order := _order(left[2], right[2]):
            return order
        # A number that meets letters, or the other way round, is decided above: both pieces are alike.
        first, second = left[0], right[0]
    return _rest(one[first:], other[second:])


def _piece(text: str, start: int) -> tuple[int, str, str]:
    """Where the piece ends, what separates it from the one before, and its letters or digits."""
    found = _PIECE.match(text, start)
    assert found is not None
    return found.end(), found[1], found[2] or ""


def _order(one: str, other: str) -> int:
    numbers = one[0].isdigit(), other[0].isdigit()
    if numbers[0] != numbers[1]:
        return 1 if numbers[0] else -1
    if numbers[0]:
        # By length and digits, because there may be more of these than `int` takes.
        one, other = one.lstrip("0"), other.lstrip("0")
        if len(one) != len(other):
            return 1 if len(one) > len(other) else -1
    return (one > other) - (one < other)


def _rest(one: str, other: str) -> int:
    """Which is later by what is left: letters make a version earlier, as in 1.0rc1, all else later."""
    if not one and not other:
        return 0
    letters = one[:1].isascii() and one[:1].isalpha(), other[:1].isascii() and other[:1].isalpha()
    return -1 if (not one and not letters[1]) or letters[0] else 1
