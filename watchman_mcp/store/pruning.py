"""Deleting what is old, in bounded transactions."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import TYPE_CHECKING, Any

from watchman_mcp.store.tables import samples, to_ms, to_text

if TYPE_CHECKING:
    from watchman_mcp.store.sqlite import Store

CHUNK = 5000
FOREVER = "package_"
"""Events of types that begin so are never dropped."""
ENDED = {"Event": f"ts < ? AND type NOT GLOB '{FOREVER}*'", "CollectorRun": "last_at < ?"}
"""What makes a node old, where it is not that it vanished."""
VANISHED = 'gone_at < ? AND NOT EXISTS (SELECT 1 FROM Event e WHERE e.acted_on = "{label}".id)'
"""A thing is remembered as long as an event that acted on it."""


def prune(store: Store, label: str, before: datetime) -> int:
    """Delete what ended before a moment: vanished nodes and their edges, events, samples. Returns how many.

    Each deletion is told to a mirror in its own transaction: vanished nodes by id, because a mirror that is
    late may hold them as they were before they vanished, the rest by a moment that never changes or grows.
    """
    sampled = label in {one.name for one in samples()}
    by_id = not sampled and label not in ENDED
    name = f"_{label}" if sampled else label
    condition = VANISHED.format(label=label) if by_id else ENDED.get(label, "ts < ?")
    moment = to_text(before)

    def delete(db: sqlite3.Connection) -> int:
        ids = _delete(db, name, condition, to_ms(before) if sampled else moment)
        if ids and by_id:
            store.tell_deleted(label, ids)
        elif ids:
            store.tell_deleted(label, before=moment)
        return len(ids)

    total = 0
    while deleted := store.change(delete):
        total += deleted
    if total and sampled:
        store.change(lambda db: _forget_series(db, label))
        store.forget_series()
    return total


def _delete(db: sqlite3.Connection, name: str, condition: str, value: Any) -> list[str]:
    """Delete one chunk of rows, and the edges of nodes among them; the ids of nodes, nothing for samples."""
    node = "" if name.startswith("_") else ", id"
    rows = db.execute(f'SELECT seq{node} FROM "{name}" WHERE {condition} LIMIT {CHUNK}', (value,)).fetchall()
    ids = [row["id"] if node else "" for row in rows]
    if node and name != "Event":
        db.executemany("DELETE FROM _edges WHERE start = ?", [(one,) for one in ids])
        db.executemany("DELETE FROM _edges WHERE end = ?", [(one,) for one in ids])
    db.executemany(f'DELETE FROM "{name}" WHERE seq = ?', [(row["seq"],) for row in rows])
    return ids


def _forget_series(db: sqlite3.Connection, label: str) -> None:
    """Drop the names of measured things of which no sample is left."""
    left = f'SELECT 1 FROM "_{label}" m WHERE m.series = "_{label}_series".series'
    db.execute(f'DELETE FROM "_{label}_series" WHERE NOT EXISTS ({left})')
