"""Made-up packages and their histories, in the store's own rows."""

import random
from datetime import UTC, datetime, timedelta

from watchman_mcp.schema.core import CollectorRun, Event, Host
from watchman_mcp.schema.packages import Software
from watchman_mcp.store.batch import EventRow, NodeRow

SCOPE = "generated"
"""A scope of no collector, so that no look of a daemon sweeps it."""
_NOW = datetime.now(UTC)
_HOST = Host(machine="0" * 32, name="bench", os="Debian GNU/Linux 12", time_zone="UTC")
HOST = NodeRow("Host", _HOST.node_id, dict(_HOST.__dict__), SCOPE)
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
RUN = NodeRow("CollectorRun", _RUN.node_id, dict(_RUN.__dict__), SCOPE)
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
_EMPTY: dict[str, object] = dict.fromkeys(Event.model_fields)
_KINDS = (*["update"] * 45, *["install"] * 4, "remove")
_COMMANDS = ("apt-get -y dist-upgrade", "/usr/bin/unattended-upgrade")


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
            version=f"{chance.randint(0, 9)}.{chance.randint(0, 40)}.{chance.randint(0, 20)}-1",
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
        rows.append(NodeRow("Software", software.node_id, dict(software.__dict__), SCOPE))
    return rows


def transactions(packages: list[NodeRow], at: datetime, size: int, chance: random.Random) -> list[EventRow]:
    """The events of one run of a package manager that changes so many of these packages."""
    moment = at.replace(microsecond=0)
    manager = packages[0].values["manager"]
    run = f"{manager}:{moment:%Y-%m-%dT%H:%M:%SZ}:{chance.getrandbits(30)}"
    command = _COMMANDS[chance.getrandbits(1)]
    rows = []
    for number in range(size):
        package = packages[int(chance.random() * len(packages))]
        # Not a hash, as real keys are: made-up rows are to be written quickly, and read as fast as any.
        key = f"evt_{moment:%Y%m%d%H%M%S}{chance.getrandbits(16):04x}{number:02x}"
        shared = {name: package.values[name] for name in ("version", "manager", "architecture", "location")}
        values = _EMPTY | shared | {
            "key": key,
            "ts": moment + timedelta(seconds=number // 4),
            "type": "package_" + _KINDS[int(chance.random() * len(_KINDS))],
            "source": manager,
            "subject": package.values["key"],
            "package_name": package.values["key"],
            "previous": "1.0.0-1",
            "command": command,
            "by": "root",
            "transaction_id": run,
        }  # fmt: skip
        rows.append(EventRow(f"Event/{key}", values, SCOPE, package.id))
    return rows
