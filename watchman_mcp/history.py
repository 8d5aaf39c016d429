"""What the store held and what was seen now: rows, journal and events."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from watchman_mcp.schema import LABELS
from watchman_mcp.schema.core import event_key
from watchman_mcp.store.batch import Batch, EdgeRow, EventRow, JournalRow, NodeRow, PendingRow
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import Table, from_text, table, to_text


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
    """The newest record of this look about each id."""


@dataclass
class _Change:
    id: str
    scope: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


def compare(store: Store, sight: Sight) -> Batch:
    """The rows, journal and events by which this look differs from what the store holds."""
    batch = Batch(at=sight.at, collector=sight.collector, basis=sight.basis)
    previous = store.read("SELECT basis, unobserved FROM _collector WHERE name = ?", (sight.collector,))
    known_basis = previous[0]["basis"] if previous else None
    rebased = known_basis is not None and known_basis != sight.basis
    was_hidden = json.loads(previous[0]["unobserved"]) if previous else []
    changes: list[_Change] = []
    for scope in _scopes(store, sight):
        snapshot = sight.snapshots.get(scope) or Snapshot(scope)
        looked = bool(store.read("SELECT 1 FROM _look WHERE scope = ? LIMIT 1", (scope,)))
        first = not looked and (known_basis is None or rebased or _covered(scope, was_hidden))
        seen = _compare_nodes(store, sight, snapshot, batch, first)
        changes += [] if first or rebased else seen
        _compare_edges(store, snapshot, batch, first)
        batch.looks.append(scope)
    if rebased:
        batch.events.append(_rebaselined(sight))
    _tell(store, sight, changes, batch)
    return batch


def _scopes(store: Store, sight: Sight) -> list[str]:
    """Scopes seen now, and those the store knows that are gone; unobserved ones are left alone."""
    known: set[str] = set()
    for label in sight.labels:
        if LABELS[label].series is None:
            sql = f"SELECT DISTINCT scope FROM \"{label}\" WHERE gone_at IS NULL AND (scope = :name OR substr(scope, 1, :size) = :name || ':')"
            rows = store.read(sql, {"name": sight.collector, "size": len(sight.collector) + 1})
            known.update(row["scope"] for row in rows)
    gone = {scope for scope in known - sight.snapshots.keys() if not _covered(scope, sight.protected)}
    return [*sight.snapshots, *sorted(gone)]


def _covered(scope: str, prefixes: Iterable[str]) -> bool:
    return any(scope == p or scope.startswith(p.rstrip("/") + "/") for p in prefixes)


def _compare_nodes(
    store: Store, sight: Sight, snapshot: Snapshot, batch: Batch, first: bool
) -> list[_Change]:
    changes: list[_Change] = []
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
            changes.append(_Change(node.id, node.scope, None, node.values))
        elif differing := _differing(kept, stored, node.values):
            batch.nodes.append(node)
            if differing - kept.label.volatile:
                changes.append(_Change(node.id, node.scope, kept.decode(stored), node.values))
    for gone, (kept, stored) in missing.items():
        if gone not in snapshot.spared:
            before = kept.decode(stored)
            batch.nodes.append(NodeRow(kept.name, gone, before, snapshot.scope, gone_at=sight.at))
            changes.append(_Change(gone, snapshot.scope, before, None))
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


def _tell(store: Store, sight: Sight, changes: list[_Change], batch: Batch) -> None:
    """Turn changes into events, unless a record told them or may still tell them."""
    waiting = _waiting(store, sight)
    for late in waiting.values():
        batch.settled.append(late.id)
        if not _explained(store, sight, late.id, late.after, late.at, late.seq):
            batch.events.append(_observed(late, late.earliest, late.at, late.scope))
    earliest: dict[str, tuple[datetime | None, int]] = {}
    for change in changes:
        if change.scope not in earliest:
            earliest[change.scope] = _last_look(store, sight, change.scope)
        since, seq = earliest[change.scope]
        if _explained(store, sight, change.id, change.after, since, seq):
            continue
        if sight.logged and since is not None:
            batch.pending.append(
                PendingRow(change.id, change.scope, change.before, change.after, since, sight.at)
            )
        else:
            batch.events.append(_observed(change, since, sight.at, change.scope))


def _waiting(store: Store, sight: Sight) -> dict[str, PendingRow]:
    """Changes of looks before that no record has explained."""
    if not sight.logged:
        return {}
    found = {}
    for scope in sight.snapshots:
        for row in store.read("SELECT * FROM _pending WHERE scope = ?", (scope,)):
            kept = table(row["id"].split("/", 1)[0])
            before, after = (
                kept.restore(json.loads(row[side])) if row[side] else None for side in ("before", "after")
            )
            earliest, at = from_text(row["earliest"]), from_text(row["at"])
            found[row["id"]] = PendingRow(row["id"], scope, before, after, earliest, at, row["seq"])
    return found


def _explained(
    store: Store, sight: Sight, node: str, after: dict[str, Any] | None, since: datetime | None, seq: int
) -> bool:
    """Whether a record that is new in this look, or came since the last one, leads to this state.

    The end of a log is read again at each look, so a record may be told anew; what came before `since` or up to
    `seq` had its own change.
    """
    label = LABELS[node.split("/", 1)[0]]
    told = sight.told.get(node)
    if told is not None and not store.read("SELECT 1 FROM Event WHERE id = ?", (told.id,)):
        return label.explained_by(told.values, after)
    rows = store.read(
        "SELECT * FROM Event WHERE acted_on = ? AND seq > ? AND first_seen >= ? AND source <> 'observed' "
        "ORDER BY seq DESC LIMIT 1",
        (node, seq, to_text(since) if since else ""),
    )
    return bool(rows) and label.explained_by(table("Event").decode(rows[0]), after)


def _last_look(store: Store, sight: Sight, scope: str) -> tuple[datetime | None, int]:
    """When a scope, or if it is new its collector, was last looked at, and the sequence number then."""
    rows = store.read("SELECT at, seq FROM _look WHERE scope = ? ORDER BY number DESC LIMIT 1", (scope,))
    if not rows:
        rows = store.read(
            "SELECT at, seq FROM _look WHERE scope = :name OR substr(scope, 1, :size) = :name || ':' ORDER BY number DESC LIMIT 1",
            {"name": sight.collector, "size": len(sight.collector) + 1},
        )
    return (from_text(rows[0]["at"]), rows[0]["seq"]) if rows else (None, 0)


def _observed(change: _Change | PendingRow, earliest: datetime | None, at: datetime, scope: str) -> EventRow:
    """The event of a change that no record tells: it happened between two looks."""
    label = LABELS[change.id.split("/", 1)[0]]
    before, after = change.before, change.after
    ts = at
    if (
        after
        and label.changed_at
        and (own := after[label.changed_at])
        and (earliest is None or earliest < own)
        and own < at
    ):
        ts = own
    kind = label.event_type(before, after)
    values: dict[str, Any] = dict.fromkeys(LABELS["Event"].model_fields)
    values.update(label.event_values(before, after))
    if before is not None and after is not None:
        changed = [name for name in before if before[name] != after[name] and name not in label.volatile]
        values["fields"] = changed
        values["before"], values["after"] = (
            [_text(side[name]) for name in changed] for side in (before, after)
        )
    key = event_key("observed", change.id, to_text(at), kind)
    values.update(key=key, ts=ts, type=kind, source="observed", ts_earliest=earliest)
    return EventRow(f"Event/{key}", values, scope, acted_on=change.id)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return to_text(value) if isinstance(value, datetime) else str(value)


def _rebaselined(sight: Sight) -> EventRow:
    """Said once when a collector begins to see more, or less, than it did."""
    key = event_key("rebaselined", sight.collector, to_text(sight.at))
    values: dict[str, Any] = dict.fromkeys(LABELS["Event"].model_fields)
    values.update(key=key, ts=sight.at, type="rebaselined", source="observed", subject=sight.collector)
    return EventRow(f"Event/{key}", values, sight.collector)


def past(
    store: Store, label: str, at: datetime, scope: str
) -> tuple[dict[str, dict[str, Any]], set[str]] | None:
    """Nodes of one label, and all edges, of a scope as the last look not after `at` saw them, if known.

    Found by undoing the journal by sequence, never by clock.
    """
    look = look_at(store, scope, at)
    if look is None:
        return None
    kept = table(label)
    rows = store.read(f'SELECT * FROM "{label}" WHERE scope = ? AND gone_at IS NULL', (scope,))
    state = {row["id"]: kept.decode(row) for row in rows}
    rows = store.read("SELECT type, start, end FROM _edges WHERE scope = ? AND gone_at IS NULL", (scope,))
    edges = {f"{row['type']} {row['start']} {row['end']}" for row in rows}
    for row in store.read(
        "SELECT id, before FROM _journal WHERE scope = ? AND seq > ? ORDER BY seq DESC", (scope, look[1])
    ):
        if " " in row["id"]:
            edges.discard(row["id"]) if row["before"] is None else edges.add(row["id"])
        elif row["before"] is None:
            state.pop(row["id"], None)
        elif row["id"].startswith(f"{label}/"):
            state[row["id"]] = kept.restore(json.loads(row["before"]))
    return state, edges


def look_at(store: Store, scope: str, at: datetime) -> tuple[datetime, int, datetime | None] | None:
    """The last look at a scope not after `at`: its time, its sequence number, the time of the next one."""
    rows = store.read(
        "SELECT number, at, seq FROM _look WHERE scope = ? AND at <= ? ORDER BY number DESC LIMIT 1",
        (scope, to_text(at)),
    )
    if not rows or rows[0]["seq"] < int(store.meta("journal_from", "0")):
        return None
    after = store.read(
        "SELECT at FROM _look WHERE scope = ? AND number > ? ORDER BY number LIMIT 1",
        (scope, rows[0]["number"]),
    )
    return from_text(rows[0]["at"]), rows[0]["seq"], from_text(after[0]["at"]) if after else None


def scopes_of(store: Store, label: str) -> list[str]:
    """Every scope that ever held nodes of a label and was looked at completely."""
    sql = f'SELECT DISTINCT scope FROM "{label}" WHERE scope IN (SELECT scope FROM _look)'
    return sorted(row["scope"] for row in store.read(sql))
