"""What a conversation pays in bytes: the list of tools, the overview, a week of package history."""

import json
import random
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from benchmarks._graph import HOST, install, transactions
from benchmarks._homes import home, opened, plain_server
from benchmarks.rows import Budget, Row
from watchman_mcp.store.batch import Batch
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools.answers import compact
from watchman_mcp.tools.packages import query_packages

FIRST = 7
TRANSACTIONS = 9
"""Of a week: a daily upgrade and a few things that a person installed."""


def run(quick: bool) -> list[Row]:
    """Bytes of compact JSON, as a client receives them."""
    del quick
    with home() as ours:
        ours.serve()
        with ours.client() as client:
            tools = client.ask("tools/list")["tools"]
            overview = client.call("overview")
    with plain_server() as (argv, env), opened(argv, env) as peer:
        plain = _input(peer.ask("tools/list")["tools"][0])
    each = {tool["name"]: _input(tool) for tool in tools}
    first = list(each)[:FIRST]
    rows = [
        Row(
            f"tools/list, first {FIRST} tools, input side",
            sum(each[n] for n in first),
            "bytes",
            budget=Budget(4500),
        ),
        Row("tools/list, whole, input side", sum(each.values()), "bytes", budget=Budget(13500)),
    ]
    for name, size in each.items():
        rows.append(Row(f"  {name}", size, "bytes", plain, "one tool without sense", Budget(1200)))
    outputs = sum(_size(tool.get("outputSchema") or {}) for tool in tools)
    rows.append(Row("output schemas, whole list", outputs, "bytes", budget=Budget(40_000)))
    rows.append(Row("overview of this machine", _size(overview), "bytes", budget=Budget(1200)))
    rows.append(Row("a week of package history", _week(), "bytes", budget=Budget(3000)))
    return rows


def _input(tool: dict[str, Any]) -> int:
    return _size({name: tool[name] for name in ("name", "description", "inputSchema") if name in tool})


def _size(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode())


def _week() -> int:
    """The answer about a week in which a machine took its updates and somebody installed two things."""
    now = datetime.now(UTC)
    chance = random.Random(7)
    with tempfile.TemporaryDirectory() as place:
        store = Store(Path(place))
        starts = [now - timedelta(days=6.5 * (n + 1) / TRANSACTIONS) for n in range(TRANSACTIONS)]
        packages = install(200, "apt", now - timedelta(days=90), chance)
        events = [
            event for start in starts for event in transactions(packages, start, chance.randint(1, 5), chance)
        ]
        store.write(Batch(at=now, nodes=[HOST, *packages], events=events))
        answer = compact(query_packages(store, since="7d"))
        store.close()
    if answer["totals"]["items"] != len(events):
        raise RuntimeError(f"{len(events)} changes were made, {answer['totals']} are told")
    return _size(answer)
