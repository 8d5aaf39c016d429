"""What every store must do: SQLite in a file and in memory, and the Neo4j that follows one."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.fleet import Followed, assert_equal, followed, mirrored, new_host, settings_of
from tests.rigs.neo4j import Server
from watchman_mcp.schema import LABELS
from watchman_mcp.schema.core import Event, Host
from watchman_mcp.schema.packages import Software
from watchman_mcp.schema.resources import DiskMetrics
from watchman_mcp.store.batch import Batch, EdgeRow, EventRow, NodeRow
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import table

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Sqlite:
    """The SQLite store, read back as plain values."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.write, self.prune = store.write, store.prune

    def node(self, label: str, node: str) -> dict | None:
        rows = self.store.read(f'SELECT * FROM "{label}" WHERE id = ?', (node,))
        return {**table(label).decode(rows[0]), "gone_at": rows[0]["gone_at"]} if rows else None

    def edges(self) -> set[tuple[str, str, str, bool]]:
        return {
            (r["type"], r["start"], r["end"], r["gone_at"] is None)
            for r in self.store.read("SELECT * FROM edges")
        }

    def count(self, label: str) -> int:
        return self.store.read(f'SELECT count(*) AS n FROM "{label}"')[0]["n"]

    def samples(self, label: str) -> list[dict]:
        return [dict(row) for row in self.store.read(f'SELECT * FROM "{label}" ORDER BY timestamp')]


class Neo4j(Sqlite):
    """The graph that a Neo4j server holds of one host, which follows a SQLite store."""

    def __init__(self, follower: Followed, server: Server, host: str) -> None:
        super().__init__(follower.store)
        self.follower, self.server, self.host = follower, server, host

    def _graph(self) -> tuple[dict, dict]:
        self.follower.settle()
        return mirrored(self.server, self.host)

    def node(self, label: str, node: str) -> dict | None:
        found = self._graph()[0].get((label, f"/{node}"))
        if found is None:
            return None
        return {
            **table(label).decode(dict.fromkeys(LABELS[label].model_fields) | _as_kept(found)),
            "gone_at": found.get("gone_at"),
        }

    def edges(self) -> set[tuple[str, str, str, bool]]:
        return {
            (kind, start[1][1:], end[1][1:], "gone_at" not in values)
            for (kind, start, end), values in self._graph()[1].items()
        }

    def count(self, label: str) -> int:
        own = f"/Host/{self.host}"
        return sum(node[0] == label and node[1] != own for node in self._graph()[0])

    def samples(self, label: str) -> list[dict]:
        found = [values for node, values in self._graph()[0].items() if node[0] == label]
        rows = [dict.fromkeys(LABELS[label].model_fields) | values for values in found]
        return sorted(rows, key=lambda row: row["timestamp"])


def _as_kept(values: dict) -> dict:
    return {n: json.dumps(v) if isinstance(v, list) else v for n, v in values.items()}


@pytest.fixture(params=["file", "memory", pytest.param("neo4j", marks=pytest.mark.real)])
def graph(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sqlite]:
    store = Store(None if request.param == "memory" else tmp_path)
    if request.param == "neo4j":
        server, host = request.getfixturevalue("neo4j_server"), new_host()
        store.write(Batch(at=NOW, nodes=[NodeRow("Host", f"Host/{host}", host_values(host), "host")]))
        with followed(store, settings_of(server)) as follower:
            yield Neo4j(follower, server, host)
            follower.settle()
            assert_equal(store, server, host)
    else:
        yield Sqlite(store)
    store.close()


def host_values(host: str) -> dict:
    return dict(Host(machine=host, name="box").__dict__)


def package(name: str, version: str | None = "1.0", **more: object) -> Software:
    return Software(key=name, name=name, version=version, manager="apt", architecture="amd64", **more)


def row(node: Software, gone_at: datetime | None = None) -> NodeRow:
    return NodeRow("Software", node.node_id, dict(node.__dict__), "apt", gone_at)


def event(key: str, ts: datetime = NOW, kind: str = "package_install") -> EventRow:
    values = dict(Event(key=key, ts=ts, type=kind, source="apt", subject="nginx", fields=["a", "b"]).__dict__)
    return EventRow(f"Event/{key}", values, "apt", package("nginx").node_id)


def test_a_node_reads_back_equal_to_what_was_written(graph: Sqlite) -> None:
    node = package(
        "nginx",
        "1:2.0-1~deb12",
        installed_at=NOW + timedelta(microseconds=7),
        requested=False,
        size_bytes=2**62,
        summary="é 漢 🙂",
    )

    graph.write(Batch(at=NOW, nodes=[row(node)]))

    assert graph.node("Software", node.node_id) == {**node.__dict__, "gone_at": None}


def test_a_value_that_disappears_from_a_node_disappears_from_the_store(graph: Sqlite) -> None:
    graph.write(Batch(at=NOW, nodes=[row(package("nginx", held=True))]))

    graph.write(Batch(at=NOW, nodes=[row(package("nginx", held=None))]))

    assert graph.node("Software", package("nginx").node_id)["held"] is None


def test_an_event_written_twice_is_one(graph: Sqlite) -> None:
    first = graph.write(Batch(at=NOW, events=[event("evt_1"), event("evt_1")]))
    second = graph.write(Batch(at=NOW, events=[event("evt_1"), event("evt_2")]))

    assert (first.new_events, second.new_events, graph.count("Event")) == (1, 1, 2)


def test_an_event_is_joined_to_what_it_acted_on(graph: Sqlite) -> None:
    graph.write(Batch(at=NOW, nodes=[row(package("nginx"))], events=[event("evt_1")]))

    assert ("ACTED_ON", "Event/evt_1", package("nginx").node_id, True) in graph.edges()


def test_an_event_of_an_unknown_thing_is_joined_to_nothing(graph: Sqlite) -> None:
    graph.write(Batch(at=NOW, events=[event("evt_1")]))
    graph.write(Batch(at=NOW, nodes=[row(package("nginx"))]))

    assert (graph.count("Event"), graph.edges()) == (1, set())


def test_a_vanished_thing_is_remembered_as_long_as_what_happened_to_it(graph: Sqlite) -> None:
    gone = row(package("nginx"), NOW - timedelta(days=9))
    graph.write(Batch(at=NOW, nodes=[gone], events=[event("evt_1", kind="host_boot")]))

    kept = graph.prune("Software", NOW)
    graph.prune("Event", NOW + timedelta(days=1))
    dropped = graph.prune("Software", NOW)

    assert (kept, dropped, graph.count("Software"), graph.count("Event")) == (0, 1, 0, 0)


def test_prune_takes_old_events_but_never_those_of_packages(graph: Sqlite) -> None:
    graph.write(Batch(at=NOW, events=[event("evt_1"), event("evt_2", kind="host_boot")]))

    graph.prune("Event", NOW + timedelta(days=1))

    assert graph.node("Event", "Event/evt_1") is not None
    assert graph.count("Event") == 1


def test_an_edge_without_its_end_is_skipped_counted_and_comes_later(graph: Sqlite) -> None:
    edge = EdgeRow("DEPENDS_ON", package("nginx").node_id, package("libc6").node_id, "apt")

    first = graph.write(Batch(at=NOW, nodes=[row(package("nginx"))], edges=[edge]))
    second = graph.write(Batch(at=NOW, nodes=[row(package("libc6"))], edges=[edge]))

    assert (first.skipped_edges, second.skipped_edges) == (1, 0)
    assert ("DEPENDS_ON", edge.start, edge.end, True) in graph.edges()


def test_a_ghost_never_hides_a_node_that_is_there(graph: Sqlite) -> None:
    graph.write(Batch(at=NOW, nodes=[row(package("nginx", "2.0"))]))

    graph.write(Batch(at=NOW, ghosts=[row(package("nginx", "1.0"), NOW), row(package("gone", "1.0"), NOW)]))

    assert graph.node("Software", package("nginx").node_id)["version"] == "2.0"
    assert graph.node("Software", package("gone").node_id)["gone_at"] is not None


def test_a_batch_with_a_fault_leaves_nothing(graph: Sqlite) -> None:
    wrong = NodeRow("Software", "Software/apt/x/", {**package("x").__dict__, "size_bytes": 2**80}, "apt")

    with pytest.raises(Exception, match="int"):
        graph.write(Batch(at=NOW, nodes=[row(package("nginx")), wrong]))

    assert graph.count("Software") == 0
    graph.write(Batch(at=NOW, nodes=[row(package("nginx"))]))
    assert graph.count("Software") == 1


def test_prune_takes_old_tombstones_with_their_edges_and_nothing_else(graph: Sqlite) -> None:
    edge = EdgeRow("DEPENDS_ON", package("old").node_id, package("kept").node_id, "apt")
    graph.write(
        Batch(
            at=NOW,
            nodes=[
                row(package("old"), NOW - timedelta(days=9)),
                row(package("young"), NOW),
                row(package("kept")),
            ],
        )
    )
    graph.write(Batch(at=NOW, edges=[edge]))

    pruned = graph.prune("Software", NOW - timedelta(days=1))

    assert pruned == 1
    assert {n: graph.node("Software", package(n).node_id) is not None for n in ("old", "young", "kept")} == {
        "old": False,
        "young": True,
        "kept": True,
    }
    assert graph.edges() == set()


def test_samples_read_back_and_are_pruned_by_their_time(graph: Sqlite) -> None:
    samples = [
        DiskMetrics(
            filesystem="/dev/vda",
            mount_point="/",
            timestamp=NOW + timedelta(minutes=n),
            used_gb=12.125 + n,
            use_percent=99.9,
        )
        for n in range(3)
    ]

    graph.write(Batch(at=NOW, samples=[("DiskMetrics", dict(sample.__dict__)) for sample in samples]))
    graph.prune("DiskMetrics", NOW + timedelta(minutes=1))

    rows = graph.samples("DiskMetrics")
    assert [(r["mount_point"], r["used_gb"], r["use_percent"], r["available_gb"]) for r in rows] == [
        ("/", 13.125, 99.9, None),
        ("/", 14.125, 99.9, None),
    ]


def test_every_label_can_be_written(graph: Sqlite) -> None:
    for name, label in LABELS.items():
        values = dict.fromkeys(label.model_fields) | {
            n: NOW for n, f in label.model_fields.items() if f.annotation is datetime
        }
        if name == "Event":
            graph.write(Batch(at=NOW, events=[EventRow("Event/x", values, "test")]))
        elif label.series is None:
            graph.write(Batch(at=NOW, nodes=[NodeRow(name, f"{name}/x", values, "test")]))
        else:
            graph.write(Batch(at=NOW, samples=[(name, values)]))
        assert graph.count(name) == 1
