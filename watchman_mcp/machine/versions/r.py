"""Versions of R packages, as R's own package_version orders them."""

import re

_VERSION = re.compile(r"\d+(?:[.-]\d+)*", re.ASCII)
LONGEST = 256
"""Characters that a version has at most."""


def compare(one: str, other: str) -> int:
    """-1, 0 or 1 as `one` is earlier than, the same as or later than `other`; zeros at the end do not count.

    Raises: ValueError for what is no version.
    """
    first, second = _key(one), _key(other)
    return (first > second) - (first < second)


def _key(version: str) -> tuple[int, ...]:
    if len(version) > LONGEST or not _VERSION.fullmatch(version):
        raise ValueError(f"{version[:40]!r} is no version of an R package")
    parts = [int(part) for part in re.split("[.-]", version)]
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)
