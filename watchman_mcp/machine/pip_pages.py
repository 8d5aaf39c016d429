"""Newer versions by the pages of package indexes that pip fetched and keeps in its HTTP cache.

Since pip 23.3 an answer lies in `http-v2` under the SHA-224 of its address: what was said about it, and, in
`.body` beside it, the page as it came. Both are written when pip fetches the page, the first also when pip
asked and the page was the same. Before, both were one file below `http`, in MessagePack. Only pages in JSON,
as PyPI sends them to pip since 22.2, are read. A page says nothing of packages without one.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from configparser import Error
from hashlib import sha224
from math import prod
from typing import NamedTuple
from urllib.parse import urlsplit

from packaging.specifiers import SpecifierSet
from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from watchman_mcp.errors import Broken, WatchmanError
from watchman_mcp.machine.ini import read_ini
from watchman_mcp.machine.places import Search

_OLD = "/pip/http"
CACHES = tuple(f"{place}{kept}" for kept in ("/pip/http-v2", _OLD) for place in (".cache", "Library/Caches"))
"""Below a home."""
_BODY = re.compile(rb"cc=4,\x82\xa8response[\x81-\x8f]\xa4body([\xc4-\xc6])")
_LENGTH = {b"\xc4": 1, b"\xc5": 2, b"\xc6": 4}
"""By how MessagePack marks a text of bytes: so many bytes tell its length."""
PYPI = "https://pypi.org/simple"
CONFIGURATIONS = ("/etc/xdg/pip/pip.conf", "/etc/pip.conf")
OWN_CONFIGURATIONS = (".pip/pip.conf", ".config/pip/pip.conf")
CONFIGURATION_CAP = 1 << 20
KEPT_CAP = 8 << 20
PAGE_CAP = 16 << 20
_LONGEST_NAME = 255
"""Characters; no file system takes a longer name."""
_LONGEST_WISH = 1_000
_MOST_TAGS = 200
"""So many combinations of interpreter, ABI and platform may the name of a wheel stand for."""
_SECTIONS = ("global", "install", "list")
_UNCERTAIN = ("extra-index-url", "find-links", "no-index", "only-binary", "no-binary", "pre", "constraint")
"""Settings with which a page of one index does not tell what pip would install."""

Offer = tuple[str, str, bool]
"""The newest version for what one file says of Python, and whether pip can use it on any machine."""


class Page(NamedTuple):
    """What a page of an index offers, and when pip fetched it."""

    fetched_at: float
    source: str
    """Address of the index."""
    offers: list[Offer]


class Pages:
    """The pages that pip fetched for people, each read once; `kept` are JSON values for the next look."""

    def __init__(self, search: Search, before: object) -> None:
        self.kept: dict[str, list[object]] = {}
        self._before: Mapping[str, object] = before if isinstance(before, dict) else {}
        self._search = search
        self._caches = {
            home: list(search.find(f"{home}/{place}" for place in CACHES)) for home in search.homes
        }
        self._indexes: dict[tuple[str, str], str | None] = {}

    def any(self) -> bool:
        """Whether pip keeps pages for anybody."""
        return any(self._caches.values())

    def page(self, prefix: str, key: str) -> Page | None:
        """The page of a package for the environment at this prefix; None where none tells."""
        home = max((one for one in self._caches if prefix.startswith(f"{one}/")), key=len, default="/root")
        caches = self._caches.get(home, [])
        index = self._index(home, prefix) if caches else None
        for cache in caches:
            if index and (page := self._read(cache, key, index)):
                return page
        return None

    def _read(self, cache: str, key: str, index: str) -> Page | None:
        """A page; None if there is none, or none that can be understood: then nothing is known."""
        files, path = self._search.files, place_of(cache, f"{index}/{key}/")
        try:
            whole = cache.endswith(_OLD)
            said = files.stat(path)
            body = said if whole else files.stat(f"{path}.body")
            sign = [said.mtime, body.mtime, body.size]
            known = self._before.get(path)
            if isinstance(known, list) and len(known) == 2 and known[0] == sign:
                offers = known[1]
            else:
                content = files.read(path if whole else f"{path}.body", KEPT_CAP)
                offers = read_page(body_of(content) if whole else content, key)
        except WatchmanError:
            return None
        self.kept[path] = [sign, offers]
        return Page(said.mtime, index, [(one[0], one[1], one[2]) for one in offers])

    def _index(self, home: str, prefix: str) -> str | None:
        """The index that pip asks there; None where it asks others too, or its settings cannot be read."""
        if (home, prefix) not in self._indexes:
            own = [f"{home}/{path}" for path in OWN_CONFIGURATIONS]
            paths = [*CONFIGURATIONS, *own, f"{prefix}/pip.conf"]
            self._indexes[home, prefix] = index_of(self._texts(paths))
        return self._indexes[home, prefix]

    def _texts(self, paths: Iterable[str]) -> Iterator[str | None]:
        for path in paths:
            if self._search.holds(path):
                yield self._search.text(path, CONFIGURATION_CAP)


def place_of(cache: str, address: str) -> str:
    """Where a cache keeps what it has of this address."""
    digest = sha224(address.encode()).hexdigest()
    return "/".join([cache, *digest[:5], digest])


def body_of(content: bytes) -> bytes:
    """The page in a file of the cache that pip kept before 23.3.

    Raises: Broken.
    """
    match = _BODY.match(content)
    start = match.end() + _LENGTH[match[1]] if match else 0
    length = int.from_bytes(content[match.end() : start], "big") if match else 0
    if not match or start + length > len(content):
        raise Broken("it is not what pip keeps of a page")
    return content[start : start + length]


def index_of(texts: Iterable[str | None]) -> str | None:
    """The one index that pip asks by its configuration files, the last of which counts most."""
    index = PYPI
    for text in texts:
        try:
            parser = read_ini("[" if text is None else text)  # one that cannot be read may say anything
        except Error:
            return None
        for section in filter(parser.has_section, _SECTIONS):
            values = {name.replace("_", "-"): value for name, value in parser.items(section)}
            if any(name in values for name in _UNCERTAIN):
                return None
            index = values.get("index-url", values.get("i", index))
    return _address(index)


def _address(index: str) -> str | None:
    """The address without a slash at its end, and without a password, as pip asks it."""
    try:
        index.encode()
        parts = urlsplit(index.strip())
    except ValueError:  # no address, or odd bytes
        return None
    authority = parts.netloc.rpartition("@")[2].lower() if parts.scheme in ("http", "https") else ""
    return f"{parts.scheme}://{authority}{parts.path.rstrip('/')}" if authority else None


def read_page(content: bytes, key: str) -> list[Offer]:
    """What a page offers that is neither yanked nor a pre-release, the newest of each kind.

    Raises: Broken.
    """
    if content.startswith(b"\x1f\x8b"):
        unpacking = zlib.decompressobj(wbits=31)
        try:
            content = unpacking.decompress(content, PAGE_CAP)
        except zlib.error as error:
            raise Broken("the page is damaged") from error
        if not unpacking.eof:
            raise Broken("the page is too large or cut")
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Broken("the page is no JSON text") from error
    files = fields.get("files") if isinstance(fields, dict) else None
    if not isinstance(files, list):
        raise Broken("the page lists no files")
    found: dict[tuple[str, bool], Version] = {}
    for file in files:
        if (one := _offer(file, key)) and one[1:] not in found or one and found[one[1:]] < one[0]:
            found[one[1:]] = one[0]
    return [(str(version), python, sure) for (python, sure), version in found.items()]


def _offer(file: object, key: str) -> tuple[Version, str, bool] | None:
    name = file.get("filename") if isinstance(file, dict) else None
    if not isinstance(file, dict) or not isinstance(name, str) or file.get("yanked"):
        return None
    python = file.get("requires-python")
    if len(name) > _LONGEST_NAME or (isinstance(python, str) and len(python) > _LONGEST_WISH):
        return None
    sure = True
    try:
        if name.endswith(".whl"):
            if prod(part.count(".") + 1 for part in name.split("-")[-3:]) > _MOST_TAGS:
                return None
            project, version, _, tags = parse_wheel_filename(name)
            sure = any((t.interpreter, t.abi, t.platform) == ("py3", "none", "any") for t in tags)
        else:
            project, version = parse_sdist_filename(name)
    except (InvalidWheelFilename, InvalidSdistFilename, InvalidVersion):
        return None
    right = canonicalize_name(project) == key and not version.is_prerelease
    return (version, python if isinstance(python, str) else "", sure) if right else None


def newest(offers: Iterable[Offer], python: str) -> str | None:
    """The newest version for this Python; None where it depends on the machine, or where there is none."""
    fitting = [(Version(version), sure) for version, wanted, sure in offers if _fits(python, wanted)]
    best = max((version for version, sure in fitting if sure), default=None)
    if best is None or any(version > best for version, _ in fitting):
        return None
    return str(best)


def _fits(python: str, wanted: str) -> bool:
    """Whether files that want this are for this Python; what pip cannot read it does not heed."""
    try:
        return SpecifierSet(wanted).contains(python, prereleases=True)
    except ValueError:  # no specifier, or a number with more digits than are read
        return True
