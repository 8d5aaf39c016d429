"""Who the watched machine is: an id of its own, and what its kernel says of itself."""

import hmac
import os
import re
from dataclasses import dataclass
from uuid import UUID, uuid4

import psutil

from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine.files import Files

APPLICATION = bytes.fromhex("b805a6276ba14d26ee6334d883e56b1d")
"""Watchman's application id: with another one, every machine in every graph would be another machine."""

_MACHINE_IDS = ("/etc/machine-id", "/var/lib/dbus/machine-id")
_PRODUCT_UUID = "/sys/class/dmi/id/product_uuid"
_HEX = re.compile(r"[0-9a-fA-F]{32}")
# What firmware holds when its maker never set it; many machines share each.
_UNSET_PRODUCTS = frozenset({"0" * 32, "f" * 32, "03000200040005000006000700080009"})
_SMALL = 4096
_WOBBLE_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Running:
    """What only the running kernel tells; times are seconds since 1970, sizes are bytes."""

    name: str
    kernel: str
    architecture: str
    cpu_count: int | None
    memory_total: int
    boot_time: float
    boot_id: str | None
    """The kernel's name for this run of it: the start time moves with a clock step, this does not."""


def host_id(files: Files, otherwise: str = "") -> str:
    """The machine's id in the graph, 32 hexadecimal digits that do not give its secret machine id away.

    `otherwise` is the id that the caller keeps for a machine that names none itself.

    Raises: Absent (the machine names no id and there is no other), Denied, Broken.
    """
    for path in _MACHINE_IDS:
        found = _small(files, path)
        if _HEX.fullmatch(found) and found.strip("0"):
            return derived(bytes.fromhex(found))
    product = _product(files)
    if product:
        return derived(bytes.fromhex(product))
    if otherwise:
        return otherwise
    raise Absent(f"{_MACHINE_IDS[0]} names no machine id; `systemd-machine-id-setup` writes one")


def derived(machine: bytes, application: bytes = APPLICATION) -> str:
    """The id that `sd_id128_get_machine_app_specific` makes from a machine's id and an application's."""
    digest = hmac.digest(machine, application, "sha256")
    return UUID(bytes=digest[:16], version=4).hex


def new_id() -> str:
    """A random id, for a machine that names none."""
    return uuid4().hex


def running() -> Running:
    """What the kernel that Watchman runs on says of its machine.

    Raises: Broken (/proc is not mounted).
    """
    system = os.uname()
    try:
        memory, boot = psutil.virtual_memory().total, psutil.boot_time()
    except (OSError, RuntimeError, LookupError) as error:
        raise Broken(f"the kernel cannot be asked ({error}); mount /proc") from error
    return Running(system.nodename, system.release, system.machine, os.cpu_count(), memory, boot, _boot_id())


def _boot_id() -> str | None:
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip().replace("-", "") or None
    except (OSError, ValueError):
        return None


def steady(kept: object, seen: float) -> float:
    """The start time that was kept, unless the one seen now is another: the kernel's wobbles by a second.

    The kernel works it out from two clocks each time it is asked, and rounds down.
    """
    if isinstance(kept, int | float) and abs(kept - seen) <= _WOBBLE_SECONDS:
        return float(kept)
    return seen


def _product(files: Files) -> str:
    """The firmware's id of this machine as plain digits; empty if it has none or does not tell this user."""
    try:
        found = _small(files, _PRODUCT_UUID).replace("-", "").lower()
    except Denied:  # only root may read it, and a machine without one is normal
        return ""
    return found if _HEX.fullmatch(found) and found not in _UNSET_PRODUCTS else ""


def _small(files: Files, path: str) -> str:
    """The one line of a small file, empty if there is none."""
    try:
        return files.head(path, _SMALL).decode("utf-8", "replace").strip()
    except Absent:
        return ""
