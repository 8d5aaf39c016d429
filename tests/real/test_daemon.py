"""The daemon as its user and its neighbours see it: how it comes, what it owns, and how it goes."""

import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.clients import Session
from tests.real.homes import PROGRAM, Debian, Home, answered
from tests.rigs.clients import RIG, alive, until

pytestmark = pytest.mark.real
root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount or to become another user")
SLOW = (
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) SELECT count(*) FROM n"
)
SECRET = "".join(["S3cret", "Of", "The", "Client"])
NOBODY = ("/usr/bin/setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-I")
HELLO = (
    '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18",'
    '"capabilities":{},"clientInfo":{"name":"tests","version":"1"}}}'
)


def kind(name: str) -> tuple[str, ...]:
    """The program of a daemon with something in it that the test wants to see."""
    return (sys.executable, "-I", RIG, "serve", name)


@pytest.fixture
def debian(tmp_path: Path) -> Debian:
    return Debian(tmp_path / "root")


@pytest.fixture
def home(tmp_path: Path, debian: Debian) -> Iterator[Home]:
    """A home whose Watchman looks at a small Debian machine."""
    one = Home(tmp_path / "home", debian.settings)
    yield one
    one.finish()


def ask_slowly(client: Session, number: object, count: int) -> None:
    """Ask for something that takes a while, and wait until it is being done."""
    arguments = {"query": SLOW.format(count=count)}
    client.send(
        {"id": number, "method": "tools/call", "params": {"name": "query_graph", "arguments": arguments}}
    )
    client.request("ping")


def test_a_request_in_flight_is_answered_before_the_daemon_ends(home: Home) -> None:
    served = home.serve()
    client = home.client()
    client.call("query_graph", query="SELECT 1")
    ask_slowly(client, "slow", 700_000)
    began = time.monotonic()

    served.send_signal(signal.SIGTERM)

    answer = client.wait(lambda line: line.get("id") == "slow")
    assert answered(answer)["items"] == [[700_000]]
    assert served.wait(5) == 0
    assert time.monotonic() - began < 5
    assert not (home.state / "sock").exists()
    assert home.rows("SELECT value FROM _meta WHERE key = 'clean'") == [("1",)]
    assert "Traceback" not in (home.path / "serve.err").read_text()


def test_every_answer_that_was_being_made_is_delivered_whole(home: Home) -> None:
    client = home.client()
    for round_ in range(5):
        client.call("query_packages")
        numbers = [f"{round_}-{n}" for n in range(40)]
        params = {"name": "query_graph", "arguments": {}}
        client.send(*[{"id": n, "method": "tools/call", "params": params} for n in numbers])
        client.request("ping")

        home.stop()

        answers = [client.wait(lambda line, n=n: line.get("id") == n) for n in numbers]
        assert [n for n, one in zip(numbers, answers, strict=True) if "error" in one] == []


def test_a_daemon_that_nobody_needs_leaves_and_one_with_an_idle_client_stays(
    home: Home, debian: Debian
) -> None:
    home.configure(debian.settings + "[daemon]\nlinger_seconds = 1\n")
    first, second = home.client(), home.client(modern=True)
    first.call("overview")
    second.call("overview")
    pid = home.pid()
    first.finish()
    idle_until = time.monotonic() + 2.5

    until(lambda: time.monotonic() > idle_until or not alive(pid))
    second.call("overview")

    assert home.pid() == pid
    second.finish()
    until(lambda: not alive(pid), seconds=5)
    assert not (home.state / "sock").exists()
    assert home.rows("SELECT value FROM _meta WHERE key = 'clean'") == [("1",)]


def test_a_second_daemon_that_would_stay_is_refused(home: Home) -> None:
    served = home.serve()

    second = home.run("serve")

    assert second.returncode == 1
    assert f"a daemon ({served.pid}) stays in {home.state}; `watchman-mcp stop` ends it" in second.stderr
    assert served.poll() is None
    assert home.run("stop").returncode == 0
    assert served.wait(5) == 0


def test_serve_takes_the_place_of_a_daemon_that_a_client_started(home: Home) -> None:
    client = home.client()
    client.call("overview")
    before = home.pid()

    served = home.serve()

    assert not alive(before)
    told = client.call("doctor", area="daemon")["daemon"]
    assert (told["pid"], told["mode"]) == (served.pid, "staying")
    client.finish()
    assert json.loads((home.state / "lock").read_text())["mode"] == "staying"


def test_one_client_on_stdio_is_refused_while_a_daemon_owns_the_directory(home: Home) -> None:
    home.client().call("overview")

    refused = home.run("serve", "--stdio")

    assert refused.returncode == 1
    assert refused.stdout == ""
    assert f"a daemon owns {home.state}" in refused.stderr


def test_one_client_on_stdio_is_served_and_others_come_by_the_socket_meanwhile(home: Home) -> None:
    client = home.client((*PROGRAM, "serve", "--stdio"))

    pid = client.call("doctor", area="daemon")["daemon"]["pid"]
    guest = home.client()

    assert guest.call("doctor", area="daemon")["daemon"]["pid"] == pid
    assert client.finish() == 0
    assert not alive(pid)
    assert "answer" not in client.errors.decode()
    assert home.rows("SELECT value FROM _meta WHERE key = 'clean'") == [("1",)]


def test_a_daemon_on_stdio_ends_by_a_signal_while_its_client_waits(home: Home) -> None:
    client = home.client((*PROGRAM, "serve", "--stdio"))
    client.call("query_graph", query="SELECT 1")
    ask_slowly(client, "slow", 700_000)

    client.process.send_signal(signal.SIGTERM)

    assert answered(client.wait(lambda line: line.get("id") == "slow"))["items"] == [[700_000]]
    assert client.process.wait(5) == 0
    assert home.rows("SELECT value FROM _meta WHERE key = 'clean'") == [("1",)]


@root
@pytest.mark.parametrize("option", ["ro", "size=4k,nr_inodes=1"])
def test_a_home_that_takes_no_file_is_served_in_memory_and_said(
    tmp_path: Path, debian: Debian, option: str
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(debian.settings)
    home = Home(tmp_path / "home")
    script = f'mount -t tmpfs -o {option} tmpfs {home.path} && exec "$@"'
    program = ("/usr/bin/unshare", "--mount", "/bin/sh", "-c", script, "sh", *PROGRAM)
    try:
        client = home.client(program, env={"WATCHMAN_CONFIG": str(config)})
        doctor, overview = client.call("doctor"), client.call("overview")
        packages = client.call("query_packages", name="base")
        counted = client.call("query_graph", query="SELECT count(*) FROM Software")

        assert client.finish() == 0
    finally:
        home.finish()
    assert [text for text in doctor["problems"] if "Kept in memory only" in text]
    assert [text for text in overview["problems"] if "Kept in memory only" in text]
    assert packages["items"][0]["version"] == "12"
    assert counted["items"] == [[2]]
    assert "in memory, for this client" in client.errors.decode()


def test_a_collector_that_hangs_in_the_kernel_does_not_hold_the_end(home: Home) -> None:
    served = home.serve(program=kind("stuck"))
    client = home.client()
    until(lambda: "stuck: looking" in client.call("doctor").get("work", []))
    began = time.monotonic()

    served.send_signal(signal.SIGTERM)

    assert served.wait(5) == 0
    assert time.monotonic() - began < 5
    assert home.rows("SELECT value FROM _meta WHERE key = 'clean'") == [("1",)]


def test_nothing_of_the_client_is_in_the_daemon(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "PYTHONPATH": f"/{SECRET}",
        "LD_LIBRARY_PATH": f"/{SECRET}",
        "WATCHMAN_MONITORING__METRICS_INTERVAL": "7",
        "XDG_STATE_HOME": f"{home.path}/elsewhere",
        "TZ": "Asia/Tokyo",
    }
    client = home.client(env=secrets)
    client.call("overview")
    process = Path(f"/proc/{home.pid()}")

    environ = dict(word.split("=", 1) for word in (process / "environ").read_text().split("\0") if word)

    assert environ.keys() <= {"HOME", "USER", "LOGNAME", "PATH", "LC_ALL", "LC_CTYPE"}
    assert SECRET not in "".join([*environ.values(), (process / "cmdline").read_text()])
    assert os.readlink(process / "cwd") == "/"
    assert not (home.path / "elsewhere").exists()
    assert [os.readlink(process / "fd" / number) for number in "01"] == ["/dev/null"] * 2
    assert os.readlink(process / "fd/2") == str(home.state / "daemon.err")
    assert home.holders() == {home.pid()}


def test_nothing_but_answers_is_on_stdout_whatever_a_library_prints(home: Home) -> None:
    client = home.client((*kind("noisy"), "serve", "--stdio"))

    answer = client.request("tools/call", name="scan", arguments={"area": "noisy"})

    assert client.finish() == 0
    assert answered(answer)["looked"]["noisy"].startswith("ok")
    assert {line["jsonrpc"] for line in client.lines} == {"2.0"}
    for said in ("a library prints", "a library writes", "a library's child prints"):
        assert said in client.errors.decode()


def test_the_log_is_rotated_and_the_doctor_names_it(home: Home) -> None:
    home.state.mkdir(parents=True, mode=0o700)
    log = home.state / "daemon.log"
    log.write_text("x" * 1_999_990 + "\n")
    log.chmod(0o600)

    told = home.client().call("doctor", area="daemon")["daemon"]

    assert told["log"] == str(log)
    assert (home.state / "daemon.log.1").stat().st_size == 1_999_991
    assert f"pid {told['pid']}" in log.read_text()


def test_everything_in_the_state_directory_is_closed_to_others(home: Home) -> None:
    home.client().call("overview")

    modes = {
        str(path.relative_to(home.state)): stat.S_IMODE(path.stat().st_mode)
        for path in [home.state, *home.state.rglob("*")]
    }

    assert modes.pop(".") == 0o700
    assert set(modes.values()) == {0o600}
    assert {"watchman.db", "lock", "sock", "key", "daemon.log", "daemon.err"} <= set(modes)


@root
def test_another_user_can_not_connect_and_is_hung_up_on_where_modes_let_him() -> None:
    place = Path(tempfile.mkdtemp(prefix="watchman-"))
    place.chmod(0o755)
    home = Home(place / "home", Debian(place / "root").settings)
    code = (
        "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); s.settimeout(5)\n"
        "s.sendall(sys.argv[2].encode() + bytes([10])); print(s.recv(99))"
    )
    words = [*NOBODY, "-c", code, str(home.state / "sock"), HELLO]
    try:
        client = home.client()
        client.call("overview")
        refused = subprocess.run(words, capture_output=True, text=True, timeout=10)
        for path in (home.state, *home.state.parents):
            if path.is_relative_to(place):
                path.chmod(0o755)
        (home.state / "sock").chmod(0o666)

        let_in = subprocess.run(words, capture_output=True, text=True, timeout=10)

        assert "PermissionError" in refused.stderr
        hung_up = ("ConnectionResetError", "BrokenPipeError")
        assert let_in.stdout == "b''\n" or let_in.stderr.strip().split("\n")[-1].startswith(hung_up)
        assert client.call("overview")["found"] == "yes"
    finally:
        home.finish()
        shutil.rmtree(place)


def test_a_database_of_a_newer_format_is_an_error_that_says_what_to_do(home: Home) -> None:
    home.client().call("overview")
    home.stop()
    db = sqlite3.connect(home.state / "watchman.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    before = (home.state / "watchman.db").read_bytes()
    began = time.monotonic()

    answer = home.client(modern=True).request("tools/list")

    assert "was written by a newer Watchman (format 99" in answer["error"]["message"]
    assert "run that version" in answer["error"]["message"]
    assert time.monotonic() - began < 20
    assert (home.state / "watchman.db").read_bytes() == before
    assert "newer Watchman" in home.run("serve").stderr
    assert home.daemons() == set()


@pytest.mark.parametrize("damage", ["whole", "pages"])
def test_a_damaged_database_is_set_aside_and_said(home: Home, debian: Debian, damage: str) -> None:
    debian.install("kept", "1.0")
    home.client().call("scan")
    home.kill()
    home.rows("PRAGMA wal_checkpoint(TRUNCATE)")
    file = home.state / "watchman.db"
    held = bytearray(file.read_bytes())
    spoilt = range(0, len(held), 512) if damage == "whole" else range(4096 * 3, len(held), 512)
    for place in spoilt:
        held[place : place + 64] = b"\xa5" * 64
    file.write_bytes(held)

    client = home.client()  # the old one may yet send its next question to the dead daemon
    overview, doctor = client.call("overview"), client.call("doctor")

    for answer in (overview, doctor):
        [said] = [text for text in answer["problems"] if "was damaged" in text]
        assert f"set aside as {file}.damaged-" in said
    [aside] = home.state.glob("watchman.db.damaged-*Z")
    assert aside.read_bytes() == bytes(held)
    assert client.call("query_packages", name="kept")["items"][0]["version"] == "1.0"
