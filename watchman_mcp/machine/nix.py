"""Nix profiles: generations and manifests; text in, values out."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from watchman_mcp.errors import Broken

_GENERATION = re.compile(r"(?P<profile>.+)-(?P<number>[1-9][0-9]{0,8})-link")
_STORED = re.compile(r"(?:.*/)?[0-9a-z]{32}-(?P<name>[^/]+)(?:/.*)?", re.DOTALL)
_BELOW = re.compile(r"(?P<stored>/nix/store/[0-9a-z]{32}-[^/]+)(?:/.*)?", re.DOTALL)
# The version begins at the first dash that no letter follows, as Nix itself splits a name.
_NAMED = re.compile(r"(?P<name>.+?)(?:-(?P<version>[^a-zA-Z].*))?", re.DOTALL)
# A host's name may end in a number, too.
_SYSTEM = re.compile(
    r"(?P<name>(?:nixos|darwin)-system(?:-.+?)?)-(?P<version>\d\d\.\d\d(?:[.-].*)?)", re.DOTALL
)
_OUTPUT = re.compile(
    r"(?P<version>.*[^-])-(?:bin|dev|devdoc|devman|debug|doc|info|lib|man|out|static|terminfo)", re.DOTALL
)


class Element(NamedTuple):
    """A package of a profile."""

    name: str
    version: str | None
    source: str | None
    paths: tuple[str, ...] = ()
    """What it is in the store."""


def generation_of(link: str) -> tuple[str, int] | None:
    """The profile and the number that the name of a generation's link says; None if it is none."""
    found = _GENERATION.fullmatch(link)
    return (found["profile"], int(found["number"])) if found else None


def split(path: str) -> tuple[str, str | None] | None:
    """Name and version of what is at a path of the store; None for another path."""
    stored = _STORED.fullmatch(path)
    return parted(stored["name"]) if stored else None


def parted(name: str) -> tuple[str, str | None] | None:
    """Name and version of what is called so; None if nothing is."""
    found = _SYSTEM.fullmatch(name) or _NAMED.fullmatch(name)
    return (found["name"], found["version"]) if found else None


def stored_at(path: str) -> str | None:
    """The path of what a path of the store lies in; None for another path."""
    found = _BELOW.fullmatch(path)
    return found["stored"] if found else None


def read_manifest(text: str, path: str) -> list[Element]:
    """The active elements of a profile's manifest.json, of each of its versions.

    Raises: Broken.
    """
    try:
        manifest = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Broken(f"{path} is no JSON; nix profile upgrade makes it anew") from error
    elements = manifest.get("elements") if isinstance(manifest, dict) else None
    if isinstance(elements, dict):  # by name since version 3
        return list(_elements(elements.items()))
    if isinstance(elements, list):
        return list(_elements(("", element) for element in elements))
    raise Broken(f"{path} has no elements; nix profile upgrade makes it anew")


def _elements(found: Iterable[tuple[str, object]]) -> Iterator[Element]:
    for name, element in found:
        if not isinstance(element, dict) or element.get("active") is False:
            continue
        paths, source = element.get("storePaths"), element.get("attrPath")
        known = [path for path in paths if isinstance(path, str)] if isinstance(paths, list) else []
        # Its paths are those of its outputs, whose names end in that of the output but for the main one.
        if known and (named := split(min(known, key=len))):
            version = named[1]
            if version and (output := _OUTPUT.fullmatch(version)):
                version = output["version"]
            yield Element(
                name or named[0], version, source if isinstance(source, str) else None, tuple(known)
            )
