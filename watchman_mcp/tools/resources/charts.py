"""Measured values over time: at most sixty steps, with their extremes and a picture."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from watchman_mcp.store.tables import EPOCH, to_ms
from watchman_mcp.tools.answers import Frame

from .answer import Series
from .source import NAMES, Source

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
    "quality": ("ReachMetrics", ("latency_ms", "loss_percent")),
}


def courses(source: Source, frame: Frame, view: str, since: datetime, until: datetime) -> list[list[Series]]:
    """Every value of a view over time, in steps of equal length, those of one thing together.

    The thing with the largest value comes first; an empty step is None, not zero.
    """
    label, metrics = VIEWS[view]
    start, end = to_ms(since), to_ms(until)
    first = source.first(label, start)
    if first is None or first > end:
        return []
    start = max(start, first)
    step = max((end - start) // POINTS, 1000)
    by_series: dict[Any, list[Any]] = {}
    for row in source.steps(label, metrics, start, end, step, POINTS):
        by_series.setdefault(row["series"], []).append(row)
    ranked = sorted(by_series.items(), key=lambda item: -max(row[metrics[0]] or 0 for row in item[1]))
    return [
        [_one(frame, _name(source, label, series), metric, rows, start, step) for metric in metrics]
        for series, rows in ranked
    ]


def _name(source: Source, label: str, series: Any) -> str:
    return source.name(label, series) if label in NAMES else "machine"


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
