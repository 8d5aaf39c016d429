"""Who can reach what listens, here and in other network namespaces, and what is published from where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_address
from typing import NamedTuple

from watchman_mcp.collectors import Look
from watchman_mcp.machine.containers import Containers
from watchman_mcp.machine.docker import is_id
from watchman_mcp.machine.firewall.around import Around, cables, far_by_others, look_around
from watchman_mcp.machine.firewall.behind import Cable, Side, behind
from watchman_mcp.machine.firewall.exposure import Endpoint, Verdict, exposure
from watchman_mcp.machine.firewall.model import Firewall
from watchman_mcp.machine.firewall.published import Publication, published
from watchman_mcp.machine.netlink import number_of
from watchman_mcp.machine.network_namespaces import Namespace, inside

from .places import EVERYWHERE, Address, Place

PROXY = "docker-proxy"
UNREAD = "it is in another network namespace, whose firewall and interfaces could not be read"
BEYOND = "it has the internet through another network namespace, whose forwarding is not followed"
NOTHING = "an engine says that it is published, and no rule of what could be read leads there"


class Inside(NamedTuple):
    """Another namespace, and what ties it to this one."""

    space: Namespace
    around: Around
    cables: dict[str, Cable]
    beyond: set[str]
    """Interfaces whose default route leads through yet another namespace."""

    def has(self, address: str) -> bool:
        """Whether this machine reaches the address at this namespace."""
        return any(
            one.name in self.cables and address in (text.partition("/")[0] for text in one.networks)
            for one in self.around.network.interfaces
        )


class Judge:
    """Reads each firewall once; tells verdicts and what is published."""

    def __init__(self, look: Look, places: Iterable[Place], containers: Containers) -> None:
        self._here: Around | None = None
        self._inside: dict[str, Inside] = {}
        self._containers = containers
        with look.beside("interfaces"):
            self._here = look_around(look.machine)
        spaces = [place.space for place in places if place.space is not None and place.is_open]
        for space in spaces:
            with look.beside(f"netns/{space.name}/firewall"):
                self._inside[space.name] = self._look_into(look, space)
        told = containers.told.containers if any(is_id(space.container) for space in spaces) else []
        firewall = self._here.side.firewall if self._here else Firewall()
        self._published = published(firewall, told)

    def _look_into(self, look: Look, space: Namespace) -> Inside:
        around = inside(space, lambda: look_around(look.machine, space.name))
        tied = {}
        if self._here is not None:
            tied = cables(self._here.network, around.network, number_of(space.path))
        return Inside(space, around, tied, far_by_others(around.network, tied))

    def verdict(self, place: Place, address: Address, families: set[str]) -> Verdict | None:
        """Who can reach it; None for what no network leads to."""
        if address.address is None or address.port is None:
            return None
        endpoint = Endpoint(
            address.protocol, address.address, address.port, address.interface, families == {"ipv6"}
        )
        if place.space is not None and not ip_address(address.address.partition("%")[0]).is_loopback:
            return self._within(place.space, endpoint)
        if self._here is None:
            return Verdict("unknown", ["the interfaces of this machine could not be asked for"])
        side = self._here.side
        return exposure(side.firewall, side.interfaces, endpoint)

    def _within(self, space: Namespace, endpoint: Endpoint) -> Verdict:
        known = self._inside.get(space.name)
        if known is None or self._here is None:
            return Verdict("unknown", [UNREAD])
        led = [one for one in self._published if self._leads(one, known, endpoint)]
        side = known.around.side
        near = [
            replace(one, routed=tuple(to for to in one.routed if not to.startswith("default")))
            if one.name in known.beyond
            else one
            for one in side.interfaces
        ]
        narrow = Side(side.firewall, near, side.forwards)
        found = behind(self._here.side, narrow, known.cables, endpoint, led)
        if known.beyond and found.exposure in ("blocked", "lan"):
            wide = exposure(side.firewall, side.interfaces, endpoint)
            if wide.exposure in ("internet", "unknown"):
                return Verdict("unknown", [BEYOND, *found.reasons], found.rules)
        return found

    def _leads(self, one: Publication, known: Inside, endpoint: Endpoint) -> bool:
        """Whether a published port leads to this endpoint of another namespace."""
        if (one.protocol, one.to_port) != (endpoint.protocol, endpoint.port):
            return False
        everywhere = endpoint.address in EVERYWHERE
        return known.has(one.to) and (everywhere or one.to == endpoint.address)

    def published_as(self, place: Place, address: Address) -> list[str] | None:
        """The ports of this machine that lead to an endpoint of another namespace."""
        known = self._inside.get(place.name or "")
        if known is None or address.address is None or address.port is None:
            return None
        endpoint = Endpoint(address.protocol, address.address, address.port)
        led = [one.source for one in self._published if self._leads(one, known, endpoint)]
        return sorted(dict.fromkeys(led)) or None

    def leads_to(self, address: Address, process: str | None) -> Publication | None:
        """Where connections to a port of this machine are led, if to another address."""
        key = (address.protocol, address.port)
        ours = [one for one in self._published if (one.protocol, one.port) == key]
        for one in ours:
            if address.address and _meet(one.address, address.address):
                return one
        # Without the engine's word a rule for IPv4 tells where its process for IPv6 leads too.
        return ours[0] if ours and process == PROXY else None

    def container_of(self, one: Publication) -> str | None:
        """The name of the container that a published port leads to."""
        number = one.container or next(
            (known.space.container for known in self._inside.values() if known.has(one.to)), ""
        )
        return self._containers.name(number) if number else None

    def silent(self, listening: Iterable[Address]) -> Iterator[tuple[Publication, Verdict]]:
        """Published ports at which nothing listens: rules alone lead to what is behind them."""
        heard = {(one.protocol, one.port, one.address) for one in listening}
        for one in self._published:
            places = (one.address, EVERYWHERE[":" in one.address])
            if self._here is None or any((one.protocol, one.port, text) in heard for text in places):
                continue
            side = self._here.side
            if one.by_rule and any(known.has(one.to) for known in self._inside.values()):
                outer = Endpoint(one.protocol, one.address, one.port, only_ipv6=True)
                yield one, exposure(side.firewall, side.interfaces, outer)
            elif not one.by_rule and side.firewall.unseen:
                yield one, Verdict("unknown", [NOTHING])


def _meet(published: str, listening: str) -> bool:
    """Whether what is published takes connections to this address; what stays within the machine is not."""
    if published == listening:
        return True
    same = (":" in published) == (":" in listening)
    local = ip_address(listening.partition("%")[0]).is_loopback
    return same and not local and (published in EVERYWHERE or listening in EVERYWHERE)
