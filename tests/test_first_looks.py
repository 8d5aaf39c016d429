"""Whose first look comes first, and what it leaves to the second: somebody waits for the answer."""

import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.story import serving
from watchman_mcp.cleaning import Cleaner
from watchman_mcp.collectors import Collector, Look, load, minutes
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.runner import Runner
from watchman_mcp.schema.network import ExternalAddress, NetworkInterface
from watchman_mcp.schema.packages import Software
from watchman_mcp.schema.services import Service
from watchman_mcp.settings import Settings
from watchman_mcp.store.sqlite import Store

pytestmark = pytest.mark.anyio


class Looks:
    """A collector of packages that looks as long as it is kept, one of services, and the order of both."""

    def __init__(self) -> None:
        self.over: list[str] = []
        self.kept = threading.Event()

    def _packages(self, _look: Look) -> Iterator[Software]:
        assert self.kept.wait(5)
        self.over.append("packages")
        yield Software(key="a", name="a", manager="packages")

    def _services(self, _look: Look) -> Iterator[Service]:
        self.over.append("services")
        yield Service(name="a", type="systemd")

    def collectors(self) -> list[Collector]:
        return [
            Collector(self._services, (Service,), minutes(10), name="services"),
            Collector(self._packages, (Software,), minutes(10), name="packages"),
        ]


@asynccontextmanager
async def running(looks: Looks, root: Path) -> AsyncIterator[Runner]:
    store = Store(None)

    async def publish(_labels: frozenset[str]) -> None:
        """Nobody listens."""

    machine = Machine(Files(root), Commands(), root)
    runner = Runner(store, machine, Settings(), looks.collectors(), Cleaner(b"k" * 32), publish)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(runner.run)
            yield runner
            tasks.cancel_scope.cancel()
    store.close()


async def test_what_no_first_question_waits_for_looks_after_the_packages(tmp_path: Path) -> None:
    looks = Looks()
    async with running(looks, tmp_path) as runner:
        await anyio.wait_all_tasks_blocked()
        waiting = runner.status["services"].busy
        looks.kept.set()
        await runner.status["services"].looked.wait()

    assert not waiting
    assert looks.over == ["packages", "services"]


async def test_what_somebody_asks_for_is_not_held_back(tmp_path: Path) -> None:
    looks = Looks()
    async with running(looks, tmp_path) as runner:
        await runner.first_look(("Service",))
        looks.kept.set()
        await runner.first_look(("Software",))

    assert looks.over == ["services", "packages"]


def test_packages_host_and_load_are_not_held_back() -> None:
    held = {collector.name for collector in load() if collector.holds_back}

    assert held.isdisjoint({"host", "resources", *[one.name for one in load() if one.brings]})
    assert "configs" in held


def test_what_leads_elsewhere_is_left_to_the_second_look_of_the_running_machine(tmp_path: Path) -> None:
    status = "Package: a\nStatus: install ok installed\nVersion: 1\nConffiles:\n /etc/a 0123\n\n"
    for name, text in (("status", status), ("info/a.list", "/lib/systemd/system/a.service\n")):
        (tmp_path / "var/lib/dpkg" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "var/lib/dpkg" / name).write_text(text)
    apt = next(collector for collector in load() if collector.name == "apt")

    machine = Machine(Files(tmp_path), Commands(()), Path("/"))  # live by its root, with files of its own
    first = Look(machine, Settings(), "apt")
    seen = [list(apt.collect(first))]
    second = Look(machine, Settings(), "apt", marks=first.marks)
    seen.append(list(apt.collect(second)))

    kinds = [[type(one).__name__ for one in found] for found in seen]
    assert kinds == [["Software"], ["Software", "Edge", "Edge"]]
    assert (first.again, second.again) == (True, False)


def test_a_long_text_of_many_records_is_searched_for_secrets_once() -> None:
    cleaner, command = Cleaner(b"k" * 32), "apt-get install " + "package " * 60

    assert cleaner.text(command) is cleaner.text(command + "") is cleaner.text("".join(command))
    assert "hunter2" not in cleaner.text(f"{command} --password=hunter2")
    assert "hunter2" not in cleaner.text(f"{command} --password=hunter2")


class Far:
    """A collector of the external address, whose sources answer when they are let."""

    def __init__(self) -> None:
        self.asked, self.answered = threading.Event(), threading.Event()

    def collectors(self) -> list[Collector]:
        """This one, and one of interfaces that has nothing to wait for."""
        return [
            Collector(self._addresses, (ExternalAddress,), minutes(10), name="external"),
            Collector(self._interfaces, (NetworkInterface,), minutes(10), name="network"),
        ]

    def _addresses(self, _look: Look) -> Iterator[ExternalAddress]:
        self.asked.set()
        assert self.answered.wait(20)
        yield ExternalAddress(family="ipv4", ip="192.0.2.1", source="x", checked_at=datetime.now(UTC))

    def _interfaces(self, _look: Look) -> Iterator[NetworkInterface]:
        yield NetworkInterface(name="eth0", state="UP", kind="ethernet")


async def test_only_a_question_about_the_external_address_waits_for_it(tmp_path: Path) -> None:
    far, store = Far(), Store(None)
    unknown = [{"family": name, "why": "not yet known; ask again soon"} for name in ("ipv4", "ipv6")]
    told: list[dict[str, Any]] = []
    with anyio.fail_after(9):
        async with serving(store, tmp_path, *far.collectors()) as server, anyio.create_task_group() as tasks:
            network = server.tools["network_status"]

            async def address() -> None:
                told.append(await server.answer(network, {"view": "external_ip"}))

            try:
                tasks.start_soon(address)
                await anyio.to_thread.run_sync(far.asked.wait)
                first = await server.answer(network, {})
                second = await server.answer(network, {"view": "interfaces"})
                assert not told
            finally:
                far.answered.set()
            await server.runner.status["external"].looked.wait()
            third = await server.answer(network, {})
    store.close()

    assert (first["found"], first["external"]) == ("yes", unknown)
    assert second["found"] == "yes"
    assert [one["external"][0]["ip"] for one in (*told, third)] == ["192.0.2.1"] * 2
