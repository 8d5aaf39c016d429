"""Configuration files are listed by what their directory says of them."""

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.collectors.test_cases import MTIME, look_at, plant
from watchman_mcp.collectors import configs
from watchman_mcp.errors import Absent
from watchman_mcp.schema.configs import ConfigFile


def test_files_below_etc_are_listed_without_links_and_what_the_system_rewrites(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {"/etc/app/deep/odd\udcff.conf": "a=1", "/etc/hosts": "", "/etc/ld.so.cache": "x", "/etc/pipe": None},
        {"/etc/link": "hosts", "/etc/app/elsewhere": "/var"},
    )
    (tmp_path / "etc/hosts").chmod(0o640)

    found = list(configs.collect(look_at(tmp_path, "configs")))

    written = datetime.fromtimestamp(MTIME, UTC)
    owner = os.geteuid()
    assert found == [
        ConfigFile(
            path="/etc/app/deep/odd\udcff.conf", size_bytes=3, modified_at=written, mode="0644", owner=owner
        ),
        ConfigFile(path="/etc/hosts", size_bytes=0, modified_at=written, mode="0640", owner=owner),
    ]


def test_a_machine_without_etc_has_no_configuration_files(tmp_path: Path) -> None:
    with pytest.raises(Absent):
        list(configs.collect(look_at(tmp_path, "configs")))


def test_more_files_than_can_be_listed_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(tmp_path, {f"/etc/{n}": "" for n in range(5)})
    monkeypatch.setattr(configs, "MOST", 3)
    look = look_at(tmp_path, "configs")

    assert len(list(configs.collect(look))) == 3
    assert [one.what for one in look.unobserved] == ["/etc"]
