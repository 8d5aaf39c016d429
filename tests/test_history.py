"""What the runner makes of looks: rows, journal, events, and states of the past."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from watchman_mcp import history, retention
from watchman_mcp.schema.core import Event, event_key
from watchman_mcp.schema.packages import DEPENDS_ON, Software
from watchman_mcp.settings import Settings
from watchman_mcp.store.batch import EdgeRow, EventRow, NodeRow
from watchman_mcp.store.sqlite import Store

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
Packages = dict[str, str]


def software(name: str, version: str) -> Software:
    return Software(key=name, name=name, version=version, manager="apt", architecture="amd64")


def look(
    store: Store,
    packages: Packages,
    minute: float,
    *,
    scope: str = "apt",
    basis: str = "1",
    logged: bool = False,
    needs: set[tuple[str, str]] = frozenset(),
    records: list[tuple[str, str, str]] = (),
    protected: list[str] = (),
    spared: set[str] = frozenset(),
    snapshots: dict[str, Packages] | None = None,
) -> None:
    """One complete look that sees these packages."""
    at = START + timedelta(minutes=minute)
    seen = {}
    for name, state in (snapshots if snapshots is not None else {scope: packages}).items():
        shot = seen[name] = history.Snapshot(name, spared={software(one, "").node_id for one in spared})
        for key, version in state.items():
            node = software(key, version)
            shot.nodes[node.node_id] = NodeRow("Software", node.node_id, dict(node.__dict__), name)
        for start, end in needs:
            if start in state and end in state:
                edge = EdgeRow(DEPENDS_ON.name, software(start, "").node_id, software(end, "").node_id, name)
                shot.edges[edge.id] = edge
    events = []
    for kind, key, version in records:
        code = event_key(kind, key, version, at)
        values = dict(
            Event(
                key=code, ts=at, type=kind, source="apt", subject=key, package_name=key, version=version
            ).__dict__
        )
        events.append(EventRow(f"Event/{code}", values, "apt", software(key, "").node_id))
    told = {event.acted_on: event for event in events}
    sight = history.Sight(
        scope.split(":")[0], frozenset({"Software"}), logged, at, basis, seen, list(protected), told
    )
    batch = history.compare(store, sight)
    batch.events = events + batch.events
    batch.marks, batch.unobserved = {}, list(protected)
    store.write(batch)


def events(store: Store) -> list[tuple[str, str, str]]:
    return [(r["type"], r["subject"], r["source"]) for r in store.read("SELECT * FROM Event ORDER BY seq")]


def test_a_first_look_is_a_baseline_without_events(store: Store) -> None:
    look(store, {"nginx": "1.0"}, 0)

    assert events(store) == []
    assert store.read("SELECT count(*) AS n FROM _journal")[0]["n"] == 0


def test_changes_between_two_looks_become_observed_events_with_an_interval(store: Store) -> None:
    look(store, {"a": "1.0", "b": "1.0", "c": "2.0"}, 0)
    look(store, {"a": "1.1", "c": "1.0", "d": "1.0"}, 10)

    assert sorted(events(store)) == [
        ("package_downgrade", "c", "observed"),
        ("package_install", "d", "observed"),
        ("package_remove", "b", "observed"),
        ("package_update", "a", "observed"),
    ]
    row = store.read("SELECT * FROM Event WHERE subject = 'a'")[0]
    assert (row["ts_earliest"][:16], row["ts"][:16]) == ("2026-03-01T12:00", "2026-03-01T12:10")
    assert (row["previous"], row["version"]) == ("1.0", "1.1")


def test_a_logged_change_is_one_event_the_log_s(store: Store) -> None:
    look(store, {"a": "1.0"}, 0, logged=True)
    look(store, {"a": "1.1"}, 10, logged=True, records=[("package_update", "a", "1.1")])
    look(store, {"a": "1.1"}, 20, logged=True)
    look(store, {"a": "1.1"}, 30, logged=True)

    assert events(store) == [("package_update", "a", "apt")]


def test_a_log_line_that_comes_a_look_later_still_explains(store: Store) -> None:
    look(store, {"a": "1.0"}, 0, logged=True)
    look(store, {"a": "1.1"}, 10, logged=True)
    look(store, {"a": "1.1"}, 20, logged=True, records=[("package_update", "a", "1.1")])

    assert events(store) == [("package_update", "a", "apt")]


def test_a_log_line_that_comes_a_look_earlier_explains_too(store: Store) -> None:
    look(store, {"a": "1.0"}, 0, logged=True)
    look(store, {"a": "1.0"}, 10, logged=True, records=[("package_update", "a", "1.1")])
    look(store, {"a": "1.1"}, 20, logged=True)
    look(store, {"a": "1.1"}, 30, logged=True)

    assert events(store) == [("package_update", "a", "apt")]


def test_a_change_that_the_log_does_not_tell_waits_one_look_and_is_told_with_the_time_it_was_seen(
    store: Store,
) -> None:
    look(store, {"a": "1.0"}, 0, logged=True)
    look(store, {"a": "9.9"}, 10, logged=True, records=[("package_update", "a", "1.1")])
    assert [e for e in events(store) if e[2] == "observed"] == []

    look(store, {"a": "9.9"}, 20, logged=True)

    assert ("package_update", "a", "observed") in events(store)
    row = store.read("SELECT * FROM Event WHERE source = 'observed'")[0]
    assert (row["ts_earliest"][11:16], row["ts"][11:16]) == ("12:00", "12:10")


def test_another_basis_is_told_once_and_its_differences_are_no_changes(store: Store) -> None:
    look(store, {"a": "1.0"}, 0)
    look(store, {"a": "1.0", "b": "1.0"}, 10, basis="2")
    look(store, {"a": "1.0", "b": "1.0"}, 20, basis="2")

    assert events(store) == [("rebaselined", "apt", "observed")]


def test_a_scope_that_could_not_be_looked_at_is_not_swept(store: Store) -> None:
    look(
        store, {}, 0, scope="python", snapshots={"python:/home/x/a": {"p": "1"}, "python:/opt/b": {"q": "1"}}
    )
    look(store, {}, 10, scope="python", snapshots={}, protected=["python:/home/x"])

    gone = {r["key"]: r["gone_at"] is not None for r in store.read("SELECT * FROM Software")}
    assert gone == {"p": False, "q": True}


def test_a_scope_that_becomes_readable_is_a_baseline_and_a_new_one_is_a_change(store: Store) -> None:
    look(store, {}, 0, scope="python", snapshots={"python:/opt/b": {"q": "1"}}, protected=["python:/home/x"])
    look(
        store,
        {},
        10,
        scope="python",
        snapshots={
            "python:/opt/b": {"q": "1"},
            "python:/home/x/a": {"p": "1"},
            "python:/opt/new": {"n": "1"},
        },
    )

    assert events(store) == [("package_install", "n", "observed")]


def test_a_row_that_cannot_be_kept_is_not_missed(store: Store) -> None:
    look(store, {"a": "1.0"}, 0)
    look(store, {}, 10, spared={"a"})

    assert events(store) == []


def test_before_the_first_look_the_state_is_not_known(store: Store) -> None:
    look(store, {"a": "1.0"}, 0)

    assert history.past(store, "Software", START - timedelta(seconds=1), "apt") is None
    assert history.past(store, "Software", START, "apt") is not None


def test_the_look_before_a_time_is_named_with_the_next_one(store: Store) -> None:
    for minute in (0, 10, 20):
        look(store, {"a": str(minute)}, minute)

    found = history.look_at(store, "apt", START + timedelta(minutes=15))

    assert found is not None
    assert (found[0], found[2]) == (START + timedelta(minutes=10), START + timedelta(minutes=20))


@pytest.mark.parametrize("seed", range(5))
def test_the_state_at_every_past_look_equals_what_was_seen_then_edges_too(store: Store, seed: int) -> None:
    chance = random.Random(seed)
    names = [f"p{n}" for n in range(12)]
    packages: Packages = {}
    kept: list[tuple[datetime, Packages, set[tuple[str, str]]]] = []
    minute = 0.0
    for number in range(60):
        for _ in range(chance.randint(0, 3)):
            name = chance.choice(names)
            if name in packages and chance.random() < 0.4:
                del packages[name]
            else:
                packages[name] = f"{chance.randint(1, 3)}.{chance.randint(0, 9)}"
        needs = {
            (a, b) for a in packages for b in packages if a != b and hash((a, b, packages[a], seed)) % 5 == 0
        }
        minute += chance.random() * 5
        look(store, dict(packages), minute, needs=needs, basis="1" if number < 30 else "2")
        kept.append((START + timedelta(minutes=minute), dict(packages), needs))

    for at, wanted, edges in kept:
        past = history.past(store, "Software", at, "apt")
        assert past is not None
        assert {row["key"]: row["version"] for row in past[0].values()} == wanted
        assert past[1] == {
            f"DEPENDS_ON {software(a, '').node_id} {software(b, '').node_id}" for a, b in edges
        }


def test_past_the_journal_s_time_only_what_changed_is_forgotten(store: Store) -> None:
    for minute, version in ((0, "1.0"), (10, "1.1"), (20, "1.2")):
        look(store, {"a": version}, minute, scope="apt")
        look(store, {}, minute + 1, scope="python", snapshots={"python:/opt/app": {"b": "1.0"}})

    retention.apply(store, Settings(), START + timedelta(days=500))

    assert history.past(store, "Software", START + timedelta(minutes=5), "apt") is None
    for at in (START + timedelta(minutes=5), START + timedelta(days=499)):
        past = history.past(store, "Software", at, "python:/opt/app")
        assert past is not None
        assert [row["key"] for row in past[0].values()] == ["b"]
    assert history.past(store, "Software", START + timedelta(days=499), "apt") is not None
