"""Python environments that case files cannot lay out: bounds, places that refuse, the real interpreter."""

import os
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from tests.collectors.test_cases import graph, look_at, plant
from watchman_mcp.collectors import Look, python
from watchman_mcp.errors import Broken
from watchman_mcp.machine import distributions as metadata
from watchman_mcp.machine import python_environments
from watchman_mcp.schema.packages import Software
from watchman_mcp.settings import Settings

PASSWD = "ana:x:1000:1000::/home/ana:/bin/bash\nbo:x:1001:1001::/home/bo:/bin/bash\n"


def site(prefix: str) -> str:
    return f"{prefix}/lib/python3.11/site-packages"


def one(name: str, prefix: str) -> dict[str, str | None]:
    """A distribution in a virtual environment."""
    return {
        f"{prefix}/pyvenv.cfg": "version = 3.11.7\n",
        f"{site(prefix)}/{name}-1.0.dist-info/METADATA": f"Name: {name}\nVersion: 1.0\n\n",
    }


def names(look: Look) -> list[str]:
    return [seen.key for seen in python.collect(look) if isinstance(seen, Software)]


def refuse(directory: Path) -> None:
    """Make a directory one that cannot be looked into: for root, a link that somebody else made."""
    if os.geteuid():
        directory.chmod(0)
        return
    target = directory.rename(directory.with_name(f"{directory.name}.there"))
    directory.symlink_to(target.name)
    os.lchown(directory, 1000, 1000)


def test_a_home_that_refuses_is_said_and_costs_only_itself(tmp_path: Path) -> None:
    files = {**one("anas", "/home/ana/app/.venv"), **one("bos", "/home/bo/app/.venv")}
    plant(tmp_path, {"/etc/passwd": PASSWD, **files})
    refuse(tmp_path / "home/ana")
    look = look_at(tmp_path, "python")

    found = names(look)

    assert found == ["bos"]
    assert [hidden.what for hidden in look.unobserved] == ["python:/home/ana"]
    assert look.seen == {"python:/home/bo/app/.venv"}


def test_a_place_within_a_home_that_refuses_costs_only_itself(tmp_path: Path) -> None:
    files = {**one("open", "/home/ana/app/.venv"), **one("hidden", "/home/ana/locked/.venv")}
    plant(tmp_path, {"/etc/passwd": PASSWD, **files})
    refuse(tmp_path / "home/ana/locked/.venv")
    look = look_at(tmp_path, "python")

    found = names(look)

    assert found == ["open"]
    assert {hidden.what for hidden in look.unobserved} == {"python:/home/ana/locked/.venv"}


def test_an_environment_that_refuses_is_not_taken_for_gone(tmp_path: Path) -> None:
    plant(tmp_path, one("mine", "/srv/app/.venv"))
    refuse(tmp_path / site("srv/app/.venv"))
    look = look_at(tmp_path, "python")

    found = names(look)

    assert found == []
    assert "python:/srv/app/.venv" not in look.seen
    assert [hidden.what for hidden in look.unobserved] == ["python:/srv/app/.venv"]


def test_more_environments_than_are_read_are_said(tmp_path: Path) -> None:
    files: dict[str, str | None] = {}
    for number in range(python.ENVIRONMENTS + 1):
        files |= one(f"p{number}", f"/opt/e{number}")
    plant(tmp_path, files)
    look = look_at(tmp_path, "python")

    found = names(look)

    assert len(found) == python.ENVIRONMENTS
    assert [hidden.what for hidden in look.unobserved] == ["python:/", "python:changes at once"]


def test_more_directories_than_are_searched_are_said(tmp_path: Path) -> None:
    many = {f"/srv/d{number}/": "" for number in range(python_environments.SEARCHED + 1)}
    plant(tmp_path, {**many, **one("first", "/srv/d0/.venv")})
    look = look_at(tmp_path, "python")

    found = names(look)

    assert found == ["first"]
    assert [hidden.what for hidden in look.unobserved] == ["python:/srv"]


def test_metadata_beyond_all_measure_costs_its_details_only(tmp_path: Path) -> None:
    files = one("huge", "/srv/app/.venv")
    path = f"{site('/srv/app/.venv')}/huge-1.0.dist-info/METADATA"
    plant(tmp_path, {**files, path: "Name: other\nVersion: 2\n\n" + "x" * python.METADATA_CAP})

    found = graph("python", look_at(tmp_path, "python"))

    assert [(node["name"], node["version"]) for node in found["nodes"]] == [("huge", "1.0")]
    assert found["unobserved"] == [f"python:{site('/srv/app/.venv')}/huge-1.0.dist-info"]


@pytest.mark.parametrize(
    ("requirement", "expected"),
    [
        ("Zope.Interface>=5", "zope-interface"),
        ("tomli; python_version < '3.11'", None),
        ("tomli; python_version < '3.12'", "tomli"),
        ("async-timeout; python_full_version < '3.11.3'", None),
        ("click; extra == 'cli'", None),
        ("click; extra == 'cli' or sys_platform == 'linux'", "click"),
        ("colorama; platform_system == 'Windows'", None),
        ("name @ https://example.org/name.whl", "name"),
        ("not a requirement !", None),
        ('a; python_full_version ~= "3.12n0"', None),
        ('a; "x" in extras', None),
        ('a; dependency_groups == "x"', None),
    ],
)
def test_a_requirement_counts_for_this_python_on_linux(requirement: str, expected: str | None) -> None:
    assert metadata.needed(requirement, "3.11.7") == expected


def test_metadata_is_read_to_its_first_empty_line() -> None:
    fields = b"Name: a\r\nVersion: 1\r\nSummary: one\r\n two\r\nRequires-Dist: b\r\nRequires-Dist: c\r\n"
    content = fields + b"\r\nName: d\r\n"

    assert metadata.read_metadata(content) == ("a", "1", "one", ("b", "c"))


@pytest.mark.parametrize("content", [b"", b"\n\nName: a\n", b"Version: 1\n", b"Name: a\0\nVersion: 1\n"])
def test_metadata_without_a_name_is_broken(content: bytes) -> None:
    with pytest.raises(Broken, match="install the distribution again"):
        metadata.read_metadata(content)


def test_what_came_before_pip_marked_what_was_asked_for_is_not_said_to_be_unwanted(tmp_path: Path) -> None:
    moments = {"old": 1_590_000_000, "need": 1_700_000_000, "new": 1_700_000_009}
    for name in moments:
        plant(tmp_path, one(name, "/srv/app/.venv"))
        place = tmp_path / f"srv/app/.venv/lib/python3.11/site-packages/{name}-1.0.dist-info"
        (place / "INSTALLER").write_text("pip\n")
        if name == "new":
            (place / "REQUESTED").touch()
    for name, moment in moments.items():
        place = tmp_path / f"srv/app/.venv/lib/python3.11/site-packages/{name}-1.0.dist-info"
        os.utime(place, (moment, moment))

    found = [seen for seen in python.collect(look_at(tmp_path, "python")) if isinstance(seen, Software)]

    assert {seen.key: seen.requested for seen in found} == {"old": None, "need": False, "new": True}


@pytest.mark.real
@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="only a virtual environment is laid out as one")
def test_the_environment_of_this_interpreter_is_read_as_it_reads_itself() -> None:
    here = sysconfig.get_path("purelib")
    expected = {(canonicalize_name(dist.name), dist.version) for dist in distributions(path=[here])}
    settings = Settings.model_validate({"packages": {"python_paths": [sys.prefix]}})

    found = [
        seen for seen in python.collect(look_at(Path("/"), "python", settings)) if isinstance(seen, Software)
    ]

    assert {(seen.key, seen.version) for seen in found if seen.location == sys.prefix} == expected
