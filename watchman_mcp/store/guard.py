"""Strangers' SQL: one SELECT on a reader of its own, which cannot write, read private tables or last."""

import re
import resource
import sqlite3
import time
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import NamedTuple, NoReturn
from urllib.parse import quote

from watchman_mcp.errors import InvalidRequest, StoreError

VALUE_BYTES = ANSWER_BYTES = 64_000
ROWS = 1_000
SQL_LENGTH = 20_000
# An opcode is never interrupted, so time is bounded by the size of values (LENGTH), the cost of one call
# (LIKE_PATTERN_LENGTH, `_replace_slow`) and the number of calls between two looks at the clock (VDBE_OP).
_LIMITS = {
    sqlite3.SQLITE_LIMIT_LENGTH: VALUE_BYTES,
    sqlite3.SQLITE_LIMIT_SQL_LENGTH: 4 * SQL_LENGTH,
    sqlite3.SQLITE_LIMIT_EXPR_DEPTH: 100,
    sqlite3.SQLITE_LIMIT_COMPOUND_SELECT: 20,
    sqlite3.SQLITE_LIMIT_VDBE_OP: 1_000,
    sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH: 100,
}
_NAMES = """
avg count group_concat max median min string_agg sum total row_number rank dense_rank percent_rank cume_dist
ntile lag lead first_value last_value nth_value abs ceil ceiling exp floor ln log log10 log2 mod pi pow power
round sign sqrt trunc coalesce if ifnull iif likelihood likely nullif typeof unlikely char concat concat_ws
format glob hex instr length like lower ltrim octet_length printf quote replace rtrim substr substring trim
unicode upper current_date current_time current_timestamp date datetime julianday strftime time timediff
unixepoch -> ->> json json_array json_array_length json_each json_extract json_group_array json_group_object
json_object json_quote json_tree json_type json_valid"""
FUNCTIONS = frozenset(_NAMES.split())
_TOKEN = re.compile(
    r"""--[^\n]*|/\*.*?(?:\*/|\Z)|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]"""
    r"|[A-Za-z_\u0080-\U0010ffff][\w$\u0080-\U0010ffff]*|\S",
    re.DOTALL,
)
Names = frozenset[str]
Value = str | int | float | None
Columns = list[tuple[str, str, str]]


class Rows(NamedTuple):
    """What a query gave; `cut` says that there was more, or that a value was shortened."""

    columns: tuple[str, ...]
    rows: list[tuple[Value, ...]]
    cut: bool


class Watch:
    """The bounds of one query in time and memory; `why` tells which one ended it."""

    def __init__(self, seconds: float) -> None:
        self.why, self._asked = "", 0
        self._seconds, self._end = seconds, time.monotonic() + seconds
        self._peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss + 64 * 1024  # KiB

    def over(self) -> bool:
        """Whether the query must end now."""
        self._asked += 1
        if time.monotonic() > self._end:
            self.why = f"the query ran longer than {self._seconds:g} s; narrow it"
        elif self._asked % 16 == 0 and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > self._peak:
            self.why = "the query needs too much memory; select fewer rows before sorting or grouping"
        return bool(self.why)


def describe(connection: sqlite3.Connection) -> Columns:
    """The public tables and views as (table, column, type); ask before `guard`, which forbids it."""
    sql = """SELECT m.name, c.name, lower(c.type) FROM sqlite_master AS m JOIN pragma_table_info(m.name) AS c
             WHERE m.type IN ('table', 'view') AND m.name NOT GLOB '[_]*' AND m.name NOT GLOB 'sqlite[_]*'
             ORDER BY m.name, c.cid"""
    return [(str(table), str(column), str(kind)) for table, column, kind in connection.execute(sql)]


def guard(connection: sqlite3.Connection, seconds: float = 2.0, *, views: Names = frozenset()) -> Watch:
    """Lock this connection down for one stranger's query; the clock starts now.

    `views` are the public views that may read private tables. The heap limit that is set counts for all of
    SQLite in this process and stays: only it ends a query that grows while it is still being compiled.
    """
    for setting in ("query_only = 1", "temp_store = MEMORY", f"hard_heap_limit = {128 << 20}"):
        connection.execute(f"PRAGMA {setting}")
    # Made before the authorizer is there, which would take the first use of these tables for a CREATE.
    connection.execute("SELECT 1 FROM json_each('[]'), json_tree('[]')").fetchall()
    public = {table.lower() for table, _, _ in describe(connection)} | {"json_each", "json_tree"}
    lent = _lent(connection, views)
    for limit, value in _LIMITS.items():
        connection.setlimit(limit, value)
    watch = Watch(seconds)
    _replace_slow(connection, watch)
    connection.set_authorizer(_authorizer(public, frozenset(map(str.lower, views)), lent))
    connection.set_progress_handler(watch.over, 200)
    return watch


def ask(path: str, sql: str, limit: int, *, views: Names = frozenset(), seconds: float = 2.0) -> Rows:
    """Run one stranger's SELECT on a reader of its own and give at most `limit` rows and 64 KB.

    Raises:
        InvalidRequest: the query is wrong, forbidden or too much; the message tells what would do.
        StoreError: the store cannot be opened or read.
    """
    try:
        connection = sqlite3.connect(
            f"file:{quote(path)}?mode=ro", uri=True, timeout=1.0, cached_statements=0
        )
    except sqlite3.Error as error:
        raise StoreError(f"the store cannot be opened ({error}); doctor shows its state") from error
    return ask_connection(connection, sql, limit, views=views, seconds=seconds)


def ask_connection(
    connection: sqlite3.Connection, sql: str, limit: int, *, views: Names = frozenset(), seconds: float = 2.0
) -> Rows:
    """The same on a connection that nobody else uses, such as one to a copy in memory; it is closed."""
    columns: Columns = []
    watch: Watch | None = None
    try:
        _refuse_text(sql, views)
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        columns = describe(connection)
        watch = guard(connection, seconds, views=views)
        return _fetch(connection.execute(sql), max(1, min(limit, ROWS)))
    except (sqlite3.Error, sqlite3.Warning, MemoryError, UnicodeEncodeError) as error:
        _explain(error, sql, columns, watch)
    finally:
        connection.close()


def _words(sql: str) -> list[tuple[str, str]]:
    """The tokens as written and as names, in lower case; SQLite takes a byte order mark for a space."""
    found = (t.lower() for t in _TOKEN.findall(sql.replace("\ufeff", " ")) if not t.startswith(("--", "/*")))
    return [(t, t[1:-1].replace(t[0] * 2, t[0]) if len(t) > 1 and t[0] in "'\"`[" else t) for t in found]


def _refuse_text(sql: str, views: Names) -> None:
    """Refuse what the authorizer cannot tell: a WITH name takes a view's place as the accessor of a table."""
    if not isinstance(sql, str) or "\0" in sql or len(sql) > SQL_LENGTH:
        raise InvalidRequest(
            f"a query is one SELECT of at most {SQL_LENGTH} characters without NUL; shorten it"
        )
    words = [*_words(sql), ("", ""), ("", "")]
    for (_, name), (after, _), (then, _) in zip(words, words[1:], words[2:], strict=False):
        defined = after == "(" or (after == "as" and then in ("(", "not", "materialized"))
        if defined and name in set(map(str.lower, views)):
            raise InvalidRequest(f"{name} is a view of the store; give the WITH clause another name")


def _lent(connection: sqlite3.Connection, views: Names) -> set[tuple[str, str]]:
    """The columns that the given views read themselves: no others may be read through them."""
    lent: set[tuple[str, str]] = set()

    def note(action: int, table: str | None, column: str | None, *_: str | None) -> int:
        if action == sqlite3.SQLITE_READ:
            lent.add(((table or "").lower(), (column or "").lower()))
        return sqlite3.SQLITE_OK

    connection.set_authorizer(note)
    for view in views:
        name = view.replace('"', '""')
        # A count reads a table without naming a column. The names are our own.
        connection.execute(f'SELECT (SELECT count(*) FROM "{name}"), * FROM "{name}" LIMIT 0')
    connection.set_authorizer(None)
    return lent


def _authorizer(public: set[str], views: Names, lent: set[tuple[str, str]]) -> Callable[..., int]:
    def authorize(action: int, x: str | None, y: str | None, _: str | None, accessor: str | None) -> int:
        table, column = (x or "").lower(), (y or "").lower()
        allowed = action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_RECURSIVE)
        if action == sqlite3.SQLITE_READ:
            through_view = (table, column) in lent and (not column or (accessor or "").lower() in views)
            # A WITH name that is only counted arrives like a table without a column.
            counted = not column and not table.startswith(("_", "sqlite_", "pragma_"))
            allowed = table in public or through_view or counted
        elif action == sqlite3.SQLITE_FUNCTION:
            allowed = column in FUNCTIONS
        return sqlite3.SQLITE_OK if allowed else sqlite3.SQLITE_DENY

    return authorize


def _replace_slow(connection: sqlite3.Connection, watch: Watch) -> None:
    """Replace the functions of which one call can take seconds: trim() with long texts, printf('%.*c')."""

    def bounded(work: Callable[..., Value], kind: Callable[[Value], Value] = str) -> Callable[..., Value]:
        def call(*values: Value | bytes) -> Value:
            if watch.over():
                raise TimeoutError
            plain = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in values]
            return None if None in plain else work(*map(kind, plain))

        return call

    def replace(text: str, old: str, new: str) -> str:
        if old and len(text) + text.count(old) * (len(new) - len(old)) > VALUE_BYTES:
            raise OverflowError
        return text.replace(old, new) if old else text

    def printf(form: Value, *values: Value) -> str:
        if re.search(r"\d{3}|\*", str(form)):
            raise OverflowError
        return str(form) % values

    for name, arguments, work in (
        ("instr", 2, bounded(lambda text, part: text.find(part) + 1)),
        ("replace", 3, bounded(replace)),
        ("trim", 2, bounded(str.strip)),
        ("ltrim", 2, bounded(str.lstrip)),
        ("rtrim", 2, bounded(str.rstrip)),
        ("printf", -1, bounded(printf, _plain)),
        ("format", -1, bounded(printf, _plain)),
    ):
        connection.create_function(name, arguments, work, deterministic=True)


def _fetch(cursor: sqlite3.Cursor, limit: int) -> Rows:
    if cursor.description is None:
        raise InvalidRequest("the query holds no statement; write one SELECT; an empty query shows tables")
    columns = tuple(str(column[0]) for column in cursor.description)
    rows: list[tuple[Value, ...]] = []
    left = ANSWER_BYTES - sum(map(len, columns))
    for found in cursor:
        row = tuple(map(_plain, found))
        size = sum(map(_size, row))
        if len(rows) == limit or (rows and size > left):
            return Rows(columns, rows, cut=True)
        if size > left:  # a first row is shortened rather than withheld
            return Rows(columns, [tuple(_shorten(value, left // len(row)) for value in row)], cut=True)
        rows.append(row)
        left -= size
    return Rows(columns, rows, cut=False)


def _plain(value: Value | bytes) -> Value:
    if isinstance(value, bytes):
        return f"<{len(value)} bytes; hex() shows them>"
    return str(value) if isinstance(value, float) and abs(value) == float("inf") else value


def _size(value: Value) -> int:
    return len(value.encode()) if isinstance(value, str) else 8


def _shorten(value: Value, room: int) -> Value:
    raw = value.encode() if isinstance(value, str) else b""
    return raw[: max(0, room - 9)].decode(errors="ignore") + "… [cut]" if len(raw) > room else value


def _explain(error: BaseException, sql: str, columns: Columns, watch: Watch | None) -> NoReturn:
    """Raise what the writer of the query can act on."""
    if getattr(error, "sqlite_errorname", "")[7:].startswith(
        ("BUSY", "CANTOPEN", "CORRUPT", "IOERR", "NOTADB")
    ):
        raise StoreError(f"the store could not be read ({error}); doctor shows its state") from error
    text = "".join(c if c.isprintable() else "?" for c in str(error) or "too large")[:200]
    tables = sorted({table for table, _, _ in columns})
    kind, _, name = text.partition(": ")
    if watch and watch.why:
        answer = watch.why
    elif kind == "no such column":
        answer = f"no column {name}{_real_columns(name, sql, columns) or '; {tables}'}"
    elif kind == "no such table":
        answer = f"no table {name}{_nearest(name, tables)}; {{tables}}"
    elif kind.endswith("function"):
        answer = f"no function {name} here{_nearest(name, FUNCTIONS)}; there are: {' '.join(_NAMES.split())}"
    else:
        wrong = f"the SQL is wrong: {text}; an empty query shows tables and columns"
        answer = next((reply for part, reply in _REPLIES if part in text), wrong)
    raise InvalidRequest(answer.replace("{tables}", f"the tables are: {', '.join(tables)}")) from error


_REPLIES = (
    ("is prohibited", "names that begin with _ or sqlite_ are private; {tables}"),
    ("one statement at a time", "only one statement is run; send one SELECT at a time"),
    ("not authorized", "only one SELECT that reads the store is allowed; {tables}"),
    ("too large", "the query is too large or needs too much memory; split it"),
    ("too big", f"a value would be longer than {VALUE_BYTES} bytes; build shorter texts or leave it out"),
    ("pattern too complex", "a LIKE or GLOB pattern is at most 100 characters; shorten it"),
    ("raised exception", f"instr, replace, trim and printf give {VALUE_BYTES} bytes; printf takes no *"),
)


def _nearest(name: str, candidates: Iterable[str]) -> str:
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    found = get_close_matches(name.rsplit(".", 1)[-1].lower(), by_lower, 3, 0.5)
    return f" (nearest: {', '.join(by_lower[key] for key in found)})" if found else ""


def _real_columns(name: str, sql: str, columns: Columns) -> str:
    """The columns of the tables that the query names; empty when it names none."""
    used = {word for _, word in _words(sql)}
    real = {t: [name for table, name, _ in columns if table == t] for t, _, _ in columns if t.lower() in used}
    near = _nearest(name, [column for names in real.values() for column in names])
    return near + "".join(f"; {table} has {', '.join(names)}" for table, names in real.items())
