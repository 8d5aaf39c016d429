"""The transaction databases of yum, and of dnf 1 and 2, which kept theirs the same way."""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from itertools import chain

from watchman_mcp.errors import Broken
from watchman_mcp.machine.dnf_history import History, Item, Run, merge, person_of, say
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.rpm import full_version, moment
from watchman_mcp.machine.rpm_sqlite import copied

DIRECTORIES = {"yum": "/var/lib/yum/history", "dnf": "/var/lib/dnf/history"}

_NAME = re.compile(r"history-\d{4}-\d\d-\d\d\.sqlite")
_RUNS = """
    SELECT b.tid, b.timestamp, e.timestamp, b.loginuid, e.return_code FROM trans_beg b
    LEFT JOIN trans_end e ON e.tid = b.tid WHERE b.tid >= ? ORDER BY b.tid
"""
_ITEMS = """
    SELECT d.tid, p.name, p.epoch, p.version, p.release, p.arch, d.state, d.done
    FROM trans_data_pkgs d JOIN pkgtups p ON p.pkgtupid = d.pkgtupid WHERE d.tid >= ? ORDER BY d.rowid
"""
# The newer tables are not in a database that an old yum made.
_COMMANDS = "SELECT tid, cmdline FROM trans_cmdline WHERE tid >= ?"
_WORDS = {
    "trans_error": "SELECT tid, 'error: ' || msg FROM trans_error WHERE tid >= ? ORDER BY mid",
    "trans_script_stdout": "SELECT tid, line FROM trans_script_stdout WHERE tid >= ? ORDER BY lid",
}

_COMING = {"Install": 1, "True-Install": 1, "Dep-Install": 1, "Obsoleting": 1}
_COMING |= {"Downgrade": 2, "Update": 6, "Reinstall": 9}
"""What comes, as dnf 4 numbers it."""
_GOING = {"Updated", "Downgraded", "Reinstalled", "Erase", "Obsoleted"}
_TWINS = {"Updated", "Downgraded", "Reinstalled"}
_REMOVE = 8
_DONE, _FAILED = 1, 2


def databases(files: Files, source: str) -> list[str]:
    """The databases of this manager, oldest first; `yum history new` begins another one.

    Raises: Denied, Broken.
    """
    directory = DIRECTORIES[source]
    if not files.exists(directory):
        return []
    names = [one.name for one in files.entries(directory)]
    # dnf 2.7 goes on in another one, which cannot be read here, so that its log tells all.
    return [] if "swdb.sqlite" in names else [f"{directory}/{one}" for one in names if _NAME.fullmatch(one)]


def read_yum(files: Files, path: str, source: str, first: int) -> History:
    """The runs of `yum` or `dnf` from number `first` on; why packages are there is not told here.

    Raises: Absent, Denied, Broken.
    """
    advice = f"ask `{source} history list` whether it is well"
    with copied(files, path) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if not {"trans_beg", "trans_end", "trans_data_pkgs", "pkgtups"} <= tables:
            raise Broken(f"{path} has no transactions; {advice}")
        try:
            return History(_read(connection, tables, source, first), {})
        except (TypeError, ValueError, OverflowError) as error:
            raise Broken(f"{path} is damaged: {error}; {advice}") from error


def _read(connection: sqlite3.Connection, tables: set[str], source: str, first: int) -> list[Run]:
    runs: dict[int, Run] = {}
    for number, begin, end, user, code in connection.execute(_RUNS, (first,)):
        state = 0 if code is None else _FAILED if code else _DONE
        ended = None if end is None else moment(end)
        runs[int(number)] = Run(source, int(number), moment(begin), ended, person_of(user), None, state)
    if "trans_cmdline" in tables:
        for number, words in connection.execute(_COMMANDS, (first,)):
            if (run := runs.get(number)) and words:
                run.command = f"{source} {words}"
    items: dict[int, list[tuple[Item, str]]] = {}
    for place, (number, *values) in enumerate(connection.execute(_ITEMS, (first,))):
        items.setdefault(int(number), []).append(_item(place, *values))
    for number, run in runs.items():
        run.items = list(_linked(items.get(number, ())))
    said = [query for table, query in _WORDS.items() if table in tables]
    rows = chain.from_iterable(connection.execute(query, (first,)) for query in said)
    say(runs, ((number, str(line)) for number, line in rows))
    return list(runs.values())


def _item(
    place: int, name: str, epoch: str, version: str, release: str, arch: str, state: str, done: object
) -> tuple[Item, str]:
    texts = (name, version, release, arch, state)
    if not all(isinstance(text, str) for text in texts) or state not in _COMING.keys() | _GOING:
        raise TypeError(f"a package named {texts}")
    action = _COMING.get(state, _REMOVE)
    version = full_version(int(epoch or 0), version, release)
    return Item(place, name, arch, version, action, _DONE if done == "TRUE" else 0), state


def _linked(items: Iterable[tuple[Item, str]]) -> Iterator[Item]:
    """The packages of a run, each once, those that replace others with these."""
    coming: dict[str, list[Item]] = {}
    seen: set[tuple[str, str, str]] = set()
    going: list[tuple[Item, str]] = []
    for item, state in items:
        who = (item.name, item.arch, item.version)
        if state in _GOING:
            going.append((item, state))
        elif who not in seen:  # dnf tells once more of one that obsoletes others
            seen.add(who)
            coming.setdefault(item.name, []).append(item)
            yield item
    for item, state in going:
        again = (item.name, item.arch, item.version) in seen  # yum calls that an erasure
        if state in _TWINS or (state == "Erase" and again):
            others = coming.get(item.name, ())
            own = [one for one in others if one.arch == item.arch] or others
            for one in own:
                one.replaces.append(item)
                merge(one)
        yield item
