"""dpkg's log and apt's history give the same events however they are cut into looks."""

import gc
import gzip
import json
import os
import random
import shutil
import subprocess
from collections import Counter
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
from univers.versions import DebianVersion

from tests.collectors.test_cases import look_at, plain, plant
from watchman_mcp.collectors import apt
from watchman_mcp.machine import apt_history
from watchman_mcp.machine.apt_history import Transaction
from watchman_mcp.machine.dpkg import STEP_LINES, Clock, DpkgLog, Step
from watchman_mcp.machine.logs import Line, Origin
from watchman_mcp.machine.versions.deb import compare as compare_versions
from watchman_mcp.schema.core import Record
from watchman_mcp.schema.packages import Software

STATUS = (
    "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.21\nDescription: it\n\n"
)
ZONE = ZoneInfo("Europe/Berlin")
BEGIN = datetime(2025, 10, 26, 0, 40, tzinfo=UTC)
"""Twenty minutes before summer time ended in Berlin."""
PACKAGES = [("lib", "amd64"), ("lib", "i386"), ("docs", "all"), ("tool", "amd64")]
KINDS = [
    "put",
    "down",
    "again",
    "by_hand",
    "remove",
    "purge",
    "fail",
    "undo",
    "killed",
    "configure",
    "back",
    "days",
]

PAIRS = 50_000 if os.environ.get("WATCHMAN_TEST_SOAK") == "full" else 300
EXAMPLES = 2000 if os.environ.get("WATCHMAN_TEST_SOAK") == "full" else 60

ORIGIN = Origin(1, 1, "", 0, None)
"""The file that lines without one are from."""

Told = tuple[str, str, str, str | None, str | None, str | None]


@dataclass
class Pending:
    before: str | None
    after: str
    command: str


@dataclass
class History:
    """A machine on which apt and dpkg do things, and what they write meanwhile, in order."""

    writes: list[tuple[str, str]] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    now: datetime = BEGIN
    serial: int = 0
    there: dict[int, str] = field(default_factory=dict)
    left: dict[int, str] = field(default_factory=dict)
    pending: dict[int, Pending] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)
    used: set[str] = field(default_factory=set)

    def stamp(self) -> str:
        text = self.now.astimezone(ZONE).strftime("%Y-%m-%d %H:%M:%S")
        self.used.add(text)
        return text

    def do(self, kind: str, place: int, gap: int) -> None:
        self.serial += 1
        self.now += timedelta(seconds=gap)
        # The hour that is there twice when summer time ends is never there thrice.
        if kind == "back" and self.now > BEGIN + timedelta(hours=4):
            self.now -= timedelta(seconds=4001)
        elif kind == "days":
            self.now += timedelta(days=3)
            self.pending.clear()
        while self.now.astimezone(ZONE).strftime("%Y-%m-%d %H:%M:%S") in self.used:
            self.now += timedelta(seconds=1)
        if kind not in ("back", "days"):
            getattr(self, kind)(place, gap % 2 == 0)
        self.now += timedelta(seconds=1)

    def put(self, place: int, slow: bool) -> None:
        self._version(place, f"1.{self.serial}", slow)

    def down(self, place: int, slow: bool) -> None:
        self._version(place, f"{self.there.get(place, '1')}~{self.serial}", slow)

    def _version(self, place: int, new: str, slow: bool) -> None:
        command = self._start(place, new)
        self._unpack(place, new)
        self.now += timedelta(seconds=slow)
        self._arrive(place, new, command)
        self._end()

    def again(self, place: int, slow: bool) -> None:
        if place not in self.there or place in self.broken:
            return
        version = self.there[place]
        for _ in range(2 + slow):
            command = self._start(place, version)
            self._unpack(place, version)
            self._arrive(place, version, command)
            self._end()
            self.serial += 1

    def by_hand(self, place: int, slow: bool) -> None:
        new = f"1.{self.serial}"
        self._dpkg("startup archives install")
        self._unpack(place, new)
        self._arrive(place, new, None)

    def remove(self, place: int, slow: bool) -> None:
        if place not in self.there:
            return
        version = self.there[place]
        command = self._start(place, None)
        self._dpkg("startup packages remove")
        self._take(place)
        if slow:
            self._dpkg(f"status not-installed {self._who(place)} <none>")
        else:
            self.left[place] = version
        self.told.append(("package_remove", *PACKAGES[place], None, version, command))
        self._end()

    def purge(self, place: int, slow: bool) -> None:
        who = self._who(place)
        if place not in self.there and place not in self.left:
            return
        command = self._start(place, None, "Purge") if slow else None
        self._dpkg("startup packages purge")
        version = self.there.get(place)
        shown = version or self.left[place]
        if version:
            self._take(place)
        self._dpkg(
            f"purge {who} {shown} <none>",
            f"status config-files {who} {shown}",
            f"status not-installed {who} <none>",
        )
        self.told.append(("package_purge", *PACKAGES[place], None, version, command))
        self.left.pop(place, None)
        if slow:
            self._end()

    def fail(self, place: int, slow: bool) -> None:
        self._stop(place)
        self.writes.append(("history", "Error: Sub-process /usr/bin/dpkg returned an error code (1)\n"))
        self._end()

    def killed(self, place: int, slow: bool) -> None:
        self._stop(place)

    def _stop(self, place: int) -> None:
        new = f"1.{self.serial}"
        pending = self.pending.get(place)
        before = pending.before if pending else self.there.get(place)
        command = self._start(place, new)
        self._unpack(place, new)
        self.there[place] = new
        self.pending[place] = Pending(before, new, command)
        self.broken.add(place)

    def undo(self, place: int, slow: bool) -> None:
        if place not in self.there or place in self.broken:
            return
        who, old, new = self._who(place), self.there[place], self.there[place] if slow else f"1.{self.serial}"
        self._start(place, new)
        self._dpkg(
            f"upgrade {who} {old} {new}",
            f"status half-configured {who} {old}",
            f"status installed {who} {old}",
        )
        self._end()

    def configure(self, place: int, slow: bool) -> None:
        self._dpkg("startup packages configure")
        for waiting in list(self.pending):
            one = self.pending[waiting]
            self._arrive(waiting, one.after, one.command)

    def _who(self, place: int) -> str:
        return ":".join(PACKAGES[place])

    def _dpkg(self, *lines: str) -> None:
        self.writes.append(("dpkg", "".join(f"{self.stamp()} {line}\n" for line in lines)))

    def _start(self, place: int, new: str | None, going: str = "Remove") -> str:
        name, arch = PACKAGES[place]
        old = self.there.get(place)
        versions = f"{old}, {new}" if old and new and old != new else new or old or ""
        word = going if not new else "Install" if not old else "Reinstall" if old == new else "Upgrade"
        at, command = self.stamp().replace(" ", "  "), f"apt-get {self.serial}"
        listed = f"{word}: {name}:{'amd64' if arch == 'all' else arch} ({versions})\n"
        self.writes.append(("history", f"\nStart-Date: {at}\nCommandline: {command}\n{listed}"))
        self._dpkg("startup archives unpack")
        return command

    def _end(self) -> None:
        self.writes.append(("history", f"End-Date: {self.stamp().replace(' ', '  ')}\n"))

    def _unpack(self, place: int, new: str) -> None:
        who, old = self._who(place), self.there.get(place)
        if old:
            self._dpkg(
                f"upgrade {who} {old} {new}",
                f"status half-configured {who} {old}",
                f"status unpacked {who} {old}",
            )
        else:
            self._dpkg(f"install {who} {self.left.pop(place, '<none>')} {new}")
        self._dpkg(f"status half-installed {who} {old or new}", f"status unpacked {who} {new}")

    def _arrive(self, place: int, new: str, command: str | None) -> None:
        who, pending = self._who(place), self.pending.pop(place, None)
        before = pending.before if pending else self.there.get(place)
        self._dpkg(
            f"configure {who} {new} <none>",
            f"status half-configured {who} {new}",
            f"status installed {who} {new}",
        )
        kind = "install" if before is None else "reinstall" if before == new else None
        kind = kind or ("downgrade" if "~" in new and new.startswith(before or "") else "update")
        kind = "update" if before and before.startswith(f"{new}~") else kind
        self.told.append((f"package_{kind}", *PACKAGES[place], before, new, command))
        self.there[place] = new
        self.broken.discard(place)

    def _take(self, place: int) -> None:
        who, version = self._who(place), self.there.pop(place)
        self.pending.pop(place, None)
        state = "half-configured" if place in self.broken else "installed"
        self.broken.discard(place)
        self._dpkg(f"status {state} {who} {version}", f"remove {who} {version} <none>")
        self._dpkg(f"status half-installed {who} {version}", f"status config-files {who} {version}")


@dataclass
class Disk:
    """The files of that machine."""

    root: Path
    held: int = apt.STEPS
    """So much of each log is held at a time."""
    marks: dict[str, object] = field(default_factory=dict)
    seen: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        links = {"/etc/localtime": "/usr/share/zoneinfo/Europe/Berlin"}
        plant(self.root, {apt.STATUS: STATUS, "/var/log/apt/": ""}, links)

    def path(self, stream: str) -> Path:
        return self.root / {"dpkg": apt.LOG, "history": apt.HISTORY}[stream].lstrip("/")

    def write(self, stream: str, content: bytes) -> None:
        with self.path(stream).open("ab") as file:
            file.write(content)

    def look(self) -> None:
        look = look_at(self.root, "apt", marks=json.loads(json.dumps(self.marks)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(apt, "STEPS", self.held)
            patch.setattr(apt, "RUNS", self.held)
            for seen in apt.collect(look):
                if isinstance(seen, Record):
                    self.seen.setdefault(seen.event.key, plain(seen.event))
        assert not look.unobserved
        self.marks = look.marks

    def rotate(self, stream: str, copy: bool) -> None:
        live = self.path(stream)
        if not live.exists() or not live.read_bytes().endswith(b"\n"):
            return
        for number in range(8, 0, -1):
            for suffix in ("", ".gz"):
                old = live.with_name(f"{live.name}.{number}{suffix}")
                if old.exists():
                    old.rename(live.with_name(f"{live.name}.{number + 1}{suffix}"))
        if copy:
            shutil.copyfile(live, live.with_name(f"{live.name}.1"))
            live.write_bytes(b"")
        else:
            live.rename(live.with_name(f"{live.name}.1"))
        if (second := live.with_name(f"{live.name}.2")).exists():
            live.with_name(f"{live.name}.2.gz").write_bytes(gzip.compress(second.read_bytes()))
            second.unlink()

    def settle(self, history: History) -> None:
        """dpkg's state says which packages were to leave their configuration files."""
        stanza = "Package: {}\nStatus: deinstall ok config-files\nArchitecture: {}\nDescription: it\n\n"
        left = "".join(stanza.format(*PACKAGES[place]) for place in history.left)
        (self.root / apt.STATUS.lstrip("/")).write_text(STATUS + left)


OPERATIONS = st.lists(
    st.tuples(st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 1200)), min_size=1, max_size=14
)
LOOKS = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.sampled_from(["", "", "dpkg", "history"]), st.booleans()),
    max_size=6,
)


@example(
    operations=[("put", 0, 2), ("again", 0, 2), ("again", 0, 1)], looks=[(0.5, 0.3, "dpkg", True)], held=1
)
@example(
    operations=[("put", 0, 2), ("killed", 0, 2), ("configure", 0, 1), ("back", 0, 0), ("put", 1, 2)],
    looks=[(0.7, 0.9, "", True)],
    held=2,
)
@pytest.mark.soak
@settings(max_examples=EXAMPLES)
@given(operations=OPERATIONS, looks=LOOKS, held=st.integers(1, 5))
def test_logs_read_in_any_pieces_through_any_rotation_tell_what_was_done(
    operations: list[tuple[str, int, int]], looks: list[tuple[float, float, str, bool]], held: int
) -> None:
    history = History()
    for operation in operations:
        history.do(*operation)
    pauses = {int(where * len(history.writes)): pause for where, *pause in looks}

    with TemporaryDirectory() as folder:
        whole, pieces = Disk(Path(folder, "whole")), Disk(Path(folder, "pieces"), held)
        for number, (stream, text) in enumerate(history.writes):
            whole.write(stream, text.encode())
            part = text.encode()
            if number in pauses:
                cut, rotated, copy = pauses[number]
                first = int(cut * len(part)) if stream == "dpkg" else 0
                pieces.write(stream, part[:first])
                pieces.look()
                if rotated:
                    pieces.rotate(rotated, copy)
                part = part[first:]
            pieces.write(stream, part)
        for disk in (whole, pieces):
            disk.settle(history)
            disk.look()

    assert pieces.seen == whole.seen
    columns = ("type", "package_name", "architecture", "previous", "version", "command")
    assert Counter(tuple(map(event.get, columns)) for event in whole.seen.values()) == Counter(history.told)


def _run(number: int) -> tuple[str, str]:
    """One run of apt, in apt's history and in dpkg's log."""
    at = datetime(2026, 1, 2) + timedelta(minutes=number)
    versions = f"1.{number} 1.{number + 1}"
    listed = versions.replace(" ", ", ")
    history = (
        f"Start-Date: {at:%Y-%m-%d  %H:%M:%S}\nCommandline: apt-get {number}\n"
        f"Upgrade: a:amd64 ({listed})\nEnd-Date: {at:%Y-%m-%d  %H:%M:%S}\n\n"
    )
    did = (f"upgrade a:amd64 {versions}", f"configure a:amd64 1.{number + 1} <none>")
    log = "".join(f"{at} {one}\n" for one in (*did, f"status installed a:amd64 1.{number + 1}"))
    return history, log


def test_of_two_long_logs_a_part_is_held_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    histories, logs = zip(*map(_run, range(3000)), strict=True)
    # Of the first half only apt's history tells.
    plant(tmp_path, {apt.STATUS: STATUS, apt.HISTORY: "".join(histories), apt.LOG: "".join(logs[1500:])})

    monkeypatch.setattr(apt, "STEPS", 100)
    found: list[str | None] = []
    most = 0
    for seen in apt.collect(look_at(tmp_path, "apt")):
        if isinstance(seen, Record):
            found.append(seen.event.command)
            if len(found) % 300 == 0:
                most = max(most, sum(isinstance(one, (Transaction, Step)) for one in gc.get_objects()))

    assert found == [f"apt-get {number}" for number in range(3000)]
    assert most < 1400


def test_a_run_of_apt_that_begins_during_a_look_is_the_reason_of_its_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "STEPS", 1)
    (first, begun), (second, did) = _run(0), _run(1)
    cut = second.index("Upgrade")
    rotated = f"{apt.LOG}.1"
    plant(tmp_path, {apt.STATUS: STATUS, apt.HISTORY: first + second[:cut], rotated: begun, apt.LOG: ""})
    look = look_at(tmp_path, "apt")

    told = (seen.event.command for seen in apt.collect(look) if isinstance(seen, Record))
    commands = [next(told)]
    with (tmp_path / apt.HISTORY.lstrip("/")).open("a") as history:
        history.write(second[cut:])
    with (tmp_path / apt.LOG.lstrip("/")).open("a") as log:
        log.write(did)

    assert [*commands, *told] == ["apt-get 0", "apt-get 1"]
    assert not look.unobserved


def test_a_run_that_a_wrong_clock_dated_too_late_hides_none_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "STEPS", 1)
    (first, begun), (late, _), (second, did) = map(_run, (0, 500_000, 1))
    plant(tmp_path, {apt.STATUS: STATUS, apt.HISTORY: first + late + second, apt.LOG: begun + did})

    records = [seen for seen in apt.collect(look_at(tmp_path, "apt")) if isinstance(seen, Record)]

    assert [record.event.command for record in records] == ["apt-get 0", "apt-get 1"]


def test_runs_after_the_clock_was_set_back_are_not_taken_for_past_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apt, "STEPS", 1)
    monkeypatch.setattr(apt_history, "KEPT_TRANSACTIONS", 0)
    histories, logs = zip(*map(_run, (0, 100, 101, 2, 3)), strict=True)
    plant(tmp_path, {apt.STATUS: STATUS, apt.HISTORY: "".join(histories), apt.LOG: "".join(logs)})

    records = [seen for seen in apt.collect(look_at(tmp_path, "apt")) if isinstance(seen, Record)]

    assert [record.event.command for record in records] == [f"apt-get {n}" for n in (0, 100, 101, 2, 3)]


def test_a_removal_after_which_the_package_is_installed_did_not_happen() -> None:
    lines = [
        "2026-01-02 10:00:00 remove a:amd64 1.0 <none>",
        "2026-01-02 10:00:00 status config-files a:amd64 1.0",
        "2026-01-02 10:00:00 status installed a:amd64 1.0",
    ]
    log = DpkgLog(ZONE)

    steps = list(log.steps(Line(line, number, ORIGIN) for number, line in enumerate(lines)))

    assert [*steps, *log.rest(frozenset({"a:amd64"}))] == []


@pytest.mark.parametrize("none", ["<none>", "<bat ere ez>", "<pas cap>", "<なし>"])
def test_what_stands_for_no_version_is_in_any_language_one_word(none: str) -> None:
    log = DpkgLog(ZONE)
    lines = (
        f"install app:amd64 {none} 1.0",
        f"configure app:amd64 1.0 {none}",
        "status installed app:amd64 1.0",
        f"purge app:amd64 1.0 {none}",
        f"status not-installed app:amd64 {none}",
    )

    steps = list(log.steps(Line(f"2026-01-01 10:00:00 {line}", 0, ORIGIN) for line in lines))

    assert [(step.action, step.before, step.after) for step in steps] == [
        ("install", None, "1.0"),
        ("purge", None, None),
    ]
    assert log.unreadable == 0


def test_a_step_open_for_too_many_lines_did_not_happen_and_holds_nothing() -> None:
    idle = "2026-01-02 10:00:01 trigproc man-db:amd64 2.11 <none>"
    opening = "2026-01-02 10:00:00 install a:amd64 <none> 1.0"
    closing = [
        "2026-01-02 10:00:02 configure a:amd64 1.0 <none>",
        "2026-01-02 10:00:02 status installed a:amd64 1.0",
    ]

    def read(*lines: str) -> tuple[list[Step], int]:
        log = DpkgLog(ZONE)
        steps = list(log.steps(Line(line, number, ORIGIN) for number, line in enumerate(lines)))
        place = log.place()
        assert place is not None
        return steps, place.line.start

    kept, held = read(opening, *[idle] * (STEP_LINES - 2), *closing), read(opening, *[idle] * STEP_LINES)
    lost, given_up = (
        read(opening, *[idle] * (STEP_LINES - 1), *closing),
        read(opening, *[idle] * (STEP_LINES + 1)),
    )

    assert [step.after for step in kept[0]] == ["1.0"]
    assert held == ([], 0)
    assert lost[0] == []
    assert given_up == ([], 1)


def test_what_history_told_alone_is_not_told_again_by_a_log_that_became_readable(tmp_path: Path) -> None:
    stanza = "Start-Date: 2026-01-02  10:00:00\nInstall: a:amd64 (1.0)\nEnd-Date: 2026-01-02  10:00:09\n"
    plant(tmp_path, {apt.STATUS: STATUS, apt.HISTORY: stanza, apt.LOG: None})
    hidden = look_at(tmp_path, "apt")
    alone = [seen.event for seen in apt.collect(hidden) if isinstance(seen, Record)]
    (tmp_path / apt.LOG.lstrip("/")).unlink()
    steps = [
        "10:00:01 install a:amd64 <none> 1.0",
        "10:00:01 status installed a:amd64 1.0",
        "10:00:02 install b:amd64 <none> 1.0",
        "10:00:02 status installed b:amd64 1.0",
    ]
    plant(tmp_path, {apt.LOG: "".join(f"2026-01-02 {step}\n" for step in steps)})

    open_look = look_at(tmp_path, "apt", marks=hidden.marks)
    after = [seen.event for seen in apt.collect(open_look) if isinstance(seen, Record)]

    assert [(event.package_name, event.source) for event in alone] == [("a", "apt")]
    assert [one.what for one in hidden.unobserved] == ["apt:/var/log/dpkg.log"]
    assert [(event.package_name, event.source) for event in after] == [("b", "dpkg")]
    assert not open_look.unobserved


def test_looking_again_at_an_unchanged_machine_tells_nothing_new(tmp_path: Path) -> None:
    history = History()
    for number, kind in enumerate(("put", "put", "again", "remove", "killed")):
        history.do(kind, number % 2, 2)
    disk = Disk(tmp_path)
    for stream, text in history.writes:
        disk.write(stream, text.encode())
    disk.look()
    seen, marks = dict(disk.seen), disk.marks

    disk.look()

    assert disk.seen == seen
    assert disk.marks == marks


NUMBERS = st.text("0123456789", min_size=1, max_size=3)
WORDS = st.text("abzAZ.+~0123456789", min_size=1, max_size=8)
VERSIONS = st.builds(
    lambda epoch, first, rest, revision: f"{epoch}{first}{rest}{revision}",
    st.sampled_from(["", "0:", "1:", "12:"]),
    NUMBERS,
    st.one_of(st.just(""), WORDS),
    st.one_of(st.just(""), WORDS.map("-{}".format)),
)


@given(one=VERSIONS, other=VERSIONS)
def test_versions_are_sorted_as_a_kept_library_sorts_them(one: str, other: str) -> None:
    first, second = DebianVersion(one), DebianVersion(other)

    assert compare_versions(one, other) == (first > second) - (first < second)


@pytest.mark.soak
def test_versions_are_sorted_as_dpkg_itself_sorts_50_000_pairs() -> None:
    chance = random.Random(5)
    pieces = ["0", "1", "2", "10", "00", "a", "b", "Z", "rc", "~", "+", ".", "~~", "deb12u", "-"]

    def version() -> str:
        upstream, revision = ("".join(chance.choices(pieces, k=chance.randint(0, 6))) for _ in range(2))
        revision = revision.replace("-", "")
        epoch = chance.choice(["", "", "0:", "1:", "12:"])
        return f"{epoch}1{upstream}0" + chance.choice(["", f"-{revision}0"])

    pairs = [(one := version(), chance.choice([one, one + "~", version()])) for _ in range(PAIRS)]
    words = {-1: "lt", 0: "eq", 1: "gt"}
    claims = "".join(f"{one} {words[compare_versions(one, other)]} {other}\n" for one, other in pairs)
    script = 'while read a is b; do dpkg --compare-versions "$a" "$is" "$b" || echo "$a $is $b"; done'

    wrong = subprocess.run(["sh", "-c", script], input=claims, capture_output=True, text=True, check=True)

    assert (wrong.stdout, wrong.stderr) == ("", "")


@pytest.mark.parametrize(("one", "other"), [("0:1.-0", "1.0"), ("1~-1", "1~0-1"), ("1.0a", "1.0a0")])
def test_a_number_that_is_not_there_is_zero(one: str, other: str) -> None:
    assert compare_versions(one, other) == 0


def test_versions_are_sorted_as_debian_policy_says() -> None:
    rising = [
        "1.0~~",
        "1.0~~a",
        "1.0~",
        "1.0",
        "1.0-1",
        "1.0-1+b1",
        "1.0a",
        "1.0+b",
        "1.0.1",
        "1.09",
        "1.10",
        "1:0.1",
    ]

    assert sorted(rising, key=cmp_to_key(compare_versions)) == rising
    assert compare_versions("1.0", "0:1.00-0") == 0
    assert compare_versions("9" * 5000, "1" + "0" * 5000) == -1


def test_a_clock_knows_the_second_pass_through_an_hour_only_once_it_went_back() -> None:
    clock = Clock(ZONE)

    moments = [
        clock.moment(f"2025-10-26 {time}")[0]
        for time in ("01:59:00", "02:30:00", "02:20:00", "02:40:00", "03:00:00")
    ]

    assert [moment.strftime("%d %H:%M") for moment in moments] == [
        "25 23:59",
        "26 00:30",
        "26 01:20",
        "26 01:40",
        "26 02:00",
    ]


@pytest.mark.real
@pytest.mark.skipif(not Path(apt.STATUS).exists(), reason="this machine has no dpkg")
def test_this_machine_has_the_packages_that_dpkg_counts() -> None:
    listed = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package}:${Architecture} ${Version} ${db:Status-Status}\n"],
        check=True, capture_output=True, text=True, timeout=60,
    ).stdout.splitlines()  # fmt: skip
    expected = {line for line in listed if not line.endswith((" config-files", " not-installed"))}

    found = [
        seen
        for seen in apt.read_status(Path(apt.STATUS).read_text(), apt.Known())
        if isinstance(seen, Software)
    ]

    assert {f"{one.key}:{one.architecture} {one.version} {one.state}" for one in found} == expected
