"""What flatpak last fetched of the lists of its remotes: commits by reference, as GVariants."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from watchman_mcp.errors import Broken
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.flatpak import aligned, number, width

SUMMARIES = "repo/tmp/cache/summaries"
"""Below an installation: `REMOTE.idx` names a list for each architecture, or one list is named `REMOTE`."""

_LIST = re.compile(r"(?P<remote>.+)-(?P<arch>[^-]+)-(?P<digest>[0-9a-f]{64})\.sub", re.DOTALL)
_INDEX = ".idx"


def lists(files: Files, directory: str) -> dict[str, list[str]]:
    """By remote the paths of its present lists; one that its index does not name any more is left out.

    Raises: Absent, Denied, Broken.
    """
    names = [entry.name for entry in files.entries(directory) if entry.kind == "file"]
    indexed = {name.removesuffix(_INDEX): name for name in names if name.endswith(_INDEX)}
    found: dict[str, list[str]] = {remote: [] for remote in indexed}
    for name in names:
        match = _LIST.fullmatch(name)
        if match and match["remote"] in indexed:
            index = files.read(f"{directory}/{indexed[match['remote']]}")
            key = match["arch"].encode("utf-8", "surrogateescape") + b"\0"
            # An entry begins, like what follows its name, at a place that eight divides.
            if key + bytes(-len(key) % 8) + bytes.fromhex(match["digest"]) in index:
                found[match["remote"]].append(f"{directory}/{name}")
        elif not match and not name.endswith((_INDEX, ".sig")) and name not in indexed:
            found[name] = [f"{directory}/{name}"]
    return found


def commits(files: Files, path: str, wanted: Collection[str]) -> dict[str, str]:
    """The commits of these references in a list, of the type `(a(s(taya{sv}))a{sv})`.

    Raises: Absent, Denied, Broken.
    """
    try:
        return {name: commit for name, commit in _references(files.read(path)) if name in wanted}
    except (IndexError, ValueError) as error:
        raise Broken(f"{path} is damaged; flatpak fetches it anew at its next update") from error


def _references(content: bytes) -> Iterator[tuple[str, str]]:
    size = width(content)
    array = content[: number(content, len(content) - size, size)]
    if not array:
        return
    size = width(array)
    table = number(array, len(array) - size, size)
    start = 0
    for place in range(table, len(array), size):
        end = number(array, place, size)
        if not start <= end <= table:
            raise ValueError("references out of order")
        yield _reference(array[start:end])
        start = aligned(end)


def _reference(member: bytes) -> tuple[str, str]:
    size = width(member)
    end = number(member, len(member) - size, size)
    value = member[aligned(end) : len(member) - size]
    inner = width(value)
    commit = value[8 : number(value, len(value) - inner, inner)]
    if len(commit) != 32:
        raise ValueError("a commit of another size")
    return member[:end].partition(b"\0")[0].decode("utf-8", "surrogateescape"), commit.hex()
