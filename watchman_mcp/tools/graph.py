"""The graph itself, by read-only SQL."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from watchman_mcp.schema import EDGE_TYPES, LABELS
from watchman_mcp.store import guard
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import views

from . import reads
from .answers import Answer, Limit, Tail, clamp, fit, frame_of

CYPHER = (
    " Cypher (language=cypher) asks about all machines: the tables are labels, the columns properties, edges "
    "relationships, times datetime values. Every node is joined to its machine: MATCH "
    "(s:Software)-[:ON_HOST]->(h:Host) WHERE s.key = 'openssl' AND s.gone_at IS NULL "
    "RETURN h.name, s.version. Host.heard_at is when a machine was last heard."
)


class Cypher(Protocol):
    """Strangers' questions to the graph of all machines."""

    def ask(self, query: str, limit: int) -> CypherRows:
        """Rows of one question, or InvalidRequest, or FleetError."""


class CypherRows(Protocol):
    """What a question gave; `notes` names what the database does not know of its words."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    cut: bool
    notes: tuple[str, ...]


class GraphAnswer(Answer, Tail):
    """Rows of a query, or the tables and columns."""

    tables: dict[str, str] | None = None
    edges: dict[str, str] | None = None
    columns: list[str] | None = None
    items: list[list[Any]] | None = None


@reads(title="Query the graph")
def query_graph(
    store: Store,
    query: Annotated[str, Field(description="One SELECT; empty: the schema")] = "",
    language: Annotated[
        Literal["sql", "cypher"], Field(description="cypher: all machines, MATCH ... RETURN")
    ] = "sql",
    limit: Limit = 100,
    cypher: Cypher | None = None,
) -> GraphAnswer:
    """Last resort: read-only SQL over Watchman's tables. Call it empty first to get tables and columns."""
    frame = frame_of(store)
    if not query.strip():
        return _schema(store, frame.envelope(), cypher)
    note = None
    rows: guard.Rows | CypherRows
    if language == "cypher" and cypher:
        rows = found = cypher.ask(query, clamp(limit))
        note = "; ".join(found.notes) or None
    else:
        rows = _sql(store, query, clamp(limit))
    items = [list(row) for row in rows.rows]
    shown = fit(items)
    cut = rows.cut or shown < len(items)
    return GraphAnswer(
        found="yes" if items else "none",
        cut=f"{shown} rows; more or longer values were left out: {NARROWER[language]}" if cut else None,
        note=note,
        columns=list(rows.columns),
        items=items[:shown],
        **{**frame.envelope(), "unobserved": None, "unobserved_more": None},
    )


NARROWER = {
    "sql": "narrow the query or add LIMIT and OFFSET",
    "cypher": "narrow the query or add SKIP and LIMIT",
}


def _sql(store: Store, query: str, limit: int) -> guard.Rows:
    if store.path:
        return guard.ask(str(store.path), query, limit, views=views())
    return guard.ask_connection(store.copy(), query, limit, views=views())


def _schema(store: Store, envelope: dict[str, Any], cypher: Cypher | None) -> GraphAnswer:
    with store.reader() as db:
        described = guard.describe(db)
    tables: dict[str, list[str]] = {}
    for name, column, _kind in described:
        tables.setdefault(name, []).append(column)
    shown = {
        name: ", ".join(columns) for name, columns in tables.items() if name in LABELS or name == "edges"
    }
    return GraphAnswer(
        found="yes",
        note="Times are UTC text like 2026-11-20T08:00:00.000000Z. gone_at is null for what is there now. "
        "Lists are JSON. edges joins ids: SELECT b.* FROM edges e JOIN Software b ON b.id = e.end "
        "WHERE e.type = 'DEPENDS_ON' AND e.start = ..." + (CYPHER if cypher else ""),
        tables=shown,
        edges={name: kind.says for name, kind in EDGE_TYPES.items() if name != "ON_HOST"},
        **{**envelope, "unobserved": None, "unobserved_more": None},
    )
