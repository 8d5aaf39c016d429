"""Keeps the fleet's Neo4j the same as the local store: sends what is above the mark that Neo4j itself holds.

There is no queue: Neo4j may be away for days, and what it missed is read from the store. A trouble is said,
and tried again with growing pauses; collectors and answers never wait for it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from watchman_mcp.errors import FleetError, StoreError

from . import outbox
from .sqlite import Store

if TYPE_CHECKING:
    from .neo4j.connection import Database
    from .neo4j.graph import Graph, Mark

log = logging.getLogger(__name__)
ROWS = 1000
"""Rows of one transaction: packing more would hold up answers for too long."""
BEAT = 30.0
"""Seconds after which the host is heard of again, though nothing is new."""
GLANCE = 0.5
"""Seconds between two glances at the number of the store's newest row."""
QUIET = 100.0
"""Seconds without a sign of another sender until this one takes the graph of a host over."""
LONGEST_PAUSE = 60.0
REPLACE = "`watchman-mcp setup neo4j --replace` lets this one take over"


@dataclass(frozen=True)
class State:
    """How the mirror fares."""

    uri: str
    trouble: str
    behind: int
    """Numbers of rows between the store and the mark."""
    sent_at: datetime | None


class Mirror:
    """Sends one store to one Neo4j database."""

    def __init__(
        self,
        store: Store,
        database: Database,
        clean: Callable[[str], str] = str,
        *,
        quiet: float = QUIET,
        beat: float = BEAT,
        glance: float = GLANCE,
        pause: float = 1.0,
    ) -> None:
        self.store, self.database, self._clean = store, database, clean
        self.quiet, self.beat, self.glance, self._pause = quiet, beat, glance, pause
        self.trouble = ""
        """Why Neo4j is not up to date; empty while it is or becomes so."""
        self._mark = -1
        """The number of the newest row that this mirror knows to be in Neo4j."""
        self._tries = 0
        """How often in a row it came to nothing."""
        self._sent_at: datetime | None = None

    @property
    def state(self) -> State:
        """How the mirror fares now."""
        behind = max(self.store.newest - max(self._mark, 0), 0)
        return State(self.database.settings.uri, self.trouble, behind, self._sent_at)

    async def run(self) -> None:
        """Mirror until cancelled."""
        if self.store.directory is None:
            self.trouble = "The store is kept in memory only, and its machine is not mirrored to Neo4j"
            return
        try:
            while True:
                try:
                    await self._follow()
                except (FleetError, StoreError) as error:
                    self._say(str(error))
                except Exception as error:  # a fault here must not end what the machine itself is asked
                    log.exception("a fault of Watchman's own")
                    self._say(f"{type(error).__name__} in the mirror; the log has the rest")
                longest = min(self._pause * 2**self._tries, LONGEST_PAUSE)
                self._tries += 1
                # a fleet must not knock at the same moment
                await anyio.sleep(longest * random.uniform(0.5, 1))  # noqa: S311 - no secret
        finally:
            await self.database.close()

    def _say(self, trouble: str) -> None:
        """Keep the trouble for `doctor`; the log has it once."""
        trouble = self._clean(trouble)
        if trouble and trouble != self.trouble:
            log.warning("Neo4j: %s", trouble)
        elif self.trouble and not trouble:
            log.info("Neo4j is written again")
        self.trouble = trouble

    async def _follow(self) -> None:
        """Find the mark, settle whose graph it is, and send until something is wrong.

        Raises: FleetError, StoreError.
        """
        from .neo4j.graph import Graph, prepare

        while (host := await to_thread.run_sync(outbox.host_of, self.store)) is None:  # noqa: ASYNC110 - others write it
            await anyio.sleep(self._pause)
        graph, self._mark = Graph(self.database, host), -1
        await prepare(self.database)
        mark: Mark | None = await self._own(graph)
        while mark is not None:
            mark = await self._send(graph, mark)

    async def _own(self, graph: Graph) -> Mark:
        """The mark of a graph that is this store's to write.

        Raises: FleetError where it is another's.
        """
        from .neo4j.graph import CLEARING, Mark

        store, run = self.store.meta("store"), await to_thread.run_sync(outbox.run_of, self.store)
        mark = await graph.mark()
        if mark.store not in (None, store):
            raise FleetError(
                f"another Watchman ({(mark.store or '')[:8]}, last heard {mark.heard}) keeps this machine's "
                f"graph: end it, or {REPLACE}"
            )
        ours = mark.store == store and await to_thread.run_sync(
            outbox.follows, self.store, mark.run or "", max(mark.seq, 0)
        )
        if ours and mark.seq != CLEARING:
            return mark
        if mark.store == store and not ours:
            mark = await self._outwait(graph, mark)
        begun = Mark(store, run, CLEARING)
        await self._moved(graph, mark, begun)
        await graph.clear()
        empty = Mark(store, run, 0)
        await self._moved(graph, begun, empty)
        return empty

    async def _outwait(self, graph: Graph, mark: Mark) -> Mark:
        """Make sure that nobody else sends: this store was put back to an older copy, or it is a copy itself.

        Raises: FleetError where a copy of this store is alive elsewhere.
        """
        log.info("Neo4j is ahead of this store, as after restoring it; waiting whether another one sends")
        await anyio.sleep(self.quiet)
        if await graph.mark() != mark:
            raise FleetError(
                "a copy of this machine or its state directory sends too: give this one a machine id of its "
                f"own (`systemd-machine-id-setup`), or end the other and {REPLACE}"
            )
        return mark

    async def _send(self, graph: Graph, mark: Mark) -> Mark | None:
        """Send the next rows, or wait for some. The mark after it; None where the machine has become another.

        Raises: FleetError where somebody else moved the mark.
        """
        from .neo4j.graph import Mark

        part = await to_thread.run_sync(outbox.read, self.store, graph.host, mark.seq, ROWS)
        if part.host != graph.host:
            return None
        if part.upto == mark.seq == self._mark:
            self._say("")
            await self._rest(mark.seq)
            if self.store.newest > mark.seq:
                return mark
        to = Mark(mark.store, await to_thread.run_sync(outbox.run_of, self.store), part.upto)
        await self._moved(graph, mark, to, part)
        self._sent_at, self._tries, self._mark = datetime.now(UTC), 0, to.seq
        return to

    async def _moved(self, graph: Graph, seen: Mark, to: Mark, part: outbox.Part | None = None) -> None:
        if not await graph.move(seen, to, part):
            raise FleetError("somebody else moved the mark of this machine's graph; it is looked at again")

    async def _rest(self, mark: int) -> None:
        """Wait for something new, but not for longer than a beat."""
        with anyio.move_on_after(self.beat):
            while self.store.newest <= mark:  # noqa: ASYNC110 - other threads write it
                await anyio.sleep(self.glance)
