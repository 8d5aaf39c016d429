"""WireGuard's peers, of the kernel's interfaces and of programs', as `wg` tells them.

Each column is asked for alone: the commands that tell all at once tell the private keys too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from watchman_mcp.errors import Broken, Denied
from watchman_mcp.machine.commands import Commands

from . import FRESH, Tunnel, moment, status_of

COLUMNS = ("peers", "endpoints", "allowed-ips", "latest-handshakes", "transfer", "persistent-keepalive")
PROGRAMS = {"wireguard": "wg", "amneziawg": "awg"}
"""What tells of the interfaces of a kind: AmneziaWG is a fork that `wg` does not see."""
_KEY_LENGTH = 44
Peers = dict[tuple[str, str], dict[str, list[str]]]


def ask_wireguard(commands: Commands, program: str = "wg") -> tuple[set[str], Peers, int]:
    """Interfaces, the columns of each peer by interface and key, and how many lines cannot be read.

    Raises: Absent (no such program), Denied, Broken.
    """
    texts = {column: _ask(commands, program, "all", column) for column in COLUMNS}
    peers, unreadable = read_peers(texts)
    return set(_ask(commands, program, "interfaces").split()), peers, unreadable


def read_peers(texts: Mapping[str, str]) -> tuple[Peers, int]:
    """The columns of each peer, from what `wg show all COLUMN` prints."""
    peers: Peers = {}
    unreadable = 0
    for column, text in texts.items():
        for line in _endpoints(text) if column == "endpoints" else text.split("\n"):
            if not line:
                continue
            interface, _, rest = line.partition("\t")
            key, *values = rest.split("\t")
            if len(key) != _KEY_LENGTH or not interface:
                unreadable += 1
            elif column == "peers":
                peers.setdefault((interface, key), {})
            # One that came after the first question is left to the next look.
            elif (interface, key) in peers:
                peers[interface, key][column] = values
    return peers, unreadable


def _endpoints(text: str) -> Iterator[str]:
    """The lines of endpoints as those of other columns are.

    It writes an interface only before its first peer, and ends no line after one without peers.
    """
    interface = ""
    for line in text.split("\n"):
        words = line.split("\t")
        place = next((n for n, word in enumerate(words) if len(word) == _KEY_LENGTH), None)
        if place is not None:
            interface = words[place - 1] if place else interface
            yield "\t".join([interface, *words[place:]])
        elif words[-1] or not all(words[:-1]):
            yield line


def tunnels_of(peers: Peers, up: Mapping[str, bool]) -> list[Tunnel]:
    """The tunnel to each peer, of the interfaces that are here, each with whether it is up."""
    return [
        _tunnel(interface, key, columns, up[interface])
        for (interface, key), columns in peers.items()
        if interface in up
    ]


def _tunnel(interface: str, key: str, columns: Mapping[str, list[str]], up: bool) -> Tunnel:
    endpoint = next(iter(columns.get("endpoints", [])), "(none)")
    text = next(iter(columns.get("allowed-ips", [])), "(none)")
    allowed = () if text == "(none)" else tuple(text.split(" "))
    sign = _number(columns, "latest-handshakes", 0) or 0
    keepalive = _number(columns, "persistent-keepalive", 0) or 0
    return Tunnel(
        "wireguard",
        status_of(up, sign, max(FRESH, 3 * keepalive)),
        interface,
        key,
        endpoint=None if endpoint == "(none)" else endpoint,
        last_sign=moment(sign),
        allowed=allowed,
        # Of the peers of an interface, only one that may have everything, or a half of it, gets it.
        carries=None if any(net.endswith(("/0", "/1")) for net in allowed) else False,
        received=_number(columns, "transfer", 0),
        sent=_number(columns, "transfer", 1),
    )


def _number(columns: Mapping[str, list[str]], column: str, place: int) -> int | None:
    values = columns.get(column, [])
    text = values[place] if place < len(values) else ""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None


def _ask(commands: Commands, program: str, *words: str) -> str:
    told = commands.run([program, "show", *words])
    # What it cannot ask, it names among its complaints and goes on.
    why = told.stderr.strip().split("\n")[-1][:200]
    if "not permitted" in told.stderr or "ermission denied" in told.stderr:
        raise Denied(f"WireGuard's peers may not be read by this user: {why}")
    if told.code != 0:
        raise Broken(f"{program} says: {why or 'nothing'}; run `{program} show` by hand")
    return told.stdout
