"""Arguments as models write them, understood before the SDK checks them."""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, get_args, get_origin

from watchman_mcp.errors import InvalidRequest

from . import INJECTED

SYNONYMS = {
    synonym: own
    for own, synonyms in {
        "name": "package packages package_name pkg software pattern filter",
        "subject": "target thing service unit",
        "since": "start start_time after from from_time time_range period",
        "until": "end end_time to to_time",
        "limit": "count max max_results top n page_size",
        "cursor": "page next_cursor page_token",
        "manager": "package_manager pm ecosystem",
        "query": "sql q statement",
        "area": "section collector component areas",
        "view": "mode sections metric",
        "kind": "type",
        "at": "time as_of",
        "host": "hostname machine server hosts",
    }.items()
    for synonym in synonyms.split()
}
"""What models call an argument, where the tool has none of that name."""

SPANS = {"minutes": 60, "hours": 3600, "days": 86_400, "weeks": 604_800}
EVERYTHING = ("all", "*", "everything", "both")
LONG, LONGEST = 1_000, {"query": 20_000}
"""Characters that a text may have; a pattern of many more would keep the store busy."""
NOTHING = ("null", "none", "undefined", "nil")
TRUTH = {
    "true": True,
    "yes": True,
    "1": True,
    "on": True,
    "false": False,
    "no": False,
    "0": False,
    "off": False,
    "": False,
}


@cache
def parameters(
    function: Callable[..., Any], without: frozenset[str] = frozenset()
) -> dict[str, tuple[Any, Any]]:
    """The arguments a model may give: their plain type and default; `without` those that are not offered."""
    hints = typing.get_type_hints(function)
    found = inspect.signature(function).parameters
    hidden = without.union(INJECTED)
    return {name: (hints[name], p.default) for name, p in found.items() if name not in hidden}


def understand(
    function: Callable[..., Any], given: Mapping[str, Any], without: frozenset[str] = frozenset()
) -> dict[str, Any]:
    """The arguments in the tool's own words: synonyms, enums in any case, numbers as text, null as default.

    Raises: InvalidRequest in one line that lists what is valid.
    """
    known = parameters(function, without)
    understood: dict[str, Any] = {}
    for name, value in given.items():
        own, value = _own_name(function.__name__, known, name, value)
        if own in understood:
            raise InvalidRequest(f"'{own}' is given twice, once as '{_shown(name)}'")
        kind, default = known[own]
        value = _value(own, kind, default, value)
        if value != default:
            understood[own] = value
    return understood


def literal(function: Callable[..., Any], given: Mapping[str, str]) -> dict[str, str]:
    """The arguments that a resource's address carries: nothing in them means nothing, not even `null`.

    Raises: InvalidRequest in one line that lists what is valid.
    """
    known = parameters(function)
    return {
        name: _enum(name, get_args(known[name][0]), value)
        if get_origin(known[name][0]) is Literal
        else _text(name, value)
        for name, value in given.items()
    }


def _own_name(tool: str, known: Mapping[str, Any], name: str, value: Any) -> tuple[str, Any]:
    """The tool's own name for an argument, and its value in that name's form."""
    word = name.strip().lower().replace("-", "_")
    if word in known:
        return word, value
    if word in SPANS and "since" in known:
        return "since", _span(word, value)
    if (own := SYNONYMS.get(word)) and own in known:
        return own, value
    valid = ", ".join(known) or "none"
    raise InvalidRequest(f"unknown argument '{_shown(name)}'; {tool} takes: {valid}")


def _shown(value: Any) -> str:
    """A value as one line of an error may quote it."""
    return "".join(c if c.isprintable() else "?" for c in str(value)[:40])


def _span(word: str, value: Any) -> Any:
    """`hours=24` as a time; what is no number is left for the time's own reader to refuse."""
    try:
        return f"{round(float(value) * SPANS[word])}s"
    except (TypeError, ValueError, OverflowError):
        return value


def _value(name: str, kind: Any, default: Any, value: Any) -> Any:
    """One value as the argument's type wants it."""
    if isinstance(value, str):
        value = value.strip()
        if value.lower() in NOTHING or (not value and kind is not str):
            return default
        if value.startswith(('["', '"') if kind is str else ("[", '"')):
            value = _inner(value)
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None:
        return default
    if isinstance(value, list):
        raise InvalidRequest(f"'{name}' takes one value, not {len(value)}; call once for each")
    if isinstance(value, dict):
        raise InvalidRequest(f"'{name}' takes a plain value, not an object")
    return _plain(name, kind, value)


def _plain(name: str, kind: Any, value: Any) -> Any:
    if get_origin(kind) is Literal:
        return _enum(name, get_args(kind), value)
    if kind is bool:
        return _truth(name, value)
    if kind is int:
        return _whole(name, value)
    return _text(name, value if isinstance(value, str) else json.dumps(value))


def _text(name: str, text: str) -> str:
    most = LONGEST.get(name, LONG)
    if len(text) > most:
        raise InvalidRequest(f"'{name}' is {len(text)} characters long; {most} are the most")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidRequest(f"'{name}' holds half a character (a lone surrogate); send whole ones") from None
    return text


def _inner(text: str) -> Any:
    """The value of a text that is JSON itself, the text where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _enum(name: str, words: tuple[str, ...], value: Any) -> str:
    word = str(value).strip().lower().replace("-", "_").replace(" ", "_")
    word = "any" if word in EVERYTHING and "any" in words else word
    matches = [w for w in words if w.lower() == word] or [
        w for w in words if word and w.rstrip("s") == word.rstrip("s")
    ]
    if not matches:
        raise InvalidRequest(f"'{name}' cannot be '{_shown(value)}'; use one of: {', '.join(words)}")
    return matches[0]


def _truth(name: str, value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in TRUTH:
        raise InvalidRequest(f"'{name}' is true or false, not '{_shown(value)}'")
    return TRUTH[word]


def _whole(name: str, value: Any) -> int:
    try:
        number = float(value)
        return max(-(2**53), min(int(number), 2**53))
    except (TypeError, ValueError, OverflowError):
        raise InvalidRequest(f"'{name}' is a whole number, not '{_shown(value)}'") from None
