"""Configuration files: what lies below /etc, by name, size, time and rights; no text of them is read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from watchman_mcp.collectors import Collector, Look, minutes
from watchman_mcp.errors import WatchmanError
from watchman_mcp.machine.files import Directory
from watchman_mcp.schema.configs import ConfigFile

ROOT = "/etc"
DEPTH = 12
MOST = 50_000
"""Files at most that are listed."""
WRITTEN_BY_THE_SYSTEM = frozenset({"/etc/ld.so.cache", "/etc/.updated", "/etc/adjtime", "/etc/.pwd.lock"})


def collect(look: Look) -> Iterator[ConfigFile]:
    """The files, but for links and what the system itself rewrites.

    Raises: Absent, Denied, Broken.
    """
    with look.machine.files.directory(ROOT) as directory:
        for count, file in enumerate(_below(look, directory, DEPTH)):
            if count == MOST:
                look.cannot(ROOT, f"there are more than {MOST} files; the rest is not listed")
                return
            yield file


def _below(look: Look, directory: Directory, depth: int) -> Iterator[ConfigFile]:
    for entry in directory.entries():
        path = f"{directory.path}/{entry.name}"
        if entry.kind == "file" and path not in WRITTEN_BY_THE_SYSTEM:
            yield ConfigFile(
                path=path,
                size_bytes=entry.size,
                modified_at=datetime.fromtimestamp(entry.mtime, UTC),
                mode=f"{entry.mode & 0o7777:04o}",
                owner=entry.uid,
            )
        elif entry.kind == "directory" and depth:
            try:
                with directory.directory(entry.name) as inner:
                    yield from _below(look, inner, depth - 1)
            except WatchmanError as error:
                look.cannot(f"{look.scope}:{path}", str(error))


collector = Collector(collect, (ConfigFile,), minutes(5), feature="config_management")
