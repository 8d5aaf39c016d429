"""What dpkg's log and apt's history tell of packages, each change once, with the run that it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from datetime import datetime
from typing import NamedTuple

from watchman_mcp.machine.apt_history import Change, Transaction, Transactions
from watchman_mcp.machine.dpkg import Step, written


class Content(NamedTuple):
    """What a change is, beside its time and its cause."""

    type: str
    name: str
    arch: str
    previous: str | None
    version: str | None


class Origin(NamedTuple):
    """What a record says of the run that it belongs to."""

    source: str
    command: str | None = None
    by: str | None = None
    transaction_id: str | None = None
    error: str | None = None


class Told(NamedTuple):
    """One change as it is told."""

    content: Content
    at: datetime
    stamp: str
    """Its second, as the log writes it."""
    nth: int
    """How many equal changes of that second came before."""
    origin: Origin
    everywhere: bool = False
    """Whether the package is built for all architectures, which apt's history does not tell."""
    purged: bool = False


def of_steps(steps: Iterable[Step], history: Transactions, alone: str) -> Iterator[Told]:
    """Each step, but for those of transactions up to `alone`, which were told before."""
    origins: dict[Transaction, Origin | None] = {}
    for step in steps:
        second = step.second
        change = Change(step.action, step.name, step.arch, step.replaced, step.after)
        content = _content_of(change if step.before == step.replaced else change._replace(before=step.before))
        nth = second.equal.get(content, 0)
        second.equal[content] = nth + 1
        cause = history.cause(change, second.at, nth)
        origin: Origin | None
        if cause is None:
            origin = Origin("dpkg", transaction_id=f"dpkg:{step.run}" if step.run else None)
        else:
            if cause not in origins:
                origins[cause] = None if written(cause.at) <= alone else _origin_of(cause)
            if (origin := origins[cause]) is None:
                continue
        purged = cause is not None and step.after is None and history.purges(step.name, cause)
        yield Told(content, second.at, second.written, nth, origin, purged=purged)


def of_transactions(transactions: Iterable[Transaction], everywhere: Set[str]) -> Iterator[Told]:
    """Each package that these transactions list, which is what apt meant to do."""
    equal: dict[Content, int] = {}
    second = ""
    for transaction in transactions:
        stamp = written(transaction.at)
        if stamp != second:
            equal, second = {}, stamp
        error = transaction.error or (None if transaction.ended else "apt's history has no end of this run")
        origin = _origin_of(transaction)._replace(error=error)
        for change in transaction.changes:
            content = _content_of(change)
            nth = equal.get(content, 0)
            equal[content] = nth + 1
            yield Told(content, transaction.at, stamp, nth, origin, everywhere=change.name in everywhere)


def _origin_of(transaction: Transaction) -> Origin:
    return Origin("apt", transaction.command, transaction.by, f"apt:{written(transaction.at)}")


def _content_of(change: Change) -> Content:
    versions = (None, change.before) if change.after is None else (change.before, change.after)
    return Content(f"package_{change.outcome}", change.name, change.arch, *versions)
