"""Fixtures that hand a test the real part it asks for; conftest.py imports them all."""

from collections.abc import Iterator

import pytest

from tests.rigs import installed, neo4j
from tests.rigs.inspector import inspector_cli
from tests.rigs.machine import Machine, booted

__all__ = ["inspector", "machine", "neo4j_server", "watchman_on_machine"]


@pytest.fixture(scope="session")
def machine() -> Iterator[Machine]:
    """One booted Debian machine for the whole run; a test that would disturb others boots its own."""
    with booted() as running:
        yield running


@pytest.fixture(scope="session")
def watchman_on_machine(machine: Machine) -> str:
    """The path, inside the machine, of the installed watchman-mcp."""
    return installed.install_watchman(machine)


@pytest.fixture(scope="session")
def inspector() -> list[str]:
    """The first words of an MCP Inspector command line."""
    return inspector_cli()


@pytest.fixture(scope="session")
def neo4j_server() -> Iterator[neo4j.Server]:
    """One Neo4j server for the whole run; a test wipes it first, and one that would end it starts its own."""
    with neo4j.serving() as server:
        yield server
