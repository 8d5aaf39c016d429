"""Tells when the kernel's network changed, at once, by the groups to which netlink sends its news.

What changed is not read from the news: whoever hears of it looks again. News that were too many to hold count
as news of everything.
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterable

import anyio

from watchman_mcp.errors import Broken

log = logging.getLogger(__name__)
PREFIX = "netlink:"
"""What the names of these signals begin with, among the paths that a collector watches."""
ROUTE, NETFILTER = 0, 12
SOL_NETLINK, ADD_MEMBERSHIP = 270, 1
GROUPS: dict[str, tuple[int, tuple[int, ...]]] = {
    "link": (ROUTE, (1,)),
    "address": (ROUTE, (5, 9)),
    "route": (ROUTE, (7, 11)),
    "rule": (ROUTE, (8, 19)),
    "firewall": (NETFILTER, (7,)),
}
"""For each signal the protocol of netlink and its groups, IPv4 and IPv6 (`RTNLGRP_*`, `NFNLGRP_NFTABLES`)."""
KINDS = {
    16: "link",
    17: "link",
    20: "address",
    21: "address",
    24: "route",
    25: "route",
    32: "rule",
    33: "rule",
}
"""Types of messages of the first protocol."""
GATHER = 0.2
"""Seconds in which news are gathered before they are told."""
BUFFER = 1 << 20


async def signals(wanted: Iterable[str]) -> AsyncIterator[set[str]]:
    """Which of these signals, such as `netlink:link`, came.

    The first report is empty and says that from now on none is missed. Signals that this user may not hear,
    or that this system does not have, never come.

    Raises: Broken.
    """
    names = {name.removeprefix(PREFIX) for name in wanted} & GROUPS.keys()
    if sys.platform != "linux" or not names:
        return
    sockets = _sockets(names)
    try:
        # one descriptor for all: an error of one socket is raised here, and not wrapped by tasks
        with select.epoll() as any_of_them:
            for one, _ in sockets:
                any_of_them.register(one.fileno(), select.EPOLLIN)
            yield set()
            while True:
                await anyio.wait_readable(any_of_them)
                await anyio.sleep(GATHER)
                heard = {name for one, told in sockets for name in _read(one, told)}
                if heard:
                    yield {PREFIX + name for name in heard}
    finally:
        for one, _ in sockets:
            one.close()


def _sockets(names: set[str]) -> list[tuple[socket.socket, frozenset[str]]]:
    """One socket for each protocol, in the groups that this user may join."""
    found = []
    for protocol in sorted({GROUPS[name][0] for name in names}):
        mine = {name for name in names if GROUPS[name][0] == protocol}
        try:
            one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, protocol)
        except OSError as error:
            raise Broken(f"the kernel does not tell of changes of the network: {error}") from error
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        one.bind((0, 0))
        for name in sorted(mine):
            try:
                for group in GROUPS[name][1]:
                    one.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, group)
            except OSError as error:
                log.info("changes of the %s are found at intervals only: %s", name, error)
        found.append((one, frozenset(mine)))
    return found


def _read(one: socket.socket, told: frozenset[str]) -> set[str]:
    """The signals in what has arrived."""
    found: set[str] = set()
    while True:
        try:
            data = one.recv(65_536)
        except BlockingIOError:
            return found
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise Broken(f"the kernel's news cannot be read: {os.strerror(error.errno or 0)}") from error
            return set(told)
        if told == {"firewall"}:
            found |= told
            continue
        at = 0
        while at + 16 <= len(data):
            length, kind = struct.unpack_from("=IH", data, at)
            if kind in KINDS:
                found.add(KINDS[kind])
            at += max((length + 3) & ~3, 16)
