"""The readers of what managers keep of newer versions and of locks."""

import gzip
import io
import json
import re
import tarfile
from collections.abc import Callable, Sequence
from typing import Any

from tests.collectors.test_apk_indexes import index, packed
from tests.collectors.test_brew_api import envelope, formula
from tests.collectors.test_flatpak import summary
from tests.collectors.test_pip_pages import page
from tests.fuzz.reading import Reader, of_text, placed, text_of
from tests.machine.test_rpm_managers import DNF5_LOCKS, DNF5_TABLE, PACKAGES
from watchman_mcp.machine import (
    apk_indexes,
    brew_api,
    dnf_updates,
    flatpak,
    flatpak_summaries,
    pacman_repositories,
    pip_pages,
    rpm_locks,
    tars,
    zypp_updates,
)
from watchman_mcp.machine.files import Files

_ALL = frozenset({"formula/wget", "formula/a", "cask/app"})
_REPOSITORIES = (
    b"# test data\nhttp://example.com/edge/main\n@tag http://example.com/edge/testing/\nset x=y\n"
    b"ndx http://example.com/repo/Packages.adb\nv2 http://example.com/ main community\n"
    b"v3 @tag http://example.com/testing\nhttp://${host}/main\n/srv/packages\n"
)
_DNF4 = b"\na-long-name.noarch\n      0:1.0-1\n      updates\napp.x86_64   1:1.1-1   @updates\n"
_PAGES = (
    page(
        "a-1.tar.gz",
        "a-1.10-py3-none-any.whl",
        "a-3rc1.tar.gz",
        {"filename": "a-2.tar.gz", "requires-python": ">=3.12", "yanked": "broken"},
        {"filename": "a-2-cp311-cp311-manylinux_2_17_x86_64.whl", "requires-python": ">=3.8,!=3.9.*"},
        {"filename": "a-1.9.post1.zip", "requires-python": "what"},
    ),
    page({"filename": "a-2.0+local.1-1-py2.py3-none-any.whl", "yanked": False}),
)
_PIP = (
    b"[global]\nindex-url = https://User:Pw@B.Org/y/\ncert = /x\n",
    b"[install]\nfind_links = /opt/wheels\n\tmore\n# none\n[list]\ni: https://[::1]:80/simple\n",
    b"[DEFAULT]\npre = 1\n[global]\n",
)
_XML = (
    b"<?xml version='1.0'?>\n<stream>\n<message type=\"error\">Repository &apos;a&apos; is invalid.</message>"
    b'<update-list><update kind="package" name="app" edition="0:2-1" arch="noarch" edition-old="1-1">'
    b'<summary>\xc3\xa9</summary><source url="http://x" alias="updates"/></update>'
    b'<update kind="patch" name="P" category="security" status="needed"/></update-list></stream>\n',
    b"<?xml version='1.0'?>\n<stream><message type=\"info\">Name        : SUSE-2024-1\nDescription :\n"
    b"    Conflicts   : evil &lt; 3\nProvides    : patch:S = 1\nConflicts   : [4]\n    app &lt; 1:0.9-1\n"
    b"    lib.x86_64 &lt; 1.1-1\n    srcpackage:app &lt; 3\n    odd\n</message></stream>\n",
)
_LOCKLIST = (
    b"# Added lock\nlib-2:1.0-1.*\nlib-1.0\nLib-One-1*\nlib.i686\n!lib-2:1.0-1\nlib\n[z-a]-0:1-1.x86_64\n"
)
_ZYPP_LOCKS = (
    b"\ntype: package\nmatch_type: glob\ncase_sensitive: on\nsolvable_name: l?b\nversion: < 1:0\n\n"
    b"# none\n\nrepo: updates\nsolvable_name: lib\n\nsolvable_name: one\nmatch_type: word\nversion: 2:1.0\n"
)


def _gzip(content: bytes) -> bytes:
    """Packed in the same way at any time."""
    return gzip.compress(content, mtime=0)


def _index(archive: bytes) -> object:
    repository = apk_indexes.Repository("http://x", "", "x")

    def newer(files: Files) -> object:
        installed = {"app": ("1.2_rc1-r0", ""), "same": ("1.0-r1", ""), "odd": ("?", "")}
        found = apk_indexes.newer(files, [(repository, "/index")], installed)
        assert all(one.version != installed[one.name][0] for one in found)
        return found

    return placed(archive, newer, "/index")


def _api(content: bytes) -> object:
    def offers(files: Files) -> object:
        found = brew_api.offers(files, {"formula": "/api", "cask": "/api"}, _ALL)
        for name, offer in found.items():
            kind = name.partition("/")[0]
            assert offer.version
            assert not brew_api.is_newer(kind, offer, [offer, ("0", -1)])
            brew_api.is_newer(kind, offer, [("1.0_1", offer.scheme), ("2.0", 0)])
        return found

    return placed(content, offers, "/api")


def _upgrades(content: bytes) -> object:
    found, unreadable = dnf_updates.read_upgrades(text_of(content))
    again, more = dnf_updates.read_upgrades("?\n" + text_of(content))
    assert (again, more) == (found, unreadable + 1), "a line without sense was passed over in silence"
    assert all(one.name and one.architecture and one.version and one.origin for one in found)
    return found, unreadable


def _summary(content: bytes) -> object:
    found = placed(content, lambda files: flatpak_summaries.commits(files, "/list", {"app/x"}), "/list")
    assert isinstance(found, dict)
    assert all(flatpak.COMMIT.fullmatch(commit) for commit in found.values())
    return found


def _sync(content: bytes) -> object:
    def newer(files: Files) -> object:
        found = pacman_repositories.newer(files, {"core": "/db"}, {"a": "1-1", "b": "1:1-1"})
        assert {one.name for one in found} <= {"a", "b"}
        return found

    return placed(content, newer, "/db")


def _index_of(content: bytes) -> object:
    found = pip_pages.index_of(["[global]\ni = https://x/y\n", text_of(content)])
    if found:
        assert re.match("[a-z][a-z0-9+.-]*://[^/@]+", found) and not found.endswith("/")
        pip_pages.place_of("/cache", f"{found}/key/")
    return found


def _page(content: bytes) -> object:
    offers = pip_pages.read_page(content, "a")
    assert json.loads(json.dumps(offers)) == [list(offer) for offer in offers]
    for python in ("3.11.7", "3.13"):
        best = pip_pages.newest(offers, python)
        assert best is None or best in {version for version, _, _ in offers}
    return offers


def _locks(match: Callable[[str], rpm_locks.Locked], nonsense: str) -> Callable[[bytes], object]:
    """A reader of locks, and a lock that it must count; what is kept is there."""
    there = {(one.name, one.arch, one.version) for one in PACKAGES}

    def on(content: bytes) -> object:
        found, again = match(text_of(content)), match(nonsense + text_of(content))
        assert found.packages <= there
        assert again == (found.packages, found.unreadable + 1), "a lock was passed over in silence"
        return found

    return on


def _locklist(text: str) -> rpm_locks.Locked:
    return rpm_locks.match_locklist(text.split("\n"), PACKAGES)


def _locked(path: str, read: Callable[[Files, Sequence[Any]], rpm_locks.Locked]) -> Callable[[bytes], object]:
    return lambda content: placed(content, lambda files: read(files, PACKAGES), path)


def _members(content: bytes) -> object:
    pieces = [content[at : at + 700] for at in range(0, len(content), 700)]
    whole = [(one.name, b"".join(one.content)) for one in tars.members(iter([content]), "x")]
    assert [(one.name, b"".join(one.content)) for one in tars.members(iter(pieces), "x")] == whole
    assert [one.name for one in tars.members(iter(pieces), "x")] == [name for name, _ in whole]
    return whole


def _document(content: bytes) -> object:
    document = zypp_updates.read_document(text_of(content))
    updates, unreadable = zypp_updates.read_updates(document)
    packages = sum(one.get("kind") == "package" for one in document.updates)
    complaints = sum(kind == "error" for kind, _ in document.messages)
    assert len(updates) + unreadable == packages + complaints
    assert all(update.name and update.version for update, _ in updates)
    fixes, odd = zypp_updates.read_fixes(document)
    assert all(fix.name and fix.version for fix in fixes) and odd >= 0
    return document, updates, zypp_updates.read_needed(document), fixes


def _archive(kind: int, *names: str) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=kind) as tar:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 5
            tar.addfile(member, io.BytesIO(b"text\n"))
        size = tar.offset
    return held.getvalue()[: size + 1024]


_ARCHIVES = (
    _archive(tarfile.USTAR_FORMAT, "a-2-1/", "a-2-1/desc", f"{'d' * 90}/{'n' * 60}"),
    _archive(tarfile.PAX_FORMAT, "é" * 70, "b-2:1-1/desc"),
    _archive(tarfile.GNU_FORMAT, "n" * 300, "b-1:1.1-1/desc"),
)
_API = (
    envelope([formula("wget", "1.21.4", 1), formula("a", "2", 0, 3)]),
    envelope([{"name": "a", "token": "app", "version": "1.1", "auto_updates": None}]),
    envelope(
        {
            "formulae": {"wget": {"stable_version": "3.0", "revision": 2}},
            "casks": {"app": {"version": "2"}},
            "renames": [],
        }
    ),
)

READERS = (
    Reader(
        "apk_indexes.read_repositories",
        of_text(lambda text: apk_indexes.read_repositories(text, "x86_64")),
        (_REPOSITORIES,),
    ),
    Reader(
        "apk_indexes.newer",
        lambda content: _index(packed("APKINDEX", content)),
        (b"C:Q1x=\nP:app\nV:1.2-r0\nA:x86_64\n\nC:Q1=\nP:same\nV:1.0-r1\n\nP:odd\nV:1\n\n",),
        share=0.3,
    ),
    Reader(
        "apk_indexes.newer/packed",
        _index,
        (_gzip(gzip.decompress(index(("app", "1.2-r0")))),),
        "binary",
        share=0.1,
    ),
    Reader(
        "brew_api.offers",
        _api,
        tuple(text.encode() for text in _API),
        share=0.3,
        with_=("brew_api.is_newer",),
    ),
    Reader("dnf_updates.read_upgrades", _upgrades, (DNF5_TABLE.encode(), _DNF4)),
    Reader(
        "flatpak_summaries.commits",
        _summary,
        (summary("app/x", "app/org.example.App/x86_64/stable", "runtime/org.example.Platform/x86_64/1"),),
        "binary",
        share=0.3,
        with_=("flatpak.number", "flatpak.width"),
    ),
    Reader(
        "pacman_repositories.newer",
        _sync,
        (*map(_gzip, _ARCHIVES), *_ARCHIVES),
        "binary",
        share=0.2,
    ),
    Reader("pip_pages.index_of", _index_of, _PIP, with_=("pip_pages.place_of", "ini.read_ini")),
    Reader(
        "pip_pages.body_of",
        pip_pages.body_of,
        (b"cc=4,\x82\xa8response\x87\xa4body\xc4\x02{}\xa7headers\x80",),
        "binary",
    ),
    Reader("pip_pages.read_page", _page, _PAGES, "json", share=0.3, with_=("pip_pages.newest",)),
    Reader("pip_pages.read_page/packed", _page, tuple(map(_gzip, _PAGES)), "binary", share=0.2),
    Reader(
        "rpm_locks.match_locklist",
        _locks(_locklist, "a(\n"),
        (_LOCKLIST,),
        with_=("rpm.order", "patterns.fits"),
    ),
    Reader(
        "rpm_locks.match_zypp",
        _locks(lambda text: rpm_locks.match_zypp(text, PACKAGES), "solvable_name: a\nmatch_type: ?\n\n"),
        (_ZYPP_LOCKS,),
    ),
    Reader(
        "rpm_locks.locked_by_dnf5",
        _locked(rpm_locks.DNF5_LOCKS, rpm_locks.locked_by_dnf5),
        (DNF5_LOCKS.encode(),),
        share=0.2,
    ),
    Reader(
        "rpm_locks.locked_by_dnf",
        _locked(rpm_locks.VERSIONLOCK, rpm_locks.locked_by_dnf),
        (b"[main]\nenabled = 1\nlocklist = /etc/dnf/plugins/versionlock.conf\n",),
        share=0.2,
    ),
    Reader("tars.members", _members, _ARCHIVES, "binary", share=0.5),
    Reader(
        "zypp_updates.read_document",
        _document,
        _XML,
        with_=("zypp_updates.read_updates", "zypp_updates.read_needed", "zypp_updates.read_fixes"),
    ),
)
