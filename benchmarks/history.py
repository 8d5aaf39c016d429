"""How fast a machine's package history gets into a store, from its log files through the whole runner."""

import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio

from benchmarks._graph import name
from benchmarks.rows import Budget, Row
from watchman_mcp.cleaning import Cleaner
from watchman_mcp.collectors import Collector, Look, load
from watchman_mcp.intake import settle
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.runner import Runner
from watchman_mcp.schema.core import Record
from watchman_mcp.settings import Settings
from watchman_mcp.store.batch import Batch, EventRow
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import table

PACKAGES = 2_000
RUN = 25
"""Packages that one run of apt updates."""
CHUNK = 5_000
Parts = tuple[list[dict[str, Any]], list[EventRow]]


def run(quick: bool) -> list[Row]:
    """Events a second of the whole way and of its parts, beside the same rows in a plain table."""
    changes = 20_000 if quick else 100_000
    settle()  # as in the daemon
    with tempfile.TemporaryDirectory(prefix="watchman-bench-") as place:
        root = Path(place) / "root"
        lay_out(root, changes)
        machine = Machine(Files(root), Commands(), root)
        apt = next(collector for collector in load() if collector.name == "apt")
        whole, found = look(Path(place) / "store", machine, apt)
        if found != changes:
            raise RuntimeError(f"{changes} changes were laid out, {found} events were found")
        parse, clean, write, plain = _parts(Path(place), machine, apt)
    title = f"package history, {changes:,} changes"
    budget = Budget(25_000, least=True)
    floor, beside = found / plain, "executemany, plain table"
    return [
        Row(f"{title}, log files to store", found / whole, "events/s", floor, beside, budget),
        Row("  read and understand the logs", found / parse, "events/s"),
        Row("  clean", found / clean, "events/s"),
        Row("  write to the store", found / write, "events/s", floor, beside),
    ]


def look(directory: Path, machine: Machine, apt: Collector, seconds: float = 300) -> tuple[float, int]:
    """Seconds of the first look, and the events that it brought into the store in this directory.

    `seconds` is how long it is waited for; the runner loses its patience as it does in the daemon.
    """
    directory.mkdir(parents=True, mode=0o700, exist_ok=True)
    store = Store(directory)

    async def told(_labels: frozenset[str]) -> None:
        """Nobody is told."""

    runner = Runner(store, machine, Settings(), [apt], Cleaner(b"bench"), told)

    async def first() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runner.run)
            await runner.first_look(apt.labels, seconds)
            tasks.cancel_scope.cancel()

    begun = time.perf_counter()
    anyio.run(first)
    took = time.perf_counter() - begun
    found = store.read("SELECT count(*) FROM Event")[0][0]
    if runner.status["apt"].status != "ok":
        raise RuntimeError(f"apt: {runner.status['apt'].error or runner.status['apt'].unobserved}")
    store.close()
    return took, found


def _parts(place: Path, machine: Machine, apt: Collector) -> tuple[float, float, float, float]:
    """Seconds of each part by itself: reading, cleaning, writing, and writing into a plain table."""
    found: list[Record] = []
    cleaner, rows = Cleaner(b"bench"), list[EventRow]()

    def read() -> None:
        found.extend(
            seen for seen in apt.collect(Look(machine, Settings(), "apt")) if isinstance(seen, Record)
        )

    def clean() -> None:
        for record in found:
            values = cleaner.row("Event", record.event.__dict__)
            subject = record.subject.node_id if record.subject else None
            rows.append(EventRow(f"Event/{values['key']}", values, "apt", subject))

    parts = (
        read,
        clean,
        lambda: _write(place / "parts", rows),
        lambda: _write_plain(place / "plain.db", rows),
    )
    parse, cleaned, written, plain = map(_timed, parts)
    return parse, cleaned, written, plain


def _timed(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _write(directory: Path, rows: list[EventRow]) -> None:
    directory.mkdir()
    store = Store(directory)
    for start in range(0, len(rows), CHUNK):
        store.write(Batch(at=datetime.now(UTC), events=rows[start : start + CHUNK]))
    store.close()


def _write_plain(path: Path, rows: list[EventRow]) -> None:
    """The same values into a table without keys and indexes, as fast as the library goes."""
    kept = table("Event")
    values = [(row.id, *kept.encode(row.values), row.acted_on) for row in rows]
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute(
        f"CREATE TABLE plain (id, {', '.join(c.name for c in kept.columns if c.name != 'by')}, who, acted_on)"
    )
    marks = ", ".join("?" * len(values[0]))
    for start in range(0, len(values), CHUNK):
        with db:
            db.executemany(f"INSERT INTO plain VALUES ({marks})", values[start : start + CHUNK])
    db.close()


def lay_out(root: Path, changes: int) -> None:
    """A Debian machine that took so many updates over two years: dpkg's state and log, and apt's history."""
    for folder in ("var/lib/dpkg/info", "var/log/apt", "etc"):
        (root / folder).mkdir(parents=True)
    versions = [1] * PACKAGES
    with (
        (root / "var/log/dpkg.log").open("w") as log,
        (root / "var/log/apt/history.log").open("w") as history,
    ):
        for run in _runs(changes, versions):
            log.writelines(_dpkg_log(*run))
            history.write(_history_log(*run))
    (root / "var/lib/dpkg/status").write_text("".join(map(_stanza, range(PACKAGES), versions)))


Change = tuple[int, int]
"""A package and the number of its new version."""


def _runs(changes: int, versions: list[int]) -> Iterator[tuple[datetime, list[Change]]]:
    chance = random.Random(3)
    count = -(-changes // RUN)
    begin = datetime.now(UTC).replace(microsecond=0, tzinfo=None) - timedelta(days=730)
    for number in range(count):
        chosen = chance.sample(range(PACKAGES), min(RUN, changes - number * RUN))
        for package in chosen:
            versions[package] += 1
        yield begin + timedelta(seconds=729 * 86_400 // count * number), [(p, versions[p]) for p in chosen]


def _version(number: int) -> str:
    return f"2.{number // 10}.{number % 10}-1+deb12u{number}"


def _dpkg_log(begin: datetime, changes: list[Change]) -> Iterator[str]:
    """All are unpacked, then all are configured, two in a second, as apt lets dpkg do it."""
    yield f"{begin} startup archives unpack\n"
    for number, (package, version) in enumerate(changes):
        at, who = begin + timedelta(seconds=1 + number // 2), f"{name(package)}:amd64"
        old, new = _version(version - 1), _version(version)
        yield f"{at} upgrade {who} {old} {new}\n"
        for state in ("half-configured", "unpacked", "half-installed"):
            yield f"{at} status {state} {who} {old}\n"
        yield f"{at} status unpacked {who} {new}\n"
    yield f"{begin + timedelta(seconds=20)} startup packages configure\n"
    for number, (package, version) in enumerate(changes):
        at, who, new = (
            begin + timedelta(seconds=20 + number // 2),
            f"{name(package)}:amd64",
            _version(version),
        )
        yield f"{at} configure {who} {new} <none>\n"
        for state in ("unpacked", "half-configured", "installed"):
            yield f"{at} status {state} {who} {new}\n"


def _history_log(begin: datetime, changes: list[Change]) -> str:
    listed = ", ".join(f"{name(p)}:amd64 ({_version(v - 1)}, {_version(v)})" for p, v in changes)
    end = begin + timedelta(seconds=40)
    return (
        f"\nStart-Date: {begin:%Y-%m-%d  %H:%M:%S}\nCommandline: apt-get -y dist-upgrade\n"
        f"Requested-By: operator (1000)\nUpgrade: {listed}\nEnd-Date: {end:%Y-%m-%d  %H:%M:%S}\n"
    )


def _stanza(package: int, version: int) -> str:
    return (
        f"Package: {name(package)}\nStatus: install ok installed\nPriority: optional\nSection: misc\n"
        f"Installed-Size: {1000 + package}\nMaintainer: Nobody <nobody@example.org>\nArchitecture: amd64\n"
        f"Version: {_version(version)}\nDepends: {name((package + 1) % PACKAGES)}\n"
        f"Description: made-up package {package}\n that is there to be read\n\n"
    )
