"""One machine's graph within the graph of the fleet: what is there, writing it, and clearing it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from watchman_mcp.errors import FleetError
from watchman_mcp.schema import LABELS
from watchman_mcp.store.outbox import Deletion, Part, graph_id

from . import statements
from .connection import Database

if TYPE_CHECKING:
    from neo4j import AsyncManagedTransaction

CLEARED = 2000
"""Nodes that one transaction deletes when a graph begins anew."""
CLEARING = -1
"""The mark of a graph whose old nodes are not all deleted yet."""


@dataclass(frozen=True)
class Mark:
    """How far a machine's graph goes, as its Host node keeps it in the same transaction as the rows.

    `store` is the database file that it follows, `run` the opening of that file which sent the newest rows,
    `seq` the number of the newest row. `heard` only changes.
    """

    store: str | None
    run: str | None
    seq: int
    heard: str | None = None


class _Moved(Exception):
    """The mark is not the one that was seen; takes the transaction back."""


async def prepare(database: Database) -> None:
    """Make the constraints and indexes that are missing.

    A server that died while it made a constraint is left with its index alone, which stands in the way.
    """
    try:
        await database.define(statements.definitions())
    except FleetError:
        left = await database.read(
            "SHOW INDEXES YIELD name, owningConstraint WHERE name IN $names AND owningConstraint IS NULL "
            "RETURN name",
            names=[statements.unique(label) for label in LABELS],
        )
        if not left:
            raise
        await database.define(f"DROP INDEX {row['name']} IF EXISTS" for row in left)
        await database.define(statements.definitions())


class Graph:
    """The nodes whose ids begin with one host."""

    def __init__(self, database: Database, host: str) -> None:
        self.database, self.host = database, host
        self.host_id = graph_id(host, f"Host/{host}")

    async def mark(self) -> Mark:
        """How far the graph goes; one that was never written belongs to no store."""
        rows = await self.database.read(
            "MATCH (h:Host {id: $id}) RETURN h.mirror_store AS store, h.mirror_run AS run, "
            "coalesce(h.mirror_seq, -1) AS seq, toString(h.heard_at) AS heard",
            id=self.host_id,
        )
        return Mark(**rows[0]) if rows else Mark(None, None, CLEARING)

    async def move(self, seen: Mark, to: Mark, part: Part | None = None) -> bool:
        """Move the mark and write the rows up to it, in one transaction.

        False, and nothing is written, where the mark is no longer the one that was seen.
        """

        async def work(transaction: AsyncManagedTransaction) -> None:
            await self._move(transaction, seen, to)
            if part is not None:
                await self._write(transaction, part)

        try:
            await self.database.write(work)
        except _Moved:
            return False
        return True

    async def _move(self, transaction: AsyncManagedTransaction, seen: Mark, to: Mark) -> None:
        """The first write takes the lock of the host's node, so that what follows reads what stays."""
        result = await transaction.run(
            "MERGE (h:Host {id: $id}) SET h.heard_at = datetime() "
            "WITH h WHERE coalesce(h.mirror_store, '') = $seen.store "
            "AND coalesce(h.mirror_run, '') = $seen.run AND coalesce(h.mirror_seq, -1) = $seen.seq "
            "SET h.mirror_store = $to.store, h.mirror_run = $to.run, h.mirror_seq = $to.seq "
            "RETURN count(h) AS moved",
            id=self.host_id,
            seen=_parameters(seen),
            to=_parameters(to),
        )
        if not (await result.single(strict=True))["moved"]:
            raise _Moved

    async def _write(self, transaction: AsyncManagedTransaction, part: Part) -> None:
        """Deletions first: a row of this part outlived them all. Nodes before edges."""
        await self._delete(transaction, part.deletions)
        for label, rows in part.nodes.items():
            await self._run(transaction, statements.upsert(label), rows=rows)
        for (kind, start, end), rows in part.edges.items():
            await self._run(transaction, statements.join(kind, start, end), rows=rows)

    async def _delete(self, transaction: AsyncManagedTransaction, deletions: list[Deletion]) -> None:
        named: dict[str, list[str]] = defaultdict(list)
        for one in deletions:
            if one.label not in LABELS:
                continue  # a newer Watchman may have had it
            if one.id is not None:
                named[one.label].append(one.id)
            else:
                query = statements.delete_old(one.label, raw=one.since is not None)
                await self._run(transaction, query, since=one.since, before=one.before)
        for label, ids in named.items():
            await self._run(transaction, statements.delete_named(label), ids=ids)

    async def _run(self, transaction: AsyncManagedTransaction, query: str, **parameters: Any) -> None:
        given = {"host": self.host, "host_id": self.host_id, **parameters}
        await (await transaction.run(query, given)).consume()

    async def release(self) -> None:
        """Let the graph belong to no store: the next one that sends begins it anew."""

        async def work(transaction: AsyncManagedTransaction) -> None:
            query = "MATCH (h:Host {id: $id}) REMOVE h.mirror_store"
            await (await transaction.run(query, id=self.host_id)).consume()

        await self.database.write(work)

    async def clear(self) -> None:
        """Delete the host's nodes, but for its own, in bounded transactions; harmless to begin again."""
        for label in LABELS:
            while await self._clear_some(label):
                pass

    async def _clear_some(self, label: str) -> int:
        async def work(transaction: AsyncManagedTransaction) -> int:
            result = await transaction.run(
                statements.clear(label),
                prefix=f"{self.host}/",
                host_id=self.host_id,
                most=CLEARED,
            )
            return int((await result.single(strict=True))["n"])

        return await self.database.write(work)


def _parameters(mark: Mark) -> dict[str, Any]:
    return {"store": mark.store or "", "run": mark.run or "", "seq": mark.seq}
