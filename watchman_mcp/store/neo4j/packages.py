"""What the graph of many machines is asked about packages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from watchman_mcp.schema.packages import WHOLE
from watchman_mcp.store.neo4j.globs import regex

Row = dict[str, Any]
Ask = Callable[..., list[Row]]

LISTED = 200
"""Names that a query looks up one by one; with more of them it passes over all packages."""
NAMES = 20_000
"""Different names that are read at most, to find those near one that is not known."""
THERE = "{n}.host IN $machines AND {n}.{key} IS NOT NULL"
GROUP = (
    "n.key AS key, n.manager AS manager, coalesce(n.version, '') AS version, "
    "coalesce(n.architecture, '') AS architecture"
)
SAME = (
    "m.host IN $machines AND m.key = key AND m.manager = manager AND coalesce(m.version, '') = version "
    "AND coalesce(m.architecture, '') = architecture"
)
NEWER = "n.available IS NOT NULL AND n.gone_at IS NULL"
IN_ORDER = "n.key, n.manager, coalesce(n.architecture, ''), coalesce(n.location, '')"


@dataclass(frozen=True)
class Chosen:
    """Which packages of which machines are asked about, as conditions and what they are given."""

    machines: list[str]
    conditions: tuple[str, ...] = ()
    parameters: dict[str, Any] = field(default_factory=dict)
    matched: str | None = None
    """How the name was understood; None where no package was ever called so."""
    exact: bool = False

    def where(self, node: str = "n", key: str = "key") -> str:
        """The conditions on a node whose property `key` holds the name."""
        parts = [part.replace("{n}", node).replace("{key}", key) for part in (THERE, *self.conditions)]
        return " AND ".join(parts)

    @property
    def given(self) -> dict[str, Any]:
        """What every query of these packages is given."""
        return {"machines": self.machines, **self.parameters}


class Packages:
    """Questions about packages that are, or were, installed."""

    COUNTED: ClassVar = (
        "MATCH (n:Software) WHERE n.host IN $machines AND n.key IS NOT NULL AND n.gone_at IS NULL "
        "RETURN n.host AS machine, count(*) AS n, "
        f"count(CASE WHEN NOT n.state IN {list(WHOLE)} THEN 1 END) AS odd"
    )
    """Packages of each machine, and how many of them are not fully installed."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def choose(
        self,
        machines: Sequence[str],
        candidates: Sequence[str],
        managers: Sequence[str],
        *,
        beginning: str = "",
    ) -> Chosen:
        """Packages of an exact name, else those whose name has the first candidate as a part or glob.

        Of these managers where some are named; of apt too what begins so.
        """
        chosen = Chosen(list(machines))
        if managers:
            also = " OR ({n}.manager = 'apt' AND {n}.{key} STARTS WITH $beginning)" if beginning else ""
            given = {"managers": list(managers), "beginning": beginning}
            chosen = Chosen(chosen.machines, (f"({{n}}.manager IN $managers{also})",), given)
        if not candidates:
            return chosen
        # The first takes an index; some managers keep capitals.
        exact = self._keys(machines, "n.key IN $names", names=list(candidates)) or self._keys(
            machines, "toLower(n.key) IN $names", names=list(candidates)
        )
        if exact:
            return self._named(chosen, "{n}.{key} IN $names", f"exact: {candidates[0]}", names=exact)
        wanted = candidates[0]
        if set(wanted) & set("*?["):
            condition, value, pattern = "toLower({n}.{key}) =~ $part", regex(wanted), wanted
        else:
            condition, value, pattern = "toLower({n}.{key}) CONTAINS $part", wanted, f"*{wanted}*"
        names = self._keys(machines, condition.format(n="n", key="key"), part=value)
        if not names:
            return chosen
        matched = f"{len(names)} names like {pattern}"
        if len(names) <= LISTED:
            return self._named(chosen, "{n}.{key} IN $names", matched, names=names)
        return self._named(chosen, condition, matched, part=value)

    def _named(self, chosen: Chosen, condition: str, matched: str, **given: Any) -> Chosen:
        return Chosen(
            chosen.machines,
            (*chosen.conditions, condition),
            {**chosen.parameters, **given},
            matched,
            matched.startswith("exact"),
        )

    def _keys(self, machines: Sequence[str], condition: str, **given: Any) -> list[str]:
        query = (
            f"MATCH (n:Software) WHERE n.host IN $machines AND n.key IS NOT NULL AND {condition} "
            "RETURN DISTINCT n.key AS key ORDER BY key LIMIT $most"
        )
        return [row["key"] for row in self._ask(query, machines=list(machines), most=NAMES, **given)]

    def keys(self, machines: Sequence[str]) -> list[str]:
        """The names that packages of these machines have or had."""
        return self._keys(machines, "true")

    def managers(self, machines: Sequence[str]) -> list[str]:
        """The managers of which these machines have or had packages."""
        query = (
            "MATCH (n:Software) WHERE n.host IN $machines AND n.key IS NOT NULL "
            "RETURN DISTINCT n.manager AS manager ORDER BY manager"
        )
        return [row["manager"] for row in self._ask(query, machines=list(machines))]

    def counted(self, machines: Sequence[str]) -> list[Row]:
        """How many packages each machine has; `odd` of them are not fully installed."""
        return self._ask(self.COUNTED, machines=list(machines))

    def states(self, machine: str) -> list[Row]:
        """How many packages there are of each manager and state."""
        return self._ask(
            "MATCH (n:Software) WHERE n.host = $machine AND n.key IS NOT NULL AND n.gone_at IS NULL "
            "RETURN n.manager AS manager, n.state AS state, count(*) AS n ORDER BY manager",
            machine=machine,
        )

    def newer(self, machine: str) -> list[Row]:
        """How many packages of a machine have a newer version, and of how many managers that is known."""
        return self._ask(
            "OPTIONAL MATCH (i:PackageIndex) WHERE i.host = $machine AND i.gone_at IS NULL "
            "WITH count(i) AS indexes OPTIONAL MATCH (n:Software) WHERE n.host = $machine AND n.available IS "
            "NOT NULL AND n.gone_at IS NULL RETURN indexes, count(n) AS n, "
            "count(CASE WHEN n.security_update THEN 1 END) AS security",
            machine=machine,
        )

    # One machine

    def totals(self, chosen: Chosen) -> list[Row]:
        """How many packages are there, by manager."""
        query = f"MATCH (n:Software) WHERE {chosen.where()} AND n.gone_at IS NULL "
        return self._ask(f"{query}RETURN n.manager AS word, count(*) AS n", **chosen.given)

    def there(self, chosen: Chosen, limit: int, offset: int) -> list[Row]:
        """Packages that are there, by name."""
        query = (
            f"MATCH (n:Software) WHERE {chosen.where()} AND n.gone_at IS NULL "
            f"WITH n ORDER BY {IN_ORDER} SKIP $offset LIMIT $limit RETURN n {{.*}} AS row"
        )
        rows = self._ask(query, offset=offset, limit=limit, **chosen.given)
        return [row["row"] for row in rows]

    def gone(self, chosen: Chosen, limit: int) -> list[Row]:
        """Packages that were there, the last one to go first; those of several machines by version."""
        query = (
            f"MATCH (n:Software) WHERE {chosen.where()} AND n.gone_at IS NOT NULL "
            f"WITH n ORDER BY n.gone_at DESC, {IN_ORDER} LIMIT $limit RETURN n {{.*}} AS row"
        )
        return [row["row"] for row in self._ask(query, limit=limit, **chosen.given)]

    def ends(self, node: str, *, outward: bool) -> list[str]:
        """What a package needs, by name, or else what needs it."""
        arrow = "(n)-[r:DEPENDS_ON]->(o:Software)" if outward else "(n)<-[r:DEPENDS_ON]-(o:Software)"
        query = (
            f"MATCH (n:Software {{id: $node}}) MATCH {arrow} WHERE r.gone_at IS NULL AND o.key IS NOT NULL "
            "RETURN DISTINCT o.key AS key ORDER BY key"
        )
        return [row["key"] for row in self._ask(query, node=node)]

    def brings(self, node: str, kind: str) -> list[str]:
        """Names of the services that a package PROVIDES, or paths of the configuration files that it OWNS."""
        query = (
            f"MATCH (:Software {{id: $node}})-[r:{'PROVIDES' if kind == 'PROVIDES' else 'OWNS'}]->(o) "
            "WHERE r.gone_at IS NULL RETURN DISTINCT coalesce(o.path, o.name) AS name ORDER BY name"
        )
        return [row["name"] for row in self._ask(query, node=node) if row["name"]]

    def updates(self, chosen: Chosen, limit: int, offset: int) -> list[Row]:
        """Packages that are there with a newer version available, security updates first."""
        query = (
            f"MATCH (n:Software) WHERE {chosen.where()} AND {NEWER} WITH n ORDER BY "
            f"coalesce(n.security_update, false) DESC, {IN_ORDER}, n.host SKIP $offset LIMIT $limit "
            "RETURN n {.*} AS row"
        )
        rows = self._ask(query, offset=offset, limit=limit, **chosen.given)
        return [row["row"] for row in rows]

    def update_totals(self, chosen: Chosen) -> list[Row]:
        """How many packages have a newer version, and how many a security update, by manager."""
        query = (
            f"MATCH (n:Software) WHERE {chosen.where()} AND {NEWER} RETURN n.manager AS word, "
            "count(*) AS n, count(CASE WHEN n.security_update THEN 1 END) AS security"
        )
        return self._ask(query, **chosen.given)

    def indexes(self, chosen: Chosen) -> list[Row]:
        """Of which managers the machines know newer versions, and when they fetched what they know."""
        query = (
            "MATCH (n:PackageIndex) WHERE n.host IN $machines AND n.gone_at IS NULL AND "
            "n.manager IS NOT NULL RETURN n.manager AS manager, n.location AS location, "
            "n.refreshed_at AS refreshed_at"
        )
        return self._ask(query, machines=chosen.machines)

    def events(self, node: str, limit: int) -> list[Row]:
        """What happened to a package, newest first."""
        query = (
            "MATCH (:Software {id: $node})<-[:ACTED_ON]-(e:Event) WHERE e.ts IS NOT NULL "
            "WITH e ORDER BY e.ts DESC, e.first_seen DESC, e.id LIMIT $limit RETURN e {.*} AS row"
        )
        return [row["row"] for row in self._ask(query, node=node, limit=limit)]

    def removed_at(self, node: str) -> str | None:
        """When the log of its manager says that a package went."""
        query = (
            "MATCH (:Software {id: $node})<-[:ACTED_ON]-(e:Event) "
            "WHERE e.type IN ['package_remove', 'package_purge'] RETURN max(e.ts) AS ts"
        )
        found: str | None = self._ask(query, node=node)[0]["ts"]
        return found

    # Several machines

    def group_totals(self, chosen: Chosen) -> list[Row]:
        """How many different packages there are, by manager."""
        query = (
            f"MATCH (n:Software) WHERE {chosen.where()} AND n.gone_at IS NULL WITH DISTINCT {GROUP} "
            "RETURN manager AS word, count(*) AS n"
        )
        return self._ask(query, **chosen.given)

    def machines_with(self, chosen: Chosen) -> int:
        """How many machines have one of the packages."""
        query = f"MATCH (n:Software) WHERE {chosen.where()} AND n.gone_at IS NULL "
        rows = self._ask(f"{query}RETURN count(DISTINCT n.host) AS n", **chosen.given)
        return int(rows[0]["n"])

    def groups(self, chosen: Chosen, limit: int, offset: int) -> list[Row]:
        """Packages of one name, manager, version and architecture, with the machines that have them."""
        query = (
            f"MATCH (n:Software) WHERE {chosen.where()} AND n.gone_at IS NULL WITH DISTINCT {GROUP} "
            "ORDER BY key, manager, version, architecture SKIP $offset LIMIT $limit "
            "CALL (key, manager, version, architecture) { "
            f"MATCH (m:Software) WHERE {SAME} AND m.gone_at IS NULL "
            "RETURN collect(DISTINCT m.host) AS machines, max(m.installed_at) AS installed_at } "
            "RETURN key, manager, version, architecture, machines, installed_at"
        )
        return self._ask(query, offset=offset, limit=limit, **chosen.given)

    def versions(self, chosen: Chosen, most: int) -> list[Row]:
        """The versions of each package and manager that are there, with the machines that have them."""
        query = (
            f"MATCH (n:Software) WHERE {chosen.where()} AND n.gone_at IS NULL "
            "WITH n.key AS key, n.manager AS manager, n.version AS version, min(n.scheme) AS scheme, "
            "collect(DISTINCT n.host) AS machines ORDER BY key, manager, version LIMIT $most "
            "RETURN key, manager, scheme, version, machines"
        )
        return self._ask(query, most=most, **chosen.given)
