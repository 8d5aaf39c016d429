"""What the fleet's graph tells of the packages of other machines, in the store's words."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from watchman_mcp.store.tables import EPOCH
from watchman_mcp.times import Window as Asked
from watchman_mcp.tools.fleet import Elsewhere, Kept

from .choosing import CAME, PYTHON, candidates, manager_named

if TYPE_CHECKING:
    from watchman_mcp.store.neo4j.events import History
    from watchman_mcp.store.neo4j.packages import Chosen

MICROSECOND = timedelta(microseconds=1)


class Remote:
    """The chosen packages of other machines, or of all."""

    def __init__(self, frame: Elsewhere, name: str, manager: str) -> None:
        self._frame = frame
        self._packages, self._events = frame.fleet.packages, frame.fleet.events
        self.chosen = _choose(frame, name, manager)
        self.matched, self.exact = self.chosen.matched, self.chosen.exact

    def totals(self) -> dict[str, int]:
        """How many are there, by manager."""
        return {row["word"]: row["n"] for row in self._packages.totals(self.chosen)}

    def there(self, limit: int, offset: int) -> list[Any]:
        """Those that are there, by name."""
        return [Kept(row) for row in self._packages.there(self.chosen, limit, offset)]

    def gone(self, limit: int) -> list[Any]:
        """Those that were there, the last one to go first."""
        return [Kept(row) for row in self._packages.gone(self.chosen, limit)]

    def ends(self, node: str, *, outward: bool) -> list[str]:
        """What a package needs, by name, or else what needs it."""
        return self._packages.ends(node, outward=outward)

    def brings(self, node: str, kind: str) -> list[str]:
        """Names of the services that a package PROVIDES, or paths of the configuration files that it OWNS."""
        return self._packages.brings(node, kind)

    def updates(self, limit: int, offset: int) -> list[Any]:
        """Those that are there with a newer version available, security updates first."""
        return [Kept(row) for row in self._packages.updates(self.chosen, limit, offset)]

    def update_totals(self) -> list[Any]:
        """How many have a newer version, and how many of these are security updates, by manager."""
        return self._packages.update_totals(self.chosen)

    def indexes(self) -> list[Any]:
        """What the managers know of newer versions: of which manager, and when it was fetched."""
        return self._packages.indexes(self.chosen)

    def events(self, node: str, limit: int) -> list[Any]:
        """What happened to a package, newest first."""
        return [Kept(row) for row in self._packages.events(node, limit)]

    def removed_at(self, node: str) -> str | None:
        """When the log of its manager says that a package went."""
        return self._packages.removed_at(node)

    def mark(self, until: datetime) -> int:
        """What the pages of one answer have in common: the end of the time, in microseconds since 1970."""
        return (until - EPOCH) // MICROSECOND

    def changes(self, types: tuple[str, ...], asked: Asked, mark: int) -> list[Any]:
        """How many changes there were, by type and manager."""
        return self._events.changes(self._history(types, asked, mark))

    def told(self, types: tuple[str, ...], asked: Asked, mark: int, limit: int, offset: int) -> list[Any]:
        """Changes, newest first."""
        rows = self._events.told(self._history(types, asked, mark), limit, offset)
        return [Kept(row if "subject" in row else _of_files(row)) for row in rows]

    def machines_changed(self, types: tuple[str, ...], asked: Asked, mark: int) -> int | None:
        """On how many machines there was a change, where the question is about several."""
        return (
            self._events.machines_changed(self._history(types, asked, mark)) if self._frame.several else None
        )

    def _history(self, types: tuple[str, ...], asked: Asked, mark: int) -> History:
        came = CAME if "package_install" in types else ()
        until = min(asked.until, EPOCH + mark * MICROSECOND)
        return self._events.history(self.chosen, types, came, asked.since, until)

    def logs_since(self) -> str | None:
        """The oldest change that a log of the one machine tells of."""
        return None if self._frame.several else self._events.logs_since(self._frame.only.machine)

    def keys(self) -> list[str]:
        """The names that packages have or had."""
        return self._packages.keys(self._frame.ids)

    def managers(self) -> set[str]:
        """The managers of which there are or were packages."""
        return set(self._packages.managers(self._frame.ids))

    def versions(self, most: int) -> list[Any]:
        """The versions of each package and manager that are there, with the machines that have them."""
        return [Kept(row) for row in self._packages.versions(self.chosen, most)]


def _choose(frame: Elsewhere, name: str, manager: str) -> Chosen:
    wanted = manager_named(manager)
    managers = PYTHON if wanted == "python" else (wanted,) if wanted else ()
    beginning = "python3-" if wanted == "python" else ""
    return frame.fleet.packages.choose(frame.ids, candidates(name), managers, beginning=beginning)


def _of_files(row: dict[str, Any]) -> dict[str, Any]:
    """A package that its files date, as the event that its installation was."""
    run = f"files:{row['manager']}:{row.get('location') or ''}:{row['ts'][:16]}"
    return {**row, "transaction_id": run, "source": "files"}
