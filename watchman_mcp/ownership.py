"""Which package owns a file: asks each manager that can tell, when a person asks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field

from watchman_mcp.collectors import Collector
from watchman_mcp.errors import Absent, WatchmanError
from watchman_mcp.machine import Machine
from watchman_mcp.schema.packages import Owner

_MERGED = ("/bin/", "/sbin/", "/lib")
"""Directories that moved below /usr; managers know files by the one name or the other."""


@dataclass
class Owned:
    """What the managers say about one file."""

    owners: dict[str, list[Owner]] = field(default_factory=dict)
    """By collector."""
    real: str = ""
    """Where the file really is; empty where there is none, or none that may be looked at."""
    refused: dict[str, str] = field(default_factory=dict)
    """Collectors that could not look, and why."""


class Owners:
    """Asks the collectors of packages who owns a file."""

    def __init__(self, machine: Machine, collectors: Iterable[Collector]) -> None:
        self._machine = machine
        self._asked = {c.name: c.owner for c in collectors if c.owner is not None}

    def __call__(self, path: str) -> Owned:
        """Everything that owns the file at this path, or what it is a link to."""
        owned = Owned()
        with suppress(WatchmanError):  # a manager may know a file that is not there any more
            owned.real = self._machine.files.real(path)
        paths = self._names(path, owned.real)
        for name, ask in self._asked.items():
            try:
                if found := list(dict.fromkeys(ask(self._machine, paths))):
                    owned.owners[name] = found
            except Absent:
                pass
            except WatchmanError as error:
                owned.refused[name] = str(error)
        return owned

    def _names(self, path: str, real: str) -> frozenset[str]:
        """The names that managers may know the file by."""
        directory, _, name = path.rstrip("/").rpartition("/")
        names = {path.rstrip("/"), real}
        with suppress(WatchmanError):
            names.add(f"{self._machine.files.real(directory or '/').rstrip('/')}/{name}")
        names |= {one.removeprefix("/usr") for one in names if one.removeprefix("/usr").startswith(_MERGED)}
        names |= {f"/usr{one}" for one in names if one.startswith(_MERGED)}
        return frozenset(names - {""})
