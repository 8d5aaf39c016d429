"""The machine itself: its name, operating system, kernel, size and zone.

What only a running kernel tells is missing when another machine's files are read. There is always one host.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

from watchman_mcp.machine.files import Files
from watchman_mcp.machine.identity import Running, host_id, new_id, running, steady
from watchman_mcp.schema.core import Host

from . import Collector, Look, minutes

RELEASES = ("/etc/os-release", "/usr/lib/os-release")
_ASSIGNMENT = re.compile(r"\s*([A-Za-z0-9_]+)=([\"']?)(.*)\2\s*")
_ESCAPED = re.compile(r"\\([\\$\"'`])")


def read_release(text: str) -> dict[str, str]:
    """The assignments of an os-release file; shell quoting is undone and odd lines are passed over."""
    found = (_ASSIGNMENT.fullmatch(line) for line in text.split("\n"))
    return {match[1]: _ESCAPED.sub(r"\1", match[3]).strip() for match in found if match}


def read_hostname(text: str) -> str:
    """The name in a hostname file: its first line that is no comment; empty if there is none."""
    lines = (line.strip() for line in text.split("\n"))
    return next((line for line in lines if line and not line.startswith("#")), "")


def zone_of(target: str) -> str | None:
    """The name of the time zone that /etc/localtime links to."""
    _, found, name = target.partition("zoneinfo/")
    return name.removeprefix("posix/").removeprefix("right/") or None if found else None


def collect(look: Look) -> Iterator[Host]:
    """The one host."""
    files = look.machine.files
    release = read_release(next((files.text(path) for path in RELEASES if files.exists(path)), ""))
    machine = host_id(files, otherwise=str(look.marks.get("machine") or new_id()))
    look.marks["machine"] = machine
    kernel = _kernel(look)
    name = kernel.name if kernel else read_hostname(_optional(files, "/etc/hostname"))
    yield Host(
        machine=machine,
        name=look.settings.host.name or name or release.get("DEFAULT_HOSTNAME", "localhost"),
        os=release.get("PRETTY_NAME") or release.get("NAME"),
        os_id=release.get("ID"),
        os_version=release.get("VERSION_ID"),
        kernel=kernel.kernel if kernel else None,
        architecture=kernel.architecture if kernel else None,
        cpu_count=kernel.cpu_count if kernel else None,
        # One digit: a virtual machine's memory breathes by a few MiB, which is no change of the host.
        memory_total_gb=round(kernel.memory_total / 2**30, 1) if kernel else None,
        boot_time=datetime.fromtimestamp(kernel.boot_time, UTC) if kernel else None,
        boot_id=kernel.boot_id if kernel else None,
        time_zone=_time_zone(files),
    )


def _kernel(look: Look) -> Running | None:
    """What the kernel says, its start time held steady; nothing where another machine's files are read."""
    if not look.machine.live:
        why = "kernel, processors, memory and start time are asked of a running machine; run Watchman on it"
        look.cannot(f"{look.scope}:kernel", why)
        return None
    kernel = running()
    boot_time = steady(look.marks.get("boot_time"), kernel.boot_time)
    look.marks["boot_time"] = boot_time
    return replace(kernel, boot_time=boot_time)


def _time_zone(files: Files) -> str | None:
    """The zone's name; UTC where none is set, as the C library has it."""
    kinds = {entry.name: entry.kind for entry in files.entries("/etc")} if files.exists("/etc") else {}
    if kinds.get("localtime") == "link":
        return zone_of(files.target("/etc/localtime"))
    name = read_hostname(_optional(files, "/etc/timezone"))
    return name or (None if "localtime" in kinds else "UTC")


def _optional(files: Files, path: str) -> str:
    """The text of a file that need not be there."""
    return files.text(path) if files.exists(path) else ""


collector = Collector(
    collect, emits=(Host,), every=minutes(10), watch=("/etc/hostname", "/etc/os-release"), feature=""
)
