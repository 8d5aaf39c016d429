"""What an answer about load is made from: this machine's store, or the fleet's graph."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Protocol

from watchman_mcp.schema import LABELS
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import from_text, table, to_ms
from watchman_mcp.tools.fleet import Elsewhere, Kept

RECENT = 2_000
"""Newest samples of a label among which those of the newest moment are."""
WEEK = 7 * 86_400_000
NAMES = {
    "DiskMetrics": "mount_point",
    "InterfaceMetrics": "interface",
    "ProcessMetrics": "name",
    "ReachMetrics": "target",
}
"""What a measured thing of a label is called by."""


class Source(Protocol):
    """Samples, in their own units; their moment is `ts`, in milliseconds since 1970."""

    def newest(self, label: str) -> list[Any]:
        """All samples of a label that were taken at the newest moment."""

    def grown_from(self, disk: Any) -> tuple[int, float] | None:
        """When a file system was first measured in the last seven days, and what was used then."""

    def first(self, label: str, since: int) -> int | None:
        """When the first sample of a label was taken since then."""

    def steps(
        self, label: str, metrics: Sequence[str], start: int, end: int, step: int, most: int
    ) -> list[Any]:
        """Mean, smallest and largest value of each measured thing and step of time.

        `series` tells the things apart; the last of the `most` steps takes what is over.
        """

    def name(self, label: str, series: Any) -> str:
        """What a measured thing is called."""


class Local:
    """The samples of this machine."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def newest(self, label: str) -> list[Any]:
        """All samples of a label that were taken at the newest moment."""
        newest = self._store.read(f'SELECT ts FROM "_{label}" ORDER BY seq DESC LIMIT 1')
        if not newest:
            return []
        columns = ", ".join(f'v."{c}"' for c in ["series", *[c.name for c in table(label).measures]])
        recent = f'SELECT * FROM "_{label}" WHERE seq > (SELECT max(seq) FROM "_{label}") - {RECENT}'
        sql = f"SELECT {columns}, v.ts FROM ({recent}) v WHERE v.ts = ?"
        return [self._readable(label, dict(row)) for row in self._store.read(sql, (newest[0]["ts"],))]

    def _readable(self, label: str, row: dict[str, Any]) -> dict[str, Any]:
        """A kept sample with its series' names and its floats in their own unit."""
        for column in table(label).measures:
            value = row[column.name]
            if value is not None and column.many:
                row[column.name] = json.loads(value)
            elif value is not None and column.kind is float:
                row[column.name] = value / 1000
        names = self._store.read(f'SELECT * FROM "_{label}_series" WHERE series = ?', (row["series"],))
        return {**dict(names[0]), **row} if names else row

    def grown_from(self, disk: Any) -> tuple[int, float] | None:
        """When a file system was first measured in the last seven days, and what was used then."""
        sql = 'SELECT ts, used_gb FROM "_DiskMetrics" WHERE series = ? AND ts >= ? ORDER BY ts LIMIT 1'
        oldest = self._store.read(sql, (disk["series"], disk["ts"] - WEEK))
        return (oldest[0]["ts"], oldest[0]["used_gb"] / 1000) if oldest else None

    def first(self, label: str, since: int) -> int | None:
        """When the first sample of a label was taken since then."""
        found: int | None = self._store.read(f'SELECT min(ts) AS ts FROM "_{label}" WHERE ts >= ?', (since,))[
            0
        ]["ts"]
        return found

    def steps(
        self, label: str, metrics: Sequence[str], start: int, end: int, step: int, most: int
    ) -> list[Any]:
        """Mean, smallest and largest value of each measured thing and step of time."""
        columns = ", ".join(
            f'{kind}("{m}") / 1000.0 AS "{title}{m}"'
            for m in metrics
            for kind, title in (("avg", ""), ("min", "min_"), ("max", "max_"))
        )
        sql = (
            f"SELECT series, min((ts - ?) / ?, {most - 1}) AS step, {columns} "
            f'FROM "_{label}" WHERE ts BETWEEN ? AND ? GROUP BY 1, 2'
        )
        return self._store.read(sql, (start, step, start, end))

    def name(self, label: str, series: Any) -> str:
        """What a measured thing is called."""
        sql = f'SELECT "{NAMES[label]}" AS name FROM "_{label}_series" WHERE series = ?'
        rows = self._store.read(sql, (series,))
        return str(rows[0]["name"]) if rows else "gone"


class Remote:
    """The samples of another machine."""

    def __init__(self, frame: Elsewhere) -> None:
        self._samples, self._machine = frame.fleet.samples, frame.only.machine

    def newest(self, label: str) -> list[Any]:
        """All samples of a label that were taken at the newest moment."""
        rows = self._samples.newest(self._machine, label)
        return [Kept({**row, "ts": to_ms(from_text(row["timestamp"]))}) for row in rows]

    def grown_from(self, disk: Any) -> tuple[int, float] | None:
        """When a file system was first measured in the last seven days, and what was used then."""
        oldest = self._samples.grown_from(self._machine, disk["filesystem"], disk["mount_point"])
        return (to_ms(from_text(oldest["timestamp"])), oldest["used_gb"] or 0.0) if oldest else None

    def first(self, label: str, since: int) -> int | None:
        """When the first sample of a label was taken since then."""
        return self._samples.first(self._machine, label, since)

    def steps(
        self, label: str, metrics: Sequence[str], start: int, end: int, step: int, most: int
    ) -> list[Any]:
        """Mean, smallest and largest value of each measured thing and step of time."""
        rows = self._samples.steps(self._machine, label, metrics, start, end, step, most)
        return [{**row, "series": tuple(row["series"])} for row in rows]

    def name(self, label: str, series: Any) -> str:
        """What a measured thing is called."""
        return str(series[(LABELS[label].series or ()).index(NAMES[label])])
