"""Packages that are there now, and those that were."""

from __future__ import annotations

from typing import Any, Literal

from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools.answers import Frame, cursor_from, cursor_to, fit

from .answer import Package, PackagesAnswer
from .choosing import Filter
from .history import ACTIONS


def installed(store: Store, frame: Frame, chosen: Filter, limit: int, cursor: str) -> PackagesAnswer:
    """The chosen packages that are there; if none is, those that were."""
    offset = cursor_from(cursor, 1)[0] if cursor else 0
    where = f"{chosen.where()} AND gone_at IS NULL"
    totals = _totals(
        store, f'SELECT manager AS word, count(*) AS n FROM "Software" WHERE {where} GROUP BY 1', chosen
    )
    order = "ORDER BY key, manager, architecture, location LIMIT :limit OFFSET :offset"
    sql = f"SELECT * FROM Software WHERE {where} {order}"
    rows = store.read(sql, {**chosen.parameters, "limit": limit, "offset": offset})
    if not rows and chosen.matched and not offset:
        return _removed(store, frame, chosen)
    detailed = len(rows) <= 3
    items = [_package(store, frame, row, detailed, bool(chosen.matched)) for row in rows]
    items = items[: fit(items)]
    total, end = totals["items"], offset + len(items)
    found: Literal["yes", "none", "cannot_tell"] = (
        "yes" if items else "cannot_tell" if frame.blind else "none"
    )
    return PackagesAnswer(
        found=found,
        cut=f"{len(items)} of {total}; narrow with name or manager" if end < total else None,
        matched=chosen.matched,
        source="package databases",
        totals=totals,
        items=items,
        next_cursor=cursor_to([end]) if end < total else None,
        **frame.envelope(),
    )


def _totals(store: Store, sql: str, chosen: Filter, more: dict[str, Any] | None = None) -> dict[str, int]:
    counts = {
        row["word"] or "other": row["n"] for row in store.read(sql, {**chosen.parameters, **(more or {})})
    }
    return {"items": sum(counts.values()), **dict(sorted(counts.items()))}


def _package(store: Store, frame: Frame, row: Any, detailed: bool, named: bool) -> Package:
    size = row["size_bytes"]
    package = Package(
        name=row["key"],
        version=row["version"],
        manager=row["manager"],
        architecture=row["architecture"] if detailed else None,
        location=row["location"],
        installed_at=frame.show(row["installed_at"]),
        removed_at=frame.show(_removed_at(store, row)),
        requested=bool(row["requested"])
        if row["requested"] is not None and (named or row["requested"])
        else None,
        held=True if row["held"] else None,
        state=row["state"] if row["state"] not in (None, "installed") else None,
        size_mb=round(size / 2**20, 1) if size and (detailed or named) else None,
    )
    if detailed and named:
        package.source_package = row["source_package"] if row["source_package"] != row["key"] else None
        package.summary = row["summary"]
        package.depends_on = _ends(store, "end", "start", row["id"])
        package.needed_by = _ends(store, "start", "end", row["id"])
        package.history = _lines(store, frame, row)
    return package


def _ends(store: Store, wanted: str, given: str, node: str) -> list[str] | None:
    """The other ends of a package's dependencies, by name; at most 30."""
    sql = (
        f"SELECT s.key FROM _edges e JOIN Software s ON s.id = e.{wanted} WHERE e.{given} = ? "
        "AND e.type = 'DEPENDS_ON' AND e.gone_at IS NULL ORDER BY 1"
    )
    names = list(dict.fromkeys(row["key"] for row in store.read(sql, (node,))))
    return names[:30] + ([f"and {len(names) - 30} more"] if len(names) > 30 else []) or None


def _lines(store: Store, frame: Frame, row: Any) -> list[str]:
    """The newest changes of one package, newest first, and whether it was ever updated."""
    rows = store.read(
        "SELECT * FROM Event WHERE acted_on = ? ORDER BY ts DESC, seq DESC LIMIT 5", (row["id"],)
    )
    lines = []
    for event in rows:
        versions = " -> ".join(v for v in (event["previous"], event["version"]) if v)
        command = f" by {event['command']}" if event["command"] else ""
        lines.append(
            f"{frame.show(event['ts'])} {ACTIONS.get(event['type'], event['type'])} {versions}{command}"
        )
    if not any(event["type"] in ("package_update", "package_downgrade") for event in rows):
        lines.append(
            f"no update since {frame.show(row['installed_at'])}" if row["installed_at"] else "no update known"
        )
    return lines


def _removed(store: Store, frame: Frame, chosen: Filter) -> PackagesAnswer:
    """Known by name, and not there now."""
    sql = f'SELECT * FROM "Software" WHERE {chosen.where()} ORDER BY gone_at DESC LIMIT 5'
    items = [_package(store, frame, row, True, True) for row in store.read(sql, chosen.parameters)]
    note = "Not installed now; it was before." if items else None
    return PackagesAnswer(
        found="not_installed",
        matched=chosen.matched,
        note=note,
        totals={"items": 0},
        items=items,
        **frame.envelope(),
    )


def _removed_at(store: Store, row: Any) -> str | None:
    """When a package went: what its log says of it, else when it was first missed."""
    if row["gone_at"] is None:
        return None
    told = store.read(
        "SELECT max(ts) AS ts FROM Event WHERE acted_on = ? AND type IN ('package_remove', 'package_purge')",
        (row["id"],),
    )
    return str(told[0]["ts"] or row["gone_at"])
