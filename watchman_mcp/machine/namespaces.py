"""The network namespaces of the running machine, as far as this user may see them."""

from __future__ import annotations

import os
from typing import NamedTuple

NAMED = ("/run/netns", "/run/docker/netns")
"""Where namespaces have names."""
MOST = 64
"""So many other namespaces at most are looked into."""


class Namespace(NamedTuple):
    """One network namespace."""

    name: str | None
    """What it is called: its name where it has one, else its inode; None for the daemon's own."""
    path: str
    """What it is opened by."""


class Namespaces(NamedTuple):
    """The namespaces that were found, and what is known of others."""

    found: list[Namespace]
    """The daemon's own first."""
    left_out: int
    """Namespaces beyond the bound."""
    hidden: int
    """Processes whose namespace this user may not see."""


def namespaces(most: int = MOST) -> Namespaces:
    """Every network namespace that has a name or a process, the daemon's own first."""
    own = _inode("/proc/self/ns/net")
    found: dict[int, Namespace] = {own or 0: Namespace(None, "/proc/self/ns/net")}
    for directory in NAMED:
        for name in sorted(_names(directory)):
            path = f"{directory}/{name}"
            if (inode := _inode(path)) and inode not in found:
                found[inode] = Namespace(name, path)
    hidden = 0
    for pid in _names("/proc"):
        if pid.isdecimal():
            path = f"/proc/{pid}/ns/net"
            try:
                inode = os.stat(path).st_ino
            except PermissionError:
                hidden += 1
            except OSError:
                continue  # it has ended
            else:
                found.setdefault(inode, Namespace(str(inode), path))
    kept = list(found.values())
    return Namespaces(kept[: most + 1], max(len(kept) - most - 1, 0), hidden)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def _inode(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
