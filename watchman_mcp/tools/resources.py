"""Resources: load, memory, disks, traffic and processes of the whole machine, now or over time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field

from watchman_mcp.schema.resources import DiskMetrics, SystemMetrics
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import EPOCH, table, to_ms

from . import reads
from .answers import MAX_ROWS, Answer, Frame, Limit, Since, Tail, Until, Window, clamp, fit, frame_of

T = TypeVar("T")
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


class Series(BaseModel):
    """One measured value over time."""

    of: str
    metric: str
    start: str | None = None
    step_seconds: int | None = None
    values: list[float | None] | None = None
    min: float | None = None
    mean: float | None = None
    max: float | None = None
    chart: str | None = None


class Disk(BaseModel):
    """One file system."""

    mount_point: str
    filesystem: str
    used_gb: float | None = None
    available_gb: float | None = None
    use_percent: float | None = None
    inodes_percent: float | None = None
    full_in: str | None = None


class Traffic(BaseModel):
    """One network interface."""

    interface: str
    rx_mb_s: float | None = None
    tx_mb_s: float | None = None
    errors: int | None = None


class Process(BaseModel):
    """One of the busiest processes."""

    name: str
    pid: int
    user: str | None = None
    cpu_percent: float | None = None
    memory_mb: float | None = None
    started_at: str | None = None


class Load(BaseModel):
    """The whole machine."""

    cpu_percent: float | None = None
    cpu_per_core: list[float] | None = None
    load_average_1m: float | None = None
    load_average_5m: float | None = None
    load_average_15m: float | None = None
    memory_used_gb: float | None = None
    memory_total_gb: float | None = None
    memory_available_gb: float | None = None
    memory_cached_gb: float | None = None
    swap_used_gb: float | None = None
    swap_total_gb: float | None = None
    disk_used_gb: float | None = None
    disk_total_gb: float | None = None
    disk_read_mb_s: float | None = None
    disk_write_mb_s: float | None = None
    processes: int | None = None


class MetricsAnswer(Answer, Tail):
    """What was measured, now or over time."""

    now: Load | None = None
    disks: list[Disk] | None = None
    network: list[Traffic] | None = None
    processes: list[Process] | None = None
    series: list[Series] | None = None


SHOWN: dict[str, tuple[str, ...]] = {
    "cpu": ("cpu_percent", "cpu_per_core", "load_average_1m", "load_average_5m", "load_average_15m", "processes"),
    "memory": ("memory_used_gb", "memory_total_gb", "memory_available_gb", "memory_cached_gb", "swap_used_gb", "swap_total_gb"),
    "io": ("disk_read_mb_s", "disk_write_mb_s"),
    "disks": ("disk_used_gb", "disk_total_gb"),
    "summary": (
        "cpu_percent", "load_average_1m", "load_average_5m", "load_average_15m", "memory_used_gb", "memory_total_gb",
        "memory_available_gb", "swap_used_gb", "processes", "disk_read_mb_s", "disk_write_mb_s",
    ),
}  # fmt: skip


@reads(title="Machine load", needs=(SystemMetrics, DiskMetrics))
def system_metrics(
    store: Store,
    view: Annotated[
        Literal["summary", "cpu", "memory", "disks", "io", "network", "processes"], Field()
    ] = "summary",
    chart: Annotated[bool, Field(description="Show the course")] = False,
    since: Since = "",
    until: Until = "",
    limit: Limit = 20,
) -> MetricsAnswer:
    """CPU, load, memory, swap, disk space and time to full, I/O, traffic and top processes of the whole machine, now or over time."""
    frame = frame_of(store, (SystemMetrics,))
    newest = newest_sample(store, "SystemMetrics")
    if newest is None:
        return MetricsAnswer(found="cannot_tell", note="Nothing was measured yet", **frame.envelope())
    answer = MetricsAnswer(found="yes", source="samples of the kernel's counters", **frame.envelope())
    if since or until or chart:
        asked = frame.window(since, until, timedelta(hours=24))
        start = asked.since or frame.now - timedelta(hours=24)
        answer.window = Window(
            since=frame.show(start), until=frame.show(asked.until), covered=frame.covered(start)
        )
        series = _series(store, frame, view, start, asked.until, clamp(limit))
        answer.series = _page(answer, "series", series, len(series))
        answer.found = "yes" if answer.series else "none"
        return answer
    if view in SHOWN:
        answer.now = _load(newest, SHOWN[view])
    _parts(store, frame, view, answer, clamp(limit))
    return answer


def _parts(store: Store, frame: Frame, view: str, answer: MetricsAnswer, limit: int) -> None:
    """The lists that a view shows beside the machine's own numbers."""
    if view in ("summary", "disks"):
        answer.disks = _page(answer, "disks", disks(store, frame), limit)
    if view in ("network", "io"):
        rows = newest_samples(store, "InterfaceMetrics")
        rows.sort(key=lambda r: -(r["rx_mb_s"] or 0) - (r["tx_mb_s"] or 0))
        answer.network = _page(answer, "interfaces", [_from(Traffic, row) for row in rows], limit)
    if view in ("processes", "cpu", "memory", "summary"):
        key = "memory_mb" if view == "memory" else "cpu_percent"
        rows = sorted(newest_samples(store, "ProcessMetrics"), key=lambda r: -(r[key] or 0))
        rows = rows if view == "processes" else rows[:3]
        busiest = [_from(Process, {**row, "started_at": frame.show(row["started_at"])}) for row in rows]
        answer.processes = _page(answer, "processes", busiest, limit)


def _page(answer: MetricsAnswer, what: str, rows: list[T], limit: int) -> list[T]:
    """As many rows as are wanted and fit into the answer, which says so where that is not all."""
    page = rows[: min(limit, fit(rows))]
    if len(page) < len(rows):
        answer.cut = f"{len(page)} of {len(rows)} {what}; the rest is lower; more with limit"
    return page


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
    sql = f'SELECT {columns}, v.ts FROM (SELECT * FROM "_{label}" WHERE seq > (SELECT max(seq) FROM "_{label}") - 2000) v WHERE v.ts = ?'
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


def _from(model: type[Any], row: Any) -> Any:
    return model(**{name: row[name] for name in model.model_fields if name in row})


def _load(row: Any, names: Sequence[str]) -> Load:
    return Load(**{name: row[name] for name in names})


def disks(store: Store, frame: Frame, limit: int = MAX_ROWS) -> list[Disk]:
    """The file systems, fullest first, with the time until each is full at the pace of the last week."""
    rows = sorted(newest_samples(store, "DiskMetrics"), key=lambda r: -(r["use_percent"] or 0))
    return [_from(Disk, {**row, "full_in": _full_in(store, row)}) for row in rows[:limit]]


def _full_in(store: Store, row: dict[str, Any]) -> str | None:
    """When the file system will be full, from its oldest and newest sample within seven days; None while it does not grow."""
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


def _series(
    store: Store, frame: Frame, view: str, since: datetime, until: datetime, limit: int
) -> list[Series]:
    """Every value of a view over time, in at most 60 steps of equal length; an empty step is None, not zero."""
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
    sql = f'SELECT series, min((ts - ?) / ?, {POINTS - 1}) AS step, {columns} FROM "_{label}" WHERE ts BETWEEN ? AND ? GROUP BY 1, 2'
    by_series: dict[int, list[Any]] = {}
    for row in store.read(sql, (start, step, start, end)):
        by_series.setdefault(row["series"], []).append(row)
    found = []
    ranked = sorted(by_series.items(), key=lambda item: -max(row[metrics[0]] or 0 for row in item[1]))
    for series, rows in ranked[: min(limit, 8)]:
        name = _series_name(store, label, series)
        found += [
            _one(frame, name, metric, rows, start, step)
            for metric in metrics[: 4 if len(by_series) == 1 else 2]
        ]
    return found


def _series_name(store: Store, label: str, series: int) -> str:
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
