"""Packages: what is installed, and when each was installed, updated or removed."""

from __future__ import annotations

import difflib
import json
from typing import Annotated, Literal

from pydantic import Field

from watchman_mcp.errors import InvalidRequest
from watchman_mcp.schema.packages import PackageIndex, Software
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools import reads
from watchman_mcp.tools.answers import Cursor, Frame, Host, Limit, Since, Until, clamp, frame_of
from watchman_mcp.tools.fleet import Elsewhere, Fleet, elsewhere

from .answer import PackagesAnswer
from .choosing import choose, manager_named
from .history import history
from .installed import installed
from .local import Local
from .owners import Owners
from .owners import owner_of as owners_of
from .remote import Remote
from .several import differing, installed_on_several, older
from .source import Source
from .updates import updates


@reads(title="Packages", needs=(Software, PackageIndex), always=True)
def query_packages(
    store: Store,
    name: Annotated[str, Field(description="Name, part or glob")] = "",
    view: Annotated[
        Literal["auto", "installed", "history", "updates"],
        Field(description="auto: history if since, until or action"),
    ] = "auto",
    manager: Annotated[
        str, Field(description="apt, dnf, brew, npm, ...; python = pip, pipx, uv and distribution packages")
    ] = "",
    action: Annotated[Literal["any", "install", "update", "remove", "downgrade"], Field()] = "any",
    owner_of: Annotated[str, Field(description="File path: who owns it")] = "",
    since: Since = "",
    until: Until = "",
    limit: Limit = 50,
    cursor: Cursor = "",
    host: Host = "",
    older_than: Annotated[str, Field(description="Version; with name, host=*")] = "",
    compare_with: Annotated[str, Field(description="Other host")] = "",
    fleet: Fleet | None = None,
    owners: Owners | None = None,
) -> PackagesAnswer:
    """Installed software, when each package was installed or last updated, by which command, and pending
    (security) updates. All package managers. Totals per action and manager cover all pages.
    """
    past = view == "history" or (view != "installed" and bool(since or until or action != "any"))
    _of_now(view, past, name, host, older_than=older_than, compare_with=compare_with, owner_of=owner_of)
    frame = elsewhere(store, fleet, host or ("*" if older_than else ""), (Software,)) or frame_of(
        store, (Software,)
    )
    if owner_of and owners:
        return owners_of(store, frame, owners, owner_of, manager_named(manager))
    source = _source(store, frame, name, manager)
    if compare_with:
        return _compared(store, fleet, frame, source, compare_with, name, manager, clamp(limit), cursor)
    asked = frame.window(since, until)
    if name and source.matched is None:
        return _unknown(source, frame, name)
    if manager and (refusal := _unknown_manager(source, frame, manager)):
        return refusal
    if older_than:
        return older(source, frame, older_than.strip(), clamp(limit), cursor)
    if view == "updates":
        return updates(source, frame, clamp(limit), cursor)
    if past:
        return history(source, frame, action, asked, clamp(limit), cursor, bool(since or until))
    if isinstance(source, Remote) and isinstance(frame, Elsewhere) and frame.several:
        return installed_on_several(source, frame, clamp(limit), cursor)
    return installed(source, frame, clamp(limit), cursor)


def _of_now(view: str, past: bool, name: str, host: str, **now: str) -> None:
    """Refuse what cannot be asked together.

    Raises: InvalidRequest.
    """
    words = [word for word, given in now.items() if given] + (["view=updates"] if view == "updates" else [])
    if len(words) > 1 or (words and past):
        raise InvalidRequest(
            f"{' and '.join(words)}: each looks at what is installed now; give one of them, without "
            "view=history, action, since and until"
        )
    if words == ["older_than"] and not name:
        raise InvalidRequest("older_than needs the name of a package, a part of it or a glob")
    if words == ["owner_of"] and (host or name):
        raise InvalidRequest("owner_of asks about a file of this machine: give it without host and name")


def _source(store: Store, frame: Frame, name: str, manager: str) -> Source:
    if isinstance(frame, Elsewhere):
        return Remote(frame, name, manager)
    return Local(store, choose(store, name, manager))


def _compared(
    store: Store,
    fleet: Fleet | None,
    frame: Frame,
    source: Source,
    compare_with: str,
    name: str,
    manager: str,
    limit: int,
    cursor: str,
) -> PackagesAnswer:
    """What one machine has differently from another.

    Raises: InvalidRequest where these are not two machines.
    """
    other = elsewhere(store, fleet, compare_with, (Software,)) or frame_of(store, (Software,))
    if frame.several or other.several:
        raise InvalidRequest("compare_with compares two machines: name one there, and at most one in host")
    if _machine(frame) == _machine(other):
        raise InvalidRequest("host and compare_with are the same machine; compare_with is the other one")
    there = _source(store, other, name, manager)
    if name and source.matched is None and there.matched is None:
        return _unknown(source, frame, name)
    return differing(source, there, (frame, other), limit, cursor)


def _machine(frame: Frame) -> str:
    """The id of the machine of a frame; this machine's is empty."""
    return frame.only.machine if isinstance(frame, Elsewhere) else ""


def _unknown(source: Source, frame: Frame, name: str) -> PackagesAnswer:
    """No package of that name was ever seen: say what is near, and whether that can be trusted."""
    keys = source.keys()
    known = {key.lower(): key for key in keys}
    near = [known[one] for one in difflib.get_close_matches(name.lower(), known, n=5, cutoff=0.6)]
    note = f"Nearest names: {', '.join(near)}" if near else "No name is near it"
    found: Literal["cannot_tell", "not_installed"] = "cannot_tell" if frame.blind else "not_installed"
    return PackagesAnswer(
        found=found, matched=frame.matched(None), note=note, totals={"items": 0}, **frame.envelope()
    )


def _unknown_manager(source: Source, frame: Frame, manager: str) -> PackagesAnswer | None:
    """A manager of which nothing was ever seen: none or not watched, which are different answers."""
    wanted = manager_named(manager)
    known = source.managers()
    looked = [run for run in frame.runs if run["status"] in ("ok", "partial", "unavailable")]
    if wanted in known or wanted == "python":
        return None
    seen = any(wanted in json.loads(run["managers"] or "[]") for run in looked)
    place = "there" if isinstance(frame, Elsewhere) else "here"
    note = f"Packages {place} are of: {', '.join(sorted(known)) or 'no manager yet'}"
    return PackagesAnswer(
        found="none" if seen else "cannot_tell", note=note, totals={"items": 0}, **frame.envelope()
    )
