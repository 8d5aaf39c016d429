"""Measured values over time: at most sixty steps, with their extremes and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import EPOCH, to_ms
from watchman_mcp.tools.answers import Frame

from .answer import Series

POINTS = 60
BARS = "▁▂▃▄▅▆▇█"
VIEWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "summary": ("SystemMetrics", ("cpu_percent", "memory_used_gb", "load_average_1m", "disk_used_gb")),
    "cpu": ("SystemMetrics", ("cpu_percent", "load_average_1m", "load_average_5m", "load_average_15m")),
    "memory": (
        "SystemMetrics",
        ("memory_used_gb", "memory_available_gb", "memory_cached_gb", "swap_used_gb"),
    ),
    "disks": ("DiskMetrics", ("use_percent", "used_gb")),
    "io": ("SystemMetrics", ("disk_read_mb_s", "disk_write_mb_s")),
    "network": ("InterfaceMetrics", ("rx_mb_s", "tx_mb_s")),
    "processes": ("ProcessMetrics", ("cpu_percent", "memory_mb")),
}
NAMES = {"DiskMetrics": "mount_point", "InterfaceMetrics": "interface", "ProcessMetrics": "name"}


def courses(store: Store, frame: Frame, view: str, since: datetime, until: datetime) -> list[list[Series]]:
    """Every value of a view over time, in steps of equal length, those of one thing together.

    The thing with the largest value comes first; an empty step is None, not zero.
    """
    label, metrics = VIEWS[view]
    start, end = to_ms(since), to_ms(until)
    first = store.read(f'SELECT min(ts) AS ts FROM "_{label}" WHERE ts >= ?', (start,))[0]["ts"]
    if first is None or first > end:
        return []
    start = max(start, first)
    step = max((end - start) // POINTS, 1000)
    columns = ", ".join(
        f'avg("{m}") / 1000.0 AS "{m}", min("{m}") / 1000.0 AS "min_{m}", max("{m}") / 1000.0 AS "max_{m}"'
        for m in metrics
    )
    sql = (
        f"SELECT series, min((ts - ?) / ?, {POINTS - 1}) AS step, {columns} "
        f'FROM "_{label}" WHERE ts BETWEEN ? AND ? GROUP BY 1, 2'
    )
    by_series: dict[int, list[Any]] = {}
    for row in store.read(sql, (start, step, start, end)):
        by_series.setdefault(row["series"], []).append(row)
    ranked = sorted(by_series.items(), key=lambda item: -max(row[metrics[0]] or 0 for row in item[1]))
    return [
        [_one(frame, _name(store, label, series), metric, rows, start, step) for metric in metrics]
        for series, rows in ranked
    ]


def _name(store: Store, label: str, series: int) -> str:
    if label not in NAMES:
        return "machine"
    rows = store.read(f'SELECT "{NAMES[label]}" AS name FROM "_{label}_series" WHERE series = ?', (series,))
    return str(rows[0]["name"]) if rows else "gone"


def _one(frame: Frame, name: str, metric: str, rows: list[Any], start: int, step: int) -> Series:
    values: list[float | None] = [None] * POINTS
    for row in rows:
        values[row["step"]] = None if row[metric] is None else round(row[metric], 2)
    known = [v for v in values if v is not None]
    if not known:
        return Series(of=name, metric=metric)
    lows, highs = (
        [row[f"{side}_{metric}"] for row in rows if row[metric] is not None] for side in ("min", "max")
    )
    return Series(
        of=name,
        metric=metric,
        start=frame.show(EPOCH + timedelta(milliseconds=start)),
        step_seconds=round(step / 1000),
        values=values,
        min=round(min(lows), 2),
        mean=round(sum(known) / len(known), 2),
        max=round(max(highs), 2),
        chart=sparkline(values),
    )


def sparkline(values: Sequence[float | None]) -> str:
    """A line of bars from zero or the smallest value to the largest; a gap is a space."""
    known = [v for v in values if v is not None]
    low, high = min(0.0, *known) if known else 0.0, max(known, default=0.0)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0
    return "".join(" " if v is None else BARS[round((v - low) * scale)] for v in values)
