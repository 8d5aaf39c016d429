"""A real daemon that mirrors to a real Neo4j, while each of them is killed again and again."""

import json
import random
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.history import lay_out
from tests.fleet import assert_equal
from tests.real.clients import FULL, SEED
from tests.real.homes import Home
from tests.rigs import neo4j as rig
from tests.rigs.clients import until
from tests.rigs.neo4j import Server
from watchman_mcp.store import outbox
from watchman_mcp.store.sqlite import Store

pytestmark = pytest.mark.real
CHANGES, DAEMON_KILLS, SERVER_KILLS = (100_000, 5, 6) if FULL else (3_000, 2, 0)
HELD = """
[neo4j]
uri = "{uri}"
password_file = "{secret}"
"""
QUIET = """
[features]
resource_monitoring = false
"""
"""Without samples the graph comes to rest, so that both sides of it can be compared."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with rig.serving() as running:
        yield running


def home_of(path: Path, server: Server, settings: str) -> Home:
    """A home whose Watchman sends to a server."""
    home = Home(path)
    secret = path / "secret"
    secret.write_text(f"{server.password}\n")
    secret.chmod(0o600)
    home.configure(HELD.format(uri=server.uri, secret=secret) + settings)
    return home


@pytest.fixture
def homes() -> Iterator[list[Home]]:
    """Homes whose daemons end with the test, however it ends."""
    made: list[Home] = []
    yield made
    for home in made:
        home.finish()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with a long history of packages."""
    lay_out(tmp_path / "root", CHANGES)
    (tmp_path / "root/etc/machine-id").write_text(f"{random.getrandbits(128):032x}\n")
    (tmp_path / "root/etc/hostname").write_text("old-box\n")
    return tmp_path / "root"


@pytest.fixture
def home(tmp_path: Path, server: Server, root: Path) -> Iterator[Home]:
    one = home_of(tmp_path / "home", server, f'{QUIET}\n[host]\nroot = "{root}"\n')
    yield one
    one.finish()


def ingested(home: Home) -> bool:
    return home.rows("SELECT count(*) FROM Event WHERE type GLOB 'package_*'")[0][0] == CHANGES


def at_rest(home: Home, server: Server, seconds: float = 600) -> None:
    """Wait until Neo4j's mark is that of the store, and both stay so for a moment."""
    end, quiet = time.monotonic() + seconds, 0
    query = "MATCH (h:Host) WHERE h.mirror_seq IS NOT NULL RETURN max(h.mirror_seq) AS seq"
    with server.driver() as driver:
        while quiet < 5:
            assert time.monotonic() < end, (home.state / "daemon.log").read_text()[-2000:]
            (record,) = driver.execute_query(query).records
            [(seq,)] = home.rows("SELECT value FROM _meta WHERE key = 'seq'")
            quiet = quiet + 1 if record["seq"] == int(seq) else 0
            time.sleep(0.1)


def assert_same(home: Home, server: Server, place: Path) -> None:
    """End the daemon as the kernel would, and compare what it had kept with what it had sent."""
    home.kill()
    shutil.copytree(home.state, place, ignore=shutil.ignore_patterns("sock"))
    store = Store(place)
    host = outbox.host_of(store)
    assert host
    assert_equal(store, server, host)
    store.close()


@pytest.mark.soak
def test_what_was_read_while_neo4j_was_away_and_the_daemon_died_is_all_there(
    home: Home, server: Server, tmp_path: Path
) -> None:
    rig.wipe(server)
    server.kill()
    draw = random.Random(SEED)
    for _ in range(DAEMON_KILLS):
        home.serve()
        time.sleep(draw.uniform(0, CHANGES / 15_000))
        home.kill()
    home.serve()
    until(lambda: ingested(home), 300)

    server.start()
    at_rest(home, server)

    assert_same(home, server, tmp_path / "kept")


@pytest.mark.soak
@pytest.mark.skipif(not FULL, reason="takes half a minute: make soak runs it")
def test_a_server_killed_while_it_is_sent_to_and_put_back_to_an_older_state_has_all(
    home: Home, root: Path, server: Server, tmp_path: Path
) -> None:
    rig.wipe(server)
    home.serve()
    draw = random.Random(SEED)
    for number in range(SERVER_KILLS):
        time.sleep(draw.uniform(0.2, CHANGES / 25_000))
        server.kill()
        if number == SERVER_KILLS // 2:
            server.copy_data(tmp_path / "older")
        server.start()
    until(lambda: ingested(home), 300)
    at_rest(home, server)

    server.stop()
    server.put_data(tmp_path / "older")
    server.start()
    (root / "var/lib/dpkg/status").touch()  # or the daemon hears of it at its next beat
    at_rest(home, server)

    assert_same(home, server, tmp_path / "kept")


def test_the_designs_own_cypher_tells_of_this_machine_what_query_packages_tells(
    server: Server, homes: list[Home], tmp_path: Path
) -> None:
    rig.wipe(server)
    home = home_of(tmp_path / "home", server, QUIET)
    homes.append(home)
    home.serve()
    client = home.client()
    client.scan()
    at_rest(home, server)
    keys = [row[0] for row in home.rows("SELECT DISTINCT key FROM Software ORDER BY key")]
    told = {row[0] for row in home.rows("SELECT DISTINCT subject FROM Event WHERE type = 'package_install'")}
    draw, logged = random.Random(SEED), sorted(set(keys) & told)
    asked = draw.sample(logged, min(25, len(logged)))
    asked += draw.sample([key for key in keys if key not in asked], 50 - len(asked))
    compared = 0
    query = (
        'MATCH (e:Event {type: "package_install"})-[:ACTED_ON]->(s:Software {key: $name}) '
        "RETURN e.version AS version, e.manager AS manager, e.transaction_id AS run"
    )

    with server.driver() as driver:
        for name in asked:
            theirs = [tuple(r) for r in driver.execute_query(query, name=name).records]
            ours = [
                (change.get("version"), run.get("manager"))
                for run in client.pages("query_packages", name=name, action="install")
                for change in run["changes"]
                if change["action"] == "install" and run.get("source") != "files"
            ]
            assert sorted(ours) == sorted(row[:2] for row in theirs), name
            compared += len(theirs)
    assert compared >= len(told & set(asked)) > 0, "no log of this machine tells of an installation"


def test_a_change_is_in_neo4j_within_a_second_of_being_in_the_store(
    server: Server, tmp_path: Path, root: Path, home: Home
) -> None:
    rig.wipe(server)
    home.serve()
    until(lambda: ingested(home), 300)
    at_rest(home, server)
    status = root / "var/lib/dpkg/status"
    added = "Package: brand-new\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n\n"

    with server.driver() as driver:
        status.write_text(status.read_text() + added)
        until(lambda: home.rows("SELECT 1 FROM Software WHERE key = 'brand-new'"), 30)
        began = time.monotonic()
        until(lambda: driver.execute_query("MATCH (s:Software {key: 'brand-new'}) RETURN s").records, 10)
        print(f"\nin Neo4j {time.monotonic() - began:.2f} s after the store")


START = "import sys; from watchman_mcp.cli import main; sys.exit(main(sys.argv[1:]))"
IMPORTS = (sys.executable, "-X", "importtime", "-c", START)
"""A Watchman that lists on stderr every module that it imports."""


@pytest.mark.parametrize("configured", [False, True])
def test_the_driver_is_imported_where_neo4j_is_configured_only(
    server: Server, homes: list[Home], tmp_path: Path, configured: bool
) -> None:
    home = home_of(tmp_path / "home", server, QUIET) if configured else Home(tmp_path / "home")
    homes.append(home)
    home.serve(program=IMPORTS)
    client = home.client()
    client.call("overview")
    client.call("query_graph")
    tools = client.request("tools/list")["result"]["tools"]

    arguments = {name for tool in tools for name in tool["inputSchema"].get("properties", {})}
    if configured:
        until(lambda: "neo4j.exceptions" in (home.path / "serve.err").read_text())
    imported = (home.path / "serve.err").read_text()

    assert "watchman_mcp.server" in imported
    assert ("neo4j" in imported) == configured
    assert bool({"host", "older_than", "compare_with"} & arguments) == configured


def test_the_fleet_is_prepared_and_listed_from_the_command_line(
    server: Server, homes: list[Home], tmp_path: Path
) -> None:
    rig.wipe(server)
    home = home_of(tmp_path / "home", server, QUIET + '[host]\nname = "web\\u001b[31m1"\n')
    unset = Home(tmp_path / "unset")
    homes += [home, unset]

    refused = unset.run("hosts")
    prepared = home.run("setup", "neo4j")
    home.serve()
    at_rest(home, server)
    listed = home.run("hosts")
    again = home.run("setup", "neo4j")

    assert refused.returncode == 1
    assert "no Neo4j is configured" in refused.stderr and "password_file" in refused.stderr
    assert prepared.stdout.startswith(f"Neo4j at {server.uri} can be used")
    assert "It holds 0 machines, 0 nodes and 0 relationships." in prepared.stdout
    (machine,) = json.loads(listed.stdout)
    assert machine["name"].startswith("web") and "\x1b" not in listed.stdout
    assert machine["packages"] == home.rows("SELECT count(*) FROM Software WHERE gone_at IS NULL")[0][0]
    assert machine["heard"] > machine["heard"][:4]
    assert "It holds 1 machines" in again.stdout


def test_a_new_store_takes_the_place_of_a_lost_one_by_a_command(
    server: Server, homes: list[Home], tmp_path: Path
) -> None:
    rig.wipe(server)
    home = home_of(tmp_path / "home", server, QUIET)
    homes.append(home)
    home.serve()
    at_rest(home, server)
    home.stop()
    (home.state / "watchman.db").unlink()
    home.serve()
    client = home.client()
    refused = until(lambda: client.call("doctor", area="store").get("problems"), 30)
    overview = client.call("overview")

    replaced = home.run("setup", "neo4j", "--replace")
    until(lambda: not client.call("doctor", area="store").get("problems"), 90)
    at_rest(home, server)

    assert "another Watchman (" in refused[0] and "setup neo4j --replace" in refused[0]
    assert any("Neo4j is not up to date" in one for one in overview["problems"])
    assert "is sent anew by the Watchman of" in replaced.stdout
    assert_same(home, server, tmp_path / "kept")
