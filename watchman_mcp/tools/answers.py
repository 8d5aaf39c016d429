"""The envelope of every answer, and the arguments that many tools share."""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from watchman_mcp import times
from watchman_mcp.errors import InvalidRequest
from watchman_mcp.schema import Label
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import from_text

from .coverage import coverage

Since = Annotated[
    str, Field(description="Start: 24h, 7d, today, yesterday 18:00, 2026-11-20T08:00 (host's time)")
]
Until = Annotated[str, Field(description="End, same forms")]
Limit = Annotated[int, Field(description="Rows")]
Cursor = Annotated[str, Field(description="next_cursor of the last answer")]
Host = Annotated[str, Field(description="Other host, or * for all")]

MAX_ROWS = 500
MAX_BYTES = 16_000
"""An answer is at most this long as JSON."""
SHOWN = 3
"""How many of the things that could not be looked at an answer names itself."""
WHY = 200
"""Characters that each of them may take; `doctor` has the rest."""

ALLOW = "Run Watchman as a user who may read this, or as root: `sudo watchman-mcp serve`."
ALLOW_ROOT = "Root may not either: run Watchman outside of its container, or grant that CAP_SYS_PTRACE."
FIXES = (
    ("may not be", ALLOW),
    (
        "a link made by",
        "Links that others made are not followed; move the data or run Watchman as their owner.",
    ),
    (
        "read as files",
        "Only files of this root can be read; run Watchman on the machine itself for the rest.",
    ),
    (
        "running machine",
        "Only files of this root can be read; run Watchman on the machine itself for the rest.",
    ),
    ("is false", "A setting turns it off; change it in the configuration file that `doctor` names."),
    (
        "quality_targets is empty",
        "Name hosts in quality_targets, in the configuration file that `doctor` names.",
    ),
    ("management socket", "Have OpenVPN write a status file: `status FILE 10` in its configuration."),
    ("wireguard-tools", "Install wireguard-tools."),
)
"""What a person can do, by a word of the reason; constant texts, never the reason itself."""


class Unseen(BaseModel):
    """Something that bears on the answer and could not be looked at."""

    what: str
    why: str
    fix: str | None = None


class Window(BaseModel):
    """The time that was asked about, and from when on it is covered."""

    since: str | None = None
    until: str | None = None
    covered: str | None = None


class Answer(BaseModel):
    """What every answer begins with."""

    model_config = ConfigDict(extra="forbid")

    found: Literal["yes", "none", "not_installed", "cannot_tell"]
    cut: str | None = None
    host: str = ""
    observed_at: str | None = None
    source: str | None = None
    window: Window | None = None
    matched: str | None = None
    totals: dict[str, int] | None = None
    note: str | None = None


class Tail(BaseModel):
    """What every answer ends with."""

    next_cursor: str | None = None
    unobserved: list[Unseen] | None = None
    unobserved_more: str | None = None


@dataclass(frozen=True)
class Frame:
    """The frame of one answer: which machine, which clock, and how its collectors fared."""

    store: Store
    host: str
    zone: tzinfo
    now: datetime
    runs: tuple[dict[str, Any], ...]
    several: bool = False
    """Whether the answer is about more than one machine."""

    def show(self, moment: datetime | str | None) -> str | None:
        """A moment in the host's time, with its offset."""
        if moment is None:
            return None
        return str(times.show(from_text(moment) if isinstance(moment, str) else moment, self.zone))

    def window(self, since: str, until: str, default: timedelta | None = None) -> times.Window:
        """What the person's words for a time mean here and now."""
        return times.window(since, until, now=self.now, zone=self.zone, default=default)

    @property
    def observed_at(self) -> str | None:
        """When the least fresh of the collectors behind the answer last looked."""
        looked = [run["last_at"] for run in self.runs if run["status"] in ("ok", "partial")]
        return self.show(min(looked)) if looked else None

    @property
    def blind(self) -> bool:
        """Whether none of the collectors behind the answer has looked successfully."""
        return self.observed_at is None

    def envelope(self) -> dict[str, Any]:
        """The fields of `Answer` and `Tail` that are the same for every tool."""
        unseen = self.unseen()
        more = len(unseen) - SHOWN
        return {
            "host": self.host,
            "observed_at": self.observed_at,
            "unobserved": unseen[:SHOWN] or None,
            "unobserved_more": self.more(more) if more > 0 else None,
        }

    def more(self, count: int) -> str:
        """Where the rest is told of what could not be looked at."""
        return f"{count} more; doctor lists them"

    def unseen(self) -> list[Unseen]:
        """What the collectors behind the answer could not look at."""
        # A collector whose thing is not on the machine is nothing unseen, unless there is no other.
        runs = [run for run in self.runs if run["status"] != "unavailable"] or self.runs
        return [one for run in runs for one in unseen_by(run)]

    def covered(self, since: datetime | None = None) -> str | None:
        """From when on the collectors behind the answer watch, and when in the window they did not."""
        rows = [
            row
            for run in self.runs
            for row in self.store.read(
                "SELECT collector, started_at, last_at FROM CollectorRun "
                "WHERE collector = ? AND status IN ('ok', 'partial') ORDER BY started_at",
                (run["collector"],),
            )
        ]
        return coverage(rows, since, self.show)

    def whose(self, _row: Any) -> str | None:
        """The machine of a row, where the answer is about several."""
        return None

    def matched(self, text: str | None) -> str | None:
        """What the words of the question were understood to mean."""
        return text


def unseen_by(run: dict[str, Any]) -> list[Unseen]:
    """What one collector could not look at."""
    found = []
    if run["status"] in ("failed", "stuck", "unavailable", "off"):
        why = run["error"] or run["status"]
        found.append(Unseen(what=run["collector"], why=_shortened(why, WHY), fix=fix_for(why)))
    for entry in json.loads(run["unobserved"] or "[]"):
        what, _, why = entry.partition(": ")
        found.append(Unseen(what=_shortened(what, WHY), why=_shortened(why, WHY), fix=fix_for(why)))
    return found


def fix_for(why: str) -> str | None:
    """What the person can do about it: a constant text, never the stranger's words."""
    fix = next((fix for word, fix in FIXES if word in why.lower()), None)
    return ALLOW_ROOT if fix is ALLOW and os.geteuid() == 0 else fix


def frame_of(store: Store, needs: Iterable[type[Label]] = ()) -> Frame:
    """The frame of an answer that rests on these labels."""
    rows = store.read("SELECT name, time_zone FROM Host WHERE gone_at IS NULL ORDER BY seq DESC LIMIT 1")
    host, zone_name = (rows[0]["name"], rows[0]["time_zone"]) if rows else ("", None)
    wanted = {label.__name__ for label in needs}
    newest = store.read("SELECT *, max(last_at) FROM CollectorRun GROUP BY collector")
    runs = [dict(row) for row in newest if not wanted or wanted & set(json.loads(row["looks_for"]))]
    return Frame(store, host, zone_of(zone_name), datetime.now(UTC), tuple(runs))


def zone_of(name: str | None) -> tzinfo:
    """The time zone of a name; UTC where this machine knows none of it."""
    try:
        return ZoneInfo(name or "UTC")
    except (ValueError, OSError, KeyError):
        return UTC


def clamp(limit: int) -> int:
    """A limit within what an answer can hold."""
    return max(1, min(limit, MAX_ROWS))


def cursor_to(position: Sequence[Any]) -> str:
    """An opaque cursor for a position."""
    return urlsafe_b64encode(json.dumps(list(position)).encode()).decode().rstrip("=")


def cursor_from(cursor: str, size: int) -> list[Any]:
    """The position behind a cursor, of `size` parts.

    Raises: InvalidRequest when the cursor is none of ours.
    """
    try:
        position = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except ValueError:
        position = None
    if (
        not isinstance(position, list)
        or len(position) != size
        or not all(isinstance(p, int) for p in position)
    ):
        raise InvalidRequest(
            "cursor is not one of mine; pass next_cursor of the last answer unchanged, or leave it empty"
        )
    return position


def compact(model: BaseModel) -> dict[str, Any]:
    """The null-free form of an answer, for the text and the structured content alike; its tail comes last.

    Pages are made to fit before; where a few texts of strangers alone are too long, they are shortened here.
    """
    content = model.model_dump(mode="json", exclude_none=True, by_alias=True)
    for name in Tail.model_fields:
        if name in content:
            content[name] = content.pop(name)
    for length in (1000, 300, 100, 40):
        if size(content) <= MAX_BYTES:
            break
        short = {
            name: part if name == "next_cursor" else _shortened(part, length)
            for name, part in content.items()
        }
        content = {"found": content["found"], "cut": "long texts are shortened where … stands", **short}
    return content


def _shortened(value: Any, length: int) -> Any:
    """A value in which no text is longer than that; an ellipsis tells where one was cut."""
    if isinstance(value, str):
        return value if len(value) <= length else f"{value[: length - 1]}…"
    if isinstance(value, list):
        return [_shortened(part, length) for part in value]
    return (
        {name: _shortened(part, length) for name, part in value.items()} if isinstance(value, dict) else value
    )


def size(value: Any) -> int:
    """The length of a value as JSON in an answer."""
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def _dumped(item: Any) -> Any:
    if isinstance(item, list):
        return [_dumped(part) for part in item]
    return item.model_dump(mode="json", exclude_none=True) if isinstance(item, BaseModel) else item


def fit(items: list[Any], budget: int = MAX_BYTES - 2_500) -> int:
    """How many of these items fit into an answer."""
    used = 0
    for count, item in enumerate(items):
        used += size(_dumped(item)) + 1
        if used > budget:
            return max(count, 1)
    return len(items)
