"""The local truth: one SQLite file, one writer, four readers."""

from __future__ import annotations

import logging
import queue
import sqlite3
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from watchman_mcp.errors import StoreError

from . import looks, opening, pruning
from .batch import Batch, EdgeRow, EventRow, NodeRow, Written
from .looks import dump
from .tables import table, to_ms, to_text

log = logging.getLogger(__name__)
T = TypeVar("T")
READERS = 4
CHUNK = 5000


class Store:
    """The graph of this host.

    `directory` holds the database; None keeps it in memory, for a machine with nowhere to write.
    """

    def __init__(self, directory: Path | None, size_cap_mb: int = 2048) -> None:
        self.directory, self.size_cap_mb = directory, size_cap_mb
        self.notes: list[str] = []
        """What a person should know about the store: set aside, in memory, full."""
        self.trouble = ""
        """Why nothing can be written now; empty while all is well."""
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="store-writer")
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._memory_lock = threading.RLock()
        self._series: dict[tuple[str, str], int] = {}
        try:
            self._db = self._writer.submit(self._open).result()
        except BaseException:
            self._writer.shutdown()
            raise
        self.newest = int(self.meta("seq", "0"))
        """The number of the newest row."""

    def _open(self) -> sqlite3.Connection:
        path = self.directory / opening.NAME if self.directory else None
        db = opening.open_writer(path, self.notes)
        for _ in range(READERS if path else 1):
            self._readers.put(opening.open_reader(path) if path else db)
        return db

    @property
    def path(self) -> Path | None:
        """The database file."""
        return self.directory / opening.NAME if self.directory else None

    @property
    def size_bytes(self) -> int:
        """Bytes that the database takes."""
        (pages,), (size,) = self.read("PRAGMA page_count")[0], self.read("PRAGMA page_size")[0]
        return int(pages) * int(size)

    def close(self) -> None:
        """Leave a database that needs no check at the next start."""

        def shut() -> None:
            if self.directory:
                while not self._readers.empty():
                    self._readers.get_nowait().close()
                try:
                    opening.mark_clean(self._db)
                except sqlite3.Error as error:
                    log.warning("the next start checks the database, which could not be closed: %s", error)
            with self._memory_lock:  # a look that was given up may be reading the one connection of memory
                self._db.close()

        self._writer.submit(shut).result()
        self._writer.shutdown()

    def read(self, sql: str, parameters: Sequence[Any] | dict[str, Any] = ()) -> list[sqlite3.Row]:
        """All rows of a query of our own; no cursor outlives the call."""
        with self.reader() as db:
            try:
                return db.execute(sql, parameters).fetchall()
            except sqlite3.Error as error:
                raise StoreError(f"the store cannot be read: {error}; `doctor` names its file") from error

    @contextmanager
    def reader(self) -> Iterator[sqlite3.Connection]:
        """A connection that only reads."""
        db = self._readers.get()
        try:
            if self.directory is None:
                with self._memory_lock:
                    yield db
            else:
                yield db
        finally:
            self._readers.put(db)

    def copy(self) -> sqlite3.Connection:
        """A private copy of a store in memory, for strangers' queries."""
        copy = sqlite3.connect(":memory:", check_same_thread=False)
        with self.reader() as db:
            copy.deserialize(db.serialize())
        return copy

    def meta(self, key: str, default: str = "") -> str:
        """A fact about the store itself."""
        rows = self.read("SELECT value FROM _meta WHERE key = ?", (key,))
        return str(rows[0][0]) if rows else default

    # Writing

    def write(self, batch: Batch) -> Written:
        """Write one look in one transaction.

        Raises: StoreError when nothing was written; the store goes on answering.
        """
        return self._run(lambda: self._write(batch))

    def change(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run a change of our own in one transaction of the writer: retention, checks."""
        return self._run(lambda: work(self._db))

    def _run(self, work: Callable[[], T]) -> T:
        def transact() -> T:
            with self._memory_lock:
                self._db.execute("BEGIN IMMEDIATE")
                before = self.newest
                try:
                    result = work()
                    self._db.execute("INSERT OR REPLACE INTO _meta VALUES ('seq', ?)", (str(self.newest),))
                    self._db.execute("COMMIT")
                except BaseException:
                    self.newest = before
                    self._series.clear()
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
                    raise
                return result

        try:
            result = self._writer.submit(transact).result()
        except sqlite3.Error as error:
            if not self.trouble:
                log.warning("nothing can be written to the store: %s", error)
            self.trouble = f"{error} (since {to_text(datetime.now(UTC))[:19]}Z)"
            raise StoreError(f"nothing was written: {error}") from error
        if self.trouble:
            log.info("the store can be written again")
            self.trouble = ""
        return result

    def _next(self, count: int) -> range:
        first = self.newest + 1
        self.newest += count
        return range(first, first + count)

    def _write(self, batch: Batch) -> Written:
        at = to_text(batch.at)
        touched = {row.label for row in batch.nodes} | {name for name, _ in batch.samples}
        self._write_nodes(batch.nodes, at, batch)
        self._write_ghosts(batch.ghosts, at)
        new = self._write_events(batch.events, at)
        skipped = self._write_edges(batch.edges, at, batch)
        self._write_samples(batch.samples)
        looks.write(self._db, batch, at, self.newest)
        if new:
            touched.add("Event")
        return Written(self.newest, frozenset(touched), new, skipped)

    def _write_nodes(self, rows: Iterable[NodeRow], at: str, batch: Batch) -> None:
        journal = {row.id: row for row in batch.journal}
        by_label: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        rows = list(rows)
        for seq, row in zip(self._next(len(rows)), rows, strict=True):
            kept = table(row.label)
            gone = to_text(row.gone_at) if row.gone_at else None
            by_label[row.label].append((seq, row.id, *kept.encode(row.values), at, gone, row.scope))
            if row.id in journal:
                self._write_journal(seq, at, journal[row.id])
        for name, values in by_label.items():
            self._db.executemany(table(name).upsert, values)

    def _write_journal(self, seq: int, at: str, row: Any) -> None:
        before, after = (None if side is None else dump(side) for side in (row.before, row.after))
        self._db.execute(
            "INSERT INTO _journal VALUES (?, ?, ?, ?, ?, ?)", (seq, at, row.scope, row.id, before, after)
        )

    def _write_ghosts(self, rows: list[NodeRow], at: str) -> None:
        by_label: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
        for seq, row in zip(self._next(len(rows)), rows, strict=True):
            gone = to_text(row.gone_at) if row.gone_at else at
            encoded = table(row.label).encode(row.values)
            by_label[row.label].append((seq, row.id, *encoded, gone, gone, row.scope))
        for name, values in by_label.items():
            self._db.executemany(table(name).insert_new, values)

    def _write_events(self, rows: list[EventRow], at: str) -> int:
        kept = table("Event")
        known = self._known({row.acted_on for row in rows if row.acted_on})
        values = [
            (
                seq,
                row.id,
                *kept.encode(row.values),
                row.acted_on if row.acted_on in known else None,
                at,
                None,
                row.scope,
            )
            for seq, row in zip(self._next(len(rows)), rows, strict=True)
        ]
        return self._db.executemany(kept.insert_new, values).rowcount if values else 0

    def _write_edges(self, rows: list[EdgeRow], at: str, batch: Batch) -> int:
        if not rows:
            return 0
        known = self._known({end for row in rows for end in (row.start, row.end)})
        journal = {row.id: row for row in batch.journal if " " in row.id}
        values, skipped = [], 0
        for seq, row in zip(self._next(len(rows)), rows, strict=True):
            if row.start not in known or row.end not in known:
                skipped += 1
                continue
            gone = to_text(row.gone_at) if row.gone_at else None
            values.append((seq, row.type, row.start, row.end, at, gone, row.scope))
            if row.id in journal:
                self._write_journal(seq, at, journal[row.id])
        self._db.executemany(
            "INSERT INTO _edges VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (start, type, end) DO UPDATE SET "
            "seq = excluded.seq, gone_at = excluded.gone_at, scope = excluded.scope",
            values,
        )
        return skipped

    def _known(self, ids: set[str]) -> set[str]:
        """Which of these ids are nodes."""
        known: set[str] = set()
        by_label: dict[str, list[str]] = defaultdict(list)
        for one in ids:
            by_label[one.split("/", 1)[0]].append(one)
        for label, some in by_label.items():
            for start in range(0, len(some), 500):
                part = some[start : start + 500]
                marks = ", ".join("?" * len(part))
                query = f'SELECT id FROM "{table(label).name}" WHERE id IN ({marks})'
                known.update(row[0] for row in self._db.execute(query, part))
        return known

    def _write_samples(self, rows: list[tuple[str, dict[str, Any]]]) -> None:
        for seq, (name, values) in zip(self._next(len(rows)), rows, strict=True):
            kept = table(name)
            series = self._series_of(name, values)
            numbers = kept.encode_sample(values)
            self._db.execute(kept.insert_sample, (seq, series, to_ms(values["timestamp"]), None, *numbers))

    def _series_of(self, name: str, values: dict[str, Any]) -> int:
        """The number of what a sample measured, given at its first sample."""
        kept = table(name)
        named = [c.encode(values[c.name]) for c in kept.named]
        key = (name, dump(named))
        if key not in self._series:
            found = self._db.execute(
                f'SELECT series FROM "_{name}_series" WHERE name_key = ?', key[1:]
            ).fetchone()
            if found is None:
                found = (self._db.execute(kept.insert_series, (key[1], *named)).lastrowid,)
            if len(self._series) > CHUNK:
                self._series.clear()
            self._series[key] = int(found[0])
        return self._series[key]

    def prune(self, label: str, before: datetime) -> int:
        """Delete what ended before a moment; see `pruning.prune`. Returns how many."""
        return pruning.prune(self, label, before)

    def forget_series(self) -> None:
        """The numbers of measured things may have changed."""
        self._series.clear()

    def tell_deleted(
        self, label: str, ids: Sequence[str] = (), *, since: str | None = None, before: str | None = None
    ) -> None:
        """Leave word for a mirror, within a change: of nodes by id, of samples and events by their time."""
        rows: list[tuple[Any, ...]] = [(one, None, None) for one in ids] or [(None, since, before)]
        numbered = [(seq, label, *row) for seq, row in zip(self._next(len(rows)), rows, strict=True)]
        self._db.executemany("INSERT INTO _deleted VALUES (?, ?, ?, ?, ?)", numbered)
