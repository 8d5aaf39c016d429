"""Lists of `cargo install` that case files cannot lay out: the time of a build, hostile text."""

import os
from pathlib import Path

from tests.collectors.test_cases import look_at, plant
from watchman_mcp.collectors import cargo


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


def test_a_root_whose_first_build_failed_has_no_crates(tmp_path: Path) -> None:
    plant(tmp_path, {"/root/.cargo/.crates.toml": "", "/root/.cargo/.crates2.json": ""})
    look = look_at(tmp_path, "cargo")

    assert list(cargo.collect(look)) == []
    assert (look.failed, look.seen) == (set(), {"cargo:/root/.cargo"})


def test_a_crate_may_be_of_a_directory_whose_name_has_brackets(tmp_path: Path) -> None:
    source = "path+file:///home/ana/tools (old)/mine"
    plant(tmp_path, {"/root/.cargo/.crates.toml": f'[v1]\n"mine 0.1.0 ({source})" = ["mine"]\n'})
    look = look_at(tmp_path, "cargo")

    (crate,) = cargo.collect(look)

    assert (crate.version, crate.source_package, look.unobserved) == ("0.1.0", source, [])
