"""Resources: load, memory, disks, traffic and processes of the whole machine, now or over time."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from watchman_mcp.errors import InvalidRequest
from watchman_mcp.schema.resources import DiskMetrics, SystemMetrics
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools import reads
from watchman_mcp.tools.answers import Frame, Host, Limit, Since, Until, Window, clamp, fit, frame_of
from watchman_mcp.tools.fleet import Elsewhere, Fleet, elsewhere

from .answer import Load, MetricsAnswer, Process, Traffic
from .charts import courses
from .samples import as_a, disks, newest_sample
from .several import loads
from .source import Local, Remote, Source

T = TypeVar("T")
LOADS = "load_average_1m load_average_5m load_average_15m"
MEMORY = "memory_used_gb memory_total_gb memory_available_gb"
SHOWN = {
    "cpu": f"cpu_percent cpu_per_core {LOADS} processes",
    "memory": f"{MEMORY} memory_cached_gb swap_used_gb swap_total_gb",
    "io": "disk_read_mb_s disk_write_mb_s",
    "disks": "disk_used_gb disk_total_gb",
    "summary": f"cpu_percent {LOADS} {MEMORY} swap_used_gb processes disk_read_mb_s disk_write_mb_s",
}
"""Which of the machine's own numbers a view shows."""
CHARTED = 8
"""How many disks, interfaces or processes one answer charts."""


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
    host: Host = "",
    fleet: Fleet | None = None,
) -> MetricsAnswer:
    """CPU, load, memory, swap, disk space and time to full, I/O, traffic and top processes of the whole
    machine, now or over time.
    """
    far = elsewhere(store, fleet, host, (SystemMetrics,))
    if far and far.several:
        if since or until or chart or view != "summary":
            raise InvalidRequest(
                "several machines are told by view=summary as they are now; name one in host"
            )
        return _of_several(far, clamp(limit))
    frame = far or frame_of(store, (SystemMetrics,))
    source: Source = Remote(far) if far else Local(store)
    newest = newest_sample(source, "SystemMetrics")
    if newest is None:
        return MetricsAnswer(found="cannot_tell", note="Nothing was measured yet", **frame.envelope())
    answer = MetricsAnswer(found="yes", source="samples of the kernel's counters", **frame.envelope())
    if since or until or chart:
        asked = frame.window(since, until, timedelta(hours=24))
        start = asked.since or frame.now - timedelta(hours=24)
        answer.window = Window(
            since=frame.show(start), until=frame.show(asked.until), covered=frame.covered(start)
        )
        things = courses(source, frame, view, start, asked.until)
        shown = _page(answer, "charts", things, min(clamp(limit), CHARTED))
        answer.series = [series for thing in shown for series in thing]
        answer.found = "yes" if answer.series else "none"
        return answer
    if view in SHOWN:
        answer.now = Load(**{name: newest[name] for name in SHOWN[view].split()})
    _parts(source, frame, view, answer, clamp(limit))
    return answer


def _of_several(frame: Elsewhere, limit: int) -> MetricsAnswer:
    """Machines by their newest load, the busiest first."""
    lines = loads(frame)
    lines.sort(key=lambda line: -(line.cpu_percent or 0))
    answer = MetricsAnswer(
        found="yes" if any(line.cpu_percent is not None for line in lines) else "cannot_tell",
        matched=frame.matched(None),
        source="samples of the kernel's counters",
        totals={"hosts": len(lines)},
        **frame.envelope(),
    )
    answer.hosts = _page(answer, "machines", lines, limit)
    return answer


def _parts(source: Source, frame: Frame, view: str, answer: MetricsAnswer, limit: int) -> None:
    """The lists that a view shows beside the machine's own numbers."""
    if view in ("summary", "disks"):
        answer.disks = _page(answer, "disks", disks(source), limit)
    if view in ("network", "io"):
        rows = source.newest("InterfaceMetrics")
        rows.sort(key=lambda r: -(r["rx_mb_s"] or 0) - (r["tx_mb_s"] or 0))
        answer.network = _page(answer, "interfaces", [as_a(Traffic, row) for row in rows], limit)
    if view in ("processes", "cpu", "memory", "summary"):
        key = "memory_mb" if view == "memory" else "cpu_percent"
        rows = sorted(source.newest("ProcessMetrics"), key=lambda r: -(r[key] or 0))
        rows = rows if view == "processes" else rows[:3]
        busiest = [as_a(Process, {**row, "started_at": frame.show(row["started_at"])}) for row in rows]
        answer.processes = _page(answer, "processes", busiest, limit)


def _page(answer: MetricsAnswer, what: str, rows: list[T], limit: int) -> list[T]:
    """As many rows as are wanted and fit into the answer, which says so where that is not all."""
    page = rows[: min(limit, fit(rows))]
    if len(page) < len(rows):
        answer.cut = f"{len(page)} of {len(rows)} {what}; the rest is lower; more with limit"
    return page
