"""What the kernel says of interfaces, addresses, routes and policy rules, by netlink."""

from __future__ import annotations

import errno
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine.policy_rules import Rule, read_rule
from watchman_mcp.machine.rtnames import PROTOCOLS, SCOPES, TABLES, TYPES, named

IFF_UP, IFF_LOWER_UP = 0x1, 0x10000
FAMILIES = {2: "ipv4", 10: "ipv6"}
LOOPBACK, ETHERNET, NONE = 772, 1, 65534
"""Hardware types of the kernel (`ARPHRD_*`)."""
MADE_OF_ADDRESSES = frozenset({"local", "broadcast", "anycast", "multicast"})
"""Types of routes that the kernel makes for each address by itself."""
NO_METRIC = 0
CLONED = 0x200


class Interface(NamedTuple):
    """One interface, its addresses with the length of their network."""

    number: int
    name: str
    state: str
    kind: str
    mac: str | None
    mtu: int
    networks: list[str]
    master: str | None
    parent: str | None
    vlan: int | None
    peer: int | None = None
    """Of a veth whose other end is in another namespace: the number of that end there."""
    peer_in: int | None = None
    """The number by which this namespace knows that one."""


class Hop(NamedTuple):
    """One route, or one next hop of it."""

    family: str
    table: str
    destination: str
    type: str
    gateway: str | None
    interface: str | None
    metric: int | None
    source: str | None
    protocol: str
    reach: str


class Network(NamedTuple):
    """One network namespace at one moment."""

    interfaces: list[Interface]
    routes: list[Hop]
    rules: list[Rule]


def look(tables: Mapping[int, str] | None = None) -> Network:
    """The network of the namespace that this thread is in.

    `tables` names routing tables, as `/etc/iproute2/rt_tables` does. pyroute2 can enter a namespace itself,
    but starts a process for it, whose end is taken for a signal to this one.

    Raises: Absent (no netlink), Denied, Broken.
    """
    names = TABLES | dict(tables or {})
    with kernel() as asked:
        links = {link["index"]: link for link in asked.get_links()}
        interfaces = list(_interfaces(links, asked.get_addr()))
        by_index = {one.number: one.name for one in interfaces}
        routes: list[Hop] = []
        rules: list[Rule] = []
        for number, family in FAMILIES.items():
            routes += _routes(asked.get_routes(family=number), by_index, names)
            rules += [read_rule(one, family, names) for one in asked.get_rules(family=number)]
        return Network(interfaces, routes, rules)


def number_of(path: str) -> int | None:
    """The number by which the namespace of this thread knows the one at this path; None where it has none.

    Raises: Absent (no netlink, or it is gone), Denied, Broken.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise Denied(f"{path} may not be opened by uid {os.geteuid()}") from error
    except OSError as error:
        raise Absent(f"{path} is gone") from error
    try:
        with kernel() as asked:
            number: int = asked.get_netnsid(fd=descriptor)["nsid"]
            return number if 0 <= number < 1 << 31 else None
    finally:
        os.close(descriptor)


@contextmanager
def kernel() -> Iterator[Any]:
    """The kernel's routing netlink, to be asked by pyroute2, which is imported here: it takes half a second.

    Raises: Absent (no netlink), Denied, Broken; of what is asked inside too.
    """
    try:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError
    except ImportError as error:
        raise Absent("this system has no netlink") from error
    try:
        with IPRoute() as asked:
            yield asked
    except (OSError, NetlinkError) as error:
        if (error.errno if isinstance(error, OSError) else error.code) in (errno.EPERM, errno.EACCES):
            raise Denied(f"the kernel's network may not be asked for by uid {os.geteuid()}") from error
        raise Broken(f"the kernel cannot be asked by netlink: {error}; try `ip address`") from error


def _interfaces(links: Mapping[int, Any], addresses: Iterable[Any]) -> Iterator[Interface]:
    networks: dict[int, list[str]] = defaultdict(list)
    for one in addresses:
        address = one.get_attr("IFA_LOCAL") or one.get_attr("IFA_ADDRESS")
        if address:
            networks[one["index"]].append(f"{address}/{one['prefixlen']}")
    for index, link in links.items():
        info = link.get_attr("IFLA_LINKINFO")
        data = info.get_attr("IFLA_INFO_DATA") if info else None
        kind = info.get_attr("IFLA_INFO_KIND") if info else None
        yield Interface(
            number=index,
            name=link.get_attr("IFLA_IFNAME"),
            state=_state(link.get_attr("IFLA_OPERSTATE"), link["flags"]),
            kind=_kind(kind, link["ifi_type"]),
            mac=link.get_attr("IFLA_ADDRESS") if link["ifi_type"] in (ETHERNET, LOOPBACK) else None,
            mtu=link.get_attr("IFLA_MTU"),
            networks=sorted(networks[index]),
            master=_name(links, link.get_attr("IFLA_MASTER")),
            parent=_parent(links, link, kind),
            vlan=data.get_attr("IFLA_VLAN_ID") if kind == "vlan" and data else None,
            peer=link.get_attr("IFLA_LINK") if kind == "veth" else None,
            peer_in=link.get_attr("IFLA_LINK_NETNSID") if kind == "veth" else None,
        )


def _parent(links: Mapping[int, Any], link: Any, kind: str | None) -> str | None:
    """The interface that one stands on; a number of another namespace is another interface's here."""
    if kind == "veth" or link.get_attr("IFLA_LINK_NETNSID") is not None:
        return None
    return _name(links, link.get_attr("IFLA_LINK"))


def _name(links: Mapping[int, Any], index: int | None) -> str | None:
    return str(links[index].get_attr("IFLA_IFNAME")) if index is not None and index in links else None


def _state(told: str | None, flags: int) -> str:
    """What the kernel says of the link; of one that has no word for it whether it is up."""
    if told and told != "UNKNOWN":
        return told
    return "UP" if flags & IFF_UP and flags & IFF_LOWER_UP else "DOWN"


def _kind(told: str | None, hardware: int) -> str:
    if told:
        return "tap" if told == "tun" and hardware == ETHERNET else told
    return {LOOPBACK: "loopback", ETHERNET: "ethernet", NONE: "tun"}.get(hardware, f"type {hardware}")


def _routes(told: Iterable[Any], by_index: Mapping[int, str], tables: Mapping[int, str]) -> Iterator[Hop]:
    for route in told:
        kind = named(TYPES, route["type"])
        if kind in MADE_OF_ADDRESSES or route["flags"] & CLONED:
            continue
        family = FAMILIES[route["family"]]
        table = named(tables, route.get_attr("RTA_TABLE") or route["table"])
        to = route.get_attr("RTA_DST")
        destination = f"{to}/{route['dst_len']}" if to else "default"
        for hop in route.get_attr("RTA_MULTIPATH") or [route]:
            index = hop.get_attr("RTA_OIF") if hop is route else hop["oif"]
            yield Hop(
                family,
                table,
                destination,
                kind,
                _gateway(hop),
                by_index.get(index),
                route.get_attr("RTA_PRIORITY"),
                route.get_attr("RTA_PREFSRC"),
                named(PROTOCOLS, route["proto"]),
                named(SCOPES, route["scope"]),
            )


def _gateway(hop: Any) -> str | None:
    """The next hop, which may be of the other family."""
    via = hop.get_attr("RTA_VIA")
    found = hop.get_attr("RTA_GATEWAY") or (via.get("addr") if isinstance(via, Mapping) else via)
    return str(found) if found else None
