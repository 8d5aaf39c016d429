"""Many rules at once: which is the first that fits a source, of those that ask for nothing else.

Firewalls have thousands of rules for one address each. To cut the set of sources at each of them costs as
many copies of it as there are rules; their ranges are sorted once instead, for all packets that meet them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import chain, pairwise

from watchman_mcp.machine.firewall.model import Firewall, Match, Rule
from watchman_mcp.machine.firewall.spans import Spans, merged, touched

FEW = 8
"""Rules in a row that are worth a sweep."""

Piece = tuple[int, int, int]
"""A range, and the place of what it belongs to."""


@dataclass(slots=True)
class Run:
    """Rules in a row, each of which has a verdict for the sources that fit it, or nothing."""

    rules: list[Rule]
    pieces: list[Piece]
    state: str
    """That of the connections that the pieces are for."""


@dataclass(slots=True)
class Shares:
    """What each place takes of some sources, and what none takes."""

    taken: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    left: list[tuple[int, int]] = field(default_factory=list)

    def rest(self) -> Spans:
        """What is left, with what was not yet handed out of the places' shares."""
        return merged(chain.from_iterable((self.left, *self.taken.values())))


def swept(sets: Iterable[Match]) -> list[Piece]:
    """Which of these sets is the first to have a number, as sorted ranges that do not overlap."""
    met: dict[int, Spans] = {}
    ranges: list[Piece] = []
    for place, match in enumerate(sets):
        spans: Spans = match  # type: ignore[assignment] # readers give addresses as numbers
        # many rules may name one large set, and the first of them takes all
        if id(spans) not in met:
            met[id(spans)] = spans
            ranges += [(low, high, place) for low, high in spans]
    ranges.sort()
    bounds = sorted({bound for low, high, _ in ranges for bound in (low, high + 1)})
    found: list[Piece] = []
    over: list[tuple[int, int]] = []
    at = 0
    for low, end in pairwise(bounds):
        while at < len(ranges) and ranges[at][0] == low:
            heappush(over, (ranges[at][2], ranges[at][1]))
            at += 1
        while over and over[0][1] < low:
            heappop(over)
        if not over:
            continue
        place = over[0][0]
        if found and found[-1][2] == place and found[-1][1] == low - 1:
            found[-1] = found[-1][0], end - 1, place
        else:
            found.append((low, end - 1, place))
    return found


def shared(pieces: Sequence[Piece], sources: Spans) -> Shares:
    """How these sources are shared out."""
    shares = Shares()
    taken, left = shares.taken, shares.left
    for low, high in sources:
        at = low
        for begin, end, place in pieces[slice(*touched(pieces, low, high))]:
            if begin > at:
                left.append((at, begin - 1))
            taken.setdefault(place, []).append((max(begin, low), min(end, high)))
            at = end + 1
        if at <= high:
            left.append((at, high))
    return shares


def kept(firewall: Firewall, key: Hashable, sets: Callable[[], Iterable[Match]]) -> list[Piece]:
    """The ranges of this key, made once as long as there is room for them."""
    found = firewall.pieces.get(key)
    if found is None:
        found = swept(sets())
        if len(found) <= firewall.room:
            firewall.room -= len(found)
            firewall.pieces[key] = found
    return found
