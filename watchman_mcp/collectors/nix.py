"""Nix: the packages of each profile that has a manifest, and the generations of NixOS.

Each profile is a scope, `nix:PROFILE`, and the location of its packages. NixOS is one package, `nixos-
system-NAME`, whose log are the links of its generations: each says when it was made. What `nix-env` writes of
a profile is a value of Nix, which is read and never evaluated. Profiles in homes are read where people keep
them. Nix keeps no list of newer versions, so that none are known. A file belongs to what a profile itself
asked for; what only came with that has no name of a package. A machine without `/nix/var/nix/profiles` is
Absent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from watchman_mcp.collectors import Collector, Look, minutes
from watchman_mcp.machine import Machine
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.nix import Element, generation_of, read_manifest, split, stored_at
from watchman_mcp.machine.nix_environments import read_environment
from watchman_mcp.machine.places import Search
from watchman_mcp.schema.core import Event, Record, event_key
from watchman_mcp.schema.packages import Owner, Software

PROFILES = "/nix/var/nix/profiles"
PLACES = (PROFILES, f"{PROFILES}/per-user/*", "~/.local/state/nix/profiles")
SYSTEM = f"{PROFILES}/system"
MANIFEST_CAP = 8 << 20


class _Generation(NamedTuple):
    """One generation of a profile: the link that names it, and where in the store it leads."""

    number: int
    at: datetime
    path: str


class _Profile(NamedTuple):
    """A profile, its generations, and the one that is present."""

    path: str
    generations: list[_Generation]
    present: _Generation


def collect(look: Look) -> Iterator[Software | Record]:
    """The packages of each profile's present generation, and the generations of NixOS.

    Raises: Absent.
    """
    search = Search(look.machine.files)
    places = list(search.find(PLACES))
    look.searched(bool(places), search.refused, "there is no Nix on this machine")
    look.watch(*places)
    for place in places:
        profiles: list[_Profile] = []
        with look.beside(place):
            profiles = _profiles(look.machine.files, place)
        for profile in profiles:
            with look.part(f"{look.scope}:{profile.path}"):
                if profile.path == SYSTEM:
                    yield from _system(profile)
                else:
                    yield from _packages(look, profile)


def owner(machine: Machine, paths: Collection[str]) -> Iterator[Owner]:
    """The packages of profiles that are the part of the store in which a file lies.

    Raises: Denied, Broken.
    """
    files = machine.files
    stored = {found for path in paths if (found := stored_at(path)) and files.exists(path)}
    for place in Search(files).find(PLACES) if stored else ():
        for profile in _profiles(files, place):
            if profile.path == SYSTEM:
                named = _nixos(profile.present)
                if named and profile.present.path in stored:
                    yield Owner("nix", named.key, location=SYSTEM)
            else:
                for element in _elements(files, profile):
                    if not stored.isdisjoint(element.paths):
                        yield Owner("nix", element.name.lower(), location=profile.path)


def _profiles(files: Files, place: str) -> list[_Profile]:
    """The profiles of a place, each with its generations, oldest first."""
    found: dict[str, list[_Generation]] = {}
    targets: dict[str, str] = {}
    for entry in files.entries(place):
        if entry.kind != "link":
            continue
        target = targets[entry.name] = files.target(f"{place}/{entry.name}")
        if named := generation_of(entry.name):
            at = datetime.fromtimestamp(int(entry.mtime), UTC)
            found.setdefault(named[0], []).append(_Generation(named[1], at, target))
    profiles = []
    for name, generations in found.items():
        linked = generation_of(targets.get(name, "").rpartition("/")[2])
        ordered = sorted(generations)
        # Its own link says which one is present: it may have been rolled back.
        present = next((one for one in ordered if linked and one.number == linked[1]), ordered[-1])
        profiles.append(_Profile(f"{place}/{name}", ordered, present))
    return profiles


def _packages(look: Look, profile: _Profile) -> Iterator[Software]:
    for element in _elements(look.machine.files, profile):
        yield Software(
            key=element.name.lower(),
            name=element.name,
            version=element.version,
            manager="nix",
            location=profile.path,
            source_package=element.source,
            requested=True,
            state="installed",
        )


def _elements(files: Files, profile: _Profile) -> list[Element]:
    """What `nix profile` or `nix-env` put into the present generation; nothing where neither did."""
    # A package of nix-env's may bring a manifest.json of another kind.
    for name, read in (("manifest.nix", read_environment), ("manifest.json", read_manifest)):
        path = f"{profile.present.path}/{name}"
        if files.exists(path):
            return read(files.text(path, MANIFEST_CAP), path)
    return []


def _system(profile: _Profile) -> Iterator[Software | Record]:
    if software := _nixos(profile.present):
        yield software
    previous: str | None = None
    for one in profile.generations:
        if about := _nixos(one):
            yield _record(one, about, previous)
            previous = about.version


def _nixos(generation: _Generation) -> Software | None:
    named = split(generation.path)
    return named and Software(
        key=named[0].lower(),
        name=named[0],
        version=f"{named[1] or ''} ({generation.number})".strip(),
        scheme="nix",
        manager="nix",
        location=SYSTEM,
        installed_at=generation.at,
        requested=True,
        state="installed",
    )


def _record(generation: _Generation, about: Software, previous: str | None) -> Record:
    event = Event(
        key=event_key("nix", about.location, generation.number, generation.path),
        ts=generation.at,
        # Of the generations before the oldest one that is kept nothing is known.
        type="package_install" if generation.number == 1 else "package_update",
        source="nix",
        subject=about.key,
        package_name=about.key,
        version=about.version,
        previous=previous,
        manager="nix",
        location=about.location,
        transaction_id=f"nix:{about.location}:{generation.number}",
    )
    return Record(event, about)


collector = Collector(collect, (Software,), minutes(10), (PROFILES,), version=2, logged=True, owner=owner)
