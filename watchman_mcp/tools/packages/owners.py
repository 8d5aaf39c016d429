"""Which package owns a file."""

from __future__ import annotations

from typing import Any, Protocol

from watchman_mcp.errors import InvalidRequest
from watchman_mcp.schema.packages import Owner
from watchman_mcp.store.sqlite import Store
from watchman_mcp.tools.answers import WHY, Frame, Unseen, fix_for

from .answer import PackagesAnswer
from .choosing import Filter
from .installed import package_of, page_of, totals_of
from .local import Local

LONGEST = 4_096


class Owned(Protocol):
    """What the managers said when they were asked for the owner of a file."""

    owners: dict[str, list[Owner]]
    real: str
    refused: dict[str, str]


class Owners(Protocol):
    """Asks the managers of this machine who owns the file at a path."""

    def __call__(self, path: str) -> Owned: ...


def owner_of(store: Store, frame: Frame, owners: Owners, path: str, manager: str) -> PackagesAnswer:
    """The packages that own a file, whole; of one manager where one is named.

    Raises: InvalidRequest for what is no full path.
    """
    path = path.strip()
    if not path.startswith("/") or len(path) > LONGEST or "\0" in path:
        raise InvalidRequest("owner_of is the full path of a file, such as /usr/sbin/nginx")
    owned = owners(path)
    found: dict[str, Any] = {}
    lost: list[str] = []
    source = Local(store, Filter(matched=f"owner of {owned.real or path}", exact=True))
    for owner in [one for some in owned.owners.values() for one in some]:
        if manager and owner.manager != manager:
            continue
        rows = _rows(store, owner)
        found |= {row["id"]: row for row in rows}
        lost += [] if rows else [f"{owner.manager} {owner.key}"]
    items = [package_of(source, frame, row, len(found) <= 3, True) for row in found.values()]
    counts: dict[str, int] = {}
    for item in items:
        counts[item.manager] = counts.get(item.manager, 0) + 1
    answer = page_of(source, frame, items, totals_of(counts), 0)
    answer.source = "package databases, asked now"
    if lost:
        answer.note = f"Owned by {', '.join(lost[:5])}, which the last look did not see; scan looks again."
    elif not found:
        answer.note = "No package manager says that it owns this file" + (
            "." if owned.real else ", and there is no such file that may be looked at."
        )
    refused = [
        Unseen(what=name, why=why[:WHY], fix=fix_for(why)) for name, why in sorted(owned.refused.items())
    ]
    if refused and not found:
        answer.found = "cannot_tell"
    answer.unobserved = (refused + (answer.unobserved or []))[:3] or None
    return answer


def _rows(store: Store, owner: Owner) -> list[Any]:
    """The installed packages that an owner means, by the parts of their identity that it tells."""
    given = {name: value for name, value in owner._asdict().items() if value is not None}
    conditions = " AND ".join(f'"{name}" = :{name}' for name in given)
    return store.read(f"SELECT * FROM Software WHERE gone_at IS NULL AND {conditions}", given)
