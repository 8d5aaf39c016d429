"""Opening the database: checks, migrations, and what is done with a damaged file."""

from __future__ import annotations

import logging
import shutil
import sqlite3
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from watchman_mcp.errors import StoreError

from .tables import nodes, samples, statements

log = logging.getLogger(__name__)
NAME = "watchman.db"
VERSION = 2
"""Number of the newest migration; kept in the file as `user_version`."""

WRITER = (
    "synchronous = NORMAL",
    "temp_store = MEMORY",
    "journal_size_limit = 67108864",
    # Ids are hashes, so a batch of events touches pages all over an index: each is read and written once.
    "cache_size = -32768",
    "wal_autocheckpoint = 8000",
)
"""How the connection that writes works: 32 MiB of pages at most, and a log of as many before it is folded."""

OPENINGS = 1000
"""How many of its openings a store remembers."""


def _tell_deletions_by_id(db: sqlite3.Connection) -> None:
    """A label and a moment did not tell a late mirror which vanished nodes were dropped; nobody read them."""
    db.execute("DROP TABLE IF EXISTS _pruned")
    db.execute("DELETE FROM _meta WHERE key = 'epoch'")


MIGRATIONS: dict[int, Callable[[sqlite3.Connection], None]] = {2: _tell_deletions_by_id}
"""What turns a file of version N-1 into version N, where adding tables and columns is not enough."""


def open_writer(path: Path | None, notes: list[str]) -> sqlite3.Connection:
    """The connection that writes: a checked file of this version, made when it is absent.

    Raises: StoreError when the file was written by a newer Watchman or cannot be opened.
    """
    if path is None:
        notes.append("Kept in memory only: the state directory cannot be written.")
        return _prepare(_connect(":memory:"))
    try:
        db = _checked(path, notes)
        try:
            _migrate(db, path)
            return _prepare(db)
        except BaseException:
            db.close()
            raise
    except sqlite3.OperationalError as error:
        raise StoreError(f"{path} cannot be opened: {error}") from error


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads."""
    db = _connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    db.execute("PRAGMA query_only = 1")
    return db


def mark_clean(db: sqlite3.Connection) -> None:
    """Say in the file that its last writer closed it, and fold the log into it."""
    db.execute("INSERT OR REPLACE INTO _meta VALUES ('clean', '1')")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def full_check(db: sqlite3.Connection) -> str:
    """Empty when every page and index of the file is sound, else what is not."""
    problem = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
    return "" if problem == "ok" else problem


def _connect(target: str, uri: bool = False) -> sqlite3.Connection:
    db = sqlite3.connect(
        target, uri=uri, check_same_thread=False, isolation_level=None, timeout=10, cached_statements=256
    )
    db.row_factory = sqlite3.Row
    return db


def _checked(path: Path, notes: list[str]) -> sqlite3.Connection:
    """Open the file; a damaged one is set aside, never overwritten, and said."""
    problem = ""
    existed = path.exists()
    db = _connect(str(path))
    try:
        if not existed:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        if existed and not _was_clean(db):
            problem = str(db.execute("PRAGMA quick_check(1)").fetchone()[0]).replace("ok", "")
        db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        problem = str(error)
    if not problem:
        return db
    db.close()
    aside = path.with_name(f"{NAME}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
    for ending in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            path.with_name(path.name + ending).rename(aside.with_name(aside.name + ending))
    notes.append(f"The database was damaged ({problem}) and is set aside as {aside}; this one began anew.")
    log.warning("%s", notes[-1])
    db = _connect(str(path))
    db.execute("PRAGMA journal_mode = WAL")
    return db


def _was_clean(db: sqlite3.Connection) -> bool:
    try:
        row = db.execute("SELECT value FROM _meta WHERE key = 'clean'").fetchone()
    except sqlite3.OperationalError:
        return True  # a file without our tables holds nothing yet
    return bool(row and row[0] == "1")


def _migrate(db: sqlite3.Connection, path: Path) -> None:
    """Bring an older file to this version, after copying it."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise StoreError(
            f"{path} was written by a newer Watchman (format {version}, this one reads {VERSION}); "
            "run that version"
        )
    if version in (0, VERSION):
        return
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy2(path, path.with_name(f"{NAME}.before-{VERSION}"))
    for number in range(version + 1, VERSION + 1):
        db.execute("BEGIN IMMEDIATE")
        if number in MIGRATIONS:
            MIGRATIONS[number](db)
        db.execute(f"PRAGMA user_version = {number}")
        db.execute("COMMIT")


def _prepare(db: sqlite3.Connection) -> sqlite3.Connection:
    """Make what is missing: tables, columns that the vocabulary gained, views, the store's own id."""
    for pragma in WRITER:
        db.execute(f"PRAGMA {pragma}")
    db.execute("BEGIN IMMEDIATE")
    _add_columns(db)
    for statement in statements():
        db.execute(statement)
    db.execute("INSERT OR IGNORE INTO _meta VALUES ('store', ?)", (uuid.uuid4().hex,))
    _note_opening(db)
    db.execute("INSERT OR REPLACE INTO _meta VALUES ('clean', '0')")
    db.execute(f"PRAGMA user_version = {VERSION}")
    db.execute("COMMIT")
    return db


def _note_opening(db: sqlite3.Connection) -> None:
    """Begin a run of this store: a mirror tells by it whether it follows this very file or an older copy."""
    db.execute(
        "INSERT INTO _opening (seq, run) SELECT coalesce((SELECT value FROM _meta WHERE key = 'seq'), 0), ?",
        (uuid.uuid4().hex,),
    )
    db.execute("DELETE FROM _opening WHERE number <= (SELECT max(number) FROM _opening) - ?", (OPENINGS,))


def _add_columns(db: sqlite3.Connection) -> None:
    """Add the columns of fields that a label gained since the file was made."""
    for one in nodes():
        wanted = [(f'"{c.name}"', c.sql) for c in one.columns] + list(one.extra)
        _add_missing(db, one.name, wanted)
    for one in samples():
        _add_missing(
            db,
            f"_{one.name}",
            [(f'"{c.name}"', "INTEGER" if c.kind is float and not c.many else c.sql) for c in one.measures],
        )


def _add_missing(db: sqlite3.Connection, name: str, wanted: list[tuple[str, str]]) -> None:
    there = {row["name"] for row in db.execute(f'PRAGMA table_info("{name}")')}
    for column, kind in wanted:
        if there and column.strip('"') not in there:
            db.execute(f'ALTER TABLE "{name}" ADD COLUMN {column} {kind}')
