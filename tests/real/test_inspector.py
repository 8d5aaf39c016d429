"""The MCP Inspector, a client that is not ours, through the program that clients launch."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.homes import PROGRAM, Debian, Home
from watchman_mcp.tools import load

pytestmark = pytest.mark.real


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    debian = Debian(tmp_path / "root")
    debian.install("nginx", "1.22.1-9")
    one = Home(tmp_path / "home", debian.settings)
    yield one
    one.finish()


def inspect(inspector: list[str], home: Home, *words: str) -> dict[str, Any]:
    """What the Inspector prints about one request to a `watchman-mcp` that it launched."""
    argv = [*inspector, "--config", str(home.path / "mcp.json"), "--server", "watchman", *words]
    server = {"type": "stdio", "command": PROGRAM[0], "args": [], "env": {"HOME": str(home.path)}}
    (home.path / "mcp.json").write_text(json.dumps({"mcpServers": {"watchman": server}}))
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def test_the_inspector_lists_the_tools_and_calls_one(inspector: list[str], home: Home) -> None:
    tools = inspect(inspector, home, "--method", "tools/list")["tools"]
    assert [tool["name"] for tool in tools] == [tool.name for tool in load()]

    words = ("--method", "tools/call", "--tool-name", "query_packages", "--tool-arg", "name=nginx")
    result = inspect(inspector, home, *words)

    assert not result.get("isError")
    assert result["structuredContent"]["items"][0]["version"] == "1.22.1-9"
    assert json.loads(result["content"][0]["text"]) == result["structuredContent"]


def test_the_inspector_reads_a_resource_and_a_prompt(inspector: list[str], home: Home) -> None:
    read = inspect(inspector, home, "--method", "resources/read", "--uri", "watchman://packages/nginx")
    assert json.loads(read["contents"][0]["text"])["found"] == "yes"

    prompts = inspect(inspector, home, "--method", "prompts/list")["prompts"]
    assert {prompt["name"] for prompt in prompts} == {"morning_report", "explain_change"}
