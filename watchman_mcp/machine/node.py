"""The package.json of Node packages and the texts around it: text in, values out."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from watchman_mcp.errors import Broken
from watchman_mcp.machine.places import Search

ROOT = "lib/node_modules"
"""Where npm keeps global packages below its prefix."""
PREFIXES = (
    "/usr",
    "/usr/local",
    "/opt/*",
    "/home/linuxbrew/.linuxbrew",
    *(f"{nvm}/versions/*/*" for nvm in ("/usr/local/nvm", "/usr/local/share/nvm", "/opt/nvm")),
    *(f"~/{nvm}/{kept}" for nvm in (".nvm", ".config/nvm") for kept in ("versions/*/*", "*")),
    "~/.nvs/node/*/*",
    "~/.nodebrew/node/*",
    "~/.proto/tools/node/*",
    *(f"~/{fnm}/node-versions/*/installation" for fnm in (".fnm", ".local/share/fnm")),
    "~/Library/Application Support/fnm/node-versions/*/installation",
    *(f"~/.volta/tools/image/{kind}/*" for kind in ("node", "npm", "packages", "packages/*")),
    "~/.asdf/installs/nodejs/*",
    "~/.local/share/mise/installs/node/*",
    "~/.nodenv/versions/*",
    *(f"~/{prefix}" for prefix in (".npm-global", ".npm-packages", ".npm", ".local", "n")),
)
"""What `npm prefix -g` may say, with the usual managers of Node versions."""
PNPM = (
    "~/.local/share/pnpm/global/*",
    "~/Library/pnpm/global/*",
    "~/.pnpm/global/*",
    "/usr/local/share/pnpm/global/*",
    "/usr/pnpm-global/*",
    "/usr/local/pnpm-global/*",
    *(f"~/{prefix}/pnpm-global/*" for prefix in (".nvm/versions/*/*", ".npm-global", ".local")),
)
YARN = ("~/.config/yarn/global", "/usr/local/share/.config/yarn/global")
"""The second is root's."""
NPMRC = ("/etc/npmrc", "/usr/etc/npmrc", "/usr/local/etc/npmrc")
NPMRC_CAP = 1 << 20

NEEDS = ("dependencies", "optionalDependencies", "peerDependencies")
_NAME = re.compile(r"(?:@[^@/\s]+/)?[^@./\s_][^@/\s]*")


class Manifest(NamedTuple):
    """What a package.json says."""

    name: str | None
    version: str | None
    summary: str | None
    needs: tuple[str, ...]
    """What it needs or likes to have beside it."""
    wanted: dict[str, str]
    """Of a global directory: the packages that somebody asked for, and the range or place that was asked."""


def read_manifest(content: bytes) -> Manifest:
    """The manifest in a package.json.

    Raises: Broken.
    """
    try:
        fields = json.loads(content.decode("utf-8-sig", "surrogateescape"))
    except (ValueError, RecursionError) as error:
        raise Broken("its package.json is no JSON text; install the package again") from error
    if not isinstance(fields, dict):
        raise Broken("its package.json holds no object; install the package again")
    name = _text(fields.get("name"))
    groups = {kind: _names(fields.get(kind)) for kind in NEEDS}
    return Manifest(
        name if name and is_name(name) else None,
        _text(fields.get("version")),
        (_text(fields.get("description")) or "").partition("\n")[0].strip() or None,
        tuple(dict.fromkeys(name for names in groups.values() for name in names)),
        groups["dependencies"] | groups["optionalDependencies"],
    )


def is_name(name: str) -> bool:
    """Whether a package may be called so, so that its directory is one below its parent and nowhere else."""
    return len(name) <= 214 and _NAME.fullmatch(name) is not None


def inside(directory: str, target: str, top: str) -> str | None:
    """Where a link in `directory` with this text leads, if that is below `top` by its text alone."""
    parts = [] if target.startswith("/") else directory.split("/")[1:]
    for part in target.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    path = "/" + "/".join(parts)
    return path if path.startswith(top + "/") else None


def global_directories(search: Search) -> dict[str, None]:
    """The directories where npm keeps global packages, also those that an npmrc file names."""
    found = dict.fromkeys(search.find(f"{prefix}/{ROOT}" for prefix in PREFIXES))
    for path, home in [*((path, "/root") for path in NPMRC), *((f"{h}/.npmrc", h) for h in search.homes)]:
        prefix = prefix_of(search.text(path, NPMRC_CAP) or "", home)
        if prefix and search.holds(f"{prefix}/{ROOT}"):
            found[f"{prefix}/{ROOT}"] = None
    return found


def prefix_of(text: str, home: str) -> str | None:
    """The prefix that an npmrc file sets, with `~` and `${HOME}` as that home; no other line is looked at."""
    for line in text.split("\n"):
        name, equals, value = line.partition("=")
        if equals and name.strip() == "prefix":
            path = value.strip().strip("\"'").replace("${HOME}", home)
            path = home + path[1:] if path.startswith("~/") else path
            if path.startswith("/") and ".." not in path.split("/") and "$" not in path:
                return "/" + path.strip("/")
    return None


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None


def _names(group: object) -> dict[str, str]:
    if not isinstance(group, dict):
        return {}
    return {name: _text(wish) or "" for name, wish in group.items() if is_name(name)}
