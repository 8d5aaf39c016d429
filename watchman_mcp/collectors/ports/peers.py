"""Connections, counted by peer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from heapq import nsmallest
from typing import NamedTuple

from watchman_mcp.collectors import Look
from watchman_mcp.machine.sockets import Inet
from watchman_mcp.machine.sockets.holders import Holders
from watchman_mcp.machine.sockets.survey import Survey
from watchman_mcp.schema.network import ConnectionMetrics

from .places import EVERYWHERE, Address, Place

PEERS = 500


class Peer(NamedTuple):
    """What connections are counted by."""

    protocol: str
    direction: str
    peer: str
    port: int
    process: str | None


def count(place: Place, held: Holders, peers: Counter[Peer]) -> Counter[Address]:
    """Count the connections of one namespace by peer, and those that came in by endpoint, too."""
    counted: Counter[Address] = Counter()
    names = place.survey.sockets.interfaces
    endpoints = {address[:3] + address[4:]: address for address in place.listening}
    for one in place.survey.sockets.connected:
        bound = names.get(one.interface)
        where = (one.address, *EVERYWHERE) if ":" not in one.address else (one.address, EVERYWHERE[1])
        keys = [(one.protocol, ip, one.port, on) for ip in where for on in dict.fromkeys((bound, None))]
        came_to = next((endpoints[key] for key in keys if key in endpoints), None)
        if came_to is not None:
            counted[came_to] += 1
        process = held.of((one.inode,))
        inward = came_to is not None or _came_in(place.survey, one)
        direction, port = ("in", one.port) if inward else ("out", one.peer_port)
        link = f"%{bound}" if bound and one.peer.startswith("fe80:") else ""
        peers[Peer(one.protocol, direction, one.peer + link, port, process and process.name)] += 1
    return counted


def _came_in(seen: Survey, one: Inet) -> bool:
    """Whether a connection to what listens no more came in: the kernel chose the port of the peer only."""
    return not seen.ports.given(one.port) and seen.ports.given(one.peer_port)


def samples(look: Look, peers: Counter[Peer], at: float) -> Iterator[ConnectionMetrics]:
    """The peers with most connections."""
    if len(peers) > PEERS:
        look.cannot(f"{look.scope}:peers", f"connections are counted of the {PEERS} busiest peers only")
    busiest = nsmallest(PEERS, peers.items(), key=lambda one: (-one[1], one[0][:4], one[0].process or ""))
    moment = datetime.fromtimestamp(at, UTC)
    for peer, count in busiest:
        yield ConnectionMetrics(**peer._asdict(), timestamp=moment, count=count)
