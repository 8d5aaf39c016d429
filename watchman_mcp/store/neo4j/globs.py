"""Globs as the server's regular expressions."""

from __future__ import annotations

import re


def regex(glob: str) -> str:
    """A glob as the server's regular expression, in which no star is tried twice.

    Each star takes the nearest place where what follows it fits, and keeps to it: a pattern of many stars
    would else keep the server busy for minutes.
    """
    parts: list[list[str]] = [[]]
    rest = glob
    while rest:
        one, rest = rest[0], rest[1:]
        # a bracket that comes first in a class stands for itself
        end = rest.find("]", 2 if rest[:1] in ("!", "^") else 1) if one == "[" else -1
        if one == "*":
            parts.append([])
        elif end > 0:
            parts[-1].append(_class(rest[:end]))
            rest = rest[end + 1 :]
        else:
            parts[-1].append("." if one == "?" else _literal(one))
    first, *others = ["".join(part) for part in parts]
    if not others:
        return f"(?s){first}"
    return f"(?s){first}{''.join(f'(?>.*?{part})' for part in others[:-1] if part)}.*{others[-1]}"


def _class(text: str) -> str:
    negated = text[0] in "!^"
    # the server refuses a range that runs backwards; it holds nothing
    body = _RANGE.sub(lambda found: found[0] if found[1] <= found[2] else "", text[negated:])
    if not body:
        return "." if negated else "(?!)"
    return f"[{'^' if negated else ''}{''.join(c if c == '-' else _literal(c) for c in body)}]"


_RANGE = re.compile("(.)-(.)", re.DOTALL)


def _literal(letter: str) -> str:
    return letter if letter.isalnum() else f"\\{letter}"
