"""What Homebrew keeps of its kegs and casks, and what it prints; text in, values out."""

import json
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, tzinfo
from typing import NamedTuple

from watchman_mcp.errors import Broken
from watchman_mcp.machine.dpkg import Clock, written
from watchman_mcp.machine.logs import Line, Mark

_STAMP = re.compile(r"\d{14}(?:\.\d{1,6})?", re.ASCII)
_KEG = r"(?P<prefix>/[^\0]*?)/Cellar/(?P<name>[^/\s]+)/(?P<version>[^/\s:]+?)"
_POURED = re.compile(rf"(?:\S+\s+)?{_KEG}: \d[\d,]* files?\b.*")
_GONE = re.compile(rf"Uninstalling {_KEG}\.\.\. .*")
_UPGRADING = re.compile(r"==> Upgrading (?:\S+/)?(?P<name>[^\s/]+)(?: (?P<old>\S+) -> \S+)?")
_ARROW = re.compile(r"(?:(?P<name>[^\s/]+) )?(?P<old>\S+) -> (?P<new>\S+)")
_CORE = "homebrew/core"
_TAPS = {
    "mxcl/master": _CORE,
    "Homebrew/homebrew": _CORE,
    "caskroom/cask": "homebrew/cask",
    "path or URL": None,
}
"""Names that taps had in receipts of old, as Homebrew's own tab.rb reads them."""
_TIMED = re.compile(
    r"\[?(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d)(?:[.,]\d{1,9})?(?P<offset>Z|[+-]\d\d:?\d\d)?\]?:?"
    r"\s(?P<said>.*)",
    re.ASCII,
)


_WRONG_NEEDS = re.compile(r"(?:0\.|1\.0\.|1\.1\.[0-5](?!\d)).*", re.DOTALL)
"""Versions of Homebrew whose lists of what a keg needs are wrong, and are not heeded by Homebrew itself."""
_LONGEST = 10_000
"""An upgrade that takes more lines of a log has failed."""


class Receipt(NamedTuple):
    """What INSTALL_RECEIPT.json says of a keg or a cask; what it does not say is None."""

    at: datetime | None = None
    requested: bool | None = None
    tap: str | None = None
    version: str | None = None
    needs: tuple[str, ...] = ()
    """Names of what it needs itself."""
    scheme: int = 0
    """The scheme of its version."""


def read_receipt(text: str) -> Receipt:
    """The receipt of a keg or a cask.

    Raises: Broken.
    """
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Broken("it is no JSON; brew reinstall makes it anew") from error
    if not isinstance(fields, dict):
        raise Broken("it does not hold an object; brew reinstall makes it anew")
    source = fields.get("source")
    source = source if isinstance(source, dict) else {}
    versions = source.get("versions")
    scheme = versions.get("version_scheme") if isinstance(versions, dict) else 0
    # The second is what receipts before 2014 have.
    tap, version = source.get("tap") or fields.get("tapped_from"), source.get("version")
    requested = fields.get("installed_on_request")
    wrong = _WRONG_NEEDS.fullmatch(str(fields.get("homebrew_version", "")))
    return Receipt(
        at=_moment(fields.get("time")),
        requested=requested if isinstance(requested, bool) else None,
        tap=_TAPS.get(tap, tap) if isinstance(tap, str) and tap else None,
        version=version if isinstance(version, str) and version else None,
        needs=tuple(dict.fromkeys(_needed(fields.get("runtime_dependencies")))) if not wrong else (),
        scheme=scheme if isinstance(scheme, int) else 0,
    )


def _moment(value: object) -> datetime | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 36:
        return None
    return datetime.fromtimestamp(value, UTC)


def _needed(found: object) -> Iterator[str]:
    """Of a keg a list; of a cask one list for each kind. What only comes with another need is left out."""
    if isinstance(found, dict):
        for one in found.values():
            if isinstance(one, list):
                yield from _needed(one)
    for one in found if isinstance(found, list) else ():
        if isinstance(one, dict) and one.get("declared_directly", True):
            name = one.get("full_name")
            if isinstance(name, str) and name:
                yield name.rpartition("/")[2]


def read_timestamp(name: str) -> datetime | None:
    """The moment that names a directory of a cask's metadata; None if it names none."""
    try:
        whole = datetime.strptime(name[:14], "%Y%m%d%H%M%S") if _STAMP.fullmatch(name) else None
    except ValueError:
        return None
    return whole.replace(tzinfo=UTC) if whole else None


class Told(NamedTuple):
    """A keg that a log says came or went."""

    type: str
    at: datetime
    prefix: str
    name: str
    version: str
    previous: str | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """What tells it from others, whenever it is read."""
        return self.type, written(self.at), self.prefix, self.name, self.version


class BrewLog:
    """Follows what people let Homebrew print into a log, each line with a time before it.

    Homebrew itself keeps no such log. A line that says what came or went without saying when is counted.
    """

    def __init__(self, zone: tzinfo, fold: int = 0) -> None:
        self.unreadable = 0
        self._clock = Clock(zone, fold)
        self._upgraded: tuple[str, str | None, Mark, int] | None = None
        self._since = 0

    def changes(self, lines: Iterable[Line]) -> Iterator[Told]:
        """The kegs that came and went, in the order of the log."""
        for line in lines:
            text = line.text.strip("\0\r")
            fold = self._clock.fold
            self._since += 1
            if self._since > _LONGEST:
                self._upgraded = None
            if (timed := _TIMED.fullmatch(text)) is None or (at := self._at(timed)) is None:
                said = text.strip()
                self.unreadable += bool(_POURED.fullmatch(said) or _GONE.fullmatch(said))
            elif change := self._tell(timed["said"].strip(), at, line, fold):
                yield change

    def place(self, end: Mark | None) -> tuple[Mark | None, int]:
        """Where the next read must begin: at an upgrade that is not told yet, or at the end of the log."""
        if self._upgraded:
            return self._upgraded[2], self._upgraded[3]
        return end, self._clock.fold

    def _at(self, timed: re.Match[str]) -> datetime | None:
        try:
            if timed["offset"]:
                return datetime.fromisoformat(timed["time"] + timed["offset"]).astimezone(UTC)
            return self._clock.moment(timed["time"])[0]
        except (ValueError, OverflowError):
            return None

    def _tell(self, said: str, at: datetime, line: Line, fold: int) -> Told | None:
        if match := _UPGRADING.fullmatch(said):
            self._upgraded, self._since = (match["name"], match["old"], line.mark, fold), 0
        elif self._upgraded and (match := _ARROW.fullmatch(said)):
            if match["name"] in (None, self._upgraded[0]):
                self._upgraded = self._upgraded[0], match["old"], *self._upgraded[2:]
        elif match := _POURED.fullmatch(said):
            old = None
            # What it needs is poured first.
            if self._upgraded and self._upgraded[0] == match["name"]:
                old, self._upgraded = self._upgraded[1], None
            return Told("came", at, match["prefix"], match["name"], match["version"], old)
        elif match := _GONE.fullmatch(said):
            return Told("gone", at, match["prefix"], match["name"], match["version"])
        return None
