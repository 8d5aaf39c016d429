"""The connections that strongSwan knows, by their names: also those of which the kernel knows nothing yet."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from ipaddress import ip_address
from typing import Any

from watchman_mcp.errors import Absent, Denied

from . import ACTIVE, DOWN, Tunnel, moment_ago
from .vici import Section, ask

SOCKETS = ("/run/charon.vici", "/run/strongswan/charon.vici")
_QUESTIONS = {"list-conns": "list-conn", "list-sas": "list-sa"}
_WORKING = frozenset({"INSTALLED", "UPDATING", "REKEYING", "REKEYED"})
"""States of an association that carries something."""
_EVERYTHING = frozenset({"0.0.0.0/0", "::/0"})
_WHO = ("remote-eap-id", "remote-xauth-id", "remote-id")
"""Who it is: its user before its machine, which often has an address for a name."""
_SOME = ("mark-out", "if-id-out")
"""It takes only packets with such a mark, or of such an interface: which those are, routes tell."""
_MANY = re.compile(r"[%/]|^[0-9a-fA-F.:]+-[0-9a-fA-F.:]+$")
"""An address for anyone, of a network, or from one to another one."""
_MOST = 2**63 - 1


def ask_strongswan(path: str) -> list[Tunnel] | None:
    """The tunnels of its connections; none where it does not run, None where this user may not ask.

    Raises: Broken, since without names the same tunnels would seem to be others.
    """
    try:
        connections, associations = ask(path, _QUESTIONS)
    except Absent:
        return []
    except Denied:
        return None
    return tunnels_of(connections, associations)


def tunnels_of(connections: Iterable[Section], associations: Iterable[Section]) -> list[Tunnel]:
    """A tunnel for each peer that is connected, and for each connection to one that could be."""
    known = {name: values for told in connections for name, values in _sections(told)}
    apart: dict[tuple[str, str | None], Tunnel] = {}
    held: set[str] = set()
    for told in associations:
        for name, association in _sections(told):
            held.add(name)
            tunnel = _connected(name, association, known.get(name, {}))
            ends = tunnel.peer or name, tunnel.endpoint
            apart[ends] = _both(apart[ends], tunnel) if ends in apart else tunnel
    # Who is connected from two places, or calls itself as another one does, is told by where that is.
    often = Counter(peer for peer, _ in apart)
    found: dict[str, Tunnel] = {}
    for (peer, far), tunnel in apart.items():
        told_by = peer if often[peer] == 1 else f"{peer} {far or ''}".strip()
        found[told_by] = tunnel._replace(peer=told_by)
    for name, connection in known.items():
        far = _far(connection)
        if name not in held and far is not None:
            networks = (net for _, child in _children(connection, "children") for net in _networks(child))
            found.setdefault(
                name,
                Tunnel(
                    "ipsec",
                    DOWN,
                    peer=name,
                    endpoint=far,
                    allowed=tuple(dict.fromkeys(networks)),
                    carries=False,
                ),
            )
    return list(found.values())


def without(tunnels: Iterable[Tunnel], named: Iterable[Tunnel]) -> list[Tunnel]:
    """The kernel's tunnels that are none of these, which strongSwan keeps and names."""
    named = list(named)
    ends = {_plain(one.endpoint) for one in named}
    # Of one whose peer has a name, only the networks of its policies tell that it is the same.
    waiting = [set(one.allowed) for one in named if one.status == DOWN]
    return [
        one
        for one in tunnels
        if _plain(one.endpoint) not in ends
        and (one.status != DOWN or not any(set(one.allowed) <= nets for nets in waiting))
    ]


def _connected(name: str, association: Section, connection: Section) -> Tunnel:
    children = [child for _, child in _children(association, "child-sas")]
    working = [child for child in children if child.get("state") in _WORKING]
    networks = tuple(dict.fromkeys(net for child in working for net in _networks(child)))
    active = bool(working)
    # One connection may serve many peers; then these are told apart by who they are.
    far, who = (
        _text(association, "remote-host"),
        next(filter(None, map(partial(_text, association), _WHO)), ""),
    )
    peer = name if _far(connection) is not None else " ".join(part for part in (name, who or far) if part)
    quiet = [seconds for child in working if (seconds := _count(child, "use-in")) is not None]
    return Tunnel(
        "ipsec",
        ACTIVE if active else DOWN,
        peer=peer,
        endpoint=far or None,
        last_sign=moment_ago(min(quiet)) if quiet else None,
        allowed=networks,
        carries=active and _carries(working),
        received=_sum(working, "bytes-in"),
        sent=_sum(working, "bytes-out"),
    )


def _carries(working: list[Section]) -> bool | None:
    """Whether all that leaves goes to the peer; None where that is not told."""
    wide = [child for child in working if not _EVERYTHING.isdisjoint(_networks(child))]
    if not wide:
        return False
    return None if all(any(_text(child, mark) for mark in _SOME) for child in wide) else True


def _both(one: Tunnel, other: Tunnel) -> Tunnel:
    """Two associations with one peer, of which the older one may soon end, as one tunnel."""
    signs = [sign for sign in (one.last_sign, other.last_sign) if sign]
    first = one if one.status == ACTIVE else other
    both = one.carries, other.carries
    return first._replace(
        last_sign=max(signs, default=None),
        allowed=tuple(dict.fromkeys([*one.allowed, *other.allowed])),
        carries=True if True in both else None if None in both else False,
        received=_added(one.received, other.received),
        sent=_added(one.sent, other.sent),
    )


def _far(connection: Section) -> str | None:
    """The one peer that a connection leads to; None where it waits for anyone."""
    told = connection.get("remote_addrs")
    addresses = told if isinstance(told, list) else []
    return next((one for one in addresses if one and not _MANY.search(one)), None)


def _sections(told: Section) -> Iterator[tuple[str, Section]]:
    for name, values in told.items():
        if isinstance(values, dict):
            yield name, values


def _children(told: Section, name: str) -> Iterator[tuple[str, Section]]:
    children = told.get(name)
    if isinstance(children, dict):
        yield from _sections(children)


def _networks(child: Section) -> list[str]:
    told = child.get("remote-ts")
    return [net for net in told if net != "dynamic"] if isinstance(told, list) else []


def _text(told: Section, name: str) -> str:
    value = told.get(name)
    return value if isinstance(value, str) else ""


def _count(told: Section, name: str) -> int | None:
    text = _text(told, name)
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _sum(children: list[Section], name: str) -> int | None:
    counts = [count for child in children if (count := _count(child, name)) is not None]
    return min(sum(counts), _MOST) if counts else None


def _added(one: int | None, other: int | None) -> int | None:
    return other if one is None else one if other is None else min(one + other, _MOST)


def _plain(address: Any) -> str:
    try:
        return str(ip_address(str(address).partition("%")[0]))
    except ValueError:
        return str(address)
