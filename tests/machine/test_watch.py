import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from watchman_mcp.machine.watch import changes

pytestmark = pytest.mark.anyio


class Reports:
    """What was reported, and when."""

    def __init__(self, source: AsyncIterator[set[str]]) -> None:
        self._source = source
        self.times: list[float] = []

    async def next(self, seconds: float = 5) -> set[str]:
        with anyio.fail_after(seconds):
            report = await anext(self._source)
        self.times.append(time.monotonic())
        return report

    async def silence(self) -> None:
        """The time after a report in which no other may come is over."""
        await anyio.sleep_until(anyio.current_time() + 0.5 if len(self.times) > 1 else 0)

    async def until(self, path: str, seconds: float = 8) -> None:
        with anyio.fail_after(seconds):
            while path not in await self.next(seconds):
                pass

    async def quiet(self, seconds: float = 0.6) -> None:
        """Nothing is reported; a report that is cut off here ends the watch."""
        with anyio.move_on_after(seconds):
            report = await anext(self._source)
            pytest.fail(f"reported {report}")


@asynccontextmanager
async def watching(root: Path, *paths: str) -> AsyncIterator[Reports]:
    source = changes(root, lambda: frozenset(paths))
    try:
        reports = Reports(source)
        assert await reports.next() == set()
        yield reports
    finally:
        await source.aclose()  # type: ignore[attr-defined]


def write(root: Path, path: str, text: str = "x") -> Path:
    real = root / path.lstrip("/")
    real.parent.mkdir(parents=True, exist_ok=True)
    real.write_text(text)
    return real


async def test_a_written_file_is_reported_within_300_ms(tmp_path: Path) -> None:
    write(tmp_path, "/etc/hosts")
    write(tmp_path, "/etc/passwd")
    delays = []
    async with watching(tmp_path, "/etc/hosts", "/etc/passwd") as reports:
        for path in ("/etc/hosts", "/etc/passwd", "/etc/hosts"):
            await reports.silence()
            began = time.monotonic()
            write(tmp_path, path, f"new at {began}")

            assert await reports.next() == {path}
            delays.append(reports.times[-1] - began)

    assert min(delays) < 0.3, delays


async def test_a_file_renamed_over_another_is_its_change(tmp_path: Path) -> None:
    write(tmp_path, "/var/lib/dpkg/status")
    async with watching(tmp_path, "/var/lib/dpkg/status") as reports:
        os.rename(write(tmp_path, "/var/lib/dpkg/status-new"), tmp_path / "var/lib/dpkg/status")
        assert await reports.next() == {"/var/lib/dpkg/status"}

        os.rename(write(tmp_path, "/var/lib/dpkg/status-new"), tmp_path / "var/lib/dpkg/status")
        assert await reports.next() == {"/var/lib/dpkg/status"}


async def test_neighbours_and_grandchildren_are_not_reported(tmp_path: Path) -> None:
    write(tmp_path, "/etc/hosts")
    write(tmp_path, "/log/deep/file")
    async with watching(tmp_path, "/etc/hosts", "/log") as reports:
        write(tmp_path, "/etc/other")
        write(tmp_path, "/log/deep/file", "more")
        (tmp_path / "etc/hosts").read_text()

        await reports.quiet()


async def test_anything_directly_in_a_directory_is_its_change(tmp_path: Path) -> None:
    write(tmp_path, "/log/a")
    async with watching(tmp_path, "/log") as reports:
        write(tmp_path, "/log/a", "more")
        assert await reports.next() == {"/log"}
        (tmp_path / "log/a").unlink()
        assert await reports.next() == {"/log"}


async def test_what_appears_vanishes_and_appears_again_is_reported(tmp_path: Path) -> None:
    async with watching(tmp_path, "/var/lib/new/status") as reports:
        write(tmp_path, "/var/lib/new/status")
        await reports.until("/var/lib/new/status", 2)
        write(tmp_path, "/var/lib/new/status", "more")
        assert await reports.next(2) == {"/var/lib/new/status"}
        shutil.rmtree(tmp_path / "var/lib")
        await reports.until("/var/lib/new/status", 2)
        write(tmp_path, "/var/lib/new/status")
        await reports.until("/var/lib/new/status", 2)
        write(tmp_path, "/var/lib/new/status", "even more")
        assert await reports.next(2) == {"/var/lib/new/status"}


async def test_a_directory_made_anew_at_once_is_still_watched(tmp_path: Path) -> None:
    write(tmp_path, "/log/a")
    async with watching(tmp_path, "/log", "/log/a") as reports:
        for _ in range(3):
            shutil.rmtree(tmp_path / "log")
            write(tmp_path, "/log/a")
            assert await reports.next(2) == {"/log", "/log/a"}
        write(tmp_path, "/log/a", "more")
        assert await reports.next(2) == {"/log", "/log/a"}


async def test_a_directory_that_is_renamed_away_and_replaced_is_still_watched(tmp_path: Path) -> None:
    write(tmp_path, "/a/b/file")
    async with watching(tmp_path, "/a/b/file") as reports:
        os.rename(tmp_path / "a", tmp_path / "moved")  # no directory that is watched sees this
        write(tmp_path, "/a/b/file", "new")
        await reports.until("/a/b/file")
        write(tmp_path, "/a/b/file", "newer")
        assert await reports.next(2) == {"/a/b/file"}


async def test_a_file_is_watched_where_its_link_leads(tmp_path: Path) -> None:
    write(tmp_path, "/run/resolve/stub.conf")
    write(tmp_path, "/run/other/stub.conf", "other")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/resolv.conf").symlink_to("/run/resolve/stub.conf")
    async with watching(tmp_path, "/etc/resolv.conf") as reports:
        write(tmp_path, "/run/resolve/stub.conf", "more")
        assert await reports.next(2) == {"/etc/resolv.conf"}

        (tmp_path / "etc/new").symlink_to("/run/other/stub.conf")
        os.rename(tmp_path / "etc/new", tmp_path / "etc/resolv.conf")
        assert await reports.next(2) == {"/etc/resolv.conf"}

        write(tmp_path, "/run/other/stub.conf", "even more")
        assert await reports.next(2) == {"/etc/resolv.conf"}


async def test_a_storm_gives_two_reports_a_second(tmp_path: Path) -> None:
    write(tmp_path, "/log/a")
    done = threading.Event()

    def storm() -> None:
        number = 0
        while not done.is_set():
            number += 1
            write(tmp_path, f"/log/{number % 500}")

    async with watching(tmp_path, "/log") as reports:
        thread = threading.Thread(target=storm)
        thread.start()
        try:
            for _ in range(5):
                assert await reports.next() == {"/log"}
        finally:
            done.set()
            await anyio.to_thread.run_sync(thread.join)

    gaps = [later - earlier for earlier, later in zip(reports.times[1:], reports.times[2:], strict=False)]
    assert all(0.45 < gap < 1.5 for gap in gaps), gaps


async def test_changes_while_the_caller_is_busy_are_not_lost(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path, f"/etc/{name}")
    async with watching(tmp_path, "/etc/a", "/etc/b", "/etc/c") as reports:
        write(tmp_path, "/etc/a", "new")
        seen = await reports.next()
        write(tmp_path, "/etc/b", "new")
        write(tmp_path, "/etc/c", "new")
        seen |= await reports.next()

        assert seen == {"/etc/a", "/etc/b", "/etc/c"}


async def test_names_that_are_not_text_blind_nobody(tmp_path: Path) -> None:
    write(tmp_path, "/log/a")
    odd = os.fsencode(tmp_path) + b"/log/\xff\xfe"
    async with watching(tmp_path, "/log", "/log/a", "/\udcff/file") as reports:
        Path(os.fsdecode(odd)).write_text("x")
        assert "/log" in await reports.next(2)
        write(tmp_path, "/log/a", "more")
        assert {"/log", "/log/a"} <= await reports.next(2)
        write(tmp_path, "/log/a", "even more")
        assert await reports.next(2) == {"/log", "/log/a"}


async def test_a_watched_path_that_is_not_text_is_looked_at_now_and_then(tmp_path: Path) -> None:
    async with watching(tmp_path, "/\udcff/file") as reports:
        write(tmp_path, "/\udcff/file")
        await reports.until("/\udcff/file")
        write(tmp_path, "/\udcff/file", "more")
        await reports.until("/\udcff/file")


async def test_the_root_itself_may_be_watched(tmp_path: Path) -> None:
    async with watching(tmp_path, "/", "/vmlinuz") as reports:
        write(tmp_path, "/vmlinuz")
        assert await reports.next(2) == {"/", "/vmlinuz"}


async def test_stopping_takes_all_watches_back_at_once(tmp_path: Path) -> None:
    write(tmp_path, "/etc/hosts")
    before = open_descriptors()

    async def follow() -> None:
        async for _ in changes(tmp_path, lambda: frozenset({"/etc/hosts"})):
            started.set()

    for _ in range(3):
        started = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            with anyio.fail_after(5):
                await started.wait()
            began = time.monotonic()
            group.cancel_scope.cancel()
        assert time.monotonic() - began < 1.5  # a wait of its own takes two

    with anyio.fail_after(5):
        while open_descriptors() > before:
            await anyio.lowlevel.checkpoint()


def open_descriptors() -> int:
    """How many descriptors are open for the kernel's notices."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        try:
            count += "inotify" in os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue
    return count


def in_child(preparation: str, directories: Iterable[Path]) -> str:
    """What an exhausted process is told when it begins to watch."""
    program = textwrap.dedent("""
        import ctypes, os, sys
        from pathlib import Path
        import anyio
        import anyio._backends._asyncio
        from watchman_mcp.errors import Broken
        from watchman_mcp.machine.watch import changes
        libc = ctypes.CDLL(None, use_errno=True)
        {}
        async def main():
            try:
                async for _ in changes(Path("/"), lambda: frozenset(sys.argv[1:])):
                    return print("watching")
            except Broken as error:
                print(error)
        anyio.run(main)
        """).replace("{}", textwrap.dedent(preparation).strip())
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, directories)], capture_output=True, text=True, timeout=30
    )
    if done.returncode == 77:
        pytest.skip("this kernel does not let a test lower its limits")
    assert done.returncode == 0, done.stderr
    return done.stdout


async def test_exhausted_instances_are_broken_and_name_the_setting() -> None:
    said = in_child(
        """
if os.geteuid() == 0:
    os.setuid(65534)
while libc.inotify_init() >= 0:
    pass
""",
        [Path("/etc")],
    )

    assert "fs.inotify.max_user_instances" in said


async def test_exhausted_watches_are_broken_and_name_the_setting(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).mkdir()

    said = in_child(
        """
uid = os.geteuid()
if libc.unshare(0x10000000):
    sys.exit(77)
try:
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {uid} 1")
    Path("/proc/sys/user/max_inotify_watches").write_text("1")
except OSError:
    sys.exit(77)
""",
        [tmp_path / name for name in "abc"],
    )

    assert "fs.inotify.max_user_watches" in said


async def test_a_directory_that_may_not_be_listed_does_not_hinder_the_others(tmp_path: Path) -> None:
    said = in_child("if os.geteuid() == 0: os.setuid(65534)", [Path("/root/x"), Path("/etc"), Path("/none")])

    assert said == "watching\n"
