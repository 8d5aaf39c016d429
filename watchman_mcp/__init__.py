"""Watchman: one daemon per machine that knows it, and an MCP server that answers from what it knows."""

__version__ = "0.1.0"
