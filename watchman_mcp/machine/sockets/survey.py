"""The sockets of one network namespace, with what its kernel settings say of ports."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property

from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine import network_namespaces
from watchman_mcp.machine.network_namespaces import Namespace

from . import Inet, Sockets, diag, tables

_SETTINGS = "/proc/sys/net/ipv4"


@dataclass
class Ports:
    """The ports that the kernel gives to sockets which asked for none."""

    first: int = 32_768
    last: int = 60_999
    reserved: list[tuple[int, int]] = field(default_factory=list)
    """Those within that are only given to who asks."""

    def given(self, port: int) -> bool:
        """Whether the kernel may have chosen the port."""
        return self.first <= port <= self.last and not any(low <= port <= high for low, high in self.reserved)


@dataclass
class Survey:
    """What was found in one namespace."""

    sockets: Sockets
    ports: Ports

    @cached_property
    def _users(self) -> Counter[int]:
        """How many UDP sockets without a peer each port has."""
        return Counter(one.port for one in self.sockets.listening if one.protocol == "udp")

    def passing(self, one: Inet) -> bool:
        """Whether a UDP socket may be that of a client, which waits for an answer and is gone.

        The kernel does not tell who chose a port; but it gives none twice, for IPv4 and IPv6, as servers ask.
        """
        return one.protocol == "udp" and self.ports.given(one.port) and self._users[one.port] == 1


def read_ports(span: str, reserved: str) -> Ports:
    """The ports that ip_local_port_range and ip_local_reserved_ports name.

    Raises: ValueError.
    """
    first, last = map(int, span.split())
    ranges = [part.partition("-") for part in reserved.strip().split(",") if part]
    return Ports(first, last, [(int(low), int(high or low)) for low, _, high in ranges])


def now() -> float:
    """The moment of a survey, in seconds since 1970."""
    return time.time()


def here() -> Survey:
    """The namespace of this thread.

    Raises: Broken.
    """
    # /proc/thread-self is not in kernels before 3.17
    return Survey(_read(f"/proc/self/task/{threading.get_native_id()}/net"), _ports())


def there(namespace: Namespace) -> Survey:
    """Another namespace; from outside, with less to tell, where it may not be entered.

    Raises: Absent (it is gone), Denied, Broken.
    """
    try:
        return network_namespaces.inside(namespace, here)
    except Denied:
        if not namespace.pid:
            raise
    try:
        survey = Survey(tables.read(f"/proc/{namespace.pid}/net"), _ports())
        if os.stat(namespace.path).st_ino == namespace.inode:
            return survey
    except PermissionError as error:
        raise Denied(f"the sockets of {namespace.name} may not be read") from error
    except OSError as error:
        raise Absent(f"{namespace.name} is gone") from error
    raise Absent(f"{namespace.name} is gone")  # its process ended, and its number went to another one


def _read(directory: str) -> Sockets:
    try:
        return diag.read()
    except OSError as refused:
        try:
            return tables.read(directory)
        except OSError as error:
            raise Broken(f"the kernel tells no sockets ({refused}; {error}); mount /proc") from error


def _ports() -> Ports:
    try:
        span, reserved = (_setting(f"ip_local_{name}") for name in ("port_range", "reserved_ports"))
        return read_ports(span, reserved)
    except (OSError, ValueError):
        return Ports()


def _setting(name: str) -> str:
    with open(f"{_SETTINGS}/{name}", encoding="utf-8") as stream:
        return stream.read()
