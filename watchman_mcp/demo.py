"""A conversation with this machine, through the same door that a client uses."""

from __future__ import annotations

import sys
from typing import Any

import anyio
from mcp import Client, MCPError, StdioServerParameters
from rich.console import Console
from rich.rule import Rule
from rich.text import Text

from watchman_mcp import screen
from watchman_mcp.errors import Broken


def run() -> int:
    """Start the server over stdio as a client does, ask the everyday questions, print the answers.

    Raises: Broken when the server does not answer.
    """
    try:
        return anyio.run(_converse)
    except MCPError as error:
        raise Broken(str(error)) from error
    except BaseExceptionGroup as group:
        first: BaseException = group
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise (Broken(str(first)) if isinstance(first, MCPError) else first) from None


async def _converse() -> int:
    console = Console()
    server = StdioServerParameters(command=sys.executable, args=["-P", "-m", "watchman_mcp.cli"])
    async with Client(server) as client:
        await _ask(console, client, "How is this machine?", "overview", {})
        await _ask(
            console,
            client,
            "What was installed this week?",
            "query_packages",
            {"since": "7d", "action": "install"},
        )
        newest = await _ask(
            console, client, "What changed on this machine today?", "query_packages", {"since": "today"}
        )
        name = _some_package(newest) or await _any_package(client)
        await _ask(console, client, f"When was {name} last updated?", "query_packages", {"name": name})
        await _ask(
            console,
            client,
            "Show me all Python packages installed in the last month",
            "query_packages",
            {"manager": "python", "since": "30d", "limit": 30},
        )
        await _ask(console, client, "What can you not see?", "doctor", {})
    return 0


async def _ask(
    console: Console, client: Any, question: str, tool: str, arguments: dict[str, Any]
) -> dict[str, Any]:
    console.print(Rule(style="dim"))
    console.print(Text(f"> {question}", style="bold green"))
    words = ", ".join(f"{k}={v}" for k, v in arguments.items())
    console.print(Text(f"  {tool}({words})", style="dim"))
    result = await client.call_tool(tool, arguments)
    if result.is_error:
        raise Broken(f"{tool} failed: {result.content[0].text}")
    screen.answer(tool, result.structured_content, console)
    return dict(result.structured_content)


def _some_package(answer: dict[str, Any]) -> str:
    changes = [
        change
        for item in answer.get("items", [])
        for change in item.get("changes", [])
        if change["action"] in ("install", "update")
    ]
    return str(changes[0]["name"]) if changes else ""


async def _any_package(client: Any) -> str:
    """A package that was installed from a log, else any: the demo asks about what is really there."""
    for arguments in ({"view": "history", "action": "install", "manager": "apt", "limit": 1}, {"limit": 1}):
        found = (await client.call_tool("query_packages", arguments)).structured_content["items"]
        if found:
            return str(found[0]["changes"][0]["name"] if "changes" in found[0] else found[0]["name"])
    return "bash"
