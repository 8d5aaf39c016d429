"""Snaps: which are installed and in which revision, and what snapd's recent changes did with them.

All is in snapd's `state.json`, which root alone may read; to others the mounted snaps are told and the
state is said to be unreadable. A version is `VERSION (REVISION)`, for snapd counts in revisions; of a
revision that is not on the disk any more only that is known. snapd forgets its changes after some days.
Newer revisions are those that snapd found when it last asked its store and has not installed yet; it marks
no security updates. A machine without snapd is Absent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import cache, partial

from watchman_mcp.collectors import Collector, Look, Seen, minutes, offered
from watchman_mcp.errors import Absent
from watchman_mcp.machine import Machine
from watchman_mcp.machine.snap import (
    Snap,
    Step,
    read_meta,
    read_state,
    revision_of,
    shown,
    snap_of_file,
    snap_of_unit,
)
from watchman_mcp.machine.unit_files import bare
from watchman_mcp.machine.versions import compare_versions
from watchman_mcp.schema import Edge, path_of
from watchman_mcp.schema.core import Event, Record, event_key
from watchman_mcp.schema.packages import DEPENDS_ON, PROVIDES, Owner, PackageIndex, Software
from watchman_mcp.schema.services import Service

SNAPD = "/var/lib/snapd"
STATE = f"{SNAPD}/state.json"
BLOBS = f"{SNAPD}/snaps"
MOUNTS = ("/snap", "/var/lib/snapd/snap")
"""The second is where a distribution has no /snap."""
UNITS = "/etc/systemd/system"
"""Where snapd writes units for what snaps run."""
META_CAP = 4 << 20

Meta = Callable[[str, str], dict[str, str]]


def collect(look: Look) -> Iterator[Seen]:
    """The installed snaps, the base that each needs, and the changes that snapd remembers.

    Raises: Absent, Broken.
    """
    files = look.machine.files
    if not files.exists(SNAPD) and not any(map(files.exists, MOUNTS)):
        raise Absent("there is no snapd on this machine")
    meta = cache(partial(_meta, look))
    text = None
    with look.beside(STATE):
        text = files.text(STATE)
    state = None if text is None else read_state(text, STATE)
    if state and state.refreshed_at:
        yield PackageIndex(manager="snap", refreshed_at=state.refreshed_at)
    snaps = state.snaps if state else list(_mounted(look))
    found = {snap.name: _software(snap, meta(snap.name, snap.revision)) for snap in snaps}
    yield from found.values()
    for snap in snaps:
        base = found.get(meta(snap.name, snap.revision).get("base", ""))
        if base and base.key != snap.name:
            yield Edge(DEPENDS_ON, found[snap.name].node_id, base.node_id)
    for service, name in _units(look):
        if name in found:
            yield Edge(PROVIDES, found[name].node_id, path_of(Service, "systemd", service))
    if state and state.odd:
        look.cannot(STATE, f"{state.odd} of its snaps cannot be understood and were left out")
    for step in state.steps if state else ():
        yield _record(step, meta)


def owner(machine: Machine, paths: Collection[str]) -> Iterator[Owner]:
    """The snap in whose mounted revision a file lies, or whose unit snapd wrote.

    Raises: Denied, Broken.
    """
    files = machine.files
    for path in paths:
        directory, _, name = path.rpartition("/")
        for mount in MOUNTS:
            snap = snap_of_unit(name) if directory == UNITS else snap_of_file(path, mount)
            if snap and files.exists(path) and files.exists(f"{mount}/{snap}/current"):
                yield Owner("snap", snap)


def _units(look: Look) -> Iterator[tuple[str, str]]:
    """The services that snapd wrote units of, each with its snap."""
    names: list[str] = []
    with look.beside(UNITS):
        names = [one.name for one in look.machine.files.entries(UNITS) if one.kind == "file"]
    for name in names:
        if (service := bare(name)) and (snap := snap_of_unit(name)):
            yield service, snap


def _meta(look: Look, name: str, revision: str) -> dict[str, str]:
    """What a snap on the disk says of itself; nothing if it is not there, or not mounted."""
    found: dict[str, str] = {}
    for mount in MOUNTS if revision and name and "/" not in name else ():
        path = f"{mount}/{name}/{revision}/meta/snap.yaml"
        with look.beside(path):
            found = found or read_meta(look.machine.files.text(path, META_CAP))
    return found


def _mounted(look: Look) -> Iterator[Snap]:
    """The snaps that are there for everybody to see, each with the revision that is in use."""
    for mount in filter(look.machine.files.exists, MOUNTS):
        for entry in look.machine.files.entries(mount):
            revision = ""
            with look.beside(f"{mount}/{entry.name}/current"):
                if entry.kind == "directory" and entry.name != "bin":
                    revision = revision_of(look.machine.files.target(f"{mount}/{entry.name}/current"))
            if revision:
                yield Snap(entry.name, revision, True, "", None, None)


def _software(snap: Snap, meta: dict[str, str]) -> Software:
    kind = snap.kind or meta.get("type", "")
    return Software(
        key=snap.name,
        name=snap.name,
        version=shown(meta.get("version"), snap.revision),
        scheme="snap",
        manager="snap",
        installed_at=snap.refreshed_at,
        # What others stand on, as themes and bases, may have come with them.
        requested=True if kind == "app" and "apps" in meta else None,
        held=snap.held,
        state="installed" if snap.active else "disabled",
        summary=meta.get("summary"),
        stream=snap.channel or None,
        **offered(snap.newer),
    )


def _record(step: Step, meta: Meta) -> Record:
    version, previous = (
        shown(meta(step.name, revision).get("version"), revision)
        for revision in (step.revision, step.previous)
    )
    named = {"key": step.name, "name": step.name, "version": version}
    event = Event(
        key=event_key("snap", step.name, step.key),
        ts=step.at,
        type="package_remove" if step.went else _kind(version, previous),
        source="snap",
        subject=step.name,
        package_name=step.name,
        version=version,
        previous=previous,
        manager="snap",
        transaction_id=step.change,
        error=step.error,
    )
    return Record(event, Software(**named, scheme="snap", manager="snap"))


def _kind(version: str | None, previous: str | None) -> str:
    if not previous or not version:
        return "package_install"
    order = compare_versions("snap", version, previous)
    return {-1: "package_downgrade", 0: "package_reinstall", 1: "package_update"}[order]


collector = Collector(
    collect,
    (Software, DEPENDS_ON, PROVIDES, PackageIndex),
    minutes(10),
    (STATE, BLOBS),
    version=3,
    logged=True,
    owner=owner,
)
