"""What pacman fetched of its repositories, and what lies in its lists of files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress

from watchman_mcp.errors import Absent, Broken
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.pacman import entry_named
from watchman_mcp.machine.patterns import fits
from watchman_mcp.machine.tars import opened
from watchman_mcp.machine.unit_files import service_of
from watchman_mcp.machine.updates import Update
from watchman_mcp.machine.versions.alpm import compare

CONFIGURATION_CAP = 1 << 20
INCLUDED = 10
"""So deep at most may one configuration include another, as pacman counts."""
FILES = 1_000

_BACKUP = b"%BACKUP%\n"


def configuration(files: Files, path: str) -> str:
    """The text of a configuration, with those that it includes where it does.

    Raises: Absent, Denied, Broken.
    """
    return "\n".join(_whole(files, path, INCLUDED, iter(range(FILES))))


def _whole(files: Files, path: str, depth: int, count: Iterator[int]) -> Iterator[str]:
    if next(count, None) is None:
        raise Broken(f"{path} is one of more than {FILES} configurations of pacman's; it is not read")
    for line in files.text(path, CONFIGURATION_CAP).split("\n"):
        name, _, value = line.partition("=")
        if name.strip() != "Include":
            yield line
        elif depth:
            for included in _matching(files, value.strip()):
                with suppress(Absent):  # pacman goes on without it
                    yield from _whole(files, included, depth - 1, count)


def _matching(files: Files, pattern: str) -> Iterator[str]:
    directory, _, name = pattern.rpartition("/")
    if not any(sign in name for sign in "*?["):
        yield pattern
        return
    with suppress(Absent):
        for entry in files.entries(directory or "/"):
            if fits(entry.name, name) and entry.name.startswith(".") == name.startswith("."):
                yield f"{directory}/{entry.name}"


def newer(files: Files, databases: Mapping[str, str], installed: Mapping[str, str]) -> list[Update]:
    """The newer versions that these databases, by repository, have of installed packages.

    Of each package the first repository that has it counts, as pacman has it.

    Raises: Absent, Denied, Broken.
    """
    offered: dict[str, tuple[str, str]] = {}
    for repository, path in databases.items():
        here: dict[str, str] = {}
        before = ""
        with opened(files, path) as members:
            for member in members:
                directory = member.name.partition("/")[0]
                if directory == before:  # a package has a name for itself and for each of its files
                    continue
                before, found = directory, entry_named(directory)
                if found and found["NAME"][0] in installed:
                    here[found["NAME"][0]] = found["VERSION"][0]
        offered = {name: (version, repository) for name, version in here.items()} | offered
    return [
        Update(name, None, version, repository)
        for name, (version, repository) in sorted(offered.items())
        if compare(version, installed[name]) > 0
    ]


def brought(files: Files, local: str) -> dict[str, tuple[list[str], list[str]]]:
    """By the directory of each package the services and the configuration files that it brought.

    Raises: Absent, Denied, Broken.
    """
    found: dict[str, tuple[list[str], list[str]]] = {}
    for name, listed in _lists(files, local):
        paths, _, backups = listed.partition(_BACKUP)
        services = {service for path in _lines(paths) if (service := service_of(path))}
        kept = [path for line in _lines(backups) if (path := line.rpartition("\t")[0])]
        if services or kept:
            found[name] = sorted(services), kept
    return found


def owners(files: Files, local: str, paths: Collection[str]) -> Iterator[str]:
    """The names of the packages in whose lists a file stands, known by any of these paths.

    Raises: Absent (no pacman), Denied, Broken.
    """
    wanted = [f"\n{path[1:]}\n".encode("utf-8", "surrogateescape") for path in paths if path[1:]]
    for directory, listed in _lists(files, local):
        named = entry_named(directory)
        if named and any(path in listed for path in wanted):
            yield named["NAME"][0]


def _lists(files: Files, local: str) -> Iterator[tuple[str, bytes]]:
    """Each package's directory, with its list of files, in which paths have no slash before them."""
    with files.directory(local) as directory:
        for entry in directory.entries():
            if entry.kind == "directory":
                with suppress(Absent), directory.directory(entry.name) as inner:
                    yield entry.name, inner.read("files")


def _lines(listed: bytes) -> Iterable[str]:
    return (f"/{line}" for line in listed.decode("utf-8", "surrogateescape").split("\n") if line)
