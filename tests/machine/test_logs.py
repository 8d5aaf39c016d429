import bz2
import gzip
import json
import lzma
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine import archives
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.logs import LogReading, Mark, read_log

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda content: gzip.compress(content, 1),
    ".xz": lambda content: lzma.compress(content, preset=0),
    ".bz2": lambda content: bz2.compress(content, 1),
}


class Log:
    """A log in a directory of its own, and the reader's mark in it."""

    def __init__(self, root: Path) -> None:
        self.directory = root
        self.live = root / "app.log"
        self.mark: Mark | None = None
        self.reading: LogReading | None = None

    def append(self, content: bytes, name: str = "app.log") -> None:
        with open(self.directory / name, "ab") as stream:
            stream.write(content)

    def rename(self, old: str, new: str) -> None:
        os.rename(self.directory / old, self.directory / new)

    def pack(self, name: str, suffix: str = ".gz") -> None:
        plain = self.directory / name
        (self.directory / f"{name}{suffix}").write_bytes(PACKERS[suffix](plain.read_bytes()))
        plain.unlink()

    def read(self, line_cap: int = 1 << 20) -> list[str]:
        self.reading = read_log(Files(self.directory), "/app.log", self.mark, line_cap)
        lines = [line.text for line in self.reading]
        # What is kept between two reads is text.
        self.mark = Mark.from_json(self.reading.mark.to_json()) if self.reading.mark else None
        return lines

    @property
    def problems(self) -> list[str]:
        assert self.reading is not None
        return self.reading.problems


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path)


def test_growth_is_read_once_and_an_unfinished_line_waits(log: Log) -> None:
    log.append(b"one\ntwo\nthr")
    assert log.read() == ["one", "two"]
    assert log.read() == []
    log.append(b"ee\n\nfive\n")
    assert log.read() == ["three", "", "five"]
    assert log.problems == []


def test_lines_keep_every_byte(log: Log) -> None:
    log.append(b"\xff\x00\x1b[2J\r\n")
    assert log.read() == ["\udcff\x00\x1b[2J\r"]


def test_the_first_read_starts_with_the_oldest_rotation(log: Log) -> None:
    for name, suffix in ((".10", ".gz"), (".3", ".xz"), (".2", ".bz2"), (".1", "")):
        log.append(f"in{name}\n".encode(), f"app.log{name}")
        if suffix:
            log.pack(f"app.log{name}", suffix)
    log.append(b"live\n")
    for other in ("app.log.txt", "app.logic", "app.log.1.gz.tmp", "app.log-old"):
        log.append(b"not part of it\n", other)
    (log.directory / "app.log.4").mkdir()

    assert log.read() == ["in.10", "in.3", "in.2", "in.1", "live"]
    assert log.problems == []


def test_dated_rotations_are_ordered_by_date(log: Log) -> None:
    for number, date in enumerate(("-20251231", "-20260101", "-2026010102", "-20261101")):
        log.append(f"{number}\n".encode(), f"app.log{date}")
        os.utime(log.directory / f"app.log{date}", (9 - number, 9 - number))
    log.pack("app.log-20251231")
    log.append(b"live\n")

    assert log.read() == ["0", "1", "2", "3", "live"]


def test_after_a_change_of_style_the_older_style_comes_first(log: Log) -> None:
    log.append(b"numbered\n", "app.log.1")
    log.append(b"dated\n", "app.log-20250101")
    os.utime(log.directory / "app.log.1", (1, 1))

    assert log.read() == ["numbered", "dated"]


@pytest.mark.parametrize("suffix", ["", ".gz", ".xz", ".bz2"])
def test_a_renamed_log_is_finished_before_the_new_one(log: Log, suffix: str) -> None:
    log.append(b"one\ntwo\nthr")
    assert log.read() == ["one", "two"]
    log.append(b"ee\nfour\nfi")
    log.rename("app.log", "app.log.1")
    if suffix:
        log.pack("app.log.1", suffix)
    log.append(b"six\n")

    assert log.read() == ["three", "four", "fi", "six"]
    assert log.read() == []


def test_several_rotations_while_away_lose_nothing(log: Log) -> None:
    log.append(b"1\n", "app.log.2")
    log.pack("app.log.2")
    log.append(b"2\n", "app.log.1")
    log.append(b"3\n")
    assert log.read() == ["1", "2", "3"]

    log.append(b"4\n")
    log.rename("app.log.2.gz", "app.log.4.gz")
    log.rename("app.log.1", "app.log.3")
    log.rename("app.log", "app.log.2")
    log.append(b"5\n", "app.log.1")
    log.pack("app.log.3")
    log.pack("app.log.2")
    log.append(b"6\n")

    assert log.read() == ["4", "5", "6"]


def test_when_the_marked_file_is_rotated_away_all_that_is_newer_is_read(log: Log) -> None:
    log.append(b"1\n")
    assert log.read() == ["1"]
    log.live.unlink()
    log.append(b"3\n", "app.log.1")
    log.append(b"4\n")

    assert log.read() == ["3", "4"]


def test_packing_after_the_read_is_not_a_new_file(log: Log) -> None:
    log.append(b"1\n")
    log.read()
    log.rename("app.log", "app.log.1")
    log.append(b"2\n")
    assert log.read() == ["2"]
    log.pack("app.log.1")
    assert log.read() == []
    log.rename("app.log.1.gz", "app.log.2.gz")
    log.rename("app.log", "app.log.1")
    log.pack("app.log.1")
    log.append(b"3\n")
    assert log.read() == ["3"]


def test_an_empty_live_file_is_a_place_too(log: Log) -> None:
    log.append(b"1\n", "app.log.1")
    log.append(b"")
    assert log.read() == ["1"]

    log.append(b"2\n")
    log.rename("app.log.1", "app.log.2")
    log.rename("app.log", "app.log.1")
    log.pack("app.log.1")
    log.append(b"3\n")

    assert log.read() == ["2", "3"]


def test_truncation_after_a_copy_reads_the_rest_from_the_copy(log: Log) -> None:
    log.append(b"one\ntwo\n")
    log.read()
    log.append(b"three\nfi")
    (log.directory / "app.log.1").write_bytes(log.live.read_bytes())
    os.truncate(log.live, 0)
    log.append(b"six and much more than there was before\n")

    assert log.read() == ["three", "fi", "six and much more than there was before"]
    assert log.read() == []


def test_a_copy_that_is_not_yet_followed_by_truncation_is_not_read_twice(log: Log) -> None:
    log.append(b"one\n")
    log.read()
    (log.directory / "app.log.1").write_bytes(log.live.read_bytes())
    log.append(b"two\n")
    assert log.read() == ["two"]


def test_truncation_without_a_copy_starts_at_the_beginning(log: Log) -> None:
    log.append(b"old\n", "app.log.1")
    log.append(b"one\ntwo\nthree\n")
    log.read()
    os.truncate(log.live, 0)
    assert log.read() == []
    log.append(b"four\n")
    assert log.read() == ["four"]


def test_an_empty_first_line_is_read_once(log: Log) -> None:
    log.append(b"\nx")
    assert log.read() == [""]
    log.append(b"\n")
    assert log.read() == ["x"]


def test_truncation_is_seen_although_the_log_begins_as_before(log: Log) -> None:
    log.append(b"head\n" * 200)
    log.read()
    (log.directory / "app.log.1").write_bytes(log.live.read_bytes() + b"rest\n")
    os.truncate(log.live, 0)
    log.append(b"head\n" * 110 + b"new\n")

    assert log.read() == ["rest", *["head"] * 110, "new"]


def test_a_rotation_that_was_taken_away_does_not_bring_older_ones_back(log: Log) -> None:
    for name in ("app.log.2", "app.log.1", "app.log"):
        log.append(f"{name}\n".encode(), name)
    assert log.read() == ["app.log.2", "app.log.1", "app.log"]
    (log.directory / "app.log.1").unlink()
    assert log.read() == []
    log.live.unlink()
    log.append(b"new\n")

    assert log.read() == ["new"]


def test_a_replaced_file_is_read_from_its_beginning(log: Log) -> None:
    log.append(b"one\ntwo\n")
    log.read()
    log.append(b"other\n", "new")
    log.rename("new", "app.log")

    assert log.read() == ["other"]


def test_a_log_that_is_gone_is_absent_and_its_return_is_read(log: Log) -> None:
    log.append(b"one\n")
    log.read()
    log.live.unlink()
    with pytest.raises(Absent, match=r"/app\.log is not on this machine"):
        log.read()
    log.append(b"two\n")
    assert log.read() == ["two"]


def test_a_writer_that_keeps_the_renamed_file_open_is_heard(log: Log) -> None:
    log.append(b"one\n")
    log.read()
    log.rename("app.log", "app.log.1")
    log.append(b"")
    assert log.read() == []
    log.append(b"late\n", "app.log.1")
    log.append(b"new\n")
    assert log.read() == ["late", "new"]
    log.append(b"later\n", "app.log.1")
    log.pack("app.log.1")
    assert log.read() == ["later"]
    assert log.read() == []


def test_a_log_whose_live_file_is_not_made_yet_is_followed(log: Log) -> None:
    log.append(b"one\n")
    log.read()
    log.append(b"two\n")
    log.rename("app.log", "app.log.1")
    assert log.read() == ["two"]
    assert log.read() == []
    log.append(b"three\n")
    assert log.read() == ["three"]


def test_a_packed_file_still_being_made_beside_its_source_is_left_out(log: Log) -> None:
    log.append(b"one\ntwo\n", "app.log.1")
    (log.directory / "app.log.1.gz").write_bytes(gzip.compress(b"one\ntwo\n")[:12])

    assert log.read() == ["one", "two"]
    assert log.problems == []


def test_any_line_is_a_place_to_read_from_again(log: Log) -> None:
    log.append(b"begin 1\nend 1\nbegin 2\nhalf\n", "app.log.1")
    log.append(b"quarter\n")
    reading = read_log(Files(log.directory), "/app.log")
    lines = list(reading)
    log.mark = next(line.mark for line in lines if line.text == "begin 2")

    log.append(b"end 2\n")
    log.rename("app.log.1", "app.log.2")
    log.rename("app.log", "app.log.1")
    log.pack("app.log.2", ".xz")

    assert log.read() == ["begin 2", "half", "quarter", "end 2"]
    for number, line in enumerate(lines):
        again = read_log(Files(log.directory), "/app.log", line.mark)
        assert [found.text for found in again][: len(lines) - number] == [
            rest.text for rest in lines[number:]
        ]


def test_a_reading_that_is_broken_off_knows_its_place(log: Log) -> None:
    log.append(b"one\ntwo\n", "app.log.1")
    log.append(b"three\n")
    reading = read_log(Files(log.directory), "/app.log")

    assert next(iter(reading)).text == "one"

    log.mark = reading.mark
    assert log.read() == ["two", "three"]


def test_rotation_during_the_read_loses_and_doubles_nothing(log: Log) -> None:
    log.append(b"1\n2\n", "app.log.1")
    log.append(b"3\n4\n")
    reading = read_log(Files(log.directory), "/app.log")
    seen = []
    for line in reading:
        seen.append(line.text)
        if line.text == "1":
            log.rename("app.log.1", "app.log.2")
            log.rename("app.log", "app.log.1")
            log.append(b"5\n")
        if line.text == "3":
            log.append(b"6\n")

    log.mark = reading.mark
    assert seen + log.read() == ["1", "2", "3", "4", "5", "6"]


def test_what_is_written_during_the_read_waits(log: Log) -> None:
    log.append(b"1\n2\n")
    reading = read_log(Files(log.directory), "/app.log")
    seen = []
    for line in reading:
        seen.append(line.text)
        log.append(b"more\n")

    assert seen == ["1", "2"]
    log.mark = reading.mark
    assert log.read() == ["more", "more"]


def test_overlong_lines_are_counted_and_left_out(log: Log) -> None:
    log.append(b"short\n" + b"x" * 101 + b"\n" + b"y" * 100 + b"\n" + b"z" * 400_000 + b"\nend\n")

    assert log.read(line_cap=100) == ["short", "y" * 100, "end"]
    assert log.reading is not None
    assert log.reading.overlong == 2


def test_an_endless_line_is_not_read_again_and_again(log: Log) -> None:
    log.append(b"one\n" + b"x" * 5000)
    assert log.read(line_cap=1000) == ["one"]
    assert log.mark is not None
    assert log.mark.offset == 5004
    log.append(b"x" * 5000 + b"\ntwo\n")
    assert log.read(line_cap=1000) == ["two"]


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2"])
def test_a_damaged_archive_is_a_problem_and_the_rest_is_read(log: Log, suffix: str) -> None:
    content = b"".join(b"%d %s\n" % (n, os.urandom(30).hex().encode()) for n in range(3000))
    packed = PACKERS[suffix](content)
    (log.directory / f"app.log.3{suffix}").write_bytes(packed[: len(packed) // 2])
    (log.directory / f"app.log.2{suffix}").write_bytes(packed[:90] + b"\0\xff" * 20 + packed[130:])
    log.append(b"live\n")

    lines = log.read()

    assert lines[-1] == "live"
    assert set(lines[:-1]) <= set(content.decode().splitlines())
    assert [problem.split()[0] for problem in log.problems] == [f"/app.log.3{suffix}", f"/app.log.2{suffix}"]
    assert log.read() == []
    assert log.problems == []


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".bz2"])
def test_a_bomb_is_stopped_early_in_small_memory(log: Log, suffix: str) -> None:
    content = b"\n" * 1000 + b"\0" * (64 << 20)
    packed = gzip.compress(content, 9) if suffix == ".gz" else PACKERS[suffix](content)
    (log.directory / f"app.log.1{suffix}").write_bytes(packed)
    log.append(b"live\n")

    tracemalloc.start()
    lines = log.read(line_cap=1 << 16)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert lines == [""] * 1000 + ["live"]
    assert "unpacks to far more" in log.problems[0]
    assert peak < 12 << 20


def test_an_archive_beyond_the_cap_is_read_up_to_it(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "OUTPUT_CAP", 1 << 20)
    content = b"".join(b"%s\n" % os.urandom(50).hex().encode() for _ in range(20_000))
    (log.directory / "app.log.1.gz").write_bytes(gzip.compress(content, 1))
    log.append(b"live\n")

    lines = log.read()

    assert 5_000 < len(lines) < 15_000
    assert lines[-1] == "live"
    assert "unpacks to far more" in log.problems[0]


def test_archives_of_several_members_and_padding_are_read(log: Log) -> None:
    for suffix, pack in PACKERS.items():
        name = log.directory / f"app.log.{len(suffix)}{suffix}"
        name.write_bytes(pack(b"a") + pack(b"b\n") + pack(b"") + b"\0" * 100_000)
    (log.directory / "app.log.1.gz").write_bytes(b"")

    assert log.read() == ["ab", "ab", "ab"]
    assert log.problems == []


def test_archives_of_any_size_are_read_to_their_end(log: Log) -> None:
    for size in range((256 << 10) - 20, (256 << 10) + 300, 7):
        (log.directory / "app.log.1.gz").write_bytes(gzip.compress(b"x" * size + b"\nend", 9))
        log.mark = None
        assert [len(line) for line in log.read()] == [size, 3]
        assert log.problems == []


def test_a_large_archive_is_read_in_small_memory(log: Log) -> None:
    with gzip.open(log.directory / "app.log.1.gz", "wb", 1) as stream:
        for number in range(200_000):
            stream.write(b"%d %d some words of an ordinary line\n" % (number, hash(number * 7919)))

    tracemalloc.start()
    count = sum(1 for _ in read_log(Files(log.directory), "/app.log"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 200_000
    assert peak < 6 << 20


def test_what_is_no_file_or_cannot_be_unpacked_here_is_a_problem(log: Log) -> None:
    os.mkfifo(log.directory / "app.log.3")
    log.append(b"?", "app.log.2.zst")
    log.append(b"live\n")

    assert log.read() == ["live"]
    assert [problem.split()[0] for problem in log.problems] == ["/app.log.3", "/app.log.2.zst"]


def test_a_log_of_which_nothing_can_be_read_raises(log: Log) -> None:
    os.mkfifo(log.live)
    with pytest.raises(Broken, match="FIFO"):
        log.read()


def test_a_log_in_no_directory_is_absent(log: Log) -> None:
    with pytest.raises(Absent):
        list(read_log(Files(log.directory), "/none/app.log"))


def test_unreadable_rotations_are_problems(log: Log, as_nobody: Callable[[Path, str], str]) -> None:
    log.append(b"one\n", "app.log.1")
    (log.directory / "app.log.1").chmod(0o600)
    log.append(b"two\n")
    log.directory.chmod(0o755)
    said = """
reading = read_log(Files(Path(".")), "/app.log")
print(attempt(lambda: [line.text for line in reading]), reading.problems)
"""

    assert as_nobody(log.directory, said).startswith("['two'] ['/app.log.1 may not be read by uid 65534")
    log.live.chmod(0o600)
    assert as_nobody(log.directory, said).startswith("Denied: /app.log.1 may not be read by uid 65534")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_log_that_is_a_link_of_another_user_is_not_followed(log: Log) -> None:
    log.append(b"secret\n", "shadow")
    log.live.symlink_to("shadow")
    os.lchown(log.live, 1234, -1)

    with pytest.raises(Denied, match="link made by uid 1234"):
        log.read()
    os.lchown(log.live, 0, -1)
    assert log.read() == ["secret"]
    log.append(b"more\n", "shadow")
    assert log.read() == ["more"]


@pytest.mark.parametrize(
    "text",
    ["", "[]", "null", "{}", "[" * 100_000, '{"inode":1}', '"x"']
    + [
        json.dumps(Mark(1, 2, 3, "f", 4).to_json() and fields)
        for fields in (
            {
                "inode": -1,
                "device": 2,
                "offset": 3,
                "fingerprint": "f",
                "fingerprint_size": 4,
                "before": None,
            },
            {
                "inode": "1",
                "device": 2,
                "offset": 3,
                "fingerprint": "f",
                "fingerprint_size": 4,
                "before": None,
            },
            {
                "inode": 1,
                "device": 2,
                "offset": True,
                "fingerprint": "f",
                "fingerprint_size": 4,
                "before": None,
            },
            {"inode": 1, "device": 2, "offset": 3, "fingerprint": 0, "fingerprint_size": 4, "before": None},
            {"inode": 1, "device": 2, "offset": 3, "fingerprint": "f", "fingerprint_size": 4, "before": 5},
        )
    ],
)
def test_a_damaged_mark_is_refused(text: str) -> None:
    with pytest.raises(Broken, match="read the log anew"):
        Mark.from_json(text)


def test_a_mark_survives_as_text() -> None:
    mark = Mark(1, 2, 3, "f", 4, Mark(5, 6, 7, "g", 8))

    assert Mark.from_json(mark.to_json()) == mark


class AnyHistory(RuleBasedStateMachine):
    """A logger and a log rotator at work, and a reader who comes by now and then."""

    made = 0

    @initialize(root=st.just(None))
    def begin(self, root: None) -> None:
        AnyHistory.made += 1
        directory = HISTORIES[0] / str(AnyHistory.made)
        directory.mkdir()
        self.log = Log(directory)
        self.log.append(b"")
        self.expected: list[str] = []
        self.seen: list[str] = []
        self.waiting = b""  # what the logger has yet to write of its last line
        self.partial = b""  # what stands at the end of the live file without a line end
        self.unread: set[str] = set()
        self.rotated: list[tuple[int, str]] = []  # number and suffix
        self.number = 0

    def finish_partial(self) -> None:
        """The logger goes on in a new file: what it had begun stays a line of its own."""
        if self.partial:
            self.expected.append(self.partial.decode("utf-8", "surrogateescape"))
        self.partial = self.waiting = b""

    @rule(words=st.binary(max_size=40), cut=st.floats(0, 1), times=st.integers(1, 30))
    def write(self, words: bytes, cut: float, times: int) -> None:
        for _ in range(times):
            self.number += 1
            line = b"%06d " % self.number + words.replace(b"\n", b" ")
            content = self.waiting + line + b"\n"
            if self.waiting or self.partial:
                first = self.partial + self.waiting[:-1]
                self.expected.append(first.decode("utf-8", "surrogateescape"))
            kept = len(line) + 1 - int(cut * len(line))
            content, self.waiting = content[: len(content) - kept], content[len(content) - kept :]
            self.partial = line[: len(line) + 1 - kept]
            self.log.append(content)

    @precondition(lambda self: self.waiting)
    @rule()
    def end_line(self) -> None:
        self.log.append(self.waiting)
        self.expected.append((self.partial + self.waiting[:-1]).decode("utf-8", "surrogateescape"))
        self.partial = self.waiting = b""

    def shift(self) -> None:
        self.rotated = [(number + 1, suffix) for number, suffix in self.rotated]
        for number, suffix in sorted(self.rotated, reverse=True):
            self.log.rename(f"app.log.{number - 1}{suffix}", f"app.log.{number}{suffix}")

    @rule(suffix=st.sampled_from(["", "", ".gz", ".xz"]))
    def rotate_by_name(self, suffix: str) -> None:
        self.shift()
        self.finish_partial()
        self.log.rename("app.log", "app.log.1")
        if suffix:
            self.log.pack("app.log.1", suffix)
        self.rotated.append((1, suffix))
        self.log.append(b"")

    @rule(suffix=st.sampled_from(["", "", ".bz2"]))
    def rotate_by_copy(self, suffix: str) -> None:
        self.shift()
        self.finish_partial()
        (self.log.directory / "app.log.1").write_bytes(self.log.live.read_bytes())
        os.truncate(self.log.live, 0)
        if suffix:
            self.log.pack("app.log.1", suffix)
        self.rotated.append((1, suffix))

    @precondition(lambda self: any(not suffix for _, suffix in self.rotated))
    @rule(suffix=st.sampled_from(sorted(PACKERS)), which=st.integers(0, 5))
    def pack_later(self, suffix: str, which: int) -> None:
        plain = [number for number, packed in self.rotated if not packed]
        number = plain[which % len(plain)]
        self.log.pack(f"app.log.{number}", suffix)
        self.rotated[self.rotated.index((number, ""))] = (number, suffix)

    @rule()
    def read(self) -> None:
        self.seen += self.log.read()
        assert self.log.problems == []
        assert self.seen == self.expected

    def all_read(self) -> bool:
        return self.seen == self.expected and not self.partial

    @precondition(lambda self: self.rotated)
    @rule()
    def drop_oldest(self) -> None:
        assume(self.all_read())
        number, suffix = max(self.rotated)
        self.rotated.remove((number, suffix))
        (self.log.directory / f"app.log.{number}{suffix}").unlink()

    @rule()
    def truncate(self) -> None:
        assume(self.all_read())
        os.truncate(self.log.live, 0)

    @invariant()
    def nothing_is_doubled_or_lost(self) -> None:
        if getattr(self, "seen", None):
            assert self.seen == self.expected[: len(self.seen)]


HISTORIES: list[Path] = []


@pytest.fixture
def histories(tmp_path: Path) -> Path:
    HISTORIES[:] = [tmp_path]
    return tmp_path


@pytest.mark.usefixtures("histories")
def test_any_history_of_a_log_gives_each_complete_line_once_and_in_order() -> None:
    from hypothesis.stateful import run_state_machine_as_test

    full = os.environ.get("WATCHMAN_TEST_SOAK") == "full"
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        AnyHistory,
        settings=settings(
            max_examples=2000 if full else 60,
            stateful_step_count=40,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
