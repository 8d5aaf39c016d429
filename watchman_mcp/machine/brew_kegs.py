"""Where Homebrew puts kegs and casks, and which version of each is in use."""

from __future__ import annotations

import re
from collections.abc import Iterable

from watchman_mcp.machine.files import Files
from watchman_mcp.machine.versions import compare_versions

USED = ("opt", "var/homebrew/linked", "Library/LinkedKegs")
PINNED = ("var/homebrew/pinned", "Library/PinnedKegs")
PUT_ASIDE = ".reinstall"
"""How the name ends of what brew puts aside until a new one has come."""

_PLACED = re.compile(
    r"(?P<prefix>/.+?)/(?P<room>Cellar|Caskroom)/(?P<name>[^/.][^/]*)/(?P<version>[^/.][^/]*)/.+", re.DOTALL
)


def names(files: Files, path: str) -> list[str]:
    """The directories in a directory, without hidden ones; none if it is not there."""
    if not files.exists(path):
        return []
    found = files.entries(path)
    return [one.name for one in found if one.kind == "directory" and not one.name.startswith(".")]


def targets(files: Files, prefix: str, places: tuple[str, ...]) -> dict[str, str]:
    """By name the version that a link of one of these directories leads to; the first one counts."""
    found: dict[str, str] = {}
    for place in places:
        path = f"{prefix}/{place}"
        if not files.exists(path):
            continue
        for entry in files.entries(path):
            if entry.kind == "link" and entry.name not in found:
                rack, _, version = files.target(f"{path}/{entry.name}").rstrip("/").rpartition("/")
                if rack.rpartition("/")[2] == entry.name:  # others are aliases
                    found[entry.name] = version
    return found


def kegs(files: Files, rack: str) -> list[str]:
    """The versions of a formula that are there."""
    return [version for version in names(files, rack) if not version.endswith(PUT_ASIDE)]


def chosen(versions: Iterable[str], linked: str | None) -> str:
    """The version in use: the linked one, or else the newest."""
    newest, *others = versions
    if linked in (newest, *others):
        return str(linked)
    for version in others:
        if compare_versions("brew", version, newest) > 0:
            newest = version
    return newest


def placed_at(path: str) -> tuple[str, str, str, str] | None:
    """Prefix, room, name and version of the keg or cask that a path lies in; None for another path."""
    match = _PLACED.fullmatch(path)
    return (match["prefix"], match["room"], match["name"], match["version"]) if match else None
