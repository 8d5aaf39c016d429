"""What a collector is: it reads one part of the machine and says what is there, text in, graph out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from watchman_mcp.errors import Absent, WatchmanError
from watchman_mcp.machine import Machine
from watchman_mcp.schema import Edge, EdgeType, Label
from watchman_mcp.schema.core import Record
from watchman_mcp.settings import Settings

Seen = Label | Edge | Record
"""What a collector yields."""


@dataclass(frozen=True)
class Unobserved:
    """Something that could not be looked at: never swept, always said."""

    what: str
    why: str


@dataclass
class Look:
    """One look of one collector: what it may read, and what the runner learns beside the graph.

    `marks` holds JSON values that the collector left at its last successful look, such as positions in logs;
    it is kept when the look succeeds, with the rows, or not at all.
    """

    machine: Machine
    settings: Settings
    scope: str
    marks: dict[str, object] = field(default_factory=dict)
    unobserved: list[Unobserved] = field(default_factory=list)
    failed: set[str] = field(default_factory=set)
    seen: set[str] = field(default_factory=set)

    @contextmanager
    def part(self, scope: str) -> Iterator[None]:
        """What is yielded inside belongs to this scope, `COLLECTOR:PLACE`; unreadable, only it is lost."""
        whole, self.scope = self.scope, scope
        try:
            yield
            self.seen.add(scope)
        except Absent:
            pass  # a place that vanished between listing and reading is a place that is not there
        except WatchmanError as error:
            self.failed.add(scope)
            self.unobserved.append(Unobserved(scope, str(error)))
        finally:
            self.scope = whole

    def cannot(self, what: str, why: str) -> None:
        """Say that something, a scope or all below it, could not be looked at."""
        self.unobserved.append(Unobserved(what, why))

    def searched(self, found: bool, refused: Mapping[str, str], why: str) -> None:
        """Say what refused a search, and remember whether the thing is here.

        Raises: Absent with `why`, where nothing was found and never was; what was there before is swept.
        """
        for path, reason in refused.items():
            self.cannot(f"{self.scope}:{path}", reason)
        if found:
            self.marks["there"] = True
        elif not refused and not self.marks:
            raise Absent(why)


@dataclass(frozen=True)
class Collector:
    """One collector: `collect` yields the complete present state of what it `emits`, and new records.

    It may raise Absent (the thing is not on this machine: nothing is swept), Denied or Broken; it
    does not catch, write, log, sleep or read a clock. `watch` are paths whose change means "look again now".
    """

    collect: Callable[[Look], Iterator[Seen]]
    emits: tuple[type[Label] | EdgeType, ...]
    every: Callable[[Settings], float]
    watch: tuple[str, ...] = ()
    feature: str = "system_monitoring"
    """The key of `[features]` that turns it off; empty: always on."""
    version: int = 1
    logged: bool = False
    """Whether the machine's own log tells the changes; one it does not tell waits a look to be an event."""
    managers: tuple[str, ...] = ()
    """Package managers whose packages it brings; empty: the one that it is named after, if it brings any."""
    name: str = ""

    @property
    def brings(self) -> tuple[str, ...]:
        """The package managers whose packages it brings."""
        return self.managers or ((self.name,) if "Software" in self.labels else ())

    @property
    def labels(self) -> frozenset[str]:
        """The names of the labels that it owns."""
        return frozenset(e.__name__ for e in self.emits if not isinstance(e, EdgeType))

    @property
    def samples(self) -> bool:
        """Whether it brings samples, whose rates need two looks."""
        return any(not isinstance(e, EdgeType) and e.series is not None for e in self.emits)


@cache
def load() -> tuple[Collector, ...]:
    """Every collector of this folder, named by its file."""
    found = []
    for module in iter_modules(__path__):
        collector: Collector = import_module(f"{__name__}.{module.name}").collector
        object.__setattr__(collector, "name", module.name)
        found.append(collector)
    return tuple(found)


def minutes(count: float) -> Callable[[Settings], float]:
    """An interval that no setting changes."""
    return lambda _settings: count * 60
