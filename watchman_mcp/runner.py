"""When each collector looks: times, isolates, cleans, compares and writes."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import anyio
from anyio import to_thread

from . import history
from .cleaning import RULES_VERSION, Cleaner
from .collectors import Collector, Look
from .errors import Absent, Broken, Denied, StoreError, WatchmanError
from .machine import Machine
from .machine.watch import changes
from .schema import Edge, Label, path_of
from .schema.core import Record
from .settings import Settings
from .store.batch import Batch, EdgeRow, EventRow, NodeRow, Written
from .store.sqlite import Store
from .store.tables import table

log = logging.getLogger(__name__)
CHUNK = 5000
DEADLINE = 120.0
"""Seconds after which a look is called stuck; its thread is left to end by itself."""
SETTLE = 5.0
"""Seconds until the look that tells whether a change was explained after all, and until the sample that gives the first rates."""
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
    ) -> None:
        self.store, self.machine, self.settings, self.cleaner, self._publish = (
            store,
            machine,
            settings,
            cleaner,
            publish,
        )
        self.collectors = {c.name: c for c in collectors}
        _refuse_two_owners(self.collectors.values())
        self.status = {name: Status(name) for name in self.collectors}
        self.watch_error = ""
        """Why changes are not noticed at once; empty while they are."""
        self._limiter = anyio.CapacityLimiter(8)
        self._locks = {name: anyio.Lock() for name in self.collectors}

    async def run(self) -> None:
        """Look at everything, then again at each interval and whenever something watched changes; until cancelled."""
        async with anyio.create_task_group() as tasks:
            for collector in self.collectors.values():
                tasks.start_soon(self._keep_looking, collector)
            tasks.start_soon(self._keep_watching)

    async def scan(
        self, names: Iterable[str], progress: Callable[[int, int, str], Awaitable[None]] | None = None
    ) -> None:
        """Look again now, and wait until these collectors have."""
        names = list(names)
        done = 0
        async with anyio.create_task_group() as tasks:

            async def one(name: str) -> None:
                nonlocal done
                await self._look(self.collectors[name])
                done += 1
                if progress:
                    await progress(done, len(names), name)

            for name in names:
                tasks.start_soon(one, name)

    async def first_look(self, labels: Iterable[str], seconds: float = 10.0) -> None:
        """Wait until the collectors that own these labels have looked once, but not for long."""
        wanted = frozenset(labels)
        with anyio.move_on_after(seconds):
            for name, collector in self.collectors.items():
                if collector.labels & wanted:
                    await self.status[name].looked.wait()

    async def _keep_looking(self, collector: Collector) -> None:
        status = self.status[collector.name]
        while True:
            status.wake = anyio.Event()
            pending = await self._look(collector)
            interval = collector.every(self.settings)
            if pending or (status.runs == 1 and collector.samples):
                interval = min(SETTLE, interval)
            with anyio.move_on_after(interval):
                await status.wake.wait()

    async def _keep_watching(self) -> None:
        """Wake the collectors whose paths changed; one watch for all, since the kernel's are few."""
        watched = {path for collector in self.collectors.values() for path in collector.watch}
        while True:
            try:
                async for changed in changes(self.machine.root, sorted(watched)):
                    for name, collector in self.collectors.items():
                        if changed.intersection(collector.watch):
                            self.status[name].wake.set()
                return
            except WatchmanError as error:
                log.warning("changes are found at intervals only: %s", error)
                self.watch_error = str(error)
                await anyio.sleep(600)

    async def _look(self, collector: Collector) -> bool:
        """One look, from the machine to the store. Returns whether a change waits for its explanation."""
        status = self.status[collector.name]
        async with self._locks[collector.name]:
            status.busy = True
            outcome = _Outcome(datetime.now(UTC))
            begun = time.monotonic()
            with anyio.move_on_after(DEADLINE) as deadline:
                try:
                    await to_thread.run_sync(
                        partial(self._observe, collector, outcome),
                        limiter=self._limiter,
                        abandon_on_cancel=True,
                    )
                except Absent as error:
                    outcome.fail("unavailable", str(error))
                except (Denied, Broken, StoreError) as error:
                    outcome.fail("failed", str(error))
                except (
                    Exception
                ) as error:  # the one place that may: a fault in one collector must not end the others
                    log.exception("%s: a fault of Watchman's own", collector.name)
                    outcome.fail("failed", f"{type(error).__name__} in the collector; the log has the rest")
            if deadline.cancelled_caught:
                outcome.fail("stuck", f"no answer within {DEADLINE:.0f} s")
            outcome.seconds = time.monotonic() - begun
            await self._record(status, outcome)
            status.busy = False
            status.looked.set()
        if outcome.written:
            await self._publish(frozenset(outcome.touched | {"CollectorRun"}))
        return outcome.pending

    def _observe(self, collector: Collector, outcome: _Outcome) -> None:
        """In a worker thread: read, clean, compare, write."""
        rows = self.store.read("SELECT marks FROM _collector WHERE name = ?", (collector.name,))
        marks = json.loads(rows[0]["marks"]) if rows else {}
        look = Look(self.machine, self.settings, collector.name, marks)
        intake = _Intake(self, collector, look, outcome)
        for seen in collector.collect(look):
            intake.take(seen)
        intake.finish()

    async def _record(self, status: Status, outcome: _Outcome) -> None:
        """Extend the collector's present stretch, or begin another, and log what is new about it."""
        name = "partial" if outcome.status == "ok" and outcome.unobserved else outcome.status
        same = (
            status.status == name
            and status.unobserved == outcome.unobserved
            and status.error == outcome.error
        )
        if not same:
            self._announce(status, name, outcome)
            status.started_at, status.runs = outcome.at, 0
        status.status, status.unobserved, status.error = name, outcome.unobserved, outcome.error
        status.runs += 1
        status.last_at, status.duration_ms, status.items = outcome.at, outcome.seconds * 1000, outcome.items
        if outcome.status == "ok":
            status.ok_at = outcome.at
        values: dict[str, object] = {
            "collector": status.name, "started_at": status.started_at, "last_at": status.last_at, "status": name, "runs": status.runs,
            "duration_ms": round(status.duration_ms, 1), "items": status.items, "unobserved": status.unobserved or None,
            "error": status.error or None, "looks_for": sorted(self.collectors[status.name].labels),
        }  # fmt: skip
        path = path_of(_label("CollectorRun"), status.name, status.started_at)
        row = NodeRow("CollectorRun", path, self.cleaner.row("CollectorRun", values), "watchman")
        with suppress(StoreError):  # the store says itself that it cannot be written
            await to_thread.run_sync(
                self.store.write, Batch(at=outcome.at, nodes=[row]), limiter=self._limiter
            )

    def _announce(self, status: Status, name: str, outcome: _Outcome) -> None:
        """The first failure and the recovery are worth a line, repeats are not."""
        clean = self.cleaner.text
        if outcome.status in ("failed", "stuck"):
            log.warning("%s: %s: %s", status.name, name, clean(outcome.error))
        elif status.status in ("failed", "stuck"):
            log.info("%s: looks again", status.name)


@dataclass
class _Outcome:
    """What became of one look."""

    at: datetime
    status: str = "ok"
    error: str = ""
    items: int = 0
    seconds: float = 0.0
    pending: bool = False
    written: bool = False
    touched: set[str] = field(default_factory=set)
    unobserved: list[str] = field(default_factory=list)

    def fail(self, status: str, error: str) -> None:
        self.status, self.error = status, error

    def wrote(self, written: Written) -> None:
        self.touched |= written.labels
        self.written = True


class _Intake:
    """Takes what a collector yields: cleaned at once, records and samples written in chunks, states kept for comparing."""

    def __init__(self, runner: Runner, collector: Collector, look: Look, outcome: _Outcome) -> None:
        self.store, self.cleaner, self.collector, self.look, self.outcome = (
            runner.store,
            runner.cleaner,
            collector,
            look,
            outcome,
        )
        self.owned = collector.labels
        self.edge_types = {e.name for e in collector.emits if not isinstance(e, type)}
        self.has_state = any(_label(name).series is None for name in self.owned)
        self.snapshots: dict[str, history.Snapshot] = {}
        self.told: dict[str, EventRow] = {}
        self.ghosts: dict[str, NodeRow] = {}
        self.events: list[EventRow] = []
        self.samples: list[tuple[str, dict[str, Any]]] = []
        self.refused: dict[str, int] = {}
        self.paths: dict[tuple[Any, ...], str] = {}

    def take(self, seen: Label | Edge | Record) -> None:
        self.outcome.items += 1
        if isinstance(seen, Record):
            self._take_record(seen)
        elif isinstance(seen, Edge):
            self._take_edge(seen)
        elif type(seen).series is not None:
            self._take_sample(seen)
        else:
            self._take_node(seen)
        if len(self.events) + len(self.samples) >= CHUNK:
            self._flush()

    def _snapshot(self) -> history.Snapshot:
        scope = self.look.scope
        if scope not in self.snapshots:
            self.snapshots[scope] = history.Snapshot(scope)
        return self.snapshots[scope]

    def _clean(self, label: str, path: str, values: dict[str, Any]) -> dict[str, Any] | None:
        """The cleaned values; None for a row that cannot be kept, which is counted and costs only itself."""
        try:
            return self.cleaner.row(label, values)
        except Broken as error:
            reason = f"a {label} that cannot be kept: {error}"
            self.refused[reason] = self.refused.get(reason, 0) + 1
            return None

    def _take_node(self, node: Label) -> None:
        label = type(node).__name__
        if label not in self.owned:
            raise Broken(f"{self.collector.name} yields {label}, which it does not declare")
        path, snapshot = node.path, self._snapshot()
        values = self._clean(label, path, node.__dict__)
        if values is None:
            snapshot.spared.add(path)
        else:
            snapshot.nodes[path] = NodeRow(label, path, values, snapshot.scope)

    def _take_edge(self, edge: Edge) -> None:
        if edge.type.name not in self.edge_types:
            raise Broken(f"{self.collector.name} yields {edge.type.name}, which it does not declare")
        snapshot = self._snapshot()
        row = EdgeRow(edge.type.name, edge.start, edge.end, snapshot.scope)
        snapshot.edges[row.id] = row

    def _take_sample(self, sample: Label) -> None:
        label = type(sample).__name__
        if (values := self._clean(label, "", sample.__dict__)) is not None:
            self.samples.append((label, values))

    def _take_record(self, record: Record) -> None:
        values = self._clean("Event", "", record.event.__dict__)
        if values is None:
            return
        acted_on = None
        if (subject := record.subject) is not None:
            acted_on = subject.path
            if acted_on not in self.ghosts:
                known = self._clean(type(subject).__name__, acted_on, subject.__dict__)
                if known is not None:
                    self.ghosts[acted_on] = NodeRow(
                        type(subject).__name__, acted_on, known, self.look.scope, values["ts"]
                    )
        row = EventRow(f"Event/{values['key']}", values, self.look.scope, acted_on)
        self.events.append(row)
        if acted_on:
            self.told[acted_on] = row

    def _flush(self) -> None:
        """Write records and samples before their look is over; reading them twice is harmless, so no mark moves yet."""
        batch = Batch(
            at=self.outcome.at, ghosts=list(self.ghosts.values()), events=self.events, samples=self.samples
        )
        self.outcome.wrote(self.store.write(batch))
        self.ghosts, self.events, self.samples = {}, [], []

    def finish(self) -> None:
        """The look is complete: compare, and write everything in one transaction."""
        look, outcome = self.look, self.outcome
        for scope in look.failed:
            self.snapshots.pop(scope, None)
        parts = look.seen or look.failed or any(scope != self.collector.name for scope in self.snapshots)
        for scope in look.seen | (set() if parts or not self.has_state else {self.collector.name}):
            self.snapshots.setdefault(scope, history.Snapshot(scope))
        outcome.unobserved = [f"{u.what}: {u.why}" for u in look.unobserved]
        outcome.unobserved += [f"{n} x {reason}" for reason, n in self.refused.items()]
        sight = history.Sight(
            self.collector.name, self.owned, self.collector.logged, outcome.at, self._basis(), self.snapshots,
            [u.what for u in look.unobserved], self.told,
        )  # fmt: skip
        batch = history.compare(self.store, sight)
        batch.marks, batch.unobserved = look.marks, sight.protected
        batch.ghosts, batch.samples = list(self.ghosts.values()), self.samples
        batch.events = self.events + batch.events
        outcome.wrote(self.store.write(batch))
        outcome.pending = bool(batch.pending)

    def _basis(self) -> str:
        """What decides how much this collector can see: a change of it is no change of the machine."""
        with open("/proc/self/status") as status:
            caps = next((line.split()[1] for line in status if line.startswith("CapEff")), "")
        return json.dumps(
            [self.collector.version, RULES_VERSION, os.geteuid(), caps, str(self.look.machine.root)]
        )


def _label(name: str) -> type[Label]:
    return table(name).label


def _refuse_two_owners(collectors: Iterable[Collector]) -> None:
    """Samples have one owner; nodes are owned per scope, and a scope belongs to the collector it is named after."""
    owners: dict[str, str] = {}
    for collector in collectors:
        for label in collector.labels:
            if (
                _label(label).series is not None
                and owners.setdefault(label, collector.name) != collector.name
            ):
                raise StoreError(f"{label} has two owners: {owners[label]} and {collector.name}")


def stale(status: Status, every: float, now: datetime) -> bool:
    """Whether a collector should have looked again by now."""
    return status.ok_at is None or now - status.ok_at > timedelta(seconds=3 * every)
