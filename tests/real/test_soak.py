"""Many clients at once, while their daemon is killed again and again and packages come and go."""

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import sysconfig
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import watchman_mcp
from tests.real.clients import FULL, SEED, Session
from tests.real.homes import ASKED, WITNESS, Debian, Home, answered, events
from tests.rigs.clients import META, alive, until
from watchman_mcp.bridge import LOST

pytestmark = [pytest.mark.real, pytest.mark.soak]
CLIENTS, QUESTIONS = (20, 50) if FULL else (20, 8)
KILLED_CLIENTS, KILLS, RESTARTS = (8, 50, 100) if FULL else (8, 3, 3)
TOGETHER = 4
"""Requests that a client has in flight at once."""
HISTORY = "watchman://packages/history"


@pytest.fixture
def debian(tmp_path: Path) -> Debian:
    return Debian(tmp_path / "root")


@pytest.fixture
def home(tmp_path: Path, debian: Debian) -> Iterator[Home]:
    """A home whose Watchman looks at a small Debian machine."""
    one = Home(tmp_path / "home", debian.settings)
    yield one
    one.finish()


def at_once(*deeds: Any) -> None:
    """Do all of it at once, to the end; what one of them raises fails the test."""
    failed: list[BaseException] = []

    def caught(deed: Any) -> None:
        try:
            deed()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=caught, args=(deed,)) for deed in deeds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def test_many_clients_of_both_eras_share_one_daemon_and_get_every_answer(home: Home) -> None:
    sessions: list[Session] = []
    took: list[float] = []
    count = itertools.count()

    def converse() -> None:
        session = home.client(modern=bool(next(count) % 2))
        sessions.append(session)
        listed = session.request("tools/list")["result"]["tools"]
        assert {tool["name"] for tool in listed} == {name for name, _ in ASKED}
        for name, arguments in itertools.islice(itertools.cycle(ASKED), QUESTIONS):
            began = time.monotonic()
            session.call(name, **arguments)
            took.append(time.monotonic() - began)

    began = time.monotonic()
    at_once(*[converse] * CLIENTS)
    seconds = time.monotonic() - began

    assert len(took) == CLIENTS * QUESTIONS
    assert home.daemons() == home.holders() == {home.pid()}
    assert len(home.started()) == 1
    assert sessions[0].call("doctor", area="daemon")["daemon"]["clients"] == CLIENTS
    assert [session.finish() for session in sessions] == [0] * CLIENTS
    took.sort()
    print(
        f"\n{CLIENTS} clients, {len(took)} questions in {seconds:.1f} s: "
        f"half within {took[len(took) // 2] * 1000:.0f} ms, all within {took[-1] * 1000:.0f} ms"
    )


class Loaded:
    """A client that asks without a pause, a few requests at a time, and knows what became of each."""

    def __init__(self, home: Home, name: str, modern: bool) -> None:
        self.session = home.client(WITNESS, modern=modern)
        self.name, self.modern = name, modern
        self.count = itertools.count()
        self.answers: list[dict[str, Any]] = []
        self.sent: list[str] = []
        self.listening = ""
        if modern:
            self.listen()
        else:
            assert "result" in self.session.request("resources/subscribe", uri=HISTORY)

    def _send(self, *requests: dict[str, Any]) -> list[str]:
        numbers = [f"{self.name}-{next(self.count)}" for _ in requests]
        for number, request in zip(numbers, requests, strict=True):
            request["id"] = number
            request["params"].update({"_meta": META} if self.modern else {})
        self.sent += numbers
        self.session.send(*requests)
        return numbers

    def listen(self) -> None:
        """Open a stream of 2026-07-28 that tells when the history of packages changes."""
        wanted = {"notifications": {"resourceSubscriptions": [HISTORY]}}
        [self.listening] = self._send({"method": "subscriptions/listen", "params": wanted})

    def ask(self) -> None:
        """A few questions, each waited for; a stream that has ended is opened anew."""
        asked = [ASKED[next(self.count) % len(ASKED)] for _ in range(TOGETHER)]
        calls = [{"method": "tools/call", "params": {"name": n, "arguments": dict(a)}} for n, a in asked]
        numbers = self._send(*calls)
        for number in numbers:
            self.session.wait(lambda line, n=number: line.get("id") == n, 60)
        with self.session.came:
            lines = self.session.lines[:]
            self.session.lines.clear()
        self.answers += lines
        if self.listening in {line.get("id") for line in lines}:
            self.listen()

    def told(self) -> int:
        """How often it was told that the history of packages is another one."""
        with self.session.came:
            lines = [*self.answers, *self.session.lines]
        return sum(
            line.get("method") == "notifications/resources/updated" and line["params"]["uri"] == HISTORY
            for line in lines
        )


def come_and_go(debian: Debian, over: threading.Event, chance: random.Random) -> None:
    """Install, upgrade and remove packages until it is over, often the same ones within one second."""
    while not over.is_set():
        name = f"soak-{chance.randrange(4)}"
        debian.install(name, "1.0")
        debian.install(name, "1.1")
        debian.remove(name)
        over.wait(chance.uniform(0, 0.2))


def kill_often(home: Home, chance: random.Random) -> list[int]:
    """Kill the daemon at random moments, now and then while it starts."""
    pids: list[int] = []
    while len(pids) < KILLS:
        pid = home.pid()
        threading.Event().wait(chance.uniform(0, 0.5))
        if len(pids) % 5 == 4:
            home.kill()
            pid = min(until(lambda: {one for one in home.daemons() if one not in pids and alive(one)}))
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        pids.append(pid)
        until(lambda: home.pid() not in pids)
        assert len(home.daemons()) <= 2  # one that was killed may not be gone yet
    return pids


def test_nothing_is_done_twice_lost_or_told_wrong_when_the_daemon_is_killed_under_load(
    home: Home, debian: Debian
) -> None:
    chance = random.Random(SEED)
    clients = [Loaded(home, f"client{n}", modern=bool(n % 2)) for n in range(KILLED_CLIENTS)]
    over = threading.Event()

    def load(client: Loaded) -> None:
        while not over.is_set():
            client.ask()

    def kill() -> None:
        try:
            kill_often(home, chance)
        finally:
            over.set()

    at_once(
        kill,
        lambda: come_and_go(debian, over, random.Random(SEED + 1)),
        *[lambda c=client: load(c) for client in clients],
    )
    for client in clients:
        client.ask()

    # What was subscribed to before the last kill is told now, and streams that ended were opened anew.
    before = [client.told() for client in clients]
    debian.install("soak-last", "1.0")
    for client, count in zip(clients, before, strict=True):
        until(lambda c=client, n=count: c.told() > n)
    for client in clients:
        client.ask()
    clients[0].session.scan()
    home.stop()
    for client in clients:
        client.session.finish()

    check_answers(home, clients)
    check_database(home, debian)


def check_answers(home: Home, clients: list[Loaded]) -> None:
    """Each request has one answer, and none was begun twice."""
    lines = [line for client in clients for line in (*client.answers, *client.session.lines)]
    answers = [
        line for line in lines if str(line.get("id", "")).startswith("client") and "method" not in line
    ]
    sent = [number for client in clients for number in client.sent]
    failed = [line["error"] for line in answers if "error" in line]
    begun = Counter(word for word in (home.state / "begun").read_text().split() if word.startswith("client"))

    # A stream that was open at the end has its answer too, when the daemon left.
    assert Counter(line["id"] for line in answers) == Counter(sent)
    assert set(begun.values()) == {1}
    assert begun.keys() >= {line["id"] for line in answers if "result" in line}
    assert [error for error in failed if (error["code"], error["message"]) != (-32000, LOST)] == []
    assert not [line for line in answers if line.get("result", {}).get("isError")]
    daemons = len(home.started())
    print(f"\n{len(sent)} requests, {len(failed)} failed, {len(begun)} begun, {daemons} daemons served")


def check_database(home: Home, debian: Debian) -> None:
    """Every change of dpkg's log is one event, and the database is sound."""
    keys = home.rows("SELECT key, source FROM Event WHERE type GLOB 'package_*'")

    assert home.rows("PRAGMA integrity_check") == [("ok",)]
    assert events(home) == debian.done
    assert len(set(keys)) == len(keys) == debian.done.total()
    assert {source for _, source in keys} == {"dpkg"}
    found = home.rows("SELECT key, version FROM Software WHERE gone_at IS NULL AND manager = 'apt'")
    assert dict(found) == debian.there
    print(f"{len(keys)} events of {debian.done.total()} changes")


@pytest.fixture
def newer(tmp_path: Path) -> tuple[str, ...]:
    """The program of a second installation, whose version is higher."""
    place, package = tmp_path / "newer", Path(watchman_mcp.__file__).parent
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True, timeout=60)
    [site] = place.glob("lib/python3*/site-packages")
    copy = site / "watchman_mcp"
    subprocess.run(["cp", "-r", package, copy], check=True)
    version = (copy / "__init__.py").read_text()
    (copy / "__init__.py").write_text(version.replace(watchman_mcp.__version__, "9.0.0"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return str(place / "bin/python"), "-I", "-m", "watchman_mcp.cli"


def test_two_versions_side_by_side_settle_on_one_daemon_after_each_restart(
    home: Home, newer: tuple[str, ...]
) -> None:
    chance = random.Random(SEED)
    sessions = [home.client(), home.client(newer, modern=True)]

    for round_ in range(RESTARTS):
        if round_ % 2:
            home.kill()
        else:
            home.stop()
        pids: dict[int, tuple[int, str]] = {}

        def ask(n: int, found: dict[int, tuple[int, str]] = pids) -> None:
            threading.Event().wait(chance.uniform(0, 0.3))
            # The one that the newer version ends may have been asked just then.
            for _ in range(3):
                answer = sessions[n].request("tools/call", name="doctor", arguments={"area": "daemon"})
                if "result" in answer:
                    told = answered(answer)["daemon"]
                    found[n] = told["pid"], told["version"]
                    return
                assert answer["error"]["message"] == LOST

        at_once(lambda: ask(0), lambda: ask(1))
        assert pids[1][1] == "9.0.0"

    last = [session.call("doctor", area="daemon")["daemon"] for session in sessions]
    assert [told["version"] for told in last] == ["9.0.0"] * 2
    assert {told["pid"] for told in last} == home.daemons() == {home.pid()}
    assert json.loads((home.state / "lock").read_text())["version"] == "9.0.0"
    versions = Counter(version for version, _ in home.started())
    assert RESTARTS <= versions["9.0.0"] <= RESTARTS + 2
    assert versions["9.0.0"] + versions[watchman_mcp.__version__] <= 2 * (RESTARTS + 1)
    assert [session.finish() for session in sessions] == [0, 0]
    print(f"\n{RESTARTS} restarts: {dict(versions)}")


@pytest.mark.parametrize("number", range(5 if FULL else 2))
def test_clients_that_start_together_start_one_daemon(home: Home, number: int) -> None:
    sessions: list[Session] = []
    began = time.monotonic()

    at_once(*[lambda: sessions.append(home.client())] * 12)

    seconds = time.monotonic() - began
    assert home.daemons() == {home.pid()}
    assert len(home.started()) == 1
    assert [session.finish() for session in sessions] == [0] * 12
    print(f"\n12 clients served within {seconds:.2f} s")
