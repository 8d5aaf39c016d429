"""Many clients of one state directory while their daemon is killed, again and again."""

import os
import random
import signal
import threading
import time

import pytest

from tests.rigs.clients import Client, alive, daemon_pid, end_daemon, until

pytestmark = pytest.mark.soak
FULL = os.environ.get("WATCHMAN_TEST_SOAK") == "full"
CLIENTS, KILLS, RESTARTS = (20, 50, 100) if FULL else (6, 6, 8)
SEED = int(os.environ.get("WATCHMAN_TEST_SEED", "20"))
TOGETHER = 4  # requests that a client has in flight at once


@pytest.fixture
def state(tmp_path):
    directory = tmp_path / "state"
    yield directory
    end_daemon(directory)


def starts(state):
    return [int(pid) for pid in (state / "starts").read_text().split()]


def load(client, name, stop, asked):
    """Ask for deeds, a few at a time, until told to stop; every one has an answer before the next few."""
    while not stop.is_set():
        tokens = [f"{name}-{len(asked) + n}" for n in range(TOGETHER)]
        asked += tokens
        client.send(*[{"id": token, "method": "deed", "params": {"token": token}} for token in tokens])
        for token in tokens:
            client.wait(lambda line, token=token: line.get("id") == token and "method" not in line, 60)
        with client.came:  # waiting looks through all lines, so those that were read are put away
            client.kept = [*getattr(client, "kept", []), *client.lines]
            client.lines.clear()


def test_no_request_is_doubled_or_left_when_the_daemon_is_killed_under_load(state):
    chance = random.Random(SEED)
    clients = [Client(state) for _ in range(CLIENTS)]
    for client in clients:
        client.start_session()
    assert len(starts(state)) == 1
    stop, asked = threading.Event(), [[] for _ in clients]
    threads = [
        threading.Thread(target=load, args=(client, n, stop, asked[n])) for n, client in enumerate(clients)
    ]
    for thread in threads:
        thread.start()

    for _ in range(KILLS):
        stop.wait(chance.uniform(0.02, 0.5))
        pid = until(lambda: daemon_pid(state))
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
        assert sum(alive(one) for one in starts(state) if one != pid) <= 1
    stop.set()
    for thread in threads:
        thread.join(60)

    lines = [line for client in clients for line in client.kept if line.get("id") != "hello" and "id" in line]
    wanted = [token for tokens in asked for token in tokens]
    assert sorted(line["id"] for line in lines) == sorted(wanted)
    done = (state / "done").read_text().split()
    assert len(done) == len(set(done))
    assert {line["id"] for line in lines if "result" in line} <= set(done)
    failed = [line["error"] for line in lines if "error" in line]
    assert {error["code"] for error in failed} <= {-32000}
    assert [client.finish() for client in clients] == [0] * CLIENTS
    print(f"\n{len(wanted)} requests, {len(failed)} failed, {len(done)} done, {len(starts(state))} daemons")


def test_two_versions_side_by_side_settle_on_one_daemon_after_each_restart(state):
    clients = [Client(state, version=version) for version in ("0.0.1", "9.0.0")]
    for client in clients:
        client.start_session()

    for n in range(RESTARTS):
        end_daemon(state)
        for client in clients:
            client.send({"id": n, "method": "seen_so_far"})
        for client in clients:
            client.wait(lambda line, n=n: line.get("id") == n)
        assert sum(alive(pid) for pid in starts(state)) == 1

    count = len(starts(state))
    assert count <= 2 * (RESTARTS + 1)
    pids = {client.ask("last", "seen_so_far")["result"]["pid"] for client in clients}
    assert pids == {daemon_pid(state)}
    assert len(starts(state)) == count
    assert [client.finish() for client in clients] == [0, 0]
    print(f"\n{RESTARTS} restarts, {count} daemons")


def test_clients_that_start_together_start_one_daemon(state):
    for _ in range(5 if FULL else 1):
        clients = [Client(state) for _ in range(CLIENTS)]
        began = time.monotonic()

        pids = {client.start_session()["serverInfo"]["pid"] for client in clients}

        assert len(pids) == 1
        assert [client.finish() for client in clients] == [0] * CLIENTS
        print(f"\n{CLIENTS} clients served within {time.monotonic() - began:.2f} s")
        end_daemon(state)
