"""From where connections arrive at a port of this machine, by whichever port they were opened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from watchman_mcp.machine.firewall.evaluate import follow
from watchman_mcp.machine.firewall.model import Choice, Condition, Firewall, Opaque, Part, Rule, Verdict
from watchman_mcp.machine.firewall.outcome import Decision
from watchman_mcp.machine.firewall.packet import Packet, named
from watchman_mcp.machine.firewall.spans import NONE, Spans, intersection, merged, union, without

GOES_ON = ("accept", "return", "continue")
"""What keeps nobody out."""
MOST_PORTS = 32
"""Other ports that are tried; rules that send more of them here are few."""


@dataclass(slots=True)
class Reach:
    """The sources whose connections surely arrive, those that may, and who decided."""

    open: Spans = NONE
    maybe: Spans = NONE
    decisions: list[Decision] = field(default_factory=list)


def reach(firewall: Firewall, packet: Packet, sources: Spans) -> Reach:
    """From which of these sources connections arrive.

    Connections to other ports that rules send to this one count; a connection to this port that is sent to
    another one of this machine does not arrive. One that is handed on to a container or another machine does.
    """
    found = _reach(firewall, packet, sources, within=False)
    if found.maybe:
        # whom only a limit keeps out comes in while it is not reached
        more = _reach(firewall, packet, found.maybe, within=True)
        found.open = union(found.open, more.open)
        found.maybe = without(found.maybe, found.open)
    if shutting := [*_below(firewall, packet)]:
        # It is not followed which of these interfaces a packet comes by, and what it looks like there.
        found.open, found.maybe = NONE, union(found.open, found.maybe)
        found.decisions += [replace(one, sources=sources) for one in shutting]
    return found


def _below(firewall: Firewall, packet: Packet) -> Iterator[Decision]:
    """What may keep packets out below the interface that they are told to come by, or nobody knows where."""
    for chain in firewall.chains.values():
        if chain.hook != "ingress" or chain.dormant:
            continue
        met = any(named(name, device) for device in chain.devices for name in packet.below)
        if met or not chain.devices:
            if chain.policy == "drop":
                yield Decision(chain.id, None, "drop", NONE)
            yield from (
                Decision(chain.id, rule, "unknown", NONE)
                for rule in chain.rules
                if any(map(_may_drop, rule.parts))
            )


def _may_drop(part: Part) -> bool:
    return isinstance(part, Choice | Opaque) or (isinstance(part, Verdict) and part.kind not in GOES_ON)


def _reach(firewall: Firewall, packet: Packet, sources: Spans, *, within: bool) -> Reach:
    found = Reach()
    for port in [packet.dport, *_others(firewall, packet.dport)]:
        outcome = follow(firewall, replace(packet, dport=port), sources, within=within)
        arrived, unsure = NONE, outcome.dropped
        for flow in outcome.arrived:
            away = flow.daddr is not None and flow.daddr not in packet.local
            if (away and port == packet.dport) or (not away and flow.dport in (packet.dport, None)):
                arrived = union(arrived, flow.sources)
                if flow.daddr is None or flow.dport is None:
                    unsure = union(unsure, flow.sources)
            else:
                unsure = union(unsure, flow.sources)
        found.open = union(found.open, without(arrived, unsure))
        found.maybe = union(found.maybe, intersection(arrived, unsure))
        found.decisions += outcome.decisions
    found.maybe = without(found.maybe, found.open)
    return found


def _others(firewall: Firewall, port: int) -> list[int]:
    """Other ports whose connections some rule may send to this one."""
    if firewall.redirects is None:
        found: dict[int, list[tuple[int, int]]] = {}
        for chain in firewall.chains.values():
            for rule in chain.rules:
                for target, ports in _redirected(rule):
                    found.setdefault(target, []).extend(ports)
        firewall.redirects = {target: merged(ports) for target, ports in found.items()}
    spans = firewall.redirects.get(port, NONE)
    numbers = (number for low, high in spans for number in range(low, high + 1) if number != port)
    return [number for number, _ in zip(numbers, range(MOST_PORTS), strict=False)]


def _redirected(rule: Rule) -> list[tuple[int, Spans]]:
    last = rule.parts[-1] if rule.parts else None
    if not (isinstance(last, Verdict) and last.kind in ("redirect", "dnat") and last.port and last.port > 0):
        return []
    for part in rule.parts:
        if isinstance(part, Condition) and part.fields[0].endswith(" dport") and len(part.fields) == 1:
            spans: Spans = part.elements[0][0]  # type: ignore[assignment] # readers give ports as numbers
            return [(last.port, spans)] if not part.negate else []
    return []
