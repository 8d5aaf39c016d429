"""Tunnels to other machines, as the kernel and the programs that keep them tell."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import NamedTuple

from watchman_mcp.machine.netlink import kernel

FRESH = 180.0
"""A peer that gave no sign for so many seconds is not there for certain."""
ACTIVE, STALE, DOWN, UNKNOWN = "active", "stale", "down", "unknown"
_UP = 0x1


class Tunnel(NamedTuple):
    """One tunnel to one peer."""

    type: str
    status: str
    interface: str | None = None
    peer: str | None = None
    endpoint: str | None = None
    connected_at: datetime | None = None
    last_sign: datetime | None = None
    allowed: tuple[str, ...] = ()
    carries: bool | None = None
    """Whether it carries what goes to the internet, where not its interface's routes decide that."""
    received: int | None = None
    sent: int | None = None


class Link(NamedTuple):
    """An interface, as far as tunnels need it."""

    name: str
    kind: str
    """wireguard, tun, tap, ...; empty for one of hardware."""
    up: bool
    running: bool
    """Whether it has a carrier, for a tun device: whether a program holds its other end."""
    master: bool


def links() -> list[Link]:
    """The interfaces of this network namespace.

    Raises: Absent, Denied, Broken.
    """
    found = []
    with kernel() as asked:
        for link in asked.get_links():
            info = link.get_attr("IFLA_LINKINFO")
            kind = (info.get_attr("IFLA_INFO_KIND") if info else None) or ""
            data = info.get_attr("IFLA_INFO_DATA") if info and kind == "tun" else None
            # The data of a tun device came with Linux 4.20; 2 is a tap.
            if data is not None and hasattr(data, "get_attr") and data.get_attr("IFLA_TUN_TYPE") == 2:
                kind = "tap"
            found.append(
                Link(
                    name=str(link.get_attr("IFLA_IFNAME")),
                    kind=str(kind),
                    up=bool(link["flags"] & _UP),
                    running=link.get_attr("IFLA_CARRIER") == 1,
                    master=link.get_attr("IFLA_MASTER") is not None,
                )
            )
    return found


def moment(seconds: float) -> datetime | None:
    """A moment of the Unix clock; None for none and for what is none."""
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds > 0 else None
    except (ValueError, OverflowError, OSError):
        return None


def moment_ago(seconds: float) -> datetime | None:
    """The moment so many seconds ago."""
    return moment(time.time() - seconds)


def status_of(up: bool, sign: float, fresh: float = FRESH) -> str:
    """The status of a tunnel whose peer gave its last sign at this moment of the Unix clock, 0 if none."""
    if not up:
        return DOWN
    return ACTIVE if sign > 0 and time.time() - sign <= fresh else STALE
