"""Newer versions by the files that Homebrew's api.rb and api/internal.rb fetch; owners of files."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.collectors.test_cases import graph, look_at, plant
from watchman_mcp.collectors import load
from watchman_mcp.errors import Broken
from watchman_mcp.machine import Machine
from watchman_mcp.machine.brew_api import Offer, is_newer, offers
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.ownership import Owners

PREFIX = "/home/linuxbrew/.linuxbrew"
CACHE = "/root/.cache/Homebrew/api"


def envelope(payload: object, **how: Any) -> str:
    """A file as the API serves it."""
    text = payload if isinstance(payload, str) else json.dumps(payload, **how)
    return json.dumps({"payload": text, "signatures": [{"protected": "x", "header": {"kid": "homebrew-1"}}]})


def formula(name: str, version: str, revision: int = 0, scheme: int = 0, **more: object) -> dict[str, object]:
    versions = {"stable": version, "head": "HEAD", "bottle": True}
    return {"name": name, "versions": versions, "revision": revision, "version_scheme": scheme, **more}


def receipt(tap: str = "homebrew/core", scheme: int = 0) -> str:
    source = {"tap": tap, "versions": {"stable": "1", "version_scheme": scheme}}
    return json.dumps({"time": 1_700_000_000, "installed_on_request": True, "source": source})


def machine(*kegs: tuple[str, str]) -> dict[str, str | None]:
    return {f"{PREFIX}/Cellar/{name}/{version}/INSTALL_RECEIPT.json": receipt() for name, version in kegs}


def seen(root: Path) -> dict[str, Any]:
    """What a look that is not the first one brings."""
    return graph("brew", look_at(root, "brew", marks={"there": True}))


def newer(root: Path) -> dict[str, Any]:
    nodes = seen(root)["nodes"]
    return {node["name"]: node["available"] for node in nodes if "available" in node}


def test_newer_versions_are_those_of_the_api(tmp_path: Path) -> None:
    files = machine(
        ("wget", "1.21.4"), ("same", "2.0_1"), ("both", "1.0"), ("both", "1.1"), ("head", "HEAD-1a")
    )
    files |= machine(("scheme", "2024"), ("older", "3.0"))
    files[f"{PREFIX}/Cellar/tapped/1.0/INSTALL_RECEIPT.json"] = receipt("some/tap")
    casks = {"app": "1.0", "self": "1.0", "latest": "latest", "back": "2.0"}
    for name, version in casks.items():
        fields = {"time": 1_700_000_000, "source": {"tap": "homebrew/cask", "version": version}}
        files[f"{PREFIX}/Caskroom/{name}/.metadata/INSTALL_RECEIPT.json"] = json.dumps(fields)
    files[f"{CACHE}/formula.jws.json"] = envelope(
        [
            formula("wget", "1.21.4", 1),
            formula("same", "2.0", 1),
            formula("both", "1.1"),
            formula("head", "9.0"),
            formula("scheme", "1.0", 0, 1),
            formula("older", "2.0"),
            formula("tapped", "9.0"),
        ]
    )
    files[f"{CACHE}/cask.jws.json"] = envelope(
        [
            {"token": "app", "version": "1.1", "auto_updates": None},
            {"token": "self", "version": "1.1", "auto_updates": True},
            {"token": "latest", "version": "latest"},
            {"token": "back", "version": "1.9"},
        ]
    )
    plant(tmp_path, files)

    assert newer(tmp_path) == {"wget": "1.21.4_1", "scheme": "1.0", "app": "1.1", "back": "1.9"}


def test_the_file_that_was_fetched_last_counts_and_its_time_is_told(tmp_path: Path) -> None:
    packages = {
        "formulae": {"wget": {"stable_version": "3.0", "revision": 2}},
        "formula_aliases": {"w": "wget"},
    }
    files = machine(("wget", "1.0"))
    files[f"{CACHE}/formula.jws.json"] = envelope([formula("wget", "2.0")])
    files[f"{CACHE}/internal/packages.x86_64_linux.jws.json"] = envelope(
        {"casks": {}, "renames": [], **packages}
    )
    files[f"{CACHE}/internal/executables.txt"] = ""
    plant(tmp_path, files)
    os.utime(tmp_path / f"{CACHE}/formula.jws.json".lstrip("/"), (0, 0))

    assert newer(tmp_path) == {"wget": "3.0_2"}
    (index,) = [n for n in seen(tmp_path)["nodes"] if n["label"] == "PackageIndex"]
    assert index["refreshed_at"] == "2026-01-01T00:00:00+00:00"
    assert index["location"] == PREFIX


def test_what_another_person_fetched_says_nothing_of_a_prefix(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {**machine(("wget", "1.0")), f"{CACHE}/formula.jws.json": envelope([formula("wget", "2.0")])},
    )
    if os.geteuid():
        pytest.skip("needs root, to give a file to somebody else")
    os.chown(tmp_path / f"{CACHE}/formula.jws.json".lstrip("/"), 12345, 12345)

    assert {node["label"] for node in seen(tmp_path)["nodes"]} == {"Software"}


def test_the_first_look_leaves_large_files_to_the_next_one(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {**machine(("wget", "1.0")), f"{CACHE}/formula.jws.json": envelope([formula("wget", "2.0")])},
    )
    look = look_at(tmp_path, "brew")

    found = graph("brew", look)

    assert not any("available" in node for node in found["nodes"])
    assert look.again and found["unobserved"] == [f"brew:{PREFIX}:updates"]
    assert newer(tmp_path) == {"wget": "2.0"}


@pytest.mark.parametrize("ascii", [True, False])
def test_megabytes_are_read_as_json_reads_them(tmp_path: Path, *, ascii: bool) -> None:
    odd = ['"', "\\", "\n", "é", "😀", '\\"', "\\u0041", "}]{[,:", "\x7f", " "]
    payload = [formula(f"f{n}", f"1.{n}", n % 3, desc=odd[n % len(odd)] * (n % 997)) for n in range(3000)]
    (tmp_path / "api").write_text(envelope(payload, ensure_ascii=ascii, indent=1))
    (tmp_path / "more").write_text(
        envelope({"formulae": {one["name"]: {"stable_version": "2"} for one in payload}}, ensure_ascii=ascii)
    )
    wanted = frozenset(f"formula/f{n}" for n in range(0, 3000, 7))

    found = offers(Files(tmp_path), {"formula": "/api"}, wanted)
    internal = offers(Files(tmp_path), {"formula": "/more", "cask": "/more"}, wanted)

    assert found == {
        f"formula/f{n}": Offer(f"1.{n}_{n % 3}" if n % 3 else f"1.{n}", 0) for n in range(0, 3000, 7)
    }
    assert set(internal) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"payload": "[',
        envelope("["),
        envelope('[{"name": "f"'),
        envelope("[1 2]"),
        envelope('{"formulae": 1, 2}'),
        envelope("[" * 200_000),
        '{"payload": "\\x"}',
        envelope('["' + "x" * (9 << 20)),
    ],
    ids=range(10),
)
def test_a_file_that_is_damaged_is_broken(tmp_path: Path, text: str) -> None:
    (tmp_path / "api").write_text(text)

    with pytest.raises(Broken):
        offers(Files(tmp_path), {"formula": "/api"}, frozenset({"formula/f"}))


def test_a_damaged_file_is_said_and_loses_no_package(tmp_path: Path) -> None:
    plant(tmp_path, {**machine(("wget", "1.0")), f"{CACHE}/formula.jws.json": "{}"})

    found = seen(tmp_path)

    assert [node["name"] for node in found["nodes"] if node["label"] == "Software"] == ["wget"]
    assert found["unobserved"] == [f"brew:{PREFIX}:updates"]


@pytest.mark.parametrize(
    ("offer", "installed", "expected"),
    [
        (Offer("1.1", 0), [("1.0", 0)], True),
        (Offer("1.1", 0), [("1.0", 0), ("1.1", 0)], False),
        (Offer("1.0", 1), [("2.0", 0)], True),
        (Offer("2.0", 0), [("1.0", 1)], False),
        (Offer("1.0", 1), [("1.0", 0)], False),
    ],
)
def test_a_scheme_goes_before_a_version(
    offer: Offer, installed: list[tuple[str, int]], *, expected: bool
) -> None:
    assert is_newer("formula", offer, installed) is expected


def test_a_file_belongs_to_the_keg_or_cask_that_it_lies_in(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            f"{PREFIX}/Cellar/Wget/1.0/bin/wget": "",
            f"{PREFIX}/Cellar/Wget/2.0/bin/wget": "",
            f"{PREFIX}/Caskroom/app/1.0/App": "",
            f"{PREFIX}/lib/own": "",
            "/srv/Cellar/x/1/y": "",
        },
        {
            f"{PREFIX}/bin/wget": "../Cellar/Wget/1.0/bin/wget",
            f"{PREFIX}/opt/Wget": "../Cellar/Wget/1.0",
        },
    )
    (collector,) = (one for one in load() if one.name == "brew")
    owners = Owners(Machine(Files(tmp_path), Commands(), tmp_path), [collector])

    def owned(path: str) -> list[tuple[str, str | None]]:
        return [(one.key, one.location) for one in owners(path).owners.get("brew", [])]

    assert owned(f"{PREFIX}/bin/wget") == [("wget", PREFIX)]
    assert owned(f"{PREFIX}/Cellar/Wget/2.0/bin/wget") == [("wget", f"{PREFIX}/Cellar/Wget/2.0")]
    assert owned(f"{PREFIX}/Caskroom/app/1.0/App") == [("app", f"{PREFIX}/Caskroom")]
    for path in (f"{PREFIX}/lib/own", "/srv/Cellar/x/1/y", f"{PREFIX}/Cellar/Wget/2.0/bin/none"):
        assert owned(path) == []


def test_a_prefix_in_a_home_is_watched(tmp_path: Path) -> None:
    plant(tmp_path, {"/root/.linuxbrew/Cellar/wget/1.0/x": ""})
    look = look_at(tmp_path, "brew")

    graph("brew", look)

    assert "/root/.linuxbrew/Cellar" in look.watched
