"""What the control group of a process tells: its systemd unit, and its container."""

from __future__ import annotations

import os
import re
from collections.abc import Collection

_UNIT = re.compile(r"[^/]+\.(?:service|scope|socket|mount|swap|slice)")
_CONTAINER = re.compile(r"(?:[a-z][a-z-]*-|[^:]+\.slice:[a-z-]+:)?([0-9a-f]{64})(?:\.scope)?")
"""docker, podman (libpod-), containerd, CRI-O (crio-) and Kubernetes; with cgroupfs the bare id.

Where containerd is told of systemd and runc is not, the name has colons.
"""
_LXC = ("lxc", "lxc.payload")
"""Groups below which every container of LXC, of LXD, Incus and Proxmox too, has one of its name."""
_PAYLOAD = "lxc.payload."
"""How it begins that name since version 4, where all are beside one another."""
_MONITOR = re.compile(r"(?:[a-z-]*-)?conmon-[0-9a-f]{64}(?:\.scope)?")
"""podman's and CRI-O's process beside a container."""
MOUNTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
"""Where the second version of control groups is mounted: alone, or beside the first."""
MANAGER = "init.scope"
"""The unit of the service manager itself."""


def paths(text: str) -> list[tuple[str, str]]:
    """Controllers and path of each line of a /proc/PID/cgroup, systemd's own hierarchy first.

    The path may hold colons; so may the name of a hierarchy not.
    """
    lines = [line.split(":", 2) for line in text.split("\n")]
    found = [(line[1], line[2]) for line in lines if len(line) == 3]
    return sorted(found, key=lambda one: (one[0] != "name=systemd", one[0] != ""))


def unit_of(text: str) -> str | None:
    """The system's unit that a /proc/PID/cgroup names, as sd_pid_get_unit(3) finds it.

    What a user's own manager runs belongs to that manager: user@1000.service.
    """
    for _, path in paths(text)[:1]:
        for part in path.split("/"):
            # systemd writes _ before a name that the kernel would take for a file of its own
            name = part.removeprefix("_")
            if not part or name.endswith(".slice"):
                continue
            return name if _UNIT.fullmatch(name) else None
    return None


def is_manager(text: str) -> bool:
    """Whether the process is a service manager, the system's or a user's."""
    return any(path.rpartition("/")[2] == MANAGER for _, path in paths(text)[:1])


def container_of(text: str) -> str | None:
    """The container that a /proc/PID/cgroup names, of nested ones the outermost: its id, in LXC its name."""
    for _, path in paths(text):
        above = ""
        for part in path.split("/"):
            if (found := _CONTAINER.fullmatch(part)) and not _MONITOR.fullmatch(part):
                return found[1]
            name = part.removeprefix(_PAYLOAD)
            if name and (name != part or above in _LXC):
                return name
            above = part
    return None


def numbered(wanted: Collection[int], mounts: tuple[str, ...] = MOUNTS) -> dict[int, str]:
    """What /proc/PID/cgroup says of processes in the groups of these numbers, which everyone may list."""
    root = next((place for place in mounts if os.path.exists(f"{place}/cgroup.controllers")), None)
    if root is None:
        return {}
    number = os.stat(root).st_ino
    found = {number: "0::/\n"} if number in wanted else {}
    left = [root]
    while left and len(found) < len(wanted):
        try:
            with os.scandir(place := left.pop()) as listing:
                for entry in listing:
                    if entry.is_dir(follow_symlinks=False):
                        left.append(entry.path)
                        if (number := entry.inode()) in wanted:
                            found[number] = f"0::{place.removeprefix(root)}/{entry.name}\n"
        except OSError:  # the group is gone, or denied
            continue
    return found
