"""Reading config.toml and WATCHMAN_ variables for a model: what they say, and every mistake in words."""

import json
import os
import re
import shlex
import stat
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from watchman_mcp.errors import InvalidRequest

POLICY = "changes"
"""The table that says what may be changed: trusted from well-kept files only, never from the environment."""
_PREFIX = "WATCHMAN_"
_FILE_BYTES = 1_048_576
_AMAZON = {
    "AWS_ACCESS_KEY_ID": "backup.s3.access_key_id",
    "AWS_SECRET_ACCESS_KEY": "backup.s3.secret_access_key",
}

Document = dict[str, Any]
Known = Mapping[str, FieldInfo]


def read(path: str) -> tuple[Document, list[str]]:
    """What a file says, and why its policy cannot be trusted.

    Raises:
        InvalidRequest: the file cannot be read, or is not TOML.
    """
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
            status = os.fstat(file.fileno())
            raw = file.read(_FILE_BYTES + 1) if stat.S_ISREG(status.st_mode) else b""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidRequest(
            f"{path}: cannot be read: {reason}; correct the path or its permissions"
        ) from error
    if not stat.S_ISREG(status.st_mode) or len(raw) > _FILE_BYTES:
        raise InvalidRequest(
            f"{path}: is not a regular file of at most {_FILE_BYTES} bytes; name a TOML file"
        )
    try:
        document = tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InvalidRequest(f"{path}, line {line}: is not UTF-8; save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(_bad_toml(path, str(error), raw)) from error
    return document, _mistrust(path, status) if POLICY in document else []


def overlay(
    document: Document, environ: Mapping[str, str], known: Known, origins: dict[str, str]
) -> list[str]:
    """Put the variables of the environment over the document; note in `origins` which key came from which.

    What is given back are the variables that cannot be taken.
    """
    problems = []
    for name, key in _AMAZON.items():
        if environ.get(name) and not _get(document, key):
            _put(document, key, environ[name], name, origins)
    for name in sorted(environ):
        key = name.removeprefix(_PREFIX).lower().replace("__", ".")
        if not name.startswith(_PREFIX) or "." not in key:
            continue
        if key.split(".")[0] == POLICY:
            problems.append(f"{name}: [{POLICY}] is never taken from the environment; use the file")
        else:
            _put(document, key, _typed(environ[name], known.get(key)), name, origins)
    return problems


def explain(error: ValidationError, path: str, known: Known, origins: Mapping[str, str]) -> list[str]:
    """One line for each mistake: where it is, which key, why; for an unknown key also the nearest."""
    return [
        _mistake(one, path, known, origins)
        for one in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every key of a model with tables in it, as (dotted key, field)."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from fields(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field


def kind(field: FieldInfo) -> str:
    """The type of a key in words, with its bounds."""
    single, words = _single(field), "text"
    if get_origin(single) is Literal:
        words = "one of " + ", ".join(get_args(single))
    elif single in (bool, int):
        words = "true or false" if single is bool else "integer"
    elif single is SecretStr:
        words = "secret text"
    bounds = [getattr(rule, side) for side in ("ge", "le") for rule in field.metadata if hasattr(rule, side)]
    words += f", {bounds[0]} to {bounds[1]}" if len(bounds) == 2 else ""
    return f"list, each {words}" if _is_list(field) else words


def toml(value: Any) -> str:
    """A default as one writes it in the file."""
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def _is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is tuple


def _single(field: FieldInfo) -> Any:
    """The type of a key, or of the members of its list, without what is annotated."""
    inner = get_args(field.annotation)[0] if _is_list(field) else field.annotation
    return getattr(inner, "__origin__", inner) if hasattr(inner, "__metadata__") else inner


def _bad_toml(path: str, reason: str, raw: bytes) -> str:
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column \d+|end of document)\)", reason, re.DOTALL)
    if not found:  # such as numbers of thousands of digits, or brackets nested too deep
        return f"{path}: is not TOML that can be read: {reason[:100]}"
    line = found[2] or str(raw.count(b"\n") + 1)
    return f"{path}, line {line}: {found[1]}; correct the TOML there"


def _mistrust(path: str, status: os.stat_result) -> list[str]:
    """Why others could write the policy, with the commands that end it."""
    real = os.path.realpath(path)
    folders = dict.fromkeys((os.path.dirname(os.path.abspath(path)), os.path.dirname(real)))
    places = [(real, status), *((folder, os.stat(folder)) for folder in folders)]
    problems = []
    for place, found in places:
        quoted = shlex.quote(place)
        if found.st_mode & stat.S_ISVTX and found.st_mode & 0o022:
            problems.append(f"everybody may write in {place}: move the file to a directory of your own")
        elif found.st_mode & 0o022:
            problems.append(f"others may write {place}: chmod go-w {quoted}")
        if found.st_uid not in (0, os.geteuid()):
            problems.append(f"{place} belongs to another user: chown {os.geteuid()} {quoted}")
    return [f"{path}: {POLICY}: is honoured only where nobody else can write; {one}" for one in problems]


def _get(document: Document, key: str) -> Any:
    value: Any = document
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _put(document: Document, key: str, value: Any, name: str, origins: dict[str, str]) -> None:
    *tables, last = key.split(".")
    place: Any = document
    for table in tables:
        place = place.setdefault(table, {})
        if not isinstance(place, dict):  # the file's own mistake, which validation names
            return
    place[last] = value
    origins[key] = name


def _typed(text: str, field: FieldInfo | None) -> Any:
    """A variable's text as the file would hold it; what does not fit stays text, which validation refuses."""
    if field is None:
        return text
    if _is_list(field) and not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    if _is_list(field) or field.annotation in (bool, int):
        try:
            return tomllib.loads(f"value = {text.strip() if _is_list(field) else text.strip().lower()}")[
                "value"
            ]
        except ValueError:
            return text
    return text


def _mistake(error: ErrorDetails, path: str, known: Known, origins: Mapping[str, str]) -> str:
    parts = [f"[{part}]" if isinstance(part, int) else _printable(part) for part in error["loc"]]
    key = ".".join(parts).replace(".[", "[")
    where = next((name for origin, name in origins.items() if _touch(key, origin)), path)
    if error["type"] == "extra_forbidden":
        return f"{where}: {key}: unknown key; the nearest valid one is {_nearest(key, known)}"
    reason = error["msg"].removeprefix("Value error, ").replace("Input should", "should", 1)
    return f"{where}: {key}: {'should be a table' if error['type'] == 'model_type' else reason}"


def _touch(key: str, origin: str) -> bool:
    """Whether one of two keys is the other, or lies within it."""
    return f"{key}[".startswith((f"{origin}[", f"{origin}.")) or origin.startswith(f"{key}.")


def _printable(part: str) -> str:
    return part if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", part) else ascii(part[:60])


def _nearest(key: str, known: Iterable[str]) -> str:
    """The key with the same last word, else the one that looks most like it; tables count too."""
    valid = dict.fromkeys(prefix for one in known for prefix in (one.rpartition(".")[0], one))
    last = key.rpartition(".")[2]
    same = [one for one in valid if one.rpartition(".")[2] == last]
    return str(get_close_matches(key, same or valid, 1, 0.0)[0])
