"""Homebrew's formulae and casks, on Linux and macOS, by the receipts that it leaves beside them.

Each prefix is a scope, `brew:PREFIX`. The location of a formula is its prefix, that of a cask
`PREFIX/Caskroom`, for one name may be both. A version that lies beside the one in use is a package of its
own, whose location is its keg, `PREFIX/Cellar/NAME/VERSION`. Receipts are the log: each says when its keg
was installed. Where somebody lets brew print into `/var/log/brew.log`, with times, it tells what receipts
cannot: what went, and what came and is not there any more. No brew is ever run, and its links are read, not
followed. Newer versions are those of the API files that the prefix's owner fetched, for Homebrew's own taps,
which mark no security updates; without these files none are known.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from datetime import datetime
from typing import NamedTuple, cast

from watchman_mcp.collectors import Collector, Look, Seen, minutes, offered
from watchman_mcp.machine import Machine
from watchman_mcp.machine.brew import BrewLog, Receipt, Told, read_receipt, read_timestamp
from watchman_mcp.machine.brew_api import Offer, caches, is_newer, offers
from watchman_mcp.machine.brew_kegs import PINNED, USED, chosen, kegs, names, placed_at, targets
from watchman_mcp.machine.files import Directory
from watchman_mcp.machine.logs import Mark, read_log
from watchman_mcp.machine.places import Search
from watchman_mcp.machine.updates import Update
from watchman_mcp.machine.versions import compare_versions
from watchman_mcp.schema import Edge
from watchman_mcp.schema.core import Event, Record, event_key
from watchman_mcp.schema.packages import DEPENDS_ON, Owner, PackageIndex, Software
from watchman_mcp.times import host_zone

PREFIXES = ("/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew", "/opt/homebrew-cask")
"""The last is where casks were until 2016."""
HOMES = ("~/.linuxbrew", "~/homebrew", "~/.brew")
ROOMS = ("Cellar", "Caskroom")
TAPS = {"formula": "homebrew/core", "cask": "homebrew/cask"}
LOG = "/var/log/brew.log"
RECEIPT = "INSTALL_RECEIPT.json"
RECEIPT_CAP = 2 << 20

Kept = dict[str, list[object]]
"""By kind and name the version in use, and when each version was installed: the marks of a prefix."""


class _Installed(NamedTuple):
    """One version of a formula or a cask."""

    kind: str
    name: str
    version: str
    used: bool
    location: str
    receipt: Receipt
    held: bool | None
    state: str

    @property
    def mark(self) -> str:
        return f"{self.kind}/{self.name}"

    def software(self, newer: Update | None = None) -> Software:
        return Software(
            key=self.name.lower(),
            name=self.name,
            version=self.version,
            scheme="brew",
            manager="brew",
            location=self.location,
            source_package=f"{self.receipt.tap}/{self.name}" if self.receipt.tap else None,
            installed_at=self.receipt.at,
            requested=self.receipt.requested,
            held=self.held,
            state=self.state,
            **offered(newer),
        )


def collect(look: Look) -> Iterator[Seen]:
    """The formulae and casks of each prefix, what they need, and what became of them since the last look.

    Raises: Absent.
    """
    search = Search(look.machine.files)
    rooms = search.find(f"{prefix}/{room}" for prefix in PREFIXES + HOMES for room in ROOMS)
    prefixes = list(dict.fromkeys(room.rpartition("/")[0] for room in rooms))
    look.searched(bool(prefixes), search.refused, "there is no Homebrew in its usual places on this machine")
    there: set[tuple[str, str, str]] = set()
    for prefix in prefixes:
        look.watch(*(f"{prefix}/{place}" for place in _WATCHED))
        with look.part(f"{look.scope}:{prefix}"):
            found = [*_formulae(look, prefix), *_casks(look, prefix)]
            there |= {(prefix, one.name, one.version) for one in found}
            newer = yield from _offers(look, search, prefix, found)
            yield from _graph(found, newer)
            yield from _received(look, prefix, found)
    yield from _logged(look, there)


def owner(machine: Machine, paths: Collection[str]) -> Iterator[Owner]:
    """The formula or cask in whose directory a file lies.

    Raises: Denied, Broken.
    """
    files = machine.files
    placed = [(path, place) for path in paths if (place := placed_at(path))]
    prefixes = set(Search(files).find(PREFIXES + HOMES)) if placed else set()
    for path, (prefix, room, name, version) in placed:
        if prefix not in prefixes or not files.exists(path):
            continue
        location, rack = f"{prefix}/{room}", f"{prefix}/{room}/{name}"
        if room == "Cellar":
            current = chosen(kegs(files, rack), targets(files, prefix, USED).get(name))
            location = prefix if version == current else f"{rack}/{version}"
        yield Owner("brew", name.lower(), location=location)


def _offers(
    look: Look, search: Search, prefix: str, found: list[_Installed]
) -> Generator[PackageIndex, None, dict[str, Update]]:
    """What the API files say that the prefix's owner fetched; they tell of Homebrew's own taps alone."""
    files = look.machine.files
    uid = next(files.stat(f"{prefix}/{room}").uid for room in ROOMS if files.exists(f"{prefix}/{room}"))
    paths = caches(search, uid)
    look.watch(*paths.values())
    if not paths:
        return {}
    yield PackageIndex(manager="brew", location=prefix, refreshed_at=look.newest(*paths.values()))
    if look.first:  # the files are large, and people wait for this look
        look.again = True
        look.cannot(f"brew:{prefix}:updates", "they are read at the next look, within seconds")
        return {}
    installed: dict[str, list[tuple[str, int]]] = {}
    for one in found:
        if one.receipt.tap in (None, TAPS[one.kind]):
            installed.setdefault(one.mark, []).append((one.version, one.receipt.scheme))
    told: dict[str, Offer] = {}
    with look.beside(f"{prefix}:updates"):
        basis = [look.signs(*paths.values()), sorted(paths), sorted(installed)]
        told = look.kept(f"offers:{prefix}", basis, lambda: offers(files, paths, frozenset(installed)))
    newer: dict[str, Update] = {}
    for mark, values in told.items():
        (kind, _, name), offer = mark.partition("/"), Offer(*values)
        if is_newer(kind, offer, installed[mark]):
            newer[mark] = Update(name, None, offer.version, TAPS[kind])
    return newer


def _graph(found: list[_Installed], newer: dict[str, Update]) -> Iterator[Software | Edge]:
    paths = {one.mark: one.software().node_id for one in found if one.used}
    for one in found:
        yield one.software(newer.get(one.mark) if one.used else None)
    for one in found:
        for name in one.receipt.needs:
            end = paths.get(f"formula/{name}") or paths.get(f"cask/{name}")
            if end and end != one.software().node_id:
                yield Edge(DEPENDS_ON, one.software().node_id, end)


def _formulae(look: Look, prefix: str) -> Iterator[_Installed]:
    files, cellar = look.machine.files, f"{prefix}/Cellar"
    used, pinned = targets(files, prefix, USED), targets(files, prefix, PINNED)
    for name in names(files, cellar):
        found = {
            version: _receipt(look, f"{cellar}/{name}/{version}")
            for version in kegs(files, f"{cellar}/{name}")
        }
        linked, current = used.get(name), chosen(found, used.get(name)) if found else ""
        for version, receipt in found.items():
            state = "installed" if linked or receipt.at else "half-installed"
            location = prefix if version == current else f"{cellar}/{name}/{version}"
            yield _Installed(
                "formula", name, version, version == current, location, receipt, name in pinned, state
            )


def _casks(look: Look, prefix: str) -> Iterator[_Installed]:
    for name in names(look.machine.files, f"{prefix}/Caskroom"):
        place = f"{prefix}/Caskroom/{name}"
        metadata = f"{place}/.metadata"
        receipt = _receipt(look, metadata) if look.machine.files.exists(metadata) else Receipt()
        stamps = [
            (at, version)
            for version in (
                names(look.machine.files, metadata) if look.machine.files.exists(metadata) else ()
            )
            for stamp in names(look.machine.files, f"{metadata}/{version}")
            if (at := read_timestamp(stamp))
        ]
        at, version = max(stamps, default=(None, None))
        versions = [receipt.version, version, *names(look.machine.files, place)]
        if current := next(filter(None, versions), None):
            receipt = receipt._replace(at=receipt.at or at)
            location = f"{prefix}/Caskroom"
            yield _Installed("cask", name, current, True, location, receipt, None, "installed")


def _receipt(look: Look, keg: str) -> Receipt:
    """The receipt in this directory; one without anything where there is none, or none that can be read."""
    receipt = Receipt()
    with look.beside(f"{keg}/{RECEIPT}"), look.machine.files.directory(keg) as directory:
        receipt = _read(directory)
    return receipt


def _read(directory: Directory) -> Receipt:
    if not any(entry.name == RECEIPT for entry in directory.entries()):
        return Receipt()
    return read_receipt(directory.text(RECEIPT, RECEIPT_CAP))


def _received(look: Look, prefix: str, found: list[_Installed]) -> Iterator[Record]:
    """What receipts tell that were not there at the last look."""
    before = cast("Kept | None", look.marks.get(prefix))
    after: Kept = {}
    for one in found:
        used, versions = cast("tuple[str, dict[str, float]]", after.setdefault(one.mark, ["", {}]))
        after[one.mark][0] = one.version if one.used else used
        versions[one.version] = one.receipt.at.timestamp() if one.receipt.at else 0
    look.marks[prefix] = after
    for one in found if before is not None else ():
        old, versions = cast("tuple[str, dict[str, float]]", (before or {}).get(one.mark, ["", {}]))
        known = one.receipt.at and versions.get(one.version) == one.receipt.at.timestamp()
        # A version whose place another one took is where it was not, which its receipt explains.
        if one.receipt.at and (not known or (old == one.version and not one.used)):
            yield _record(one, one.receipt.at, old if one.used else "")


def _record(one: _Installed, at: datetime, previous: str) -> Record:
    software = one.software()
    return _told(
        software,
        ("brew", one.mark, one.location.partition("/Cellar")[0], one.version, int(at.timestamp())),
        at,
        _kind(previous, one.version),
        previous or None,
    )


def _kind(previous: str, version: str) -> str:
    if not previous:
        return "package_install"
    order = compare_versions("brew", version, previous)
    return {-1: "package_downgrade", 0: "package_reinstall", 1: "package_update"}[order]


def _told(about: Software, key: tuple[object, ...], at: datetime, kind: str, previous: str | None) -> Record:
    event = Event(
        key=event_key(*key),
        ts=at,
        type=kind,
        source="brew",
        subject=about.key,
        package_name=about.key,
        version=about.version,
        previous=previous,
        manager="brew",
        location=about.location,
    )
    return Record(event, about)


def _logged(look: Look, there: set[tuple[str, str, str]]) -> Iterator[Record]:
    """What a log tells of kegs that have no receipt any more, and of those that went."""
    with look.beside(LOG):
        mark, fold = cast("tuple[str | None, int]", look.marks.get(LOG) or (None, 0))
        log = BrewLog(host_zone(look.machine.root), fold)
        reading = read_log(look.machine.files, LOG, Mark.from_json(mark) if mark else None)
        for told in log.changes(reading):
            if told.type == "gone" or (told.prefix, told.name, told.version) not in there:
                yield _of_log(told)
        look.left_out(LOG, reading, log.unreadable, "do not say when, and were left out")
        place, fold = log.place(reading.mark)
        look.marks[LOG] = [place.to_json() if place else None, fold]


def _of_log(told: Told) -> Record:
    named = {"key": told.name.lower(), "name": told.name, "version": told.version, "location": told.prefix}
    kind = "package_remove" if told.type == "gone" else _kind(told.previous or "", told.version)
    return _told(Software(**named, manager="brew", scheme="brew"), told.key, told.at, kind, told.previous)


_WATCHED = (*ROOMS, "opt", *PINNED[:1])
collector = Collector(
    collect,
    (Software, DEPENDS_ON, PackageIndex),
    minutes(10),
    (*(f"{prefix}/{place}" for prefix in PREFIXES for place in _WATCHED), LOG),
    version=2,
    logged=True,
    owner=owner,
)
