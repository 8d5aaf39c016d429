"""What `ip -j` says of a network, in the words in which the collector of the network tells it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

MADE_OF_ADDRESSES = ("local", "broadcast", "anycast", "multicast")
FAMILIES = {"ipv4": "-4", "ipv6": "-6"}
INTERFACE = ("state", "kind", "mac_address", "mtu", "networks", "master", "parent", "vlan")
ROUTE = (*("family", "table", "destination", "type", "gateway", "interface", "metric", "source", "protocol"),)


def values(seen: Mapping[str, Any], fields: Iterable[str]) -> tuple[Any, ...]:
    """These fields of a node."""
    return tuple(seen[name] for name in fields)


def interfaces(told: list[dict[str, Any]]) -> dict[str, tuple[Any, ...]]:
    """The fields INTERFACE of each interface, of `ip -j -details address`."""
    names = {one["ifname"] for one in told}
    wanted = {}
    for one in told:
        networks = [f"{a['local']}/{a['prefixlen']}" for a in one["addr_info"]]
        state = one["operstate"]
        if state == "UNKNOWN":
            state = "UP" if {"UP", "LOWER_UP"} <= set(one["flags"]) else "DOWN"
        kind = one.get("linkinfo", {}).get("info_kind")
        if kind == "tun":
            kind = "tun" if one["linkinfo"]["info_data"]["type"] == "tun" else "tap"
        veth = kind == "veth"
        parent = one.get("link") if not veth and one.get("link") in names else None
        wanted[one["ifname"]] = (
            state, kind or {"loopback": "loopback", "ether": "ethernet"}[one["link_type"]],
            one.get("address") if one["link_type"] in ("ether", "loopback") else None,
            one["mtu"], sorted(networks), one.get("master"), parent,
            one.get("linkinfo", {}).get("info_data", {}).get("id") if kind == "vlan" else None,
        )  # fmt: skip
    return wanted


def routes(family: str, told: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    """The fields ROUTE of each route that no address brought, of `ip -j -d route show table all`."""
    wanted = set()
    for one in told:
        if one["type"] in MADE_OF_ADDRESSES:
            continue
        to = one["dst"]
        if to != "default" and "/" not in to:
            to += "/32" if family == "ipv4" else "/128"
        for hop in one.get("nexthops") or [one]:
            gateway = hop.get("gateway") or hop.get("via", {}).get("host")
            wanted.add((
                family, one.get("table", "main"), to, one["type"], gateway, hop.get("dev"),
                one.get("metric"), one.get("prefsrc"), one["protocol"],
            ))  # fmt: skip
    return wanted
