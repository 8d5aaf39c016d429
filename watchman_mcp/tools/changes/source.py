"""What an answer about changes is made from: this machine's store, or the fleet's graph."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import EPOCH, to_text
from watchman_mcp.tools.fleet import Elsewhere, Kept

Kind = Literal["any", "package", "service", "network", "firewall", "config", "host", "alert"]
KINDS: dict[str, tuple[str, ...]] = {
    "any": (),
    "package": ("package_",),
    "service": ("service_",),
    "network": ("interface_", "route_", "dns_", "vpn_", "port_", "network_"),
    "firewall": ("firewall_",),
    "config": ("config_",),
    "host": ("host_",),
    "alert": ("alert_",),
}
"""What the types of the events of a kind begin with."""
MICROSECOND = timedelta(microseconds=1)


class Source(Protocol):
    """The events of a stretch of time; rows have the columns of the store's table."""

    mark: int
    """What the pages of one answer have in common, so that what is new moves none of them."""

    def types(self) -> dict[str, int]:
        """How many there are of each type, the most frequent first."""

    def hosts(self) -> int | None:
        """On how many machines there was one, where the question is about several."""

    def one_by_one(self, limit: int, offset: int) -> list[Any]:
        """Events, newest first."""

    def by_run(self, limit: int, offset: int) -> list[Any]:
        """Events of one run of a manager and one type as one row, newest first."""

    def names(self) -> list[str]:
        """The names that things have or had."""


class Local:
    """The events of this machine."""

    def __init__(
        self, store: Store, since: datetime, until: datetime, subject: str, kind: str, mark: int | None
    ):
        self._store = store
        self.mark = mark if mark is not None else store.read("SELECT max(seq) AS n FROM Event")[0]["n"] or 0
        self._where, self._given = conditions(subject, kind)
        self._given |= {"since": to_text(since), "until": to_text(until), "seq": self.mark}

    def types(self) -> dict[str, int]:
        """How many there are of each type, the most frequent first."""
        rows = self._store.read(
            f"SELECT type, count(*) AS n FROM Event WHERE {self._where} AND seq <= :seq "
            "GROUP BY 1 ORDER BY 2 DESC",
            self._given,
        )
        return {row["type"]: row["n"] for row in rows}

    def hosts(self) -> int | None:
        """Nothing: there is one machine."""
        return None

    def one_by_one(self, limit: int, offset: int) -> list[Any]:
        """Events, newest first."""
        return self._page(
            f"SELECT *, 1 AS n, ts AS last_ts FROM Event WHERE {self._where} AND seq <= :seq "
            "ORDER BY ts DESC, seq DESC LIMIT :limit OFFSET :offset",
            limit,
            offset,
        )

    def by_run(self, limit: int, offset: int) -> list[Any]:
        """Grouped by what a group needs alone; the rest is read for the lines of this page only."""
        return self._page(
            "SELECT g.n, g.ts, g.last_ts, g.subjects, e.* FROM (SELECT min(seq) AS first, count(*) AS n, "
            "min(ts) AS ts, max(ts) AS last_ts, group_concat(subject, ', ') AS subjects FROM ("
            "SELECT seq, ts, type, subject, coalesce(transaction_id || coalesce(command, ''), "
            "source || substr(ts, 1, 16) || coalesce(location, '')) AS run "
            f"FROM Event WHERE {self._where} AND seq <= :seq ORDER BY ts, subject) GROUP BY run, type "
            "ORDER BY last_ts DESC LIMIT :limit OFFSET :offset) g JOIN Event e ON e.seq = g.first "
            "ORDER BY g.last_ts DESC",
            limit,
            offset,
        )

    def _page(self, sql: str, limit: int, offset: int) -> list[Any]:
        return self._store.read(sql, {**self._given, "limit": limit, "offset": offset})

    def names(self) -> list[str]:
        """The names that things have or had."""
        rows = self._store.read(
            "SELECT DISTINCT subject FROM Event UNION SELECT key FROM Software UNION SELECT name FROM Host"
        )
        return list({row["subject"] for row in rows if row["subject"]})


class Remote:
    """The events of other machines, or of all."""

    def __init__(
        self, frame: Elsewhere, since: datetime, until: datetime, subject: str, kind: str, mark: int | None
    ):
        self.mark = mark if mark is not None else (until - EPOCH) // MICROSECOND
        until = min(until, EPOCH + self.mark * MICROSECOND)
        self._frame, self._events = frame, frame.fleet.events
        self._asked = self._events.between(frame.ids, since, until, KINDS[kind], subject.strip())

    def types(self) -> dict[str, int]:
        """How many there are of each type, the most frequent first."""
        return {row["type"]: row["n"] for row in self._events.types(self._asked)}

    def hosts(self) -> int | None:
        """On how many machines there was one, where the question is about several."""
        return len(self._events.by_machine(self._asked)) if self._frame.several else None

    def one_by_one(self, limit: int, offset: int) -> list[Any]:
        """Events, newest first."""
        return [Kept(row) for row in self._events.one_by_one(self._asked, limit, offset)]

    def by_run(self, limit: int, offset: int) -> list[Any]:
        """Events of one machine, run of a manager and type as one row, newest first."""
        rows = self._events.by_run(self._asked, limit, offset)
        return [Kept({**row, "subjects": ", ".join(row["subjects"])}) for row in rows]

    def names(self) -> list[str]:
        """The names that things have or had."""
        return [
            *self._frame.fleet.packages.keys(self._frame.ids),
            *[one.name for one in self._frame.machines],
        ]


def conditions(subject: str, kind: str) -> tuple[str, dict[str, Any]]:
    """Which events are asked about, in the store's words."""
    parts = ["ts >= :since", "ts <= :until"]
    given: dict[str, Any] = {}
    if kind != "any":
        words = {f"kind{n}": f"{word}*" for n, word in enumerate(KINDS[kind])}
        parts.append(f"({' OR '.join(f'type GLOB :{name}' for name in words)})")
        given |= words
    if subject:
        parts.append(
            "subject = :subject COLLATE NOCASE" if not set(subject) & set("*?[") else "subject GLOB :subject"
        )
        given["subject"] = subject.strip()
    return " AND ".join(parts), given
