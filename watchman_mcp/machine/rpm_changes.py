"""What became of packages of rpm, as each log and each database of its managers can say it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from watchman_mcp.machine.versions.rpm import compare

Present = Mapping[tuple[str, str], set[str]]
"""The installed versions by name and architecture."""


class Change(NamedTuple):
    """What became of one package: the versions before and after it, None for not known or none."""

    type: str
    """One of install, update, downgrade, reinstall and remove."""
    name: str
    arch: str
    previous: str | None
    version: str | None


class Told(NamedTuple):
    """One change that a database or a log tells, and what it says of the run that it belongs to."""

    at: datetime
    change: Change
    run: str | None = None
    """The run's name, which no other has."""
    command: str | None = None
    by: str | None = None
    error: str | None = None
    nth: int = 0
    """How many equal changes came before it in the same run and second."""


def numbered(told: Iterable[Told]) -> Iterator[Told]:
    """The same, each with its `nth`."""
    equal = Counter[Told]()
    for one in told:
        key = one._replace(command=None, by=None, error=None)
        yield one._replace(nth=equal[key])
        equal[key] += 1


def kind_of(previous: str | None, version: str, said: str | None = None) -> str:
    """What the step between two versions is; without the first one, what the log calls it."""
    if previous is None:
        return said or "install"
    order = compare(version, previous)
    return "update" if order > 0 else "downgrade" if order < 0 else "reinstall"
