"""The logs of dnf 4, dnf 5 and yum, for where no transaction database tells; lines in, changes out."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import MAXYEAR, UTC, datetime, timedelta, tzinfo
from pathlib import PurePath
from typing import NamedTuple

from watchman_mcp.machine.dpkg import Clock, written
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.logs import Line
from watchman_mcp.machine.rpm_changes import Change, Present, Told, kind_of, numbered

DNF_LOG = "/var/log/dnf.rpm.log"
DNF_COMMANDS = "/var/log/dnf.log"
DNF5_LOG = "/var/log/dnf5.log"
YUM_LOG = "/var/log/yum.log"

_STAMPED = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:Z|[+-]\d{4})) (?:\[\d+\] )?([A-Z]+) (.*)")
_LOOKS_STAMPED = re.compile(r"\d{4}-\d|.*(?:SUBDEBUG|RPM callback)")
_NAMED = re.compile(
    r"(?:(?P<before>\d+):)?(?P<name>[^\s:]+)-(?:(?P<within>\d+):)?"
    r"(?P<version>[^\s:-]+-[^\s:-]+)\.(?P<arch>[^\s.:-]+)"
)
_BEGINNINGS = ("--- logging initialized ---", "--- DNF5 launched with arguments: ")
_COMING = {"Installed": "install", "Upgrade": "update", "Downgrade": "downgrade", "Reinstall": "reinstall"}
_TWINS = frozenset({"Upgraded", "Downgraded", "Reinstalled"})
_GOING = frozenset({"Erase", "Erased", "Removed", "Obsoleted"})
_CALLBACK = re.compile(r'RPM callback (install stop|uninstall start|uninstall stop) "([^"]+)"')
_CALLBACKS = {"install stop": "in", "uninstall start": "going", "uninstall stop": "out"}
_FAILED = re.compile(
    r"(?:Error in PRE\w+ scriptlet in rpm package (\S+)|error: (\S+): (?:install|erase) failed)"
)
_WRONG = re.compile(
    r"(?:error: .*|Error in \w+ scriptlet in rpm package \S+|RPM callback (?:unpack )?error .*)"
)
_YUM = re.compile(r"([A-Z][a-z]{2}) ([ \d]\d) (\d\d:\d\d:\d\d) ([A-Z][A-Za-z-]+): (\S+)")
_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTHS = {name: number for number, name in enumerate(_NAMES, 1)}
_YUM_WORDS = {"Installed": "install", "Dep-Installed": "install", "Updated": "update", "Erased": "remove"}
_YUM_WORDS |= {"Dep-Updated": "update", "Obsoleted": "remove"}
_SLACK = timedelta(days=1)


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
    errors: list[str] = field(default_factory=list)


def read_named(text: str) -> Named | None:
    """Name, version and architecture, with an epoch before the name or before the version."""
    found = _NAMED.fullmatch(text)
    if found is None:
        return None
    epoch = found["before"] or found["within"]
    version = f"{epoch}:{found['version']}" if epoch and epoch.strip("0") else found["version"]
    return Named(found["name"], version, found["arch"])


class DnfLog:
    """Follows dnf's log of rpm's steps, or dnf 5's log; each run begins with a line of its own.

    Of packages there in `several` versions a new one replaces none.

    What is found does not depend on how the log is cut into reads, if each begins where the last run of the
    one before began, its `place`.
    """

    def __init__(self, source: str, present: Present, several: frozenset[str] = frozenset()) -> None:
        self.unreadable = 0
        self._source = source
        self._several = several
        self._present = present
        self._run: _LoggedRun | None = None

    @property
    def place(self) -> Line | None:
        """Where the last run began."""
        return self._run.line if self._run else None

    def told(self, lines: Iterable[Line]) -> Iterator[Told]:
        """The changes in the order in which they began, those of the last run as far as they are over."""
        for line in lines:
            found = _STAMPED.match(line.text.lstrip("\0"))
            at = _moment(found[1]) if found else None
            if found is None or at is None:
                # What scripts say goes on over several lines without a time.
                self.unreadable += bool(_LOOKS_STAMPED.match(line.text))
            elif found[3].startswith(_BEGINNINGS):
                yield from self._close(over=True)
                self._run = _LoggedRun(at, line, _launched(found[3]))
            else:
                self._run = self._run or _LoggedRun(at, line, None)
                self._take(at, found[3])
        yield from self._close(over=False)

    def _take(self, at: datetime, text: str) -> None:
        word, colon, rest = text.partition(": ")
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
        key = (package.name, package.arch)
        coming = self._run.coming.get(key)
        step = _Step(at, kind, package)
        if _comes(step):
            if package.name not in self._several:
                self._run.coming[key] = step
            self._run.steps.append(step)
        elif coming and (kind in _TWINS or kind in ("going", "out")):
            coming.twin = package
        elif kind != "going":
            self._run.steps.append(step)

    def _fail(self, text: str) -> None:
        assert self._run is not None
        self._run.errors.append(text)
        if found := _FAILED.match(text):
            for step in self._run.steps:
                name, version, arch = step.package
                full = f"{name}-{(version or '').rpartition(':')[2]}.{arch}"
                step.failed = step.failed or found[1] == name or found[2] == full

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


def read_commands(lines: Iterable[Line]) -> list[tuple[datetime, str]]:
    """When dnf 4 was called and how, as its general log says."""
    found: list[tuple[datetime, str]] = []
    for line in lines:
        stamped = _STAMPED.match(line.text)
        if stamped and stamped[3].startswith("Command: ") and (at := _moment(stamped[1])):
            found.append((at, stamped[3].partition(": ")[2].strip()))
    return found


class YumLog:
    """Reads yum's log, whose times have neither year nor zone; the times of its files say more."""

    def __init__(self, clock: Clock, written: Mapping[tuple[int, int], datetime]) -> None:
        self.unreadable = 0
        self.place: tuple[Line, int] | None = None
        """Where the last second begins, and the clock's fold there."""
        self._clock = clock
        self._written = written

    def told(self, lines: Iterable[Line]) -> Iterator[Told]:
        """The changes, oldest first."""
        return numbered(self._told(lines))

    def _told(self, lines: Iterable[Line]) -> Iterator[Told]:
        last = ""
        for line, text in self._dated(lines):
            found, stamp = _YUM.match(text[5:]), ""
            try:
                if found is None:
                    raise ValueError(text)
                stamp = f"{text[:4]}-{_MONTHS[found[1]]:02}-{int(found[2]):02} {found[3]}"
                at = self._clock.moment(stamp)[0]
                if found[4] not in _YUM_WORDS:
                    raise ValueError(found[4])
            except (ValueError, KeyError):
                self.unreadable += bool(text[5:].strip("\0 \r"))
                continue
            if stamp != last:
                last, self.place = stamp, (line, self._clock.fold)
            package = read_named(found[5]) or Named(found[5], None, "")
            yield Told(at, Change(_YUM_WORDS[found[4]], package.name, package.arch, None, package.version))

    def _dated(self, lines: Iterable[Line]) -> list[tuple[Line, str]]:
        """The lines with their year before them, which is found from the end: time does not run backwards."""
        found: list[tuple[Line, str]] = []
        latest: datetime | None = None
        for line in reversed(list(lines)):
            written = self._written.get((line.origin.inode, line.origin.device))
            limit = min((one for one in (latest, written) if one), default=None)
            local = _latest(line.text, limit) if limit else None
            latest = local or latest
            found.append((line, f"{local.year if local else 0:04} {line.text}"))
        return found[::-1]


def written_at(files: Files, path: str, zone: tzinfo) -> dict[tuple[int, int], datetime]:
    """When each file beside a log was last written to, in the local time of its lines.

    Raises: Absent, Denied, Broken.
    """
    entries = files.entries(PurePath(path).parent)
    times = {(one.inode, one.device): datetime.fromtimestamp(one.mtime, zone) for one in entries}
    return {file: at.replace(tzinfo=None) for file, at in times.items()}


def _latest(text: str, limit: datetime) -> datetime | None:
    """The latest moment before `limit`, or little after it, that the beginning of a line may mean."""
    found = _YUM.match(text)
    if found is None or found[1] not in _MONTHS:
        return None
    for year in range(min(limit.year + 1, MAXYEAR), max(limit.year - 9, 0), -1):
        try:
            at = datetime.fromisoformat(f"{year}-{_MONTHS[found[1]]:02}-{int(found[2]):02} {found[3]}")
        except ValueError:
            continue  # the 29th of February is not in every year
        if at <= limit + _SLACK:
            return at
    return None
