"""The interfaces of this machine as a judgement of who can reach it needs them."""

from __future__ import annotations

from collections import defaultdict

from watchman_mcp.machine.firewall.exposure import Interface
from watchman_mcp.machine.netlink import Network

DEFAULTS = {
    ("ipv4", "default"): "default",
    ("ipv6", "default"): "default6",
    ("ipv4", "0.0.0.0/1"): "default",
    ("ipv4", "128.0.0.0/1"): "default",
    ("ipv6", "::/1"): "default6",
    ("ipv6", "8000::/1"): "default6",
    ("ipv6", "2000::/3"): "default6",
}
"""Routes that lead to the internet; tunnels take its halves."""

JOINED = ("bridge", "bond", "team")
"""Kinds of masters whose members take no packets themselves."""
UPON = ("vlan", "macvlan", "macvtap", "ipvlan", "ipvtap", "macsec")
"""Kinds of interfaces whose packets come by another one as they are, or with a tag."""


def places(network: Network) -> list[Interface]:
    """The interfaces that are up, with what their routes lead to, in whichever table."""
    routed: dict[str, list[str]] = defaultdict(list)
    for hop in network.routes:
        if hop.interface and hop.type == "unicast":
            routed[hop.interface].append(DEFAULTS.get((hop.family, hop.destination), hop.destination))
    kinds = {one.name: one.kind for one in network.interfaces}
    lower = _lower(network)
    return [
        Interface(
            one.name,
            tuple(one.networks),
            one.kind,
            tuple(dict.fromkeys(routed[one.name])),
            tuple(_all_below(one.name, lower)),
        )
        for one in network.interfaces
        if one.state == "UP" and kinds.get(one.master or "") not in JOINED
    ]


def _lower(network: Network) -> dict[str, list[str]]:
    """The interfaces right below each one."""
    found: dict[str, list[str]] = defaultdict(list)
    for one in network.interfaces:
        if one.master:
            found[one.master].append(one.name)
        if one.parent and one.kind in UPON:
            found[one.name].append(one.parent)
    return found


def _all_below(name: str, lower: dict[str, list[str]]) -> dict[str, None]:
    found: dict[str, None] = {}
    todo = [*lower.get(name, ())]
    while todo:
        if (one := todo.pop()) not in found:
            found[one] = None
            todo += lower.get(one, ())
    return found
