"""Changes into events: what the machine's own log tells is told by it, the rest by comparing looks."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from watchman_mcp.history.sight import Change, Sight
from watchman_mcp.schema import LABELS, Label
from watchman_mcp.schema.core import event_key
from watchman_mcp.store.batch import Batch, EventRow, PendingRow
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import from_text, table, to_text

PATIENCE = timedelta(minutes=10)
"""So long may a thing be on its way from one state to another before that is told."""
RECORDS = 50
"""So many of the newest records about a thing may tell what became of it since the last look."""
Records = Mapping[str | None, list[EventRow]]


def tell(store: Store, sight: Sight, changes: list[Change], batch: Batch) -> None:
    """Turn changes into events, unless a record told them or may still tell them."""
    told: dict[str | None, list[EventRow]] = defaultdict(list)
    for record in sight.told.values():
        told[record.acted_on].append(record)
    new = {change.id: change for change in _since_last_look(store, sight, changes)}
    for late in _waiting(store, sight):
        again = new.get(late.id)
        if _explained(store, told, late):
            pass
        elif not (late.after and _label(late).passing(late.after)):
            batch.events.append(_observed(late))
        elif again is not None:
            again.before, again.earliest, again.since, again.seq = (
                late.before,
                late.earliest,
                late.at,
                late.seq,
            )
        elif sight.at - late.at > PATIENCE:
            batch.events.append(_observed(late))
        else:
            continue
        batch.settled.append(late.id)
    for change in new.values():
        if not _happened(change) or _explained(store, told, change):
            continue
        if sight.logged and change.earliest is not None:
            sides = (change.before, change.after)
            batch.pending.append(PendingRow(change.id, change.scope, *sides, change.earliest, change.at))
        else:
            batch.events.append(_observed(change))


def _label(change: Change) -> type[Label]:
    return LABELS[change.id.split("/", 1)[0]]


def _differing(change: Change) -> list[str]:
    """The watched properties that are not as they were."""
    if change.before is None or change.after is None:
        return []
    before, after, ignored = change.before, change.after, _label(change).volatile
    return [name for name in before if before[name] != after[name] and name not in ignored]


def _happened(change: Change) -> bool:
    """Whether anything is different after all: a thing may have been on its way to where it was."""
    return (change.before is None) != (change.after is None) or bool(_differing(change))


def _since_last_look(store: Store, sight: Sight, changes: list[Change]) -> list[Change]:
    """The changes of this look, with the time after which they happened."""
    last: dict[str, tuple[datetime | None, int]] = {}
    for change in changes:
        if change.scope not in last:
            last[change.scope] = _last_look(store, sight, change.scope)
        change.earliest, change.seq = last[change.scope]
        change.since = change.earliest
    return changes


def _waiting(store: Store, sight: Sight) -> list[Change]:
    """Changes of looks before that no record explained; moments in them are text, as in stored rows."""
    found: list[Change] = []
    for scope in sight.snapshots if sight.logged else ():
        for row in store.read("SELECT * FROM _pending WHERE scope = ?", (scope,)):
            kept = table(row["id"].split("/", 1)[0])
            before, after = (
                kept.restore(json.loads(row[side])) if row[side] else None for side in ("before", "after")
            )
            earliest, at = from_text(row["earliest"]), from_text(row["at"])
            found.append(Change(row["id"], scope, before, after, at, earliest, at, row["seq"]))
    return found


def _explained(store: Store, told: Records, change: Change) -> bool:
    """Whether a record leads to this change.

    A state is read before its log, so the record may have come with the look before. The end of a log is read
    again at each look: records that the store held already are not new.
    """
    rows = store.read(
        "SELECT * FROM Event WHERE acted_on = ? AND source <> 'observed' ORDER BY seq DESC LIMIT ?",
        (change.id, RECORDS),
    )
    known = {row["id"] for row in rows}
    since = to_text(change.since) if change.since else ""
    records = [record.values for record in told.get(change.id, ()) if record.id not in known]
    records += [
        table("Event").decode(row) for row in rows if row["seq"] > change.seq or row["first_seen"] >= since
    ]
    leads = _label(change).explained_by
    return any(leads(record, change.before, change.after) for record in records)


def _last_look(store: Store, sight: Sight, scope: str) -> tuple[datetime | None, int]:
    """When a scope, or if it is new its collector, was last looked at, and the sequence number then."""
    rows = store.read("SELECT at, seq FROM _look WHERE scope = ? ORDER BY number DESC LIMIT 1", (scope,))
    if not rows:
        rows = store.read(
            "SELECT at, seq FROM _look WHERE scope = :name OR substr(scope, 1, :size) = :name || ':' "
            "ORDER BY number DESC LIMIT 1",
            {"name": sight.collector, "size": len(sight.collector) + 1},
        )
    return (from_text(rows[0]["at"]), rows[0]["seq"]) if rows else (None, 0)


def _observed(change: Change) -> EventRow:
    """The event of a change that no record tells: it happened between two looks."""
    label, before, after, at = _label(change), change.before, change.after, change.at
    ts = at
    own = after[label.changed_at] if after and label.changed_at else None
    if own and own < at and (change.earliest is None or change.earliest < own):
        ts = own
    kind = label.event_type(before, after)
    values: dict[str, Any] = dict.fromkeys(LABELS["Event"].model_fields)
    values.update(label.event_values(before, after))
    if before is not None and after is not None:
        changed = _differing(change)
        values["fields"] = changed
        values["before"], values["after"] = (
            [_text(side[name]) for name in changed] for side in (before, after)
        )
    key = event_key("observed", change.id, to_text(at), kind)
    values.update(key=key, ts=ts, type=kind, source="observed", ts_earliest=change.earliest)
    return EventRow(f"Event/{key}", values, change.scope, acted_on=change.id)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return to_text(value) if isinstance(value, datetime) else str(value)


def rebaselined(sight: Sight) -> EventRow:
    """Said once when a collector begins to see more, or less, than it did."""
    key = event_key("rebaselined", sight.collector, to_text(sight.at))
    values: dict[str, Any] = dict.fromkeys(LABELS["Event"].model_fields)
    values.update(key=key, ts=sight.at, type="rebaselined", source="observed", subject=sight.collector)
    return EventRow(f"Event/{key}", values, sight.collector)
