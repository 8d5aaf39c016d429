"""Packages of pacman: what its local database says is installed, and what its log tells about changes.

A package is known by its name alone, as the database and the log know it: there is one of each name,
whatever its architecture, so that this is left out. A package whose entry is being written, or cannot be
read, is what the name of its directory says, and on its way (`half-installed`). A machine without the
database, or with one that never held a package, is Absent. The log has no word for a scriptlet that
failed; that a run failed is told after the changes that it made, and is not told of them. Newer versions
are those of the databases that pacman last fetched, which mark no security updates; what would replace a
package under another name is none. A database packed with zstd cannot be read and is said.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import cast

from watchman_mcp.collectors import Collector, Look, Seen, minutes, offered
from watchman_mcp.errors import Absent, Broken
from watchman_mcp.machine import Machine, pacman_repositories
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
from watchman_mcp.machine.updates import Update
from watchman_mcp.schema import Edge, path_of
from watchman_mcp.schema.configs import ConfigFile
from watchman_mcp.schema.core import Event, Record, event_key
from watchman_mcp.schema.packages import DEPENDS_ON, OWNS, PROVIDES, Owner, PackageIndex, Software
from watchman_mcp.schema.services import Service
from watchman_mcp.times import host_zone

CONFIGURATION = "/etc/pacman.conf"
ENTRY_CAP = 4 << 20

_USUAL = Configuration()
_REASONS = {"": True, "0": True, "1": False}
"""Why a package was installed: for itself, or for one that needs it."""


def collect(look: Look) -> Iterator[Seen]:
    """The packages as they are, read before the log, then what the log tells since the last look.

    Raises: Absent, Denied, Broken.
    """
    configuration, known = _configuration(look)
    local = f"{configuration.database}/local"
    look.watch(local, f"{configuration.database}/sync", configuration.log)
    packages = _packages(look, local)
    databases = _databases(look, configuration)
    if databases:
        fetched = look.newest(f"{configuration.database}/sync", *databases.values())
        yield PackageIndex(manager="pacman", refreshed_at=fetched)
    updates = _updates(look, local, databases, packages)
    found = []
    for package in packages:
        held = configuration.holds(package) if known else None
        found.append(_software(package, held, updates.get(package["NAME"][0])))
    yield from found
    paths = [software.node_id for software in found]
    for start, end in needs(packages):
        yield Edge(DEPENDS_ON, paths[start], paths[end])
    yield from _brought(look, local, configuration.log, found)
    yield from _records(look, configuration.log)


def owner(machine: Machine, paths: Collection[str]) -> Iterator[Owner]:
    """The packages in whose lists the file stands.

    Raises: Absent, Denied, Broken.
    """
    files, database = machine.files, _USUAL.database
    if files.exists(CONFIGURATION):
        database = read_configuration(pacman_repositories.configuration(files, CONFIGURATION)).database
    for name in pacman_repositories.owners(files, f"{database}/local", paths):
        yield Owner("pacman", name.lower())


def _databases(look: Look, configuration: Configuration) -> dict[str, str]:
    """By repository the database that pacman fetched of it, in the order in which they count."""
    paths = {name: f"{configuration.database}/sync/{name}.db" for name in configuration.repositories}
    found: dict[str, str] = {}
    with look.beside(f"{configuration.database}/sync"):
        found = {name: path for name, path in paths.items() if look.machine.files.exists(path)}
    return found


def _updates(
    look: Look, local: str, databases: Mapping[str, str], packages: list[Fields]
) -> dict[str, Update]:
    """What is newer in the databases, which are read again when they or the packages changed."""
    found: list[Update] = []
    installed = {package["NAME"][0]: package["VERSION"][0] for package in packages}
    for path in list(databases.values())[:1]:
        with look.beside(path.rpartition("/")[0]):
            basis = [list(databases), look.signs(local, *databases.values())]
            found = look.kept(
                "updates", basis, lambda: pacman_repositories.newer(look.machine.files, databases, installed)
            )
    return {update.name: update for update in (Update(*row) for row in found)}


def _brought(look: Look, local: str, log: str, found: list[Software]) -> Iterator[Edge]:
    """Services and configuration files, read again when pacman's directory or log changed.

    A list of files is written after the directory of its package appeared, and before the log says so.
    """
    brought: dict[str, tuple[list[str], list[str]]] = {}
    with look.beside(f"{local}/*/files"):
        brought = look.kept(
            "brought", look.signs(local, log), lambda: pacman_repositories.brought(look.machine.files, local)
        )
    for software in found:
        services, kept = brought.get(f"{software.name}-{software.version}", ((), ()))
        for service in services:
            yield Edge(PROVIDES, software.node_id, path_of(Service, "systemd", service))
        for path in kept:
            yield Edge(OWNS, software.node_id, path_of(ConfigFile, path))


def _configuration(look: Look) -> tuple[Configuration, bool]:
    """The configuration, and whether it could be read."""
    configuration = _USUAL
    with look.beside(CONFIGURATION) as scope:
        configuration = read_configuration(
            pacman_repositories.configuration(look.machine.files, CONFIGURATION)
        )
    return configuration, scope not in look.failed


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
    with look.beside(path) as scope, directory.directory(name) as inner:
        here = True
        known = any(entry.name == "desc" for entry in inner.entries())
        if known:
            return read_entry(inner.text("desc", ENTRY_CAP), path)
    named = entry_named(name)
    unsure = scope in look.failed or (here and not known)
    return {**named, "STATE": ["half-installed"]} if named and unsure else None


def _software(package: Fields, held: bool | None, newer: Update | None) -> Software:
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
        **offered(newer),
    )


def _is_number(text: str, digits: int = 11) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < digits


def _records(look: Look, path: str) -> Iterator[Record]:
    with look.beside(path):
        mark, fold = cast("tuple[str | None, int]", look.marks.get(path) or (None, 0))
        log = PacmanLog(host_zone(look.machine.root), fold)
        reading = read_log(look.machine.files, path, Mark.from_json(mark) if mark else None)
        for change in log.changes(reading):
            yield from _told(change)
        look.left_out(path, reading, log.unreadable)
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
    (Software, DEPENDS_ON, PROVIDES, OWNS, PackageIndex),
    minutes(10),
    (f"{_USUAL.database}/local", f"{_USUAL.database}/sync", _USUAL.log, CONFIGURATION),
    version=2,
    logged=True,
    owner=owner,
)
