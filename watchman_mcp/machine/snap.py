"""snapd's state and what snaps say of themselves; text in, values out."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import NamedTuple, cast

from watchman_mcp.errors import Broken
from watchman_mcp.machine.updates import Update

DONE, ERROR = 4, 9
"""States of a task."""

_FIELD = re.compile(r"(name|version|summary|base|type|title): *(.*)")
_SINGLE = re.compile(r"'((?:[^']|'')*)'")
_DOUBLE = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"')
_ESCAPED = re.compile(r'\\(["\\/])')
_REVISION = re.compile(r"x?[1-9][0-9]{0,17}")
_UNIT = re.compile(r"snap\.(?P<snap>[a-z0-9_-]+)\.[^/]+\.(?:service|socket|timer)")
_FILE = re.compile(r"/(?P<name>[^/]+)/(?P<revision>x?[1-9][0-9]{0,17})/.+", re.DOTALL)
_SUMMARY_REVISION = re.compile(r"\((x?[1-9][0-9]{0,17})\)")
_STAMP = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII)

Object = dict[str, object]


class Snap(NamedTuple):
    """An installed snap as snapd's state has it."""

    name: str
    revision: str
    active: bool
    kind: str
    refreshed_at: datetime | None
    held: bool | None
    channel: str = ""
    newer: Update | None = None
    """The revision that snapd found when it last asked, if it is not installed yet."""


class Step(NamedTuple):
    """A task of a change that has made a snap available, or taken it away."""

    name: str
    revision: str
    previous: str
    """The revision before it; empty if there was none, or if it was taken away."""
    went: bool
    at: datetime
    key: str
    """The numbers of change and task, with the time at which the change began."""
    change: str
    error: str | None


class State(NamedTuple):
    """What state.json says of snaps; `odd` counts what could not be understood."""

    snaps: list[Snap]
    steps: list[Step]
    odd: int
    refreshed_at: datetime | None
    """When snapd last asked its store for newer revisions; None if it never did."""


def read_state(text: str, path: str) -> State:
    """The snaps and the finished steps in snapd's state.

    Raises: Broken.
    """
    try:
        state = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Broken(f"{path} is no JSON; snapd writes it anew when it is restarted") from error
    if not isinstance(state, dict) or not isinstance(state.get("data"), dict):
        raise Broken(f"{path} does not hold snapd's state; look at it with snap debug state")
    data, tasks = _object(state["data"]), _object(state.get("tasks"))
    holds, candidates = _object(data.get("snaps-hold")), _object(data.get("refresh-candidates"))
    asked = _asked(data)
    core = _object(_object(data.get("config")).get("core"))
    all_held = _holds(_object(core.get("refresh")).get("hold"), asked)
    snaps, odd = list[Snap](), 0
    for name, value in _object(data.get("snaps")).items():
        hold = _object(holds.get(name)).get("system")
        held = all_held or (hold is not None and _holds(_object(hold).get("hold-until", "forever"), asked))
        if snap := _snap(name, _object(value), held):
            snaps.append(snap._replace(newer=_newer(snap, _object(candidates.get(name)))))
        else:
            odd += 1
    steps = [
        step
        for number, change in _object(state.get("changes")).items()
        for step in _steps(number, _object(change), tasks)
    ]
    return State(snaps, sorted(steps, key=lambda step: (step.at, step.key)), odd, asked)


def _asked(data: Object) -> datetime | None:
    """When snapd last asked its store, be it only what it might refresh, as it does while that is held."""
    refreshed, hinted = (_moment(data.get(name)) for name in ("last-refresh", "last-refresh-hints"))
    # Without one of the others the second says when it was set up.
    if hinted and (refreshed or "refresh-candidates" in data):
        return max(hinted, refreshed or hinted)
    return refreshed


def _holds(until: object, asked: datetime | None) -> bool:
    """Whether what is held until then still is: snapd does not forget a hold that is over."""
    end = _moment(until)
    return until == "forever" or (end is not None and (asked is None or end > asked))


def _object(value: object) -> Object:
    return cast(Object, value) if isinstance(value, dict) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def revision_of(value: object) -> str:
    """A revision as snapd writes one, in text or as a number; empty if it is none."""
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    return text if _REVISION.fullmatch(text) else ""


def _moment(value: object) -> datetime | None:
    match = _STAMP.fullmatch(_text(value))
    try:
        return datetime.fromisoformat(match[1] + match[2]).astimezone(UTC) if match else None
    except (ValueError, OverflowError):
        return None


def _snap(name: str, value: Object, held: bool) -> Snap | None:
    revision = revision_of(value.get("current"))
    if not revision or not name:
        return None
    active, kind = value.get("active") is True, _text(value.get("type"))
    refreshed_at, channel = _moment(value.get("last-refresh-time")), _text(value.get("channel"))
    return Snap(name, revision, active, kind, refreshed_at, held, channel)


def _newer(snap: Snap, candidate: Object) -> Update | None:
    revision = revision_of(_object(candidate.get("side-info")).get("revision"))
    version = shown(_text(candidate.get("version")) or None, revision)
    if not revision or not version or revision == snap.revision:
        return None
    return Update(snap.name, None, version, _text(candidate.get("channel")) or snap.channel or None)


def _steps(number: str, change: Object, tasks: Object) -> Iterator[Step]:
    kind, begun = _text(change.get("kind")), _text(change.get("spawn-time"))
    listed = change.get("task-ids")
    names = [one for one in listed if isinstance(one, str)] if isinstance(listed, list) else []
    own = {one: _object(tasks.get(one)) for one in names}
    error = "; ".join(_errors(own)) or None
    for one, task in own.items():
        at = _moment(task.get("ready-time"))
        if task.get("status") != DONE or at is None:
            continue
        # What is disabled is unlinked as well and stays; what is enabled was there.
        went = task.get("kind") == "unlink-snap" and kind.startswith("remove")
        came = task.get("kind") == "link-snap" and not kind.startswith("enable")
        name, revision = _setup(task, tasks) if went or came else ("", "")
        if name:
            previous = "" if went else revision_of(_object(task.get("data")).get("old-current"))
            key, run = f"{number}/{one}/{begun}", f"snap:{number}:{begun}"
            yield Step(name, revision, previous, went, at, key, run, error)


def _errors(tasks: dict[str, Object]) -> Iterator[str]:
    for task in tasks.values():
        log = task.get("log")
        for line in log if task.get("status") == ERROR and isinstance(log, list) else ():
            _, said, why = _text(line).partition(" ERROR ")
            if said:
                yield why


def _setup(task: Object, tasks: Object) -> tuple[str, str]:
    """The name and the revision of the snap that a task is about, which an earlier task may hold."""
    data = _object(task.get("data"))
    setup = data.get("snap-setup") or _object(
        _object(tasks.get(_text(data.get("snap-setup-task")))).get("data")
    ).get("snap-setup")
    side, key = _object(_object(setup).get("side-info")), _text(_object(setup).get("instance-key"))
    name, revision = _text(side.get("name")), revision_of(side.get("revision"))
    if not revision and (found := _SUMMARY_REVISION.search(_text(task.get("summary")))):
        revision = found[1]
    return (f"{name}_{key}" if name and key else name), revision


def read_meta(text: str) -> dict[str, str]:
    """The plain fields at the top of a snap.yaml, each in one line, and `apps` where it has any to run."""
    found: dict[str, str] = {}
    lines = text.replace("\r", "").split("\n")
    for number, line in enumerate(lines, 1):
        if match := _FIELD.fullmatch(line):
            parts = [match[2].strip()]
            while number < len(lines) and lines[number].startswith((" ", "\t")):
                parts.append(lines[number].strip())
                number += 1
            if value := _scalar(parts):
                found.setdefault(match[1], value)
        elif line.startswith("apps:"):
            found["apps"] = "some"
    return found


def _scalar(parts: list[str]) -> str:
    """A value of YAML in one or more lines."""
    if parts[0][:1] in ("|", ">"):
        parts = parts[1:]
    whole = " ".join(filter(None, parts))
    if quoted := _SINGLE.match(whole):
        return quoted[1].replace("''", "'").strip()
    if quoted := _DOUBLE.match(whole):
        return _ESCAPED.sub(r"\1", quoted[1]).strip()
    return whole.partition(" #")[0].strip()


def shown(version: str | None, revision: str) -> str | None:
    """A version with its revision, as this machine's graph has it."""
    return " ".join([*([version] if version else []), *([f"({revision})"] if revision else [])]) or None


def snap_of_unit(name: str) -> str | None:
    """The snap whose application a unit of systemd runs, which snapd wrote; None for another unit."""
    match = _UNIT.fullmatch(name)
    return match["snap"] if match else None


def snap_of_file(path: str, mount: str) -> str | None:
    """The snap in whose mounted revision a path lies; None for another path."""
    match = _FILE.fullmatch(path.removeprefix(mount)) if path.startswith(f"{mount}/") else None
    return match["name"] if match else None
