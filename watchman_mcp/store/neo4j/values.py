"""Values of Neo4j as those of JSON, of bounded size."""

import math
from collections.abc import Iterable
from typing import Any

TEXT_BYTES = 64_000
LIST_LENGTH = 1_000
DEPTH = 20
_CUT = "… [cut]"


class Converter:
    """Turns values into plain ones until `room` bytes are used; `cut` says that something was left out."""

    def __init__(self, room: int) -> None:
        self.room, self.cut = room, False

    def value(self, value: Any, depth: int = 0) -> Any:
        """One value of a row, as JSON can hold it."""
        self.room -= 8
        if value is None or isinstance(value, bool | int):
            return value
        if isinstance(value, float):
            return value if math.isfinite(value) else str(value)
        if isinstance(value, bytes | bytearray):
            return f"<{len(value)} bytes>"
        if depth == DEPTH:
            self.cut = True
            return _CUT
        if type(value) is dict:  # a node is a mapping too
            return self._map(value.items(), depth)
        if isinstance(value, list):
            return self._list(value, depth)
        return self._other(value, depth)

    def text(self, text: str) -> str:
        """A text, shortened where it is too long for what is left."""
        raw = text.encode(errors="replace")
        most = max(min(TEXT_BYTES, self.room), 0)
        self.room -= len(raw)
        if len(raw) <= most:
            return raw.decode()
        self.cut = True
        return raw[: max(0, most - len(_CUT.encode()))].decode(errors="ignore") + _CUT

    def _list(self, values: Iterable[Any], depth: int) -> list[Any]:
        shown: list[Any] = []
        for value in values:
            if len(shown) == LIST_LENGTH or self.room <= 0:
                self.cut = True
                break
            shown.append(self.value(value, depth + 1))
        return shown

    def _map(self, items: Iterable[tuple[str, Any]], depth: int, **first: Any) -> dict[str, Any]:
        shown = {name: self.value(value, depth + 1) for name, value in first.items()}
        for name, value in items:
            if len(shown) == LIST_LENGTH or self.room <= 0:
                self.cut = True
                break
            shown[self.text(name)] = self.value(value, depth + 1)
        return shown

    def _other(self, value: Any, depth: int) -> Any:
        """Texts and the driver's own types."""
        from neo4j.graph import Node, Path, Relationship
        from neo4j.spatial import Point

        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, Node):
            return self._map(value.items(), depth, _labels=sorted(value.labels))
        if isinstance(value, Relationship):
            return self._map(value.items(), depth, _type=value.type)
        if isinstance(value, Path):
            return self._list(_steps(value), depth)
        if isinstance(value, Point):
            return f"SRID={value.srid};POINT({' '.join(map(str, value))})"
        if hasattr(value, "iso_format"):
            return self.text(value.iso_format())
        return self.text(str(value))


def _steps(path: Any) -> Iterable[Any]:
    """The nodes and relationships of a path, in the order of its way."""
    yield path.start_node
    for node, relationship in zip(path.nodes[1:], path.relationships, strict=True):
        yield relationship
        yield node
