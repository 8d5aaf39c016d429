"""Sets of whole numbers, such as ports and addresses, as sorted ranges that do not touch."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from itertools import pairwise

Spans = tuple[tuple[int, int], ...]
NONE: Spans = ()
V4: Spans = ((0, 2**32 - 1),)
V6: Spans = ((0, 2**128 - 1),)
FEW = 4
"""Ranges that are put into many one by one."""


def merged(ranges: Iterable[tuple[int, int]]) -> Spans:
    """The set that these ranges make together."""
    found: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if found and low <= found[-1][1] + 1:
            if high > found[-1][1]:
                found[-1] = (found[-1][0], high)
        elif low <= high:
            found.append((low, high))
    return tuple(found)


def union(one: Spans, other: Spans) -> Spans:
    """What is in either."""
    if not one or not other:
        return one or other
    if len(other) > len(one):
        one, other = other, one
    if len(other) > FEW:
        return merged(one + other)
    for low, high in other:
        first, last = touched(one, low - 1, high + 1)
        if first < last:
            low, high = min(low, one[first][0]), max(high, one[last - 1][1])
        one = (*one[:first], (low, high), *one[last:])
    return one


def intersection(one: Spans, other: Spans) -> Spans:
    """What is in both."""
    if len(other) > len(one):
        one, other = other, one
    if len(one) == 1 or not other:
        one, other = other, one
    if not one or (len(other) == 1 and other[0][0] <= one[0][0] and other[0][1] >= one[-1][1]):
        return one
    found: list[tuple[int, int]] = []
    for low, high in other:
        first, last = touched(one, low, high)
        if first < last:
            at = len(found)
            found += one[first:last]
            found[at] = max(found[at][0], low), found[at][1]
            found[-1] = found[-1][0], min(found[-1][1], high)
    return tuple(found)


def without(one: Spans, other: Spans) -> Spans:
    """What is in the first alone; taking little from much costs little."""
    if not one or not other or other[-1][1] < one[0][0] or other[0][0] > one[-1][1]:
        return one
    if len(other) == 1:
        return _without(one, *other[0])
    first, last = touched(other, one[0][0], one[-1][1])
    ends = [(one[0][0] - 1, one[0][0] - 1), *other[first:last], (one[-1][1] + 1, one[-1][1] + 1)]
    between = ((before[1] + 1, after[0] - 1) for before, after in pairwise(ends))
    return intersection(one, tuple((low, high) for low, high in between if low <= high))


def _without(one: Spans, low: int, high: int) -> Spans:
    first, last = touched(one, low, high)
    if first >= last:
        return one
    begin, end = one[first][0], one[last - 1][1]
    before = ((begin, low - 1),) if begin < low else ()
    after = ((high + 1, end),) if end > high else ()
    return one[:first] + before + after + one[last:]


def touched(spans: Sequence[tuple[int, ...]], low: int, high: int) -> tuple[int, int]:
    """The indices, from and to, of the ranges that share a number with this one."""
    first = bisect_left(spans, (low,))
    if first and spans[first - 1][1] >= low:
        first -= 1
    return first, max(first, bisect_left(spans, (high + 1,)))


def has(spans: Spans, number: int) -> bool:
    """Whether a number is in the set."""
    first, last = touched(spans, number, number)
    return first < last


def of_network(text: str) -> Spans:
    """The addresses of a network, as numbers.

    Raises: ValueError.
    """
    network: IPv4Network | IPv6Network = ip_network(text, strict=False)
    mask = text.partition("/")[2]
    if "." in mask and int(network.netmask) != of_address(mask):
        # 0.0.0.255 is all that ends alike for iptables, and a network for Python
        raise ValueError(text)
    return ((int(network.network_address), int(network.broadcast_address)),)


def of_address(text: str) -> int:
    """An address as a number.

    Raises: ValueError.
    """
    return int(ip_address(text))


def networks(spans: Spans, version: int, most: int = 8) -> list[str]:
    """Addresses as people write them: networks where they are some, else ranges; the first few."""
    return [_network(low, high, version) for low, high in spans[:most]] + (
        [f"and {len(spans) - most} more"] if len(spans) > most else []
    )


def _network(low: int, high: int, version: int) -> str:
    make = IPv4Network if version == 4 else IPv6Network
    size = high - low + 1
    if not size & (size - 1) and not low % size:
        bits = (32 if version == 4 else 128) - (size.bit_length() - 1)
        network = make((low, bits))
        return str(network.network_address) if size == 1 else str(network)
    return f"{make(low).network_address}-{make(high).network_address}"


def numbers(spans: Spans) -> str:
    """Numbers as people write them: 22,80,8000-8100."""
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spans)
