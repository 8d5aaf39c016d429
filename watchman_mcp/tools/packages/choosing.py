"""Which packages a name and a manager mean."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from watchman_mcp.store.sqlite import Store

PYTHON = ("pip", "uv", "pipx", "conda", "poetry")
KEYS = 100
"""So many spellings of one name are looked for."""
CAME = ("package_install", "package_update", "package_downgrade", "package_reinstall")
"""Types of events that tell how a package came to be there."""
SYNONYMS = {
    "dpkg": "apt",
    "deb": "apt",
    "debian": "apt",
    "apt-get": "apt",
    "ubuntu": "apt",
    "yum": "dnf",
    "homebrew": "brew",
    "linuxbrew": "brew",
    "snapd": "snap",
    "alpine": "apk",
    "arch": "pacman",
    "nixos": "nix",
    "nix-env": "nix",
    "yarnpkg": "yarn",
    "node": "npm",
    "crates": "cargo",
    "rust": "cargo",
    "rubygems": "gem",
    "ruby": "gem",
    "golang": "go",
    "cran": "r",
    "mamba": "conda",
    "micromamba": "conda",
    "pip3": "pip",
    "pypi": "python",
    "uvx": "uv",
}


@dataclass
class Filter:
    """The conditions that the arguments make, as SQL on one table."""

    conditions: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    matched: str | None = None
    exact: bool = False

    def add(self, condition: str, **parameters: Any) -> None:
        self.conditions.append(condition)
        self.parameters.update(parameters)

    def where(self, key: str = "key") -> str:
        """The conditions on a table whose column `key` holds the name."""
        return " AND ".join(self.conditions).replace("{key}", key) or "1"


def choose(store: Store, name: str, manager: str) -> Filter:
    """Understand a name and a manager; `matched` stays None when no package was ever called so."""
    chosen = Filter()
    if names := candidates(name):
        wanted = names[0]
        # The first takes an index; some managers keep capitals, as dnf does of NetworkManager.
        if keys := _keys(store, "key", names) or _keys(store, "lower(key)", names):
            given = {f"key{place}": key for place, key in enumerate(keys)}
            chosen.add(f"{{key}} IN ({', '.join(f':{one}' for one in given)})", **given)
            chosen.matched, chosen.exact = f"exact: {wanted}", True
        else:
            pattern = wanted if set(wanted) & set("*?[") else f"*{_glob_text(wanted)}*"
            counted = "SELECT count(DISTINCT key) AS n FROM Software WHERE lower(key) GLOB ?"
            if found := store.read(counted, (pattern,))[0]["n"]:
                chosen.add("lower({key}) GLOB :pattern", pattern=pattern)
                chosen.matched = f"{found} names like {pattern}"
    if manager:
        _choose_manager(chosen, manager)
    return chosen


def _keys(store: Store, column: str, names: list[str]) -> list[str]:
    marks = ", ".join("?" * len(names))
    found = store.read(f"SELECT DISTINCT key FROM Software WHERE {column} IN ({marks}) LIMIT {KEYS}", names)
    return [row["key"] for row in found]


def candidates(name: str) -> list[str]:
    """The keys that a name may be: without capitals, in the form of Python's managers, as it is written."""
    wanted = name.strip().lower()
    return [wanted, wanted.replace("_", "-").replace(".", "-"), name.strip()] if wanted else []


def _glob_text(text: str) -> str:
    """Text that GLOB takes literally."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in text)


def _choose_manager(chosen: Filter, manager: str) -> None:
    wanted = manager_named(manager)
    if wanted == "python":
        marks = ", ".join(f"'{one}'" for one in PYTHON)
        chosen.add(f"(manager IN ({marks}) OR (manager = 'apt' AND {{key}} GLOB 'python3-*'))")
    else:
        chosen.add("manager = :manager", manager=wanted)


def manager_named(manager: str) -> str:
    """The manager that people's word for it means."""
    word = manager.strip().lower()
    return SYNONYMS.get(word, word)
