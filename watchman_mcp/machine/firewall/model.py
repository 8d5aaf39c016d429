"""A firewall as read from whichever tool: chains of rules, each a row of conditions, effects and a verdict.

Both readers, of nftables and of iptables, make these; `evaluate` follows a packet through them. A condition
that cannot be understood is `Opaque` and never left out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from watchman_mcp.machine.firewall.spans import Spans

NFTABLES, IPTABLES, IP6TABLES = "nftables", "iptables", "ip6tables"

Match = Spans | frozenset[str] | tuple[str, ...]
"""What a field may be: numbers, words, or (a tuple of texts) names of interfaces with `*` at their end."""


class ChainId(NamedTuple):
    """What tells a chain from others; these are the identity fields of its row."""

    backend: str
    family: str
    table: str
    name: str


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition: the fields together are one of the elements, or, negated, are none of them.

    A packet that lacks a field, as one of IPv6 lacks `ip saddr`, fails the test either way.
    """

    fields: tuple[str, ...]
    elements: tuple[tuple[Match, ...], ...]
    negate: bool = False
    mask: int | None = None
    """For one field of numbers: bits that are compared."""


@dataclass(frozen=True, slots=True)
class Opaque:
    """A condition that may be true or false."""

    text: str
    within: bool | None = None
    """Of a limit: what it is while it is not reached."""


@dataclass(frozen=True, slots=True)
class Effect:
    """A change to the packet.

    `mark` and `ctmark` become (old & keep) ^ value, and cannot be told where it is None.
    `mark>ctmark` copies; `notrack` keeps it out of the table of connections.
    """

    kind: str
    keep: int = 0
    value: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a packet.

    accept, drop, reject, return, continue; jump and goto with a `chain`; redirect and dnat with the new
    `address` and `port`, None where it stays and "?" or -1 where it cannot be told; unknown: any of these.
    """

    kind: str
    chain: str = ""
    address: str | None = None
    port: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """A verdict map: the element that the fields are tells the verdict."""

    fields: tuple[str, ...]
    elements: tuple[tuple[tuple[Match, ...], Verdict], ...]
    otherwise: Verdict | None = None
    """For a packet that has these fields and is none of the elements."""

    def matches(self) -> list[Match]:
        """What its only field may be for each verdict."""
        return [match for (match,), _ in self.elements]


Part = Condition | Opaque | Effect | Verdict | Choice


@dataclass(slots=True, eq=False)
class Rule:
    """One rule; the parts count in their order."""

    chain: ChainId
    text: str
    parts: tuple[Part, ...]
    target: str | None = None
    comment: str | None = None
    handle: int | None = None
    packets: int | None = None
    bytes: int | None = None
    key: str = ""
    number: int = 0
    namespace: str | None = None


@dataclass(slots=True, eq=False)
class Chain:
    """A chain; one with a `hook` is where packets begin."""

    id: ChainId
    hook: str | None = None
    priority: int | None = None
    policy: str | None = None
    kind: str | None = None
    """filter, nat or route."""
    devices: tuple[str, ...] = ()
    rules: list[Rule] = field(default_factory=list)
    dormant: bool = False
    """Whether its table is switched off."""

    def number(self) -> None:
        """Give its rules their keys and places: a hash of the text, and the place among equals."""
        met: dict[str, int] = {}
        for place, rule in enumerate(self.rules, 1):
            met[rule.text] = again = met.get(rule.text, 0) + 1
            digest = hashlib.sha256(rule.text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
            rule.number, rule.key = place, digest if again == 1 else f"{digest}-{again}"


@dataclass(slots=True, eq=False)
class Firewall:
    """All that was read, and what could not be: `unseen` tells why by its name."""

    chains: dict[ChainId, Chain] = field(default_factory=dict)
    unseen: dict[str, str] = field(default_factory=dict)
    namespace: str | None = None
    """The network namespace that it is in; its rules have it too."""
    absent: bool = False
    """Whether this machine has neither a firewall nor a program that could make one."""

    redirects: dict[int, Spans] | None = None
    """Ports whose connections rules send to another port of this machine, by that port; `reach` fills it."""

    indices: dict[tuple[ChainId, int, str, str, str], Any] = field(default_factory=dict)
    """Which rules may be about packets of a version and protocol by an interface; `index` fills it."""

    pieces: dict[Hashable, list[tuple[int, int, int]]] = field(default_factory=dict)
    """Which of many rules, or elements of a map, is the first for a source; `runs` fills it."""
    sources: dict[Hashable, tuple[Spans, Spans]] = field(default_factory=dict)
    """The public and the near addresses beyond each interface, by version; `exposure` fills it."""

    changing: set[tuple[str, ...]] | None = None
    """Tables, as backend, family and name, that change packets on their way; `order` fills it."""

    room: int = 250_000
    """Ranges that may still be added to `pieces`."""

    def add(self, chains: Mapping[ChainId, Chain]) -> None:
        """Take chains that a reader found; their rules get their keys."""
        for chain in chains.values():
            chain.number()
            for rule in chain.rules:
                rule.namespace = self.namespace
        self.chains.update(chains)
