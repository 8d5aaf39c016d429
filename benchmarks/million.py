"""A million changes of packages: how fast they get into a store, how large it is, and how fast it answers."""

import sqlite3
import sys
import time
from pathlib import Path

from benchmarks._homes import Home, home, settle
from benchmarks.history import CHUNK, PACKAGES, lay_out, look
from benchmarks.questions import QUESTIONS, bare, times
from benchmarks.rows import Budget, Row, percentile
from watchman_mcp import intake
from watchman_mcp.collectors import load
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files

ASKED = ("query_packages(since=7d)", "query_packages(name=...)", "query_packages(view=installed)")
PATIENCE = 1_800
"""Seconds that the look is waited for."""


def run(quick: bool) -> list[Row]:
    """Two years of updates from log files through the whole runner, and then the questions of people."""
    events, rounds = (100_000, 20) if quick else (1_000_000, 60)
    with home() as ours:
        root = ours.place / "root"
        lay_out(root, events)
        (root / "etc/machine-id").write_text("0" * 31 + "1\n")
        ours.configure(f'[host]\nroot = "{root}"\n')
        apt = next(collector for collector in load() if collector.name == "apt")
        intake.settle()  # as in the daemon
        _forget_the_most()
        took, found = look(ours.state, Machine(Files(root), Commands(), root), apt, PATIENCE)
        most = _most_mib()
        if found != events:
            raise RuntimeError(f"{events} changes were laid out, {found} events were found")
        print(f"  {found:,} events in {took:.0f} s", file=sys.stderr, flush=True)
        size = (ours.state / "watchman.db").stat().st_size
        plain, plain_size = _plain(ours.state / "watchman.db", ours.place / "plain.db")
        title, floor, beside = f"{events:,} events", found / plain, "plain table, no keys, no index"
        return [
            Row(f"{title}, log files to store", found / took, "events/s", floor, "executemany, plain table"),
            Row("  most memory of that look, RSS", most, "MiB", budget=Budget(500)),
            Row("  database", size / 1e6, "MB", plain_size / 1e6, beside),
            Row("  an event in it", size / found, "bytes", plain_size / found, beside),
            *_asked(ours, rounds),
        ]


def _asked(ours: Home, rounds: int) -> list[Row]:
    settle(ours.serve())
    rows = []
    with ours.client() as client:
        counted = client.call("query_graph", query="SELECT count(*) FROM Software WHERE gone_at IS NULL")
        if counted["items"] != [[PACKAGES]]:
            raise RuntimeError(f"{PACKAGES} packages were laid out, the store has {counted['items']}")
        for what in ASKED:
            tool, arguments, sql = QUESTIONS[what]
            took = times(rounds, lambda t=tool, a=arguments: client.call(t, **a))
            floor = bare(ours, sql, rounds)
            title_of = f"  {what}, p50"
            rows.append(Row(title_of, percentile(took, 50), "ms", floor, "bare sqlite3 query", Budget(10)))
    return rows


def _plain(source: Path, target: Path) -> tuple[float, int]:
    """Seconds and bytes of the same values in a table without keys, as fast as the library writes them."""
    reading = sqlite3.connect(f"file:{source}?mode=ro", uri=True)
    rows = reading.execute("SELECT * FROM Event")
    columns = ", ".join(f"c{number}" for number in range(len(rows.description)))
    marks = ", ".join("?" * len(rows.description))
    writing = sqlite3.connect(target)
    writing.execute("PRAGMA journal_mode = WAL")
    writing.execute(f"CREATE TABLE plain ({columns})")
    took = 0.0
    while part := rows.fetchmany(CHUNK):
        begun = time.perf_counter()
        with writing:
            writing.executemany(f"INSERT INTO plain VALUES ({marks})", part)
        took += time.perf_counter() - begun
    writing.close()
    reading.close()
    return took, target.stat().st_size


def _forget_the_most() -> None:
    """Let the kernel begin anew to watch how much memory this process uses at most."""
    Path("/proc/self/clear_refs").write_text("5")


def _most_mib() -> float:
    """The most memory that this process has had since then."""
    lines = Path("/proc/self/status").read_text().split("\n")
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024
