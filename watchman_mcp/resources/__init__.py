"""Resources: an address for each question that a tool answers."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

SCHEME = "watchman://"


@dataclass(frozen=True)
class Resource:
    """An address, the tool that answers it, and the arguments it fixes; `{name}` in it is an argument too."""

    address: str
    tool: str
    title: str
    says: str
    arguments: dict[str, Any] = field(default_factory=dict)
    rests_on: frozenset[str] = frozenset()
    """Labels whose change makes it read differently, where these are fewer than its tool needs."""

    @property
    def variable(self) -> str:
        """The argument that the address carries; empty for a plain address."""
        found = re.search(r"\{(\w+)\}", self.address)
        return found[1] if found else ""

    def match(self, uri: str) -> dict[str, Any] | None:
        """The arguments of an address of this form, None for another one."""
        if not self.variable:
            return dict(self.arguments) if uri == self.address else None
        prefix = self.address.split("{", 1)[0]
        value = unquote(uri.removeprefix(prefix))
        if not uri.startswith(prefix) or not value or "/" in uri.removeprefix(prefix):
            return None
        return {**self.arguments, self.variable: value}


TABLE = (
    Resource("watchman://overview", "overview", "Overview", "How this machine is."),
    Resource("watchman://packages", "query_packages", "Packages", "Installed software."),
    Resource(
        "watchman://packages/history",
        "query_packages",
        "Package history",
        "What was installed, updated and removed.",
        {"view": "history"},
    ),
    Resource(
        "watchman://packages/{name}",
        "query_packages",
        "One package",
        "A package with its history and what needs it.",
    ),
    Resource("watchman://metrics", "system_metrics", "Machine load", "Load, memory and disks now."),
    Resource(
        "watchman://metrics/{view}",
        "system_metrics",
        "One kind of load",
        "cpu, memory, disks, io, network or processes now.",
    ),
    Resource("watchman://network", "network_status", "Network", "The network on one screen."),
    Resource(
        "watchman://network/{view}",
        "network_status",
        "One part of the network",
        "interfaces, routes, firewall, dns, vpn, ports, connections, external_ip, bandwidth or quality now.",
    ),
    Resource(
        "watchman://network/interface/{interface}",
        "network_status",
        "One interface",
        "An interface with its addresses and traffic.",
        {"view": "interfaces"},
    ),
    Resource("watchman://changes", "what_changed", "Changes", "What changed in the last 24 hours."),
    Resource(
        "watchman://changes/{subject}",
        "what_changed",
        "Changes of one thing",
        "What happened to it in the last year.",
        {"since": "365d"},
    ),
    Resource(
        "watchman://alerts",
        "what_changed",
        "Alerts",
        "Alerts that opened and closed in the last 30 days.",
        {"kind": "alert", "since": "30d"},
        frozenset({"Alert"}),
    ),
    Resource("watchman://graph/schema", "query_graph", "Graph schema", "Tables and columns for query_graph."),
    Resource("watchman://doctor", "doctor", "Doctor", "What Watchman can and cannot see here."),
)


def find(uri: str) -> tuple[Resource, dict[str, Any]] | None:
    """The resource of an address and its arguments; plain addresses count before forms."""
    for resource in sorted(TABLE, key=lambda r: bool(r.variable)):
        if (arguments := resource.match(uri)) is not None:
            return resource, arguments
    return None
