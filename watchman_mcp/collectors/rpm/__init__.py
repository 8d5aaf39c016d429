"""Packages of rpm, and what dnf, yum and zypper did with them; Absent where there is no rpm database.

They are zypper's where libzypp is at home, else dnf's. Kernels and others that are installed beside their
older versions have their version as location; of any other package the version that was installed last is
told. What happened is told by the transaction databases of dnf and yum and by libzypp's history, or where no
database can be read by the logs of dnf and yum. Newer versions are those that dnf or zypper knows without
fetching anything.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from watchman_mcp.collectors import Collector, Look, Seen, minutes, offered
from watchman_mcp.machine import Machine
from watchman_mcp.machine.dnf_history import DNF4, DNF5, REASONS5, read_reasons
from watchman_mcp.machine.dnf_logs import DNF5_LOG, DNF_LOG
from watchman_mcp.machine.rpm import Package, install_only, needs, newest
from watchman_mcp.machine.rpm_database import BACKENDS, PLACES, find_database, read_database
from watchman_mcp.machine.rpm_files import Brought, brought, owners
from watchman_mcp.machine.rpm_locks import Locked
from watchman_mcp.machine.rpm_managers import CACHES, LOCKS, ZYPPER, Manager, manager_of, updates_of
from watchman_mcp.machine.updates import Update
from watchman_mcp.machine.yum_history import DIRECTORIES
from watchman_mcp.machine.yum_logs import YUM_LOG
from watchman_mcp.machine.zypp_history import AUTOMATIC, HISTORY, read_automatic
from watchman_mcp.schema import Edge, path_of
from watchman_mcp.schema.configs import ConfigFile
from watchman_mcp.schema.packages import DEPENDS_ON, OWNS, PROVIDES, Owner, PackageIndex, Software
from watchman_mcp.schema.services import Service
from watchman_mcp.times import host_zone

from .changes import Reasons, Teller, alone, of_dnf, of_yum, of_zypp, people_of


class Known(NamedTuple):
    """What is known of packages beside rpm's database."""

    requested: Reasons
    automatic: frozenset[str] | None
    """Of zypper, the names of those that nobody asked for."""
    locked: Locked | None
    updates: Mapping[tuple[str, str, str], Update]


def collect(look: Look) -> Iterator[Seen]:
    """The packages as they are, read before the logs, then what the logs tell since the last look.

    Raises: Absent, Denied, Broken.
    """
    files = look.machine.files
    packages, owners = read_database(look.machine)
    manager = manager_of(files)
    teller = Teller(manager.name, packages, manager.install_only)
    requested: dict[tuple[str, str], bool] = {}
    zone = host_zone(look.machine.root)
    people = people_of(look)
    told = [*of_dnf(look, teller, people, requested, zone)]
    with alone(look, REASONS5):
        requested |= read_reasons(files)
    shown = newest(packages, teller.install_only)
    automatic = _automatic(look) if manager.name == ZYPPER else None
    updates = yield from _updates(look, manager)
    known = Known(requested, automatic, _locked(look, manager, shown), updates_of(shown, updates))
    found = [_software(package, teller, known) for package in shown]
    yield from found
    paths = [software.node_id for software in found]
    for start, end in needs(shown, owners):
        yield Edge(DEPENDS_ON, paths[start], paths[end])
    yield from _brought(look, dict(zip(map(_key, shown), paths, strict=True)))
    for one in told:
        yield teller.record("dnf", one)
    yield from of_yum(look, teller, people, zone)
    yield from of_zypp(look, teller, zone)


def _key(package: Package) -> tuple[str, str, str]:
    return package.name, package.arch, package.version


def _automatic(look: Look) -> frozenset[str] | None:
    files, found = look.machine.files, None
    with alone(look, AUTOMATIC):
        found = read_automatic(files.text(AUTOMATIC))
    return found


def _locked(look: Look, manager: Manager, packages: Sequence[Package]) -> Locked | None:
    locked: Locked | None = None
    with alone(look, "locks"):
        locked = manager.locked(look.machine.files, packages)
    if locked and locked.unreadable:
        look.cannot(f"{look.scope}:locks", f"{locked.unreadable} locks cannot be understood")
    return locked


def _updates(
    look: Look, manager: Manager
) -> Generator[PackageIndex, None, Mapping[tuple[str, str | None], Update]]:
    """The manager's metadata, where it keeps any, and what it would update by it."""
    kept = None
    with look.part(f"{look.scope}:metadata"):
        if kept := manager.kept(look.machine.files):
            look.watch(*kept.fetched.indexes)
            yield PackageIndex(manager=manager.name, refreshed_at=look.newest(*kept.fetched.paths))
    if kept is None:
        return {}
    deciding = [*kept.fetched.indexes, *kept.settings, *_database(look)]
    marking = kept.fetched.marking
    return look.updates(deciding, lambda commands: manager.ask(commands, marking))


def _database(look: Look) -> tuple[str, str]:
    """The database of packages, and where its changes are before they are in it."""
    path = find_database(look.machine.files)
    return path, f"{path}-wal"


def _brought(look: Look, paths: Mapping[tuple[str, str, str], str]) -> Iterator[Edge]:
    """What the packages put where others look, read again when the database changed."""
    with look.part(f"{look.scope}:files"):
        told = look.kept("brought", look.signs(*_database(look)), lambda: brought(look.machine))
        for one in (Brought(*row) for row in told):
            if start := paths.get((one.name, one.arch, one.version)):
                for service in one.services:
                    yield Edge(PROVIDES, start, path_of(Service, "systemd", service))
                for config in one.configs:
                    yield Edge(OWNS, start, path_of(ConfigFile, config))


def owner(machine: Machine, paths: Collection[str]) -> Iterator[Owner]:
    """The packages that own the file by rpm's database.

    Raises: Absent, Denied, Broken.
    """
    manager = manager_of(machine.files)
    for package in owners(machine, paths):
        beside = bool(install_only([package], manager.install_only))
        location = package.version if beside else None
        yield Owner(manager.name, package.name, package.arch or None, location)


def _software(package: Package, teller: Teller, known: Known) -> Software:
    source = (package.source or "").removesuffix(".src.rpm").removesuffix(".nosrc.rpm")
    asked = known.requested.get((package.name, package.arch), known.requested.get((package.name, "")))
    locked = known.locked
    return Software(
        key=package.name,
        name=package.name,
        version=package.version,
        scheme="rpm",
        manager=teller.manager,
        architecture=package.arch or None,
        location=teller.location(package.name, package.version),
        source_package=source.rsplit("-", 2)[0] or None,
        installed_at=datetime.fromtimestamp(package.installed_at, UTC) if package.installed_at else None,
        requested=asked if known.automatic is None else package.name not in known.automatic,
        held=None if locked is None else _key(package) in locked.packages,
        state="installed",
        size_bytes=package.size,
        summary=package.summary,
        stream=package.stream,
        **offered(known.updates.get(_key(package))),
    )


STATE = tuple(f"{place}/{name}" for place in PLACES for name in BACKENDS)
DATABASES = (DNF4, f"{DNF4}-wal", DNF5, f"{DNF5}-wal", *DIRECTORIES.values())
HISTORIES = (*DATABASES, DNF_LOG, DNF5_LOG, YUM_LOG, HISTORY)
collector = Collector(
    collect,
    (Software, DEPENDS_ON, PROVIDES, OWNS, PackageIndex),
    minutes(10),
    (*STATE, *HISTORIES, REASONS5, AUTOMATIC, *CACHES, *LOCKS),
    version=3,
    logged=True,
    managers=("dnf", "zypper"),
    owner=owner,
)
