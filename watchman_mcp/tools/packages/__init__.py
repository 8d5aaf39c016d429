"""Packages: what is installed, and when each was installed, updated or removed."""

from __future__ import annotations

import difflib
from typing import Annotated, Literal

from pydantic import Field

from watchman_mcp.schema.packages import Software
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools import reads
from watchman_mcp.tools.answers import Cursor, Frame, Limit, Since, Until, clamp, frame_of

from .answer import PackagesAnswer
from .choosing import PYTHON, choose, manager_named
from .history import history
from .installed import installed


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
    chosen = choose(store, name, manager)
    if name and chosen.matched is None:
        return _unknown(store, frame, name)
    if manager and (refusal := _unknown_manager(store, frame, manager)):
        return refusal
    if wants_history:
        return history(store, frame, chosen, action, asked, clamp(limit), cursor, bool(since or until))
    return installed(store, frame, chosen, clamp(limit), cursor)


def _unknown(store: Store, frame: Frame, name: str) -> PackagesAnswer:
    """No package of that name was ever seen: say what is near, and whether that can be trusted."""
    keys = [row["key"] for row in store.read("SELECT DISTINCT key FROM Software")]
    near = difflib.get_close_matches(name.lower(), keys, n=5, cutoff=0.6)
    note = f"Nearest names: {', '.join(near)}" if near else "No name is near it"
    found: Literal["cannot_tell", "not_installed"] = "cannot_tell" if frame.blind else "not_installed"
    return PackagesAnswer(found=found, note=note, totals={"items": 0}, **frame.envelope())


def _unknown_manager(store: Store, frame: Frame, manager: str) -> PackagesAnswer | None:
    """A manager of which nothing was ever seen: none or not watched, which are different answers."""
    wanted = manager_named(manager)
    known = {row["manager"] for row in store.read("SELECT DISTINCT manager FROM Software")}
    watched = {run["collector"] for run in frame.runs if run["status"] in ("ok", "partial")}
    if wanted in known or wanted == "python":
        return None
    seen = wanted in watched or (wanted in PYTHON and "python" in watched)
    note = f"Packages here are of: {', '.join(sorted(known)) or 'no manager yet'}"
    return PackagesAnswer(
        found="none" if seen else "cannot_tell", note=note, totals={"items": 0}, **frame.envelope()
    )
