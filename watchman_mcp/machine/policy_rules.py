"""Policy rules of routing, in the words of `ip rule`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from watchman_mcp.machine.rtnames import named

INVERTED = 0x2
TO_TABLE = 1
NO_LIMIT = 0xFFFFFFFF


class Rule(NamedTuple):
    """One policy rule."""

    family: str
    priority: int
    selector: str
    """What it is for; empty: everything."""
    table: str
    """The table that it looks in; empty where it does something else."""
    action: str | None


def read_rule(told: Any, family: str, tables: Mapping[int, str]) -> Rule:
    """One rule as netlink tells it."""
    action = told["action"]
    # Such a rule looks in the table of the VRF to which the interface belongs, and names none.
    of_vrf = action == TO_TABLE and bool(told.get_attr("FRA_L3MDEV"))
    words = {
        TO_TABLE: "lookup [l3mdev-table]" if of_vrf else None,
        2: f"goto {told.get_attr('FRA_GOTO')}",
        3: "nop",
        6: "blackhole",
        7: "unreachable",
        8: "prohibit",
    }
    return Rule(
        family,
        told.get_attr("FRA_PRIORITY") or 0,
        " ".join(_selector(told)),
        named(tables, told.get_attr("FRA_TABLE") or told["table"])
        if action == TO_TABLE and not of_vrf
        else "",
        words.get(action, f"action {action}"),
    )


def _selector(told: Any) -> Iterator[str]:
    if told["flags"] & INVERTED:
        yield "not"
    for word, name, length in (("from", "FRA_SRC", "src_len"), ("to", "FRA_DST", "dst_len")):
        if (network := told.get_attr(name)) is not None:
            yield f"{word} {network}/{told[length]}"
    if told["tos"]:
        yield f"tos {told['tos']:#x}"
    mask = told.get_attr("FRA_FWMASK")
    if told.get_attr("FRA_FWMARK") is None and mask is not None:
        yield f"fwmark 0x0/{mask:#x}"  # the kernel leaves a mark of zero out
    for word, name, written in _PARTS:
        if (value := told.get_attr(name)) is not None and (text := written(value, told)):
            yield f"{word} {text}"
    if any(part[0] == "UNKNOWN" for part in told["attrs"]):  # of a newer kernel
        yield "and more that is not known"


def _plain(value: Any, _told: Any) -> str:
    return str(value)


def _mark(value: Any, told: Any) -> str:
    mask = told.get_attr("FRA_FWMASK")
    return f"{value:#x}" + (f"/{mask:#x}" if mask not in (None, NO_LIMIT) else "")


def _range(value: Any, _told: Any) -> str:
    return f"{value['start']}-{value['end']}" if isinstance(value, Mapping) else str(value).replace(":", "-")


def _limit(value: Any, _told: Any) -> str:
    return "" if value == NO_LIMIT else str(value)


_PARTS: tuple[tuple[str, str, Callable[[Any, Any], str]], ...] = (
    ("fwmark", "FRA_FWMARK", _mark),
    ("iif", "FRA_IIFNAME", _plain),
    ("oif", "FRA_OIFNAME", _plain),
    ("tun_id", "FRA_TUN_ID", _plain),
    ("uidrange", "FRA_UID_RANGE", _range),
    ("ipproto", "FRA_IP_PROTO", _plain),
    ("sport", "FRA_SPORT_RANGE", _range),
    ("dport", "FRA_DPORT_RANGE", _range),
    ("suppress_prefixlength", "FRA_SUPPRESS_PREFIXLEN", _limit),
    ("suppress_ifgroup", "FRA_SUPPRESS_IFGROUP", _limit),
)
