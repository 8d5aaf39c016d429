"""Rows and journal: what the store must write so that it holds what was seen."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from watchman_mcp.history.events import rebaselined, tell
from watchman_mcp.history.sight import Change, Sight, Snapshot
from watchman_mcp.schema import LABELS
from watchman_mcp.store.batch import Batch, EdgeRow, JournalRow, NodeRow
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import Table, table


def compare(store: Store, sight: Sight) -> Batch:
    """The rows, journal and events by which this look differs from what the store holds."""
    batch = Batch(at=sight.at, collector=sight.collector, basis=sight.basis)
    previous = store.read("SELECT basis, unobserved FROM _collector WHERE name = ?", (sight.collector,))
    known_basis = previous[0]["basis"] if previous else None
    rebased = known_basis is not None and known_basis != sight.basis
    was_hidden = json.loads(previous[0]["unobserved"]) if previous else []
    changes: list[Change] = []
    for scope in _scopes(store, sight):
        snapshot = sight.snapshots.get(scope) or Snapshot(scope)
        looked = bool(store.read("SELECT 1 FROM _look WHERE scope = ? LIMIT 1", (scope,)))
        first = not looked and (known_basis is None or rebased or _covered(scope, was_hidden))
        seen = _compare_nodes(store, sight, snapshot, batch, first)
        changes += [] if first or rebased else seen
        _compare_edges(store, snapshot, batch, first)
        batch.looks.append(scope)
    if rebased:
        batch.events.append(rebaselined(sight))
    tell(store, sight, changes, batch)
    return batch


def _scopes(store: Store, sight: Sight) -> list[str]:
    """Scopes seen now, and those the store knows that are gone; unobserved ones are left alone."""
    known: set[str] = set()
    for label in sight.labels:
        if LABELS[label].series is None:
            sql = (
                f'SELECT DISTINCT scope FROM "{label}" WHERE gone_at IS NULL '
                "AND (scope = :name OR substr(scope, 1, :size) = :name || ':')"
            )
            rows = store.read(sql, {"name": sight.collector, "size": len(sight.collector) + 1})
            known.update(row["scope"] for row in rows)
    gone = {scope for scope in known - sight.snapshots.keys() if not _covered(scope, sight.protected)}
    return [*sight.snapshots, *sorted(gone)]


def _covered(scope: str, prefixes: Iterable[str]) -> bool:
    return any(scope == p or scope.startswith(p.rstrip("/") + "/") for p in prefixes)


def _compare_nodes(store: Store, sight: Sight, snapshot: Snapshot, batch: Batch, first: bool) -> list[Change]:
    changes: list[Change] = []
    missing: dict[str, tuple[Table, Any]] = {}
    for label in sight.labels:
        kept = table(label)
        if kept.label.series is None:
            sql = f'SELECT * FROM "{label}" WHERE scope = ? AND gone_at IS NULL'
            missing.update({row["id"]: (kept, row) for row in store.read(sql, (snapshot.scope,))})
    for node in snapshot.nodes.values():
        kept, stored = missing.pop(node.id, (table(node.label), None))
        if stored is None:
            batch.nodes.append(node)
            changes.append(Change(node.id, node.scope, None, node.values, sight.at))
        elif differing := _differing(kept, stored, node.values):
            batch.nodes.append(node)
            if differing - kept.label.volatile:
                changes.append(Change(node.id, node.scope, kept.decode(stored), node.values, sight.at))
    for gone, (kept, stored) in missing.items():
        if gone not in snapshot.spared:
            before = kept.decode(stored)
            batch.nodes.append(NodeRow(kept.name, gone, before, snapshot.scope, gone_at=sight.at))
            changes.append(Change(gone, snapshot.scope, before, None, sight.at))
    if not first:
        batch.journal += [JournalRow(c.id, c.scope, c.before, c.after) for c in changes]
    return changes


def _differing(kept: Table, stored: Any, values: dict[str, Any]) -> set[str]:
    """The properties whose value is not the stored one."""
    return {c.name for c, new in zip(kept.columns, kept.encode(values), strict=True) if new != stored[c.name]}


def _compare_edges(store: Store, snapshot: Snapshot, batch: Batch, first: bool) -> None:
    rows = store.read(
        "SELECT type, start, end FROM _edges WHERE scope = ? AND gone_at IS NULL", (snapshot.scope,)
    )
    stored = {f"{row['type']} {row['start']} {row['end']}": row for row in rows}
    for name, edge in snapshot.edges.items():
        if stored.pop(name, None) is None:
            batch.edges.append(edge)
            if not first:
                batch.journal.append(JournalRow(name, snapshot.scope, None, {}))
    for name, row in stored.items():
        if row["start"] not in snapshot.spared:
            batch.edges.append(
                EdgeRow(row["type"], row["start"], row["end"], snapshot.scope, gone_at=batch.at)
            )
            batch.journal.append(JournalRow(name, snapshot.scope, {}, None))
