"""What changed, when and by whom, and how things were at a past time."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import Field

from watchman_mcp.errors import InvalidRequest
from watchman_mcp.schema.core import Event
from watchman_mcp.schema.packages import Software
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import from_text
from watchman_mcp.tools import reads
from watchman_mcp.tools.answers import (
    Cursor,
    Frame,
    Host,
    Limit,
    Since,
    Until,
    Window,
    clamp,
    cursor_from,
    frame_of,
)
from watchman_mcp.tools.fleet import Fleet, elsewhere

from .answer import ChangesAnswer
from .events import alert_of, causes, events
from .past import net_of, state
from .source import Kind, Local, Remote, Source


@reads(title="What changed", needs=(Event, Software), always=True)
def what_changed(
    store: Store,
    since: Since = "",
    until: Until = "",
    subject: Annotated[
        str, Field(description="Name of a package or other thing; empty: all, summarised")
    ] = "",
    kind: Annotated[Kind, Field()] = "any",
    at: Annotated[str, Field(description="State at this time")] = "",
    before: Annotated[str, Field(description="Rank causes before this time or alert id")] = "",
    net: Annotated[bool, Field(description="Only the difference of since and until")] = False,
    limit: Limit = 50,
    cursor: Cursor = "",
    host: Host = "",
    fleet: Fleet | None = None,
) -> ChangesAnswer:
    """What changed and when, across everything; who did it; how it was at a past time; likely causes of a
    symptom.

    Default the last 24h. Packages only: query_packages.
    """
    far = elsewhere(store, fleet, host, (Software,))
    if far and (at or before or net):
        raise InvalidRequest(
            "at, before and net are answered on the machine itself, where the journal of changes stays: ask "
            "there, or leave them out"
        )
    frame = far or frame_of(store, (Software,))
    if at:
        return state(store, frame, _moment(frame, at), subject, clamp(limit), cursor)
    if before:
        alert = alert_of(store, before)
        moment = from_text(alert["opened_at"]) if alert else _moment(frame, before)
        return causes(store, frame, moment, subject, kind, clamp(limit), alert)
    asked = frame.window(since, until, timedelta(hours=24))
    start = asked.since or frame.now - timedelta(hours=24)
    window = Window(since=frame.show(start), until=frame.show(asked.until), covered=frame.covered(start))
    if net:
        return net_of(store, frame, start, asked.until, subject, window, clamp(limit))
    mark, offset = cursor_from(cursor, 2) if cursor else (None, 0)
    source: Source = (
        Remote(far, start, asked.until, subject, kind, mark)
        if far
        else Local(store, start, asked.until, subject, kind, mark)
    )
    return events(source, frame, subject, window, clamp(limit), offset)


def _moment(frame: Frame, text: str) -> datetime:
    moment: datetime | None = frame.window(text, "").since
    if moment is None:
        raise InvalidRequest("this needs a time: 2026-11-20T08:00, yesterday 18:00, 24h")
    return moment
