"""Packages of conda environments, Python's and all others: the records in `conda-meta` and its history.

Each environment is a scope, `conda:PREFIX`, and its prefix the location of its packages. conda, mamba,
micromamba, rattler and pixi keep the same records; the manager is `conda` for all. History is written after
the records: what it tells of a package in its last run counts once the records agree, or once another run
followed. What channels offer is kept in files of hundreds of megabytes, which are not read: newer versions
are not known. Neither conda nor anything of an environment is run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, tzinfo
from typing import cast

from watchman_mcp.collectors import Collector, Look, minutes
from watchman_mcp.errors import Absent, Broken
from watchman_mcp.machine import Machine
from watchman_mcp.machine.conda import (
    META,
    RECORD_CAP,
    Package,
    environments,
    named,
    owners,
    package_at,
    read_record,
)
from watchman_mcp.machine.conda_history import Change, Run, changes, read_history
from watchman_mcp.machine.dpkg import Clock
from watchman_mcp.machine.entries import Entry
from watchman_mcp.machine.logs import Mark, read_log
from watchman_mcp.machine.places import Search
from watchman_mcp.schema import Edge
from watchman_mcp.schema.core import Event, Record, event_key
from watchman_mcp.schema.packages import DEPENDS_ON, Owner, Software
from watchman_mcp.times import host_zone

PACKAGES = 20_000
"""An environment with more records is not read."""
HISTORY_CAP = 64 << 20
_BASE = "conda"
There = dict[str, tuple[str, str]]
"""Version and build by name."""


def collect(look: Look) -> Iterator[Software | Edge | Record]:
    """The packages of each environment, then what its history tells since the last look.

    Raises: Absent.
    """
    search = Search(look.machine.files)
    prefixes = environments(search)
    zone = host_zone(look.machine.root)
    marks = dict(look.marks)
    look.marks.clear()
    for prefix in prefixes:
        look.marks.update({name: marks[name] for name in (prefix, f"{prefix}:changed") if name in marks})
        there: There = {}
        with look.part(f"{_BASE}:{prefix}"):
            _settled(look, prefix)
            yield from _packages(look, prefix, there)
            yield from _records(look, prefix, zone, there)
    look.watch_places(_watched(search, prefix) for prefix in prefixes)
    for path, why in search.refused.items():
        look.cannot(f"{_BASE}:{path}", why)
    if prefixes or marks:
        look.marks["there"] = True
    elif not search.refused:
        raise Absent("no conda environments are on this machine")


def _watched(search: Search, prefix: str) -> str:
    """What is written last when the environment changes."""
    history = f"{prefix}/{META}/history"
    return history if search.holds(history) else f"{prefix}/{META}"


def owner(machine: Machine, paths: Collection[str]) -> Iterator[Owner]:
    """The packages whose records list the file, of the environments that it lies in.

    Raises: Denied, Broken.
    """
    for prefix, name in owners(machine.files, paths):
        yield Owner("conda", name, None, prefix)


def _settled(look: Look, prefix: str) -> None:
    """Note when the records changed; while a run goes on, packages are gone that will be back.

    Raises: Broken (records changed since the last look, and the history, which conda writes last, did not).
    """
    files, history, noted = look.machine.files, f"{prefix}/{META}/history", f"{prefix}:changed"
    changed, before = files.stat(f"{prefix}/{META}").mtime, look.marks.get(noted)
    look.marks[noted] = changed
    if before in (None, changed) or not files.exists(history):
        return
    entry = files.stat(history)
    if entry.size and entry.mtime < changed:
        raise Broken(f"conda is changing {prefix}, or was stopped while it did; it is read at the next look")


def _packages(look: Look, prefix: str, there: There) -> Iterator[Software | Edge]:
    found: dict[str, tuple[Software, Package]] = {}
    for entry in look.machine.files.entries(f"{prefix}/{META}", PACKAGES):
        if not entry.name.endswith(".json") or entry.kind == "directory":
            continue
        package = _package(look, f"{prefix}/{META}/{entry.name}", entry)
        # Of two records of a package, which an interrupted run left, the newer one is the one that was meant.
        if package and (package.name not in found or entry.mtime > _moment(found[package.name][0])):
            found[package.name] = _software(package, prefix, entry), package
            there[package.name] = package.version, package.build
    yield from (software for software, _ in found.values())
    for software, package in found.values():
        for name in package.needs:
            if name in found and name != package.name:
                yield Edge(DEPENDS_ON, software.node_id, found[name][0].node_id)


def _package(look: Look, path: str, entry: Entry) -> Package | None:
    """The package of a record; one that cannot be read, which is said, is what its name says it is."""
    package, part = None, f"{_BASE}:{path}"
    with look.part(part):
        if entry.kind == "file":
            package = package_at(look.machine.files, path, entry.inode, entry.mtime, entry.size)
        else:
            package = read_record(look.machine.files.read(path, RECORD_CAP))
    look.seen.discard(part)  # it has no rows of its own
    return named(entry.name.removesuffix(".json")) if package is None and part in look.failed else package


def _moment(software: Software) -> float:
    return software.installed_at.timestamp() if software.installed_at else 0.0


def _software(package: Package, prefix: str, entry: Entry) -> Software:
    return Software(
        key=package.name,
        name=package.name,
        version=package.version,
        scheme="conda",
        manager="conda",
        location=prefix,
        installed_at=datetime.fromtimestamp(entry.mtime, UTC),
        requested=package.requested,
        state="installed",
    )


def _records(look: Look, prefix: str, zone: tzinfo, there: There) -> Iterator[Record]:
    """What the history tells; the place of the last run is kept, because more of it may come."""
    path = f"{prefix}/{META}/history"
    mark, fold = cast("tuple[str | None, int]", look.marks.get(prefix, (None, 0)))
    runs: list[Run] = []
    with look.part(f"{_BASE}:{path}"):  # unreadable, it costs nothing but itself
        if look.machine.files.stat(path).size > HISTORY_CAP:
            raise Broken(f"{path} is larger than {HISTORY_CAP} bytes; it is not read")
        reading = read_log(look.machine.files, path, Mark.from_json(mark) if mark else None)
        runs, unreadable = read_history(reading, Clock(zone, fold))
        if lines := unreadable + reading.overlong:
            look.cannot(f"{_BASE}:{path}", f"{lines} of its lines cannot be read and were left out")
        for problem in reading.problems:
            look.cannot(f"{_BASE}:{path}", problem)
    look.seen.discard(f"{_BASE}:{path}")  # it has no rows of its own
    for run in runs:
        yield from (
            _record(prefix, run, change) for change in changes(run) if run.over or _agrees(change, there)
        )
    if runs:
        look.marks[prefix] = [runs[-1].line.mark.to_json(), runs[-1].fold]


def _agrees(change: Change, there: There) -> bool:
    """Whether the records show what a run left."""
    return there.get(change.name) == (change.after and (change.after.version, change.after.build))


def _record(prefix: str, run: Run, change: Change) -> Record:
    type, name, version = f"package_{change.outcome}", change.name, change.version
    builds = [one.build for one in (change.before, change.after) if one]
    event = Event(
        key=event_key(type, run.stamp, name, prefix, change.previous, version, *builds, run.fold),
        ts=run.at,
        type=type,
        source="conda",
        subject=name,
        package_name=name,
        version=version,
        previous=change.previous,
        manager="conda",
        location=prefix,
        command=run.command,
        transaction_id=f"conda:{prefix}:{run.stamp}",
    )
    software = Software(
        key=name, name=name, version=version, scheme="conda", manager="conda", location=prefix
    )
    return Record(event, software)


WATCHED = tuple(f"/opt/{root}/{META}/history" for root in ("conda", "miniconda3", "miniforge3", "anaconda3"))
WATCHED += tuple(f"/root/{root}/{META}/history" for root in ("miniconda3", "miniforge3", "anaconda3"))
collector = Collector(collect, (Software, DEPENDS_ON), minutes(10), watch=WATCHED, logged=True, owner=owner)
