"""What a client launches: its stdin and stdout, joined to the one daemon of a state directory.

Standard library only and without asyncio, because every client of the machine pays for this process.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import socket
import sys
import threading
import time

from watchman_mcp import __version__
from watchman_mcp.errors import Broken, ChangeRefused, Denied, InvalidRequest, NotFound, WatchmanError

TYPE_CHECKING = False  # typing costs milliseconds that every start of a client would pay
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    Message = dict[str, Any]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DAEMON = (sys.executable, "-I", "-m", "watchman_mcp.daemon")
STAGES = ("dev", "a", "b", "rc", "", "post")
NETWORKS = (
    *("nfs", "nfs4", "cifs", "smb", "smb3", "smbfs", "ncpfs", "afs", "ceph", "lustre", "gpfs", "beegfs"),
    *("glusterfs", "davfs", "fuse.sshfs", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.rclone"),
    *("fuse.davfs2", "fuse.s3fs", "fuse.gcsfuse", "fuse.smbnetfs", "fuse.curlftpfs"),
)
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)
PATIENCE = 60.0  # seconds for a daemon to serve: opening a large store of an older version copies it first
TRIES, PAUSE = 3, 10.0  # daemons in a row that never served, then one more every so many seconds
TURN = 2.0  # seconds that an older version leaves to a newer one which ended its daemon
LIMIT = 16 * 1024 * 1024
LOST = "The Watchman daemon ended during this request; it is not known whether it was done. Ask again."
LONG = "This line is longer than 16 MiB and was not read. Send less in one message."
ANSWER = b'{"jsonrpc":"2.0","id":'
CHANGED = [f"notifications/{what}/list_changed" for what in ("tools", "resources", "prompts")]
HANDSHAKE = ("initialize", "notifications/initialized")
REMEMBERED = (*HANDSHAKE, "logging/setLevel", "resources/subscribe", "resources/unsubscribe")


class Unwritable(Denied):
    """The state directory cannot be written: a read-only or full home, where Watchman works in memory."""


class OtherConfiguration(ChangeRefused):
    """The running daemon was started with another configuration file than this process would give it."""


def _numbered(text: str) -> tuple[int, ...]:
    release, stage, number = [0, 0, 0], "", "0"
    for place, part in enumerate(text.partition("+")[0].split(".")):
        rest = part.lstrip("0123456789")
        if digits := part[: len(part) - len(rest)]:
            release[place:] = [int(digits), *release[place + 1 :]]
        if rest:
            stage = rest.rstrip("0123456789")
            number = rest[len(stage) :] or "0"
            break
    return (*release[:3], STAGES.index(stage) if stage in STAGES else 0, int(number))


VERSION: tuple[int, ...] = _numbered(__version__)


def _home() -> str:
    home = os.environ.get("HOME", "")
    if not home.startswith("/"):
        import pwd

        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            home = "/"
    return home.rstrip("/")


def config_path() -> str:
    """The configuration file that counts here, or nothing when there is none."""
    if named := os.environ.get("WATCHMAN_CONFIG", ""):
        return os.path.abspath(_home() + named[1:] if named.startswith("~/") else named)
    usual = (_home() + "/.config/watchman/config.toml", "/etc/watchman/config.toml")
    return next((path for path in usual if os.path.exists(path)), "")


def state_directory(config: str) -> str:
    """Where the daemon keeps its state: `[store] path` of the file, else the home's usual place.

    Raises: Broken when the file cannot be read.
    """
    path = ""
    if config:
        import tomllib

        try:
            with open(config, "rb") as file:
                store = tomllib.load(file).get("store", {})
        except (OSError, ValueError) as error:
            raise Broken(f"The configuration file {config} cannot be read: {error}. Correct it.") from error
        path = store.get("path", "") if isinstance(store, dict) else ""
        path = _home() + path[1:] if isinstance(path, str) and path.startswith("~/") else path
        if path and not (isinstance(path, str) and path.startswith("/")):
            raise Broken(f"[store] path in {config} must be a full path, such as /var/lib/watchman.")
    return os.path.normpath(path) if path else _home() + "/.local/state/watchman"


def network_file_system(directory: str, mounts: str = "/proc/self/mountinfo") -> str:
    """The type of the network file system that holds the directory, or nothing when it is a local one."""
    real, longest, kind = os.path.realpath(directory) + "/", 0, ""
    if not os.path.exists(mounts):
        return ""
    with open(mounts, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            left, _, right = line.partition(" - ")
            point = left.split(" ")[4].replace("\\040", " ").replace("\\011", "\t").rstrip("/") + "/"
            if real.startswith(point) and len(point) >= longest:  # of two on one point the later one is seen
                longest, kind = len(point), right.split(" ")[0]
    return kind if kind in NETWORKS else ""


def _failed(directory: str, error: OSError) -> WatchmanError:
    text = f"The state directory {directory} cannot be used: {error.strerror}. [store] path moves it."
    return Unwritable(text) if error.errno in READ_ONLY else Broken(text)


def _folder(directory: str) -> int:
    """A descriptor of the state directory, which is made if missing and must be ours alone."""
    me = os.geteuid()
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        if os.stat(directory).st_uid != me or os.lstat(directory).st_uid not in (me, 0):
            raise Denied(
                f"{directory} belongs to another user (you are uid {me}). [store] path names another place."
            )
        folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            seen = os.fstat(folder)
            if seen.st_uid != me or seen.st_mode & 0o022:
                raise Denied(
                    f"Others may write to {directory}, so it is not used. Run: chmod 700 {directory}"
                )
            if seen.st_mode & 0o777 != 0o700:
                os.fchmod(folder, 0o700)
        except BaseException:
            os.close(folder)
            raise
    except OSError as error:
        raise _failed(directory, error) from error
    return folder


def _opened(folder: int, name: str, flags: int) -> int:
    return os.open(name, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=folder)


def _record(lock: int) -> Message:
    try:
        found = json.loads(os.pread(lock, 65536, 0).partition(b"\n")[0])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _write_record(lock: int, record: Message) -> None:
    line = json.dumps(record).encode() + b"\n"
    os.pwrite(lock, line, 0)
    os.ftruncate(lock, len(line))


def serving(lock: int) -> None:
    """Tell every bridge that waits for it that this process, which holds the lock, now serves the socket."""
    _write_record(lock, {**_record(lock), "pid": os.getpid(), "tries": 0})


def _at_socket(folder: int, directory: str, call: Callable[[str], None]) -> None:
    """Call bind or connect with an address that fits: the kernel takes 107 bytes."""
    path = directory + "/sock"
    if len(os.fsencode(path)) <= 107:
        call(path)
    elif os.path.isdir("/proc/self/fd"):
        call(f"/proc/self/fd/{folder}/sock")
    else:
        here = os.open(".", os.O_RDONLY)
        try:
            os.fchdir(folder)
            call("sock")
        finally:
            os.fchdir(here)
            os.close(here)


def _last_words(directory: str) -> str:
    """The end of what a daemon that never served wrote, if it wrote it just now."""
    for name in ("daemon.err", "daemon.log"):
        path = f"{directory}/{name}"
        if os.path.exists(path) and time.time() - os.stat(path).st_mtime < PATIENCE:
            with open(path, "rb") as file:
                file.seek(-min(2000, os.fstat(file.fileno()).st_size), os.SEEK_END)
                lines = file.read().decode("utf-8", "replace").strip().split("\n")
            if lines != [""]:
                return f"The end of {path}:\n" + "\n".join(lines[-12:])
    return f"It left no message in {directory}/daemon.err or daemon.log."


def _tries(directory: str, lock: int) -> Message:
    """The count and time of starts in a row whose daemon never served, with the one that begins now."""
    record, now = _record(lock), time.monotonic()
    tries = 0 if record.get("pid") else record.get("tries", 0)
    if tries >= TRIES and 0 <= now - record.get("tried", 0.0) < PAUSE:
        raise Broken(f"The Watchman daemon ended at each of {tries} starts. {_last_words(directory)}")
    return {"tries": tries + 1, "tried": now}


def _promised(lock: int) -> bool:
    """Whether a newer version just ended the last daemon to start its own: an older one waits for that."""
    record = _record(lock)
    recent = 0 <= time.monotonic() - record.get("asked", 0.0) < TURN
    return recent and _numbered(str(record.get("next"))) > VERSION


def own(directory: str, mode: str, config: str) -> tuple[int, socket.socket]:
    """Take the state directory for one daemon: its lock, held by the descriptor, and its listening socket.

    The mode is "on-demand" (for a daemon started next, which calls `serving`) or "staying" (this process).

    Raises: BlockingIOError when a daemon owns it; Unwritable; Denied; Broken.
    """
    folder = _folder(directory)
    lock = -1
    try:
        if kind := network_file_system(directory):
            raise Denied(
                f"{directory} is on a network file system ({kind}). [store] path moves it to a local disk."
            )
        lock = _opened(folder, "lock", os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _promised(lock):
            raise BlockingIOError
        record: Message = {"pid": os.getpid(), "version": __version__, "mode": mode, "config": config}
        if mode == "on-demand":
            record |= {"pid": 0, **_tries(directory, lock)}
        _write_record(lock, record)
        if "sock" in os.listdir(folder):
            os.unlink("sock", dir_fd=folder)
        listener = socket.socket(socket.AF_UNIX)
        _at_socket(folder, directory, listener.bind)
        os.chmod("sock", 0o600, dir_fd=folder)
        listener.listen(128)
    except BaseException as error:
        if lock >= 0:
            os.close(lock)
        if isinstance(error, OSError) and not isinstance(error, BlockingIOError):
            raise _failed(directory, error) from error
        raise
    finally:
        os.close(folder)
    return lock, listener


def _environment() -> dict[str, str]:
    """The whole environment of a daemon, built from nothing: it is shared, so no client's counts."""
    user = os.environ.get("USER") or os.environ.get("LOGNAME") or str(os.getuid())
    return {"HOME": _home() or "/", "USER": user, "LOGNAME": user, "PATH": PATH, "LC_ALL": "C.UTF-8"}


def _spawn(directory: str, arguments: list[str], lock: int, listener: int) -> None:
    """Start a daemon that inherits the lock and the socket, and nothing else of this process."""
    folder = _folder(directory)
    errors, null = _opened(folder, "daemon.err", os.O_WRONLY | os.O_APPEND), os.open(os.devnull, os.O_RDWR)
    try:
        if os.fstat(errors).st_size > 1_000_000:
            os.ftruncate(errors, 0)
        os.set_inheritable(lock, True)
        os.set_inheritable(listener, True)
        places = [(os.POSIX_SPAWN_DUP2, fd, place) for place, fd in enumerate((null, null, errors))]
        usual = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGCHLD)
        os.posix_spawn(
            arguments[0],
            arguments,
            _environment(),
            file_actions=places,
            setsid=True,
            setsigmask=(),
            setsigdef=usual,
        )
    except OSError as error:
        raise Broken(
            f"{arguments[0]} cannot be started: {error.strerror}. Install Watchman again."
        ) from error
    finally:
        for fd in (folder, errors, null):
            os.close(fd)


def _holds(pid: int, lock: int) -> bool:
    """Whether the process has the lock file open: else the file speaks of one that is gone."""
    try:
        names = os.listdir(f"/proc/{pid}/fd")
    except PermissionError:  # it has privileges that we lack, but it is there
        return True
    except OSError:
        return not os.path.isdir("/proc/self/fd")
    mine = os.fstat(lock)
    for name in names:
        try:
            if os.path.samestat(mine, os.stat(f"/proc/{pid}/fd/{name}")):
                return True
        except OSError:
            continue
    return False


def _owner(directory: str, lock: int, config: str) -> int:
    """The pid of the daemon to speak to; 0 while there is none; below 0 when that one is to end for ours."""
    record = _record(lock)
    pid, theirs = int(record.get("pid", 0)), record.get("config", "")
    if not pid or not _holds(pid, lock):
        return 0
    if theirs != config:
        raise OtherConfiguration(
            f"The daemon of {directory} (pid {pid}) uses {theirs or 'no configuration file'}; this client's "
            f"$WATCHMAN_CONFIG or home gives {config or 'none'}. Let both use one file, or give each a file "
            "with its own [store] path."
        )
    older = _numbered(str(record.get("version", ""))) < VERSION
    return -pid if older and record.get("mode") == "on-demand" else pid


def _reached(folder: int, directory: str) -> socket.socket | None:
    """A connection to the daemon that listens here, found to be of our uid; None when it left just now."""
    daemon = socket.socket(socket.AF_UNIX)
    try:
        daemon.setblocking(False)  # a full backlog is a reason to look again, not to wait for good
        _at_socket(folder, directory, daemon.connect)
    except OSError:
        daemon.close()
        return None
    daemon.setblocking(True)
    if hasattr(socket, "SO_PEERCRED"):
        uid = int.from_bytes(daemon.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)[4:8], sys.byteorder)
        if uid != os.geteuid():
            daemon.close()
            raise Denied(
                f"The daemon of {directory} runs as uid {uid}, which is not yours. Nothing was said to it."
            )
    return daemon


def _join(directory: str, config: str, ended: set[int]) -> socket.socket | None:
    """A connection to the daemon that owns the directory; None while it starts, leaves or makes room."""
    folder = _folder(directory)
    lock = -1
    try:
        lock = _opened(folder, "lock", os.O_RDWR)
        pid = _owner(directory, lock, config)
        if pid > 0:
            return _reached(folder, directory)
        if pid < 0 and -pid not in ended:
            ended.add(-pid)
            _write_record(lock, {**_record(lock), "next": __version__, "asked": time.monotonic()})
            os.kill(-pid, signal.SIGTERM)
    except ProcessLookupError:
        pass
    finally:
        for fd in (folder, lock):
            if fd >= 0:
                os.close(fd)
    return None


def connect(directory: str, config: str, command: Sequence[str] = DAEMON) -> socket.socket:
    """A connection to the daemon of the state directory, which is started when there is none.

    Nothing is sent before the daemon serves, so a start that fails may be tried again.

    Raises: OtherConfiguration; Unwritable; Denied; Broken when the daemon cannot be started.
    """
    end, ended = time.monotonic() + PATIENCE, set[int]()
    while time.monotonic() < end:
        try:
            lock, listener = own(directory, "on-demand", config)
        except BlockingIOError:
            if daemon := _join(directory, config, ended):
                return daemon
            time.sleep(0.01)
        else:
            held = ["--lock", str(lock), "--listen", str(listener.fileno())]
            try:
                _spawn(
                    directory,
                    [*command, *held, "--directory", directory, "--config", config],
                    lock,
                    listener.fileno(),
                )
            finally:
                os.close(lock)
                listener.close()
    raise Broken(
        f"The daemon that holds {directory}/lock did not serve within {PATIENCE:.0f} seconds. "
        f"{_last_words(directory)} Ask again, or end it."
    )


def _hung_up(daemon: socket.socket) -> bool:
    """Whether the daemon is gone already, so that nothing is sent which might have been done."""
    look = select.poll()
    look.register(daemon, 0)
    return bool(look.poll(0))


def _answered(line: bytes) -> tuple[int | str, bool] | None:
    """The id of a response in the order that the daemon writes it, and whether it is an error; else None.

    Only the first bytes are read: what stands before the first `,"result":` is the whole id or no JSON.
    """
    if not line.startswith(ANSWER):
        return None
    head = line[len(ANSWER) : len(ANSWER) + 300]
    for mark in (b',"result":', b',"error":'):
        token, found, _ = head.partition(mark)
        if found:
            try:
                number = json.loads(token)
            except ValueError:
                continue
            return (number, mark == b',"error":') if type(number) in (int, str) else None
    return None


def _parsed(line: bytes) -> list[Message]:
    """The messages of a line: one, those of a batch, or none when it is not JSON."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return [one for one in (found if isinstance(found, list) else [found]) if isinstance(one, dict)]


def _quiet(message: Message) -> bool:
    """Whether it is a notification or a response, to which no answer comes."""
    return "id" not in message if "method" in message else "result" in message or "error" in message


def _line(**message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"


def _say(text: str) -> None:
    try:
        os.write(2, f"watchman-mcp: {text}\n".encode("utf-8", "replace"))
    except OSError:  # nobody reads it
        return


def _failure(number: int | str | None, text: str, code: int = -32000) -> bytes:
    return _line(id=number, error={"code": code, "message": text})


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
                    found = _parsed(bytes(buffer[:300]).partition(b',"method":')[0] + b"}")
                    self._write(_failure(found[0].get("id") if found else None, LONG, -32600))
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
        messages = _parsed(line)
        if len(messages) == 1 and _quiet(messages[0]):
            self._without_answer(messages[0], line)
            return
        requests = [m for m in messages if "method" in m and type(m.get("id")) in (int, str)]
        try:
            daemon = self._live(requests)
        except (WatchmanError, OSError) as error:
            self.stopped = isinstance(error, OtherConfiguration)
            _say(str(error))
            for request in requests:
                self._write(_failure(request["id"], str(error)))
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
                self._write(_line(method=method))
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
            _say(f"the daemon ended: {error}")
        self._lost(daemon)

    def _from_daemon_line(self, line: bytes) -> None:
        if known := _answered(line):
            answers = [known]
        else:
            messages = _parsed(line)
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
                self._write(_failure(number, LOST))
            self.state.notify_all()


def ask(
    directory: str,
    config: str,
    method: str,
    params: Message,
    on_notification: Callable[[Message], None] | None = None,
    progress_token: int | str | None = None,
    timeout: float = 120.0,
    command: Sequence[str] = DAEMON,
) -> Message:
    """The result of one request to the daemon, without a handshake; started when there is none.

    Raises: InvalidRequest; NotFound; Broken when the daemon fails or is silent; what `connect` raises.
    """
    meta = {
        **params.get("_meta", {}),
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "watchman-mcp", "version": __version__},
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    if progress_token is not None:
        meta["progressToken"] = progress_token
    with connect(directory, config, command) as daemon:
        daemon.settimeout(timeout)
        try:
            daemon.sendall(_line(id=1, method=method, params={**params, "_meta": meta}))
            with daemon.makefile("rb") as lines:
                for line in lines:
                    message = json.loads(line)
                    if message.get("id") == 1 and "method" not in message:
                        return _result(message)
                    if on_notification and "method" in message:
                        on_notification(message)
        except (OSError, ValueError) as error:
            raise Broken(
                f"The daemon did not answer {method}: {error}. See {directory}/daemon.log."
            ) from error
    raise Broken(LOST)


def _result(message: Message) -> Message:
    if error := message.get("error"):
        kinds: dict[int, type[WatchmanError]] = {-32602: InvalidRequest, -32601: NotFound, -32002: NotFound}
        raise kinds.get(error.get("code"), Broken)(str(error.get("message")))
    result: Message = message["result"]
    return result


def _reach() -> socket.socket:
    config = config_path()
    return connect(state_directory(config), config)


def main() -> int:
    """Serve one client on stdin and stdout until it leaves; without a writable home, in memory."""
    while (fd := os.open(os.devnull, os.O_RDWR)) < 3:  # a closed stdout would be the number of our next file
        pass
    os.close(fd)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        config = config_path()
        directory = state_directory(config)
        folder = _folder(directory)
        try:
            os.close(_opened(folder, "lock", os.O_RDWR))
        except OSError as error:
            raise _failed(directory, error) from error
        finally:
            os.close(folder)
    except Unwritable as error:
        _say(f"{error} Until then it works in memory, for this client.")
        command = [*DAEMON, "--stdio", "--memory", "--config", config]
        os.execve(command[0], command, _environment())  # noqa: S606 - this process becomes the daemon
    except WatchmanError:
        pass  # said in the answer to each request, where the client shows it
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # a daemon started here leaves no zombie
    return Bridge(_reach).run()
