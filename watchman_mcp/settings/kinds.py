"""The kinds of values that settings have, and how a bad one is refused."""

import os
import re
from difflib import get_close_matches
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from watchman_mcp import rules
from watchman_mcp.machine import sources

_MONTHS = ["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_WEEK = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
_CRON: tuple[tuple[int, int, list[str]], ...] = (
    (0, 59, []),
    (0, 23, []),
    (1, 31, []),
    (1, 12, _MONTHS),
    (0, 7, _WEEK),
)


def _matching(pattern: str, reason: str) -> AfterValidator:
    """A check of a text; the empty one passes where the pattern lets it."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text, re.DOTALL):
            raise ValueError(reason)
        return text

    return AfterValidator(check)


def known_rule(text: str) -> str:
    """A rule of alerts by its name.

    Raises: ValueError with the nearest name.
    """
    if text not in rules.NAMES:
        near = get_close_matches(text, rules.NAMES, 1, 0.0)[0]
        raise ValueError(f"no rule is called {ascii(text[:40])}; the nearest one is {near}")
    return text


def _schedule(text: str) -> str:
    fields = text.lower().split()
    if len(fields) != len(_CRON):
        raise ValueError("should be five fields, minute hour day month weekday, such as 0 2 * * *")
    for field, (low, high, names) in zip(fields, _CRON, strict=True):
        for part in field.split(","):
            found = re.fullmatch(r"(?:\*|(\w+)(?:-(\w+))?)(?:/[1-9]\d?)?", part, re.ASCII)
            words = [word for word in found.groups() if word] if found else ["-"]
            ends = [names.index(w) if w in names else int(w) if w.isdigit() else -1 for w in words]
            if not all(low <= end <= high for end in ends) or ends != sorted(ends):
                raise ValueError(f"the part {ascii(part[:20])} should be within {low} to {high}")
    return text


_ABSOLUTE = r"/[^\0]*"
Root = Annotated[str, _matching(_ABSOLUTE, "should be an absolute path; / is this machine")]
Path = Annotated[str, _matching(rf"(~?{_ABSOLUTE})?", "should be an absolute path, or begin with ~/")]
OwnPath = Annotated[Path, AfterValidator(os.path.expanduser)]
Texts = Annotated[tuple[str, ...], Field(strict=False)]
Paths = Annotated[tuple[Path, ...], Field(strict=False)]
SearchPath = Annotated[
    str, _matching(r"/[^:\0]*(:/[^:\0]*)*", "should be absolute directories joined by colons")
]
Schedule = Annotated[str, AfterValidator(_schedule)]
Server = Annotated[
    str,
    _matching(
        r"((neo4j|bolt)(\+s|\+ssc)?://[^/@\s]+/?)?",
        "should be like neo4j://host:7687, without user or password",
    ),
]
Storage = Annotated[
    str, _matching(r"https?://[^/@\s]+(/[^@\s]*)?", "should be like https://host, without user or password")
]
AddressSource = Annotated[
    str, _matching(sources.SOURCE, "should be like dns:NAME/TXT@SERVER or https://host/, without user")
]
Target = Annotated[str, _matching(sources.TARGET, "should be gateway, a host name or an address")]
Days = Annotated[int, Field(ge=1, le=36_500)]
Domain = Literal["backup", "configs", "containers", "mcp", "services"]
