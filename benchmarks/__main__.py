"""Runs the measurements of this folder and prints one table; a budget that is not kept is said, no more."""

import argparse
import os
import platform
import sys
import time
from datetime import UTC, datetime
from importlib import import_module
from pkgutil import iter_modules

from benchmarks import __path__ as folder
from benchmarks.rows import Row, shown


def measurements() -> list[str]:
    """The modules that measure something; those that begin with an underscore lend them a hand."""
    return sorted(m.name for m in iter_modules(folder) if not m.name.startswith("_") and m.name != "rows")


def main() -> int:
    """Measure what is asked for, everything by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"only these of: {', '.join(measurements())}"
    )
    parser.add_argument(
        "--quick", action="store_true", help="smaller stores and fewer rounds, within 90 seconds"
    )
    given = parser.parse_args()
    if unknown := set(given.names) - set(measurements()):
        parser.error(
            f"no measurement is called {', '.join(sorted(unknown))}; there are: {', '.join(measurements())}"
        )
    rows: list[Row] = []
    failed: list[str] = []
    for name in given.names or measurements():
        begun = time.monotonic()
        try:
            rows += import_module(f"benchmarks.{name}").run(given.quick)
        except Exception as error:  # noqa: BLE001 - the others are still worth measuring
            failed.append(f"{name} failed: {type(error).__name__}: {error}")
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    print(_machine(given.quick))
    print(shown(rows))
    print(*failed, sep="\n", end="" if not failed else "\n")
    return 1 if failed else 0


def _machine(quick: bool) -> str:
    with open("/proc/meminfo") as lines:
        memory = int(next(lines).split()[1]) // 2**20
    load = os.getloadavg()[0]
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} cores, {memory} GiB, "
        f"Linux {platform.release()}, Python {platform.python_version()}, load {load:.1f}"
        f"{', quick' if quick else ''}"
    )


if __name__ == "__main__":
    sys.exit(main())
