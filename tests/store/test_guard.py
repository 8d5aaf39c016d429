"""Strangers' SQL: what it may read, what it is told, and what it can never do."""

import hashlib
import math
import resource
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from watchman_mcp.errors import InvalidRequest, StoreError
from watchman_mcp.store import guard


def long(text: str, size: int) -> str:
    """SQL for a long text that is not itself long."""
    return f"replace('{'x' * 200}', 'x', '{text * (size // 200)}')"


LONG = long("a", 60_000)
VIEWS = frozenset({"ServiceLoad"})
ROWS = 100_000
DENIED = "only one SELECT|one statement|private|no function|wrong"
LIMIT_SECONDS = 4.0
worst: dict[str, float] = {}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("store") / "state dir?" / "watchman.db"
    path.parent.mkdir()
    writer = sqlite3.connect(path)
    writer.executescript("""
        PRAGMA journal_mode = WAL;
        CREATE TABLE Software(id TEXT PRIMARY KEY, key TEXT, version TEXT, size_bytes INTEGER, icon BLOB);
        CREATE TABLE Event(id TEXT PRIMARY KEY, ts TEXT, type TEXT, package_name TEXT, seq INTEGER);
        CREATE TABLE _journal(seq INTEGER PRIMARY KEY, before TEXT);
        CREATE TABLE _samples(service INTEGER, at INTEGER, cpu REAL, secret TEXT);
        CREATE VIEW ServiceLoad AS SELECT service, at, cpu FROM _samples WHERE at > 10;
        CREATE VIEW _hidden AS SELECT secret FROM _samples;
        INSERT INTO _journal VALUES (1, 'PRIVATE');
        """)
    writer.executemany(
        "INSERT INTO Event VALUES (?, ?, ?, ?, ?)",
        (
            (f"h/Event/{n}", f"2026-11-{n % 28 + 1:02}", "package_install", f"package-{n % 977}", n)
            for n in range(ROWS)
        ),
    )
    writer.executemany(
        "INSERT INTO _samples VALUES (?, ?, ?, 'PRIVATE')", ((n % 9, n, n / 7) for n in range(1000))
    )
    rows = [(f"h/Software/{n}", f"package-{n}", f"1.{n}", n * 1000, b"\x00\xff") for n in range(977)]
    writer.executemany("INSERT INTO Software VALUES (?, ?, ?, ?, ?)", rows)
    writer.execute("INSERT INTO Software VALUES ('bad', CAST(x'61ff62' AS TEXT), 'x', 1e999, NULL)")
    writer.commit()
    yield path  # the writer stays, as the daemon's does, and keeps the -shm file alive
    writer.close()


def ask(store: Path, sql: str, limit: int = 100, **more: float) -> guard.Rows:
    return guard.ask(str(store), sql, limit, views=VIEWS, **more)


def chain(first: str, step: str, last: str, length: int) -> str:
    """A WITH clause in which every name uses the one before."""
    names = [f"a0 AS ({first})", *(f"a{n} AS ({step.replace('#', f'a{n - 1}')})" for n in range(1, length))]
    return f"WITH {', '.join(names)} {last.replace('#', f'a{length - 1}')}"


def doubled(length: int) -> str:
    """Nested sub-queries whose columns double the expression when they are flattened."""
    sql = "SELECT seq AS c0 FROM Event"
    for n in range(1, length):
        sql = f"SELECT c{n - 1} + c{n - 1} AS c{n} FROM ({sql})"
    return sql


def straight(call: str, times: int, **texts: str) -> str:
    """Many calls in one row: between them nothing looks at the clock."""
    tables = ", ".join(f"z{name} AS MATERIALIZED (SELECT {text} AS {name})" for name, text in texts.items())
    return f"WITH {tables} SELECT {', '.join([call] * times)} FROM {', '.join('z' + name for name in texts)}"


COUNT = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r)"
WILD = f"'{'_a' * 48}'"

HOSTILE = {
    # without end, or as good as
    "endless recursion": f"{COUNT} SELECT count(*) FROM r",
    "endless recursion that sorts": f"{COUNT} SELECT n FROM r ORDER BY n DESC",
    "endless recursion with long values": f"{COUNT} SELECT n, {LONG} FROM r ORDER BY 2, 1 DESC",
    "growing queue": (
        f"WITH RECURSIVE r(n, s) AS (SELECT 1, {LONG} UNION ALL SELECT n + 1, s FROM r"
        " UNION ALL SELECT n + 2, s FROM r ORDER BY 1) SELECT n FROM r WHERE n < 0"
    ),
    "growing distinct": f"{COUNT} SELECT DISTINCT n || {LONG} FROM r",
    "growing union": "WITH RECURSIVE r(n) AS (SELECT 1 UNION SELECT n + 1 FROM r) SELECT max(n) FROM r",
    "cross join": "SELECT count(*) FROM Event a, Event b, Event c",
    "cross join without result": "SELECT a.id FROM Event a, Event b WHERE a.seq + b.seq < 0",
    "self join without index": "SELECT count(*) FROM Event a JOIN Event b ON a.ts || '' = b.ts || ''",
    "window over a cross join": "SELECT sum(a.seq) OVER (ORDER BY b.seq DESC) FROM Event a, Event b",
    "wide frame": (
        "SELECT max(x) FROM (SELECT group_concat(id) OVER"
        " (ORDER BY seq ROWS BETWEEN 2000 PRECEDING AND CURRENT ROW) x FROM Event)"
    ),
    "group_concat of all": "SELECT group_concat(id) FROM Event",
    "json_group_array of all": "SELECT json_group_array(id) FROM Event",
    "materialized cross join": (
        f"{COUNT}, m AS MATERIALIZED (SELECT n || {LONG} FROM r) SELECT count(*) FROM m, m"
    ),
    "json_each of a long array": (
        f"SELECT count(*) FROM json_each('[' || {long('1,', 20000)} || '1]') a,"
        f" json_each('[' || {long('1,', 20000)} || '1]') b"
    ),
    "json_tree of a deep array": f"SELECT count(*) FROM json_tree({long('[', 30000)} || {long(']', 30000)})",
    # one costly step
    "LIKE": f"SELECT count(*) FROM Event WHERE {LONG} || seq LIKE '%' || {WILD} || 'b'",
    "LIKE in a straight line": straight("s LIKE p", 150, s=LONG, p=f"'%' || {WILD} || 'b'"),
    "LIKE with a long pattern": f"SELECT 'a' LIKE {LONG}",
    "GLOB": f"SELECT count(*) FROM Event WHERE {LONG} || seq GLOB '*' || replace({WILD}, '_', '?') || 'b'",
    "GLOB in a straight line": straight(
        "s GLOB p", 150, s=LONG, p=f"'*' || replace({WILD}, '_', '?') || 'b'"
    ),
    "instr": straight("instr(s, t)", 200, s=LONG, t=long("a", 30000) + " || 'b'"),
    "instr over all": f"SELECT sum(instr({LONG}, " + long("a", 30000) + " || seq)) FROM Event",
    "replace": straight("length(replace(s, t, ''))", 150, s=LONG, t=long("a", 30000) + " || 'b'"),
    "trim": straight("length(trim(s, t))", 150, s=LONG, t=long("b", 5000) + " || 'a'"),
    "ltrim over all": f"SELECT sum(length(ltrim({LONG}, " + long("b", 5000) + " || 'a' || seq))) FROM Event",
    "numbers of 60,000 digits": straight("s + 1", 200, s=long("1", 60000)),
    "json in a straight line": straight("json_valid(s || '')", 150, s=f"'[' || {long('1,', 25000)} || '1]'"),
    "strftime in a straight line": straight("length(strftime(s, 'now'))", 150, s=long("%d", 15000)),
    # too big
    "printf width": "SELECT printf('%2000000000d', 1)",
    "printf precision": "SELECT printf('%.2000000000c', 'a')",
    "printf precision as a value": "SELECT format('%.*c', 2000000000, 'a')",
    "printf with many values": f"SELECT printf('{'%99s' * 30}'{', s' * 30}) FROM (SELECT {LONG} AS s)",
    "replace that inflates": f"SELECT replace({LONG}, 'a', {LONG})",
    "hex that inflates": f"SELECT hex({LONG})",
    "zeroblob": "SELECT zeroblob(2000000000)",
    "randomblob": "SELECT hex(randomblob(1000000000))",
    "number that never ends": "SELECT 1e999, -1e999, 9223372036854775807 + 1",
    # huge while compiled
    "deep nesting": "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    "deep sub-queries": "SELECT * FROM " + "(SELECT * FROM " * 900 + "Event" + ")" * 900,
    "deep not": "SELECT " + "NOT " * 4000 + "1",
    "doubling sub-queries": doubled(15),
    "doubling sub-queries, deeper": doubled(40),
    "doubling names": chain("SELECT 1 x", "SELECT 1 x FROM # p, # q", "SELECT count(*) FROM #", 26),
    "doubling names that are used": chain(
        "SELECT seq x FROM Event", "SELECT p.x FROM # p, # q", "SELECT x FROM #", 40
    ),
    "doubling scalars": chain(
        "SELECT 1 x", "SELECT (SELECT x FROM #) + (SELECT x FROM #) x", "SELECT x FROM #", 40
    ),
    "many joins": "SELECT count(*) FROM " + ", ".join(f"Event e{n}" for n in range(64)),
    "too many joins": "SELECT count(*) FROM " + ", ".join(f"Event e{n}" for n in range(500)),
    "joins with many terms": (
        "SELECT count(*) FROM "
        + ", ".join(f"Software s{n}" for n in range(60))
        + " WHERE "
        + " AND ".join(f"(s{n}.id = s{n * 7 % 60}.id OR s{n}.key = s{n * 3 % 60}.key)" for n in range(60))
    ),
    "huge compound": " UNION ALL ".join(["SELECT 1"] * 1500),
    "huge list": f"SELECT 1 IN ({','.join(map(str, range(3900)))})",
    "huge text": "SELECT '" + "a" * 5_000_000 + "'",
    "huge comment": "SELECT 1 --" + "a" * 5_000_000,
    "open brackets": "SELECT " + "[" * 19_000,
    "quotes": "SELECT " + "'" * 18_999,
    "quotes of all kinds": "SELECT " + "'\"`" * 6_000,
    # writing, elsewhere reading
    "insert": "INSERT INTO Event(id) VALUES ('x')",
    "delete": "DELETE FROM Event",
    "update in WITH": "WITH x AS (SELECT 1) UPDATE Event SET seq = 0",
    "delete in WITH": "WITH x AS (DELETE FROM Event RETURNING id) SELECT * FROM x",
    "replace into": "REPLACE INTO Event(id) VALUES ('x')",
    "create": "CREATE TABLE x(y)",
    "create temp": "CREATE TEMP TABLE x(y)",
    "create temp view": "CREATE TEMP VIEW ServiceLoad AS SELECT * FROM _samples",
    "create virtual": "CREATE VIRTUAL TABLE temp.x USING fts5(y)",
    "drop": "DROP TABLE Event",
    "alter": "ALTER TABLE Event RENAME TO x",
    "reindex": "REINDEX",
    "analyze": "ANALYZE",
    "attach": "ATTACH 'planted.db' AS x",
    "attach memory": "ATTACH ':memory:' AS x",
    "detach": "DETACH main",
    "vacuum": "VACUUM",
    "vacuum into": "VACUUM INTO 'planted.db'",
    "begin": "BEGIN IMMEDIATE",
    "savepoint": "SAVEPOINT x",
    "pragma write": "PRAGMA query_only = 0",
    "pragma checkpoint": "PRAGMA wal_checkpoint(TRUNCATE)",
    "pragma read": "PRAGMA database_list",
    "pragma table": "SELECT * FROM pragma_database_list",
    "pragma table, counted": "SELECT count(*) FROM pragma_table_info('_journal')",
    "load_extension": "SELECT load_extension('planted.so')",
    "readfile": "SELECT readfile('/etc/hostname')",
    "writefile": "SELECT writefile('planted', 'x')",
    "fts tokenizer": "SELECT fts3_tokenizer('simple')",
    "edit": "SELECT edit('x', 'touch planted')",
    "page table": "SELECT data FROM sqlite_dbpage",
    "page statistics": "SELECT count(*) FROM dbstat",
    "bytecode": "SELECT * FROM bytecode('SELECT 1')",
    # private things
    "private table": "SELECT * FROM _journal",
    "private table, quoted": 'SELECT "before" FROM main."_JOURNAL"',
    "private table, counted": "SELECT count(*) FROM _journal",
    "private table, joined": "SELECT e.id FROM Event e JOIN _journal j ON j.seq = e.seq",
    "private table in a scalar": "SELECT (SELECT before FROM _journal)",
    "private table in EXISTS": "SELECT 1 WHERE EXISTS (SELECT before FROM _journal)",
    "private table in WITH": "WITH j AS (SELECT * FROM _journal) SELECT * FROM j",
    "private view": "SELECT * FROM _hidden",
    "private table behind a view": "SELECT secret FROM _samples",
    "private column of a view's table": "SELECT s.secret FROM ServiceLoad l, _samples s",
    "rows that a view leaves out": "SELECT cpu FROM _samples",
    "alias of a view": "SELECT * FROM (SELECT cpu FROM _samples) AS ServiceLoad",
    "name of a view": "WITH ServiceLoad AS (#) SELECT * FROM ServiceLoad",
    "name of a view, case": "WITH x AS (SELECT 1), sERVICELOAD AS (#) SELECT * FROM serviceload",
    "name of a view, columns": "WITH ServiceLoad(a) AS (#) SELECT * FROM ServiceLoad",
    "name of a view, quotes": 'WITH "ServiceLoad" AS (#) SELECT * FROM ServiceLoad',
    "name of a view, apostrophes": "WITH 'ServiceLoad' AS (#) SELECT * FROM ServiceLoad",
    "name of a view, brackets": "WITH [ServiceLoad]AS(#) SELECT * FROM ServiceLoad",
    "name of a view, backticks": "WITH `ServiceLoad` AS (#) SELECT * FROM ServiceLoad",
    "name of a view, comments": "WITH ServiceLoad--x\nAS/*y*/(#) SELECT * FROM ServiceLoad",
    "name of a view, materialized": "WITH ServiceLoad AS NOT MATERIALIZED (#) SELECT * FROM ServiceLoad",
    "name of a view, byte order mark": "WITH \ufeffServiceLoad\ufeffAS (#) SELECT * FROM ServiceLoad",
    "name of a view, inside": "SELECT * FROM (WITH RECURSIVE ServiceLoad AS (#) SELECT * FROM ServiceLoad)",
    "name of a view, secret": "WITH ServiceLoad AS (SELECT secret FROM _samples) SELECT 1 FROM ServiceLoad",
    "schema": "SELECT sql FROM sqlite_master",
    "schema, other name": "SELECT name FROM sqlite_schema",
    "temp schema": "SELECT * FROM sqlite_temp_master",
    # several, hidden, not text
    "two statements": "SELECT 1; DELETE FROM Event",
    "hidden statement": "SELECT 1; -- harmless\nDROP TABLE Event",
    "comment that ends": "SELECT 1 /* */; /* */ DELETE FROM Event",
    "empty": "",
    "only a comment": "-- nothing",
    "only a semicolon": ";",
    "NUL": "SELECT 1\0; DROP TABLE Event",
    "lone surrogate": "SELECT '\ud800'",
    "control characters": "SELECT \x1b[31m\u202e FROM Event",
    "bytes": b"SELECT 1",
    "number": 7,
    "none": None,
    "parameter": "SELECT ?",
    "blob": "SELECT x'00ff', icon FROM Software",
    "text that is not UTF-8": "SELECT key FROM Software WHERE id = 'bad'",
    "replace in text that is not UTF-8": "SELECT replace(key, 'a', 'b') FROM Software WHERE id = 'bad'",
    "explain": "EXPLAIN SELECT * FROM _journal",
}


def query(name: str) -> str:
    sql = HOSTILE[name]
    return sql.replace("#", "SELECT cpu FROM _samples") if name.startswith("name of a view") else sql


def state(store: Path) -> tuple[str, str]:
    everything = hashlib.sha256()
    for path in sorted(store.parent.parent.rglob("*")):
        everything.update(str(path).encode())
        if path.is_file() and path.suffix != ".db-shm":  # read marks of readers live there
            everything.update(path.read_bytes())
    return everything.hexdigest(), "|".join(sorted(str(path) for path in Path.cwd().iterdir()))


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_query_changes_nothing_and_ends(
    store: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before, start = state(store), time.monotonic()

    try:
        answer = str(ask(store, query(name)))
    except InvalidRequest as refused:
        answer = str(refused)

    worst[name] = time.monotonic() - start
    assert state(store) == before
    assert worst[name] < LIMIT_SECONDS
    assert "PRIVATE" not in answer
    assert len(answer) < 2 * guard.ANSWER_BYTES


def test_the_worst_hostile_query_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    if len(worst) < len(HOSTILE):
        pytest.skip("needs the run of every hostile query")

    slowest = sorted(worst.items(), key=lambda item: -item[1])[:5]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with capsys.disabled():
        print(f"\n{len(worst)} hostile queries, peak {peak:.0f} MiB, slowest: {slowest}")

    assert slowest[0][1] < LIMIT_SECONDS


@pytest.mark.parametrize(
    "name", [n for n in HOSTILE if n.startswith(("private", "name of a view", "schema", "rows"))]
)
def test_private_tables_are_refused_and_never_read(store: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match="private|another name|only one SELECT"):
        ask(store, query(name))


@pytest.mark.parametrize(
    "name",
    ["insert", "delete", "create", "drop", "attach", "vacuum", "begin", "reindex", "detach"]
    + ["update in WITH", "vacuum into", "pragma write", "pragma read", "pragma table", "create temp view"]
    + ["two statements", "hidden statement", "comment that ends", "load_extension", "readfile", "zeroblob"],
)
def test_what_is_not_a_select_of_known_functions_is_refused(store: Path, name: str) -> None:
    with pytest.raises(InvalidRequest, match=DENIED):
        ask(store, query(name))


def test_a_query_without_end_is_told_to_be_narrowed(store: Path) -> None:
    with pytest.raises(InvalidRequest, match="the query ran longer than 0.2 s; narrow it"):
        ask(store, HOSTILE["cross join"], seconds=0.2)


def test_a_query_that_needs_too_much_memory_ends_and_says_so(store: Path) -> None:
    with pytest.raises(InvalidRequest, match="too much memory"):
        ask(store, HOSTILE["doubling names"])


def test_another_connection_works_after_the_heap_limit_was_hit(store: Path) -> None:
    with pytest.raises(InvalidRequest):
        ask(store, HOSTILE["doubling names"])

    assert ask(store, "SELECT count(*) FROM Event").rows == [(ROWS,)]


def test_an_answer_has_columns_and_rows_and_says_when_it_is_cut(store: Path) -> None:
    whole = ask(store, "SELECT key, size_bytes AS size FROM Software WHERE size_bytes < 3000 ORDER BY key")
    cut = ask(store, "SELECT id FROM Event ORDER BY seq", limit=2)
    exact = ask(store, "SELECT id FROM Event WHERE seq < 2 ORDER BY seq", limit=2)

    assert whole == guard.Rows(
        ("key", "size"), [("package-0", 0), ("package-1", 1000), ("package-2", 2000)], cut=False
    )
    assert cut == guard.Rows(("id",), [("h/Event/0",), ("h/Event/1",)], cut=True)
    assert exact == guard.Rows(("id",), [("h/Event/0",), ("h/Event/1",)], cut=False)


def test_limits_out_of_bounds_are_clamped(store: Path) -> None:
    assert len(ask(store, "SELECT 1 FROM Event", limit=-5).rows) == 1
    assert len(ask(store, "SELECT 1 FROM Event", limit=10**9).rows) == guard.ROWS


def test_an_answer_stays_within_its_bytes(store: Path) -> None:
    answer = ask(store, "SELECT " + long("a", 9000) + " FROM Event", limit=1000)
    one = ask(store, f"SELECT {LONG} AS a, " + long("é", 30000) + " AS b, 7 AS c")

    assert answer.cut
    assert len(answer.rows) == guard.ANSWER_BYTES // 9000
    assert one.cut
    assert [len(str(value).encode()) > 20_000 for value in one.rows[0]] == [True, True, False]
    assert str(one.rows[0][0]).endswith("… [cut]")
    assert sum(len(str(value).encode()) for value in one.rows[0]) <= guard.ANSWER_BYTES


def test_values_that_json_cannot_hold_become_text(store: Path) -> None:
    row = ask(store, "SELECT x'00ff', 1e999, key, NULL, 1.5 FROM Software WHERE id = 'bad'").rows[0]

    assert row == ("<2 bytes; hex() shows them>", "inf", "a\ufffdb", None, 1.5)
    assert all(not isinstance(value, float) or math.isfinite(value) for value in row)


def test_public_views_over_private_tables_can_be_read_whole_counted_and_joined(store: Path) -> None:
    assert ask(store, "SELECT count(*) FROM ServiceLoad").rows == [(989,)]
    assert ask(store, "SELECT * FROM serviceload ORDER BY at").columns == ("service", "at", "cpu")
    assert ask(store, "SELECT max(l.at) FROM ServiceLoad AS l JOIN Event e ON e.seq = l.at").rows == [(999,)]
    assert ask(store, "WITH x AS (SELECT cpu FROM ServiceLoad) SELECT count(*) FROM x").rows == [(989,)]


def test_a_view_that_is_not_named_as_public_lends_nothing(store: Path) -> None:
    with pytest.raises(InvalidRequest, match="private"):
        guard.ask(str(store), "SELECT cpu FROM ServiceLoad", 10)


@pytest.mark.parametrize(
    ("sql", "row"),
    [
        (
            "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r LIMIT 5) SELECT sum(n) FROM r",
            (15,),
        ),
        ("WITH t AS (SELECT 1) SELECT count(*) FROM t", (1,)),
        ("SELECT json_extract('{\"a\": [1, 2]}', '$.a[1]'), '[4]' ->> 0", (2, 4)),
        ("SELECT group_concat(value, '+') FROM json_each('[1, 2, 3]')", ("1+2+3",)),
        ("SELECT date('2026-11-30', '+1 day'), strftime('%Y', '2026-11-30')", ("2026-12-01", "2026")),
        ("SELECT seq, lag(seq) OVER (ORDER BY seq) FROM Event ORDER BY seq LIMIT 1 OFFSET 5", (5, 4)),
        (
            "SELECT instr('watchman', 'man'), replace('a-b-c', '-', ''), replace('a', '', 'x')",
            (6, "abc", "a"),
        ),
        (
            "SELECT trim('  x '), trim('xxaxx', 'x'), ltrim('xxa', 'x'), rtrim('axx', 'x')",
            ("x", "a", "a", "a"),
        ),
        (
            "SELECT instr(NULL, 'a'), replace('a', NULL, 'b'), trim(12321, 1), instr(12, 2)",
            (None, None, "232", 2),
        ),
        ("SELECT printf('%.1f%% of %d %s', 12.34, 7, 'x'), format('%05d', 42)", ("12.3% of 7 x", "00042")),
        (
            "SELECT upper(key) FROM Software WHERE key LIKE 'PACKAGE-97%' ORDER BY key LIMIT 1",
            ("PACKAGE-97",),
        ),
        (
            "SELECT round(avg(seq), 1), count(DISTINCT type) FROM Event GROUP BY type HAVING count(*) > 5",
            (49999.5, 1),
        ),
        ("SELECT 1 -- with a comment; and more", (1,)),
        ("SELECT 1;", (1,)),
    ],
)
def test_useful_sql_works(store: Path, sql: str, row: tuple[object, ...]) -> None:
    assert ask(store, sql).rows == [row]


def test_a_wrong_table_is_answered_with_the_real_ones(store: Path) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ask(store, "SELECT * FROM events")

    assert (
        str(refused.value) == "no table events (nearest: Event); the tables are: Event, ServiceLoad, Software"
    )


def test_a_wrong_column_is_answered_with_those_of_the_tables_in_the_query(store: Path) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ask(store, "SELECT e.package FROM Event AS e")

    assert str(refused.value) == (
        "no column e.package (nearest: package_name); Event has id, ts, type, package_name, seq"
    )


def test_a_wrong_function_is_answered_with_the_nearest(store: Path) -> None:
    with pytest.raises(
        InvalidRequest, match=r"no function date_trunc here \(nearest: .*trunc.*\); there are: avg"
    ):
        ask(store, "SELECT date_trunc('day', ts) FROM Event")


def test_an_error_never_carries_control_characters(store: Path) -> None:
    with pytest.raises(InvalidRequest) as refused:
        ask(store, 'SELECT "\x1b[31m\u202ex".y FROM Event')

    assert str(refused.value).isprintable()


def test_a_missing_or_damaged_store_is_the_stores_error(tmp_path: Path) -> None:
    (tmp_path / "damaged.db").write_bytes(b"SQLite format 3\0" + b"x" * 4096)

    for name in ("missing.db", "damaged.db"):
        with pytest.raises(StoreError, match="doctor"):
            guard.ask(str(tmp_path / name), "SELECT 1", 10)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.db"]


def test_a_copy_in_memory_is_asked_by_its_connection_and_closed() -> None:
    for sql, rows in (("SELECT id FROM Host", [("h",)]), ("DELETE FROM Host", None)):
        copy = sqlite3.connect(":memory:")
        copy.executescript("CREATE TABLE Host(id); INSERT INTO Host VALUES ('h')")

        if rows:
            assert guard.ask_connection(copy, sql, 10).rows == rows
        else:
            with pytest.raises(InvalidRequest):
                guard.ask_connection(copy, sql, 10)
        with pytest.raises(sqlite3.ProgrammingError, match="closed"):
            copy.execute("SELECT 1")


def test_describe_lists_public_tables_and_views_with_types(store: Path) -> None:
    connection = sqlite3.connect(store)
    found = guard.describe(connection)
    connection.close()

    assert [row for row in found if row[0] != "Event"] == [
        ("ServiceLoad", "service", "integer"),
        ("ServiceLoad", "at", "integer"),
        ("ServiceLoad", "cpu", "real"),
        ("Software", "id", "text"),
        ("Software", "key", "text"),
        ("Software", "version", "text"),
        ("Software", "size_bytes", "integer"),
        ("Software", "icon", "blob"),
    ]
