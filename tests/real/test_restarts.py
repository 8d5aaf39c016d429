"""Changes that happen while the daemon is away, dies or tells of them, and logs that are rotated."""

import random
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from mcp import Client as SdkClient
from mcp import StdioServerParameters
from mcp.types import ResourceUpdatedNotification

from tests.real.clients import FULL, SEED, Session, Watchman, delay_until, done, watching
from tests.real.test_packages import deb, offer
from tests.rigs.clients import META
from tests.rigs.debs import Deb, apt_get
from tests.rigs.installed import install_watchman
from tests.rigs.machine import Machine, booted

pytestmark = pytest.mark.real
KILLS, ROTATIONS = (50, 40) if FULL else (3, 5)
PACKAGES = "watchman://packages"


@pytest.fixture(scope="module")
def box() -> Iterator[tuple[Machine, str]]:
    with booted() as machine:
        yield machine, install_watchman(machine)


@pytest.fixture
def watchman(box: tuple[Machine, str], tmp_path: Path) -> Iterator[Watchman]:
    with watching(*box, f"/root/{tmp_path.name}") as running:
        yield running


def told(copy: Path, prefix: str) -> list[tuple[str, str, str | None, str]]:
    """The events of packages with this prefix in a copied database: type, name, version, source."""
    with closing(sqlite3.connect(copy / "watchman.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
        return db.execute(
            "SELECT type, subject, version, source FROM Event WHERE subject GLOB ?",
            (f"{prefix}*",),
        ).fetchall()


def test_changes_made_while_the_daemon_was_stopped_are_told_once_with_the_times_of_the_log(
    watchman: Watchman, tmp_path: Path
) -> None:
    machine = watchman.machine
    names = ("rig-new", "rig-other", "rig-gone")
    offer(machine, tmp_path, *[Deb(name, v) for name in names for v in ("1.0", "2.0")])
    apt_get(machine, "install", "rig-gone=1.0")
    client = watchman.client()
    client.call("query_packages")
    watchman.stop()

    apt_get(machine, "install", "rig-new=1.0")
    machine.run(["dpkg", "-i", deb("rig-other", "1.0")])
    apt_get(machine, "install", "rig-new=2.0")
    machine.run(["dpkg", "-r", "rig-gone"])

    for _ in range(3):
        client.scan()
    assert client.changes("rig-new") == [("install", None, "1.0"), ("update", "1.0", "2.0")]
    assert client.changes("rig-other") == [("install", None, "1.0")]
    assert client.changes("rig-gone") == [("install", None, "1.0"), ("remove", None, "1.0")]
    for name in names:
        moments = [one["ts"] for one in reversed(client.pages("what_changed", subject=name))]
        assert moments == [one.at for one in done(machine, name)]
    assert client.call("query_packages", name="rig-gone")["found"] == "not_installed"


@pytest.mark.parametrize("running", [False, True], ids=["while stopped", "while running"])
def test_a_change_that_no_log_tells_is_observed_once_within_its_interval(
    watchman: Watchman, tmp_path: Path, running: bool
) -> None:
    machine, name = watchman.machine, f"rig-silent{running:d}"
    offer(machine, tmp_path, Deb(name, "1.0"))
    client = watchman.client()
    client.call("query_packages")
    client.scan()
    if not running:
        watchman.stop()

    began = datetime.now(UTC).replace(microsecond=0)
    machine.run(["dpkg", "--log=/dev/null", "-i", deb(name, "1.0")])
    ended = datetime.now(UTC)

    def events() -> list[dict[str, str]]:
        return client.call("what_changed", subject=name, since="1h")["items"]

    seen = delay_until(lambda: client.call("query_packages", name=name)["found"] == "yes", 4.0, name)
    delay = delay_until(events, 12.0, "its event")
    for _ in range(3):
        client.scan()
    [event] = events()
    assert (event["type"], event["source"], event["what"]) == ("package_install", "observed", "1.0")
    earliest, ts = (datetime.fromisoformat(event[key]) for key in ("earliest", "ts"))
    assert earliest <= began + timedelta(seconds=1)
    assert began <= ts
    assert earliest <= ts <= ended + timedelta(seconds=4)
    print(f"seen after {seen.seconds:.2f} s, its event {delay.seconds:.2f} s later")


ROTATE = """
for f in /var/log/dpkg.log /var/log/apt/history.log; do
  for n in 90 {older}; do if [ -e $f.$n.gz ]; then mv $f.$n.gz $f.$((n+1)).gz; fi; done
  if [ -e $f.1 ]; then gzip $f.1; mv $f.1.gz $f.2.gz; fi
  {move}
  chmod 644 $f
done
"""
MOVES = {"rename": "mv $f $f.1; : > $f", "copytruncate": "cp -p $f $f.1; : > $f"}


def rotate(machine: Machine, how: str) -> None:
    """What logrotate does with both logs: the newest old one stays as it is, those before are compressed."""
    older = " ".join(str(number) for number in range(89, 1, -1))
    machine.run(["sh", "-ec", ROTATE.format(older=older, move=MOVES[how])])


def change(machine: Machine, name: str, chance: random.Random) -> None:
    """Install, update, downgrade or remove a package; apt may find that there is nothing to do."""
    version = chance.choice(["1.0", "2.0"])
    what = chance.random()
    if what < 0.25:
        machine.run(["dpkg", "-r", name])
    elif what < 0.6:
        machine.run(["dpkg", "-i", deb(name, version)])
    else:
        apt_get(machine, "--allow-downgrades", "install", f"{name}={version}")


@pytest.mark.soak
def test_rotation_of_the_logs_between_changes_loses_and_doubles_nothing(
    watchman: Watchman, tmp_path: Path
) -> None:
    machine, chance = watchman.machine, random.Random(SEED)
    names = [f"rig-turn{n}" for n in range(4)]
    offer(machine, tmp_path, *[Deb(name, v) for name in names for v in ("1.0", "2.0")])
    client = watchman.client()
    client.call("query_packages")
    for _ in range(ROTATIONS):
        if chance.random() < 0.4:
            watchman.stop()
        for _ in range(chance.randint(1, 3)):
            change(machine, chance.choice(names), chance)
            if chance.random() < 0.4:
                rotate(machine, chance.choice(list(MOVES)))
        if chance.random() < 0.5:
            client.call("query_packages")
    for _ in range(3):
        client.scan()

    events = told(watchman.copy(tmp_path / "copy"), "rig-turn")
    truth = done(machine, "rig-turn")
    assert Counter(one[:3] for one in events) == Counter(one[:3] for one in truth)
    assert "observed" not in {source for *_, source in events}
    print(f"{len(truth)} changes through {ROTATIONS} rounds of rotation, each told once")


@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore:resources/subscribe is removed")
@pytest.mark.parametrize(
    ("mode", "version"), [("legacy", None), ("auto", "2026-07-28")], ids=["legacy", "auto"]
)
async def test_an_installation_is_told_to_those_who_subscribed_in_either_era(
    watchman: Watchman, tmp_path: Path, mode: str, version: str | None
) -> None:
    machine, name = watchman.machine, f"rig-news-{mode}"
    offer(machine, tmp_path, Deb(name, "1.0"))
    command, *words = watchman.argv()
    heard = anyio.Event()

    async def hear(message: object) -> None:
        if isinstance(message, ResourceUpdatedNotification) and str(message.params.uri) == PACKAGES:
            heard.set()

    async def listen(client: SdkClient, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        if mode == "legacy":
            await client.subscribe_resource(PACKAGES)
            task_status.started()
            return
        async with client.listen(resource_subscriptions=[PACKAGES]) as events:
            task_status.started()
            async for event in events:
                assert event.uri == PACKAGES
                heard.set()

    server = StdioServerParameters(command=command, args=words)
    async with SdkClient(server, mode=mode, message_handler=hear, cache=None) as client:
        assert version in (None, client.protocol_version)
        await client.call_tool("scan", {"area": "packages"})
        async with anyio.create_task_group() as tasks:
            await tasks.start(listen, client)
            assert not heard.is_set()
            await to_thread.run_sync(apt_get, machine, "install", name)
            installed = anyio.current_time()
            with anyio.fail_after(5):
                await heard.wait()
            print(f"{mode}: told {anyio.current_time() - installed:+.2f} s after the command's end")
            tasks.cancel_scope.cancel()
        with anyio.fail_after(10):
            answer = await client.call_tool("query_packages", {"name": name})
        assert answer.structured_content["found"] == "yes"


class Load:
    """A client that keeps a few requests in flight and puts away all that it is answered."""

    def __init__(self, session: Session, number: int) -> None:
        self.session, self.number = session, number
        self.asked: list[str] = []
        self.lines: list[dict] = []

    def run(self, stop: threading.Event) -> None:
        questions = [("query_packages", {}), ("what_changed", {"since": "1h"}), ("doctor", {})]
        while not stop.is_set():
            ids = [f"{self.number}-{len(self.asked) + n}" for n in range(3)]
            self.asked += ids
            self.session.send(
                *[
                    {"id": one, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
                    for one, (tool, arguments) in zip(ids, questions, strict=True)
                ]
            )
            for one in ids:
                self.session.wait(lambda line, one=one: line.get("id") == one, 60)
            self.put_away()

    def put_away(self) -> None:
        with self.session.came:
            self.lines += self.session.lines
            self.session.lines.clear()


def change_until(
    stop: threading.Event, machine: Machine, names: list[str], faults: list[BaseException]
) -> None:
    chance = random.Random(SEED)
    try:
        while not stop.is_set():
            change(machine, chance.choice(names), chance)
    except BaseException as fault:
        faults.append(fault)


def listen(session: Session, number: str) -> None:
    """Listen to packages in the era without subscriptions that last."""
    wanted = {"notifications": {"resourceSubscriptions": [PACKAGES]}, "_meta": META}
    session.send({"id": number, "method": "subscriptions/listen", "params": wanted})
    session.wait(lambda line: line.get("method") == "notifications/subscriptions/acknowledged")


def updates(session: Session) -> int:
    with session.came:
        return sum(line.get("params", {}).get("uri") == PACKAGES for line in session.lines)


@pytest.mark.soak
def test_a_daemon_that_is_killed_under_load_loses_no_answer_no_subscription_and_no_event(
    watchman: Watchman, tmp_path: Path
) -> None:
    machine, chance = watchman.machine, random.Random(SEED)
    names = [f"rig-load{n}" for n in range(4)]
    offer(machine, tmp_path, Deb("rig-after", "1.0"), *[Deb(n, v) for n in names for v in ("1.0", "2.0")])
    subscribed, modern = watchman.client(), watchman.client(modern=True)
    subscribed.call("query_packages")
    subscribed.request("resources/subscribe", uri=PACKAGES)
    listen(modern, "first")
    loads = [Load(watchman.client(), number) for number in range(3)]
    faults, stop = list[BaseException](), threading.Event()
    threads = [threading.Thread(target=load.run, args=(stop,)) for load in loads]
    threads.append(threading.Thread(target=change_until, args=(stop, machine, names, faults)))
    for thread in threads:
        thread.start()
    pids = set()
    for _ in range(KILLS):
        stop.wait(chance.uniform(0.1, 3.0))
        pids.add(watchman.kill())
    stop.set()
    for thread in threads:
        thread.join(90)

    assert faults == []
    answers = Counter(line["id"] for load in loads for line in load.lines if "id" in line)
    asked = [one for load in loads for one in load.asked]
    assert {one: answers[one] for one in asked if answers[one] != 1} == {}
    failed = [line for load in loads for line in load.lines if "error" in line]
    assert all("ended during this request" in line["error"]["message"] for line in failed)
    lost = modern.answers("first")
    assert ["error" in line for line in lost] == [True]
    listen(modern, "second")
    for _ in range(3):
        subscribed.scan()
    before = [updates(session) for session in (subscribed, modern)]
    apt_get(machine, "install", "rig-after")
    for session, count in zip((subscribed, modern), before, strict=True):
        delay_until(lambda s=session, c=count: updates(s) > c, 5.0, "an update after all kills")
    for _ in range(3):
        subscribed.scan()
    events = told(watchman.copy(tmp_path / "copy"), "rig-load")
    truth = done(machine, "rig-load")
    assert Counter(one[:3] for one in events) == Counter(one[:3] for one in truth)
    assert "observed" not in {source for *_, source in events}
    print(
        f"{len(pids)} daemons killed: {len(asked)} requests, {len(failed)} failed, none twice or never, "
        f"{len(events)} events of {len(truth)} changes"
    )
