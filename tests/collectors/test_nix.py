"""Nix profiles: manifests as nix writes them; no text of one is too odd."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.collectors.test_cases import graph, look_at, plant
from watchman_mcp.collectors import load
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.nix import generation_of, split
from watchman_mcp.ownership import Owners

FULL = os.environ.get("WATCHMAN_TEST_SOAK") == "full"
HASH = "0123456789abcdfghijklmnpqrsvwxyz"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hello-2.12.1", ("hello", "2.12.1")),
        ("python3.11-requests-2.31.0", ("python3.11-requests", "2.31.0")),
        ("git", ("git", None)),
        ("nixos-system-web-01-24.05.3456.0123abcd", ("nixos-system-web-01", "24.05.3456.0123abcd")),
        ("nixos-system-web-23.11pre1.git", ("nixos-system-web", "23.11pre1.git")),
        ("darwin-system-24.11.20250101.0123abc+darwin5", ("darwin-system", "24.11.20250101.0123abc+darwin5")),
        ("gnome-shell-extension-x-unstable-2024-01-01", ("gnome-shell-extension-x-unstable", "2024-01-01")),
    ],
)
def test_a_path_of_the_store_has_a_name_and_a_version(name: str, expected: tuple[str, str | None]) -> None:
    assert split(f"/nix/store/{HASH}-{name}") == expected
    assert split(f"/nix/store/{HASH}-{name}/bin/x") == expected
    assert split(f"/nix/store/short-{name}") is None


def test_a_generation_is_named_by_its_profile_and_its_number() -> None:
    assert generation_of("system-12-link") == ("system", 12)
    assert generation_of("per-user-3-link") == ("per-user", 3)
    assert [generation_of(name) for name in ("system", "system-0-link", "system-x-link", "-1-link")] == [
        None
    ] * 4


WORDS = st.sampled_from(["version", "elements", "storePaths", "active", "attrPath", f"/nix/store/{HASH}-a-1"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
)


def test_a_file_belongs_to_the_element_of_a_profile_that_it_lies_in(tmp_path: Path) -> None:
    def stored(name: str) -> str:
        return f"/nix/store/{HASH}-{name}"

    elements = {"Hello": {"storePaths": [stored("hello-2.12"), stored("hello-2.12-man")]}}
    elements["off"] = {"active": False, "storePaths": [stored("off-1")]}  # type: ignore[dict-item] # one element has a flag too
    home = "/root/.local/state/nix/profiles"
    plant(
        tmp_path,
        {
            f"{stored('profile')}/manifest.json": json.dumps({"version": 3, "elements": elements}),
            f"{stored('env')}/manifest.nix": "[]",
            **{
                f"{stored(name)}/x": ""
                for name in ("hello-2.12", "hello-2.12-man", "off-1", "glibc-2", "nixos-system-box-24.05")
            },
        },
        {
            f"{home}/profile-1-link": stored("profile"),
            "/nix/var/nix/profiles/old-1-link": stored("env"),
            "/nix/var/nix/profiles/system-2-link": stored("nixos-system-box-24.05"),
        },
    )
    (collector,) = (one for one in load() if one.name == "nix")
    owners = Owners(Machine(Files(tmp_path), Commands(), tmp_path), [collector])
    look = look_at(tmp_path, "nix")
    known = {(node["key"], node["location"]) for node in graph("nix", look)["nodes"]}

    found = {
        name: [(one.key, one.location) for one in owners(f"{stored(name)}/x").owners.get("nix", [])]
        for name in ("hello-2.12", "hello-2.12-man", "off-1", "glibc-2", "nixos-system-box-24.05")
    }

    hello, system = ("hello", f"{home}/profile"), ("nixos-system-box", "/nix/var/nix/profiles/system")
    assert found == {
        "hello-2.12": [hello],
        "hello-2.12-man": [hello],
        "off-1": [],
        "glibc-2": [],
        "nixos-system-box-24.05": [system],
    }
    assert {hello, system} == known
    assert home in look.watched
