"""Reads `iptables-save -c`: the chains of every table, and their rules."""

from __future__ import annotations

import re
from collections.abc import Iterator

from watchman_mcp.errors import Broken
from watchman_mcp.machine.firewall.ipset import IpSets
from watchman_mcp.machine.firewall.iptables_rules import parts_of
from watchman_mcp.machine.firewall.model import Chain, ChainId, Opaque, Rule, Verdict

HOOKS = {
    "PREROUTING": "prerouting",
    "INPUT": "input",
    "FORWARD": "forward",
    "OUTPUT": "output",
    "POSTROUTING": "postrouting",
}
PRIORITIES = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
_CHAIN = re.compile(r":(\S+) (\S+)(?: \[[0-9]+:[0-9]+\])?")
_RULE = re.compile(r"(?:\[([0-9]+):([0-9]+)\] )?(-A (\S+)(?: (.*))?)", re.DOTALL)
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"(?=\s|$)|([^\s"]+)(?=\s|$)', re.DOTALL)
_SHIELDED = re.compile(r"\\.")
LINES = 300
"""A text within a rule that is in quotes is at most as long as this many lines."""


class Unreadable(Exception):
    """A line of which it cannot be told what it says."""


def read_save(
    text: str, backend: str, family: str, sets: IpSets | None = None
) -> tuple[dict[ChainId, Chain], int]:
    """All chains with their rules, and how many lines were not understood.

    `sets` are those that rules may name. A rule that is not understood stays in its place as one that may
    do anything.

    Raises: Broken where the text ends within a table.
    """
    chains: dict[ChainId, Chain] = {}
    table: str | None = None
    unread = 0
    for line in _lines(text.split("\n")):
        if not line or line.startswith("#"):
            continue
        if table is None:
            if line.startswith("*") and line[1:] and " " not in line:
                table = line[1:]
            else:
                unread += line.count("\n") + 1
        elif line == "COMMIT":
            table = None
        elif found := _CHAIN.fullmatch(line):
            unread += _add_chain(chains, ChainId(backend, family, table, found[1]), found[2])
        else:
            unread += _add_rule(chains, backend, family, table, line) * (line.count("\n") + 1)
    if table is not None:
        raise Broken(f"the rules of iptables end within the table {table}; they are not read")
    names: dict[tuple[str, ...], set[str]] = {}
    for one in chains:
        names.setdefault(one[:3], set()).add(one.name)
    for chain in chains.values():
        _settle(chain, names[chain.id[:3]], sets or IpSets())
    return chains, unread


def _lines(given: list[str]) -> Iterator[str]:
    """The lines, those joined that a text in quotes runs over; one whose quotes never close stays alone."""
    at = 0
    while at < len(given):
        end = at + 1
        if given[at].startswith(("-A ", "[")) and _open(given[at]):
            ends = (n for n in range(at + 1, min(len(given), at + LINES)) if _open(given[n]))
            end = next(ends, at) + 1
        yield "\n".join(given[at:end]).strip("\r ")
        at = end


def _open(line: str) -> bool:
    """Whether a line has a quote too many: it begins or ends a text that runs over lines."""
    return bool(line.count('"') % 2) if "\\" not in line else bool(_SHIELDED.sub("", line).count('"') % 2)


def _add_chain(chains: dict[ChainId, Chain], name: ChainId, policy: str) -> int:
    """Add a chain; 1 where there is one of this name, whose rules are not given up for it."""
    if name in chains:
        return 1
    hook = HOOKS.get(name.name) if policy != "-" else None
    priority = PRIORITIES.get(name.table)
    if name.table == "nat" and hook in ("input", "postrouting"):
        priority = 100
    chains[name] = Chain(
        name,
        hook,
        priority if hook else None,
        policy.lower() if hook else None,
        ("nat" if name.table == "nat" else "filter") if hook else None,
    )
    return 0


def _add_rule(chains: dict[ChainId, Chain], backend: str, family: str, table: str, line: str) -> int:
    """Add a rule to its chain; 1 where something was not understood."""
    found = _RULE.fullmatch(line)
    chain = chains.get(ChainId(backend, family, table, found[4])) if found else None
    if found is None or chain is None:
        return 1
    rule = Rule(chain.id, found[3], (Opaque(found[3]), Verdict("unknown")))
    rule.packets, rule.bytes = _count(found[1]), _count(found[2])
    chain.rules.append(rule)
    try:
        words(found[5] or "")
    except Unreadable:
        return 1
    return 0


def _count(digits: str | None) -> int | None:
    """A counter; None where there is none, or one that is larger than can be kept."""
    return int(digits) if digits and len(digits) < 19 else None


def _settle(chain: Chain, names: set[str], sets: IpSets) -> None:
    """Read the rules of a chain, once it is known which targets are chains."""
    for rule in chain.rules:
        try:
            given = words(rule.text.split(" ", 2)[2] if rule.text.count(" ") > 1 else "")
        except Unreadable:
            continue
        rule.parts, rule.target, rule.comment = parts_of(given, chain.id.family, names, sets)


def words(text: str) -> list[str]:
    """The words of a line; one in quotes may hold blanks; a backslash there only shields what follows.

    Raises: Unreadable.
    """
    found, at = [], 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
            continue
        word = _WORD.match(text, at)
        if word is None:
            raise Unreadable
        found.append(word[2] if word[1] is None else re.sub(r"(?s)\\(.)", r"\1", word[1]))
        at = word.end()
    return found
