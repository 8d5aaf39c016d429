"""Debian packages: what dpkg says is installed, and what dpkg's log and apt's history tell about changes.

State is `/var/lib/dpkg/status`, or `status.d` in images without dpkg; a machine without either is Absent, and
a status file without a package is damaged. dpkg's log says what happened, apt's history why and for whom;
where dpkg's log does not reach back, history is told alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple, cast

from watchman_mcp.collectors import Collector, Look, minutes
from watchman_mcp.errors import Absent
from watchman_mcp.machine.debian import (
    Change,
    Stanza,
    Transaction,
    Transactions,
    native_of,
    needs,
    present,
    read_automatic,
    read_removed,
    read_transactions,
)
from watchman_mcp.machine.dpkg import PASSING, WORD, Clock, DpkgLog, Step, written
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.logs import LogReading, Mark, read_log
from watchman_mcp.schema import Edge
from watchman_mcp.schema.core import Event, Record, event_key
from watchman_mcp.schema.packages import DEPENDS_ON, Software
from watchman_mcp.times import host_zone

STATUS = "/var/lib/dpkg/status"
SINGLE = "/var/lib/dpkg/status.d"
LISTS = "/var/lib/dpkg/info"
STATES = "/var/lib/apt/extended_states"
LOG = "/var/log/dpkg.log"
HISTORY = "/var/log/apt/history.log"

Times = Mapping[str, datetime]


class _Place(NamedTuple):
    """Where a log is to be read on, and what its reader knew there."""

    mark: Mark | None = None
    fold: int = 0
    known: str = ""
    """Of dpkg's log the run that was going on; of history the newest transaction told without dpkg's log."""
    since: str = ""
    """Of dpkg's log the earliest moment that the first read found."""


class _Content(NamedTuple):
    """What a change is, beside its time and its cause."""

    type: str
    name: str
    arch: str
    previous: str | None
    version: str | None


class _Origin(NamedTuple):
    """What a record says of the run that it belongs to."""

    source: str
    command: str | None = None
    by: str | None = None
    transaction_id: str | None = None
    error: str | None = None


def read_status(
    text: str,
    automatic: frozenset[str] = frozenset(),
    unpacked: Times | None = None,
    default: str = "",
) -> Iterator[Software | Edge]:
    """The packages that are there, whatever their state, then what they need of one another.

    `automatic` holds NAME:ARCH of those that came as dependencies; `unpacked` says when each was put on the
    disk; `default` is the status of a stanza that says none.

    Raises: Broken (no package, or a damaged stanza).
    """
    packages = present(text, STATUS, default)
    native = native_of(packages)
    yield from (found := [_software(stanza, automatic, unpacked or {}, native) for stanza in packages])
    paths = [software.path for software in found]
    for start, end in needs(packages, native):
        yield Edge(DEPENDS_ON, paths[start], paths[end])


def _software(stanza: Stanza, automatic: frozenset[str], unpacked: Times, native: str) -> Software:
    name, arch = stanza["Package"], stanza.get("Architecture")
    want, _, state = stanza["Status"].split()
    size = stanza.get("Installed-Size", "")
    # apt counts what is built for all architectures among the machine's own.
    known_to_apt = f"{name}:{native if arch == 'all' else arch}"
    return Software(
        key=name,
        name=name,
        version=stanza.get("Version"),
        scheme="deb",
        manager="apt",
        architecture=arch,
        source_package=stanza.get("Source", name).partition(" ")[0],
        installed_at=unpacked.get(f"{name}:{arch}", unpacked.get(name)),
        requested=known_to_apt not in automatic,
        held=want == "hold",
        state=state,
        size_bytes=int(size) * 1024 if size.isdecimal() and len(size) < 16 else None,
        summary=stanza.get("Description", "").partition("\n")[0] or None,
    )


def _steps(steps: Iterable[Step], history: Transactions, alone: str) -> Iterator[Record]:
    """One record for each step, but for those of transactions up to `alone`, which were told before."""
    origins: dict[Transaction | None, _Origin] = {}
    for step in steps:
        second = step.second
        change = Change(step.action, step.name, step.arch, step.replaced, step.after)
        content = _content(change if step.before == step.replaced else change._replace(before=step.before))
        nth = second.equal.get(content, 0)
        second.equal[content] = nth + 1
        cause = history.cause(change, second.at, nth)
        if cause is None:
            origin = _Origin("dpkg", transaction_id=f"dpkg:{step.run}" if step.run else None)
        elif written(cause.at) <= alone:
            continue
        else:
            origin = origins.get(cause) or origins.setdefault(cause, _origin(cause))
        purged = cause is not None and step.after is None and history.purges(step.name, cause)
        yield _record(content, second.at, (second.written, nth), origin, purged=purged)


def _alone(transactions: Iterable[Transaction], everywhere: set[str]) -> Iterator[Record]:
    """One record for each package that these transactions list, which is what apt meant to do."""
    equal: dict[tuple[str, _Content], int] = {}
    for transaction in transactions:
        stamp = written(transaction.at)
        error = transaction.error or (None if transaction.ended else "apt's history has no end of this run")
        origin = _origin(transaction)._replace(error=error)
        for change in transaction.changes:
            content = _content(change)
            nth = equal.get((stamp, content), 0)
            equal[stamp, content] = nth + 1
            yield _record(content, transaction.at, (stamp, nth), origin, everywhere=change.name in everywhere)


def _origin(transaction: Transaction) -> _Origin:
    return _Origin("apt", transaction.command, transaction.by, f"apt:{written(transaction.at)}")


def _content(change: Change) -> _Content:
    versions = (None, change.before) if change.after is None else (change.before, change.after)
    return _Content(f"package_{change.outcome}", change.name, change.arch, *versions)


def _record(
    content: _Content,
    at: datetime,
    key: tuple[str, int],
    origin: _Origin,
    *,
    everywhere: bool = False,
    purged: bool = False,
) -> Record:
    type, name, arch, previous, version = content
    # apt counts what is built for all architectures among the machine's own.
    architecture = "all" if everywhere else arch or None
    event = Event(
        key=event_key(type, key[0], name, arch, previous, version, key[1]),
        ts=at,
        type="package_purge" if purged else type,  # the key is dpkg's log's alone
        source=origin.source,
        subject=name,
        package_name=name,
        version=version,
        previous=previous,
        manager="apt",
        architecture=architecture,
        command=origin.command,
        by=origin.by,
        transaction_id=origin.transaction_id,
        error=origin.error,
    )
    named = {"key": name, "name": name, "architecture": architecture, "version": version}
    return Record(event, Software(**named, scheme="deb", manager="apt"))


def collect(look: Look) -> Iterator[Software | Edge | Record]:
    """The packages as they are, read before the logs, then what the logs tell since the last look.

    Raises: Absent, Denied, Broken.
    """
    files = look.machine.files
    automatic = read_automatic(files.text(STATES)) if files.exists(STATES) else frozenset[str]()
    text, default = _status(files)
    everywhere = set()
    for seen in read_status(text, automatic, _unpacked(files), default):
        if isinstance(seen, Software) and seen.architecture == "all":
            everywhere.add(seen.key)
        yield seen
    yield from _records(look, read_removed(text), everywhere)


def _status(files: Files) -> tuple[str, str]:
    """The text of dpkg's state, and the status of a stanza in it that says none."""
    if files.exists(STATUS):
        return files.text(STATUS), ""
    if not files.exists(SINGLE):
        raise Absent(f"{STATUS} is not on this machine: it has no Debian packages")
    with files.directory(SINGLE) as directory:
        names = [e.name for e in directory.entries() if e.kind == "file" and not e.name.endswith(".md5sums")]
        text = "\n\n".join([directory.text(name).strip("\n") for name in names])
        return text + "\n\n", "install ok installed"


def _unpacked(files: Files) -> dict[str, datetime]:
    """When the file list of each package was written, which is when it was unpacked."""
    found = [e for e in files.entries(LISTS) if e.name.endswith(".list")] if files.exists(LISTS) else []
    return {e.name.removesuffix(".list"): datetime.fromtimestamp(e.mtime, UTC) for e in found}


def _records(look: Look, removed: frozenset[str], everywhere: set[str]) -> Iterator[Record]:
    zone = host_zone(look.machine.root)
    never = look.marks.get(LOG) is None
    steps, since, oldest = _read_steps(look, zone, removed)
    place = _place(look, HISTORY)
    if never and steps:  # each of them may be of a transaction that was told before dpkg's log could be read
        place = place._replace(mark=None)
    # dpkg's log was read first: apt says what it will do before dpkg begins, so each step finds its reason.
    history = _read_history(look, zone, place)
    alone = list(history.over(since)) if never else []
    yield from _alone(alone, everywhere)
    yield from _steps(steps, history, place.known)
    if since and f"{look.scope}:{LOG}" in look.failed:
        return  # the next read of dpkg's log will need the same transactions
    if first := history.needed(oldest):
        told = place.known if since else max([place.known, *(written(t.at) for t in alone)])
        look.marks[HISTORY] = [first.line.mark.to_json(), first.fold, told, ""]


def _read_steps(look: Look, zone: tzinfo, removed: frozenset[str]) -> tuple[list[Step], str, datetime | None]:
    """The new steps of dpkg's log, how far back it ever reached, and how far back the next read will."""
    place = _place(look, LOG)
    steps, since, oldest = list[Step](), place.since, None
    with _log(look, LOG):
        log = DpkgLog(zone, place.fold, place.known)
        reading = read_log(look.machine.files, LOG, place.mark, skip=PASSING, skip_at=WORD)
        steps = [*log.steps(reading), *log.rest(removed)]
        _say(look, LOG, reading, log.unreadable)
        since = since or log.earliest
        if second := log.place():
            oldest = second.at
            look.marks[LOG] = [second.line.mark.to_json(), second.fold, second.run, since]
    return steps, since, oldest


def _read_history(look: Look, zone: tzinfo, place: _Place) -> Transactions:
    found: list[Transaction] = []
    with _log(look, HISTORY):
        reading = read_log(look.machine.files, HISTORY, place.mark)
        found, unreadable = read_transactions(reading, Clock(zone, place.fold))
        _say(look, HISTORY, reading, unreadable)
    return Transactions(found)


@contextmanager
def _log(look: Look, path: str) -> Iterator[None]:
    """A log, which costs nothing but itself if it cannot be read."""
    with look.part(f"{look.scope}:{path}"):
        yield
    look.seen.discard(f"{look.scope}:{path}")  # it has no rows of its own


def _say(look: Look, path: str, reading: LogReading, unreadable: int) -> None:
    """Say what of a log could not be read."""
    lines = unreadable + reading.overlong
    left_out = [f"{lines} of its lines cannot be read and were left out"] if lines else []
    for problem in reading.problems + left_out:
        look.cannot(path, problem)


def _place(look: Look, path: str) -> _Place:
    if (kept := look.marks.get(path)) is None:
        return _Place()
    mark, fold, known, since = cast("tuple[str, int, str, str]", kept)
    return _Place(Mark.from_json(mark), fold, known, since)


collector = Collector(
    collect, (Software, DEPENDS_ON), minutes(10), (STATUS, STATES, LOG, HISTORY), version=2, logged=True
)
