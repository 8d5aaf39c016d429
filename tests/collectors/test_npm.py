"""Global Node packages that case files cannot lay out: places that refuse, links, hostile text."""

import json
import os
from pathlib import Path

import pytest

from tests.collectors.test_cases import look_at, plant
from watchman_mcp.collectors import Look, npm
from watchman_mcp.errors import Absent
from watchman_mcp.machine import node
from watchman_mcp.schema.packages import Software

PASSWD = "ana:x:1000:1000::/home/ana:/bin/bash\nbo:x:1001:1001::/home/bo:/bin/bash\n"
GLOBAL = ".npm-global/lib/node_modules"


def package(path: str, name: str, version: str = "1.0.0") -> dict[str, str | None]:
    return {f"{path}/{name}/package.json": json.dumps({"name": name, "version": version})}


def keys(look: Look) -> list[str]:
    return [seen.key for seen in npm.collect(look) if isinstance(seen, Software)]


def refuse(directory: Path) -> None:
    """Make a directory one that cannot be looked into: for root, a link that somebody else made."""
    if os.geteuid():
        directory.chmod(0)
        return
    target = directory.rename(directory.with_name(f"{directory.name}.there"))
    directory.symlink_to(target.name)
    os.lchown(directory, 1000, 1000)


def test_a_home_that_refuses_is_said_and_costs_only_itself(tmp_path: Path) -> None:
    homes = {**package(f"/home/ana/{GLOBAL}", "anas"), **package(f"/home/bo/{GLOBAL}", "bos")}
    plant(tmp_path, {"/etc/passwd": PASSWD, **homes})
    refuse(tmp_path / "home/ana")
    look = look_at(tmp_path, "npm")

    found = keys(look)

    assert found == ["bos"]
    assert [hidden.what for hidden in look.unobserved] == ["npm:/home/ana"]
    assert look.seen == {f"npm:/home/bo/{GLOBAL}/bos"}


def test_a_machine_on_which_a_home_refuses_may_have_packages(tmp_path: Path) -> None:
    plant(tmp_path, {"/etc/passwd": PASSWD, "/home/ana/": ""})
    refuse(tmp_path / "home/ana")
    look = look_at(tmp_path, "npm")

    assert keys(look) == []
    assert [hidden.what for hidden in look.unobserved] == ["npm:/home/ana"]


def test_the_last_package_that_goes_is_noticed(tmp_path: Path) -> None:
    plant(tmp_path, package(f"/root/{GLOBAL}", "last"))
    look = look_at(tmp_path, "npm")
    assert keys(look) == ["last"]
    (tmp_path / "root").rename(tmp_path / "elsewhere")

    assert keys(look_at(tmp_path, "npm", marks=look.marks)) == []
    with pytest.raises(Absent):
        keys(look_at(tmp_path, "npm"))


def test_a_link_that_a_user_made_is_not_followed_and_not_taken_for_gone(tmp_path: Path) -> None:
    plant(tmp_path, package(f"/root/{GLOBAL}", "mine"), {f"/root/{GLOBAL}/theirs": "/home/ana/theirs"})
    plant(tmp_path, package("/home/ana", "theirs"))
    link = tmp_path / "root" / GLOBAL / "theirs"
    if os.geteuid() == 0:
        os.lchown(link, 1000, 1000)
    else:
        (tmp_path / "home/ana").chmod(0)
    look = look_at(tmp_path, "npm")

    found = keys(look)

    assert found == ["mine"]
    assert [hidden.what for hidden in look.unobserved] == [f"npm:/root/{GLOBAL}/theirs"]


@pytest.mark.skipif(os.geteuid() != 0, reason="the link has to be root's")
def test_a_link_that_root_made_is_a_linked_package(tmp_path: Path) -> None:
    links = {f"/root/{GLOBAL}/tool": "/srv/tool", f"/root/{GLOBAL}/@scope/gone": "/srv/gone"}
    plant(tmp_path, package("/srv", "tool", "0.3.0"), links)

    (found,) = npm.collect(look_at(tmp_path, "npm"))

    assert isinstance(found, Software)
    assert (found.key, found.version, found.state) == ("tool", "0.3.0", "linked")


def test_links_of_pnpm_are_read_whoever_made_them_and_only_within_its_home(tmp_path: Path) -> None:
    store = "/home/ana/.local/share/pnpm"
    wanted = json.dumps({"dependencies": {"inside": "1.0.0", "outside": "1.0.0"}})
    files: dict[str, str | None] = {"/etc/passwd": PASSWD, f"{store}/global/5/package.json": wanted}
    files |= package(f"{store}/global/5/.pnpm/inside@1/node_modules", "inside") | package("/srv", "outside")
    links = {
        f"{store}/global/5/node_modules/inside": "../.pnpm/inside@1/node_modules/inside",
        f"{store}/global/5/node_modules/outside": "/srv/outside",
    }
    plant(tmp_path, files, links)
    if os.geteuid() == 0:
        for link in links:
            os.lchown(tmp_path / link[1:], 1000, 1000)
    else:
        (tmp_path / "srv").chmod(0)
    look = look_at(tmp_path, "npm")

    found = keys(look)

    assert found == ["inside"]
    assert [hidden.what for hidden in look.unobserved] == [f"npm:{store}/global/5/outside"]


def test_more_packages_than_are_read_are_said(tmp_path: Path) -> None:
    for number in range(npm.PACKAGES + 1):
        (tmp_path / f"root/{GLOBAL}/p{number}").mkdir(parents=True)
    look = look_at(tmp_path, "npm")

    assert keys(look) == []
    assert [hidden.what for hidden in look.unobserved] == [f"npm:/root/{GLOBAL}"]


@pytest.mark.parametrize(
    ("text", "prefix"),
    [
        ("prefix=/opt/node\n", "/opt/node"),
        ("; prefix=/no\n//registry/:_authToken=x\n", None),
        ("prefix = '~/node'\n", "/home/ana/node"),
        ('prefix="${HOME}/.npm-packages/"', "/home/ana/.npm-packages"),
        ("prefix=${NVM}/node", None),
        ("prefix=/opt/../etc", None),
        ("prefix=relative", None),
        ("", None),
    ],
)
def test_an_npmrc_tells_its_prefix(text: str, prefix: str | None) -> None:
    assert node.prefix_of(text, "/home/ana") == prefix


@pytest.mark.parametrize("name", ["a", "@scope/a", "a.b", "is-odd", "JSONStream"])
def test_a_name_that_npm_knows_is_one(name: str) -> None:
    assert node.is_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".bin", "_x", "a/b", "@a", "@a/", "@a/..", "@a/b/c", "a\nb/c"]
)
def test_a_name_that_would_lead_elsewhere_is_none(name: str) -> None:
    assert not node.is_name(name)
