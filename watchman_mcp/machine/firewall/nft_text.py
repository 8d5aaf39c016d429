"""Rules of nft's JSON, written as nft writes them, without their counters."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

_HEX = ("mark",)
_NAMES = ("iif", "oif", "iifname", "oifname", "iifkind", "oifkind", "iifgroup", "oifgroup", "sdifname")
_QUOTED = (*_NAMES, "day", "hour", "time", "helper")
_HEADERS = ("exthdr", "tcp option", "fib", "ip option", "sctp chunk")
_SHORT = ("iif", "oif", "iifname", "oifname", "iifgroup", "oifgroup")


def rule(statements: list[Any], comment: str | None) -> str:
    """A rule as nft would write it; what is not known is written as it came."""
    words = [word for statement in statements if (word := expression(statement))]
    if comment is not None:
        words.append(f"comment {quoted(comment)}")
    return " ".join(words)


def quoted(text: str) -> str:
    """A text in quotes."""
    return f'"{text}"'


def expression(value: Any) -> str:
    """One statement or expression as text."""
    if isinstance(value, dict) and len(value) == 1:
        kind, what = next(iter(value.items()))
        if (write := _WRITERS.get(kind)) is not None:
            try:
                return write(what)
            except (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration):
                pass
    if isinstance(value, list):
        return ",".join(expression(one) for one in value)
    if isinstance(value, bool):
        return "exists" if value else "missing"
    return str(value) if isinstance(value, str | int) else json.dumps(value, sort_keys=True)


def _value(value: Any, left: Any) -> str:
    """A right side, as its left side wants it."""
    kind, key = _about(left)
    if isinstance(value, dict) and "set" in value:
        inner = value["set"] if isinstance(value["set"], list) else [value["set"]]
        return "{ " + ", ".join(_value(one, left) for one in inner) + " }"
    if isinstance(value, list):
        return ",".join(_value(one, left) for one in value)
    if isinstance(value, dict) and "range" in value:
        return "-".join(_value(one, left) for one in value["range"])
    if isinstance(value, dict) and "concat" in value and kind == "concat":
        return " . ".join(
            _value(one, side) for one, side in zip(value["concat"], left["concat"], strict=True)
        )
    if isinstance(value, str) and (key in _QUOTED or kind == "osf"):
        return value if value.startswith("@") else quoted(value)
    if isinstance(value, int) and not isinstance(value, bool) and key in _HEX:
        return f"{value:#010x}"
    if isinstance(value, bool) and (key in ("ipsec", "secpath") or kind in _HEADERS):
        return "exists" if value else "missing"
    if isinstance(value, bool):
        return str(int(value))
    return expression(value)


def _about(left: Any) -> tuple[str, str]:
    if isinstance(left, dict) and len(left) == 1:
        kind, what = next(iter(left.items()))
        if kind in ("&", "|", "^") and isinstance(what, list):
            return _about(what[0])
        return kind, str(what.get("key", "")) if isinstance(what, dict) else ""
    return "", ""


def _match(what: dict[str, Any]) -> str:
    op, left, right = what["op"], what["left"], what["right"]
    kind, pair = next(iter(left.items())) if isinstance(left, dict) else ("", [])
    if kind == "&" and _about(left)[0] == "payload" and pair[0]["payload"].get("field") == "flags":
        side = expression(pair[0])
        bang = "" if op == "==" else f"{op} "
        return f"{side} {bang}{_value(right, pair[0])} / {_value(pair[1], pair[0])}"
    shown = "" if op in ("==", "in") else f"{op} "
    if kind in ("&", "|", "^") and op == "==":
        shown = "== "
    if isinstance(right, bool) and kind == "exthdr" and "field" not in left["exthdr"]:
        return f"exthdr {left['exthdr']['name']} {shown}{_value(right, left)}"
    return f"{expression(left)} {shown}{_value(right, left)}"


def _operation(sign: str) -> Callable[[Any], str]:
    def write(pair: Any) -> str:
        return f" {sign} ".join([expression(pair[0]), *(_value(one, pair[0]) for one in pair[1:])])

    return write


def _meta(what: dict[str, Any]) -> str:
    key = str(what["key"])
    return key if key in _SHORT else f"meta {key}"


def _ct(what: dict[str, Any]) -> str:
    return " ".join(str(what[name]) for name in ("dir", "family", "key") if name in what).join(("ct ", ""))


def _payload(what: dict[str, Any]) -> str:
    if "base" in what:
        return f"@{what['base']},{what['offset']},{what['len']}"
    return f"{what['protocol']} {what['field']}"


def _fib(what: dict[str, Any]) -> str:
    flags = what["flags"] if isinstance(what["flags"], list) else [what["flags"]]
    return f"fib {' . '.join(flags)} {what['result']}"


def _map(what: dict[str, Any], word: str) -> str:
    key, data = what["key"], what["data"]
    if isinstance(data, str):
        return f"{expression(key)} {word} {data}"
    pairs = [f"{_value(_bare(one), key)} : {expression(other)}" for one, other in data["set"]]
    return f"{expression(key)} {word} {{ {', '.join(pairs)} }}"


def _bare(element: Any) -> Any:
    return element["elem"]["val"] if isinstance(element, dict) and "elem" in element else element


def _mangle(what: dict[str, Any]) -> str:
    return f"{expression(what['key'])} set {_value(what['value'], what['key'])}"


def _limit(what: Any) -> str:
    if isinstance(what, str):
        return f"limit name {quoted(what)}"
    over = "over " if what.get("inv") else ""
    unit = f" {what['rate_unit']}" if what.get("rate_unit", "packets") != "packets" else ""
    text = f"limit rate {over}{what['rate']}{unit}/{what['per']}"
    if what.get("burst") and (what["burst"] != 5 or unit):
        text += f" burst {what['burst']} {what.get('burst_unit', 'packets')}"
    return text


def _quota(what: Any) -> str:
    if isinstance(what, str):
        return f"quota name {quoted(what)}"
    return f"quota {'over ' if what.get('inv') else ''}{what['val']} {what['val_unit']}"


def _log(what: Any) -> str:
    words = ["log"]
    for name, value in (what or {}).items():
        if name == "flags":
            words += [f"flags {flag}" for flag in (value if isinstance(value, list) else [value])]
        else:
            words.append(f"{name} {quoted(value) if name == 'prefix' else value}")
    return " ".join(words).replace("tcp sequence flags tcp options", "tcp sequence,options")


def _meter(what: dict[str, Any]) -> str:
    size = f" size {what['size']}" if what.get("size") else ""
    return f"meter {what['name']}{size} {{ {expression(what['key'])} {expression(what['stmt'])} }}"


def _synproxy(what: Any) -> str:
    if not isinstance(what, dict) or "mss" not in what:
        return f"synproxy{'' if what is None else f' name {expression(what)}'}"
    flags = what.get("flags", [])
    scale = [f"wscale {what['wscale']}"] if "wscale" in what else []
    return " ".join([f"synproxy mss {what['mss']}", *scale, *(flags if isinstance(flags, list) else [flags])])


def _option(word: str) -> Callable[[Any], str]:
    return lambda what: f"{word} {what['name']}" + (f" {what['field']}" if "field" in what else "")


def _reject(what: Any) -> str:
    if not what:
        return "reject"
    kind, more = what["type"], what.get("expr")
    if more == "port-unreachable":
        return "reject"
    return f"reject with {kind}{f' {more}' if more else ''}"


def _nat(word: str) -> Callable[[Any], str]:
    def write(what: Any) -> str:
        if not isinstance(what, dict):
            return word
        text, address, port = word, what.get("addr"), what.get("port")
        if what.get("family"):
            text += f" {what['family']}"
        if what.get("type_flags"):
            text += " prefix"
        if address is not None or port is not None:
            shown = "" if address is None else _side(address)
            if port is not None and ":" in shown and isinstance(address, str):
                shown = f"[{shown}]"
            text += f" to {shown}{'' if port is None else f':{_side(port)}'}"
        flags = [] if what.get("type_flags") else what.get("flags")
        return text + (f" {','.join(flags) if isinstance(flags, list) else flags}" if flags else "")

    return write


def _side(value: Any) -> str:
    if isinstance(value, dict) and "range" in value:
        return "-".join(map(str, value["range"]))
    return expression(value)


def _set(what: dict[str, Any]) -> str:
    element = what["elem"]
    text = expression(element)
    if isinstance(element, dict) and "elem" in element and "timeout" in element["elem"]:
        text = f"{expression(element['elem']['val'])} timeout {_time(element['elem']['timeout'])}"
    inner = "".join(f" {word}" for one in what.get("stmt", ()) if (word := expression(one)))
    return f"{what['op']} {what['set']} {{ {text}{inner} }}"


def _time(seconds: int) -> str:
    text = ""
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        count, seconds = divmod(seconds, size)
        text += f"{count}{unit}" if count else ""
    return text or "0s"


def _plain(word: str) -> Callable[[Any], str]:
    return lambda what: word if what is None else f"{word} {expression(what)}"


def _named(word: str) -> Callable[[Any], str]:
    return lambda what: f"{word} {quoted(what) if isinstance(what, str) else expression(what)}"


_WRITERS: dict[str, Callable[[Any], str]] = {
    "match": _match,
    "meta": _meta,
    "ct": _ct,
    "payload": _payload,
    "fib": _fib,
    "counter": lambda what: f"counter name {quoted(what)}" if isinstance(what, str) else "",
    "mangle": _mangle,
    "limit": _limit,
    "quota": _quota,
    "log": _log,
    "reject": _reject,
    "set": _set,
    "map": lambda what: _map(what, "map"),
    "vmap": lambda what: _map(what, "vmap"),
    "jump": lambda what: f"jump {what['target']}",
    "goto": lambda what: f"goto {what['target']}",
    "xt": lambda what: f"xt {what['type']} {what['name']}",
    "ct helper": lambda what: f"ct helper set {quoted(what)}",
    "ct count": lambda what: f"ct count {'over ' if what.get('inv') else ''}{what['val']}",
    "flow": lambda what: f"flow {what['op']} {what['flowtable']}",
    "queue": lambda what: "queue" + (f" num {_side(what['num'])}" if what and "num" in what else ""),
    "socket": lambda what: f"socket {what['key']}",
    "numgen": lambda what: (
        f"numgen {what['mode']} mod {what['mod']}"
        + (f" offset {what['offset']}" if what.get("offset") else "")
    ),
    "jhash": lambda what: f"jhash {expression(what['expr'])} mod {what['mod']}",
    "rt": lambda what: f"rt {what['key']}",
    "exthdr": lambda what: f"{what['name']} {what['field']}" if "field" in what else f"exthdr {what['name']}",
    **{word: _option(word) for word in ("tcp option", "ip option", "sctp chunk")},
    "symhash": lambda what: f"symhash mod {what['mod']}",
    "osf": lambda what: f"osf {what['key']}",
    "ipsec": lambda what: " ".join(
        ("ipsec", what["dir"], *([what["family"]] if "family" in what else []), what["key"])
    ),
    "meter": _meter,
    "synproxy": _synproxy,
    "prefix": lambda what: f"{what['addr']}/{what['len']}",
    "range": lambda what: "-".join(map(expression, what)),
    "concat": lambda what: " . ".join(map(expression, what)),
    "elem": lambda what: expression(what["val"]),
    "&": _operation("&"),
    "|": _operation("|"),
    "^": _operation("^"),
    **{word: _nat(word) for word in ("dnat", "snat", "redirect", "masquerade", "tproxy")},
    **{word: _plain(word) for word in ("accept", "drop", "continue", "return", "notrack")},
    **{word: _named(f"{word} set") for word in ("ct timeout", "ct expectation")},
    "secmark": _named("secmark"),
}
