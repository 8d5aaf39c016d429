"""Global Node packages: what npm, pnpm and yarn installed for a whole user or machine, by package.json files.

Each package is a scope, `npm:DIRECTORY/NAME`, because only its package.json knows its version; its global
directory is its location. A package is what was asked for by name; what it brought along lies inside it or
beside it for it alone, and is no package of the machine. Debian's own packages in `/usr/share/nodejs` belong
to apt. A link (`npm link`) is a package in the state `linked`, read if the machine's rules for links let it
be. No Node program is run.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from watchman_mcp.collectors import Collector, Look, minutes
from watchman_mcp.errors import Broken
from watchman_mcp.machine import Machine
from watchman_mcp.machine.entries import Entry
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.links import with_targets
from watchman_mcp.machine.node import (
    PNPM,
    ROOT,
    YARN,
    Manifest,
    global_directories,
    inside,
    is_name,
    read_manifest,
)
from watchman_mcp.machine.places import Search
from watchman_mcp.schema import Edge
from watchman_mcp.schema.packages import DEPENDS_ON, Owner, Software

MANIFEST_CAP = 2 << 20
PACKAGES = 5_000
"""A global directory with more names is not read."""
WANTED = 1_000
"""So many of the packages that a package.json asks for are looked at."""
_MODULES = "/node_modules/"
_ASIDE = re.compile(r"\.(.+)-[A-Za-z0-9]{8}")
"""How npm calls a package while it puts another version in its place."""


class _Place(NamedTuple):
    """Where a package should be, beyond a link of its manager."""

    name: str
    path: str
    entry: Entry | None
    expected: bool
    """Whether it was asked for, or is moved aside: then its absence is no removal."""


class _Found(NamedTuple):
    software: Software
    path: str
    needs: tuple[str, ...]


def collect(look: Look) -> Iterator[Software | Edge]:
    """The packages of each global directory, and which of them need one another.

    Raises: Absent.
    """
    search = Search(look.machine.files)
    directories = _directories(search)
    for manager, directory in directories:
        yield from _packages(look, manager, directory)
    look.watch_places(
        path for manager, directory in directories for path in _watched(search, manager, directory)
    )
    look.searched(
        bool(directories), search.refused, "no global packages of npm, pnpm or yarn are on this machine"
    )


def _directories(search: Search) -> list[tuple[str, str]]:
    """The global directories, each with its manager."""
    found = [("npm", directory) for directory in global_directories(search)]
    found += [("pnpm", directory) for directory in search.find(PNPM)]
    return found + [("yarn", directory) for directory in search.find(YARN)]


def _watched(search: Search, manager: str, directory: str) -> Iterator[str]:
    """What changes when a package of this global directory does."""
    yield directory
    if manager == "npm":
        groups = [entry.name for entry in search.entries(directory) if entry.name.startswith("@")]
        yield from (f"{directory}/{name}" for name in groups)
    else:
        yield f"{directory}/package.json"


def owner(machine: Machine, paths: Collection[str]) -> Iterator[Owner]:
    """The packages whose directory the file is in, also what is there for one of them alone.

    Raises: Denied, Broken.
    """
    files = machine.files
    paths = with_targets(files, paths)  # the programs of packages are links
    for manager, directory in _directories(Search(files)):
        # pnpm keeps files in a store that is beside this directory, or in it.
        top = directory.rsplit("/", 2)[0] if manager == "pnpm" else directory
        below = [path for path in paths if path.startswith(f"{top}/")]
        if not below:
            continue
        for place in _owning(files, manager, directory, below):
            if files.exists(f"{place.path}/package.json"):
                yield Owner(manager, place.name, None, directory)


def _owning(files: Files, manager: str, directory: str, paths: list[str]) -> Iterator[_Place]:
    """The packages in or below whose directory one of these paths is."""
    if manager == "npm":
        for name in {_name_in(path.removeprefix(f"{directory}/")) for path in paths} - {""}:
            yield _Place(name, f"{directory}/{name}", None, False)
        return
    for place in _wanted(files, directory, manager):
        link = f"{directory}{_MODULES}{place.name}"
        if any(path.startswith((f"{place.path}/", f"{link}/")) for path in paths):
            yield place


def _name_in(path: str) -> str:
    """The name of the package that a path in a global directory of npm is below; empty for none."""
    parts = path.split("/")
    name = "/".join(parts[: 2 if path.startswith("@") else 1])
    return name if is_name(name) and path != name else ""


def _packages(look: Look, manager: str, directory: str) -> Iterator[Software | Edge]:
    """The packages, and an edge where one of them is what another finds when it asks for what it needs."""
    files = look.machine.files
    places: list[_Place] = []
    with look.part(f"npm:{directory}"):
        if manager == "npm":
            places = list(_installed(files, directory))
        else:
            places = list(_wanted(files, directory, manager))
    look.seen.discard(f"npm:{directory}")  # its packages have the rows
    found: dict[str, _Found] = {}
    for place in places:
        scope = f"npm:{directory}/{place.name}"
        with look.part(scope):
            manifest = read_manifest(files.read(f"{place.path}/package.json", MANIFEST_CAP))
            one = _Found(_software(manager, directory, place, manifest), place.path, manifest.needs)
            found[place.name] = one
            yield one.software
        if place.expected and scope not in look.seen | look.failed:
            look.cannot(
                scope, f"{manager} is putting it there, or was stopped while it did; install it again"
            )
    for name, one in found.items():
        with look.part(f"npm:{directory}/{name}"):
            for other in (found[need] for need in one.needs if need in found and need != name):
                if _finds(files, one.path, other):
                    yield Edge(DEPENDS_ON, one.software.node_id, other.software.node_id)


def _installed(files: Files, directory: str) -> Iterator[_Place]:
    """What lies in a global directory of npm, where each name is a package."""
    entries = files.entries(directory, PACKAGES)
    yield from _places(directory, "", entries)
    for entry in entries:
        if entry.name.startswith("@") and entry.kind == "directory":
            scoped = files.entries(f"{directory}/{entry.name}", PACKAGES)
            yield from _places(directory, f"{entry.name}/", scoped)


def _places(directory: str, group: str, entries: list[Entry]) -> Iterator[_Place]:
    """The packages among these names, also those moved aside; other names with a dot are npm's own."""
    there = {entry.name: entry for entry in entries if entry.kind in ("directory", "link")}
    aside = {match[1] for name in there if (match := _ASIDE.fullmatch(name))}
    for name in sorted(there.keys() | aside):
        if is_name(group + name):
            yield _Place(group + name, f"{directory}/{group}{name}", there.get(name), name in aside)


def _wanted(files: Files, directory: str, manager: str) -> Iterator[_Place]:
    """What somebody asked pnpm or yarn for: the dependencies that a package.json of their own lists."""
    # pnpm's links lead to a store that is beside this directory, or in it.
    top = directory.rsplit("/", 2)[0] if manager == "pnpm" else directory
    for project in _projects(files, directory) if manager == "pnpm" else [directory]:
        wanted = read_manifest(files.read(f"{project}/package.json", MANIFEST_CAP)).wanted
        if len(wanted) > WANTED:
            raise Broken(f"{project}/package.json asks for more than {WANTED} packages; it is not read")
        for name, wish in wanted.items():
            path = f"{project}{_MODULES}{name}"
            entry = _entry(files, path)
            if entry and entry.kind == "link" and not wish.startswith(("link:", "file:")):
                path = inside(path.rpartition("/")[0], files.target(path), top) or path
                entry = _entry(files, path)
            yield _Place(name, path, entry, expected=True)


def _projects(files: Files, directory: str) -> Iterator[str]:
    """The directory itself, or since pnpm 11 one for each installation; a link leads to those in use."""
    if files.exists(f"{directory}/package.json"):
        yield directory
        return
    entries = files.entries(directory, PACKAGES)
    used = {files.target(f"{directory}/{entry.name}") for entry in entries if entry.kind == "link"}
    yield from (
        f"{directory}/{entry.name}"
        for entry in entries
        if entry.kind == "directory" and used & {entry.name, f"{directory}/{entry.name}"}
    )


def _entry(files: Files, path: str) -> Entry | None:
    """What is at this path, not followed if it is a link."""
    parent, _, name = path.rpartition("/")
    if not files.exists(parent):
        return None
    return next((entry for entry in files.entries(parent, PACKAGES) if entry.name == name), None)


def _software(manager: str, directory: str, place: _Place, manifest: Manifest) -> Software:
    return Software(
        key=place.name,
        name=manifest.name or place.name,
        version=manifest.version,
        scheme="semver",
        manager=manager,
        location=directory,
        # The directory is made anew by each installation.
        installed_at=datetime.fromtimestamp(place.entry.mtime, UTC) if place.entry else None,
        requested=True,
        state="linked" if place.entry and place.entry.kind == "link" else "installed",
        summary=manifest.summary,
    )


def _finds(files: Files, path: str, other: _Found) -> bool:
    """Whether Node, from within the package at this path, finds the other one and no copy of its own."""
    name = other.software.key
    own, beside = f"{path}{_MODULES}{name}", path[: path.rindex(_MODULES) + len(_MODULES)] + name
    if _entry(files, own) is not None:
        return _leads(files, own, other.path)
    return beside == other.path or _leads(files, beside, other.path)


def _leads(files: Files, path: str, end: str) -> bool:
    """Whether a link at this path leads there, by its text."""
    entry = _entry(files, path)
    if entry is None or entry.kind != "link":
        return False
    return inside(path.rpartition("/")[0], files.target(path), "") == end


WATCHED = (
    f"/usr/{ROOT}",
    f"/usr/local/{ROOT}",
    f"/root/.npm-global/{ROOT}",
    "/root/.config/yarn/global",
    YARN[1],
)
MANAGERS = ("npm", "pnpm", "yarn")
collector = Collector(
    collect,
    (Software, DEPENDS_ON),
    minutes(10),
    watch=WATCHED,
    managers=MANAGERS,
    owner=owner,
)
