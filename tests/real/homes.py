"""Watchman in a home of its own on this host: real clients, real daemons, and none of them left behind."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.real.clients import Session
from tests.rigs.clients import RIG, alive, daemon_pid, lock_is_free, until

PROGRAM = (str(Path(sys.executable).with_name("watchman-mcp")),)
WITNESS = (sys.executable, "-I", RIG, "bridge-of", "witnessed")
"""A bridge whose daemon is the real one, which notes the id of each request that it begins."""
ASKED: list[tuple[str, dict[str, Any]]] = [
    ("overview", {}),
    ("query_packages", {}),
    ("query_packages", {"view": "history", "since": "1d"}),
    ("network_status", {}),
    ("what_changed", {}),
    ("system_metrics", {}),
    ("query_graph", {"query": "SELECT count(*) FROM Event"}),
    ("doctor", {}),
    ("scan", {"area": "apt"}),
]
"""A question to every tool; two where the tool has two kinds of answers."""


class Home:
    """A home directory with Watchman's state and configuration in it."""

    def __init__(self, path: Path, settings: str = "") -> None:
        self.path = path
        self.state = path / ".local/state/watchman"
        self.config = path / ".config/watchman/config.toml"
        self.sessions: list[Session] = []
        self.served: list[subprocess.Popen[str]] = []
        path.mkdir(parents=True, exist_ok=True)
        if settings:
            self.configure(settings)

    def configure(self, settings: str) -> None:
        """Write the configuration file."""
        self.config.parent.mkdir(parents=True, exist_ok=True)
        self.config.write_text(settings)
        self.config.chmod(0o600)

    def words(self, program: tuple[str, ...], env: dict[str, str] | None = None) -> list[str]:
        """A command line that runs a program with this home and no other variables than these."""
        given = {"HOME": str(self.path), "PATH": "/usr/bin:/bin", **(env or {})}
        return ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in given.items()), *program]

    def client(
        self,
        program: tuple[str, ...] = PROGRAM,
        *,
        modern: bool = False,
        env: dict[str, str] | None = None,
    ) -> Session:
        """A new client, whose first request starts the daemon where none runs."""
        session = Session(self.words(program, env), modern=modern)
        self.sessions.append(session)
        return session

    def run(
        self, *words: str, program: tuple[str, ...] = PROGRAM, seconds: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """One command of the command line, to its end."""
        argv = self.words((*program, *words))
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)

    def serve(self, *words: str, program: tuple[str, ...] = PROGRAM) -> subprocess.Popen[str]:
        """A daemon that stays, serving when this returns."""
        errors = (self.path / "serve.err").open("a")
        argv = self.words((*program, "serve", *words))
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, text=True)
        errors.close()
        self.served.append(process)
        ready = {"pid": process.pid, "tries": 0}
        until(lambda: ready.items() <= self.record().items() or process.poll() is not None)
        assert process.poll() is None, (self.path / "serve.err").read_text()
        return process

    def record(self) -> dict[str, Any]:
        """What the lock file says: `tries` is 0 once the daemon serves."""
        try:
            found = json.loads((self.state / "lock").read_text() or "{}")
        except (FileNotFoundError, json.JSONDecodeError):  # absent, or being written over
            return {}
        return dict(found)

    def pid(self) -> int:
        """The process that serves, as the lock file says once there is one."""
        return int(until(lambda: daemon_pid(self.state)))

    def daemons(self) -> set[int]:
        """Every process that was started as a daemon of this state directory, serving or not."""
        found = set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and alive(int(entry.name)):
                with suppress(OSError):
                    words = (entry / "cmdline").read_bytes().split(b"\0")
                    if b"--directory" in words and os.fsencode(self.state) in words:
                        found.add(int(entry.name))
        return found

    def holders(self) -> set[int]:
        """Every process that has the lock file open."""
        wanted, found = os.stat(self.state / "lock"), set()
        for link in Path("/proc").glob("[0-9]*/fd/*"):
            with suppress(OSError):
                if os.path.samestat(os.stat(link), wanted):
                    found.add(int(link.parts[2]))
        return found

    def started(self) -> list[tuple[str, int]]:
        """Version and pid of each daemon that ever came to serve, as the log tells, oldest first."""
        text = "".join(path.read_text() for path in sorted(self.state.glob("daemon.log*"), reverse=True))
        return [(version, int(pid)) for version, pid in re.findall(r": watchman (\S+), pid (\d+)", text)]

    def kill(self) -> int:
        """End the daemon that serves as the kernel would, and wait until it is gone; its process number."""
        pid = self.pid()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        until(lambda: gone(pid))
        return pid

    def stop(self) -> None:
        """End the daemon that serves as a person would, and wait until it has left."""
        if (self.state / "lock").exists():
            with suppress(ProcessLookupError):
                os.kill(self.pid(), signal.SIGTERM)
            until(lambda: lock_is_free(self.state))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query on the database."""
        db = sqlite3.connect(self.state / "watchman.db")
        try:
            return db.execute(sql).fetchall()
        finally:
            db.close()

    def finish(self) -> None:
        """End every client and every daemon, whatever a failed test left."""
        for session in self.sessions:
            if session.process.poll() is None:
                session.process.kill()
            session.finish()
        for process in self.served:
            if process.poll() is None:
                process.kill()
            process.wait()
        end = time.monotonic() + 10
        while (left := self.daemons()) and time.monotonic() < end:
            for pid in left:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        assert not left


def gone(pid: int) -> bool:
    """Whether every thread of a process has ended, so that nothing it had open is open any more."""
    try:
        threads = [entry / "stat" for entry in Path(f"/proc/{pid}/task").iterdir()]
        return all(stat.read_text().rpartition(")")[2].split()[0] in "ZX" for stat in threads)
    except (FileNotFoundError, ProcessLookupError):
        return True


def answered(answer: dict[str, Any]) -> dict[str, Any]:
    """What a tool's answer holds; an error fails the test."""
    assert not answer.get("result", {"isError": True}).get("isError"), answer
    content: dict[str, Any] = answer["result"]["structuredContent"]
    return content


class Debian:
    """The files of a small Debian machine, on which packages come and go as dpkg writes it down."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.there: dict[str, str] = {"dpkg": "1.21.22", "base": "12"}
        self.done: Counter[tuple[str, str, str | None, str | None]] = Counter()
        """Each change that its log tells: type, name, version before, version."""
        for place in ("etc", "var/lib/dpkg/info", "var/log/apt", "usr/lib"):
            (root / place).mkdir(parents=True)
        (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
        (root / "etc/hostname").write_text("fixture\n")
        (root / "etc/os-release").write_text(
            'PRETTY_NAME="Debian GNU/Linux 12"\nID=debian\nVERSION_ID="12"\n'
        )
        (root / "var/log/dpkg.log").touch()
        self._write_status()

    @property
    def settings(self) -> str:
        """A configuration file that has Watchman look at this machine."""
        return f"[host]\nroot = '{self.root}'\n"

    def install(self, name: str, version: str) -> None:
        """Install or upgrade a package."""
        who, old = f"{name}:amd64", self.there.get(name)
        steps = ["startup archives unpack"]
        if old:
            steps += [
                f"upgrade {who} {old} {version}",
                f"status half-configured {who} {old}",
                f"status unpacked {who} {old}",
            ]
        else:
            steps += [f"install {who} <none> {version}"]
        steps += [f"status half-installed {who} {old or version}", f"status unpacked {who} {version}"]
        self._log(*steps)
        self._log("startup packages configure", f"configure {who} {version} <none>")
        self._log(f"status half-configured {who} {version}", f"status installed {who} {version}")
        kind = "package_update" if old else "package_install"
        self.there[name] = version
        self.done[kind, name, old, version] += 1
        self._write_status()

    def remove(self, name: str) -> None:
        """Remove a package that has no configuration files."""
        who, old = f"{name}:amd64", self.there.pop(name)
        self._log("startup packages remove", f"status installed {who} {old}", f"remove {who} {old} <none>")
        self._log(f"status half-configured {who} {old}", f"status half-installed {who} {old}")
        self._log(f"status config-files {who} {old}", f"status not-installed {who} <none>")
        self.done["package_remove", name, None, old] += 1  # the version that went is the event's version
        self._write_status()

    def _log(self, *lines: str) -> None:
        """Add lines to dpkg's log, each in a write of its own as dpkg does."""
        log = os.open(self.root / "var/log/dpkg.log", os.O_WRONLY | os.O_APPEND)
        for line in lines:
            os.write(log, f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} {line}\n".encode())
        os.close(log)

    def _write_status(self) -> None:
        new = self.root / "var/lib/dpkg/status-new"
        new.write_text(
            "".join(
                f"Package: {name}\nStatus: install ok installed\nArchitecture: amd64\nVersion: {version}\n"
                f"Description: {name} of the fixture\n\n"
                for name, version in self.there.items()
            )
        )
        new.rename(self.root / "var/lib/dpkg/status")


def events(home: Home) -> Counter[tuple[str, str, str | None, str | None]]:
    """How often the database tells each change of a package."""
    found = home.rows("SELECT type, package_name, previous, version FROM Event WHERE type GLOB 'package_*'")
    return Counter(found)
