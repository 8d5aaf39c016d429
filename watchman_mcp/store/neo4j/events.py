"""What the graph of many machines is asked about what happened, and when."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .globs import regex
from .packages import Chosen

Row = dict[str, Any]
Ask = Callable[..., list[Row]]

BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
UNTOLD = "NOT EXISTS { MATCH (e:Event)-[:ACTED_ON]->(n) WHERE e.type IN $came }"
"""No event tells how a package came to be there; its files alone date it."""
RUN = (
    "coalesce(e.transaction_id + coalesce(e.command, ''), "
    "e.source + left(toString(e.ts), 16) + coalesce(e.location, ''))"
)
"""What events of one run of a manager, or of one look, have in common."""


@dataclass(frozen=True)
class Between:
    """Events of some machines in a stretch of time; of one kind, about one subject where these are told."""

    machines: list[str]
    since: datetime | None
    until: datetime
    prefixes: tuple[str, ...] = ()
    subject: str = ""
    pattern: str = ""

    @property
    def where(self) -> str:
        """The conditions on an event."""
        parts = ["e.host IN $machines", "e.ts >= $since", "e.ts <= $until"]
        parts += ["any(p IN $prefixes WHERE e.type STARTS WITH p)"] if self.prefixes else []
        parts += ["toLower(e.subject) = toLower($subject)"] if self.subject else []
        return " AND ".join([*parts, *(["e.subject =~ $pattern"] if self.pattern else [])])

    @property
    def given(self) -> dict[str, Any]:
        """What every query of these events is given."""
        return {
            "machines": self.machines,
            "since": self.since or BEGINNING,
            "until": self.until,
            "prefixes": list(self.prefixes),
            "subject": self.subject,
            "pattern": self.pattern,
        }


@dataclass(frozen=True)
class History:
    """Changes of packages in a stretch of time: of these types, and where `came` is told, packages that only
    their files date and that no event of the types in it tells of.
    """

    chosen: Chosen
    types: Sequence[str]
    came: Sequence[str]
    since: datetime | None
    until: datetime

    @property
    def parts(self) -> list[str]:
        """The two kinds of rows, each named `n`, with their moment as `ts`."""
        found = [
            f"MATCH (n:Event) WHERE n.ts >= $since AND n.ts <= $until AND n.type IN $types "
            f"AND {self.chosen.where('n', 'subject')} "
            "RETURN n, n.ts AS ts, n.type AS type, n.manager AS manager, n.host AS machine"
        ]
        if self.came:
            found.append(
                "MATCH (n:Software) WHERE n.installed_at >= $since AND n.installed_at <= $until "
                f"AND n.gone_at IS NULL AND {self.chosen.where()} AND {UNTOLD} "
                "RETURN n, n.installed_at AS ts, 'package_install' AS type, n.manager AS manager, "
                "n.host AS machine"
            )
        return found

    @property
    def given(self) -> dict[str, Any]:
        """What every query of this history is given."""
        return {
            "types": list(self.types),
            "came": list(self.came),
            "since": self.since or BEGINNING,
            "until": self.until,
            **self.chosen.given,
        }


class Events:
    """Questions about events."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def between(
        self,
        machines: Sequence[str],
        since: datetime | None,
        until: datetime,
        prefixes: tuple[str, ...] = (),
        subject: str = "",
    ) -> Between:
        """Events of some machines, to be asked about; a subject may be a glob."""
        globbed = bool(set(subject) & set("*?["))
        pattern = regex(subject) if globbed else ""
        return Between(list(machines), since, until, prefixes, "" if globbed else subject, pattern)

    def types(self, asked: Between) -> list[Row]:
        """How many events there are of each type, the most frequent first."""
        query = (
            f"MATCH (e:Event) WHERE {asked.where} RETURN e.type AS type, count(*) AS n ORDER BY n DESC, type"
        )
        return self._ask(query, **asked.given)

    def by_machine(self, asked: Between) -> dict[str, int]:
        """How many events there are of each machine that has any."""
        query = f"MATCH (e:Event) WHERE {asked.where} RETURN e.host AS machine, count(*) AS n"
        return {row["machine"]: row["n"] for row in self._ask(query, **asked.given)}

    def one_by_one(self, asked: Between, limit: int, offset: int) -> list[Row]:
        """Events, newest first."""
        query = (
            f"MATCH (e:Event) WHERE {asked.where} "
            "WITH e ORDER BY e.ts DESC, e.host, e.first_seen DESC, e.id SKIP $offset LIMIT $limit "
            "RETURN e {.*, n: 1, last_ts: e.ts} AS row"
        )
        return [row["row"] for row in self._ask(query, limit=limit, offset=offset, **asked.given)]

    def by_run(self, asked: Between, limit: int, offset: int) -> list[Row]:
        """Events of one machine, run and type as one row, newest first.

        Grouped by what a group needs alone; its events are read for the rows of this page only.
        """
        query = (
            f"MATCH (e:Event) WHERE {asked.where} "
            f"WITH e.host AS machine, {RUN} AS run, e.type AS type, count(*) AS n, min(e.ts) AS ts, "
            "max(e.ts) AS last_ts ORDER BY last_ts DESC, machine, run, type SKIP $offset LIMIT $limit "
            "CALL (machine, run, type, ts, last_ts) { "
            "MATCH (e:Event) WHERE e.host = machine AND e.ts >= ts AND e.ts <= last_ts AND e.type = type "
            f"AND {RUN} = run WITH e ORDER BY e.ts, e.subject "
            "RETURN head(collect(e)) AS first, collect(e.subject) AS subjects } "
            "RETURN first {.*, n: n, ts: ts, last_ts: last_ts, subjects: subjects} AS row "
            "ORDER BY last_ts DESC, machine, run, type"
        )
        return [row["row"] for row in self._ask(query, limit=limit, offset=offset, **asked.given)]

    # Packages

    def history(
        self,
        chosen: Chosen,
        types: Sequence[str],
        came: Sequence[str],
        since: datetime | None,
        until: datetime,
    ) -> History:
        """Changes of some packages, to be asked about."""
        return History(chosen, types, came, since, until)

    def changes(self, asked: History) -> list[Row]:
        """How many changes of packages there were, by type and manager."""
        union = " UNION ALL ".join(asked.parts)
        return self._ask(
            f"CALL () {{ {union} }} RETURN type, manager, count(*) AS n ORDER BY type, manager", **asked.given
        )

    def machines_changed(self, asked: History) -> int:
        """On how many machines there was one."""
        union = " UNION ALL ".join(asked.parts)
        rows = self._ask(f"CALL () {{ {union} }} RETURN count(DISTINCT machine) AS n", **asked.given)
        return int(rows[0]["n"])

    def told(self, asked: History, limit: int, offset: int) -> list[Row]:
        """Changes of packages, newest first; a package that its files date is a row of Software."""
        union = " UNION ALL ".join(asked.parts)
        query = (
            f"CALL () {{ {union} }} WITH n, ts, type, machine ORDER BY ts DESC, machine, n.transaction_id, "
            "coalesce(n.subject, n.key), n.id SKIP $offset LIMIT $limit "
            "RETURN n {.*, ts: ts, type: type, key: coalesce(n.subject, n.key)} AS row"
        )
        return [row["row"] for row in self._ask(query, limit=limit, offset=offset, **asked.given)]

    def logs_since(self, machine: str) -> str | None:
        """The oldest change of a package that a log tells of."""
        query = (
            "MATCH (e:Event) WHERE e.host = $machine AND e.ts IS NOT NULL "
            "AND e.type STARTS WITH 'package_' AND e.source <> 'observed' "
            "RETURN e.ts AS ts ORDER BY e.host, e.ts LIMIT 1"
        )
        rows = self._ask(query, machine=machine)
        return rows[0]["ts"] if rows else None
