"""Real parts to test against: a booted Debian machine, packages for its apt, and MCP clients of others."""
