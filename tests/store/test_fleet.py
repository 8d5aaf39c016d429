"""What the graph of many machines is asked with: globs as the server's own patterns, and moments."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest
from anyio import to_thread
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.fleet import settings_of
from tests.rigs.neo4j import Server
from watchman_mcp.cleaning import Cleaner
from watchman_mcp.errors import FleetError
from watchman_mcp.settings import Neo4j
from watchman_mcp.store.neo4j.connection import Database
from watchman_mcp.store.neo4j.fleet import Fleet
from watchman_mcp.store.neo4j.globs import regex

pytestmark = pytest.mark.real
GLOBS = st.lists(
    st.sampled_from(
        [
            "*",
            "?",
            "[ab]",
            "[!ab]",
            "[a-c]",
            "[c-a]",
            "[!]",
            "[]]",
            "[a-]",
            "[",
            "]",
            "a",
            "b",
            "\\",
            ".",
            "é",
            "(",
            "$",
            "🐧",
            "\n",
        ]
    ),
    max_size=8,
)
TEXTS = st.lists(st.text("ab[].\\é($🐧\n-", max_size=8), min_size=1, max_size=20)


@pytest.fixture(scope="module")
def session(neo4j_server: Server) -> Iterator[Any]:
    with neo4j_server.driver() as driver, driver.session() as opened:
        yield opened


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(parts=GLOBS, texts=TEXTS)
@example(parts=["[!]", "[c-a]"], texts=["."])
def test_a_glob_means_to_the_server_what_it_means_here(
    session: Any, parts: list[str], texts: list[str]
) -> None:
    glob = "".join(parts)

    found = session.run("RETURN [t IN $texts WHERE t =~ $regex] AS found", texts=texts, regex=regex(glob))

    assert found.single()["found"] == [text for text in texts if fnmatchcase(text, glob)]


def test_a_glob_of_many_stars_is_answered_at_once(session: Any) -> None:
    begun = time.monotonic()

    found = session.run(
        "RETURN [t IN $texts WHERE t =~ $regex] AS found",
        texts=["a" * 5000] * 20,
        regex=regex("*a" * 40 + "*b"),
    ).single()["found"]

    assert found == []
    assert time.monotonic() - begun < 5


@pytest.mark.anyio
async def test_a_moment_of_any_zone_goes_to_the_server_and_comes_back_as_the_store_s_text(
    neo4j_server: Server,
) -> None:
    database = Database(settings_of(neo4j_server))
    fleet = Fleet(database)
    moment = datetime(2026, 3, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")) + timedelta(microseconds=7)

    rows = await to_thread.run_sync(
        lambda: fleet.ask("RETURN $m AS m, [$m] AS many, {a: $m} AS map", m=moment)
    )

    await database.close()
    text = "2026-03-01T11:00:00.000007Z"
    assert rows == [{"m": text, "many": [text], "map": {"a": text}}]


@pytest.mark.anyio
async def test_an_answer_that_the_server_cannot_give_says_that_this_machine_s_go_on() -> None:
    database = Database(Neo4j(uri="bolt://127.0.0.1:9"))

    with pytest.raises(FleetError, match="Questions about this machine need no host"):
        await Fleet(database).known_hosts()

    await database.close()


def test_texts_that_another_machine_wrote_come_out_clean(neo4j_server: Server) -> None:
    async def ask() -> list[dict[str, Any]]:
        database = Database(settings_of(neo4j_server))
        try:
            fleet = Fleet(database, Cleaner(b"k" * 32).text)
            query = "RETURN $name AS name, [$name] AS names, {of: $name} AS row"
            return await fleet.rows(query, name="\x1b[31mx")
        finally:
            await database.close()

    (row,) = anyio.run(ask)

    assert row["name"].endswith("[31mx") and "\x1b" not in f"{row['name']}{row['names'][0]}{row['row']['of']}"
