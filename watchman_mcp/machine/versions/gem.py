"""Versions of Ruby's gems."""

import re
from itertools import dropwhile

_VERSION = re.compile(r"\s*(\d+(?:\.[0-9a-zA-Z]+)*(?:-[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?)?\s*", re.ASCII)
_SEGMENT = re.compile(r"\d+|[a-zA-Z]+", re.ASCII)
_REQUIREMENT = re.compile(r"\s*(=|!=|>=|<=|>|<|~>)?\s*(.+?)\s*")
LONGEST = 512
"""Characters that a version has at most; RubyGems itself has no bound."""

Segment = tuple[bool, int, str]
_ZERO: Segment = (True, 0, "")


def compare(one: str, other: str) -> int:
    """-1, 0 or 1 as RubyGems sorts `one` before, beside or after `other`.

    Raises: ValueError for what is no version of a gem.
    """
    first, second = _segments(one), _segments(other)
    length = max(len(first), len(second))
    ours, theirs = _padded(first, length), _padded(second, length)
    return (ours > theirs) - (ours < theirs)


def satisfies(version: str, requirement: str) -> bool:
    """Whether a version is one that a requirement such as `~> 1.2` admits.

    Raises: ValueError for what is no version or no requirement.
    """
    match = _REQUIREMENT.fullmatch(requirement)
    if match is None:
        raise ValueError(f"{requirement[:40]!r} asks for no version")
    operator, wanted = match[1] or "=", match[2]
    order = compare(version, wanted)
    if operator == "~>":
        return order >= 0 and compare(_release(version), _bumped(wanted)) < 0
    return {
        "=": order == 0,
        "!=": order != 0,
        ">": order > 0,
        "<": order < 0,
        ">=": order >= 0,
        "<=": order <= 0,
    }[operator]


def _split(version: str) -> list[Segment]:
    match = _VERSION.fullmatch(version) if len(version) <= LONGEST else None
    if match is None:
        raise ValueError(f"{version[:40]!r} is no version of a gem")
    text = (match[1] or "0").replace("-", ".pre.")
    return [(True, int(s), "") if s.isdecimal() else (False, 0, s) for s in _SEGMENT.findall(text)]


def _segments(version: str) -> list[Segment]:
    """Words sort before numbers; zeros at the end of the release and at the end of all say nothing."""
    parts = _split(version)
    release = next((place for place, part in enumerate(parts) if not part[0]), len(parts))
    return _stripped(parts[:release]) + _stripped(parts[release:])


def _stripped(parts: list[Segment]) -> list[Segment]:
    return list(dropwhile(lambda part: part == _ZERO, reversed(parts)))[::-1]


def _padded(parts: list[Segment], length: int) -> list[Segment]:
    return parts + [_ZERO] * (length - len(parts))


def _numbers(version: str) -> list[int]:
    """The numbers before the first word."""
    parts = _split(version)
    release = next((place for place, part in enumerate(parts) if not part[0]), len(parts))
    return [number for _, number, _ in parts[:release]]


def _release(version: str) -> str:
    return ".".join(map(str, _numbers(version)))


def _bumped(version: str) -> str:
    """The first version that `~>` this one does not admit."""
    numbers = _numbers(version)
    numbers = numbers[:-1] if len(numbers) > 1 else numbers
    return ".".join(map(str, [*numbers[:-1], numbers[-1] + 1]))
