"""Ruby gems: the specifications in the gem directories of the system, of version managers and of people.

Each gem directory is a scope, `gem:DIRECTORY`. Several versions of one gem are installed side by side, so
each is a package of its own, whose location is its directory, `DIRECTORY/gems/NAME-VERSION`: a new version is
an install, a clean-up a removal. The architecture is the platform that a gem was built for. Gems that came
with Ruby are not `requested`; of the others RubyGems does not keep who wanted them. A distribution's own
packages of gems, in `/usr/share/rubygems-integration` or `/usr/share/gems`, belong to apt or dnf. No Ruby is
run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from functools import cmp_to_key
from typing import NamedTuple

from watchman_mcp.collectors import Collector, Look, minutes
from watchman_mcp.machine import Machine
from watchman_mcp.machine.entries import Entry
from watchman_mcp.machine.gem_files import owners
from watchman_mcp.machine.gems import Gem, admits, gem_of, read_specification
from watchman_mcp.machine.places import Search
from watchman_mcp.machine.versions import compare_versions
from watchman_mcp.schema import Edge
from watchman_mcp.schema.packages import DEPENDS_ON, Owner, Software

SPECIFICATION_CAP = 4 << 20
GEMS = 10_000
"""A gem directory with more specifications is not read."""
_LISTS = "specifications"
DIRECTORIES = (
    "/var/lib/gems/*",
    *(
        f"{prefix}/lib/ruby/gems/*"
        for prefix in (
            *("/usr", "/usr/local", "/opt/homebrew", "/opt/*/embedded", "/opt/*"),
            *("/opt/puppetlabs/puppet", "/opt/puppetlabs/bolt", "/opt/puppetlabs/server/data/puppetserver"),
        )
    ),
    "/opt/puppetlabs/server/data/puppetserver/jruby-gems",
    "/usr/lib64/ruby/gems/*",
    "/usr/local/share/gems",
    "/Library/Ruby/Gems/*",
    "/usr/local/bundle",
    "/usr/local/rvm/gems/*",
    *(
        f"{place}/*/lib/ruby/gems/*"
        for place in (
            "/opt/rubies",
            "/usr/local/rvm/rubies",
            *(f"{prefix}/rbenv/versions" for prefix in ("/usr/local", "/opt", "/usr/lib")),
        )
    ),
    "/home/linuxbrew/.linuxbrew/lib/ruby/gems/*",
    "~/.gem/ruby/*",
    "~/.local/share/gem/ruby/*",
    "~/.rvm/gems/*",
    *(
        f"~/{place}/*/lib/ruby/gems/*"
        for place in (
            ".rbenv/versions",
            ".rvm/rubies",
            ".rubies",
            ".asdf/installs/ruby",
            ".local/share/mise/installs/ruby",
        )
    ),
)


class _Found(NamedTuple):
    software: Software
    gem: Gem


def collect(look: Look) -> Iterator[Software | Edge]:
    """The gems of each directory, and which of them need one another.

    Raises: Absent.
    """
    search = Search(look.machine.files)
    lists: list[str] = []
    for path in search.find(f"{directory}/{_LISTS}" for directory in DIRECTORIES):
        lists.append(path)
        directory = path.rpartition("/")[0]
        with look.part(f"gem:{directory}"):
            yield from _graph(_gems(look, directory))
    look.watch_places(lists)
    look.searched(bool(lists), search.refused, "no Ruby gems are on this machine")


def _gems(look: Look, directory: str) -> Iterator[_Found]:
    files = look.machine.files
    came_along = f"{directory}/{_LISTS}/default"
    if files.exists(came_along):
        for entry in files.entries(came_along, GEMS):
            yield from _gem(look, directory, f"{came_along}/{entry.name}", entry, requested=False)
    for entry in files.entries(f"{directory}/{_LISTS}", GEMS):
        yield from _gem(look, directory, f"{directory}/{_LISTS}/{entry.name}", entry, requested=None)


def _gem(look: Look, directory: str, path: str, entry: Entry, *, requested: bool | None) -> Iterator[_Found]:
    """The gem of a specification; one that cannot be read, which is said, is what its name says it is."""
    if not entry.name.endswith(".gemspec") or entry.kind == "directory":
        return
    gem, part = None, f"gem:{path}"
    with look.part(part):
        gem = read_specification(look.machine.files.text(path, SPECIFICATION_CAP), entry.name)
    look.seen.discard(part)  # it has no rows of its own
    if gem is None and part in look.failed and (named := gem_of(entry.name)):
        gem = Gem(*named, None, {})
    if gem is None:
        return
    software = Software(
        key=gem.name,
        name=gem.name,
        version=gem.version,
        scheme="gem",
        manager="gem",
        architecture=_platform(gem),
        location=_location(directory, gem),
        installed_at=datetime.fromtimestamp(entry.mtime, UTC),
        requested=requested,
        state="installed",
        summary=gem.summary,
    )
    yield _Found(software, gem)


def _platform(gem: Gem) -> str | None:
    return None if gem.platform == "ruby" else gem.platform


def _location(directory: str, gem: Gem) -> str:
    platform = _platform(gem)
    return f"{directory}/gems/{gem.name}-{gem.version}" + (f"-{platform}" if platform else "")


def owner(machine: Machine, paths: Collection[str]) -> Iterator[Owner]:
    """The gem in whose place of a gem directory the file is, or that its program starts.

    Raises: Denied, Broken.
    """
    for directory, gem in owners(machine.files, paths):
        yield Owner("gem", gem.name, _platform(gem), _location(directory, gem))


def _graph(gems: Iterable[_Found]) -> Iterator[Software | Edge]:
    """The gems, and from each to the newest of those beside it that it may use."""
    beside: defaultdict[str, dict[str, _Found]] = defaultdict(dict)
    for one in gems:
        # A default gem that was updated to the same version is listed twice.
        beside[one.gem.name][one.software.node_id] = one
    newest = {
        name: sorted(found.values(), key=cmp_to_key(_order), reverse=True) for name, found in beside.items()
    }
    for found in newest.values():
        yield from (one.software for one in found)
    for one in (one for found in newest.values() for one in found):
        for name, wishes in one.gem.needs.items():
            for other in newest.get(name, ()):
                if other is not one and admits(wishes, other.gem.version):
                    yield Edge(DEPENDS_ON, one.software.node_id, other.software.node_id)
                    break


def _order(one: _Found, other: _Found) -> int:
    return compare_versions("gem", one.gem.version, other.gem.version)


WATCHED = (
    *(
        f"/var/lib/gems/{ruby}/specifications"
        for ruby in ("2.7.0", "3.0.0", "3.1.0", "3.2.0", "3.3.0", "3.4.0")
    ),
    "/usr/local/bundle/specifications",
)
collector = Collector(collect, (Software, DEPENDS_ON), minutes(10), watch=WATCHED, owner=owner)
