"""Interfaces, routes and policy rules of the running machine, in each network namespace, by netlink.

Each other namespace is a scope, `network:NAME`; one without a name is called after the container that is in
it, `container/NAME`, else by its inode. Routes that the kernel makes for each address by itself are left out;
a route with several next hops is one each. An interface whose kind has no state of its own, such as a
loopback or a tunnel, is UP where it is turned on and carries something. On a system without netlink psutil
tells the interfaces alone.
"""

from __future__ import annotations

from collections.abc import Iterator

from watchman_mcp.collectors import Collector, Look, Seen
from watchman_mcp.errors import Absent
from watchman_mcp.machine import interfaces, netlink, network_namespaces
from watchman_mcp.machine.containers import Containers, namespaces
from watchman_mcp.machine.rtnames import read_names
from watchman_mcp.schema import Edge
from watchman_mcp.schema.network import VIA, NetworkInterface, Route, RoutingRule

NAMES = ("/etc/iproute2/rt_tables", "/usr/share/iproute2/rt_tables", "/usr/lib/iproute2/rt_tables")
NAMES_CAP = 1 << 20


def collect(look: Look) -> Iterator[Seen]:
    """The network of this namespace, then of the others.

    Raises: Absent, Denied, Broken.
    """
    if not look.machine.live:
        raise Absent("the network can be asked on the running machine only")
    if not interfaces.has_netlink():
        yield from _without_netlink()
        return
    tables = _tables(look)
    known = namespaces(Containers(look.marks))
    yield from _network(None, netlink.look(tables))
    look.seen.add(look.scope)
    for one in known.others:
        with look.part(f"{look.scope}:{one.name}"):
            told = network_namespaces.inside(one, lambda: netlink.look(tables))
            yield from _network(one.name, told)
    if known.left_out:
        look.cannot("network:namespaces", known.left_out)
    if known.denied:
        look.cannot("network:namespaces", "the namespaces of some processes may not be seen by this user")


def _tables(look: Look) -> dict[int, str]:
    """What the machine calls its routing tables."""
    for path in NAMES:
        with look.beside(path):
            found, unreadable = read_names(look.machine.files.text(path, NAMES_CAP))
            if unreadable:
                look.cannot(path, f"{unreadable} of its lines cannot be read and were left out")
            return found
    return {}


def _network(namespace: str | None, network: netlink.Network) -> Iterator[Seen]:
    ids = {}
    for one in network.interfaces:
        seen = NetworkInterface(
            name=one.name,
            namespace=namespace,
            state=one.state,
            kind=one.kind,
            mac_address=one.mac,
            ip_addresses=[network.partition("/")[0] for network in one.networks],
            networks=one.networks,
            mtu=one.mtu,
            master=one.master,
            parent=one.parent,
            vlan=one.vlan,
            index=one.number,
            speed_mbps=interfaces.speed(one.name) if namespace is None else None,
        )
        ids[one.name] = seen.node_id
        yield seen
    for hop in network.routes:
        route = Route(namespace=namespace, **hop._asdict())
        yield route
        if hop.interface in ids:
            yield Edge(VIA, route.node_id, ids[hop.interface])
    for rule in network.rules:
        yield RoutingRule(namespace=namespace, **rule._asdict())


def _without_netlink() -> Iterator[Seen]:
    for name, one in interfaces.listed().items():
        yield NetworkInterface(
            name=name,
            state="UP" if one.up else "DOWN",
            kind="loopback" if one.loopback else None,
            mac_address=one.mac,
            ip_addresses=[network.partition("/")[0] for network in one.networks],
            networks=one.networks,
            mtu=one.mtu,
            speed_mbps=one.speed,
        )


collector = Collector(
    collect,
    (NetworkInterface, Route, RoutingRule, VIA),
    lambda settings: settings.network.scan_interval,
    ("netlink:link", "netlink:address", "netlink:route", "netlink:rule"),
    feature="network_scanning",
)
