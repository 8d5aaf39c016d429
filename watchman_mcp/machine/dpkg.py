"""What dpkg's log tells: which changes of packages came to their end; lines in, steps out."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo

from watchman_mcp.machine.logs import Line

PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*(?::[a-z0-9][a-z0-9-]*)?")
"""A package as dpkg's log names it; what is named otherwise was not written by dpkg."""
STEP_LINES = 50_000
STEP_TIME = timedelta(days=2)
"""A step that is not closed within so many lines and so long is given up: it did not happen."""

_STAMP = len("2026-01-31 23:59:59")
WORD = _STAMP + 1
"""Where a line's first word begins."""
_STATE = WORD + len("status ")
PASSING = tuple(
    f"status {state} ".encode()
    for state in ("half-configured", "half-installed", "unpacked", "triggers-pending", "triggers-awaited")
)
"""Lines between the beginning of a step and its end, which say nothing of either."""
_CLOSING = frozenset("icn")
"""First letters of the states that end a step: installed, config-files, not-installed."""
_COMING = frozenset({"install", "upgrade"})
_GOING = frozenset({"remove", "purge", "disappear"})
_STEPS = _COMING | _GOING
_NONE = re.compile("<[^<>]*>")
_IDLE = frozenset({"startup", "configure", "trigproc", "conffile"})


class Clock:
    """Turns the local times of one log into moments; when summer time ends, an hour is there twice."""

    def __init__(self, zone: tzinfo, fold: int = 0) -> None:
        self.fold = fold
        self._zone = zone
        self._last: datetime | None = None

    def moment(self, stamp: str) -> tuple[datetime, datetime, datetime]:
        """The moment of a local time, and the earliest and the latest that it may mean.

        Raises: ValueError.
        """
        local = datetime.fromisoformat(stamp).replace(tzinfo=self._zone, fold=0)
        again = local.replace(fold=1)
        try:
            first, second = local.astimezone(UTC), again.astimezone(UTC)
        except OverflowError as error:
            raise ValueError(stamp) from error
        if first >= second:  # equal: the usual case; later: an hour that never was
            self.fold = 0
        elif self._last is not None and local < self._last:
            self.fold = 1
        self._last = local
        return (second if self.fold else first), min(first, second), max(first, second)


def written(moment: datetime) -> str:
    """A moment as keys and names of runs hold it."""
    return moment.isoformat("T", "seconds")[:_STAMP] + "Z"


@dataclass(slots=True, eq=False)
class Second:
    """Neighbouring lines of one second: where they begin in dpkg's log, and what was known there."""

    at: datetime
    written: str
    line: Line
    number: int
    fold: int
    run: str
    equal: dict[tuple[object, ...], int] = field(default_factory=dict)
    """Room for the reader of steps to count those of this second that are alike."""


@dataclass(slots=True, eq=False)
class Step:
    """A change of one package: the versions that were there before and after it, None for none."""

    action: str
    who: str
    """Name and architecture as the log writes them."""
    name: str
    arch: str
    before: str | None
    after: str | None
    replaced: str | None
    """The version before it that the line names, whose own step may not have come to its end."""
    second: Second
    number: int
    run: str
    """When the run of dpkg began; empty if that line is lost."""
    earlier: "Step | None" = None
    """The step of the same package that was still open when this one began."""
    configured: bool = False


class DpkgLog:
    """Follows dpkg's log: a line opens a step, a later status line of the same package closes it.

    Only a closed step happened. What is found does not depend on how the log is cut into reads, if each
    begins at the `place` of the one before.
    """

    def __init__(self, zone: tzinfo, fold: int = 0, run: str = "") -> None:
        self.unreadable = 0
        self.earliest = ""
        """The earliest moment of any line, as `written`; empty without one."""
        self._clock = Clock(zone, fold)
        self._run = run
        self._stamp: str | None = None
        self._second: Second | None = None
        self._number = 0
        self._open: dict[str, Step] = {}
        self._joined: list[tuple[Step, Step]] = []
        # A removal that has come to its end unless the next line says that it is a purge.
        self._settling = ""

    def steps(self, lines: Iterable[Line]) -> Iterator[Step]:
        """The steps that happened, in the order in which they were closed."""
        for line in lines:
            self._number += 1
            text = line.text
            if text[:_STAMP] != self._stamp and not self._turn(text := text.lstrip("\0"), line):
                self.unreadable += 1
            elif text.startswith("status ", WORD):
                if text[_STATE : _STATE + 1] not in _CLOSING:
                    self.unreadable += text.find(" ", _STATE) < 0
                elif len(words := _words(text)) != 6:
                    self.unreadable += 1
                elif step := self._close(words[3], words[4], words[5]):
                    yield step
            else:
                words = _words(text)
                if self._settling and words[2:4] != ["purge", self._settling]:
                    yield self._open.pop(self._settling)
                    self._settling = ""
                self._act(words)

    def rest(self, removed: frozenset[str]) -> Iterator[Step]:
        """The removal that the last line closed, if dpkg's state says that it was to be no purge."""
        if self._settling in removed:
            yield self._open.pop(self._settling)
            self._settling = ""

    def place(self) -> Second | None:
        """Where the next read must begin: the oldest step that may yet be closed, or the last second."""
        held = [self._oldest(step) for step in self._open.values() if self._holds(step)]
        place = min((step.second for step in held), key=lambda second: second.number, default=self._second)
        for step, oldest in reversed(self._joined):
            # What is read again must be seen again as the end of the same chain of steps.
            if place and step.number >= place.number:
                place = min(place, oldest.second, key=lambda second: second.number)
        return place

    def _turn(self, text: str, line: Line) -> bool:
        """Go on to the second of this line; False if it has none."""
        stamp = text[:_STAMP]
        if stamp == self._stamp:
            return True
        try:
            at, _, _ = self._clock.moment(stamp)
        except ValueError:
            return False
        self._stamp = stamp
        self._second = Second(at, written(at), line, self._number, self._clock.fold, self._run)
        self.earliest = min(self.earliest or self._second.written, self._second.written)
        return True

    def _act(self, words: list[str]) -> None:
        assert self._second is not None
        action, who = words[2:4] if len(words) > 3 else ("", "")
        if action in _STEPS and not PACKAGE.fullmatch(who):
            self.unreadable += 1
        elif action == "startup":
            self._run = self._second.written
        elif action == "configure":
            step = self._open.get(who)
            while step:
                step.configured, step = True, step.earlier
        elif action in _COMING and len(words) == 6:
            before = _version(words[4]) if action == "upgrade" else None
            open_step = self._open.get(who)
            earlier = (
                open_step if open_step and open_step.action in _COMING and self._holds(open_step) else None
            )
            self._begin(action, who, before, _version(words[5])).earlier = earlier
        elif action in _GOING and len(words) >= 5:
            if self._settling:
                self._open[who].action, self._settling = action, ""
            else:
                step = self._begin(action, who, _version(words[4]), None)
                if action == "purge":  # after a removal of its own, so that it was no longer there
                    step.before = None
        elif action not in _IDLE:
            self.unreadable += 1

    def _begin(self, action: str, who: str, before: str | None, after: str | None) -> Step:
        assert self._second is not None
        name, _, arch = who.partition(":")
        step = Step(action, who, name, arch, before, after, before, self._second, self._number, self._run)
        self._open[who] = step
        return step

    def _close(self, state: str, who: str, version: str) -> Step | None:
        step = self._open.get(who)
        if state == "installed":
            step = step or self._of_other_arch(who, version)
            return self._arrived(step, who, version) if step else None
        if step is None or (state == "config-files" and step.action == "purge"):
            return None
        if state == "config-files" and step.action in _GOING:
            self._settling = who
            return None
        if self._settling == who:
            self._settling = ""
        del self._open[who]
        return step if step.action in _GOING and self._holds(step) else None

    def _arrived(self, newest: Step, who: str, version: str) -> Step | None:
        """The step that led to this version; None if it was there before, because the step was undone."""
        del self._open[newest.who]
        if self._settling == newest.who:
            self._settling = ""
        step: Step | None = newest
        while step and step.after != version:
            step = step.earlier
        if step is None or not self._holds(step):
            return None
        oldest = self._oldest(step)
        if oldest is not step:
            step.before = oldest.before
            self._joined.append((step, oldest))
        step.arch = who.partition(":")[2]
        # A new version cannot be there by itself; the same one may be there because nothing was done.
        return step if step.configured or step.before != step.after else None

    def _of_other_arch(self, who: str, version: str) -> Step | None:
        """A step that turned a package of one architecture into one of all, or the other way round."""
        name, _, arch = who.partition(":")
        if arch != "all":
            step = self._open.get(f"{name}:all")
            return step if step and step.after == version else None
        begin = f"{name}:"
        return next((s for o, s in self._open.items() if o.startswith(begin) and s.after == version), None)

    def _holds(self, step: Step) -> bool:
        assert self._second is not None
        return self._number - step.number <= STEP_LINES and self._second.at - step.second.at <= STEP_TIME

    def _oldest(self, step: Step) -> Step:
        while step.earlier and self._holds(step.earlier):
            step = step.earlier
        return step


def _words(text: str) -> list[str]:
    """The words of a line; what stands for no version is one, though in some languages it has blanks."""
    return (_NONE.sub("<>", text) if "<" in text else text).split()


def _version(word: str) -> str | None:
    """A version as dpkg's log has it; what stands for none is in the language of the machine."""
    return None if word.startswith("<") else word
