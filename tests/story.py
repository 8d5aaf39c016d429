"""One machine's history, told into a store as the runner does it, and the server that answers from it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio

from watchman_mcp import history
from watchman_mcp.cleaning import Cleaner
from watchman_mcp.collectors import Collector, Look, minutes
from watchman_mcp.errors import Absent
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.notifications import Notifications
from watchman_mcp.runner import DEADLINE, Runner
from watchman_mcp.schema import LABELS, Label
from watchman_mcp.schema.core import CollectorRun, Event, Host, event_key
from watchman_mcp.schema.packages import DEPENDS_ON, Software
from watchman_mcp.schema.resources import DiskMetrics, SystemMetrics
from watchman_mcp.server import Server
from watchman_mcp.settings import Settings
from watchman_mcp.store.batch import Batch, EdgeRow, EventRow, NodeRow
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools import About

LOOKS_FOR = {
    "apt": ["Software"],
    "python": ["Software"],
    "host": ["Host"],
    "network": ["NetworkInterface", "Route", "RoutingRule"],
    "firewall": ["FirewallChain", "FirewallRule"],
    "ports": ["ConnectionMetrics", "NetworkEndpoint"],
    "dns": ["DNSServer"],
    "vpn": ["VPNConnection"],
    "external": ["ExternalAddress"],
    "resources": ["DiskMetrics", "InterfaceMetrics", "ProcessMetrics", "SystemMetrics"],
}

MANAGERS = {"apt": ["apt"], "python": ["pip", "uv", "pipx", "conda"]}


def package(name: str, version: str | None = "1.0", *, manager: str = "apt", **more: Any) -> Software:
    """A package as a collector yields it."""
    architecture = more.pop("architecture", "amd64" if manager == "apt" else None)
    given = {"architecture": architecture, "scheme": "deb" if manager == "apt" else None, **more}
    return Software(key=name, name=name, version=version, manager=manager, **given)


@dataclass
class Story:
    """Tells what the collectors of one machine saw, look by look; times are minutes before now."""

    store: Store
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))
    stretches: dict[str, tuple[str, float]] = field(default_factory=dict)
    """How each collector fares, and since when."""

    def ago(self, minutes: float) -> datetime:
        """The moment that many minutes before now."""
        return self.now - timedelta(minutes=minutes)

    def shown(self, minutes: float) -> str:
        """The same moment as answers write it on a machine whose clock shows UTC."""
        return self.ago(minutes).isoformat(timespec="seconds")

    def host(self, minutes: float = 60, **values: Any) -> None:
        """The host was looked at."""
        named: dict[str, Any] = {
            "machine": "m1",
            "name": "box",
            "os": "Debian GNU/Linux 12 (bookworm)",
            "kernel": "6.1.0-13-amd64",
        }
        named |= {"boot_time": self.ago(3 * 1440), "boot_id": "b1", "time_zone": "UTC", **values}
        self._look("host", "host", [Host(**named)], minutes)
        self.ran("host", minutes)

    def look(
        self,
        minutes: float,
        packages: Iterable[Label] = (),
        *,
        collector: str = "apt",
        scope: str = "",
        records: Sequence[Event] = (),
        needs: Iterable[tuple[str, str]] = (),
        protected: Sequence[str] = (),
        unobserved: Sequence[str] = (),
    ) -> None:
        """A package database was looked at, and these lines were new in its log."""
        self._look(
            collector,
            scope or collector,
            packages,
            minutes,
            records=records,
            needs=needs,
            protected=protected,
        )
        self.ran(collector, minutes, unobserved=list(unobserved) or None)

    def things(self, minutes: float, collector: str, label: type[Label], nodes: Iterable[Label]) -> None:
        """Things of another label were looked at by a collector that reads no log."""
        self._look(collector, collector, nodes, minutes, labels=frozenset({label.__name__}))
        self.ran(collector, minutes)

    def _look(
        self,
        collector: str,
        scope: str,
        nodes: Iterable[Label],
        minutes: float,
        *,
        records: Sequence[Event] = (),
        needs: Iterable[tuple[str, str]] = (),
        protected: Sequence[str] = (),
        labels: frozenset[str] = frozenset(),
    ) -> None:
        shot = history.Snapshot(scope)
        by_key = {}
        for node in nodes:
            shot.nodes[node.node_id] = NodeRow(type(node).__name__, node.node_id, dict(node.__dict__), scope)
            by_key[getattr(node, "key", "")] = node.node_id
        for start, end in needs:
            edge = EdgeRow(DEPENDS_ON.name, by_key[start], by_key[end], scope)
            shot.edges[edge.id] = edge
        ghosts = {}
        rows = []
        for event in records:
            about = Software(
                key=event.subject or "",
                name=event.subject or "",
                version=event.version,
                manager=event.manager or "apt",
                architecture=event.architecture,
                location=event.location,
            )
            ghosts[about.node_id] = NodeRow("Software", about.node_id, dict(about.__dict__), scope, event.ts)
            rows.append(EventRow(event.node_id, dict(event.__dict__), scope, about.node_id))
        told = {row.acted_on or "": row for row in rows}
        logged = not labels
        labels = labels or frozenset({"Host"} if collector == "host" else {"Software", "PackageIndex"})
        sight = history.Sight(
            collector, labels, logged, self.ago(minutes), "1", {scope: shot}, list(protected), told
        )
        batch = history.compare(self.store, sight)
        batch.marks, batch.unobserved, batch.ghosts = {}, list(protected), list(ghosts.values())
        batch.events = rows + batch.events
        self.store.write(batch)

    def event(self, kind: str, name: str, minutes: float, version: str = "1.0", **more: Any) -> Event:
        """A line of a package log."""
        values: dict[str, Any] = {"manager": "apt", "architecture": "amd64", "source": "apt", **more}
        ts = self.ago(minutes)
        key = event_key(kind, name, version, ts, values.get("transaction_id"), values.get("location"))
        return Event(key=key, ts=ts, type=kind, subject=name, package_name=name, version=version, **values)

    def ran(
        self,
        collector: str,
        minutes: float = 1,
        status: str = "ok",
        *,
        unobserved: list[str] | None = None,
        error: str | None = None,
    ) -> None:
        """The runner wrote how a collector fares: the same way as before, or another one from now on."""
        status = status if not unobserved else "partial"
        way, begun = self.stretches.get(collector, ("", minutes))
        if way != f"{status} {unobserved} {error}":
            way, begun = f"{status} {unobserved} {error}", minutes
        self.stretches[collector] = (way, begun)
        run = CollectorRun(
            collector=collector,
            started_at=self.ago(begun),
            last_at=self.ago(minutes),
            status=status,
            runs=1,
            duration_ms=12.5,
            items=3,
            looks_for=LOOKS_FOR.get(collector, []),
            managers=MANAGERS.get(collector),
            unobserved=unobserved,
            error=error,
        )
        row = NodeRow("CollectorRun", run.node_id, dict(run.__dict__), "watchman")
        self.store.write(Batch(at=self.ago(minutes), nodes=[row]))

    def sample(
        self,
        minutes: float,
        *,
        cpu: float | None = 12.5,
        used: float = 4.0,
        disks: dict[str, tuple[float, float]] | None = None,
    ) -> None:
        """The kernel's counters were read: `disks` are used and free GiB by mount point."""
        ts = self.ago(minutes)
        whole = SystemMetrics(
            timestamp=ts,
            cpu_percent=cpu,
            cpu_per_core=[10.0, 15.0],
            memory_used_gb=used,
            memory_total_gb=16.0,
            memory_available_gb=16.0 - used,
            memory_cached_gb=2.0,
            swap_used_gb=0.0,
            swap_total_gb=1.0,
            disk_used_gb=20.0,
            disk_total_gb=100.0,
            load_average_1m=0.5,
            load_average_5m=0.4,
            load_average_15m=0.3,
            disk_read_mb_s=0.1,
            disk_write_mb_s=0.2,
            processes=120,
        )
        samples: list[tuple[str, dict[str, Any]]] = [("SystemMetrics", dict(whole.__dict__))]
        for mount_point, (full, free) in (disks if disks is not None else {"/": (20.0, 80.0)}).items():
            disk = DiskMetrics(
                filesystem="/dev/vda1",
                mount_point=mount_point,
                timestamp=ts,
                used_gb=full,
                available_gb=free,
                use_percent=round(100 * full / (full + free), 1),
                inodes_percent=3.0,
            )
            samples.append(("DiskMetrics", dict(disk.__dict__)))
        self.store.write(Batch(at=ts, samples=samples))
        self.ran("resources", minutes)


def busy_week(store: Store) -> Story:
    """A machine in use: 200 packages, of which forty changed in ten transactions of a week, and samples."""
    story = Story(store)
    story.host()
    there = {
        f"package-{n:03}": package(
            f"package-{n:03}", "1.2.3-4", installed_at=story.ago(60 * 24 * 40), requested=n % 10 == 0
        )
        for n in range(200)
    }
    story.look(60 * 24 * 8, there.values())
    records = []
    for transaction in range(10):
        minutes = 60 * 15 * (10 - transaction)
        for n in range(4):
            name = f"package-{transaction * 4 + n:03}"
            records.append(
                story.event(
                    "package_update",
                    name,
                    minutes,
                    "1.2.3-5",
                    previous="1.2.3-4",
                    command="/usr/bin/unattended-upgrade",
                    by="operator (1000)" if transaction % 3 == 0 else None,
                    transaction_id=f"apt-{transaction}",
                )
            )
            there[name] = package(name, "1.2.3-5", installed_at=story.ago(minutes))
    story.look(30, there.values(), records=records)
    environment = "/srv/app/.venv"
    python = [
        package(name, version, manager="pip", location=environment)
        for name, version in (("requests", "2.32.3"), ("pyyaml", "6.0.2"))
    ]
    story.look(
        30,
        python,
        collector="python",
        scope=f"python:{environment}",
        unobserved=["python:/root: permission denied"],
    )
    for hour in range(24, 0, -1):
        story.sample(
            hour * 60,
            disks={"/": (40.0 - hour / 4, 60.0 + hour / 4), "/home": (50.0, 50.0), "/boot": (0.2, 0.8)},
        )
    story.sample(1, disks={"/": (40.0, 60.0), "/home": (50.0, 50.0), "/boot": (0.2, 0.8)})
    return story


def about(**values: Any) -> About:
    """What a daemon knows of itself."""
    given: dict[str, Any] = {
        "version": "0.1.0",
        "directory": "/state",
        "log": "/state/daemon.log",
        "config": "",
        "mode": "staying",
        "started_at": datetime(2026, 3, 1, 12, tzinfo=UTC),
        "root": "/",
        "uid": 1000,
        "clients": lambda: 2,
        "work": list,
        "watching": lambda: "at once",
        "areas": {
            "apt": ("Software",),
            "host": ("Host",),
            "python": ("Software",),
            "resources": ("SystemMetrics", "DiskMetrics"),
        },
    }
    return About(**(given | values))


def nothing_there(name: str) -> Collector:
    """A collector of a thing that this machine does not have."""

    def collect(_look: Look) -> Iterator[Label]:
        raise Absent("not on this machine")
        yield

    return Collector(collect, tuple(LABELS[label] for label in LOOKS_FOR[name]), minutes(60), name=name)


@asynccontextmanager
async def serving(
    store: Store,
    root: Path,
    *collectors: Collector,
    offered: Mapping[str, Any] | None = None,
    deadline: float = DEADLINE,
) -> AsyncIterator[Server]:
    """The one server of a daemon; without collectors it answers from what the store holds.

    `offered` is what tools are given where it is configured: the fleet, strangers' Cypher.
    """
    settings = Settings()

    async def publish(_labels: frozenset[str]) -> None:
        """Nobody listens."""

    machine = Machine(Files(root), Commands(settings.daemon.command_path), root)
    async with anyio.create_task_group() as tasks:
        runner = Runner(store, machine, settings, collectors, Cleaner(b"k" * 32), publish, deadline)
        if collectors:
            tasks.start_soon(runner.run)
        yield Server(store, runner, about(), Notifications(tasks), offered)
        tasks.cancel_scope.cancel()
