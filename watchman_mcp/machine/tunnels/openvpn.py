"""The OpenVPN processes that run, what they were told, and the interface that each holds."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.running import running

from . import ACTIVE, DOWN, FRESH, UNKNOWN, Link, Tunnel, moment, status_of
from .openvpn_management import CONNECTED, ask
from .openvpn_status import Client, read_status

_WANTED = frozenset({"cd", "config", "dev", "mode", "remote", "server", "status"})
_OTHERS = "remote, others"
"""Where remotes beside the first one are kept: no option has such a name."""
_INTERFACE = re.compile(rb"^iff:\s*(\S+)$", re.MULTILINE)
_INLINE = re.compile(r"<(/?)([a-z0-9-]+)>")
_TUN = "/dev/net/tun"
_OFFLOADED = frozenset({"ovpn", "ovpn-dco"})
"""Kinds of interfaces that belong to the kernel's own OpenVPN: no process holds their other end."""
_FILE_CAP = 4 << 20
Options = dict[str, list[str]]


@dataclass
class Process:
    """One OpenVPN that runs."""

    pid: int
    options: Options = field(default_factory=dict)
    directory: str = "/"
    interface: str | None = None


def processes() -> Iterator[Process]:
    """Those of this network namespace; one that ends meanwhile is passed over.

    Raises: Denied (of one's namespace).
    """
    own = os.stat("/proc/self/ns/net")
    for pid in running({b"openvpn"}):
        try:
            other = os.stat(f"/proc/{pid}/ns/net")
            if (other.st_dev, other.st_ino) != (own.st_dev, own.st_ino):
                continue
            with open(f"/proc/{pid}/cmdline", "rb") as stream:
                words = os.fsdecode(stream.read(1 << 20)).split("\0")[1:-1]
            yield Process(pid, read_words(words), os.readlink(f"/proc/{pid}/cwd"), _interface(pid))
        except FileNotFoundError:
            continue
        except PermissionError as error:
            raise Denied(f"the OpenVPN process {pid} may not be looked at by this user") from error


def read_words(words: Iterable[str]) -> Options:
    """The options of a command line that bear on status and interface, in the order in which they count.

    A lone word is the configuration.
    """
    options: Options = {}
    name = "config"
    for word in words:
        if word.startswith("--"):
            name = word.removeprefix("--")
            if name == "remote" and name in options:
                options.setdefault(_OTHERS, []).append(name)
                name = ""
            elif _wanted(name):
                before = options.pop(name, [])
                options[name] = before if name == "config" else []
        elif _wanted(name):
            options.setdefault(name, []).append(word)
    return options


def read_configuration(text: str) -> Options:
    """The same options of a configuration file; what stands within tags, such as keys, is passed over.

    Those of a connection, of which several are tried in turn, are no keys.
    """
    options: Options = {}
    within = ""
    for line in text.split("\n"):
        tag = _INLINE.fullmatch(line.strip())
        if tag is not None and tag[2] != "connection":
            within = "" if tag[1] else within or tag[2]
        elif not within:
            words = _words(line)
            if words and _wanted(words[0].removeprefix("--")):
                # Any of several remotes may be connected; of other options the last one counts.
                name = words[0].removeprefix("--")
                if name == "remote" and name in options:
                    options.setdefault(_OTHERS, []).append(name)
                else:
                    options[name] = words[1:]
    return options


def _wanted(option: str) -> bool:
    """Whether an option bears on status and interface, or on who may ask for them."""
    return option in _WANTED or option.startswith("management")


def _words(line: str) -> list[str]:
    """The words of a line, quoted ones without their quotes, up to a comment."""
    found = []
    for part in re.finditer(r"\"((?:[^\"\\]|\\.)*)\"|'([^']*)'|([#;].*)|([^\s#;\"'][^\s]*)", line):
        if part[3] is not None:
            break
        word = next(group for group in (part[1], part[2], part[4]) if group is not None)
        found.append(re.sub(r"\\(.)", r"\1", word) if part[2] is None else word)
    return found


def tunnels_of(files: Files, process: Process, links: Iterable[Link]) -> tuple[list[Tunnel], list[str]]:
    """The tunnels of one process, and what of them cannot be told.

    Raises: Denied, Broken (its configuration or status file).
    """
    lost: list[str] = []
    options = _settled(files, process, lost)
    interface = process.interface or next(iter(options.get("dev", [])), None)
    link, among = _link(process, interface, links)
    up = link is not None and link.up
    path = next(iter(options.get("status", [])), "")
    first, others = ":".join(options.get("remote", [])[:2]), len(options.get(_OTHERS, []))
    single = Tunnel(
        "openvpn",
        ACTIVE if up else UNKNOWN if among else DOWN,
        link.name if link else None,
        f"{first} or {others} more" if others else first or f"process {process.pid}",
        endpoint=first if first and not others else None,
    )
    serves = "server" in options or options.get("mode") == ["server"]
    if not path:
        tunnels, why = _asked(files, process, options, single, serves)
        what = "its clients" if serves else "its state"
        return tunnels, lost + [f"{what} of {interface or process.pid}: {one}" for one in why]
    try:
        path = _path(process, options, path)
        status, written = read_status(files.text(path, _FILE_CAP)), files.stat(path).mtime
    except Absent:
        return ([] if serves else [single]), lost  # it is not written yet
    if status.unreadable:
        lost.append(f"{status.unreadable} lines of {path}")
    if not status.complete:  # it writes the file anew each time
        lost.append(f"the end of {path}, which is not written yet")
    if not status.server:
        if serves:
            return [], lost
        return [single._replace(received=status.received, sent=status.sent)], lost
    fresh = UNKNOWN if among else status_of(up, written, _interval(options) + FRESH)
    return list(_clients(status.clients, single._replace(status=fresh))), lost


def _link(process: Process, interface: str | None, links: Iterable[Link]) -> tuple[Link | None, bool]:
    """The interface of a process, and whether it is one of several of which nothing tells which."""
    links = list(links)
    exact = next((one for one in links if one.name == interface), None)
    if exact is not None or process.interface or not interface:
        return exact, False
    numbered = [one for one in links if one.kind in _OFFLOADED and one.name.rstrip("0123456789") == interface]
    return (numbered[0], False) if len(numbered) == 1 else (None, bool(numbered))


def _asked(
    files: Files, process: Process, options: Options, single: Tunnel, serves: bool
) -> tuple[list[Tunnel], list[str]]:
    """The tunnels of a process that writes no status file, as it tells them itself, and why it does not."""
    try:
        told = ask(files, process.pid, options, _path(process, options, ""), state=not serves)
    except Absent as error:
        return ([], [f"it writes no status file and {error.args[0]}"]) if serves else ([single], [])
    except (Denied, Broken) as error:
        return ([] if serves else [single]), [str(error)]
    why = [f"{told.unreadable} lines that it says cannot be read"] if told.unreadable else []
    if serves:
        clients = told.status.clients if told.status else []
        return list(_clients(clients, single)), why if told.status else ["it has no status yet"]
    if told.state is not None:
        connected = told.state.name == CONNECTED
        # With --persist-tun the interface stays while the peer is away.
        single = single._replace(
            status=single.status if connected else DOWN,
            connected_at=moment(told.state.since) if connected else None,
            endpoint=single.endpoint or (told.state.remote if connected else None),
        )
    if told.status is not None:
        single = single._replace(received=told.status.received, sent=told.status.sent)
    return [single], why


def _clients(clients: list[Client], single: Tunnel) -> Iterator[Tunnel]:
    for peer, client in _named(clients).items():
        yield single._replace(
            peer=peer,
            endpoint=client.address,
            connected_at=moment(client.since),
            last_sign=moment(client.seen),
            allowed=tuple(client.networks),
            received=client.received,
            sent=client.sent,
        )


def _named(clients: list[Client]) -> dict[str, Client]:
    """Each client by its name; where others have it too with its address, or with what is its own within."""
    # Of one that came back from the same place, with the same address within, the older connection is left.
    ends = {
        (one.name, one.address, next(iter(one.networks), "")): one
        for one in sorted(clients, key=lambda one: one.since)
    }
    names = Counter(name for name, _, _ in ends)
    places = Counter((name, address) for name, address, _ in ends)
    found: dict[str, Client] = {}
    for (name, address, within), client in ends.items():
        alone = names[name] == 1
        apart = places[name, address] == 1
        found[name if alone else f"{name} {address}" if apart else f"{name} {address} {within}"] = client
    return found


def _settled(files: Files, process: Process, lost: list[str]) -> Options:
    """The options of the command line and of the configuration: each counts until a later one says else.

    So the status file of a configuration is the one that is written, though a unit names one before it.
    """
    options: Options = {}
    for name, words in process.options.items():
        if name != "config":
            options = _later(options, {name: words})
            continue
        for path in words:
            try:
                text = files.text(_path(process, options, path), _FILE_CAP)
                options = _later(options, read_configuration(text))
            except (Absent, Denied, Broken) as error:
                lost.append(str(error))
    return options


def _later(options: Options, more: Options) -> Options:
    """Options with later ones, but for the first remote."""
    return options | more | {name: options[name] for name in ("remote",) if name in options}


def _path(process: Process, options: Options, name: str) -> str:
    return os.path.join(process.directory, *options.get("cd", [])[:1], name)


def _interval(options: Options) -> float:
    words = options.get("status", [])
    return float(words[1]) if len(words) > 1 and words[1].isascii() and words[1].isdecimal() else 60.0


def _interface(pid: int) -> str | None:
    """The interface whose other end a process holds; None where it holds none, or that may not be seen."""
    with suppress(OSError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") != _TUN:
                    continue
                with open(f"/proc/{pid}/fdinfo/{descriptor}", "rb") as stream:
                    found = _INTERFACE.search(stream.read(4096))
                if found:
                    return os.fsdecode(found[1])
    return None
