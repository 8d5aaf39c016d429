"""What was installed, updated and removed, by transaction."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Any

from watchman_mcp.times import Window as Asked
from watchman_mcp.tools.answers import Frame, Window, cursor_from, cursor_to

from .answer import Change, PackagesAnswer, Transaction
from .source import Source

ACTIONS = {
    "package_install": "install",
    "package_update": "update",
    "package_downgrade": "downgrade",
    "package_remove": "remove",
    "package_purge": "purge",
    "package_reinstall": "reinstall",
    "package_changed": "change",
}
ASKED = {"remove": ("package_remove", "package_purge"), "install": ("package_install", "package_reinstall")}


def history(
    source: Source, frame: Frame, action: str, asked: Asked, limit: int, cursor: str, bounded: bool
) -> PackagesAnswer:
    """Events, and the packages whose files tell of an installation that no event does."""
    mark, offset = cursor_from(cursor, 2) if cursor else [source.mark(asked.until), 0]
    types = ASKED.get(action, (f"package_{action}",)) if action != "any" else tuple(ACTIONS)
    totals = _history_totals(source, types, asked, mark)
    rows = source.told(types, asked, mark, limit, offset)
    transactions, shown = _group(frame, rows)
    total, end = totals["items"], offset + shown
    note = None
    if not rows and source.exact and not bounded and not frame.several:
        note = _never(source, frame, action)
    return PackagesAnswer(
        found="yes" if rows else "cannot_tell" if frame.blind else "none",
        cut=f"{shown} of {total} changes; narrow with name, manager, action or since"
        if end < total
        else None,
        matched=frame.matched(source.matched),
        source="package logs and databases",
        window=Window(
            since=frame.show(asked.since),
            until=frame.show(asked.until),
            covered=_covered(source, frame, asked.since),
        ),
        totals=totals,
        note=note,
        items=transactions,
        next_cursor=cursor_to([mark, end]) if end < total else None,
        **frame.envelope(),
    )


def _history_totals(source: Source, types: tuple[str, ...], asked: Asked, mark: int) -> dict[str, int]:
    """How many changes there were of each action and of each manager, and on how many machines."""
    actions, managers = Counter[str](), Counter[str]()
    for row in source.changes(types, asked, mark):
        actions[ACTIONS.get(row["type"], row["type"])] += row["n"]
        managers[row["manager"] or "other"] += row["n"]
    machines = source.machines_changed(types, asked, mark)
    totals = {"items": actions.total()} | ({} if machines is None else {"hosts": machines})
    return {**totals, **dict(sorted(actions.items())), **dict(sorted(managers.items()))}


def _group(frame: Frame, rows: list[Any]) -> tuple[list[Transaction], int]:
    """Rows, newest first, as transactions; and how many rows fitted into the answer."""
    groups: dict[tuple[str | None, ...], Transaction] = {}
    budget, used, shown = 12_500, 0, 0
    for row in rows:
        # Two runs of apt may begin in one second, and then share what their transaction is called by.
        shared = (row["source"], row["manager"], row["ts"][:16], row["location"])
        run = (row["transaction_id"], row["command"]) if row["transaction_id"] else shared
        host = frame.whose(row)
        key = (host, *run)
        change = _change(row)
        used += len(change.model_dump_json(exclude_none=True)) + 1
        if key not in groups:
            groups[key] = Transaction(
                ts=frame.show(row["ts"]) or "",
                host=host,
                manager=row["manager"],
                source=row["source"] if row["source"] != row["manager"] else None,
                command=_short(row["command"], 160),
                by=row["by"],
                location=row["location"],
                earliest=frame.show(row["ts_earliest"]),
                error=_short(row["error"], 160),
                changes=[],
            )
            used += 320
        if used > budget and shown:
            if not groups[key].changes:
                del groups[key]
            break
        groups[key].changes.append(change)
        shown += 1
    return list(groups.values()), shown


def _change(row: Any) -> Change:
    return Change(
        action=ACTIONS.get(row["type"], row["type"]),
        name=row["key"],
        version=row["version"],
        previous=row["previous"],
        what=changed_fields(row) if row["type"] == "package_changed" else None,
    )


def listed(kept: Any) -> list[Any]:
    """A list of an event, which the local store keeps as JSON and Neo4j as a list."""
    return list(json.loads(kept) if isinstance(kept, str) else kept or [])


def changed_fields(event: Any) -> str | None:
    """The properties that an event tells to have changed, with their values before and after."""
    fields, before, after = (listed(event[side]) for side in ("fields", "before", "after"))
    changed = [f"{f} {b or 'none'} -> {a or 'none'}" for f, b, a in zip(fields, before, after, strict=False)]
    return _short("; ".join(changed), 200) or None


def _short(text: str | None, length: int) -> str | None:
    return text if text is None or len(text) <= length else f"{text[:length]}…"


def _never(source: Source, frame: Frame, action: str) -> str | None:
    """What to say of a package that is there and to which the action never happened."""
    rows = source.there(1, 0)
    if not rows:
        return None
    when = frame.show(rows[0]["installed_at"])
    return f"{rows[0]['key']} is installed (since {when or 'an unknown time'}); no {action} is known"


def _covered(source: Source, frame: Frame, since: datetime | None) -> str | None:
    """How far back the logs reach, and since when everything is watched."""
    oldest = source.logs_since()
    logs = f"package logs since {frame.show(oldest)}; " if oldest else ""
    watched = frame.covered(since)
    return f"{logs}{watched}" if watched else logs.rstrip("; ") or None
