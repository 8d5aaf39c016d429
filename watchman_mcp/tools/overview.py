"""The machine on one screen."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from pydantic import BaseModel

from watchman_mcp.schema.core import Host
from watchman_mcp.schema.packages import Software
from watchman_mcp.schema.resources import DiskMetrics, SystemMetrics
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import from_text, to_text

from . import reads
from .answers import Answer, Frame, Tail, frame_of
from .resources.answer import Disk, Load
from .resources.samples import disks, newest_sample, newest_samples

FULL_PERCENT = 90
SHOWN_TYPES = 6
"""Types of events that are counted apart, the most frequent ones."""


class Lines(BaseModel):
    """What changed today, in numbers; the tool for detail is `what_changed`."""

    since: str | None = None
    events: int = 0
    by_type: dict[str, int] = {}


class OverviewAnswer(Answer, Tail):
    """How the machine is; each part names the tool that tells more."""

    os: str | None = None
    kernel: str | None = None
    up_since: str | None = None
    uptime: str | None = None
    load: Load | None = None
    disks: list[Disk] | None = None
    packages: dict[str, int] | None = None
    changes_today: Lines | None = None
    problems: list[str] | None = None
    more: str = (
        "system_metrics: load and disks. query_packages: software. what_changed: changes. "
        "doctor: what cannot be seen."
    )


@reads(title="Overview", needs=(Host, SystemMetrics, DiskMetrics, Software), always=True)
def overview(store: Store) -> OverviewAnswer:
    """How is this machine? Health on one screen: load, memory, disks, uptime, changes today, what cannot
    be seen. Start here when the question is vague; every line names the tool for detail.
    """
    frame = frame_of(store)
    rows = store.read('SELECT * FROM "Host" WHERE gone_at IS NULL ORDER BY seq DESC LIMIT 1')
    host = rows[0] if rows else None
    sample = newest_sample(store, "SystemMetrics")
    envelope = frame.envelope()
    envelope["unobserved"] = envelope["unobserved"][:1] if envelope["unobserved"] else None
    if len(frame.unseen()) > 1:
        envelope["unobserved_more"] = f"{len(frame.unseen()) - 1} more; doctor lists them"
    boot = from_text(host["boot_time"]) if host and host["boot_time"] else None
    packages, odd = _packages(store)
    return OverviewAnswer(
        found="yes" if host or sample else "cannot_tell",
        os=host["os"] if host else None,
        kernel=host["kernel"] if host else None,
        up_since=frame.show(boot),
        uptime=_length(frame.now - boot) if boot else None,
        load=_load(sample) if sample else None,
        disks=[Disk(**d.model_dump(exclude={"used_gb", "inodes_percent"})) for d in disks(store, 3)] or None,
        packages=dict(packages),
        changes_today=_changes(store, frame),
        problems=_problems(store, sample, odd) or None,
        **envelope,
    )


def _load(sample: dict[str, float]) -> Load:
    names = (
        "cpu_percent",
        "load_average_1m",
        "load_average_15m",
        "memory_used_gb",
        "memory_total_gb",
        "swap_used_gb",
        "processes",
    )
    return Load(**{name: sample[name] for name in names})


def _packages(store: Store) -> tuple[Counter[str], int]:
    """How many packages each manager has, and how many of all are not fully installed."""
    sql = "SELECT manager, state, count(*) AS n FROM Software WHERE gone_at IS NULL GROUP BY 1, 2"
    rows = store.read(sql)
    packages: Counter[str] = Counter()
    for row in rows:
        packages[row["manager"]] += row["n"]
    return packages, sum(row["n"] for row in rows if row["state"] not in (None, "installed"))


def _changes(store: Store, frame: Frame) -> Lines:
    midnight = frame.now.astimezone(frame.zone).replace(hour=0, minute=0, second=0, microsecond=0)
    rows = store.read(
        "SELECT type, count(*) AS n FROM Event WHERE ts >= ? GROUP BY 1 ORDER BY 2 DESC, 1",
        (to_text(midnight),),
    )
    return Lines(
        since=frame.show(midnight),
        events=sum(row["n"] for row in rows),
        by_type={row["type"]: row["n"] for row in rows[:SHOWN_TYPES]},
    )


def _problems(store: Store, sample: dict[str, float] | None, odd: int) -> list[str]:
    """What a person should look at, worst first; constant texts with numbers."""
    problems = list(store.notes)
    if store.trouble:
        problems.insert(0, "Nothing can be written to the store; doctor says why")
    left, total = (sample[f"memory_{part}_gb"] if sample else None for part in ("available", "total"))
    if left is not None and total and left < 0.05 * total:
        problems.append("Less than 5 % of memory is available: system_metrics view=memory")
    used = [row["use_percent"] or 0 for row in newest_samples(store, "DiskMetrics")]
    if full := sum(percent >= FULL_PERCENT for percent in used):
        problems.append(f"{full} file systems are at least {FULL_PERCENT} % full: system_metrics view=disks")
    if odd:
        problems.append(f"{odd} packages are not fully installed: query_packages shows their state")
    return problems


def _length(span: timedelta) -> str:
    days, rest = divmod(int(span.total_seconds()), 86400)
    hours, minutes = rest // 3600, rest % 3600 // 60
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min"
