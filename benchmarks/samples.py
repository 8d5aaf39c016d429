"""Bytes that a sample takes on disk, beside a bare narrow table."""

import random
import sqlite3
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks.rows import Budget, Row
from watchman_mcp.store.batch import Batch
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import samples, table, to_ms

Samples = list[tuple[str, dict[str, Any]]]
BATCH = 100
"""Ticks written at once, so that ten thousand do not take a minute; the pages come out the same."""


def run(quick: bool) -> list[Row]:
    """A machine with three disks, three interfaces and its ten busiest processes, for so many minutes."""
    ticks = 2_000 if quick else 10_000
    with tempfile.TemporaryDirectory(prefix="watchman-bench-") as place:
        store = Store(Path(place))
        empty = store.size_bytes
        plain = sqlite3.connect(Path(place) / "plain.db", isolation_level=None)
        _create(plain)
        rows, batch = 0, Samples()
        for number, tick in enumerate(_ticks(ticks), 1):
            batch += tick
            if number % BATCH == 0:
                store.write(Batch(at=datetime.now(UTC), samples=batch))
                _insert(plain, batch)
                rows, batch = rows + len(batch), []
        kept = store.size_bytes - empty
        (pages,) = plain.execute("PRAGMA page_count").fetchone()
        (size,) = plain.execute("PRAGMA page_size").fetchone()
        plain.close()
        store.close()
    return [
        Row(
            f"sample on disk, {rows:,} rows",
            kept / rows,
            "bytes",
            pages * size / rows,
            "rows of numbers, no index",
            Budget(100),
        )
    ]


def _create(db: sqlite3.Connection) -> None:
    for kept in samples():
        numbers = ", ".join(f"{c.name} {c.sql}" for c in kept.measures)
        db.execute(f"CREATE TABLE {kept.name} (series INTEGER, ts INTEGER, {numbers})")


def _insert(db: sqlite3.Connection, rows: Samples) -> None:
    series: dict[tuple[str, str], int] = {}
    db.execute("BEGIN")
    for label, values in rows:
        kept = table(label)
        named = series.setdefault((label, str([values[c.name] for c in kept.named])), len(series))
        numbers = kept.encode_sample(values)
        marks = ", ".join("?" * (2 + len(numbers)))
        db.execute(f"INSERT INTO {label} VALUES ({marks})", (named, to_ms(values["timestamp"]), *numbers))
    db.execute("COMMIT")


def _ticks(count: int) -> Iterator[Samples]:
    """One sample of everything a minute; processes come and go."""
    chance = random.Random(4)
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    processes = [_process(n, begin) for n in range(10)]
    for number in range(count):
        at = begin + timedelta(seconds=60 * number, milliseconds=chance.randrange(40))
        if number % 20 == 0:
            processes[chance.randrange(10)] = _process(1_000 + number, at)
        yield [
            ("SystemMetrics", _system(at, chance)),
            *[("DiskMetrics", _disk(at, mount, number)) for mount in ("/", "/home", "/var")],
            *[("InterfaceMetrics", _traffic(at, name, chance)) for name in ("eth0", "wlan0", "docker0")],
            *[("ProcessMetrics", {**process, **_use(at, chance)}) for process in processes],
        ]


def _system(at: datetime, chance: random.Random) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(table("SystemMetrics").label.model_fields)
    values |= {name: round(chance.uniform(0, 64), 3) for name, c in values.items() if c is None}
    cores = [round(chance.uniform(0, 100), 1) for _ in range(4)]
    return values | {"timestamp": at, "cpu_per_core": cores, "processes": chance.randrange(200, 400)}


def _disk(at: datetime, mount: str, number: int) -> dict[str, Any]:
    used = round(120 + number / 1000, 3)
    return {
        "filesystem": "/dev/nvme0n1p2",
        "mount_point": mount,
        "timestamp": at,
        "used_gb": used,
        "available_gb": round(400 - used, 3),
        "use_percent": round(used / 4, 1),
        "inodes_percent": 7.3,
    }


def _traffic(at: datetime, interface: str, chance: random.Random) -> dict[str, Any]:
    received, sent = (round(chance.expovariate(4), 3) for _ in range(2))
    return {"interface": interface, "timestamp": at, "rx_mb_s": received, "tx_mb_s": sent, "errors": 0}


def _process(number: int, at: datetime) -> dict[str, Any]:
    return {"name": f"program{number % 30}", "pid": 700 + number, "started_at": at, "user": "operator"}


def _use(at: datetime, chance: random.Random) -> dict[str, Any]:
    return {
        "timestamp": at,
        "cpu_percent": round(chance.uniform(0, 100), 1),
        "memory_mb": round(chance.uniform(20, 2000), 1),
    }
