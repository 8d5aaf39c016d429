"""Firewall rules: all, or those that decide about a port."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from watchman_mcp.store.sqlite import Store

from .answer import Rule
from .rows import as_a, there

CARRIES_PORTS = ("tcp", "udp", "sctp", "dccp", "udplite")


def rules(store: Store, port: int, interface: str) -> tuple[list[Rule], dict[str, int]]:
    """Rules in the order of their chains, with the chains' policies; and how many of each kind.

    With a port: the rules that name it, then those that hold for any port and so for this one too.
    """
    chains = there(store, "FirewallChain", ORDER)
    by_chain: dict[tuple[Any, ...], list[Any]] = {}
    for row in there(store, "FirewallRule", "rule_num"):
        by_chain.setdefault(_chain_of(row, row["chain"]), []).append(row)
    named: list[Rule] = []
    general: list[Rule] = []
    for chain in chains:
        key = _chain_of(chain, chain["name"])
        title = f"{chain['table']} {chain['name']}" + (f" ({chain['family']})" if chain["family"] else "")
        for row in by_chain.get(key, ()):
            if interface and not _of_interface(row, interface):
                continue
            if not port:
                general.append(_rule(row, title, chain, None))
            elif (applies := applies_to(row, port)) is not None:
                (named if applies == "port" else general).append(
                    _rule(row, title, chain, f"port {port}" if applies == "port" else "any port")
                )
        if chain["policy"] and chain["hook"]:
            text = f"policy {chain['policy']} (hook {chain['hook']})"
            general.append(
                Rule(chain=title, rule=text, target=chain["policy"].upper(), applies="what no rule decides",
                     made_by=chain["made_by"], namespace=chain["namespace"])
            )  # fmt: skip
    totals = {"items": len(named) + len(general), **({"of_this_port": len(named)} if port else {})}
    return named + general, totals


ORDER = (
    "namespace IS NOT NULL, namespace, backend, hook IS NULL, hook <> 'input', hook, priority, family, "
    '"table", name'
)


def _chain_of(row: Any, name: str) -> tuple[Any, ...]:
    return row["namespace"], row["backend"], row["family"], row["table"], name


def _rule(row: Any, title: str, chain: Any, applies: str | None) -> Rule:
    return as_a(Rule, row, chain=title, rule=row["text"], applies=applies, made_by=chain["made_by"])


def _of_interface(row: Any, interface: str) -> bool:
    sides = [side for side in (row["in_interface"], row["out_interface"]) if side]
    return not sides or any(interface in side.replace("!", "").split(",") for side in sides)


def applies_to(row: Any, port: int) -> str | None:
    """Whether a rule names this port, holds for any port, or not for this one: `port`, `any` or None."""
    if row["protocol"] and not _carries_ports(row["protocol"]):
        return None
    ports = str(row["port"]) if row["port"] is not None else row["ports"]
    if not ports:
        return "any"
    inverted = ports.startswith("!")
    within = any(low <= port <= high for low, high in ranges(ports.lstrip("!").split(",")))
    if inverted:
        return None if within else "any"
    return "port" if within else None


def _carries_ports(protocol: str) -> bool:
    names = protocol.lower().lstrip("!").split(",")
    return protocol.startswith("!") or any(name.strip() in CARRIES_PORTS for name in names)


def ranges(parts: Iterable[str]) -> list[tuple[int, int]]:
    """Ranges of ports as their ends; what is no range is none."""
    found = []
    for part in parts:
        low, dash, high = part.strip().partition("-")
        if low.isdecimal() and (high.isdecimal() or not dash):
            found.append((int(low), int(high or low)))
    return found
