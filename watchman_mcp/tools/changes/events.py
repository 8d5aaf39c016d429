"""What happened, newest first, and what may have caused a symptom."""

from __future__ import annotations

import difflib
from datetime import datetime, timedelta
from typing import Any

from watchman_mcp.errors import InvalidRequest
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import to_text
from watchman_mcp.tools.answers import Frame, Window, cursor_to, fit
from watchman_mcp.tools.packages.history import changed_fields, listed

from .answer import Changed, ChangesAnswer
from .source import Source, conditions

ALERT = "alert_"
"""What the types of events about alerts begin with."""
THINGS = "SELECT end FROM _edges WHERE start = :alert AND type = 'RAISED_FOR'"
RELATED = (
    "SELECT id FROM Software WHERE key = :subject UNION "
    "SELECT e.end FROM _edges e JOIN Software s ON s.id = e.start "
    "WHERE s.key = :subject AND e.type = 'DEPENDS_ON' AND e.gone_at IS NULL UNION "
    f"{THINGS} UNION SELECT end FROM _edges WHERE start IN ({THINGS}) AND gone_at IS NULL UNION "
    f"SELECT start FROM _edges WHERE end IN ({THINGS}) AND gone_at IS NULL"
)
"""The things that a question about causes concerns: what it names, or an alert's, and their neighbours."""


def events(
    source: Source, frame: Frame, subject: str, window: Window, limit: int, offset: int
) -> ChangesAnswer:
    """Events of a stretch of time, newest first: one by one for a subject, else by transaction."""
    counts, hosts = source.types(), source.hosts()
    rows = source.one_by_one(limit, offset) if subject else source.by_run(limit, offset)
    items = [_changed(frame, row) for row in rows]
    items = items[: fit(items)]
    more = len(rows) == limit or len(items) < len(rows)
    if not items and subject:
        return _no_events(source, frame, subject, window)
    totals = {"items": sum(counts.values())} | ({} if hosts is None else {"hosts": hosts})
    return ChangesAnswer(
        found="yes" if items else "cannot_tell" if frame.blind else "none",
        cut=f"{len(items)} lines shown, more follow; narrow with kind, subject or since" if more else None,
        source="the machine's logs, and comparing looks",
        window=window,
        matched=frame.matched(None),
        totals={**totals, **counts},
        items=items,
        next_cursor=cursor_to([source.mark, offset + len(items)]) if more else None,
        **frame.envelope(),
    )


def _no_events(source: Source, frame: Frame, subject: str, window: Window) -> ChangesAnswer:
    """Nothing happened to a thing: it is known and unchanged, or nothing of that name is known."""
    known = source.names()
    if any(name.lower() == subject.lower() for name in known):
        note = f"{subject.strip()[:80]} did not change in this time"
        return ChangesAnswer(
            found="none", matched=f"exact: {subject[:80]}", note=note, window=window, **frame.envelope()
        )
    near = difflib.get_close_matches(subject, known, n=5)
    note = f"Nothing of this name is known. Nearest names: {', '.join(near) or 'none'}"
    return ChangesAnswer(
        found="cannot_tell" if frame.blind else "none", note=note, window=window, **frame.envelope()
    )


def _changed(frame: Frame, row: Any) -> Changed:
    count = row["n"]
    what = " -> ".join(v for v in (row["previous"], row["version"]) if v) or None
    subject = row["subject"]
    if count > 1:
        names = row["subjects"].split(", ")
        subject, what = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else ""), None
    elif row["type"].startswith(ALERT):
        what = "; ".join(listed(row["after"]))
    elif not row["previous"]:
        what = changed_fields(row) or what
    return Changed(
        ts=frame.show(row["ts"]) or "",
        host=frame.whose(row),
        until=frame.show(row["last_ts"]) if row["last_ts"][:19] != row["ts"][:19] else None,
        type=row["type"],
        subject=subject,
        what=what,
        by=row["by"],
        command=row["command"][:200] if row["command"] else None,
        source=row["source"],
        earliest=frame.show(row["ts_earliest"]),
        count=count if count > 1 else None,
        alert=row["transaction_id"] if row["type"].startswith(ALERT) else None,
    )


def alert_of(store: Store, text: str) -> Any:
    """The alert whose id this is; None where it is no alert's id.

    Raises: InvalidRequest for the id of an alert that is not known.
    """
    key = text.strip().rpartition("/")[2]
    if not key.startswith("alr_"):
        return None
    rows = store.read("SELECT id, subject, opened_at FROM Alert WHERE key = ?", (key,))
    if not rows:
        raise InvalidRequest("there is no alert of this id; overview and what_changed kind=alert tell theirs")
    return rows[0]


_RAISED_FOR = "SELECT end FROM _edges WHERE start = :alert AND type = 'RAISED_FOR'"
RELATED = (
    "SELECT id FROM Software WHERE key = :subject UNION "
    "SELECT e.end FROM _edges e JOIN Software s ON s.id = e.start "
    "WHERE s.key = :subject AND e.type = 'DEPENDS_ON' AND e.gone_at IS NULL UNION "
    f"{_RAISED_FOR} UNION SELECT end FROM _edges WHERE start IN ({_RAISED_FOR}) AND gone_at IS NULL UNION "
    f"SELECT start FROM _edges WHERE end IN ({_RAISED_FOR}) AND gone_at IS NULL"
)
"""What is next to the subject, or to what an alert was raised for."""


def causes(
    store: Store, frame: Frame, before: datetime, subject: str, kind: str, limit: int, alert: Any = None
) -> ChangesAnswer:
    """Changes of the day before a symptom: of the thing and of what it needs first, then the nearest.

    An alert is a symptom itself: what it was raised for counts, and what is next to that in the graph.
    """
    since = before - timedelta(hours=24)
    where, parameters = conditions("", kind)
    if kind != "alert":
        where += f" AND type NOT GLOB '{ALERT}*'"
    parameters |= {
        "since": to_text(since),
        "until": to_text(before),
        "subject": subject.strip(),
        "alert": alert["id"] if alert else "",
        "limit": limit,
    }
    sql = (
        "SELECT *, count(*) AS n, min(ts) AS ts, max(ts) AS last_ts, "
        "group_concat(subject, ', ') AS subjects, "
        f"max(acted_on IN ({RELATED})) AS near FROM (SELECT * FROM Event WHERE {where} ORDER BY ts) "
        "GROUP BY coalesce(transaction_id || coalesce(command, ''), source || substr(ts, 1, 16)), type, "
        "acted_on IN "
        f"({RELATED}) ORDER BY near DESC, last_ts DESC LIMIT :limit"
    )
    items = []
    for row in store.read(sql, parameters):
        changed = _changed(frame, row)
        lead = before - datetime.fromisoformat(row["last_ts"])
        changed.lead = f"{round(lead.total_seconds() / 60)} min before" + (
            "; concerns the subject" if row["near"] else ""
        )
        items.append(changed)
    items = items[: fit(items)]
    window = Window(since=frame.show(since), until=frame.show(before), covered=frame.covered())
    note = "Ranked by relation to the subject, then by time; being earlier does not make it the cause"
    return ChangesAnswer(
        found="yes" if items else "none",
        window=window,
        matched=f"alert: {alert['subject'][:80]}" if alert else None,
        note=note if items else None,
        items=items,
        **frame.envelope(),
    )
