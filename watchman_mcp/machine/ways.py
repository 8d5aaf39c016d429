"""Which way the kernel would send what goes to the internet; nothing is sent to find out."""

from __future__ import annotations

import errno
import socket
from typing import Any, NamedTuple

from watchman_mcp.machine.netlink import kernel

# Addresses that no one routes apart, one in each half of IPv4, for tunnels take the halves.
_FAR = {"ipv4": ("93.184.215.14", "198.41.0.4"), "ipv6": ("2001:503:ba3e::2:30",)}
_FAMILIES = {"ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL, errno.ESRCH, errno.ENODEV)
_UNICAST = 1


class Way(NamedTuple):
    """How packets to the internet leave."""

    interface: str
    gateway: str | None
    source: str | None


def ways(family: str) -> list[Way]:
    """The way of each part of the internet, by the kernel's own decision, its rules included; empty: none.

    Raises: Absent, Denied, Broken.
    """
    from pyroute2.netlink.exceptions import NetlinkError

    found: list[Way] = []
    with kernel() as asked:
        for far in _FAR[family]:
            try:
                routes = list(asked.route("get", dst=far, family=_FAMILIES[family]))
            except NetlinkError as error:
                if error.code in _NO_WAY:
                    continue
                raise
            found += [way for way in map(_way, routes) if way is not None]
    return found


def carriers() -> frozenset[str]:
    """The interfaces by which all traffic to the internet leaves, of one family or the other.

    Raises: Absent, Denied, Broken.
    """
    found: set[str] = set()
    for family, far in _FAR.items():
        taken = [way.interface for way in ways(family)]
        if len(taken) == len(far) and len(set(taken)) == 1:
            found.update(taken)
    return frozenset(found)


def _way(route: Any) -> Way | None:
    index = route.get_attr("RTA_OIF")
    if route["type"] != _UNICAST or index is None:
        return None
    try:
        name = socket.if_indextoname(index)
    except OSError:
        return None
    gateway = route.get_attr("RTA_GATEWAY")
    if gateway is None and (via := route.get_attr("RTA_VIA")) is not None:
        gateway = via.get("addr")
    return Way(name, gateway, route.get_attr("RTA_PREFSRC"))
