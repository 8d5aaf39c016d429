"""The readers that open files themselves: databases, lists of accounts, packages' lists of files, logs."""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.collectors.test_rpm import TABLES_YUM, WORDS_YUM, YUM
from tests.fuzz.reading import Reader, cases
from tests.rigs.rpm import DATABASE, Rpm, pretend
from watchman_mcp.machine import dnf_history, dpkg_files, identity, logs, rpm_database, yum_history
from watchman_mcp.machine.files import Files

_LOG = "/var/log/a.log"
_REASONS = (
    b'version = "1.0"\n[packages]\n"app.noarch" = {reason = "Dependency"}\nx86.i686 = {reason = "User"}\n'
)
_LISTS = b"/.\n/usr\n/usr/lib/systemd/system/a.service\n/usr/bin/a\n/lib/systemd/system/.service\n"
_TABLES = """
    CREATE TABLE trans (id INTEGER PRIMARY KEY, dt_begin INTEGER, dt_end INTEGER, user_id, cmdline, state);
    CREATE TABLE rpm (item_id INTEGER PRIMARY KEY, name, epoch, version, release, arch);
    CREATE TABLE trans_item (id INTEGER PRIMARY KEY, trans_id, item_id, action, reason, state);
    CREATE TABLE item_replaced_by (trans_item_id, by_trans_item_id);
    CREATE TABLE console_output (id INTEGER PRIMARY KEY, trans_id, line);
    INSERT INTO trans VALUES (1, 1767225600, 1767225609, 0, 'in a', 1), (2, 1767225700, NULL, 1000, '', 2);
    INSERT INTO rpm VALUES (1, 'a', 0, '1', '1', 'noarch'), (2, 'a', 1, '2', '1', 'noarch');
    INSERT INTO trans_item VALUES (1, 1, 1, 1, 2, 1), (2, 2, 2, 6, 2, 1), (3, 2, 1, 7, 2, 1);
    INSERT INTO item_replaced_by VALUES (3, 2);
    INSERT INTO console_output VALUES (1, 2, 'error: no room');
"""


_RUN_YUM = """
    INSERT INTO trans_beg VALUES (1, 1000, '', 0), (2, 2000, '', NULL);
    INSERT INTO trans_end VALUES (1, 1001, '', 1);
    INSERT INTO trans_data_pkgs VALUES (1, 2, 'TRUE', 'Update'), (1, 1, 'TRUE', 'Updated');
    INSERT INTO trans_data_pkgs VALUES (2, 3, 'FALSE', 'Erase');
    INSERT INTO trans_cmdline VALUES (1, 'update');
    INSERT INTO trans_error VALUES (1, 1, 'no room');
"""


def _at(path: str, read: Callable[[Files], object]) -> Callable[[bytes], object]:
    """The input is what this file holds, on a machine that has no other."""

    def on(content: bytes) -> object:
        with TemporaryDirectory() as place:
            target = Path(place, path.lstrip("/"))
            target.parent.mkdir(parents=True)
            target.write_bytes(content)
            return read(Files(Path(place)))

    return on


def _history(files: Files) -> object:
    found = dnf_history.read_history(files, dnf_history.DNF4, 0)
    return [list(run.told({}, {"0": "root"})) for run in found.runs], found.requested


def _yum_history(files: Files) -> object:
    (path,) = yum_history.databases(files, "yum")
    found = yum_history.read_yum(files, path, "yum", 0)
    return [list(run.told({}, {"0": "root"})) for run in found.runs]


def _log(files: Files) -> object:
    reading = logs.read_log(files, _LOG, line_cap=5_000)
    lines = list(reading)
    assert reading.mark is not None
    with open(files.root / _LOG[1:], "rb") as stream:
        content = stream.read()
    whole = [line for line in content.split(b"\n")[:-1] if len(line) <= 5_000]
    assert [os.fsencode(line.text) for line in lines] == whole
    assert list(logs.read_log(files, _LOG, reading.mark, line_cap=5_000)) == []
    return [line.text for line in lines]


def _owned(files: Files) -> object:
    owners = list(dpkg_files.owners(files, ["/usr/bin/a", "/bin/a"]))
    assert owners in ([], [("a", "amd64")])
    return owners, dpkg_files.services(files)


def _made(fill: Callable[[Path], None]) -> bytes:
    with TemporaryDirectory() as place:
        fill(Path(place))
        (path,) = (path for path in Path(place).rglob("*") if path.is_file())
        return path.read_bytes()


def _dnf(place: Path) -> None:
    with closing(sqlite3.connect(place / "history.sqlite")) as connection:
        connection.executescript(f"PRAGMA page_size = 512; {_TABLES}")


def _yum(place: Path) -> None:
    with closing(sqlite3.connect(place / "history.sqlite")) as connection:
        connection.executescript(f"PRAGMA page_size = 512; {TABLES_YUM}{WORDS_YUM}{_RUN_YUM}")


def _rpm(place: Path) -> None:
    pretend(
        place, [Rpm(f"a{n}", "1-1", ("lib >= 1", "/bin/a"), ("lib",), files=("/bin/a",)) for n in range(3)]
    )


READERS = (
    Reader(
        "yum_history.read_yum",
        _at(YUM, _yum_history),
        (_made(_yum),),
        "binary",
        share=0.1,
        with_=("dnf_history.say",),
    ),
    Reader("dnf_history.read_history", _at(dnf_history.DNF4, _history), (_made(_dnf),), "binary", share=0.1),
    Reader(
        "dnf_history.read_reasons",
        _at(dnf_history.REASONS5, dnf_history.read_reasons),
        (*cases("rpm", "*packages.toml"), _REASONS),
        share=0.3,
    ),
    Reader(
        "dnf_history.read_people",
        _at(dnf_history.ACCOUNTS, dnf_history.read_people),
        (b"root:x:0:0::/root:/bin/sh\nodd\nana:x:1000:1000:Ana:/home/ana:/bin/bash\n",),
        share=0.3,
    ),
    Reader(
        "rpm_database.read_sqlite",
        _at(DATABASE, lambda files: rpm_database.read_sqlite(files, DATABASE)),
        (_made(_rpm),),
        "binary",
        share=0.1,
    ),
    Reader("dpkg_files.owners", _at(f"{dpkg_files.LISTS}/a:amd64.list", _owned), (_LISTS,), share=0.3),
    Reader("identity.host_id", _at("/etc/machine-id", identity.host_id), (b"0" * 31 + b"1\n",), share=0.3),
    Reader("logs.read_log", _at(_LOG, _log), cases("apt", "*dpkg.log"), share=0.3),
)
