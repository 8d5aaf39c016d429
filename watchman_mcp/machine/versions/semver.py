"""Semantic versions, as npm and cargo order them."""

import re

_NUMBER = r"(?:0|[1-9]\d*)"
_TAG = rf"(?:{_NUMBER}|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_VERSION = re.compile(
    rf"\s*v?({_NUMBER})\.({_NUMBER})\.({_NUMBER})(?:-({_TAG}(?:\.{_TAG})*))?(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?\s*",
    re.ASCII,
)
LONGEST = 256
"""Characters that a version has at most."""

Key = tuple[int, int, int, bool, tuple[tuple[bool, int, str], ...]]


def compare(one: str, other: str) -> int:
    """-1, 0 or 1 as semantic versioning sorts `one` before, beside or after `other`; builds are the same.

    Raises: ValueError for what is no semantic version.
    """
    first, second = key_of(one), key_of(other)
    return (first > second) - (first < second)


def key_of(version: str) -> Key:
    """What sorts like the version.

    Raises: ValueError.
    """
    match = _VERSION.fullmatch(version) if len(version) <= LONGEST else None
    if match is None:
        raise ValueError(f"{version[:40]!r} is no semantic version")
    major, minor, patch, tags = match.groups()
    # A release sorts after all that lead to it; a number before a word, a short row before a longer one.
    return int(major), int(minor), int(patch), tags is None, tuple(_tag(t) for t in (tags or "").split("."))


def _tag(tag: str) -> tuple[bool, int, str]:
    return (False, int(tag), "") if tag.isdecimal() else (True, 0, tag)
