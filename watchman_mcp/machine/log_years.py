"""Times of logs that write no year, like `Jan 31 23:59:59`; the times of their files tell it."""

import re
from collections.abc import Mapping, Sequence
from datetime import MAXYEAR, UTC, datetime, timedelta, tzinfo
from pathlib import PurePath
from typing import NamedTuple

from watchman_mcp.machine.files import Files
from watchman_mcp.machine.logs import Line

STAMP = r"([A-Z][a-z]{2}) ([ \d]\d) (\d\d:\d\d:\d\d)"

_STAMPED = re.compile(f"{STAMP} ", re.ASCII)
_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_SLACK = timedelta(days=1)

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC).timestamp()

Written = Mapping[tuple[int, int], datetime]
"""When a file, by its inode and device, was last written to, in the local time of its lines."""


class LocalTimes(NamedTuple):
    """What tells the moments of lines without year and zone."""

    zone: tzinfo
    written: Written

    def moments(self, lines: Sequence[Line], before: datetime | None) -> list[datetime | None]:
        """The moment of each line, none of which is later than `before`; None for one without a time.

        The hour that is there twice when summer time ends is taken for its first one.
        """
        limit = _moved(before, self.zone)
        found = local_times(lines, self.written, limit.replace(tzinfo=None) if limit else None)
        return [_moved(one.replace(tzinfo=self.zone), UTC) if one else None for one in found]


def _moved(at: datetime | None, zone: tzinfo) -> datetime | None:
    """The same moment in another zone; None for none, and for one at the end of all years."""
    try:
        return at.astimezone(zone) if at else None
    except OverflowError:
        return None


def local_times(
    lines: Sequence[Line], written: Written, before: datetime | None = None
) -> list[datetime | None]:
    """The local time of each line, whose year is found from the end: time does not run backwards."""
    found: list[datetime | None] = []
    latest = before
    for line in reversed(lines):
        limit = min((one for one in (latest, written.get(_file(line))) if one), default=None)
        local = _latest(line.text, limit) if limit else None
        latest = local or latest
        found.append(local)
    return found[::-1]


def written_at(files: Files, path: str, zone: tzinfo) -> Written:
    """When each file beside a log was last written to, where it can be.

    Images that are to be the same whenever they are made date their files to 1970 or the like.

    Raises: Absent, Denied, Broken.
    """
    entries = files.entries(PurePath(path).parent)
    times = {
        (one.inode, one.device): datetime.fromtimestamp(one.mtime, zone)
        for one in entries
        if one.mtime > EARLIEST
    }
    return {file: at.replace(tzinfo=None) for file, at in times.items()}


def _file(line: Line) -> tuple[int, int]:
    return line.origin.inode, line.origin.device


def _latest(text: str, limit: datetime) -> datetime | None:
    """The latest moment before `limit`, or little after it, that the beginning of a line may mean."""
    found = _STAMPED.match(text)
    if found is None or found[1] not in _MONTHS:
        return None
    for year in range(min(limit.year + 1, MAXYEAR), max(limit.year - 9, 0), -1):
        try:
            at = datetime.fromisoformat(f"{year}-{_MONTHS[found[1]]:02}-{int(found[2]):02} {found[3]}")
        except ValueError:
            continue  # the 29th of February is not in every year
        if at <= limit + _SLACK:
            return at
    return None
