"""Flatpaks: the applications and runtimes of the machine and of each person, by what flatpak deployed.

Each installation is a scope, `flatpak:PATH`; the location of a package is where its branch lies within it,
for there may be several. A version is `VERSION (COMMIT)`. Deployments are the log: each says when it was
put there, and its commit's date tells updates from downgrades; what went is observed. A person's own
installation is looked for in each home. flatpak's own history is in the journal alone. A machine without
any installation is Absent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import NamedTuple, cast

from watchman_mcp.collectors import Collector, Look, Seen, minutes, offered
from watchman_mcp.errors import Absent
from watchman_mcp.machine import Machine, flatpak_summaries
from watchman_mcp.machine.files import Directory, Files
from watchman_mcp.machine.flatpak import (
    COMMIT,
    Deployed,
    deployed_at,
    masked,
    read_deploy,
    read_installation,
    read_masks,
    read_runtime,
    shown,
)
from watchman_mcp.machine.places import Search
from watchman_mcp.machine.updates import Update
from watchman_mcp.schema import Edge
from watchman_mcp.schema.core import Event, Record, event_key
from watchman_mcp.schema.packages import DEPENDS_ON, Owner, PackageIndex, Software

SYSTEM = "/var/lib/flatpak"
OTHERS = "/etc/flatpak/installations.d"
HOMES = ("~/.local/share/flatpak",)
SUMMARIES = flatpak_summaries.SUMMARIES
WATCHED = (".changed", "app", "runtime", SUMMARIES)
"""What flatpak writes of an installation when something changes in it, or when it fetches."""
FILE_CAP = 1 << 20

Mark = tuple[str, int, int, str]
"""Of each reference its commit, when that was made, when it was deployed, and its version."""


class _Found(NamedTuple):
    """An active deployment."""

    reference: str
    software: Software
    deployed: Deployed
    runtime: str
    at: datetime

    @property
    def mark(self) -> Mark:
        version = self.software.version or ""
        return self.deployed.commit, self.deployed.committed_at, int(self.at.timestamp()), version


def collect(look: Look) -> Iterator[Seen]:
    """What each installation holds, which runtimes it needs, and what was deployed since the last look.

    Raises: Absent.
    """
    search = Search(look.machine.files)
    installations = list(search.find([SYSTEM, *_others(look), *HOMES]))
    for path, why in search.refused.items():
        look.cannot(f"{look.scope}:{path}", why)
    if not installations and not search.refused:
        raise Absent("flatpak installed nothing on this machine")
    runtimes: dict[str, str] = {}
    for installation in installations:
        look.watch(*(f"{installation}/{one}" for one in WATCHED))
        with look.part(f"{look.scope}:{installation}"):
            found = list(_deployments(look, installation))
            lists = _lists(look, installation)
            if lists:
                fetched = look.newest(f"{installation}/{SUMMARIES}", *sum(lists.values(), []))
                yield PackageIndex(manager="flatpak", location=installation, refreshed_at=fetched)
            updates = _updates(look, installation, lists, found)
            # An application may need a runtime of another installation, but finds one of its own first.
            runtimes |= {one.reference: one.software.node_id for one in found}
            for one in found:
                yield one.software.model_copy(update=offered(updates.get(one.reference)))
            for one in found:
                if end := runtimes.get(f"runtime/{one.runtime}"):
                    yield Edge(DEPENDS_ON, one.software.node_id, end)
            yield from _records(look, installation, found)


def owner(machine: Machine, paths: Collection[str]) -> Iterator[Owner]:
    """The application or runtime in whose active deployment a file lies.

    Raises: Denied, Broken.
    """
    files = machine.files
    places = [(path, place) for path in paths if (place := deployed_at(path))]
    others = _configured(files) if places and files.exists(OTHERS) else []
    installations = set(Search(files).find([SYSTEM, *others, *HOMES])) if places else set()
    for path, (installation, reference, commit) in places:
        location = f"{installation}/{reference}"
        if installation in installations and files.exists(path) and files.exists(f"{location}/active"):
            _, name, arch, _ = reference.split("/")
            if files.target(f"{location}/active").rstrip("/").rpartition("/")[2] == commit:
                yield Owner("flatpak", name.lower(), arch, location)


def _others(look: Look) -> list[str]:
    """Installations that the machine's configuration adds."""
    found: list[str] = []
    with look.beside(OTHERS):
        found = _configured(look.machine.files)
    return found


def _configured(files: Files) -> list[str]:
    found: list[str] = []
    with files.directory(OTHERS) as directory:
        for entry in directory.entries():
            if entry.name.endswith(".conf"):
                found += read_installation(directory.text(entry.name, FILE_CAP))
    return found


def _lists(look: Look, installation: str) -> dict[str, list[str]]:
    """By remote the lists that flatpak fetched of it."""
    found: dict[str, list[str]] = {}
    with look.beside(f"{installation}/{SUMMARIES}"):
        found = flatpak_summaries.lists(look.machine.files, f"{installation}/{SUMMARIES}")
    return found


def _updates(
    look: Look, installation: str, lists: dict[str, list[str]], found: list[_Found]
) -> dict[str, Update]:
    """By reference the commit that its remote has now, where it is another than the deployed one."""
    updates: dict[str, Update] = {}
    for remote, paths in lists.items():
        deployed = {one.reference: one.deployed.commit for one in found if one.deployed.origin == remote}
        for path in paths if deployed else ():
            with look.beside(path):
                told = look.kept(
                    f"commits:{path}",
                    [look.signs(path), sorted(deployed)],
                    lambda path=path, wanted=set(deployed): flatpak_summaries.commits(  # type: ignore[misc] # mypy infers no lambda with defaults
                        look.machine.files, path, wanted
                    ),
                )
                for reference, commit in told.items():
                    if commit != deployed[reference]:
                        updates[reference] = Update(reference, None, shown("", commit), remote)
    return updates


def _deployments(look: Look, installation: str) -> Iterator[_Found]:
    masks: tuple[str, ...] | None = ()
    configuration = f"{installation}/repo/config"
    with look.beside(configuration) as scope:
        masks = read_masks(look.machine.files.text(configuration, FILE_CAP))
    if scope in look.failed:
        masks = None
    for kind in ("app", "runtime"):
        for name in _names(look, f"{installation}/{kind}"):
            for arch in _names(look, f"{installation}/{kind}/{name}"):
                for branch in _names(look, f"{installation}/{kind}/{name}/{arch}"):
                    found = _deployment(look, installation, f"{kind}/{name}/{arch}/{branch}", masks)
                    if found:
                        yield found


def _names(look: Look, path: str) -> list[str]:
    """The directories in a directory; none if it is not there."""
    if not look.machine.files.exists(path):
        return []
    return [one.name for one in look.machine.files.entries(path) if one.kind == "directory"]


def _deployment(
    look: Look, installation: str, reference: str, masks: tuple[str, ...] | None
) -> _Found | None:
    """The active deployment of a reference, if there is one; what cannot be read is known by its commit."""
    kind, name, arch, branch = reference.split("/")
    location = f"{installation}/{reference}"
    commit, at = "", datetime.min.replace(tzinfo=UTC)
    deployed, runtime = Deployed("", "", None, "", "", "", 0), ""
    with look.beside(f"{location}/active"):
        commit = look.machine.files.target(f"{location}/active").rstrip("/").rpartition("/")[2]
    if not COMMIT.fullmatch(commit):
        return None
    with (
        look.beside(f"{location}/{commit}"),
        look.machine.files.directory(f"{location}/{commit}") as directory,
    ):
        at, deployed, runtime = _read(directory)
    software = Software(
        key=name.lower(),
        name=name,
        version=shown(deployed.version, commit),
        manager="flatpak",
        architecture=arch,
        location=location,
        source_package=f"{deployed.origin}/{name}" if deployed.origin else None,
        installed_at=at if deployed.origin else None,
        requested=True if kind == "app" else None,  # runtimes mostly come with what needs them
        held=None if masks is None else masked(reference, masks),
        # Without a description it is on its way, from a build or to one.
        state="installed" if deployed.origin else "half-installed",
        size_bytes=deployed.size_bytes,
        summary=deployed.summary or None,
        stream=branch,
    )
    return _Found(reference, software, deployed._replace(commit=commit), runtime, at)


def _read(directory: Directory) -> tuple[datetime, Deployed, str]:
    """When a deployment was made, what it is, and the runtime that it needs."""
    entries = {entry.name: entry for entry in directory.entries()}
    if "deploy" not in entries:
        raise Absent(f"{directory.path}/deploy is not there: it is about to be deployed")
    deployed = read_deploy(directory.read("deploy", FILE_CAP))
    metadata = directory.text("metadata", FILE_CAP) if "metadata" in entries else ""
    return datetime.fromtimestamp(int(entries["deploy"].mtime), UTC), deployed, read_runtime(metadata)


def _records(look: Look, installation: str, found: list[_Found]) -> Iterator[Record]:
    """What was deployed since the last look."""
    before = cast("dict[str, Mark] | None", look.marks.get(installation))
    # One that is just being replaced cannot be read: what was known of it counts until it can.
    known = before or {}
    marks = {one.reference: one.mark if one.deployed.origin else known.get(one.reference) for one in found}
    look.marks[installation] = {reference: mark for reference, mark in marks.items() if mark}
    for one in found if before is not None else ():
        old = before.get(one.reference) if before else None
        if one.deployed.origin and (old is None or (old[0], old[2]) != (one.mark[0], one.mark[2])):
            yield _record(one, old)


def _record(one: _Found, old: Mark | None) -> Record:
    software, kind = one.software, "package_install"
    if old is not None:
        kind = "package_update" if one.deployed.committed_at >= old[1] else "package_downgrade"
        kind = kind if old[0] != one.deployed.commit else "package_reinstall"
    event = Event(
        key=event_key("flatpak", software.location, one.deployed.commit, int(one.at.timestamp())),
        ts=one.at,
        type=kind,
        source="flatpak",
        subject=software.key,
        package_name=software.key,
        version=software.version,
        previous=old[3] if old else None,
        manager="flatpak",
        architecture=software.architecture,
        location=software.location,
    )
    return Record(event, software)


collector = Collector(
    collect,
    (Software, DEPENDS_ON, PackageIndex),
    minutes(10),
    tuple(f"{SYSTEM}/{one}" for one in WATCHED),
    version=2,
    logged=True,
    owner=owner,
)
