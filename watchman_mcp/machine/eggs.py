"""Eggs and links to them, as setuptools put them into an environment before there were wheels."""

from __future__ import annotations

import re

from packaging.utils import canonicalize_name

from watchman_mcp.errors import Broken
from watchman_mcp.machine.entries import Entry
from watchman_mcp.machine.files import Files

LINK = ".egg-link"
LINK_CAP = 64 << 10
_NAMED = re.compile(
    r"(?P<name>[^-]+)-(?P<version>[^-]+)(?:-py\d[^-]*(?:-.+)?)?\.(?:dist-info|egg-info|egg)", re.DOTALL
)


def named(file_name: str) -> tuple[str, str | None] | None:
    """Name and version by the name of what tells of a distribution; None if it tells none."""
    if file_name.endswith(LINK):
        return file_name.removesuffix(LINK), None
    match = _NAMED.fullmatch(file_name)
    return (match["name"], match["version"]) if match else None


def linked(files: Files, path: str, link: Entry, content: str) -> str:
    """The directory of the metadata that an egg-link leads to: its first line is a directory of sources.

    It is looked for in the directory of the person who made the link, and of nobody else.

    Raises: Absent, Denied, Broken.
    """
    place = content.partition("\n")[0].strip()
    if not place.startswith("/") or "\0" in place or ".." in place.split("/"):
        raise Broken(f"{path} leads nowhere; install the distribution again")
    if files.stat(place).uid not in (0, link.uid):
        raise Broken(f"{path} leads to a directory of another user, which is not read")
    wanted = canonicalize_name(link.name.removesuffix(LINK))
    for entry in files.entries(place):
        name, ending, _ = entry.name.rpartition(".egg-info")
        if ending and canonicalize_name(name.partition("-")[0]) == wanted:
            return f"{place}/{entry.name}"
    raise Broken(f"{path} leads to {place}, where no such distribution is; install it again")
