"""What an answer about changes holds."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from watchman_mcp.tools.answers import Answer, Tail


class Changed(BaseModel):
    """One event, or several alike."""

    ts: str
    host: str | None = None
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
    alert: str | None = None


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
