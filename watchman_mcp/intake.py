"""Takes in one look: what a collector yields, cleaned, and handed to history and store."""

from __future__ import annotations

import gc
import json
import os
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from watchman_mcp import history
from watchman_mcp.cleaning import RULES_VERSION, Cleaner
from watchman_mcp.collectors import Collector, Look
from watchman_mcp.errors import Broken
from watchman_mcp.schema import Edge, Label, path_of
from watchman_mcp.schema.core import Record
from watchman_mcp.store.batch import Batch, EdgeRow, EventRow, NodeRow, Written
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import table

CHUNK = 10_000
"""Records and samples that are written at once, before their look is over."""


@dataclass
class Outcome:
    """What became of one look."""

    at: datetime
    status: str = "ok"
    error: str = ""
    items: int = 0
    seconds: float = 0.0
    pending: bool = False
    again: bool = False
    left_out: int = 0
    """Edges whose other end is not known, or not yet."""
    watched: set[str] = field(default_factory=set)
    written: int = 0
    """Parts of it that are in the store."""
    returned: bool = False
    touched: set[str] = field(default_factory=set)
    unobserved: list[str] = field(default_factory=list)

    def fail(self, status: str, error: str) -> None:
        """It did not succeed."""
        self.status, self.error = status, error

    def wrote(self, written: Written) -> None:
        """Something of it is in the store."""
        self.touched |= written.labels
        self.written += 1


class Intake:
    """Takes what a collector yields.

    Everything is cleaned at once; records and samples are written in chunks, states are kept for comparing.
    """

    def __init__(
        self, store: Store, cleaner: Cleaner, collector: Collector, look: Look, outcome: Outcome
    ) -> None:
        self.store, self.cleaner, self.collector, self.look, self.outcome = (
            store,
            cleaner,
            collector,
            look,
            outcome,
        )
        self.owned = collector.labels
        self.edge_types = {e.name for e in collector.emits if not isinstance(e, type)}
        self.has_state = any(label_of(name).series is None for name in self.owned)
        self.snapshots: dict[str, history.Snapshot] = {}
        self.ghosts: list[NodeRow] = []
        self.met: dict[tuple[type[Label], tuple[object, ...]], str] = {}
        self.events: list[EventRow] = []
        self.samples: list[tuple[str, dict[str, Any]]] = []
        self.refused: dict[str, int] = {}
        self.renamed: dict[str, str] = {}
        """Ids by what they would be, had cleaning not changed a name in them."""

    def take(self, seen: Label | Edge | Record) -> None:
        """One thing that the collector yields."""
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
        scope = self._scope()
        if scope not in self.snapshots:
            self.snapshots[scope] = history.Snapshot(scope)
        return self.snapshots[scope]

    def _scope(self) -> str:
        return self.cleaner.text(self.look.scope)

    def _id(self, node: Label, values: dict[str, Any]) -> str:
        """The node's id, made of its cleaned names: an id is shown and kept like any other text."""
        path, raw = node.node_id, node.__dict__
        if any(values[name] != raw[name] for name in node.identity):
            self.renamed[path] = path_of(type(node), *[values[name] for name in node.identity])
        return self.renamed.get(path, path)

    def _clean(self, label: str, values: dict[str, Any]) -> dict[str, Any] | None:
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
        snapshot = self._snapshot()
        values = self._clean(label, node.__dict__)
        if values is None:
            snapshot.spared.add(node.node_id)
        else:
            path = self._id(node, values)
            snapshot.nodes[path] = NodeRow(label, path, values, snapshot.scope)

    def _take_edge(self, edge: Edge) -> None:
        if edge.type.name not in self.edge_types:
            raise Broken(f"{self.collector.name} yields {edge.type.name}, which it does not declare")
        snapshot = self._snapshot()
        start, end = (self.renamed.get(path, path) for path in (edge.start, edge.end))
        row = EdgeRow(edge.type.name, start, end, snapshot.scope)
        snapshot.edges[row.id] = row

    def _take_sample(self, sample: Label) -> None:
        label = type(sample).__name__
        if (values := self._clean(label, sample.__dict__)) is not None:
            self.samples.append((label, values))

    def _take_record(self, record: Record) -> None:
        found = dict(record.event.__dict__)
        # A hash of our own: to search it for secrets would take longer than all else of the row.
        key = found.pop("key")
        values = self._clean("Event", found)
        if values is None:
            return
        values["key"] = key
        acted_on = self._ghost(record.subject, values["ts"]) if record.subject else None
        self.events.append(EventRow(f"Event/{key}", values, self._scope(), acted_on))

    def _ghost(self, subject: Label, ts: datetime) -> str:
        """The id of what a record is about, which is kept as vanished if nothing else knows it."""
        names = tuple(subject.__dict__[name] for name in subject.identity)
        if (path := self.met.get((type(subject), names))) is None:
            label = type(subject).__name__
            known = self._clean(label, subject.__dict__)
            path = subject.node_id if known is None else self._id(subject, known)
            self.met[type(subject), names] = path
            if known is not None:
                self.ghosts.append(NodeRow(label, path, known, self._scope(), ts))
        return path

    def _flush(self) -> None:
        """Write records and samples before the look is over; no mark moves: reading twice is harmless."""
        batch = Batch(at=self.outcome.at, ghosts=self.ghosts, events=self.events, samples=self.samples)
        self.outcome.wrote(self.store.write(batch))
        self.ghosts, self.events, self.samples = [], [], []

    def finish(self) -> None:
        """The look is complete: compare, and write everything in one transaction."""
        look, outcome, clean = self.look, self.outcome, self.cleaner.text
        seen = {clean(scope) for scope in look.seen}
        for scope in self.snapshots.keys() - seen - {self.collector.name}:
            del self.snapshots[scope]  # not looked at to its end
        parts = seen or look.failed or any(scope != self.collector.name for scope in self.snapshots)
        for scope in seen | (set() if parts or not self.has_state else {self.collector.name}):
            self.snapshots.setdefault(scope, history.Snapshot(scope))
        unobserved = dict.fromkeys((clean(u.what), clean(u.why)) for u in look.unobserved)
        outcome.unobserved = [f"{what}: {why}" for what, why in unobserved]
        outcome.unobserved += [f"{n} x {reason}" for reason, n in self.refused.items()]
        sight = history.Sight(
            self.collector.name, self.owned, self.collector.logged, outcome.at, self._basis(), self.snapshots,
            [what for what, _ in unobserved], {event.id: event for event in self.events},
        )  # fmt: skip
        batch = history.compare(self.store, sight)
        batch.marks, batch.unobserved = look.marks, sight.protected
        batch.ghosts, batch.samples = self.ghosts, self.samples
        batch.events = self.events + batch.events
        written = self.store.write(batch)
        outcome.wrote(written)
        outcome.pending, outcome.again = bool(batch.pending), look.again
        outcome.left_out = written.skipped_edges

    def _basis(self) -> str:
        """What decides how much this collector can see: a change of it is no change of the machine."""
        with open("/proc/self/status") as status:
            caps = next((line.split()[1] for line in status if line.startswith("CapEff")), "")
        return json.dumps(
            [self.collector.version, RULES_VERSION, os.geteuid(), caps, str(self.look.machine.root)]
        )


def label_of(name: str) -> type[Label]:
    """The label of this name."""
    return table(name).label


def settle() -> None:
    """Let the garbage collector go on, at a pace of its own.

    Looks make rows that live as long as the look and hold no cycles: it need not go through them, nor through
    what the imports left, each time.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()
