"""What dnf would upgrade, by the metadata that it fetched last: `check-update` of dnf 4 and of dnf 5.

It follows priorities of repositories, modules, excludes and locks, which a query of packages does not.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from watchman_mcp.errors import Broken
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.rpm_metadata import Fetched, fetched
from watchman_mcp.machine.updates import Update

DNF, DNF5 = "dnf", "dnf5"
CACHES = {DNF: "/var/cache/dnf", DNF5: "/var/cache/libdnf5"}
"""The caches of root; dnf uses the same for everybody whom it asks not to fetch."""
SETTINGS = (
    "/etc/dnf/dnf.conf",
    "/etc/dnf/libdnf5.conf.d",
    "/etc/dnf/modules.d",
    "/etc/dnf/plugins",
    "/etc/dnf/repos.override.d",
    "/etc/dnf/vars",
    "/etc/dnf/versionlock.toml",
    "/etc/yum.repos.d",
)
"""What the answer depends on, beside metadata and installed packages."""

# dnf 4 would tell its log of every question.
_ARGV = {
    DNF: [DNF, "--quiet", "--cacheonly", "--setopt=logfilelevel=0", "check-update"],
    DNF5: [DNF5, "--quiet", "--cacheonly", "check-upgrade"],
}
_PLACE = "/usr/bin"
_FOUND = 100
# dnf 4 breaks a line where a column is too narrow.
_ROW = re.compile(r"^(\S+)\.(\w+)\s+(?:0:)?((?:[0-9]+:)?[^\s:-]+-[^\s:-]+)\s+(\S+)[ \t]*$", re.MULTILINE)
_OBSOLETING = re.compile(r"^Obsoleting packages", re.MULTILINE | re.IGNORECASE)


def program(files: Files) -> str | None:
    """The dnf that the machine has: the one that is called `dnf`, else dnf 5 by its own name.

    Raises: Denied, Broken.
    """
    if files.exists(f"{_PLACE}/{DNF}"):
        return DNF5 if files.real(f"{_PLACE}/{DNF}").endswith(f"/{DNF5}") else DNF
    return DNF5 if files.exists(f"{_PLACE}/{DNF5}") else None


def metadata(files: Files, name: str) -> Fetched:
    """What this dnf fetched, in directories that are called REPOSITORY-CHECKSUM.

    Raises: Denied, Broken.
    """
    return fetched(files, CACHES[name], lambda directory: directory.rpartition("-")[0])


def ask(commands: Commands, name: str, marking: frozenset[str]) -> tuple[list[Update], int]:
    """The upgrades, and how many lines of dnf's answer were not understood.

    Raises: Absent, Denied, Broken.
    """
    found, unreadable = _check(commands, name)
    marked, more = _check(commands, name, "--security") if marking and found else ([], 0)
    security = {update[:3] for update in marked}
    return [_marked(update, security, marking) for update in found], unreadable + more


def _marked(update: Update, security: Collection[object], marking: frozenset[str]) -> Update:
    """The update with its mark; one of a repository without advisories has none."""
    if update[:3] in security:
        return update._replace(security=True)
    return update._replace(security=False if update.origin in marking else None)


def _check(commands: Commands, name: str, *options: str) -> tuple[list[Update], int]:
    argv = [*_ARGV[name], *options]
    answer = commands.run(argv, timeout=120, output_cap=32 << 20)
    if answer.code == _FOUND:
        return read_upgrades(answer.stdout)
    if answer.code:
        reason = (answer.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
        raise Broken(f"{name} cannot tell what is upgradable: {reason}; run `{' '.join(argv)}` to see why")
    return [], 0  # what it says then is that nothing is to be done


def read_upgrades(text: str) -> tuple[list[Update], int]:
    """The rows `NAME.ARCH VERSION REPOSITORY`, and how many lines are none, before those that obsolete."""
    table = _OBSOLETING.split(text, maxsplit=1)[0]
    found = [Update(row[1], row[2], row[3], row[4]) for row in _ROW.finditer(table)]
    return found, sum(bool(line.strip()) for line in _ROW.sub("", table).split("\n"))
