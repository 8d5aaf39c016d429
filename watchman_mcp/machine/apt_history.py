"""What apt's history tells: its runs and what each was to change; lines in, runs out."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from itertools import takewhile
from typing import NamedTuple

from watchman_mcp.machine.dpkg import STEP_TIME, Clock, written
from watchman_mcp.machine.logs import Line
from watchman_mcp.machine.versions.deb import compare as compare_versions

KEPT_TRANSACTIONS = 500
"""So many at most are read again to find those of steps that were open at the last look."""
AHEAD = 100
"""So many in a row must begin after a moment before it is believed that no other began before it."""

_LISTED = re.compile(r"(?<![^\s,])([A-Za-z0-9][A-Za-z0-9+._-]*)(?::([a-z0-9][a-z0-9-]*))? \(([^()]*)\)")
_LISTS = frozenset({"Install", "Upgrade", "Downgrade", "Reinstall", "Remove", "Purge", "Disappeared"})


class Change(NamedTuple):
    """What was to be done with a package: the versions before and after it, None for none."""

    kind: str
    """The log's own word."""
    name: str
    arch: str
    before: str | None
    after: str | None

    @property
    def outcome(self) -> str:
        """One of install, update, downgrade, reinstall, remove and purge."""
        if self.after is None:
            return "purge" if self.kind in ("purge", "Purge") else "remove"
        if self.before is None:
            return "install"
        if self.before == self.after:
            return "reinstall"
        return "downgrade" if compare_versions(self.after, self.before) < 0 else "update"


@dataclass(slots=True, eq=False)
class Transaction:
    """One run of apt."""

    line: Line
    fold: int
    at: datetime
    starts: tuple[datetime, datetime]
    """The earliest and the latest moment that its local time may mean."""
    latest: datetime | None = None
    """The latest moment at which it may have changed something; None while it may still run."""
    ended: bool = False
    command: str | None = None
    by: str | None = None
    error: str | None = None
    changes: list[Change] = field(default_factory=list)
    number: int = 0
    """Its place among those that were read."""


class HistoryLog:
    """Follows apt's history: a line begins a run, those after it say what it was to do and when it ended."""

    def __init__(self, zone: tzinfo, fold: int = 0) -> None:
        self.unreadable = 0
        self._clock = Clock(zone, fold)
        self._newest: Transaction | None = None
        self._filled: Transaction | None = None

    def transactions(self, lines: Iterable[Line]) -> Iterator[Transaction]:
        """The runs in the order of the history; each is whole once the next is asked for.

        Given the lines that were written since, it goes on with the run that was the last one.
        """
        for line in lines:
            try:
                begun = self._read(line)
            except ValueError:
                self.unreadable += 1
            else:
                if begun:
                    yield begun

    def _read(self, line: Line) -> Transaction | None:
        """The run that this line begins."""
        name, colon, value = line.text.strip("\0\r").partition(": ")
        if name == "Start-Date":
            self._filled = None
            return self._begin(line, value)
        if self._filled and colon:
            _fill(self._filled, name, value.strip(), self._clock)
        elif name.strip():
            self.unreadable += 1
        return None

    def _begin(self, line: Line, value: str) -> Transaction:
        at, earliest, latest = self._clock.moment(" ".join(value.split()))
        if self._newest and not self._newest.ended:
            # It was killed; if the clock was set back since, this start says nothing of when.
            self._newest.latest = latest if latest >= self._newest.at else self._newest.at + STEP_TIME
        self._newest = self._filled = Transaction(line, self._clock.fold, at, (earliest, latest))
        return self._newest


class Transactions:
    """The stretch of apt's history that is needed at a time, read on as far as is asked for.

    A history may be of any length, so neither all of it nor all that dpkg's log tells is held at once: both
    were written in the same order. `more` begins to read on, where the last reading came to an end.
    """

    def __init__(self, more: Callable[[], Iterator[Transaction]]) -> None:
        self.newest_over = ""
        """The newest that `over` gave, as `written`."""
        self._more, self._coming = more, more()
        self._found: list[Transaction] = []
        self._count = self._newest = 0
        """How many were read, and the number of the last one that was a cause."""
        self._listed: dict[tuple[str, str | None], list[tuple[Change, Transaction]]] = {}
        self._purged: set[tuple[str, datetime]] = set()

    def _read(self) -> bool:
        for transaction in self._coming:
            self._count += 1
            transaction.number = self._count
            self._found.append(transaction)
            return True
        self._coming = self._more()
        return False

    def reach(self, moment: datetime | None) -> None:
        """Read until runs begin after this moment, or to the end: `cause` knows all that began before.

        Some more are read, for a clock that was wrong for a while may have dated a few of them too late.

        Raises: Absent, Denied, Broken.
        """
        later = 0
        if moment is not None:
            later = sum(1 for _ in takewhile(lambda one: one.starts[0] > moment, reversed(self._found)))
        while later < AHEAD and self._read():
            later = later + 1 if moment is not None and self._found[-1].starts[0] > moment else 0
        self._listed = {}
        self._purged = {(c.name, t.at) for t in self._found for c in t.changes if c.kind == "Purge"}
        for transaction in self._found:
            for change in transaction.changes:
                self._listed.setdefault((change.name, change.after), []).append((change, transaction))

    def cause(self, change: Change, at: datetime, nth: int) -> Transaction | None:
        """The one that lists this change and lasted then; `nth` such changes came before in that second."""
        fitting = [
            transaction
            for listed, transaction in self._listed.get((change.name, change.after), ())
            if transaction.starts[0] <= at
            and (transaction.latest is None or at <= transaction.latest)
            and (listed.before == change.before or (change.after is None and not listed.before))
            and (listed.kind == "Purge" or change.kind != "purge")
            # apt counts packages for all architectures among the machine's own.
            and (listed.arch == change.arch or change.arch in ("all", "") or not listed.arch)
        ]
        begun = [transaction for transaction in fitting if at in transaction.starts]
        several = len(fitting) > 1 and begun
        found = begun[min(nth, len(begun) - 1)] if several else fitting[-1] if fitting else None
        if found:
            self._newest = max(self._newest, found.number)
        return found

    def purges(self, name: str, cause: Transaction) -> bool:
        """Whether this run was to purge the package; dpkg logs a mere removal where nothing was left."""
        return (name, cause.at) in self._purged

    def over(self, since: str) -> Iterator[Transaction]:
        """The first ones, as long as they were over before this moment, or at all if it is empty.

        Raises: Absent, Denied, Broken.
        """
        number = 0
        while True:
            while number + 2 > len(self._found) and self._read():
                pass  # one is whole when the next begins
            if number == len(self._found):
                return
            transaction = self._found[number]
            if transaction.latest is None or (since and written(transaction.latest) >= since):
                return
            self.newest_over = max(self.newest_over, written(transaction.at))
            yield transaction
            number += 1
            if number > 2 * KEPT_TRANSACTIONS:
                del self._found[:KEPT_TRANSACTIONS]
                number -= KEPT_TRANSACTIONS

    def needed(self, oldest: datetime | None) -> Transaction | None:
        """Where the next read must begin: at the last one, or the first that lasted at `oldest` or later."""
        return self._found[self._first(len(self._found) - 1, oldest)] if self._found else None

    def forget(self, oldest: datetime | None) -> None:
        """Drop what a next read from there would not read again, but for some before it.

        Only what came before the newest cause is past: a clock that was set back may have dated what follows.
        """
        if self._found and (last := self._newest - self._found[0].number) > 0:
            del self._found[: max(self._first(last, oldest) - KEPT_TRANSACTIONS, 0)]

    def _first(self, last: int, oldest: datetime | None) -> int:
        first = last
        if oldest is not None:
            lasting = (
                number
                for number in range(max(last - KEPT_TRANSACTIONS, 0), last)
                if (latest := self._found[number].latest) and latest >= oldest
            )
            first = next(lasting, first)
        # Equal ones of one second are told apart by counting from the first.
        while first and self._found[first - 1].at == self._found[first].at:
            first -= 1
        return first


def _fill(transaction: Transaction, name: str, value: str, clock: Clock) -> None:
    if name == "Commandline":
        transaction.command = value or None
    elif name == "Requested-By":
        transaction.by = value or None
    elif name == "Error":
        transaction.error = value or None
    elif name == "End-Date":
        transaction.latest = clock.moment(" ".join(value.split()))[2]
        transaction.ended = True
    elif name in _LISTS:
        transaction.changes += [_change(name, *item) for item in _LISTED.findall(value)]


def _change(kind: str, name: str, arch: str, words: str) -> Change:
    versions = [word for word in words.split(", ") if word and word != "automatic"]
    first = versions[0] if versions else None
    before = None if kind == "Install" else first
    gone = kind in ("Remove", "Purge", "Disappeared")
    return Change(kind, name, arch, before, None if gone else versions[-1] if versions else None)
