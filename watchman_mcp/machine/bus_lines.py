"""Values as busctl writes them without JSON, which came with systemd 240: a signature and its words.

Every value becomes what busctl's JSON would hold: `a{sv} 1 "priority" i 100` is
{"priority": {"type": "i", "data": 100}}.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from watchman_mcp.errors import Broken

_WORDS = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|(\S+)")
_ESCAPED = re.compile(r"\\(?:([0-7]{3})|x([0-9a-fA-F]{2})|(.))")
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_NUMBERS, _TEXTS = "ynqiuxth", "sog"
_DEPTH = 32


def read_line(line: str) -> Any:
    """The value of a line, without its signature.

    Raises: Broken.
    """
    reading = _Reading(line)
    try:
        signature = reading.word()
        found = reading.value(signature)
        if reading.rest or next(reading.words, None) is not None:
            raise ValueError(line)
    except (ValueError, TypeError, LookupError, StopIteration) as error:
        raise Broken("busctl answers in another shape than it is known; run it by hand") from error
    return found


class _Reading:
    """The words of a line, of which each type takes its own."""

    def __init__(self, line: str) -> None:
        self.words: Iterator[re.Match[str]] = _WORDS.finditer(line)
        self.rest = ""
        self.depth = 0

    def word(self) -> str:
        """The next word that is not quoted."""
        word = next(self.words)[2]
        if word is None:
            raise ValueError("quoted")
        return word

    def value(self, signature: str) -> Any:
        """A value of the first type of a signature; what of it is left is kept in `rest`."""
        self.depth += 1
        if self.depth > _DEPTH:
            raise ValueError(signature)
        kind, self.rest = signature[0], signature[1:]
        if kind in _NUMBERS:
            found: Any = int(self.word())
        elif kind == "d":
            found = float(self.word())
        elif kind == "b":
            found = {"true": True, "false": False}[self.word()]
        elif kind in _TEXTS:
            found = _plain(next(self.words)[1])
        elif kind == "v":
            found = self._variant()
        elif kind == "a":
            found = self._array()
        else:
            found = self._struct(kind)
        self.depth -= 1
        return found

    def _variant(self) -> Any:
        rest, inner = self.rest, self.word()
        found = {"type": inner, "data": self.value(inner)}
        if self.rest:
            raise ValueError(inner)
        self.rest = rest
        return found

    def _array(self) -> Any:
        inner = self.rest
        entries = inner.startswith("{")
        after = inner[_end(inner) :]
        count = range(int(self.word()))
        # A dictionary's entry has the two types within its brackets.
        found: Any = (
            {self.value(inner[1:]): self.value(self.rest) for _ in count}
            if entries
            else [self.value(inner) for _ in count]
        )
        self.rest = after
        return found

    def _struct(self, kind: str) -> list[Any]:
        if kind != "(":
            raise ValueError(kind)
        found = []
        while not self.rest.startswith(")"):
            found.append(self.value(self.rest))
        if not found:
            raise ValueError("a struct of nothing")
        self.rest = self.rest[1:]
        return found


def _end(signature: str) -> int:
    """Where the first type of a signature ends."""
    place = next(place for place, kind in enumerate(signature) if kind != "a")
    depth = 0
    while True:
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(signature[place], 0)
        place += 1
        if depth <= 0:
            return place


def _plain(text: str | None) -> str:
    """A text without its escapes, which stand for bytes."""
    if text is None:
        raise ValueError("no text")

    def byte(found: re.Match[str]) -> str:
        if found[3]:
            return _LETTERS.get(found[3], found[3])
        return chr(int(found[1], 8) & 0xFF if found[1] else int(found[2], 16))

    escaped = _ESCAPED.sub(byte, text)
    try:
        return escaped.encode("latin-1").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # it has letters of its own, which were not escaped
        return escaped
