"""Alpine's packages: what apk's database says is installed, and what its log tells about changes.

A package is known by its name alone, as database and log know it: its architecture is left out. What the
world asks for by name is requested; what it asks for in one version is held. When a package was installed
is told by the log alone, which apk keeps since its version 3; a machine without it has its changes
observed. Newer versions are those of the indexes that apk last fetched, as `apk version` counts them; they
mark no security updates, and those of a repository in apk 3's own format cannot be read, which is said. What
lies below /etc is configuration, but for init scripts. A machine without the database is Absent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import cast

from watchman_mcp.collectors import Collector, Look, Seen, minutes, offered
from watchman_mcp.errors import Absent
from watchman_mcp.machine import Machine, apk_indexes
from watchman_mcp.machine.apk import ApkLog, Change, Fields, needs, read_installed, read_world
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.logs import Mark, read_log
from watchman_mcp.machine.updates import Update
from watchman_mcp.schema import Edge, path_of
from watchman_mcp.schema.configs import ConfigFile
from watchman_mcp.schema.core import Event, Record, event_key
from watchman_mcp.schema.packages import DEPENDS_ON, OWNS, Owner, PackageIndex, Software

DATABASES = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")
"""The second is where the first would be a link."""
WORLD = "/etc/apk/world"
LOG = "/var/log/apk.log"


Index = tuple[apk_indexes.Repository, str]


def collect(look: Look) -> Iterator[Seen]:
    """The packages as they are, read before the log, then what the log tells since the last look.

    Raises: Absent, Denied, Broken.
    """
    files = look.machine.files
    path = _database(files)
    text = files.text(path)
    packages = read_installed(text, path)
    indexes = _indexes(look, packages)
    if indexes:
        yield PackageIndex(manager="apk", refreshed_at=look.newest(*(path for _, path in indexes)))
    updates = _updates(look, path, indexes, packages)
    world = _world(look)
    found = [_software(package, world, updates.get(package["P"])) for package in packages]
    yield from found
    for start, end in needs(packages):
        yield Edge(DEPENDS_ON, found[start].node_id, found[end].node_id)
    kept = look.kept("configurations", look.signs(path), lambda: apk_indexes.configurations(text))
    for software in found:
        for file in kept.get(software.name, ()):
            yield Edge(OWNS, software.node_id, path_of(ConfigFile, file))
    yield from _records(look)


def owner(machine: Machine, paths: Collection[str]) -> Iterator[Owner]:
    """The package that the database lists the file for.

    Raises: Absent, Denied, Broken.
    """
    for name in apk_indexes.owners(machine.files, _database(machine.files), paths):
        yield Owner("apk", name.lower())


def _database(files: Files) -> str:
    path = next((path for path in DATABASES if files.exists(path)), None)
    if path is None:
        raise Absent(f"{DATABASES[0]} is not on this machine: it has no packages of Alpine's")
    return path


def _indexes(look: Look, packages: list[Fields]) -> list[Index]:
    """The repositories that apk fetched an index of, each with it."""
    files = look.machine.files
    found: list[Index] = []
    with look.beside(apk_indexes.REPOSITORIES):
        # Without the file apk takes the architecture that it was built for, like the packages.
        words = (
            files.text(apk_indexes.ARCHITECTURE, 4096).split()
            if files.exists(apk_indexes.ARCHITECTURE)
            else []
        )
        built = (arch for package in packages if (arch := package.get("A", "noarch")) != "noarch")
        for repository in apk_indexes.repositories(files, next(iter(words), next(built, ""))):
            if path := apk_indexes.index_of(files, repository):
                found.append((repository, path))
            elif not repository.listed:
                look.cannot("apk:updates", f"the index of {repository.shown} cannot be read here")
    return found


def _updates(look: Look, path: str, indexes: list[Index], packages: list[Fields]) -> dict[str, Update]:
    """What is newer in the indexes, which are read again when they or the packages changed."""
    found: list[Update] = []
    installed = {package["P"]: (package["V"], package.get("s", "")) for package in packages}
    with look.beside(f"{apk_indexes.CACHES[-1]}/{apk_indexes.INDEX}"):
        paths = [path for _, path in indexes]
        basis = [[list(repository) for repository, _ in indexes], look.signs(path, *paths)]
        found = look.kept("updates", basis, lambda: apk_indexes.newer(look.machine.files, indexes, installed))
    return {update.name: update for update in (Update(*row) for row in found)}


def _world(look: Look) -> dict[str, bool] | None:
    """What was asked for; None where that is not known."""
    world = None
    with look.beside(WORLD):
        world = read_world(look.machine.files.text(WORLD, 4 << 20))
    return world


def _software(package: Fields, world: dict[str, bool] | None, newer: Update | None) -> Software:
    name, size = package["P"], package.get("I", "")
    return Software(
        key=name.lower(),
        name=name,
        version=package["V"],
        scheme="apk",
        manager="apk",
        source_package=package.get("o") or None,
        requested=None if world is None else name in world,
        held=None if world is None else world.get(name, False),
        state=package.get("state", "installed"),
        size_bytes=int(size) if size.isascii() and size.isdecimal() and len(size) < 16 else None,
        summary=package.get("T") or None,
        **offered(newer),
    )


def _records(look: Look) -> Iterator[Record]:
    with look.beside(LOG):
        mark = cast("str | None", look.marks.get(LOG))
        log = ApkLog()
        reading = read_log(look.machine.files, LOG, Mark.from_json(mark) if mark else None)
        for change in log.changes(reading):
            yield _record(change)
        look.left_out(LOG, reading, log.unreadable)
        place = log.place()
        if end := place.mark if place else reading.mark:
            look.marks[LOG] = end.to_json()


def _record(change: Change) -> Record:
    run, name = change.run, change.name.lower()
    subject = Software(key=name, name=change.name, version=change.version, scheme="apk", manager="apk")
    event = Event(
        key=event_key(
            "apk", change.type, run.at.isoformat(), name, change.previous, change.version, change.nth
        ),
        ts=run.at,
        type=change.type,
        source="apk",
        subject=name,
        package_name=name,
        version=change.version,
        previous=change.previous,
        manager="apk",
        command=run.command or None,
        transaction_id=run.name,
        error=change.error,
    )
    return Record(event, subject)


collector = Collector(
    collect,
    (Software, DEPENDS_ON, OWNS, PackageIndex),
    minutes(10),
    (*DATABASES, WORLD, LOG, apk_indexes.REPOSITORIES, *apk_indexes.CACHES),
    version=2,
    logged=True,
    owner=owner,
)
