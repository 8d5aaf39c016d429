"""The graph itself, by read-only SQL."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from watchman_mcp.schema import EDGE_TYPES, LABELS
from watchman_mcp.store import guard
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import views

from . import reads
from .answers import Answer, Limit, Tail, clamp, fit, frame_of


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
    limit: Limit = 100,
) -> GraphAnswer:
    """Last resort: read-only SQL over Watchman's tables. Call it empty first to get tables and columns."""
    frame = frame_of(store)
    if not query.strip():
        return _schema(store, frame.envelope())
    public = views()
    if store.path:
        rows = guard.ask(str(store.path), query, clamp(limit), views=public)
    else:
        rows = guard.ask_connection(store.copy(), query, clamp(limit), views=public)
    items = [list(row) for row in rows.rows]
    shown = fit(items)
    cut = rows.cut or shown < len(items)
    return GraphAnswer(
        found="yes" if items else "none",
        cut=f"{shown} rows; more or longer values were left out: narrow the query or add LIMIT and OFFSET"
        if cut
        else None,
        columns=list(rows.columns),
        items=items[:shown],
        **{**frame.envelope(), "unobserved": None, "unobserved_more": None},
    )


def _schema(store: Store, envelope: dict[str, Any]) -> GraphAnswer:
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
        "WHERE e.type = 'DEPENDS_ON' AND e.start = ...",
        tables=shown,
        edges={name: kind.says for name, kind in EDGE_TYPES.items() if name != "ON_HOST"},
        **{**envelope, "unobserved": None, "unobserved_more": None},
    )
