"""What dnf, yum and libzypp tell of what they did: their databases first, then their logs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, tzinfo
from typing import cast

from watchman_mcp.collectors import Look
from watchman_mcp.machine.dnf_history import (
    ACCOUNTS,
    DNF4,
    DNF5,
    History,
    Run,
    read_history,
    read_people,
)
from watchman_mcp.machine.dnf_logs import (
    DNF5_LOG,
    DNF_COMMANDS,
    DNF_LOG,
    DnfLog,
    read_commands,
)
from watchman_mcp.machine.dpkg import Clock, written
from watchman_mcp.machine.log_years import LocalTimes, written_at
from watchman_mcp.machine.logs import LogReading, Mark, read_log
from watchman_mcp.machine.rpm import Package, install_only
from watchman_mcp.machine.rpm_changes import Told
from watchman_mcp.machine.yum_history import DIRECTORIES, databases, read_yum
from watchman_mcp.machine.yum_logs import YUM_LOG, YumLog
from watchman_mcp.machine.zypp_history import (
    HISTORY,
    ZyppHistory,
    packed,
    unpacked,
)
from watchman_mcp.schema.core import Event, Record, event_key
from watchman_mcp.schema.packages import Software

Reasons = Mapping[tuple[str, str], bool]
Span = tuple[float, float]
"""Between two moments, in seconds since 1970."""


class Teller:
    """Makes records of changes, as this machine names its packages."""

    def __init__(self, manager: str, packages: Sequence[Package], beside: frozenset[str]) -> None:
        self.manager = manager
        self.present: dict[tuple[str, str], set[str]] = {}
        for package in packages:
            self.present.setdefault((package.name, package.arch), set()).add(package.version)
        self.install_only = install_only(packages, beside)

    def record(self, source: str, told: Told) -> Record:
        """One change as an event of the package that it is about."""
        kind, name, arch, previous, version = told.change
        event = Event(
            key=event_key(kind, written(told.at), name, arch, previous, version, told.run, told.nth),
            ts=told.at,
            type=f"package_{kind}",
            source=source,
            subject=name,
            package_name=name,
            version=version,
            previous=previous,
            manager=self.manager,
            architecture=arch or None,
            location=self.location(name, version),
            command=told.command,
            by=told.by,
            transaction_id=told.run,
            error=told.error,
        )
        subject = Software(
            key=name,
            name=name,
            version=version,
            scheme="rpm",
            manager=self.manager,
            architecture=event.architecture,
            location=event.location,
        )
        return Record(event, subject)

    def location(self, name: str, version: str | None) -> str | None:
        """What tells this version from others that are installed beside it."""
        return version if name in self.install_only else None


@contextmanager
def alone(look: Look, path: str) -> Iterator[None]:
    """A log or a database, which costs nothing but itself if it cannot be read."""
    with look.part(f"{look.scope}:{path}"):
        yield
    look.seen.discard(f"{look.scope}:{path}")  # it has no rows of its own


def people_of(look: Look) -> dict[str, str]:
    """The machine's users by number, as far as they can be read."""
    people: dict[str, str] = {}
    with alone(look, ACCOUNTS):
        people = read_people(look.machine.files)
    return people


def of_dnf(
    look: Look,
    teller: Teller,
    people: Mapping[str, str],
    requested: dict[tuple[str, str], bool],
    zone: tzinfo,
) -> Iterator[Told]:
    """What the databases of dnf tell; for a time of which they do not, what its logs tell."""
    for source, database, log in (("dnf", DNF4, DNF_LOG), ("dnf5", DNF5, DNF5_LOG)):
        paths = [database] if look.machine.files.exists(database) else []
        if source == "dnf" and not paths:
            paths = _old_databases(look, source)
        runs, span = _of_databases(look, paths, source, log, requested)
        if span:
            yield from _of_log(look, log, teller, source, span, zone)
        for run in runs:
            yield from run.told(teller.present, people)


def _old_databases(look: Look, source: str) -> list[str]:
    """The databases that yum, or dnf 1 or 2, kept."""
    found: list[str] = []
    with alone(look, DIRECTORIES[source]):
        found = databases(look.machine.files, source)
    return found


def _of_databases(
    look: Look, paths: Sequence[str], source: str, log: str, requested: dict[tuple[str, str], bool]
) -> tuple[list[Run], Span | None]:
    """The new runs of databases that follow one another, and the time of which the log is to tell instead."""
    found: list[Run] = []
    unread = not paths
    begun, known_to = bool(look.marks.get(log)), 0.0
    for path in paths:
        known = cast("list[int] | None", look.marks.get(path))
        runs: list[Run] | None = None
        with alone(look, path):
            runs, reasons = _runs(look, path, source, log, known)
            requested.update(reasons)
        found += runs or ()
        unread = unread or runs is None
        begun, known_to = begun or bool(known), max(known_to, known[2] if known else 0)
    # A log may go back beyond a database that was begun anew.
    first = min((run.begin for run in found), default=float("inf"))
    return found, (known_to, first) if unread or not begun else None


def _runs(look: Look, path: str, source: str, log: str, known: list[int] | None) -> tuple[list[Run], Reasons]:
    """The runs of a database that are new, the last known one among them, and why packages are there."""
    number, begin, _ = known or (0, 0, 0)
    runs, reasons = _read(look, path, source, number)
    same = bool(runs) and (runs[0].number, runs[0].begin) == (number, begin)
    if known and not same:  # it was begun anew
        runs = [run for run in _read(look, path, source, 0).runs if run.begin > begin]
    # What the log told while the database could not be read is not told again.
    until = _told_until(look, log)
    runs = [run for run in runs if run.begin > until or (same and run.number == number)]
    if runs:
        look.marks[path] = [runs[-1].number, runs[-1].begin, max(run.end or run.begin for run in runs)]
    return runs, reasons


def _read(look: Look, path: str, source: str, first: int) -> History:
    if path in (DNF4, DNF5):
        return read_history(look.machine.files, path, first)
    return read_yum(look.machine.files, path, source, first)


def _told_until(look: Look, log: str) -> float:
    """The last moment of which this log told; it is the last of what is kept of a log."""
    kept = cast("list[float]", look.marks.get(log) or [0.0])
    return kept[-1]


def _of_log(look: Look, path: str, teller: Teller, source: str, span: Span, zone: tzinfo) -> Iterator[Told]:
    """What a log of dnf tells of the time between two moments."""
    mark, until = cast("tuple[str, float]", look.marks.get(path) or ("", 0.0))
    told: list[Told] = []
    with alone(look, path):
        reading = read_log(look.machine.files, path, Mark.from_json(mark) if mark else None)
        log = DnfLog(source, teller.present, teller.install_only, _times(look, path, zone))
        told = [one for one in log.told(reading) if span[0] < one.at.timestamp() < span[1]]
        _say(look, path, reading, log.unreadable)
        if log.place:
            newest_told = max((one.at.timestamp() for one in told), default=until)
            look.marks[path] = [log.place.mark.to_json(), max(until, newest_told)]
    commands: list[tuple[datetime, str]] = []
    if told and source == "dnf":
        with alone(look, DNF_COMMANDS):
            reading = read_log(look.machine.files, DNF_COMMANDS)
            commands = read_commands(reading, _times(look, DNF_COMMANDS, zone))
    for one in told:
        began = (one.run or "").partition(":")[2]
        own = [text for at, text in commands if began <= written(at) and at <= one.at]
        yield one._replace(command=own[-1] if own else one.command)


def _times(look: Look, path: str, zone: tzinfo) -> LocalTimes:
    return LocalTimes(zone, written_at(look.machine.files, path, zone))


def of_yum(look: Look, teller: Teller, people: Mapping[str, str], zone: tzinfo) -> Iterator[Record]:
    """What the databases of yum tell; for a time of which they do not, what its log tells."""
    runs, span = _of_databases(look, _old_databases(look, "yum"), "yum", YUM_LOG, {})
    for one in _of_yum_log(look, span, zone) if span else ():
        yield teller.record("yum", one)
    for run in runs:
        for one in run.told(teller.present, people):
            yield teller.record("yum", one)


def _of_yum_log(look: Look, span: Span, zone: tzinfo) -> list[Told]:
    """What the log of yum tells of the time between two moments."""
    mark, fold, *_ = cast("tuple[str, int, float]", look.marks.get(YUM_LOG) or ("", 0, 0.0))
    files, until = look.machine.files, _told_until(look, YUM_LOG)
    told: list[Told] = []
    with alone(look, YUM_LOG):
        log = YumLog(Clock(zone, fold), written_at(files, YUM_LOG, zone))
        reading = read_log(files, YUM_LOG, Mark.from_json(mark) if mark else None)
        told = [one for one in log.told(reading) if span[0] < one.at.timestamp() < span[1]]
        _say(look, YUM_LOG, reading, log.unreadable)
        if log.place:
            line, fold = log.place
            newest = max((one.at.timestamp() for one in told), default=until)
            look.marks[YUM_LOG] = [line.mark.to_json(), fold, max(until, newest)]
    return told


def of_zypp(look: Look, teller: Teller, zone: tzinfo) -> Iterator[Record]:
    """What the history of libzypp tells."""
    kept = cast("tuple[str, int, str, dict[str, str] | None]", look.marks.get(HISTORY) or ("", 0, "", None))
    mark, fold, versions, waiting = kept
    log = ZyppHistory(Clock(zone, fold), unpacked(versions), teller.install_only)
    told: list[Told] = []
    with alone(look, HISTORY):
        reading = read_log(look.machine.files, HISTORY, Mark.from_json(mark) if mark else None)
        told = list(log.told(reading))
        _say(look, HISTORY, reading, log.unreadable)
    if log.place:
        mark, fold = log.place.line.mark.to_json(), log.place.fold
    if teller.manager == "zypper" or mark:
        known, waits = log.known_there(teller.present, waiting)
        look.marks[HISTORY] = [mark, fold, packed(known), waits]
    for one in told:
        yield teller.record("zypp", one)


def _say(look: Look, path: str, reading: LogReading, unreadable: int) -> None:
    """Say what of a log could not be read."""
    lines = unreadable + reading.overlong
    left_out = [f"{lines} of its lines cannot be read and were left out"] if lines else []
    for problem in reading.problems + left_out:
        look.cannot(path, problem)
