"""One client's stdin and stdout, joined to the daemon."""

from __future__ import annotations

import json
import os
import select
import socket
import threading

from watchman_mcp.bridge.lines import answered, failure, line_of, parsed, quiet, say
from watchman_mcp.bridge.places import OtherConfiguration
from watchman_mcp.errors import Broken, WatchmanError

TYPE_CHECKING = False  # typing costs milliseconds that every start of a client would pay
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    Message = dict[str, Any]

LIMIT = 16 * 1024 * 1024
LOST = "The Watchman daemon ended during this request; it is not known whether it was done. Ask again."
LONG = "This line is longer than 16 MiB and was not read. Send less in one message."
CHANGED = [f"notifications/{what}/list_changed" for what in ("tools", "resources", "prompts")]
HANDSHAKE = ("initialize", "notifications/initialized")
REMEMBERED = (*HANDSHAKE, "logging/setLevel", "resources/subscribe", "resources/unsubscribe")


def _hung_up(daemon: socket.socket) -> bool:
    """Whether the daemon is gone already, so that nothing is sent which might have been done."""
    look = select.poll()
    look.register(daemon, 0)
    return bool(look.poll(0))


class Bridge:
    """One client's stdin and stdout, joined to the daemon, which may end and be started again meanwhile.

    The main thread reads the client; one thread for each connection reads the daemon.
    """

    def __init__(self, reach: Callable[[], socket.socket]) -> None:
        self.reach = reach
        self.parent = os.getppid()
        self.state = threading.Condition()  # guards what follows; told when a request is answered
        self.daemon: socket.socket | None = None
        self.waiting: dict[int | str, Message] = {}  # requests of the client without an answer
        self.session: dict[str, Message] = {}  # what a new daemon must be told again
        self.asked: dict[int, Any] = {}  # requests of this daemon: our number -> its id
        self.count = 0
        self.reader: threading.Thread | None = None
        self.replays: set[int | str] = set()  # ids of what was told again, whose answers nobody waits for
        self.mark = os.urandom(8).hex()  # no client uses an id that begins so
        self.out = threading.Lock()
        self.stopped = False

    def run(self) -> int:
        """Pass lines until the client or our parent ends, and wait a little for answers in flight."""
        for line in self._lines():
            if not line.isspace():
                self._from_client(line)
            if self.stopped:
                return 1
        with self.state:
            # The daemon cancels what runs for a client that hangs up: this end stays open for the answers.
            self.state.wait_for(
                lambda: all(m["method"] == "subscriptions/listen" for m in self.waiting.values()), 5
            )
        self.out.acquire(timeout=5)  # a line that is being written is written to its end
        return 0

    def _lines(self) -> Iterator[bytes]:
        """The client's lines, the last one even if cut; one beyond the limit is answered here and skipped."""
        buffer = bytearray()
        while chunk := self._chunk():
            *ends, rest = chunk.split(b"\n")
            for end in ends:
                buffer += end if len(buffer) <= LIMIT else b""
                if len(buffer) > LIMIT:
                    found = parsed(bytes(buffer[:300]).partition(b',"method":')[0] + b"}")
                    self._write(failure(found[0].get("id") if found else None, LONG, -32600))
                elif buffer:
                    yield bytes(buffer)
                buffer.clear()
            buffer += rest if len(buffer) <= LIMIT else b""
        if buffer and len(buffer) <= LIMIT:
            yield bytes(buffer)

    def _chunk(self) -> bytes:
        """What the client wrote next; nothing at its end or our parent's, which may leave the pipe open."""
        stdin = select.poll()
        stdin.register(0, select.POLLIN)
        while not stdin.poll(2000):
            if os.getppid() != self.parent:
                return b""
        return os.read(0, 65536)

    def _write(self, line: bytes) -> None:
        with self.out:
            rest = memoryview(line)
            try:
                while rest:
                    rest = rest[os.write(1, rest) :]
            except OSError:  # the client is gone, and with it the reason for this process
                os._exit(0)

    def _from_client(self, line: bytes) -> None:
        messages = parsed(line)
        if len(messages) == 1 and quiet(messages[0]):
            self._without_answer(messages[0], line)
            return
        requests = [m for m in messages if "method" in m and type(m.get("id")) in (int, str)]
        try:
            daemon = self._live(requests)
        except (WatchmanError, OSError) as error:
            self.stopped = isinstance(error, OtherConfiguration)
            say(str(error))
            for request in requests:
                self._write(failure(request["id"], str(error)))
            return
        with self.state:
            for request in requests:
                keep = request["method"] in REMEMBERED
                self.waiting[request["id"]] = request if keep else {"method": request["method"]}
        self._send(daemon, line)

    def _send(self, daemon: socket.socket, line: bytes) -> None:
        try:
            daemon.sendall(line + b"\n")
        except OSError:
            assert self.reader is not None
            self.reader.join()  # it passes on what came before the end
            self._lost(daemon)

    def _without_answer(self, message: Message, line: bytes) -> None:
        """Pass on a notification or a response: it starts no daemon, and is dropped when its own is gone."""
        method, number, params = message.get("method"), message.get("id"), message.get("params")
        with self.state:
            daemon = self.daemon
            if method is None:
                if not isinstance(number, int) or number not in self.asked:
                    return
                line = json.dumps({**message, "id": self.asked.pop(number)}).encode()
            elif method == "notifications/initialized":
                self.session[method] = message
            elif method == "notifications/cancelled" and isinstance(params, dict):
                self._release(params.get("requestId"), failed=True)
                self.state.notify_all()
        if daemon:
            self._send(daemon, line)

    def _live(self, requests: list[Message]) -> socket.socket:
        """The connection to a daemon that knows this client."""
        with self.state:
            if self.daemon and not _hung_up(self.daemon):
                return self.daemon
        if self.reader:
            self.reader.join()
        if any(request["method"] == "initialize" for request in requests):
            self.session.clear()
        daemon = self.reach()
        again = [self.session[key] for key in HANDSHAKE if key in self.session]
        again += [message for key, message in self.session.items() if key not in HANDSHAKE]
        told = [{**m, "id": f"{self.mark}-{n}"} if "id" in m else m for n, m in enumerate(again)]
        self.replays = {m["id"] for m in told if "id" in m}
        self.daemon = daemon
        self.reader = threading.Thread(target=self._from_daemon, args=(daemon,), daemon=True)
        self.reader.start()
        try:
            daemon.sendall(b"".join(json.dumps(message).encode() + b"\n" for message in told))
        except OSError as error:
            self.reader.join()
            raise Broken(LOST) from error
        if "notifications/initialized" in self.session:
            for method in CHANGED:
                self._write(line_of(method=method))
        return daemon

    def _from_daemon(self, daemon: socket.socket) -> None:
        try:
            with daemon.makefile("rb", buffering=65536) as lines:
                while (line := lines.readline()).endswith(
                    b"\n"
                ):  # one that the daemon's end cut is no answer
                    self._from_daemon_line(line)
                    del line  # it may have been a large one, and the next may be hours away
        except OSError as error:
            say(f"the daemon ended: {error}")
        self._lost(daemon)

    def _from_daemon_line(self, line: bytes) -> None:
        if known := answered(line):
            answers = [known]
        else:
            messages = parsed(line)
            if not messages:
                return
            if "method" in messages[0]:
                line = self._question(messages[0], line)
            answers = [
                (m["id"], "error" in m)
                for m in messages
                if "method" not in m and type(m.get("id")) in (int, str)
            ]
        if any(number in self.replays for number, _ in answers):
            self.replays.discard(answers[0][0])
            return
        self._write(line)
        with self.state:
            for number, failed in answers:
                self._release(number, failed)
            self.state.notify_all()

    def _question(self, message: Message, line: bytes) -> bytes:
        """A request or notification of the daemon; ids are made our own, as a next daemon counts anew."""
        with self.state:
            params = message.get("params")
            if "id" in message:
                self.count += 1
                self.asked[self.count] = message["id"]
                return json.dumps({**message, "id": self.count}).encode() + b"\n"
            if message["method"] == "notifications/cancelled" and isinstance(params, dict):
                for number, theirs in self.asked.items():
                    if theirs == params.get("requestId"):
                        return (
                            json.dumps({**message, "params": {**params, "requestId": number}}).encode()
                            + b"\n"
                        )
        return line

    def _release(self, number: Any, failed: bool) -> None:
        """A request is answered or given up; what a next daemon must know of it is kept."""
        request = (
            self.waiting.pop(number, {"method": ""}) if isinstance(number, int | str) else {"method": ""}
        )
        if failed or request["method"] not in REMEMBERED:
            return
        params = request.get("params")
        uri = f" {params.get('uri')}" if isinstance(params, dict) and "uri" in params else ""
        if request["method"] == "resources/unsubscribe":
            self.session.pop(f"resources/subscribe{uri}", None)
        else:
            self.session[request["method"] + uri] = request

    def _lost(self, daemon: socket.socket) -> None:
        """The daemon of this connection is gone: what waits for it is told so, once, and never sent again."""
        with self.state:
            lost, self.waiting = self.waiting, {}
            self.asked.clear()
            if self.daemon is daemon:
                self.daemon = None
            for number in lost:
                self._write(failure(number, LOST))
            self.state.notify_all()
