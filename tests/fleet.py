"""A store that a real Neo4j server follows, and the two graphs as plain values, to be compared."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from pydantic import SecretStr

from tests.rigs.neo4j import Server
from watchman_mcp.settings import Neo4j
from watchman_mcp.store import outbox
from watchman_mcp.store.mirror import Mirror
from watchman_mcp.store.neo4j.connection import Database
from watchman_mcp.store.sqlite import Store

Node = tuple[str, str]
Graph = tuple[dict[Node, dict[str, Any]], dict[tuple[str, Node, Node], dict[str, Any]]]
OWN = ("mirror_store", "mirror_run", "mirror_seq", "heard_at", "host", "id")
"""Properties that the graph of many hosts adds to a machine's own."""


def settings_of(server: Server, **more: Any) -> Neo4j:
    """The settings that name a server."""
    given = {"uri": server.uri, "user": server.user, "password": SecretStr(server.password)}
    return Neo4j(**given | more)


def new_host() -> str:
    """The id of a machine that no graph knows."""
    return uuid.uuid4().hex


class Followed:
    """A store with its mirror, which runs in a thread of its own."""

    def __init__(self, store: Store, mirror: Mirror, portal: BlockingPortal) -> None:
        self.store, self.mirror, self._portal = store, mirror, portal

    def settle(self, seconds: float = 30) -> None:
        """Wait until Neo4j holds what the store holds."""

        async def wait() -> None:
            with anyio.fail_after(seconds):
                while self.mirror.state.behind:
                    await anyio.sleep(0.01)

        self._portal.call(wait)

    def trouble(self, seconds: float = 30) -> str:
        """Wait until the mirror says what is wrong."""

        async def wait() -> str:
            with anyio.fail_after(seconds):
                while not self.mirror.trouble:
                    await anyio.sleep(0.02)
            return self.mirror.trouble

        return self._portal.call(wait)


@contextmanager
def followed(store: Store, settings: Neo4j, **options: Any) -> Iterator[Followed]:
    """Mirror a store until the end of the block."""
    with start_blocking_portal() as portal:
        mirror = portal.call(lambda: _made(store, settings, options))
        task = portal.start_task_soon(mirror.run)
        try:
            yield Followed(store, mirror, portal)
        finally:
            task.cancel()


async def _made(store: Store, settings: Neo4j, options: dict[str, Any]) -> Mirror:
    return Mirror(store, Database(settings), **{"quiet": 0.3, "glance": 0.01, "pause": 0.05, **options})


def kept(store: Store) -> Graph:
    """The graph of a store: nodes by label and id, relationships by type and both ends."""
    part = outbox.read(store, "", 0, 10_000_000)
    nodes = {}
    for label, rows in part.nodes.items():
        names = outbox.columns(label)
        for row in rows:
            nodes[(label, row[0])] = {n: v for n, v in zip(names, row[1:], strict=True) if v is not None}
    edges = {}
    for (kind, start, end), rows in part.edges.items():
        for row in rows:
            told = dict(zip(("first_seen", "gone_at", "scope"), row[2:], strict=True))
            edges[(kind, (start, row[0]), (end, row[1]))] = {n: v for n, v in told.items() if v is not None}
    return nodes, edges


def mirrored(server: Server, host: str) -> Graph:
    """The graph that a server holds of a host, in the same form; nothing may be there twice."""
    nodes: dict[Node, dict[str, Any]] = {}
    edges: dict[tuple[str, Node, Node], dict[str, Any]] = {}
    short = len(host)
    with server.driver() as driver, driver.session() as session:
        owned = 0
        for record in session.run(
            "MATCH (n) WHERE n.id STARTS WITH $host RETURN labels(n) AS labels, properties(n) AS values, "
            "COUNT { (n)-[:ON_HOST]->(:Host {id: $id}) } AS owned",
            host=host,
            id=f"{host}/Host/{host}",
        ):
            (label,), values = record["labels"], record["values"]
            node = (label, values["id"][short:])
            assert node not in nodes, f"{node} is there twice"
            if values.keys() - set(OWN) or label != "Host":
                nodes[node] = {n: _plain(v) for n, v in values.items() if n not in OWN}
            assert record["owned"] == (label != "Host"), f"{node} is owned {record['owned']} times"
            owned += record["owned"]
        for record in session.run(
            "MATCH (a)-[r]->(b) WHERE a.id STARTS WITH $host AND type(r) <> 'ON_HOST' "
            "RETURN type(r) AS type, labels(a)[0] AS start, a.id AS from, labels(b)[0] AS end, "
            "b.id AS to, properties(r) AS values",
            host=host,
        ):
            edge = (
                record["type"],
                (record["start"], record["from"][short:]),
                (record["end"], record["to"][short:]),
            )
            assert edge not in edges, f"{edge} is there twice"
            edges[edge] = {n: _plain(v) for n, v in record["values"].items()}
    return nodes, edges


def _plain(value: Any) -> Any:
    """A value of Neo4j as the store writes it."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if hasattr(value, "to_native"):
        moment: datetime = value.to_native().astimezone(UTC)
        return moment.isoformat(timespec="microseconds")[:-6] + "Z"
    return value


def assert_equal(store: Store, server: Server, host: str) -> None:
    """The two graphs are the same, node by node, property by property, relationship by relationship."""
    ours, theirs = kept(store), mirrored(server, host)
    for side, other, which in ((ours[0], theirs[0], "node"), (ours[1], theirs[1], "edge")):
        for one in side.keys() | other.keys():
            assert side.get(one) == other.get(one), f"{which} {one} differs"
