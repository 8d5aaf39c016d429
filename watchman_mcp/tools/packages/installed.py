"""Packages that are there now, and those that were."""

from __future__ import annotations

from typing import Any, Literal

from watchman_mcp.tools.answers import Frame, cursor_from, cursor_to, fit

from .answer import Package, PackagesAnswer
from .history import ACTIONS
from .source import Source

STAYING = ("package_install", "package_update", "package_downgrade")
GOING_ON = (
    "The package database does not have it, yet the newest that the log tells is no removal: "
    "this may just be going on; ask again in a moment."
)


def installed(source: Source, frame: Frame, limit: int, cursor: str) -> PackagesAnswer:
    """The chosen packages that are there; if none is, those that were."""
    offset = cursor_from(cursor, 1)[0] if cursor else 0
    totals = totals_of(source.totals())
    rows = source.there(limit, offset)
    if not rows and source.matched and not offset:
        return _removed(source, frame)
    detailed = len(rows) <= 3
    items = [package_of(source, frame, row, detailed, bool(source.matched)) for row in rows]
    return page_of(source, frame, items[: fit(items)], totals, offset)


def page_of(
    source: Source, frame: Frame, items: list[Package], totals: dict[str, int], offset: int
) -> PackagesAnswer:
    """One page of packages that are there."""
    total, end = totals["items"], offset + len(items)
    found: Literal["yes", "none", "cannot_tell"] = (
        "yes" if items else "cannot_tell" if frame.blind else "none"
    )
    return PackagesAnswer(
        found=found,
        cut=f"{len(items)} of {total}; narrow with name or manager" if end < total else None,
        matched=frame.matched(source.matched),
        source="package databases",
        totals=totals,
        items=list(items),
        next_cursor=cursor_to([end]) if end < total else None,
        **frame.envelope(),
    )


def totals_of(counts: dict[str, int]) -> dict[str, int]:
    """The sum of some counts, and the counts by name."""
    named = {word or "other": n for word, n in counts.items()}
    return {"items": sum(named.values()), **dict(sorted(named.items()))}


def package_of(source: Source, frame: Frame, row: Any, detailed: bool, named: bool) -> Package:
    """One package, as a row tells it, with more of it where few are shown."""
    size = row["size_bytes"]
    package = Package(
        name=row["key"],
        version=row["version"],
        manager=row["manager"],
        architecture=row["architecture"] if detailed else None,
        location=row["location"],
        stream=row["stream"] if detailed else None,
        available=row["available"] if named else None,
        security=True if named and row["available"] and row["security_update"] else None,
        installed_at=frame.show(row["installed_at"]),
        removed_at=frame.show(_removed_at(source, row)),
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
        package.depends_on = _some(source.ends(row["id"], outward=True))
        package.needed_by = _some(source.ends(row["id"], outward=False))
        package.provides = _some(source.brings(row["id"], "PROVIDES"))
        package.configs = _some(source.brings(row["id"], "OWNS"))
        package.history = _lines(source, frame, row)
    return package


def _some(names: list[str]) -> list[str] | None:
    """Names, each once; at most 30."""
    names = list(dict.fromkeys(names))
    return names[:30] + ([f"and {len(names) - 30} more"] if len(names) > 30 else []) or None


def _lines(source: Source, frame: Frame, row: Any) -> list[str]:
    """The newest changes of one package, newest first, and whether it was ever updated."""
    rows = source.events(row["id"], 5)
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


def _removed(source: Source, frame: Frame) -> PackagesAnswer:
    """Known by name, and not there now."""
    items = []
    rows = source.gone(5)
    for row in rows:
        package = package_of(source, frame, row, True, not frame.several)
        if host := frame.whose(row):
            package.hosts = [host]
        items.append(package)
    note = None
    if items:
        newest = source.events(rows[0]["id"], 1)
        going_on = bool(newest) and newest[0]["type"] in STAYING
        note = GOING_ON if going_on else "Not installed now; it was before."
    return PackagesAnswer(
        found="not_installed",
        matched=frame.matched(source.matched),
        note=note,
        totals={"items": 0},
        items=list(items),
        **frame.envelope(),
    )


def _removed_at(source: Source, row: Any) -> str | None:
    """When a package went: what its log says of it, else when it was first missed."""
    return None if row["gone_at"] is None else source.removed_at(row["id"]) or str(row["gone_at"])
