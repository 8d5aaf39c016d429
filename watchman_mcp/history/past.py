"""How things were: the journal undone, by sequence and never by clock."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import from_text, table, to_text


def past(
    store: Store, label: str, at: datetime, scope: str
) -> tuple[dict[str, dict[str, Any]], set[str]] | None:
    """Nodes of one label, and all edges, of a scope as the last look not after `at` saw them, if known.

    Found by undoing the journal by sequence, never by clock.
    """
    look = look_at(store, scope, at)
    if look is None:
        return None
    kept = table(label)
    rows = store.read(f'SELECT * FROM "{label}" WHERE scope = ? AND gone_at IS NULL', (scope,))
    state = {row["id"]: kept.decode(row) for row in rows}
    rows = store.read("SELECT type, start, end FROM _edges WHERE scope = ? AND gone_at IS NULL", (scope,))
    edges = {f"{row['type']} {row['start']} {row['end']}" for row in rows}
    for row in store.read(
        "SELECT id, before FROM _journal WHERE scope = ? AND seq > ? ORDER BY seq DESC", (scope, look[1])
    ):
        if " " in row["id"]:
            edges.discard(row["id"]) if row["before"] is None else edges.add(row["id"])
        elif row["before"] is None:
            state.pop(row["id"], None)
        elif row["id"].startswith(f"{label}/"):
            state[row["id"]] = kept.restore(json.loads(row["before"]))
    return state, edges


def look_at(store: Store, scope: str, at: datetime) -> tuple[datetime, int, datetime | None] | None:
    """The last look at a scope not after `at`: its time, its sequence number, the time of the next one."""
    rows = store.read(
        "SELECT number, at, seq FROM _look WHERE scope = ? AND at <= ? ORDER BY number DESC LIMIT 1",
        (scope, to_text(at)),
    )
    if not rows or rows[0]["seq"] < int(store.meta(f"journal_from {scope}", "0")):
        return None
    after = store.read(
        "SELECT at FROM _look WHERE scope = ? AND number > ? ORDER BY number LIMIT 1",
        (scope, rows[0]["number"]),
    )
    return from_text(rows[0]["at"]), rows[0]["seq"], from_text(after[0]["at"]) if after else None


def scopes_of(store: Store, label: str) -> list[str]:
    """Every scope that ever held nodes of a label and was looked at completely."""
    sql = f'SELECT DISTINCT scope FROM "{label}" WHERE scope IN (SELECT scope FROM _look)'
    return sorted(row["scope"] for row in store.read(sql))
