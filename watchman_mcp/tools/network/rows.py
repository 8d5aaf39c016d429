"""What the store holds of the network, as the rows of an answer."""

from __future__ import annotations

import json
from typing import Any, TypeVar

from pydantic import BaseModel

from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools.answers import Frame

from .answer import Address, Interface, NameServer, Peer, Route, Tunnel

M = TypeVar("M", bound=BaseModel)
LISTS = frozenset(
    {
        "networks",
        "domains",
        "options",
        "allowed_ips",
        "decided_by",
        "published_as",
        "states",
        "rules",
        "ip_addresses",
    }
)
MIB = 2**20


def as_a(model: type[M], row: Any, **more: Any) -> M:
    """A row as a part of an answer, without what is empty."""
    kept = set(row.keys()) & model.model_fields.keys()
    found = {name: json.loads(row[name]) if name in LISTS and row[name] else row[name] for name in kept}
    return model(**{**found, **more})


def there(store: Store, label: str, order: str, where: str = "1", **given: Any) -> list[Any]:
    """The nodes of a label that are there."""
    return store.read(f'SELECT * FROM "{label}" WHERE gone_at IS NULL AND {where} ORDER BY {order}', given)


def interfaces(store: Store, newest: list[Any], name: str) -> list[Interface]:
    """Interfaces, those of this namespace first, with what went through them by the newest sample."""
    rates = {row["interface"]: row for row in newest}
    found = []
    order = 'namespace IS NOT NULL, namespace, "index"'
    for row in there(store, "NetworkInterface", order, ":name IN ('', name)", name=name):
        rate = rates.get(row["name"]) if row["namespace"] is None else None
        more = {"rx_mb_s": rate["rx_mb_s"], "tx_mb_s": rate["tx_mb_s"]} if rate else {}
        found.append(as_a(Interface, row, **more))
    return found


def routes(store: Store, interface: str) -> list[Route]:
    """Policy rules that are not the usual ones, then routes: the default ones first."""
    rules = there(store, "RoutingRule", "namespace IS NOT NULL, namespace, family, priority", USUAL)
    found = there(
        store,
        "Route",
        "namespace IS NOT NULL, namespace, destination <> 'default', \"table\" <> 'main', family, "
        "metric, destination",
        ":name IN ('', interface)",
        name=interface,
    )
    return [
        *([] if interface else [as_a(Route, row) for row in rules]),
        *[as_a(Route, row, type=row["type"] if row["type"] != "unicast" else None) for row in found],
    ]


USUAL = "NOT (selector = '' AND action IS NULL AND \"table\" IN ('local', 'main', 'default'))"
"""Policy rules that each machine has are not worth a line."""


def default_routes(store: Store) -> list[str]:
    """What carries the traffic to the internet by the main table, in words."""
    rows = there(
        store,
        "Route",
        "family, metric",
        "destination IN ('default', '0.0.0.0/1', '128.0.0.0/1', '::/1', '8000::/1') "
        "AND \"table\" = 'main' AND namespace IS NULL AND type = 'unicast'",
    )
    shown = []
    for row in rows:
        via = f"via {row['gateway']} " if row["gateway"] else ""
        metric = f" metric {row['metric']}" if row["metric"] else ""
        to = "" if row["destination"] == "default" else f"{row['destination']} "
        shown.append(f"{row['family']}: {to}{via}on {row['interface']}{metric}")
    return shown


def name_servers(store: Store, interface: str) -> list[NameServer]:
    """Name servers in the order in which they are asked."""
    rows = there(
        store, "DNSServer", "source, interface, position, ip", ":name IN ('', interface)", name=interface
    )
    return [as_a(NameServer, row, port=row["port"] if row["port"] != 53 else None) for row in rows]


def tunnels(store: Store, frame: Frame, interface: str) -> list[Tunnel]:
    """Tunnels, those of this machine's own network that carry something first."""
    order = (
        "namespace IS NOT NULL, namespace, status <> 'active', carries_default IS NOT 1, "
        "type, interface, peer"
    )
    return [
        as_a(
            Tunnel,
            row,
            connected_at=frame.show(row["connected_at"]),
            last_handshake=frame.show(row["last_handshake"]),
            received_mb=_mib(row["received_bytes"]),
            sent_mb=_mib(row["sent_bytes"]),
        )
        for row in there(store, "VPNConnection", order, ":name IN ('', interface)", name=interface)
    ]


def addresses(store: Store, frame: Frame) -> list[Address]:
    """The external addresses."""
    return [
        as_a(Address, row, checked_at=frame.show(row["checked_at"]))
        for row in there(store, "ExternalAddress", "family")
    ]


def unasked(frame: Frame) -> list[Address]:
    """What stands for the external addresses while their first look is not over."""
    if any("ExternalAddress" in run["looks_for"] for run in frame.runs):
        return []
    return [Address(family=family, why="not yet known; ask again soon") for family in ("ipv4", "ipv6")]


def peers(newest: list[Any], port: int, process: str) -> list[Peer]:
    """Peers with the most connections first."""
    rows = [
        row
        for row in newest
        if port in (0, row["port"]) and process.lower() in (row["process"] or "").lower() and row["count"]
    ]
    rows.sort(key=lambda row: (-row["count"], row["peer"]))
    return [as_a(Peer, row) for row in rows]


def _mib(count: int | None) -> float | None:
    return None if count is None else round(count / MIB, 1)
