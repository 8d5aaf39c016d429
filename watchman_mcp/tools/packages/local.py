"""What this machine's store tells of packages."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import to_text
from watchman_mcp.times import Window as Asked

from .choosing import CAME, Filter

Columns = dict[str, tuple[str, str]]
"""Columns of a history by name: what they are of an event, and of a package that only its files date."""
_KIND: Columns = {"type": ("type", "'package_install'"), "manager": ("manager", "manager")}
COUNTED: Columns = {**_KIND, "n": ("count(*)", "count(*)")}
_RUN = "'files:' || manager || ':' || coalesce(location, '') || ':' || substr(installed_at, 1, 16)"
TOLD: Columns = {
    "ts": ("ts", "installed_at"),
    "key": ("subject", "key"),
    "transaction_id": ("transaction_id", _RUN),
    "source": ("source", "'files'"),
    **{name: (name, name) for name in ("version", "location", "seq")},
    **{
        name: (name, "NULL")
        for name in ("previous", "command", "by", "error", "ts_earliest", "fields", "before", "after")
    },
    **_KIND,
}


BROUGHT = {"PROVIDES": ("Service", "name"), "OWNS": ("ConfigFile", "path")}
NEWER = "available IS NOT NULL AND gone_at IS NULL"


class Local:
    """The chosen packages of this machine."""

    def __init__(self, store: Store, chosen: Filter) -> None:
        self._store, self._chosen = store, chosen
        self.matched, self.exact = chosen.matched, chosen.exact

    def totals(self) -> dict[str, int]:
        """How many are there, by manager."""
        rows = self._store.read(
            'SELECT manager AS word, count(*) AS n FROM "Software" '
            f"WHERE {self._chosen.where()} AND gone_at IS NULL GROUP BY 1",
            self._chosen.parameters,
        )
        return {row["word"]: row["n"] for row in rows}

    def there(self, limit: int, offset: int) -> list[Any]:
        """Those that are there, by name."""
        sql = (
            f"SELECT * FROM Software WHERE {self._chosen.where()} AND gone_at IS NULL "
            "ORDER BY key, manager, architecture, location LIMIT :limit OFFSET :offset"
        )
        return self._store.read(sql, {**self._chosen.parameters, "limit": limit, "offset": offset})

    def gone(self, limit: int) -> list[Any]:
        """Those that were there, the last one to go first."""
        sql = f'SELECT * FROM "Software" WHERE {self._chosen.where()} ORDER BY gone_at DESC LIMIT :limit'
        return self._store.read(sql, {**self._chosen.parameters, "limit": limit})

    def ends(self, node: str, *, outward: bool) -> list[str]:
        """What a package needs, by name, or else what needs it."""
        given, wanted = ("start", "end") if outward else ("end", "start")
        sql = (
            f"SELECT s.key FROM _edges e JOIN Software s ON s.id = e.{wanted} WHERE e.{given} = ? "
            "AND e.type = 'DEPENDS_ON' AND e.gone_at IS NULL ORDER BY 1"
        )
        return [row["key"] for row in self._store.read(sql, (node,))]

    def brings(self, node: str, kind: str) -> list[str]:
        """Names of the services that a package PROVIDES, or paths of the configuration files that it OWNS."""
        label, name = BROUGHT[kind]
        sql = (
            f"SELECT o.{name} AS name FROM _edges e JOIN {label} o ON o.id = e.end WHERE e.start = ? "
            "AND e.type = ? AND e.gone_at IS NULL ORDER BY 1"
        )
        return [row["name"] for row in self._store.read(sql, (node, kind))]

    def updates(self, limit: int, offset: int) -> list[Any]:
        """Those that are there with a newer version available, security updates first."""
        sql = (
            f"SELECT * FROM Software WHERE {self._chosen.where()} AND {NEWER} ORDER BY security_update "
            "DESC, key, manager, architecture, location LIMIT :limit OFFSET :offset"
        )
        return self._store.read(sql, {**self._chosen.parameters, "limit": limit, "offset": offset})

    def update_totals(self) -> list[Any]:
        """How many have a newer version, and how many of these are security updates, by manager."""
        sql = (
            "SELECT manager AS word, count(*) AS n, count(nullif(security_update, 0)) AS security "
            f"FROM Software WHERE {self._chosen.where()} AND {NEWER} GROUP BY 1"
        )
        return self._store.read(sql, self._chosen.parameters)

    def indexes(self) -> list[Any]:
        """What the managers know of newer versions: of which manager, and when it was fetched."""
        return self._store.read(
            "SELECT manager, location, refreshed_at FROM PackageIndex WHERE gone_at IS NULL"
        )

    def events(self, node: str, limit: int) -> list[Any]:
        """What happened to a package, newest first."""
        sql = "SELECT * FROM Event WHERE acted_on = ? ORDER BY ts DESC, seq DESC LIMIT ?"
        return self._store.read(sql, (node, limit))

    def removed_at(self, node: str) -> str | None:
        """When the log of its manager says that a package went."""
        sql = (
            "SELECT max(ts) AS ts FROM Event WHERE acted_on = ? "
            "AND type IN ('package_remove', 'package_purge')"
        )
        found: str | None = self._store.read(sql, (node,))[0]["ts"]
        return found

    def mark(self, _until: datetime) -> int:
        """What the pages of one answer have in common: the number of the newest event."""
        return self._store.read("SELECT max(seq) AS n FROM Event")[0]["n"] or 0

    def changes(self, types: tuple[str, ...], asked: Asked, mark: int) -> list[Any]:
        """How many changes there were, by type and manager."""
        sql = self._history(types, COUNTED, "GROUP BY 2, 1")
        return self._store.read(sql, {**self._chosen.parameters, **_given(asked, mark)})

    def told(self, types: tuple[str, ...], asked: Asked, mark: int, limit: int, offset: int) -> list[Any]:
        """Changes, newest first."""
        newest_first = "ORDER BY ts DESC, seq DESC LIMIT"
        source = self._history(types, TOLD, f"{newest_first} :end")
        more = {"limit": limit, "offset": offset, "end": offset + limit, **_given(asked, mark)}
        return self._store.read(
            f"SELECT * FROM ({source}) {newest_first} :limit OFFSET :offset",
            {**self._chosen.parameters, **more},
        )

    def _history(self, types: tuple[str, ...], columns: Columns, each: str) -> str:
        """Events, and packages dated by their files, which counts only where no event tells how they came.

        `each` groups or bounds both parts alike, so that no more of either is read than a page can show.
        """
        kinds = ", ".join(f"'{one}'" for one in types)
        came = ", ".join(f"'{one}'" for one in CAME)
        of_event, of_files = (", ".join(f"{pair[n]} AS {c}" for c, pair in columns.items()) for n in (0, 1))
        parts = [
            f"SELECT {of_event} FROM Event WHERE type IN ({kinds}) AND ts >= :since AND ts <= :until "
            f"AND seq <= :seq AND {self._chosen.where('subject')} {each}"
        ]
        if "package_install" in types:
            parts.append(
                f"SELECT {of_files} FROM Software WHERE gone_at IS NULL AND installed_at >= :since AND "
                f"installed_at <= :until AND {self._chosen.where()} AND NOT EXISTS "
                f"(SELECT 1 FROM Event e WHERE e.acted_on = Software.id AND e.type IN ({came})) {each}"
            )
        return " UNION ALL ".join(f"SELECT * FROM ({part})" for part in parts)

    def logs_since(self) -> str | None:
        """The oldest change that a log tells of."""
        rows = self._store.read(
            "SELECT ts FROM Event WHERE type GLOB 'package_*' AND source <> 'observed' ORDER BY ts LIMIT 1"
        )
        return rows[0]["ts"] if rows else None

    def machines_changed(self, _types: tuple[str, ...], _asked: Asked, _mark: int) -> int | None:
        """On how many machines there was a change, where the question is about several."""
        return None

    def keys(self) -> list[str]:
        """The names that packages have or had."""
        return [row["key"] for row in self._store.read("SELECT DISTINCT key FROM Software")]

    def managers(self) -> set[str]:
        """The managers of which there are or were packages."""
        return {row["manager"] for row in self._store.read("SELECT DISTINCT manager FROM Software")}

    def versions(self, most: int) -> list[Any]:
        """The versions of each package and manager that are there."""
        sql = (
            f"SELECT DISTINCT key, manager, scheme, version FROM Software WHERE {self._chosen.where()} "
            "AND gone_at IS NULL ORDER BY 1, 2, 4 LIMIT :most"
        )
        return self._store.read(sql, {**self._chosen.parameters, "most": most})


def _given(asked: Asked, mark: int) -> dict[str, Any]:
    since = to_text(asked.since) if asked.since else ""
    return {"since": since, "until": to_text(asked.until), "seq": mark}
