"""One look of one collector in another place, such as a network namespace, without a daemon."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

_LOOK = """
import json, sys
from datetime import datetime
from importlib import import_module
from pathlib import Path
from watchman_mcp.collectors import Look
from watchman_mcp.errors import WatchmanError
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.schema import Edge
from watchman_mcp.settings import Settings

name, settings, marks, root, within = sys.argv[1], *map(json.loads, sys.argv[2:6])


class Within(Commands):
    def run(self, argv, **limits):
        return super().run([*within, *argv], **limits)


collector = import_module(f"watchman_mcp.collectors.{name}").collector
machine = Machine(Files(Path(root)), Within(*sys.argv[6:]), Path("/"))
look = Look(machine, Settings.model_validate(settings), name, marks)
found = {"nodes": [], "edges": [], "raises": None}
try:
    for seen in collector.collect(look):
        if isinstance(seen, Edge):
            found["edges"].append([seen.start, seen.type.name, seen.end])
        else:
            values = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in seen.__dict__.items()}
            found["nodes"].append({"label": type(seen).__name__, **values})
except WatchmanError as error:
    found["raises"] = f"{type(error).__name__}: {error}"
found["unobserved"] = {one.what: one.why for one in look.unobserved}
found["marks"] = look.marks
print(json.dumps(found))
"""


def look(
    within: Sequence[str],
    name: str,
    *,
    settings: dict[str, Any] | None = None,
    marks: dict[str, Any] | None = None,
    root: str = "/",
    commands_within: Sequence[str] = (),
    programs: Sequence[str] = (),
) -> dict[str, Any]:
    """What a collector sees from within a place that these first words of a command line enter.

    Its files are read below `root`, and its commands run behind further first words, so that a machine can be
    looked at on which nothing is installed. `programs` are directories to find commands in, and in no others.
    """
    told = [json.dumps(value) for value in (settings or {}, marks or {}, root, list(commands_within))]
    words = [*within, sys.executable, "-c", _LOOK, name, *told, *([":".join(programs)] if programs else [])]
    done = subprocess.run(words, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr.decode(errors="backslashreplace")[-3000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found
