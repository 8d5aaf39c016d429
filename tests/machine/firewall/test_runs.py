"""Rules that are taken together, beside the same rules one by one."""

import os
from dataclasses import replace
from random import Random

import pytest

from watchman_mcp.machine.firewall.evaluate import follow
from watchman_mcp.machine.firewall.model import (
    NFTABLES,
    Chain,
    ChainId,
    Choice,
    Condition,
    Effect,
    Firewall,
    Opaque,
    Part,
    Rule,
    Verdict,
)
from watchman_mcp.machine.firewall.packet import Packet
from watchman_mcp.machine.firewall.spans import Spans, merged

PORT = 1
PACKET = Packet("eth0", 4, "tcp", PORT, 7, frozenset((7,)))
NOTHING = Effect("mark", keep=2**32 - 1, value=0)
"""Changes nothing; but a rule with it asks for more than the source."""
OTHERS = [Rule(ChainId(NFTABLES, "inet", "t", ""), "", (Condition(("tcp dport",), ((((9, 9),),),)),))] * 64
"""Rules for another port, so that a chain is worth an index."""

FULL = os.environ.get("WATCHMAN_TEST_SOAK") == "full"
Rows = list[tuple[Part, ...]]
FATES = [Verdict(kind) for kind in ("accept", "drop", "reject", "return", "continue", "unknown")]
FATES += [Verdict("accept"), Verdict("drop"), Verdict("redirect", port=2)]
FATES += [Verdict("jump", "one"), Verdict("goto", "one"), Verdict("jump", "none")]


def spans(random: Random, least: int = 0) -> Spans:
    lows = random.choices(range(40), k=random.randint(least, 3))
    return merged((low, low + random.choice((0, 0, 0, 1, 6))) for low in lows)


def sources(spans: Spans, negate: bool = False) -> Condition:
    return Condition(("ip saddr",), ((spans,),), negate)


def compared(name: str, match: Spans | frozenset[str]) -> Condition:
    return Condition((name,), ((match,),))


def by_source(random: Random) -> tuple[Part, ...]:
    number = random.choice((1, 1, 2))
    port = compared("tcp dport", ((number, number),))
    named = random.choice(((), (), (port,), (compared("state", frozenset(("new",))),)))
    return (*named, sources(spans(random, 1), random.random() < 0.1), random.choice(FATES))


def mixed(random: Random) -> tuple[Part, ...]:
    odd: list[Part] = [
        compared("tcp dport", ((0, random.choice((1, 99))),)),
        compared("state", frozenset((random.choice(("new", "invalid", "untracked")),))),
        compared("mark", ((5, 5),)),
        Condition(("ip saddr", "iif"), ((spans(random), (random.choice(("eth0", "eth1")),)),)),
        *(sources(spans(random), random.random() < 0.5), Opaque("x"), Opaque("limit", within=True)),
        *(Effect("mark", value=5), Effect("notrack")),
    ]
    fate = [random.choice(FATES)] if random.random() < 0.7 else []
    return (*random.sample(odd, random.randint(0, 2)), *fate)


def rows(random: Random) -> Rows:
    """Rules of all kinds, and at times many in a row that ask for the source."""
    found: Rows = []
    for _ in range(random.randint(0, 4)):
        kind = random.random()
        if kind < 0.2:
            pairs = [((spans(random),), random.choice(FATES)) for _ in range(8)]
            found.append((Choice(("ip saddr",), tuple(pairs)),))
        elif kind < 0.5:
            found.append(mixed(random))
        else:
            found += [by_source(random) for _ in range(random.choice((1, 9, 16)))]
    return found


def chain(name: str, rows: Rows, hook: str | None = None, priority: int = 0) -> Chain:
    """A chain of these rules, long enough to be looked at as one."""
    where = ChainId(NFTABLES, "inet", "t", name)
    rules = [Rule(where, str(number), parts) for number, parts in enumerate(rows)]
    made = Chain(
        where, hook, priority if hook else None, "accept" if hook else None, "filter" if hook else None
    )
    made.rules = rules + [replace(other, chain=where) for other in OTHERS]
    return made


def firewall(early: Rows, here: Rows, one: Rows) -> Firewall:
    """Chains before and in `input`, and two that are jumped to, the second by the first."""
    made = Firewall()
    last = [(sources(((0, 9),)), Verdict("drop")), (sources(((5, 20),)), Verdict("accept"))]
    chains = [
        chain("early", early, "prerouting", -300),
        chain("in", here, "input"),
        chain("one", [tuple(_deeper(part) for part in parts) for parts in one]),
        chain("two", last * 4),
    ]
    made.add({each.id: each for each in chains})
    return made


def _deeper(part: Part) -> Part:
    """The kernel takes no chain that leads back into itself."""
    if isinstance(part, Choice):
        return replace(part, elements=tuple((match, _verdict(fate)) for match, fate in part.elements))
    return _verdict(part) if isinstance(part, Verdict) else part


def _verdict(fate: Verdict) -> Verdict:
    return replace(fate, chain="two") if fate.chain == "one" else fate


def slow(rows: Rows) -> Rows:
    """The same rules, none of which can be taken together with others."""
    return [(NOTHING, *(_slow(part) for part in parts)) for parts in rows]


def _slow(part: Part) -> Part:
    if not isinstance(part, Choice):
        return part
    eth0 = ("eth0",)
    return Choice(("ip saddr", "iif"), tuple(((one, eth0), fate) for (one,), fate in part.elements))


def told(made: Firewall, sources: Spans, within: bool) -> tuple[object, list[object]]:
    found = follow(made, PACKET, sources, within=within)
    decisions = [(one.chain, one.rule and one.rule.text, one.kind, one.sources) for one in found.decisions]
    return (found.accepted, found.dropped, sorted(map(str, found.arrived))), list(decisions)


def test_rules_taken_together_decide_what_they_decide_one_by_one() -> None:
    compare(range(100))


@pytest.mark.soak
@pytest.mark.skipif(not FULL, reason="100 of these run in the test above")
def test_thousands_of_rules_taken_together_decide_what_they_decide_one_by_one() -> None:
    compare(range(100, 5_000))


def compare(seeds: range) -> None:
    for seed in seeds:
        random = Random(seed)
        early, here, one, within = rows(random), rows(random), rows(random), random.random() < 0.5
        together, alone = firewall(early, here, one), firewall(slow(early), slow(here), slow(one))

        for asked in (((0, 60),), spans(random, 1)):
            found, decided = told(together, asked, within)
            wanted, decided_alone = told(alone, asked, within)
            assert found == wanted, seed
            assert sorted(map(str, decided)) == sorted(map(str, decided_alone)), seed
            if not changes(early + here + one):
                # packets that were changed have no order among those that were not
                assert decided == decided_alone, seed


def changes(rows: Rows) -> bool:
    """Whether any rule makes packets of one source differ."""
    return any(isinstance(part, Effect) or "redirect" in str(part) for parts in rows for part in parts)
