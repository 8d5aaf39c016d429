"""The servers that NetworkManager has from its connections, as it tells them on the system bus."""

from __future__ import annotations

import re
from typing import Any

from watchman_mcp.errors import Broken
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.system_bus import properties, runs

from . import PORT, TLS_PORT, NameServer, address

SOURCE = "NetworkManager"
_SERVICE = "org.freedesktop.NetworkManager"
_SERVER = re.compile(r"(?:dns\+(?P<how>\w+)://)?\[?(?P<ip>[^\]#]*?)\]?(?::(?P<port>\d{1,5}))?(?:#.*)?")


def ask_manager(commands: Commands) -> list[NameServer] | None:
    """What it has now; None where it does not run.

    Raises: Denied, Broken.
    """
    if not runs(commands, _SERVICE):
        return None
    told = properties(
        commands,
        _SERVICE,
        f"/{_SERVICE.replace('.', '/')}/DnsManager",
        f"{_SERVICE}.DnsManager",
        "Configuration",
    )
    return manager_servers(told["Configuration"])


def manager_servers(configuration: Any) -> list[NameServer]:
    """The servers of the property Configuration, in the order of their priorities.

    Raises: Broken.
    """
    found: list[NameServer] = []
    try:
        for entry in configuration:
            values = {name: boxed["data"] for name, boxed in entry.items()}
            domains = tuple(str(domain) for domain in values.get("domains", []))
            interface = values.get("interface") or None
            for text in values.get("nameservers", []):
                ip, port, transport = _read(text)
                found.append(
                    NameServer(
                        SOURCE,
                        ip,
                        port,
                        interface=None if interface is None else str(interface),
                        position=len(found) + 1,
                        domains=domains,
                        transport=transport,
                    )
                )
    except (TypeError, AttributeError, KeyError) as error:
        raise Broken(
            "NetworkManager answers in another shape than it is documented; run busctl by hand"
        ) from error
    return found


def _read(text: str) -> tuple[str, int, str]:
    """A server as NetworkManager writes it: 1.1.1.1, 1.1.1.1#name, dns+tls://1.1.1.1:853#name."""
    # Without a scheme there is no port, and the colons of an address are its own.
    whole = address(text.partition("#")[0])
    if whole is not None:
        return whole[0], PORT, "tls" if "#" in text else "plain"
    found = _SERVER.fullmatch(text)
    known = address(found["ip"]) if found else None
    if found is None or known is None:
        raise KeyError(text)
    tls = found["how"] == "tls"
    port = int(found["port"] or (TLS_PORT if tls else PORT))
    if port > 65_535:
        raise KeyError(text)
    return known[0], port, "tls" if tls else "plain"
