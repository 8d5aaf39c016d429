"""Interfaces as psutil tells them, for systems without netlink, and what the kernel's files add."""

from __future__ import annotations

import sys
from ipaddress import IPv4Network
from typing import NamedTuple

import psutil

from watchman_mcp.errors import Broken

UNKNOWN_SPEED = 65_535
"""What some drivers say of a link without one."""


class Listed(NamedTuple):
    """One interface."""

    up: bool
    loopback: bool
    mac: str | None
    mtu: int
    speed: int | None
    networks: list[str]


def has_netlink() -> bool:
    """Whether the kernel of this system speaks netlink."""
    return sys.platform == "linux"


def speed(name: str) -> int | None:
    """Megabits per second of a link of this namespace; None where it has none, or does not tell."""
    try:
        with open(f"/sys/class/net/{name}/speed", "rb") as told:
            found = int(told.read())
    except (OSError, ValueError):
        return None
    return found if 0 < found != UNKNOWN_SPEED else None


def listed() -> dict[str, Listed]:
    """Every interface by name.

    Raises: Broken.
    """
    try:
        addresses, states = psutil.net_if_addrs(), psutil.net_if_stats()
    except OSError as error:
        raise Broken(f"the interfaces cannot be listed: {error}") from error
    found = {}
    for name, state in states.items():
        networks: list[str] = []
        mac = None
        for one in addresses.get(name, ()):
            if one.family == psutil.AF_LINK:
                mac = one.address
            elif length := _length(one.netmask):
                networks.append(f"{one.address.partition('%')[0]}/{length}")
        flags = state.flags.split(",")
        found[name] = Listed(
            state.isup, "loopback" in flags, mac, state.mtu, state.speed or None, sorted(networks)
        )
    return found


def _length(mask: str | None) -> int | None:
    """How long a network is, from its mask in either family."""
    if not mask:
        return None
    try:
        if ":" in mask:
            return sum(int(part, 16).bit_count() for part in mask.split(":") if part)
        return IPv4Network(f"0.0.0.0/{mask}").prefixlen
    except ValueError:
        return None
