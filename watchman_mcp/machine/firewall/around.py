"""What a judgement of ports needs to know of a network namespace, and what ties one to this process's own."""

from __future__ import annotations

from typing import NamedTuple

from watchman_mcp.errors import Absent
from watchman_mcp.machine import Machine, netlink
from watchman_mcp.machine.firewall.behind import Cable, Side
from watchman_mcp.machine.firewall.places import DEFAULTS, places
from watchman_mcp.machine.firewall.reading import read_firewall
from watchman_mcp.machine.netlink import Interface, Network

FORWARDING = {4: "/proc/sys/net/ipv4/ip_forward", 6: "/proc/sys/net/ipv6/conf/all/forwarding"}
WITHIN = ("veth", "tun", "tap", "dummy")
"""Kinds of members of a bridge that lead to nothing beyond this machine."""


class Around(NamedTuple):
    """A namespace: its firewall and places, and the kernel's view that they are made of."""

    side: Side
    network: Network


def look_around(machine: Machine, namespace: str | None = None) -> Around:
    """The namespace of this thread.

    Raises: Absent, Denied, Broken (its interfaces); what cannot be read of the firewall is in the answer.
    """
    network = netlink.look()
    return Around(Side(read_firewall(machine, namespace), places(network), _forwards(machine)), network)


def _forwards(machine: Machine) -> frozenset[int]:
    found = set()
    for version, path in FORWARDING.items():
        try:
            told = machine.files.text(path).strip()
        except Absent:  # a kernel without this version
            continue
        if told != "0":
            found.add(version)
    return frozenset(found)


def cables(here: Network, inside: Network, number: int | None) -> dict[str, Cable]:
    """The interfaces inside whose other end is here; `number` is what the inside is called here."""
    ends = {one.peer: one for one in here.interfaces if one.peer is not None and one.peer_in == number}
    found = {}
    for one in inside.interfaces if number is not None else ():
        if one.kind == "veth" and (end := ends.get(one.number)) is not None:
            found[one.name] = _cable(here, inside, one, end)
    return found


def _cable(here: Network, inside: Network, one: Interface, end: Interface) -> Cable:
    if end.master is None:
        return Cable(end.name, bridged=False, through=True)
    beside = [other for other in here.interfaces if other.master == end.master and other is not end]
    leads_out = any(other.kind not in WITHIN for other in beside)
    own = {text.partition("/")[0] for other in here.interfaces for text in other.networks}
    gateways = [
        hop.gateway
        for hop in inside.routes
        if hop.interface == one.name and (hop.family, hop.destination) in DEFAULTS
    ]
    through = all(gateway in own or (gateway is None and not leads_out) for gateway in gateways)
    return Cable(end.master, bridged=True, through=through)


def far_by_others(inside: Network, tied: dict[str, Cable]) -> set[str]:
    """The interfaces inside whose default route leads through yet another namespace."""
    veths = {one.name for one in inside.interfaces if one.kind == "veth" and one.peer_in is not None}
    return {
        hop.interface
        for hop in inside.routes
        if hop.interface in veths - tied.keys() and (hop.family, hop.destination) in DEFAULTS
    }
