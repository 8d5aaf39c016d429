"""What listens on the running machine, and who is connected: TCP, UDP and unix sockets.

An endpoint is an address, however many sockets and processes share it. Every TCP and unix socket that listens
is one, and so is a bound UDP socket without a peer, but not a client's that waits for an answer: one whose
port the kernel may have chosen (`ip_local_port_range`) counts once it has been there for a minute, or at once
where several sockets share the port. Of a process that this user may not look into the kernel still tells the
control group that opened the socket, and so its unit. A port that rules lead to a container is an endpoint
where nothing listens too. Sockets of other network namespaces have scopes of their own, and are judged by the
firewall inside, by what this machine publishes and by what it forwards.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from watchman_mcp.collectors import Collector, Look
from watchman_mcp.errors import Absent
from watchman_mcp.machine.accounts import read_users
from watchman_mcp.machine.cgroups import container_of, numbered, unit_of
from watchman_mcp.machine.containers import Containers
from watchman_mcp.machine.firewall.exposure import Verdict
from watchman_mcp.machine.sockets import Inet, holders, survey
from watchman_mcp.machine.sockets.holders import Holders
from watchman_mcp.machine.unit_files import bare
from watchman_mcp.schema import Edge, Label, path_of
from watchman_mcp.schema.firewall import FirewallRule
from watchman_mcp.schema.network import GOVERNS, LISTENS_ON, ConnectionMetrics, NetworkEndpoint
from watchman_mcp.schema.services import Service

from .judge import PROXY, Judge
from .peers import Peer, count, samples
from .places import Address, Place, find_places

USERS = "/etc/passwd"
UNSEEN = "processes of other users may not be looked into, so who is behind some ports is not known"


class Known(NamedTuple):
    """What is known beside sockets and processes."""

    users: dict[int, str]
    groups: dict[int, str]
    """What /proc/PID/cgroup says of processes, by the number of their control group."""
    containers: Containers
    judge: Judge


def collect(look: Look) -> Iterator[Label | Edge]:
    """Every endpoint with who listens there, and how many connections there are with each peer.

    Raises: Absent (another machine's files are read, and files do not listen), Broken.
    """
    if not look.machine.live:
        raise Absent("ports are open on a running machine and this one is read as files; run Watchman on it")
    at = survey.now()
    containers = Containers(look.marks)
    found = find_places(look, at, containers)
    held = holders.find({inode for place in found for inode in place.inodes()})
    files = look.machine.files
    users = read_users(files.text(USERS)) if files.exists(USERS) else {}
    groups = numbered({number for place in found for number in place.groups(held)})
    judge = Judge(look, found, containers)
    peers: Counter[Peer] = Counter()
    unheld = False
    for place in found:
        counted = count(place, held, peers)
        with look.part(place.scope):
            for endpoint in _endpoints(place, held, Known(users, groups, containers, judge), counted):
                yield endpoint
                if isinstance(endpoint, Edge):
                    continue
                silent = endpoint.process is None and endpoint.published_to is None
                unheld = unheld or silent
                if service := bare(endpoint.unit or ""):
                    yield Edge(LISTENS_ON, path_of(Service, "systemd", service), endpoint.node_id)
    if unheld and held.denied:
        look.cannot(f"{look.scope}:processes", UNSEEN)
    for path, why in containers.problems.items():
        look.cannot(f"{look.scope}:{path}", why)
    if containers.unreadable:
        why = f"{containers.unreadable} parts of what engines tell cannot be read and were left out"
        look.cannot(f"{look.scope}:containers", why)
    yield from samples(look, peers, at)


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
        number = process.container if process else container_of(opener)
        container = known.containers.name(number) if number else None
        led = known.judge.leads_to(address, process and process.name) if place.space is None else None
        if led and not container and (led.container or process is None or process.name == PROXY):
            container = known.judge.container_of(led)
        verdict = known.judge.verdict(place, address, families)
        endpoint = NetworkEndpoint(
            **address._asdict(),
            namespace=place.name,
            families=sorted(families) or None,
            process=process and process.name,
            pid=process and process.pid,
            user=None if uid is None else known.users.get(uid, str(uid)),
            unit=process.unit if process else unit_of(opener),
            container=container,
            published_to=led.target if led and led.to else None,
            published_as=known.judge.published_as(place, address),
            exposure=verdict and verdict.exposure,
            decided_by=verdict and verdict.reasons or None,
            connections=counted[address] if address.protocol == "tcp" else None,
        )
        yield endpoint
        yield from _governed(endpoint, verdict)
    if place.space is None:
        yield from _silent(place, known.judge)


def _silent(place: Place, judge: Judge) -> Iterator[NetworkEndpoint | Edge]:
    """Ports that rules lead to containers, without a process that listens."""
    for one, verdict in judge.silent(place.listening):
        endpoint = NetworkEndpoint(
            protocol=one.protocol,
            address=one.address,
            port=one.port,
            families=["ipv6" if ":" in one.address else "ipv4"],
            container=judge.container_of(one),
            published_to=one.target if one.to else None,
            exposure=verdict.exposure,
            decided_by=verdict.reasons,
        )
        yield endpoint
        yield from _governed(endpoint, verdict)


def _governed(endpoint: NetworkEndpoint, verdict: Verdict | None) -> Iterator[Edge]:
    for rule in verdict.rules if verdict else ():
        path = path_of(FirewallRule, rule.namespace, *rule.chain, rule.key)
        yield Edge(GOVERNS, path, endpoint.node_id)


collector = Collector(
    collect,
    emits=(NetworkEndpoint, ConnectionMetrics, LISTENS_ON, GOVERNS),
    every=lambda settings: settings.network.scan_interval,
    watch=("netlink:firewall", "netlink:address", "netlink:route"),
    feature="network_scanning",
)
