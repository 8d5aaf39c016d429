"""Newer versions that the managers would install, by their own caches."""

from __future__ import annotations

from typing import Any

from watchman_mcp.tools.answers import Frame, cursor_from, fit

from .answer import Package, PackagesAnswer
from .installed import page_of, totals_of
from .source import Source

NAMED = 8
"""Managers, or places of theirs, that one line of an answer names."""


def updates(source: Source, frame: Frame, limit: int, cursor: str) -> PackagesAnswer:
    """Packages with a newer version, security updates first; and how old the managers' knowledge is."""
    offset = cursor_from(cursor, 1)[0] if cursor else 0
    counts = source.update_totals()
    totals = totals_of({row["word"]: row["n"] for row in counts})
    security = sum(row["security"] for row in counts)
    totals = {"items": totals.pop("items"), "security": security, **totals}
    items = [_update(frame, row) for row in source.updates(limit, offset)]
    answer = page_of(source, frame, items[: fit(items)], totals, offset)
    indexes = source.indexes()
    told = {row["manager"] for row in indexes}
    silent = sorted(source.totals().keys() - told)
    if answer.found == "none" and any(one.what.endswith(":updates") for one in frame.unseen()):
        answer.found = "cannot_tell"  # a manager that has packages here was not asked, or could not answer
    answer.source = _ages(frame, indexes)
    if silent:
        shown = ", ".join(silent[:NAMED]) + (
            f" and {len(silent) - NAMED} more" if len(silent) > NAMED else ""
        )
        answer.note = f"Cannot tell for {shown}: nothing on the machine says which newer versions there are."
        if answer.found == "none" and not told & source.totals().keys():
            answer.found = "cannot_tell"
    return answer


def _update(frame: Frame, row: Any) -> Package:
    host = frame.whose(row)
    return Package(
        name=row["key"],
        version=row["version"],
        available=row["available"],
        available_from=row["available_from"],
        security=True if row["security_update"] else None,
        manager=row["manager"],
        architecture=row["architecture"],
        location=row["location"],
        hosts=[host] if host else None,
        held=True if row["held"] else None,
    )


def _ages(frame: Frame, indexes: list[Any]) -> str | None:
    """What the managers last fetched, and when; the oldest of each manager."""
    oldest: dict[str, str | None] = {}
    for row in indexes:
        if row["manager"] not in oldest or (row["refreshed_at"] or "") < (oldest[row["manager"]] or ""):
            oldest[row["manager"]] = row["refreshed_at"]
    parts = [f"{name} of {frame.show(at) or 'an unknown time'}" for name, at in sorted(oldest.items())]
    return f"the managers' own caches: {', '.join(parts[:NAMED])}" if parts else None
