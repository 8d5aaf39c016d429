"""How long things are kept: at start and once a day, in bounded transactions."""

from __future__ import annotations

import logging
import sqlite3
from datetime import UTC, datetime, timedelta

import anyio
from anyio import to_thread

from watchman_mcp.errors import StoreError
from watchman_mcp.settings import Settings
from watchman_mcp.store.opening import full_check
from watchman_mcp.store.sqlite import CHUNK, Store
from watchman_mcp.store.tables import EPOCH, Table, from_text, nodes, samples, to_ms, to_text

log = logging.getLogger(__name__)
DAY = 86_400
DELETIONS = 200_000
"""How many deletions a mirror that was away may have missed."""
ROLLED_SECONDS = 3600
"""Samples older than `[retention] samples_raw_days` become one for each hour."""


async def keep(store: Store, settings: Settings) -> None:
    """Apply the retention now and every day, until cancelled."""
    while True:
        try:
            await to_thread.run_sync(apply, store, settings, datetime.now(UTC))
        except StoreError as error:
            log.warning("retention: %s", error)
        await anyio.sleep(DAY)


def apply(store: Store, settings: Settings, now: datetime) -> None:
    """Drop what is older than the settings say, roll samples up, keep the file under its cap, check it."""
    kept = settings.retention
    for one in nodes():
        days = kept.events_days if one.name == "Event" else kept.tombstones_days
        store.prune(one.name, now - (one.label.keep or timedelta(days=days)))
    _drop_journal(store, now - timedelta(days=kept.journal_days))
    store.change(_forget_deleted)
    for one in samples():
        roll_up(store, one, now - timedelta(days=kept.samples_raw_days))
        longest = timedelta(days=kept.samples_days)
        store.prune(one.name, now - min(one.label.keep or longest, longest))
    _keep_under_cap(store, now)
    _check(store, now)


def _check(store: Store, now: datetime) -> None:
    """Check the whole file once a day, on a reader, so that nobody waits for it."""
    last = store.meta("checked_at")
    if last and now - from_text(last) < timedelta(seconds=DAY):
        return
    with store.reader() as db:
        problem = full_check(db)
    if problem:
        store.notes.append(
            f"The database is damaged: {problem}. Stop Watchman; the next start sets the file aside."
        )
        log.error("%s", store.notes[-1])
    store.change(
        lambda db: db.execute("INSERT OR REPLACE INTO _meta VALUES ('checked_at', ?)", (to_text(now),))
    )


def _forget_deleted(db: sqlite3.Connection) -> None:
    """Keep word of the newest deletions only; a mirror that is behind the rest begins anew."""
    limit = "(SELECT seq FROM _deleted ORDER BY seq DESC LIMIT 1 OFFSET ?)"
    forgotten = db.execute(f"SELECT {limit}", (DELETIONS,)).fetchone()[0]
    if forgotten is not None:
        db.execute("INSERT OR REPLACE INTO _meta VALUES ('deleted_from', ?)", (str(forgotten),))
        db.execute("DELETE FROM _deleted WHERE seq <= ?", (forgotten,))


def _drop_journal(store: Store, before: datetime) -> None:
    """Forget what was before: states then are no longer known, and nothing pretends otherwise.

    Each scope keeps how far it forgot: one that did not change forgets nothing.
    """
    moment = to_text(before)

    def drop(db: sqlite3.Connection) -> int:
        rows = db.execute(
            "SELECT seq, scope FROM _journal WHERE recorded_at < ? ORDER BY seq LIMIT ?", (moment, CHUNK)
        ).fetchall()
        forgotten = {row["scope"]: row["seq"] for row in rows}
        db.executemany(
            "INSERT OR REPLACE INTO _meta VALUES (?, ?)",
            [(f"journal_from {scope}", str(seq)) for scope, seq in forgotten.items()],
        )
        db.executemany("DELETE FROM _journal WHERE seq = ?", [(row["seq"],) for row in rows])
        return len(rows)

    while store.change(drop):
        pass


def roll_up(store: Store, kept: Table, before: datetime) -> None:
    """Turn raw samples into hourly means, an hour of all series at a time.

    A mean keeps a number of its hour, so that the highest number is the newest sample's; a mirror is told.
    """
    name, limit = f"_{kept.name}", to_ms(before) // (ROLLED_SECONDS * 1000) * ROLLED_SECONDS * 1000
    numbers = [c.name for c in kept.measures if not c.many]
    lists = [c.name for c in kept.measures if c.many]
    means = ", ".join([f'round(avg("{n}"))' for n in numbers] + ["NULL" for _ in lists])
    columns = ", ".join(f'"{n}"' for n in numbers + lists)

    def roll(db: sqlite3.Connection) -> int:
        oldest = db.execute(
            f'SELECT min(ts) FROM "{name}" WHERE span IS NULL AND ts < ?', (limit,)
        ).fetchone()[0]
        if oldest is None:
            return 0
        start = oldest // (ROLLED_SECONDS * 1000) * ROLLED_SECONDS * 1000
        hour = (start, start + ROLLED_SECONDS * 1000)
        rows = db.execute(
            f'SELECT min(seq), series, {means} FROM "{name}" '
            "WHERE span IS NULL AND ts >= ? AND ts < ? GROUP BY series",
            hour,
        ).fetchall()
        db.execute(f'DELETE FROM "{name}" WHERE span IS NULL AND ts >= ? AND ts < ?', hour)
        since, until = (to_text(EPOCH + timedelta(milliseconds=ms)) for ms in hour)
        store.tell_deleted(kept.name, since=since, before=until)
        marks = ", ".join("?" * (4 + len(numbers) + len(lists)))
        db.executemany(
            f'INSERT OR REPLACE INTO "{name}" (seq, series, ts, span, {columns}) VALUES ({marks})',
            [(row[0], row[1], start, ROLLED_SECONDS, *row[2:]) for row in rows],
        )
        return len(rows)

    while store.change(roll):
        pass


def _keep_under_cap(store: Store, now: datetime) -> None:
    """Over the cap, the oldest samples go first; what is known of packages stays."""
    days = 180
    while store.size_bytes > store.size_cap_mb * 2**20 and days >= 1:
        for one in samples():
            store.prune(one.name, now - timedelta(days=days))
        while store.change(_give_back) == CHUNK:
            pass
        days //= 2


def _give_back(db: sqlite3.Connection) -> int:
    """Return free pages to the file system; the pragma frees one page a step, and the module steps once."""
    free = min(int(db.execute("PRAGMA freelist_count").fetchone()[0]), CHUNK)
    for _ in range(free):
        db.execute("PRAGMA incremental_vacuum")
    return free
