"""The name servers of a NetworkManager that runs, beside what its own program says of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.rigs.cache import missing, need_programs
from watchman_mcp.collectors.dns import MANAGER_FILES, collector

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What the rig prints of it, before and after another server is set."""
    how = "as root: apt-get install --no-install-recommends network-manager dbus"
    if os.geteuid() != 0:
        missing("NetworkManager in namespaces of its own (root)", how)
    need_programs(
        "NetworkManager", "NetworkManager", "nmcli", "busctl", "dbus-daemon", "unshare",
        how=how,
    )  # fmt: skip
    alone = ("--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")
    done = subprocess.run(
        ["unshare", *alone, sys.executable, "-m", "tests.rigs.network_manager"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def servers(seen: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for node in seen["nodes"] if node["source"] == "NetworkManager"]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_the_servers_of_each_interface_are_those_that_nmcli_shows(told: dict[str, Any], moment: str) -> None:
    seen = told[moment]
    rows = servers(seen)

    for name, (first, searches, second, more) in seen["shown"].items():
        mine = [row for row in rows if row["interface"] == name]
        assert [row["ip"] for row in mine] == first + second
        assert {tuple(row["domains"]) for row in mine} == {tuple(one) for one in (searches, more) if one}
    assert {row["interface"] for row in rows} == set(seen["shown"])
    assert sorted(row["position"] for row in rows) == list(range(1, len(rows) + 1))
    assert seen["unobserved"] == []


def test_another_server_is_found_and_the_one_before_it_is_gone(told: dict[str, Any]) -> None:
    before, after = ({row["ip"] for row in servers(told[moment])} for moment in ("before", "after"))

    assert before - after == {"192.0.2.53", "198.51.100.53"}
    assert after - before == {"192.0.2.54"}


def test_its_files_that_are_watched_change_when_a_server_does(told: dict[str, Any]) -> None:
    before, after = told["before"]["watched"], told["after"]["watched"]

    assert set(MANAGER_FILES) <= set(collector.watch)
    assert all(before[path] != after[path] for path in MANAGER_FILES)
