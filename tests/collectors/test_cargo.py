"""Lists of `cargo install` that case files cannot lay out: the time of a build, hostile text."""

import json
import os
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.collectors.test_cases import look_at, plant
from watchman_mcp.collectors import cargo
from watchman_mcp.errors import Broken
from watchman_mcp.machine.cargo import read_crates, read_crates2

INPUTS = 20_000 if os.environ.get("WATCHMAN_TEST_SOAK") == "full" else 200
ENTRY = st.tuples(
    st.text(alphabet="ab-_./ ", max_size=6), st.text(alphabet="01.-+a", max_size=6), st.text(max_size=8)
).map(lambda parts: f"{parts[0]} {parts[1]} ({parts[2]})")
VALUE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=6)
    | st.lists(st.text(max_size=6), max_size=3)
)


def test_a_crate_was_installed_when_its_newest_program_was_put_there(tmp_path: Path) -> None:
    plant(tmp_path, {"/root/.cargo/.crates.toml": '[v1]\n"two 1.0.0 (x)" = ["a", "b"]\n'})
    for name, moment in (("a", 1_700_000_000), ("b", 1_700_000_500), ("c", 1_700_001_000)):
        (tmp_path / "root/.cargo/bin").mkdir(exist_ok=True)
        (tmp_path / "root/.cargo/bin" / name).touch()
        os.utime(tmp_path / "root/.cargo/bin" / name, (moment, moment))

    (crate,) = cargo.collect(look_at(tmp_path, "cargo"))

    assert crate.installed_at is not None
    assert crate.installed_at.timestamp() == 1_700_000_500


def test_a_list_that_cargo_is_writing_anew_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    plant(tmp_path, {"/root/.cargo/.crates.toml": ""})
    look = look_at(tmp_path, "cargo")

    assert list(cargo.collect(look)) == []
    assert look.failed == {"cargo:/root/.cargo"}


def as_toml(table: dict[str, object]) -> str:
    return "[v1]\n" + "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in table.items())


@settings(max_examples=INPUTS)
@given(st.one_of(st.text(max_size=200), st.dictionaries(ENTRY | st.text(max_size=9), VALUE).map(as_toml)))
def test_any_list_of_cargo_is_read_or_refused(text: str) -> None:
    try:
        crates, unreadable = read_crates(text)
    except Broken:
        return
    assert all(crate.name and crate.version and "/" not in crate.name for crate in crates)
    assert unreadable >= 0


@settings(max_examples=INPUTS)
@given(st.one_of(
    st.text(max_size=200),
    st.dictionaries(ENTRY, VALUE | st.fixed_dictionaries({"bins": VALUE}), max_size=5).map(
        lambda table: json.dumps({"installs": table})
    ),
))  # fmt: skip
def test_any_second_list_of_cargo_is_read_or_refused(text: str) -> None:
    try:
        crates, unreadable = read_crates2(text)
    except Broken:
        return
    installs = json.loads(text)["installs"]
    assert len(crates) + unreadable == len(installs)
