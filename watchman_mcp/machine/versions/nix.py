"""Versions of NixOS, `VERSION (GENERATION)`: ordered by generation alone, as snapd orders revisions."""

from watchman_mcp.machine.versions.snap import compare

__all__ = ["compare"]
