"""Versions of Alpine's packages in the order that apk gives them."""

import re
from collections.abc import Iterator
from typing import NamedTuple

_SUFFIXES = ("alpha", "beta", "pre", "rc", "", "cvs", "svn", "git", "hg", "p")
"""What may follow an underscore, in its order; before the empty one it is earlier than a release."""
_RELEASE = _SUFFIXES.index("")
_FIRST, _NUMBER, _LETTER, _SUFFIX, _SUFFIX_NUMBER, _HASH, _REVISION, _END, _ODD = range(9)
"""Kinds of pieces, in the order in which they may follow one another."""
_DIGITS = re.compile(r"[0-9]*")
_NAMED = re.compile(r"_([a-z]*)")
_COMMIT = re.compile(r"~([0-9a-f]+)")


class _Piece(NamedTuple):
    kind: int
    text: str = ""


def compare(one: str, other: str) -> int:
    """-1, 0 or 1 as apk sorts version `one` before, beside or after `other`.

    Raises: ValueError where both leave what apk takes for a version at the same place.
    """
    if one == other:
        return 0
    for left, right in zip(_pieces(one), _pieces(other), strict=False):
        if left.kind != right.kind:
            return _unlike(left, right)
        if left.kind == _ODD:
            raise ValueError(f"neither {one!r} nor {other!r} is a version of apk's")
        if order := _order(left, right):
            return order
    return 0


def _pieces(version: str) -> Iterator[_Piece]:
    """The pieces, and at last one that says whether the version came to its end."""
    digits = _digits(version, 0)
    kind, place = (_FIRST, len(digits)) if digits else (_ODD, 0)
    yield _Piece(kind, digits)
    while kind < _END:
        kind, text, place = _next(version, place, kind)
        yield _Piece(kind, text)


def _next(version: str, place: int, before: int) -> tuple[int, str, int]:
    """The kind of the next piece, its text, and where it ends."""
    sign = version[place : place + 1]
    kind, text, end = _ODD, "", place
    if not sign:
        kind = _END
    elif "a" <= sign <= "z" and before <= _NUMBER:
        kind, text, end = _LETTER, sign, place + 1
    elif (sign == "." and before <= _NUMBER) or sign in "0123456789":
        start = place + (sign == ".")
        kind = {_FIRST: _NUMBER, _NUMBER: _NUMBER, _SUFFIX: _SUFFIX_NUMBER}.get(before, _ODD)
        text = _digits(version, start)
        end = start + len(text)
    elif sign == "_" and before <= _SUFFIX_NUMBER and (found := _NAMED.match(version, place)):
        kind, text, end = (_SUFFIX if found[1] and found[1] in _SUFFIXES else _ODD), found[1], found.end()
    elif sign == "~" and before < _HASH and (found := _COMMIT.match(version, place)):
        kind, text, end = _HASH, found[1], found.end()
    elif version.startswith("-r", place) and before < _REVISION:
        kind, text = _REVISION, _digits(version, place + 2)
        end = place + 2 + len(text)
    if kind in (_NUMBER, _SUFFIX_NUMBER, _REVISION) and not text:
        kind = _ODD
    return kind, text, end


def _digits(version: str, start: int) -> str:
    found = _DIGITS.match(version, start)
    assert found is not None
    return found[0]


def _order(one: _Piece, other: _Piece) -> int:
    left: str | tuple[int, str] = one.text
    right: str | tuple[int, str] = other.text
    if one.kind == _SUFFIX:
        return _sign(_SUFFIXES.index(one.text) - _SUFFIXES.index(other.text))
    zero = one.kind == _NUMBER and (one.text.startswith("0") or other.text.startswith("0"))
    if one.kind in (_FIRST, _NUMBER, _SUFFIX_NUMBER, _REVISION) and not zero:
        # By length and digits, because there may be more of these than `int` takes.
        left, right = ((len(digits := text.lstrip("0")), digits) for text in (one.text, other.text))
    return (left > right) - (left < right)  # type: ignore[operator] # both are texts, or both are numbers


def _unlike(one: _Piece, other: _Piece) -> int:
    """What goes on is later than what ends, but for what comes before a release."""
    for piece, order in ((one, -1), (other, 1)):
        if piece.kind == _SUFFIX and _SUFFIXES.index(piece.text) < _RELEASE:
            return order
    return _sign(other.kind - one.kind)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
