"""Network namespaces of the running machine: which there are, and how to look from inside one."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine.cgroups import container_of

T = TypeVar("T")
NAMED = "/run/netns"
"""Where `ip netns` gives namespaces a name."""
MOST = 64
"""So many other namespaces at most are looked into."""
_NEW_NET = 0x40000000


class Namespace(NamedTuple):
    """A network namespace that is not this process's own."""

    inode: int
    name: str
    """Its name, or its inode where it has none."""
    path: str
    """What leads to it: /run/netns/NAME or /proc/PID/ns/net."""
    pid: int
    """A process in it; 0: none."""
    container: str = ""
    """The id of the container that is in it, where there is one and no other."""

    @property
    def named(self) -> bool:
        """Whether `ip netns` knows it by a name."""
        return self.path.startswith(f"{NAMED}/")


@dataclass
class Namespaces:
    """Those that can be found."""

    own: int = 0
    others: list[Namespace] = field(default_factory=list)
    """Those with a name first, each once; at most `MOST`."""
    left_out: str = ""
    """What to say of those beyond; empty where there are none."""
    denied: bool = False
    """Whether there are processes whose namespace this user may not see."""


def find(proc: str = "/proc", named: str = NAMED) -> Namespaces:
    """The namespaces that have a name or a process, and may be seen.

    Raises: Broken (/proc is not mounted).
    """
    found = Namespaces()
    try:
        found.own = os.stat("/proc/self/ns/net").st_ino
        pids = [name for name in os.listdir(proc) if name.isdecimal()]
    except OSError as error:
        raise Broken(f"the processes cannot be listed ({error}); mount /proc") from error
    found.denied = "1" not in pids  # an option of /proc hides the others' processes
    members: dict[int, int] = {}
    containers: dict[int, set[str]] = {}
    for number in pids:
        try:
            inode = int(os.readlink(f"{proc}/{number}/ns/net")[5:-1])
        except PermissionError:
            found.denied = True
        except (OSError, ValueError):
            continue  # ended meanwhile
        else:
            members.setdefault(inode, int(number))
            # What is in no container is somebody's visit, such as that of a look at its firewall.
            if inode != found.own and (container := _container(f"{proc}/{number}/cgroup")):
                containers.setdefault(inode, set()).add(container)
    names = _names(named)
    for inode in sorted(members.keys() | names.keys(), key=lambda one: (one not in names, one)):
        if inode != found.own:
            pid = members.get(inode, 0)
            path = f"{named}/{names[inode]}" if inode in names else f"{proc}/{pid}/ns/net"
            there = containers.get(inode, set())
            container = next(iter(there)) if len(there) == 1 else ""
            found.others.append(Namespace(inode, names.get(inode, str(inode)), path, pid, container))
    if more := len(found.others[MOST:]):
        found.left_out = f"there are {more} more network namespaces than are looked at"
        del found.others[MOST:]
    return found


def _container(path: str) -> str | None:
    """The container of a process, by its control group."""
    with suppress(OSError), open(path, encoding="utf-8", errors="surrogateescape") as stream:
        return container_of(stream.read())
    return None


def _names(directory: str) -> dict[int, str]:
    """The names of namespaces by inode, of several the first."""
    names: dict[int, str] = {}
    with suppress(OSError):
        kind = os.stat("/proc/self/ns/net").st_dev
        for name in sorted(os.listdir(directory)):
            with suppress(OSError):
                told = os.stat(f"{directory}/{name}")
                if told.st_dev == kind:  # what is left of one that was unmounted is an empty file
                    names.setdefault(told.st_ino, name)
    return names


def inside(namespace: Namespace, look: Callable[[], T]) -> T:
    """What `look` finds in a thread that has entered the namespace, and ends with it.

    Raises: Absent (it is gone), Denied, Broken; what `look` raises.
    """
    with ThreadPoolExecutor(max_workers=1) as threads:
        return threads.submit(_entered, namespace, look).result()


def _entered(namespace: Namespace, look: Callable[[], T]) -> T:
    import ctypes

    where = f"the network namespace {namespace.name}"
    library = ctypes.CDLL(None, use_errno=True)
    try:
        descriptor = os.open(namespace.path, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise Denied(f"{where} may not be entered by uid {os.geteuid()}") from error
    except OSError as error:
        raise Absent(f"{where} is gone") from error
    try:
        if os.fstat(descriptor).st_ino != namespace.inode:
            raise Absent(f"{where} is gone")  # its process ended, and its number went to another one
        if library.setns(descriptor, _NEW_NET):
            number = ctypes.get_errno()
            if number == 1:
                raise Denied(f"{where} may not be entered by uid {os.geteuid()}")
            raise Broken(f"{where} cannot be entered ({os.strerror(number)})")
    finally:
        os.close(descriptor)
    return look()
