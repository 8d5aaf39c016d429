"""The newest samples as parts of answers, and when a disk will be full."""

from __future__ import annotations

from typing import Any

from watchman_mcp.tools.answers import MAX_ROWS

from .answer import Disk
from .source import Source


def newest_sample(source: Source, label: str) -> Any:
    """The newest sample of a label, None where there is none."""
    rows = source.newest(label)
    return rows[0] if rows else None


def as_a(model: type[Any], row: Any) -> Any:
    """A part of an answer with what a sample has of its fields."""
    return model(**{name: row[name] for name in model.model_fields if name in row})


def disks(source: Source, limit: int = MAX_ROWS) -> list[Disk]:
    """The file systems, fullest first, with the time until each is full at the pace of the last week."""
    rows = sorted(source.newest("DiskMetrics"), key=lambda r: -(r["use_percent"] or 0))
    return [as_a(Disk, {**row, "full_in": _full_in(source, row)}) for row in rows[:limit]]


def _full_in(source: Source, row: Any) -> str | None:
    """When the file system will be full, by its growth within seven days; None while it does not grow."""
    if not row["used_gb"] or not row["available_gb"] or (oldest := source.grown_from(row)) is None:
        return None
    grown, hours = row["used_gb"] - oldest[1], (row["ts"] - oldest[0]) / 3_600_000
    if hours < 6 or grown <= 0.01:
        return None
    left = row["available_gb"] / (grown / hours)
    if left < 48:
        return f"{left:.0f} hours"
    return f"{left / 24:.0f} days" if left < 24 * 365 else None
