"""What was installed, updated and removed, by transaction."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from typing import Any

from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import to_text
from watchman_mcp.times import Window as Asked
from watchman_mcp.tools.answers import Frame, Window, cursor_from, cursor_to

from .answer import Change, PackagesAnswer, Transaction
from .choosing import Filter

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
CAME = ("package_install", "package_update", "package_downgrade", "package_reinstall")
Columns = dict[str, tuple[str, str]]
"""Columns of a history by name: what they are of an event, and of a package that only its files date."""
_KIND: Columns = {"type": ("type", "'package_install'"), "manager": ("manager", "manager")}
COUNTED: Columns = {**_KIND, "n": ("count(*)", "count(*)")}
_RUN = "'files:' || manager || ':' || coalesce(location, '') || ':' || substr(installed_at, 1, 16)"
TOLD: Columns = {
    "ts": ("ts", "installed_at"),
    "key": ("subject", "key"),
    "transaction_id": ("transaction_id", _RUN),
    "source": ("source", "'files'"),
    **{name: (name, name) for name in ("version", "location", "seq")},
    **{
        name: (name, "NULL")
        for name in ("previous", "command", "by", "error", "ts_earliest", "fields", "before", "after")
    },
    **_KIND,
}


def history(
    store: Store,
    frame: Frame,
    chosen: Filter,
    action: str,
    asked: Asked,
    limit: int,
    cursor: str,
    bounded: bool,
) -> PackagesAnswer:
    """Events, and the packages whose files tell of an installation that no event does."""
    newest = store.read("SELECT max(seq) AS n FROM Event")[0]["n"] or 0
    position = cursor_from(cursor, 2) if cursor else [newest, 0]
    types = ASKED.get(action, (f"package_{action}",)) if action != "any" else tuple(ACTIONS)
    more: dict[str, Any] = {
        "since": to_text(asked.since) if asked.since else "",
        "until": to_text(asked.until),
        "seq": position[0],
    }
    more |= {"limit": limit, "offset": position[1], "end": position[1] + limit}
    totals = _history_totals(
        store, _history_sql(chosen, types, COUNTED, "GROUP BY 2, 1"), {**chosen.parameters, **more}
    )
    newest_first = "ORDER BY ts DESC, seq DESC LIMIT"
    source = _history_sql(chosen, types, TOLD, f"{newest_first} :end")
    sql = f"SELECT * FROM ({source}) {newest_first} :limit OFFSET :offset"
    rows = store.read(sql, {**chosen.parameters, **more})
    transactions, shown = _group(frame, rows)
    total, end = totals["items"], position[1] + shown
    note = None
    if not rows and chosen.exact and not bounded:
        note = _never(store, frame, chosen, action)
    return PackagesAnswer(
        found="yes" if rows else "cannot_tell" if frame.blind else "none",
        cut=f"{shown} of {total} changes; narrow with name, manager, action or since"
        if end < total
        else None,
        matched=chosen.matched,
        source="package logs and databases",
        window=Window(
            since=frame.show(asked.since),
            until=frame.show(asked.until),
            covered=_covered(store, frame, asked.since),
        ),
        totals=totals,
        note=note,
        items=transactions,
        next_cursor=cursor_to([position[0], end]) if end < total else None,
        **frame.envelope(),
    )


def _history_totals(store: Store, source: str, parameters: dict[str, Any]) -> dict[str, int]:
    """How many changes there were of each action, and of each manager."""
    rows = store.read(source, parameters)
    actions, managers = Counter[str](), Counter[str]()
    for row in rows:
        actions[ACTIONS.get(row["type"], row["type"])] += row["n"]
        managers[row["manager"] or "other"] += row["n"]
    return {"items": actions.total(), **dict(sorted(actions.items())), **dict(sorted(managers.items()))}


def _history_sql(chosen: Filter, types: tuple[str, ...], columns: Columns, each: str = "") -> str:
    """Events, and packages dated by their files, which counts only where no event tells how they came.

    `each` groups or bounds both parts alike, so that no more of either is read than a page can show.
    """
    kinds = ", ".join(f"'{one}'" for one in types)
    came = ", ".join(f"'{one}'" for one in CAME)
    of_event, of_files = (", ".join(f"{pair[n]} AS {c}" for c, pair in columns.items()) for n in (0, 1))
    parts = [
        f"SELECT {of_event} FROM Event WHERE type IN ({kinds}) AND ts >= :since AND ts <= :until "
        f"AND seq <= :seq AND {chosen.where('subject')} {each}"
    ]
    if "package_install" in types:
        parts.append(
            f"SELECT {of_files} FROM Software WHERE gone_at IS NULL AND installed_at >= :since AND "
            f"installed_at <= :until AND {chosen.where()} AND NOT EXISTS "
            f"(SELECT 1 FROM Event e WHERE e.acted_on = Software.id AND e.type IN ({came})) {each}"
        )
    return " UNION ALL ".join(f"SELECT * FROM ({part})" for part in parts)


def _group(frame: Frame, rows: list[Any]) -> tuple[list[Transaction], int]:
    """Rows, newest first, as transactions; and how many rows fitted into the answer."""
    groups: dict[tuple[str | None, ...], Transaction] = {}
    budget, used, shown = 12_500, 0, 0
    for row in rows:
        # Two runs of apt may begin in one second, and then share what their transaction is called by.
        shared = (row["source"], row["manager"], row["ts"][:16], row["location"])
        key = (row["transaction_id"], row["command"]) if row["transaction_id"] else shared
        change = _change(row)
        used += len(change.model_dump_json(exclude_none=True)) + 1
        if key not in groups:
            groups[key] = Transaction(
                ts=frame.show(row["ts"]) or "",
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


def changed_fields(event: Any) -> str | None:
    """The properties that an event tells to have changed, with their values before and after."""
    fields, before, after = (json.loads(event[side] or "[]") for side in ("fields", "before", "after"))
    changed = [f"{f} {b or 'none'} -> {a or 'none'}" for f, b, a in zip(fields, before, after, strict=False)]
    return _short("; ".join(changed), 200) or None


def _short(text: str | None, length: int) -> str | None:
    return text if text is None or len(text) <= length else f"{text[:length]}…"


def _never(store: Store, frame: Frame, chosen: Filter, action: str) -> str | None:
    """What to say of a package that is there and to which the action never happened."""
    sql = f'SELECT key, installed_at FROM "Software" WHERE {chosen.where()} AND gone_at IS NULL LIMIT 1'
    rows = store.read(sql, chosen.parameters)
    if not rows:
        return None
    when = frame.show(rows[0]["installed_at"])
    return f"{rows[0]['key']} is installed (since {when or 'an unknown time'}); no {action} is known"


def _covered(store: Store, frame: Frame, since: datetime | None) -> str | None:
    """How far back the logs reach, and since when everything is watched."""
    oldest = store.read(
        "SELECT ts FROM Event WHERE type GLOB 'package_*' AND source <> 'observed' ORDER BY ts LIMIT 1"
    )
    logs = f"package logs since {frame.show(oldest[0]['ts'])}; " if oldest else ""
    watched = frame.covered(since)
    return f"{logs}{watched}" if watched else logs.rstrip("; ") or None
