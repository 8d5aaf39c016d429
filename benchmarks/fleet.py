"""Fifty machines in one Neo4j: how fast their graphs get there, and how long a question about all takes."""

import sys
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
from mcp import Client
from pydantic import SecretStr

from benchmarks.history import lay_out
from benchmarks.rows import Budget, Row, percentile
from tests.rigs import neo4j as rig
from tests.story import serving
from watchman_mcp.cleaning import Cleaner
from watchman_mcp.collectors import load
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.runner import Runner
from watchman_mcp.schema.resources import SystemMetrics
from watchman_mcp.settings import Neo4j, Settings
from watchman_mcp.store import outbox
from watchman_mcp.store.batch import Batch, NodeRow
from watchman_mcp.store.mirror import ROWS
from watchman_mcp.store.neo4j import statements
from watchman_mcp.store.neo4j.connection import Database
from watchman_mcp.store.neo4j.graph import Graph, Mark
from watchman_mcp.store.neo4j.offering import offered
from watchman_mcp.store.sqlite import Store

CHANGES = 5_000
WARM = 4
"""Machines that are sent before anything counts: the server learns."""
RAW_ROWS = 5_000
"""Rows of a transaction of the bare driver."""
VERSIONS = ("3.0.11-1~deb12u2", "3.0.14-1~deb12u2", "3.0.15-1~deb12u1", "3.0.17-1~deb12u2")
QUESTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "which have openssl older than 3.0.15?": (
        "query_packages",
        {"name": "openssl", "older_than": "3.0.15", "host": "*"},
    ),
    "what was installed anywhere this week?": ("query_packages", {"since": "7d", "host": "*"}),
    "what changed anywhere this week?": ("what_changed", {"since": "7d", "host": "*"}),
    "how does web1 differ from web2?": ("query_packages", {"host": "web1", "compare_with": "web2"}),
    "how are they all?": ("overview", {"host": "*"}),
    "how is the load of all?": ("system_metrics", {"host": "*"}),
    "what is on web7?": ("query_packages", {"host": "web7"}),
}


def run(quick: bool) -> list[Row]:
    """Rows a second of the mirror beside the bare driver; median and 95th percentile of fleet questions."""
    machines, rounds = (10, 10) if quick else (50, 30)
    rig.jars()
    with tempfile.TemporaryDirectory(prefix="watchman-bench-") as place, rig.serving(quick=False) as server:
        settings = Neo4j(uri=server.uri, user=server.user, password=SecretStr(server.password))
        stores = _stores(Path(place))
        try:
            return anyio.run(_measure, settings, stores, machines, rounds)
        finally:
            for store in stores:
                store.close()


def _stores(place: Path) -> list[Store]:
    """What the daemons of two machines keep, read by the real runner; they differ in some packages."""
    stores = []
    for number in range(2):
        root = place / f"root{number}"
        lay_out(root, CHANGES + number * 200)
        (root / "etc/machine-id").write_text(f"{number + 1:032x}\n")
        (place / f"state{number}").mkdir()
        store = Store(place / f"state{number}")
        anyio.run(_look, store, root)
        stores.append(store)
    return stores


async def _look(store: Store, root: Path) -> None:
    async def told(_labels: frozenset[str]) -> None:
        """Nobody is told."""

    wanted = [c for c in load() if c.name in ("apt", "host", "resources")]
    runner = Runner(
        store, Machine(Files(root), Commands(), root), Settings(), wanted, Cleaner(b"bench"), told
    )
    await runner.scan([c.name for c in wanted])


async def _measure(settings: Neo4j, stores: list[Store], machines: int, rounds: int) -> list[Row]:
    database = Database(settings)
    await database.define(statements.definitions())
    sent = ours = raw = raw_rows = 0.0
    try:
        for number in range(machines):
            store = stores[number % 2]
            _rename(store, f"web{number + 1}", number)
            bare = number % 3 == 2  # in turn, on a graph of the same size
            rows, seconds = await (_bare if bare else _mirrored)(database, store, f"{number:032x}")
            if number < WARM:
                continue
            if bare:
                raw, raw_rows = raw + seconds, raw_rows + rows
            else:
                ours, sent = ours + seconds, sent + rows
            print(f"  machine {number + 1}: {rows / seconds:,.0f} rows/s", file=sys.stderr, flush=True)
        delivery = Row(
            f"mirror to Neo4j, {machines} machines, {(sent + raw_rows) / (machines - WARM):,.0f} rows each",
            sent / ours,
            "rows/s",
            raw_rows / raw,
            "bare driver, UNWIND of 5,000",
            Budget(0.8, of_ratio=True, least=True),
        )
        return [delivery, *await _questions(settings, database, stores[0], machines, rounds)]
    finally:
        await database.close()


def _rename(store: Store, name: str, number: int) -> None:
    """Make the store another machine's: its name, and one package of a version of its own."""
    host = dict(store.read("SELECT * FROM Host")[0])
    values = {
        field: host[field] for field in host if field not in ("seq", "id", "first_seen", "gone_at", "scope")
    }
    values |= {"name": name, "boot_time": None}
    package = dict(store.read("SELECT * FROM Software LIMIT 1")[0])
    package = {field: package[field] for field in package if field in _SOFTWARE}
    package |= {"key": "openssl", "name": "openssl", "version": VERSIONS[number % len(VERSIONS)]}
    package |= {"installed_at": None, "requested": None, "held": None}
    rows = [
        NodeRow("Host", host["id"], values, "host"),
        NodeRow("Software", "Software/apt/openssl/amd64/", package, "apt"),
    ]
    now = datetime.now(UTC)
    load = SystemMetrics(timestamp=now, cpu_percent=number + 0.5, memory_used_gb=4.0, memory_total_gb=16.0)
    store.write(Batch(at=now, nodes=rows, samples=[("SystemMetrics", dict(load.__dict__))]))


_SOFTWARE = frozenset(outbox.columns("Software")) - {"first_seen", "gone_at", "scope"}


def _part(store: Store, host: str, above: int, most: int) -> outbox.Part:
    """Rows as the daemon of another machine would send them."""
    part = outbox.read(store, host, above, most)
    machine = outbox.columns("Host").index("machine") + 1
    for row in part.nodes.get("Host", []):
        row[0], row[machine] = outbox.graph_id(host, f"Host/{host}"), host
    return replace(part, host=host)


async def _mirrored(database: Database, store: Store, host: str) -> tuple[int, float]:
    """Rows and seconds of a whole graph sent as the mirror sends it."""
    graph, mark = Graph(database, host), Mark(None, None, -1)
    begun, rows, newest = time.perf_counter(), 0, int(store.meta("seq"))
    empty = Mark(store.meta("store"), uuid.uuid4().hex, 0)
    await graph.move(mark, empty)
    mark = empty
    while mark.seq < newest:
        part = await anyio.to_thread.run_sync(_part, store, host, mark.seq, ROWS)
        to = Mark(mark.store, mark.run, part.upto)
        await graph.move(mark, to, part)
        rows, mark = rows + _count(part), to
    return rows, time.perf_counter() - begun


async def _bare(database: Database, store: Store, host: str) -> tuple[int, float]:
    """The same by the driver alone: rows that lie ready, large parts, no mark and no check."""
    parts, above, newest = [], 0, int(store.meta("seq"))
    while above < newest:
        parts.append(_part(store, host, above, RAW_ROWS))
        above = parts[-1].upto
    driver = await database.driver()
    given = {"host": host, "host_id": outbox.graph_id(host, f"Host/{host}")}
    begun = time.perf_counter()
    async with driver.session() as session:
        await (
            await session.run("MERGE (h:Host {id: $id}) SET h.heard_at = datetime()", id=given["host_id"])
        ).consume()
        for part in parts:

            async def work(transaction: Any, part: outbox.Part = part) -> None:
                for label, rows in part.nodes.items():
                    await (await transaction.run(statements.upsert(label), rows=rows, **given)).consume()
                for kind, rows in part.edges.items():
                    await (await transaction.run(statements.join(*kind), rows=rows)).consume()

            await session.execute_write(work)
    return sum(map(_count, parts)), time.perf_counter() - begun


def _count(part: outbox.Part) -> int:
    return sum(map(len, part.nodes.values())) + sum(map(len, part.edges.values()))


async def _questions(
    settings: Neo4j, database: Database, store: Store, machines: int, rounds: int
) -> list[Row]:
    rows = []
    with tempfile.TemporaryDirectory() as root:
        async with (
            serving(store, Path(root), offered=offered(settings, database)) as server,
            Client(server.mcp, cache=None) as client,
        ):
            for what, (tool, arguments) in QUESTIONS.items():
                took = await _times(rounds, lambda t=tool, a=arguments: _ask(client, t, a))
                title = f"{what} {machines} machines"
                rows.append(Row(f"{title}, p50", percentile(took, 50), "ms"))
                rows.append(Row(f"{title}, p95", percentile(took, 95), "ms"))
    return rows


async def _ask(client: Any, tool: str, arguments: dict[str, Any]) -> None:
    result = await client.call_tool(tool, arguments)
    if result.is_error or result.structured_content["found"] != "yes":
        raise RuntimeError(f"{tool} {arguments}: {result.content[0].text[:300]}")


async def _times(rounds: int, ask: Callable[[], Awaitable[None]]) -> list[float]:
    await ask()
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        await ask()
        took.append((time.perf_counter() - begun) * 1000)
    return took
