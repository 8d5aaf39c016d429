import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import neo4j
import pytest

from tests.rigs.installed import CHECKOUT
from tests.rigs.neo4j import VERSION, Server, ServerError, jars, serving, wipe

pytestmark = pytest.mark.real

ORPHAN = """
import os, sys
from pathlib import Path
from tests.rigs.installed import CHECKOUT
from tests.rigs.neo4j import Server
server = Server(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_the_server_answers_as_the_edition_and_version_asked_for(neo4j_server: Server) -> None:
    with neo4j_server.driver() as driver:
        [record] = driver.execute_query("CALL dbms.components() YIELD versions, edition").records

    assert (record["versions"], record["edition"]) == ([VERSION], "community")


def test_nobody_is_let_in_without_the_password(neo4j_server: Server) -> None:
    with (
        neo4j.GraphDatabase.driver(neo4j_server.uri, auth=(neo4j_server.user, "guessed")) as driver,
        pytest.raises(neo4j.exceptions.AuthError),
    ):
        driver.verify_connectivity()


def test_a_wiped_server_holds_no_nodes_constraints_and_indexes(neo4j_server: Server) -> None:
    with neo4j_server.driver() as driver:
        driver.execute_query("CREATE CONSTRAINT one FOR (n:Thing) REQUIRE n.id IS UNIQUE")
        driver.execute_query("CREATE INDEX two FOR (n:Thing) ON (n.size)")
        driver.execute_query("UNWIND range(1, 100) AS id CREATE (:Thing {id: id})-[:NEXT]->(:Other)")

        wipe(neo4j_server)

        assert _ask(driver, "MATCH (n) RETURN count(n)") == [0]
        assert _ask(driver, "SHOW CONSTRAINTS YIELD name") == []
        assert _ask(driver, "SHOW INDEXES YIELD type") == ["LOOKUP", "LOOKUP"]


@pytest.mark.soak
@pytest.mark.skipif(
    os.environ.get("WATCHMAN_TEST_SOAK") != "full", reason="starts three servers: make soak runs it"
)
def test_data_outlives_a_kill_and_an_older_state_can_be_put_back(tmp_path: Path) -> None:
    things = "MATCH (n:Thing) RETURN n.id ORDER BY n.id"
    with serving() as server, server.driver() as driver:
        driver.execute_query("CREATE (:Thing {id: 1})")
        with pytest.raises(ServerError, match="stop or kill the server first"):
            server.copy_data(tmp_path / "too-early")

        server.kill()
        assert server.pid is None
        server.copy_data(tmp_path / "copy")
        # the thread that starts it may end: the server stays
        starter = threading.Thread(target=server.start)
        starter.start()
        starter.join()
        assert _ask(driver, things) == [1]

        driver.execute_query("CREATE (:Thing {id: 2})")
        assert _ask(driver, things) == [1, 2]
        server.stop()
        server.put_data(tmp_path / "copy")
        server.start()
        assert _ask(driver, things) == [1]


def test_a_server_that_cannot_start_tells_the_end_of_its_log(tmp_path: Path) -> None:
    server = Server(tmp_path / "home", {"server.memory.pagecache.size": "plenty"})

    with pytest.raises(ServerError, match=r"(?s)ended with 1 while it started.*plenty"):
        server.start()

    assert server.pid is None


def test_a_server_dies_with_the_test_run_that_started_it(tmp_path: Path) -> None:
    jars()

    done = subprocess.run(
        [sys.executable, "-c", ORPHAN, tmp_path / "home"],
        cwd=CHECKOUT, capture_output=True, text=True, timeout=90,
    )  # fmt: skip

    assert done.stdout, done.stderr
    process = Path(f"/proc/{int(done.stdout)}/cmdline")
    deadline = time.monotonic() + 10
    while process.exists() and b"CommunityEntryPoint" in process.read_bytes():
        assert time.monotonic() < deadline, "the server lives on"
        time.sleep(0.05)


def _ask(driver: neo4j.Driver, query: str) -> list[object]:
    # without a bookmark: what was put back is older than what this driver saw, and would be waited for
    return [record[0] for record in driver.execute_query(query, bookmark_manager_=None).records]
