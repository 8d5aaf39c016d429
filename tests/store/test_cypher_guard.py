"""Strangers' Cypher: what it may read, what it is told, and what it can never do."""

import contextlib
import resource
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import neo4j
import pytest

from tests.rigs.neo4j import Server
from watchman_mcp.errors import InvalidRequest
from watchman_mcp.store.neo4j import guard
from watchman_mcp.store.neo4j.cypher import screen
from watchman_mcp.store.neo4j.guard import Rows, ask

pytestmark = [pytest.mark.anyio, pytest.mark.real]

LIMIT_SECONDS = 6.0
GROWTH = 150 * 1024  # KiB
DATABASE = "neo4j"
RUNNING = """SHOW TRANSACTIONS YIELD currentQuery
WHERE currentQuery CONTAINS $part AND NOT currentQuery STARTS WITH 'SHOW'"""
MAKE = """
CREATE (h:GHost {id: 'h1', name: 'db-1', seen: datetime('2026-11-20T08:00:00Z')})
CREATE (a:GSoft {id: 's1', name: 'nginx', size: 1000, tags: ['web', 'http']})-[:GON {since: 1}]->(h)
CREATE (b:GSoft {id: 's2', name: 'openssl', size: 2000, raw: $raw})-[:GON {since: 2}]->(h)
CREATE (c:GSoft {id: 's3', name: 'libc6', size: 3000, long: $long})-[:GON {since: 3}]->(h)
CREATE (a)-[:GNEEDS]->(b)-[:GNEEDS]->(c)
"""
DEFINE = (
    "CREATE CONSTRAINT g_id FOR (n:GSoft) REQUIRE n.id IS UNIQUE",
    "CREATE INDEX g_size FOR (n:GSoft) ON (n.size)",
    "CREATE TEXT INDEX g_name FOR (n:GSoft) ON (n.name)",
    "CREATE INDEX g_since FOR ()-[r:GON]-() ON (r.since)",
)
EVER = " ".join(f"UNWIND range(1, 1000) AS {name}" for name in "abcd")


@pytest.fixture(scope="module")
def graph(neo4j_server: Server) -> Iterator[Server]:
    """A server with three packages on one host."""
    with neo4j_server.driver() as driver:
        for statement in DEFINE:
            driver.execute_query(statement)
        driver.execute_query(MAKE, raw=b"\0\xff", long="é" * 40_000)
        driver.execute_query("CALL db.awaitIndexes(60)")
        (neo4j_server.home / "import" / "secret.csv").write_text("secret\n")
        yield neo4j_server
        driver.execute_query("MATCH (n) WHERE n:GHost OR n:GSoft DETACH DELETE n")
        driver.execute_query("DROP CONSTRAINT g_id")
        for name in ("g_size", "g_name", "g_since"):
            driver.execute_query(f"DROP INDEX {name}")


@pytest.fixture
async def driver(graph: Server) -> AsyncIterator[neo4j.AsyncDriver]:
    auth = (graph.user, graph.password)
    async with neo4j.AsyncGraphDatabase.driver(graph.uri, auth=auth, notifications_min_severity="OFF") as it:
        yield it


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """An address that nothing may call."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def called(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


async def state(driver: neo4j.AsyncDriver) -> list[Any]:
    """What a query could change."""
    found = []
    for query in (
        "MATCH (n) RETURN count(n), sum(size(keys(n))), sum(size(labels(n)))",
        "MATCH ()-[r]->() RETURN count(r), sum(size(keys(r)))",
        "MATCH (n:GSoft) RETURN sum(n.size), collect(n.name)",
        "SHOW CONSTRAINTS YIELD name ORDER BY name RETURN collect(name)",
        "SHOW INDEXES YIELD name ORDER BY name RETURN collect(name)",
        "SHOW USERS YIELD user, passwordChangeRequired RETURN collect(user), collect(passwordChangeRequired)",
    ):
        records = (await driver.execute_query(query)).records
        found.append(records[0].values())
    return found


async def running(driver: neo4j.AsyncDriver, part: str) -> bool:
    """Whether the server is at work on a query with this text."""
    return bool((await driver.execute_query(RUNNING, part=part)).records)


async def until_running(driver: neo4j.AsyncDriver, part: str, wanted: bool, seconds: float) -> float:
    """How long it took until the server was or was not at work on it."""
    start = time.monotonic()
    with anyio.fail_after(seconds):
        while await running(driver, part) is not wanted:
            pass
    return time.monotonic() - start


WRITES = {
    "create": "CREATE (:GBad)",
    "create with result": "CREATE (n:GBad) RETURN n",
    "merge": "MERGE (n:GBad {id: 1}) RETURN n",
    "set": "MATCH (n:GSoft) SET n.size = 0 RETURN n",
    "set all": "MATCH (n:GSoft) SET n = {} RETURN n",
    "set label": "MATCH (n:GSoft) SET n:GBad RETURN n",
    "remove": "MATCH (n:GSoft) REMOVE n.size RETURN n",
    "remove label": "MATCH (n:GSoft) REMOVE n:GSoft RETURN n",
    "delete": "MATCH (n:GSoft) DETACH DELETE n",
    "delete relationship": "MATCH ()-[r:GON]->() DELETE r RETURN 1",
    "foreach": "WITH [1, 2] AS l FOREACH (x IN l | CREATE (:GBad {x: x}))",
    "foreach in the middle": "MATCH (n:GSoft) FOREACH (x IN [1] | SET n.size = 0) RETURN n",
    "in a subquery": "CALL { CREATE (n:GBad) RETURN n } RETURN n",
    "in a unit subquery": "MATCH (n:GSoft) CALL (n) { SET n.size = 0 } RETURN n",
    "in a nested subquery": "CALL { CALL { MERGE (n:GBad) RETURN n } RETURN n } RETURN count(n)",
    "in COLLECT": "RETURN COLLECT { CREATE (n:GBad) RETURN n }",
    "in EXISTS": "MATCH (n) WHERE EXISTS { MERGE (m:GBad) } RETURN n",
    "in COUNT": "RETURN COUNT { MATCH (n:GSoft) SET n.size = 0 RETURN n }",
    "in transactions": "MATCH (n:GSoft) CALL (n) { SET n.size = 0 } IN TRANSACTIONS OF 1 ROWS",
    "reading in transactions": "CALL () { MATCH (n) RETURN n } IN TRANSACTIONS RETURN n",
    "in a union": "MATCH (n) RETURN n.id AS x UNION CREATE (n:GBad) RETURN n.id AS x",
    "never reached": "MATCH (n:GSoft) WHERE false SET n.size = 0 RETURN n",
    "after a comment": "// a question\nMATCH (n:GSoft) /* only */ SET/**/n.size = 0 RETURN n",
    "after a comment with a quote": "/* ' */ CREATE (:GBad) // '",
    "after a comment that ends with a carriage return": "MATCH (n:GSoft) // x\rSET n.size = 0 RETURN n",
    "with escapes": "\\u0043REATE (:GBad)",
    "with escapes in a quote": "RETURN '\\u0027 CREATE (:GBad) //'",
    "second statement": "RETURN 1; CREATE (:GBad)",
    "second statement after a comment": "RETURN 1 //;\n; MATCH (n) DETACH DELETE n;",
    "index": "CREATE INDEX g_bad FOR (n:GSoft) ON (n.bad)",
    "drop index": "DROP INDEX g_size",
    "constraint": "CREATE CONSTRAINT g_bad FOR (n:GHost) REQUIRE n.id IS UNIQUE",
    "drop constraint": "DROP CONSTRAINT g_id",
    "create user": "CREATE USER eve SET PASSWORD 'abcdefgh'",
    "alter user": "ALTER USER neo4j SET PASSWORD 'abcdefgh'",
    "alter own password": "ALTER CURRENT USER SET PASSWORD FROM 'a' TO 'abcdefgh'",
    "drop user": "DROP USER neo4j",
    "create database": "CREATE DATABASE eve",
    "terminate": "TERMINATE TRANSACTIONS 'neo4j-transaction-1'",
    "system database": "USE system CREATE USER eve SET PASSWORD 'abcdefgh'",
    "system database within": "CALL { USE system SHOW USERS } RETURN 1",
    "graph by name": "CALL { USE graph.byName('system') MATCH (n) RETURN n } RETURN n",
    "profile": "PROFILE MATCH (n:GSoft) SET n.size = 0 RETURN n",
    "profile after explain": "EXPLAIN PROFILE CREATE (:GBad)",
    "explain": "EXPLAIN CREATE (:GBad)",
    "options": "CYPHER runtime=slotted CREATE (:GBad)",
    "options after a comment": "/**/CYPHER 5 CREATE (:GBad)",
}
CALLS = {
    "LOAD CSV": "LOAD CSV FROM '{url}' AS l RETURN l",
    "LOAD CSV with headers": "LOAD CSV WITH HEADERS FROM '{url}' AS l RETURN l",
    "LOAD CSV with data": "MATCH (n:GSoft) LOAD CSV FROM '{url}?' + n.name AS l RETURN l",
    "LOAD CSV of a file": "LOAD CSV FROM 'file:///secret.csv' AS l RETURN l",
    "LOAD CSV in a subquery": "MATCH (n:GSoft) CALL (n) { LOAD CSV FROM '{url}' AS l RETURN l } RETURN l",
    "LOAD CSV that a plan hides": "RETURN [x IN [1] | COLLECT { LOAD CSV FROM '{url}' AS l RETURN l }] AS x",
    "LOAD CSV with a comment": "RETURN [x IN [1] | COLLECT { LOAD/**/\nCsv FROM '{url}' AS l RETURN l }]",
    "LOAD CSV after a quoted name": (
        "WITH 1 AS `'` RETURN [x IN [1] | COLLECT { LOAD CSV FROM '{url}' AS l RETURN l }]"
    ),
    "LOAD CSV after an escaped quote": (
        "RETURN '\\'', [x IN [1] | COLLECT { LOAD CSV FROM '{url}' AS l RETURN l }], '\\''"
    ),
    "LOAD CSV after a doubled backtick": (
        "WITH 1 AS `a``'` RETURN [x IN [1] | COLLECT { LOAD CSV FROM '{url}' AS l RETURN l }]"
    ),
    "procedure": "CALL db.labels()",
    "procedure without brackets": "CALL db.labels",
    "procedure with result": "CALL db.labels() YIELD label RETURN label",
    "procedure that a plan hides": "RETURN [x IN [1] | COLLECT { CALL db.info() YIELD id RETURN id }]",
    "procedure between backticks": "RETURN [x IN [1] | EXISTS { CALL `db`.`info`() YIELD id RETURN id }]",
    "procedure after a comment": "CALL /* */ dbms . // x\n components()",
    "optional procedure": "OPTIONAL CALL db.labels() YIELD label RETURN label",
    "procedure that writes": "CALL db.createLabel('GBad')",
    "procedure of a plugin": "CALL apoc.cypher.doIt('CREATE (:GBad)', {}) YIELD value RETURN value",
    "function of a plugin": "RETURN apoc.load.json('{url}')",
    "function between backticks": "RETURN `genai`.`vector`.`encode`('x', 'OpenAI', {})",
    "function with a comment": "RETURN apoc/**/.util // x\n.sleep (1)",
    "function in one quoted name": "RETURN `apoc.util.sleep`(1)",
    "function after a range": "MATCH p = (n)-[*]-() RETURN nodes(p)[0..apoc.util.sleep(1)]",
    "users": "SHOW USERS",
    "transactions": "SHOW TRANSACTIONS",
    "settings": "SHOW SETTINGS",
    "settings with result": "SHOW SETTINGS YIELD name, value RETURN value",
    "procedures": "SHOW PROCEDURES",
    "databases": "SHOW DATABASES",
}
LONG_WORK = {
    "endless": f"{EVER} RETURN count(*)",
    "endless that sorts": f"{EVER} RETURN a + b AS x ORDER BY x DESC",
    "endless distinct": f"{EVER} RETURN DISTINCT a, b, c SKIP 999999999",
    "endless without result": f"{EVER} WITH a WHERE a < 0 RETURN a",
    "endless range": "UNWIND range(1, 1000000000) AS a UNWIND range(1, 1000000000) AS b RETURN count(*)",
    "endless subquery": f"CALL {{ {EVER} RETURN count(*) AS n }} RETURN n",
    "collected": f"{EVER} RETURN collect(a)",
    "collected texts": f"{EVER} RETURN size(collect(toString(a) + '-' + toString(b)))",
    "all paths of any length": "MATCH (n), (m) MATCH (n)-[*0..]-()-[*0..]-()-[*0..]-()-[*0..]-(m) " * 3
    + "RETURN count(*)",
    "cross product": "MATCH (a), (b), (c), (d), (e), (f), (g), (h), (i), (j), (k), (l) RETURN count(*)",
    "nested lists": "WITH range(1, 1000) AS l RETURN any(a IN l WHERE any(b IN l WHERE a + b < 0))",
    "nested lists of many": "RETURN [a IN range(1, 1000) | [b IN range(1, 1000) | b]]",
    "lists of lists": "RETURN [a IN range(1, 1000) | range(1, 1000)]",
    "long list": "RETURN [x IN range(1, 100000000) | x]",
    "long range": "RETURN range(1, 100000000)",
    "long range between backticks": "RETURN size(`range`(1, 100000000))",
    "range of a property": "MATCH (n:GSoft) RETURN range(1, n.size * 1000000000)",
    "reduce": "RETURN reduce(s = 0, i IN range(1, 100000000000) | s + i)",
    "doubling reduce": "RETURN reduce(s = 'x', i IN range(1, 33) | s + s)",
    "doubling WITH": "WITH 'x' AS s " + "WITH s + s AS s " * 35 + "RETURN s",
    "doubling with bars": "WITH 'x' AS s " + "WITH s || s AS s " * 35 + "RETURN s",
    "replace": f"WITH replace('{'a' * 9000}', '', '{'b' * 9000}') AS s RETURN replace(s, 'b', s)",
    "regular expression": f"RETURN '{'a' * 60}' =~ '(a|aa)+b'",
    "regular expression behind a literal bracket": f"RETURN '{'a' * 60}' =~ '\\\\Q[\\\\E(a|aa)+b]'",
    "regular expression of questions": f"RETURN '{'a' * 33}' =~ '{'a?' * 33}{'a' * 33}'",
    "regular expression of choices": f"RETURN '{'a' * 60}' =~ '{'(a|a)' * 60}b'",
    "regular expression of parts": f"RETURN '{'a' * 60}' =~ '(a|aa)' + '+b'",
    "regular expression in a property": "MATCH (n:GSoft) RETURN n.name =~ n.name",
    "deep brackets": "RETURN " + "(" * 9000 + "1" + ")" * 9000,
    "deep lists": "RETURN " + "[" * 9000 + "1" + "]" * 9000,
    "too long": "RETURN " + "(" * 10_000 + "1" + ")" * 10_000,
    "many nots": "RETURN " + "NOT " * 4000 + "true",
    "many cases": "RETURN " + "CASE WHEN true THEN " * 600 + "1" + " END" * 600,
    "many xors": "MATCH (n) WHERE " + " XOR ".join(f"n.a{i} = 1" for i in range(30)) + " RETURN n",
    "many steps": "MATCH (a)" + "-->()" * 1500 + " RETURN count(*)",
    "many patterns": "MATCH "
    + ", ".join(f"(a{i})-->(a{j})" for i in range(8) for j in range(i))
    + " RETURN 1",
    "many words": "RETURN 1" + " - 1" * 5000,
    "many unions": "RETURN 1 AS x" + " UNION RETURN 1 AS x" * 300,
    "huge list of maps": "UNWIND range(1, 1000) AS a UNWIND range(1, 500) AS b RETURN collect({})",
    "huge list of dates": "UNWIND range(1, 1000) AS a UNWIND range(1, 999) AS b RETURN collect(date())",
    "huge rows": f"UNWIND range(1, 1000) AS a RETURN '{'x' * 19_000}' + a",
    "huge list of texts": f"RETURN [x IN range(1, 1000) | '{'x' * 19_000}']",
    "huge map": f"WITH [x IN range(1, 1000) | '{'x' * 9_000}'] AS l RETURN {{a: l, b: l}} AS m",
}


@pytest.mark.parametrize("name", WRITES)
async def test_no_write_or_command_is_run(driver: neo4j.AsyncDriver, name: str) -> None:
    before = await state(driver)

    start = time.monotonic()
    with pytest.raises(InvalidRequest):
        await ask(driver, DATABASE, WRITES[name], 10)

    assert time.monotonic() - start < LIMIT_SECONDS
    assert await state(driver) == before


@pytest.mark.parametrize("name", CALLS)
async def test_nothing_outside_the_graph_is_reached(
    driver: neo4j.AsyncDriver, listener: socket.socket, name: str
) -> None:
    query = CALLS[name].replace("{url}", f"http://127.0.0.1:{listener.getsockname()[1]}/x.csv")
    before = await state(driver)

    with pytest.raises(InvalidRequest):
        await ask(driver, DATABASE, query, 10)

    assert not called(listener)
    assert await state(driver) == before


async def test_the_same_query_without_a_guard_calls_out_in_read_mode(
    driver: neo4j.AsyncDriver, listener: socket.socket
) -> None:
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/x.csv"
    query = CALLS["LOAD CSV that a plan hides"].replace("{url}", url)

    async def send() -> None:
        session = driver.session(database=DATABASE, default_access_mode="READ")
        try:
            await (await session.run(query)).consume()
        finally:
            session.cancel()
            await session.close()

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        with anyio.fail_after(10):
            while not called(listener):
                await anyio.wait_readable(listener)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("name", LONG_WORK)
async def test_heavy_queries_end_in_time_and_memory(driver: neo4j.AsyncDriver, name: str) -> None:
    await ask(driver, DATABASE, "RETURN 1", 1)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()

    with contextlib.suppress(InvalidRequest):  # a short answer is as good
        assert len((await ask(driver, DATABASE, LONG_WORK[name], 10)).rows) <= 10

    assert time.monotonic() - start < LIMIT_SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH
    assert await until_running(driver, LONG_WORK[name][:60], False, 5) < 5


async def test_a_query_whose_asker_goes_away_ends_on_the_server(driver: neo4j.AsyncDriver) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(ask, driver, DATABASE, f"{EVER} RETURN count(*) AS gone", 10)
        await until_running(driver, "AS gone", True, 5)
        group.cancel_scope.cancel()

    assert await until_running(driver, "AS gone", False, 5) < 1


async def test_a_query_over_our_own_deadline_ends_on_the_server(
    driver: neo4j.AsyncDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "SECONDS", 1.0)

    with pytest.raises(InvalidRequest, match="longer than 1 s"):
        await ask(driver, DATABASE, f"{EVER} RETURN count(*) AS late", 10)

    assert await until_running(driver, "AS late", False, 5) < 1


async def test_the_driver_serves_the_next_question_after_each_kind_of_end(driver: neo4j.AsyncDriver) -> None:
    for name in ("huge list of texts", "endless", "deep brackets"):
        with pytest.raises(InvalidRequest):
            await ask(driver, DATABASE, LONG_WORK[name], 10)
        assert (await ask(driver, DATABASE, "RETURN 1 AS x", 10)).rows == [(1,)]


HONEST: dict[str, tuple[str, list[tuple[Any, ...]]]] = {
    "match": ("MATCH (n:GSoft) RETURN n.name ORDER BY n.name", [("libc6",), ("nginx",), ("openssl",)]),
    "semicolon": ("MATCH (n:GSoft {name: 'nginx'}) RETURN n.size;\n", [(1000,)]),
    "comments": ("// sizes\nMATCH (n:GSoft) /* all ; */ RETURN sum(n.size) // of all", [(6000,)]),
    "aggregation": ("MATCH (n:GSoft) RETURN count(*), max(n.size), avg(n.size)", [(3, 3000, 2000.0)]),
    "grouping": (
        "MATCH (n:GSoft)-[:GON]->(h:GHost) RETURN h.name, count(n) AS many ORDER BY many DESC",
        [("db-1", 3)],
    ),
    "optional": (
        "MATCH (n:GSoft) OPTIONAL MATCH (n)-[:GNEEDS]->(m) RETURN n.id, m.id ORDER BY n.id",
        [("s1", "s2"), ("s2", "s3"), ("s3", None)],
    ),
    "paths": (
        "MATCH p = (:GSoft {id: 's1'})-[:GNEEDS*1..3]->(m) RETURN length(p), m.id",
        [(1, "s2"), (2, "s3")],
    ),
    "quantified path": (
        "MATCH (a:GSoft {id: 's1'})-[:GNEEDS]->+(m) RETURN m.id ORDER BY m.id",
        [("s2",), ("s3",)],
    ),
    "shortestPath": (
        "MATCH p = shortestPath((a:GSoft {id: 's1'})-[:GNEEDS*]->(b:GSoft {id: 's3'})) RETURN length(p)",
        [(2,)],
    ),
    "SHORTEST": (
        "MATCH p = SHORTEST 1 (a:GSoft {id: 's1'})-[:GNEEDS]->+(b:GSoft {id: 's3'}) RETURN length(p)",
        [(2,)],
    ),
    "subquery": (
        "MATCH (h:GHost) CALL (h) { MATCH (h)<-[:GON]-(n) RETURN count(n) AS many } RETURN h.name, many",
        [("db-1", 3)],
    ),
    "union": (
        "MATCH (n:GHost) RETURN n.id AS id UNION MATCH (n:GSoft) WHERE n.size > 2500 RETURN n.id AS id",
        [("h1",), ("s3",)],
    ),
    "order, skip, limit": ("MATCH (n:GSoft) WITH n ORDER BY n.size SKIP 1 LIMIT 1 RETURN n.id", [("s2",)]),
    "list comprehension": (
        "MATCH (n:GSoft {id: 's1'}) RETURN [t IN n.tags WHERE t STARTS WITH 'w' | toUpper(t)]",
        [(["WEB"],)],
    ),
    "lists of a path": (
        "MATCH p = (:GSoft {id: 's1'})-[:GNEEDS*2]->() "
        "RETURN [n IN nodes(p) WHERE any(l IN labels(n) WHERE l = 'GSoft') | n.id]",
        [(["s1", "s2", "s3"],)],
    ),
    "pattern comprehension": (
        "MATCH (n:GSoft {id: 's1'}) RETURN [(n)-[:GNEEDS]->(m) | m.name]",
        [(["openssl"],)],
    ),
    "range of a size": (
        "WITH ['a', 'b'] AS l UNWIND range(0, size(l) - 1) AS i RETURN i, l[i]",
        [(0, "a"), (1, "b")],
    ),
    "EXISTS": ("MATCH (n:GSoft) WHERE NOT EXISTS { (n)-[:GNEEDS]->() } RETURN n.id", [("s3",)]),
    "COUNT and COLLECT": (
        "MATCH (h:GHost) RETURN COUNT { (h)<--() }, COLLECT { MATCH (h)<--(n) RETURN n.id ORDER BY n.id }",
        [(3, ["s1", "s2", "s3"])],
    ),
    "hidden subquery that reads": (
        "MATCH (h:GHost) RETURN [x IN [1] | COLLECT { MATCH (h)<--(n) RETURN n.id ORDER BY n.id }]",
        [([["s1", "s2", "s3"]],)],
    ),
    "dates": (
        "MATCH (h:GHost) RETURN date.truncate('month', h.seen), "
        "duration.between(date('2026-11-01'), date(h.seen)), "
        "h.seen < datetime() + duration('P99999D'), duration.inDays(h.seen, h.seen).days",
        [("2026-11-01", "P19D", True, 0)],
    ),
    "CASE": (
        "MATCH (n:GSoft {id: 's1'}) RETURN CASE WHEN n.size > 5 THEN 'big' ELSE 'small' END",
        [("big",)],
    ),
    "regular expression": ("MATCH (n:GSoft) WHERE n.name =~ '(?i).*SSL.*' RETURN n.id", [("s2",)]),
    "regular expression with escapes": ("RETURN '1.2' =~ '\\\\d\\\\.[0-9]+' AS x", [(True,)]),
    "words in quotes": (
        "RETURN 'SET (n); LOAD CSV apoc.x()' AS `CALL db.labels()`",
        [("SET (n); LOAD CSV apoc.x()",)],
    ),
    "words as names": (
        "MATCH (n:GSoft {id: 's1'}) RETURN n.call AS set, {load: 1, use: 2} AS m",
        [(None, {"load": 1, "use": 2})],
    ),
    "seek": ("MATCH (n:GSoft {id: 's1'}) RETURN n.name", [("nginx",)]),
    "seeks": (
        "MATCH (n:GSoft) WHERE n.id IN ['s1', 's2'] RETURN n.name ORDER BY n.id",
        [("nginx",), ("openssl",)],
    ),
    "range seek": ("MATCH (n:GSoft) WHERE n.size > 1500 AND n.size < 2500 RETURN n.id", [("s2",)]),
    "text index": ("MATCH (n:GSoft) WHERE n.name CONTAINS 'ssl' RETURN n.id", [("s2",)]),
    "text index at the end": ("MATCH (n:GSoft) WHERE n.name ENDS WITH 'c6' RETURN n.id", [("s3",)]),
    "relationship index": ("MATCH ()-[r:GON]->() WHERE r.since > 2 RETURN r.since", [(3,)]),
    "relationship index, any way": ("MATCH (n)-[r:GON]-(m) WHERE r.since = 2 RETURN count(*)", [(2,)]),
    "by element id": (
        "MATCH (n:GSoft {id: 's1'}) MATCH (m) WHERE elementId(m) = elementId(n) RETURN m.id",
        [("s1",)],
    ),
    "by id": ("MATCH (n) WHERE id(n) = -1 RETURN n", []),
    "types": (
        "MATCH ()-[r:GON|GNEEDS]->() RETURN type(r), count(*) ORDER BY type(r)",
        [("GNEEDS", 2), ("GON", 3)],
    ),
    "labels": ("MATCH (n:GSoft|GHost) RETURN count(n)", [(4,)]),
    "counts": ("MATCH (n:GSoft) RETURN count(n)", [(3,)]),
    "relationship counts": ("MATCH (:GSoft)-[r:GON]->() RETURN count(r)", [(3,)]),
    "triangle": (
        "MATCH (a:GSoft)-[:GON]->(h)<-[:GON]-(b:GSoft) WHERE NOT (a)-[:GNEEDS]->(b) AND a.id < b.id "
        "RETURN a.id, b.id",
        [("s1", "s3")],
    ),
    "or of patterns": (
        "MATCH (n:GSoft) WHERE (n)-[:GNEEDS]->(:GSoft {id: 's3'}) OR NOT (n)-[:GNEEDS]->() "
        "RETURN n.id ORDER BY n.id",
        [("s2",), ("s3",)],
    ),
    "join on a value": (
        "MATCH (a:GSoft), (b:GSoft) WHERE a.size * 2 = b.size RETURN a.id, b.id",
        [("s1", "s2")],
    ),
    "distinct": ("MATCH (n:GSoft)-->(h:GHost) RETURN DISTINCT h.id", [("h1",)]),
    "percentile": ("MATCH (n:GSoft) RETURN percentileDisc(n.size, 0.5)", [(2000,)]),
    "map projection": (
        "MATCH (n:GSoft {id: 's1'}) RETURN n {.name, host: [(n)-[:GON]->(h) | h.id][0]}",
        [({"name": "nginx", "host": "h1"},)],
    ),
}


@pytest.mark.parametrize("name", HONEST)
async def test_questions_are_answered(driver: neo4j.AsyncDriver, name: str) -> None:
    query, expected = HONEST[name]

    answer = await ask(driver, DATABASE, query, 100)

    assert answer.rows == expected
    assert not answer.cut


async def test_values_become_plain_ones(driver: neo4j.AsyncDriver) -> None:
    answer = await ask(
        driver,
        DATABASE,
        "MATCH p = (n:GSoft {id: 's2'})-[r:GON]->(h) RETURN n, r, p, 1.0 / 0 AS inf, 0.0 / 0 AS nan, "
        "9007199254740993 AS big, null AS nothing, true AS yes, date('2026-01-02') AS day, "
        "time('10:00Z') AS t, localdatetime('2026-01-02T03:04:05') AS local, duration('P1DT2S') AS d, "
        "point({x: 1, y: 2}) AS place, {a: [1, {b: 2}]} AS map",
        10,
    )

    node = {"_labels": ["GSoft"], "id": "s2", "name": "openssl", "size": 2000, "raw": "<2 bytes>"}
    host = {"_labels": ["GHost"], "id": "h1", "name": "db-1", "seen": "2026-11-20T08:00:00.000000000+00:00"}
    edge = {"_type": "GON", "since": 2}
    assert dict(zip(answer.columns, answer.rows[0], strict=True)) == {
        "n": node,
        "r": edge,
        "p": [node, edge, host],
        "inf": "inf",
        "nan": "nan",
        "big": 9007199254740993,
        "nothing": None,
        "yes": True,
        "day": "2026-01-02",
        "t": "10:00:00.000000000+00:00",
        "local": "2026-01-02T03:04:05.000000000",
        "d": "P1DT2S",
        "place": "SRID=7203;POINT(1.0 2.0)",
        "map": {"a": [1, {"b": 2}]},
    }


async def test_rows_over_the_limit_are_said(driver: neo4j.AsyncDriver) -> None:
    exact = await ask(driver, DATABASE, "UNWIND range(1, 5) AS x RETURN x", 5)
    more = await ask(driver, DATABASE, "UNWIND range(1, 900) AS x RETURN x", 5)

    assert exact == Rows(("x",), [(1,), (2,), (3,), (4,), (5,)], cut=False)
    assert more == Rows(("x",), [(1,), (2,), (3,), (4,), (5,)], cut=True)


async def test_long_texts_and_lists_are_shortened_and_said(driver: neo4j.AsyncDriver) -> None:
    text = await ask(driver, DATABASE, "MATCH (n:GSoft {id: 's3'}) RETURN n.long", 5)
    numbers = await ask(driver, DATABASE, "UNWIND range(0, 1000) AS x RETURN collect(x) AS l", 5)
    rows = await ask(driver, DATABASE, f"UNWIND range(1, 90) AS x RETURN '{'y' * 1000}'", 100)

    assert text.cut and len(text.rows[0][0].encode()) <= guard.ANSWER_BYTES
    assert text.rows[0][0].startswith("ééé") and text.rows[0][0].endswith("[cut]")
    assert numbers.cut and numbers.rows == [(list(range(1000)),)]
    assert rows.cut and 50 < len(rows.rows) < 70 and set(rows.rows) == {("y" * 1000,)}


async def test_what_arrived_before_an_answer_grew_too_large_is_kept(driver: neo4j.AsyncDriver) -> None:
    query = f"UNWIND [[1], range(1, 1000)] AS n RETURN [x IN n | '{'z' * 100}'] AS l"

    answer = await ask(driver, DATABASE, query, 10)

    assert answer == Rows(("l",), [(["z" * 100],)], cut=True)


async def test_names_that_the_database_does_not_know_are_said_when_nothing_is_found(
    driver: neo4j.AsyncDriver,
) -> None:
    invented = await ask(
        driver, DATABASE, "MATCH (n:GPackage)-[:GUSES]->() WHERE n.made_up = 1 RETURN n.size", 5
    )
    known = await ask(driver, DATABASE, "MATCH (n:GSoft) WHERE n.size < 0 RETURN n", 5)

    assert len(invented.notes) == 2
    assert {name for note in invented.notes for name in ("GPackage", "GUSES", "made_up") if name in note}
    assert known == Rows(("n",), [], cut=False, notes=())


SAID = {
    "CREATE (n)": "begins with MATCH",
    "MATCH (n) SET n.x = 1": "set property",
    "MATCH (n) DETACH DELETE n": "delete",
    "LOAD CSV FROM 'file:///x' AS l RETURN l": "begins with MATCH",
    "MATCH (n) LOAD CSV FROM n.x AS l RETURN l": "LOAD CSV would read",
    "CALL db.labels()": "procedures such as db.labels are not called",
    "CALL () { MATCH (n) RETURN n } IN TRANSACTIONS RETURN n": "IN TRANSACTIONS",
    "RETURN apoc.text.join([], '')": "not apoc.text.join",
    "RETURN 1; RETURN 2": "one statement",
    "RETURN '\\u0041'": "without .u escapes",
    "RETURN 'a": "not closed",
    "RETURN 1 /* a": "not closed",
    "RETURN $x": "no parameters",
    "RETURN nothing": "Variable `nothing` not defined; an empty query",
    "MATCH (n RETURN n": "the Cypher is wrong",
    "RETURN date('+99999-01-01')": "toString",
    "": "at most 20000 characters",
    "RETURN range(1, 1000000)": "range.. takes numbers up to 1000",
    "MATCH (n) WHERE n.name =~ '(a+)+' RETURN n": "CONTAINS",
    "MATCH (näme) RETURN 1": "between backticks",
}


@pytest.mark.parametrize("query", SAID)
async def test_a_refusal_says_what_it_refuses(driver: neo4j.AsyncDriver, query: str) -> None:
    with pytest.raises(InvalidRequest, match=SAID[query]):
        await ask(driver, DATABASE, query, 10)


async def test_a_server_that_is_not_there_is_no_fault_of_the_query() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with neo4j.AsyncGraphDatabase.driver(f"bolt://127.0.0.1:{port}", auth=("a", "b")) as driver:
        with pytest.raises(neo4j.exceptions.DriverError):
            await ask(driver, DATABASE, "RETURN 1", 10)


async def test_a_database_that_is_not_there_is_no_fault_of_the_query(driver: neo4j.AsyncDriver) -> None:
    with pytest.raises(neo4j.exceptions.Neo4jError, match="DatabaseNotFound"):
        await ask(driver, "missing", "RETURN 1", 10)


ODD = {
    "quotes": "'\\" * 9000,
    "escapes": "\\'" * 9000,
    "backticks": "`" * 19_900,
    "comments": "/*" * 9000,
    "lists": "[x in " * 3000,
    "dots": "a.b" * 6000,
    "dotted words": "a." * 700 + "b",
    "one word": "a" * 19_900 + " (",
    "one quoted word": "`" + "a" * 19_900 + "` (",
    "pattern": f"x =~ '{'[' * 19_900}'",
}


@pytest.mark.parametrize("name", ODD)
async def test_odd_texts_are_screened_quickly(name: str) -> None:
    start = time.process_time()

    with contextlib.suppress(InvalidRequest):
        screen(f"RETURN {ODD[name]}")

    assert time.process_time() - start < 1


async def test_importing_the_guard_imports_no_driver(tmp_path: Path) -> None:
    code = "import sys, watchman_mcp.store.neo4j.guard; sys.exit('neo4j' in sys.modules)"

    with anyio.fail_after(20):
        done = await anyio.run_process([sys.executable, "-c", code], cwd=tmp_path, check=False)

    assert done.returncode == 0
