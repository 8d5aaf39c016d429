"""What tools are given where Neo4j is configured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from watchman_mcp.settings import Neo4j

from .connection import Database
from .fleet import Fleet
from .guard import Cypher

__all__ = ["Database", "offered"]


def offered(settings: Neo4j, database: Database, clean: Callable[[str], str] = str) -> dict[str, Any]:
    """The fleet, on the connections of the mirror, and strangers' Cypher where it has a user of its own."""
    given: dict[str, Any] = {"fleet": Fleet(database, clean)}
    if settings.query_user:
        given["cypher"] = Cypher(Database(settings, settings.query_user), clean)
    return given
