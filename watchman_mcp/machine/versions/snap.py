"""Versions of snaps, `VERSION (REVISION)`: snapd orders them by their revisions alone."""

import re

_REVISION = re.compile(r"(?:.* )?\((?P<local>x?)(?P<number>[0-9]{1,18})\)", re.DOTALL)


def compare(one: str, other: str) -> int:
    """-1, 0 or 1 as the revision of `one` came before, is, or came after that of `other`.

    Raises: ValueError without a revision, or if one is of the store and the other of this machine.
    """
    if one == other:
        return 0
    first, second = _REVISION.fullmatch(one), _REVISION.fullmatch(other)
    if not first or not second or first["local"] != second["local"]:
        raise ValueError(f"nothing says whether {one!r} or {other!r} is the later one")
    left, right = int(first["number"]), int(second["number"])
    return (left > right) - (left < right)
