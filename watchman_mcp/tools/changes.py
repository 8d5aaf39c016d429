"""What changed, when and by whom, and how things were at a past time."""

from __future__ import annotations

import difflib
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from watchman_mcp import history
from watchman_mcp.errors import InvalidRequest
from watchman_mcp.schema import LABELS
from watchman_mcp.schema.core import Event
from watchman_mcp.schema.packages import Software
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import nodes, to_text

from . import reads
from .answers import (
    Answer,
    Cursor,
    Frame,
    Limit,
    Since,
    Tail,
    Until,
    Window,
    clamp,
    cursor_from,
    cursor_to,
    fit,
    frame_of,
)
from .packages import changed_fields

KINDS: dict[str, str] = {"any": "*", "package": "package_*", "host": "host_*"}
NAMES = {"Software": "key", "Host": "name"}
"""The property by which a person names a node of a label."""


class Changed(BaseModel):
    """One event, or several alike."""

    ts: str
    type: str
    subject: str | None = None
    what: str | None = None
    by: str | None = None
    command: str | None = None
    source: str | None = None
    earliest: str | None = None
    count: int | None = None
    until: str | None = None
    lead: str | None = None


class State(BaseModel):
    """A thing as it was at a time."""

    label: str
    name: str
    values: dict[str, Any]
    depends_on: list[str] | None = None
    seen_at: str | None = None
    next_look: str | None = None


class Difference(BaseModel):
    """What is different between two times."""

    name: str
    was: str | None = None
    is_: str | None = Field(default=None, serialization_alias="is")


class ChangesAnswer(Answer, Tail):
    """Events, newest first; or states; or differences."""

    items: list[Changed | State | Difference] = []


@reads(title="What changed", needs=(Event, Software), always=True)
def what_changed(
    store: Store,
    since: Since = "",
    until: Until = "",
    subject: Annotated[
        str, Field(description="Name of a package or other thing; empty: all, summarised")
    ] = "",
    kind: Annotated[Literal["any", "package", "host"], Field()] = "any",
    at: Annotated[str, Field(description="State at this time")] = "",
    before: Annotated[str, Field(description="Rank causes before this time")] = "",
    net: Annotated[bool, Field(description="Only the difference of since and until")] = False,
    limit: Limit = 50,
    cursor: Cursor = "",
) -> ChangesAnswer:
    """What changed and when, across everything; who did it; how it was at a past time; likely causes of a symptom.

    Default the last 24h. Packages only: query_packages.
    """
    frame = frame_of(store, (Software,))
    if at:
        return _state(store, frame, _moment(frame, at), subject, clamp(limit), cursor)
    if before:
        return _causes(store, frame, _moment(frame, before), subject, kind, clamp(limit))
    asked = frame.window(since, until, timedelta(hours=24))
    start = asked.since or frame.now - timedelta(hours=24)
    window = Window(since=frame.show(start), until=frame.show(asked.until), covered=frame.covered(start))
    if net:
        return _net(store, frame, start, asked.until, subject, window, clamp(limit))
    return _events(store, frame, start, asked.until, subject, kind, window, clamp(limit), cursor)


def _moment(frame: Frame, text: str) -> datetime:
    moment: datetime | None = frame.window(text, "").since
    if moment is None:
        raise InvalidRequest("this needs a time: 2026-11-20T08:00, yesterday 18:00, 24h")
    return moment


def _conditions(subject: str, kind: str) -> tuple[str, dict[str, Any]]:
    conditions, parameters = ["ts >= :since", "ts <= :until"], {}
    if kind != "any":
        conditions.append("type GLOB :kind")
        parameters["kind"] = KINDS[kind]
    if subject:
        conditions.append(
            "subject = :subject COLLATE NOCASE" if not set(subject) & set("*?[") else "subject GLOB :subject"
        )
        parameters["subject"] = subject.strip()
    return " AND ".join(conditions), parameters


def _events(
    store: Store,
    frame: Frame,
    since: datetime,
    until: datetime,
    subject: str,
    kind: str,
    window: Window,
    limit: int,
    cursor: str,
) -> ChangesAnswer:
    where, parameters = _conditions(subject, kind)
    parameters |= {"since": to_text(since), "until": to_text(until)}
    newest = store.read("SELECT max(seq) AS n FROM Event")[0]["n"] or 0
    position = cursor_from(cursor, 2) if cursor else [newest, 0]
    parameters |= {"seq": position[0], "limit": limit, "offset": position[1]}
    counts = store.read(
        f"SELECT type, count(*) AS n FROM Event WHERE {where} AND seq <= :seq GROUP BY 1 ORDER BY 2 DESC",
        parameters,
    )
    total = sum(row["n"] for row in counts)
    if subject:
        sql = f"SELECT *, 1 AS n, ts AS last_ts FROM Event WHERE {where} AND seq <= :seq ORDER BY ts DESC, seq DESC LIMIT :limit OFFSET :offset"
    else:
        # Grouped by what a group needs alone; the rest is read for the lines of this page only.
        sql = (
            "SELECT g.n, g.ts, g.last_ts, g.subjects, e.* FROM (SELECT min(seq) AS first, count(*) AS n, "
            "min(ts) AS ts, max(ts) AS last_ts, group_concat(subject, ', ') AS subjects FROM ("
            "SELECT seq, ts, type, subject, coalesce(transaction_id || coalesce(command, ''), "
            "source || substr(ts, 1, 16) || coalesce(location, '')) AS run "
            f"FROM Event WHERE {where} AND seq <= :seq ORDER BY ts, subject) GROUP BY run, type "
            "ORDER BY last_ts DESC LIMIT :limit OFFSET :offset) g JOIN Event e ON e.seq = g.first "
            "ORDER BY g.last_ts DESC"
        )
    rows = store.read(sql, parameters)
    items = [_changed(frame, row) for row in rows]
    items = items[: fit(items)]
    more = len(rows) == limit or len(items) < len(rows)
    if not items and subject:
        return _no_events(store, frame, subject, window)
    return ChangesAnswer(
        found="yes" if items else "cannot_tell" if frame.blind else "none",
        cut=f"{len(items)} lines shown, more follow; narrow with kind, subject or since" if more else None,
        source="the machine's logs, and comparing looks",
        window=window,
        totals={"items": total, **{row["type"]: row["n"] for row in counts}},
        items=items,
        next_cursor=cursor_to([position[0], position[1] + len(items)]) if more else None,
        **frame.envelope(),
    )


def _no_events(store: Store, frame: Frame, subject: str, window: Window) -> ChangesAnswer:
    """Nothing happened to a thing: it is known and unchanged, or nothing of that name is known."""
    known = [name for name in _known_names(store) if name]
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


def _known_names(store: Store) -> set[str]:
    return {
        row["subject"]
        for row in store.read(
            "SELECT DISTINCT subject FROM Event UNION SELECT key FROM Software UNION SELECT name FROM Host"
        )
    }


def _changed(frame: Frame, row: Any) -> Changed:
    count = row["n"]
    what = " -> ".join(v for v in (row["previous"], row["version"]) if v) or None
    subject = row["subject"]
    if count > 1:
        names = row["subjects"].split(", ")
        subject, what = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else ""), None
    elif not row["previous"]:
        what = changed_fields(row) or what
    return Changed(
        ts=frame.show(row["ts"]) or "",
        until=frame.show(row["last_ts"]) if row["last_ts"][:19] != row["ts"][:19] else None,
        type=row["type"],
        subject=subject,
        what=what,
        by=row["by"],
        command=row["command"][:200] if row["command"] else None,
        source=row["source"],
        earliest=frame.show(row["ts_earliest"]),
        count=count if count > 1 else None,
    )


def _causes(
    store: Store, frame: Frame, before: datetime, subject: str, kind: str, limit: int
) -> ChangesAnswer:
    """Changes of the day before a symptom: those of the thing itself and of what it needs first, then the nearest in time."""
    since = before - timedelta(hours=24)
    where, parameters = _conditions("", kind)
    parameters |= {
        "since": to_text(since),
        "until": to_text(before),
        "subject": subject.strip(),
        "limit": limit,
    }
    related = (
        "SELECT id FROM Software WHERE key = :subject UNION SELECT e.end FROM _edges e JOIN Software s ON s.id = e.start "
        "WHERE s.key = :subject AND e.type = 'DEPENDS_ON' AND e.gone_at IS NULL"
    )
    sql = (
        "SELECT *, count(*) AS n, min(ts) AS ts, max(ts) AS last_ts, group_concat(subject, ', ') AS subjects, "
        f"max(acted_on IN ({related})) AS near FROM (SELECT * FROM Event WHERE {where} ORDER BY ts) "
        "GROUP BY coalesce(transaction_id || coalesce(command, ''), source || substr(ts, 1, 16)), type, acted_on IN "
        f"({related}) ORDER BY near DESC, last_ts DESC LIMIT :limit"
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
    note = "Ranked by relation to the subject, then by nearness in time; being earlier does not make it the cause"
    return ChangesAnswer(
        found="yes" if items else "none",
        window=window,
        note=note if items else None,
        items=items,
        **frame.envelope(),
    )


def _named(subject: str) -> list[tuple[str, str]]:
    """Which labels a subject may name, and by which property."""
    return [(kept.name, NAMES[kept.name]) for kept in nodes() if kept.name in NAMES]


def _state(store: Store, frame: Frame, at: datetime, subject: str, limit: int, cursor: str) -> ChangesAnswer:
    """Things as the last look not after a time saw them."""
    offset = cursor_from(cursor, 1)[0] if cursor else 0
    items: list[State] = []
    known = False
    wanted = subject.strip().lower()
    for label, name in _named(subject):
        for scope in history.scopes_of(store, label):
            past = history.past(store, label, at, scope)
            if past is None:
                continue
            known = True
            items += _states(store, frame, past, label, name, scope, at, wanted)
    items.sort(key=lambda item: (item.label, item.name, item.values.get("manager") or ""))
    window = Window(until=frame.show(at), covered=frame.covered())
    if not known:
        note = "Not known: the first look was later than this, or the journal no longer reaches back to it"
        return ChangesAnswer(found="cannot_tell", note=note, window=window, **frame.envelope())
    total, page = len(items), items[offset : offset + limit]
    page = page[: fit(page)]
    end = offset + len(page)
    return ChangesAnswer(
        found="yes" if page else "not_installed" if wanted else "none",
        cut=f"{len(page)} of {total}; narrow with subject" if end < total else None,
        source="the journal of changes",
        window=window,
        totals={"items": total},
        items=page,
        next_cursor=cursor_to([end]) if end < total else None,
        **frame.envelope(),
    )


def _states(
    store: Store,
    frame: Frame,
    past: tuple[dict[str, dict[str, Any]], set[str]],
    label: str,
    name: str,
    scope: str,
    at: datetime,
    wanted: str,
) -> list[State]:
    """The states of one scope, in full for a named thing, else name, version and manager."""
    state, edges = past
    look = history.look_at(store, scope, at)
    found = []
    for node, values in state.items():
        if wanted and str(values[name]).lower() != wanted:
            continue
        short = {
            k: v
            for k, v in values.items()
            if v is not None and (wanted or k in ("version", "manager", "architecture"))
        }
        ends = sorted(e.split(" ")[2] for e in edges if e.startswith(f"DEPENDS_ON {node} ")) if wanted else []
        found.append(
            State(
                label=label,
                name=str(values[name]),
                values={k: frame.show(v) if isinstance(v, datetime) else v for k, v in short.items()},
                depends_on=[state[end][name] for end in ends if end in state] or None,
                seen_at=frame.show(look[0]) if look and wanted else None,
                next_look=frame.show(look[2]) if look and wanted else None,
            )
        )
    return found


def _net(
    store: Store, frame: Frame, since: datetime, until: datetime, subject: str, window: Window, limit: int
) -> ChangesAnswer:
    """The difference between two times, without what came and went between them."""
    items: list[Difference] = []
    known = False
    for label, name in _named(subject):
        for scope in history.scopes_of(store, label):
            old, new = (history.past(store, label, moment, scope) for moment in (since, until))
            if old is None or new is None:
                continue
            known = True
            items += _differences(label, name, old[0], new[0], subject.strip().lower())
    items.sort(key=lambda item: item.name)
    page = items[: min(limit, fit(items))]
    if not known:
        note = "Not known: nothing was watched at the beginning of this time; without net, logs may tell"
        return ChangesAnswer(found="cannot_tell", note=note, window=window, **frame.envelope())
    return ChangesAnswer(
        found="yes" if items else "none",
        cut=f"{len(page)} of {len(items)}; narrow with subject" if len(page) < len(items) else None,
        window=window,
        totals={"items": len(items)},
        items=page,
        **frame.envelope(),
    )


def _differences(
    label: str, name: str, old: dict[str, Any], new: dict[str, Any], wanted: str
) -> list[Difference]:
    found = []
    watched = LABELS[label].model_fields.keys() - LABELS[label].volatile
    for node in old.keys() | new.keys():
        was, now = old.get(node), new.get(node)
        title = str((now or was or {})[name])
        if wanted and title.lower() != wanted:
            continue
        sides = [_side(label, side, was, now, watched) for side in (was, now)]
        if sides[0] != sides[1]:
            found.append(Difference(name=title, was=sides[0], is_=sides[1]))
    return found


def _side(label: str, side: dict[str, Any] | None, was: Any, now: Any, watched: set[str]) -> str:
    """One side of a difference: the version, or the properties that differ."""
    if side is None:
        return "not there"
    if was is None or now is None:
        return str(side.get("version") or "there")
    return ", ".join(f"{k} {side[k]}" for k in sorted(watched) if was[k] != now[k])
