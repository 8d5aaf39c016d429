"""Versions of Debian packages in the order that dpkg gives them."""

import re
from functools import lru_cache
from os.path import commonprefix

_LONG = 256
_PIECES = re.compile(r"(\D*)(\d*)")


def compare(one: str, other: str) -> int:
    """-1, 0 or 1 as dpkg sorts version `one` before, beside or after `other`."""
    # All that is built from one source goes from one version to another at once.
    return _remembered(one, other) if len(one) + len(other) < _LONG else _compared(one, other)


def _compared(one: str, other: str) -> int:
    for first, second in zip(_parts(one), _parts(other), strict=True):
        if first != second and (order := _compare(first, second)):
            return order
    return 0


_remembered = lru_cache(maxsize=1024)(_compared)


def _parts(version: str) -> tuple[str, str, str]:
    """Epoch, upstream version and revision."""
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return (epoch, upstream, revision) if dash else (epoch, rest, "0")


def _compare(one: str, other: str) -> int:
    # What both begin with is skipped, but for the last word and number, which may go on.
    same = len(commonprefix((one, other)))
    while same and one[same - 1].isdecimal():
        same -= 1
    while same and not one[same - 1].isdecimal():
        same -= 1
    first, second = _pieces(one[same:]), _pieces(other[same:])
    return (first > second) - (first < second)


def _pieces(text: str) -> list[tuple[tuple[int, ...], int, str]]:
    # The last match is empty: it is the end of the version, before which only a tilde sorts. Numbers are
    # compared by length and digits, because there may be more of these than `int` takes.
    pairs = _PIECES.findall(text)
    return [(_order(words), len(number := digits.lstrip("0")), number) for words, digits in pairs]


@lru_cache(maxsize=4096)
def _order(words: str) -> tuple[int, ...]:
    ranks = [-1 if letter == "~" else ord(letter) + (0 if letter.isalpha() else 256) for letter in words]
    return (*ranks, 0)
