"""Which machines a question means, and the frame of an answer about others than this one."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from watchman_mcp.errors import FleetError, InvalidRequest
from watchman_mcp.schema import Label
from watchman_mcp.store.sqlite import Store
from watchman_mcp.store.tables import from_text

from .answers import Frame, Unseen, frame_of, unseen_by, zone_of
from .coverage import coverage

if TYPE_CHECKING:
    from watchman_mcp.store.neo4j.fleet import Fleet as Fleet
    from watchman_mcp.store.neo4j.fleet import Machine
else:
    # The server reads signatures when it starts, also where there is no Neo4j and nothing of it is loaded.
    Fleet = Machine = object

EVERY = ("*", "all", "any", "every", "everything")
SILENT = timedelta(days=1)
"""A machine that was not heard of for longer is named in answers that rest on it."""
NAMED = 20
"""Machines that one line of an answer names."""
LONGEST = 60
"""Characters of a stranger's name in an error."""
SHORTEST = 4
"""Characters of a machine id that may stand for the whole."""


@dataclass(frozen=True, kw_only=True)
class Elsewhere(Frame):
    """The frame of an answer that Neo4j gives, about one machine or several."""

    fleet: Fleet
    machines: tuple[Machine, ...]
    understood: str | None = None
    """How the words for the machines were understood, where that needs saying."""

    @property
    def ids(self) -> list[str]:
        """The ids of the machines."""
        return [one.machine for one in self.machines]

    @property
    def only(self) -> Machine:
        """The one machine of an answer that is not about several."""
        return self.machines[0]

    @property
    def observed_at(self) -> str | None:
        """When the machine that was heard of least recently last wrote to Neo4j."""
        return self.show(min(one.heard_at for one in self.machines))

    @property
    def blind(self) -> bool:
        """Whether none of the collectors behind the answer has looked successfully on any machine."""
        return not any(run["status"] in ("ok", "partial") for run in self.runs)

    def unseen(self) -> list[Unseen]:
        """Machines that are silent, then what collectors could not look at."""
        silent = [one for one in self.machines if self.now - from_text(one.heard_at) > SILENT]
        found = [
            Unseen(what=self.title(one.machine), why=f"last heard {self.show(one.heard_at)}")
            for one in sorted(silent, key=lambda one: one.heard_at)
        ]
        if not self.several:
            return found + super().unseen()
        for run in self.runs:
            title = self.title(run["host"])
            found += [Unseen(what=f"{title}: {one.what}", why=one.why) for one in unseen_by(run)]
        return found

    def more(self, count: int) -> str:
        """Where the rest is told of what could not be looked at."""
        return f"{count} more; doctor there lists them"

    def matched(self, text: str | None) -> str | None:
        """What the words of the question were understood to mean, those for the machines too."""
        return "; ".join(part for part in (text, self.understood) if part) or None

    def covered(self, since: datetime | None = None) -> str | None:
        """From when on one machine's collectors watch; nothing is said of several."""
        if self.several:
            return None
        names = {run["collector"] for run in self.runs}
        rows = [row for row in self.fleet.stretches(self.only.machine) if row["collector"] in names]
        return coverage(rows, since, self.show)

    def title(self, machine: str) -> str:
        """A machine's name, with a part of its id where another one is called the same."""
        names = [one.name.lower() for one in self.machines]
        name = next((one.name for one in self.machines if one.machine == machine), machine[:8])
        return f"{name} ({machine[:8]})" if names.count(name.lower()) > 1 else name

    def titles(self, machines: Iterable[str]) -> list[str]:
        """The names of some machines, in order; of many the first ones and how many more there are."""
        found = sorted((self.title(one) for one in machines), key=str.lower)
        return found[:NAMED] + ([f"and {len(found) - NAMED} more"] if len(found) > NAMED else [])

    def whose(self, row: Any) -> str | None:
        """The machine of a row, where the answer is about several."""
        return self.title(row["host"]) if self.several else None


class Kept(dict[str, Any]):
    """A row of the graph, in which what a node does not have is None as in a row of the store."""

    def __missing__(self, _name: str) -> None:
        return None


def elsewhere(
    store: Store, fleet: Fleet | None, host: str, needs: Iterable[type[Label]] = ()
) -> Elsewhere | None:
    """The frame of an answer about the machines that `host` names; None where it means this machine.

    Raises: InvalidRequest for a name that no machine has, FleetError while Neo4j cannot be asked.
    """
    wanted = host.strip()
    here = frame_of(store, needs)
    own = _own_names(store)
    if not wanted or wanted.lower() in own:
        return None
    if fleet is None:
        raise InvalidRequest("host needs Neo4j, which is not configured: [neo4j] uri in the configuration")
    known = fleet.hosts()
    if not known:
        raise FleetError("no machine has written to Neo4j yet; `doctor` says how this one's mirror fares")
    chosen = _chosen(known, wanted)
    several = len(chosen) > 1 or wanted.lower() in EVERY or bool(set(wanted) & set("*?["))
    if not several and chosen[0].machine.lower() in own:
        return None
    names = {label.__name__ for label in needs}
    runs = [
        {
            **run,
            "unobserved": json.dumps(run.get("unobserved") or []),
            "managers": json.dumps(run.get("managers") or []),
            "error": run.get("error"),
        }
        for run in fleet.runs([one.machine for one in chosen])
        if not names or names & set(run["looks_for"])
    ]
    same = len(chosen) > 1 and len({one.name.lower() for one in chosen}) == 1
    return Elsewhere(
        store,
        f"{len(chosen)} machines" if len(chosen) > 1 else chosen[0].name,
        here.zone if several else zone_of(chosen[0].time_zone),
        here.now,
        tuple(runs),
        several=several,
        fleet=fleet,
        machines=tuple(chosen),
        understood=f"{len(chosen)} machines are called {chosen[0].name[:LONGEST]}" if same else None,
    )


def _own_names(store: Store) -> list[str]:
    """What this machine is called: its name and its id."""
    rows = store.read("SELECT name, machine FROM Host WHERE gone_at IS NULL ORDER BY seq DESC LIMIT 1")
    return [str(rows[0][part]).lower() for part in ("name", "machine") if rows[0][part]] if rows else []


def _chosen(known: Sequence[Machine], wanted: str) -> list[Machine]:
    """The machines that a word means: all, those of a name, of a glob, or the one of an id's beginning.

    Raises: InvalidRequest with the nearest names.
    """
    word = wanted.lower()
    if word in EVERY:
        return list(known)
    if found := [one for one in known if word in (one.name.lower(), one.machine.lower())]:
        return found
    if set(word) & set("*?["):
        found = [one for one in known if fnmatchcase(one.name.lower(), word)]
    else:
        found = [one for one in known if one.name.lower().split(".")[0] == word]
    if not found and len(word) >= SHORTEST:
        found = [one for one in known if one.machine.lower().startswith(word)]
        if len(found) > 1:
            ids = ", ".join(one.machine for one in found[:5])
            raise InvalidRequest(f"{len(found)} machine ids begin so; give more of it: {ids}")
    if not found:
        names = {one.name.lower(): one.name for one in known}
        near = difflib.get_close_matches(word, names, n=5, cutoff=0.5) or sorted(names)[:5]
        shown = ", ".join(quoted(names[one]) for one in near)
        raise InvalidRequest(
            f"no machine is called {quoted(wanted)}; nearest: {shown}; `watchman-mcp hosts` lists all, "
            "* asks all of them"
        )
    return found


def quoted(name: str) -> str:
    """A stranger's name as one line of an error may hold it."""
    return "".join(c if c.isprintable() else "?" for c in name[:LONGEST])
