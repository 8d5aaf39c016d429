"""When collectors look again: at once where something was put off, and when what they found changes."""

import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import anyio
import pytest

from tests.collectors.test_cases import look_at
from tests.story import serving
from watchman_mcp import intake
from watchman_mcp.collectors import Collector, Look, Seen, minutes
from watchman_mcp.errors import Absent
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.updates import Update
from watchman_mcp.schema import Edge, path_of
from watchman_mcp.schema.core import Event, Record
from watchman_mcp.schema.packages import PROVIDES, Software
from watchman_mcp.schema.services import Service
from watchman_mcp.store.sqlite import Store

pytestmark = pytest.mark.anyio
NOW = datetime.now(UTC)


@pytest.fixture
def store() -> Iterator[Store]:
    opened = Store(None)
    yield opened
    opened.close()


def made(name: str, collect: object, *emits: object) -> Collector:
    return Collector(collect, emits, minutes(60), name=name)  # type: ignore[arg-type] # of this test's own


async def until(looks: list[object], count: int) -> None:
    with anyio.fail_after(15):
        while len(looks) < count:
            await anyio.sleep(0.05)


async def test_a_look_that_put_something_off_is_followed_by_another_at_once(
    store: Store, tmp_path: Path
) -> None:
    looks: list[object] = []

    def collect(look: Look) -> Iterator[Seen]:
        looks.append(look.first)
        look.again = look.first
        look.marks["seen"] = True
        yield Software(key="x", name="x", manager="m")

    async with serving(store, tmp_path, made("m", collect, Software)):
        await until(looks, 2)

    assert looks == [True, False]


async def test_a_path_that_a_look_found_is_watched_from_then_on(store: Store, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    looks: list[object] = []

    def collect(look: Look) -> Iterator[Seen]:
        looks.append(look.machine.files.exists("/home/list"))
        look.watch("/home/list")
        yield Software(key="x", name="x", manager="m")

    async with serving(store, tmp_path, made("m", collect, Software)):
        await until(looks, 2)  # the second tells what changed before it was watched
        (tmp_path / "home" / "list").write_text("new")
        await until(looks, 3)

    assert looks[-1] is True


async def test_what_is_not_here_is_noticed_when_it_comes_where_it_was_looked_for(
    store: Store, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    looks: list[object] = []

    def collect(look: Look) -> Iterator[Seen]:
        looks.append(look.machine.files.exists("/home/list"))
        look.watch("/home/list")
        if not looks[-1]:
            raise Absent("nothing is here")
        yield Software(key="x", name="x", manager="m")

    async with serving(store, tmp_path, made("m", collect, Software)):
        await until(looks, 2)
        (tmp_path / "home" / "list").write_text("new")
        await until(looks, 3)

    assert looks[-1] is True


async def test_an_edge_waits_for_its_other_end_and_one_without_is_counted(
    store: Store, tmp_path: Path
) -> None:
    looks: list[object] = []
    package = Software(key="x", name="x", manager="m")

    def packages(look: Look) -> Iterator[Seen]:
        looks.append(1)
        yield package
        for name in ("late", "never"):
            yield Edge(PROVIDES, package.node_id, path_of(Service, "systemd", name))

    def services(look: Look) -> Iterator[Seen]:
        if looks:
            yield Service(name="late", type="systemd")
        else:
            look.again = True

    async with serving(
        store, tmp_path, made("m", packages, Software, PROVIDES), made("s", services, Service)
    ):
        await until(looks, 3)

    assert [row["end"] for row in store.read("SELECT end FROM edges")] == ["Service/systemd/late"]
    run = store.read("SELECT edges_left_out FROM CollectorRun WHERE collector = 'm'")[0]
    assert run["edges_left_out"] == 1


async def test_a_look_is_stuck_when_it_brings_nothing_not_when_it_takes_long(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "CHUNK", 1)
    over = threading.Event()

    def history(look: Look) -> Iterator[Seen]:
        begun, number = time.monotonic(), 0
        while time.monotonic() < begun + 1.5:
            number += 1
            yield Record(Event(key=f"evt_{number}", ts=NOW, type="package_install", source="m"))

    def silence(look: Look) -> Iterator[Seen]:
        over.wait(15)
        yield Software(key="x", name="x", manager="m")

    collectors = (made("long", history, Software), made("silent", silence, Software))
    async with serving(store, tmp_path, *collectors, deadline=0.5) as server:
        await server.runner.scan(["long", "silent"])
        status = {name: one.status for name, one in server.runner.status.items()}
        over.set()

    assert status == {"long": "ok", "silent": "stuck"}


# What a look keeps


def test_what_takes_long_is_made_again_only_when_its_basis_changed(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("1")
    marks: dict[str, object] = {}
    made_of: list[str] = []

    def read() -> list[str]:
        made_of.append((tmp_path / "list").read_text())
        return made_of[-1:]

    for text in ("1", "1", "22"):
        (tmp_path / "list").write_text(text) if text != (tmp_path / "list").read_text() else None
        look = look_at(tmp_path, "m", marks=marks)
        assert look.kept("list", look.signs("/list", "/none"), read) == [text]

    assert made_of == ["1", "22"]


def test_newer_versions_are_asked_for_on_the_running_machine_and_not_at_the_first_look(
    tmp_path: Path,
) -> None:
    asked: list[int] = []

    def ask(_commands: Commands) -> tuple[list[Update], int]:
        asked.append(1)
        return [Update("a", None, "2")], 1

    elsewhere = look_at(tmp_path, "m", marks={"x": 1})
    first, second = look_at(Path("/"), "m"), look_at(Path("/"), "m", marks={"x": 1})

    assert (elsewhere.updates([], ask), first.updates([], ask), asked) == ({}, {}, [])
    assert (elsewhere.again, first.again) == (False, True)
    assert second.updates([], ask) == {("a", None): Update("a", None, "2")}
    assert second.updates([], ask) and asked == [1]
    assert [one.what for one in (*elsewhere.unobserved, *first.unobserved)] == ["m:updates"] * 2
    assert "1 lines" in second.unobserved[0].why


def test_a_manager_that_cannot_answer_is_said_and_nothing_is_kept() -> None:
    look = look_at(Path("/"), "m", marks={"x": 1})

    def ask(_commands: Commands) -> tuple[list[Update], int]:
        raise Absent("no such program")

    assert look.updates([], ask) == {}
    assert look.marks == {"x": 1}
    assert look.unobserved[0].why == "no such program"
