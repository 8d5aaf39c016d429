"""The history that libzypp keeps for zypper, YaST and PackageKit; lines in, changes out."""

import base64
import json
import re
import shlex
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple

from watchman_mcp.machine.dpkg import Clock, written
from watchman_mcp.machine.logs import Line
from watchman_mcp.machine.rpm_changes import Change, Present, Told, kind_of, numbered

HISTORY = "/var/log/zypp/history"
AUTOMATIC = "/var/lib/zypp/AutoInstalled"

RUN_TIME = timedelta(days=1)
"""What comes so long after a command is not of its run."""

_FIELD = re.compile(r"(?<!\\)\|")
_ABOUT = re.compile(
    r"# \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+ (?:(?:install|remov)ed ok|(install|remove) failed)", re.ASCII
)
"""What a comment is about: the package of the next line, or one that has no line, for it failed."""
_WRONG = re.compile(r"# (error:.*|warning: .* scriptlet failed.*)")
_OTHERS = frozenset({"radd", "rremove", "ralias", "rurl", "patch", "stamp", "NONE", "pinstall"})
"""Lines about repositories, patches and the like, which change no package."""


class _Command(NamedTuple):
    """The command with which a run began."""

    text: str | None
    by: str | None
    run: str


@dataclass(slots=True)
class Place:
    """Where the last run begins, and what was known there; the next read starts there."""

    line: Line
    fold: int
    at: datetime
    number: int = 0
    gone: dict[str, str | None] = field(default_factory=dict)
    """The versions, since then replaced, that were known there."""


class ZyppHistory:
    """Follows the history; an installed version replaces the one that was `known`, by NAME.ARCH.

    What is found does not depend on how the history is cut into reads, if each begins at the `place` of the
    one before with what was known there.
    """

    def __init__(self, clock: Clock, known: dict[str, str], install_only: frozenset[str]) -> None:
        self.unreadable = 0
        self.place: Place | None = None
        self._clock = clock
        self._known = known
        self._install_only = install_only
        self._command: _Command | None = None
        self._failed = False
        """Whether the comments are about a package that was not installed or removed."""
        self._errors: list[str] = []

    def known_there(
        self, present: Present, waiting: dict[str, str] | None
    ) -> tuple[dict[str, str], dict[str, str]]:
        """The versions as they were at the `place`, and what waits to be believed; None at the first look.

        A version that is there and that no line told is believed at the second look that finds it: its line
        may come after it. What was there from the first needs no line.
        """
        gone = self.place.gone if self.place else {}
        found: dict[str, str] = {}
        for (name, arch), versions in present.items():
            who = f"{name}.{arch}"
            if name in self._install_only or who in gone or len(versions) != 1:
                continue
            (version,) = versions
            if waiting.get(who) == version if waiting is not None else who not in self._known:
                self._known[who] = version
            elif self._known.get(who) != version:
                found[who] = version
        before = {**self._known, **gone}
        return {who: version for who, version in before.items() if version is not None}, found

    def told(self, lines: Iterable[Line]) -> Iterator[Told]:
        """The changes in the history's order."""
        return numbered(self._told(lines))

    def _told(self, lines: Iterable[Line]) -> Iterator[Told]:
        for line in lines:
            text = line.text.strip("\0\r")
            if text.startswith("#"):
                self._note(text)
                continue
            fields = _FIELD.split(text)
            try:
                told = self._entry(line, fields)
            except ValueError:
                self.unreadable += bool(text.strip())
                continue
            if told:
                yield told
            self._errors, self._failed = [], False

    def _note(self, text: str) -> None:
        """What rpm says of a package stands before its line."""
        if about := _ABOUT.fullmatch(text):
            self._errors, self._failed = [], about[1] is not None
        elif not self._failed and (wrong := _WRONG.fullmatch(text)):
            self._errors.append(wrong[1])

    def _entry(self, line: Line, fields: list[str]) -> Told | None:
        at = self._clock.moment(fields[0])[0]
        word = fields[1].strip() if len(fields) > 1 else ""
        if word == "command":
            self._begin(line, at, fields)
            return None
        if self.place is None or at - self.place.at > RUN_TIME:
            self.place, self._command = Place(line, self._clock.fold, at), None
        if word in ("install", "remove") and len(fields) > 5:
            return self._change(at, word, fields)
        if word not in _OTHERS:
            raise ValueError(word)
        return None

    def _begin(self, line: Line, at: datetime, fields: list[str]) -> None:
        if self.place and self._command and self.place.at == at:
            self.place.number += 1  # equal seconds are told apart by counting from the first
        else:
            self.place = Place(line, self._clock.fold, at)
        text = "|".join(fields[3:]).rstrip("|")
        by = fields[2].strip() or None if len(fields) > 2 else None
        self._command = _Command(_unquoted(text) or None, by, f"zypp:{written(at)}:{self.place.number}")

    def _change(self, at: datetime, word: str, fields: list[str]) -> Told:
        name, version, arch, asked = fields[2:6]
        version = version.removeprefix("0:")
        if not name or not version:
            raise ValueError(fields)
        who = f"{name}.{arch}"
        several = name in self._install_only
        previous = None if several or word == "remove" else self._known.get(who)
        if not several:
            assert self.place is not None
            self.place.gone.setdefault(who, self._known.get(who))
            if word == "install":
                self._known[who] = version
            else:
                self._known.pop(who, None)
        kind = "remove" if word == "remove" else kind_of(previous, version)
        by = asked if "@" in asked else self._command.by if self._command else asked or None
        error = "; ".join(self._errors)[:500] or None
        change = Change(kind, name, arch, previous, version)
        run, text = (self._command.run, self._command.text) if self._command else (None, None)
        return Told(at, change, run, text, by, error)


def _unquoted(text: str) -> str:
    """A command line whose words are quoted one by one, as a person would write it."""
    try:
        return shlex.join(shlex.split(text))
    except ValueError:
        return text


def read_automatic(text: str) -> frozenset[str]:
    """The names of the packages that libzypp remembers to have come as dependencies."""
    names = (line.partition("#")[0].strip() for line in text.split("\n"))
    return frozenset(name for name in names if name)


def packed(known: Mapping[str, str]) -> str:
    """Versions by NAME.ARCH as short text, to be kept."""
    return base64.b64encode(zlib.compress(json.dumps(known, sort_keys=True).encode())).decode()


def unpacked(text: str) -> dict[str, str]:
    """What `packed` made short; nothing of an empty text."""
    return dict(json.loads(zlib.decompress(base64.b64decode(text)))) if text else {}
