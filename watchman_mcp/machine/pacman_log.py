"""What pacman's log tells: which packages changed in which run; lines in, changes out."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from watchman_mcp.machine.dpkg import Clock, written
from watchman_mcp.machine.logs import Line
from watchman_mcp.machine.versions.alpm import compare

RUN_LINES = 50_000
RUN_TIME = timedelta(days=1)
"""A run that says neither its end nor anything else for so many lines or so long is over."""
COMMAND_LINES = 200
"""So many lines at most is a command line taken to have."""

# Since 5.2 a moment with its offset, since 3.1 a local time, before that a local time as in America.
_LEADER = re.compile(
    r"\[(?:(?P<moment>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4})"
    r"|(?P<local>\d{4}-\d\d-\d\d \d\d:\d\d)"
    r"|(?P<month>\d\d)/(?P<day>\d\d)/(?P<year>\d\d) (?P<time>\d\d:\d\d))\] ?"
    r"(?:\[(?P<caller>[A-Za-z][A-Za-z0-9_. -]*)\] ?)?",
    re.ASCII,
)
_CHANGE = re.compile(r"(?P<verb>installed|reinstalled|removed) (?P<name>\S+) \((?P<version>\S+)\)")
_STEP = re.compile(r"(?P<verb>upgraded|downgraded) (?P<name>\S+) \((?P<previous>\S+) -> (?P<version>\S+)\)")
_VERBS = ("installed ", "reinstalled ", "removed ", "upgraded ", "downgraded ")
# Since 4.0; before that "extracting X as X.pacnew" and "X saved as X.pacsave" without the word before it.
_KEPT = re.compile(
    r"(?:warning: )?(?:extracting )?(?P<path>/.*?) (?:installed |saved |created )?as (?P<kept>/.*)"
)
_GOES_ON = re.compile(r"filesystem: [\d:]+  package: [\d:]+", re.ASCII)
"""The second line of a warning that a directory's permissions or owner differ."""
_KINDS = (".pacnew", ".pacsave", ".pacorig")
_TELLERS = ("", "ALPM", "PACMAN")
"""Who tells changes: nobody is named before 4.1, and pacman itself before its library."""
_SCRIPT = "ALPM-SCRIPTLET"
_ENDS = ("transaction completed", "transaction interrupted", "transaction failed")
_GOES_ON_WITH = "starting full system upgrade"
"""What a run says that upgraded some packages, such as keys or itself, before all others."""


class Kept(NamedTuple):
    """A configuration file that was put beside the one that it would have replaced, or was saved."""

    kind: str
    path: str


@dataclass(slots=True, eq=False)
class Moment:
    """Neighbouring lines of one time: where they begin, and what was known there."""

    at: datetime
    written: str
    line: Line
    number: int
    fold: int
    runs: int = 0
    equal: dict[tuple[object, ...], int] = field(default_factory=dict)
    """How many equal changes there were of each kind."""


class Change(NamedTuple):
    """What became of one package."""

    type: str
    name: str
    previous: str | None
    version: str
    moment: Moment
    nth: int
    """So many equal changes came before in the same time."""
    run: str | None
    command: str | None
    error: str | None
    kept: tuple[Kept, ...]


class PacmanLog:
    """Follows pacman's log; what is found does not depend on how it is cut into reads.

    That holds if each read begins at the `place` of the one before. What a scriptlet prints is marked by
    pacman since 4.1 and never believed.
    """

    def __init__(self, zone: tzinfo, fold: int = 0) -> None:
        self.unreadable = 0
        self._clock = Clock(zone, fold)
        self._stamp: str | None = None
        self._moment: Moment | None = None
        self._number = 0
        self._begun: Moment | None = None
        """Of the run that is going on."""
        self._run: str | None = None
        self._command: str | None = None
        self._unended = 0
        """Lines of a command line whose end was not seen yet."""
        self._committing = False
        self._over = False
        """Whether the run that is known has ended, unless it goes on."""
        self._errors: list[str] = []
        self._kept: list[Kept] = []

    def changes(self, lines: Iterable[Line]) -> Iterator[Change]:
        """The changes, in the order of the log."""
        for line in lines:
            self._number += 1
            text = line.text.strip("\0\r")
            leader = _LEADER.match(text)
            if leader is None or not self._turn(leader, line):
                self._follow(text)
                continue
            self._unended = 0
            caller, said = leader["caller"] or "", text[leader.end() :].strip()
            if caller in _TELLERS:
                if change := self._tell(caller, said):
                    yield change
            elif caller != _SCRIPT and not self._committing:
                self._close()  # another program uses pacman's library: the command before was not its own

    def place(self) -> Moment | None:
        """Where the next read must begin: at the run that is going on, or at the last time."""
        return self._begun if self._begun and self._holds(self._begun) else self._moment

    def _turn(self, leader: re.Match[str], line: Line) -> bool:
        """Go on to the time of this line; False if it is none."""
        stamp = leader["moment"] or leader["local"]
        stamp = stamp or "20{year}-{month}-{day} {time}".format(**leader.groupdict())
        if stamp == self._stamp:
            return True
        try:
            if leader["moment"]:
                at = datetime.fromisoformat(stamp).astimezone(UTC)
            else:
                at, _, _ = self._clock.moment(stamp)
        except (ValueError, OverflowError):
            return False
        self._stamp = stamp
        self._moment = Moment(at, written(at), line, self._number, self._clock.fold)
        if self._begun and not self._holds(self._begun):
            self._close()
        return True

    def _holds(self, begun: Moment) -> bool:
        assert self._moment is not None
        return self._number - begun.number <= RUN_LINES and self._moment.at - begun.at <= RUN_TIME

    def _follow(self, text: str) -> None:
        """A line that does not begin as one: the rest of a command line, or nothing that can be read."""
        if 0 < self._unended < COMMAND_LINES and self._command is not None:
            ended = text.endswith("'")
            self._command += "\n" + text.removesuffix("'")
            self._unended = 0 if ended else self._unended + 1
        elif text.strip() and not _GOES_ON.fullmatch(text):
            self.unreadable += 1

    def _tell(self, caller: str, said: str) -> Change | None:
        if said.startswith("Running '") and caller in ("", "PACMAN"):
            self._open()
            self._command = said.removeprefix("Running '").removesuffix("'")
            self._unended = 0 if said.endswith("'") and len(said) > len("Running '") else 1
        elif said == _GOES_ON_WITH:
            self._over = False
        elif caller == "PACMAN" and not said.startswith(_VERBS):
            pass  # what it is about to do, and what it did besides
        elif said == "transaction started":
            if self._begun is None or self._committing or self._over:
                self._open()
            self._committing = True
        elif said in _ENDS:
            self._over, self._committing = True, False
            self._errors, self._kept = [], []
        elif match := _CHANGE.fullmatch(said) or _STEP.fullmatch(said):
            return self._change(match)
        elif caller and said.startswith(_VERBS):
            self.unreadable += 1
        elif self._begun and not self._over:
            self._note(said)
        return None

    def _open(self) -> None:
        """A run begins."""
        assert self._moment is not None
        self._close()
        self._begun = self._moment
        nth = self._moment.runs
        self._moment.runs += 1
        self._run = f"pacman:{self._moment.written}" + (f".{nth}" if nth else "")

    def _close(self) -> None:
        self._begun, self._run, self._command = None, None, None
        self._committing = self._over = False
        self._errors, self._kept = [], []

    def _note(self, said: str) -> None:
        """What goes wrong with a package, or is kept of it, is told before the package is."""
        if said.startswith("error: "):
            self._errors.append(said.removeprefix("error: "))
        elif said.endswith(_KINDS) and (kept := _KEPT.fullmatch(said)):
            self._kept.append(Kept(said.rpartition(".")[2], kept["kept"]))

    def _change(self, match: re.Match[str]) -> Change:
        assert self._moment is not None
        found = match.groupdict()
        previous, version = found.get("previous"), found["version"]
        kind = {"installed": "install", "reinstalled": "reinstall", "removed": "remove"}.get(found["verb"])
        if kind is None:  # before 4.1 every change of a version was called an upgrade
            kind = {-1: "downgrade", 0: "reinstall", 1: "update"}[compare(version, previous or "")]
        if kind == "reinstall":
            previous = version
        content = (kind, found["name"], previous, version)
        nth = self._moment.equal.get(content, 0)
        self._moment.equal[content] = nth + 1
        run, command = (None, None) if self._over else (self._run, self._command or None)
        error, kept = "; ".join(self._errors) or None, tuple(self._kept)
        self._errors, self._kept = [], []
        return Change(
            f"package_{kind}", found["name"], previous, version,
            self._moment, nth, run, command, error, kept,
        )  # fmt: skip
