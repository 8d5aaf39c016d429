"""The logs of dnf, for where no transaction database tells; lines in, changes out."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

from watchman_mcp.machine.dpkg import written
from watchman_mcp.machine.log_years import STAMP, LocalTimes
from watchman_mcp.machine.logs import Line
from watchman_mcp.machine.rpm_changes import Change, Present, Told, kind_of, numbered

DNF_LOG = "/var/log/dnf.rpm.log"
DNF_COMMANDS = "/var/log/dnf.log"
DNF5_LOG = "/var/log/dnf5.log"

_STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d{4})) (?:\[\d+\] )?([A-Z]+) (.*)")
_LOCAL = re.compile(rf"{STAMP} ([A-Z]+) (.*)", re.ASCII)
"""A line of dnf 1."""
_LOOKS_STAMPED = re.compile(rf"\d{{4}}-\d|{STAMP} [A-Z]+ |.*(?:SUBDEBUG|RPM callback)", re.ASCII)
_NAMED = re.compile(
    r"(?:(?P<before>\d+):)?(?P<name>[^\s:]+)-(?:(?P<within>\d+):)?"
    r"(?P<version>[^\s:-]+-[^\s:-]+)\.(?P<arch>[^\s.:-]+)"
)
_BEGINNINGS = ("--- logging initialized ---", "--- DNF5 launched with arguments: ")
_COMING = {"Installed": "install", "Upgrade": "update", "Downgrade": "downgrade", "Reinstall": "reinstall"}
_TWINS = frozenset({"Upgraded", "Downgraded", "Reinstalled", "Cleanup"})
_GOING = frozenset({"Erase", "Erased", "Removed", "Obsoleted"})
_FIRST = {"Upgraded": "Upgrade", "Downgraded": "Downgrade", "Reinstalled": "Reinstall"}
"""What dnf 1 and 2 call what comes; later ones, at another level, mean by it what goes."""
_CALLBACK = re.compile(r'RPM callback (install stop|uninstall start|uninstall stop) "([^"]+)"')
_CALLBACKS = {"install stop": "in", "uninstall start": "going", "uninstall stop": "out"}
_FAILED = re.compile(
    r"(?:Error in PRE\w+ scriptlet in rpm package (\S+)|error: (\S+): (?:install|erase) failed)"
)
_WRONG = re.compile(
    r"(?:error: .*|Error in \w+ scriptlet in rpm package \S+|RPM callback (?:unpack )?error .*)"
)


class Named(NamedTuple):
    """A package as a log names it."""

    name: str
    version: str | None
    arch: str


@dataclass(slots=True)
class _Step:
    at: datetime
    kind: str
    package: Named
    twin: Named | None = None
    failed: bool = False


@dataclass(slots=True)
class _LoggedRun:
    at: datetime
    line: Line
    command: str | None
    coming: dict[tuple[str, str], _Step] = field(default_factory=dict)
    steps: list[_Step] = field(default_factory=list)
    said: set[tuple[str, Named]] = field(default_factory=set)
    by_name: dict[str, list[_Step]] = field(default_factory=dict)
    """Its steps, none of which failed yet, by the ways in which what went wrong names a package."""
    errors: list[str] = field(default_factory=list)


def read_named(text: str) -> Named | None:
    """Name, version and architecture, with an epoch before the name or before the version."""
    found = _NAMED.fullmatch(text)
    if found is None:
        return None
    epoch = found["before"] or found["within"]
    version = f"{epoch}:{found['version']}" if epoch and epoch.strip("0") else found["version"]
    return Named(found["name"], version, found["arch"])


class _Entry(NamedTuple):
    """What a line says, and when."""

    at: datetime
    level: str
    text: str


class DnfLog:
    """Follows dnf's log of rpm's steps, or dnf 5's log; each run begins with a line of its own.

    Of packages there in `several` versions a new one replaces none.

    What is found does not depend on how the log is cut into reads, if each begins where the last run of the
    one before began, its `place`.
    """

    def __init__(
        self,
        source: str,
        present: Present,
        several: frozenset[str] = frozenset(),
        times: LocalTimes | None = None,
    ) -> None:
        self.unreadable = 0
        self._source = source
        self._several = several
        self._present = present
        self._times = times
        self._run: _LoggedRun | None = None

    @property
    def place(self) -> Line | None:
        """Where the last run began."""
        return self._run.line if self._run else None

    def told(self, lines: Iterable[Line]) -> Iterator[Told]:
        """The changes in the order in which they began, those of the last run as far as they are over."""
        for line, entry in _entries(lines, self._times):
            if entry is None:
                # What scripts say goes on over several lines without a time.
                self.unreadable += bool(_LOOKS_STAMPED.match(line.text))
            elif entry.text.startswith(_BEGINNINGS):
                yield from self._close(over=True)
                self._run = _LoggedRun(entry.at, line, _launched(entry.text))
            else:
                self._run = self._run or _LoggedRun(entry.at, line, None)
                self._take(entry)
        yield from self._close(over=False)

    def _take(self, entry: _Entry) -> None:
        at, level, text = entry
        word, colon, rest = text.partition(": ")
        if level == "INFO":
            word = _FIRST.get(word, word)
        if callback := _CALLBACK.match(text):
            self._step(at, _CALLBACKS[callback[1]], callback[2])
        elif colon and (word in _COMING or word in _TWINS or word in _GOING):
            self._step(at, word, rest.strip())
        elif _WRONG.match(text):
            self._fail(text)

    def _step(self, at: datetime, kind: str, who: str) -> None:
        assert self._run is not None
        package = read_named(who)
        if package is None:
            self.unreadable += 1
            return
        if (kind, package) in self._run.said:
            return  # dnf 3 and 4 up to 4.2.8 write each line when the step begins and when it ends
        self._run.said.add((kind, package))
        key = (package.name, package.arch)
        coming = self._run.coming.get(key)
        step = _Step(at, kind, package)
        if _comes(step):
            if package.name not in self._several:
                self._run.coming[key] = step
            self._add(step)
        elif coming and _gives_way(kind, coming.kind):
            coming.twin = package
        elif kind != "going":
            self._add(step)

    def _fail(self, text: str) -> None:
        assert self._run is not None
        self._run.errors.append(text)
        if found := _FAILED.match(text):
            for step in self._run.by_name.pop(found[1] or found[2], ()):
                step.failed = True

    def _add(self, step: _Step) -> None:
        assert self._run is not None
        name, version, arch = step.package
        self._run.steps.append(step)
        for called in (name, f"{name}-{(version or '').rpartition(':')[2]}.{arch}"):
            self._run.by_name.setdefault(called, []).append(step)

    def _close(self, *, over: bool) -> Iterator[Told]:
        if (run := self._run) is None:
            return
        error = "; ".join(run.errors)[:500] or None
        name = f"{self._source}:{written(run.at)}"
        steps = [step for step in run.steps if not step.failed and (over or self._settled(step))]
        yield from numbered(Told(step.at, _change(step), name, run.command, error=error) for step in steps)

    def _settled(self, step: _Step) -> bool:
        """Whether nothing more can be said of this step, for the package is there and replaces no other."""
        name, version, arch = step.package
        if step.twin or not _comes(step):
            return True
        there = self._present.get((name, arch), set())
        alone = len(there) == 1 or name in self._several
        return version in there and (step.kind == "Installed" or (step.kind == "in" and alone))


def _gives_way(kind: str, coming: str) -> bool:
    """Whether a step is that of the version that another one replaces, by what the log calls both."""
    if kind == "Erased":  # so dnf 1 and 2 call it, where the other is no newer one
        return coming in ("Downgrade", "Reinstall")
    return kind in _TWINS or kind in ("going", "out")


def _comes(step: _Step) -> bool:
    return step.kind in _COMING or step.kind == "in"


def _change(step: _Step) -> Change:
    name, version, arch = step.package
    if not _comes(step):
        return Change("remove", name, arch, None, version)
    previous = step.twin.version if step.twin else None
    said = _COMING.get(step.kind)
    if step.kind == "Reinstall":
        previous = previous or version
    return Change(kind_of(previous, version or "", said), name, arch, previous, version)


def _moment(stamp: str) -> datetime | None:
    try:
        return datetime.fromisoformat(stamp).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _launched(text: str) -> str | None:
    """The command line of dnf 5 in the line with which its runs begin."""
    found = re.search(r'arguments: "(.*)" ---', text)
    return found[1] if found else None


def read_commands(lines: Iterable[Line], times: LocalTimes | None = None) -> list[tuple[datetime, str]]:
    """When dnf was called and how, as its general log says."""
    return [
        (entry.at, entry.text.partition(": ")[2].strip())
        for _, entry in _entries(lines, times)
        if entry and entry.text.startswith("Command: ")
    ]


def _entries(lines: Iterable[Line], times: LocalTimes | None) -> Iterator[tuple[Line, _Entry | None]]:
    """What each line says; None if it has no time of its own.

    The year of those of dnf 1 is known from what follows them, so that these alone are held until then.
    """
    held: list[Line] = []
    for line in lines:
        line = line._replace(text=line.text.lstrip("\0"))
        found = _STAMPED.match(line.text)
        if times and (held or _LOCAL.match(line.text)) and not found:
            held.append(line)
            continue
        at = _moment(found[1]) if found else None
        if times and held:
            yield from _local_entries(held, times, at)
            held = []
        yield line, _Entry(at, found[2], found[3]) if found and at else None
    if times:
        yield from _local_entries(held, times, None)


def _local_entries(
    lines: list[Line], times: LocalTimes, before: datetime | None
) -> Iterator[tuple[Line, _Entry | None]]:
    for line, at in zip(lines, times.moments(lines, before), strict=True):
        found = _LOCAL.match(line.text)
        yield line, _Entry(at, found[4], found[5]) if found and at else None
