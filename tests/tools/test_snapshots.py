"""Each tool as clients see it, kept as a file: a change of one is a change of behaviour, seen in review.

WATCHMAN_TEST_SNAPSHOTS=write writes them anew.
"""

import json
import os
from collections.abc import Iterator
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
KEPT = ("name", "title", "description", "annotations", "inputSchema", "outputSchema", "_meta")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path)
    yield opened
    opened.close()


async def shown(store: Store, root: Path) -> dict[str, dict[str, Any]]:
    async with serving(store, root) as server, Client(server.mcp, cache=None) as client:
        tools = (await client.list_tools()).tools
    dumped = [tool.model_dump(mode="json", by_alias=True, exclude_none=True) for tool in tools]
    assert all(set(tool) <= set(KEPT) for tool in dumped)
    return {tool["name"]: {key: tool[key] for key in KEPT if key in tool} for tool in dumped}


async def test_every_tool_is_as_its_snapshot_says(store: Store, tmp_path: Path) -> None:
    tools = await shown(store, tmp_path)
    if WRITE:
        FOLDER.mkdir(exist_ok=True)
        for name, tool in tools.items():
            text = json.dumps(tool, indent=2, ensure_ascii=False)
            (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")

    kept = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in FOLDER.glob("*.json")}

    changed = sorted(name for name in tools.keys() | kept.keys() if tools.get(name) != kept.get(name))
    assert changed == [], "make snapshots writes these anew, if the change is meant"


def test_every_tool_has_a_snapshot_and_every_snapshot_a_tool() -> None:
    assert {path.stem for path in FOLDER.iterdir()} == {tool.name for tool in load()}
