"""What the store held and what was seen now: rows, journal, events, and states of the past."""

from watchman_mcp.history.comparing import compare
from watchman_mcp.history.past import look_at, past, scopes_of
from watchman_mcp.history.sight import Sight, Snapshot

__all__ = ["Sight", "Snapshot", "compare", "look_at", "past", "scopes_of"]
