"""What dnf and zypper keep of their repositories: the metadata that they fetched last, and when."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from watchman_mcp.machine.files import Files

INDEX = "repomd.xml"
"""The file that names all others of a repository."""


class Fetched(NamedTuple):
    """The metadata of the repositories of a manager; without paths there is none."""

    indexes: tuple[str, ...] = ()
    """Each repository's index."""
    paths: tuple[str, ...] = ()
    """All files that were fetched; a manager renews the time of one of them when nothing is newer."""
    marking: frozenset[str] = frozenset()
    """The repositories that say which updates are for security."""


def fetched(files: Files, cache: str, repository: Callable[[str], str]) -> Fetched:
    """What lies in a cache, whose directories `repository` gives the names of repositories.

    Raises: Denied, Broken.
    """
    indexes, paths, marking = list[str](), list[str](), set[str]()
    for entry in files.entries(cache) if files.exists(cache) else ():
        place = f"{cache}/{entry.name}/repodata"
        if entry.kind != "directory" or not files.exists(f"{place}/{INDEX}"):
            continue
        indexes.append(f"{place}/{INDEX}")
        names = [one.name for one in files.entries(place) if one.kind == "file"]
        paths += [f"{place}/{name}" for name in names]
        if any("updateinfo" in name for name in names):
            marking.add(repository(entry.name))
    return Fetched(tuple(indexes), tuple(paths), frozenset(marking))


def within(files: Files, paths: Iterable[str]) -> list[str]:
    """These paths, and of those that are directories what lies in them: an edited file does not show there.

    Raises: Denied, Broken.
    """
    found: list[str] = []
    for path in paths:
        if files.exists(path):
            found.append(path)
            if files.stat(path).kind == "directory":
                found += [f"{path}/{entry.name}" for entry in files.entries(path)]
    return found
