"""query_graph with Cypher, as a client sees it: offered where a user for it is configured, else unknown."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from tests.fleet import followed, new_host, settings_of
from tests.rigs.neo4j import Server as Neo4jServer
from tests.story import Story, package, serving
from watchman_mcp.store.neo4j.connection import Database
from watchman_mcp.store.neo4j.offering import offered
from watchman_mcp.store.sqlite import Store

pytestmark = [pytest.mark.anyio, pytest.mark.real]


@pytest.fixture
async def store(tmp_path: Path, neo4j_server: Neo4jServer) -> AsyncIterator[Store]:
    """A machine with two packages, in Neo4j too."""
    (tmp_path / "state").mkdir()
    opened = Store(tmp_path / "state")
    story = Story(opened)
    story.host(60, machine=new_host(), name="cypher-box")
    story.look(
        60, [package("cypher-one", "1.22"), package("cypher-two")], needs=[("cypher-one", "cypher-two")]
    )
    with followed(opened, settings_of(neo4j_server)) as follower:
        follower.settle()
    yield opened
    opened.close()


async def ask(store: Store, server: Neo4jServer, root: Path, **arguments: Any) -> Any:
    settings = settings_of(server, query_user=server.user, query_password=settings_of(server).password)
    database = Database(settings)
    given = offered(settings, database)
    try:
        async with serving(store, root, offered=given) as running, Client(running.mcp, cache=None) as client:
            return await client.call_tool("query_graph", arguments)
    finally:
        await database.close()
        await given["cypher"].database.close()


async def test_rows_of_all_machines_come_as_columns_and_values(
    store: Store, neo4j_server: Neo4jServer, tmp_path: Path
) -> None:
    query = (
        "MATCH (s:Software)-[:ON_HOST]->(h:Host) WHERE s.key STARTS WITH 'cypher-' RETURN h.name, s.version"
    )

    answer = await ask(store, neo4j_server, tmp_path, query=f"{query} ORDER BY 2 DESC", language="Cypher")

    assert answer.structured_content["columns"] == ["h.name", "s.version"]
    assert answer.structured_content["items"][0] == ["cypher-box", "1.22"]


async def test_an_invented_property_is_named(store: Store, neo4j_server: Neo4jServer, tmp_path: Path) -> None:
    query = "MATCH (s:Software) WHERE s.invented = 1 RETURN s"

    answer = await ask(store, neo4j_server, tmp_path, query=query, language="cypher")

    assert answer.structured_content["found"] == "none"
    assert "invented" in answer.structured_content["note"]


async def test_a_query_that_writes_is_refused_in_words(
    store: Store, neo4j_server: Neo4jServer, tmp_path: Path
) -> None:
    answer = await ask(store, neo4j_server, tmp_path, query="MATCH (n) DELETE n", language="cypher")

    assert answer.is_error
    assert "only queries that read" in answer.content[0].text


async def test_the_schema_tells_of_both_languages_and_its_example_runs(
    store: Store, neo4j_server: Neo4jServer, tmp_path: Path
) -> None:
    schema = await ask(store, neo4j_server, tmp_path)
    note = schema.structured_content["note"]
    example = note[note.index("MATCH (s:") : note.index(". Host.heard_at")]

    answer = await ask(store, neo4j_server, tmp_path, query=example, language="cypher")

    assert "SELECT b.*" in note
    assert answer.structured_content["columns"] == ["h.name", "s.version"]


async def test_without_a_user_for_it_the_language_is_unknown(store: Store, tmp_path: Path) -> None:
    async with serving(store, tmp_path) as running, Client(running.mcp, cache=None) as client:
        answer = await client.call_tool("query_graph", {"query": "RETURN 1", "language": "cypher"})

    assert answer.is_error
    assert answer.content[0].text.startswith("unknown argument 'language'; query_graph takes: query, limit")
