"""The machine on one screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from pydantic import BaseModel

from watchman_mcp.rules import SEVERITIES
from watchman_mcp.schema import core
from watchman_mcp.schema.packages import WHOLE, Software
from watchman_mcp.schema.resources import DiskMetrics, SystemMetrics
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import from_text, to_text

from . import About, reads
from .answers import Answer, Frame, Host, Tail, fit, frame_of
from .fleet import Elsewhere, Fleet, elsewhere
from .resources.answer import Disk, HostLine, Load
from .resources.samples import disks, newest_sample
from .resources.several import FULL_PERCENT, whole
from .resources.source import Local, Remote, Source

NEWER = (
    "SELECT count(*) AS n, count(nullif(security_update, 0)) AS security, "
    "(SELECT count(*) FROM PackageIndex WHERE gone_at IS NULL) AS indexes "
    "FROM Software WHERE available IS NOT NULL AND gone_at IS NULL"
)
SHOWN_ALERTS = 5
SHOWN_TYPES = 6
"""Types of events that are counted apart, the most frequent ones."""


class Lines(BaseModel):
    """What changed today, in numbers; the tool for detail is `what_changed`."""

    since: str | None = None
    events: int = 0
    by_type: dict[str, int] = {}


class AlertLine(BaseModel):
    """One open alert."""

    id: str
    severity: str
    message: str
    since: str | None = None
    count: int | None = None


class OverviewAnswer(Answer, Tail):
    """How the machine is; each part names the tool that tells more."""

    os: str | None = None
    kernel: str | None = None
    up_since: str | None = None
    uptime: str | None = None
    alerts: list[AlertLine] | None = None
    load: Load | None = None
    disks: list[Disk] | None = None
    packages: dict[str, int] | None = None
    updates: dict[str, int] | None = None
    exposed_ports: dict[str, int] | None = None
    changes_today: Lines | None = None
    problems: list[str] | None = None
    hosts: list[HostLine] | None = None
    more: str = (
        "system_metrics: load and disks. query_packages: software, updates. network_status: network. "
        "what_changed: changes. "
        "doctor: what cannot be seen."
    )


@reads(title="Overview", needs=(core.Host, core.Alert, SystemMetrics, DiskMetrics, Software), always=True)
def overview(store: Store, about: About, host: Host = "", fleet: Fleet | None = None) -> OverviewAnswer:
    """How is this machine? Health on one screen: load, memory, disks, uptime, changes today, what cannot
    be seen. Start here when the question is vague; every line names the tool for detail.
    """
    far = elsewhere(store, fleet, host)
    if far and far.several:
        return _of_several(far)
    frame = far or frame_of(store)
    source: Source = Remote(far) if far else Local(store)
    told = far.only.__dict__ if far else _host(store)
    sample = newest_sample(source, "SystemMetrics")
    envelope = frame.envelope()
    envelope["unobserved"] = envelope["unobserved"][:1] if envelope["unobserved"] else None
    if len(frame.unseen()) > 1:
        envelope["unobserved_more"] = frame.more(len(frame.unseen()) - 1)
    boot = from_text(told["boot_time"]) if told and told["boot_time"] else None
    alerts = _alerts(far, store)
    packages, odd = _packages(far.fleet.packages.states(far.only.machine) if far else _states(store))
    return OverviewAnswer(
        found="yes" if told or sample else "cannot_tell",
        cut=f"{SHOWN_ALERTS} of {len(alerts)} alerts; what_changed kind=alert lists them"
        if len(alerts) > SHOWN_ALERTS
        else None,
        totals={"alerts": len(alerts)} if alerts else None,
        matched=frame.matched(None),
        os=told["os"] if told else None,
        kernel=told["kernel"] if told else None,
        up_since=frame.show(boot),
        uptime=_length(frame.now - boot) if boot else None,
        alerts=[_alert(frame, row) for row in alerts[:SHOWN_ALERTS]] or None,
        load=_load(sample) if sample else None,
        disks=[Disk(**d.model_dump(exclude={"used_gb", "inodes_percent"})) for d in disks(source, 3)] or None,
        packages=dict(packages),
        updates=_updates(frame, store),
        exposed_ports=None if far else _exposed(store),
        changes_today=_changes(store, frame),
        problems=[*([] if far else _troubles(store, about)), *_problems(source, sample, odd)] or None,
        **envelope,
    )


def _of_several(frame: Elsewhere) -> OverviewAnswer:
    """Machines on one line each, worst first."""
    lines, silent = whole(frame, _midnight(frame))
    page = lines[: fit(lines)]
    return OverviewAnswer(
        found="yes",
        cut=f"{len(page)} of {len(lines)} machines, worst first; narrow with host=web*"
        if len(page) < len(lines)
        else None,
        matched=frame.matched(None),
        totals={"hosts": len(lines), "silent": silent},
        hosts=page,
        more="overview host=NAME: one of them. system_metrics host=*: by load. what_changed host=*: changes.",
        **frame.envelope(),
    )


def _host(store: Store) -> Any:
    rows = store.read('SELECT * FROM "Host" WHERE gone_at IS NULL ORDER BY seq DESC LIMIT 1')
    return rows[0] if rows else None


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


def _states(store: Store) -> list[Any]:
    sql = "SELECT manager, state, count(*) AS n FROM Software WHERE gone_at IS NULL GROUP BY 1, 2"
    return store.read(sql)


def _packages(rows: list[Any]) -> tuple[Counter[str], int]:
    """How many packages each manager has, and how many of all are not fully installed."""
    packages: Counter[str] = Counter()
    for row in rows:
        packages[row["manager"]] += row["n"]
    return packages, sum(row["n"] for row in rows if row["state"] not in (None, *WHOLE))


def _updates(frame: Frame, store: Store) -> dict[str, int] | None:
    """How many newer versions there are, by query_packages view=updates; None where no manager can tell."""
    far = frame if isinstance(frame, Elsewhere) else None
    rows = far.fleet.packages.newer(far.only.machine) if far else store.read(NEWER)
    unasked = any(one.what.endswith(":updates") for one in frame.unseen())
    if not rows or not rows[0]["indexes"] or (unasked and not rows[0]["n"]):
        return None
    return {"available": rows[0]["n"], "security": rows[0]["security"]}


def _exposed(store: Store) -> dict[str, int] | None:
    """How many ports of this machine others can reach, by network_status view=ports."""
    rows = store.read(
        "SELECT exposure, count(*) AS n FROM NetworkEndpoint WHERE gone_at IS NULL AND namespace IS NULL "
        "AND exposure IN ('internet', 'lan') GROUP BY 1 ORDER BY 1"
    )
    return {row["exposure"]: row["n"] for row in rows} or None


def _alerts(far: Elsewhere | None, store: Store) -> list[Any]:
    """The open alerts, worst first."""
    sql = "SELECT key, severity, message, opened_at, count FROM Alert WHERE gone_at IS NULL"
    rows: list[Any] = far.fleet.open_alerts(far.only.machine) if far else store.read(sql)
    rows = sorted(rows, key=lambda row: str(row["opened_at"]), reverse=True)
    return sorted(rows, key=lambda row: (*SEVERITIES, row["severity"]).index(row["severity"]))


def _alert(frame: Frame, row: Any) -> AlertLine:
    return AlertLine(
        id=row["key"],
        severity=row["severity"],
        message=row["message"],
        since=frame.show(row["opened_at"]),
        count=row["count"] if row["count"] > 1 else None,
    )


def _midnight(frame: Frame) -> datetime:
    return frame.now.astimezone(frame.zone).replace(hour=0, minute=0, second=0, microsecond=0)


def _changes(store: Store, frame: Frame) -> Lines:
    midnight = _midnight(frame)
    if isinstance(frame, Elsewhere):
        events = frame.fleet.events
        rows: Sequence[Any] = events.types(events.between(frame.ids, midnight, frame.now))
    else:
        rows = store.read(
            "SELECT type, count(*) AS n FROM Event WHERE ts >= ? GROUP BY 1 ORDER BY 2 DESC, 1",
            (to_text(midnight),),
        )
    return Lines(
        since=frame.show(midnight),
        events=sum(row["n"] for row in rows),
        by_type={row["type"]: row["n"] for row in rows[:SHOWN_TYPES]},
    )


def _troubles(store: Store, about: About) -> list[str]:
    """What is wrong with this machine's own store, and with the Neo4j that follows it."""
    trouble = ["Nothing can be written to the store; doctor says why"] if store.trouble else []
    mirror = about.mirror()
    if mirror and mirror.trouble:
        trouble.append("Neo4j is not up to date; doctor area=store says why")
    return trouble + store.notes


def _problems(source: Source, sample: dict[str, float] | None, odd: int) -> list[str]:
    """What a person should look at, worst first; constant texts with numbers."""
    problems = []
    left, total = (sample[f"memory_{part}_gb"] if sample else None for part in ("available", "total"))
    if left is not None and total and left < 0.05 * total:
        problems.append("Less than 5 % of memory is available: system_metrics view=memory")
    used = [row["use_percent"] or 0 for row in source.newest("DiskMetrics")]
    if full := sum(percent >= FULL_PERCENT for percent in used):
        problems.append(f"{full} file systems are at least {FULL_PERCENT} % full: system_metrics view=disks")
    if odd:
        problems.append(f"{odd} packages are not fully installed: query_packages shows their state")
    return problems


def _length(span: timedelta) -> str:
    days, rest = divmod(int(span.total_seconds()), 86400)
    hours, minutes = rest // 3600, rest % 3600 // 60
    return f"{days} d {hours} h" if days else f"{hours} h {minutes} min"
