"""The servers of systemd-resolved, as it tells them on the system bus."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

from watchman_mcp.errors import Broken
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.system_bus import Lacking, object_path, properties, runs, shaped

from . import PORT, TLS_PORT, NameServer

SOURCE = "systemd-resolved"
_SERVICE = "org.freedesktop.resolve1"
_MANAGER = "/org/freedesktop/resolve1"
_TRANSPORTS = {"yes": "tls", "opportunistic": "opportunistic", "no": "plain"}
Link = tuple[str, bool]
"""Of an interface: DNS over TLS, and whether its servers are asked for names that no other takes."""


def ask_resolved(commands: Commands, name_of: Callable[[int], str]) -> list[NameServer] | None:
    """What it has now, `name_of` tells the names of interfaces; None where it does not run.

    Raises: Denied, Broken.
    """
    if not runs(commands, _SERVICE):
        return None
    manager = _manager(commands)
    links: dict[int, Link] = {}
    for index in {row[0] for row in _servers(manager["DNSEx"]) if row[0] > 0}:
        path = object_path(f"{_MANAGER}/link", str(index))
        told = properties(commands, _SERVICE, path, f"{_SERVICE}.Link", "DNSOverTLS", "DefaultRoute")
        links[index] = str(told["DNSOverTLS"]), bool(told["DefaultRoute"])
    return resolved_servers(manager, links, {index: name_of(index) for index in links})


def _manager(commands: Commands) -> dict[str, Any]:
    """The manager's properties; those of a version before 246 tell neither ports nor names of servers."""
    where = _SERVICE, _MANAGER, f"{_SERVICE}.Manager"
    rest = "Domains", "DNSOverTLS"
    try:
        return properties(commands, *where, "DNSEx", "FallbackDNSEx", *rest)
    except Lacking:
        told = properties(commands, *where, "DNS", "FallbackDNS", *rest)
        for name in ("DNS", "FallbackDNS"):
            told[f"{name}Ex"] = [[*row, 0, ""] for row in shaped(told[name], int, int, list)]
        return told


def resolved_servers(
    manager: Mapping[str, Any], links: Mapping[int, Link], names: Mapping[int, str]
) -> list[NameServer]:
    """The servers of these properties of the manager and of its links by their indexes.

    Raises: Broken.
    """
    rows = _servers(manager["DNSEx"]) or _servers(manager["FallbackDNSEx"])
    domains: dict[int, list[str]] = {}
    for index, domain, route_only in shaped(manager["Domains"], int, str, bool):
        only = route_only or not links.get(index, ("", True))[1]
        domains.setdefault(index, []).append(f"~{domain}" if only else domain)
    found: list[NameServer] = []
    places: dict[int, int] = {}
    for index, _, raw, port, _ in rows:
        places[index] = places.get(index, 0) + 1
        tls = links.get(index, (str(manager["DNSOverTLS"]), True))[0]
        transport = _TRANSPORTS.get(tls, tls)
        found.append(
            NameServer(
                SOURCE,
                _address(raw),
                port or (TLS_PORT if transport == "tls" else PORT),
                interface=names.get(index, str(index)) if index > 0 else None,
                position=places[index],
                domains=tuple(domains.get(index, ())),
                transport=transport,
            )
        )
    return found


def _servers(value: Any) -> list[list[Any]]:
    rows = shaped(value, int, int, list, int, str)
    if any(not 0 <= port <= 65_535 for _, _, _, port, _ in rows):
        raise Broken("systemd-resolved names a port that is none; run resolvectl by hand")
    return rows


def _address(raw: list[Any]) -> str:
    try:
        return str(ip_address(bytes(raw)))
    except (ValueError, TypeError) as error:
        raise Broken("systemd-resolved names a server without an address; run resolvectl by hand") from error
