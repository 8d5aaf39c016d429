"""pacman's log gives the same events however it is cut into looks; versions are sorted as by pacman."""

import ctypes
import ctypes.util
import gzip
import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cmp_to_key
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from univers.versions import ArchLinuxVersion

from tests.collectors.test_cases import graph, look_at, plain, plant
from tests.rigs import cache
from watchman_mcp.collectors import load
from watchman_mcp.errors import Broken
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.logs import Line, Origin
from watchman_mcp.machine.pacman import read_configuration
from watchman_mcp.machine.pacman_log import RUN_LINES, Change, PacmanLog
from watchman_mcp.machine.pacman_repositories import configuration
from watchman_mcp.machine.versions.alpm import compare
from watchman_mcp.schema.core import Record

FULL = os.environ.get("WATCHMAN_TEST_SOAK") == "full"
EXAMPLES = 600 if FULL else 60
ZONE = ZoneInfo("Europe/Berlin")
BEGIN = datetime(2025, 10, 26, 0, 40, tzinfo=UTC)
"""Twenty minutes before summer time ended in Berlin."""
DATABASE = "/var/lib/pacman/local"
LOG = "/var/log/pacman.log"
ORIGIN = Origin(1, 1, "", 0, None)


def entry(name: str, version: str, **more: str) -> dict[str, str | None]:
    """A package in the local database."""
    fields = {"NAME": name, "VERSION": version, **more}
    text = "".join(f"%{field}%\n{value}\n\n" for field, value in fields.items())
    return {f"{DATABASE}/ALPM_DB_VERSION": "9\n", f"{DATABASE}/{name}-{version}/desc": text}


@dataclass
class Disk:
    """A machine with one log, which is written, rotated and read in pieces."""

    root: Path
    collector: str
    log: str
    state: dict[str, str | None]
    marks: dict[str, object] = field(default_factory=dict)
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        links = {"/etc/localtime": "/usr/share/zoneinfo/Europe/Berlin"}
        plant(self.root, {**self.state, f"{Path(self.log).parent}/": ""}, links)

    @property
    def path(self) -> Path:
        return self.root / self.log.lstrip("/")

    def write(self, content: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(content)

    def look(self) -> None:
        look = look_at(self.root, self.collector, marks=json.loads(json.dumps(self.marks)))
        (collector,) = (one for one in load() if one.name == self.collector)
        for seen in collector.collect(look):
            if isinstance(seen, Record):
                self.seen.setdefault(seen.event.key, plain(seen.event))
        assert not look.unobserved
        self.marks = look.marks

    def rotate(self, kind: str) -> None:
        live = self.path
        if not live.exists() or not live.read_bytes().endswith(b"\n"):
            return
        for number in range(8, 0, -1):
            for suffix in ("", ".gz"):
                old = live.with_name(f"{live.name}.{number}{suffix}")
                if old.exists():
                    old.rename(live.with_name(f"{live.name}.{number + 1}{suffix}"))
        if kind == "copy":
            shutil.copyfile(live, live.with_name(f"{live.name}.1"))
            live.write_bytes(b"")
        else:
            live.rename(live.with_name(f"{live.name}.1"))
        if (second := live.with_name(f"{live.name}.2")).exists():
            live.with_name(f"{live.name}.2.gz").write_bytes(gzip.compress(second.read_bytes()))
            second.unlink()


Cuts = list[tuple[float, str]]
CUTS = st.lists(st.tuples(st.floats(0, 1), st.sampled_from(["", "", "move", "copy"])), max_size=6)


def read_in_pieces(text: bytes, cuts: Cuts, make: Callable[[Path], Disk]) -> tuple[Disk, Disk]:
    """The same log read once, and read at each of these cuts with the log rotated there."""
    with TemporaryDirectory() as folder:
        whole, pieces = make(Path(folder, "whole")), make(Path(folder, "pieces"))
        whole.write(text)
        at = 0
        for where, rotation in sorted((int(cut * len(text)), rotation) for cut, rotation in cuts):
            pieces.write(text[at:where])
            pieces.look()
            at = where
            if rotation:
                pieces.rotate(rotation)
        pieces.write(text[at:])
        for disk in (whole, pieces):
            disk.look()
    return whole, pieces


@dataclass
class History:
    """A machine on which pacman and others do things, and what they write meanwhile."""

    lines: list[str] = field(default_factory=list)
    told: list[tuple[str, str, str | None, str | None, str | None]] = field(default_factory=list)
    now: datetime = BEGIN
    style: int = 0
    serial: int = 0
    there: dict[str, int] = field(default_factory=dict)

    def stamp(self) -> str:
        local = self.now.astimezone(ZONE)
        return local.strftime("%Y-%m-%d %H:%M") if self.style < 2 else local.strftime("%Y-%m-%dT%H:%M:%S%z")

    def log(self, said: str, caller: str = "ALPM") -> None:
        self.lines.append(f"[{self.stamp()}] " + (f"[{caller}] {said}" if self.style else said) + "\n")

    def do(self, kind: str, name: str, gap: int) -> None:
        self.serial += 1
        self.now += timedelta(seconds=gap)
        if kind == "modern":
            self.style = min(self.style + 1, 2)
        elif kind == "sync":
            self.log("Running 'pacman -Sy'", "PACMAN")
        elif kind == "other":
            self.log("synchronizing package lists", "PAMAC")
            self.transaction(name, None, gap)
        elif kind == "killed":
            command = self.run()
            self.log("transaction started")
            self.put(name, command)
        else:
            self.transaction(name, self.run(), gap)

    def run(self) -> str:
        command = f"pacman -S {self.serial}"
        self.log(f"Running '{command}'", "PACMAN")
        return command

    def transaction(self, name: str, command: str | None, gap: int) -> None:
        if not self.style and command is None:
            return  # of that time there is no other program
        if self.style:
            self.log("transaction started")
        for _ in range(1 + gap % 3):
            self.put(name, command)
            self.now += timedelta(seconds=gap % 5)
            name = chr(ord(name) + 1)
        if self.style:
            self.log(("transaction completed", "transaction failed")[gap % 7 == 0])
            self.log("running '30-update.hook'...")

    def put(self, name: str, command: str | None) -> None:
        before = self.there.get(name)
        if before is None:
            self.there[name] = 5
            self.log(f"installed {name} (5-1)")
            self.told.append(("package_install", name, None, "5-1", command))
            if self.style:
                self.log(f"[{self.stamp()}] [ALPM] removed {name} (5-1)", "ALPM-SCRIPTLET")
        elif self.serial % 4 == 0:
            del self.there[name]
            self.log(f"removed {name} ({before}-1)")
            self.told.append(("package_remove", name, None, f"{before}-1", command))
        else:
            after = self.there[name] = before + self.serial % 4 - 2
            kind = ("downgrade", "reinstall", "update")[self.serial % 4 - 1]
            verb = (
                ("downgraded", "reinstalled", "upgraded")[self.serial % 4 - 1] if self.style else "upgraded"
            )
            if verb == "upgraded" and self.style:
                self.log(f"warning: /etc/{name} installed as /etc/{name}.pacnew")
            again = verb == "reinstalled"
            self.log(f"{verb} {name} ({after}-1)" if again else f"{verb} {name} ({before}-1 -> {after}-1)")
            self.told.append((f"package_{kind}", name, f"{before}-1", f"{after}-1", command))


KINDS = ["run", "run", "run", "other", "killed", "sync", "modern"]
OPERATIONS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.sampled_from("abc"), st.integers(0, 1200)), min_size=1, max_size=14
)


@pytest.mark.soak
@settings(max_examples=EXAMPLES)
@given(operations=OPERATIONS, cuts=CUTS)
@example(operations=[("run", "a", 0), ("run", "a", 0), ("run", "a", 1)], cuts=[(0.3, "move"), (0.7, "copy")])
@example(operations=[("modern", "a", 0), ("sync", "a", 0), ("other", "a", 1)], cuts=[(0.5, "")])
def test_a_log_read_in_any_pieces_through_any_rotation_tells_what_was_done(
    operations: list[tuple[str, str, int]], cuts: Cuts
) -> None:
    history = History()
    for operation in operations:
        history.do(*operation)

    whole, pieces = read_in_pieces(
        "".join(history.lines).encode(), cuts, lambda root: Disk(root, "pacman", LOG, entry("a", "1-1"))
    )

    assert pieces.seen == whole.seen
    columns = ("type", "package_name", "previous", "version", "command")
    changes = [event for event in whole.seen.values() if event["type"].startswith("package_")]
    assert [tuple(map(event.get, columns)) for event in changes] == history.told
    kept = [event for event in whole.seen.values() if event["type"] == "config_pacnew"]
    assert [event["subject"] for event in kept] == [
        line.split()[-1] for line in history.lines if line.endswith(".pacnew\n")
    ]


def read(*lines: str) -> tuple[list[Change], PacmanLog]:
    log = PacmanLog(ZONE)
    return list(log.changes(Line(line, number, ORIGIN) for number, line in enumerate(lines))), log


SAID = "installed upgraded removed a (1-1) (1-1 -> 2-1) Running 'pacman x' transaction started completed"
WORDS = st.sampled_from([*SAID.split(), "error:", "warning:", "/etc/a", "as", "/etc/a.pacnew", "[ALPM]", ""])
LEADERS = st.sampled_from(
    [
        "[2024-01-01T10:00:00+0000] ",
        "[2024-01-01 10:00] ",
        "[01/01/24 10:00] ",
        "[2024-99-01 10:00] ",
        "[",
        "",
    ]
)
CALLERS = st.sampled_from(["[ALPM] ", "[PACMAN] ", "[ALPM-SCRIPTLET] ", "[PAMAC] ", "[", ""])
LINES = st.one_of(
    st.text(max_size=40),
    st.builds(
        lambda time, who, words: time + who + " ".join(words), LEADERS, CALLERS, st.lists(WORDS, max_size=6)
    ),
)


def test_a_run_that_never_ends_is_given_up_and_its_command_forgotten() -> None:
    running = "[2024-01-01T10:00:00+0000] [PACMAN] Running 'pacman -S a'"
    script = "[2024-01-01T10:00:01+0000] [ALPM-SCRIPTLET] and on it goes"
    soon, held = read(running, script, "[2024-01-01T10:00:02+0000] [ALPM] installed a (1-1)")
    many, given_up = read(
        running, *[script] * (RUN_LINES + 1), "[2024-01-01T10:00:02+0000] [ALPM] installed a (1-1)"
    )
    late, _ = read(running, script, "[2024-01-03T10:00:02+0000] [ALPM] installed a (1-1)")

    assert [one.command for one in soon + many + late] == ["pacman -S a", None, None]
    first, last = held.place(), given_up.place()
    assert first and first.line.start == 0
    assert last and last.line.start == RUN_LINES + 2


def test_a_run_that_upgrades_keys_first_goes_on_with_all_others() -> None:
    at = "[2024-01-01T10:00:00+0000]"
    found, log = read(
        f"{at} [PACMAN] Running 'pacman -Syu'",
        f"{at} [PACMAN] starting full system upgrade",
        f"{at} [ALPM] transaction started",
        f"{at} [ALPM] upgraded keyring (1-1 -> 2-1)",
        f"{at} [ALPM] transaction completed",
        f"{at} [PACMAN] starting full system upgrade",
        f"{at} [ALPM] transaction started",
        f"{at} [ALPM] upgraded app (1-1 -> 2-1)",
        f"{at} [ALPM] transaction completed",
        f"{at} [ALPM] transaction started",
        f"{at} [ALPM] installed by-another-program (1-1)",
    )

    assert [(one.name, one.command) for one in found] == [
        ("keyring", "pacman -Syu"),
        ("app", "pacman -Syu"),
        ("by-another-program", None),
    ]
    assert found[0].run == found[1].run != found[2].run
    place = log.place()
    assert place and place.line.start == 0


def test_the_second_line_of_a_warning_about_a_directory_is_part_of_it() -> None:
    found, log = read(
        "[2024-01-01T10:00:00+0000] [ALPM] warning: directory permissions differ on /var/lib/app/",
        "filesystem: 755  package: 700",
        "filesystem: no such line",
        "[2024-01-01T10:00:00+0000] [ALPM] installed app (1-1)",
    )

    assert ([one.name for one in found], log.unreadable) == (["app"], 1)


def test_looking_again_at_an_unchanged_machine_tells_nothing_new(tmp_path: Path) -> None:
    disk = Disk(tmp_path, "pacman", LOG, entry("a", "1-1"))
    disk.write(b"[2024-01-01T10:00:00+0000] [ALPM] installed a (1-1)\n" * 2)
    disk.look()
    seen, marks = dict(disk.seen), disk.marks

    disk.look()

    assert (disk.seen, disk.marks) == (seen, marks)
    assert len(seen) == 2


def some_version(chance: random.Random) -> str:
    pieces = ["0", "1", "2", "10", "01", "a", "b", "rc", "beta", ".", "_", "+", "~", "..", "-", "9", "é", ":"]
    middle = "".join(chance.choices(pieces, k=chance.randint(0, 6)))
    return (
        chance.choice(["", "", "", "1:", "0:", ":", "2:"]) + middle + chance.choice(["", "-1", "-2", "-1.1"])
    )


def pairs(seed: int, count: int) -> list[tuple[str, str]]:
    """Versions, each beside another one or beside itself with a sign changed."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        one = some_version(chance)
        place = chance.randint(0, len(one))
        near = (
            one[:place] + chance.choice(["", "0", "1", "a", ".", "-"]) + one[place + chance.randint(0, 1) :]
        )
        found.append((one, chance.choice([near, some_version(chance)])))
    return found


@pytest.mark.real
def test_versions_are_sorted_as_pacman_s_own_library_sorts_them() -> None:
    name = ctypes.util.find_library("alpm")
    if name is None:
        cache.missing("pacman's library", "apt-get install pacman-package-manager")
    native = ctypes.CDLL(name).alpm_pkg_vercmp
    native.argtypes = [ctypes.c_char_p, ctypes.c_char_p]

    def sign(one: str, other: str) -> int:
        order = native(one.encode(), other.encode())
        return (order > 0) - (order < 0)

    wrong = [pair for pair in pairs(1, 50_000) if compare(*pair) != sign(*pair)]

    assert wrong == []


NUMBERS = st.text("0123456789", min_size=1, max_size=3)
RELEASED = st.builds(
    "{}{}{}-{}".format,
    st.sampled_from(["", "0:", "1:"]),
    NUMBERS,
    st.text("ab.0123456789", max_size=6),
    NUMBERS,
)


@given(one=RELEASED, other=RELEASED)
def test_versions_are_sorted_as_a_kept_library_sorts_them(one: str, other: str) -> None:
    first, second = ArchLinuxVersion(one), ArchLinuxVersion(other)

    assert compare(one, other) == (first > second) - (first < second)


def test_versions_are_sorted_as_pacman_s_manual_says() -> None:
    rising = ["1.0a", "1.0b", "1.0beta", "1.0p", "1.0pre", "1.0rc", "1.0", "1.0.a", "1.0.1", "1.1", "1:0.1"]

    assert sorted(rising, key=cmp_to_key(compare)) == rising
    assert compare("1.0", "1.0-7") == 0
    assert compare("9" * 5000, "1" + "0" * 5000) == -1


def test_repositories_stand_where_the_configuration_includes_them(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "/etc/pacman.conf": "[options]\nInclude = /etc/more.conf\n"
            "[core]\nInclude = /etc/pacman.d/mirrors\n"
            "Include=/etc/pacman.d/*.conf\nInclude = /etc/none\n[extra]\nUsage = Sync Search\n"
            "[last]\nUsage = All\n",
            "/etc/more.conf": "IgnorePkg = linux\n",
            "/etc/pacman.d/mirrors": "Server = https://example.org/$repo\n",
            "/etc/pacman.d/b.conf": "[second]\n",
            "/etc/pacman.d/a.conf": "[first]\nUsage = Install\nUsage = Upgrade\n",
            "/etc/pacman.d/.c.conf": "[hidden]\n",
        },
    )

    found = read_configuration(configuration(Files(tmp_path), "/etc/pacman.conf"))

    assert found.held == ("linux",)
    assert found.repositories == ("core", "first", "second", "last")


def test_a_configuration_that_includes_itself_comes_to_an_end(tmp_path: Path) -> None:
    plant(tmp_path, {"/etc/pacman.conf": "Include = /etc/pacman.conf\n" * 9})

    with pytest.raises(Broken):
        configuration(Files(tmp_path), "/etc/pacman.conf")


def test_a_list_of_files_that_came_after_its_package_is_read(tmp_path: Path) -> None:
    plant(tmp_path, {**entry("app", "1-1"), LOG: ""})
    marks: dict[str, object] = {}
    first = graph("pacman", look_at(tmp_path, "pacman", marks=marks))
    files = "%FILES%\nusr/\nusr/lib/systemd/system/app.service\n\n%BACKUP%\netc/app.conf\td41d8\n"
    (tmp_path / f"{DATABASE}/app-1-1/files".lstrip("/")).write_text(files)
    (tmp_path / LOG.lstrip("/")).write_text("[2026-01-01T10:00:00+0000] [ALPM] installed app (1-1)\n")

    second = graph("pacman", look_at(tmp_path, "pacman", marks=marks))

    assert "edges" not in first
    assert second["edges"] == [
        "Software/pacman/app// PROVIDES Service/systemd/app",
        "Software/pacman/app// OWNS ConfigFile/%2Fetc%2Fapp.conf",
    ]
