"""Reads `nft -j list ruleset`: every table, chain and rule of nftables, those of iptables-nft among them."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from watchman_mcp.errors import Broken
from watchman_mcp.machine.firewall.model import (
    NFTABLES,
    Chain,
    ChainId,
    Condition,
    Opaque,
    Part,
    Rule,
    Verdict,
)
from watchman_mcp.machine.firewall.nft_old import is_old, modern
from watchman_mcp.machine.firewall.nft_rules import parts_of
from watchman_mcp.machine.firewall.nft_text import rule as written
from watchman_mcp.machine.firewall.terms import Sets, listed

TABLES = ("raw", "mangle", "nat", "filter", "security")
"""The tables that iptables has."""


def read_ruleset(text: str) -> tuple[dict[ChainId, Chain], int]:
    """All chains with their rules, and how many objects were not understood.

    Raises: Broken.
    """
    try:
        objects = json.loads(text)["nftables"]
        if not isinstance(objects, list):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Broken("the answer of nft is not its JSON; run `nft -j list ruleset` by hand") from error
    reader = _Reader(is_old(objects))
    # rules come before the sets that they name, or behind
    rules = [entry for entry in objects if not reader.take(entry)]
    for entry in rules:
        reader.take_rule(entry)
    return reader.chains, reader.unread


_ODD = (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, LookupError, RecursionError)
"""What reading an object of another shape raises."""


class _Reader:
    """What was read of a ruleset so far."""

    def __init__(self, old: bool) -> None:
        self.old = old
        self.chains: dict[ChainId, Chain] = {}
        self.unread = 0
        self._sets: dict[tuple[str, str], Sets] = {}
        self._dormant: set[tuple[str, str]] = set()

    def take(self, entry: Any) -> bool:
        """Take an object; not where it is a rule."""
        try:
            ((kind, what),) = entry.items()
            if kind in ("set", "map"):
                self._of(what).elements[what["name"]] = listed(what.get("elem", []))
            elif kind == "limit":
                self._of(what).limits[what["name"]] = bool(what.get("inv"))
            elif kind == "table" and "dormant" in listed(what.get("flags")):
                self._dormant.add((what["family"], what["name"]))
            elif kind == "chain":
                chain = _chain(what, self._dormant)
                self.chains[chain.id] = chain
            return bool(kind != "rule")
        except _ODD:
            self.unread += 1
            return True

    def take_rule(self, entry: Any) -> None:
        """Take a rule."""
        what = entry["rule"]
        try:
            name = ChainId(NFTABLES, what["family"], what["table"], what["chain"])
            statements = modern(what["expr"]) if self.old else what["expr"]
            self.chains[name].rules.append(_rule(name, what, statements, self._of(what)))
        except _ODD:
            self.unread += 1

    def _of(self, what: dict[str, Any]) -> Sets:
        return self._sets.setdefault((what["family"], what["table"]), Sets())


def _word(value: Any) -> str | None:
    """A text, if there is one.

    Raises: TypeError.
    """
    if value is None or isinstance(value, str):
        return value
    raise TypeError(value)


def _whole(value: Any) -> int | None:
    """A number that can be kept, if there is one.

    Raises: TypeError.
    """
    if value is None or (type(value) is int and -(2**63) <= value < 2**63):
        return value
    raise TypeError(value)


def _count(value: Any) -> int | None:
    """A counter, if there is one.

    Raises: TypeError.
    """
    if (number := _whole(value)) is not None and number < 0:
        raise TypeError(value)
    return number


def _chain(what: dict[str, Any], dormant: set[tuple[str, str]]) -> Chain:
    devices = what.get("dev")
    return Chain(
        ChainId(NFTABLES, str(what["family"]), str(what["table"]), str(what["name"])),
        hook=_word(what.get("hook")),
        priority=_whole(what.get("prio")),
        policy=_word(what.get("policy")),
        kind=_word(what.get("type")),
        devices=tuple(map(str, listed(devices))) if devices else (),
        dormant=(what["family"], what["table"]) in dormant,
    )


def _rule(chain: ChainId, what: dict[str, Any], statements: list[Any], sets: Sets) -> Rule:
    counters = [one["counter"] for one in statements if isinstance(one, dict) and "counter" in one]
    counted = counters[0] if counters and isinstance(counters[0], dict) else {}
    comment = _word(what.get("comment"))
    parts = parts_of(statements, sets)
    return Rule(
        chain,
        written(statements, comment),
        parts,
        target=_target(statements, parts),
        comment=comment,
        handle=_whole(what.get("handle")),
        packets=_count(counted.get("packets")),
        bytes=_count(counted.get("bytes")),
    )


def _target(statements: list[Any], parts: tuple[object, ...]) -> str | None:
    """What a rule does, in the words that iptables has for it."""
    if parts and isinstance(last := parts[-1], Verdict) and last.kind != "unknown":
        return last.chain or last.kind.upper()
    ends = [one for one in statements if isinstance(one, dict)]
    if ends and "vmap" in ends[-1]:
        return "VMAP"
    for one in reversed(ends):
        # what nft does not know of an extension of iptables it leaves out
        if isinstance(xt := one.get("xt"), dict) and xt.get("type") == "target":
            return str(xt.get("name"))
        for name in ("snat", "masquerade", "queue", "tproxy", "log", "mangle", "notrack"):
            if name in one:
                return {"mangle": "SET"}.get(name, name.upper())
    return None


def of_iptables(chains: dict[ChainId, Chain]) -> dict[str, set[str]]:
    """The tables, by family, that iptables-nft made: each of their rules has a counter."""
    counted: dict[tuple[str, str], bool] = {}
    for chain in chains.values():
        if chain.id.family in ("ip", "ip6") and chain.id.table in TABLES:
            table = chain.id.family, chain.id.table
            counted[table] = counted.get(table, True) and all(
                rule.packets is not None for rule in chain.rules
            )
    found: dict[str, set[str]] = {}
    for (family, name), all_counted in counted.items():
        if all_counted:
            found.setdefault(family, set()).add(name)
    return found


def told_by_iptables(
    chains: dict[ChainId, Chain], told: dict[ChainId, Chain], family: str, tables: set[str]
) -> None:
    """Take the rules of these tables as iptables-save tells them, which knows what nft does not.

    A chain of which the two tell different numbers of rules changed between them, and stays as nft told it.
    So does a rule that nft put there: iptables-save leaves out what it does not know of it, such as a set.
    """
    for chain in chains.values():
        if chain.id.family != family or chain.id.table not in tables:
            continue
        other = told.get(chain.id)
        if other is None or len(other.rules) != len(chain.rules):
            continue
        for mine, theirs in zip(chain.rules, other.rules, strict=True):
            extended = any(isinstance(part, Opaque) and part.text.startswith("xt ") for part in mine.parts)
            if not extended and _meaning(mine.parts) != _meaning(theirs.parts):
                continue
            mine.text, mine.parts, mine.target = theirs.text, theirs.parts, theirs.target
            mine.comment = theirs.comment


def _meaning(parts: tuple[Part, ...]) -> set[object]:
    """What a rule says, without what only the tool that tells it adds."""
    found: set[object] = set()
    headers = {
        name.partition(" ")[0] for part in parts if isinstance(part, Condition) for name in part.fields
    }
    for part in parts:
        if isinstance(part, Opaque):
            found.add(part.within)
        elif isinstance(part, Condition) and part.fields[0].endswith("protocol") and len(part.fields) == 1:
            # a field of TCP is in packets of TCP alone, and iptables says so
            told = part.negate or not headers & {str(word) for word in part.elements[0][0]}
            found |= {replace(part, fields=("protocol",))} if told else set()
        elif isinstance(part, Condition) and part.mask == 2**32 - 1:
            found.add(replace(part, mask=None))
        else:
            found.add(part)
    return found
