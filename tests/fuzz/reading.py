"""What a reader under test is, and where its valid samples come from."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zoneinfo import ZoneInfo

from watchman_mcp.machine.files import Files
from watchman_mcp.machine.logs import Line, Origin

CASES = Path(__file__).parents[1] / "collectors"
ZONE = ZoneInfo("Europe/Berlin")
_ORIGIN = Origin(1, 1, "", 0, None)


@dataclass(frozen=True)
class Reader:
    """One reader of `watchman_mcp/machine`, by the name that it has there."""

    name: str
    read: Callable[[bytes], object]
    """Reads an input and asserts what must be true of whatever comes out; returns what is to be weighed."""
    samples: tuple[bytes, ...]
    kind: str = "text"
    """`json` and `binary` are damaged in ways of their own."""
    share: float = 1.0
    """So much of the inputs that others get."""
    refuses: tuple[type[Exception], ...] = ()
    """What it may raise beside the house's own errors, as its docstring says."""
    with_: tuple[str, ...] = ()
    """Others that are fed what comes out of it."""


@cache
def _planted() -> list[tuple[str, str, str]]:
    """Every file of every case: collector, path, content."""
    found = []
    for path in sorted(CASES.glob("*/*.json")):
        files: dict[str, str | None] = json.loads(path.read_text(encoding="utf-8")).get("files", {})
        found += [(path.parent.name, name, text) for name, text in files.items() if text]
    return found


def cases(collector: str, *patterns: str) -> tuple[bytes, ...]:
    """The contents of the files of this collector's cases whose paths match."""
    found = [
        text.encode("utf-8", "surrogateescape")
        for owner, name, text in _planted()
        if owner == collector and any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    assert found, f"no case of {collector} has a file like {patterns}"
    return tuple(dict.fromkeys(found))


def text_of(content: bytes) -> str:
    """Text as files give it."""
    return content.decode("utf-8", "surrogateescape")


def lines_of(content: bytes) -> list[Line]:
    """The lines of a log, as a reading of it gives them."""
    found, start = [], 0
    for line in content.removesuffix(b"\n").split(b"\n"):
        found.append(Line(text_of(line), start, _ORIGIN))
        start += len(line) + 1
    return found


def accounted(
    read: Callable[[Iterable[Line]], tuple[list[Any], int]], content: bytes, nonsense: str
) -> list[Any]:
    """What a log tells; a line of nonsense before it is counted, once, and changes nothing else."""
    lines = lines_of(content)
    found, unreadable = read(lines)
    again, more = read([Line(nonsense, 0, _ORIGIN), *lines])
    assert 0 <= unreadable <= len(lines)
    assert more == unreadable + 1, "a line without sense was passed over in silence"
    assert len(again) == len(found)
    return found


def of_text(read: Callable[[str], Any]) -> Callable[[bytes], object]:
    """A reader of text; what it only begins to tell is told to its end."""

    def on(content: bytes) -> object:
        found = read(text_of(content))
        return list(found) if isinstance(found, Iterator) else found

    return on


def of_log(
    read: Callable[[Iterable[Line]], tuple[list[Any], int]], nonsense: str
) -> Callable[[bytes], object]:
    """A reader of the lines of a log, and a line that it must count."""
    return lambda content: accounted(read, content, nonsense)


def placed(content: bytes, read: Callable[[Files], object], *paths: str) -> object:
    """What is read where the input lies at these paths."""
    with TemporaryDirectory() as place:
        for path in paths:
            target = Path(place, path.lstrip("/"))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
        return read(Files(Path(place)))
