"""Where people keep what they install: finds directories by patterns, below homes and elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from watchman_mcp.errors import Absent, WatchmanError
from watchman_mcp.machine.entries import Entry
from watchman_mcp.machine.files import Files

FOUND = 1_000
"""So many places at most come of one search."""
PASSWD_CAP = 16 << 20
_NO_LOGIN = ("nologin", "false", "sync", "shutdown", "halt")
_NOT_HOMES = ("Shared", "Guest")


class Search:
    """One search of the machine: what refuses to be looked at is kept in `refused`, never taken for empty."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.refused: dict[str, str] = {}
        """Why, by path; all below such a path is unknown too."""
        self._listed: dict[str, list[Entry]] = {}

    def entries(self, path: str) -> list[Entry]:
        """What is in a directory; nothing if it is not there, is no directory, or refuses."""
        if path not in self._listed:
            self._listed[path] = []
            try:
                self._listed[path] = self.files.entries(path)
            except Absent:
                pass
            except WatchmanError as error:
                self.refused[path] = str(error)
        return self._listed[path]

    def holds(self, path: str) -> bool:
        """Whether something is at this path; nothing is where it refuses to be looked at."""
        try:
            return self.files.exists(path)
        except WatchmanError as error:
            self.refused[path] = str(error)
            return False

    def text(self, path: str, cap: int) -> str | None:
        """The text of a file; None if there is none, or if it refuses."""
        try:
            return self.files.text(path, cap)
        except Absent:
            return None
        except WatchmanError as error:
            self.refused[path] = str(error)
            return None

    @cached_property
    def homes(self) -> tuple[str, ...]:
        """The home of each account that can log in, as far as it may be looked into."""
        homes = {"/root": None}
        for line in (self.text("/etc/passwd", PASSWD_CAP) or "").split("\n"):
            fields = line.split(":")
            if len(fields) != 7 or fields[6].strip().rpartition("/")[2] in _NO_LOGIN:
                continue
            if home := fields[5].strip("/"):
                homes[f"/{home}"] = None
        homes |= {
            f"/Users/{entry.name}": None
            for entry in self.entries("/Users")
            if entry.kind == "directory" and entry.name not in _NOT_HOMES
        }
        return tuple(home for home in homes if self.entries(home))

    def find(self, patterns: Iterable[str]) -> Iterator[str]:
        """The paths that are there and match; `~` stands for each home, `*` for each directory of that level.

        Each path comes once, and links are not gone through where a `*` stands.
        """
        found: set[str] = set()
        for pattern in patterns:
            for path in self._starts(pattern):
                if path in found:
                    continue
                if len(found) == FOUND:
                    self.refused["/"] = f"there are more than {FOUND} such places; the rest is not read"
                    return
                found.add(path)
                yield path

    def _starts(self, pattern: str) -> Iterator[str]:
        if not pattern.startswith("~/"):
            yield from self._below("", pattern.split("/")[1:])
            return
        first, *rest = pattern.split("/")[1:]
        for home in self.homes:
            names = [entry.name for entry in self.entries(home)]
            if first == "*" or first in names:  # a home is listed once, whatever is looked for in it
                yield from self._below(home, [first, *rest])

    def _below(self, path: str, names: list[str]) -> Iterator[str]:
        if "*" not in names:
            if self.holds(whole := "/".join([path, *names])):
                yield whole
            return
        literal = names.index("*")
        path, rest = "/".join([path, *names[:literal]]), names[literal + 1 :]
        for entry in self.entries(path or "/"):
            if entry.kind == "directory" and not entry.name.startswith("."):
                yield from self._below(f"{path}/{entry.name}", rest) if rest else (f"{path}/{entry.name}",)
