"""What apt's history tells: its runs and what each was to change; lines in, runs out."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from watchman_mcp.machine.dpkg import STEP_TIME, Clock, written
from watchman_mcp.machine.logs import Line
from watchman_mcp.machine.versions.deb import compare as compare_versions

KEPT_TRANSACTIONS = 500
"""So many at most are read again to find those of steps that were open at the last look."""

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


class Transactions:
    """Transactions in the order of apt's history, found by what they list."""

    def __init__(self, found: list[Transaction]) -> None:
        self._found = found
        self._listed: dict[tuple[str, str | None], list[tuple[Change, Transaction]]] = {}
        self._purged = {(c.name, t.at) for t in found for c in t.changes if c.kind == "Purge"}
        for transaction in found:
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
        if len(fitting) < 2:
            return fitting[0] if fitting else None
        begun = [transaction for transaction in fitting if at in transaction.starts]
        return begun[min(nth, len(begun) - 1)] if begun else fitting[-1]

    def purges(self, name: str, cause: Transaction) -> bool:
        """Whether this run was to purge the package; dpkg logs a mere removal where nothing was left."""
        return (name, cause.at) in self._purged

    def over(self, since: str) -> Iterator[Transaction]:
        """The first ones, as long as they were over before this moment, or at all if it is empty."""
        for transaction in self._found:
            if transaction.latest is None or (since and written(transaction.latest) >= since):
                return
            yield transaction

    def needed(self, oldest: datetime | None) -> Transaction | None:
        """Where the next read must begin: at the last one, or the first that lasted at `oldest` or later."""
        last = len(self._found) - 1
        first = max(last, 0)
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
        return self._found[first] if self._found else None


def read_transactions(lines: Iterable[Line], clock: Clock) -> tuple[list[Transaction], int]:
    """The transactions of apt's history in its order, and how many lines could not be read."""
    found: list[Transaction] = []
    current: Transaction | None = None
    unreadable = 0
    for line in lines:
        name, colon, value = line.text.strip("\0\r").partition(": ")
        try:
            if name == "Start-Date":
                current = None
                at, earliest, latest = clock.moment(" ".join(value.split()))
                current = Transaction(line, clock.fold, at, (earliest, latest))
                if found and not found[-1].ended:
                    # It was killed; if the clock was set back since, this start says nothing of when.
                    found[-1].latest = latest if latest >= found[-1].at else found[-1].at + STEP_TIME
                found.append(current)
            elif current and colon:
                _fill(current, name, value.strip(), clock)
            elif name.strip():
                unreadable += 1
        except ValueError:
            unreadable += 1
    return found, unreadable


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
