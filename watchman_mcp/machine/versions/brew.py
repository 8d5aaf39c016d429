"""Versions of Homebrew's formulae in the order that Homebrew gives them."""

import re
from typing import NamedTuple

_KINDS = {
    "alpha": r"alpha[0-9]*|a[0-9]+",
    "beta": r"beta[0-9]*|b[0-9]+",
    "pre": r"pre[0-9]*",
    "rc": r"rc[0-9]*",
    "patch": r"p[0-9]*",
    "post": r".post[0-9]+",
    "number": r"[0-9]+",
    "word": r"[a-z]+",
}
_PIECE = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _KINDS.items()), re.I | re.A)
_REVISION = re.compile(r"(.+?)(?:_([0-9]+))?", re.DOTALL)
_HEAD = re.compile(r"HEAD(?:-.*)?")
_EARLIER = ("alpha", "beta", "pre", "rc")
"""What comes before a release, in its order."""
_LATER = ("patch", "post")


class _Piece(NamedTuple):
    kind: str
    text: str = ""

    @property
    def number(self) -> int:
        digits = re.search("[0-9]+", self.text)
        return int(digits[0]) if digits else 0


_NOTHING = _Piece("nothing")


def compare(one: str, other: str) -> int:
    """-1, 0 or 1 as Homebrew sorts version `one` before, beside or after `other`.

    Raises: ValueError for no version at all.
    """
    first, second = _REVISION.fullmatch(one), _REVISION.fullmatch(other)
    if not first or not second:
        raise ValueError(f"{one!r} and {other!r} are not both versions")
    return _compare(first[1], second[1]) or _sign(int(first[2] or 0) - int(second[2] or 0))


def _compare(one: str, other: str) -> int:
    if one == other:
        return 0
    heads = bool(_HEAD.fullmatch(one)), bool(_HEAD.fullmatch(other))
    if any(heads):
        return heads[0] - heads[1]
    left, right = _pieces(one), _pieces(other)
    first = second = 0
    while first < max(len(left), len(right)):
        a = left[first] if first < len(left) else _NOTHING
        b = right[second] if second < len(right) else _NOTHING
        if (order := _order(a, b)) == 0:
            first, second = first + 1, second + 1
        elif a.kind == "number" and b.kind != "number":
            if a.number:
                return 1
            first += 1  # a zero is as good as nothing, so that 1.0rc1 is an rc1 of 1
        elif a.kind != "number" and b.kind == "number":
            if b.number:
                return -1
            second += 1
        else:
            return order
    return 0


def _pieces(version: str) -> list[_Piece]:
    return [_Piece(found.lastgroup or "", found[0]) for found in _PIECE.finditer(version)]


def _order(one: _Piece, other: _Piece) -> int:
    kinds = one.kind, other.kind
    if kinds[0] == kinds[1] and kinds[0] != "word":
        return _sign(one.number - other.number)
    if _NOTHING.kind in kinds:
        return -_beside_nothing(other) if one is _NOTHING else _beside_nothing(one)
    if "number" in kinds:  # a number is later than any word
        return 1 if kinds[0] == "number" else -1
    ranks = [_EARLIER.index(k) if k in _EARLIER else len(_EARLIER) if k in _LATER else -1 for k in kinds]
    if ranks[0] != ranks[1] and -1 not in ranks:
        return _sign(ranks[0] - ranks[1])
    return (one.text > other.text) - (one.text < other.text)


def _beside_nothing(piece: _Piece) -> int:
    if piece.kind == "number":
        return _sign(piece.number)
    return -1 if piece.kind in _EARLIER else 1


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
