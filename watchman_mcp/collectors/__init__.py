"""What a collector is: it reads one part of the machine and says what is there, text in, graph out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar, cast

from watchman_mcp.errors import Absent, WatchmanError
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.logs import LogReading
from watchman_mcp.machine.updates import Update
from watchman_mcp.schema import Edge, EdgeType, Label
from watchman_mcp.schema.core import Record
from watchman_mcp.schema.packages import Owner
from watchman_mcp.settings import Settings

T = TypeVar("T")
PLACES = 300
"""So many places that a look found are watched, of each collector."""
Ask = Callable[[Commands], tuple[list[Update], int]]
"""Asks a manager for newer versions; says how many lines of its answer were not understood."""
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
    watched: set[str] = field(default_factory=set)
    again: bool = False
    """Whether something was put off, so that the next look should come at once."""
    first: bool = field(init=False)
    """Whether none before left a mark."""

    def __post_init__(self) -> None:
        self.first = not self.marks

    def puts_off(self) -> bool:
        """Whether this is the first look at the running machine, which people wait for.

        What takes long and answers no first question is left to the next look, which then comes at once.
        """
        if self.first and self.machine.live:
            self.again = True
            self.marks["looked"] = True  # where nothing else leaves a mark, the next would be the first again
            return True
        return False

    def watch(self, *paths: str) -> None:
        """Paths that this look found, whose change means "look again now" like that of `Collector.watch`."""
        self.watched.update(paths)

    def watch_places(self, paths: Iterable[str]) -> None:
        """Watch places of which a machine may have any number, the first ones; what that leaves is said."""
        found = list(dict.fromkeys(paths))
        self.watch(*found[:PLACES])
        if len(found) > PLACES:
            why = f"only {PLACES} of {len(found)} places are watched; the interval notices the others"
            self.cannot(f"{self.scope}:changes at once", why)

    def kept(self, name: str, basis: object, make: Callable[[], T]) -> T:
        """A JSON value that takes long to make, as it was made when `basis`, JSON too, was last the same."""
        known = self.marks.get(name)
        if not (isinstance(known, list) and len(known) == 2 and known[0] == basis):
            self.marks[name] = known = [basis, make()]
        return cast("T", known[1])

    def signs(self, *paths: str) -> list[list[object]]:
        """What tells whether these files or directories changed, as a basis of what is `kept`.

        Raises: Denied, Broken.
        """
        found: list[list[object]] = []
        for path in paths:
            try:
                entry = self.machine.files.stat(path)
            except Absent:
                continue
            found.append([path, entry.mtime, entry.size, entry.inode])
        return found

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

    @contextmanager
    def beside(self, path: str) -> Iterator[str]:
        """A file beside what is collected, which costs nothing but itself if it cannot be read; its scope."""
        scope = f"{self.scope.partition(':')[0]}:{path}"
        with self.part(scope):
            yield scope
        self.seen.discard(scope)  # it has no rows of its own

    def left_out(
        self, path: str, reading: LogReading, lines: int, why: str = "cannot be read and were left out"
    ) -> None:
        """Say what of a log could not be read."""
        lines += reading.overlong
        for problem in [*reading.problems, *([f"{lines} of its lines {why}"] if lines else [])]:
            self.cannot(path, problem)

    def cannot(self, what: str, why: str) -> None:
        """Say that something, a scope or all below it, could not be looked at."""
        self.unobserved.append(Unobserved(what, why))

    def newest(self, *paths: str) -> datetime | None:
        """When the last of these files or directories was written; None where there is none of them.

        Raises: Denied, Broken.
        """
        times = [cast("float", mtime) for _, mtime, *_ in self.signs(*paths)]
        return datetime.fromtimestamp(max(times), UTC) if times else None

    def updates(self, deciding: Iterable[str], ask: Ask) -> dict[tuple[str, str | None], Update]:
        """Newer versions by name and architecture, of a manager that only the running machine can ask.

        It is asked again when one of the `deciding` paths changed; not at the first look, which people wait
        for. What it cannot tell is said.
        """
        what = f"{self.scope}:updates"
        try:
            if not self.machine.live:
                raise Absent("newer versions can be asked for on the running machine only")
            if self.puts_off():
                raise Absent("the manager is not asked yet; the next look, within seconds, asks it")
            told = self.kept("updates", self.signs(*deciding), lambda: ask(self.machine.commands))
        except WatchmanError as error:
            self.cannot(what, str(error))
            return {}
        found, unreadable = told
        if unreadable:
            self.cannot(what, f"{unreadable} lines of the answer cannot be read and were left out")
        return {(update.name, update.architecture): update for update in (Update(*row) for row in found)}

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
    owner: Callable[[Machine, Collection[str]], Iterator[Owner]] | None = None
    """Who owns a file, known by any of these paths, as the managers of the machine tell; keeps nothing.

    It may raise as `collect` does; Absent says that its managers are not here.
    """
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
    def holds_back(self) -> bool:
        """Whether its first look comes after those that first questions wait for: packages, host and load."""
        return not (self.brings or self.labels & {"Host", "SystemMetrics"})

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


def offered(update: Update | None) -> dict[str, Any]:
    """The fields of a package that tell of a newer version."""
    newer = update or Update("", None, "")
    return {
        "available": newer.version or None,
        "available_from": newer.origin,
        "security_update": newer.security,
    }
