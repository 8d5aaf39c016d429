"""Which processes hold a socket open, and who they are.

Only names are read: command lines and environments hold secrets.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from watchman_mcp.machine.cgroups import container_of, is_manager, unit_of

_NAME_LENGTH = 15
"""The kernel keeps no more of a name."""


class Process(NamedTuple):
    """A process that holds a socket."""

    pid: int
    started: int
    """The clock tick at which it started."""
    name: str
    uid: int | None
    unit: str | None
    container: str | None
    manager: bool
    """Whether it is a service manager, which holds sockets for others."""


@dataclass
class Holders:
    """Processes by the sockets that they hold."""

    proc: str = "/proc"
    pids: dict[int, list[int]] = field(default_factory=dict)
    """By the inode of the socket."""
    denied: bool = False
    """Whether there are processes that this user may not look into."""
    _known: dict[int, Process | None] = field(default_factory=dict)

    def of(self, inodes: Iterable[int]) -> Process | None:
        """Who is behind sockets: the oldest of the processes, which the others were forked from.

        A manager that opened a socket for a service gives way to the service.
        """
        pids = {pid for inode in inodes for pid in self.pids.get(inode, ())}
        found = [process for pid in pids if (process := self._process(pid)) is not None]
        return min(found, key=lambda one: (one.manager, one.started, one.pid), default=None)

    def _process(self, pid: int) -> Process | None:
        if pid not in self._known:
            self._known[pid] = None
            with suppress(OSError, ValueError, IndexError):  # ended meanwhile
                self._known[pid] = describe(f"{self.proc}/{pid}")
        return self._known[pid]


def find(wanted: Collection[int], proc: str = "/proc") -> Holders:
    """The processes that hold sockets of these inodes; one pass over what every process has open.

    Raises: OSError (/proc is not mounted).
    """
    pids = [name for name in os.listdir(proc) if name.isdecimal()]
    found = Holders(proc, denied="1" not in pids)  # an option of /proc hides the others' processes
    targets = {f"socket:[{inode}]": inode for inode in wanted}
    for pid in pids:
        try:
            directory = os.open(f"{proc}/{pid}/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:
            found.denied = True
            continue
        except OSError:
            continue  # ended meanwhile
        try:
            held = _held(directory, targets)
        except PermissionError:
            found.denied = True
        except OSError:
            pass
        else:
            for inode in held:
                found.pids.setdefault(inode, []).append(int(pid))
        finally:
            os.close(directory)
    return found


def _held(directory: int, targets: dict[str, int]) -> set[int]:
    """The wanted sockets among the descriptors in a directory.

    Raises: OSError.
    """
    held = set()
    for name in os.listdir(directory):
        try:
            target = os.readlink(name, dir_fd=directory)
        except FileNotFoundError:  # closed meanwhile
            continue
        if target in targets:
            held.add(targets[target])
    return held


def describe(directory: str) -> Process:
    """The process of a directory of /proc.

    Raises: OSError, ValueError, IndexError (it ended).
    """
    stat = _text(f"{directory}/stat")
    opened, closed = stat.index("("), stat.rindex(")")  # a name may hold spaces and brackets
    name = stat[opened + 1 : closed]
    if len(name) >= _NAME_LENGTH:
        with suppress(OSError):
            program = os.path.basename(os.readlink(f"{directory}/exe")).removesuffix(" (deleted)")
            name = program if program.startswith(name) else name
    groups = _text(f"{directory}/cgroup")
    uids = [line for line in _text(f"{directory}/status").split("\n") if line.startswith("Uid:")]
    return Process(
        int(stat[:opened]),
        int(stat[closed + 2 :].split()[19]),
        name,
        int(uids[0].split()[2]),  # the effective one
        unit_of(groups),
        container_of(groups),
        is_manager(groups),
    )


def _text(path: str) -> str:
    with open(path, "rb") as stream:
        return stream.read().decode("utf-8", "surrogateescape")
