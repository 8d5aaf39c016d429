"""Each tool as clients see it, kept as a file: a change of one is a change of behaviour, seen in review.

WATCHMAN_TEST_SNAPSHOTS=write writes them anew.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from tests.story import serving
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools import load

pytestmark = pytest.mark.anyio
FOLDER = Path(__file__).parent / "snapshots"
WRITE = os.environ.get("WATCHMAN_TEST_SNAPSHOTS") == "write"
LONGEST = 1_200
"""Characters of a description and the arguments, which every conversation carries."""
KEPT = ("name", "title", "description", "annotations", "inputSchema", "outputSchema", "_meta")


async def shown(store: Store, root: Path, **offered: Any) -> dict[str, dict[str, Any]]:
    async with serving(store, root, offered=offered) as server, Client(server.mcp, cache=None) as client:
        tools = (await client.list_tools()).tools
    dumped = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
    assert all(set(tool) <= set(KEPT) for tool in dumped)
    return {tool["name"]: {key: tool[key] for key in KEPT if key in tool} for tool in dumped}


def changed(tools: dict[str, dict[str, Any]], folder: Path) -> list[str]:
    """The tools that are not as the folder's files say, which are written anew where that is asked for."""
    if WRITE:
        folder.mkdir(exist_ok=True)
        for name, tool in tools.items():
            text = json.dumps(tool, indent=2, ensure_ascii=False)
            (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    kept = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")}
    return sorted(name for name in tools.keys() | kept.keys() if tools.get(name) != kept.get(name))


async def test_every_tool_is_as_its_snapshot_says(store: Store, tmp_path: Path) -> None:
    tools = await shown(store, tmp_path)

    assert changed(tools, FOLDER) == [], "make snapshots writes these anew, if the change is meant"


async def test_a_tool_that_takes_more_where_there_is_a_fleet_is_as_its_snapshot_says(
    store: Store, tmp_path: Path
) -> None:
    alone = await shown(store, tmp_path)

    tools = await shown(store, tmp_path, fleet=object(), cypher=object())

    more = {name: tool for name, tool in tools.items() if tool != alone[name]}
    assert changed(more, FOLDER / "fleet") == [], "make snapshots writes these anew, if the change is meant"
    assert sorted(more) == ["overview", "query_graph", "query_packages", "system_metrics", "what_changed"]


async def test_what_a_model_reads_of_a_tool_is_short_with_a_fleet_too(store: Store, tmp_path: Path) -> None:
    tools = await shown(store, tmp_path, fleet=object(), cypher=object())

    sizes = {
        name: len(tool["description"]) + len(json.dumps(tool["inputSchema"], separators=(",", ":")))
        for name, tool in tools.items()
    }
    assert {name: size for name, size in sizes.items() if size > LONGEST} == {}


def test_every_tool_has_a_snapshot_and_every_snapshot_a_tool() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == {tool.name for tool in load()}
