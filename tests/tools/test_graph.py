"""What query_graph answers: the schema, rows of one SELECT, and errors that name what is there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.story import Story, package
from watchman_mcp.errors import InvalidRequest
from watchman_mcp.schema import EDGE_TYPES, LABELS
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools.answers import MAX_BYTES, compact, size
from watchman_mcp.tools.graph import query_graph


@pytest.fixture(params=["file", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store with three packages, one of which needs another, and samples of two minutes."""
    opened = Store(tmp_path if request.param == "file" else None)
    story = Story(opened)
    story.host(60)
    story.look(60, [package("nginx", "1.22"), package("libc6"), package("vim")], needs=[("nginx", "libc6")])
    story.sample(2, cpu=10.0)
    story.sample(1, cpu=20.0)
    yield opened
    opened.close()


def ask(store: Store, query: str = "", **arguments: Any) -> dict[str, Any]:
    return compact(query_graph(store, query, **arguments))


def test_an_empty_query_shows_every_table_with_its_columns_and_every_relationship(store: Store) -> None:
    answer = ask(store, "  ")

    assert answer["tables"].keys() == LABELS.keys() | {"edges"}
    assert {"key", "version", "manager", "gone_at"} <= set(answer["tables"]["Software"].split(", "))
    assert {"timestamp", "cpu_percent"} <= set(answer["tables"]["SystemMetrics"].split(", "))
    assert answer["edges"].keys() == EDGE_TYPES.keys() - {"ON_HOST"}
    assert size(answer) <= 6_000
    print(f"\ngraph schema: {size(answer)} bytes")


def test_what_the_schema_shows_can_be_asked(store: Store) -> None:
    for table, columns in ask(store)["tables"].items():
        names = ", ".join(f'"{column}"' for column in columns.split(", "))
        answer = ask(store, f'SELECT {names} FROM "{table}"')
        assert answer["columns"] == columns.split(", ")


def test_the_example_of_the_note_runs(store: Store) -> None:
    [node] = ask(store, "SELECT id FROM Software WHERE key = 'nginx'")["items"][0]

    answer = ask(
        store,
        "SELECT b.* FROM edges e JOIN Software b ON b.id = e.end "
        f"WHERE e.type = 'DEPENDS_ON' AND e.start = '{node}'",
    )

    assert answer["items"][0][answer["columns"].index("key")] == "libc6"


def test_rows_come_as_columns_and_values(store: Store) -> None:
    answer = ask(store, "SELECT key, version AS v FROM Software WHERE gone_at IS NULL ORDER BY key")

    assert (answer["found"], answer["columns"]) == ("yes", ["key", "v"])
    assert answer["items"] == [["libc6", "1.0"], ["nginx", "1.22"], ["vim", "1.0"]]
    assert "cut" not in answer


def test_samples_are_read_through_their_views_in_their_own_units(store: Store) -> None:
    answer = ask(store, "SELECT cpu_percent FROM SystemMetrics ORDER BY timestamp")

    assert answer["items"] == [[10.0], [20.0]]
    assert ask(store, "SELECT mount_point FROM DiskMetrics LIMIT 1")["items"] == [["/"]]


def test_no_row_is_none(store: Store) -> None:
    assert ask(store, "SELECT key FROM Software WHERE key = 'emacs'")["found"] == "none"


def test_rows_beyond_the_limit_are_cut_and_the_answer_says_so(store: Store) -> None:
    answer = ask(store, "SELECT key FROM Software ORDER BY key", limit=2)

    assert answer["items"] == [["libc6"], ["nginx"]]
    assert answer["cut"].startswith("2 rows; more")
    assert "cut" not in ask(store, "SELECT key FROM Software", limit=3)


def test_large_values_are_cut_to_what_an_answer_holds(store: Store) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) "

    for column in (
        "group_concat(hex('abcdefghijklmnopqrstuvwxyz'))",
        "hex('abcdefghijklmnopqrstuvwxyz' || i)",
    ):
        query = f"{many} SELECT {column} FROM n"
        answer = ask(store, query, limit=500)
        assert answer["items"]
        assert answer["cut"]
        assert size(answer) <= MAX_BYTES


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("SELECT packge FROM Software", "no column packge.*Software has .*key, name, version"),
        ("SELECT * FROM Packages", "no table Packages.*the tables are: .*Software"),
        ("SELECT * FROM _journal", "private"),
        ("SELECT * FROM _SystemMetrics", "private"),
        ("SELECT * FROM sqlite_master", "private"),
        ("DELETE FROM Software", "only one SELECT"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("SELEKT", "the SQL is wrong: .*empty query shows tables"),
        ("-- nothing", "no statement"),
    ],
)
def test_a_query_that_cannot_be_run_is_refused_with_what_can(store: Store, query: str, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says) as refused:
        ask(store, query)

    assert "\n" not in str(refused.value)


def test_a_query_changes_nothing(store: Store) -> None:
    with pytest.raises(InvalidRequest):
        ask(store, "UPDATE Software SET version = '9'")

    assert ask(store, "SELECT DISTINCT version FROM Software WHERE key = 'vim'")["items"] == [["1.0"]]
