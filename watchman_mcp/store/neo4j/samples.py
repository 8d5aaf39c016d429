"""What the graph of many machines is asked about load, memory, disks, traffic and processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from watchman_mcp.schema import LABELS
from watchman_mcp.store.tables import table

Row = dict[str, Any]
Ask = Callable[..., list[Row]]

NEWEST = "ORDER BY s.host DESC, s.timestamp DESC LIMIT 1"
"""In the order of the index, so that one entry is read; by the moment alone all of them would be."""
WEEK = "duration({days: 7})"


class Samples:
    """Questions about what was measured."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask

    def newest(self, machine: str, label: str) -> list[Row]:
        """All samples of a label that were taken at the newest moment."""
        kind = table(label).name
        query = (
            f"MATCH (s:{kind}) WHERE s.host = $machine AND s.timestamp IS NOT NULL "
            f"WITH s {NEWEST} WITH s.timestamp AS newest "
            f"MATCH (s:{kind}) WHERE s.host = $machine AND s.timestamp = newest RETURN s {{.*}} AS row"
        )
        return [row["row"] for row in self._ask(query, machine=machine)]

    def grown_from(self, machine: str, filesystem: str, mount_point: str) -> Row | None:
        """The oldest sample of a file system within seven days before its newest one."""
        query = (
            "MATCH (s:DiskMetrics) WHERE s.host = $machine AND s.timestamp IS NOT NULL "
            f"WITH s {NEWEST} WITH s.timestamp - {WEEK} AS since "
            "MATCH (s:DiskMetrics) WHERE s.host = $machine AND s.timestamp >= since "
            "AND s.filesystem = $filesystem AND s.mount_point = $mount_point "
            "RETURN s.timestamp AS timestamp, s.used_gb AS used_gb ORDER BY s.host, s.timestamp LIMIT 1"
        )
        rows = self._ask(query, machine=machine, filesystem=filesystem, mount_point=mount_point)
        return rows[0] if rows else None

    def first(self, machine: str, label: str, since: int) -> int | None:
        """When the first sample of a label was taken since then, both in milliseconds since 1970."""
        query = (
            f"MATCH (s:{table(label).name}) WHERE s.host = $machine "
            "AND s.timestamp >= datetime({epochMillis: $since}) "
            "RETURN s.timestamp.epochMillis AS ms ORDER BY s.host, s.timestamp LIMIT 1"
        )
        rows = self._ask(query, machine=machine, since=since)
        return int(rows[0]["ms"]) if rows else None

    def steps(
        self, machine: str, label: str, metrics: Sequence[str], start: int, end: int, step: int, most: int
    ) -> list[Row]:
        """Mean, smallest and largest value of each measured thing and step of time, in milliseconds.

        `series` tells the things apart; `most` steps, of which the last takes what is over.
        """
        kept = table(label)
        known = [column.name for column in kept.measures if column.name in metrics]
        series = ", ".join(f"s.{name}" for name in LABELS[label].series or ())
        columns = ", ".join(f"avg(s.{m}) AS {m}, min(s.{m}) AS min_{m}, max(s.{m}) AS max_{m}" for m in known)
        query = (
            f"MATCH (s:{kept.name}) WHERE s.host = $machine "
            "AND s.timestamp >= datetime({epochMillis: $start}) "
            "AND s.timestamp <= datetime({epochMillis: $end}) "
            f"WITH s, [{series}] AS series, (s.timestamp.epochMillis - $start) / $step AS step "
            "WITH s, series, CASE WHEN step < $most THEN step ELSE $most - 1 END AS step "
            f"RETURN series, step, {columns} ORDER BY series, step"
        )
        return self._ask(query, machine=machine, start=start, end=end, step=step, most=most)

    def load(self, machines: Sequence[str]) -> list[Row]:
        """The newest sample of each machine, with its fullest file system."""
        query = (
            "UNWIND $machines AS machine "
            "CALL (machine) { MATCH (s:SystemMetrics) WHERE s.host = machine AND s.timestamp IS NOT NULL "
            f"RETURN s {NEWEST} }} "
            "CALL (machine) { OPTIONAL MATCH (d:DiskMetrics) WHERE d.host = machine "
            "AND d.timestamp IS NOT NULL RETURN d.timestamp AS taken "
            "ORDER BY d.host DESC, d.timestamp DESC LIMIT 1 } "
            "CALL (machine, taken) { OPTIONAL MATCH (d:DiskMetrics) WHERE d.host = machine "
            "AND d.timestamp = taken RETURN d ORDER BY coalesce(d.use_percent, 0) DESC LIMIT 1 } "
            "RETURN machine, s {.cpu_percent, .load_average_1m, .memory_used_gb, .memory_total_gb, "
            ".memory_available_gb, .timestamp, fullest: d.mount_point, use_percent: d.use_percent} AS row"
        )
        return [
            {"machine": row["machine"], **row["row"]} for row in self._ask(query, machines=list(machines))
        ]
