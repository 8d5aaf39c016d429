"""SQLite databases of package managers, read in a copy, so that nothing is locked, made or repaired."""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from watchman_mcp.errors import Absent, Broken
from watchman_mcp.machine.entries import Entry
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.paths import failure, printable

COPY_CAP = 1 << 30
SECONDS = 20.0
"""So long may one reading of a copy take; what a database asks for may be endless."""
_BESIDE = ("", "-wal", "-journal")
"""A database, and the files beside it that hold what is not yet, or no longer, in it."""
_CHUNK = 1 << 20
_LONGEST = 128 << 20
_STEPS = 10_000
_ROUNDS = 3


@contextmanager
def copied(files: Files, path: str) -> Iterator[sqlite3.Connection]:
    """The database at this path as it was at one moment; its texts are surrogate escapes where they must.

    Raises: Absent, Denied, Broken (no database, damaged, or written to again and again).
    """
    with TemporaryDirectory(prefix="watchman-") as place:
        target = Path(place, "copy")
        for _ in range(_ROUNDS):
            before = _signs(files, path)
            for name in before:
                _copy(files, path + name, Path(f"{target}{name}"))
            if before == _signs(files, path):
                break
        else:
            raise Broken(f"{printable(path)} is being written to; it is read when that is over")
        try:
            with closing(_connected(target)) as connection:
                yield connection
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter where a complaint cites the damage
            raise Broken(
                f"{printable(path)} cannot be read ({error}); ask its package manager to check it"
            ) from error


def _signs(files: Files, path: str) -> dict[str, tuple[int, int, float]]:
    found: dict[str, tuple[int, int, float]] = {}
    for name in _BESIDE:
        try:
            entry: Entry = files.stat(path + name)
        except Absent:
            if not name:
                raise
            continue
        found[name] = (entry.inode, entry.size, entry.mtime)
    return found


def _copy(files: Files, source: str, target: Path) -> None:
    with files.stream(source) as stream, target.open("wb") as copy:
        size = 0
        try:
            while part := stream.read(_CHUNK):
                size += len(part)
                if size > COPY_CAP:
                    raise Broken(
                        f"{printable(source)} is larger than the cap of {COPY_CAP} bytes; it is not read"
                    )
                copy.write(part)
        except OSError as error:
            raise failure(error, source) from error


def _connected(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path)
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    deadline = time.monotonic() + SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > deadline, _STEPS)
    for setting in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "query_only = ON"):
        connection.execute(f"PRAGMA {setting}")
    return connection
