"""The database file: damage, versions, a full disk, many readers, and what is kept how long."""

import os
import sqlite3
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from watchman_mcp import retention
from watchman_mcp.errors import StoreError
from watchman_mcp.schema.core import Event
from watchman_mcp.schema.packages import Software
from watchman_mcp.schema.resources import SystemMetrics
from watchman_mcp.settings import Settings
from watchman_mcp.store import opening
from watchman_mcp.store.batch import Batch, EventRow, JournalRow, NodeRow
from watchman_mcp.store.sqlite import Store

NOW = datetime(2026, 3, 1, 12, 30, tzinfo=UTC)


def package(name: str) -> NodeRow:
    node = Software(key=name, name=name, version="1.0", manager="apt", architecture="amd64")
    return NodeRow("Software", node.node_id, dict(node.__dict__), "apt")


def event(key: str, ts: datetime, kind: str) -> EventRow:
    values = dict(Event(key=key, ts=ts, type=kind, source="apt", subject=key).__dict__)
    return EventRow(f"Event/{key}", values, "apt")


def names(store: Store) -> set[str]:
    return {row["key"] for row in store.read("SELECT key FROM Software")}


def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(Batch(at=NOW, nodes=[package("nginx")]))
    store.close()

    again = Store(tmp_path)

    assert names(again) == {"nginx"}
    assert again.notes == []
    again.close()


def test_sequence_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    store = Store(tmp_path)
    first = store.write(Batch(at=NOW, nodes=[package("a")]))
    store.close()

    again = Store(tmp_path)

    assert again.write(Batch(at=NOW, nodes=[package("b")])).seq > first.seq
    again.close()


def test_a_damaged_file_is_set_aside_and_said(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(Batch(at=NOW, nodes=[package(f"p{n}") for n in range(2000)]))
    store.close()
    path = tmp_path / opening.NAME
    with path.open("r+b") as file:
        file.write(b"garbage" * 400)
    damaged = path.read_bytes()

    again = Store(tmp_path)

    assert names(again) == set()
    assert "set aside" in again.notes[0]
    aside = [p for p in tmp_path.glob("*.damaged-*") if not p.name.endswith(("-wal", "-shm"))]
    assert [p.read_bytes() for p in aside] == [damaged]
    again.close()


def test_damage_inside_the_file_is_found_after_a_stop_that_was_not_clean(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(Batch(at=NOW, nodes=[package(f"p{n}") for n in range(5000)]))
    store.close()
    path = tmp_path / opening.NAME
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("UPDATE _meta SET value = '0' WHERE key = 'clean'")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(os.urandom(40_000))

    again = Store(tmp_path)

    assert "set aside" in again.notes[0]
    again.close()


def test_a_file_of_a_newer_version_is_refused_and_kept(tmp_path: Path) -> None:
    Store(tmp_path).close()
    path = tmp_path / opening.NAME
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()

    with pytest.raises(StoreError, match="newer Watchman"):
        Store(tmp_path)

    assert path.read_bytes() == before


def test_a_file_from_before_a_field_was_added_gains_it_and_keeps_its_rows(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write(Batch(at=NOW, nodes=[package("nginx")]))
    store.close()
    with sqlite3.connect(tmp_path / opening.NAME) as db:
        db.execute("ALTER TABLE Software DROP COLUMN summary")
    db.close()

    again = Store(tmp_path)

    assert [tuple(row) for row in again.read("SELECT key, summary FROM Software")] == [("nginx", None)]
    again.write(Batch(at=NOW, nodes=[package("nginx")]))
    again.close()


def test_a_migration_copies_the_file_first_and_runs_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    store.write(Batch(at=NOW, nodes=[package("old")]))
    store.close()
    monkeypatch.setattr(opening, "VERSION", 3)
    monkeypatch.setitem(opening.MIGRATIONS, 3, lambda db: db.execute("UPDATE Software SET key = 'new'"))

    for _ in range(2):
        migrated = Store(tmp_path)
        assert names(migrated) == {"new"}
        migrated.close()

    with sqlite3.connect(tmp_path / f"{opening.NAME}.before-3") as copy:
        assert copy.execute("SELECT key FROM Software").fetchall() == [("old",)]
    copy.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", str(place)], check=True)
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_stops_writing_is_said_and_answers_go_on(small_disk: Path) -> None:
    store = Store(small_disk)
    store.write(Batch(at=NOW, nodes=[package("first")]))

    with pytest.raises(StoreError, match="nothing was written"):
        for n in range(50):
            store.write(Batch(at=NOW, nodes=[package(f"p{n}-{m}") for m in range(500)]))

    assert "full" in store.trouble
    assert "first" in names(store)
    filler = small_disk / "watchman.db-filler"
    assert not filler.exists()
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    store.write(Batch(at=NOW, nodes=[package("later")]))
    assert (store.trouble, "later" in names(store)) == ("", True)
    store.close()


def test_readers_see_whole_batches_while_a_writer_works(tmp_path: Path) -> None:
    store = Store(tmp_path)
    seen: list[int] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            seen.append(store.read("SELECT count(*) AS n FROM Software")[0]["n"])

    readers = [threading.Thread(target=read) for _ in range(6)]
    for reader in readers:
        reader.start()
    for number in range(30):
        store.write(Batch(at=NOW, nodes=[package(f"p{number}-{n}") for n in range(100)]))
    done.set()
    for reader in readers:
        reader.join(5)

    assert seen and all(count % 100 == 0 for count in seen)
    store.close()


def test_a_statement_that_fails_tells_that_the_store_cannot_be_read(tmp_path: Path) -> None:
    store = Store(tmp_path)

    with pytest.raises(StoreError, match="cannot be read"):
        store.read("SELECT nothing FROM nowhere")
    store.close()


def test_package_events_stay_for_good_and_others_for_their_time(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = NOW - timedelta(days=800)
    kinds = [event("a", old, "package_install"), event("b", old, "host_boot"), event("c", NOW, "host_boot")]
    store.write(Batch(at=NOW, events=kinds))

    retention.apply(store, Settings(), NOW)

    assert {row["key"] for row in store.read("SELECT key FROM Event")} == {"a", "c"}
    store.close()


def test_old_samples_become_hourly_means_and_the_oldest_go(tmp_path: Path) -> None:
    store = Store(tmp_path)
    hours = [NOW - timedelta(days=30), NOW - timedelta(days=900), NOW - timedelta(hours=1)]
    for start in hours:
        hour = start.replace(minute=0)
        minutes = [(hour + timedelta(minutes=n), float(n)) for n in range(60)]
        samples = [SystemMetrics(timestamp=at, cpu_percent=percent) for at, percent in minutes]
        store.write(Batch(at=NOW, samples=[("SystemMetrics", dict(s.__dict__)) for s in samples]))

    retention.apply(store, Settings(), NOW)
    retention.apply(store, Settings(), NOW)

    rows = store.read("SELECT cpu_percent, span_seconds FROM SystemMetrics ORDER BY timestamp")
    assert len(rows) == 61
    assert tuple(rows[0]) == (29.5, 3600)
    store.close()


def test_past_the_journal_s_time_what_was_before_is_not_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    row = package("nginx")
    journal = [JournalRow(row.id, "apt", None, row.values)]
    store.write(Batch(at=NOW - timedelta(days=500), nodes=[row], journal=journal))

    retention.apply(store, Settings(), NOW)

    assert store.read("SELECT count(*) AS n FROM _journal")[0]["n"] == 0
    assert int(store.meta("journal_from apt")) > 0
    store.close()


def test_over_the_cap_samples_go_first(tmp_path: Path) -> None:
    store = Store(tmp_path, size_cap_mb=1)
    for day in range(60):
        at = NOW - timedelta(days=day)
        times = [at - timedelta(seconds=n) for n in range(300)]
        rows = [SystemMetrics(timestamp=t, cpu_per_core=[1.5] * 16, cpu_percent=1.0) for t in times]
        samples = [("SystemMetrics", dict(r.__dict__)) for r in rows]
        store.write(Batch(at=NOW, samples=samples, nodes=[package(f"p{day}")]))
    before = store.size_bytes

    retention.apply(store, Settings.model_validate({"retention": {"samples_raw_days": 1000}}), NOW)

    assert before > 2**20 >= store.size_bytes
    assert len(names(store)) == 60
    store.close()


def test_a_store_in_memory_is_not_closed_while_it_is_read() -> None:
    held = Store(None)
    reading, begun, ended = threading.Event(), threading.Event(), list[int]()

    def read() -> None:
        with held.reader() as db:
            reading.set()
            begun.wait(5)
            closing.join(0.3)  # it waits for this
            ended.append(db.execute("SELECT count(*) FROM _meta").fetchone()[0])

    closing = threading.Thread(target=held.close)
    reader = threading.Thread(target=read)
    reader.start()
    assert reading.wait(5)
    closing.start()
    begun.set()
    reader.join(10)
    closing.join(10)

    assert ended and not closing.is_alive()
    with pytest.raises(StoreError):
        held.read("SELECT 1")
