"""How long a read tool takes through the bridge on a store of a million nodes, beside the bare query."""

import random
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks._graph import HOST, RUN, install, name, transactions
from benchmarks._homes import Home, home, settle
from benchmarks.rows import Budget, Row, percentile
from watchman_mcp.store.batch import Batch, EventRow, NodeRow
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import to_text

BATCH = 20_000
WANTED = name(1234)
COUNT = "SELECT type, count(*) AS n FROM Event GROUP BY type"
QUESTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "query_packages(since=7d)": (
        "query_packages",
        {"since": "7d"},
        "SELECT * FROM Event WHERE ts >= :week ORDER BY ts DESC LIMIT 50",
    ),
    "query_packages(name=...)": (
        "query_packages",
        {"name": WANTED},
        "SELECT * FROM Software WHERE key = :name AND gone_at IS NULL ORDER BY key LIMIT 50",
    ),
    "query_packages(view=installed)": (
        "query_packages",
        {"view": "installed"},
        "SELECT * FROM Software WHERE gone_at IS NULL ORDER BY key LIMIT 50",
    ),
    "what_changed()": (
        "what_changed",
        {},
        "SELECT * FROM Event WHERE ts >= :day ORDER BY ts DESC LIMIT 50",
    ),
    "overview()": ("overview", {}, "SELECT type, count(*) FROM Event WHERE ts >= :midnight GROUP BY 1"),
    "query_graph(a count by type)": ("query_graph", {"query": COUNT}, COUNT),
}


def run(quick: bool) -> list[Row]:
    """Median and 95th percentile of each question, the bare query of the same page beside it."""
    nodes, rounds = (100_000, 30) if quick else (1_000_000, 60)
    with home() as ours:
        root = ours.place / "root"
        (root / "etc").mkdir(parents=True)
        (root / "etc/machine-id").write_text("0" * 31 + "1\n")
        ours.configure(f'[host]\nroot = "{root}"\n')
        ours.state.mkdir(parents=True, mode=0o700)
        begun = time.monotonic()
        fill(ours.state, nodes)
        print(f"  {nodes:,} nodes written in {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
        pid = ours.serve()
        settle(pid)
        return _measure(ours, nodes, rounds)


def _measure(ours: Home, nodes: int, rounds: int) -> list[Row]:
    rows = []
    with ours.client() as client:
        alive = client.call("query_graph", query="SELECT count(*) FROM Software WHERE gone_at IS NULL")[
            "items"
        ][0][0]
        if alive != nodes // 10:
            raise RuntimeError(f"{nodes // 10} packages were written, {alive} are left: a look swept them")
        for what, (tool, arguments, sql) in QUESTIONS.items():
            took = times(rounds, lambda t=tool, a=arguments: client.call(t, **a))
            floor = bare(ours, sql, rounds)
            title = f"{what}, {nodes:,} nodes"
            rows.append(
                Row(f"{title}, p50", percentile(took, 50), "ms", floor, "bare sqlite3 query", Budget(10))
            )
            rows.append(Row(f"{title}, p95", percentile(took, 95), "ms"))
    return rows


def times(rounds: int, ask: Callable[[], Any]) -> list[float]:
    ask()
    took = []
    for _ in range(rounds):
        begun = time.perf_counter()
        ask()
        took.append((time.perf_counter() - begun) * 1000)
    return took


def bare(ours: Home, sql: str, rounds: int) -> float:
    now = datetime.now(UTC)
    parameters = {
        "name": WANTED,
        "week": to_text(now - timedelta(days=7)),
        "day": to_text(now - timedelta(days=1)),
        "midnight": to_text(now.replace(hour=0, minute=0, second=0, microsecond=0)),
    }
    db = sqlite3.connect(f"file:{ours.state}/watchman.db?mode=ro", uri=True)
    took = times(rounds, lambda: db.execute(sql, parameters).fetchall())
    db.close()
    return percentile(took, 50)


def fill(directory: Path, nodes: int) -> None:
    """A store with so many nodes: a tenth packages of many managers, the rest a year of their history."""
    now = datetime.now(UTC)
    store = Store(directory)
    groups = list(_packages(nodes // 10, now))
    store.write(Batch(at=now, nodes=[HOST, RUN]))
    for start in range(0, len(groups), 20):
        store.write(Batch(at=now, nodes=[row for group in groups[start : start + 20] for row in group]))
    batch: list[EventRow] = []
    for event in _history(groups, nodes - nodes // 10, now):
        batch.append(event)
        if len(batch) == BATCH:
            store.write(Batch(at=now, events=batch))
            batch = []
    store.write(Batch(at=now, events=batch))
    store.close()


def _packages(count: int, now: datetime) -> Iterator[list[NodeRow]]:
    """Debian's own, then one environment after another."""
    chance = random.Random(1)
    system = count // 20
    yield install(system, "apt", now - timedelta(days=300), chance)
    left, number = count - system, 0
    while left:
        size = min(left, 250)
        manager = ("pip", "uv", "pip", "conda", "pipx")[number % 5]
        at = now - timedelta(days=chance.randint(10, 360))
        yield install(size, manager, at, chance, f"/srv/app{number}/.venv")
        left, number = left - size, number + 1


def _history(groups: list[list[NodeRow]], count: int, now: datetime) -> Iterator[EventRow]:
    """A year of transactions of about thirty changes, oldest first."""
    chance = random.Random(2)
    size = 30
    runs = -(-count // size)
    for number in range(runs):
        at = now - timedelta(days=365 * (1 - number / runs), seconds=-30)
        group = groups[0] if number % 2 else groups[chance.randrange(len(groups))]
        yield from transactions(group, min(at, now), min(size, count - number * size), chance)
