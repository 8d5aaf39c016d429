"""The command line; without arguments what a client launches, so nothing is imported before its time."""

from __future__ import annotations

import sys

USAGE = """Watchman knows this machine and answers AI clients over MCP.

Started without arguments it speaks JSON-RPC on stdin and stdout, which is a client's business.
Add it to a client:

  watchman-mcp setup claude-desktop     (or: claude-code, vscode, cursor, gemini, codex)

Or ask it here:

  watchman-mcp status                   the machine on one screen
  watchman-mcp call query_packages --since 7d
  watchman-mcp demo                     questions and answers on this machine
  watchman-mcp doctor                   what it can and cannot see
  watchman-mcp --help                   every command
"""


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the console script's entry."""
    words = sys.argv[1:] if arguments is None else arguments
    if not words:
        if sys.stdin.isatty():
            sys.stderr.write(USAGE)
            return 0
        from watchman_mcp import bridge

        return bridge.main()
    if words[0] in ("--version", "-V"):
        from watchman_mcp import __version__

        sys.stdout.write(f"watchman-mcp {__version__}\n")
        return 0
    from watchman_mcp import commands

    return commands.run(words)


if __name__ == "__main__":
    sys.exit(main())
