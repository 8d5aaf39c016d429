"""Environments of conda and what their history tells, however it is cut into looks.

The lines are those that conda's own conda/history.py and mamba's libmamba/src/core/history.cpp write.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.collectors.test_cases import look_at, plain, plant
from tests.story import serving
from watchman_mcp.collectors import conda, load
from watchman_mcp.errors import Absent
from watchman_mcp.machine.versions.conda import compare
from watchman_mcp.schema.core import Record
from watchman_mcp.schema.packages import Software
from watchman_mcp.store.sqlite import Store

PREFIX = "/opt/conda"
META = f"{PREFIX}/conda-meta"
FULL = os.environ.get("WATCHMAN_TEST_SOAK") == "full"
HISTORIES = 1_000 if FULL else 40
NAMES = ["lib", "lib-two", "tool_3"]


def record(name: str, version: str, build: str = "0", **more: Any) -> str:
    return json.dumps({"name": name, "version": version, "build": build, **more})


def package(name: str, version: str, build: str = "0", prefix: str = PREFIX) -> dict[str, str | None]:
    return {f"{prefix}/conda-meta/{name}-{version}-{build}.json": record(name, version, build)}


@dataclass
class Environment:
    """An environment that conda changes, what it writes meanwhile, and what the changes are."""

    lines: list[str] = field(default_factory=list)
    told: list[tuple[str, str, str | None, str]] = field(default_factory=list)
    there: dict[str, tuple[str, str]] = field(default_factory=dict)
    now: datetime = datetime(2025, 10, 25, 22, 0, tzinfo=UTC)

    def run(self, steps: Sequence[tuple[str, str, str]], pause: int) -> None:
        """One run: each step puts this version and build of a package, or takes it away."""
        self.now += timedelta(seconds=pause)
        gone, come = dict[str, tuple[str, str]](), dict[str, tuple[str, str]]()
        for name, version, build in steps:
            if name in gone or name in come or self.there.get(name) == (version, build):
                continue
            if name in self.there:
                gone[name] = self.there.pop(name)
            if version:
                come[name] = self.there[name] = version, build
        self.lines += [f"==> {self.now:%Y-%m-%d %H:%M:%S} <==", "# cmd: conda install x"]
        self.lines += [f"-c/linux-64::{n}-{v}-{b}" for n, (v, b) in sorted(gone.items())]
        self.lines += [f"+c/linux-64::{n}-{v}-{b}" for n, (v, b) in sorted(come.items())]
        self.lines += ["# update specs: ['x']"]
        for name in sorted(gone.keys() | come.keys()):
            before, after = gone.get(name), come.get(name)
            self.told.append((self._type(before, after), name, *self._versions(before, after)))

    @staticmethod
    def _type(before: tuple[str, str] | None, after: tuple[str, str] | None) -> str:
        if before is None or after is None:
            return "package_install" if before is None else "package_remove"
        numbers = [[int(part) for part in one[0].split(".")] for one in (before, after)]
        if numbers[0] == numbers[1]:
            return "package_reinstall"
        return "package_update" if numbers[0] < numbers[1] else "package_downgrade"

    @staticmethod
    def _versions(before: tuple[str, str] | None, after: tuple[str, str] | None) -> tuple[str | None, str]:
        end = after or before
        assert end
        return before[0] if before and after else None, end[0]

    def lay_out(self, root: Path) -> None:
        """The records as they are now."""
        for old in root.glob(f".{META}/*.json"):
            old.unlink()
        for name, (version, build) in self.there.items():
            (root / META[1:] / f"{name}-{version}-{build}.json").write_text(record(name, version, build))


STEPS = st.lists(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(["", "1.0", "1.9", "1.10"]), st.sampled_from("01")),
    min_size=1,
    max_size=4,
)


def look(root: Path, marks: dict[str, object]) -> tuple[list[Record], dict[str, object]]:
    seen = look_at(root, "conda", marks=marks)
    records = [one for one in conda.collect(seen) if isinstance(one, Record)]
    assert seen.unobserved == []
    return records, json.loads(json.dumps(seen.marks))


@settings(max_examples=HISTORIES)
@given(st.lists(st.tuples(STEPS, st.integers(1, 7_200)), min_size=1, max_size=6), st.data())
def test_the_history_gives_the_same_events_however_it_is_cut(
    runs: list[tuple[list[tuple[str, str, str]], int]], data: st.DataObject
) -> None:
    environment = Environment()
    with TemporaryDirectory() as directory:
        root = Path(directory)
        plant(root, {f"{META}/": ""})
        log, marks, told = root / META[1:] / "history", dict[str, object](), dict[str, Any]()
        log.touch()
        for steps, pause in runs:
            already = len(environment.lines)
            environment.run(steps, pause)
            # conda puts the records first, then writes what it did in pieces.
            environment.lay_out(root)
            text = "".join(f"{line}\n" for line in environment.lines[already:]).encode()
            cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=3)))
            for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True):
                with log.open("ab") as stream:
                    stream.write(text[begin:end])
                if data.draw(st.booleans()) or end == len(text):
                    os.utime(log.parent, (1, 1))
                    records, after = look(root, marks)
                    told.update({one.event.key: plain(one.event) for one in records})
                    marks = marks if data.draw(st.integers(0, 5)) == 0 else after  # the look may be lost

        found = [(e["type"], e["package_name"], e.get("previous"), e["version"]) for e in told.values()]
        assert sorted(map(str, found)) == sorted(map(str, environment.told))
        records, _ = look(root, {})
        assert {one.event.key for one in records} == told.keys()


def test_a_package_that_the_records_do_not_show_yet_waits_for_its_event(tmp_path: Path) -> None:
    head = "==> 2025-01-01 10:00:00 <==\n"
    plant(tmp_path, {**package("lib", "2.0"), f"{META}/history": f"{head}-c/linux-64::lib-1.0-0\n"})
    log = tmp_path / META[1:] / "history"

    first, marks = look(tmp_path, {})
    with log.open("a") as stream:
        stream.write("+c/linux-64::lib-2.0-0\n")
    second, _ = look(tmp_path, marks)

    assert first == []
    assert [(one.event.type, one.event.previous, one.event.version) for one in second] == [
        ("package_update", "1.0", "2.0")
    ]


def test_a_run_that_others_followed_is_told_whatever_the_records_show(tmp_path: Path) -> None:
    runs = [
        "==> 2025-01-01 10:00:00 <==",
        "+c/linux-64::lib-1.0-0",
        "==> 2025-01-01 10:00:01 <==",
        "# cmd: conda clean",
    ]
    plant(tmp_path, {f"{META}/history": "\n".join(runs) + "\n"})

    records, _ = look(tmp_path, {})

    assert [(one.event.type, one.event.version) for one in records] == [("package_install", "1.0")]


def test_the_hour_that_is_there_twice_is_told_in_order(tmp_path: Path) -> None:
    heads = ["02:30:00", "02:50:00", "02:10:00", "03:10:00"]
    lines = [f"==> 2025-10-26 {head} <==\n+c/linux-64::p{n}-1-0\n" for n, head in enumerate(heads)]
    plant(
        tmp_path, {f"{META}/history": "".join(lines)}, {"/etc/localtime": "/usr/share/zoneinfo/Europe/Berlin"}
    )
    for number in range(len(heads)):
        plant(tmp_path, package(f"p{number}", "1"))
    log = tmp_path / META[1:] / "history"

    whole, _ = look(tmp_path, {})
    log.write_text("".join(lines[:3]))
    parts, marks = look(tmp_path, {})
    with log.open("a") as stream:
        stream.write(lines[3])
    rest, _ = look(tmp_path, marks)

    assert [f"{one.event.ts:%H:%M}" for one in whole] == ["00:30", "00:50", "01:10", "02:10"]
    assert {one.event.key for one in parts + rest} == {one.event.key for one in whole}


def test_a_run_that_goes_on_takes_no_package_for_gone(tmp_path: Path) -> None:
    plant(tmp_path, {**package("lib", "1.0"), **package("tool", "1.0"), f"{META}/history": "# cmd: conda\n"})
    meta = tmp_path / META[1:]
    os.utime(meta, (100, 100))
    os.utime(meta / "history", (100, 100))
    _, marks = look(tmp_path, {})
    (meta / "lib-1.0-0.json").unlink()
    os.utime(meta, (200, 200))

    while_it_runs = look_at(tmp_path, "conda", marks=dict(marks))
    assert list(conda.collect(while_it_runs)) == []
    assert while_it_runs.failed == {f"conda:{PREFIX}"}
    afterwards = look_at(tmp_path, "conda", marks=while_it_runs.marks)  # it was stopped, or is not conda
    assert [one.key for one in conda.collect(afterwards) if isinstance(one, Software)] == ["tool"]
    os.utime(meta / "history", (300, 300))
    over = look_at(tmp_path, "conda", marks=dict(marks))
    assert [one.key for one in conda.collect(over) if isinstance(one, Software)] == ["tool"]


def test_the_last_environment_that_goes_is_noticed(tmp_path: Path) -> None:
    plant(tmp_path, package("lib", "1.0"))
    _, marks = look(tmp_path, {})
    (tmp_path / "opt").rename(tmp_path / "elsewhere")

    assert look(tmp_path, marks) == ([], {"there": True})
    with pytest.raises(Absent):
        look(tmp_path, {})


def test_conda_and_python_name_no_package_the_same(tmp_path: Path) -> None:
    site = f"{PREFIX}/lib/python3.11/site-packages/numpy-1.0.dist-info"
    metadata: dict[str, str | None] = {
        f"{site}/METADATA": "Name: numpy\nVersion: 1.0\n\n",
        f"{site}/INSTALLER": "conda",
    }
    plant(tmp_path, {**package("numpy", "1.0"), **package("python", "3.11.0"), **metadata})

    paths = [
        {
            one.node_id
            for one in collector.collect(look_at(tmp_path, collector.name))
            if isinstance(one, Software)
        }
        for collector in load()
        if collector.name in ("conda", "python")
    ]

    assert len(paths[0]) == 2
    assert not paths[0] & paths[1]


@pytest.mark.anyio
async def test_a_change_is_one_event_with_its_command(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {**package("lib", "1.0"), f"{META}/history": "==> 2025-01-01 10:00:00 <==\n+c/linux-64::lib-1.0-0\n"},
    )
    store = Store(None)
    collectors = [one for one in load() if one.name == "conda"]
    async with serving(store, tmp_path, *collectors) as server:
        with anyio.fail_after(20):
            await server.runner.scan(["conda"])
            (tmp_path / META[1:] / "lib-1.0-0.json").unlink()
            plant(tmp_path, package("lib", "2.0"))
            with (tmp_path / META[1:] / "history").open("a") as stream:
                stream.write("==> 2025-01-02 10:00:00 <==\n# cmd: conda update lib\n")
                stream.write("-c/linux-64::lib-1.0-0\n+c/linux-64::lib-2.0-0\n")
            await server.runner.scan(["conda"])
            await server.runner.scan(["conda"])
    rows = store.read("SELECT type, previous, version, source, command FROM Event ORDER BY ts", ())
    store.close()

    assert [tuple(row) for row in rows] == [
        ("package_install", None, "1.0", "conda", None),
        ("package_update", "1.0", "2.0", "conda", "conda update lib"),
    ]


def test_a_record_is_read_again_when_it_changes(tmp_path: Path) -> None:
    path = tmp_path / META[1:] / "lib-1.0-0.json"
    plant(tmp_path, package("lib", "1.0"))
    found = []
    for version in ("1.0", "1.1"):
        path.write_text(record("lib", version))
        os.utime(path, (float(version), float(version)))
        found += [
            one.version for one in conda.collect(look_at(tmp_path, "conda")) if isinstance(one, Software)
        ]

    assert found == ["1.0", "1.1"]


ORDER = """0.4 0.4.1.rc 0.5a1 0.5b3 0.5C1 0.5 0.9.6 0.960923 1.0 1.0.1_ 1.0.1a 1.1dev1 1.1a1
1.1.0dev1=1.1.dev1 1.1.a1 1.1.0rc1 1.1.0=1.1 1.1.0post1=1.1.post1 1.1post1 1.2+local 1.2 1.2+1 1.10 1996.07.12
1!0.4.1 1!3.1.1.6 2!0.4.1"""
"""As the documentation of conda's VersionOrder has it, and some more."""


def test_versions_sort_as_conda_documents_it() -> None:
    ranked = [(rank, one) for rank, words in enumerate(ORDER.split()) for one in words.split("=")]

    for rank, one in ranked:
        for other_rank, other in ranked:
            assert compare(one, other) == (rank > other_rank) - (rank < other_rank), (one, other)


@pytest.mark.parametrize("version", ["", "1..2", "x!1", "1-2_3", "1+", "1+2+3", "a b", "1." * 400, "_"])
def test_what_is_no_version_is_refused(version: str) -> None:
    with pytest.raises(ValueError, match="version|component|epoch|mixes"):
        compare(version, "1")
