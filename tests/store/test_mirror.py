"""The graph in Neo4j after everything that can go wrong between a store and its server."""

import os
import random
import shutil
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from tests.fleet import assert_equal, followed, mirrored, new_host, settings_of
from tests.real.clients import FULL
from tests.rigs import cache
from tests.rigs import neo4j as rig
from tests.rigs.neo4j import Server
from watchman_mcp import retention
from watchman_mcp.schema.core import Event, Host
from watchman_mcp.schema.packages import Software
from watchman_mcp.schema.resources import DiskMetrics, SystemMetrics
from watchman_mcp.settings import Settings
from watchman_mcp.store import outbox
from watchman_mcp.store.batch import Batch, EdgeRow, EventRow, NodeRow
from watchman_mcp.store.neo4j import connection
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import table

pytestmark = pytest.mark.real
ONLY_SOAK = pytest.mark.skipif(not FULL, reason="takes half a minute: make soak runs it")
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def mortal() -> Iterator[Server]:
    """A server that these tests may kill and put back."""
    with rig.serving() as server:
        yield server


@pytest.fixture
def host() -> str:
    return new_host()


@pytest.fixture
def store(tmp_path: Path, host: str) -> Iterator[Store]:
    opened = opened_as(tmp_path / "state", host)
    yield opened
    opened.close()


def opened_as(directory: Path, host: str) -> Store:
    directory.mkdir(exist_ok=True)
    opened = Store(directory)
    values = dict(Host(machine=host, name=f"box-{host[:6]}").__dict__)
    opened.write(Batch(at=NOW, nodes=[NodeRow("Host", f"Host/{host}", values, "host")]))
    return opened


def package(number: int, version: str = "1.0") -> NodeRow:
    node = Software(key=f"p{number}", name=f"p{number}", version=version, manager="apt", architecture="amd64")
    return NodeRow("Software", node.node_id, dict(node.__dict__), "apt")


def event(number: int, acted_on: str, *, kind: str = "package_install", ts: datetime = NOW) -> EventRow:
    key = f"evt_{number:08d}"
    values = dict(Event(key=key, ts=ts, type=kind, source="apt", subject="p", fields=["a"]).__dict__)
    return EventRow(f"Event/{key}", values, "apt", acted_on)


def live(store: Store, first: int, looks: int = 10, rows: int = 40) -> None:
    """Some looks of a busy machine: packages that come, change, need one another and go, and what is told."""
    draw = random.Random(first)
    for look in range(first, first + looks):
        at = NOW + timedelta(minutes=look)
        nodes = [package(draw.randrange(200), f"{look}.{n}") for n in range(rows)]
        nodes = list({one.id: one for one in nodes}.values())
        for one in nodes[:3]:
            one.gone_at = at
        edges = [EdgeRow("DEPENDS_ON", a.id, b.id, "apt") for a, b in zip(nodes, nodes[1:], strict=False)]
        edges[0].gone_at = at
        events = [event(look * rows + n, one.id, ts=at) for n, one in enumerate(nodes)]
        disk = DiskMetrics(filesystem="/dev/vda", mount_point="/", timestamp=at, used_gb=look / 8)
        load = SystemMetrics(timestamp=at, cpu_percent=12.5, cpu_per_core=[1, 2.5])
        samples = [("DiskMetrics", dict(disk.__dict__)), ("SystemMetrics", dict(load.__dict__))]
        store.write(Batch(at=at, nodes=nodes, edges=edges, events=events, samples=samples))


def test_a_first_connection_gets_all_that_was_there_and_then_what_comes(
    store: Store, host: str, neo4j_server: Server
) -> None:
    live(store, 0, looks=60)

    with followed(store, settings_of(neo4j_server)) as follower:
        follower.settle()
        assert_equal(store, neo4j_server, host)
        live(store, 100)
        follower.settle()

    assert_equal(store, neo4j_server, host)


def test_retention_reaches_the_mirror_even_one_that_was_away(
    store: Store, host: str, neo4j_server: Server
) -> None:
    live(store, 0, looks=30)
    with followed(store, settings_of(neo4j_server)) as follower:
        follower.settle()
    vanished = [NodeRow(**{**vars_of(package(n)), "gone_at": NOW}) for n in range(300, 340)]
    for row in vanished:
        row.gone_at = None
    store.write(Batch(at=NOW, nodes=vanished))
    with followed(store, settings_of(neo4j_server)) as follower:
        follower.settle()
    for row in vanished:
        row.gone_at = NOW + timedelta(days=1)
    store.write(Batch(at=NOW, nodes=vanished, events=[event(10**7, vanished[0].id, kind="host_boot")]))

    retention.apply(store, Settings(), NOW + timedelta(days=30))
    retention.apply(store, Settings(), NOW + timedelta(days=500))
    with followed(store, settings_of(neo4j_server)) as follower:
        follower.settle()

    assert_equal(store, neo4j_server, host)
    left = {node[1] for node in mirrored(neo4j_server, host)[0] if node[0] == "Software"}
    assert not {f"/{row.id}" for row in vanished[1:]} & left
    assert [node for node in mirrored(neo4j_server, host)[0] if node[0] == "DiskMetrics"] == []


def vars_of(row: NodeRow) -> dict:
    return {name: getattr(row, name) for name in row.__dataclass_fields__}


def test_samples_that_became_means_become_means_in_the_mirror(
    store: Store, host: str, neo4j_server: Server
) -> None:
    live(store, 0, looks=130, rows=3)
    with followed(store, settings_of(neo4j_server)) as follower:
        follower.settle()
        retention.roll_up(store, table("DiskMetrics"), NOW + timedelta(hours=2))
        store.write(Batch(at=NOW))
        follower.settle()

    assert_equal(store, neo4j_server, host)
    spans = [
        v.get("span_seconds") for n, v in mirrored(neo4j_server, host)[0].items() if n[0] == "DiskMetrics"
    ]
    assert sorted(spans, key=str) == [3600, 3600, *[None] * 10]


@pytest.mark.soak
@ONLY_SOAK
def test_a_server_that_is_killed_while_rows_are_sent_misses_and_doubles_none(
    store: Store, host: str, mortal: Server
) -> None:
    live(store, 0, looks=100)
    kills = threading.Event()

    def kill_sometimes() -> None:
        for seconds in (0.3, 0.7, 0.2):
            kills.wait(seconds)
            mortal.kill()
            mortal.start()

    with followed(store, settings_of(mortal)) as follower:
        killer = threading.Thread(target=kill_sometimes)
        killer.start()
        live(store, 200, looks=40)
        killer.join()
        live(store, 300, looks=5)
        follower.settle(60)

    assert_equal(store, mortal, host)


@pytest.mark.soak
@ONLY_SOAK
def test_a_server_put_back_to_an_older_state_is_brought_up_again(
    store: Store, host: str, mortal: Server, tmp_path: Path
) -> None:
    live(store, 0)
    with followed(store, settings_of(mortal)) as follower:
        follower.settle()
    mortal.stop()
    mortal.copy_data(tmp_path / "older")
    mortal.start()
    live(store, 100)
    store.prune("DiskMetrics", NOW + timedelta(minutes=5))
    with followed(store, settings_of(mortal)) as follower:
        follower.settle()
        mortal.stop()
        mortal.put_data(tmp_path / "older")
        mortal.start()
        live(store, 200, looks=2)
        follower.settle(60)

    assert_equal(store, mortal, host)


def test_a_store_put_back_to_an_older_copy_sends_its_graph_again(
    tmp_path: Path, host: str, neo4j_server: Server
) -> None:
    store = opened_as(tmp_path / "state", host)
    live(store, 0)
    with followed(store, settings_of(neo4j_server)) as follower:
        follower.settle()
    store.close()
    shutil.copytree(tmp_path / "state", tmp_path / "backup")
    store = Store(tmp_path / "state")
    live(store, 100)
    with followed(store, settings_of(neo4j_server)) as follower:
        follower.settle()
    store.close()

    store = Store(tmp_path / "backup")
    live(store, 500, looks=20)
    with followed(store, settings_of(neo4j_server)) as follower:
        follower.settle()

    assert_equal(store, neo4j_server, host)
    store.close()


def test_a_copy_of_a_living_machine_is_refused_and_the_living_one_goes_on(
    tmp_path: Path, host: str, neo4j_server: Server
) -> None:
    store = opened_as(tmp_path / "state", host)
    live(store, 0)
    store.close()
    shutil.copytree(tmp_path / "state", tmp_path / "clone")
    store, clone = Store(tmp_path / "state"), Store(tmp_path / "clone")
    live(store, 100)
    live(clone, 200)

    with followed(store, settings_of(neo4j_server), beat=0.1) as follower:
        follower.settle()
        with followed(clone, settings_of(neo4j_server), quiet=1.0) as other:
            refused = other.trouble()
        live(store, 300)
        follower.settle()

    assert "a copy of this machine or its state directory sends too" in refused
    assert follower.mirror.trouble == ""
    assert_equal(store, neo4j_server, host)
    store.close()
    clone.close()


def test_a_second_watchman_of_one_machine_is_refused(
    store: Store, tmp_path: Path, host: str, neo4j_server: Server
) -> None:
    live(store, 0)
    second = opened_as(tmp_path / "second", host)
    with followed(store, settings_of(neo4j_server)) as follower:
        follower.settle()
        with followed(second, settings_of(neo4j_server)) as other:
            refused = other.trouble()
    second.close()

    assert refused.startswith(f"another Watchman ({store.meta('store')[:8]}, last heard 20")
    assert "watchman-mcp setup neo4j --replace" in refused
    assert_equal(store, neo4j_server, host)


def test_a_machine_with_a_new_machine_id_has_a_graph_of_its_own(
    store: Store, host: str, neo4j_server: Server
) -> None:
    live(store, 0)
    other = new_host()
    with followed(store, settings_of(neo4j_server)) as follower:
        follower.settle()
        old = NodeRow("Host", f"Host/{host}", dict(Host(machine=host, name="box").__dict__), "host", NOW)
        new = NodeRow("Host", f"Host/{other}", dict(Host(machine=other, name="box").__dict__), "host")
        store.write(Batch(at=NOW, nodes=[old, new]))
        live(store, 100)
        wait_for(neo4j_server, other, int(store.meta("seq")))

    assert_equal(store, neo4j_server, other)


def wait_for(server: Server, host: str, seq: int) -> None:
    """Wait until a graph of that host goes up to a row."""
    query = "MATCH (h:Host {machine: $host}) WHERE h.mirror_seq >= $seq RETURN h"
    with server.driver() as driver:
        for _ in range(1000):
            if driver.execute_query(query, host=host, seq=seq).records:
                return
            threading.Event().wait(0.02)
    raise AssertionError(f"{host} never came")


def test_word_of_deletions_that_is_forgotten_makes_a_late_mirror_begin_anew(
    store: Store, host: str, neo4j_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    live(store, 0)
    with followed(store, settings_of(neo4j_server)) as follower:
        follower.settle()
    gone = [package(n) for n in range(400, 440)]
    store.write(Batch(at=NOW, nodes=gone))
    with followed(store, settings_of(neo4j_server)) as follower:
        follower.settle()
    for row in gone:
        row.gone_at = NOW
    store.write(Batch(at=NOW, nodes=gone))
    monkeypatch.setattr(retention, "DELETIONS", 5)
    retention.apply(store, Settings(), NOW + timedelta(days=500))

    with followed(store, settings_of(neo4j_server)) as follower:
        follower.settle()

    assert_equal(store, neo4j_server, host)


def test_rows_of_hostile_length_are_sent_and_read_back(store: Store, host: str, neo4j_server: Server) -> None:
    name = "🐧" * 3000
    node = Software(key=name, name="x" * 4000, version="\x00", manager="apt", architecture="a" * 4000)
    row = NodeRow("Software", node.node_id, dict(node.__dict__), "apt")
    store.write(Batch(at=NOW, nodes=[row], events=[event(1, node.node_id)]))

    with followed(store, settings_of(neo4j_server)) as follower:
        follower.settle()

    assert_equal(store, neo4j_server, host)
    assert len(outbox.graph_id(host, node.node_id)) < 1100


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"password": SecretStr("wrong")}, "the server refuses user neo4j: correct the user or the password"),
        ({"database": "elsewhere"}, "there is no database elsewhere"),
        ({"uri": "bolt://127.0.0.1:1"}, "the server cannot be reached at bolt://127.0.0.1:1"),
        ({"uri": "bolt+s://127.0.0.1:{port}"}, "the server cannot be reached at bolt+s://127.0.0.1"),
        (
            {"password_file": "/nonexistent/secret"},
            "[neo4j] password_file /nonexistent/secret cannot be read",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_server_that_cannot_be_used_is_said_and_the_store_goes_on(
    store: Store, host: str, neo4j_server: Server, more: dict, says: str
) -> None:
    live(store, 0)
    if "{port}" in str(more.get("uri")):
        more = {"uri": more["uri"].format(port=neo4j_server.port)}
    with followed(store, settings_of(neo4j_server, **more)) as follower:
        trouble = follower.trouble()
        live(store, 100)

    assert trouble.startswith(says)
    assert follower.mirror.state.behind > 0


def test_a_password_that_is_put_right_needs_no_restart(
    store: Store, host: str, neo4j_server: Server, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("wrong\n")
    with followed(store, settings_of(neo4j_server, password_file=str(secret))) as follower:
        trouble = follower.trouble()
        secret.write_text(f"{neo4j_server.password}\n")
        follower.settle()

    assert trouble.startswith("the server refuses user neo4j")
    assert_equal(store, neo4j_server, host)


def test_data_that_is_not_watchmans_is_said_by_its_name(tmp_path: Path, host: str, mortal: Server) -> None:
    store = opened_as(tmp_path / "state", host)
    live(store, 0)
    rig.wipe(mortal)
    with mortal.driver() as driver:
        driver.execute_query("CREATE (:Software {id: 'same'}), (:Software {id: 'same'})")

    with followed(store, settings_of(mortal)) as follower:
        trouble = follower.trouble()
        with mortal.driver() as driver:
            driver.execute_query("MATCH (s:Software {id: 'same'}) DELETE s")
        follower.settle()

    assert trouble.startswith("the database holds what is not Watchman's: ")
    assert "Software" in trouble
    assert_equal(store, mortal, host)
    store.close()


def test_a_server_of_an_older_version_is_said(
    store: Store, host: str, neo4j_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "FLOOR", (99, 1))

    with followed(store, settings_of(neo4j_server)) as follower:
        trouble = follower.trouble()

    assert trouble == "the server is of version 5.26; Neo4j 99.1 or newer is needed"
    assert connection.version_of("Neo4j/2025.10.1") > (5, 26) > connection.version_of("Neo4j/4.4.44")
    assert connection.version_of("a server of another make") == ()


def test_an_index_that_a_dying_server_left_of_a_constraint_is_no_hindrance(
    store: Store, host: str, mortal: Server
) -> None:
    rig.wipe(mortal)
    with mortal.driver() as driver:
        driver.execute_query("CREATE INDEX watchman_software_id FOR (n:Software) ON (n.id)")
    live(store, 0)

    with followed(store, settings_of(mortal)) as follower:
        follower.settle()

    assert_equal(store, mortal, host)
    with mortal.driver() as driver:
        found = driver.execute_query("SHOW CONSTRAINTS YIELD name RETURN collect(name) AS names").records
    assert "watchman_software_id" in found[0]["names"]


@pytest.mark.soak
@ONLY_SOAK
def test_a_server_that_became_read_only_is_said_and_brought_up_again(
    store: Store, host: str, mortal: Server
) -> None:
    rig.wipe(mortal)
    live(store, 0)
    with followed(store, settings_of(mortal)) as follower:
        follower.settle()
        mortal.stop()
        mortal.conf["server.databases.default_to_read_only"] = "true"
        mortal.start()
        live(store, 100)
        trouble = follower.trouble()
        mortal.stop()
        del mortal.conf["server.databases.default_to_read_only"]
        mortal.start()
        follower.settle(90)

    assert trouble.startswith("the database is read-only: ")
    assert_equal(store, mortal, host)


@pytest.mark.soak
@ONLY_SOAK
def test_a_server_whose_disk_is_full_is_said_and_brought_up_again(
    store: Store, host: str, small_disk: Path
) -> None:
    server = rig.Server(small_disk / "neo4j")
    server.start()
    try:
        with followed(store, settings_of(server)) as follower:
            for look in range(0, 6000, 20):
                live(store, look, looks=20)
                if follower.mirror.trouble:
                    break
            trouble = follower.trouble(120)
            server.kill()
            subprocess.run(["mount", "-o", "remount,size=900m", str(small_disk)], check=True)
            server.start()
            follower.settle(120)

        assert trouble.startswith("the server says: ")
        assert_equal(store, server, host)
    finally:
        server.kill()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 60 MB."""
    if os.geteuid() != 0:
        cache.missing("a small disk (root)", "run as root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=60m", "none", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)
