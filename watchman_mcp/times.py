"""What people type for a time, read strictly, and how answers show one."""

import calendar
import io
import os
import re
import stat
import struct
import time as clocks
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from watchman_mcp.errors import InvalidRequest

ACCEPTED = (
    "2026-11-20, 2026-11, 2026-11-20T08:00+01:00, 24h, 7d, 1h30m ago, last 2 weeks, 1 month ago, now, today, "
    "yesterday 18:00, monday 08:00, last monday, 14:30, noon, midnight, this week, last month, 1763622000"
)
_LONGEST = 60
_ZONE_FILE_BYTES = 65_536
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_DAY_NUMBER = {name[:size]: n for n, name in enumerate(_DAYS) for size in (3, len(name))}
_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3_600),
    **dict.fromkeys(("d", "day", "days"), 86_400),
    **dict.fromkeys(("w", "week", "weeks"), 604_800),
}
_MONTHS = {
    **dict.fromkeys(("mo", "month", "months"), 1),
    **dict.fromkeys(("y", "yr", "year", "years"), 12),
}
_UNITS = "|".join(sorted([*_SECONDS, *_MONTHS], key=len, reverse=True))
_CLOCKS = {"noon": time(12), "midnight": time(0)}
_CLOCK = r"(?:at )?(?P<clock>\d{1,2}:\d\d(?::\d\d)?|noon|midnight)"
_DAY = rf"(?P<last>last )?(?P<day>today|yesterday|{'|'.join(_DAY_NUMBER)})?"
_SPOKEN = re.compile(rf"{_DAY}(?:(?:^| ){_CLOCK})?", re.ASCII)
_OFFSET = r" ?(?P<offset>z|[+-]\d\d(?::?\d\d)?)?"
_ISO = re.compile(
    rf"\d{{4}}-\d\d(?P<day>-\d\d(?P<time>[t ]\d\d:\d\d(?::\d\d(?:[.,]\d{{1,9}})?)?{_OFFSET})?)?", re.ASCII
)
_PERIOD = re.compile(r"(this|last) (week|month|year)")
_ELAPSED = re.compile(
    rf"(?P<last>(?:last|past) )?(?P<parts>(?:\d{{1,6}} ?(?:{_UNITS}) ?)+|(?:{_UNITS}))(?: ?ago)?", re.ASCII
)
_PART = re.compile(rf"(\d*) ?({_UNITS})")


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of time in UTC; `until` is exclusive, `since` is None when it has no beginning."""

    since: datetime | None
    until: datetime


@dataclass(frozen=True, slots=True)
class _Reading:
    """What a text means: a point, or a span whose end is exclusive."""

    first: datetime
    last: datetime
    every: int = 0  # days after which the same words would mean the next one
    whole: bool = False  # the words name a closed period of their own, such as last week


def parse_time(text: str, *, now: datetime, zone: tzinfo, end: bool = False) -> datetime:
    """The moment in UTC that a text means; of a span its start, or with `end` the moment it is over.

    Raises:
        InvalidRequest: the text is none of the accepted forms, which the message lists.
    """
    reading = _read(text, now, zone)
    return _utc(reading.last if end else reading.first, later=end)


def window(since: str, until: str, *, now: datetime, zone: tzinfo, default: timedelta | None) -> Window:
    """The stretch that two texts mean; empty ones mean `default` back from the end, and now.

    Raises:
        InvalidRequest: a text is none of the accepted forms, since is in the future or after until.
    """
    now = now.astimezone(UTC)
    start = _read(since, now, zone) if since.strip() else None
    first = _utc(start.first) if start else None
    if first and first > now:
        raise InvalidRequest(f"since={_quote(since)} is in the future; it is {show(now, zone)} now")
    last = now
    if until.strip():
        stop = _read(until, now, zone)
        last = _utc(stop.last, later=True)
        if first and first > last and stop.every:
            last = _utc(stop.last + timedelta(days=stop.every), later=True)
    elif start and start.whole:
        last = _utc(start.last, later=True)
    last = min(last, now)
    if first and first > last:
        raise InvalidRequest(
            f"since ({show(first, zone)}) is after until ({show(last, zone)}); exchange them or drop until"
        )
    return Window(first or (last - default if default else None), last)


def show(moment: datetime, zone: tzinfo) -> str:
    """The moment as an answer writes it: ISO 8601 to the second, with the zone's offset."""
    return moment.astimezone(zone).isoformat(timespec="seconds")


def host_zone(files_root: Path) -> tzinfo:
    """The zone that /etc/localtime below the root names or holds; UTC when it does neither.

    The link's text is used, never followed: in a mounted image it may lead anywhere.
    """
    try:
        link = os.fsdecode(_below(files_root, ("etc", "localtime"), link=True))
    except OSError:
        return _zone_file(files_root, ("etc", "localtime")) or UTC
    named = re.search(r"zoneinfo/((?:[A-Za-z0-9_+-]+/)*[A-Za-z0-9_+-]+)\Z", link)
    if not named:
        return UTC
    try:
        return ZoneInfo(named[1])
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return _zone_file(files_root, ("usr", "share", "zoneinfo", *named[1].split("/"))) or UTC


def _read(text: str, now: datetime, zone: tzinfo) -> _Reading:
    words = " ".join(text.split()).lower()
    readers: tuple[Callable[[str, datetime], _Reading | None], ...] = (
        _iso,
        _epoch,
        _period,
        _elapsed,
        _spoken,
    )
    # In capitals the same letter means months elsewhere, so it is not guessed.
    if 0 < len(words) <= _LONGEST and not re.search(r"\dM\b", text):
        try:
            for reader in readers:
                if reading := reader(words, now.astimezone(zone)):
                    _utc(reading.first), _utc(reading.last)
                    return reading
        except (ValueError, OverflowError) as error:
            raise InvalidRequest(f"{_quote(text)} is no such time ({error}); accepted: {ACCEPTED}") from error
    raise InvalidRequest(f"{_quote(text)} is not a time; accepted: {ACCEPTED}")


def _quote(text: str) -> str:
    return ascii(text[:_LONGEST])


def _utc(moment: datetime, *, later: bool = False) -> datetime:
    """One instant for a wall clock time; where the clock shows it twice, the first or the later one.

    A time that the clock skips is as long after the jump as it would have been without it.
    """
    first = moment.replace(fold=0).astimezone(UTC)
    return max(first, moment.replace(fold=1).astimezone(UTC)) if later else first


def _midnight(day: date, here: datetime) -> datetime:
    return datetime.combine(day, time(0), here.tzinfo)


def _iso(words: str, here: datetime) -> _Reading | None:
    found = _ISO.fullmatch(words)
    if not found:
        return None
    if not found["day"]:
        first = date.fromisoformat(f"{words}-01")
        return _Reading(_midnight(first, here), _midnight(_next_month(first), here))
    if not found["time"]:
        first = date.fromisoformat(words)
        return _Reading(_midnight(first, here), _midnight(first + timedelta(days=1), here))
    moment = datetime.fromisoformat(re.sub(r" (?=[z+-])", "", words).upper())
    moment = moment if found["offset"] else moment.replace(tzinfo=here.tzinfo)
    return _Reading(moment, moment)


def _epoch(words: str, _here: datetime) -> _Reading | None:
    if not re.fullmatch(r"\d{10}(?:\.\d{1,9})?", words, re.ASCII):
        return None
    moment = datetime.fromtimestamp(float(words), UTC)
    return _Reading(moment, moment)


def _period(words: str, here: datetime) -> _Reading | None:
    found = _PERIOD.fullmatch(words)
    if not found:
        return None
    today = here.date()
    if found[2] == "week":
        starts = [today - timedelta(days=today.weekday() + back) for back in (7, 0, -7)]
    elif found[2] == "month":
        start = today.replace(day=1)
        starts = [(start - timedelta(days=1)).replace(day=1), start, _next_month(start)]
    else:
        starts = [date(today.year + step, 1, 1) for step in (-1, 0, 1)]
    at = 0 if found[1] == "last" else 1
    return _Reading(_midnight(starts[at], here), _midnight(starts[at + 1], here), whole=not at)


def _elapsed(words: str, here: datetime) -> _Reading | None:
    """So much time before now; days have 24 hours, months are the calendar's."""
    found = _ELAPSED.fullmatch(words)
    if words == "now":
        found_parts: list[tuple[str, str]] = []
    elif found and (found["last"] or found["parts"][0].isdigit()):
        found_parts = _PART.findall(found["parts"])
    else:
        return None
    months = sum(int(count or 1) * _MONTHS.get(unit, 0) for count, unit in found_parts)
    seconds = sum(int(count or 1) * _SECONDS.get(unit, 0) for count, unit in found_parts)
    moment = here.astimezone(UTC)
    if months:
        year, month = divmod(here.year * 12 + here.month - 1 - months, 12)
        day = min(here.day, calendar.monthrange(year, month + 1)[1])
        moment = here.replace(year=year, month=month + 1, day=day).astimezone(UTC)
    moment -= timedelta(seconds=seconds)
    return _Reading(moment, moment)


def _spoken(words: str, here: datetime) -> _Reading | None:
    """A day by name, a time of day, or both: the latest that is not after now."""
    found = _SPOKEN.fullmatch(words)
    if not found or (found["last"] and found["day"] not in _DAY_NUMBER):
        return None
    word, clock = found["day"], found["clock"]
    every, back = 0, 0
    if word in _DAY_NUMBER:
        back = (here.weekday() - _DAY_NUMBER[word]) % 7
        every = 0 if found["last"] else 7
        back = 7 if found["last"] and not back else back
    elif word == "yesterday":
        back = 1
    elif not word:
        every = 1
    day = here.date() - timedelta(days=back)
    if not clock:
        return _Reading(
            _midnight(day, here), _midnight(day + timedelta(days=1), here), every, word == "yesterday"
        )
    exact = (
        _CLOCKS[clock] if clock in _CLOCKS else time.fromisoformat(clock if clock[2] == ":" else f"0{clock}")
    )
    moment = datetime.combine(day, exact, here.tzinfo)
    if every and _utc(moment) > here.astimezone(UTC):
        moment -= timedelta(days=every)
    return _Reading(moment, moment, every)


def _next_month(first: date) -> date:
    return (first + timedelta(days=32)).replace(day=1)


def _below(root: Path, parts: tuple[str, ...], *, link: bool = False) -> bytes:
    """The bytes of a small regular file, or the text of a link; no link below the root is followed."""
    held = [os.open(root, os.O_RDONLY | os.O_DIRECTORY)]
    try:
        for part in parts[:-1]:
            held.append(os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=held[-1]))
        if link:
            return os.fsencode(os.readlink(parts[-1], dir_fd=held[-1]))
        held.append(os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=held[-1]))
        return os.read(held[-1], _ZONE_FILE_BYTES) if stat.S_ISREG(os.fstat(held[-1]).st_mode) else b""
    finally:
        for descriptor in held:
            os.close(descriptor)


def _zone_file(root: Path, parts: tuple[str, ...]) -> tzinfo | None:
    try:
        return ZoneInfo.from_file(io.BytesIO(_below(root, parts)))
    # What the standard library's reader raises on a damaged file is not documented; these were seen.
    except (OSError, ValueError, LookupError, TypeError, OverflowError, EOFError, struct.error):
        return None


def steady_clock() -> float:
    """Seconds of a clock that does not stop while the machine sleeps and never goes back."""
    return clocks.clock_gettime(getattr(clocks, "CLOCK_BOOTTIME", clocks.CLOCK_MONOTONIC))
