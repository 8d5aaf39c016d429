"""Packages of several machines: who has which, who has an old one, and what two of them have differently."""

from __future__ import annotations

from collections import defaultdict

from watchman_mcp.errors import InvalidRequest
from watchman_mcp.machine.versions import compare_versions
from watchman_mcp.tools.answers import SHOWN, Frame, Unseen, cursor_from, fit
from watchman_mcp.tools.fleet import Elsewhere, quoted

from .answer import Package, PackagesAnswer
from .installed import installed, page_of, totals_of
from .remote import Remote
from .source import Source

MOST_VERSIONS = 1_000
"""Versions that one question compares."""
MOST_PACKAGES = 50_000
"""Packages of each of two machines that one question compares."""


def installed_on_several(source: Remote, frame: Elsewhere, limit: int, cursor: str) -> PackagesAnswer:
    """Equal packages as one, with the machines that have them."""
    offset = cursor_from(cursor, 1)[0] if cursor else 0
    packages, chosen = frame.fleet.packages, source.chosen
    totals = totals_of({row["word"]: row["n"] for row in packages.group_totals(chosen)})
    if not totals["items"]:
        return installed(source, frame, limit, cursor)
    items = [
        Package(
            name=row["key"],
            version=row["version"] or None,
            manager=row["manager"],
            architecture=row["architecture"] or None,
            hosts=frame.titles(row["machines"]),
            installed_at=frame.show(row["installed_at"]) if len(row["machines"]) == 1 else None,
        )
        for row in packages.groups(chosen, limit, offset)
    ]
    totals = {"items": totals.pop("items"), "hosts": packages.machines_with(chosen), **totals}
    return page_of(source, frame, items[: fit(items)], totals, offset)


def older(source: Source, frame: Frame, than: str, limit: int, cursor: str) -> PackagesAnswer:
    """Packages that are there in an older version, by the rule of the manager of each."""
    rows = source.versions(MOST_VERSIONS + 1)
    if len(rows) > MOST_VERSIONS:
        raise InvalidRequest(
            f"older_than compares at most {MOST_VERSIONS} different versions; narrow with name or manager"
        )
    old, having, behind = [], set[str](), set[str]()
    for row in rows:
        machines = row["machines"] if isinstance(frame, Elsewhere) else [frame.host]
        having.update(machines)
        if row["version"] and compare_versions(row["scheme"], row["version"], than) < 0:
            behind.update(machines)
            old.append((row, machines))
    offset = cursor_from(cursor, 1)[0] if cursor else 0
    items = [
        Package(
            name=row["key"],
            version=row["version"],
            manager=row["manager"],
            hosts=frame.titles(machines) if isinstance(frame, Elsewhere) and frame.several else None,
        )
        for row, machines in old[offset : offset + limit]
    ]
    counts: dict[str, int] = defaultdict(int)
    for row, _ in old:
        counts[row["manager"]] += 1
    totals = totals_of(counts)
    answer = page_of(
        source,
        frame,
        items[: fit(items)],
        {"items": totals.pop("items"), "hosts": len(behind), **totals},
        offset,
    )
    every = len(frame.machines) if isinstance(frame, Elsewhere) else 1
    answer.note = (
        f"machines that have {than[:40]} or newer: {len(having - behind)}; "
        f"that have none: {every - len(having)}"
    )
    if ":" not in than and any(
        row["scheme"] in ("deb", "rpm", "alpm") and ":" in (row["version"] or "") for row in rows
    ):
        answer.note += "; versions here have an epoch (1:2.0), which counts first: give older_than with it"
    return answer


def differing(
    here: Source, there: Source, frames: tuple[Frame, Frame], limit: int, cursor: str
) -> PackagesAnswer:
    """Packages that two machines have not, or not in the same versions, both by name and manager."""
    offset = cursor_from(cursor, 1)[0] if cursor else 0
    own, other = _versions(here, there), _versions(there, here)
    names = sorted(own.keys() | other.keys())
    unlike = [name for name in names if own.get(name) != other.get(name)]
    items = [
        Package(
            name=key,
            manager=manager,
            version=own.get((key, manager)),
            other=other.get((key, manager), "not there"),
        )
        for key, manager in unlike[offset : offset + limit]
    ]
    only_here, only_there = (sum(name not in side for name in unlike) for side in (other, own))
    totals = {
        "items": len(unlike),
        "only_here": only_here,
        "only_there": only_there,
        "different": len(unlike) - only_here - only_there,
    }
    frame, far = frames
    answer = page_of(here, frame, items[: fit(items)], totals, offset)
    answer.matched = here.matched or there.matched
    answer.note = (
        f"version: {quoted(frame.host)}; other: {quoted(far.host)}, observed {far.observed_at}; "
        f"{len(names)} packages compared"
    )
    unseen = [*frame.unseen(), *[Unseen(what=f"{far.host}: {one.what}", why=one.why) for one in far.unseen()]]
    answer.unobserved = unseen[:SHOWN] or None
    answer.unobserved_more = frame.more(len(unseen) - SHOWN) if len(unseen) > SHOWN else None
    return answer


def _versions(source: Source, other: Source) -> dict[tuple[str, str], str]:
    """The versions that are there of each package and manager, as one text.

    Of nothing where the other machine knows the name, or the very name, and this one does not.
    """
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    known = source.exact or not other.exact and (source.matched is not None or other.matched is None)
    for row in source.versions(MOST_PACKAGES) if known else ():
        found[(row["key"], row["manager"])].add(row["version"] or "there")
    return {name: ", ".join(sorted(versions)) for name, versions in found.items()}
