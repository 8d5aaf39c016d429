"""Reads a log from where it was left, through every way in which logs are rotated."""

import json
from collections.abc import Generator, Iterator
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from pathlib import PurePath
from typing import NamedTuple

from watchman_mcp.errors import Absent, Broken, Denied
from watchman_mcp.machine.files import Directory, Files
from watchman_mcp.machine.paths import printable
from watchman_mcp.machine.rotations import Content, Part, opened, parts_of

LINE_CAP = 1 << 20
# How often a read begins anew when the log is rotated under its hands.
_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a log that is found again after rotation, packing, truncation or deletion.

    A file is known by its inode and by the hash of its first bytes; `before` is the end of the file before
    it, which says what was read when the file itself cannot be found.
    """

    inode: int
    device: int
    offset: int
    fingerprint: str
    fingerprint_size: int
    before: "Mark | None" = None

    def to_json(self) -> str:
        """The mark as text that `from_json` reads back."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> "Mark":
        """The mark that `to_json` wrote.

        Raises: Broken.
        """
        try:
            return cls._from(json.loads(text))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise Broken(
                "a stored place in a log cannot be understood; drop it and read the log anew"
            ) from error

    @classmethod
    def _from(cls, fields: dict[str, object]) -> "Mark":
        numbers = [fields[name] for name in ("inode", "device", "offset", "fingerprint_size")]
        fingerprint, before = fields["fingerprint"], fields["before"]
        if not isinstance(fingerprint, str) or not (before is None or isinstance(before, dict)):
            raise TypeError(fields)
        inode, device, offset, size = (_natural(number) for number in numbers)
        return cls(inode, device, offset, fingerprint, size, cls._from(before) if before else None)


class Line(NamedTuple):
    """One complete line, without its end; bytes that are not UTF-8 are surrogate escapes."""

    text: str
    start: int
    origin: "Origin"

    @property
    def mark(self) -> Mark:
        """The place where this line begins: reading from there gives this line again."""
        return self.origin.at(self.start)


class Origin(NamedTuple):
    """The file that a line is from."""

    inode: int
    device: int
    fingerprint: str
    fingerprint_size: int
    before: Mark | None

    def at(self, offset: int) -> Mark:
        """A place in this file."""
        return Mark(self.inode, self.device, offset, self.fingerprint, self.fingerprint_size, self.before)


class _Step(NamedTuple):
    """Read this part of the log from this offset on."""

    part: Part
    offset: int


class LogReading:
    """One pass over the new lines of a log, oldest first; iterate it once, then take its `mark`.

    `problems` tells which files could not be read, or not to their end, and why; `overlong` counts the lines
    that were left out because they exceed the cap.
    """

    def __init__(
        self,
        files: Files,
        path: str | PurePath,
        mark: Mark | None,
        line_cap: int,
        skip: tuple[bytes, ...],
        skip_at: int,
    ) -> None:
        self.problems: list[str] = []
        self.overlong = 0
        self._files = files
        self._path = PurePath(path)
        self._line_cap = line_cap
        self._skip, self._skip_at = skip, skip_at
        self._given = mark
        self._before: Mark | None = None
        self._origin: Origin | None = None
        self._offset = 0
        self._failure: Denied | Broken | None = None

    @property
    def mark(self) -> Mark | None:
        """The place after the last line that was handed out, for the next read."""
        return self._given if self._origin is None else self._origin.at(self._offset)

    def __iter__(self) -> Iterator[Line]:
        """The lines.

        Raises: Absent (no such log), Denied, Broken (not one of its files can be read).
        """
        for _ in range(_ROUNDS):
            with self._files.directory(self._path.parent) as directory:
                parts = parts_of(directory, self._path.name)
                if not parts:
                    raise Absent(f"{printable(self._path)} is not on this machine")
                settled = yield from self._follow(directory, self._plan(directory, parts))
            if settled:
                break
        else:
            self._complain(f"{printable(self._path)} was rotated again and again; read on from the mark")
        if self._origin is None and self._failure is not None:
            raise self._failure

    def _plan(self, directory: Directory, parts: list[Part]) -> list[_Step]:
        """What is still to be read, oldest first."""
        mark = self.mark
        if mark is None:
            return [_Step(part, 0) for part in parts]
        before = _find(directory, parts, mark.before, 0) if mark.before else None
        unread = 0 if before is None else before + 1
        # Of a file that nothing was taken from, an inode used anew or a head of no bytes would say anything.
        place = _find(directory, parts, mark, unread) if mark.offset else None
        steps: list[_Step] = []
        self._before = mark.before
        if before is None:
            self._before = _end_before(directory, parts, place or 0)
        elif mark.before and (place is None or before < place) and _grown(parts[before], mark.before):
            steps.append(_Step(parts[before], mark.before.offset))
        if place is not None:
            steps.append(_Step(parts[place], mark.offset))
            unread = place + 1
        return steps + [_Step(part, 0) for part in parts[unread:]]

    def _follow(self, directory: Directory, steps: list[_Step]) -> Generator[Line, None, bool]:
        """The lines of all steps; False when a name meant another file by the time it was opened."""
        for part, offset in steps:
            try:
                with opened(directory, part) as content:
                    if content.moved:
                        return False
                    self._enter(content, offset)
                    yield from self._lines(content, part, offset)
            except Absent:
                return False
            except (Denied, Broken) as error:
                self._failure = self._failure or error
                self._complain(str(error))
        return True

    def _enter(self, content: Content, offset: int) -> None:
        if self._origin is not None and self._offset:
            self._before = replace(self._origin.at(self._offset), before=None)
        self._origin = _origin(content, self._before)
        self._offset = offset

    def _lines(self, content: Content, part: Part, offset: int) -> Iterator[Line]:
        origin = _origin(content, self._before)
        # Reading starts one byte early: if that byte ends no line, what follows is the rest of a line that
        # was already handed out or given up.
        skipping = offset > 0
        position, pending = max(offset - 1, 0), b""
        for piece in content.chunks(position):
            if skipping:
                cut = piece.find(b"\n") + 1
                position += cut or len(piece)
                if not cut:
                    continue
                piece, skipping = piece[cut:], False
            *whole, pending = (pending + piece).split(b"\n")
            for line in whole:
                start, position = position, position + len(line) + 1
                self._offset = position
                if len(line) > self._line_cap:
                    self.overlong += 1
                elif not line.startswith(self._skip, self._skip_at):
                    yield Line(line.decode("utf-8", "surrogateescape"), start, origin)
            if len(pending) > self._line_cap:
                self.overlong += 1
                position += len(pending)
                skipping, pending = True, b""
        if pending and not part.live:
            self._offset = position + len(pending)
            yield Line(pending.decode("utf-8", "surrogateescape"), position, origin)
        elif skipping:
            self._offset = position

    def _complain(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)


def read_log(
    files: Files,
    path: str | PurePath,
    mark: Mark | None = None,
    line_cap: int = LINE_CAP,
    skip: tuple[bytes, ...] = (),
    skip_at: int = 0,
) -> LogReading:
    """The lines of a log after `mark`, or all that rotation has kept; they are read as they are iterated.

    Lines that have one of the words to `skip` at that place are passed over before they cost anything.
    """
    return LogReading(files, path, mark, line_cap, skip, skip_at)


def _origin(content: Content, before: Mark | None) -> Origin:
    return Origin(content.inode, content.device, _fingerprint(content.head), len(content.head), before)


def _fingerprint(head: bytes) -> str:
    return blake2b(head, digest_size=16).hexdigest()


def _find(directory: Directory, parts: list[Part], mark: Mark, first: int) -> int | None:
    """Where the marked file is: under its inode anywhere, else under its first bytes from `first` on."""
    own = [
        place
        for place, part in enumerate(parts)
        if (part.entry.inode, part.entry.device) == (mark.inode, mark.device)
    ]
    others = [place for place in range(first, len(parts)) if place not in own]
    return next((place for place in own + others if _is_marked(directory, parts[place], mark)), None)


def _is_marked(directory: Directory, part: Part, mark: Mark) -> bool:
    size = mark.fingerprint_size
    if not size:
        return False
    try:
        with opened(directory, part) as content:
            return (
                not content.moved
                and len(content.head) >= size
                and (bool(part.suffix) or content.size >= mark.offset)
                and _fingerprint(content.head[:size]) == mark.fingerprint
            )
    except (Absent, Denied, Broken):
        return False


def _grown(part: Part, before: Mark) -> bool:
    """Whether a file that was read to its end may hold more: its writer kept it open after it was renamed."""
    return part.entry.inode != before.inode if part.suffix else part.entry.size > before.offset


def _end_before(directory: Directory, parts: list[Part], place: int) -> Mark | None:
    """The end of the last file before this place that has any content."""
    for part in reversed(parts[:place]):
        try:
            with opened(directory, part) as content:
                if content.head and not content.moved:
                    return _origin(content, None).at(content.size)
        except (Absent, Denied, Broken):
            continue
    return None


def _natural(number: object) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise TypeError(number)
    return number
