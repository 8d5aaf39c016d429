"""Where links lead by their texts alone, whoever made them: nothing is followed."""

from __future__ import annotations

from collections.abc import Collection

from watchman_mcp.errors import WatchmanError
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.node import inside

HOPS = 8
"""So many links are read one after the other."""


def with_targets(files: Files, paths: Collection[str]) -> frozenset[str]:
    """These paths, and those to which they lead if they are links; only their last part may be one."""
    found = set(paths)
    for path in paths:
        for _ in range(HOPS):
            try:
                target = files.target(path)
            except WatchmanError:
                break  # no link, or one that may not be read
            path = inside(path.rpartition("/")[0], target, "") or ""
            if not path or path in found:
                break
            found.add(path)
    return frozenset(found)
