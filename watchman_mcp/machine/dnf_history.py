"""The transaction databases of dnf 4 and dnf 5: which runs there were, for whom, and what each did."""

import sqlite3
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from watchman_mcp.errors import Broken
from watchman_mcp.machine.dpkg import written
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.rpm import full_version, moment
from watchman_mcp.machine.rpm_changes import Change, Present, Told, kind_of
from watchman_mcp.machine.rpm_sqlite import copied

DNF4 = "/var/lib/dnf/history.sqlite"
DNF5 = "/usr/lib/sysimage/libdnf5/transaction_history.sqlite"
REASONS5 = "/usr/lib/sysimage/libdnf5/packages.toml"
ACCOUNTS = "/etc/passwd"
GROUPS5 = "/usr/lib/sysimage/libdnf5/groups.toml"

_RUNS4 = """
    SELECT id, dt_begin, dt_end, user_id, cmdline, state FROM trans
    WHERE id >= ? ORDER BY id
"""
_RUNS5 = """
    SELECT id, dt_begin, dt_end, user_id, description, state_id - 1 FROM trans
    WHERE id >= ? ORDER BY id
"""
_ITEMS4 = """
    SELECT i.trans_id, i.id, r.name, r.epoch, r.version, r.release, r.arch, i.action, i.state, i.reason
    FROM trans_item i JOIN rpm r ON r.item_id = i.item_id
    WHERE i.trans_id >= ? ORDER BY i.id
"""
# The words of dnf 5 become those of dnf 4: what replaces has its own number, what is replaced is taken away.
_ITEMS5 = """
    SELECT i.trans_id, i.id, n.name, r.epoch, r.version, r.release, a.name,
        CASE i.action_id WHEN 1 THEN 1 WHEN 2 THEN 6 WHEN 3 THEN 2 WHEN 4 THEN 9 WHEN 7 THEN 11 ELSE 8 END,
        i.state_id - 1, i.reason_id
    FROM trans_item i JOIN rpm r ON r.item_id = i.item_id
    JOIN pkg_name n ON n.id = r.name_id JOIN arch a ON a.id = r.arch_id
    WHERE i.trans_id >= ? ORDER BY i.id
"""
_ITEMS5_FIRST = _ITEMS5.replace("pkg_name n", "pkg_names n").replace("arch a ON", "archs a ON")
"""The same for the first releases of dnf 5, whose tables had other names."""
_REPLACED = "SELECT by_trans_item_id, trans_item_id FROM item_replaced_by"
_SAID = "SELECT trans_id, line FROM console_output WHERE trans_id >= ? ORDER BY id"

_COMING = frozenset({1, 2, 4, 6, 9})
_REINSTALL, _REASON_CHANGE = 9, 11
_UPDATES = {2: "downgrade", 6: "update"}
_DONE, _FAILED = 1, 2
_REQUESTED = {1: False, 2: True, 3: False, 4: False, 5: True}
"""dnf 4's reasons: a dependency, a user, left over, a weak dependency, a group."""
_REQUESTED5 = {
    "Dependency": False,
    "Weak Dependency": False,
    "User": True,
    "External User": True,
    "Group": True,
}
_LONGEST = 500
_NOBODY = (None, -1, 0xFFFFFFFF)


@dataclass(slots=True)
class Item:
    """One package of a run, coming or going."""

    number: int
    name: str
    arch: str
    version: str
    action: int
    state: int
    replaces: list["Item"] = field(default_factory=list)
    replaced: bool = False


@dataclass(slots=True)
class Run:
    """One run of dnf that changed something, or tried to; `source` is the database that tells it."""

    source: str
    number: int
    begin: int
    end: int | None
    user: int | None
    command: str | None
    state: int
    error: str | None = None
    items: list[Item] = field(default_factory=list)

    @property
    def over(self) -> bool:
        """Whether it came to an end of its own."""
        return self.state in (_DONE, _FAILED)

    def told(self, present: Present, people: Mapping[str, str]) -> Iterator[Told]:
        """What it did; of a run that is not over, what `present` shows to have been done."""
        by = None if self.user is None else people.get(str(self.user), f"uid {self.user}")
        begin = datetime.fromtimestamp(self.begin, UTC)
        name = f"{self.source}:{written(begin)}:{self.number}"
        for change in self.changes(present):
            yield Told(begin, change, name, self.command, by, self.error)

    def changes(self, present: Present) -> Iterator[Change]:
        """The changes of which `told` tells."""
        for item in self.items:
            if item.action == _REASON_CHANGE or not self._happened(item, present):
                continue
            if item.action in _COMING:
                yield _coming(item)
            elif not item.replaced:
                yield Change("remove", item.name, item.arch, None, item.version)

    def _happened(self, item: Item, present: Present) -> bool:
        if item.state == _DONE or self.state == _DONE:
            return item.state != _FAILED
        if self.over or item.state == _FAILED:
            return False
        there = item.version in present.get((item.name, item.arch), ())
        return there if item.action in _COMING else not there


class History(NamedTuple):
    """What one of the databases holds."""

    runs: list[Run]
    requested: dict[tuple[str, str], bool]
    """Whether a package, by name and architecture, was asked for."""


def read_history(files: Files, path: str, first: int) -> History:
    """The runs from number `first` on, and why each package is there.

    Raises: Absent, Denied, Broken.
    """
    with copied(files, path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if "trans" not in tables:
            raise Broken(f"{path} has no transactions; ask `dnf history list` whether it is well")
        try:
            return _read(connection, tables, first)
        except (TypeError, ValueError, OverflowError) as error:
            raise Broken(f"{path} is damaged: {error}; ask `dnf history list` whether it is well") from error


def _read(connection: sqlite3.Connection, tables: set[str], first: int) -> History:
    new = "trans_item_action" in tables
    items = (_ITEMS5 if "pkg_name" in tables else _ITEMS5_FIRST) if new else _ITEMS4
    runs = {run.number: run for run in _runs(connection.execute(_RUNS5 if new else _RUNS4, (first,)), new)}
    found: dict[int, Item] = {}
    for trans, *values in connection.execute(items, (first,)):
        item = _item(*values)
        found[item.number] = item
        if trans in runs:
            runs[trans].items.append(item)
    for by, number in connection.execute(_REPLACED) if "item_replaced_by" in tables else ():
        if by in found and number in found:
            found[by].replaces.append(found[number])
    for item in found.values():
        merge(item)
    say(runs, connection.execute(_SAID, (first,)) if "console_output" in tables else ())
    requested = {} if new else _reasons(connection.execute(items, (0,)))
    return History(list(runs.values()), requested)


def person_of(user: int | None) -> int | None:
    """The number of who logged in to begin a run; None for nobody."""
    return None if user in _NOBODY else int(user or 0)


def _runs(rows: Iterable[tuple[Any, ...]], new: bool) -> Iterator[Run]:
    for number, begin, end, user, command, state in rows:
        # dnf 4 keeps the words after its own name.
        words = None if not command else str(command) if new else f"dnf {command}"
        ended = None if end is None else moment(end)
        source, person = "dnf5" if new else "dnf", person_of(user)
        yield Run(source, int(number), moment(begin), ended, person, words, int(state or 0))


def _item(
    number: int,
    name: str,
    epoch: int,
    version: str,
    release: str,
    arch: str,
    action: int,
    state: int,
    _reason: int,
) -> Item:
    texts = (name, version, release, arch)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"a package named {texts}")
    return Item(
        int(number), name, arch, full_version(int(epoch or 0), version, release), int(action), int(state)
    )


def merge(item: Item) -> None:
    """A version that gives way to another one of the same package is no removal."""
    if item.state != _FAILED:
        for old in item.replaces:
            old.replaced = old.replaced or (old.name, old.arch) == (item.name, item.arch)


def say(runs: Mapping[int, Run], said: Iterable[tuple[int, str]]) -> None:
    """What went wrong in each run: what its scripts and rpm said, else that it failed."""
    for number, line in said:
        run = runs.get(number)
        if run and (line.startswith("error:") or "scriptlet failed" in line):
            run.error = (f"{run.error}; {line}" if run.error else line)[:_LONGEST]
    for run in runs.values():
        if run.state == _FAILED and not run.error:
            run.error = f"{run.source.rstrip('5')} says that this run failed"


def _coming(item: Item) -> Change:
    before = [old for old in item.replaces if old.name == item.name]
    before.sort(key=lambda old: old.arch != item.arch)
    previous = before[0].version if before else item.version if item.action == _REINSTALL else None
    return Change(
        kind_of(previous, item.version, _UPDATES.get(item.action)),
        item.name,
        item.arch,
        previous,
        item.version,
    )


def _reasons(rows: Iterable[tuple[object, ...]]) -> dict[tuple[str, str], bool]:
    found: dict[tuple[str, str], bool] = {}
    for row in rows:
        name, arch, state, reason = row[2], row[6], row[8], row[9]
        if state == _DONE and reason in _REQUESTED:
            found[str(name), str(arch)] = _REQUESTED[int(str(reason))]
    return found


def read_reasons(files: Files) -> dict[tuple[str, str], bool]:
    """Why each package is there as dnf 5 keeps it, by name and architecture, which is empty for groups.

    Raises: Denied, Broken.
    """
    found: dict[tuple[str, str], bool] = {}
    try:
        for group in _table(files, GROUPS5, "groups"):
            found |= {(str(name), ""): True for name in group[1].get("packages", ())}
        for who, state in _table(files, REASONS5, "packages"):
            name, _, arch = who.rpartition(".")
            if (requested := _REQUESTED5.get(str(state.get("reason")))) is not None:
                found[name, arch] = requested
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise Broken(f"{REASONS5} is no such file as dnf writes; run `dnf check`") from error
    return found


def _table(files: Files, path: str, name: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    return tomllib.loads(files.text(path)).get(name, {}).items() if files.exists(path) else ()


def read_people(files: Files) -> dict[str, str]:
    """The machine's users by number, each with name and number.

    Raises: Denied, Broken.
    """
    if not files.exists(ACCOUNTS):
        return {}
    accounts = (line.split(":") for line in files.text(ACCOUNTS).split("\n"))
    return {fields[2]: f"{fields[0]} ({fields[2]})" for fields in accounts if len(fields) > 2}
