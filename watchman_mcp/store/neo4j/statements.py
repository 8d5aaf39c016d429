"""Cypher that keeps the graph, made from the vocabulary: constraints, indexes, upserts, deletions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from functools import cache

from watchman_mcp.schema import LABELS
from watchman_mcp.store.outbox import columns
from watchman_mcp.store.pruning import FOREVER
from watchman_mcp.store.tables import table

INDEXES: dict[str, tuple[tuple[str, ...], ...]] = {
    "Host": (("name",),),
    "Event": (("ts",), ("host", "ts"), ("type", "ts"), ("subject",)),
    "Software": (("key",), ("host", "key"), ("host", "installed_at")),
}
"""What questions select on, beside the id."""
SAMPLES = (("host", "timestamp"),)
REST = (("host",),)
KEPT_MOMENTS = ("first_seen", "gone_at")


def unique(label: str) -> str:
    """The name of a label's constraint."""
    return f"watchman_{label.lower()}_id"


def definitions() -> Iterator[str]:
    """Everything that must be there before the first row, each harmless when it was made before."""
    for name, label in LABELS.items():
        yield f"CREATE CONSTRAINT {unique(name)} IF NOT EXISTS FOR (n:{name}) REQUIRE n.id IS UNIQUE"
        for properties in INDEXES.get(name, REST if label.series is None else SAMPLES):
            on = ", ".join(f"n.{one}" for one in properties)
            yield f"CREATE INDEX IF NOT EXISTS FOR (n:{name}) ON ({on})"


@cache
def upsert(label: str) -> str:
    """Write `$rows` of a label, each as `outbox.Part` holds it.

    Every property is written each time, so that a value that is gone disappears. Moments are sent as text and
    made by the server, which takes a tenth of the time.
    """
    kinds = {c.name: c for c in table(label).columns}
    values = []
    for place, name in enumerate(columns(label), 1):
        column, value = kinds.get(name), f"row[{place}]"
        if name in KEPT_MOMENTS or (column is not None and column.kind is datetime):
            many = column is not None and column.many
            value = f"[one IN {value} | datetime(one)]" if many else f"datetime({value})"
        values.append(f"n.{name} = {value}")
    owner = "" if label == "Host" else " MERGE (n)-[:ON_HOST]->(h)"
    return (
        f"MATCH (h:Host {{id: $host_id}}) UNWIND $rows AS row MERGE (n:{label} {{id: row[0]}}) "
        f"SET n.host = $host, {', '.join(values)}{owner}"
    )


@cache
def join(kind: str, start: str, end: str) -> str:
    """Write relationships of a type between two labels; an end whose row comes later is made with its id."""
    return (
        f"UNWIND $rows AS row MERGE (a:{start} {{id: row[0]}}) MERGE (b:{end} {{id: row[1]}}) "
        f"MERGE (a)-[r:{kind}]->(b) "
        "SET r.first_seen = datetime(row[2]), r.gone_at = datetime(row[3]), r.scope = row[4]"
    )


@cache
def delete_named(label: str) -> str:
    """Delete nodes by their ids."""
    return f"UNWIND $ids AS id MATCH (n:{label} {{id: id}}) DETACH DELETE n"


@cache
def delete_old(label: str, *, raw: bool) -> str:
    """Delete events, stretches of collectors and samples before `$before`; `raw` samples `$since` too."""
    if LABELS[label].series is not None:
        condition = "n.timestamp < datetime($before)"
        condition += " AND n.timestamp >= datetime($since) AND n.span_seconds IS NULL" if raw else ""
    elif label == "Event":
        condition = f"n.ts < datetime($before) AND NOT n.type STARTS WITH '{FOREVER}'"
    else:
        condition = "n.last_at < datetime($before)"
    return f"MATCH (n:{label}) WHERE n.host = $host AND {condition} DETACH DELETE n"


@cache
def clear(label: str) -> str:
    """Delete some nodes of a label that belong to the host, and say how many; the host's own node stays."""
    return (
        f"MATCH (n:{label}) WHERE n.id STARTS WITH $prefix AND n.id <> $host_id WITH n LIMIT $most "
        "DETACH DELETE n RETURN count(*) AS n"
    )
