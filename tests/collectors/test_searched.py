"""A manager that is looked for in many places: never there is absent, there no more is gone."""

from pathlib import Path

import pytest

from watchman_mcp.collectors import Look, load
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
