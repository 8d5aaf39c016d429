"""Python distributions of the interpreters and virtual environments in the usual places, by their metadata.

Nothing found is executed and no link is followed. Each environment is a scope, `python:PREFIX`; where several
interpreters share a prefix the scope is the directory of one, as `/usr/local/lib/python3.11`. What cannot be
read is said and never taken for gone. `/usr/lib/python3/dist-packages` is left out: what lies there belongs
to Debian's packages, as what Arch and Alpine put where pip puts its own belongs to theirs. What conda
installed in an environment that it keeps records of is told from those. What is a link to sources elsewhere,
editable, is in the state `linked`. Newer versions are known of the packages of pip and pipx whose
pages pip keeps.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from packaging.utils import canonicalize_name

from watchman_mcp.collectors import Collector, Look, minutes, offered
from watchman_mcp.errors import Broken
from watchman_mcp.machine import Machine, eggs
from watchman_mcp.machine.distribution_files import owners
from watchman_mcp.machine.distributions import Origin, is_name, needed, read_metadata, read_origin
from watchman_mcp.machine.files import Directory, Entry
from watchman_mcp.machine.links import with_targets
from watchman_mcp.machine.pip_pages import Pages, newest
from watchman_mcp.machine.places import Search
from watchman_mcp.machine.python_environments import SITES, Environment, around, environments
from watchman_mcp.machine.python_origins import MANAGERS, Origins
from watchman_mcp.machine.updates import Update
from watchman_mcp.machine.versions import compare_versions
from watchman_mcp.schema import Edge
from watchman_mcp.schema.packages import DEPENDS_ON, Owner, PackageIndex, Software

ENVIRONMENTS = 500
"""So many environments are read at most."""
METADATA_CAP = 2 << 20
_BASE = "python"
_PIPS = ("pip", "pipx")
_ORIGIN = "direct_url.json"
_BEFORE = timedelta(hours=1)
ENDINGS = (".dist-info", ".egg-info", ".egg", eggs.LINK)


class _Found(NamedTuple):
    software: Software
    requires: tuple[str, ...]


class _Told(NamedTuple):
    metadata: tuple[str, str | None, str | None, tuple[str, ...]]
    installer: str | None = None
    requested: bool | None = None
    origin: Origin | None = None


class _News:
    """What pip's pages tell of newer versions, and of how many packages they tell nothing."""

    def __init__(self, pages: Pages, *, wanted: bool) -> None:
        self._pages, self._wanted = pages, wanted
        self._asked, self._known = 0, 0
        self._fetched: dict[str, float] = {}

    def of(self, software: Software, environment: Environment) -> Software:
        """The package, with the version that pip would update it to if a page tells."""
        if software.manager not in _PIPS or not self._wanted or not software.version:
            return software
        self._asked += 1
        page = self._pages.page(environment.prefix, software.key)
        newer = newest(page.offers, environment.version) if page else None
        if page is None or newer is None:
            return software
        self._known += 1
        fetched = min(page.fetched_at, self._fetched.get(software.manager, page.fetched_at))
        self._fetched[software.manager] = fetched
        if compare_versions(None, newer, software.version) <= 0:
            return software
        return software.model_copy(update=offered(Update(software.key, None, newer, page.source)))

    def indexes(self, environment: Environment) -> Iterator[PackageIndex]:
        """What is known for the environment that was read last, as old as the oldest of its pages."""
        for manager, fetched in self._fetched.items():
            at = datetime.fromtimestamp(fetched, UTC)
            yield PackageIndex(manager=manager, location=environment.location, refreshed_at=at)
        self._fetched = {}

    def say(self, look: Look) -> None:
        """Keep the pages for the next look, and say what they do not tell."""
        look.marks["pages"] = self._pages.kept
        what = f"{_BASE}:updates"
        if not self._wanted and self._pages.any():
            look.again = True
            look.cannot(what, "pip's pages are not read yet; the next look, within seconds, reads them")
        elif self._known and self._known < self._asked:
            why = "pip keeps only the pages that it fetched last; they tell of"
            look.cannot(
                what, f"{why} {self._known} of {self._asked} packages; pip list --outdated fetches all"
            )


def collect(look: Look) -> Iterator[Software | PackageIndex | Edge]:
    """The distributions of each environment and what they need of one another."""
    search = Search(look.machine.files)
    news = _News(Pages(search, look.marks.get("pages")), wanted=not look.first)
    taken: set[str] = set()
    sites: list[str] = []
    for environment in environments(search, map(str, look.settings.packages.python_paths)):
        if environment.location in taken:
            continue
        if len(taken) == ENVIRONMENTS:
            why = f"there are more than {ENVIRONMENTS} environments; the rest is not read"
            look.cannot(f"{_BASE}:/", why)
            break
        taken.add(environment.location)
        sites += environment.sites
        with look.part(f"{_BASE}:{environment.location}"):
            yield from _distributions(look, environment, news)
    news.say(look)
    look.watch_places(sites)
    for path, why in search.refused.items():
        look.cannot(f"{_BASE}:{path}", why)


def _distributions(
    look: Look, environment: Environment, news: _News
) -> Iterator[Software | PackageIndex | Edge]:
    found: dict[str, _Found] = {}
    origins = Origins(look.machine.files, environment)
    for site in environment.sites:
        with look.machine.files.directory(site) as directory:
            for entry in directory.entries():
                if not entry.name.endswith(ENDINGS) or entry.name.startswith("~"):
                    continue  # pip renames what it is about to delete to begin with a tilde
                one = _distribution(look, environment, origins, directory, entry)
                # Of two versions that an interrupted update left, the newer one is the one that was meant.
                if one and (one.software.key not in found or _moment(one) > _moment(found[one.software.key])):
                    found[one.software.key] = one
    own = _asked_for([one for one in found.values() if one.software.manager])
    yield from (news.of(one.software, environment) for one in own)
    yield from news.indexes(environment)
    for one in own:
        for key in dict.fromkeys(needed(requirement, environment.version) for requirement in one.requires):
            if key in found and key != one.software.key:
                yield Edge(DEPENDS_ON, one.software.node_id, found[key].software.node_id)


def _asked_for(found: list[_Found]) -> list[_Found]:
    """Say of none that nobody asked for it where pip may not have known yet how to mark what was asked for.

    pip marks it since 20.2. What a distribution needs is put there shortly before it.
    """
    first = min((_moment(one) for one in found if one.software.requested), default=None)
    return [
        one._replace(software=one.software.model_copy(update={"requested": None}))
        if one.software.requested is False and (first is None or _moment(one) + _BEFORE < first)
        else one
        for one in found
    ]


def _moment(found: _Found) -> datetime:
    return found.software.installed_at or datetime.min.replace(tzinfo=UTC)


def _distribution(
    look: Look, environment: Environment, origins: Origins, directory: Directory, entry: Entry
) -> _Found | None:
    """One distribution; None if it has no metadata. One that cannot be read is what its name says it is."""
    told: _Told | None = None
    scope = f"{_BASE}:{directory.path}/{entry.name}"
    with look.part(scope):
        told = _told(look, directory, entry)
    look.seen.discard(scope)  # it has no rows of its own
    if scope in look.failed and (named := eggs.named(entry.name)):
        told = _Told((*named, None, ()))
    if told is None or not is_name(told.metadata[0]):
        return None
    name, version, summary, requires = told.metadata
    manager = origins.manager(name, told.installer)
    linked = told.origin is not None and told.origin.editable
    software = Software(
        key=canonicalize_name(name),
        name=name,
        version=version,
        manager=manager or "",
        location=environment.location,
        # The directory is made anew by each installation; its files may be links to a cache, and older.
        installed_at=datetime.fromtimestamp(entry.mtime, UTC),
        requested=told.requested,
        state="linked" if linked or entry.name.endswith(eggs.LINK) else "installed",
        # Of what a distribution built, it is a directory that was there only then.
        source_package=told.origin.source if told.origin and manager != "rpm" else None,
        summary=summary,
    )
    return _Found(software, requires)


def _told(look: Look, directory: Directory, entry: Entry) -> _Told:
    """What the files of a distribution tell.

    Raises: Absent, Denied, Broken.
    """
    if entry.name.endswith(".dist-info"):
        with directory.directory(entry.name) as inner:
            names = {inside.name for inside in inner.entries()}
            installer = inner.text("INSTALLER", 4096).strip() if "INSTALLER" in names else None
            requested = "REQUESTED" in names if installer is not None else None
            origin = _origin(look, inner) if _ORIGIN in names else None
            return _Told(read_metadata(inner.read("METADATA", METADATA_CAP)), installer, requested, origin)
    if entry.name.endswith(eggs.LINK):
        path = f"{directory.path}/{entry.name}"
        text = directory.text(entry.name, eggs.LINK_CAP)
        place = eggs.linked(look.machine.files, path, entry, text)
        return _Told(read_metadata(look.machine.files.read(f"{place}/PKG-INFO", METADATA_CAP)), "pip")
    if entry.name.endswith(".egg"):
        if entry.kind == "file":  # a zip file
            if not (named := eggs.named(entry.name)):
                raise Broken("its name does not say which distribution it is; install it again")
            return _Told((*named, None, ()), "pip")
        with directory.directory(entry.name) as inner, inner.directory("EGG-INFO") as about:
            return _Told(read_metadata(about.read("PKG-INFO", METADATA_CAP)), "pip")
    if entry.kind != "directory":
        return _Told(read_metadata(directory.read(entry.name, METADATA_CAP)))
    with directory.directory(entry.name) as inner:
        listed = any(inside.name == "installed-files.txt" for inside in inner.entries())
        # Only pip wrote that list.
        return _Told(read_metadata(inner.read("PKG-INFO", METADATA_CAP)), "pip" if listed else None)


def _origin(look: Look, directory: Directory) -> Origin | None:
    """Where a distribution is from; None where it cannot be read, which is said."""
    origin: Origin | None = None
    with look.beside(f"{directory.path}/{_ORIGIN}"):
        origin = read_origin(directory.read(_ORIGIN, METADATA_CAP))
    return origin


def owner(machine: Machine, paths: Collection[str]) -> Iterator[Owner]:
    """The distributions in whose lists the file stands, of the environments that it lies in.

    Raises: Denied, Broken.
    """
    paths = with_targets(machine.files, paths)  # pipx and uv put links to their programs into a home
    for environment in around(Search(machine.files), paths):
        origins = Origins(machine.files, environment)
        for name, installer in owners(machine.files, environment.sites, paths):
            if manager := origins.manager(name, installer):
                yield Owner(manager, canonicalize_name(name), None, environment.location)


BROUGHT = (*sorted(MANAGERS - {"rpm"}), "pipx")
WATCHED = tuple(f"/usr/local/lib/python3.{minor}/{kind}" for minor in range(9, 15) for kind in SITES)
collector = Collector(
    collect,
    (Software, PackageIndex, DEPENDS_ON),
    minutes(10),
    watch=WATCHED,
    version=4,
    managers=BROUGHT,
    owner=owner,
)
