"""A packet that opens a connection, and which of its sources a condition lets through."""

from __future__ import annotations

from dataclasses import dataclass

from watchman_mcp.machine.firewall.model import Condition, Match
from watchman_mcp.machine.firewall.spans import NONE, V4, V6, Spans, has, intersection, merged, without

SYN = 0x02
"""The flags of TCP that an opening packet has, as systems that do not ask for ECN send it."""
EPHEMERAL: Spans = ((1024, 65535),)
"""Ports that connections come from; lower ones are an odd sender's choice."""

GROUPS = {
    1900: ("239.255.255.250", "ff02::c"),
    3702: ("239.255.255.250", "ff02::c"),
    5353: ("224.0.0.251", "ff02::fb"),
    5355: ("224.0.0.252", "ff02::1:3"),
}
"""Whom neighbours ask at these ports of UDP; what listens there for all addresses hears it."""

EARLY, INPUT, FORWARD = "early", "input", "forward"
"""Where a packet is: before connections are tracked, on its way in, and on its way to another machine."""

LACKS = object()
"""The packet has no such field."""


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection from outside.

    Its way back to the sender is taken to be the interface that it came by.
    """

    iif: str
    version: int
    """4 or 6."""
    protocol: str
    dport: int
    daddr: int
    local: frozenset[int]
    """All addresses of this machine of this version, the destination too."""
    oif: tuple[tuple[Spans, str], ...] = ()
    """Where other addresses are reached."""
    on_iif: bool = True
    """Whether the destination is an address of the interface that the packet came by."""
    primary: int | None = None
    """The first address of the interface, which a redirected packet is for; None: that which it was for."""
    bridged: bool = False
    """Whether the interface is a bridge."""
    below: tuple[str, ...] = ()
    """Interfaces by one of which it came before."""
    cast: str = "unicast"
    """unicast, multicast or broadcast."""


@dataclass(frozen=True, slots=True)
class Flow:
    """A way through the firewall that packets of some sources may take, and what was made of them on it."""

    sources: Spans
    daddr: int | None
    dport: int | None
    mark: int | None = 0
    ctmark: int | None = 0
    state: str = "new"
    translated: bool = False

    @property
    def kind(self) -> tuple[int | None, int | None, int | None, int | None, str, bool]:
        """All but the sources, in their order."""
        return self.daddr, self.dport, self.mark, self.ctmark, self.state, self.translated


def matching(
    fields: tuple[str, ...], test: Condition, packet: Packet, flow: Flow, stage: str
) -> tuple[Spans, Spans]:
    """The sources that may pass a test, and those that must; of the flow's others nothing is said."""
    whole = V4 if packet.version == 4 else V6
    if len(fields) == 1 and len(test.elements) == 1:
        value = value_of(fields[0], packet, flow, stage)
        if value is LACKS:
            return NONE, NONE
        may, must = _one(fields[0], value, test.elements[0][0], test.mask, whole)
    else:
        values = [value_of(name, packet, flow, stage) for name in fields]
        if any(value is LACKS for value in values):
            return NONE, NONE
        may, must = _elements(test, values, whole)
    if test.negate:
        return without(whole, must), without(whole, may)
    return may, must


def _elements(test: Condition, values: list[object], whole: Spans) -> tuple[Spans, Spans]:
    may: list[tuple[int, int]] = []
    must: list[tuple[int, int]] = []
    for element in test.elements:
        one_may, one_must = whole, whole
        for name, value, match in zip(test.fields, values, element, strict=True):
            part_may, part_must = _one(name, value, match, test.mask, whole)
            if not part_may:
                one_may = one_must = NONE
                break
            one_may, one_must = intersection(one_may, part_may), intersection(one_must, part_must)
        if one_must == whole:
            return whole, whole
        may += one_may
        must += one_must
    return merged(may), merged(must)


def _one(name: str, value: object, match: Match, mask: int | None, whole: Spans) -> tuple[Spans, Spans]:
    if name in ("ip saddr", "ip6 saddr"):
        spans: Spans = match  # type: ignore[assignment] # readers give addresses as numbers
        return spans, spans
    known = _is(name, value, match, mask)
    return (NONE, NONE) if known is False else (whole, whole if known else NONE)


def _is(name: str, value: object, match: Match, mask: int | None) -> bool | None:
    """Whether a field is what it should be; None where that cannot be told."""
    if name.endswith(" sport"):
        numbers: Spans = match  # type: ignore[assignment] # readers give ports as numbers
        return True if intersection(numbers, EPHEMERAL) == EPHEMERAL else None
    if value is None:
        return None
    if isinstance(match, frozenset):
        return str(value) in match
    if isinstance(value, int):
        return has(match, value if mask is None else value & mask)  # type: ignore[arg-type] # numbers go with numbers
    return any(named(str(value), str(pattern)) for pattern in match)


def named(name: str, pattern: str) -> bool:
    """Whether the name of an interface is this one, or begins like it before a `*`."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def value_of(name: str, packet: Packet, flow: Flow, stage: str) -> object:
    """The field of a packet: LACKS where it has none, None where it cannot be told."""
    family, _, what = name.partition(" ")
    if family in ("ip", "ip6"):
        if packet.version != (4 if family == "ip" else 6):
            return LACKS
        return {"daddr": flow.daddr, "fragment": 0, "protocol": packet.protocol}.get(what)
    if family in ("tcp", "udp", "th", "sctp", "dccp", "udplite"):
        if family not in ("th", packet.protocol):
            return LACKS
        return {"dport": flow.dport, "flags": SYN}.get(what)
    if family in ("icmp", "icmpv6", "arp", "ah", "esp"):
        return None if family == packet.protocol else LACKS
    if family == "oif":
        return _oif(packet, flow) if stage == FORWARD else LACKS
    return _facts(family, packet, flow, stage)


def _oif(packet: Packet, flow: Flow) -> str | None:
    if flow.daddr is None:
        return None
    return next((name for spans, name in packet.oif if has(spans, flow.daddr)), None)


def _facts(name: str, packet: Packet, flow: Flow, stage: str) -> object:
    untracked = stage == EARLY or flow.state == "untracked"
    if untracked and name in ("ctmark", "direction", "origaddr", "origport", "status"):
        return LACKS
    local = flow.daddr in packet.local if flow.daddr is not None else None
    kind = None if local is None else "local" if local else "unicast"
    if packet.cast != "unicast":
        kind = packet.cast
    facts: dict[str, object] = {
        "iif": packet.iif,
        "protocol": packet.protocol,
        "version": f"ipv{packet.version}",
        "state": "invalid" if untracked and flow.state == "new" else flow.state,
        "direction": "original",
        "mark": flow.mark,
        "ctmark": flow.ctmark,
        "status": "dnat" if flow.translated else "new",
        "origport": packet.dport,
        "origaddr": packet.daddr,
        "pkttype": packet.cast,
        "daddrtype": kind,
        "daddrtype-iif": kind if packet.on_iif and not flow.translated else None,
        "saddrtype": "unicast",
        "rpf": "exists",
    }
    return facts[name]
