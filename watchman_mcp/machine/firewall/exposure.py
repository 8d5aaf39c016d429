"""Who can reach what listens: nobody else, the networks beside this machine, or the internet.

One call: `exposure(firewall, interfaces, endpoint)`, with `firewall = read_firewall(machine)`.

- `Endpoint(protocol, address, port, interface)`: tcp or udp; an address, `0.0.0.0` or `::` for all; the
  interface that it is bound to, None for any; `only_ipv6` for a socket on `::` that takes no IPv4.
- `Interface(name, networks, kind, routed)`: its addresses with the lengths of their networks
  (`192.168.1.5/24`), and the networks that routes lead out of it (`default` for IPv4's default route,
  `default6` for that of IPv6). Interfaces that are down are left out by the caller.
- `Verdict(exposure, reasons, rules)`: `loopback`, `lan`, `internet`, `blocked` or `unknown`; sentences; and
  the rules that it rests on, each with the identity of its row (`rule.chain`, `rule.key`).

`internet`: a new connection from some public address, by an interface that a default route leads out of, is
accepted, whether a router before this machine lets it come or not. `lan`: only from private addresses or
networks that lie at an interface. `blocked`: from no address of another machine. A part of the internet,
however small, is internet; the reasons name it. `unknown`: both stays possible where it matters, because of a
condition that cannot be told or a part of the firewall that could not be read. Whom only a limit of
rates or of connections keeps out can reach it: a limit says how often, not who.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_interface

from watchman_mcp.machine.firewall.model import Firewall, Rule
from watchman_mcp.machine.firewall.outcome import Decision
from watchman_mcp.machine.firewall.packet import GROUPS, Packet
from watchman_mcp.machine.firewall.reach import Reach, reach
from watchman_mcp.machine.firewall.spans import (
    NONE,
    V4,
    Spans,
    intersection,
    merged,
    networks,
    of_network,
    union,
    without,
)

MOST_ADDRESSES = 16
MOST_RULES = 6
PRIVATE = {
    4: ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
    6: ("fc00::/7", "fe80::/10"),
}
_NOBODY = ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3")
"""Addresses that no connection comes from."""
_GLOBAL = "2000::/3"


@dataclass(frozen=True, slots=True)
class Interface:
    """An interface that is up, and what lies beyond it."""

    name: str
    networks: tuple[str, ...] = ()
    kind: str | None = None
    routed: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    """Interfaces that its packets come by before, such as members of a bridge."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Something that listens."""

    protocol: str
    address: str
    port: int
    interface: str | None = None
    only_ipv6: bool = False


@dataclass(slots=True)
class Verdict:
    """Who can reach it, why, and the rules that this rests on."""

    exposure: str
    reasons: list[str] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)


Surroundings = tuple[frozenset[int], tuple[tuple[Spans, str], ...]]


@dataclass(frozen=True, slots=True)
class Way:
    """What comes of connections by one interface to one address."""

    interface: str
    version: int
    internet: Spans
    lan: Spans
    reach: Reach


def exposure(firewall: Firewall, interfaces: Sequence[Interface], endpoint: Endpoint) -> Verdict:
    """Who can reach an endpoint.

    Raises: ValueError where its address is none.
    """
    decided = without_ways(interfaces, endpoint)
    return decided or judged(firewall.unseen, ways(firewall, interfaces, endpoint))


def _where(endpoint: Endpoint) -> tuple[IPv4Address | IPv6Address, str | None]:
    """The address that it listens on, and the interface that it is bound to."""
    text, _, zone = endpoint.address.partition("%")
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address, endpoint.interface or zone or None


def without_ways(interfaces: Sequence[Interface], endpoint: Endpoint) -> Verdict | None:
    """The verdict where no firewall has to be asked.

    Raises: ValueError where its address is none.
    """
    address, bound = _where(endpoint)
    if address.is_loopback or endpoint.interface == "lo":
        return Verdict("loopback", [f"it listens on {endpoint.interface or address} only"])
    if bound and bound not in [one.name for one in interfaces if one.name != "lo"]:
        return Verdict("unknown", [f"it is bound to {bound}, of which nothing is known"])
    return None


def targets(interfaces: Sequence[Interface], endpoint: Endpoint) -> Iterator[tuple[Interface, int, object]]:
    """Interfaces that it may be reached by, each with a version and the one address, None for all."""
    address, bound = _where(endpoint)
    both = address.version == 6 and address.is_unspecified and not endpoint.only_ipv6
    for version in (6, 4) if both else (address.version,):
        for one in interfaces:
            if one.name != "lo" and bound in (None, one.name):
                yield one, version, None if address.is_unspecified else address


def ways(firewall: Firewall, interfaces: Sequence[Interface], endpoint: Endpoint) -> list[Way]:
    """What comes of connections to it, by each interface and to each address."""
    around: dict[int, Surroundings] = {}
    found: list[Way] = []
    for one, version, fixed in targets(interfaces, endpoint):
        if version not in around:
            around[version] = surroundings(interfaces, version)
        found += _ways(firewall, around[version], one, endpoint, version, fixed)
    return found


def _ways(
    firewall: Firewall,
    around: Surroundings,
    one: Interface,
    endpoint: Endpoint,
    version: int,
    fixed: object,
) -> Iterator[Way]:
    """What comes of connections by an interface, for each address that they may be for."""
    internet, lan = senders(firewall, one, version)
    own = [ip_interface(text).ip for text in one.networks if version_of(text) == version]
    groups = GROUPS.get(endpoint.port, ()) if endpoint.protocol == "udp" and own else ()
    heard = [ip_address(text) for text in groups if version_of(text) == version]
    places = own[:MOST_ADDRESSES] + heard if fixed is None else [ip_address(str(fixed))]
    if not (internet or lan):
        return
    local, beyond = around
    for target in places:
        near_only = target.is_link_local or target.is_multicast
        packet = Packet(
            iif=one.name,
            version=version,
            protocol=endpoint.protocol,
            dport=endpoint.port,
            daddr=int(target),
            local=local if int(target) in local else local | {int(target)},
            oif=beyond,
            on_iif=target in own or target.is_multicast,
            primary=next((int(address) for address in own if not address.is_link_local), None),
            bridged=one.kind == "bridge",
            below=one.below,
            cast="multicast" if target.is_multicast else "unicast",
        )
        public = NONE if near_only else internet
        yield Way(one.name, version, public, lan, reach(firewall, packet, union(public, lan)))


def surroundings(interfaces: Iterable[Interface], version: int) -> Surroundings:
    """All addresses of this machine, and the networks that lie at its interfaces."""
    texts = [(text, one.name) for one in interfaces for text in one.networks if version_of(text) == version]
    local = frozenset(int(ip_interface(text).ip) for text, _ in texts)
    return local, tuple((of_network(text), name) for text, name in texts if name != "lo")


def version_of(text: str) -> int:
    """The version of IP that a network is of."""
    return ip_interface(text).version


def senders(firewall: Firewall, interface: Interface, version: int) -> tuple[Spans, Spans]:
    """The public and the near addresses that connections by an interface come from.

    The firewall keeps them, for an interface may have thousands of routes.
    """
    found = firewall.sources.get((interface, version))
    if found is None:
        found = firewall.sources[interface, version] = _senders(interface, version)
    return found


def _senders(interface: Interface, version: int) -> tuple[Spans, Spans]:
    texts = (*interface.networks, *(text for text in interface.routed if not text.startswith("default")))
    near = _all(text for text in texts if version_of(text) == version)
    if ("default" if version == 4 else "default6") not in interface.routed:
        return NONE, near
    near = union(near, _all(PRIVATE[version]))
    whole = without(V4, _all(_NOBODY)) if version == 4 else of_network(_GLOBAL)
    return without(whole, near), near


def _all(texts: Iterable[str]) -> Spans:
    return merged(span for text in texts for span in of_network(text))


def judged(unseen: Mapping[str, str], ways: Sequence[Way]) -> Verdict:
    """The widest of what is found; what is possible counts against a narrower answer.

    `unseen` is what could not be read of the firewalls on these ways, and why.
    """
    if not ways:
        return Verdict("blocked", ["no interface leads to another machine"])
    for name, of in (("internet", _internet), ("lan", _lan)):
        opened = [(way, found) for way in ways if (found := intersection(way.reach.open, of(way)))]
        maybe = [(way, found) for way in ways if (found := intersection(way.reach.maybe, of(way)))]
        if opened and not unseen:
            return _told(Verdict(name), "open to", opened, of)
        if opened or maybe:
            verdict = _told(Verdict("unknown"), "may be open to", opened + maybe, of)
            verdict.reasons += [f"{what}: {why}" for what, why in unseen.items()]
            return verdict
    shut = [(way, found) for way in ways if (found := union(way.internet, way.lan))]
    return _told(Verdict("blocked"), "shut for", shut, lambda way: union(way.internet, way.lan))


def _internet(way: Way) -> Spans:
    return way.internet


def _lan(way: Way) -> Spans:
    return way.lan


def _told(verdict: Verdict, words: str, found: Sequence[tuple[Way, Spans]], of: object) -> Verdict:
    """The verdict with its reasons, each once."""
    assert callable(of)
    kinds = {"open to": ("accept", "policy"), "shut for": ("drop", "reject")}.get(words, ())
    for way, sources in found:
        whole: Spans = of(way)
        who = "all" if sources == whole else ", ".join(networks(sources, way.version))
        line = f"{way.interface}, IPv{way.version}: {words} {who}"
        if line in verdict.reasons:
            continue
        verdict.reasons.append(line)
        for decision in _deciding(way.reach.decisions, sources, kinds):
            rule, chain = decision.rule, decision.chain
            inside = f"in {decision.namespace}: " if decision.namespace else ""
            place = f"{inside}{chain.backend} {chain.family} {chain.table} {chain.name}"
            said = f"{place}: {rule.text}" if rule else f"{place}: policy {_policy(decision)}"
            if said not in verdict.reasons:
                verdict.reasons.append(said)
                verdict.rules += [rule] if rule and rule not in verdict.rules else []
    if words == "open to" and len(verdict.reasons) == len(
        {line for line in verdict.reasons if ": open to" in line}
    ):
        verdict.reasons.append("no rule and no policy of a firewall stands in the way")
    return verdict


def _policy(decision: Decision) -> str:
    return "accept" if decision.kind == "policy" else decision.kind


def _deciding(decisions: Iterable[Decision], sources: Spans, kinds: Sequence[str]) -> list[Decision]:
    """The decisions that say most about these sources, in the order of the packet's way."""
    most: list[tuple[int, int, Decision]] = []
    for place, decision in enumerate(decisions):
        if kinds and decision.kind not in kinds:
            continue
        if len(most) == MOST_RULES and (-_size(decision.sources), place) > most[-1][:2]:
            continue  # of thousands few say more than these
        if share := _size(intersection(decision.sources, sources)):
            insort(most, (-share, place, decision))
            del most[MOST_RULES:]
    return [decision for _, _, decision in sorted(most, key=lambda one: one[1])]


def _size(spans: Spans) -> int:
    return sum(high - low + 1 for low, high in spans)
