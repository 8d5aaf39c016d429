"""Nix profiles: manifests as nix writes them; no text of one is too odd."""

import os
from typing import Any

import pytest
from hypothesis import strategies as st

from watchman_mcp.machine.nix import generation_of, split

FULL = os.environ.get("WATCHMAN_TEST_SOAK") == "full"
HASH = "0123456789abcdfghijklmnpqrsvwxyz"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hello-2.12.1", ("hello", "2.12.1")),
        ("python3.11-requests-2.31.0", ("python3.11-requests", "2.31.0")),
        ("git", ("git", None)),
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
