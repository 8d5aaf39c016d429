"""One entry put into, or taken out of, the text of a JSON or TOML file; every other byte stays as it is."""

import json
import re
import tomllib
from typing import Any, Literal, NamedTuple, NoReturn

Kind = Literal["json", "toml"]
Tree = dict[str, Any]
_BOM = b"\xef\xbb\xbf"
_SPACE = re.compile(r"[ \t\r\n]*")


class _Member(NamedTuple):
    """One `"key": value` of an object, and where it lies in the text."""

    key: str
    lead: str  # the white space before the key
    start: int
    value: int
    end: int


class _Style(NamedTuple):
    """How a JSON file is laid out; `unit` is the indentation of one level, None on one line."""

    unit: str | None
    newline: str
    colon: str


def parse(raw: bytes, kind: Kind) -> Tree:
    """What the file says, read as strictly as the format is written down.

    Raises: ValueError where it is not UTF-8, not strict, nested too deeply or not an object.
    """
    text = _decode(raw)[1]
    try:
        tree = tomllib.loads(text) if kind == "toml" else _strict(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(tree, dict):
        raise ValueError("it does not hold an object")
    return tree


def put(raw: bytes, kind: Kind, path: tuple[str, ...], value: Tree) -> bytes:
    """The file with `value` at `path`, in the file's own layout.

    Raises: ValueError where that cannot be done by adding (or, for JSON, replacing) this entry alone.
    """
    wanted = _grafted(parse(raw, kind), path, value)
    mark, text = _decode(raw)
    new = _put_table(text, path, value) if kind == "toml" else _put_member(text, path, value)
    return _checked(mark + new.encode(), kind, wanted)


def take(raw: bytes, kind: Kind, path: tuple[str, ...], keep: int) -> bytes:
    """The file without the entry at `path`; parents left empty go too, except the first `keep`.

    Raises: ValueError where the entry cannot be cut out with everything else kept.
    """
    tree = parse(raw, kind)
    mark, text = _decode(raw)
    while kind == "json" and len(path) - 1 > keep and len(lookup(tree, path[:-1]) or ()) == 1:
        path = path[:-1]
    new = _cut_table(text, path) if kind == "toml" else _cut_member(text, path)
    return _checked(mark + new.encode(), kind, _pruned(tree, path))


def lookup(tree: Tree, path: tuple[str, ...]) -> Any:
    """The value at `path`, or None where a step is missing or is not an object."""
    found: Any = tree
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _decode(raw: bytes) -> tuple[bytes, str]:
    mark = _BOM if raw.startswith(_BOM) else b""
    return mark, raw.removeprefix(_BOM).decode()


def _strict(text: str) -> object:
    return json.loads(
        text, object_pairs_hook=_unique, parse_constant=_no_constant, parse_int=_number, parse_float=_number
    )


def _unique(pairs: list[tuple[str, Any]]) -> Tree:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return tree


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _number(digits: str) -> tuple[str, str]:
    # A tuple never equals what JSON can hold, and digits compare exactly however many there are.
    return "number", digits


def _checked(raw: bytes, kind: Kind, wanted: Tree) -> bytes:
    got = parse(raw, kind)
    # A TOML parent without keys of its own comes and goes with its last child.
    if kind == "toml":
        got, wanted = ({key: item for key, item in tree.items() if item != {}} for tree in (got, wanted))
    if got != wanted:
        raise ValueError("the entry cannot be changed without touching the rest")
    return raw


def _grafted(tree: Tree, path: tuple[str, ...], value: Tree) -> Tree:
    key, *rest = path
    below = tree.get(key, {})
    if rest and not isinstance(below, dict):
        raise ValueError(f"its {key!r} is not an object")
    return {**tree, key: _grafted(below, tuple(rest), value) if rest else value}


def _pruned(tree: Tree, path: tuple[str, ...]) -> Tree:
    key, *rest = path
    if rest:
        return {**tree, key: _pruned(tree[key], tuple(rest))}
    return {name: item for name, item in tree.items() if name != key}


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _members(text: str, opening: int) -> tuple[list[_Member], int]:
    """The members of the object whose brace opens at `opening`, and where its brace closes."""
    decoder = json.JSONDecoder(parse_int=str)
    members: list[_Member] = []
    before, at = opening + 1, _after_space(text, opening + 1)
    while text[at] != "}":
        key, colon = decoder.raw_decode(text, at)
        value = _after_space(text, _after_space(text, colon) + 1)
        end = decoder.raw_decode(text, value)[1]
        members.append(_Member(key, text[before:at], at, value, end))
        at = _after_space(text, end)
        if text[at] == ",":
            before, at = at + 1, _after_space(text, at + 1)
    return members, at


def _steps(text: str, path: tuple[str, ...]) -> list[tuple[int, list[_Member], int, int]]:
    """Each object on the path: where it opens, its members, where it closes, the next key's index or -1."""
    opening, steps = _after_space(text, 0), []
    for key in path:
        members, closing = _members(text, opening)
        place = next((index for index, member in enumerate(members) if member.key == key), -1)
        steps.append((opening, members, closing, place))
        if place < 0:
            break
        opening = members[place].value
    return steps


def _style(text: str, members: list[_Member]) -> _Style:
    newline = "\r\n" if "\r\n" in text else "\n"
    if not members:
        return _Style("  ", newline, ": ")
    first = members[0]
    tight = text[first.value - 1] == ":"
    unit = first.lead.rpartition("\n")[2] if "\n" in first.lead else None
    return _Style(unit, newline, ":" if tight else ": ")


def _render(value: Tree, style: _Style, margin: str | None) -> str:
    if margin is None:
        return json.dumps(
            value, ensure_ascii=False, separators=("," if style.colon == ":" else ", ", style.colon)
        )
    lines = json.dumps(value, ensure_ascii=False, indent=style.unit, separators=(",", style.colon))
    return lines.replace("\n", style.newline + margin)


def _put_member(text: str, path: tuple[str, ...], value: Tree) -> str:
    steps = _steps(text, path)
    style = _style(text, steps[0][1])
    opening, members, closing, place = steps[-1]
    for key in reversed(path[len(steps) :]):
        value = {key: value}
    line = members[place].lead if members else ""
    margin = line.rpartition("\n")[2] if "\n" in line and style.unit is not None else None
    if not members and style.unit is not None:
        margin = style.unit * len(steps)
    rendered = _render(value, style, margin)
    if place >= 0:
        return text[: members[place].value] + rendered + text[members[place].end :]
    new = json.dumps(path[len(steps) - 1]) + style.colon + rendered
    if members:
        lead = line if margin is None else style.newline + margin
        return f"{text[: members[-1].end]},{lead}{new}{text[members[-1].end :]}"
    if margin is None:
        return text[: opening + 1] + new + text[closing:]
    last = style.newline + (style.unit or "") * (len(steps) - 1)
    return text[: opening + 1] + style.newline + margin + new + last + text[closing:]


def _cut_member(text: str, path: tuple[str, ...]) -> str:
    opening, members, closing, place = _steps(text, path)[-1]
    if len(members) == 1:
        return text[: opening + 1] + text[closing:]
    if place == 0:
        return text[: members[0].start] + text[members[1].start :]
    return text[: members[place - 1].end] + text[members[place].end :]


def _put_table(text: str, path: tuple[str, ...], value: Tree) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    gap = "" if not text else newline if text.endswith("\n") else newline * 2
    return text + gap + _table(path, value).replace("\n", newline)


def _table(path: tuple[str, ...], value: Tree) -> str:
    lines = [f"{key} = {json.dumps(item, ensure_ascii=False)}" for key, item in value.items()]
    return "\n".join([f"[{'.'.join(path)}]", *lines, ""])


def _cut_table(text: str, path: tuple[str, ...]) -> str:
    header = r"\[" + r"\.".join(re.escape(key) for key in path) + r"(?:\.[^\]\n]+)?\][ \t]*\r?\n"
    return re.sub(rf"(?m)(?:(?<=\n)\r?\n)?^{header}(?:(?![\[#\s])[^\n]*\n?)*", "", text)
