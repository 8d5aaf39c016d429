"""Which of two versions is later: one module for each rule, named by what packages say of their versions."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

PLAIN = "pep440"
"""The rule for versions of which nothing is said."""


def compare_versions(scheme: str | None, one: str, other: str) -> int:
    """-1, 0 or 1 as `one` is earlier than, the same as or later than `other` by the rule of that name.

    Versions that the rule cannot read are the same where their texts are equal, and else 1.
    """
    try:
        return int(_rule(scheme or PLAIN).compare(one, other))
    except ValueError:
        return 0 if one == other else 1


@cache
def _rule(scheme: str) -> ModuleType:
    """The module of a rule; a newer Watchman may have written one to a store that is not here."""
    name = f"{__name__}.{scheme}" if re.fullmatch(r"[a-z][a-z0-9_]*", scheme) else ""
    return import_module(name if name and find_spec(name) else f"{__name__}.{PLAIN}")
