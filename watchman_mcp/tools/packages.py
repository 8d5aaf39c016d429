"""Packages: what is installed, and when each was installed, updated or removed."""

from __future__ import annotations

import difflib
import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from watchman_mcp.schema.packages import Software
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import to_text
from watchman_mcp.times import Window as Asked

from . import reads
from .answers import (
    Answer,
    Cursor,
    Frame,
    Limit,
    Since,
    Tail,
    Until,
    Window,
    clamp,
    cursor_from,
    cursor_to,
    fit,
    frame_of,
)

PYTHON = ("pip", "uv", "pipx", "conda", "poetry")
SYNONYMS = {
    "dpkg": "apt",
    "deb": "apt",
    "debian": "apt",
    "apt-get": "apt",
    "ubuntu": "apt",
    "pip3": "pip",
    "pypi": "python",
    "uvx": "uv",
}
ACTIONS = {
    "package_install": "install",
    "package_update": "update",
    "package_downgrade": "downgrade",
    "package_remove": "remove",
    "package_purge": "purge",
    "package_reinstall": "reinstall",
    "package_changed": "change",
}
ASKED = {"remove": ("package_remove", "package_purge"), "install": ("package_install", "package_reinstall")}
CAME = ("package_install", "package_update", "package_downgrade", "package_reinstall")
Columns = dict[str, tuple[str, str]]
"""Columns of a history by name: what they are of an event, and of a package that only its files date."""
_KIND: Columns = {"type": ("type", "'package_install'"), "manager": ("manager", "manager")}
COUNTED: Columns = {**_KIND, "n": ("count(*)", "count(*)")}
_RUN = "'files:' || manager || ':' || coalesce(location, '') || ':' || substr(installed_at, 1, 16)"
TOLD: Columns = {
    "ts": ("ts", "installed_at"),
    "key": ("subject", "key"),
    "transaction_id": ("transaction_id", _RUN),
    "source": ("source", "'files'"),
    **{name: (name, name) for name in ("version", "location", "seq")},
    **{
        name: (name, "NULL")
        for name in ("previous", "command", "by", "error", "ts_earliest", "fields", "before", "after")
    },
    **_KIND,
}


class Change(BaseModel):
    """One package in a transaction."""

    action: str
    name: str
    version: str | None = None
    previous: str | None = None
    what: str | None = None


class Transaction(BaseModel):
    """Changes that one run of a manager made, or that one look found."""

    ts: str
    manager: str | None = None
    source: str | None = None
    command: str | None = None
    by: str | None = None
    location: str | None = None
    earliest: str | None = None
    error: str | None = None
    changes: list[Change]
    more: int | None = None


class Package(BaseModel):
    """One installed, or formerly installed, package."""

    name: str
    version: str | None = None
    manager: str
    architecture: str | None = None
    location: str | None = None
    installed_at: str | None = None
    removed_at: str | None = None
    requested: bool | None = None
    held: bool | None = None
    state: str | None = None
    size_mb: float | None = None
    source_package: str | None = None
    summary: str | None = None
    depends_on: list[str] | None = None
    needed_by: list[str] | None = None
    history: list[str] | None = None


class PackagesAnswer(Answer, Tail):
    """Packages, or their history by transaction."""

    items: list[Package | Transaction] = []


@dataclass
class Filter:
    """The conditions that the arguments make, as SQL on one table."""

    conditions: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    matched: str | None = None
    exact: bool = False

    def add(self, condition: str, **parameters: Any) -> None:
        self.conditions.append(condition)
        self.parameters.update(parameters)

    @property
    def where(self) -> str:
        return " AND ".join(self.conditions) or "1"


@reads(title="Packages", needs=(Software,), always=True)
def query_packages(
    store: Store,
    name: Annotated[str, Field(description="Name, part or glob; exact match first")] = "",
    view: Annotated[
        Literal["auto", "installed", "history"],
        Field(description="auto: history if since, until or action is given"),
    ] = "auto",
    manager: Annotated[
        str, Field(description="apt, pip, uv, ...; python = pip, pipx, uv and distribution packages")
    ] = "",
    action: Annotated[Literal["any", "install", "update", "remove", "downgrade"], Field()] = "any",
    since: Since = "",
    until: Until = "",
    limit: Limit = 50,
    cursor: Cursor = "",
) -> PackagesAnswer:
    """Installed software, when each package was installed or last updated, and by which command.

    All package managers. Totals per action and manager cover all pages.
    """
    frame = frame_of(store, (Software,))
    asked = frame.window(since, until)
    wants_history = view == "history" or (view == "auto" and bool(since or until or action != "any"))
    chosen = _choose(store, name, manager)
    if name and chosen.matched is None:
        return _unknown(store, frame, name)
    if manager and (refusal := _unknown_manager(store, frame, manager)):
        return refusal
    if wants_history:
        return _history(store, frame, chosen, action, asked, clamp(limit), cursor, bool(since or until))
    return _installed(store, frame, chosen, clamp(limit), cursor)


def _choose(store: Store, name: str, manager: str) -> Filter:
    """Understand a name and a manager; `matched` stays None when no package, present or past, has such a name."""
    chosen = Filter()
    wanted = name.strip().lower()
    if wanted:
        candidates = [wanted, wanted.replace("_", "-").replace(".", "-")]
        rows = store.read("SELECT 1 FROM Software WHERE key IN (?, ?) LIMIT 1", candidates)
        if rows:
            chosen.add("key IN (:name, :normal)", name=candidates[0], normal=candidates[1])
            chosen.matched, chosen.exact = f"exact: {wanted}", True
        else:
            pattern = wanted if set(wanted) & set("*?[") else f"*{_glob_text(wanted)}*"
            rows = store.read("SELECT count(DISTINCT key) AS n FROM Software WHERE key GLOB ?", (pattern,))
            if rows[0]["n"]:
                chosen.add("key GLOB :pattern", pattern=pattern)
                chosen.matched = f"{rows[0]['n']} names like {pattern}"
    if manager:
        _choose_manager(chosen, manager)
    return chosen


def _glob_text(text: str) -> str:
    """Text that GLOB takes literally."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _choose_manager(chosen: Filter, manager: str) -> None:
    wanted = SYNONYMS.get(manager.strip().lower(), manager.strip().lower())
    if wanted == "python":
        marks = ", ".join(f"'{one}'" for one in PYTHON)
        chosen.add(f"(manager IN ({marks}) OR (manager = 'apt' AND key GLOB 'python3-*'))")
    else:
        chosen.add("manager = :manager", manager=wanted)


def _unknown(store: Store, frame: Frame, name: str) -> PackagesAnswer:
    """No package of that name was ever seen: say what is near, and whether that can be trusted."""
    keys = [row["key"] for row in store.read("SELECT DISTINCT key FROM Software")]
    near = difflib.get_close_matches(name.lower(), keys, n=5, cutoff=0.6)
    note = f"Nearest names: {', '.join(near)}" if near else "No name is near it"
    found: Literal["cannot_tell", "not_installed"] = "cannot_tell" if frame.blind else "not_installed"
    return PackagesAnswer(found=found, note=note, totals={"items": 0}, **frame.envelope())


def _unknown_manager(store: Store, frame: Frame, manager: str) -> PackagesAnswer | None:
    """A manager of which nothing was ever seen: none or not watched, which are different answers."""
    wanted = SYNONYMS.get(manager.strip().lower(), manager.strip().lower())
    known = {row["manager"] for row in store.read("SELECT DISTINCT manager FROM Software")}
    watched = {run["collector"] for run in frame.runs if run["status"] in ("ok", "partial")}
    if wanted in known or wanted == "python":
        return None
    seen = wanted in watched or (wanted in PYTHON and "python" in watched)
    note = f"Packages here are of: {', '.join(sorted(known)) or 'no manager yet'}"
    return PackagesAnswer(
        found="none" if seen else "cannot_tell", note=note, totals={"items": 0}, **frame.envelope()
    )


def _installed(store: Store, frame: Frame, chosen: Filter, limit: int, cursor: str) -> PackagesAnswer:
    offset = cursor_from(cursor, 1)[0] if cursor else 0
    where = f"{chosen.where} AND gone_at IS NULL"
    totals = _totals(
        store, f'SELECT manager AS word, count(*) AS n FROM "Software" WHERE {where} GROUP BY 1', chosen
    )
    sql = f'SELECT * FROM "Software" WHERE {where} ORDER BY key, manager, architecture, location LIMIT :limit OFFSET :offset'
    rows = store.read(sql, {**chosen.parameters, "limit": limit, "offset": offset})
    if not rows and chosen.matched and not offset:
        return _removed(store, frame, chosen)
    detailed = len(rows) <= 3
    items = [_package(store, frame, row, detailed, bool(chosen.matched)) for row in rows]
    items = items[: fit(items)]
    total, end = totals["items"], offset + len(items)
    found: Literal["yes", "none", "cannot_tell"] = (
        "yes" if items else "cannot_tell" if frame.blind else "none"
    )
    return PackagesAnswer(
        found=found,
        cut=f"{len(items)} of {total}; narrow with name or manager" if end < total else None,
        matched=chosen.matched,
        source="package databases",
        totals=totals,
        items=items,
        next_cursor=cursor_to([end]) if end < total else None,
        **frame.envelope(),
    )


def _totals(store: Store, sql: str, chosen: Filter, more: dict[str, Any] | None = None) -> dict[str, int]:
    counts = {
        row["word"] or "other": row["n"] for row in store.read(sql, {**chosen.parameters, **(more or {})})
    }
    return {"items": sum(counts.values()), **dict(sorted(counts.items()))}


def _package(store: Store, frame: Frame, row: Any, detailed: bool, named: bool) -> Package:
    size = row["size_bytes"]
    package = Package(
        name=row["key"],
        version=row["version"],
        manager=row["manager"],
        architecture=row["architecture"] if detailed else None,
        location=row["location"],
        installed_at=frame.show(row["installed_at"]),
        removed_at=frame.show(row["gone_at"]),
        requested=bool(row["requested"])
        if row["requested"] is not None and (named or row["requested"])
        else None,
        held=True if row["held"] else None,
        state=row["state"] if row["state"] not in (None, "installed") else None,
        size_mb=round(size / 2**20, 1) if size and (detailed or named) else None,
    )
    if detailed and named:
        package.source_package = row["source_package"] if row["source_package"] != row["key"] else None
        package.summary = row["summary"]
        package.depends_on = _ends(store, "end", "start", row["id"])
        package.needed_by = _ends(store, "start", "end", row["id"])
        package.history = _lines(store, frame, row)
    return package


def _ends(store: Store, wanted: str, given: str, node: str) -> list[str] | None:
    """The other ends of a package's dependencies, by name; at most 30."""
    sql = f"SELECT s.key FROM _edges e JOIN Software s ON s.id = e.{wanted} WHERE e.{given} = ? AND e.type = 'DEPENDS_ON' AND e.gone_at IS NULL ORDER BY 1"
    names = list(dict.fromkeys(row["key"] for row in store.read(sql, (node,))))
    return names[:30] + ([f"and {len(names) - 30} more"] if len(names) > 30 else []) or None


def _lines(store: Store, frame: Frame, row: Any) -> list[str]:
    """The newest changes of one package, newest first, and whether it was ever updated."""
    rows = store.read(
        "SELECT * FROM Event WHERE acted_on = ? ORDER BY ts DESC, seq DESC LIMIT 5", (row["id"],)
    )
    lines = []
    for event in rows:
        versions = " -> ".join(v for v in (event["previous"], event["version"]) if v)
        command = f" by {event['command']}" if event["command"] else ""
        lines.append(
            f"{frame.show(event['ts'])} {ACTIONS.get(event['type'], event['type'])} {versions}{command}"
        )
    if not any(event["type"] in ("package_update", "package_downgrade") for event in rows):
        lines.append(
            f"no update since {frame.show(row['installed_at'])}" if row["installed_at"] else "no update known"
        )
    return lines


def _removed(store: Store, frame: Frame, chosen: Filter) -> PackagesAnswer:
    """Known by name, and not there now."""
    sql = f'SELECT * FROM "Software" WHERE {chosen.where} ORDER BY gone_at DESC LIMIT 5'
    items = [_package(store, frame, row, True, True) for row in store.read(sql, chosen.parameters)]
    note = "Not installed now; it was before." if items else None
    return PackagesAnswer(
        found="not_installed",
        matched=chosen.matched,
        note=note,
        totals={"items": 0},
        items=items,
        **frame.envelope(),
    )


def _history(
    store: Store,
    frame: Frame,
    chosen: Filter,
    action: str,
    asked: Asked,
    limit: int,
    cursor: str,
    bounded: bool,
) -> PackagesAnswer:
    """Events, and the packages whose files tell of an installation that no event does."""
    newest = store.read("SELECT max(seq) AS n FROM Event")[0]["n"] or 0
    position = cursor_from(cursor, 2) if cursor else [newest, 0]
    types = ASKED.get(action, (f"package_{action}",)) if action != "any" else tuple(ACTIONS)
    more: dict[str, Any] = {
        "since": to_text(asked.since) if asked.since else "",
        "until": to_text(asked.until),
        "seq": position[0],
    }
    more |= {"limit": limit, "offset": position[1], "end": position[1] + limit}
    totals = _history_totals(
        store, _history_sql(chosen, types, COUNTED, "GROUP BY 2, 1"), {**chosen.parameters, **more}
    )
    newest_first = "ORDER BY ts DESC, seq DESC LIMIT"
    source = _history_sql(chosen, types, TOLD, f"{newest_first} :end")
    sql = f"SELECT * FROM ({source}) {newest_first} :limit OFFSET :offset"
    rows = store.read(sql, {**chosen.parameters, **more})
    transactions, shown = _group(frame, rows)
    total, end = totals["items"], position[1] + shown
    note = None
    if not rows and chosen.exact and not bounded:
        note = _never(store, frame, chosen, action)
    return PackagesAnswer(
        found="yes" if rows else "cannot_tell" if frame.blind else "none",
        cut=f"{shown} of {total} changes; narrow with name, manager, action or since"
        if end < total
        else None,
        matched=chosen.matched,
        source="package logs and databases",
        window=Window(
            since=frame.show(asked.since),
            until=frame.show(asked.until),
            covered=_covered(store, frame, asked.since),
        ),
        totals=totals,
        note=note,
        items=transactions,
        next_cursor=cursor_to([position[0], end]) if end < total else None,
        **frame.envelope(),
    )


def _history_totals(store: Store, source: str, parameters: dict[str, Any]) -> dict[str, int]:
    """How many changes there were of each action, and of each manager."""
    rows = store.read(source, parameters)
    actions, managers = Counter[str](), Counter[str]()
    for row in rows:
        actions[ACTIONS.get(row["type"], row["type"])] += row["n"]
        managers[row["manager"] or "other"] += row["n"]
    return {"items": actions.total(), **dict(sorted(actions.items())), **dict(sorted(managers.items()))}


def _history_sql(chosen: Filter, types: tuple[str, ...], columns: Columns, each: str = "") -> str:
    """Events, and packages dated by their files; the file's date counts only where no event tells how it came.

    `each` groups or bounds both parts alike, so that no more of either is read than a page can show.
    """
    kinds = ", ".join(f"'{one}'" for one in types)
    came = ", ".join(f"'{one}'" for one in CAME)
    on_event = chosen.where.replace("key ", "subject ")
    of_event, of_files = (", ".join(f"{pair[n]} AS {c}" for c, pair in columns.items()) for n in (0, 1))
    parts = [
        f"SELECT {of_event} FROM Event WHERE type IN ({kinds}) AND ts >= :since AND ts <= :until "
        f"AND seq <= :seq AND {on_event} {each}"
    ]
    if "package_install" in types:
        parts.append(
            f"SELECT {of_files} FROM Software WHERE gone_at IS NULL AND installed_at >= :since AND "
            f"installed_at <= :until AND {chosen.where} AND NOT EXISTS "
            f"(SELECT 1 FROM Event e WHERE e.acted_on = Software.id AND e.type IN ({came})) {each}"
        )
    return " UNION ALL ".join(f"SELECT * FROM ({part})" for part in parts)


def _group(frame: Frame, rows: list[Any]) -> tuple[list[Transaction], int]:
    """Rows, newest first, as transactions; and how many rows fitted into the answer."""
    groups: dict[tuple[str | None, ...], Transaction] = {}
    budget, used, shown = 12_500, 0, 0
    for row in rows:
        # Two runs of apt may begin in one second, and then share what their transaction is called by.
        shared = (row["source"], row["manager"], row["ts"][:16], row["location"])
        key = (row["transaction_id"], row["command"]) if row["transaction_id"] else shared
        change = _change(row)
        used += len(change.model_dump_json(exclude_none=True)) + 1
        if key not in groups:
            groups[key] = Transaction(
                ts=frame.show(row["ts"]) or "",
                manager=row["manager"],
                source=row["source"] if row["source"] != row["manager"] else None,
                command=_short(row["command"], 160),
                by=row["by"],
                location=row["location"],
                earliest=frame.show(row["ts_earliest"]),
                error=_short(row["error"], 160),
                changes=[],
            )
            used += 320
        if used > budget and shown:
            if not groups[key].changes:
                del groups[key]
            break
        groups[key].changes.append(change)
        shown += 1
    return list(groups.values()), shown


def _change(row: Any) -> Change:
    return Change(
        action=ACTIONS.get(row["type"], row["type"]),
        name=row["key"],
        version=row["version"],
        previous=row["previous"],
        what=changed_fields(row) if row["type"] == "package_changed" else None,
    )


def changed_fields(event: Any) -> str | None:
    """The properties that an event tells to have changed, with their values before and after."""
    fields, before, after = (json.loads(event[side] or "[]") for side in ("fields", "before", "after"))
    changed = [f"{f} {b or 'none'} -> {a or 'none'}" for f, b, a in zip(fields, before, after, strict=False)]
    return _short("; ".join(changed), 200) or None


def _short(text: str | None, length: int) -> str | None:
    return text if text is None or len(text) <= length else f"{text[:length]}…"


def _never(store: Store, frame: Frame, chosen: Filter, action: str) -> str | None:
    """What to say of a package that is there and to which the action never happened."""
    sql = f'SELECT key, installed_at FROM "Software" WHERE {chosen.where} AND gone_at IS NULL LIMIT 1'
    rows = store.read(sql, chosen.parameters)
    if not rows:
        return None
    when = frame.show(rows[0]["installed_at"])
    return f"{rows[0]['key']} is installed (since {when or 'an unknown time'}); no {action} is known"


def _covered(store: Store, frame: Frame, since: datetime | None) -> str | None:
    """How far back the logs reach, and since when everything is watched."""
    oldest = store.read(
        "SELECT ts FROM Event WHERE type GLOB 'package_*' AND source <> 'observed' ORDER BY ts LIMIT 1"
    )
    logs = f"package logs since {frame.show(oldest[0]['ts'])}; " if oldest else ""
    watched = frame.covered(since)
    return f"{logs}{watched}" if watched else logs.rstrip("; ") or None
