"""Made-up packages and their histories, in the store's own rows."""

import random
from datetime import UTC, datetime, timedelta

from watchman_mcp.schema.core import CollectorRun, Event, Host, event_key
from watchman_mcp.schema.packages import Software
from watchman_mcp.store.batch import EventRow, NodeRow

SCOPE = "generated"
"""A scope of no collector, so that no look of a daemon sweeps it."""
_NOW = datetime.now(UTC)
_HOST = Host(machine="0" * 32, name="bench", os="Debian GNU/Linux 12", time_zone="UTC")
HOST = NodeRow("Host", _HOST.path, dict(_HOST.__dict__), SCOPE)
_RUN = CollectorRun(
    collector="generated",
    started_at=_NOW - timedelta(days=365),
    last_at=_NOW,
    status="ok",
    runs=52_000,
    duration_ms=120.0,
    items=100_000,
    looks_for=["Host", "Software"],
)
RUN = NodeRow("CollectorRun", _RUN.path, dict(_RUN.__dict__), SCOPE)
_WORDS = (
    "lib",
    "python3",
    "perl",
    "node",
    "golang",
    "rust",
    "gir1.2",
    "fonts",
    "linux",
    "kde",
    "gnome",
    "tex",
)
_ENDS = (
    "core",
    "utils",
    "dev",
    "doc",
    "client",
    "server",
    "extra",
    "tools",
    "common",
    "bin",
    "data",
    "plugins",
)


def name(number: int) -> str:
    """A package name that looks like one."""
    return f"{_WORDS[number % 12]}-{_ENDS[number // 12 % 12]}{number // 144 or ''}"


def install(
    count: int, manager: str, at: datetime, chance: random.Random, location: str | None = None
) -> list[NodeRow]:
    """So many installed packages of one manager, in one place."""
    rows = []
    for number in range(count):
        software = Software(
            key=name(number),
            name=name(number),
            version=f"{chance.randint(0, 9)}.{chance.randint(0, 40)}.{chance.randint(0, 20)}-{chance.randint(1, 5)}",
            manager=manager,
            architecture="amd64" if manager == "apt" else None,
            location=location,
            installed_at=at + timedelta(seconds=number),
            requested=number % 7 == 0,
            held=False,
            state="installed",
            size_bytes=chance.randint(20_000, 90_000_000),
            summary=f"Made-up package number {number} that shows how long a usual summary is",
        )
        rows.append(NodeRow("Software", software.path, dict(software.__dict__), SCOPE))
    return rows


def transactions(packages: list[NodeRow], at: datetime, size: int, chance: random.Random) -> list[EventRow]:
    """The events of one run of a package manager that updates so many of these packages."""
    moment = at.replace(microsecond=0)
    run = f"{packages[0].values['manager']}:{moment:%Y-%m-%dT%H:%M:%SZ}:{chance.randint(0, 1 << 30)}"
    rows = []
    for number in range(size):
        package = packages[chance.randrange(len(packages))]
        values = package.values
        key = event_key("package_update", run, package.id, number)
        event = Event(
            key=key,
            ts=moment + timedelta(seconds=number // 4),
            type=chance.choices(("package_update", "package_install", "package_remove"), (90, 8, 2))[0],
            source=values["manager"],
            subject=values["key"],
            package_name=values["key"],
            version=values["version"],
            previous="1.0.0-1",
            manager=values["manager"],
            architecture=values["architecture"],
            location=values["location"],
            command="/usr/bin/unattended-upgrade" if number % 2 else "apt-get -y dist-upgrade",
            by="root",
            transaction_id=run,
        )
        rows.append(EventRow(f"Event/{key}", dict(event.__dict__), SCOPE, package.id))
    return rows
