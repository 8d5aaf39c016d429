"""One judgement: what the rules say of what the store holds now, and of the events since the last one."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from hashlib import blake2b
from typing import Any

from watchman_mcp.rules import Rule
from watchman_mcp.schema.core import RAISED_FOR, Alert, Event, event_key
from watchman_mcp.store.batch import Batch, EdgeRow, EventRow, NodeRow
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import from_text, table, to_text

NAME = "watchman:alerts"
"""Under this name the store keeps what the next judgement needs; no collector can have it."""
MOST = 20
"""Subjects of one rule that have an alert of their own; what is more shares one."""
OTHERS = "others"
THINGS = 20
"""Things that one alert is tied to, the first ones."""
LONGEST = 120
"""Characters of a stranger's word in a message."""
BEHIND = 10_000
"""So many rows may be read again before the mark is written for their sake alone."""


@dataclass
class Waiting:
    """What was raised, and has not lasted long enough to open an alert."""

    since: str
    message: str
    count: int = 0
    things: list[str] = field(default_factory=list)


@dataclass
class Memory:
    """What one judgement leaves for the next one."""

    seq: int = 0
    """Events up to this row have been judged."""
    rules: list[str] = field(default_factory=list)
    """The rules that judged them; one that is new begins with what is new."""
    waiting: dict[str, dict[str, Waiting]] = field(default_factory=dict)
    """By rule and subject."""
    fine: dict[str, str] = field(default_factory=dict)
    """Open alerts about which all is well, by key, and since when."""

    @classmethod
    def of(cls, store: Store) -> Memory:
        """As the store keeps it."""
        rows = store.read("SELECT marks FROM _collector WHERE name = ?", (NAME,))
        if not rows:
            return cls()
        kept = json.loads(rows[0]["marks"])
        waiting = {
            rule: {subject: Waiting(**one) for subject, one in of_rule.items()}
            for rule, of_rule in kept["waiting"].items()
        }
        return cls(kept["seq"], kept["rules"], waiting, kept["fine"])


def judge(store: Store, rules: Iterable[Rule], now: datetime) -> tuple[bool, bool]:
    """Open and close alerts, as rules say of what the store holds.

    Everything is written in one transaction, with the mark up to which events were judged: whatever dies
    meanwhile, no event counts twice and none is missed. Returns whether an alert changed, and whether
    something has begun that must last.

    Raises: StoreError.
    """
    judgement = _Judgement(store, now)
    rules = tuple(rules)
    for rule in rules:
        judgement.judge(rule)
    judgement.drop_rules({rule.name for rule in rules})
    return judgement.write([rule.name for rule in rules])


class _Judgement:
    """One pass over all rules."""

    def __init__(self, store: Store, now: datetime) -> None:
        self._store, self._now, self._at = store, now, to_text(now)
        # not `newest` of the store, which counts rows that are being written and cannot be read yet
        self._upto = int(store.meta("seq", "0"))
        self._memory = Memory.of(store)
        self._before = asdict(self._memory)
        self._open = {
            (row["rule"], row["subject"]): table("Alert").decode(row)
            for row in store.read("SELECT * FROM Alert WHERE gone_at IS NULL")
        }
        self._changed: set[tuple[str, str]] = set()
        self._batch = Batch(at=now, collector=NAME, basis="1")

    def judge(self, rule: Rule) -> None:
        """Raise what a rule finds, then see what has lasted long enough and what is over."""
        waiting = self._memory.waiting.setdefault(rule.name, {})
        raised = {self._raise(rule, row, waiting) for row in self._raised(rule)}
        for subject, one in list(waiting.items()):
            one.since = min(one.since, self._at)
            if subject not in raised if rule.state else self._over(rule, subject, raised):
                del waiting[subject]
            elif self._elapsed(one.since) >= rule.after:
                self._open_alert(rule, subject, waiting.pop(subject))
        for name, subject in list(self._open):
            if name == rule.name:
                self._see(rule, subject, raised)
        if not waiting:
            del self._memory.waiting[rule.name]

    def _raised(self, rule: Rule) -> Iterator[Any]:
        if rule.state:
            yield from self._store.read(rule.raised)
        else:
            above = self._memory.seq if rule.name in self._memory.rules else self._upto
            yield from self._store.read(rule.raised, {"above": above, "upto": self._upto})

    def _raise(self, rule: Rule, row: Any, waiting: dict[str, Waiting]) -> str:
        """Count one finding in the open alert about its subject, or in what waits to be one."""
        subject = str(row["subject"])
        known = [key for key in self._open if key[0] == rule.name]
        if (rule.name, subject) not in self._open and subject not in waiting:
            subject = subject if len(known) + len(waiting) < MOST else OTHERS
        message = rule.text.format(**{name: _quoted(row[name]) for name in row.keys()})  # noqa: SIM118 - of a row, not a dict
        found = self._open.get((rule.name, subject))
        if found is None:
            one = waiting.setdefault(subject, Waiting(self._at, message))
            one.count += not (rule.state and one.count)
            one.message = message
            if row["thing"] and row["thing"] not in one.things and len(one.things) < THINGS:
                one.things.append(row["thing"])
        elif not rule.state or self._memory.fine.get(found["key"]):
            found.update(count=found["count"] + 1, last_at=self._now, message=message)
            self._changed.add((rule.name, subject))
            self._tie(found, [row["thing"]])
        return subject

    def _open_alert(self, rule: Rule, subject: str, one: Waiting) -> None:
        values = {
            "key": _key(rule.name, subject, self._now),
            "rule": rule.name,
            "subject": subject,
            "severity": rule.severity,
            "message": one.message,
            "opened_at": self._now,
            "closed_at": None,
            "last_at": self._now,
            "count": one.count,
        }
        self._open[rule.name, subject] = values
        self._changed.add((rule.name, subject))
        self._tie(values, one.things)
        self._tell(None, values)

    def _see(self, rule: Rule, subject: str, raised: set[str]) -> None:
        """Close an open alert about which all has been well for long enough, or which is old news."""
        found = self._open[rule.name, subject]
        fine = self._memory.fine
        if not self._over(rule, subject, raised):
            fine.pop(found["key"], None)
        else:  # a clock that was set back begins anew
            fine[found["key"]] = min(fine.get(found["key"], self._at), self._at)
            if self._elapsed(fine[found["key"]]) >= rule.calm:
                self._close(rule.name, subject)
                return
        if found["last_at"] > self._now:
            found["last_at"] = self._now
            self._changed.add((rule.name, subject))
        elif not rule.state and (self._now - found["last_at"]).total_seconds() >= rule.lasts:
            self._close(rule.name, subject)

    def drop_rules(self, names: set[str]) -> None:
        """Close the alerts of rules that are off, which nothing else would."""
        for name, subject in list(self._open):
            if name not in names:
                self._close(name, subject)
        self._memory.waiting = {name: of for name, of in self._memory.waiting.items() if name in names}

    def _close(self, rule: str, subject: str) -> None:
        values = self._open.pop((rule, subject))
        self._changed.discard((rule, subject))
        self._memory.fine.pop(values["key"], None)
        values["closed_at"] = self._now
        self._batch.nodes.append(_row(values))
        self._tell(values, None)

    def _over(self, rule: Rule, subject: str, raised: set[str]) -> bool:
        """Whether all is well with a subject now."""
        if rule.state and subject in raised:
            return False
        if not rule.over or (subject == OTHERS and not rule.state):
            return False
        return bool(self._store.read(rule.over, {"subject": subject}))

    def _elapsed(self, since: str) -> float:
        return (self._now - from_text(since)).total_seconds()

    def _tie(self, values: dict[str, Any], things: Iterable[str | None]) -> None:
        """Tie an alert to what it was raised for."""
        path = f"Alert/{values['key']}"
        self._batch.edges += [EdgeRow(RAISED_FOR.name, path, one, "watchman") for one in things if one]

    def _tell(self, before: dict[str, Any] | None, after: dict[str, Any] | None) -> None:
        """The event of an alert that opened or closed."""
        kind, about = Alert.event_type(before, after), after or before or {}
        key = event_key(kind, about["key"])
        values: dict[str, Any] = dict.fromkeys(Event.model_fields)
        values.update(Alert.event_values(before, after), key=key, ts=self._now, type=kind, source="watchman")
        self._batch.events.append(EventRow(f"Event/{key}", values, "watchman", f"Alert/{about['key']}"))

    def write(self, rules: list[str]) -> tuple[bool, bool]:
        """Write what changed, where anything did."""
        batch, memory = self._batch, self._memory
        batch.nodes += [_row(self._open[one]) for one in sorted(self._changed)]
        told = bool(batch.nodes)
        memory.rules = rules
        after = asdict(memory)
        if told or after != self._before or self._upto - memory.seq >= BEHIND:
            batch.marks = {**after, "seq": self._upto}
            self._store.write(batch)
        return told, bool(memory.waiting or memory.fine)


def _row(values: dict[str, Any]) -> NodeRow:
    """An alert as the store keeps it: once it is closed, it has vanished."""
    return NodeRow("Alert", f"Alert/{values['key']}", values, "watchman", values["closed_at"])


def _key(rule: str, subject: str, opened: datetime) -> str:
    text = "\x1f".join((rule, subject, to_text(opened)))
    return "alr_" + blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def _quoted(value: object) -> str:
    """A stranger's word, of which the message shows where it begins and ends."""
    text = str(value).replace('"', "'")
    return f'"{text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"}"'
