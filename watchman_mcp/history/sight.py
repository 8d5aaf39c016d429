"""What one look brought: the state of each scope, and how it differs from what was there."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from watchman_mcp.store.batch import EdgeRow, EventRow, NodeRow


@dataclass
class Snapshot:
    """The complete present state of one scope, as one look saw it."""

    scope: str
    nodes: dict[str, NodeRow] = field(default_factory=dict)
    edges: dict[str, EdgeRow] = field(default_factory=dict)
    spared: set[str] = field(default_factory=set)
    """Ids that were seen and could not be kept: they are neither written nor missed."""


@dataclass
class Sight:
    """What one look of a collector brought, beside its records."""

    collector: str
    labels: frozenset[str]
    logged: bool
    at: datetime
    basis: str
    snapshots: dict[str, Snapshot]
    protected: list[str]
    """Scopes, or beginnings of scopes, that could not be looked at."""
    told: dict[str, EventRow]
    """Records of this look that the store does not hold yet."""


@dataclass
class Change:
    """A node that is not as it was: its values before and after, None where it was not there."""

    id: str
    scope: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    at: datetime
    """When it was seen."""
    earliest: datetime | None = None
    """It happened after this."""
    since: datetime | None = None
    """Records that came at this time or later, or after `seq`, may tell of it."""
    seq: int = 0
