"""What listens, and who can reach it."""

from __future__ import annotations

from typing import Any

from watchman_mcp.store.sqlite import Store

from .answer import Port
from .rows import as_a, there

EXPOSED = ("internet", "lan", "unknown")
ORDER = (
    "namespace IS NOT NULL, protocol = 'unix', CASE exposure WHEN 'internet' THEN 0 WHEN 'lan' THEN 1 "
    "WHEN 'unknown' THEN 2 WHEN 'blocked' THEN 3 ELSE 4 END, port, protocol, address, path"
)


def listening(store: Store, port: int, interface: str, process: str) -> tuple[list[Port], dict[str, int]]:
    """Listeners, those that others can reach first; and how many there are of each exposure."""
    rows = [
        row
        for row in there(store, "NetworkEndpoint", ORDER)
        if port in (0, row["port"])
        and (not interface or row["interface"] in (None, interface))
        and (not process or _is_of(row, process.lower()))
        and (row["protocol"] != "unix" or process)
    ]
    totals = {"items": len(rows)}
    for row in rows:
        word = row["exposure"] or "local"
        totals[word] = totals.get(word, 0) + 1
    detailed = bool(port or process) or len(rows) <= 5
    return [as_a(Port, row, **({} if detailed else {"decided_by": None})) for row in rows], totals


def _is_of(row: Any, wanted: str) -> bool:
    """Whether a listener belongs to a process, a service or a container of this name."""
    told = (row["process"], row["unit"], row["container"], (row["unit"] or "").removesuffix(".service"))
    return any(wanted in (one or "").lower() for one in told)
