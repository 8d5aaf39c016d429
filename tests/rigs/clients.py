"""Clients that speak through a bridge of their own, and a stand-in for the daemon that they reach.

Run as a file it is that bridge ("bridge VERSION DIRECTORY CONFIG COMMAND..."), that daemon ("daemon KIND"), a
bridge of the usual home whose daemon is of a kind ("bridge-of KIND"), or a daemon that stays ("serve KIND
WORDS..."). Of kind "witnessed", "stuck", "noisy", "resolving" or "hasty" it is the real daemon, with
something in it to look at.
"""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import watchman_mcp

RIG = __file__
STAND_IN = (sys.executable, "-I", RIG, "daemon", "answers")
DEAD = (sys.executable, "-I", RIG, "daemon", "dies")
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
}


class Client:
    """One client: a bridge as its child, every line that the bridge wrote, and a way to wait for one."""

    def __init__(
        self, directory, config="", command=STAND_IN, version=watchman_mcp.__version__, argv=None, env=None
    ):
        argv = argv or [sys.executable, "-I", __file__, "bridge", version, str(directory), config, *command]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env=env)
        self.came = threading.Condition()
        self.lines = []
        self.ended = False
        self.errors = b""
        self.threads = [threading.Thread(target=one, daemon=True) for one in (self._read, self._read_errors)]
        for thread in self.threads:
            thread.start()

    def _read(self):
        for line in self.process.stdout:
            with self.came:
                self.lines.append(json.loads(line))
                self.came.notify_all()
        with self.came:
            self.ended = True
            self.came.notify_all()

    def _read_errors(self):
        self.errors = self.process.stderr.read()

    def send(self, *messages):
        self.write(
            b"".join(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n" for message in messages)
        )

    def write(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def wait(self, test, seconds=20):
        """The first line that passes the test."""
        with self.came:
            found = lambda: next((line for line in self.lines if test(line)), None)  # noqa: E731
            self.came.wait_for(lambda: self.ended or found(), seconds)
            line = found()
        assert line is not None, (str(self.lines[-5:])[:2000], self.errors)
        return line

    def answers(self, number):
        with self.came:
            return [line for line in self.lines if line.get("id") == number and "method" not in line]

    def ask(self, number, method, seconds=20, **params):
        self.send({"id": number, "method": method, "params": params})
        return self.wait(lambda line: line.get("id") == number and "method" not in line, seconds)

    def start_session(self):
        answer = self.ask("hello", "initialize", protocolVersion="2025-06-18", capabilities={})
        self.send({"method": "notifications/initialized"})
        return answer["result"]

    def finish(self, seconds=10):
        """End the client's side; the bridge's exit status, with everything it wrote read."""
        self.process.stdin.close()
        status = self.process.wait(seconds)
        for thread in self.threads:
            thread.join(seconds)
        self.process.stdout.close()
        self.process.stderr.close()
        return status


def daemon_pid(directory):
    """The pid in the lock file; 0 while a daemon starts or none ever did."""
    try:
        with open(f"{directory}/lock", encoding="utf-8") as file:
            return json.loads(file.readline() or "{}").get("pid", 0)
    except (FileNotFoundError, ValueError):
        return 0


def until(test, seconds=60):
    """Wait for a condition that another process brings about; the bound is no measure of its speed."""
    end = time.monotonic() + seconds
    while not (found := test()):
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.005)
    return found


def alive(pid):
    """Whether the process runs; one that ended and waits to be collected does not."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def lock_is_free(directory):
    """Whether no daemon owns the directory: the last thread of one that was killed takes a moment to go."""
    lock = os.open(f"{directory}/lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(lock)


def end_daemon(directory):
    """End the daemon of the directory, if one runs, and wait until it has."""
    pid = daemon_pid(directory)
    if pid and alive(pid):
        os.kill(pid, signal.SIGKILL)
        until(lambda: lock_is_free(directory))


class Connection:
    """The stand-in's side of one client."""

    def __init__(self, peer, directory):
        self.peer, self.directory = peer, directory
        self.lock = threading.Lock()
        self.seen = []
        self.replied = threading.Condition()
        self.replies = {}

    def send(self, **message):
        line = json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode() + b"\n"
        with self.lock:
            self.peer.sendall(line)

    def serve(self):
        try:
            for line in self.peer.makefile("rb"):
                try:
                    message = json.loads(line)
                except (ValueError, RecursionError):
                    self.send(id=None, error={"code": -32700, "message": "not JSON"})
                    continue
                self.take(message)
        except OSError:
            return

    def take(self, message):
        if not isinstance(message, dict):
            self.send(id=None, error={"code": -32600, "message": "not a JSON-RPC message"})
        elif "method" not in message:
            with self.replied:
                self.replies[message["id"]] = message
                self.replied.notify_all()
        else:
            params = message.get("params") or {}
            self.seen.append(f"{message['method']} {params['uri']}" if "uri" in params else message["method"])
            if "id" in message:
                threading.Thread(target=self.answer, args=(message, params), daemon=True).start()

    def answer(self, message, params):
        deed = getattr(self, message["method"].replace("/", "_"), None)
        try:
            if deed is None:
                self.send(id=message["id"], error={"code": -32601, "message": f"no {message['method']}"})
            else:
                self.send(id=message["id"], result=deed(**params))
        except OSError:
            return

    def initialize(self, **params):
        return {"serverInfo": {"pid": os.getpid()}, "directory": os.getcwd(), "environment": dict(os.environ)}

    def resources_subscribe(self, uri):
        return {}

    def resources_unsubscribe(self, uri):
        return {}

    def logging_setLevel(self, level):
        return {}

    def tools_list(self, **params):
        return {"tools": [], "params": params}

    def seen_so_far(self, **params):
        return {"seen": self.seen, "pid": os.getpid()}

    def deed(self, token, seconds=0.0, **params):
        """Do what may not be done twice: one line in a file; then answer."""
        done = os.open(f"{self.directory}/done", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.write(done, token.encode() + b"\n")
        os.close(done)
        time.sleep(seconds)
        return {"token": token}

    def sized(self, size):
        return {"text": "x" * size, "trap": '","id":7,"result":'}

    def slow(self, seconds):
        time.sleep(seconds)
        return {}

    def die(self, **params):
        os._exit(9)

    def die_within_the_answer(self, **params):
        self.peer.sendall(b'{"jsonrpc":"2.0","id":"x","result":{"cut')
        os._exit(9)

    def subscriptions_listen(self, **params):
        threading.Event().wait()

    def question(self):
        """Ask the client with an id that every daemon uses first, and tell what came back."""
        self.send(id=1, method="elicitation/create", params={"message": f"from {os.getpid()}"})
        with self.replied:
            assert self.replied.wait_for(lambda: 1 in self.replies, 20)
            return {"reply": self.replies[1]["result"], "pid": os.getpid()}

    def withdrawn_question(self):
        self.send(id=1, method="elicitation/create", params={"message": "never mind"})
        self.send(method="notifications/cancelled", params={"requestId": 1})
        return {}

    def progressing(self, _meta):
        self.send(
            method="notifications/progress", params={"progressToken": _meta["progressToken"], "progress": 1}
        )
        return {"meta": _meta}

    def backwards(self):
        """An answer whose id comes last, in the order of another writer."""
        self.peer.sendall(b'{"result":{"id":5},"jsonrpc":"2.0","id":"last"}\n')
        return {}


def run_daemon(kind, arguments):
    """Serve the socket that was handed over, a thread for each connection."""
    from watchman_mcp.bridge import serving

    given = dict(zip(arguments[::2], arguments[1::2], strict=True))
    lock, listener = int(given["--lock"]), socket.socket(fileno=int(given["--listen"]))
    os.set_inheritable(lock, False)
    os.chdir("/")
    with open(f"{given['--directory']}/starts", "a", encoding="utf-8") as starts:
        starts.write(f"{os.getpid()}\n")
    if kind == "dies":
        sys.exit("the store was written by a newer version")
    serving(lock)
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=Connection(peer, given["--directory"]).serve, daemon=True).start()


def run_bridge(version, directory, config, *command):
    """A bridge that says it has this version, whatever is installed."""
    watchman_mcp.__version__ = version
    from watchman_mcp.bridge import Bridge, connect

    return Bridge(lambda: connect(directory, config, command)).run()


def witnessed(directory):
    """Have the real daemon note the id of each request before it begins with it."""
    from watchman_mcp.server import Server

    begun = os.open(f"{directory}/begun", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    understand = Server._understand

    async def noted(self, ctx, call_next):
        if ctx.request_id is not None:
            os.write(begun, f"{ctx.request_id}\n".encode())
        return await understand(self, ctx, call_next)

    Server._understand = noted


def stuck(directory):
    """Give the real daemon a collector that hangs in the kernel for good."""
    reading, _writing = os.pipe()
    _add_collector("stuck", lambda: os.read(reading, 1))


def noisy(directory):
    """Give the real daemon a collector whose library prints in every way there is."""

    def chatter():
        print("a library prints", flush=True)
        os.write(1, b"a library writes\n")
        subprocess.run(["echo", "a library's child prints"], check=True)
        print("a library prints and does not flush", end="")

    _add_collector("noisy", chatter)


def resolving(directory):
    """Have the real daemon know name servers in the plainest way, from one file of the machine."""
    from watchman_mcp.schema.network import DNSServer

    def collect(look):
        for line in look.machine.files.text("/etc/resolv.conf").splitlines():
            yield DNSServer(ip=line.removeprefix("nameserver "), source="resolv.conf")

    _add_collector("dns", collect, emits=(DNSServer,), watch=("/etc/resolv.conf",))


def hasty(directory):
    """Have the real daemon open and close alerts within seconds, by the same rules."""
    import dataclasses

    from watchman_mcp import alerts

    alerts.RULES = tuple(dataclasses.replace(one, after=one.after and 1, calm=1) for one in alerts.RULES)
    alerts.SOON = 0.2


def _add_collector(name, deed, **more):
    from watchman_mcp import collectors, daemon

    def collect(look):
        yield from (deed() if not more else deed(look)) or ()

    given = {"emits": (), "every": lambda settings: 600, **more}
    added = collectors.Collector(collect, name=name, **given)
    daemon.load_collectors = lambda: (*(one for one in collectors.load() if one.name != name), added)


REAL = {"witnessed": witnessed, "stuck": stuck, "noisy": noisy, "resolving": resolving, "hasty": hasty}


def run_real(kind, arguments):
    """The real daemon of one of these kinds, as a bridge starts it."""
    from watchman_mcp import daemon

    REAL[kind](arguments[arguments.index("--directory") + 1])
    return daemon.main(arguments)


def serve_real(kind, words):
    """The real daemon of one of these kinds, as `watchman-mcp serve` starts it."""
    from watchman_mcp import bridge, cli

    REAL[kind](bridge.state_directory(bridge.config_path()))
    return cli.main(words)


def run_bridge_of(kind):
    """A bridge of the usual home, whose daemon is of this kind."""
    from watchman_mcp.bridge import Bridge, config_path, connect, state_directory

    config = config_path()
    command = (sys.executable, "-I", RIG, "daemon", kind)
    return Bridge(lambda: connect(state_directory(config), config, command)).run()


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "daemon":
        sys.exit(run_real(rest[0], rest[1:]) if rest[0] in REAL else run_daemon(rest[0], rest[1:]))
    if what == "bridge-of":
        sys.exit(run_bridge_of(*rest))
    if what == "serve":
        sys.exit(serve_real(rest[0], rest[1:]))
    sys.exit(run_bridge(*rest))
