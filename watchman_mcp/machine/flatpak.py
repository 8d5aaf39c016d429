"""What flatpak keeps beside each application and runtime that it deploys; bytes and text in, values out."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from watchman_mcp.errors import Broken
from watchman_mcp.machine.patterns import fits

COMMIT = re.compile(r"[0-9a-f]{64}")
_DEPLOYED = re.compile(
    r"(?P<installation>/.+)/(?P<reference>(?:app|runtime)/[^/]+/[^/]+/[^/]+)/(?P<commit>[0-9a-f]{64})/.+",
    re.DOTALL,
)
_PATH = re.compile(r"Path *= *(/.*)")


class Deployed(NamedTuple):
    """A deployment as its `deploy` file describes it; what it does not say is empty or None."""

    origin: str
    commit: str
    size_bytes: int | None
    name: str
    version: str
    summary: str
    committed_at: int
    """When its commit was made, in seconds; 0 where that is not said."""


def read_deploy(content: bytes) -> Deployed:
    """The description of a deployment, which is a GVariant of the type `(ssasta{sv})`.

    Raises: Broken.
    """
    try:
        origin, commit, size, data = _tuple(content)
        values = dict(_entries(data))
    except (IndexError, ValueError) as error:
        raise Broken("its description is damaged; flatpak repair restores it") from error
    texts = (values.get(f"appdata-{name}") for name in ("name", "version", "summary"))
    name, version, summary = (text if isinstance(text, str) else "" for text in texts)
    at = values.get("timestamp")
    return Deployed(
        origin,
        commit,
        size if size < 1 << 50 else None,
        name,
        version,
        summary,
        at if isinstance(at, int) else 0,
    )


def _tuple(content: bytes) -> tuple[str, str, int, bytes]:
    step = width(content)
    # Members of changing size are found by where they end, which stands at the end, last one first.
    ends = [number(content, len(content) - step * place, step) for place in (1, 2, 3)]
    frame = len(content) - 3 * step
    size_at = aligned(ends[2])
    if not 0 < ends[0] <= ends[1] <= ends[2] or size_at + 8 > frame:
        raise ValueError("members out of order")
    size = int.from_bytes(content[size_at : size_at + 8], "big")
    return _text(content[: ends[0]]), _text(content[ends[0] : ends[1]]), size, content[size_at + 8 : frame]


def _entries(data: bytes) -> Iterator[tuple[str, str | int]]:
    """The texts and numbers of a dictionary `a{sv}`."""
    if not data:
        return
    step = width(data)
    table = number(data, len(data) - step, step)
    start = 0
    for place in range(table, len(data), step):
        end = number(data, place, step)
        if not start <= end <= table:
            raise ValueError("entries out of order")
        yield from _entry(data[start:end])
        start = aligned(end)


def _entry(data: bytes) -> Iterator[tuple[str, str | int]]:
    step = width(data)
    end = number(data, len(data) - step, step)
    value, zero, kind = data[aligned(end) : len(data) - step].rpartition(b"\0")
    if not zero or end > len(data):
        raise ValueError("an entry without a type")
    if kind == b"s":
        yield _text(data[:end]), _text(value)
    elif kind == b"t":
        yield _text(data[:end]), int.from_bytes(value, "little")


def width(data: bytes) -> int:
    """How many bytes each place within this takes."""
    return 1 if len(data) < 1 << 8 else 2 if len(data) < 1 << 16 else 4


def number(data: bytes, start: int, size: int) -> int:
    """The number of so many bytes at this place.

    Raises: IndexError.
    """
    if start < 0 or start + size > len(data):
        raise IndexError(start)
    return int.from_bytes(data[start : start + size], "little")


def aligned(place: int) -> int:
    """The next place that eight divides."""
    return (place + 7) & ~7


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def read_runtime(metadata: str) -> str:
    """ID/ARCH/BRANCH of the runtime that an application needs; empty if it names none."""
    for section, name, value in _settings(metadata):
        if (section, name) == ("Application", "runtime"):
            return value
    return ""


def read_masks(configuration: str) -> tuple[str, ...]:
    """The patterns in a repository's configuration that keep applications from being updated."""
    for section, name, value in _settings(configuration):
        if (section, name) == ("core", "xa.masked"):
            return tuple(filter(None, value.split(";")))
    return ()


def masked(reference: str, patterns: tuple[str, ...]) -> bool:
    """Whether `app/ID/ARCH/BRANCH` is among what these patterns mean; parts that they leave out mean any."""
    parts = reference.split("/")
    for pattern in patterns:
        wanted = pattern.split("/")
        wanted = wanted if wanted[0] in ("app", "runtime") else ["*", *wanted]
        wanted += ["*"] * (len(parts) - len(wanted))
        if all(fits(part, one or "*") for part, one in zip(parts, wanted, strict=False)):
            return True
    return False


def deployed_at(path: str) -> tuple[str, str, str] | None:
    """Installation, reference and commit of the deployment that a path lies in; None for another path."""
    match = _DEPLOYED.fullmatch(path)
    return (match["installation"], match["reference"], match["commit"]) if match else None


def read_installation(text: str) -> list[str]:
    """The paths of the installations that a file of /etc/flatpak/installations.d adds."""
    lines = text.replace("\r", "").split("\n")
    return [match[1].strip().rstrip("/") for line in lines if (match := _PATH.fullmatch(line.strip()))]


def _settings(text: str) -> Iterator[tuple[str, str, str]]:
    """Section, name and value of each line of a key file."""
    section = ""
    for line in text.replace("\r", "").split("\n"):
        words = line.strip()
        if words.startswith("[") and words.endswith("]"):
            section = words[1:-1]
        elif "=" in words and not words.startswith("#"):
            name, _, value = words.partition("=")
            yield section, name.strip(), value.strip()


def shown(version: str, commit: str) -> str:
    """A version with the commit that tells it from another build of the same, as flatpak shortens it."""
    return f"{version} ({commit[:12]})" if version else f"({commit[:12]})"
