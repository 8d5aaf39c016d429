"""Versions of rpm packages in the order that rpm gives them."""

import re
from functools import lru_cache

_EPOCH = re.compile(r"([0-9]*):")
_PIECES = re.compile(r"[~^]|[0-9]+|[A-Za-z]+")
_TILDE, _END, _CARET, _WORD, _NUMBER = range(5)
"""What may stand at the same place of two versions, the earlier one first."""

_Key = list[tuple[int, int, str]]


def compare(one: str, other: str) -> int:
    """-1, 0 or 1 as rpm sorts `one` before, beside or after `other`: epoch, version, release.

    No epoch is 0, and no release is before any.
    """
    epoch, version, release = split(one)
    other_epoch, other_version, other_release = split(other)
    order = compare_part(epoch, other_epoch) or compare_part(version, other_version)
    if order or release == other_release:
        return order
    if release is None or other_release is None:
        return -1 if release is None else 1
    return compare_part(release, other_release)


def split(version: str) -> tuple[str, str, str | None]:
    """Epoch, version and release; no epoch is 0."""
    found = _EPOCH.match(version)
    epoch, rest = (found[1] or "0", version[found.end() :]) if found else ("0", version)
    upstream, dash, release = rest.rpartition("-")
    return (epoch, upstream, release) if dash else (epoch, rest, None)


def compare_part(one: str, other: str) -> int:
    """-1, 0 or 1 as rpm sorts two epochs, versions or releases."""
    if one == other:
        return 0
    first, second = _key(one), _key(other)
    return (first > second) - (first < second)


@lru_cache(maxsize=4096)
def _key(text: str) -> _Key:
    # Numbers are compared by length and digits, because there may be more of these than `int` takes.
    return [_piece(piece) for piece in _PIECES.findall(text)] + [(_END, 0, "")]


def _piece(piece: str) -> tuple[int, int, str]:
    if piece == "~":
        return _TILDE, 0, ""
    if piece == "^":
        return _CARET, 0, ""
    if piece[0].isdigit():
        number = piece.lstrip("0")
        return _NUMBER, len(number), number
    return _WORD, 0, piece
