"""Deleting what is old, in bounded transactions."""

from __future__ import annotations

import sqlite3
from datetime import datetime
from typing import TYPE_CHECKING, Any

from watchman_mcp.store.tables import samples, to_ms, to_text

if TYPE_CHECKING:
    from watchman_mcp.store.sqlite import Store

CHUNK = 5000
ENDED = {"Event": "ts < ?", "CollectorRun": "last_at < ?"}
"""What makes a node old, where it is not that it vanished."""


def prune(store: Store, label: str, before: datetime) -> int:
    """Delete what ended before a moment: vanished nodes and their edges, events, samples. Returns how many.

    Each deletion is told to a mirror by its label and moment.
    """
    sampled = label in {one.name for one in samples()}
    name, condition = (f"_{label}", "ts < ?") if sampled else (label, ENDED.get(label, "gone_at < ?"))
    value = to_ms(before) if sampled else to_text(before)
    total = 0
    while deleted := store.change(lambda db: _delete(db, name, condition, value)):
        total += deleted
    if total and sampled:
        store.change(lambda db: _forget_series(db, label))
        store.forget_series()
    if total:
        store.change(lambda db: store.told_pruned(db, label, to_text(before)))
    return total


def _delete(db: sqlite3.Connection, name: str, condition: str, value: Any) -> int:
    """Delete one chunk of rows, and the edges of nodes among them."""
    rows = db.execute(f'SELECT rowid, * FROM "{name}" WHERE {condition} LIMIT {CHUNK}', (value,)).fetchall()
    if rows and not name.startswith("_") and name != "Event":
        ids = [(row["id"],) for row in rows]
        db.executemany("DELETE FROM _edges WHERE start = ?", ids)
        db.executemany("DELETE FROM _edges WHERE end = ?", ids)
    db.executemany(f'DELETE FROM "{name}" WHERE rowid = ?', [(row["seq"],) for row in rows])
    return len(rows)


def _forget_series(db: sqlite3.Connection, label: str) -> None:
    """Drop the names of measured things of which no sample is left."""
    left = f'SELECT 1 FROM "_{label}" m WHERE m.series = "_{label}_series".series'
    db.execute(f'DELETE FROM "_{label}_series" WHERE NOT EXISTS ({left})')
