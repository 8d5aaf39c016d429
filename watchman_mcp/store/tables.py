"""SQLite tables, views and row codecs, made from the vocabulary."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from typing import Any

from watchman_mcp.schema import LABELS, Label
from watchman_mcp.schema.base import scalar

KEPT = ("first_seen", "gone_at", "scope")
"""What the store keeps beside a label's fields, after `seq` and `id`."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

PRIVATE = """
CREATE TABLE IF NOT EXISTS _meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _edges (seq INTEGER PRIMARY KEY, type TEXT NOT NULL, start TEXT NOT NULL,
  end TEXT NOT NULL,  first_seen TEXT NOT NULL, gone_at TEXT, scope TEXT NOT NULL, UNIQUE (start, type, end));
CREATE INDEX IF NOT EXISTS _edges_end ON _edges (end, type);
CREATE INDEX IF NOT EXISTS _edges_scope ON _edges (scope);
CREATE TABLE IF NOT EXISTS _journal (seq INTEGER PRIMARY KEY, recorded_at TEXT NOT NULL, scope TEXT NOT NULL,
  id TEXT NOT NULL, before TEXT, after TEXT);
CREATE INDEX IF NOT EXISTS _journal_scope ON _journal (scope, seq);
CREATE INDEX IF NOT EXISTS _journal_id ON _journal (id, seq);
CREATE TABLE IF NOT EXISTS _look (number INTEGER PRIMARY KEY, scope TEXT NOT NULL, at TEXT NOT NULL,
  seq INTEGER NOT NULL);
CREATE INDEX IF NOT EXISTS _look_scope ON _look (scope, number);
CREATE TABLE IF NOT EXISTS _pending (id TEXT PRIMARY KEY, scope TEXT NOT NULL, before TEXT, after TEXT,
  earliest TEXT NOT NULL, at TEXT NOT NULL, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _collector (name TEXT PRIMARY KEY, basis TEXT NOT NULL, marks TEXT NOT NULL,
  unobserved TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS _deleted (seq INTEGER PRIMARY KEY, label TEXT NOT NULL, id TEXT, since TEXT,
  before TEXT);
CREATE TABLE IF NOT EXISTS _opening (number INTEGER PRIMARY KEY, seq INTEGER NOT NULL, run TEXT NOT NULL);
"""

EXTRA_COLUMNS = {"Event": (("acted_on", "TEXT"),)}
"""An event acts on one thing: the edge is a column of its row, and part of the public view `edges`."""

INDEXES = {
    # The first is long because it answers alone how many changes of each kind there were; the others are
    # short because every index is paid for at each of the many rows of a log's first reading.
    "Event": ("(ts, type, manager)", "(subject)", "(acted_on)"),
    # The third counts what is there without its rows, the fourth finds what was installed when.
    "Software": (
        "(key, manager, architecture, location)",
        "(scope)",
        "(manager, state, gone_at) WHERE gone_at IS NULL",
        "(installed_at) WHERE gone_at IS NULL",
    ),
    "CollectorRun": ("(collector, last_at)",),
}
DEFAULT_INDEXES = ("(scope)",)


def to_text(moment: datetime) -> str:
    """A moment as the store keeps it: UTC, always 27 characters, so that text order is time order."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds")[:-6] + "Z"


def from_text(text: str) -> datetime:
    """The moment that `to_text` wrote."""
    return datetime.fromisoformat(text)


def to_ms(moment: datetime) -> int:
    """A moment in whole milliseconds since 1970, as samples keep it."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


@dataclass(frozen=True)
class Column:
    """One property as a column: its name and the scalar behind it."""

    name: str
    kind: type
    many: bool

    @property
    def sql(self) -> str:
        if self.many:
            return "TEXT"
        return {str: "TEXT", int: "INTEGER", float: "REAL", bool: "INTEGER", datetime: "TEXT"}[self.kind]

    def encode(self, value: Any) -> Any:
        """A property's value as SQLite keeps it."""
        if value is None:
            return None
        if self.many:
            return json.dumps([to_text(v) if self.kind is datetime else v for v in value], ensure_ascii=False)
        return to_text(value) if self.kind is datetime else value

    def decode(self, value: Any) -> Any:
        """The value that `encode` wrote."""
        if value is None:
            return None
        if self.many:
            values = json.loads(value)
            return [from_text(v) for v in values] if self.kind is datetime else values
        if self.kind is datetime:
            return from_text(value)
        return bool(value) if self.kind is bool else value


@dataclass(frozen=True)
class Table:
    """How one label is kept."""

    label: type[Label]
    columns: tuple[Column, ...]

    @property
    def name(self) -> str:
        return self.label.__name__

    @property
    def extra(self) -> tuple[tuple[str, str], ...]:
        return EXTRA_COLUMNS.get(self.name, ())

    @cached_property
    def _properties(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    @cached_property
    def _encoded(self) -> tuple[tuple[int, Column], ...]:
        """The columns whose values SQLite does not take as they are, with their places."""
        return tuple((n, c) for n, c in enumerate(self.columns) if c.many or c.kind is datetime)

    def encode(self, values: Mapping[str, Any]) -> list[Any]:
        """A node's properties in the order of the columns."""
        row = list(map(values.__getitem__, self._properties))
        for place, column in self._encoded:
            if row[place] is not None:
                row[place] = column.encode(row[place])
        return row

    def decode(self, row: Mapping[str, Any] | sqlite3.Row) -> dict[str, Any]:
        """The properties of a stored row."""
        return {c.name: c.decode(row[c.name]) for c in self.columns}

    def restore(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The properties of a row that went through JSON, where moments are text; new fields are None."""
        restored = {c.name: values.get(c.name) for c in self.columns}
        for c in self.columns:
            value = restored[c.name]
            if c.kind is datetime and value is not None:
                restored[c.name] = [from_text(v) for v in value] if c.many else from_text(value)
        return restored

    @property
    def create(self) -> str:
        """The statement that makes the table of a label of nodes."""
        own = [f'"{c.name}" {c.sql}' for c in self.columns] + [f"{n} {t}" for n, t in self.extra]
        kept = "first_seen TEXT NOT NULL, gone_at TEXT, scope TEXT NOT NULL"
        columns = ", ".join(["seq INTEGER PRIMARY KEY", "id TEXT NOT NULL UNIQUE", *own, kept])
        return f'CREATE TABLE IF NOT EXISTS "{self.name}" ({columns})'

    @property
    def indexes(self) -> list[str]:
        """The statements that make its indexes."""
        return [
            f'CREATE INDEX IF NOT EXISTS "_{self.name}_{n}" ON "{self.name}" {columns}'
            for n, columns in enumerate(INDEXES.get(self.name, DEFAULT_INDEXES))
        ]

    @cached_property
    def names(self) -> list[str]:
        """Every column of a node's table in the order in which rows are written."""
        return ["seq", "id", *[f'"{c.name}"' for c in self.columns], *[n for n, _ in self.extra], *KEPT]

    @cached_property
    def upsert(self) -> str:
        """Write a node by its id; `first_seen` of a node that was there stays."""
        changed = [n for n in self.names if n not in ("id", "first_seen")]
        values = ", ".join(f"{n} = excluded.{n}" for n in changed)
        return f"{self.insert} ON CONFLICT (id) DO UPDATE SET {values}"

    @cached_property
    def insert(self) -> str:
        names = self.names
        return f'INSERT INTO "{self.name}" ({", ".join(names)}) VALUES ({", ".join("?" * len(names))})'

    @cached_property
    def insert_new(self) -> str:
        """Write a node unless its id is known."""
        return f"{self.insert} ON CONFLICT (id) DO NOTHING"

    @cached_property
    def measures(self) -> tuple[Column, ...]:
        """The numbers of a sample."""
        named = {*(self.label.series or ()), "timestamp"}
        return tuple(c for c in self.columns if c.name not in named)

    @cached_property
    def named(self) -> tuple[Column, ...]:
        """The fields that name what a sample measured."""
        return tuple(c for c in self.columns if c.name in (self.label.series or ()))

    @property
    def create_samples(self) -> list[str]:
        """The statements that make a label of samples: its two tables, its index and its view.

        Floats are kept in thousandths, which takes two or three bytes instead of eight; `span` is the stretch
        in seconds that a rolled-up sample stands for.
        """
        numbers = [
            f'"{c.name}" {"INTEGER" if c.kind is float and not c.many else c.sql}' for c in self.measures
        ]
        series = ['"name_key" TEXT NOT NULL UNIQUE'] + [f'"{c.name}" {c.sql}' for c in self.named]
        shown = [
            *[f's."{c.name}"' for c in self.named],
            "strftime('%Y-%m-%dT%H:%M:%fZ', m.ts / 1000.0, 'unixepoch') AS timestamp",
            *[
                f'm."{c.name}" / 1000.0 AS "{c.name}"' if c.kind is float and not c.many else f'm."{c.name}"'
                for c in self.measures
            ],
            "m.span AS span_seconds",
        ]
        return [
            f'CREATE TABLE IF NOT EXISTS "_{self.name}" (seq INTEGER PRIMARY KEY, series INTEGER NOT NULL, '
            f"ts INTEGER NOT NULL, span INTEGER, {', '.join(numbers)})",
            f'CREATE UNIQUE INDEX IF NOT EXISTS "_{self.name}_ts" ON "_{self.name}" (series, ts)',
            f'CREATE TABLE IF NOT EXISTS "_{self.name}_series" '
            f"(series INTEGER PRIMARY KEY, {', '.join(series)})",
            f'DROP VIEW IF EXISTS "{self.name}"',
            f'CREATE VIEW "{self.name}" AS SELECT {", ".join(shown)} FROM "_{self.name}" m '
            f'JOIN "_{self.name}_series" s ON s.series = m.series',
        ]

    @cached_property
    def insert_sample(self) -> str:
        """Write a sample; one of the same series and moment is replaced."""
        names = ["seq", "series", "ts", "span", *[f'"{c.name}"' for c in self.measures]]
        marks = ", ".join("?" * len(names))
        return f'INSERT OR REPLACE INTO "_{self.name}" ({", ".join(names)}) VALUES ({marks})'

    @cached_property
    def insert_series(self) -> str:
        """Name a measured thing."""
        names = ["name_key", *[f'"{c.name}"' for c in self.named]]
        return (
            f'INSERT INTO "_{self.name}_series" ({", ".join(names)}) VALUES ({", ".join("?" * len(names))})'
        )

    def encode_sample(self, values: Mapping[str, Any]) -> tuple[Any, ...]:
        """The numbers of one sample as they are kept."""
        out = []
        for c in self.measures:
            value = values[c.name]
            if value is not None:
                value = c.encode(value) if c.many else round(value * 1000) if c.kind is float else value
            out.append(value)
        return tuple(out)


@cache
def table(name: str) -> Table:
    """The table of a label."""
    label = LABELS[name]
    kinds = {n: scalar(f.annotation) for n, f in label.model_fields.items()}
    return Table(label, tuple(Column(n, *k) for n, k in kinds.items() if k))


def nodes() -> list[Table]:
    """The tables of all labels of nodes."""
    return [table(n) for n, label in LABELS.items() if label.series is None]


def samples() -> list[Table]:
    """The tables of all labels of samples."""
    return [table(n) for n, label in LABELS.items() if label.series is not None]


def statements() -> Iterable[str]:
    """Everything that makes a store, each harmless when it was made before."""
    yield from [part for part in PRIVATE.split(";\n") if part.strip()]
    for one in nodes():
        yield one.create
        yield from one.indexes
    for one in samples():
        yield from one.create_samples
    yield "DROP VIEW IF EXISTS edges"
    yield (
        "CREATE VIEW edges AS SELECT type, start, end, first_seen, gone_at, scope FROM _edges UNION ALL "
        "SELECT 'ACTED_ON', id, acted_on, first_seen, gone_at, scope FROM Event WHERE acted_on IS NOT NULL"
    )


def views() -> frozenset[str]:
    """The public views, which read private tables."""
    return frozenset({"edges", *(t.name for t in samples())})
