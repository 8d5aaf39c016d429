"""Places found by patterns: homes, levels that may be anything, and what refuses."""

import os
from pathlib import Path

import pytest

from watchman_mcp.machine import places
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.places import Search

PASSWD = """root:x:0:0:root:/root:/bin/bash
ana:x:1000:1000::/home/ana/:/bin/zsh
sync:x:4:65534:sync:/bin:/bin/sync
www:x:33:33::/var/www:/usr/sbin/nologin
odd line
bo:x:1001:1001::/home/bo:/bin/sh
nobody:x:9:9:::/bin/sh
"""


def laid_out(root: Path, *directories: str) -> Search:
    for directory in ("etc", *directories):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "etc/passwd").write_text(PASSWD)
    return Search(Files(root))


def test_homes_are_those_of_accounts_that_log_in_and_that_are_there(tmp_path: Path) -> None:
    search = laid_out(tmp_path, "root/a", "home/ana/a", "var/www/a", "bin/a", "Users/eve/a", "Users/Shared/a")

    assert search.homes == ("/root", "/home/ana", "/Users/eve")
    assert search.refused == {}


def test_a_pattern_finds_each_place_once(tmp_path: Path) -> None:
    search = laid_out(
        tmp_path, "home/ana/.n/v1/lib", "home/ana/.n/v2/lib", "home/ana/.n/v3", "opt/x/lib", "root/.n"
    )
    (tmp_path / "home/ana/.n/v4").symlink_to("v1")
    (tmp_path / "home/ana/.n/.hidden/lib").mkdir(parents=True)

    found = list(search.find(["~/.n/*/lib", "/opt/*/lib", "/opt/x/lib", "/opt/y/lib", "~/.n", "/opt/x/*"]))

    assert found == [
        "/home/ana/.n/v1/lib",
        "/home/ana/.n/v2/lib",
        "/opt/x/lib",
        "/root/.n",
        "/home/ana/.n",
    ]
    assert search.refused == {}


def test_what_refuses_is_kept_and_costs_only_itself(tmp_path: Path) -> None:
    search = laid_out(tmp_path, "root/.n/v1", "home/ana.there/.n/v2", "home/bo/.n.there/v3")
    for name in ("home/ana", "home/bo/.n"):
        if os.geteuid() == 0:
            (tmp_path / name).symlink_to(f"{Path(name).name}.there")
            os.lchown(tmp_path / name, 1000, 1000)
        else:
            (tmp_path / name).mkdir(mode=0)

    found = list(search.find(["~/.n/*"]))

    assert found == ["/root/.n/v1"]
    assert search.refused.keys() == {"/home/ana", "/home/bo/.n"}


def test_more_places_than_are_read_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "FOUND", 3)
    search = laid_out(tmp_path, *(f"opt/p{number}" for number in range(4)))

    assert list(search.find(["/opt/*"])) == ["/opt/p0", "/opt/p1", "/opt/p2"]
    assert search.refused.keys() == {"/"}
