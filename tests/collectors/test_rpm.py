"""dnf's, yum's and libzypp's logs and databases give the same events however they are cut into looks."""

import json
import os
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.collectors.test_cases import graph, look_at, plain, plant
from tests.rigs.rpm import Rpm, pretend
from watchman_mcp.collectors import Look, rpm
from watchman_mcp.machine.dnf_history import DNF4, DNF5
from watchman_mcp.machine.dnf_logs import (
    DNF5_LOG,
    DNF_COMMANDS,
    DNF_LOG,
    read_named,
)
from watchman_mcp.machine.dpkg import Clock
from watchman_mcp.machine.logs import Line, Origin
from watchman_mcp.machine.yum_logs import YUM_LOG
from watchman_mcp.machine.zypp_history import HISTORY, ZyppHistory
from watchman_mcp.schema.core import Record

FULL = os.environ.get("WATCHMAN_TEST_SOAK") == "full"
EXAMPLES = 300 if FULL else 40
ZONE = ZoneInfo("Europe/Berlin")
BEGIN = datetime(2025, 12, 31, 22, 30, tzinfo=UTC)
"""Half an hour before a new year begins in Berlin."""
ORIGIN = Origin(1, 1, "", 0, None)
NAMES = ["app", "lib-1.0", "tool"]
KERNEL = "kernel"
BESIDE = ("installonlypkg(kernel)", "multiversion(kernel)")
KINDS = ["put", "put", "down", "again", "remove", "replace", "fail", "kernel", "idle", "days"]

Told = tuple[str, str, str | None, str | None, str | None]


@dataclass
class Story:
    """A machine on which a manager works: states and lines in the order in which they come about."""

    manager: str
    now: datetime = BEGIN
    serial: int = 0
    there: dict[str, str] = field(default_factory=dict)
    kernels: list[str] = field(default_factory=list)
    both: dict[str, str] = field(default_factory=dict)
    steps: list[tuple[str, list[tuple[str, str]], datetime]] = field(default_factory=list)
    """What is written, the versions that are there then, and the time."""
    told: list[Told] = field(default_factory=list)
    command: str | None = None

    def do(self, kind: str, name: str, gap: int) -> None:
        self.serial += 1
        self.now += timedelta(days=40) if kind == "days" else timedelta(seconds=gap + 1)
        if kind != "days":
            self._begin(f"dnf {kind} {self.serial}")
            getattr(self, kind)(name)
        self.now += timedelta(seconds=1)

    def put(self, name: str) -> None:
        self._replace(name, f"1:{self.serial}.0-1" if self.serial > 8 else f"{self.serial}.0-1")

    def down(self, name: str) -> None:
        if name in self.there:
            self._replace(name, f"{self.there[name].partition('-')[0]}~{self.serial}-1")

    def again(self, name: str) -> None:
        if name in self.there and self.manager != "dnf5":
            self._write("Reinstall", name, self.there[name])
            self._write("Reinstalled", name, self.there[name])
            self._tell("reinstall", name, self.there[name], self.there[name])

    def remove(self, name: str) -> None:
        if name in self.there:
            self._going(name, self.there[name])
            version = self.there.pop(name)
            self._write("Erase", name, version)
            self._tell("remove", name, None, version)

    def replace(self, name: str) -> None:
        if name in self.there and self.manager.startswith("dnf"):
            version = f"{self.serial}-1"
            self.there[f"new{self.serial}"] = version
            self._write("Installed", f"new{self.serial}", version)
            self._tell("install", f"new{self.serial}", None, version)
            old = self.there.pop(name)
            self._write("Obsoleted", name, old)
            self._tell("remove", name, None, old)

    def fail(self, name: str) -> None:
        if self.manager == "dnf":
            self._write("Installed", "bad", "1-1")
            self._line("INFO error: lua script failed: no\n")
            self._line("ERROR Error in PREIN scriptlet in rpm package bad")
        elif self.manager == "zypp":
            self.steps.append(
                (
                    f"# {self._local()} bad-1-1.noarch.rpm install failed\n# error: no\n",
                    self._state(),
                    self.now,
                )
            )

    def kernel(self, name: str) -> None:
        version = f"6.{self.serial}-1"
        self.kernels.append(version)
        self._write("Installed", KERNEL, version)
        self._tell("install", KERNEL, None, version)
        if len(self.kernels) > 2:
            old = self.kernels.pop(0)
            self._write("Erase", KERNEL, old)
            self._tell("remove", KERNEL, None, old)

    def idle(self, name: str) -> None:
        pass

    def _replace(self, name: str, new: str) -> None:
        old = self.there.get(name)
        lower = "~" in new and old is not None and new.startswith(old.partition("-")[0])
        word = "Installed" if old is None else "Downgrade" if lower else "Upgrade"
        if old:
            self.both[name] = old
        self.there[name] = new
        if old and self.manager == "zypp":
            self.both.pop(name)
        self._write(word, name, new)
        if old and self.manager != "zypp":
            self._going(name, old)
            self.both.pop(name)
            self._write(f"{word}d", name, old)
        kind = "install" if old is None else "downgrade" if lower else "update"
        if self.manager == "yum":
            kind = "install" if old is None else "update"
        self._tell(kind, name, None if self.manager == "yum" else old, new)

    def _tell(self, kind: str, name: str, previous: str | None, version: str) -> None:
        if self.manager == "yum" and kind == "reinstall":
            kind, previous = "install", None
        if self.manager == "yum" and "~" in version and kind == "downgrade":
            kind = "update"
        self.told.append((f"package_{kind}", name, previous, version, self.command))

    def _state(self) -> list[tuple[str, str]]:
        kernels = [(KERNEL, one) for one in self.kernels]
        return [*self.there.items(), *self.both.items(), *kernels]

    def _local(self, form: str = "%Y-%m-%d %H:%M:%S") -> str:
        return self.now.astimezone(ZONE).strftime(form)

    def _begin(self, command: str) -> None:
        self.command = command if self.manager in ("dnf5", "zypp") else None
        if self.manager == "dnf":
            self._line("INFO --- logging initialized ---")
        elif self.manager == "dnf5":
            self._line(f'INFO --- DNF5 launched with arguments: "{command}" ---')
        elif self.manager == "zypp":
            words = " ".join(f"'{word}'" for word in command.split())
            self.steps.append((f"{self._local()}|command|root@box|{words}|\n", self._state(), self.now))

    def _line(self, text: str) -> None:
        zone = UTC if self.serial % 2 else ZONE
        stamp = self.now.astimezone(zone).strftime("%Y-%m-%dT%H:%M:%S%z").replace("+0000", "Z")
        process = "[77] " if self.manager == "dnf5" else ""
        level, _, rest = text.partition(" ")
        self.steps.append((f"{stamp} {process}{level} {rest}\n", self._state(), self.now))

    def _going(self, name: str, version: str) -> None:
        if self.manager == "dnf5":
            full = version if ":" in version else f"0:{version}"
            self._line(f'INFO RPM callback uninstall start "{name}-{full}.noarch" total 1')

    def _write(self, word: str, name: str, version: str) -> None:
        gone = word in ("Erase", "Obsoleted", "Upgraded", "Downgraded", "Reinstalled")
        if self.manager == "dnf":
            self._line(f"SUBDEBUG {word}: {name}-{version}.noarch")
        elif self.manager == "dnf5":
            full = version if ":" in version else f"0:{version}"
            callback = "uninstall" if gone else "install"
            self._line(f'INFO RPM callback {callback} stop "{name}-{full}.noarch" amount 1 total 1')
        elif self.manager == "zypp" and (not gone or word == "Erase"):
            verb = "remove " if gone else "install"
            rest = f"{name}|{version}|noarch|root@box|{'' if gone else 'repository|0ff|'}"
            text = f"# {self._local()} {name} ok\n# \n{self._local()}|{verb}|{rest}\n"
            self.steps.append((text, self._state(), self.now))
        elif self.manager == "yum" and word not in ("Upgraded", "Downgraded", "Reinstalled"):
            epoch, colon, rest = version.rpartition(":")
            says = {"Erase": "Erased", "Upgrade": "Updated", "Downgrade": "Updated", "Reinstall": "Installed"}
            full = f"{epoch}{colon}{name}-{rest}.noarch"
            text = f"{self._local('%b %d %H:%M:%S')} {says.get(word, word)}: {full}\n"
            self.steps.append((text, self._state(), self.now))


LOGS = {"dnf": DNF_LOG, "dnf5": DNF5_LOG, "zypp": HISTORY, "yum": YUM_LOG}


@dataclass
class Disk:
    """The files of that machine."""

    root: Path
    manager: str
    marks: dict[str, object] = field(default_factory=dict)
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        links = {"/etc/localtime": "/usr/share/zoneinfo/Europe/Berlin"}
        zypp = {"/etc/zypp/": ""} if self.manager == "zypp" else {}
        plant(self.root, {"/var/log/zypp/": "", **zypp}, links)
        self.log = self.root / LOGS[self.manager].lstrip("/")

    def write(self, content: bytes, at: datetime) -> None:
        with self.log.open("ab") as file:
            file.write(content)
        os.utime(self.log, (at.timestamp(), at.timestamp()))

    def look(self, state: list[tuple[str, str]]) -> Look:
        shown = [Rpm(name, version, provides=BESIDE * (name == KERNEL)) for name, version in state]
        pretend(self.root, shown)
        look = look_at(self.root, "rpm", marks=json.loads(json.dumps(self.marks)))
        for seen in rpm.collect(look):
            if isinstance(seen, Record):
                self.seen.setdefault(seen.event.key, plain(seen.event))
        assert not look.unobserved
        self.marks = look.marks
        return look

    def rotate(self) -> None:
        if self.log.exists() and self.log.read_bytes().endswith(b"\n"):
            for number in range(8, 0, -1):
                old = self.log.with_name(f"{self.log.name}.{number}")
                if old.exists():
                    old.rename(self.log.with_name(f"{self.log.name}.{number + 1}"))
            self.log.rename(self.log.with_name(f"{self.log.name}.1"))


@pytest.mark.soak
@pytest.mark.parametrize("manager", LOGS)
@settings(max_examples=EXAMPLES)
@given(
    done=st.lists(
        st.tuples(st.sampled_from(KINDS), st.sampled_from(NAMES), st.integers(0, 2000)),
        min_size=1,
        max_size=14,
    ),
    pauses=st.dictionaries(st.integers(0, 60), st.tuples(st.floats(0, 1), st.booleans()), max_size=8),
)
def test_looks_at_any_byte_and_rotations_tell_what_one_look_tells(
    manager: str, done: list[tuple[str, str, int]], pauses: dict[int, tuple[float, bool]]
) -> None:
    story = Story(manager)
    for one in done:
        story.do(*one)
    if not story.steps:
        return
    with TemporaryDirectory() as folder:
        whole, pieces = Disk(Path(folder, "whole"), manager), Disk(Path(folder, "pieces"), manager)
        for disk in (whole, pieces):
            disk.look([])
        for number, (text, state, at) in enumerate(story.steps):
            part = text.encode()
            whole.write(part, at)
            if number in pauses:
                cut, rotated = pauses[number]
                first = int(cut * len(part))
                if rotated and not first:
                    pieces.rotate()
                if first:
                    pieces.write(part[:first], at)
                pieces.look(state)
                part = part[first:]
            pieces.write(part, at)
        for disk in (whole, pieces):
            disk.look(story.steps[-1][1])
            disk.look(story.steps[-1][1])

    def told(disk: Disk) -> dict[str, dict[str, Any]]:
        # What went wrong is known only when it did, and the first telling stays.
        return {
            key: {name: event[name] for name in event if name != "error"} for key, event in disk.seen.items()
        }

    assert told(pieces) == told(whole)
    columns = ("type", "package_name", "previous", "version", "command")
    assert Counter(tuple(map(event.get, columns)) for event in whole.seen.values()) == Counter(story.told)


def test_a_line_of_zypp_with_nothing_but_an_epoch_for_a_version_is_counted() -> None:
    history = ZyppHistory(Clock(ZONE), {}, frozenset())

    told = list(history.told([Line("2026-01-02 10:00:02|install|y|0:|noarch||oss|0ff|", 0, ORIGIN)]))

    assert (told, history.unreadable) == ([], 1)


def test_what_rpm_says_of_a_package_is_no_error_of_the_one_that_follows_it() -> None:
    history = ZyppHistory(Clock(ZONE), {}, frozenset())
    text = (
        "2026-01-02 10:00:00|command|root@box|'zypper' 'in' 'bad' 'app' 'tool'|\n"
        "# 2026-01-02 10:00:01 bad-1-1.noarch.rpm install failed\n# rpm output:\n"
        "# error: bad-1-1.noarch: install failed\n# \n"
        "2026-01-02 10:00:02|install|app|1-1|noarch|root@box|oss|0ff|\n"
        "# 2026-01-02 10:00:03 tool-1-1.noarch.rpm installed ok\n# Additional rpm output:\n"
        "# warning: %post(tool-1-1.noarch) scriptlet failed, exit status 1\n# \n"
        "2026-01-02 10:00:03|install|tool|1-1|noarch|root@box|oss|0ff|"
    )

    told = list(history.told(Line(line, 0, ORIGIN) for line in text.split("\n")))

    assert [(one.change.name, one.error) for one in told] == [
        ("app", None),
        ("tool", "warning: %post(tool-1-1.noarch) scriptlet failed, exit status 1"),
    ]


@pytest.mark.parametrize(
    ("text", "name", "version", "arch"),
    [
        ("app-1.0-1.noarch", "app", "1.0-1", "noarch"),
        ("python3.11-libs-1:3.11.2-1.el9_2.x86_64", "python3.11-libs", "1:3.11.2-1.el9_2", "x86_64"),
        ("1:openssl-libs-1.0.1e-51.el7_2.5.x86_64", "openssl-libs", "1:1.0.1e-51.el7_2.5", "x86_64"),
        ("0:acpi-1.7-21.fc39.x86_64", "acpi", "1.7-21.fc39", "x86_64"),
        ("acpi-0:1.7~rc1^2-21.fc39.i686", "acpi", "1.7~rc1^2-21.fc39", "i686"),
    ],
)
def test_an_epoch_stands_before_the_name_or_before_the_version(
    text: str, name: str, version: str, arch: str
) -> None:
    assert read_named(text) == (name, version, arch)
    assert read_named(text.partition("-")[0]) is None


def events(look: Look) -> list[dict[str, Any]]:
    return [plain(seen.event) for seen in rpm.collect(look) if isinstance(seen, Record)]


def brief(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(e["type"][8:], e["package_name"], e.get("previous"), e.get("version")) for e in found]


TABLES4 = """
    CREATE TABLE trans (id INTEGER PRIMARY KEY, dt_begin, dt_end, user_id, cmdline, state);
    CREATE TABLE rpm (item_id, name, epoch, version, release, arch);
    CREATE TABLE trans_item (id INTEGER PRIMARY KEY, trans_id, item_id, action, reason, state);
    CREATE TABLE item_replaced_by (trans_item_id, by_trans_item_id);
    CREATE TABLE console_output (id INTEGER PRIMARY KEY, trans_id, file_descriptor, line);
    INSERT INTO rpm VALUES (1, 'app', 0, '1', '1', 'noarch'), (2, 'app', 1, '2', '1', 'noarch');
    INSERT INTO rpm VALUES (3, 'old', 0, '1', '1', 'noarch'), (4, 'bad', 0, '1', '1', 'noarch');
"""
"""What libdnf's create.sql makes of it, as far as it is read."""
TABLES5 = """
    CREATE TABLE trans (id INTEGER PRIMARY KEY, dt_begin, dt_end, user_id, description, state_id);
    CREATE TABLE pkg_name (id, name);
    CREATE TABLE arch (id, name);
    CREATE TABLE trans_item_action (id, name);
    CREATE TABLE rpm (item_id, name_id, epoch, version, release, arch_id);
    CREATE TABLE trans_item (id INTEGER PRIMARY KEY, trans_id, item_id, action_id, reason_id, state_id);
    CREATE TABLE item_replaced_by (trans_item_id, by_trans_item_id);
    INSERT INTO pkg_name VALUES (1, 'app'), (2, 'old'), (3, 'bad');
    INSERT INTO arch VALUES (1, 'noarch');
    INSERT INTO rpm VALUES (1, 1, 0, '1', '1', 1), (2, 1, 1, '2', '1', 1);
    INSERT INTO rpm VALUES (3, 2, 0, '1', '1', 1), (4, 3, 0, '1', '1', 1);
"""
"""The same of create_tables.sql in dnf 5's libdnf5/transaction/db/sql."""


YUM = "/var/lib/yum/history/history-2020-01-01.sqlite"
TABLES_YUM = """
    CREATE TABLE trans_beg (tid INTEGER PRIMARY KEY, timestamp, rpmdb_version, loginuid);
    CREATE TABLE trans_end (tid INTEGER PRIMARY KEY, timestamp, rpmdb_version, return_code);
    CREATE TABLE trans_data_pkgs (tid, pkgtupid, done BOOL NOT NULL DEFAULT FALSE, state);
    CREATE TABLE pkgtups (pkgtupid INTEGER PRIMARY KEY, name, arch, epoch, version, release, checksum);
    INSERT INTO pkgtups VALUES (1, 'app', 'noarch', '0', '1', '1', '');
    INSERT INTO pkgtups VALUES (2, 'app', 'noarch', '1', '2', '1', '');
    INSERT INTO pkgtups VALUES (3, 'old', 'noarch', '0', '1', '1', '');
    INSERT INTO pkgtups VALUES (4, 'bad', 'noarch', '0', '1', '1', '');
    INSERT INTO pkgtups VALUES (5, 'kernel', 'noarch', '0', '1', '1', '');
    INSERT INTO pkgtups VALUES (6, 'kernel', 'noarch', '0', '2', '1', '');
"""
"""What yum/history.py makes of it, as far as it is read; commands and words are newer than the rest."""
LATER = 1_000_003_000
"""When yum's log was last written to, in September 2001."""
WORDS_YUM = """
    CREATE TABLE trans_cmdline (tid, cmdline);
    CREATE TABLE trans_error (mid INTEGER PRIMARY KEY, tid, msg);
    CREATE TABLE trans_script_stdout (lid INTEGER PRIMARY KEY, tid, line);
"""


def database(root: Path, path: str, *statements: str) -> None:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(place)) as connection:
        for statement in statements:
            connection.executescript(statement)


def test_a_run_of_dnf_is_told_while_it_goes_on_and_once(tmp_path: Path) -> None:
    plant(tmp_path, {"/etc/passwd": "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n"})
    database(
        tmp_path, DNF4, TABLES4,
        "INSERT INTO trans VALUES (1, 1000, NULL, 1000, 'upgrade', 0)",
        "INSERT INTO trans_item VALUES (1, 1, 2, 6, 2, 0), (2, 1, 1, 7, 2, 0)",
        "INSERT INTO trans_item VALUES (3, 1, 3, 8, 1, 0), (4, 1, 4, 1, 2, 0)",
        "INSERT INTO item_replaced_by VALUES (2, 1)",
    )  # fmt: skip
    pretend(tmp_path, [Rpm("app", "1-1"), Rpm("old", "1-1")])
    first = look_at(tmp_path, "rpm")
    assert events(first) == []

    pretend(tmp_path, [Rpm("app", "1-1"), Rpm("app", "1:2-1", installed_at=1_800_000_000)])
    second = look_at(tmp_path, "rpm", marks=first.marks)
    going = events(second)
    database(
        tmp_path, DNF4, "UPDATE trans SET state = 2, dt_end = 1009",
        "UPDATE trans_item SET state = CASE item_id WHEN 4 THEN 2 ELSE 1 END",
        "INSERT INTO console_output VALUES (1, 1, 1, 'error: no room'), (2, 1, 1, 'hello')",
    )  # fmt: skip
    third = look_at(tmp_path, "rpm", marks=second.marks)
    over = events(third)

    assert brief(going) == [("update", "app", "1-1", "1:2-1"), ("remove", "old", None, "1-1")]
    assert [one["key"] for one in over] == [one["key"] for one in going]
    assert {(one["command"], one["by"], one["error"]) for one in over} == {
        ("dnf upgrade", "ann (1000)", "error: no room")
    }
    assert {one["transaction_id"] for one in over} == {"dnf:1970-01-01T00:16:40Z:1"}


def test_dnf_5_tells_its_runs_and_why_a_package_is_there(tmp_path: Path) -> None:
    database(
        tmp_path, DNF5, TABLES5,
        "INSERT INTO trans VALUES (1, 1000, 1001, 4294967295, 'dnf5 install app-1 old', 2)",
        "INSERT INTO trans VALUES (2, 2000, 2001, 0, 'dnf5 upgrade app', 3)",
        "INSERT INTO trans_item VALUES (1, 1, 1, 1, 2, 2), (2, 1, 3, 1, 2, 2), (3, 1, 3, 7, 2, 2)",
        "INSERT INTO trans_item VALUES (4, 2, 2, 2, 2, 2), (5, 2, 1, 6, 2, 2)",
        "INSERT INTO trans_item VALUES (6, 2, 3, 6, 2, 2), (7, 2, 4, 1, 2, 3)",
        "INSERT INTO item_replaced_by VALUES (5, 4), (6, 4)",
    )  # fmt: skip
    plant(tmp_path, {
        "/usr/lib/sysimage/libdnf5/packages.toml": '[packages]\n"app.noarch" = {reason = "Dependency"}\n',
        "/usr/lib/sysimage/libdnf5/groups.toml": '[groups.base]\npackages = ["tool"]\nuserinstalled = true\n',
    })  # fmt: skip
    pretend(tmp_path, [Rpm("app", "1:2-1"), Rpm("tool", "1-1"), Rpm("other", "1-1")])

    found = graph("rpm", look_at(tmp_path, "rpm"))

    assert {one["key"]: one.get("requested") for one in found["nodes"]} == {
        "app": False,
        "tool": True,
        "other": None,
    }
    assert brief(found["records"]) == [
        ("install", "app", None, "1-1"),
        ("install", "old", None, "1-1"),
        ("update", "app", "1-1", "1:2-1"),
        ("remove", "old", None, "1-1"),
    ]
    assert [one.get("by") for one in found["records"]] == [None, None, "uid 0", "uid 0"]
    assert [one.get("error") for one in found["records"]] == [
        None,
        None,
        *["dnf says that this run failed"] * 2,
    ]
    assert {one["source"] for one in found["records"]} == {"dnf"}


def test_what_a_log_told_while_the_database_could_not_be_read_is_not_told_again(tmp_path: Path) -> None:
    begin, step = "INFO --- logging initialized ---", "SUBDEBUG Installed: app-1-1.noarch"
    lines = "".join(f"1970-01-01T00:16:40Z {one}\n" for one in (begin, step))
    general = "1970-01-01T00:16:40Z DDEBUG Command: dnf install app \n"
    plant(tmp_path, {DNF4: None, DNF_LOG: lines, DNF_COMMANDS: general})
    pretend(tmp_path, [Rpm("app", "1-1")])
    hidden = look_at(tmp_path, "rpm")
    alone = events(hidden)
    (tmp_path / DNF4.lstrip("/")).unlink()
    database(
        tmp_path, DNF4, TABLES4,
        "INSERT INTO trans VALUES (1, 1000, 1000, 0, 'install app', 1), (2, 2000, 2001, 0, 'remove app', 1)",
        "INSERT INTO trans_item VALUES (1, 1, 1, 1, 2, 1), (2, 2, 1, 8, 2, 1)",
    )  # fmt: skip

    open_look = look_at(tmp_path, "rpm", marks=hidden.marks)
    after = events(open_look)
    again = look_at(tmp_path, "rpm", marks=open_look.marks)

    assert [one.what for one in hidden.unobserved] == [f"rpm:{DNF4}"]
    assert [(one["type"], one["command"]) for one in alone] == [("package_install", "dnf install app")]
    assert brief(after) == [("remove", "app", None, "1-1")]
    assert brief(events(again)) == brief(after)
    assert not open_look.unobserved


def test_a_database_of_dnf_that_was_begun_anew_tells_its_new_runs(tmp_path: Path) -> None:
    runs = (
        "INSERT INTO trans VALUES (1, {0}, {0}, 0, 'install app', 1)",
        "INSERT INTO trans_item VALUES (1, 1, 1, 1, 2, 1)",
    )
    database(tmp_path, DNF4, TABLES4, *[one.format(1000) for one in runs])
    pretend(tmp_path, [Rpm("app", "1-1")])
    first = look_at(tmp_path, "rpm")
    told = events(first)
    (tmp_path / DNF4.lstrip("/")).unlink()
    database(tmp_path, DNF4, TABLES4, *[one.format(5000) for one in runs])

    after = events(look_at(tmp_path, "rpm", marks=first.marks))

    assert [one["ts"][11:19] for one in told + after] == ["00:16:40", "01:23:20"]


def test_the_databases_of_yum_tell_what_its_log_cannot(tmp_path: Path) -> None:
    plant(tmp_path, {
        "/etc/passwd": "ann:x:1000:1000::/home/ann:/bin/sh\n",
        "/etc/localtime": "",
        YUM_LOG: "Sep 09 02:01:40 Installed: early-1-1.noarch\nSep 09 02:03:20 Installed: app-1-1.noarch\n",
    })  # fmt: skip
    os.utime(tmp_path / YUM_LOG.lstrip("/"), (LATER, LATER))
    database(
        tmp_path, YUM, TABLES_YUM,
        "INSERT INTO trans_beg VALUES (1, 1000001000, '', 4294967295), (2, 1000002000, '', 1000)",
        "INSERT INTO trans_beg VALUES (3, 1000003000, '', NULL)",
        "INSERT INTO trans_end VALUES (1, 1000001001, '', 0), (2, 1000002001, '', 1)",
        "INSERT INTO trans_data_pkgs VALUES (1, 1, 'TRUE', 'Dep-Install'), (1, 3, 'TRUE', 'Install')",
        "INSERT INTO trans_data_pkgs VALUES (2, 2, 'TRUE', 'Update'), (2, 1, 'FALSE', 'Updated')",
        "INSERT INTO trans_data_pkgs VALUES (2, 2, 'TRUE', 'Obsoleting'), (2, 3, 'TRUE', 'Obsoleted')",
        "INSERT INTO trans_data_pkgs VALUES (2, 4, 'FALSE', 'Install'), (2, 6, 'TRUE', 'Install')",
        "INSERT INTO trans_data_pkgs VALUES (2, 5, 'TRUE', 'Erase')",
        WORDS_YUM,
        "INSERT INTO trans_cmdline VALUES (2, '-y update')",
        "INSERT INTO trans_error VALUES (1, 2, 'no room')",
        "INSERT INTO trans_script_stdout VALUES (1, 2, 'hello'), (2, 2, 'warning: a scriptlet failed')",
    )  # fmt: skip
    pretend(tmp_path, [Rpm("app", "1:2-1")])

    first = look_at(tmp_path, "rpm")
    found = events(first)
    newer = YUM.replace("2020", "2021")
    database(
        tmp_path, newer, TABLES_YUM,
        "INSERT INTO trans_beg VALUES (1, 1000005000, '', 0)",
        "INSERT INTO trans_end VALUES (1, 1000005001, '', 0)",
        "INSERT INTO trans_data_pkgs VALUES (1, 2, 'TRUE', 'Reinstall'), (1, 2, 'TRUE', 'Erase')",
        "INSERT INTO trans_data_pkgs VALUES (1, 5, 'FALSE', 'Erase')",
    )  # fmt: skip
    second = look_at(tmp_path, "rpm", marks=json.loads(json.dumps(first.marks)))
    later = [one for one in events(second) if one["key"] not in {old["key"] for old in found}]

    assert brief(found) == [
        ("install", "early", None, "1-1"),
        ("install", "app", None, "1-1"),
        ("install", "old", None, "1-1"),
        ("update", "app", "1-1", "1:2-1"),
        ("install", "kernel", None, "2-1"),
        ("remove", "old", None, "1-1"),
        ("remove", "kernel", None, "1-1"),
    ]
    assert {(e["source"], e.get("command"), e.get("by"), e.get("error")) for e in found} == {
        ("yum", None, None, None),
        ("yum", "yum -y update", "ann (1000)", "error: no room; warning: a scriptlet failed"),
    }
    assert brief(later) == [("reinstall", "app", "1:2-1", "1:2-1"), ("remove", "kernel", None, "1-1")]
    assert not first.unobserved + second.unobserved


def test_what_the_log_of_yum_told_is_not_told_again_by_a_database_that_could_be_read_later(
    tmp_path: Path,
) -> None:
    plant(tmp_path, {YUM: None, YUM_LOG: "Sep 09 02:03:20 Installed: app-1-1.noarch\n"})
    os.utime(tmp_path / YUM_LOG.lstrip("/"), (LATER, LATER))
    pretend(tmp_path, [Rpm("app", "1-1")])
    hidden = look_at(tmp_path, "rpm")
    alone = events(hidden)
    (tmp_path / YUM.lstrip("/")).unlink()
    database(
        tmp_path, YUM, TABLES_YUM,
        "INSERT INTO trans_beg VALUES (1, 1000001000, '', 0), (2, 1000002000, '', 0)",
        "INSERT INTO trans_end VALUES (1, 1000001000, '', 0), (2, 1000002000, '', 0)",
        "INSERT INTO trans_data_pkgs VALUES (1, 1, 'TRUE', 'Install'), (2, 1, 'TRUE', 'Erase')",
    )  # fmt: skip

    after = events(look_at(tmp_path, "rpm", marks=hidden.marks))

    assert [one.what for one in hidden.unobserved] == [f"rpm:{YUM}"]
    assert brief(alone) == [("install", "app", None, "1-1")]
    assert brief(after) == [("remove", "app", None, "1-1")]


def test_dnf_1_kept_its_runs_as_yum_did_and_dnf_2_7_did_not(tmp_path: Path) -> None:
    old = YUM.replace("yum", "dnf")
    plant(tmp_path, {DNF_LOG: "1970-01-01T02:00:00Z INFO Installed: late-1-1.noarch\n"})
    database(
        tmp_path, old, TABLES_YUM,
        "INSERT INTO trans_beg VALUES (1, 1000, '', 0)", "INSERT INTO trans_end VALUES (1, 1000, '', 0)",
        "INSERT INTO trans_data_pkgs VALUES (1, 1, 'TRUE', 'Install')",
    )  # fmt: skip
    pretend(tmp_path, [Rpm("late", "1-1")])

    by_database = events(look_at(tmp_path, "rpm"))
    plant(tmp_path, {"/var/lib/dnf/history/swdb.sqlite": ""})
    by_log = events(look_at(tmp_path, "rpm"))

    assert [(one["package_name"], one["transaction_id"]) for one in by_database] == [
        ("app", "dnf:1970-01-01T00:16:40Z:1")
    ]
    assert [one["package_name"] for one in by_log] == ["late"]


@pytest.mark.parametrize("spoil", ["DROP TABLE pkgtups", "UPDATE trans_data_pkgs SET state = 'Odd'"])
def test_a_database_of_yum_that_cannot_be_read_is_said_and_its_log_tells(tmp_path: Path, spoil: str) -> None:
    plant(tmp_path, {YUM_LOG: "Sep 09 02:03:20 Installed: app-1-1.noarch\n"})
    os.utime(tmp_path / YUM_LOG.lstrip("/"), (LATER, LATER))
    database(
        tmp_path, YUM, TABLES_YUM, "INSERT INTO trans_beg VALUES (1, 1000001000, '', 0)",
        "INSERT INTO trans_data_pkgs VALUES (1, 1, 'TRUE', 'Install')", spoil,
    )  # fmt: skip
    pretend(tmp_path, [Rpm("app", "1-1")])

    look = look_at(tmp_path, "rpm")

    assert brief(events(look)) == [("install", "app", None, "1-1")]
    assert [one.what for one in look.unobserved] == [f"rpm:{YUM}"]


@pytest.mark.parametrize(
    "spoil",
    [
        "DROP TABLE trans",
        "UPDATE trans SET dt_begin = 'soon'",
        "UPDATE trans SET dt_begin = 1 << 60",
        "UPDATE rpm SET name = x'ff'",
        "ALTER TABLE rpm DROP COLUMN epoch",
    ],
)
def test_a_database_of_dnf_that_cannot_be_read_is_said_and_costs_only_itself(
    tmp_path: Path, spoil: str
) -> None:
    database(
        tmp_path, DNF4, TABLES4, "INSERT INTO trans VALUES (1, 1000, 1001, 0, 'x', 1)",
        "INSERT INTO trans_item VALUES (1, 1, 1, 1, 2, 1)", spoil,
    )  # fmt: skip
    pretend(tmp_path, [Rpm("app", "1-1")])

    found = graph("rpm", look_at(tmp_path, "rpm"))

    assert [one["key"] for one in found["nodes"]] == ["app"]
    assert found["unobserved"] == [f"rpm:{DNF4}"]


def test_kernels_stay_side_by_side_and_of_an_update_that_stopped_the_last_version_is_there(
    tmp_path: Path,
) -> None:
    kernels = [Rpm(KERNEL, v, ("module = 2",), ("installonlypkg(kernel)",)) for v in ("6.1-1", "6.2-1")]
    modules = [Rpm(f"module{n}", "1-1", provides=(f"module = {n}",)) for n in (1, 2)]
    stopped = [
        Rpm("app", "2-1", installed_at=2_000_000_000),
        Rpm("app", "1-1"),
        Rpm("app", "1-1", arch="i686"),
    ]
    pretend(tmp_path, [*kernels, *modules, *stopped])

    found = graph("rpm", look_at(tmp_path, "rpm"))

    assert [
        (one["key"], one["version"], one["architecture"], one.get("location")) for one in found["nodes"]
    ] == [
        (KERNEL, "6.1-1", "noarch", "6.1-1"),
        (KERNEL, "6.2-1", "noarch", "6.2-1"),
        ("module1", "1-1", "noarch", None),
        ("module2", "1-1", "noarch", None),
        ("app", "2-1", "noarch", None),
        ("app", "1-1", "i686", None),
    ]
    assert found["edges"] == [
        f"Software/dnf/kernel/noarch/{version} DEPENDS_ON Software/dnf/module2/noarch/"
        for version in ("6.1-1", "6.2-1")
    ]


@pytest.mark.parametrize(
    ("files", "manager"),
    [
        ({}, "dnf"),
        ({"/etc/zypp/": ""}, "zypper"),
        ({"/etc/zypp/": "", "/etc/dnf/": "", "/etc/os-release": "ID=fedora\n"}, "dnf"),
        ({"/etc/zypp/": "", "/etc/dnf/": "", "/etc/os-release": "ID_LIKE=\"suse opensuse\"\n"}, "zypper"),
    ],
)  # fmt: skip
def test_packages_belong_to_the_manager_that_is_at_home(
    tmp_path: Path, files: dict[str, str], manager: str
) -> None:
    plant(tmp_path, {**files, "/var/lib/zypp/AutoInstalled": "# generated\n#\nlib\n"})
    pretend(tmp_path, [Rpm("app", "1-1", source="app-suite-1-1.src.rpm"), Rpm("lib", "1-1")])

    app, lib = graph("rpm", look_at(tmp_path, "rpm"))["nodes"]

    assert (app["manager"], app["source_package"], lib["manager"]) == (manager, "app-suite", manager)
    assert (app.get("requested"), lib.get("requested")) == (
        (True, False) if manager == "zypper" else (None, None)
    )


def test_a_package_that_was_there_before_the_history_of_libzypp_is_updated_and_not_installed(
    tmp_path: Path,
) -> None:
    plant(tmp_path, {"/etc/zypp/": "", HISTORY: ""})
    pretend(tmp_path, [Rpm("base", "1-1"), Rpm("other", "1-1")])
    first = look_at(tmp_path, "rpm")
    assert events(first) == []
    row = "2026-01-02 10:00:0{}|install|base|{}|noarch||repository|0ff|\n"
    plant(tmp_path, {HISTORY: "2026-01-02 10:00:00|radd   |repository|http://example.org|\n"})
    pretend(tmp_path, [Rpm("base", "1-1"), Rpm("other", "2-1")])
    second = look_at(tmp_path, "rpm", marks=first.marks)
    assert events(second) == []

    with (tmp_path / HISTORY.lstrip("/")).open("a") as history:
        history.write(row.format(1, "2-1") + row.format(2, "2-1") + row.format(3, "1-1"))
    found = brief(events(look_at(tmp_path, "rpm", marks=second.marks)))

    assert found == [
        ("update", "base", "1-1", "2-1"),
        ("reinstall", "base", "2-1", "2-1"),
        ("downgrade", "base", "2-1", "1-1"),
    ]


def test_lines_that_cannot_be_read_are_counted_and_said(tmp_path: Path) -> None:
    odd = {
        DNF_LOG: "2026-01-02T10:00:00Z SUBDEBUG Installed: nonsense\n2026-01-0\n said by a script\n",
        YUM_LOG: "Jan 01 10:00:00 Installed: app-1-1.noarch\nJan 0\nFoo 01 10:00:00 Installed: a-1-1.a\n",
        HISTORY: "2026-01-02 10:00:00|install|app\n2026-01-02 10:00:00|radd|x|y|\nnonsense\n# free\n",
    }
    plant(tmp_path, odd)
    pretend(tmp_path, [])

    look = look_at(tmp_path, "rpm")
    found = events(look)

    assert brief(found) == [("install", "app", None, "1-1")]
    assert {one.what: one.why[:2] for one in look.unobserved} == dict.fromkeys(odd, "2 ")
