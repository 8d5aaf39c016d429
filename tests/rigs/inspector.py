"""The MCP Inspector, the client that server authors reach for first; installed once by npm."""

import subprocess
from pathlib import Path

from tests.rigs import cache

INSPECTOR = "@modelcontextprotocol/inspector@2.12.0"
NODE = "node@22.23.3"  # the Inspector wants a newer Node than Debian has; npm carries one
LAUNCHER = "clients/launcher/build/index.js"
HOW = "apt-get install nodejs npm"


def inspector_cli() -> list[str]:
    """The first words of an Inspector command line; then the server's command and `--method tools/list`."""
    cache.need_programs("the MCP Inspector", "node", "npm", how=HOW)
    modules = cache.once("inspector", f"{INSPECTOR} {NODE}", _install) / "node_modules"
    return [
        str(modules / "node/bin/node"),
        str(modules / "@modelcontextprotocol/inspector" / LAUNCHER),
        "--cli",
    ]


def _install(into: Path) -> None:
    command = ["npm", "install", "--no-save", "--no-audit", "--no-fund", "--loglevel=error"]
    done = subprocess.run(
        [*command, f"--prefix={into}", NODE, INSPECTOR],
        capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300,
    )  # fmt: skip
    if done.returncode != 0:
        raise AssertionError(f"npm ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
