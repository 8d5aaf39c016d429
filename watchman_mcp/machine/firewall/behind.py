"""Who can reach what listens in a network namespace that has the world through this machine only.

A connection from elsewhere comes by what this machine publishes or by what it forwards, then through the
firewall inside; the neighbours at the same bridge come directly.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface

from watchman_mcp.machine.firewall.exposure import (
    MOST_ADDRESSES,
    PRIVATE,
    Endpoint,
    Interface,
    Verdict,
    Way,
    judged,
    senders,
    surroundings,
    targets,
    version_of,
    ways,
    without_ways,
)
from watchman_mcp.machine.firewall.model import Firewall
from watchman_mcp.machine.firewall.packet import Packet
from watchman_mcp.machine.firewall.published import Publication
from watchman_mcp.machine.firewall.reach import Reach, reach
from watchman_mcp.machine.firewall.spans import NONE, Spans, intersection, merged, of_network, union, without

LINK = {4: "169.254.0.0/16", 6: "fe80::/10"}


@dataclass(frozen=True)
class Side:
    """A network namespace: its firewall, its interfaces that are up, and versions of IP that it forwards."""

    firewall: Firewall
    interfaces: Sequence[Interface]
    forwards: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Cable:
    """What ties an interface inside to this machine."""

    end: str
    """This machine's interface that leads there: the bridge, or the other end."""
    bridged: bool
    """Whether others are at the same bridge."""
    through: bool
    """Whether what is far comes and goes by this machine."""


def behind(
    here: Side,
    inside: Side,
    cables: Mapping[str, Cable],
    endpoint: Endpoint,
    published: Sequence[Publication],
) -> Verdict:
    """Who can reach an endpoint inside; `published` is what of this machine leads to it.

    Raises: ValueError where its address is none.
    """
    if (decided := without_ways(inside.interfaces, endpoint)) is not None:
        return decided
    near = [_near(one, cables.get(one.name)) for one in inside.interfaces]
    where = inside.firewall.namespace
    found = [
        replace(way, interface=f"{way.interface} in {where}", reach=_marked(way.reach, where))
        for way in ways(inside.firewall, near, endpoint)
    ]
    for one, version, fixed in targets(inside.interfaces, endpoint):
        if (cable := cables.get(one.name)) is None:
            continue
        own = [text.partition("/")[0] for text in one.networks if version_of(text) == version]
        for target in [text for text in own if fixed is None or str(fixed) == text][:MOST_ADDRESSES]:
            arriving = _Arriving(inside, one, endpoint, target)
            found += _forwarded(here, cable, arriving)
    for publication in published:
        found += _published(here, inside, cables, endpoint, publication)
    verdict = judged(here.firewall.unseen | inside.firewall.unseen, found)
    if not found:
        verdict.reasons = ["no other machine is led there: only this one reaches it"]
    return verdict


def _near(one: Interface, cable: Cable | None) -> Interface:
    """An interface with those only that reach it without this machine's help."""
    if cable is None or not cable.through:
        return one
    return (
        replace(one, networks=one.networks, routed=())
        if cable.bridged
        else replace(one, networks=(), routed=())
    )


class _Arriving:
    """Connections that come to an address of an interface inside."""

    def __init__(self, inside: Side, one: Interface, endpoint: Endpoint, target: str) -> None:
        self.firewall, self.target = inside.firewall, ip_address(target)
        version = self.target.version
        local, beyond = surroundings(inside.interfaces, version)
        self.port = endpoint.port
        self.packet = Packet(
            iif=one.name,
            version=version,
            protocol=endpoint.protocol,
            dport=endpoint.port,
            daddr=int(self.target),
            local=local,
            oif=beyond,
            primary=int(self.target),
            below=one.below,
        )
        public, near = senders(inside.firewall, one, version)
        self.answered = union(public, near)
        """Addresses that the way back is known to."""

    def reach(self, sources: Spans) -> Reach:
        """From which of these sources connections arrive."""
        known = intersection(sources, self.answered)
        return _marked(reach(self.firewall, self.packet, known), self.firewall.namespace)


def _forwarded(here: Side, cable: Cable, arriving: _Arriving) -> Iterator[Way]:
    """What this machine hands on to the address itself."""
    target = arriving.target
    version = target.version
    if version not in here.forwards or target.is_link_local:
        return
    local, beyond = surroundings(here.interfaces, version)
    for one in here.interfaces:
        if one.name in ("lo", cable.end):
            continue
        internet, lan = senders(here.firewall, one, version)
        lan = without(lan, of_network(LINK[version]))
        if any(target in ip_interface(network).network for network in PRIVATE[version]):
            internet = NONE  # no router of the internet knows a way to it
        if not (internet or lan):
            continue
        packet = replace(
            arriving.packet,
            iif=one.name,
            local=local,
            oif=((of_network(str(target)), cable.end), *beyond),
            on_iif=False,
            primary=None,
            bridged=one.kind == "bridge",
        )
        handed = reach(here.firewall, packet, union(internet, lan))
        both = _both(handed, arriving.reach(union(handed.open, handed.maybe)))
        yield Way(f"{one.name}, handed on to {target}", version, internet, lan, both)


def _published(
    here: Side,
    inside: Side,
    cables: Mapping[str, Cable],
    endpoint: Endpoint,
    publication: Publication,
) -> Iterator[Way]:
    """What comes by a port of this machine."""
    led = next((one for one in inside.interfaces if _has(one, publication.to)), None)
    outer = Endpoint(publication.protocol, publication.address, publication.port, only_ipv6=True)
    if led is None or led.name not in cables or without_ways(here.interfaces, outer):
        return
    arriving = _Arriving(inside, led, endpoint, publication.to)
    for way in ways(here.firewall, here.interfaces, outer):
        if way.interface == cables[led.name].end:
            continue
        if publication.by_rule:
            if way.version not in here.forwards:
                continue
            both = _both(way.reach, arriving.reach(union(way.reach.open, way.reach.maybe)))
        else:
            both = _relayed(way.reach, arriving, here, cables[led.name])
        yield replace(way, interface=f"{way.interface}, port {publication.port} of this machine", reach=both)


def _has(one: Interface, address: str) -> bool:
    return any(text.partition("/")[0] == address for text in one.networks)


def _relayed(way: Reach, arriving: _Arriving, here: Side, cable: Cable) -> Reach:
    """What a process of this machine takes and brings on, as a connection of its own."""
    version = arriving.packet.version
    texts = [text for one in here.interfaces if one.name == cable.end for text in one.networks]
    own = merged(
        span for text in texts if version_of(text) == version for span in of_network(text.partition("/")[0])
    )
    last = arriving.reach(own)
    decisions = way.decisions + last.decisions
    if last.open:
        return Reach(way.open, way.maybe, decisions)
    return Reach(NONE, union(way.open, way.maybe) if last.maybe else NONE, decisions)


def _both(first: Reach, then: Reach) -> Reach:
    """What comes through one firewall after the other."""
    opened = intersection(first.open, then.open)
    may = intersection(union(first.open, first.maybe), union(then.open, then.maybe))
    return Reach(opened, without(may, opened), first.decisions + then.decisions)


def _marked(found: Reach, namespace: str | None) -> Reach:
    return replace(found, decisions=[replace(one, namespace=namespace) for one in found.decisions])
