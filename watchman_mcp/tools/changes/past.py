"""How things were at a time, and what is different between two times."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from watchman_mcp import history
from watchman_mcp.schema import LABELS
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import nodes
from watchman_mcp.tools.answers import Frame, Window, cursor_from, cursor_to, fit

from .answer import ChangesAnswer, Difference, State

NAMES = {"Software": "key", "Host": "name"}
"""The property by which a person names a node of a label."""


def _named() -> list[tuple[str, str]]:
    """Which labels a subject may name, and by which property."""
    return [(kept.name, NAMES[kept.name]) for kept in nodes() if kept.name in NAMES]


def state(store: Store, frame: Frame, at: datetime, subject: str, limit: int, cursor: str) -> ChangesAnswer:
    """Things as the last look not after a time saw them."""
    offset = cursor_from(cursor, 1)[0] if cursor else 0
    items: list[State] = []
    known = False
    wanted = subject.strip().lower()
    for label, name in _named():
        for scope in history.scopes_of(store, label):
            past = history.past(store, label, at, scope)
            if past is None:
                continue
            known = True
            items += _states(store, frame, past, label, name, scope, at, wanted)
    items.sort(key=lambda item: (item.label, item.name, item.values.get("manager") or ""))
    window = Window(until=frame.show(at), covered=frame.covered())
    if not known:
        note = "Not known: the first look was later than this, or the journal no longer reaches back to it"
        return ChangesAnswer(found="cannot_tell", note=note, window=window, **frame.envelope())
    total, page = len(items), items[offset : offset + limit]
    page = page[: fit(page)]
    end = offset + len(page)
    return ChangesAnswer(
        found="yes" if page else "not_installed" if wanted else "none",
        cut=f"{len(page)} of {total}; narrow with subject" if end < total else None,
        source="the journal of changes",
        window=window,
        totals={"items": total},
        items=page,
        next_cursor=cursor_to([end]) if end < total else None,
        **frame.envelope(),
    )


def _states(
    store: Store,
    frame: Frame,
    past: tuple[dict[str, dict[str, Any]], set[str]],
    label: str,
    name: str,
    scope: str,
    at: datetime,
    wanted: str,
) -> list[State]:
    """The states of one scope, in full for a named thing, else name, version and manager."""
    state, edges = past
    look = history.look_at(store, scope, at)
    found = []
    for node, values in state.items():
        if wanted and str(values[name]).lower() != wanted:
            continue
        short = {
            k: v
            for k, v in values.items()
            if v is not None and (wanted or k in ("version", "manager", "architecture"))
        }
        ends = sorted(e.split(" ")[2] for e in edges if e.startswith(f"DEPENDS_ON {node} ")) if wanted else []
        found.append(
            State(
                label=label,
                name=str(values[name]),
                values={k: frame.show(v) if isinstance(v, datetime) else v for k, v in short.items()},
                depends_on=[state[end][name] for end in ends if end in state] or None,
                seen_at=frame.show(look[0]) if look and wanted else None,
                next_look=frame.show(look[2]) if look and wanted else None,
            )
        )
    return found


def net_of(
    store: Store, frame: Frame, since: datetime, until: datetime, subject: str, window: Window, limit: int
) -> ChangesAnswer:
    """The difference between two times, without what came and went between them."""
    items: list[Difference] = []
    known = False
    for label, name in _named():
        for scope in history.scopes_of(store, label):
            old, new = (history.past(store, label, moment, scope) for moment in (since, until))
            if old is None or new is None:
                continue
            known = True
            items += _differences(label, name, old[0], new[0], subject.strip().lower())
    items.sort(key=lambda item: item.name)
    page = items[: min(limit, fit(items))]
    if not known:
        note = "Not known: nothing was watched at the beginning of this time; without net, logs may tell"
        return ChangesAnswer(found="cannot_tell", note=note, window=window, **frame.envelope())
    return ChangesAnswer(
        found="yes" if items else "none",
        cut=f"{len(page)} of {len(items)}; narrow with subject" if len(page) < len(items) else None,
        window=window,
        totals={"items": len(items)},
        items=page,
        **frame.envelope(),
    )


def _differences(
    label: str, name: str, old: dict[str, Any], new: dict[str, Any], wanted: str
) -> list[Difference]:
    found = []
    watched = LABELS[label].model_fields.keys() - LABELS[label].volatile
    for node in old.keys() | new.keys():
        was, now = old.get(node), new.get(node)
        title = str((now or was or {})[name])
        if wanted and title.lower() != wanted:
            continue
        sides = [_side(label, side, was, now, watched) for side in (was, now)]
        if sides[0] != sides[1]:
            found.append(Difference(name=title, was=sides[0], is_=sides[1]))
    return found


def _side(label: str, side: dict[str, Any] | None, was: Any, now: Any, watched: set[str]) -> str:
    """One side of a difference: the version, or the properties that differ."""
    if side is None:
        return "not there"
    if was is None or now is None:
        return str(side.get("version") or "there")
    return ", ".join(f"{k} {side[k]}" for k in sorted(watched) if was[k] != now[k])
