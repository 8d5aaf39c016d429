"""Ports of this machine that lead to another address: as rules send them, and as container engines tell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import NamedTuple

from watchman_mcp.machine.docker import Container, Published
from watchman_mcp.machine.firewall.model import Condition, Firewall, Rule, Verdict
from watchman_mcp.machine.firewall.spans import Spans, networks

MOST_PORTS = 256
"""Ports that one rule may send on, one by one."""
EVERYWHERE = {4: "0.0.0.0", 6: "::"}  # noqa: S104 -- compared with, not bound to


class Publication(NamedTuple):
    """A port of this machine, and what it leads to."""

    protocol: str
    address: str
    """Address of this machine; 0.0.0.0 and :: are all."""
    port: int
    to: str
    """Empty where it is not told."""
    to_port: int
    container: str = ""
    """The id of the container that an engine published there."""
    by_rule: bool = True
    """Whether a rule leads there, else only a process that listens may."""

    @property
    def target(self) -> str:
        """Where it leads, as people write it."""
        return f"[{self.to}]:{self.to_port}" if ":" in self.to else f"{self.to}:{self.to_port}"

    @property
    def source(self) -> str:
        """What leads there, as people write it."""
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


def published(firewall: Firewall, containers: Iterable[Container]) -> list[Publication]:
    """What rules send to other addresses, and what engines published beside."""
    rules = dict.fromkeys(
        one for chain in firewall.chains.values() for rule in chain.rules for one in _of_rule(rule)
    )
    found: dict[Publication, Publication] = {one: one for one in rules}
    for container in containers:
        for port in container.published:
            ours = [one for one in rules if _same(one, port, container)]
            for one in ours or [_beside(port, container)]:
                found[one] = one._replace(container=container.id)
    return list(found.values())


def _same(one: Publication, port: Published, container: Container) -> bool:
    return (
        (one.protocol, one.port, one.to_port) == (port.protocol, port.port, port.inner)
        and one.to in container.addresses
        and one.address == port.address
    )


def _beside(port: Published, container: Container) -> Publication:
    """What no rule is seen to publish: it leads to an address of its own version, if there is one."""
    version = ip_address(port.address).version
    addresses = sorted(container.addresses, key=lambda one: ip_address(one).version != version)
    to = addresses[0] if addresses else ""
    return Publication(port.protocol, port.address, port.port, to, port.inner, by_rule=False)


def _of_rule(rule: Rule) -> Iterator[Publication]:
    last = rule.parts[-1] if rule.parts else None
    if not (isinstance(last, Verdict) and last.kind == "dnat" and last.address and last.address != "?"):
        return
    if last.port is not None and last.port < 0:
        return
    version = ip_address(last.address).version
    protocol, ports, places = "", (), [EVERYWHERE[version]]
    for part in rule.parts:
        if not isinstance(part, Condition) or part.negate or len(part.fields) != 1:
            continue
        family, _, what = part.fields[0].partition(" ")
        match = part.elements[0][0]
        if what == "dport":
            protocol = protocol if family == "th" else family
            ports = match  # type: ignore[assignment] # readers give ports as numbers
        elif what == "daddr":
            places = networks(match, version)  # type: ignore[arg-type] # and addresses too
        elif "protocol" in part.fields[0] and isinstance(match, frozenset) and len(match) == 1:
            (protocol,) = match
    if protocol and len(places) == 1 and "/" not in places[0] and "-" not in places[0]:
        for port in _each(ports):
            yield Publication(protocol, places[0], port, last.address, last.port or port)


def _each(spans: Spans) -> Iterator[int]:
    numbers = (number for low, high in spans for number in range(low, high + 1))
    return (number for number, _ in zip(numbers, range(MOST_PORTS), strict=False))
