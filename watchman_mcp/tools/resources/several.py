"""Several machines, each on one line: its load, what is installed, and what a person should look at."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from watchman_mcp.store.tables import from_text
from watchman_mcp.tools.fleet import Elsewhere

from .answer import HostLine

FULL_PERCENT = 90
LITTLE_MEMORY = 0.05
"""The part of the memory of which less must be available to be a problem."""
SILENT = timedelta(minutes=15)
"""A machine that was not heard of for longer may be down, or its daemon."""
FULL, NO_MEMORY, UNHEARD, ODD = range(4)
"""What may be wrong with a machine, worst first."""


def loads(frame: Elsewhere) -> list[HostLine]:
    """The machines by name, with their newest load."""
    samples = {row["machine"]: row for row in frame.fleet.samples.load(frame.ids)}
    return [_line(frame, machine, samples.get(machine, {})) for machine in frame.ids]


def whole(frame: Elsewhere, midnight: datetime) -> tuple[list[HostLine], int]:
    """The machines with all that is told of each, worst first, and how many are silent."""
    samples = {row["machine"]: row for row in frame.fleet.samples.load(frame.ids)}
    packages = {row["machine"]: row for row in frame.fleet.packages.counted(frame.ids)}
    events = frame.fleet.events
    changes = events.by_machine(events.between(frame.ids, midnight, frame.now))
    ranked = []
    silent = 0
    for one in frame.machines:
        sample, counted = samples.get(one.machine, {}), packages.get(one.machine, {"n": 0, "odd": 0})
        line = _line(frame, one.machine, sample)
        line.os, line.packages, line.changes_today = one.os, counted["n"], changes.get(one.machine, 0)
        unheard = frame.now - from_text(one.heard_at) > SILENT
        silent += unheard
        wrong = _wrong(sample, unheard, counted["odd"])
        line.problems = list(wrong.values()) or None
        worst = (min(wrong, default=len(wrong) + ODD + 1), -len(wrong), -(sample.get("use_percent") or 0))
        ranked.append((worst, line.host.lower(), line))
    return [line for *_, line in sorted(ranked, key=lambda item: item[:2])], silent


def _line(frame: Elsewhere, machine: str, sample: dict[str, Any]) -> HostLine:
    heard = next(one.heard_at for one in frame.machines if one.machine == machine)
    percent = sample.get("use_percent")
    return HostLine(
        host=frame.title(machine),
        heard=frame.show(heard),
        cpu_percent=sample.get("cpu_percent"),
        load_average_1m=sample.get("load_average_1m"),
        memory_used_gb=sample.get("memory_used_gb"),
        memory_total_gb=sample.get("memory_total_gb"),
        fullest=None if percent is None else f"{sample['fullest']} {percent:.0f} %",
    )


def _wrong(sample: dict[str, Any], unheard: bool, odd: int) -> dict[int, str]:
    """What a person should look at; constant texts with numbers."""
    found = {}
    if (sample.get("use_percent") or 0) >= FULL_PERCENT:
        found[FULL] = f"a file system is at least {FULL_PERCENT} % full"
    left, total = sample.get("memory_available_gb"), sample.get("memory_total_gb")
    if left is not None and total and left < LITTLE_MEMORY * total:
        found[NO_MEMORY] = "less than 5 % of memory is available"
    if unheard:
        found[UNHEARD] = f"not heard of for more than {SILENT.seconds // 60} min"
    if odd:
        found[ODD] = f"{odd} packages are not fully installed"
    return found
