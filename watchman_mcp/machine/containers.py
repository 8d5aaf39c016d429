"""What containers are called, and which network namespaces are theirs."""

from __future__ import annotations

from collections import Counter
from collections.abc import MutableMapping

from watchman_mcp.machine import docker, network_namespaces
from watchman_mcp.machine.docker import Container, Told
from watchman_mcp.machine.network_namespaces import Namespace, Namespaces

MARK = "containers"


class Containers:
    """Containers by their ids; an engine is asked once, when the first of them is met.

    `marks` keeps the names from look to look, so that an engine that does not answer once renames nothing.
    """

    def __init__(self, marks: MutableMapping[str, object], sockets: tuple[str, ...] = docker.SOCKETS) -> None:
        kept = marks.get(MARK)
        self._kept = dict(kept) if isinstance(kept, dict) else {}
        self._marks, self._sockets = marks, sockets
        self._told: Told | None = None
        self._by_id: dict[str, Container] = {}
        marks.pop(MARK, None)

    @property
    def told(self) -> Told:
        """What the engines say."""
        if self._told is None:
            self._told = docker.ask(self._sockets)
            self._by_id = {one.id: one for one in self._told.containers}
        return self._told

    @property
    def problems(self) -> dict[str, str]:
        """Why some of it is not known; nothing where nobody had to be asked."""
        return self._told.refused if self._told else {}

    @property
    def unreadable(self) -> int:
        """How many parts of the answers were not understood."""
        return self._told.unreadable if self._told else 0

    def name(self, number: str) -> str:
        """The name of a container; the beginning of its id where no engine ever told one."""
        if not docker.is_id(number):
            return number
        known = self._by_id.get(number) if self.told else None
        found: str | None = known.name if known else self._kept.get(number)
        if found is None:
            return docker.short(number)
        names = self._marks.setdefault(MARK, {})
        assert isinstance(names, dict)
        names[number] = found
        return found


def namespaces(containers: Containers) -> Namespaces:
    """The other namespaces; one without a name whose containers are one is called after it.

    No file in /run/netns can have such a name. Two of one name are called by their ids.

    Raises: Broken (/proc is not mounted).
    """
    found = network_namespaces.find()
    nameless = [one for one in found.others if one.container and not one.named]
    names = {one.inode: containers.name(one.container) for one in nameless}
    often = Counter(names.values())
    found.others = [_called(one, names, often) for one in found.others]
    return found


def _called(one: Namespace, names: dict[int, str], often: Counter[str]) -> Namespace:
    if one.inode not in names:
        return one
    name = names[one.inode]
    return one._replace(name=f"container/{name if often[name] == 1 else docker.short(one.container)}")
