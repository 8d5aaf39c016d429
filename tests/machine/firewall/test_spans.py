"""Sets of ranges, beside Python's own sets."""

from hypothesis import given
from hypothesis import strategies as st

from watchman_mcp.machine.firewall.spans import (
    Spans,
    has,
    intersection,
    merged,
    networks,
    of_network,
    union,
    without,
)

ranges = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60))).map(merged)


def numbers(spans: Spans) -> set[int]:
    return {number for low, high in spans for number in range(low, high + 1)}


@given(ranges, ranges)
def test_they_do_what_sets_do(one: Spans, other: Spans) -> None:
    assert numbers(union(one, other)) == numbers(one) | numbers(other)
    assert numbers(intersection(one, other)) == numbers(one) & numbers(other)
    assert numbers(without(one, other)) == numbers(one) - numbers(other)
    assert {number for number in range(-1, 63) if has(one, number)} == numbers(one)


@given(ranges, ranges)
def test_equal_sets_are_written_alike(one: Spans, other: Spans) -> None:
    for made in (union(one, other), intersection(one, other), without(one, other)):
        assert made == merged((number, number) for number in numbers(made))


def test_addresses_are_written_as_networks_where_they_are_some() -> None:
    spans = merged([*of_network("10.0.0.0/8"), *of_network("1.2.3.4"), (0x0B000001, 0x0B000003)])

    assert networks(spans, 4) == ["1.2.3.4", "10.0.0.0/8", "11.0.0.1-11.0.0.3"]
    assert networks(of_network("2001:db8::/32"), 6) == ["2001:db8::/32"]
    assert networks(merged((n * 2, n * 2) for n in range(10)), 4, 1) == ["0.0.0.0", "and 9 more"]
