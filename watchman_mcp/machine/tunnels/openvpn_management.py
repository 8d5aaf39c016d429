"""What OpenVPN tells at its management socket: its state, and what its status file would say.

One program at a time can be connected there. So it is asked only where the process itself listens and nobody
is connected, for two seconds at most, and nothing but `state`, `status` and `quit` is ever said. What it
sends by itself, such as questions for passwords, is passed over and not kept.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.paths import locate, printable
from watchman_mcp.machine.sockets import ESTABLISHED, LISTENING, tables

from .openvpn_status import Status, read_status

SECONDS = 2.0
SIZE_CAP = 4 << 20
CONNECTED = "CONNECTED"
_GREETING = ">INFO:OpenVPN Management Interface Version "
_LOCKED = "ENTER PASSWORD:"
# With any other option of this kind, who connects or leaves takes part in what OpenVPN does: it would ask
# this connection whether a client may come in or to sign with a key, and with some it reconnects afterwards.
_HARMLESS = frozenset(
    f"management{more}"
    for more in (
        "", "-client-group", "-client-user", "-hold", "-log-cache", "-query-passwords", "-query-proxy",
        "-query-remote", "-up-down",
    )
)  # fmt: skip


class State(NamedTuple):
    """What OpenVPN is at."""

    name: str
    """CONNECTED, RECONNECTING, WAIT, ..."""
    since: float
    """A moment of the Unix clock."""
    remote: str | None = None
    """The address that it is connected to, and its port."""


class Told(NamedTuple):
    """What one process said."""

    state: State | None
    status: Status | None
    """None where it cannot tell, for instance before it began."""
    unreadable: int


def ask(
    files: Files, pid: int, options: Mapping[str, list[str]], directory: str, *, state: bool = True
) -> Told:
    """Ask a process for its status, and its state where that is wanted.

    Raises: Absent (it has no such socket), Denied, Broken (it is not asked, or does not answer).
    """
    words = options.get("management", [])
    if len(words) < 2:
        raise Absent("it has no management socket")
    harmful = sorted(name for name in options if name.startswith("management") and name not in _HARMLESS)
    if harmful:
        name = printable(harmful[0])
        raise Broken(f"its management socket is not asked, since that acts on an OpenVPN with --{name}")
    if len(words) > 2:
        raise Broken("its management socket wants a password and is not asked")
    with _connected(files, pid, words, directory) as link:
        talk = Talk(link)
        talk.greet()
        found, unreadable = read_state(talk.ask("state") or "") if state else (None, 0)
        text = talk.ask("status 3")
        talk.leave()
    status = read_status(text) if text is not None else None
    return Told(found, status, unreadable + (status.unreadable if status else 0))


def read_state(text: str) -> tuple[State | None, int]:
    """The newest state of an answer to `state`, and how many of its lines are none."""
    found, unreadable = None, 0
    for line in text.split("\n"):
        cells = line.rstrip("\r").split(",")
        if cells == [""] or cells == ["END"]:
            continue
        if len(cells) > 1 and _is_moment(cells[0]) and cells[1].replace("_", "").isalpha():
            found = State(cells[1], float(cells[0]), _remote(cells[4:6]))
        else:
            unreadable += 1
    return found, unreadable


def _remote(cells: list[str]) -> str | None:
    """The far end of a state; versions before 2.4 tell no port, a server has none."""
    address = ":".join(f"[{cell}]" if ":" in cell else cell for cell in cells if cell)
    return address or None


def _is_moment(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 19


class Talk:
    """One conversation, with an end."""

    def __init__(self, link: socket.socket, cap: int = SIZE_CAP) -> None:
        self._link, self._end = link, time.monotonic() + SECONDS
        self._rest, self._size, self._cap = b"", 0, cap

    def greet(self) -> None:
        """Wait for the words that only OpenVPN says.

        Raises: Denied, Broken.
        """
        first = self._line()
        if first.startswith(_LOCKED):
            raise Broken("its management socket wants a password and is not asked")
        if not first.startswith(_GREETING):
            raise Broken("what listens at its management socket is not OpenVPN")

    def ask(self, command: str) -> str | None:
        """The answer to a command; None where it has none to give."""
        try:
            self._link.settimeout(self._left())
            self._link.sendall(f"{command}\n".encode())
        except OSError as error:
            raise _broken(error) from error
        lines: list[str] = []
        while (line := self._line()) != "END":
            if line.startswith("ERROR:"):
                return None
            if not line.startswith((">", "SUCCESS:")):
                lines.append(line)
        return "\n".join([*lines, "END"])

    def leave(self) -> None:
        """Say that this is over, so that another program can come."""
        with suppress(OSError):
            self._link.sendall(b"quit\n")

    def _line(self) -> str:
        while b"\n" not in self._rest:
            if self._rest.startswith(_LOCKED.encode()):  # after which nothing comes
                break
            try:
                self._link.settimeout(self._left())
                part = self._link.recv(1 << 16)
            except OSError as error:
                raise _broken(error) from error
            if not part and not self._size:  # as where --management-client-user names another user
                raise Denied("its management socket hangs up and may not be asked by this user")
            if not part:
                raise Broken("its management socket broke off in the middle of an answer")
            self._size += len(part)
            if self._size > self._cap:
                raise Broken(f"its management socket says more than {self._cap} bytes")
            self._rest += part
        line, _, self._rest = self._rest.partition(b"\n")
        return line.rstrip(b"\r").decode("utf-8", "surrogateescape")

    def _left(self) -> float:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _broken(error: OSError) -> Broken:
    if isinstance(error, TimeoutError):
        why = f"gives no answer within {SECONDS:.0f} s; another program may hold it"
    else:
        why = f"broke off: {error.strerror or error}"
    return Broken(f"its management socket {why}")


def _connected(files: Files, pid: int, words: list[str], directory: str) -> socket.socket:
    """A connection to the place that these words name.

    Whoever calls a program openvpn can name any socket of the machine as its own, so one is connected to only
    where the process itself listens there.

    Raises: Absent, Denied, Broken.
    """
    try:
        held = _sockets(pid)
        if words[1] == "unix":
            return _unix(files, pid, held, directory, words[0])
        return _inet(pid, held, words[1])
    except TimeoutError as error:
        raise Broken("its management socket lets nobody in") from error
    except PermissionError as error:
        raise Denied("its management socket may not be asked by this user") from error
    except OSError as error:
        raise Broken(f"its management socket cannot be asked: {error.strerror or error}") from error


def _unix(files: Files, pid: int, held: set[int], directory: str, name: str) -> socket.socket:
    table, path = _content(f"/proc/{pid}/net/unix"), os.path.join(directory, name)
    if not any(one is not None and one.inode in held and one.path == name for one in tables.unix(table)):
        raise Broken(f"it does not listen at {printable(path)}, which its options name")
    if tables.in_use(table, os.fsencode(name)):
        raise Broken(f"another program holds its management socket {printable(path)}")
    try:
        place = locate(files.root, path)
    except Absent as error:
        raise Broken(str(error)) from error
    try:
        # Not by its name, which may be another's by now.
        return _connect(socket.AF_UNIX, f"/proc/self/fd/{place}")
    finally:
        os.close(place)


def _inet(pid: int, held: set[int], port: str) -> socket.socket:
    found = []
    for table in ("tcp", "tcp6"):
        with suppress(FileNotFoundError):  # a kernel without IPv6
            found += [one for one in tables.inet("tcp", _content(f"/proc/{pid}/net/{table}")) if one]
    ours = [one for one in found if one.inode in held and str(one.port) == port]
    place = next((one for one in ours if one.state == LISTENING), None)
    if place is None:
        raise Broken(f"it does not listen at port {printable(port)}, which its options name")
    # One that is not let in yet has no inode.
    if any(one.state == ESTABLISHED and one.inode in (0, *held) for one in found if one.port == place.port):
        raise Broken(f"another program holds its management port {place.port}")
    family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
    return _connect(family, (place.address, place.port))


def _connect(family: int, address: str | tuple[str, int]) -> socket.socket:
    link = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        link.settimeout(SECONDS / 2)
        link.connect(address)
    except BaseException:
        link.close()
        raise
    return link


def _sockets(pid: int) -> set[int]:
    """The inodes of the sockets that a process has open."""
    found = set()
    for descriptor in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):
            target = os.readlink(f"/proc/{pid}/fd/{descriptor}")
            if target.startswith("socket:[") and target[8:-1].isdecimal():
                found.add(int(target[8:-1]))
    return found


def _content(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()
