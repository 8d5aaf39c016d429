"""OpenVPN's status files, of its versions 1, 2 and 3; text in, values out."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

_FORMATS = ("%Y-%m-%d %H:%M:%S", "%a %b %d %H:%M:%S %Y")
_UNNAMED = "UNDEF"
"""Who has not said yet who it is, or never does, where a password is enough."""
_PROTOCOL = re.compile(r"^(?:udp|tcp)[46]?(?:-server|-client)?:(?=.)")
"""How OpenVPN 2.7 begins an address."""
_HARDWARE = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}(?:@[0-9]{1,4})?", re.IGNORECASE)
"""Where a tap leads to: a card, and the number of its VLAN."""
_FREE = ("Common Name", "Username")
"""What may hold a comma."""
_COMMAS = 8
"""More than so many in a name are not sorted out."""
_COUNTS = ("Bytes Received", "Bytes Sent", "Connected Since (time_t)", "Last Ref (time_t)")
# Version 1 has its tables one after the other, below these titles.
_TITLES = {
    "OpenVPN CLIENT LIST": "CLIENT_LIST",
    "ROUTING TABLE": "ROUTING_TABLE",
    "GLOBAL STATS": "GLOBAL_STATS",
}
_COUNTERS = ("TCP/UDP read bytes", "TCP/UDP write bytes")


@dataclass
class Client:
    """One client that is connected to a server."""

    name: str
    address: str
    received: int | None
    sent: int | None
    since: float
    """A moment of the Unix clock; 0: unknown."""
    networks: dict[str, None] = field(default_factory=dict)
    """In their order."""
    seen: float = 0


@dataclass
class Status:
    """What a status file says; `unreadable` counts its lines that say nothing."""

    server: bool = False
    clients: list[Client] = field(default_factory=list)
    received: int | None = None
    sent: int | None = None
    complete: bool = False
    """Whether the file was written to its end."""
    unreadable: int = 0
    ends: dict[tuple[str, str], Client] = field(default_factory=dict, repr=False, compare=False)
    """The clients by name and address, as they are written."""
    inside: dict[str, Client] = field(default_factory=dict, repr=False, compare=False)
    """The clients by the addresses that the server gave them."""


def read_status(text: str) -> Status:
    """What a status file says."""
    status = Status()
    tables: dict[str, list[str]] = {}
    current = ""
    for line in text.split("\n"):
        line = line.rstrip("\r")
        if not line:
            continue
        # Version 3 is version 2 with tabs, and no name in it holds one.
        cells = line.split("\t") if "\t" in line else line.split(",")
        if line == "END":
            status.complete = True
        elif line in _TITLES:
            current = _TITLES[line]
        elif cells[0] == "HEADER" and len(cells) > 2:
            tables[cells[1]] = cells[2:]
        elif current in ("CLIENT_LIST", "ROUTING_TABLE") and current not in tables:
            if cells[0] != "Updated":
                tables[current] = cells
        else:
            _row(status, tables, current, cells)
    status.server = "CLIENT_LIST" in tables
    # One without a name that has no address within is not let in yet.
    status.clients = [client for client in status.clients if client.name or client.networks]
    for client in status.clients:
        client.name = client.name or client.address
    return status


def _row(status: Status, tables: Mapping[str, list[str]], current: str, cells: list[str]) -> None:
    name = cells[0]
    if name in ("CLIENT_LIST", "ROUTING_TABLE") and name in tables and not current:
        current, cells = name, cells[1:]
    if current in ("CLIENT_LIST", "ROUTING_TABLE"):
        columns = tables[current]
        row = _fitted(columns, cells)
        if row is None:
            status.unreadable += 1
        elif current == "CLIENT_LIST":
            _client(status, row)
        else:
            _route(status, row)
    elif name == _COUNTERS[0]:
        status.received = _count(cells[-1])
    elif name == _COUNTERS[1]:
        status.sent = _count(cells[-1])
    elif len(cells) < 2 and name != "OpenVPN STATISTICS":
        status.unreadable += 1


def _fitted(columns: list[str], cells: list[str]) -> dict[str, str] | None:
    """The cells by their columns; commas within names have their places by where the numbers are."""
    more = len(cells) - len(columns)
    if more == 0:
        return dict(zip(columns, cells, strict=True))
    if not 0 < more <= _COMMAS:
        return None
    # What is written there is among them: who forges another one with a name makes it two.
    rows = [row for row in _shared(columns, cells, more) if _counted(row)]
    return rows[0] if len(rows) == 1 else None


def _shared(columns: list[str], cells: list[str], more: int) -> Iterator[dict[str, str]]:
    """Every way in which the free columns can share so many commas."""
    free = [place for place, column in enumerate(columns) if column in _FREE]
    for first in range(more + 1) if len(free) > 1 else [more] * len(free):
        commas = {free[0]: first, free[-1]: more - first} if len(free) > 1 else {free[0]: more}
        row, place = {}, 0
        for number, column in enumerate(columns):
            width = 1 + commas.get(number, 0)
            row[column] = ",".join(cells[place : place + width])
            place += width
        yield row


def _counted(row: Mapping[str, str]) -> bool:
    return all(_count(row[column]) is not None for column in _COUNTS if column in row)


def _client(status: Status, row: Mapping[str, str]) -> None:
    common, user = row.get("Common Name", ""), row.get("Username", "")
    if not common or "Real Address" not in row:
        status.unreadable += 1
        return
    name = next((one for one in (common, user) if one and one != _UNNAMED), "")
    client = Client(
        name,
        _PROTOCOL.sub("", row["Real Address"]),
        _count(row.get("Bytes Received", "")),
        _count(row.get("Bytes Sent", "")),
        _moment(row, "Connected Since"),
    )
    own = [row[key] for key in ("Virtual Address", "Virtual IPv6 Address") if row.get(key)]
    client.networks.update(dict.fromkeys(own))
    status.inside.update(dict.fromkeys(own, client))
    status.clients.append(client)
    status.ends.setdefault((common, row["Real Address"]), client)


def _route(status: Status, row: Mapping[str, str]) -> None:
    # A C after it says that the route was learned of a packet.
    network = row.get("Virtual Address", "").rstrip("C")
    # A server of both families tells no ports: behind one router two of one name are in one place.
    client = status.inside.get(network)
    client = client or status.ends.get((row.get("Common Name", ""), row.get("Real Address", "")))
    if client is not None:
        if network and not _HARDWARE.fullmatch(network):
            client.networks[network] = None
        client.seen = max(client.seen, _moment(row, "Last Ref"))


def _moment(row: Mapping[str, str], column: str) -> float:
    """The moment of a column: as a number where there is one, else as words in the machine's own zone."""
    number = _count(row.get(f"{column} (time_t)", ""))
    if number is not None:
        return float(number)
    for form in _FORMATS:
        try:
            return time.mktime(time.strptime(row.get(column, ""), form))
        except (ValueError, OverflowError):
            continue
    return 0


def _count(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 19 else None
