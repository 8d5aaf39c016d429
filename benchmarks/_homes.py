"""A home of its own for a daemon and its clients, and the plain server that they are measured against."""

import fcntl
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

PATIENCE = 60.0
BRIDGE = [str(Path(sys.executable).parent / "watchman-mcp")]
PEER = '''
from mcp.server import MCPServer

server = MCPServer("plain")


@server.tool()
def greet(name: str = "world") -> str:
    """Say hello."""
    return f"hello {name}"


server.run("stdio")
'''
"""The least that a server written with the SDK can be: one tool that does nothing."""


class Home:
    """A temporary home; its daemons end with it."""

    def __init__(self) -> None:
        self.place = Path(tempfile.mkdtemp(prefix="watchman-bench-"))
        self.state = self.place / ".local/state/watchman"
        self.env = {"HOME": str(self.place), "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
        self._serving: subprocess.Popen[bytes] | None = None

    def configure(self, text: str) -> None:
        """Give it a configuration file."""
        config = self.place / ".config/watchman/config.toml"
        config.parent.mkdir(parents=True)
        config.write_text(text)
        config.chmod(0o600)

    def serve(self) -> int:
        """Start a daemon that stays; its pid, once it answers."""
        with open(self.place / "serve.err", "wb") as errors:
            self._serving = subprocess.Popen(
                [*BRIDGE, "serve"], env=self.env, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors
            )
        deadline = time.monotonic() + PATIENCE
        while True:
            if self._serving.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"no daemon: {(self.place / 'serve.err').read_text()[-500:]}")
            if self.daemon() == self._serving.pid:
                break
            time.sleep(0.05)
        with self.client() as client:
            client.call("overview")
        return self._serving.pid

    def daemon(self) -> int:
        """The pid of the daemon that holds this home's lock; 0 where none does."""
        try:
            lock = os.open(self.state / "lock", os.O_RDWR)
        except FileNotFoundError:
            return 0
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with suppress(ValueError):
                return int(json.loads(os.pread(lock, 65536, 0).partition(b"\n")[0]).get("pid") or 0)
        finally:
            os.close(lock)
        return 0

    @contextmanager
    def client(self) -> Iterator["Client"]:
        """A client behind a bridge of its own, after its handshake."""
        with opened(BRIDGE, self.env) as client:
            yield client

    def close(self) -> None:
        """End the daemon, whoever started it, and remove the home."""
        pid = self.daemon()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if pid:
                with suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = time.monotonic() + 15
            while self.daemon() and time.monotonic() < deadline:
                time.sleep(0.02)
        if self._serving:
            self._serving.kill()
            self._serving.wait()
        shutil.rmtree(self.place, ignore_errors=True)


@contextmanager
def home() -> Iterator[Home]:
    """A home for the time of a measurement."""
    one = Home()
    try:
        yield one
    finally:
        one.close()


class Client:
    """One client of a server on stdio: one question at a time."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        self._buffer = b""
        self._number = 0

    @property
    def pid(self) -> int:
        return self._process.pid

    def start(self) -> None:
        """The handshake."""
        client = {"name": "bench", "version": "1"}
        self.ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
        self._send({"method": "notifications/initialized"})

    def ask(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """The result of a request."""
        self._number += 1
        self._send(
            {"id": self._number, "method": method, **({"params": params} if params is not None else {})}
        )
        while True:
            line = json.loads(self._line())
            if line.get("id") == self._number and "method" not in line:
                if "error" in line:
                    raise RuntimeError(f"{method}: {line['error']}")
                return dict(line["result"])

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """The structured answer of a tool."""
        result = self.ask("tools/call", {"name": tool, "arguments": arguments})
        if result.get("isError"):
            raise RuntimeError(f"{tool}: {result['content'][0]['text']}")
        return dict(result.get("structuredContent") or {})

    def _send(self, message: dict[str, Any]) -> None:
        os.write(self._in, json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            if not select.select([self._out], [], [], PATIENCE)[0]:
                raise RuntimeError(f"no answer within {PATIENCE:.0f} s")
            data = os.read(self._out, 1 << 20)
            if not data:
                raise RuntimeError("the server ended")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line

    def close(self) -> None:
        """Leave as clients do, by closing stdin."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def opened(argv: list[str], env: dict[str, str]) -> Iterator[Client]:
    """A client of this server, after its handshake."""
    client = Client(argv, env)
    try:
        client.start()
        yield client
    finally:
        client.close()


@contextmanager
def plain_server() -> Iterator[tuple[list[str], dict[str, str]]]:
    """The command and environment of the plain server."""
    with tempfile.TemporaryDirectory() as place:
        script = Path(place) / "plain.py"
        script.write_text(PEER)
        yield (
            [sys.executable, "-I", str(script)],
            {"HOME": place, "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"},
        )


def memory(pid: int) -> tuple[float, float]:
    """Resident memory of a process and its proportional share of it, in MiB."""
    with open(f"/proc/{pid}/smaps_rollup") as lines:
        kb = {words[0]: int(words[1]) for words in map(str.split, lines) if words[0] in ("Rss:", "Pss:")}
    return kb["Rss:"] / 1024, kb["Pss:"] / 1024


def cpu_seconds(pid: int) -> float:
    """CPU time that a process and its ended children have used."""
    with open(f"/proc/{pid}/stat") as file:
        words = file.read().rpartition(")")[2].split()
    return sum(map(int, words[11:15])) / os.sysconf("SC_CLK_TCK")


def settle(pid: int, seconds: float = 90.0) -> None:
    """Wait until a process has done nothing for a while: first looks, checks and retention are over."""
    quiet, last, deadline = 0, cpu_seconds(pid), time.monotonic() + seconds
    while quiet < 6 and time.monotonic() < deadline:
        time.sleep(0.25)
        now = cpu_seconds(pid)
        quiet, last = (quiet + 1 if now - last < 0.02 else 0), now
