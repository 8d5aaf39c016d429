"""The network namespaces that are looked into, and the sockets of each that count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import NamedTuple, cast

from watchman_mcp.collectors import Look
from watchman_mcp.machine.containers import Containers, namespaces
from watchman_mcp.machine.network_namespaces import Namespace
from watchman_mcp.machine.sockets import Inet, Unix, survey
from watchman_mcp.machine.sockets.holders import Holders
from watchman_mcp.machine.sockets.survey import Survey

LASTING = 60.0
"""Seconds after which a UDP socket is not taken for that of a client's question any more."""
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 -- compared with, not bound to


class Address(NamedTuple):
    """What tells an endpoint from others of its namespace."""

    protocol: str
    address: str | None
    port: int | None
    path: str | None
    interface: str | None


@dataclass
class Place:
    """One namespace: its sockets that count, by address."""

    scope: str
    space: Namespace | None
    """None: this process's own."""
    survey: Survey
    listening: dict[Address, list[Inet | Unix]]

    @property
    def name(self) -> str | None:
        """What it is called, where it is not this process's own."""
        return self.space and self.space.name

    @property
    def is_open(self) -> bool:
        """Whether anything listens that is not for the namespace alone."""
        texts = {one.address.partition("%")[0] for one in self.listening if one.address is not None}
        return not all(ip_address(text).is_loopback for text in texts)

    def inodes(self) -> Iterator[int]:
        """Every socket whose process matters."""
        for group in self.listening.values():
            yield from (one.inode for one in group)
        yield from (one.inode for one in self.survey.sockets.connected)

    def groups(self, held: Holders) -> Iterator[int]:
        """The control groups that opened the sockets whose process is not known."""
        for group in self.listening.values():
            if not any(one.inode in held.pids for one in group):
                yield from (one.group for one in group if isinstance(one, Inet) and one.group)


def find_places(look: Look, at: float, containers: Containers) -> list[Place]:
    """Every namespace that may be looked at, this process's own first."""
    found = namespaces(containers)
    if found.denied:
        # not the beginning of the others' scopes: what is known of those that are gone is to go with them
        look.cannot(f"{look.scope}:namespaces", "network namespaces of processes that may not be looked into")
    if found.left_out:
        look.cannot(f"{look.scope}:netns", found.left_out)
    surveys: list[tuple[str, Namespace | None, Survey]] = [(look.scope, None, survey.here())]
    for other in found.others:
        with look.part(scope := f"{look.scope}:netns/{other.name}"):
            surveys.append((scope, other, survey.there(other)))
    before = cast("dict[str, float]", look.marks.get("passing") or {})
    passing: dict[str, float] = {}
    looked = [_place(look, *one, Lasting(at, before, passing)) for one in surveys]
    look.marks["passing"] = passing
    return looked


class Lasting(NamedTuple):
    """Since when UDP sockets that may be those of clients have been there."""

    at: float
    before: dict[str, float]
    now: dict[str, float]

    def holds(self, name: str) -> bool:
        """Whether this socket is known for long enough; remembers it."""
        since = self.now[name] = min(self.before.get(name, self.at), self.at)
        return self.at - since >= LASTING


def _place(look: Look, scope: str, space: Namespace | None, seen: Survey, lasting: Lasting) -> Place:
    place = Place(scope, space, seen, {})
    for one in seen.sockets.listening:
        if not seen.passing(one) or lasting.holds(f"{place.name or ''}/{one.inode}"):
            place.listening.setdefault(_address(one, seen.sockets.interfaces), []).append(one)
    for local in seen.sockets.unix:
        place.listening.setdefault(Address("unix", None, None, local.path, None), []).append(local)
    if seen.sockets.unreadable:
        look.cannot(f"{look.scope}:tables", "lines of /proc/net cannot be read and were left out")
    return place


def _address(one: Inet, interfaces: dict[int, str]) -> Address:
    bound = interfaces.get(one.interface, str(one.interface)) if one.interface else None
    return Address(one.protocol, one.address, one.port, None, bound)
