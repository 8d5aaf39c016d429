"""Sets of `ipset save`, which rules of iptables name: what a packet must be to be in one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from watchman_mcp.machine.firewall.model import Condition, Match
from watchman_mcp.machine.firewall.spans import merged, of_network
from watchman_mcp.machine.firewall.terms import PROTOCOLS, Unknown

_TOP = 65535
_COMMENT = re.compile(r' comment "[^"]*"')


@dataclass(slots=True)
class IpSet:
    """One set: its type, such as hash:ip,port, and its entries as they are written."""

    type: str
    family: str
    """ip or ip6."""
    netmask: str = ""
    entries: list[str] = field(default_factory=list)
    odd: bool = False
    """Whether it has an entry that is not known to be read right."""


class IpSets:
    """All sets, by name."""

    def __init__(self) -> None:
        self._sets: dict[str, IpSet] = {}
        self._known: dict[tuple[str, str, str], Condition | None] = {}

    def add(self, line: str) -> bool:
        """Take a line; whether it was understood."""
        match _COMMENT.sub("", line).split():
            case ["create", name, kind, *options]:
                given = dict(zip(options, options[1:], strict=False))
                family = "ip6" if given.get("family") == "inet6" else "ip"
                self._sets[name] = IpSet(kind, family, given.get("netmask", ""), odd="bitmask" in given)
            case ["add", name, entry, *options] if name in self._sets:
                self._sets[name].entries.append(entry)
                # what is taken out again of a larger network
                self._sets[name].odd |= "nomatch" in options
            case _:
                return False
        return True

    def condition(self, name: str, flags: str, family: str) -> Condition:
        """That a packet is in a set; src and dst tell, for each part of its entries, which side counts.

        Raises: Unknown.
        """
        key = name, flags, family
        if key not in self._known:
            # a list that leads back into itself, and a set that cannot be told, stay so
            self._known[key] = None
            with suppress(ValueError):
                self._known[key] = self._condition(self._sets.get(name), flags, family)
        if (known := self._known[key]) is None:
            raise Unknown
        return known

    def _condition(self, one: IpSet | None, flags: str, family: str) -> Condition:
        if one is None or one.odd:
            raise Unknown
        method, _, kinds = one.type.partition(":")
        if method == "list":
            return _either([self.condition(entry, flags, family) for entry in one.entries])
        parts, sides = kinds.split(","), flags.split(",")
        if len(sides) < len(parts):
            raise Unknown
        alone = kinds == "port"
        fields = [
            name
            for kind, side in zip(parts, sides, strict=False)
            for name in _fields(kind, side, family, alone)
        ]
        there = alone or one.family == family
        rows = [
            tuple(_columns(parts, entry, one.netmask, one.family == "ip6")) for entry in one.entries if there
        ]
        return _of_rows(tuple(fields), rows)


def _either(found: list[Condition]) -> Condition:
    """That one of some conditions, which are all about the same fields, is met."""
    if len({one.fields for one in found}) != 1:
        raise Unknown
    return _of_rows(found[0].fields, [element for one in found for element in one.elements])


def _of_rows(fields: tuple[str, ...], rows: list[tuple[Match, ...]]) -> Condition:
    if len(fields) > 1:
        # a set of services has many addresses with the same few ports
        alike: dict[tuple[Match, ...], list[tuple[int, int]]] = {}
        for first, *others in rows:
            alike.setdefault(tuple(others), []).extend(first)  # type: ignore[arg-type] # an address is first
        return Condition(fields, tuple((merged(spans), *others) for others, spans in alike.items()))
    spans = merged(span for (match,) in rows for span in match)  # type: ignore[misc] # these are numbers
    return Condition(fields, ((spans,),))


def read_sets(text: str) -> tuple[IpSets, int]:
    """All sets with their entries, and how many lines were not understood."""
    sets = IpSets()
    unread = sum(not sets.add(line) for line in text.split("\n") if line.strip())
    return sets, unread


def _fields(kind: str, flag: str, family: str, alone: bool) -> tuple[str, ...]:
    side = {"src": "s", "dst": "d"}.get(flag)
    if side and kind in ("ip", "net"):
        return (f"{family} {side}addr",)
    if side and kind == "port":
        return (f"th {side}port",) if alone else ("protocol", f"th {side}port")
    if side == "s" and kind == "iface":
        return ("iif",)
    raise Unknown


def _columns(parts: list[str], entry: str, netmask: str, six: bool) -> Iterator[Match]:
    values = entry.split(",")
    if len(values) != len(parts):
        raise Unknown
    for kind, value in zip(parts, values, strict=True):
        if kind in ("ip", "net"):
            if (":" in value) != six:
                raise Unknown
            yield of_network(f"{value}/{netmask}" if netmask else value)
        elif kind == "port":
            yield from _port(value, alone=len(parts) == 1)
        elif ":" in value:
            # a port of a bridge
            raise Unknown
        else:
            yield (value,)


def _port(value: str, alone: bool) -> Iterator[Match]:
    protocol, _, port = value.rpartition(":")
    if not alone:
        yield frozenset((PROTOCOLS.get(protocol, protocol),))
    # those of ICMP are types by name, and no packet of it is asked for
    yield ((0, _TOP),) if protocol.startswith("icmp") else ((int(port), int(port)),)
