"""The manifest.nix of a profile that nix-env keeps: a value of Nix as its evaluator prints it, no program.

It is a list of sets, one for each package, of texts, numbers, lists and sets; text in, values out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from watchman_mcp.errors import Broken
from watchman_mcp.machine.nix import Element, parted, stored_at

_TEXT = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_WORD = r'«[^»]*»|[^\s\[\]{}=;"]+'
_PART = re.compile(
    rf"\s*(?:(?P<name>{_TEXT}|{_WORD})\s*=|(?P<text>{_TEXT})|(?P<word>{_WORD})|(?P<sign>[\[\]{{}};]))",
    re.DOTALL,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_LETTERS = {"n": "\n", "r": "\r", "t": "\t"}

Value = str | list["Value"] | dict[str, "Value"]


def read_environment(text: str, path: str) -> list[Element]:
    """The packages of a manifest.nix.

    Raises: Broken.
    """
    try:
        return [_element(one) for one in _packages(text)]
    except ValueError as error:
        raise Broken(f"{path} is not what nix-env writes; nix-env --rollback goes back to another") from error


def _element(one: Value) -> Element:
    fields = one if isinstance(one, dict) else {}
    name, outputs = fields.get("name"), fields.get("outputs")
    if not isinstance(name, str) or not (named := parted(name)):
        raise ValueError("a package without a name")
    listed = outputs if isinstance(outputs, list) else []
    places = [fields, *(fields.get(output) for output in listed if isinstance(output, str))]
    paths = (place.get("outPath") for place in places if isinstance(place, dict))
    known = (path for path in paths if isinstance(path, str) and stored_at(path) == path)
    return Element(*named, None, tuple(dict.fromkeys(known)))


def _packages(text: str) -> list[Value]:
    """The members of the list."""
    reading = _Reading()
    for kind, part in _parts(text):
        if kind == "name":
            reading.name(part)
        elif kind == "sign" and part in "]};":
            reading.end(part)
        else:
            reading.value(part if kind != "sign" else [] if part == "[" else {})
    return reading.whole()


class _Reading:
    """What is open waits in a list of its own, however deep it is."""

    def __init__(self) -> None:
        self._whole: list[Value] = []
        self._opened: list[list[Value] | dict[str, Value]] = [self._whole]
        self._names = [""]
        """Of each set that is open the name whose value comes next."""

    def name(self, name: str) -> None:
        if isinstance(self._opened[-1], list) or self._names[-1] or not name:
            raise ValueError("a name where none may be")
        self._names[-1] = name

    def value(self, value: Value) -> None:
        inside, name = self._opened[-1], self._names[-1]
        if isinstance(inside, list):
            inside.append(value)
        elif name:
            inside[name], self._names[-1] = value, ""
        else:
            raise ValueError("a value without a name")
        if not isinstance(value, str):
            self._opened.append(value)
            self._names.append("")

    def end(self, sign: str) -> None:
        inside = self._opened[-1]
        if isinstance(inside, list) != (sign == "]") or self._names[-1] or inside is self._whole:
            raise ValueError("an end without a beginning")
        if sign != ";":
            del self._opened[-1], self._names[-1]

    def whole(self) -> list[Value]:
        if len(self._opened) > 1 or len(self._whole) != 1 or not isinstance(self._whole[0], list):
            raise ValueError("no list")
        return self._whole[0]


def _parts(text: str) -> Iterator[tuple[str, str]]:
    """The kind and the text of each part, of texts what they stand for."""
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _PART.match(text, at)
        if match is None or match.lastgroup is None:
            raise ValueError("a text without an end")
        kind, part, at = match.lastgroup, match[match.lastgroup], match.end()
        if part.startswith('"'):
            part = _ESCAPE.sub(lambda found: _LETTERS.get(found[1], found[1]), part[1:-1])
        yield kind, part
