"""What the graph of many machines is asked: which machines there are, and how their collectors fare."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from anyio import from_thread

from watchman_mcp.errors import FleetError
from watchman_mcp.store.tables import to_text

from .connection import Database
from .events import Events
from .packages import Packages
from .samples import Samples

Row = dict[str, Any]

HOSTS = (
    "MATCH (h:Host) WHERE h.host = h.machine AND h.name IS NOT NULL "
    "RETURN h.machine AS machine, h.name AS name, h.os AS os, h.kernel AS kernel, h.boot_time AS boot_time, "
    "h.time_zone AS time_zone, h.heard_at AS heard_at ORDER BY toLower(name), machine"
)
"""A node that only a relationship has named so far has no name of its own."""


@dataclass(frozen=True)
class Machine:
    """One machine as the fleet knows it; moments are text as the store writes them."""

    machine: str
    name: str
    os: str | None
    kernel: str | None
    boot_time: str | None
    time_zone: str | None
    heard_at: str
    """When its daemon last wrote to Neo4j."""


class Fleet:
    """Questions about other machines, for tools, which run in worker threads of the event loop.

    Rows are what the local store would give: moments as its texts, no other types of the driver's. Every
    method raises FleetError while the server cannot be asked.
    """

    def __init__(self, database: Database, clean: Callable[[str], str] = str) -> None:
        """`clean` makes a text that another machine wrote safe to show."""
        self._database, self._clean = database, clean
        self.packages, self.events, self.samples = Packages(self.ask), Events(self.ask), Samples(self.ask)

    async def rows(self, query: str, **parameters: Any) -> list[Row]:
        """All rows of one of the fleet's queries, on the event loop.

        Raises: FleetError.
        """
        # The driver hands a moment of its own type to the moment's zone, and the zones of some Pythons end
        # the whole process on one that is not theirs; UTC takes it.
        given = {n: v.astimezone(UTC) if isinstance(v, datetime) else v for n, v in parameters.items()}
        try:
            records = await self._database.read(query, **given)
        except FleetError as error:
            raise FleetError(
                f"Neo4j cannot be asked: {error}. Questions about this machine need no host and are answered "
                "without it"
            ) from error
        return [{name: self._plain(value) for name, value in record.data().items()} for record in records]

    def ask(self, query: str, **parameters: Any) -> list[Row]:
        """The same, from a worker thread."""
        return from_thread.run(functools.partial(self.rows, query, **parameters))

    def hosts(self) -> list[Machine]:
        """Every machine that was heard of and has told its name."""
        return [Machine(**row) for row in self.ask(HOSTS)]

    async def known_hosts(self) -> list[tuple[Machine, int]]:
        """The same with the number of packages of each, on the event loop: for the command line."""
        machines = [Machine(**row) for row in await self.rows(HOSTS)]
        counted = await self.rows(Packages.COUNTED, machines=[one.machine for one in machines])
        counts = {row["machine"]: row["n"] for row in counted}
        return [(one, counts.get(one.machine, 0)) for one in machines]

    def runs(self, machines: Sequence[str]) -> list[Row]:
        """The newest stretch of each collector of these machines."""
        return self._maps(
            "MATCH (r:CollectorRun) WHERE r.host IN $machines AND r.last_at IS NOT NULL "
            "WITH r ORDER BY r.last_at DESC WITH r.host AS machine, r.collector AS collector, "
            "head(collect(r)) AS newest RETURN newest {.*} AS row ORDER BY machine, collector",
            machines=list(machines),
        )

    def stretches(self, machine: str) -> list[Row]:
        """The stretches of time in which collectors of a machine looked, oldest first."""
        return self.ask(
            "MATCH (r:CollectorRun) WHERE r.host = $machine AND r.status IN ['ok', 'partial'] "
            "RETURN r.collector AS collector, r.started_at AS started_at, r.last_at AS last_at "
            "ORDER BY started_at",
            machine=machine,
        )

    def open_alerts(self, machine: str) -> list[Row]:
        """The alerts of a machine that are open."""
        return self._maps(
            "MATCH (a:Alert) WHERE a.host = $machine AND a.gone_at IS NULL AND a.key IS NOT NULL "
            "RETURN a {.*} AS row",
            machine=machine,
        )

    def _maps(self, query: str, **parameters: Any) -> list[Row]:
        return [row["row"] for row in self.ask(query, **parameters)]

    def _plain(self, value: Any) -> Any:
        """A value as the local store writes it, and its texts clean: who has the password may write any."""
        if isinstance(value, str):
            return self._clean(value)
        if isinstance(value, list):
            return [self._plain(one) for one in value]
        if isinstance(value, dict):
            return {name: self._plain(one) for name, one in value.items()}
        if hasattr(value, "to_native"):
            moment: datetime = value.to_native()
            return to_text(moment)
        return value
