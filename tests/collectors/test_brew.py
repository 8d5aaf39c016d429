"""What becomes of Homebrew's kegs and casks, look by look; receipts as its tab.rb and cask/tab.rb write."""

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cmp_to_key
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.collectors.test_cases import look_at, plant
from tests.collectors.test_pacman import CUTS, Cuts, Disk, read_in_pieces
from tests.story import serving
from watchman_mcp.collectors import brew, load
from watchman_mcp.machine.brew import read_receipt
from watchman_mcp.machine.versions.brew import compare
from watchman_mcp.schema.core import Record
from watchman_mcp.schema.packages import Software
from watchman_mcp.server import Server
from watchman_mcp.store.sqlite import Store

FULL = os.environ.get("WATCHMAN_TEST_SOAK") == "full"
PREFIX = "/opt/homebrew"
CELLAR = f"{PREFIX}/Cellar"
START = 1_700_000_000
Told = tuple[str, str, str | None, str | None, str]


@dataclass
class Homebrew:
    """A machine on which brew pours, links and removes."""

    root: Path

    def pour(self, name: str, version: str, at: int, *, link: bool = True) -> None:
        receipt = {"time": START + at, "installed_on_request": True, "source": {"tap": "homebrew/core"}}
        plant(self.root, {f"{PREFIX}/Cellar/{name}/{version}/INSTALL_RECEIPT.json": json.dumps(receipt)})
        if link:
            self.link(name, version)

    def link(self, name: str, version: str) -> None:
        used = self.root / f"{PREFIX[1:]}/opt/{name}"
        used.parent.mkdir(parents=True, exist_ok=True)
        used.unlink(missing_ok=True)
        used.symlink_to(f"../Cellar/{name}/{version}")

    def clean(self, name: str, version: str) -> None:
        shutil.rmtree(self.root / f"{PREFIX[1:]}/Cellar/{name}/{version}")

    def uninstall(self, name: str) -> None:
        shutil.rmtree(self.root / f"{PREFIX[1:]}/Cellar/{name}")
        (self.root / f"{PREFIX[1:]}/opt/{name}").unlink()

    def cask(self, name: str, version: str, at: int) -> None:
        place = f"{PREFIX}/Caskroom/{name}"
        shutil.rmtree(self.root / place[1:], ignore_errors=True)
        receipt = {"time": START + at, "source": {"version": version}}
        plant(self.root, {f"{place}/.metadata/INSTALL_RECEIPT.json": json.dumps(receipt)})


@asynccontextmanager
async def watching(root: Path) -> AsyncIterator[tuple[Store, Server]]:
    store = Store(None)
    try:
        async with serving(store, root, *[one for one in load() if one.name == "brew"]) as server:
            await server.runner.scan(["brew"])
            yield store, server
    finally:
        store.close()


def told(store: Store) -> list[Told]:
    rows = store.read("SELECT * FROM Event WHERE type GLOB 'package_*' ORDER BY seq")
    return [(row["type"], row["subject"], row["previous"], row["version"], row["location"]) for row in rows]


@pytest.mark.anyio
async def test_receipts_tell_what_came_since_the_last_look(tmp_path: Path) -> None:
    machine = Homebrew(tmp_path)
    machine.pour("old", "1.0", 0)
    async with watching(tmp_path) as (store, server):
        for step in (
            lambda: machine.pour("jq", "1.6", 10),
            lambda: machine.pour("jq", "1.10", 20),  # and the version before it stays beside it
            lambda: machine.pour("jq", "1.7", 30),
            lambda: machine.pour("jq", "1.7", 40),
            lambda: machine.cask("iterm2", "3.4", 50),
            lambda: machine.cask("iterm2", "3.5", 60),
        ):
            step()
            for _ in range(2):  # what nothing explained would be told by the second look
                await server.runner.scan(["brew"])
        nodes = store.read("SELECT version, location FROM Software WHERE key = 'jq' AND gone_at IS NULL")
        times = store.read("SELECT ts FROM Event WHERE subject = 'jq' ORDER BY seq")

        assert told(store) == [
            ("package_install", "jq", None, "1.6", PREFIX),
            ("package_update", "jq", "1.6", "1.10", PREFIX),
            ("package_downgrade", "jq", "1.10", "1.7", PREFIX),
            ("package_reinstall", "jq", "1.7", "1.7", PREFIX),
            ("package_install", "iterm2", None, "3.4", f"{PREFIX}/Caskroom"),
            ("package_update", "iterm2", "3.4", "3.5", f"{PREFIX}/Caskroom"),
        ]
        assert {(row["version"], row["location"]) for row in nodes} == {
            ("1.7", PREFIX),
            ("1.10", f"{PREFIX}/Cellar/jq/1.10"),
            ("1.6", f"{PREFIX}/Cellar/jq/1.6"),
        }
        assert [row["ts"][17:19] for row in times] == ["30", "40", "50", "00"]


@pytest.mark.anyio
async def test_what_receipts_cannot_tell_is_told_as_observed(tmp_path: Path) -> None:
    machine = Homebrew(tmp_path)
    machine.pour("jq", "1.6", 0)
    machine.pour("jq", "1.7", 10)
    machine.pour("fd", "9.0", 10)
    async with watching(tmp_path) as (store, server):
        machine.clean("jq", "1.6")
        machine.uninstall("fd")
        for _ in range(2):
            await server.runner.scan(["brew"])

        assert sorted(told(store)) == [
            ("package_remove", "fd", None, "9.0", PREFIX),
            ("package_remove", "jq", None, "1.6", f"{PREFIX}/Cellar/jq/1.6"),
        ]


@pytest.mark.anyio
async def test_another_version_that_was_there_is_linked_now_and_not_when_it_was_poured(
    tmp_path: Path,
) -> None:
    machine = Homebrew(tmp_path)
    machine.pour("go", "1.21", 0)
    machine.pour("go", "1.22", 10)
    async with watching(tmp_path) as (store, server):
        machine.link("go", "1.21")
        for _ in range(2):
            await server.runner.scan(["brew"])
        [row] = store.read("SELECT * FROM Event WHERE type = 'package_downgrade'")

        assert (row["previous"], row["version"], row["source"]) == ("1.22", "1.21", "observed")
        assert row["ts"] > "2024"


@pytest.mark.parametrize(
    ("receipt", "source"),
    [
        ({"tapped_from": "mxcl/master"}, "homebrew/core/jq"),
        (
            {"source": {"tap": "Homebrew/homebrew", "path": "/usr/local/Library/Formula/jq.rb"}},
            "homebrew/core/jq",
        ),
        ({"tapped_from": "path or URL"}, None),
        ({"tapped_from": "old/tap"}, "old/tap/jq"),
    ],
)
def test_receipts_of_old_name_homebrew_s_own_taps_as_they_were_called_then(
    tmp_path: Path, receipt: dict[str, object], source: str | None
) -> None:
    plant(tmp_path, {f"{PREFIX}/Cellar/jq/1.5/INSTALL_RECEIPT.json": json.dumps({"time": START, **receipt})})

    (keg,) = brew.collect(look_at(tmp_path, "brew"))

    assert isinstance(keg, Software)
    assert keg.source_package == source


@pytest.mark.parametrize(
    ("version", "needs"),
    [("1.1.5-12-gabc1234", ()), ("0.9.9", ()), ("1.1.10-10-gabc1234", ("pcre",)), ("4.2", ("pcre",))],
)
def test_what_a_receipt_of_old_says_that_it_needs_is_heeded_as_by_homebrew(
    version: str, needs: tuple[str, ...]
) -> None:
    receipt = {
        "homebrew_version": version,
        "runtime_dependencies": [{"full_name": "pcre", "version": "8.40"}],
    }

    assert read_receipt(json.dumps(receipt)).needs == needs


def test_a_prefix_that_refuses_costs_only_itself(tmp_path: Path) -> None:
    machine = Homebrew(tmp_path)
    machine.pour("jq", "1.7", 0)
    refused = tmp_path / "usr/local/Cellar"
    refused.parent.mkdir(parents=True)
    if os.geteuid():
        refused.mkdir()
        refused.parent.chmod(0)
    else:  # nothing refuses root but a link that somebody else made
        refused.symlink_to("elsewhere")
        os.lchown(refused, 4242, 4242)
    look = look_at(tmp_path, "brew")

    found = [seen.key for seen in brew.collect(look) if isinstance(seen, Software)]

    assert found == ["jq"]
    assert [one.what for one in look.unobserved] == ["brew:/usr/local/Cellar"]


def test_what_an_upgrade_needs_is_poured_before_it_and_is_no_upgrade_of_it(tmp_path: Path) -> None:
    said = ("==> Upgrading imgtool", "  3.0.3.1 -> 3.0.4.0 ", "==> Installing imgtool dependency: fmt")
    poured = [f"🍺  {CELLAR}/{keg}: 41 files, 10.1MB" for keg in ("fmt/11.1", "imgtool/3.0.4.0")]
    text = "".join(f"2025-04-10 10:00:0{place} {line}\n" for place, line in enumerate([*said, *poured]))
    plant(tmp_path, {f"{CELLAR}/x/1/x": "", "/var/log/brew.log": text})

    records = [seen for seen in brew.collect(look_at(tmp_path, "brew")) if isinstance(seen, Record)]

    assert [(one.event.type, one.event.package_name, one.event.previous) for one in records] == [
        ("package_install", "fmt", None),
        ("package_update", "imgtool", "3.0.3.1"),
    ]


STAMPS = st.sampled_from(["2025-10-26 02:30:00 ", "2025-10-26T02:10:00+0100 ", "[2025-10-26 01:59:59] "])
SAYINGS = st.sampled_from(
    [
        "==> Upgrading jq",
        "==> Upgrading a/b/fd 1 -> 2",
        "  1.6 -> 1.7",
        "jq 1.6 -> 1.7",
        "==> Pouring jq--1.7",
    ]
    + [f"🍺  {CELLAR}/{keg}: 20 files, 1MB" for keg in ("jq/1.6", "jq/1.7", "fd/2")]
    + [f"Uninstalling {CELLAR}/jq/1.7... (20 files, 1MB)", "Error: nothing", ""]
)


@pytest.mark.soak
@settings(max_examples=600 if FULL else 40)
@given(lines=st.lists(st.tuples(STAMPS, SAYINGS), max_size=12), cuts=CUTS)
@example(
    lines=[("2025-10-26 02:30:00 ", one) for one in ("==> Upgrading jq", "  1.6 -> 1.7")]
    + [("2025-10-26 02:10:00 ", f"🍺  {CELLAR}/jq/1.7: 20 files, 1MB")],
    cuts=[(0.3, ""), (0.6, "move")],
)
def test_a_log_read_in_any_pieces_tells_the_same(lines: list[tuple[str, str]], cuts: Cuts) -> None:
    text = "".join(f"{stamp}{said}\n" for stamp, said in lines).encode()
    state: dict[str, str | None] = {f"{CELLAR}/": ""}

    whole, pieces = read_in_pieces(text, cuts, lambda root: Disk(root, "brew", brew.LOG, state))

    assert pieces.seen == whole.seen
    came = {said.split("/Cellar/")[1] for _, said in lines if "🍺" in said}
    assert len({event["version"] for event in whole.seen.values() if "remove" not in event["type"]}) == len(
        came
    )


def test_versions_are_sorted_as_homebrew_s_own_tests_say() -> None:
    rising = [
        [
            "1.0alpha1",
            "1.0beta1",
            "1.0beta10",
            "1.0pre1",
            "1.0rc1",
            "1.0rc2",
            "1.0",
            "1.0_1",
            "1.0_10",
            "1.0p1",
        ],
        ["1.2.3", "1.2.3.1", "1.2.10", "1.10", "2.0", "2023-12-12", "HEAD"],
        ["9.9p1", "9.9p2", "10.0p1"],
    ]

    for versions in rising:
        assert sorted(versions, key=cmp_to_key(compare)) == versions
    assert compare("1.0.0", "1") == compare("HEAD-abc", "HEAD-def") == 0
    assert compare("1.0.0rc1", "1rc1") == 0
    with pytest.raises(ValueError, match="versions"):
        compare("", "1.0")
