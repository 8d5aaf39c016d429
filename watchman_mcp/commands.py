"""The commands that a person types."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from watchman_mcp import __version__, bridge
from watchman_mcp.bridge import ending
from watchman_mcp.errors import InvalidRequest, WatchmanError


def run(words: list[str]) -> int:
    """Run one command. Errors are one line on stderr and exit code 1."""
    parser = _parser()
    given, rest = parser.parse_known_args(words)
    if rest and given.command != "call":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        code = int(given.action(given, rest))
        sys.stdout.flush()  # a reader that left early is found out here, not when the interpreter ends
        return code
    except WatchmanError as error:
        sys.stderr.write(f"watchman-mcp: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="watchman-mcp", description="Watchman knows this machine and answers AI clients over MCP."
    )
    parser.add_argument("--version", "-V", action="version", version=f"watchman-mcp {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def add(name: str, says: str, action: Callable[..., int]) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=says, description=says)
        command.set_defaults(action=action)
        return command

    serve = add("serve", "Run the daemon here and stay, until SIGTERM.", _serve)
    serve.add_argument(
        "--stdio", action="store_true", help="serve one client on stdin and stdout instead, without a daemon"
    )
    add("stop", "End the daemon; it drains first.", _stop)
    add("status", "The machine on one screen.", _status)
    scan = add("scan", "Look at the machine again now.", _scan)
    scan.add_argument("area", nargs="?", default="", help="packages, resources, ...; empty: all")
    doctor = add("doctor", "What Watchman can and cannot see here, and what to do about it.", _doctor)
    doctor.add_argument("area", nargs="?", default="")
    call = add(
        "call", "Call a tool: call TOOL --argument value. A table on a terminal, JSON in a pipe.", _call
    )
    call.add_argument("tool", nargs="?", default="", help="name of the tool; empty: their list")
    call.add_argument("--json", action="store_true", help="JSON on a terminal too")
    add("demo", "Start the server as a client would, ask questions and print the answers.", _demo)
    add("hosts", "The machines of the fleet, and when each was last heard.", _hosts)
    setup = add(
        "setup", "Add Watchman to an AI client, or take it out; or prepare the fleet's Neo4j.", _setup
    )
    setup.add_argument(
        "client",
        nargs="?",
        default="",
        help="claude-desktop, claude-code, vscode, cursor, gemini or codex; or neo4j",
    )
    setup.add_argument("--remove", action="store_true", help="take it out again")
    setup.add_argument(
        "--replace",
        action="store_true",
        help="replace an entry, or this machine's graph in Neo4j, that somebody else made",
    )
    return parser


def _ask(
    method: str, params: dict[str, Any], on_notification: Callable[[dict[str, Any]], None] | None = None
) -> dict[str, Any]:
    config = bridge.config_path()
    return bridge.ask(bridge.state_directory(config), config, method, params, on_notification)


def call_tool(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """The answer of a tool.

    Raises: InvalidRequest with the tool's own words when it refuses.
    """
    result = _ask("tools/call", {"name": name, "arguments": arguments})
    if result.get("isError"):
        raise InvalidRequest("".join(block.get("text", "") for block in result["content"]))
    answer: dict[str, Any] = result["structuredContent"]
    return answer


def _serve(given: argparse.Namespace, _rest: list[str]) -> int:
    from watchman_mcp import daemon

    config = bridge.config_path()
    return daemon.stdio(config) if given.stdio else daemon.serve(config)


def _stop(_given: argparse.Namespace, _rest: list[str]) -> int:
    config = bridge.config_path()
    directory = bridge.state_directory(config)
    ended = ending.stop(directory)
    print(f"The daemon of {directory} has ended." if ended else f"No daemon runs in {directory}.")
    return 0


def _status(_given: argparse.Namespace, _rest: list[str]) -> int:
    from watchman_mcp import screen

    screen.status(
        call_tool("overview", {}),
        call_tool("what_changed", {"limit": 8}),
        call_tool("system_metrics", {"view": "cpu", "chart": True}),
    )
    return 0


def _scan(given: argparse.Namespace, _rest: list[str]) -> int:
    from watchman_mcp import screen

    areas = [item["area"] for item in call_tool("doctor", {"area": given.area})["items"]]
    screen.progress(areas, lambda area: call_tool("scan", {"area": area})["looked"].get(area, "not there"))
    return 0


def _doctor(given: argparse.Namespace, _rest: list[str]) -> int:
    return _show("doctor", {"area": given.area}, as_json=False)


def _call(given: argparse.Namespace, rest: list[str]) -> int:
    if not given.tool:
        for tool in _ask("tools/list", {})["tools"]:
            print(f"{tool['name']}: {tool['description']}")
        return 0
    return _show(given.tool, arguments_from(rest), as_json=given.json)


def _show(tool: str, arguments: dict[str, Any], *, as_json: bool) -> int:
    answer = call_tool(tool, arguments)
    if as_json or not sys.stdout.isatty():
        print(json.dumps(answer, ensure_ascii=False, indent=2))
    else:
        from watchman_mcp import screen

        screen.answer(tool, answer)
    return 0


def arguments_from(words: Sequence[str]) -> dict[str, Any]:
    """`--name value`, `--name=value` and a bare `--flag` as a tool's arguments.

    Raises: InvalidRequest for a word without a name.
    """
    arguments: dict[str, Any] = {}
    position = 0
    while position < len(words):
        word = words[position]
        if not word.startswith("--") or len(word) < 3:
            raise InvalidRequest(f"'{word}' belongs to no argument; write --name value")
        name, equals, value = word[2:].partition("=")
        if not equals and position + 1 < len(words) and not words[position + 1].startswith("--"):
            position += 1
            value, equals = words[position], "="
        arguments[name] = value if equals else True
        position += 1
    return arguments


def _demo(_given: argparse.Namespace, _rest: list[str]) -> int:
    from watchman_mcp import demo

    return demo.run()


def _hosts(_given: argparse.Namespace, _rest: list[str]) -> int:
    from watchman_mcp import fleet

    found = fleet.hosts(bridge.config_path(), os.environ)
    if sys.stdout.isatty():
        from watchman_mcp import screen

        screen.hosts(found)
    else:
        print(json.dumps(found, ensure_ascii=False, indent=2))
    return 0


def _setup_neo4j(given: argparse.Namespace) -> int:
    from watchman_mcp import fleet

    if given.remove:
        raise InvalidRequest("what is sent to Neo4j ends with [neo4j] uri in the configuration file")
    config = bridge.config_path()
    directory = Path(bridge.state_directory(config))
    print(fleet.prepare(config, os.environ, directory, replace=given.replace))
    return 0


def _setup(given: argparse.Namespace, _rest: list[str]) -> int:
    from watchman_mcp import clients

    if given.client == "neo4j":
        return _setup_neo4j(given)
    if not given.client:
        for name, client in clients.CLIENTS.items():
            print(f"{name:16} {client.title}")
        print(f"{'neo4j':16} the database of the fleet")
        return 0
    outcome = clients.setup(
        given.client, home=Path.home(), remove=given.remove, replace=given.replace, run=_run_program
    )
    print(outcome.says)
    if outcome.entry and not outcome.changed:
        print(outcome.entry)
    return 0


def _run_program(words: list[str]) -> int:
    """Run a client's own program, its output on stderr."""
    try:
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=sys.stderr, timeout=60, check=False
        ).returncode
    except (subprocess.TimeoutExpired, OSError) as error:
        sys.stderr.write(f"{words[0]}: {error}\n")
        return 1
