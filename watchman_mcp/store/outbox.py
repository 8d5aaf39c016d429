"""What a mirror has not seen yet: the rows above its mark, oldest first, a bounded part at a time."""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from watchman_mcp.schema import LABELS, path_of

from .sqlite import Store
from .tables import EPOCH, KEPT, Column, Table, from_text, nodes, samples, table, to_ms, to_text

LONGEST_ID = 1000
"""Characters of a node's id in the graph of many hosts; beyond, its end is a hash."""
LONGEST_INDEXED = 8000
"""Bytes of a text that an index of Neo4j can hold; a longer one is cut short there."""


@dataclass(frozen=True)
class Deletion:
    """Nodes to be deleted: one by its id, or all of a label that ended before a moment.

    With `since`, the raw samples of a stretch of time that became a mean.
    """

    label: str
    id: str | None = None
    since: str | None = None
    before: str | None = None


@dataclass
class Part:
    """The next rows of a store for its mirror, all of one moment.

    `nodes` holds, by label, rows of the id, the values in the order of `columns`, and what the store keeps;
    moments are text. `edges` holds, by type and the labels of both ends, rows of the two ids and what the
    store keeps. Ids begin with the host.
    """

    upto: int
    host: str | None
    """Whose rows these are, as the store now has it."""
    deletions: list[Deletion] = field(default_factory=list)
    nodes: dict[str, list[list[Any]]] = field(default_factory=lambda: defaultdict(list))
    edges: dict[tuple[str, str, str], list[list[Any]]] = field(default_factory=lambda: defaultdict(list))


def columns(label: str) -> tuple[str, ...]:
    """The properties of a label in the order in which a part's rows hold them, after the id."""
    kept = table(label)
    own = tuple(c.name for c in kept.columns)
    return (*own, "span_seconds") if kept.label.series is not None else (*own, *KEPT)


def host_of(store: Store) -> str | None:
    """This machine's id in the graph; None until it was looked at."""
    with store.reader() as db:
        return host_in(db)


def host_in(db: sqlite3.Connection) -> str | None:
    """The same, of a database."""
    row = db.execute(
        "SELECT machine FROM Host WHERE gone_at IS NULL AND machine IS NOT NULL ORDER BY seq DESC LIMIT 1"
    ).fetchone()
    return str(row["machine"]) if row else None


def graph_id(host: str, path: str) -> str:
    """A node's id where the graphs of many hosts meet."""
    if len(path) > LONGEST_ID:
        digest = blake2b(path.encode(), digest_size=16).hexdigest()
        path = f"{path[: LONGEST_ID - 40]}~{digest}"
    return f"{host}/{path}"


def follows(store: Store, run: str, seq: int) -> bool:
    """Whether this very store has held what a mirror took up to `seq` in an opening named `run`.

    False for a store that was put back to an older copy since then, for a copy of it elsewhere, and where
    word of deletions no longer reaches back so far.
    """
    openings = store.read("SELECT seq, run FROM _opening ORDER BY number")
    place = next((n for n, row in enumerate(openings) if row["run"] == run), None)
    if place is None or 0 < seq < int(store.meta("deleted_from", "0")):
        return False
    ends = openings[place + 1]["seq"] if place + 1 < len(openings) else int(store.meta("seq", "0"))
    return seq <= int(ends)


def run_of(store: Store) -> str:
    """The name of the store's present opening."""
    return str(store.read("SELECT run FROM _opening ORDER BY number DESC LIMIT 1")[0]["run"])


def read(store: Store, host: str, above: int, most: int) -> Part:
    """The next `most` rows above a mark, fewer at the end; all read from one state of the store."""
    with store.reader() as db:
        db.execute("BEGIN")
        try:
            return _read(db, host, above, most)
        finally:
            db.execute("ROLLBACK")


def _read(db: sqlite3.Connection, host: str, above: int, most: int) -> Part:
    newest = int(db.execute("SELECT value FROM _meta WHERE key = 'seq'").fetchone()[0])
    names = ["_edges", "_deleted", *[t.name for t in nodes()], *[f"_{t.name}" for t in samples()]]
    next_ones = sorted(
        row[0]
        for name in names
        for row in db.execute(f'SELECT seq FROM "{name}" WHERE seq > ? ORDER BY seq LIMIT ?', (above, most))
    )
    part = Part(next_ones[most - 1] if len(next_ones) >= most else newest, host_in(db))
    limits = (above, part.upto)
    for row in db.execute("SELECT * FROM _deleted WHERE seq > ? AND seq <= ? ORDER BY seq", limits):
        node = graph_id(host, row["id"]) if row["id"] else None
        part.deletions.append(Deletion(row["label"], node, row["since"], row["before"]))
        if row["since"]:
            _add_means(db, part, host, row)
    for one in nodes():
        _add_nodes(db, part, host, one, limits)
    for one in samples():
        condition = "m.seq > ? AND m.seq <= ? ORDER BY m.seq"
        _add_samples(db, part, host, one, condition, limits)
    for row in db.execute("SELECT * FROM _edges WHERE seq > ? AND seq <= ? ORDER BY seq", limits):
        _add_edge(part, host, row["type"], row["start"], row["end"], row)
    return part


def _add_nodes(db: sqlite3.Connection, part: Part, host: str, kept: Table, limits: tuple[int, int]) -> None:
    width = len(kept.columns)
    odd = [(n, c) for n, c in enumerate(kept.columns, 1) if c.many or c.kind in (bool, str)]
    sql = f'SELECT {", ".join(kept.names)} FROM "{kept.name}" WHERE seq > ? AND seq <= ? ORDER BY seq'
    for row in db.execute(sql, limits):
        values = [graph_id(host, row[1]), *row[2 : width + 2], *row[-3:]]
        for place, column in odd:
            if values[place] is not None:
                values[place] = _value(column, values[place])
        part.nodes[kept.name].append(values)
        if kept.name == "Event" and row["acted_on"]:
            _add_edge(part, host, "ACTED_ON", row["id"], row["acted_on"], row)


def _value(column: Column, value: Any) -> Any:
    """A kept value as Neo4j takes it; moments stay text."""
    if column.many:
        values = json.loads(value)
        return [float(v) for v in values] if column.kind is float else values
    if column.kind is str and len(value) > LONGEST_ID and len(value.encode()) > LONGEST_INDEXED:
        return f"{value[:LONGEST_ID]}…"
    return bool(value) if column.kind is bool else value


def _add_edge(part: Part, host: str, kind: str, start: str, end: str, row: sqlite3.Row) -> None:
    labels = (start.split("/", 1)[0], end.split("/", 1)[0])
    ends = (graph_id(host, start), graph_id(host, end))
    part.edges[(kind, *labels)].append([*ends, row["first_seen"], row["gone_at"], row["scope"]])


def _add_means(db: sqlite3.Connection, part: Part, host: str, row: sqlite3.Row) -> None:
    """The means of an hour whose single samples are deleted; they keep an old number of that hour."""
    hour = [to_ms(from_text(row[side])) for side in ("since", "before")]
    condition = (
        f'm.series IN (SELECT series FROM "_{row["label"]}_series") AND m.ts >= ? AND m.ts < ? '
        "AND m.span IS NOT NULL"
    )
    _add_samples(db, part, host, table(row["label"]), condition, hour)


def _add_samples(
    db: sqlite3.Connection, part: Part, host: str, kept: Table, condition: str, parameters: Sequence[int]
) -> None:
    sql = (
        f'SELECT * FROM "_{kept.name}" m JOIN "_{kept.name}_series" s ON s.series = m.series '
        f"WHERE {condition}"
    )
    label = LABELS[kept.name]
    for row in db.execute(sql, tuple(parameters)):
        moment = EPOCH + timedelta(milliseconds=row["ts"])
        values: dict[str, Any] = {"timestamp": moment}
        for column in kept.named:
            values[column.name] = column.decode(row[column.name])
        for column in kept.measures:
            value = row[column.name]
            if value is not None:
                plain = column.many or column.kind is not float
                value = _value(column, value) if plain else value / 1000
            values[column.name] = value
        node = graph_id(host, path_of(label, *[values[name] for name in label.identity]))
        own = [to_text(v) if isinstance(v, datetime) else v for v in (values[c.name] for c in kept.columns)]
        part.nodes[kept.name].append([node, *own, row["span"]])
