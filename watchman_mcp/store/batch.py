"""What the runner hands to a store: one look, written whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(slots=True)
class NodeRow:
    """A node to be written: its values by property, cleaned."""

    label: str
    id: str
    values: dict[str, Any]
    scope: str
    gone_at: datetime | None = None


@dataclass(slots=True)
class EventRow:
    """An event to be written once; `acted_on` is the id of the thing it happened to."""

    id: str
    values: dict[str, Any]
    scope: str
    acted_on: str | None = None


@dataclass(slots=True)
class EdgeRow:
    """An edge to be written."""

    type: str
    start: str
    end: str
    scope: str
    gone_at: datetime | None = None

    @property
    def id(self) -> str:
        """The edge's name in the journal; ids hold no spaces."""
        return f"{self.type} {self.start} {self.end}"


@dataclass(slots=True)
class JournalRow:
    """What a node or edge was before a look and after it; None: not there. An edge that is there is {}."""

    id: str
    scope: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(slots=True)
class PendingRow:
    """A change that no record explains yet."""

    id: str
    scope: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    earliest: datetime
    at: datetime
    seq: int = 0


@dataclass(slots=True)
class Batch:
    """Everything that one look leaves behind."""

    at: datetime
    nodes: list[NodeRow] = field(default_factory=list)
    ghosts: list[NodeRow] = field(default_factory=list)
    """Nodes that only a record knows: written as vanished unless their id is known."""
    edges: list[EdgeRow] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    samples: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    journal: list[JournalRow] = field(default_factory=list)
    pending: list[PendingRow] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    """Pending changes that are explained or told."""
    looks: list[str] = field(default_factory=list)
    """Scopes that were looked at completely."""
    collector: str = ""
    basis: str | None = None
    marks: dict[str, Any] | None = None
    unobserved: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Written:
    """What a store did with a batch."""

    seq: int
    labels: frozenset[str]
    new_events: int
    skipped_edges: int
