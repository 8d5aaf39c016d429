"""The specifications of installed gems, which are Ruby programs: read as text, never run."""

from __future__ import annotations

import re
from typing import NamedTuple

from watchman_mcp.errors import Broken
from watchman_mcp.machine.versions.gem import satisfies

_STUB = re.compile(r"^# stub: (\S+) (\S+) (\S+) ", re.MULTILINE)
_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}", re.ASCII)
_VERSION = re.compile(r"\d[0-9A-Za-z.-]{0,199}", re.ASCII)
_PLATFORM = re.compile(r"[A-Za-z0-9._-]{1,100}", re.ASCII)
_FILE = re.compile(r"(?P<name>.+?)-(?P<version>\d+(?:\.[0-9A-Za-z]+)*)(?:-(?P<platform>[A-Za-z].*))?")
_SUMMARY = re.compile(
    r"^[ \t]*\w+\.summary = "
    r'(?:"((?:[^"\\]|\\.){0,4000})"|%q[<\[{(]([^\n]{0,4000}?)[>\]})](?:\.freeze)?$)',
    re.MULTILINE,
)
_NEED = re.compile(
    r"^[ \t]*\w+\.add_(?P<kind>runtime_|development_|)dependency\(?\s*"
    r"(?:%q<(?P<name>[^>\n]{1,200})>|\"(?P<other>[^\"\n]{1,200})\")"
    r"(?:\.freeze)?,?\s*\[?(?P<wishes>[^\])\n]{0,1000})",
    re.MULTILINE,
)
_WISH = re.compile(r"\"([^\"\n]{1,200})\"")
_ESCAPE = re.compile(r"\\(?:u\{([0-9A-Fa-f]{1,6})\}|u([0-9A-Fa-f]{4})|x([0-9A-Fa-f]{1,2})|(.))")
_LETTERS = {"n": "\n", "t": "\t", "r": "\r", "e": "\x1b", "s": " ", "0": "\0"}


class Gem(NamedTuple):
    """What a specification says."""

    name: str
    version: str
    platform: str
    """`ruby` where it runs everywhere."""
    summary: str | None
    needs: dict[str, tuple[str, ...]]
    """The gems that it needs to run, and which versions of them."""


def read_specification(text: str, file_name: str) -> Gem:
    """The gem of a specification file: its second line names it, and so does the name of the file.

    Raises: Broken.
    """
    named = gem_of(file_name)
    stub = _STUB.search(text[:4096])
    name, version, platform = stub.groups() if stub else named or ("", "", "")
    if not (_NAME.fullmatch(name) and _VERSION.fullmatch(version) and _PLATFORM.fullmatch(platform)):
        raise Broken("its specification does not say which gem it is; install the gem again")
    return Gem(name, version, platform, _summary(text), _needs(text))


def gem_of(file_name: str) -> tuple[str, str, str] | None:
    """Name, version and platform by the name of a specification file."""
    match = _FILE.fullmatch(file_name.removesuffix(".gemspec"))
    return (match["name"], match["version"], match["platform"] or "ruby") if match else None


def admits(wishes: tuple[str, ...], version: str) -> bool:
    """Whether a version is one that all these wishes admit; a wish that cannot be read admits none."""
    try:
        return all(satisfies(version, wish) for wish in wishes)
    except ValueError:
        return False


def _summary(text: str) -> str | None:
    match = _SUMMARY.search(text)
    if match is None:
        return None
    words = _ESCAPE.sub(_letter, match[1]) if match[1] is not None else match[2] or ""
    return words.strip().partition("\n")[0].strip() or None


def _letter(match: re.Match[str]) -> str:
    """What a sequence in a Ruby string stands for."""
    braced, four, two, other = match.groups()
    if (digits := braced or four or two) is None:
        return _LETTERS.get(other, other)
    number = int(digits, 16)
    return (
        chr(number) if number <= 0x10FFFF and not 0xD800 <= number < 0xE000 else "\N{REPLACEMENT CHARACTER}"
    )


def _needs(text: str) -> dict[str, tuple[str, ...]]:
    """Specifications of old list everything once more, for RubyGems that know one kind of need only."""
    found: dict[str, tuple[str, ...]] = {}
    building: set[str] = set()
    for match in _NEED.finditer(text):
        name = match["name"] or match["other"]
        if match["kind"] == "development_":
            building.add(name)
        elif name not in building:
            found.setdefault(name, tuple(_WISH.findall(match["wishes"])))
    return found
