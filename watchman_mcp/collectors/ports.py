"""What listens on the running machine, and who is connected: TCP, UDP and unix sockets.

An endpoint is an address, however many sockets and processes share it. Every TCP and unix socket that listens
is one, and so is a bound UDP socket without a peer, but not a client's that waits for an answer: one whose
port the kernel may have chosen (`ip_local_port_range`) counts once it has been there for a minute, or at once
where several sockets share the port. Of a process that this user may not look into the kernel still tells the
control group that opened the socket, and so its unit. Sockets of other network namespaces have scopes of
their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from heapq import nsmallest
from ipaddress import ip_address
from typing import NamedTuple, cast

from watchman_mcp.errors import Absent
from watchman_mcp.machine import netlink, network_namespaces
from watchman_mcp.machine.accounts import read_users
from watchman_mcp.machine.cgroups import container_of, numbered, unit_of
from watchman_mcp.machine.firewall.exposure import Endpoint, Interface, Verdict, exposure
from watchman_mcp.machine.firewall.places import places
from watchman_mcp.machine.firewall.reading import read_firewall
from watchman_mcp.machine.sockets import Inet, Unix, holders, survey
from watchman_mcp.machine.sockets.holders import Holders
from watchman_mcp.machine.sockets.survey import Survey
from watchman_mcp.machine.unit_files import bare
from watchman_mcp.schema import Edge, Label, path_of
from watchman_mcp.schema.firewall import FirewallRule
from watchman_mcp.schema.network import GOVERNS, LISTENS_ON, ConnectionMetrics, NetworkEndpoint
from watchman_mcp.schema.services import Service

from . import Collector, Look

USERS = "/etc/passwd"
NAMESPACES = 64
PEERS = 500
LASTING = 60.0
"""Seconds after which a UDP socket is not taken for that of a client's question any more."""
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 -- compared with, not bound to
UNSEEN = "processes of other users may not be looked into, so who is behind some ports is not known"


class Address(NamedTuple):
    """What tells an endpoint from others of its namespace."""

    protocol: str
    address: str | None
    port: int | None
    path: str | None
    interface: str | None


class Peer(NamedTuple):
    """What connections are counted by."""

    protocol: str
    direction: str
    peer: str
    port: int
    process: str | None


@dataclass
class Place:
    """One namespace: its sockets that count, by address."""

    scope: str
    name: str | None
    survey: Survey
    listening: dict[Address, list[Inet | Unix]]

    def inodes(self) -> Iterator[int]:
        """Every socket whose process matters."""
        for group in self.listening.values():
            yield from (one.inode for one in group)
        yield from (one.inode for one in self.survey.sockets.connected)

    def groups(self, held: Holders) -> Iterator[int]:
        """The control groups that opened the sockets whose process is not known."""
        for group in self.listening.values():
            if not any(one.inode in held.pids for one in group):
                yield from (one.group for one in group if isinstance(one, Inet) and one.group)


class Known(NamedTuple):
    """What is known beside sockets and processes."""

    users: dict[int, str]
    groups: dict[int, str]
    """What /proc/PID/cgroup says of processes, by the number of their control group."""
    judge: Judge


def collect(look: Look) -> Iterator[Label | Edge]:
    """Every endpoint with who listens there, and how many connections there are with each peer.

    Raises: Absent (another machine's files are read, and files do not listen), Broken.
    """
    if not look.machine.live:
        raise Absent("ports are open on a running machine and this one is read as files; run Watchman on it")
    at = survey.now()
    found = _places(look, at)
    held = holders.find({inode for place in found for inode in place.inodes()})
    files = look.machine.files
    users = read_users(files.text(USERS)) if files.exists(USERS) else {}
    groups = numbered({number for place in found for number in place.groups(held)})
    judge = Judge(look)
    peers: Counter[Peer] = Counter()
    unheld = False
    for place in found:
        counted = _count(place, held, peers)
        with look.part(place.scope):
            for endpoint in _endpoints(place, held, Known(users, groups, judge), counted):
                yield endpoint
                if isinstance(endpoint, Edge):
                    continue
                unheld = unheld or endpoint.process is None
                if service := bare(endpoint.unit or ""):
                    yield Edge(LISTENS_ON, path_of(Service, "systemd", service), endpoint.node_id)
    if unheld and held.denied:
        look.cannot(f"{look.scope}:processes", UNSEEN)
    yield from _samples(look, peers, at)


def _places(look: Look, at: float) -> list[Place]:
    """Every namespace that may be looked at, this process's own first."""
    found = network_namespaces.find()
    if found.denied:
        look.cannot(f"{look.scope}:netns", "network namespaces of processes that may not be looked into")
    if len(found.others) > NAMESPACES:
        look.cannot(f"{look.scope}:netns", f"only {NAMESPACES} network namespaces are looked into")
    surveys: list[tuple[str, str | None, Survey]] = [(look.scope, None, survey.here())]
    for other in found.others[:NAMESPACES]:
        with look.part(scope := f"{look.scope}:netns/{other.name}"):
            surveys.append((scope, other.name, survey.there(other)))
    before = cast("dict[str, float]", look.marks.get("passing") or {})
    passing: dict[str, float] = {}
    looked = [_place(look, *one, Lasting(at, before, passing)) for one in surveys]
    look.marks["passing"] = passing
    return looked


class Lasting(NamedTuple):
    """Since when UDP sockets that may be those of clients have been there."""

    at: float
    before: dict[str, float]
    now: dict[str, float]

    def holds(self, name: str) -> bool:
        """Whether this socket is known for long enough; remembers it."""
        since = self.now[name] = min(self.before.get(name, self.at), self.at)
        return self.at - since >= LASTING


def _place(look: Look, scope: str, name: str | None, seen: Survey, lasting: Lasting) -> Place:
    place = Place(scope, name, seen, {})
    for one in seen.sockets.listening:
        if not seen.passing(one) or lasting.holds(f"{name or ''}/{one.inode}"):
            place.listening.setdefault(_address(one, seen.sockets.interfaces), []).append(one)
    for local in seen.sockets.unix:
        place.listening.setdefault(Address("unix", None, None, local.path, None), []).append(local)
    if seen.sockets.unreadable:
        look.cannot(f"{look.scope}:tables", "lines of /proc/net cannot be read and were left out")
    return place


def _address(one: Inet, interfaces: dict[int, str]) -> Address:
    bound = interfaces.get(one.interface, str(one.interface)) if one.interface else None
    return Address(one.protocol, one.address, one.port, None, bound)


def _endpoints(
    place: Place, held: Holders, known: Known, counted: Counter[Address]
) -> Iterator[NetworkEndpoint | Edge]:
    """The endpoints of one namespace, each with the rules that decide who reaches it."""
    for address, group in place.listening.items():
        process = held.of(one.inode for one in group)
        inet = [one for one in group if isinstance(one, Inet)]
        families = {family for one in inet for family in one.families or ()}
        opener = known.groups.get(inet[0].group, "") if inet else ""
        uid = process.uid if process else group[0].uid
        verdict = known.judge(place, address, families)
        endpoint = NetworkEndpoint(
            **address._asdict(),
            namespace=place.name,
            families=sorted(families) or None,
            process=process and process.name,
            pid=process and process.pid,
            user=None if uid is None else known.users.get(uid, str(uid)),
            unit=process.unit if process else unit_of(opener),
            container=process.container if process else container_of(opener),
            exposure=verdict and verdict.exposure,
            decided_by=verdict and verdict.reasons or None,
            connections=counted[address] if address.protocol == "tcp" else None,
        )
        yield endpoint
        for rule in verdict.rules if verdict else ():
            yield Edge(GOVERNS, path_of(FirewallRule, None, *rule.chain, rule.key), endpoint.node_id)


class Judge:
    """Tells who can reach what listens, by the firewall and the interfaces of this namespace."""

    def __init__(self, look: Look) -> None:
        self._firewall = read_firewall(look.machine)
        self._interfaces: list[Interface] | None = None
        with look.beside("interfaces"):
            self._interfaces = places(netlink.look())

    def __call__(self, place: Place, address: Address, families: set[str]) -> Verdict | None:
        """The verdict; None for what no network leads to, and unknown for another namespace's."""
        if address.address is None or address.port is None:
            return None
        if place.name is not None and not ip_address(address.address.partition("%")[0]).is_loopback:
            return Verdict("unknown", ["it is in another network namespace, whose firewall is not read"])
        if self._interfaces is None:
            return Verdict("unknown", ["the interfaces of this machine could not be asked for"])
        endpoint = Endpoint(
            address.protocol, address.address, address.port, address.interface, families == {"ipv6"}
        )
        return exposure(self._firewall, self._interfaces, endpoint)


def _count(place: Place, held: Holders, peers: Counter[Peer]) -> Counter[Address]:
    """Count the connections of one namespace by peer, and those that came in by endpoint, too."""
    counted: Counter[Address] = Counter()
    names = place.survey.sockets.interfaces
    endpoints = {address[:3] + address[4:]: address for address in place.listening}
    for one in place.survey.sockets.connected:
        bound = names.get(one.interface)
        where = (one.address, *EVERYWHERE) if ":" not in one.address else (one.address, EVERYWHERE[1])
        keys = [(one.protocol, ip, one.port, on) for ip in where for on in dict.fromkeys((bound, None))]
        came_to = next((endpoints[key] for key in keys if key in endpoints), None)
        if came_to is not None:
            counted[came_to] += 1
        process = held.of((one.inode,))
        inward = came_to is not None or _came_in(place.survey, one)
        direction, port = ("in", one.port) if inward else ("out", one.peer_port)
        link = f"%{bound}" if bound and one.peer.startswith("fe80:") else ""
        peers[Peer(one.protocol, direction, one.peer + link, port, process and process.name)] += 1
    return counted


def _came_in(seen: Survey, one: Inet) -> bool:
    """Whether a connection to what listens no more came in: the kernel chose the port of the peer only."""
    return not seen.ports.given(one.port) and seen.ports.given(one.peer_port)


def _samples(look: Look, peers: Counter[Peer], at: float) -> Iterator[ConnectionMetrics]:
    """The peers with most connections."""
    if len(peers) > PEERS:
        look.cannot(f"{look.scope}:peers", f"connections are counted of the {PEERS} busiest peers only")
    busiest = nsmallest(PEERS, peers.items(), key=lambda one: (-one[1], one[0][:4], one[0].process or ""))
    moment = datetime.fromtimestamp(at, UTC)
    for peer, count in busiest:
        yield ConnectionMetrics(**peer._asdict(), timestamp=moment, count=count)


collector = Collector(
    collect,
    emits=(NetworkEndpoint, ConnectionMetrics, LISTENS_ON, GOVERNS),
    every=lambda settings: settings.network.scan_interval,
    watch=("netlink:firewall", "netlink:address", "netlink:route"),
    feature="network_scanning",
)
