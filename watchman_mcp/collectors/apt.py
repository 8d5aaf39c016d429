"""Debian packages: what dpkg says is installed, and what dpkg's log and apt's history tell about changes.

State is `/var/lib/dpkg/status`, or `status.d` in images without dpkg; a machine without either is Absent, and
a status file without a package is damaged. dpkg's log says what happened, apt's history why and for whom;
where dpkg's log does not reach back, history is told alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, tzinfo
from itertools import chain, islice
from types import MappingProxyType
from typing import NamedTuple, TypeVar, cast

from watchman_mcp.collectors import Collector, Look, Seen, minutes, offered
from watchman_mcp.machine import Machine, apt_updates, dpkg_files
from watchman_mcp.machine.apt_changes import Told, of_steps, of_transactions
from watchman_mcp.machine.apt_history import HistoryLog, Transaction, Transactions
from watchman_mcp.machine.debian import Stanza, native_of, needs, present, read_automatic, read_removed
from watchman_mcp.machine.dpkg import PASSING, WORD, DpkgLog
from watchman_mcp.machine.dpkg_files import STATUS
from watchman_mcp.machine.logs import LogReading, Mark, read_log
from watchman_mcp.machine.updates import Update
from watchman_mcp.schema import Edge, path_of
from watchman_mcp.schema.configs import ConfigFile
from watchman_mcp.schema.core import Event, Record, event_key
from watchman_mcp.schema.packages import DEPENDS_ON, OWNS, PROVIDES, Owner, PackageIndex, Software
from watchman_mcp.schema.services import Service
from watchman_mcp.times import host_zone

T = TypeVar("T")
STATES = "/var/lib/apt/extended_states"
LOG = "/var/log/dpkg.log"
HISTORY = "/var/log/apt/history.log"
STEPS, RUNS = 20_000, 200
"""So many steps of dpkg's log, and runs that only apt's history tells, are held at a time."""


class Known(NamedTuple):
    """What is known of packages beside their stanzas, by NAME or NAME:ARCH."""

    automatic: frozenset[str] = frozenset()
    unpacked: Mapping[str, datetime] = MappingProxyType({})
    updates: Mapping[tuple[str, str | None], Update] = MappingProxyType({})
    services: Mapping[str, list[str]] = MappingProxyType({})
    with_files: bool = False
    """Whether the configuration files are told as well."""

    @staticmethod
    def of(values: Mapping[str, T], stanza: Stanza) -> T | None:
        """What one of these says of the package of a stanza."""
        name = stanza["Package"]
        return values.get(f"{name}:{stanza.get('Architecture')}", values.get(name))


class _Place(NamedTuple):
    """Where a log is to be read on, and what its reader knew there."""

    mark: Mark | None = None
    fold: int = 0
    known: str = ""
    """Of dpkg's log the run that was going on; of history the newest transaction told without dpkg's log."""
    since: str = ""
    """Of dpkg's log the earliest moment that the first read found."""


def read_status(text: str, known: Known, default: str = "") -> Iterator[Software | Edge]:
    """The packages that are there, whatever their state, then what they bring and need of one another.

    `default` is the status of a stanza that says none.

    Raises: Broken (no package, or a damaged stanza).
    """
    packages = present(text, STATUS, default)
    native = native_of(packages)
    yield from (found := [_software(stanza, known, native) for stanza in packages])
    paths = [software.node_id for software in found]
    for package, start in zip(packages, paths, strict=True):
        for service in known.of(known.services, package) or ():
            yield Edge(PROVIDES, start, path_of(Service, "systemd", service))
        files = dpkg_files.conffiles(package.get("Conffiles", "")) if known.with_files else ()
        for conffile in files:
            yield Edge(OWNS, start, path_of(ConfigFile, conffile))
    for one, other in needs(packages, native):
        yield Edge(DEPENDS_ON, paths[one], paths[other])


def _software(stanza: Stanza, known: Known, native: str) -> Software:
    name, arch = stanza["Package"], stanza.get("Architecture")
    want, _, state = stanza["Status"].split()
    size = stanza.get("Installed-Size", "")
    # apt counts what is built for all architectures among the machine's own.
    newer = known.updates.get((name, arch))
    own = arch in ("all", native)
    automatic = f"{name}:{native if own else arch}" in known.automatic or (own and name in known.automatic)
    return Software(
        key=name,
        name=name,
        version=stanza.get("Version"),
        scheme="deb",
        manager="apt",
        architecture=arch,
        source_package=stanza.get("Source", name).partition(" ")[0],
        installed_at=known.of(known.unpacked, stanza),
        requested=not automatic,
        held=want == "hold",
        state=state,
        size_bytes=int(size) * 1024 if size.isdecimal() and len(size) < 16 else None,
        summary=stanza.get("Description", "").partition("\n")[0] or None,
        **offered(newer),
    )


def _record(told: Told) -> Record:
    type, name, arch, previous, version = told.content
    origin = told.origin
    # apt counts what is built for all architectures among the machine's own.
    architecture = "all" if told.everywhere else arch or None
    event = Event(
        key=event_key(type, told.stamp, name, arch, previous, version, told.nth),
        ts=told.at,
        type="package_purge" if told.purged else type,  # the key is dpkg's log's alone
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


def collect(look: Look) -> Iterator[Seen]:
    """The packages as they are, read before the logs, then what the logs tell since the last look.

    Raises: Absent, Denied, Broken.
    """
    files = look.machine.files
    automatic = read_automatic(files.text(STATES)) if files.exists(STATES) else frozenset[str]()
    text, default = dpkg_files.read_state(files)
    yield from _index(look)
    known = Known(automatic, dpkg_files.unpacked(files), _updates(look))
    if not look.puts_off():  # nothing that edges to services and files lead to is known then anyway
        known = known._replace(services=_services(look), with_files=True)
    everywhere = set()
    for seen in read_status(text, known, default):
        if isinstance(seen, Software) and seen.architecture == "all":
            everywhere.add(seen.key)
        yield seen
    yield from _records(look, read_removed(text), everywhere)


def _index(look: Look) -> Iterator[PackageIndex]:
    """Apt's lists, where there are any."""
    files = look.machine.files
    if files.exists(apt_updates.LISTS) and any(
        "_Packages" in e.name for e in files.entries(apt_updates.LISTS)
    ):
        yield PackageIndex(manager="apt", refreshed_at=look.newest(*apt_updates.FETCHED))


def _updates(look: Look) -> dict[tuple[str, str | None], Update]:
    """What apt would upgrade; of a machine without apt nothing."""
    if not look.machine.files.exists(apt_updates.LISTS):
        return {}
    return look.updates(apt_updates.DECIDING, apt_updates.asking(look.machine.files))


def _services(look: Look) -> dict[str, list[str]]:
    """The services of each package, read again when dpkg's directory changed."""
    files = look.machine.files
    if not files.exists(dpkg_files.LISTS):
        return {}
    return look.kept("services", look.signs(dpkg_files.LISTS), lambda: dpkg_files.services(files))


def owner(machine: Machine, paths: Collection[str]) -> Iterator[Owner]:
    """The packages in whose lists the file stands.

    Raises: Absent, Denied, Broken.
    """
    for name, arch in dpkg_files.owners(machine.files, paths):
        yield Owner("apt", name, arch)


def _records(look: Look, removed: frozenset[str], everywhere: set[str]) -> Iterator[Record]:
    zone, never, place = host_zone(look.machine.root), look.marks.get(LOG) is None, _place(look, LOG)
    log = DpkgLog(zone, place.fold, place.known)
    reading = read_log(look.machine.files, LOG, place.mark, skip=PASSING, skip_at=WORD)
    parts = _parts(look, LOG, chain(log.steps(reading), log.rest(removed)), STEPS)
    steps = next(parts, [])
    since, before = place.since or log.earliest, _place(look, HISTORY)
    if never and steps:  # each of them may be of a transaction that was told before dpkg's log could be read
        before = before._replace(mark=None)
    history = _History(look, zone, before)
    if never:
        alone = chain.from_iterable(_parts(look, HISTORY, history.runs.over(since), RUNS))
        yield from map(_record, of_transactions(alone, everywhere))
    while steps:
        # Its part of dpkg's log was read first: apt says what it will do before dpkg begins.
        history.reach(max(step.second.at for step in steps))
        yield from map(_record, of_steps(steps, history.runs, before.known))
        if second := log.place():
            history.runs.forget(second.at)
        steps = next(parts, [])
    history.reach(None)
    oldest = None
    if not _failed(look, LOG):
        _say(look, LOG, [reading], log.unreadable)
        if second := log.place():
            oldest = second.at
            look.marks[LOG] = [second.line.mark.to_json(), second.fold, second.run, since]
    history.say()
    if since and _failed(look, LOG):
        return  # the next read of dpkg's log will need the same transactions
    if not _failed(look, HISTORY) and (first := history.runs.needed(oldest)):
        told = before.known if since else max(before.known, history.runs.newest_over)
        look.marks[HISTORY] = [first.line.mark.to_json(), first.fold, told, ""]


class _History:
    """Apt's history, read on as dpkg's log is."""

    def __init__(self, look: Look, zone: tzinfo, place: _Place) -> None:
        self._look, self._mark = look, place.mark
        self._log = HistoryLog(zone, place.fold)
        self._readings: list[LogReading] = []
        self.runs = Transactions(self._more)

    def _more(self) -> Iterator[Transaction]:
        mark = self._readings[-1].mark if self._readings else self._mark
        self._readings.append(read_log(self._look.machine.files, HISTORY, mark))
        return self._log.transactions(self._readings[-1])

    def reach(self, moment: datetime | None) -> None:
        """Read what began by this moment, or all; a history that cannot be read gives no reasons."""
        if not _failed(self._look, HISTORY):
            with _log(self._look, HISTORY):
                self.runs.reach(moment)

    def say(self) -> None:
        """Say what of it could not be read."""
        if not _failed(self._look, HISTORY):
            _say(self._look, HISTORY, self._readings, self._log.unreadable)


def _parts(look: Look, path: str, found: Iterator[T], count: int) -> Iterator[list[T]]:
    """What is found in a log, some of it at a time, for there may be more than fits into memory."""
    part: list[T] | None = None
    while part is None or part:
        part = []
        with _log(look, path):
            part = list(islice(found, count))
        yield part


@contextmanager
def _log(look: Look, path: str) -> Iterator[None]:
    """A log, which costs nothing but itself if it cannot be read."""
    with look.part(f"{look.scope}:{path}"):
        yield
    look.seen.discard(f"{look.scope}:{path}")  # it has no rows of its own


def _failed(look: Look, path: str) -> bool:
    return f"{look.scope}:{path}" in look.failed


def _say(look: Look, path: str, readings: list[LogReading], unreadable: int) -> None:
    """Say what of a log could not be read."""
    lines = unreadable + sum(reading.overlong for reading in readings)
    left_out = [f"{lines} of its lines cannot be read and were left out"] if lines else []
    for problem in dict.fromkeys([p for reading in readings for p in reading.problems] + left_out):
        look.cannot(path, problem)


def _place(look: Look, path: str) -> _Place:
    if (kept := look.marks.get(path)) is None:
        return _Place()
    mark, fold, known, since = cast("tuple[str, int, str, str]", kept)
    return _Place(Mark.from_json(mark), fold, known, since)


collector = Collector(
    collect,
    (Software, DEPENDS_ON, PROVIDES, OWNS, PackageIndex),
    minutes(10),
    (STATUS, STATES, LOG, HISTORY, apt_updates.LISTS),
    version=3,
    logged=True,
    owner=owner,
)
