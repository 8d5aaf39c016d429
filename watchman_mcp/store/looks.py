"""What looks leave behind for the next ones: private tables beside the graph."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from watchman_mcp.store.batch import Batch
from watchman_mcp.store.tables import to_text


def write(db: sqlite3.Connection, batch: Batch, at: str, seq: int) -> None:
    """Write what a look leaves beside the graph: pending changes, complete scopes, basis and marks."""
    run = db.executemany
    run("DELETE FROM _pending WHERE id = ?", [(one,) for one in batch.settled])
    run(
        "INSERT OR REPLACE INTO _pending VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                p.id,
                p.scope,
                *(None if v is None else dump(v) for v in (p.before, p.after)),
                to_text(p.earliest),
                to_text(p.at),
                seq,
            )
            for p in batch.pending
        ],
    )
    changed = {row.scope for row in batch.journal}
    for scope in batch.looks:
        _write_look(db, scope, at, seq, scope in changed)
    if batch.basis is not None:
        db.execute(
            "INSERT OR REPLACE INTO _collector VALUES (?, ?, ?, ?)",
            (batch.collector, batch.basis, dump(batch.marks or {}), dump(batch.unobserved)),
        )


def _write_look(db: sqlite3.Connection, scope: str, at: str, seq: int, changed: bool) -> None:
    """Remember a complete look; a run of looks that saw no change is kept as its first and its newest."""
    last = db.execute("SELECT * FROM _look WHERE scope = ? ORDER BY number DESC LIMIT 2", (scope,)).fetchall()
    if last and not changed:
        seq = last[0]["seq"]
    if len(last) == 2 and last[0]["seq"] == last[1]["seq"] == seq:
        db.execute("UPDATE _look SET at = ? WHERE number = ?", (at, last[0]["number"]))
    else:
        db.execute("INSERT INTO _look VALUES (NULL, ?, ?, ?)", (scope, at, seq))


def dump(value: Any) -> str:
    """JSON for the private tables; moments as the store writes them."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=to_text)
