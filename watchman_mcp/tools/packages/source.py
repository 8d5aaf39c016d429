"""What an answer about packages is made from: this machine's store, or the fleet's graph."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

from watchman_mcp.times import Window as Asked


class Source(Protocol):
    """The packages that a question is about; rows have the columns of the store's tables."""

    matched: str | None
    """How the name was understood; None where no package was ever called so."""
    exact: bool

    def totals(self) -> dict[str, int]:
        """How many are there, by manager."""

    def there(self, limit: int, offset: int) -> list[Any]:
        """Those that are there, by name."""

    def gone(self, limit: int) -> list[Any]:
        """Those that were there, the last one to go first."""

    def ends(self, node: str, *, outward: bool) -> list[str]:
        """What a package needs, by name, or else what needs it."""

    def brings(self, node: str, kind: str) -> list[str]:
        """Names of the services that a package PROVIDES, or paths of the configuration files that it OWNS."""

    def updates(self, limit: int, offset: int) -> list[Any]:
        """Those that are there with a newer version available, security updates first."""

    def update_totals(self) -> list[Any]:
        """How many have a newer version, and how many of these are security updates, by manager."""

    def indexes(self) -> list[Any]:
        """What the managers know of newer versions: of which manager, and when it was fetched."""

    def events(self, node: str, limit: int) -> list[Any]:
        """What happened to a package, newest first."""

    def removed_at(self, node: str) -> str | None:
        """When the log of its manager says that a package went."""

    def mark(self, until: datetime) -> int:
        """What the pages of one answer have in common, so that what is new moves none of them."""

    def changes(self, types: tuple[str, ...], asked: Asked, mark: int) -> list[Any]:
        """How many changes there were, by type and manager."""

    def told(self, types: tuple[str, ...], asked: Asked, mark: int, limit: int, offset: int) -> list[Any]:
        """Changes, newest first."""

    def machines_changed(self, types: tuple[str, ...], asked: Asked, mark: int) -> int | None:
        """On how many machines there was a change, where the question is about several."""

    def logs_since(self) -> str | None:
        """The oldest change that a log tells of."""

    def keys(self) -> list[str]:
        """The names that packages have or had."""

    def managers(self) -> set[str]:
        """The managers of which there are or were packages."""

    def versions(self, most: int) -> list[Any]:
        """The versions of each package and manager that are there."""
