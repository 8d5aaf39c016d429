"""What `conda-meta/history` tells: one run after another, each with the packages that it took away and put.

A run begins with its local time. Its lines come in more than one piece and none says that it is over: only
the next run does, so the last one is read again by the next look.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from watchman_mcp.machine.conda import Package, named
from watchman_mcp.machine.dpkg import Clock
from watchman_mcp.machine.logs import Line
from watchman_mcp.machine.versions import compare_versions

_HEAD = re.compile(r"==> (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) <==")
_COMMAND = re.compile(r"#\s*cmd:\s*(.+)")


@dataclass(slots=True, eq=False)
class Run:
    """One run of conda that changed the environment."""

    line: Line
    """Its first line."""
    fold: int
    stamp: str
    at: datetime
    command: str | None = None
    gone: dict[str, Package] = field(default_factory=dict)
    come: dict[str, Package] = field(default_factory=dict)
    over: bool = False
    """Whether another run followed, so that nothing of it is still to come."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a run did to one package; a new build of the same version is a reinstall."""

    outcome: str
    name: str
    before: Package | None
    after: Package | None

    @property
    def previous(self) -> str | None:
        """The version before, where there is one after."""
        return self.before.version if self.before and self.after else None

    @property
    def version(self) -> str:
        """The version after, or the one that was removed."""
        one = self.after or self.before
        assert one is not None
        return one.version


def read_history(lines: Iterable[Line], clock: Clock) -> tuple[list[Run], int]:
    """The runs, oldest first, and how many lines could not be read.

    What comes before the first run, and a list without signs, is what was there and no change.
    """
    runs, unreadable = list[Run](), 0
    for line in lines:
        text = line.text.strip()
        if text.startswith("==>"):
            try:
                runs.append(_begun(line, text, clock))
            except ValueError:
                unreadable += 1
        elif text.startswith("#"):
            if runs and (match := _COMMAND.match(text)):
                runs[-1].command = match[1].strip()
        elif text and not _filled(runs[-1] if runs else None, text):
            unreadable += 1
    for run in runs[:-1]:
        run.over = True
    return runs, unreadable


def changes(run: Run) -> Iterator[Change]:
    """What a run did, package by package in the order of their names."""
    for name in sorted(run.gone.keys() | run.come.keys()):
        before, after = run.gone.get(name), run.come.get(name)
        if before is None or after is None:
            outcome = "install" if before is None else "remove"
        elif before.version == after.version:
            outcome = "reinstall"
        else:
            order = compare_versions("conda", after.version, before.version)
            outcome = "downgrade" if order < 0 else "update"
        yield Change(outcome, name, before, after)


def _begun(line: Line, text: str, clock: Clock) -> Run:
    match = _HEAD.fullmatch(text)
    if match is None:
        raise ValueError(text)
    at, _, _ = clock.moment(match[1])
    return Run(line, clock.fold, match[1], at)


def _filled(run: Run | None, text: str) -> bool:
    """Whether this line names a package, which a run may have taken away or put."""
    sign, rest = (text[0], text[1:]) if text[0] in "+-" else ("", text)
    words = rest.rpartition("::")[2].partition("[")[0].removesuffix(".tar.bz2").removesuffix(".conda")
    package = named(words)
    if package is None:
        return False
    if run and sign:
        (run.come if sign == "+" else run.gone)[package.name] = package
    return True
