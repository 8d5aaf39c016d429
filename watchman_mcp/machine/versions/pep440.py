"""Versions of Python packages."""

from packaging.version import Version


def compare(one: str, other: str) -> int:
    """-1, 0 or 1 as PEP 440 sorts `one` before, beside or after `other`.

    Raises: ValueError for what PEP 440 does not know.
    """
    first, second = Version(one), Version(other)
    return int(first > second) - int(first < second)
