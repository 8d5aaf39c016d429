"""Commands about the graph of many machines: preparing its Neo4j, and listing who writes to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import anyio

from watchman_mcp.cleaning import Cleaner
from watchman_mcp.errors import Absent, FleetError, InvalidRequest
from watchman_mcp.settings import load
from watchman_mcp.store import opening, outbox
from watchman_mcp.store.neo4j import graph
from watchman_mcp.store.neo4j.connection import Database
from watchman_mcp.store.neo4j.fleet import Fleet

T = TypeVar("T")
SNIPPET = """[neo4j]
uri = "neo4j://HOST:7687"
user = "neo4j"
password_file = "~/.config/watchman/neo4j-password"
"""


def prepare(config: str, environ: Mapping[str, str], directory: Path, *, replace: bool) -> str:
    """Check the address, make what is missing, and say how large the graph is.

    With `replace` the store in `directory` takes the place of the one that kept this machine's graph.

    Raises: InvalidRequest, FleetError, Absent (there is no store that could take a place).
    """
    return _with_database(config, environ, partial(_prepare, directory=directory, replace=replace))


def hosts(config: str, environ: Mapping[str, str]) -> list[dict[str, Any]]:
    """The machines of the graph by name: id, system, packages there now, and when each was last heard.

    Raises: InvalidRequest, FleetError.
    """
    return _with_database(config, environ, _hosts)


Work = Callable[[Database], Awaitable[T]]


def _with_database(config: str, environ: Mapping[str, str], work: Work[T]) -> T:
    settings = load(config, environ).neo4j
    if not settings.uri:
        raise InvalidRequest(f"no Neo4j is configured; put this into {config or 'config.toml'}:\n\n{SNIPPET}")

    async def run() -> T:
        database = Database(settings)
        try:
            return await work(database)
        finally:
            await database.close()

    try:
        return anyio.run(run)
    except FleetError as error:
        raise FleetError(f"Neo4j at {settings.uri}: {error}") from error


async def _prepare(database: Database, *, directory: Path, replace: bool) -> str:
    await graph.prepare(database)
    (size,) = await database.read(
        "MATCH (n) WHERE n.host IS NOT NULL WITH count(n) AS nodes "
        "OPTIONAL MATCH ()-[r]->() WITH nodes, count(r) AS edges "
        "OPTIONAL MATCH (h:Host) WHERE h.mirror_store IS NOT NULL RETURN nodes, edges, count(h) AS hosts"
    )
    lines = [
        f"Neo4j at {database.settings.uri} can be used; its constraints and indexes are there.",
        f"It holds {size['hosts']} machines, {size['nodes']} nodes and {size['edges']} relationships.",
    ]
    if replace:
        host = _own_host(directory)
        await graph.Graph(database, host).release()
        lines.append(f"The graph of this machine ({host[:8]}) is sent anew by the Watchman of {directory}.")
    return "\n".join(lines)


def _own_host(directory: Path) -> str:
    path = directory / opening.NAME
    if not path.exists():
        raise Absent(f"there is no store in {directory}; start Watchman once before it takes a place")
    db = opening.open_reader(path)
    try:
        host = outbox.host_in(db)
    finally:
        db.close()
    if host is None:
        raise Absent(
            f"the store in {directory} does not know its machine yet; `watchman-mcp scan` looks at it"
        )
    return host


async def _hosts(database: Database) -> list[dict[str, Any]]:
    found = await Fleet(database, Cleaner(b"").text).known_hosts()
    return [
        {
            "name": one.name,
            "machine": one.machine,
            "os": one.os,
            "heard": f"{one.heard_at[:19]}Z",
            "packages": packages,
        }
        for one, packages in found
    ]
