"""pacman's local database and configuration; text in, values out."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from watchman_mcp.errors import Broken
from watchman_mcp.machine.patterns import fits
from watchman_mcp.machine.versions.alpm import compare

FORMAT = "9"
"""The one version of the local database that pacman has had since 2013."""

_NEED = re.compile(r"([^<>=:]+)(?:(<=|>=|=|<|>)([^:]*))?(?::.*)?", re.DOTALL)
_ENTRY = re.compile(r"(?P<name>.+)-(?P<version>[^-]+-[^-]+)")
_FITTING = {"<": (-1,), "<=": (-1, 0), "=": (0,), ">=": (0, 1), ">": (1,)}

Fields = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Configuration:
    """What pacman.conf says of what is watched: where things are and which packages are kept from updates."""

    database: str = "/var/lib/pacman"
    log: str = "/var/log/pacman.log"
    held: tuple[str, ...] = ()
    """Patterns of names."""
    held_groups: tuple[str, ...] = field(default=())
    repositories: tuple[str, ...] = ()
    """Those that upgrades may come from, the one that counts first first."""

    def holds(self, package: Fields) -> bool:
        """Whether the package, or a group that it is in, is to be left as it is."""
        names = any(fits(package["NAME"][0], pattern) for pattern in self.held)
        groups = package.get("GROUPS", ())
        return names or any(fits(g, pattern) for g in groups for pattern in self.held_groups)


def read_configuration(text: str) -> Configuration:
    """The options and repositories of a pacman.conf; a file that it includes is to stand in it already."""
    sections: dict[str, dict[str, list[str]]] = {}
    section: dict[str, list[str]] = {}
    for line in text.replace("\r", "").split("\n"):
        words = line.partition("#")[0].strip()
        if words.startswith("["):
            section = sections.setdefault(words[1:].removesuffix("]"), {})
        else:
            name, _, value = words.partition("=")
            section.setdefault(name.strip(), []).append(value.strip())
    options = sections.pop("options", {})
    paths = {
        name: found[-1].rstrip("/")
        for name, option in (("database", "DBPath"), ("log", "LogFile"))
        if (found := [value for value in options.get(option, ()) if value.startswith("/")])
    }
    held, groups = (tuple(" ".join(options.get(o, ())).split()) for o in ("IgnorePkg", "IgnoreGroup"))
    upgrading = [name for name, given in sections.items() if _upgrades(given) and "/" not in name]
    return Configuration(**paths, held=held, held_groups=groups, repositories=tuple(upgrading))


def _upgrades(repository: Mapping[str, Sequence[str]]) -> bool:
    """Whether upgrades come from it; one that is not told what it is for is for all."""
    uses = " ".join(repository.get("Usage", ())).split()
    return not uses or "Upgrade" in uses or "All" in uses


def read_entry(text: str, path: str) -> dict[str, list[str]]:
    """The fields of a package's `desc` file.

    Raises: Broken (cut short, or without a name or a version).
    """
    fields: dict[str, list[str]] = {}
    name = ""
    for line in text.split("\n"):
        if not line:
            name = ""
        elif name:
            fields[name].append(line)
        elif len(line) > 2 and line[0] == line[-1] == "%":
            name = line[1:-1]
            fields[name] = []
    whole = text.endswith("\n\n") and "\0" not in text
    if not whole or not all(fields.get(needed) for needed in ("NAME", "VERSION")):
        raise Broken(f"{path} is damaged or still being written; if it stays so, install the package again")
    return fields


def entry_named(directory: str) -> dict[str, list[str]] | None:
    """What the name of a package's directory says of it; None if it is none that pacman makes."""
    found = _ENTRY.fullmatch(directory)
    return {"NAME": [found["name"]], "VERSION": [found["version"]]} if found else None


class _Offer(NamedTuple):
    """What a package serves a name with: a version or, where it provides a bare name, none."""

    place: int
    version: str


def needs(packages: Sequence[Fields]) -> Iterator[tuple[int, int]]:
    """Pairs of places in `packages`: one that depends, and one that serves it by name or what it provides."""
    offers: dict[str, list[_Offer]] = {}
    for place, package in enumerate(packages):
        for name, version in _offered(package):
            offers.setdefault(name, []).append(_Offer(place, version))
    for place, package in enumerate(packages):
        found: dict[int, None] = {}
        for need in package.get("DEPENDS", ()):
            if match := _NEED.fullmatch(need):
                name, order, version = match.groups()
                found |= dict.fromkeys(_serving(offers.get(name, ()), order, version))
        found.pop(place, None)
        for other in found:
            yield place, other


def _offered(package: Fields) -> Iterator[tuple[str, str]]:
    yield package["NAME"][0], package["VERSION"][0]
    for provided in package.get("PROVIDES", ()):
        name, _, version = provided.partition("=")
        yield name, version


def _serving(offers: Iterable[_Offer], order: str | None, version: str | None) -> Iterator[int]:
    for offer in offers:
        # What is provided without a version serves only those who ask for none.
        if not order or (offer.version and compare(offer.version, version or "") in _FITTING[order]):
            yield offer.place
