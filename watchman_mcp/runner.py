"""When each collector looks: times, isolates, cleans, compares and writes."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from watchman_mcp.cleaning import Cleaner
from watchman_mcp.collectors import Collector, Look
from watchman_mcp.errors import Absent, StoreError, WatchmanError
from watchman_mcp.intake import Intake, Outcome, label_of
from watchman_mcp.machine import Machine
from watchman_mcp.ownership import Owners
from watchman_mcp.schema import path_of
from watchman_mcp.settings import Settings
from watchman_mcp.store.batch import Batch, NodeRow
from watchman_mcp.store.sqlite import Store
from watchman_mcp.waking import Waking

log = logging.getLogger(__name__)
DEADLINE = 120.0
"""Seconds after which a look that brings nothing is called stuck; its thread is left to end by itself."""
SETTLE = 5.0
"""Seconds until the look that tells whether a change was explained after all."""
HELD_BACK = 10.0
"""Seconds at most that the first look of a collector waits for those of others."""
SOON = 1.0
"""Seconds between the first two samples, for rates need both, and to what a look put off."""
Publish = Callable[[frozenset[str]], Awaitable[None]]


@dataclass
class Status:
    """How a collector fares."""

    name: str
    status: str = "waiting"
    started_at: datetime | None = None
    last_at: datetime | None = None
    """End of the newest look."""
    ok_at: datetime | None = None
    """Start of the newest look that succeeded."""
    runs: int = 0
    duration_ms: float = 0.0
    items: int = 0
    unobserved: list[str] = field(default_factory=list)
    error: str = ""
    looked: anyio.Event = field(default_factory=anyio.Event)
    """Set once the first look is over, however it went."""
    wake: anyio.Event = field(default_factory=anyio.Event)
    busy: bool = False
    watched: frozenset[str] = frozenset()
    """Paths that its newest look wants to be watched beside those that it always watches."""
    left_out: int = 0
    hangs: Callable[[], bool] = lambda: False
    """Whether the thread of a look that was given up is still at it."""


class Runner:
    """Runs every collector, each in a task of its own."""

    def __init__(
        self,
        store: Store,
        machine: Machine,
        settings: Settings,
        collectors: Iterable[Collector],
        cleaner: Cleaner,
        publish: Publish,
        deadline: float = DEADLINE,
    ) -> None:
        self.store, self.machine, self.settings = store, machine, settings
        self.cleaner, self._publish = cleaner, publish
        self.collectors = {c.name: c for c in collectors}
        _refuse_two_owners(self.collectors.values())
        self.owners = Owners(machine, self.collectors.values())
        self.status = {name: Status(name) for name in self.collectors}
        self.waking = Waking(machine.root, self.collectors, self.status)
        self.deadline = deadline
        self._go = anyio.Event()
        """Set once those that hold back may look."""
        self._tasks: TaskGroup | None = None
        self._limiter = anyio.CapacityLimiter(8)
        self._locks = {name: anyio.Lock() for name in self.collectors}

    async def run(self) -> None:
        """Look at everything, again at each interval and when something watched changes; until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self.waking.run)
            await self.waking.armed()
            for collector in self.collectors.values():
                if self.is_on(collector):
                    tasks.start_soon(self._keep_looking, collector)
                else:
                    await self._say_off(collector)
            tasks.start_soon(self._let_go)

    def is_on(self, collector: Collector) -> bool:
        """Whether the settings want it."""
        return not collector.feature or bool(getattr(self.settings.features, collector.feature))

    async def _say_off(self, collector: Collector) -> None:
        outcome = Outcome(datetime.now(UTC))
        outcome.fail("off", f"[features] {collector.feature} is false")
        await self._record(self.status[collector.name], outcome)
        self.status[collector.name].looked.set()

    async def scan(self, names: Iterable[str]) -> None:
        """Look again now, and wait until these collectors have; who stops waiting stops no look."""
        wanted = [c for c in (self.collectors[name] for name in names) if self.is_on(c)]
        if self._tasks is None:  # nothing looks by itself
            for collector in wanted:
                await self._look(collector)
            return
        looks = [anyio.Event() for _ in wanted]
        for collector, over in zip(wanted, looks, strict=True):
            self._tasks.start_soon(self._look_once, collector, over)
        for over in looks:
            await over.wait()

    async def _look_once(self, collector: Collector, over: anyio.Event) -> None:
        await self._look(collector)
        over.set()

    async def first_look(self, labels: Iterable[str], seconds: float = 10.0) -> None:
        """Wait until the collectors that own these labels have looked once, but not for long."""
        wanted = frozenset(labels)
        waited_for = [one for one in self.collectors.values() if one.labels & wanted]
        if any(one.holds_back for one in waited_for):
            self._go.set()
        with anyio.move_on_after(seconds):
            for collector in waited_for:
                await self.status[collector.name].looked.wait()

    async def _keep_looking(self, collector: Collector) -> None:
        status = self.status[collector.name]
        if collector.holds_back:
            await self._go.wait()
        while True:
            status.wake = anyio.Event()
            soon = await self._look(collector)
            interval = collector.every(self.settings)
            interval = min(interval, soon or interval)
            with anyio.move_on_after(interval):
                await status.wake.wait()

    async def _let_go(self) -> None:
        """All share one interpreter, and somebody's first question may wait for the others."""
        with anyio.move_on_after(HELD_BACK):
            for name, collector in self.collectors.items():
                if not collector.holds_back:
                    await self.status[name].looked.wait()
        with anyio.move_on_after(SOON):  # the answer that waited for them is made first
            await self._go.wait()
        self._go.set()

    async def _look(self, collector: Collector) -> float | None:
        """One look, from the machine to the store. Returns in how many seconds the next is due, if soon."""
        status = self.status[collector.name]
        async with self._locks[collector.name]:
            status.busy = True
            outcome = Outcome(datetime.now(UTC))
            begun = time.monotonic()
            if status.hangs():
                outcome.fail("stuck", status.error)
            else:
                await self._observe_in_time(collector, status, outcome)
            outcome.seconds = time.monotonic() - begun
            await self._record(status, outcome)
            status.busy = False
            status.looked.set()
        if outcome.written:
            await self._publish(frozenset(outcome.touched | {"CollectorRun"}))
        # The other end of an edge may have come meanwhile, with the look of another collector.
        more, status.left_out = outcome.left_out != status.left_out, outcome.left_out
        if outcome.again or (status.runs == 1 and collector.samples):
            return SOON
        return SETTLE if outcome.pending or more else None

    async def _observe_in_time(self, collector: Collector, status: Status, outcome: Outcome) -> None:
        """Look in a thread, which is left to itself past the deadline; no other look begins meanwhile."""
        status.hangs = lambda: not outcome.returned
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._lose_patience, outcome, tasks.cancel_scope)
            await self._observe_apart(collector, outcome)
            tasks.cancel_scope.cancel()

    async def _lose_patience(self, outcome: Outcome, look: anyio.CancelScope) -> None:
        """Give up a look that wrote nothing for so long; a long history is written in parts."""
        written = -1
        while written != outcome.written:
            written = outcome.written
            await anyio.sleep(self.deadline)
        outcome.fail("stuck", f"no answer within {self.deadline:.0f} s")
        look.cancel()

    async def _observe_apart(self, collector: Collector, outcome: Outcome) -> None:
        try:
            await to_thread.run_sync(
                partial(self._observe, collector, outcome), limiter=self._limiter, abandon_on_cancel=True
            )
        except Absent as error:
            outcome.fail("unavailable", str(error))
        except WatchmanError as error:
            outcome.fail("failed", str(error))
        except Exception as error:  # the one place that may: one collector's fault must not end the others
            log.exception("%s: a fault of Watchman's own", collector.name)
            outcome.fail("failed", f"{type(error).__name__} in the collector; the log has the rest")

    def _observe(self, collector: Collector, outcome: Outcome) -> None:
        """In a worker thread: read, clean, compare, write."""
        try:
            rows = self.store.read("SELECT marks FROM _collector WHERE name = ?", (collector.name,))
            marks = json.loads(rows[0]["marks"]) if rows else {}
            look = Look(self.machine, self.settings, collector.name, marks)
            intake = Intake(self.store, self.cleaner, collector, look, outcome)
            outcome.watched = look.watched
            for seen in collector.collect(look):
                intake.take(seen)
            intake.finish()
        finally:
            outcome.returned = True

    async def _record(self, status: Status, outcome: Outcome) -> None:
        """Extend the collector's present stretch, or begin another, and log what is new about it."""
        name = "partial" if outcome.status == "ok" and outcome.unobserved else outcome.status
        told = (name, outcome.unobserved, outcome.error)
        same = (status.status, status.unobserved, status.error) == told
        if not same:
            self._announce(status, name, outcome)
            status.started_at, status.runs = outcome.at, 0
        status.status, status.unobserved, status.error = name, outcome.unobserved, outcome.error
        status.runs += 1
        status.last_at, status.duration_ms, status.items = outcome.at, outcome.seconds * 1000, outcome.items
        if outcome.status == "ok":
            status.ok_at = outcome.at
        if outcome.status in ("ok", "unavailable"):  # what is not here may come where it was looked for
            status.watched = frozenset(outcome.watched)
        values: dict[str, object] = {
            "collector": status.name,
            "started_at": status.started_at,
            "last_at": status.last_at,
            "status": name,
            "runs": status.runs,
            "duration_ms": round(status.duration_ms, 1),
            "items": status.items,
            "edges_left_out": outcome.left_out or None,
            "unobserved": status.unobserved or None,
            "error": status.error or None,
            "looks_for": sorted(self.collectors[status.name].labels),
            "managers": list(self.collectors[status.name].brings) or None,
        }
        path = path_of(label_of("CollectorRun"), status.name, status.started_at)
        row = NodeRow("CollectorRun", path, self.cleaner.row("CollectorRun", values), "watchman")
        with suppress(StoreError):  # the store says itself that it cannot be written
            await to_thread.run_sync(
                self.store.write, Batch(at=outcome.at, nodes=[row]), limiter=self._limiter
            )

    def _announce(self, status: Status, name: str, outcome: Outcome) -> None:
        """The first failure and the recovery are worth a line, repeats are not."""
        clean = self.cleaner.text
        if outcome.status in ("failed", "stuck"):
            log.warning("%s: %s: %s", status.name, name, clean(outcome.error))
        elif status.status in ("failed", "stuck"):
            log.info("%s: looks again", status.name)


def _refuse_two_owners(collectors: Iterable[Collector]) -> None:
    """Samples have one owner; nodes are owned per scope, which is named after its collector."""
    owners: dict[str, str] = {}
    for collector in collectors:
        for label in collector.labels:
            if (
                label_of(label).series is not None
                and owners.setdefault(label, collector.name) != collector.name
            ):
                raise StoreError(f"{label} has two owners: {owners[label]} and {collector.name}")
