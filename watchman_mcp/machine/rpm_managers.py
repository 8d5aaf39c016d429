"""Whose the packages of rpm are, and what that manager keeps beside them: metadata, updates and locks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from typing import NamedTuple

from watchman_mcp.machine import dnf_updates, rpm_locks, zypp_updates
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.rpm import INSTALL_ONLY, MULTIVERSION, Package
from watchman_mcp.machine.rpm_locks import Locked
from watchman_mcp.machine.rpm_metadata import Fetched, within
from watchman_mcp.machine.updates import Update
from watchman_mcp.machine.versions.rpm import compare

ZYPP = "/etc/zypp"
DNF = "/etc/dnf"
RELEASE = "/etc/os-release"
ZYPPER = "zypper"
LOCKS = (rpm_locks.VERSIONLOCK, rpm_locks.LOCKLIST, rpm_locks.DNF5_LOCKS, rpm_locks.ZYPP_LOCKS)
CACHES = (*dnf_updates.CACHES.values(), zypp_updates.CACHE)


class Kept(NamedTuple):
    """What the manager keeps of its repositories, and what else its answer about updates depends on."""

    fetched: Fetched
    settings: Sequence[str]


@dataclass(frozen=True)
class Manager:
    """The manager of the packages, and the program to ask; None where the machine has none of it."""

    name: str
    program: str | None

    @property
    def install_only(self) -> frozenset[str]:
        """What packages provide whose new versions are put beside the old ones."""
        return MULTIVERSION if self.name == ZYPPER else INSTALL_ONLY

    def kept(self, files: Files) -> Kept | None:
        """What it keeps of its repositories; None where there is none of it, and nothing to ask.

        Raises: Denied, Broken.
        """
        if self.program is None:
            return None
        settings: tuple[str, ...] = dnf_updates.SETTINGS
        if self.program == ZYPPER:
            fetched, settings = zypp_updates.metadata(files), zypp_updates.SETTINGS
        else:
            fetched = dnf_updates.metadata(files, self.program)
        return Kept(fetched, within(files, settings)) if fetched.indexes else None

    def ask(self, commands: Commands, marking: frozenset[str]) -> tuple[list[Update], int]:
        """The updates, and how many lines of the answer were not understood.

        Raises: Absent, Denied, Broken.
        """
        if self.program == ZYPPER:
            return zypp_updates.ask(commands, marking)
        return dnf_updates.ask(commands, self.program or dnf_updates.DNF, marking)

    def locked(self, files: Files, packages: Sequence[Package]) -> Locked | None:
        """The packages that it keeps from updates; None where there is no manager that would keep them.

        Raises: Denied, Broken.
        """
        if self.name == ZYPPER:
            return rpm_locks.locked_by_zypp(files, packages)
        if self.program == dnf_updates.DNF5:
            return rpm_locks.locked_by_dnf5(files, packages)
        return rpm_locks.locked_by_dnf(files, packages) if self.program else None


def manager_of(files: Files) -> Manager:
    """Whose the packages are: zypper's where libzypp is; with dnf beside it, the distribution decides.

    Raises: Denied, Broken.
    """
    if files.exists(ZYPP):
        release = files.text(RELEASE) if files.exists(DNF) and files.exists(RELEASE) else "suse"
        if "suse" in release.lower():
            return Manager(ZYPPER, ZYPPER if files.exists(zypp_updates.PROGRAM) else None)
    return Manager("dnf", dnf_updates.program(files))


def updates_of(
    packages: Iterable[Package], updates: Mapping[tuple[str, str | None], Update]
) -> dict[tuple[str, str, str], Update]:
    """The update of each package by its name, architecture and version.

    Of versions beside one another it is the newest one's. A package may change between its architecture and
    none.
    """
    newest: dict[tuple[str, str], Package] = {}
    for package in sorted(packages, key=lambda package: cmp_to_key(compare)(package.version)):
        newest[package.name, package.arch] = package
    by_name: dict[str, list[Update]] = {}
    for update in updates.values():
        if (update.name, update.architecture) not in newest:
            by_name.setdefault(update.name, []).append(update)
    found: dict[tuple[str, str, str], Update] = {}
    for (name, arch), package in newest.items():
        changing = [u for u in by_name.get(name, ()) if "noarch" in (arch, u.architecture)]
        newer = updates.get((name, arch)) or (changing[0] if len(changing) == 1 else None)
        if newer and compare(newer.version, package.version) > 0:
            found[name, arch, package.version] = newer
    return found
