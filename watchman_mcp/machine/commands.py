"""Runs commands of the system, without a shell, within limits of time and output."""

import os
import pwd
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass

from watchman_mcp.errors import Absent, Broken, Denied, InvalidRequest

SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_CHUNK = 64 << 10
# How often a command is asked whether it has ended while something it started holds its output open.
_POLL_SECONDS = 0.1
# How long output may still come after the command itself has ended.
_GRACE_SECONDS = 0.5
_KILL_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Output:
    """What a command left that ended by itself; a negative code is the signal that ended it."""

    code: int
    stdout: str
    stderr: str


class Commands:
    """Runs programs found on one fixed search path, with an environment made from nothing."""

    def __init__(self, path: str = SEARCH_PATH) -> None:
        self.path = path

    def run(
        self, argv: list[str], *, timeout: float = 20, output_cap: int = 8 << 20, input: bytes = b""
    ) -> Output:
        """Run one command to its end; any exit code is an answer.

        Raises: Absent (no such program), Denied (may not be run), Broken (too slow, too long, not startable).
        """
        program = self._find(argv)
        try:
            process = subprocess.Popen(
                [program, *argv[1:]],
                stdin=subprocess.PIPE if input else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                cwd="/",
                env=self._environment(),
                start_new_session=True,
            )
        except PermissionError as error:
            raise Denied(
                f"{program} may not be run by uid {os.geteuid()}; run Watchman as a user who may"
            ) from error
        except (OSError, ValueError) as error:
            raise Broken(f"{program} cannot be started: {error}; run it by hand to see why") from error
        conversation = _Conversation(process, input, output_cap)
        try:
            conversation.hold(time.monotonic() + timeout)
        except _Late:
            raise Broken(
                f"{program} did not end within {timeout:g} s and was killed; run it by hand"
            ) from None
        except _Long:
            raise Broken(
                f"{program} wrote more than {output_cap} bytes and was killed; ask it for less"
            ) from None
        finally:
            _end(process)
        return Output(process.returncode, *conversation.texts())

    def _find(self, argv: list[str]) -> str:
        name = argv[0] if argv else ""
        if not name or "/" in name or "\0" in name:
            raise InvalidRequest(f"{name!r} is no program name; give one that is on {self.path}")
        refused = ""
        for directory in self.path.split(":"):
            candidate = f"{directory}/{name}"
            if os.path.isfile(candidate):
                if os.access(candidate, os.X_OK):
                    return candidate
                refused = candidate
        if refused:
            raise Denied(f"{refused} may not be run by uid {os.geteuid()}; run Watchman as a user who may")
        raise Absent(f"the program {name} is not installed (looked on {self.path})")

    def _environment(self) -> dict[str, str]:
        try:
            home = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            home = "/"
        return {"PATH": self.path, "HOME": home, "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}


class _Late(Exception):
    """The command's time is over."""


class _Long(Exception):
    """The command wrote more than it may."""


class _Conversation:
    """Feeds a process and listens to it on all its pipes at once."""

    def __init__(self, process: subprocess.Popen[bytes], input: bytes, cap: int) -> None:
        assert process.stdout is not None and process.stderr is not None
        self._process = process
        self._input = memoryview(input)
        self._room = cap
        self._output = {process.stdout.fileno(): bytearray(), process.stderr.fileno(): bytearray()}
        self._selector = selectors.DefaultSelector()
        for descriptor in self._output:
            os.set_blocking(descriptor, False)
            self._selector.register(descriptor, selectors.EVENT_READ)
        if process.stdin is not None:
            os.set_blocking(process.stdin.fileno(), False)
            self._selector.register(process.stdin.fileno(), selectors.EVENT_WRITE)

    def hold(self, deadline: float) -> None:
        """Talk until the process has ended and its pipes are closed, or the grace after its end is over."""
        with self._selector:
            ended_at: float | None = None
            while self._selector.get_map() or self._process.poll() is None:
                now = time.monotonic()
                if self._process.poll() is not None:
                    ended_at = now if ended_at is None else ended_at
                    # Something that it left running keeps the pipes; that is not waited for.
                    if now - ended_at > _GRACE_SECONDS:
                        return
                elif now >= deadline:
                    raise _Late
                self._turn(
                    min(_POLL_SECONDS, max(deadline - now, 0.0)) if ended_at is None else _POLL_SECONDS
                )

    def texts(self) -> list[str]:
        return [bytes(part).decode("utf-8", "surrogateescape") for part in self._output.values()]

    def _turn(self, seconds: float) -> None:
        if not self._selector.get_map():
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        for key, _ in self._selector.select(seconds):
            if key.fd in self._output:
                self._hear(key.fd)
            else:
                self._say(key.fd)

    def _hear(self, descriptor: int) -> None:
        part = os.read(descriptor, _CHUNK)
        if not part:
            self._selector.unregister(descriptor)
            return
        self._room -= len(part)
        if self._room < 0:
            raise _Long
        self._output[descriptor] += part

    def _say(self, descriptor: int) -> None:
        try:
            written = os.write(descriptor, self._input[:_CHUNK])
        except BrokenPipeError:  # it does not want the rest
            written = len(self._input)
        self._input = self._input[written:]
        if not self._input:
            assert self._process.stdin is not None
            self._selector.unregister(descriptor)
            self._process.stdin.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes, and kill the process with its group if it still runs; a stuck one is left behind."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_KILL_SECONDS)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
