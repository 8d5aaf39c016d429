import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from watchman_mcp.errors import Absent, Broken, Denied, InvalidRequest
from watchman_mcp.machine.commands import SEARCH_PATH, Commands, Output


def script(directory: Path, name: str, text: str, mode: int = 0o755) -> Commands:
    (directory / name).write_text(text)
    (directory / name).chmod(mode)
    return Commands(f"{directory}:{SEARCH_PATH}")


def wait_until(condition: Callable[[], bool], seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        os.sched_yield()
    return True


def test_output_and_exit_code_are_an_answer() -> None:
    assert Commands().run(["sh", "-c", "printf 'a\\377'; printf no >&2; exit 3"]) == Output(
        3, "a\udcff", "no"
    )
    assert Commands().run(["sh", "-c", "kill -TERM $$"]).code == -signal.SIGTERM


def test_the_environment_is_made_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("TOKEN", "secret")

    lines = Commands().run(["env"]).stdout.splitlines()

    names = {line.partition("=")[0] for line in lines}
    assert names == {"PATH", "HOME", "LC_ALL", "LANG"}
    assert f"PATH={SEARCH_PATH}" in lines
    assert "LC_ALL=C.UTF-8" in lines
    assert Commands().run(["pwd"]).stdout == "/\n"


def test_arguments_never_meet_a_shell() -> None:
    assert Commands().run(["printf", "%s", "$(id) `id`; id > /x"]).stdout == "$(id) `id`; id > /x"


def test_programs_come_from_the_search_path_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path, "evil-tool", "#!/bin/sh\necho evil\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)

    with pytest.raises(Absent, match="evil-tool is not installed"):
        Commands().run(["evil-tool"])
    for argv in ([], [""], ["./evil-tool"], [str(tmp_path / "evil-tool")], ["a\0b"]):
        with pytest.raises(InvalidRequest, match="no program name"):
            Commands().run(argv)


def test_a_program_that_may_not_be_run_is_denied(tmp_path: Path) -> None:
    commands = script(tmp_path, "locked", "#!/bin/sh\n", mode=0o644)

    with pytest.raises(Denied, match="locked may not be run"):
        commands.run(["locked"])


def test_a_program_that_cannot_start_is_broken(tmp_path: Path) -> None:
    commands = script(tmp_path, "lost", "#!/no/such/interpreter\n")

    with pytest.raises(Broken, match="lost cannot be started"):
        commands.run(["lost"])
    with pytest.raises(Broken, match="cannot be started"):
        commands.run(["echo", "a\0b"])


def test_input_and_output_larger_than_any_pipe_pass_both_ways() -> None:
    words = os.urandom(1 << 19).hex().encode()

    assert Commands().run(["cat"], input=words).stdout.encode() == words
    assert Commands().run(["true"], input=words).code == 0
    assert Commands().run(["cat"]).stdout == ""


def test_both_streams_are_read_at_once() -> None:
    many = "i=0; while [ $i -lt 4000 ]; do echo {0} >&{1}; i=$((i+1)); done"
    line = "x" * 60

    output = Commands().run(["sh", "-c", many.format(line, 2) + ";" + many.format(line, 1)])

    assert len(output.stdout) == len(output.stderr) == 4000 * 61


def test_too_much_output_ends_the_command() -> None:
    began = time.monotonic()

    with pytest.raises(Broken, match="more than 1000 bytes"):
        Commands().run(["yes"], output_cap=1000)
    assert len(Commands().run(["printf", "x" * 1000], output_cap=1000).stdout) == 1000
    assert time.monotonic() - began < 30


def test_a_command_that_is_too_slow_is_killed_with_its_children(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    commands = script(tmp_path, "slow", f"#!/bin/sh\ntrap '' TERM\nsleep 60 & echo $$ $! > {note}\nwait\n")
    began = time.monotonic()

    with pytest.raises(Broken, match=r"slow did not end within 0\.5 s"):
        commands.run(["slow"], timeout=0.5)

    assert time.monotonic() - began < 30  # of the 60 that it sleeps
    for pid in note.read_text().split():
        assert wait_until(lambda pid=pid: not running(int(pid)))


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_what_a_command_leaves_running_is_not_waited_for(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    commands = script(tmp_path, "starter", f"#!/bin/sh\nsetsid sleep 60 & echo $! > {note}\necho started\n")
    began = time.monotonic()

    output = commands.run(["starter"])

    assert output == Output(0, "started\n", "")
    assert time.monotonic() - began < 30  # of the 60 that it sleeps
    pid = int(note.read_text())
    assert running(pid)
    os.kill(pid, signal.SIGKILL)


def test_a_command_that_closes_its_output_is_still_limited_in_time() -> None:
    with pytest.raises(Broken, match="did not end"):
        Commands().run(["sh", "-c", "exec >&- 2>&-; sleep 60"], timeout=0.3)
    assert Commands().run(["sh", "-c", "exec >&- 2>&-; sleep 0.1; exit 4"]).code == 4


def test_threads_may_run_commands_at_once_and_leave_nothing_behind() -> None:
    before, children = len(os.listdir("/proc/self/fd")), psutil.Process().children()
    results: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: results.append(Commands().run(["echo", str(n)]).stdout))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results) == [f"{n}\n" for n in range(8)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert psutil.Process().children() == children
    assert subprocess._active == []  # type: ignore[attr-defined]
