"""Which rules of a chain may be about a packet: many firewalls have a rule for each port or address."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from watchman_mcp.machine.firewall.model import Chain, Condition, Firewall, Opaque, Rule
from watchman_mcp.machine.firewall.packet import INPUT, LACKS, Flow, Packet, matching, value_of
from watchman_mcp.machine.firewall.spans import Spans

MOST_PORTS = 64
"""Ports of one rule that are worth an entry each."""
_STEADY = ("iif", "protocol", "version", "ip protocol", "ip6 protocol")
"""Fields that are the same for all packets of an interface, version and protocol."""
_HEADERS = (
    *("ip", "ip6", "tcp", "udp", "th", "sctp", "dccp", "udplite"),
    *("icmp", "icmpv6", "arp", "ah", "esp"),
)


@dataclass(slots=True)
class Index:
    """The places of rules that are for any port, and of those for one."""

    any: list[int] = field(default_factory=list)
    ports: dict[int, list[int]] = field(default_factory=dict)


def rules_for(firewall: Firewall, chain: Chain, packet: Packet, flows: Iterable[Flow]) -> list[Rule]:
    """The rules of a chain, in their order, without those that are surely about other packets."""
    wanted = {flow.dport for flow in flows}
    if None in wanted or len(chain.rules) < MOST_PORTS:
        return chain.rules
    key = chain.id, packet.version, packet.protocol, packet.iif
    index = firewall.indices.get(key)
    if index is None:
        index = firewall.indices[key] = _index(chain, packet)
    some = {place for port in wanted if port is not None for place in index.ports.get(port, ())}
    places = sorted({*index.any, *some}) if some else index.any
    return [chain.rules[place] for place in places]


def _index(chain: Chain, packet: Packet) -> Index:
    index = Index()
    flow = Flow(((0, 0),), packet.daddr, packet.dport)
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
    return index


def _put(index: Index, place: int, ports: Spans | None) -> None:
    if ports is None:
        index.any.append(place)
        return
    for low, high in ports:
        for port in range(low, high + 1):
            index.ports.setdefault(port, []).append(place)


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
