"""What apt would upgrade: `apt list --upgradable`, which reads apt's own lists and follows its pins."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from watchman_mcp.errors import Broken
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.updates import Update

ARGV = ["apt", "list", "--upgradable", "--quiet=2", "-o", "APT::Cmd::Disable-Script-Warning=1"]
LISTS = "/var/lib/apt/lists"
DECIDING = (
    LISTS,
    f"{LISTS}/partial",
    "/var/lib/dpkg/status",
    "/etc/apt",
    "/etc/apt/preferences",
    "/etc/apt/preferences.d",
    "/etc/apt/sources.list",
    "/etc/apt/sources.list.d",
)
"""What the answer depends on."""
FETCHED = (LISTS, f"{LISTS}/partial", "/var/lib/apt/periodic/update-success-stamp")
"""What is written when the lists are fetched."""

_LINE = re.compile(r"([a-z0-9][a-z0-9+.-]*)/(\S*) (\S+) (\S+) \[upgradable from: (\S+)\]", re.ASCII)

_UNMARKED = re.compile(r".*_dists_[a-z]+_updates_(?:In)?Release")
"""Debian's security updates up to 10, like `buster/updates`, which are of the suite of all others."""


def asking(files: Files) -> Callable[[Commands], tuple[list[Update], int]]:
    """What asks apt, knowing whether its lists mark security updates.

    Raises: Absent, Denied, Broken.
    """
    marked = marks_security(files)
    return lambda commands: ask(commands, marked)


def marks_security(files: Files) -> bool:
    """Whether each security update in apt's lists is of a suite of its own.

    Raises: Absent, Denied, Broken.
    """
    return not any(_UNMARKED.fullmatch(entry.name) for entry in files.entries(LISTS))


def ask(commands: Commands, marked: bool) -> tuple[list[Update], int]:
    """The upgrades, and how many lines of apt's answer were not understood.

    Raises: Absent, Denied, Broken.
    """
    answer = commands.run(ARGV, timeout=60, output_cap=32 << 20)
    if answer.code:
        reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise Broken(f"apt cannot tell what is upgradable: {reason}; run `apt list --upgradable` to see why")
    return read_upgradable(answer.stdout.splitlines(), marked)


def read_upgradable(lines: Iterable[str], marked: bool) -> tuple[list[Update], int]:
    """The lines `NAME/SUITE,SUITE VERSION ARCH [upgradable from: VERSION]`.

    Where security updates are not `marked` by their suite, one of another suite may be such a one.
    """
    found, unreadable = [], 0
    for line in lines:
        if match := _LINE.fullmatch(line.strip()):
            name, suites, version, arch, _ = match.groups()
            given = [suite for suite in suites.split(",") if suite not in ("", "now")]
            security = any(suite.endswith("-security") for suite in given) or (False if marked else None)
            found.append(Update(name, arch, version, ",".join(given) or None, security))
        elif line.strip() and not line.startswith("Listing"):
            unreadable += 1
    return found, unreadable
