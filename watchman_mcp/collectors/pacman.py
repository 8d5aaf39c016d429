"""Packages of pacman: what its local database says is installed, and what its log tells about changes.

A package is known by its name alone, as the database and the log know it: there is one of each name,
whatever its architecture, so that this is left out. A package whose entry is being written, or cannot be
read, is what the name of its directory says, and on its way (`half-installed`). A machine without the
database, or with one that never held a package, is Absent. The log has no word for a scriptlet that
failed; that a run failed is told after the changes that it made, and is not told of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import cast

from watchman_mcp.collectors import Collector, Look, minutes
from watchman_mcp.errors import Absent, Broken
from watchman_mcp.machine.files import Directory
from watchman_mcp.machine.logs import Mark, read_log
from watchman_mcp.machine.pacman import (
    FORMAT,
    Configuration,
    Fields,
    entry_named,
    needs,
    read_configuration,
    read_entry,
)
from watchman_mcp.machine.pacman_log import Change, PacmanLog
from watchman_mcp.schema import Edge
from watchman_mcp.schema.core import Event, Record, event_key
from watchman_mcp.schema.packages import DEPENDS_ON, Software
from watchman_mcp.times import host_zone

CONFIGURATION = "/etc/pacman.conf"
ENTRY_CAP = 4 << 20

_USUAL = Configuration()
_REASONS = {"": True, "0": True, "1": False}
"""Why a package was installed: for itself, or for one that needs it."""


def collect(look: Look) -> Iterator[Software | Edge | Record]:
    """The packages as they are, read before the log, then what the log tells since the last look.

    Raises: Absent, Denied, Broken.
    """
    configuration, known = _configuration(look)
    packages = _packages(look, f"{configuration.database}/local")
    found = [_software(package, configuration.holds(package) if known else None) for package in packages]
    yield from found
    paths = [software.node_id for software in found]
    for start, end in needs(packages):
        yield Edge(DEPENDS_ON, paths[start], paths[end])
    yield from _records(look, configuration.log)


def _configuration(look: Look) -> tuple[Configuration, bool]:
    """The configuration, and whether it could be read."""
    configuration = _USUAL
    with _file(look, CONFIGURATION) as scope:
        configuration = read_configuration(look.machine.files.text(CONFIGURATION, 1 << 20))
    return configuration, scope not in look.failed


@contextmanager
def _file(look: Look, path: str) -> Iterator[str]:
    """A file beside the database, which costs nothing but itself if it cannot be read."""
    scope = f"{look.scope}:{path}"
    with look.part(scope):
        yield scope
    look.seen.discard(scope)  # it has no rows of its own


def _packages(look: Look, local: str) -> list[Fields]:
    """The fields of each package, one of a name."""
    found: dict[str, Fields] = {}
    with look.machine.files.directory(local) as directory:
        entries = directory.entries()
        if any(entry.name == "ALPM_DB_VERSION" for entry in entries):
            _check_format(directory)
        elif not entries:
            raise Absent(f"{local} is empty: pacman never installed anything on this machine")
        for entry in entries:
            if entry.kind == "directory" and (package := _package(look, directory, entry.name)):
                name = package["NAME"][0]
                # While one version replaces another there may be two; what is there is the whole one.
                if name not in found or "STATE" in found[name]:
                    found[name] = package
    return list(found.values())


def _check_format(directory: Directory) -> None:
    version = directory.text("ALPM_DB_VERSION", 64).strip()
    if version != FORMAT:
        raise Broken(
            f"{directory.path} has the format {version[:20]!r}, not {FORMAT}; pacman-db-upgrade makes it so"
        )


def _package(look: Look, directory: Directory, name: str) -> Fields | None:
    """One package; None if it is gone meanwhile, or no package."""
    path = f"{directory.path}/{name}/desc"
    known = here = False
    with _file(look, path) as scope, directory.directory(name) as inner:
        here = True
        known = any(entry.name == "desc" for entry in inner.entries())
        if known:
            return read_entry(inner.text("desc", ENTRY_CAP), path)
    named = entry_named(name)
    unsure = scope in look.failed or (here and not known)
    return {**named, "STATE": ["half-installed"]} if named and unsure else None


def _software(package: Fields, held: bool | None) -> Software:
    def one(name: str) -> str:
        return "\n".join(package.get(name, ()))

    whole = "STATE" not in package
    installed = one("INSTALLDATE")
    return Software(
        key=one("NAME").lower(),
        name=one("NAME"),
        version=one("VERSION"),
        scheme="alpm",
        manager="pacman",
        source_package=one("BASE") or None,
        installed_at=datetime.fromtimestamp(int(installed), UTC) if _is_number(installed) else None,
        requested=_REASONS.get(one("REASON")) if whole else None,
        held=held,
        state=one("STATE") or "installed",
        size_bytes=int(one("SIZE")) if _is_number(one("SIZE"), 16) else None,
        summary=one("DESC") or None,
    )


def _is_number(text: str, digits: int = 11) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < digits


def _records(look: Look, path: str) -> Iterator[Record]:
    with _file(look, path):
        mark, fold = cast("tuple[str | None, int]", look.marks.get(path) or (None, 0))
        log = PacmanLog(host_zone(look.machine.root), fold)
        reading = read_log(look.machine.files, path, Mark.from_json(mark) if mark else None)
        for change in log.changes(reading):
            yield from _told(change)
        lines = log.unreadable + reading.overlong
        left_out = [f"{lines} of its lines cannot be read and were left out"] if lines else []
        for problem in reading.problems + left_out:
            look.cannot(path, problem)
        if place := log.place():
            look.marks[path] = [place.line.mark.to_json(), place.fold]


def _told(change: Change) -> Iterator[Record]:
    """The change, and each configuration file that came beside another with it."""
    name, moment = change.name, change.moment
    key = (moment.written, name, change.previous, change.version, change.nth)
    named = {"key": name.lower(), "name": name, "version": change.version}
    subject = Software(**named, scheme="alpm", manager="pacman")
    event = Event(
        key=event_key("pacman", change.type, *key),
        ts=moment.at,
        type=change.type,
        source="pacman",
        subject=subject.key,
        package_name=subject.key,
        version=change.version,
        previous=change.previous,
        manager="pacman",
        command=change.command,
        transaction_id=change.run,
        error=change.error,
    )
    yield Record(event, subject)
    for place, kept in enumerate(change.kept):
        values = event.__dict__ | {
            "key": event_key("pacman", kept.kind, *key, kept.path, place),
            "type": f"config_{kept.kind}",
            "subject": kept.path,
            "version": None,
            "previous": None,
            "error": None,
        }
        yield Record(Event(**values), subject)


collector = Collector(
    collect,
    (Software, DEPENDS_ON),
    minutes(10),
    (f"{_USUAL.database}/local", _USUAL.log, CONFIGURATION),
    logged=True,
)
