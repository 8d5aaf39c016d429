"""The newest samples in their own units, and when a disk will be full."""

from __future__ import annotations

import json
from typing import Any

from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import table
from watchman_mcp.tools.answers import MAX_ROWS

from .answer import Disk

RECENT = 2_000
"""Newest samples of a label among which those of the newest moment are."""


def newest_sample(store: Store, label: str) -> Any:
    """The newest sample of a label, None where there is none."""
    rows = newest_samples(store, label)
    return rows[0] if rows else None


def newest_samples(store: Store, label: str) -> list[Any]:
    """All samples of a label that were taken at the newest moment."""
    newest = store.read(f'SELECT ts FROM "_{label}" ORDER BY seq DESC LIMIT 1')
    if not newest:
        return []
    columns = ", ".join(f'v."{c}"' for c in _columns(label))
    recent = f'SELECT * FROM "_{label}" WHERE seq > (SELECT max(seq) FROM "_{label}") - {RECENT}'
    sql = f"SELECT {columns}, v.ts FROM ({recent}) v WHERE v.ts = ?"
    rows = [dict(row) for row in store.read(sql, (newest[0]["ts"],))]
    return [_readable(store, label, row) for row in rows]


def _columns(label: str) -> list[str]:
    return ["series", *[c.name for c in table(label).measures]]


def _readable(store: Store, label: str, row: dict[str, Any]) -> dict[str, Any]:
    """A kept sample with its series' names and its floats in their own unit."""
    kept = table(label)
    for column in kept.measures:
        value = row[column.name]
        if value is not None and column.many:
            row[column.name] = json.loads(value)
        elif value is not None and column.kind is float:
            row[column.name] = value / 1000
    names = store.read(f'SELECT * FROM "_{label}_series" WHERE series = ?', (row["series"],))
    return {**dict(names[0]), **row} if names else row


def as_a(model: type[Any], row: Any) -> Any:
    """A part of an answer with what a sample has of its fields."""
    return model(**{name: row[name] for name in model.model_fields if name in row})


def disks(store: Store, limit: int = MAX_ROWS) -> list[Disk]:
    """The file systems, fullest first, with the time until each is full at the pace of the last week."""
    rows = sorted(newest_samples(store, "DiskMetrics"), key=lambda r: -(r["use_percent"] or 0))
    return [as_a(Disk, {**row, "full_in": _full_in(store, row)}) for row in rows[:limit]]


def _full_in(store: Store, row: dict[str, Any]) -> str | None:
    """When the file system will be full, by its growth within seven days; None while it does not grow."""
    sql = 'SELECT ts, used_gb FROM "_DiskMetrics" WHERE series = ? AND ts >= ? ORDER BY ts LIMIT 1'
    oldest = store.read(sql, (row["series"], row["ts"] - 7 * 86_400_000))
    if not oldest or not row["used_gb"] or not row["available_gb"]:
        return None
    grown, hours = row["used_gb"] - oldest[0]["used_gb"] / 1000, (row["ts"] - oldest[0]["ts"]) / 3_600_000
    if hours < 6 or grown <= 0.01:
        return None
    left = row["available_gb"] / (grown / hours)
    if left < 48:
        return f"{left:.0f} hours"
    return f"{left / 24:.0f} days" if left < 24 * 365 else None
