"""What zypper would update, by the metadata that it fetched last, and which of it its patches are about."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple, NoReturn
from xml.parsers import expat

from watchman_mcp.errors import Broken
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.rpm_metadata import Fetched, fetched
from watchman_mcp.machine.updates import Update
from watchman_mcp.machine.versions.rpm import compare

CACHE = "/var/cache/zypp/raw"
PROGRAM = "/usr/bin/zypper"
SETTINGS = (
    "/etc/products.d",
    "/etc/zypp/locks",
    "/etc/zypp/repos.d",
    "/etc/zypp/vars.d",
    "/etc/zypp/vendors.d",
    "/etc/zypp/zypp.conf",
    "/etc/zypp/zypper.conf",
)
"""What the answer depends on, beside metadata and installed packages."""

# So that a question neither locks out whoever runs zypper meanwhile nor fills its log.
_ZYPPER = ["env", "ZYPP_READONLY_HACK=1", "ZYPP_LOGFILE=/dev/null", "zypper", "--non-interactive", "--quiet"]
_ASK = [*_ZYPPER, "--no-refresh", "--xmlout"]
_INFORMATION = 100
"""From here on an exit status is no error."""
_OUTPUT = 64 << 20
_SECTION = re.compile(r"^(\S[^:\n]*): ?(.*(?:\n[ \t].*)*)$", re.MULTILINE)
_CONFLICT = re.compile(r"([^\s<>=]+) < (\S+)")


class Fix(NamedTuple):
    """That a patch needs a package, named with or without architecture, in this version or a newer one."""

    name: str
    version: str


@dataclass
class Document:
    """What an answer of zypper holds of packages, patches and words."""

    updates: list[dict[str, str]] = field(default_factory=list)
    """The attributes of each `update`, and as `alias` the repository that it comes from."""
    messages: list[tuple[str, str]] = field(default_factory=list)
    """Kind and text."""


def metadata(files: Files) -> Fetched:
    """What zypper fetched, in directories that are called as the repositories.

    Raises: Denied, Broken.
    """
    return fetched(files, CACHE, str)


def ask(commands: Commands, marking: frozenset[str]) -> tuple[list[Update], int]:
    """The updates, and how many lines or complaints of zypper were not understood.

    Raises: Absent, Denied, Broken.
    """
    document = _told(commands, "list-updates", "--type", "package")
    rows, unreadable = read_updates(document)
    fixes: list[Fix] = []
    if marking and rows:
        patches = read_needed(_told(commands, "list-patches", "--category", "security"))
        if patches:
            fixes, more = read_fixes(_told(commands, "info", "--type", "patch", "--", *patches))
            unreadable += more
    by_name: dict[str, list[str]] = {}
    for fix in fixes:
        by_name.setdefault(fix.name, []).append(fix.version)
    return [_marked(update, old, by_name, marking) for update, old in rows], unreadable


def _marked(update: Update, old: str, fixes: dict[str, list[str]], marking: frozenset[str]) -> Update:
    """The update with its mark: a security patch needs a version newer than the old and not than the new."""
    versions = [*fixes.get(update.name, ()), *fixes.get(f"{update.name}.{update.architecture}", ())]
    if any(compare(old, version) < 0 <= compare(update.version, version) for version in versions):
        return update._replace(security=True)
    return update._replace(security=False if update.origin in marking else None)


def _told(commands: Commands, *words: str) -> Document:
    answer = commands.run([*_ASK, *words], timeout=120, output_cap=_OUTPUT)
    if 0 < answer.code < _INFORMATION:
        said = [text for kind, text in _messages(answer.stdout) if kind == "error"]
        reason = (said or answer.stderr.strip().splitlines() or ["no reason given"])[-1][:200]
        raise Broken(
            f"zypper cannot tell what is to be updated: {reason}; run `zypper {words[0]}` to see why"
        )
    return read_document(answer.stdout)


def _messages(text: str) -> list[tuple[str, str]]:
    return read_document(text).messages if text.strip() else []


def read_document(text: str) -> Document:
    """An answer in XML; one with a document type, which may hide anything, is refused.

    Raises: Broken.
    """
    document, inside, said = Document(), list[str](), list[tuple[str, list[str]]]()

    def start(name: str, attributes: dict[str, str]) -> None:
        inside.append(name)
        if name == "update":
            document.updates.append(dict(attributes))
        elif name == "source" and inside[-2:] == ["update", "source"]:
            document.updates[-1].setdefault("alias", attributes.get("alias", ""))
        elif name == "message":
            said.append((attributes.get("type", ""), []))

    def end(_name: str) -> None:
        inside.pop()

    def words(part: str) -> None:
        if inside[-1:] == ["message"]:
            said[-1][1].append(part)

    def refuse(*_: object) -> NoReturn:
        raise Broken("zypper's answer has a document type, which is no part of it; it was not read")

    parser = expat.ParserCreate("utf-8")  # whatever the answer says that it is written in
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = words, refuse
    try:
        parser.Parse(text.encode("utf-8", "surrogateescape"), True)
    except expat.ExpatError as error:
        raise Broken(
            f"zypper's answer is no XML ({error}); run `zypper --xmlout list-updates` by hand"
        ) from error
    document.messages = [(kind, "".join(parts)) for kind, parts in said]
    return document


def read_updates(document: Document) -> tuple[list[tuple[Update, str]], int]:
    """The updates of packages with the version that is installed, and what was not understood."""
    found: list[tuple[Update, str]] = []
    unreadable = sum(kind == "error" for kind, _ in document.messages)
    for one in document.updates:
        if one.get("kind") == "package":
            name, version, old = one.get("name"), one.get("edition"), one.get("edition-old")
            if name and version:
                update = Update(name, one.get("arch"), version.removeprefix("0:"), one.get("alias"))
                found.append((update, old or "0"))
            else:
                unreadable += 1
    return found, unreadable


def read_needed(document: Document) -> list[str]:
    """The names of the security patches that are needed: zypper lists the others too."""
    names = [
        one.get("name", "")
        for one in document.updates
        if one.get("kind") == "patch"
        and one.get("category", "security") == "security"
        and one.get("status", "needed") == "needed"
    ]
    return list(dict.fromkeys(name for name in names if name))


def read_fixes(document: Document) -> tuple[list[Fix], int]:
    """What patches are about, which is what they conflict with, and what was not understood."""
    found, unreadable = list[Fix](), 0
    for _, text in document.messages:
        sections = {name.rstrip(" "): told for name, told in _SECTION.findall(text)}
        for line in _items(sections.get("Conflicts", "").split("\n")):
            if match := _CONFLICT.fullmatch(line):
                found.append(Fix(match[1], match[2]))
            else:
                unreadable += 1
    return found, unreadable


def _items(lines: Iterable[str]) -> list[str]:
    """One item, or the lines below `[COUNT]`; what is no package says so before its name."""
    words = [line.strip() for line in lines]
    return [
        word
        for word in words
        if word not in ("", "---") and not re.fullmatch(r"\[[0-9]+\]", word) and ":" not in word.split(" ")[0]
    ]
