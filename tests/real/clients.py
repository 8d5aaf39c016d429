"""Watchman inside a machine, seen as its clients and its files; and what dpkg itself says of that machine."""

import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.rigs.clients import META, Client, daemon_pid, until
from tests.rigs.machine import Machine

FULL = os.environ.get("WATCHMAN_TEST_SOAK") == "full"
SEED = int(os.environ.get("WATCHMAN_TEST_SEED", "20"))
DPKG_LOG = "/var/log/dpkg.log"
GONE = ("not-installed", "config-files")
STEP = 0.04
"""Seconds between two questions of a client that waits for an answer to change."""


class Session(Client):
    """One client of Watchman inside a machine; it speaks the handshake era or, if modern, the other one."""

    def __init__(self, argv: list[str], *, modern: bool = False) -> None:
        super().__init__("", argv=argv)
        self.modern = modern
        self.numbers = itertools.count(1)
        if not modern:
            self.shake_hands()

    def shake_hands(self) -> None:
        """Open a session as clients of the handshake era do."""
        client = {"name": "tests", "version": "1"}
        opened = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client}
        answer = self.ask("hello", "initialize", 60, **opened)
        assert "result" in answer, answer
        self.send({"method": "notifications/initialized"})

    def request(self, method: str, seconds: float = 30, **params: Any) -> dict[str, Any]:
        """The whole answer to one request, whether result or error."""
        extra = {"_meta": META} if self.modern else {}
        answer: dict[str, Any] = self.ask(next(self.numbers), method, seconds, **params, **extra)
        return answer

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """What a tool answers; a refusal fails the test."""
        answer = self.request("tools/call", name=tool, arguments=arguments)
        with self.came:  # waiting looks through every line, so those that were read are put away
            self.lines[:] = [line for line in self.lines if "method" in line]
        assert not answer.get("result", {"isError": True}).get("isError"), answer
        content: dict[str, Any] = answer["result"]["structuredContent"]
        return content

    def pages(self, tool: str, **arguments: Any) -> list[dict[str, Any]]:
        """The items of every page of an answer."""
        items, cursor = [], ""
        while True:
            answer = self.call(tool, cursor=cursor, **arguments)
            items += answer["items"]
            if not (cursor := answer.get("next_cursor", "")):
                return items

    def scan(self) -> None:
        """Look at the packages again, to the end."""
        looked = self.call("scan", area="apt")["looked"]
        assert looked["apt"].startswith("ok"), looked

    def changes(self, name: str) -> list[tuple[str, str | None, str | None]]:
        """What happened to a package, oldest first: action, version before, version."""
        told = [
            change
            for transaction in self.pages("query_packages", name=name, view="history")
            for change in transaction["changes"]
        ]
        return [(one["action"], one.get("previous"), one.get("version")) for one in reversed(told)]


class Watchman:
    """One state directory inside a machine, with its daemon and its clients."""

    def __init__(self, machine: Machine, program: str, home: str) -> None:
        self.machine, self.program, self.home = machine, program, home
        self.state = Path(f"{machine.root}{home}/.local/state/watchman")
        self.sessions: list[Session] = []

    def argv(self, *words: str) -> list[str]:
        """The host's command line that runs Watchman inside."""
        return self.machine.command([self.program, *words], env={"HOME": self.home})

    def client(self, *, modern: bool = False) -> Session:
        """A new client, whose first request starts the daemon where none runs."""
        session = Session(self.argv(), modern=modern)
        self.sessions.append(session)
        return session

    def stop(self) -> None:
        """End the daemon as a person would."""
        self.machine.run([self.program, "stop"], env={"HOME": self.home})

    def kill(self) -> int:
        """End the daemon as the kernel would; its process number."""
        pid = int(until(lambda: daemon_pid(self.state)))
        self.machine.run(["kill", "-KILL", str(pid)], check=False)
        return pid

    def finish(self) -> None:
        """End the clients and the daemon."""
        for session in self.sessions:
            session.finish()
        self.stop()

    def copy(self, into: Path) -> Path:
        """The database on the host, after the daemon was stopped; SQLite does not open it where it is."""
        self.stop()
        into.mkdir()
        for path in self.state.glob("watchman.db*"):
            shutil.copy(path, into)
        return into

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Every file of the state directory with what it holds."""
        for path in sorted(self.state.rglob("*")):
            if path.is_file():
                yield path.name, path.read_bytes()


@contextmanager
def watching(machine: Machine, program: str, home: str) -> Iterator[Watchman]:
    """Watchman with a new state directory, which knows the machine as it is now."""
    machine.run(["mkdir", "-p", home])
    watchman = Watchman(machine, program, home)
    try:
        yield watchman
    finally:
        watchman.finish()


class Done(NamedTuple):
    type: str
    name: str
    version: str
    at: str


class Delay(NamedTuple):
    what: str
    seconds: float


def delay_until(test: Callable[[], object], seconds: float, what: str) -> Delay:
    """How long a question takes to be answered as it should; the test fails where that does not come.

    So many seconds on a quiet machine; more where more programs want to run than it has processors.
    """
    begun = time.monotonic()
    while not test():
        waited = time.monotonic() - begun
        if waited > seconds * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)):
            pytest.fail(f"{what}: not seen {waited:.2f} s later", pytrace=False)
        time.sleep(STEP)
    return Delay(what, time.monotonic() - begun)


def listing(machine: Machine) -> dict[str, tuple[str, str]]:
    """What dpkg says is there: version and architecture of each package by name."""
    form = "${Package} ${Version} ${Architecture} ${db:Status-Status}\\n"
    rows = (line.split(" ") for line in machine.run(["dpkg-query", "-W", "-f", form]).stdout.splitlines())
    return {name: (version, arch) for name, version, arch, state in rows if state not in GONE}


def dependencies(machine: Machine, prefix: str) -> set[tuple[str, str]]:
    """Which packages with this prefix need which, by dpkg's own fields: every alternative that is there."""
    form = "${Package}|${db:Status-Status}|${Pre-Depends}, ${Depends}|${Provides}\\n"
    needs, serves = {}, {}
    for line in machine.run(["dpkg-query", "-W", "-f", form, f"{prefix}*"]).stdout.splitlines():
        # the field may hold the sign that separates fields
        name, state, rest = line.split("|", 2)
        wanted, _, provided = rest.rpartition("|")
        if state not in GONE:
            needs[name] = {word.split()[0] for word in wanted.replace("|", ",").split(",") if word.strip()}
            for one in [name, *(word.split()[0] for word in provided.split(",") if word.strip())]:
                serves.setdefault(one, set()).add(name)
    pairs = {(name, end) for name, words in needs.items() for one in words for end in serves.get(one, ())}
    return {(start, end) for start, end in pairs if start != end}


def dpkg_log(machine: Machine) -> list[list[str]]:
    """The words of each line of dpkg's log in all its rotations, oldest first."""
    script = f'ls -tr {DPKG_LOG}* | while read -r one; do gzip -cdf "$one"; done'
    return [line.split() for line in machine.run(["sh", "-c", script]).stdout.splitlines()]


def done(machine: Machine, prefix: str) -> list[Done]:
    """What dpkg's log says was done with packages of this prefix; each was done to its end."""
    found = []
    for day, clock, action, *words in dpkg_log(machine):
        name = words[0].partition(":")[0] if words else ""
        if name.startswith(prefix) and action in ("install", "upgrade", "remove"):
            before, after = words[1:]
            kind = "update" if after > before else "downgrade" if after < before else "reinstall"
            what = kind if action == "upgrade" else action
            version = before if action == "remove" else after
            found.append(Done(f"package_{what}", name, version, f"{day}T{clock}+00:00"))
    return found


def text_of(answer: object) -> str:
    """An answer as a model reads it."""
    return json.dumps(answer, ensure_ascii=False)
