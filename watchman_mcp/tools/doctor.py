"""What Watchman can and cannot see here, and looking again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, Field

from watchman_mcp.errors import InvalidRequest
from watchman_mcp.schema.core import CollectorRun
from watchman_mcp.store.mirror import State
from watchman_mcp.store.sqlite import Store

from . import About, Look, operates, reads
from .answers import Answer, Tail, fix_for, frame_of


class Check(BaseModel):
    """How one collector fares."""

    area: str
    status: str
    since: str | None = None
    last_look: str | None = None
    took_ms: float | None = None
    rows: int | None = None
    edges_left_out: int | None = None
    why: str | None = None
    cannot_see: list[str] | None = None
    fix: str | None = None


class DoctorAnswer(Answer, Tail):
    """Collectors, the store, the daemon and the work in progress."""

    problems: list[str] | None = None
    daemon: dict[str, str | int] | None = None
    storage: dict[str, str | int | float] | None = None
    work: list[str] | None = None
    items: list[Check] = []


class ScanAnswer(Answer, Tail):
    """What was looked at again."""

    looked: dict[str, str] = {}


AREAS = {
    "packages": "Software",
    "metrics": "SystemMetrics",
    "load": "SystemMetrics",
    "disks": "DiskMetrics",
}
"""Words that people use for the collectors of a label."""


def areas_of(area: str, about: About) -> list[str]:
    """The collectors that an area names; all of them for an empty one.

    Raises: InvalidRequest with the words that exist.
    """
    wanted = area.strip().lower()
    if not wanted or wanted in ("all", "any", "*"):
        return list(about.areas)
    if wanted in about.areas:
        return [wanted]
    if wanted in AREAS:
        return [name for name, labels in about.areas.items() if AREAS[wanted] in labels]
    words = sorted({*about.areas, *AREAS, "work", "store", "daemon"})
    raise InvalidRequest(f"area '{wanted[:40]}' is not known; areas: {', '.join(words)}")


@reads(title="Doctor", needs=(CollectorRun,))
def doctor(
    store: Store,
    about: About,
    area: Annotated[str, Field(description="packages, resources, work, store, ...; empty: all")] = "",
) -> DoctorAnswer:
    """What Watchman can and cannot see or do here, why, and what the person must run or set to change that.

    Collectors, freshness, permissions, work in progress.
    """
    frame = frame_of(store)
    only = area.strip().lower()
    chosen = [] if only in ("work", "store", "daemon") else areas_of(area, about)
    items = []
    for run in frame.runs:
        if run["collector"] in chosen:
            unseen = json.loads(run["unobserved"] or "[]")
            items.append(
                Check(
                    area=run["collector"],
                    status=run["status"],
                    since=frame.show(run["started_at"]),
                    last_look=frame.show(run["last_at"]),
                    took_ms=run["duration_ms"],
                    rows=run["items"],
                    edges_left_out=run["edges_left_out"],
                    why=run["error"],
                    cannot_see=[*unseen[:20], *([f"and {len(unseen) - 20} more"] if len(unseen) > 20 else [])]
                    or None,
                    fix=next((fix for text in [run["error"] or "", *unseen] if (fix := fix_for(text))), None),
                )
            )
    envelope = {**frame.envelope(), "unobserved": None, "unobserved_more": None}
    return DoctorAnswer(
        found="yes",
        problems=_problems(store, about) or None,
        daemon=_daemon(about, frame.show(about.started_at) or "") if only in ("", "daemon") else None,
        storage=_storage(store, about, frame.show) if only in ("", "store") else None,
        work=about.work() or None,
        items=items,
        **envelope,
    )


def _problems(store: Store, about: About) -> list[str]:
    """What is wrong with the store and with the Neo4j that follows it."""
    mirror = about.mirror()
    troubles = [
        store.trouble,
        f"Neo4j is not up to date: {mirror.trouble}" if mirror and mirror.trouble else "",
    ]
    return [one for one in troubles if one] + store.notes


def _daemon(about: About, started: str) -> dict[str, str | int]:
    rights = "root" if about.uid == 0 else f"uid {about.uid}; files that only root may read are not seen"
    return {
        "version": about.version,
        "pid": os.getpid(),
        "mode": about.mode,
        "rights": rights,
        "started_at": started,
        "clients": about.clients(),
        "log": about.log,
        "config": about.config or "none: defaults",
        "root": about.root,
        "notices_changes": about.watching(),
    }


def _storage(
    store: Store, about: About, show: Callable[[datetime | None], str | None]
) -> dict[str, str | int | float]:
    counts = {
        name: store.read(f'SELECT count(*) AS n FROM "{name}"')[0]["n"]
        for name in ("Software", "Event", "edges")
    }
    return {
        "database": str(store.path or "memory"),
        "size_mb": round(store.size_bytes / 2**20, 1),
        "cap_mb": store.size_cap_mb,
        "directory": about.directory,
        **{f"rows_{name}": n for name, n in counts.items()},
        **(_mirror(mirror, show) if (mirror := about.mirror()) else {}),
    }


def _mirror(mirror: State, show: Callable[[datetime | None], str | None]) -> dict[str, str | int | float]:
    """Where the graph is sent, and how far it is."""
    sent = show(mirror.sent_at) or "not since the daemon started"
    return {"neo4j": mirror.uri, "neo4j_behind": mirror.behind, "neo4j_sent_at": sent}


@operates(title="Look again")
async def scan(
    store: Store,
    about: About,
    look: Look,
    area: Annotated[str, Field(description="packages, resources, ...; empty: all")] = "",
) -> ScanAnswer:
    """Look again now. Only needed when an answer's observed_at is too old."""
    chosen = areas_of(area, about)
    await look(chosen)
    frame = frame_of(store)
    looked = {
        run["collector"]: f"{run['status']}, {run['items']} rows in {run['duration_ms']:.0f} ms"
        for run in frame.runs
        if run["collector"] in chosen
    }
    return ScanAnswer(found="yes" if looked else "none", looked=looked, **frame.envelope())
