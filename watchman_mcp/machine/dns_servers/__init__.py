"""The name servers that a machine asks: what each program says, and how they answer."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

PORT = 53
TLS_PORT = 853


class NameServer(NamedTuple):
    """One name server, as one program names it."""

    source: str
    ip: str
    port: int = PORT
    interface: str | None = None
    position: int | None = None
    domains: tuple[str, ...] = ()
    """`~` before one: it is asked for nothing else."""
    transport: str | None = None
    options: tuple[str, ...] = ()


def address(text: str) -> tuple[str, str | None] | None:
    """An address in its usual writing and its scope (an interface), as the C library reads it."""
    plain, _, scope = text.partition("%")
    try:
        found: IPv4Address | IPv6Address = ip_address(plain)
    except ValueError:
        # The C library takes the old writings too: 127.1 is 127.0.0.1.
        if not re.fullmatch(r"[0-9a-fA-FxX.]{1,64}", plain) or scope:
            return None
        try:
            found = IPv4Address(socket.inet_aton(plain))
        except OSError:
            return None
    return (str(found), scope or None) if found.version == 6 or not scope else None


def merged(servers: Iterable[NameServer]) -> list[NameServer]:
    """Each server of a source and interface once, with all names that it is asked for."""
    found: dict[tuple[str, str | None, str, int], NameServer] = {}
    for server in servers:
        key = (server.source, server.interface, server.ip, server.port)
        known = found.get(key)
        if known is None:
            found[key] = server
            continue
        only = all(domain.startswith("~") for one in (known, server) for domain in one.domains or ("",))
        names = dict.fromkeys([*known.domains, *server.domains])
        domains = list(names) if only else list(dict.fromkeys(name.lstrip("~") for name in names))
        found[key] = known._replace(domains=tuple(domains))
    return list(found.values())


def interface_name(index: int | str) -> str:
    """The name of an interface of this network namespace, or its number where it has none; a name stays."""
    try:
        return socket.if_indextoname(int(index))
    except (OSError, OverflowError, ValueError):
        return str(index)
