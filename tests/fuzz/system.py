"""The readers of what the managers of whole systems keep."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from tests.collectors.test_flatpak import DEPLOY
from tests.fuzz.reading import ZONE, Reader, accounted, cases, lines_of, of_log, of_text, text_of
from tests.rigs.rpm import Rpm, header_of
from watchman_mcp.machine import (
    apk,
    apt_changes,
    apt_history,
    apt_updates,
    brew,
    debian,
    dnf_logs,
    dpkg,
    flatpak,
    nix,
    nix_environments,
    pacman,
    pacman_log,
    rpm,
    rpm_changes,
    rpm_headers,
    snap,
    yum_logs,
    zypp_history,
)
from watchman_mcp.machine.log_years import LocalTimes
from watchman_mcp.machine.logs import Line

Found = tuple[list[Any], int]
_HISTORY = cases("apt", "*history.log*")
_STATE = cases("apt", "*/status")
_HEADER = header_of(Rpm("app", "1:2.0-1", ("lib >= 1", "(a or b)"), ("thing",), files=("/usr/bin/app",)))
_NUMBERED = _HEADER[:255] + b"\1" + _HEADER[256:]
"""The names of its files say that they are numbers."""
_PRESENT = {("a", "noarch"): {"1-1"}, ("lib", "x86_64"): {"1:2-1"}}
_TIMES = LocalTimes(ZONE, {(1, 1): datetime(2026, 1, 2)})
_QUERY = (
    b"N 'app' '1' '2.0' '1' 'noarch' 1767225600 1024 'app-2.0-1.src.rpm' 'it'\\''s' 'm:s:1:c'\n"
    b"P 'app' 8 '1:2.0-1'\nR '(a or b if c)' 0 ''\nR '/bin/sh' 0 ''\n"
    b"N 'lib' (none) '1' '2' (none) 0 (none) (none) (none) (none)\n"
    b"N 'gpg-pubkey' '' '1' '2' '' 1 0 '' '' (none)\n"
)
_UPGRADABLE = (
    b"Listing...\nlibc6/stable-security,now 2.36-9+deb12u9 amd64 [upgradable from: 2.36-9+deb12u8]\n"
    b"tool/stable 1:2.0 all [upgradable from: 1:1.0]\n\n"
)


def _apk_log(lines: Iterable[Line]) -> Found:
    log = apk.ApkLog()
    found = [(c.type, c.name, c.previous, c.version, c.nth, c.error) for c in log.changes(lines)]
    assert all(name and version for _, name, _, version, *_ in found)
    log.place()
    return found, log.unreadable


def _apk_installed(content: bytes) -> object:
    packages = apk.read_installed(text_of(content), "installed")
    assert all(package["P"] and package["V"] for package in packages)
    assert all(0 <= one != other < len(packages) for one, other in apk.needs(packages))
    return packages


def _apk_world(content: bytes) -> object:
    found = apk.read_world(text_of(content))
    assert all(found)
    return found


def _stanzas(content: bytes) -> object:
    return [fields for fields in debian.stanzas(text_of(content)) if fields]


def _present(content: bytes) -> object:
    packages = debian.present(text_of(content), "status")
    debian.present(text_of(content) + "\n\nPackage: a\nVersion: 1\n\n", "status", "install ok installed")
    assert all("Package" in package for package in packages)
    native = debian.native_of(packages)
    assert all(0 <= one != other < len(packages) for one, other in debian.needs(packages, native))
    return packages


def _dpkg_steps(lines: Iterable[Line]) -> Found:
    log = dpkg.DpkgLog(ZONE)
    steps = list(log.steps(lines))
    log.place()
    return [*steps, *log.rest(frozenset({"a:amd64"}))], log.unreadable


def _dpkg_log(content: bytes) -> object:
    steps: list[dpkg.Step] = accounted(_dpkg_steps, content, "?")
    history = _history_of(_apt_transactions(lines_of(_HISTORY[0]))[0])
    told = list(apt_changes.of_steps(steps, history, ""))
    assert len(told) == len(steps)
    return [one.content for one in told]


def _apt_transactions(lines: Iterable[Line]) -> Found:
    log = apt_history.HistoryLog(ZONE)
    return list(log.transactions(lines)), log.unreadable


def _history_of(found: list[apt_history.Transaction]) -> apt_history.Transactions:
    parts = [found]
    history = apt_history.Transactions(lambda: iter(parts.pop() if parts else ()))
    history.reach(None)
    return history


def _apt_history(content: bytes) -> object:
    found: list[apt_history.Transaction] = accounted(_apt_transactions, content, "?")
    history = _history_of(found)
    told = list(apt_changes.of_transactions(found, frozenset({"tool"})))
    assert len(told) == sum(len(one.changes) for one in found)
    assert history.needed(datetime(2026, 1, 1, tzinfo=UTC)) in [*found, None]
    return [one.content for one in told], [
        len(list(_history_of(found).over(since))) for since in ("", "2026")
    ]


def _upgradable(content: bytes) -> object:
    lines = text_of(content).splitlines()
    found, unreadable = apt_updates.read_upgradable(lines, marked=True)
    silent = [line for line in lines if not line.strip() or line.startswith("Listing")]
    assert len(found) + unreadable >= len(lines) - len(silent)
    assert all(one.name and one.version for one in found)
    return found, unreadable


def _brew_log(lines: Iterable[Line]) -> Found:
    log = brew.BrewLog(ZONE)
    found = [one.key for one in log.changes(lines)]
    log.place(None)
    return found, log.unreadable


def _receipt(content: bytes) -> object:
    found = brew.read_receipt(text_of(content))
    assert all(found.needs)
    return found


def _dnf(lines: Iterable[Line]) -> Found:
    log = dnf_logs.DnfLog("dnf", _PRESENT, frozenset({"kernel"}), _TIMES)
    told = [(one.at, one.change, one.run, one.nth) for one in log.told(lines)]
    assert all(change.name for _, change, *_ in told)
    assert log.place is None or log.place.text is not None
    return told, log.unreadable


def _yum(lines: Iterable[Line]) -> Found:
    lines = list(lines)
    log = yum_logs.YumLog(dpkg.Clock(ZONE), {(1, 1): datetime(2026, 1, 2)})
    told = [(one.at, one.change, one.nth) for one in log.told(lines)]
    # Each line tells a change, is counted, or is blank.
    assert len(told) + log.unreadable == sum(bool(line.text.strip("\0 \r")) for line in lines)
    return told, log.unreadable


def _zypp(lines: Iterable[Line]) -> Found:
    log = zypp_history.ZyppHistory(dpkg.Clock(ZONE), {"a.noarch": "1-1"}, frozenset({"kernel"}))
    told = [(one.at, one.change, one.run, one.nth) for one in log.told(lines)]
    assert all(change.name and change.version for _, change, *_ in told)
    known, waiting = log.known_there({}, {})
    assert zypp_history.unpacked(zypp_history.packed(known)) == known
    assert waiting == {}
    return told, log.unreadable


def _pacman_log(lines: Iterable[Line]) -> Found:
    log = pacman_log.PacmanLog(ZONE)
    found = [(c.type, c.name, c.previous, c.version, c.nth, c.error, c.kept) for c in log.changes(lines)]
    assert all(name and version for _, name, _, version, *_ in found)
    log.place()
    return found, log.unreadable


def _pacman_entry(content: bytes) -> object:
    package = pacman.read_entry(text_of(content), "desc")
    assert package["NAME"] and package["VERSION"]
    assert list(pacman.needs([package])) == []
    other = {"NAME": ["b"], "VERSION": ["1-1"], "DEPENDS": ["a>=1", *package.get("DEPENDS", [])]}
    assert set(pacman.needs([package, other])) <= {(0, 1), (1, 0)}
    return package


def _pacman_configuration(content: bytes) -> object:
    found = pacman.read_configuration(text_of(content))
    assert found.database.startswith("/") or not found.database
    found.holds({"NAME": ["linux"], "VERSION": ["1-1"], "GROUPS": ["base", "a"]})
    return found


def _packages(packages: list[rpm.Package]) -> object:
    several = rpm.install_only(packages, frozenset({"installonlypkg(kernel)"}))
    kept = rpm.newest(packages, several)
    owners = {path: [("app", "noarch")] for path in rpm.wanted_files(kept)}
    assert all(0 <= one != other < len(kept) for one, other in rpm.needs(kept, owners))
    return packages


def _rpm_query(content: bytes) -> object:
    return _packages(rpm.read_query(text_of(content)))


def _rpm_package(content: bytes) -> object:
    package = rpm_headers.read_package(content)
    assert package.name
    return _packages([package, rpm.Package("app", "1-1", "noarch", provides=[rpm.Relation("lib", 8, "1")])])


def _rpm_files(content: bytes) -> object:
    who, paths = rpm_headers.read_files(content)
    return who, list(paths)


def _named(content: bytes) -> object:
    found = dnf_logs.read_named(text_of(content))
    if found:
        assert found.name and ":" not in found.name
        rpm_changes.kind_of("1-1", found.version or "")
    return found


def _deploy(content: bytes) -> object:
    found = flatpak.read_deploy(content)
    assert found.size_bytes is None or 0 <= found.size_bytes < 1 << 50
    return found


def _masks(content: bytes) -> object:
    patterns = flatpak.read_masks(text_of(content))
    flatpak.masked("app/org.example.App/x86_64/stable", patterns)
    return patterns


def _nix_manifest(content: bytes) -> object:
    found = nix.read_manifest(text_of(content), "manifest.json")
    assert all(one.name for one in found)
    return found


def _nix_environment(content: bytes) -> object:
    found = nix_environments.read_environment(text_of(content), "manifest.nix")
    assert all(one.name for one in found)
    return found


def _snap_state(content: bytes) -> object:
    found = snap.read_state(text_of(content), "state.json")
    assert all(one.name and one.revision for one in found.snaps)
    assert all(step.name and step.change for step in found.steps)
    snaps = json.loads(content.decode("utf-8", "surrogateescape"))["data"].get("snaps")
    assert len(found.snaps) + found.odd == (len(snaps) if isinstance(snaps, dict) else 0)
    return found


READERS = (
    Reader("apk.read_installed", _apk_installed, cases("apk", "*/installed"), with_=("apk.needs",)),
    Reader("apk.read_world", _apk_world, cases("apk", "*/world")),
    Reader("apk.ApkLog.changes", of_log(_apk_log, "(1/1) Installing a"), cases("apk", "*.log")),
    Reader("apt_updates.read_upgradable", _upgradable, (_UPGRADABLE,)),
    Reader("debian.stanzas", _stanzas, _STATE),
    Reader("debian.present", _present, _STATE, with_=("debian.needs", "debian.native_of")),
    Reader("debian.read_automatic", of_text(debian.read_automatic), cases("apt", "*extended_states")),
    Reader("debian.read_removed", of_text(debian.read_removed), _STATE),
    Reader(
        "apt_history.HistoryLog.transactions",
        _apt_history,
        _HISTORY,
        with_=("apt_history.Transactions.over",),
    ),
    Reader("dpkg.DpkgLog.steps", _dpkg_log, cases("apt", "*dpkg.log*"), with_=("apt_changes.of_steps",)),
    Reader("brew.read_receipt", _receipt, cases("brew", "*RECEIPT.json"), "json"),
    Reader("brew.read_timestamp", of_text(brew.read_timestamp), (b"20240102030405.678", b"20240102030405")),
    Reader("brew.BrewLog.changes", of_log(_brew_log, "* /opt/Cellar/a/1: 2 files"), cases("brew", "*.log")),
    Reader("dnf_logs.DnfLog.told", of_log(_dnf, "2026-0"), cases("rpm", "*dnf.rpm.log", "*dnf5.log")),
    Reader(
        "dnf_logs.read_commands",
        lambda c: dnf_logs.read_commands(lines_of(c), _TIMES),
        cases("rpm", "*dnf.log"),
    ),
    Reader("yum_logs.YumLog.told", of_log(_yum, "?"), cases("rpm", "*yum.log")),
    Reader("dnf_logs.read_named", _named, (b"app-1:2.0-1.noarch", b"1:python3.11-libs-3.11-1.el9.x86_64")),
    Reader("zypp_history.ZyppHistory.told", of_log(_zypp, "?"), cases("rpm", "*zypp/history")),
    Reader("zypp_history.read_automatic", of_text(zypp_history.read_automatic), (b"# none\nlib\n\nb # c\n",)),
    Reader("pacman_log.PacmanLog.changes", of_log(_pacman_log, "?"), cases("pacman", "*.log")),
    Reader("pacman.read_entry", _pacman_entry, cases("pacman", "*/desc"), with_=("pacman.needs",)),
    Reader("pacman.read_configuration", _pacman_configuration, cases("pacman", "*pacman.conf")),
    Reader("pacman.entry_named", of_text(pacman.entry_named), (b"a-b-1:1.0-1", b"lib32-x-2-3")),
    Reader("rpm.read_query", _rpm_query, (_QUERY,), with_=("rpm.needs", "rpm.wanted_files")),
    Reader(
        "rpm_headers.read_package",
        _rpm_package,
        (_HEADER, _NUMBERED),
        "binary",
        refuses=(ValueError,),
        with_=("rpm_headers.read_header",),
    ),
    Reader("rpm_headers.read_files", _rpm_files, (_HEADER, _NUMBERED), "binary", refuses=(ValueError,)),
    Reader("flatpak.read_deploy", _deploy, (DEPLOY,), "binary"),
    Reader(
        "flatpak.read_runtime", of_text(flatpak.read_runtime), (b"[Application]\nname=a\nruntime=b/c/d\n",)
    ),
    Reader(
        "flatpak.read_masks",
        _masks,
        (b"[core]\nrepo_version=1\nxa.masked=org.a.*;app/b//stable;[z-a];\n",),
        with_=("flatpak.masked",),
    ),
    Reader(
        "flatpak.read_installation",
        of_text(flatpak.read_installation),
        (b'[Installation "a"]\nPath=/srv/a\n',),
    ),
    Reader("nix.read_manifest", _nix_manifest, cases("nix", "*manifest.json"), "json"),
    Reader("nix_environments.read_environment", _nix_environment, cases("nix", "*manifest.nix")),
    Reader("nix.generation_of", of_text(nix.generation_of), (b"profile-12-link", b"system-1-link")),
    Reader(
        "nix.split",
        of_text(nix.split),
        (b"/nix/store/" + b"0a" * 16 + b"-hello-2.12.1-man",),
        with_=("nix.parted",),
    ),
    Reader("snap.read_state", _snap_state, cases("snap", "*state.json"), "json"),
    Reader("snap.read_meta", of_text(snap.read_meta), cases("snap", "*snap.yaml")),
)
