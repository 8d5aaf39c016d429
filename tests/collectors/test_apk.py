"""apk's log gives the same events however it is cut; formats as apk-tools writes them.

The database is written by its database.c, what a run says by its commit.c, print.c and process.c; versions
are ordered by its version.c.
"""

import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cmp_to_key
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from univers.versions import AlpineLinuxVersion

from tests.collectors.test_pacman import CUTS, Cuts, Disk, read_in_pieces
from tests.story import serving
from watchman_mcp.collectors import apk, load
from watchman_mcp.machine.versions.apk import compare
from watchman_mcp.store.sqlite import Store

FULL = os.environ.get("WATCHMAN_TEST_SOAK") == "full"
STATE: dict[str, str | None] = {apk.DATABASES[0]: "P:musl\nV:1.2-r0\n\n"}


@dataclass
class History:
    """A machine on which apk runs, and what it writes meanwhile."""

    lines: list[str] = field(default_factory=list)
    told: list[tuple[str, str, str | None, str, str, str | None]] = field(default_factory=list)
    now: datetime = datetime(2025, 12, 31, 23, 59, tzinfo=UTC)
    serial: int = 0

    def run(self, names: str, gap: int) -> None:
        self.serial += 1
        self.now += timedelta(seconds=gap // 3)
        command = f"apk add {self.serial}" + ("\nand more" if gap % 5 == 0 else "")
        self.lines += ["", f"Running `{command}` at {self.now:%Y-%m-%d %H:%M:%S}", "apk-tools 3.0.1-r0"]
        for number, name in enumerate(names, 1):
            kind = self.serial % 3
            verb, previous, what = [
                ("Installing", None, "install"),
                ("Upgrading", "1.0-r0", "update"),
                ("Purging", None, "remove"),
            ][kind]
            versions = f"{previous} -> 2.0-r0" if previous else "2.0-r0"
            self.lines.append(f"({number}/{len(names)}) {verb} {name} ({versions})")
            self.lines.append(f"{name}-2.0-r0.post-install: ({number}/9) Installing evil (6-r6)")
            error = f"{name}-2.0-r0.post-install: exited with error 1" if gap % 4 == 0 else None
            self.lines += [f"ERROR: {error}"] if error else []
            self.told.append((f"package_{what}", name, previous, "2.0-r0", command, error))
        if gap % 7:
            self.lines.append("OK: 10 MiB in 9 packages")

    def text(self) -> bytes:
        # A run that never ended is over when the next one begins.
        return "".join(f"{line}\n" for line in [*self.lines, "OK: 10 MiB in 9 packages"]).encode()


RUNS = st.lists(st.tuples(st.text("abc", max_size=4), st.integers(0, 30)), max_size=8)


@pytest.mark.soak
@settings(max_examples=600 if FULL else 60)
@given(runs=RUNS, cuts=CUTS)
@example(runs=[("aa", 0), ("aa", 0), ("aa", 0), ("aa", 1)], cuts=[(0.3, ""), (0.5, "move"), (0.9, "copy")])
def test_a_log_read_in_any_pieces_through_any_rotation_tells_what_was_done(
    runs: list[tuple[str, int]], cuts: Cuts
) -> None:
    history = History()
    for run in runs:
        history.run(*run)

    whole, pieces = read_in_pieces(history.text(), cuts, lambda root: Disk(root, "apk", apk.LOG, STATE))

    assert pieces.seen == whole.seen
    columns = ("type", "package_name", "previous", "version", "command", "error")
    assert [tuple(map(event.get, columns)) for event in whole.seen.values()] == history.told


@pytest.mark.anyio
async def test_changes_are_observed_where_apk_keeps_no_log(tmp_path: Path) -> None:
    store = Store(None)
    database = tmp_path / apk.DATABASES[0][1:]
    database.parent.mkdir(parents=True)
    database.write_text("P:a\nV:1.9-r0\n\nP:gone\nV:1-r0\n\n")
    async with serving(store, tmp_path, *[one for one in load() if one.name == "apk"]) as server:
        await server.runner.scan(["apk"])
        database.write_text("P:a\nV:1.10-r0\n\nP:new\nV:1-r0\n\n")
        for _ in range(2):
            await server.runner.scan(["apk"])
        rows = store.read("SELECT type, subject, previous, version, source FROM Event ORDER BY subject")

    assert [tuple(row) for row in rows if row["type"].startswith("package_")] == [
        ("package_update", "a", "1.9-r0", "1.10-r0", "observed"),
        ("package_remove", "gone", None, "1-r0", "observed"),
        ("package_install", "new", None, "1-r0", "observed"),
    ]
    store.close()


NUMBERS = st.text("0123456789", min_size=1, max_size=3)
SUFFIXES = st.builds("_{}{}".format, st.sampled_from(["alpha", "beta", "pre", "rc", "p"]), NUMBERS)
VERSIONS = st.builds(
    "{}{}{}{}".format,
    st.lists(st.integers(1, 200).map(str), min_size=1, max_size=3).map(".".join),
    st.sampled_from(["", "", "a", "b"]),
    st.one_of(st.just(""), SUFFIXES),
    st.one_of(st.just(""), st.integers(1, 30).map("-r{}".format)),
)


@pytest.mark.soak
@settings(max_examples=15_000 if FULL else 200)
@given(one=VERSIONS, other=VERSIONS)
def test_versions_are_sorted_as_a_kept_library_sorts_them(one: str, other: str) -> None:
    first, second = AlpineLinuxVersion(one), AlpineLinuxVersion(other)

    assert compare(one, other) == (first > second) - (first < second)


def test_versions_are_sorted_as_apk_s_own_tests_say() -> None:
    rising = [
        ["0.1.0_alpha_pre2", "0.1.0_alpha", "0.1.0_alpha2", "0.1.3_alpha", "2.2.39-r1"],
        ["1.1_alpha1", "1.1", "1.1_p16", "1.1_p17", "1.1.1-r2"],
        ["1.06-r6", "1.5", "006", "8", "10-r1"],
        ["1.02.07", "1.02.10-r1", "1.2", "1.23", "1.23-r1"],
        ["1.0_pre20191002222144-r0", "1.0_pre20210530193627-r0", "1.0", "1.0_git20200101", "1.0a", "1.0.1"],
    ]

    for versions in rising:
        assert sorted(versions, key=cmp_to_key(compare)) == versions
    assert compare("9" * 5000, "1" + "0" * 5000) == -1
    with pytest.raises(ValueError, match="apk"):
        compare("1.0-x", "1.0-y")
