"""CPU time of one monitoring tick beside one refresh of glances, on a machine with 300 processes.

Glances is measured where `GLANCES_PYTHON` names a Python that has it, or where uv can install it.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.rows import Budget, Row
from watchman_mcp.collectors import Look
from watchman_mcp.collectors.resources import collect
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.settings import Settings

PROCESSES = 300
TICKS = 40
# A plugin of glances refreshes at most every two seconds; asked sooner, it answers with what it had.
PEER = """
import sys, time
sys.argv = ["glances", "--quiet", "--disable-check-update"]
from glances.main import GlancesMain
core = GlancesMain()
from glances.stats import GlancesStats
stats = GlancesStats(config=core.get_config(), args=core.get_args())
for _ in range(4):
    begun = time.process_time()
    stats.update()
    print("refresh", (time.process_time() - begun) * 1000)
    time.sleep(2.3)
"""


def run(quick: bool) -> list[Row]:
    """The tick's row; without its peer where glances is not to be had."""
    with _crowd():
        tick, rows = _tick(15 if quick else TICKS)
        peer = _glances()
    beside = "glances is not to be had" if peer is None else "one refresh of glances"
    title = f"monitoring tick, {PROCESSES} processes"
    return [
        Row(f"{title}, CPU time", tick, "ms", peer, beside, Budget(0.333, of_ratio=True)),
        Row(f"{title}, samples", rows, "rows"),
    ]


def _tick(count: int) -> tuple[float, int]:
    """Milliseconds of CPU time that one look takes, the median, and the rows that it gives."""
    root = Path("/")
    look = Look(Machine(Files(root), Commands(), root), Settings(), "resources")
    seen = list(collect(look))
    spent = []
    for _ in range(count):
        begun = time.process_time()
        seen = list(collect(look))
        spent.append((time.process_time() - begun) * 1000)
    return statistics.median(spent), len(seen)


def _glances() -> float | None:
    """Milliseconds of CPU time of one refresh, the median without the first; None if there is no glances."""
    with tempfile.TemporaryDirectory() as place:
        python = os.environ.get("GLANCES_PYTHON") or _installed(Path(place))
        if python is None:
            return None
        done = subprocess.run(
            [python, "-I", "-c", PEER],
            env={"PATH": os.environ["PATH"], "HOME": place},
            capture_output=True,
            text=True,
            timeout=120,
        )
    lines = [line.split() for line in done.stdout.splitlines()]
    spent = [float(words[1]) for words in lines if len(words) == 2 and words[0] == "refresh"]
    return statistics.median(spent[1:]) if len(spent) > 1 else None


def _installed(place: Path) -> str | None:
    """A Python with glances in an environment of its own; None where it cannot be installed."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if uv is None:
        return None
    python = str(place / "peer/bin/python")
    make = [uv, "venv", "--quiet", "--python", sys.executable, str(place / "peer")]
    fill = [uv, "pip", "install", "--quiet", "--python", python, "glances"]
    for argv in (make, fill):
        if subprocess.run(argv, capture_output=True, timeout=120).returncode:
            return None
    return python


@contextmanager
def _crowd() -> Iterator[None]:
    """Sleeping processes until the machine has as many as the budget speaks of."""
    missing = PROCESSES - sum(name.isdecimal() for name in os.listdir("/proc"))
    sleepers = [subprocess.Popen(["sleep", "600"]) for _ in range(missing)]
    try:
        yield
    finally:
        for sleeper in sleepers:
            sleeper.kill()
        for sleeper in sleepers:
            sleeper.wait()
