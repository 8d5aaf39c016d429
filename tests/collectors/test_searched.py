"""A manager that is looked for in many places: never there is absent, there no more is gone."""

from pathlib import Path

import pytest

from tests.collectors.test_cases import look_at, plant
from watchman_mcp.collectors import PLACES, Look, load
from watchman_mcp.errors import Absent
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.settings import Settings


@pytest.mark.parametrize("name", ["brew", "nix"])
def test_a_manager_that_went_away_is_gone_and_one_that_never_was_is_absent(tmp_path: Path, name: str) -> None:
    collector = next(one for one in load() if one.name == name)
    machine = Machine(Files(tmp_path), Commands(), tmp_path)
    never, here = Look(machine, Settings(), name), Look(machine, Settings(), name)
    with pytest.raises(Absent):
        list(collector.collect(never))

    here.searched(True, {}, "")
    gone = Look(machine, Settings(), name, marks=here.marks)

    assert list(collector.collect(gone)) == []
    assert gone.unobserved == []


def test_what_refuses_a_search_is_said_and_not_taken_for_absent(tmp_path: Path) -> None:
    look = Look(Machine(Files(tmp_path), Commands(), tmp_path), Settings(), "brew")

    look.searched(False, {"/home/other": "may not be read"}, "not here")

    assert [(one.what, one.why) for one in look.unobserved] == [("brew:/home/other", "may not be read")]


HOME = "/home/ana"
PASSWD = "ana:x:1000:1000::/home/ana:/bin/bash\n"
SITE = f"{HOME}/app/.venv/lib/python3.11/site-packages"
FOUND = {
    "python": (f"{HOME}/app/.venv/pyvenv.cfg", f"{SITE}/one-1.0.dist-info/METADATA", SITE),
    "npm": (
        f"{HOME}/.npm-global/lib/node_modules/@a/one/package.json",
        f"{HOME}/.npm-global/lib/node_modules/one/package.json",
        f"{HOME}/.npm-global/lib/node_modules/@a",
    ),
    "cargo": (f"{HOME}/.cargo/.crates.toml", f"{HOME}/.cargo/.crates2.json", f"{HOME}/.cargo/.crates2.json"),
    "gem": (
        f"{HOME}/.gem/ruby/3.1.0/specifications/one-1.0.gemspec",
        f"{HOME}/.gem/ruby/3.1.0/specifications/two-1.0.gemspec",
        f"{HOME}/.gem/ruby/3.1.0/specifications",
    ),
    "go": (f"{HOME}/go/bin/one", f"{HOME}/.local/bin/two", f"{HOME}/.local/bin"),
    "conda": (
        f"{HOME}/miniforge3/conda-meta/one-1.0-0.json",
        f"{HOME}/miniforge3/conda-meta/history",
        f"{HOME}/miniforge3/conda-meta/history",
    ),
}
"""By collector two files that lay out a place of its packages in a home, and what is watched of it."""


@pytest.mark.parametrize("name", FOUND)
def test_places_that_were_found_in_homes_are_watched(name: str, tmp_path: Path) -> None:
    one, other, watched = FOUND[name]
    plant(tmp_path, {"/etc/passwd": PASSWD, one: "{}", other: "{}"})
    (collector,) = (one for one in load() if one.name == name)
    look = look_at(tmp_path, name)

    list(collector.collect(look))

    assert watched in look.watched


def test_more_places_than_are_watched_are_said(tmp_path: Path) -> None:
    look = look_at(tmp_path, "gem")

    look.watch_places(f"/srv/{number}" for number in range(PLACES + 1))

    assert len(look.watched) == PLACES
    assert [one.what for one in look.unobserved] == ["gem:changes at once"]
