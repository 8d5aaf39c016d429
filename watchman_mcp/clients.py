"""Watchman's entry in each MCP client's configuration: put in, and taken out again without a trace."""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from watchman_mcp import entries
from watchman_mcp.errors import InvalidRequest
from watchman_mcp.homes import HomeFile, LeftAlone, digest

NAME = "watchman"
_MAC = "Library/Application Support/"
_USER_SCOPE = ("--scope", "user", NAME)


@dataclass(frozen=True)
class Outcome:
    """What `setup` did: whether a file changed, which, a sentence to show, and what to paste if none did."""

    changed: bool
    path: str
    says: str
    entry: str = ""


@dataclass(frozen=True)
class Client:
    """One MCP client: where its file lies under a home, the entry's place and shape, its own commands."""

    name: str
    title: str
    linux: str
    darwin: str
    keys: tuple[str, ...] = ("mcpServers",)
    typed: bool = False  # whether the entry says that it is a stdio server
    moved_by: tuple[str, str] = ("", "")  # a variable, and the part of the path it stands for
    program: str = ""
    add: Callable[[list[str]], list[str]] | None = None
    remove: tuple[str, ...] = ()

    def file(self, home: Path, platform: str = sys.platform) -> Path:
        """Where the client keeps its servers; variables that move it count in one's own home only."""
        under = self.darwin if platform == "darwin" else self.linux
        variable, part = self.moved_by
        moved = os.environ.get(variable, "") if variable and _is_own(home) else ""
        if moved.startswith("/") and under.startswith(part):
            return Path(moved, under.removeprefix(part))
        return home / under

    def value(self, command: list[str]) -> dict[str, Any]:
        return {**({"type": "stdio"} if self.typed else {}), "command": command[0], "args": command[1:]}

    def snippet(self, command: list[str]) -> str:
        """What a file with nothing but this entry holds; a person can paste it."""
        return entries.put(self.empty, self.kind, self.place, self.value(command)).decode()

    @property
    def place(self) -> tuple[str, ...]:
        return (*self.keys, NAME)

    @property
    def kind(self) -> entries.Kind:
        return "toml" if self.linux.endswith(".toml") else "json"

    @property
    def empty(self) -> bytes:
        return b"" if self.kind == "toml" else b"{}\n"


def _is_own(home: Path) -> bool:
    return home.resolve() == Path.home().resolve()


def _vscode_add(command: list[str]) -> list[str]:
    return ["--add-mcp", json.dumps({"name": NAME, **CLIENTS["vscode"].value(command)})]


def _gemini_add(command: list[str]) -> list[str]:
    # Its parser takes options anywhere, so a server's own options need the separator.
    dashed = any(word.startswith("-") for word in command[1:])
    return ["mcp", "add", *_USER_SCOPE, command[0], *(["--"] if dashed else []), *command[1:]]


# fmt: off
_ALL = (
    Client("claude-desktop", "Claude Desktop", ".config/Claude/claude_desktop_config.json",
           _MAC + "Claude/claude_desktop_config.json", moved_by=("XDG_CONFIG_HOME", ".config/")),
    Client("claude-code", "Claude Code", ".claude.json", ".claude.json", typed=True,
           moved_by=("CLAUDE_CONFIG_DIR", ""), program="claude",
           add=lambda command: ["mcp", "add", *_USER_SCOPE, "--", *command],
           remove=("mcp", "remove", *_USER_SCOPE)),
    Client("vscode", "VS Code", ".config/Code/User/mcp.json", _MAC + "Code/User/mcp.json", keys=("servers",),
           typed=True, moved_by=("XDG_CONFIG_HOME", ".config/"), program="code", add=_vscode_add),
    Client("cursor", "Cursor", ".cursor/mcp.json", ".cursor/mcp.json", typed=True),
    Client("gemini", "Gemini CLI", ".gemini/settings.json", ".gemini/settings.json",
           moved_by=("GEMINI_CLI_HOME", ""), program="gemini", add=_gemini_add,
           remove=("mcp", "remove", *_USER_SCOPE)),
    Client("codex", "Codex", ".codex/config.toml", ".codex/config.toml", keys=("mcp_servers",),
           moved_by=("CODEX_HOME", ".codex/"), program="codex",
           add=lambda command: ["mcp", "add", NAME, "--", *command], remove=("mcp", "remove", NAME)),
)
# fmt: on
CLIENTS: dict[str, Client] = {client.name: client for client in _ALL}


def launch_command() -> list[str]:
    """The command that starts Watchman the way it was started now, with an absolute path.

    Raises: InvalidRequest where no such program is found.
    """
    # An environment that uvx made lives in uv's cache, and is gone when the cache is cleaned.
    if any(part.startswith(("archive-v", "environments-v", "builds-v")) for part in Path(sys.prefix).parts):
        uv = os.environ.get("UV", "uv")
        if uvx := shutil.which(Path(uv).with_name("uvx")) or shutil.which("uvx"):
            return [os.path.abspath(uvx), "watchman-mcp"]
    # The name is kept as it is: what a link leads to may carry a version and vanish with the next upgrade.
    started = Path(os.path.abspath(sys.argv[0]))
    for program in (started, Path(sys.executable).with_name("watchman-mcp")):
        if program.name == "watchman-mcp" and os.access(program, os.X_OK):
            return [str(program)]
    if found := shutil.which("watchman-mcp"):
        return [os.path.abspath(found)]
    raise InvalidRequest("No watchman-mcp program is found; install one with `uv tool install watchman-mcp`.")


def setup(
    client: str,
    *,
    home: Path,
    command: list[str] | None = None,
    remove: bool = False,
    replace: bool = False,
    run: Callable[[list[str]], int] | None = None,
) -> Outcome:
    """Put Watchman into this client's configuration, or take it out; `run` starts the client's own program.

    Raises: InvalidRequest for an unknown client, and where no command to start Watchman is known.
    """
    known = CLIENTS.get(client)
    if known is None:
        raise InvalidRequest(f"No client is called {client!r}; there are {', '.join(CLIENTS)}.")
    words = command or (["watchman-mcp"] if remove else launch_command())
    if not all(word.isprintable() for word in words):
        raise InvalidRequest(f"The command {words!r} has a character that a configuration file cannot hold.")
    path = known.file(home)
    job = _Job(known, HomeFile(path, home), words, replace, run if _is_own(home) else None)
    try:
        changed, says = job.take_out() if remove else job.put_in()
        return Outcome(changed, str(path), says)
    except LeftAlone as reason:
        says = str(reason)
    except OSError as error:
        says = f"{error.filename or path} cannot be changed ({error.strerror}), so nothing was."
    return Outcome(False, str(path), says, "" if remove else known.snippet(words))


@dataclass(frozen=True)
class _Job:
    """One `setup` of one client in one home."""

    client: Client
    file: HomeFile
    command: list[str]
    replace: bool
    run: Callable[[list[str]], int] | None

    def put_in(self) -> tuple[bool, str]:
        title, path = self.client.title, self.file.path
        raw, note = self.file.look(), self.file.note()
        standing = self._standing(raw, adding=True)
        if standing is not None and self._starts(standing) == self.command:
            return False, f"{title} has this entry in {path} already, so nothing was changed."
        if standing is not None and not self.replace:
            raise LeftAlone(f"{path} has another entry called {NAME}; --replace puts this one in its place.")
        # An entry of our own from an earlier setup is renewed: the copy is still the file from before that.
        if note is None or standing is None or not self._is_ours(standing):
            note, exact = self.file.new_note(raw), True
            try:
                if raw is not None:
                    self.file.keep_copy(raw)
                self._add(raw, anew=standing is None)
            except (LeftAlone, OSError):
                if (now := self.file.read()) == raw or NAME.encode() not in (now or b""):
                    self.file.forget(note)
                raise
        else:
            exact = self.file.untouched(note, raw)
            self._write_entry(raw)
        after = self.file.read()
        if after == raw:
            self.file.forget(note)
            return True, f"{self.client.program} says that it has added {NAME}, but not to {path}."
        self.file.remember({**note, "digest": digest(after) if exact else ""})
        kept = "" if note["absent"] else f"; the file as it was is kept in {self.file.backup.name} beside it"
        return True, f"{title} starts Watchman from its next start on, by the entry in {path}{kept}."

    def take_out(self) -> tuple[bool, str]:
        path, raw, note, old = self.file.path, self.file.look(), self.file.note(), self.file.copy()
        absent = note is not None and note["absent"]
        exact = self.file.untouched(note, raw)
        if not exact:
            standing = self._standing(raw, adding=False)
            if standing is None:
                left = "" if old is None else f"; {self.file.backup.name} beside it is from before setup"
                return False, f"{path} has no entry called {NAME}, so nothing was changed{left}."
            if not (self._is_ours(standing) or self.replace):
                raise LeftAlone(f"{NAME} in {path} starts another program; --replace takes it out too.")
        if (program := self._program) and self.run and self.client.remove:
            self.run([program, *self.client.remove])
        after = self.file.read()
        wanted = old if exact else self._reduced(after, old, absent=absent)
        if wanted is None:
            self.file.remove()
        elif wanted != after:
            self.file.write(wanted, after)
        self.file.forget(note)
        return True, f"{self.client.title} no longer starts Watchman; the entry is gone from {path}."

    def _add(self, raw: bytes | None, *, anew: bool) -> None:
        program = self._program
        if not (program and self.run and self.client.add and anew):
            self._write_entry(raw)
        elif code := self.run([program, *self.client.add(self.command)]):
            raise LeftAlone(f"{program} did not add {NAME} (exit status {code}); add the entry by hand.")

    def _write_entry(self, raw: bytes | None) -> None:
        client, held = self.client, self.client.empty if raw is None else raw
        try:
            wanted = entries.put(held, client.kind, client.place, client.value(self.command))
        except (ValueError, RecursionError) as error:
            raise self._by_hand(error) from error
        self.file.write(wanted, raw)

    def _reduced(self, after: bytes | None, old: bytes | None, *, absent: bool) -> bytes | None:
        """The file, changed by others too, without our entry; None where nothing is left of it."""
        kind, keys, before = self.client.kind, self.client.keys, {} if absent else self._readable(old)
        # Without a readable copy nobody knows whether the parents are ours, so they stay.
        parents = [keys[: count + 1] for count in range(len(keys))]
        keep = sum(before is None or entries.lookup(before, parent) is not None for parent in parents)
        left = after or b""
        try:
            if entries.lookup(entries.parse(left, kind), self.client.place) is not None:
                left = entries.take(left, kind, self.client.place, keep)
            tree = entries.parse(left, kind)
        except (ValueError, RecursionError) as error:
            if self._program and self.client.remove and NAME.encode() not in left:
                return left
            raise self._by_hand(error) from error
        if absent and tree in ({}, {self.client.keys[0]: {}}):
            return None
        # The client's own program may have laid out the whole file anew.
        return old if self._program and before == tree and old is not None else left

    @property
    def _program(self) -> str | None:
        return shutil.which(self.client.program) if self.run and self.client.program else None

    def _readable(self, raw: bytes | None) -> entries.Tree | None:
        try:
            return None if raw is None else entries.parse(raw, self.client.kind)
        except ValueError:
            return None

    def _standing(self, raw: bytes | None, *, adding: bool) -> object:
        """The entry as it stands, or as it must be in a file that only the client's own program can read."""
        if raw is None:
            return None
        try:
            return entries.lookup(entries.parse(raw, self.client.kind), self.client.place)
        except ValueError as error:
            if adding and self._program and self.client.add and NAME.encode() not in raw:
                return None
            note = self.file.note()
            removable = not adding and note and self._program and self.client.remove
            if removable or self.file.untouched(note, raw):
                return self.client.value(self.command)
            raise self._by_hand(error) from error

    def _starts(self, standing: object) -> list[object]:
        entry = standing if isinstance(standing, dict) else {}
        arguments = entry.get("args", [])
        return [entry.get("command"), *(arguments if isinstance(arguments, list) else [])]

    def _is_ours(self, standing: object) -> bool:
        words = self._starts(standing)
        names = [PurePath(word).name.replace("_", "-") for word in words if isinstance(word, str)]
        return words == self.command or any(name.startswith("watchman-mcp") for name in names)

    def _by_hand(self, error: Exception) -> LeftAlone:
        why = f"cannot be edited safely as strict {self.client.kind.upper()} ({error})"
        return LeftAlone(f"{self.file.path} {why}, so it was left as it is; edit its entry {NAME} by hand.")
