"""What Homebrew keeps of its API: the newest version of each formula and cask, in files of many megabytes.

Each is a JSON object with a text `payload`, which is JSON itself: a list of formulae or casks, or an object
with both by name, as `api/formula.rb`, `api/cask.rb` and `api/internal.rb` fetch them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from io import FileIO
from typing import NamedTuple

from watchman_mcp.errors import Broken
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.places import Search
from watchman_mcp.machine.versions.brew import compare

CACHES = ("~/.cache/Homebrew/api", "~/Library/Caches/Homebrew/api")
VALUE_CAP = 4 << 20
"""So many characters at most has one formula or cask."""

_FILE = re.compile(r"(?:packages\.[^/]+|(?P<kind>formula|cask)(?:\.[^/]+)?)\.jws\.json")
_PAYLOAD = re.compile(rb'"payload"\s*:\s*"')
_TEXT = re.compile(rb'[^"\\]*(?:\\(?:u[0-9a-fA-F]{4}|[^u])[^"\\]*)*', re.DOTALL)
_ESCAPED = 6
"""So many bytes at most has an escaped sign."""
_KINDS = {"formulae": "formula", "casks": "cask"}
_SIGN = re.compile(r"\S")
_CHUNK = 256 << 10
_DECODER = json.JSONDecoder(strict=False)


class Offer(NamedTuple):
    """A version that Homebrew would install; kept as JSON as it is."""

    version: str
    scheme: int
    """Versions of a later scheme are newer, whatever they are."""


def caches(search: Search, uid: int) -> dict[str, str]:
    """By kind the file that Homebrew touched last, among what the owner of a prefix fetched.

    Raises: Denied, Broken.
    """
    found: dict[str, tuple[float, str]] = {}
    for cache in search.find(CACHES):
        for directory in (cache, f"{cache}/internal"):
            for entry in search.entries(directory):
                match = _FILE.fullmatch(entry.name) if entry.kind == "file" and entry.uid == uid else None
                for kind in ([match["kind"]] if match["kind"] else _KINDS.values()) if match else ():
                    found[kind] = max(found.get(kind, (0.0, "")), (entry.mtime, f"{directory}/{entry.name}"))
    return {kind: path for kind, (_, path) in found.items()}


def offers(files: Files, paths: Mapping[str, str], wanted: frozenset[str]) -> dict[str, Offer]:
    """What these files, by kind, offer of the KIND/NAME that are wanted.

    Raises: Absent, Denied, Broken.
    """
    found: dict[str, Offer] = {}
    for path in dict.fromkeys(paths.values()):
        kinds = [kind for kind, one in paths.items() if one == path]
        with files.stream(path) as stream:
            for kind, name, fields in _entries(_Reader(_payload(stream, path), path), kinds[0]):
                if kind in kinds and f"{kind}/{name}" in wanted and (offer := _offer(kind, fields)):
                    found[f"{kind}/{name}"] = offer
    return found


def _offer(kind: str, fields: Mapping[str, object]) -> Offer | None:
    """What would be installed; None for a cask that Homebrew leaves alone, since it updates itself."""
    versions = fields.get("versions")
    stable = versions.get("stable") if isinstance(versions, dict) else fields.get("stable_version")
    version = fields.get("version") if kind == "cask" else stable
    alone = fields.get("auto_updates") or version == "latest"
    if not isinstance(version, str) or not version or (kind == "cask" and alone):
        return None
    revision, scheme = fields.get("revision"), fields.get("version_scheme")
    if kind == "formula" and isinstance(revision, int) and revision > 0:
        version = f"{version}_{revision}"
    return Offer(version, scheme if isinstance(scheme, int) else 0)


def is_newer(kind: str, offer: Offer, installed: list[tuple[str, int]]) -> bool:
    """Whether it is newer than every installed version, of each of which the scheme is known."""
    if kind == "cask":
        return all(offer.version != version for version, _ in installed)
    return all(
        offer.scheme > scheme or (offer.scheme == scheme and _later(offer.version, version))
        for version, scheme in installed
    ) and not any(version == offer.version for version, _ in installed)


def _later(one: str, other: str) -> bool:
    try:
        return compare(one, other) > 0
    except ValueError:  # one of them is no version
        return False


def _payload(stream: FileIO, path: str) -> Iterator[str]:
    """The text of the payload, in pieces."""
    held = stream.read(_CHUNK) or b""
    begin = _PAYLOAD.search(held)
    if not begin:
        raise Broken(f"{path} has no payload; brew update fetches it anew")
    held = held[begin.end() :]
    while True:
        match = _TEXT.match(held)
        assert match is not None  # it may be empty
        end = match.end()
        over = held[end : end + 1] == b'"'
        if end:  # an empty piece would say that nothing more comes
            yield _unescaped(held[:end], path)
        if over:
            return
        more = stream.read(_CHUNK) or b""
        if not more or len(held) - end >= _ESCAPED:
            raise Broken(f"{path} ends in the middle; brew update fetches it anew")
        held = held[end:] + more


def _unescaped(text: bytes, path: str) -> str:
    try:
        return str(json.loads(f'"{text.decode("utf-8", "surrogateescape")}"', strict=False))
    except ValueError as error:
        raise Broken(f"{path} is no JSON; brew update fetches it anew") from error


class _Reader:
    """Reads JSON that comes in pieces, one value after another."""

    def __init__(self, pieces: Iterator[str], path: str) -> None:
        self._pieces = pieces
        self._path = path
        self._text = ""
        self._at = 0

    def sign(self) -> str:
        """The next sign that is no space, which stays."""
        while True:
            if sign := _SIGN.search(self._text, self._at):
                self._at = sign.start()
                return sign[0]
            if not self._more():
                raise self._broken()

    def skip(self, *signs: str) -> str:
        """The next sign, which must be one of these."""
        if (sign := self.sign()) not in signs:
            raise self._broken()
        self._at += 1
        return sign

    def value(self) -> object:
        """The next whole value."""
        self.sign()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as error:
                if isinstance(error, RecursionError) or not self._more():
                    raise self._broken() from error
                continue
            # A number may go on in what comes next.
            if end < len(self._text) or not self._more():
                self._at = end
                return value

    def _more(self) -> bool:
        self._text, self._at = self._text[self._at :], 0
        if len(self._text) > VALUE_CAP:
            raise self._broken()
        piece = next(self._pieces, "")
        self._text += piece
        return bool(piece)

    def _broken(self) -> Broken:
        return Broken(f"{self._path} is not what Homebrew fetches; brew update fetches it anew")


def _entries(reader: _Reader, kind: str) -> Iterator[tuple[str, str, Mapping[str, object]]]:
    """Kind, name and fields of each formula and cask."""
    if reader.sign() == "[":
        reader.skip("[")
        while reader.sign() != "]":
            fields = reader.value()
            if isinstance(fields, dict):
                yield kind, str(fields.get("token" if kind == "cask" else "name")), fields
            if reader.sign() != "]":
                reader.skip(",")
        return
    for key in _keys(reader):
        if key in _KINDS and reader.sign() == "{":
            for name in _keys(reader):
                fields = reader.value()
                if isinstance(fields, dict):
                    yield _KINDS[key], name, fields
        else:
            reader.value()


def _keys(reader: _Reader) -> Iterator[str]:
    """The keys of an object, each of whose values is to be read before the next."""
    reader.skip("{")
    if reader.sign() == "}":
        reader.skip("}")
        return
    while True:
        key = reader.value()
        reader.skip(":")
        yield str(key)
        if reader.skip(",", "}") == "}":
            return
