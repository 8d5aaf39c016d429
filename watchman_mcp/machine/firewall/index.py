"""Which rules of a chain may be about a packet: many firewalls have a rule for each port or address."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby

from watchman_mcp.machine.firewall.model import Chain, Condition, Firewall, Opaque, Rule, Verdict
from watchman_mcp.machine.firewall.packet import INPUT, LACKS, Flow, Packet, matching, value_of
from watchman_mcp.machine.firewall.runs import FEW, Run, kept
from watchman_mcp.machine.firewall.spans import NONE, V4, V6, Spans, intersection

MOST_PORTS = 64
"""Ports of one rule that are worth an entry each."""
_STEADY = ("iif", "protocol", "version", "ip protocol", "ip6 protocol")
"""Fields that are the same for all packets of an interface, version and protocol."""
_KNOWN = frozenset((*_STEADY, "ip saddr", "ip6 saddr", "state", "tcp flags", "rpf", "saddrtype"))
"""Fields that are the same for all packets of a source and state, too."""
_HEADERS = (
    *("ip", "ip6", "tcp", "udp", "th", "sctp", "dccp", "udplite"),
    *("icmp", "icmpv6", "arp", "ah", "esp"),
)


@dataclass(slots=True)
class Index:
    """The places of rules that are for any port, and of those for one."""

    any: list[int] = field(default_factory=list)
    ports: dict[int, list[int]] = field(default_factory=dict)
    fitting: dict[int, Spans] = field(default_factory=dict)
    """The sources that fit a rule, where its verdict depends on nothing else but the port."""
    last: tuple[frozenset[int | None], list[Rule | Run]] | None = None
    """What the last packet was to meet, and its ports."""


def rules_for(
    firewall: Firewall, chain: Chain, packet: Packet, flows: Iterable[Flow], stage: str = INPUT
) -> list[Rule | Run]:
    """The rules of a chain, in their order, without those that are surely about other packets.

    Those in a row that ask for the source alone come together.
    """
    if len(chain.rules) < MOST_PORTS:
        return [*chain.rules]
    states = {str(value_of("state", packet, flow, stage)) for flow in flows}
    state = states.pop() if len(states) == 1 else ""
    key = chain.id, packet.version, packet.protocol, packet.iif, state
    index = firewall.indices.get(key)
    if index is None:
        index = firewall.indices[key] = _index(chain, packet, state)
    wanted = frozenset(flow.dport for flow in flows)
    if index.last is None or index.last[0] != wanted:
        index.last = wanted, list(_steps(firewall, chain, packet, index, wanted, state))
    return index.last[1]


def _steps(
    firewall: Firewall,
    chain: Chain,
    packet: Packet,
    index: Index,
    wanted: frozenset[int | None],
    state: str,
) -> Iterator[Rule | Run]:
    ports = index.ports if None in wanted else wanted
    some = {place for port in ports if port is not None for place in index.ports.get(port, ())}
    places = sorted({*index.any, *some}) if some else index.any
    # a rule for one port asks for no more than the source where all packets are for this port
    odd = some if len(wanted) > 1 or None in wanted else frozenset()
    for alike, group in groupby(places, lambda place: place in index.fitting and place not in odd):
        run = tuple(group)
        if not alike or len(run) < FEW:
            yield from (chain.rules[place] for place in run)
            continue
        key = chain.id, packet.version, state, run
        pieces = kept(firewall, key, partial(map, index.fitting.__getitem__, run))
        yield Run([chain.rules[place] for place in run], pieces, state)


def _index(chain: Chain, packet: Packet, state: str) -> Index:
    index = Index()
    flow = Flow(((0, 0),), packet.daddr, packet.dport, state=state)
    for place, rule in enumerate(chain.rules):
        ports: Spans | None = None
        for part in rule.parts:
            if isinstance(part, Condition):
                if _elsewhere(part, packet, flow):
                    break
                ports = ports or _ports(part)
            elif not isinstance(part, Opaque):
                # what follows a change counts only after it
                _put(index, place, ports)
                break
        else:
            _put(index, place, ports)
        fitting = _fitting(rule, packet, flow, ports) if state else None
        if fitting is not None:
            index.fitting[place] = fitting
    return index


def _put(index: Index, place: int, ports: Spans | None) -> None:
    if ports is None:
        index.any.append(place)
        return
    for low, high in ports:
        for port in range(low, high + 1):
            index.ports.setdefault(port, []).append(place)


def _fitting(rule: Rule, packet: Packet, flow: Flow, ports: Spans | None) -> Spans | None:
    """The sources for which a rule has its verdict, for a port of its own; None where more must be known."""
    found = V4 if packet.version == 4 else V6
    last = rule.parts[-1] if rule.parts else None
    ends = isinstance(last, Verdict) and last.kind != "continue"
    for part in rule.parts[:-1] if ends else rule.parts:
        if not isinstance(part, Condition) or len(part.fields) > 1:
            return None
        if part.fields[0] in _KNOWN:
            may, must = matching(part.fields, part, packet, flow, INPUT)
            if may != must:
                return None
            found = intersection(found, may)
        elif ports is None or _ports(part) != ports:
            return None
    return found if ends else NONE


def _elsewhere(part: Condition, packet: Packet, flow: Flow) -> bool:
    """Whether no packet of this interface, version and protocol passes."""
    for name in part.fields:
        if name.partition(" ")[0] in _HEADERS and value_of(name, packet, flow, INPUT) is LACKS:
            return True
    steady = len(part.fields) == 1 and part.fields[0] in _STEADY
    return steady and not matching(part.fields, part, packet, flow, INPUT)[0]


def _ports(part: Condition) -> Spans | None:
    """The few ports that a condition is for; None where they are many or it is about something else."""
    if len(part.fields) > 1 or part.negate or part.mask is not None or not part.fields[0].endswith(" dport"):
        return None
    spans: Spans = part.elements[0][0]  # type: ignore[assignment] # readers give ports as numbers
    few = len(spans) <= MOST_PORTS and sum(high - low + 1 for low, high in spans) <= MOST_PORTS
    return spans if few and spans else None
