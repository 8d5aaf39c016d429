"""A booted machine whose names systemd-resolved looks up, with two interfaces of its own."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.rigs import cache
from tests.rigs.looking import look
from tests.rigs.machine import Machine, booted

HOW = "on Debian or Ubuntu: apt-get update"


def package() -> Path:
    """The Debian package of systemd-resolved, which is not part of the machine's tree."""
    cache.need_programs("systemd-resolved", "apt-get", how=HOW)
    return cache.once("resolved", "1 systemd-resolved", _fetch)


def _fetch(into: Path) -> None:
    done = subprocess.run(
        ["apt-get", "download", "systemd-resolved"], cwd=into, capture_output=True, timeout=120
    )
    if done.returncode != 0:
        cache.missing("systemd-resolved", HOW)


@contextlib.contextmanager
def resolving() -> Iterator[Machine]:
    """The machine, from power on to power off; d0 and d1 are the two ends of one cable.

    Raises: MachineError.
    """
    [archive] = package().glob("*.deb")
    with booted() as machine:
        machine.copy_in(archive, "/tmp/resolved.deb")
        # the archive may be newer by a little than the tree's systemd
        machine.run(["dpkg", "--force-depends", "--install", "/tmp/resolved.deb"])
        # the bus learns who may have the name, and only then the service can take it
        machine.run(["systemctl", "reload", "dbus"])
        machine.run(["systemctl", "restart", "systemd-resolved"])
        machine.run(["ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1"])
        for name, address in (("d0", "192.0.2.10/24"), ("d1", "198.51.100.10/24")):
            machine.run(["ip", "address", "add", address, "dev", name])
            machine.run(["ip", "link", "set", name, "up"])
        deadline = time.monotonic() + 10
        while "d1" not in machine.run(["resolvectl", "status"], check=False).stdout:
            assert time.monotonic() < deadline, "systemd-resolved does not know its interfaces"
            time.sleep(0.05)
        yield machine


def look_at(machine: Machine, name: str, **more: Any) -> dict[str, Any]:
    """What a collector sees of the machine, with none of ours installed in it."""
    enter = ["nsenter", "--target", str(machine.leader)]
    return look([*enter, "--net"], name, root=str(machine.root), commands_within=[*enter, "--all"], **more)
