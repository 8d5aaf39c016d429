"""Versions of conda packages."""

import re
from itertools import zip_longest

_VERSION = re.compile(r"[*.+!_0-9a-z-]+")
_RUNS = re.compile(r"\d+|\*+|[^\d*]+", re.ASCII)
LONGEST = 512
"""Characters that a version has at most; conda itself has no bound."""

Run = tuple[int, int, str]
_FILL: list[Run] = [(2, 0, "")]


def compare(one: str, other: str) -> int:
    """-1, 0 or 1 as conda sorts `one` before, beside or after `other`.

    Raises: ValueError for what is no version of a conda package.
    """
    for first, second in zip(_parsed(one), _parsed(other), strict=True):
        for ours, theirs in zip_longest(first, second, fillvalue=_FILL):
            for mine, yours in zip_longest(ours, theirs, fillvalue=_FILL[0]):
                if mine != yours:
                    return 1 if mine > yours else -1
    return 0


def _parsed(version: str) -> tuple[list[list[Run]], list[list[Run]]]:
    """The epoch and the version, and what follows a plus sign: components of runs."""
    text = version.strip().lower()
    if len(text) > LONGEST or not _VERSION.fullmatch(text):
        raise ValueError(f"{version[:40]!r} is no version of a conda package")
    epoch, mark, rest = text.rpartition("!")
    own, plus, local = rest.partition("+")
    if mark and not epoch.isdecimal():
        raise ValueError(f"{version[:40]!r} has an epoch that is no number")
    # A last underscore belongs to what is before it, as in openssl's 1.0.1_.
    last = "_" if own.endswith("_") else ""
    parts = _components(own[: len(own) - len(last)], last)
    return [[(2, int(epoch or 0), "")], *parts], _components(local) if plus else []


def _components(text: str, last: str = "") -> list[list[Run]]:
    if "-" in text and "_" in text + last:
        raise ValueError(f"{text[:40]!r} mixes dashes and underscores")
    pieces = re.split("[-._]", text)
    if not all(pieces) or "+" in text:
        raise ValueError(f"{text[:40]!r} has an empty component")
    return [_runs(piece) for piece in [*pieces[:-1], pieces[-1] + last]]


def _runs(piece: str) -> list[Run]:
    """`dev` sorts first, then words, numbers, `post`; a component that begins with a word begins with 0."""
    runs: list[Run] = []
    for run in _RUNS.findall(piece):
        if run.isdecimal():
            runs.append((2, int(run), ""))
        else:
            runs.append({"dev": (0, 0, ""), "post": (3, 0, "")}.get(run, (1, 0, run)))
    return runs if piece[0].isdecimal() else [*_FILL, *runs]
