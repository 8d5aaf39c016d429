"""What nft 0.9.0 wrote as JSON, in the words of those that came after it.

It wrote no `metainfo`, no `op` where a value is compared for being equal, `{"meta": "iif"}` for
`{"meta": {"key": "iif"}}`, `name` for the `protocol` of a field, and `left` and `right` for `key` and `data`.
"""

from __future__ import annotations

from typing import Any

_SIDES = {"map": ("key", "data"), "vmap": ("key", "data"), "mangle": ("key", "value")}


def is_old(objects: list[Any]) -> bool:
    """Whether a listing is of that version."""
    return not any(isinstance(one, dict) and "metainfo" in one for one in objects[:1])


def modern(value: Any) -> Any:
    """A statement or an expression in today's words; what is in them already stays as it is."""
    if isinstance(value, list):
        return [modern(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {kind: _modern(kind, what) for kind, what in value.items()}


def _modern(kind: str, what: Any) -> Any:
    if kind == "meta" and isinstance(what, str):
        return {"key": what}
    what = modern(what)
    if not isinstance(what, dict):
        return what
    if kind == "match":
        return {"op": "in", **what}
    if kind == "payload" and "protocol" not in what and "name" in what:
        return {"protocol": what["name"], **what}
    if kind in _SIDES and "left" in what:
        return dict(zip(_SIDES[kind], (what["left"], what.get("right")), strict=True))
    return what
