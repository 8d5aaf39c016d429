"""Rules of nft's JSON as conditions, effects and verdicts."""

from __future__ import annotations

from typing import Any

from watchman_mcp.machine.firewall.model import Choice, Condition, Effect, Match, Opaque, Part, Verdict
from watchman_mcp.machine.firewall.nft_text import expression
from watchman_mcp.machine.firewall.spans import has, merged
from watchman_mcp.machine.firewall.terms import (
    Sets,
    Unknown,
    element_of,
    field_of,
    flags_of,
    listed,
    match_of,
    plain,
    usual,
)

_TOP = 2**32 - 1
_FRAGMENT = {"payload": {"protocol": "ip", "field": "frag-off"}}
"""Its bit 0x4000 is not about fragments, and is as the sender likes."""
_FATES = ("accept", "drop", "return", "continue", "reject")
_NOTHING = frozenset(
    (
        "counter",
        "log",
        "ct_helper",
        "ct_timeout",
        "ct_expectation",
        "flow",
        "dup",
        "last",
        "secmark",
        "tunnel",
        "reset",
        "tproxied",
        "xt_LOG",
        "xt_NFLOG",
        "xt_TRACE",
        "xt_CHECKSUM",
        "xt_TCPMSS",
        "xt_AUDIT",
        "xt_SET",
        "xt_CLASSIFY",
        "xt_TOS",
        "xt_DSCP",
        "xt_comment",
    )
)
"""What decides nothing."""


def parts_of(statements: list[Any], sets: Sets) -> tuple[Part, ...]:
    """The parts of a rule in their order."""
    found: list[Part] = []
    for statement in statements:
        found += _statement(statement, sets)
    return tuple(found)


def verdict_of(statement: Any) -> Verdict | None:
    """The verdict that a statement or an element of a map is; None for what is none."""
    if isinstance(statement, str):
        return Verdict(statement) if statement in _FATES else None
    kind, what = _single(statement)
    if kind in _FATES:
        return Verdict(kind)
    if kind in ("jump", "goto"):
        return Verdict(kind, chain=str(what["target"]))
    return None


def _single(statement: Any) -> tuple[str, Any]:
    if isinstance(statement, dict) and len(statement) == 1:
        kind, what = next(iter(statement.items()))
        return str(kind), what
    return "", None


def _statement(statement: Any, sets: Sets) -> list[Part]:
    kind, what = _single(statement)
    if verdict := verdict_of(statement):
        return [verdict]
    if kind == "match":
        return [_match(what, sets)]
    if kind == "vmap":
        return [_choice(what, sets)]
    if kind == "xt":
        name = str(what.get("name")) if isinstance(what, dict) else ""
        if f"xt_{name}" in _NOTHING:
            return []
        opaque = Opaque(f"xt {name}")
        return (
            [opaque]
            if isinstance(what, dict) and what.get("type") == "match"
            else [opaque, Verdict("unknown")]
        )
    if kind in ("set", "map", "meter") and isinstance(what, dict):
        return _put(statement, listed(what.get("stmt") or []), sets)
    if kind in ("limit", "ct count"):
        return [Opaque(expression(statement), _within(what, sets))]
    return _other(statement, kind, what)


def _put(statement: Any, inner: list[Any], sets: Sets) -> list[Part]:
    """What puts an element into a set; it is a condition where the element has one, such as a limit."""
    found = [part for one in inner for part in _statement(one, sets)]
    if not found:
        return []
    (first, *more) = found
    alone = isinstance(first, Opaque) and not more
    return [Opaque(expression(statement), first.within if alone and isinstance(first, Opaque) else None)]


def _within(limit: Any, sets: Sets) -> bool | None:
    """What a limit is while it is not reached."""
    if isinstance(limit, dict):
        return not limit.get("inv", False)
    return not sets.limits[limit] if isinstance(limit, str) and limit in sets.limits else None


def _other(statement: Any, kind: str, what: Any) -> list[Part]:
    if kind == "mangle":
        return _mangle(what)
    if kind == "notrack":
        return [Effect("notrack")]
    if kind in ("redirect", "dnat"):
        return [_translation(kind, what)]
    if kind in ("snat", "masquerade"):
        return [Verdict("accept")]
    if kind.replace(" ", "_") in _NOTHING:
        return []
    if kind == "quota":
        return [Opaque(expression(statement))]
    return [Opaque(expression(statement)), Verdict("unknown")]


def _match(what: dict[str, Any], sets: Sets) -> Part:
    try:
        op, left, right = what["op"], what["left"], what["right"]
        mask = None
        if isinstance(left, dict) and "&" in left:
            left, mask = left["&"]
        if isinstance(left, dict) and "concat" in left and mask is None:
            fields = tuple(field_of(one) for one in left["concat"])
        elif left == _FRAGMENT and type(mask) is int and not mask & 0x4000:
            fields = ("ip fragment",)
        else:
            fields = (field_of(left),)
        return _compared(op, fields, right, mask, sets)
    except (Unknown, KeyError, TypeError, ValueError):
        return Opaque(expression({"match": what}), usual(what))


def _compared(op: str, fields: tuple[str, ...], right: Any, mask: Any, sets: Sets) -> Part:
    negate = op in ("!=", "!")
    if len(fields) > 1:
        if op not in ("==", "!=", "in"):
            raise Unknown
        return Condition(fields, sets.matches(fields, right), negate)
    (field,) = fields
    if field == "tcp flags":
        return _flags(op, right, mask, sets)
    if mask is not None:
        if field not in ("mark", "ctmark", "ip fragment") or op not in ("==", "!="):
            raise Unknown
        return Condition(fields, sets.matches(fields, right), negate, mask=int(mask))
    if field == "status" and op not in ("in", "!"):
        raise Unknown
    if op in ("<", ">", "<=", ">="):
        return Condition(fields, ((_bounded(op, field, right),),))
    if op not in ("==", "!=", "in", "!"):
        raise Unknown
    return Condition(fields, sets.matches(fields, right), negate)


def _flags(op: str, right: Any, mask: Any, sets: Sets) -> Condition:
    several = isinstance(right, dict) and "set" in right
    wanted = [flags_of(one) for one in (sets.values(right) if several else [right])]
    if op in ("in", "!") and not several:
        # any of the flags is set: what is left of them is not 0
        return Condition(("tcp flags",), ((((1, 255),),),), op == "!", mask=wanted[0])
    if op not in ("==", "!=", "in", *(() if several else "<")):
        raise Unknown
    match = merged([(0, wanted[0] - 1)] if op == "<" else [(one, one) for one in wanted])
    return Condition(("tcp flags",), ((match,),), op == "!=", mask=None if mask is None else flags_of(mask))


def _bounded(op: str, field: str, right: Any) -> Match:
    match = match_of(field, [right])
    if not match or isinstance(match, frozenset) or not isinstance(match[0], tuple):
        raise Unknown
    ((low, high),) = match
    top = 2**128 - 1
    bounds = {"<": (0, low - 1), "<=": (0, high), ">": (high + 1, top), ">=": (low, top)}
    begin, end = bounds[op]
    return ((begin, end),) if begin <= end else ()


def _choice(what: dict[str, Any], sets: Sets) -> Part:
    try:
        key = what["key"]
        keys = key["concat"] if isinstance(key, dict) and "concat" in key else [key]
        fields = tuple(field_of(one) for one in keys)
        found, otherwise = [], None
        for pair in sets.values(what["data"]):
            value, fate = pair
            if (verdict := verdict_of(fate)) is None:
                raise Unknown
            if plain(value) == "*":
                otherwise = verdict
            else:
                found.append((element_of(fields, value), verdict))
        return Choice(fields, tuple(found), otherwise)
    except (Unknown, KeyError, TypeError, ValueError):
        return Verdict("unknown")


def _mangle(what: dict[str, Any]) -> list[Part]:
    key = what.get("key")
    try:
        kind = field_of(key)
    except Unknown:
        kind = ""
    value = what.get("value")
    if kind in ("mark", "ctmark"):
        source = ""
        try:
            source = field_of(value)
        except Unknown:
            keep, number = _marked(key, value)
            return [Effect(kind, keep, number)]
        return (
            [Effect(f"{source}>{kind}")]
            if source != kind and source in ("mark", "ctmark")
            else [Effect(kind)]
        )
    if kind.endswith(("addr", "port")):
        return [Opaque("an address is rewritten"), Verdict("unknown")]
    return []


def _marked(key: Any, value: Any) -> tuple[int, int | None]:
    """What is kept of an old mark and what is changed in it; None where that cannot be told."""
    if isinstance(value, int):
        return 0, value
    kind, pair = _single(value)
    if (
        kind not in ("&", "|", "^")
        or not isinstance(pair, list)
        or len(pair) != 2
        or type(pair[1]) is not int
    ):
        return 0, None
    inner, number = pair
    keep, change = (_TOP, 0) if inner == key else _marked(key, inner)
    if change is None:
        return 0, None
    if kind == "&":
        return keep & number, change & number
    # x | n is (x & ~n) ^ n
    return (keep & ~number & _TOP, (change & ~number) ^ number) if kind == "|" else (keep, change ^ number)


def _translation(kind: str, what: Any) -> Part:
    if not isinstance(what, dict):
        return Verdict(kind)
    address, port = what.get("addr"), what.get("port")
    if isinstance(address, dict) and "map" in address:
        return Verdict(kind, address="?", port=-1)
    where = address if address is None or isinstance(address, str) else "?"
    number = port if port is None or (isinstance(port, int) and has(((0, 65535),), port)) else -1
    return Verdict(kind, address=where, port=number)
