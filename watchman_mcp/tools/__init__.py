"""What a tool is: a plain function of the store and its arguments, marked here; the server binds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Literal, TypeVar

from watchman_mcp.schema import Label
from watchman_mcp.store.mirror import State

F = TypeVar("F", bound=Callable[..., Any])
Grade = Literal["observe", "operate"]

INJECTED = ("store", "about", "look", "fleet", "cypher", "owners")
"""Parameters that the server gives and the model never sees."""

CONDITIONAL = {"host": "fleet", "older_than": "fleet", "compare_with": "fleet", "language": "cypher"}
"""Arguments that are offered only where what the server gives for them is configured, by that."""

Labels = tuple[type[Label], ...]
Look = Callable[[Iterable[str]], Awaitable[None]]
"""Looks again now at these labels, or at everything when there are none; returns when it has."""


@dataclass(frozen=True)
class Tool:
    """A marked function and what the server needs to know about it."""

    function: Callable[..., Any]
    grade: Grade
    title: str
    needs: Labels
    always: bool
    waits: Callable[[Mapping[str, Any]], Labels] | None = None

    @property
    def name(self) -> str:
        return self.function.__name__

    def waits_for(self, arguments: Mapping[str, Any]) -> Labels:
        """What must have been looked at once before this question is answered."""
        return self.needs if self.waits is None else self.waits(arguments)


@dataclass(frozen=True)
class About:
    """What the daemon knows of itself, for `doctor`."""

    version: str
    directory: str
    log: str
    config: str
    mode: str
    started_at: datetime
    root: str
    uid: int
    clients: Callable[[], int]
    work: Callable[[], list[str]]
    watching: Callable[[], str]
    """How changes of files are noticed: at once, or why not."""
    areas: dict[str, tuple[str, ...]]
    """Collectors by name, with the labels they look for."""
    mirror: Callable[[], State | None] = lambda: None
    """How the mirror to Neo4j fares; None where there is none."""


def reads(
    *,
    title: str,
    needs: Labels = (),
    always: bool = False,
    waits: Callable[[Mapping[str, Any]], Labels] | None = None,
) -> Callable[[F], F]:
    """Mark a tool that only reads. It waits for the first look at what it `needs`.

    Where not every question rests on all of that, `waits` says by the arguments what one waits for.
    """
    return _mark("observe", title, needs, always, waits)


def operates(*, title: str, needs: Labels = ()) -> Callable[[F], F]:
    """Mark a tool that does something safe."""
    return _mark("operate", title, needs, False)


def _mark(
    grade: Grade,
    title: str,
    needs: Labels,
    always: bool,
    waits: Callable[[Mapping[str, Any]], Labels] | None = None,
) -> Callable[[F], F]:
    def mark(function: F) -> F:
        function.__tool__ = Tool(function, grade, title, needs, always, waits)  # type: ignore[attr-defined] # the mark
        return function

    return mark


ORDER = (
    "overview", "query_packages", "network_status", "system_metrics", "what_changed", "query_graph", "doctor",
    "scan",
)  # fmt: skip
"""The order in which a model reads them; others follow by name."""


@cache
def load() -> tuple[Tool, ...]:
    """Every marked function of this folder."""
    found: list[Tool] = []
    for module in iter_modules(__path__):
        members = vars(import_module(f"{__name__}.{module.name}")).values()
        found += [m.__tool__ for m in members if callable(m) and hasattr(m, "__tool__")]
    return tuple(
        sorted(found, key=lambda t: (ORDER.index(t.name) if t.name in ORDER else len(ORDER), t.name))
    )
