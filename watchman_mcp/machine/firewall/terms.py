"""What nft's JSON compares: the fields of packets by the names that `packet` knows, and their values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from watchman_mcp.machine.firewall.model import Match
from watchman_mcp.machine.firewall.spans import Spans, merged, of_address, of_network

PROTOCOLS = {
    "1": "icmp",
    "6": "tcp",
    "17": "udp",
    "58": "icmpv6",
    "ipv6-icmp": "icmpv6",
    "132": "sctp",
    "136": "udplite",
}
FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}
VERSIONS = {"ip": "ipv4", "ip6": "ipv6", "2": "ipv4", "10": "ipv6"}
_PORTS = ("tcp", "udp", "th", "sctp", "dccp", "udplite")
_ADDRESSES = frozenset(("local", "broadcast", "multicast", "anycast", "unicast", "unspec"))
_META = {
    "iif": "iif",
    "iifname": "iif",
    "oif": "oif",
    "oifname": "oif",
    "l4proto": "protocol",
    "mark": "mark",
    "nfproto": "version",
    "protocol": "version",
    "pkttype": "pkttype",
}
_CT = {
    "state": "state",
    "status": "status",
    "mark": "ctmark",
    "direction": "direction",
    "proto-dst": "origport",
    "ip daddr": "origaddr",
    "ip6 daddr": "origaddr",
    "ip saddr": "ip saddr",
    "ip6 saddr": "ip6 saddr",
}


class Unknown(Exception):
    """Something that is not understood here; whoever asked takes it for a condition that cannot be told."""


def listed(value: Any) -> list[Any]:
    """A value that nft 1.1.4 writes alone and the others as a list."""
    return value if isinstance(value, list) else [value]


def field_of(left: Any) -> str:
    """The name of the field that an expression reads.

    Raises: Unknown.
    """
    if isinstance(left, dict) and len(left) == 1:
        kind, what = next(iter(left.items()))
        if kind == "meta" and what.get("key") in _META:
            return _META[what["key"]]
        if kind == "ct" and what.get("dir", "original") == "original":
            key = " ".join(str(what[name]) for name in ("family", "key") if name in what)
            if key in _CT:
                return _CT[key]
        if kind == "payload" and "field" in what:
            return _payload(str(what.get("protocol")), str(what["field"]))
        if kind == "fib":
            return _fib(what)
    raise Unknown


def _payload(protocol: str, name: str) -> str:
    if protocol in ("ip", "ip6"):
        if name in ("protocol", "nexthdr"):
            return f"{protocol} protocol"
        if name in ("saddr", "daddr"):
            return f"{protocol} {name}"
    if (protocol in _PORTS and name in ("sport", "dport")) or (protocol, name) == ("tcp", "flags"):
        return f"{protocol} {name}"
    if protocol in ("icmp", "icmpv6", "arp", "ah", "esp"):
        return f"{protocol} {name}"
    raise Unknown


def _fib(what: dict[str, Any]) -> str:
    flags, result = set(listed(what.get("flags", []))), what.get("result")
    if result == "type" and "daddr" in flags and "saddr" not in flags and "oif" not in flags:
        return "daddrtype-iif" if "iif" in flags else "daddrtype"
    if result == "type" and "saddr" in flags and not flags & {"daddr", "oif"}:
        return "saddrtype"
    if result in ("oif", "oifname", "check") and flags in ({"saddr", "iif"}, {"saddr", "mark", "iif"}):
        return "rpf"
    raise Unknown


def match_of(field: str, values: list[Any]) -> Match:
    """What a field may be, from the values of an expression.

    Raises: Unknown.
    """
    what = field.rpartition(" ")[2]
    try:
        if what in ("saddr", "daddr", "origaddr"):
            return merged(span for value in values for span in _addresses(value))
        if what in ("dport", "sport", "mark", "ctmark", "origport", "fragment"):
            return merged(_number(value, int) for value in values)
        if what == "flags":
            return merged(_number(value, flags_of) for value in values)
        if what in ("iif", "oif"):
            return tuple(_word(value) for value in values)
        if what == "rpf":
            # an interface of no number, as it was written before there was a word for it
            return frozenset({True: "exists", False: "missing", "0": "missing"}[value] for value in values)
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise Unknown from error
    if what == "saddrtype" and not _ADDRESSES.issuperset(map(_word, values)):
        # this machine may have such a route to anybody
        raise Unknown
    names = {"protocol": PROTOCOLS, "version": VERSIONS, "pkttype": {"host": "unicast"}}.get(what, {})
    return frozenset(names.get(word, word) for word in map(_word, values))


SMALLEST = 536
"""The size of a segment that every machine takes; none that means well asks for less."""


def usual(what: dict[str, Any]) -> bool | None:
    """What a comparison comes to for a packet without the rare things that few send; None for another one."""
    left, right, unlike = what.get("left"), what.get("right"), what.get("op") == "!="
    kind, inner = next(iter(left.items())) if isinstance(left, dict) and len(left) == 1 else ("", None)
    if kind in ("exthdr", "ip option") and isinstance(inner, dict):
        return "field" not in inner and (right is False) != unlike
    if kind == "tcp option" and inner == {"name": "maxseg", "field": "size"} and what.get("op") != ">":
        top = right["range"][1] if isinstance(right, dict) and "range" in right else right
        return unlike if type(top) is int and top <= SMALLEST else None
    return None


def flags_of(value: Any) -> int:
    """Flags of TCP as a number: of a name, a number, or a list of names."""
    if isinstance(value, list):
        return sum(flags_of(one) for one in value)
    if isinstance(value, dict) and "|" in value:
        return sum(flags_of(one) for one in value["|"])
    return FLAGS[value] if isinstance(value, str) else int(value)


def _addresses(value: Any) -> Spans:
    if isinstance(value, dict):
        if "prefix" in value:
            return of_network(f"{value['prefix']['addr']}/{int(value['prefix']['len'])}")
        low, high = value["range"]
        return ((of_address(low), of_address(high)),)
    return of_network(value) if isinstance(value, str) else ((int(value), int(value)),)


def _number(value: Any, make: Callable[[Any], int]) -> tuple[int, int]:
    if isinstance(value, dict) and "range" in value:
        return make(value["range"][0]), make(value["range"][1])
    if isinstance(value, dict) and "|" not in value:
        raise Unknown
    number = make(value)
    return number, number


def _word(value: Any) -> str:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    raise Unknown


@dataclass(slots=True)
class Sets:
    """The named sets, maps and limits of a table."""

    elements: dict[str, list[Any]] = field(default_factory=dict)
    limits: dict[str, bool] = field(default_factory=dict)
    """Whether a limit is for what goes over it."""
    _resolved: dict[tuple[str, tuple[str, ...]], tuple[tuple[Match, ...], ...]] = field(default_factory=dict)
    """What they are for the fields that rules compare with them: many rules may name one large set."""

    def values(self, value: Any) -> list[Any]:
        """The values that a right side holds, those of a named set too.

        Raises: Unknown.
        """
        if isinstance(value, str) and value.startswith("@"):
            if value[1:] not in self.elements:
                raise Unknown
            return [plain(one) for one in self.elements[value[1:]]]
        if isinstance(value, dict) and "set" in value:
            inner = value["set"]
            return [plain(one) for one in (inner if isinstance(inner, list) else [inner])]
        return [plain(value)]

    def matches(self, fields: tuple[str, ...], value: Any) -> tuple[tuple[Match, ...], ...]:
        """The elements that these fields may be.

        Raises: Unknown.
        """
        if not (isinstance(value, str) and value.startswith("@")):
            return self._matches(fields, value)
        key = value, fields
        if key not in self._resolved:
            self._resolved[key] = self._matches(fields, value)
        return self._resolved[key]

    def _matches(self, fields: tuple[str, ...], value: Any) -> tuple[tuple[Match, ...], ...]:
        if len(fields) > 1:
            return tuple(element_of(fields, one) for one in self.values(value))
        values = list(value) if isinstance(value, list) else self.values(value)
        return ((match_of(fields[0], values),),)


def element_of(fields: tuple[str, ...], value: Any) -> tuple[Match, ...]:
    """One element of a set or map, field by field.

    Raises: Unknown.
    """
    parts = columns(plain(value), len(fields))
    return tuple(match_of(field, [part]) for field, part in zip(fields, parts, strict=True))


def plain(element: Any) -> Any:
    """An element without its comment, counter and time."""
    if isinstance(element, dict) and "elem" in element:
        return element["elem"]["val"]
    return element


def columns(value: Any, count: int) -> Iterator[Any]:
    """The parts of an element that has as many as there are fields.

    Raises: Unknown.
    """
    parts = value["concat"] if isinstance(value, dict) and "concat" in value else [value]
    if len(parts) != count:
        raise Unknown
    yield from parts
