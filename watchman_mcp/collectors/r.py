"""R packages in the libraries of the machine's R, of other R's and of people, by their DESCRIPTION files.

Each package is a scope, `r:LIBRARY/NAME`, because only its DESCRIPTION knows its version; its library is its
location. What came with R is not `requested`; of the others R does not keep who wanted them. What a
distribution put into R's libraries is listed too, beside its own package. A package needs what R finds first
in its own library and then in those of its R; a person's library is of the machine's R unless there are
others. Libraries of projects (renv) are not looked for. R keeps no newer versions and is never run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from watchman_mcp.collectors import Collector, Look, minutes
from watchman_mcp.machine import Machine
from watchman_mcp.machine.entries import Entry
from watchman_mcp.machine.places import Search
from watchman_mcp.machine.r_packages import OTHERS, PERSONAL, SYSTEM, Package, is_name, read_description
from watchman_mcp.schema import Edge
from watchman_mcp.schema.packages import DEPENDS_ON, Owner, Software

PACKAGES = 20_000
"""A library with more names is not read."""
DESCRIPTION_CAP = 1 << 20


_RESOURCES = ("/lib/R/site-library", "/Resources/library", "/Resources/site-library")


class _Found(NamedTuple):
    software: Software
    package: Package


def collect(look: Look) -> Iterator[Software | Edge]:
    """The packages of each library, and which of them need one another.

    Raises: Absent.
    """
    search = Search(look.machine.files)
    libraries = _libraries(search)
    found: dict[str, dict[str, _Found]] = {}
    for library in libraries:
        found[library] = {}
        for one in _packages(look, library):
            found[library][one.package.name] = one
            yield one.software
    for library in libraries:
        near = [found[place] for place in _searched(library, libraries)]
        for name, one in found[library].items():
            with look.part(f"r:{library}/{name}"):
                for need in one.package.needs:
                    if other := next((place[need] for place in near if need in place), None):
                        yield Edge(DEPENDS_ON, one.software.node_id, other.software.node_id)
    look.watch_places(libraries)
    look.searched(
        any(found.values()) or bool(look.failed), search.refused, "no R packages are on this machine"
    )


def owner(machine: Machine, paths: Collection[str]) -> Iterator[Owner]:
    """The packages whose directory, which R makes and takes away whole, the file is in.

    Raises: Denied, Broken.
    """
    for library in _libraries(Search(machine.files)):
        below = [path.removeprefix(f"{library}/") for path in paths if path.startswith(f"{library}/")]
        for name in {name for name, inside, _ in (path.partition("/") for path in below) if inside}:
            description = f"{library}/{name}/DESCRIPTION"
            if not is_name(name) or not machine.files.exists(description):
                continue
            if package := read_description(machine.files.read(description, DESCRIPTION_CAP)):
                yield Owner("r", package.name.lower(), None, library)


def _libraries(search: Search) -> dict[str, None]:
    """The libraries, the machine's own first."""
    found: dict[str, None] = {}
    for path in search.find((*SYSTEM, *OTHERS, *PERSONAL)):
        if any(entry.kind == "directory" for entry in search.entries(path)):
            found[path] = None
    return found


def _searched(library: str, libraries: Collection[str]) -> list[str]:
    """The libraries in which R looks for what packages of this one need."""
    if _of_other(library):
        place = library.rpartition("/")[0]
        return [library, *(one for one in libraries if one.rpartition("/")[0] == place and one != library)]
    known = library in SYSTEM or not any(_of_other(one) for one in libraries)
    return [library, *(one for one in libraries if known and one in SYSTEM and one != library)]


def _of_other(library: str) -> bool:
    """Whether it is a library of an R that is not the machine's own."""
    return library not in SYSTEM and library.endswith(("/lib/R/library", *_RESOURCES))


def _packages(look: Look, library: str) -> Iterator[_Found]:
    entries: list[Entry] = []
    with look.part(f"r:{library}"):
        entries = look.machine.files.entries(library, PACKAGES)
    look.seen.discard(f"r:{library}")  # its packages have the rows
    for entry in entries:
        if entry.kind not in ("directory", "link") or not is_name(entry.name):
            continue  # R works in directories such as 00LOCK-name
        package, scope = None, f"r:{library}/{entry.name}"
        with look.part(scope):
            path = f"{library}/{entry.name}/DESCRIPTION"
            package = read_description(look.machine.files.read(path, DESCRIPTION_CAP))
            if package and package.name == entry.name:
                yield _Found(_software(library, entry, package), package)
        if package is None:
            look.seen.discard(scope)  # no package


def _software(library: str, entry: Entry, package: Package) -> Software:
    return Software(
        key=package.name.lower(),
        name=package.name,
        version=package.version,
        scheme="r",
        manager="r",
        location=library,
        # The directory is made anew by each installation.
        installed_at=datetime.fromtimestamp(entry.mtime, UTC),
        requested=False if package.came_along else None,
        state="installed",
        summary=package.title,
    )


collector = Collector(collect, (Software, DEPENDS_ON), minutes(10), watch=SYSTEM, owner=owner)
