"""The bridge and the start of a daemon, with real processes and a stand-in for the daemon's answers."""

import fcntl
import json
import os
import pwd
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.rigs.clients import DEAD, META, RIG, STAND_IN, Client, alive, daemon_pid, end_daemon, until
from watchman_mcp import bridge, errors

NEWER, OLDER = "9.0.0", "0.0.1"
root = pytest.mark.skipif(
    os.geteuid() != 0, reason="needs root, to make what belongs to another user or a mount"
)
MAIN = [sys.executable, "-I", "-c", "from watchman_mcp.bridge import main; raise SystemExit(main())"]


@pytest.fixture
def state(tmp_path):
    directory = tmp_path / "state"
    yield directory
    end_daemon(directory)


@pytest.fixture
def opened(state):
    """Makes clients of one state directory and ends those that a test left."""
    clients = []

    def one(*arguments, **named):
        clients.append(Client(*(arguments or (state,)), **named))
        return clients[-1]

    yield one
    for client in clients:
        if client.process.poll() is None:
            client.process.kill()
        client.finish()


def test_the_first_client_starts_a_daemon_and_the_second_finds_it(state, opened):
    first, second = opened(), opened()

    pids = {client.start_session()["serverInfo"]["pid"] for client in (first, second)}

    assert pids == {daemon_pid(state)}
    assert first.finish() == second.finish() == 0
    assert alive(pids.pop())


def test_a_daemon_gets_an_environment_of_its_own_and_runs_at_the_root(opened, state, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("TZ", "Asia/Tokyo")

    hello = opened().start_session()

    assert hello["directory"] == "/"
    assert set(hello["environment"]) <= {"HOME", "USER", "LOGNAME", "PATH", "LC_ALL", "LC_CTYPE"}
    assert hello["environment"]["PATH"] == "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    assert os.getsid(daemon_pid(state)) == daemon_pid(state)


def test_what_the_daemon_owns_is_closed_to_others(state, opened):
    opened().start_session()

    modes = {
        name: stat.S_IMODE(os.stat(state / name).st_mode) for name in (".", "lock", "sock", "daemon.err")
    }

    assert modes == {".": 0o700, "lock": 0o600, "sock": 0o600, "daemon.err": 0o600}
    record = json.loads((state / "lock").read_text())
    assert (record["mode"], record["config"]) == ("on-demand", "")


def test_a_request_in_flight_fails_once_when_the_daemon_dies_and_is_not_sent_again(state, opened):
    client = opened()
    client.start_session()
    client.send({"id": 7, "method": "deed", "params": {"token": "seven", "seconds": 60}})
    until((state / "done").exists)

    os.kill(daemon_pid(state), signal.SIGKILL)
    lost = client.wait(lambda line: line.get("id") == 7)
    client.ask(8, "seen_so_far")

    assert lost["error"] == {"code": -32000, "message": bridge.LOST}
    assert len(client.answers(7)) == 1
    assert (state / "done").read_text() == "seven\n"


def test_a_new_daemon_is_told_what_the_session_holds_and_the_client_that_lists_may_differ(state, opened):
    client = opened()
    client.start_session()
    client.ask(1, "resources/subscribe", uri="watchman://packages")
    client.ask(2, "resources/subscribe", uri="watchman://events")
    client.ask(3, "resources/unsubscribe", uri="watchman://packages")
    client.ask(4, "logging/setLevel", level="error")
    before = daemon_pid(state)

    end_daemon(state)
    answer = client.ask(5, "seen_so_far")["result"]

    assert answer["pid"] != before
    assert answer["seen"] == [
        "initialize",
        "notifications/initialized",
        "resources/subscribe watchman://events",
        "logging/setLevel",
        "seen_so_far",
    ]
    told = [line["method"] for line in client.lines if "method" in line]
    assert told == [f"notifications/{what}/list_changed" for what in ("tools", "resources", "prompts")]
    assert [line["id"] for line in client.lines if "id" in line] == ["hello", 1, 2, 3, 4, 5]


def test_a_client_that_initializes_again_is_not_initialized_twice(state, opened):
    client = opened()
    client.start_session()
    end_daemon(state)

    client.start_session()

    assert client.ask(1, "seen_so_far")["result"]["seen"] == [
        "initialize",
        "notifications/initialized",
        "seen_so_far",
    ]


def test_a_client_without_a_handshake_needs_no_replay_and_its_open_listen_fails(state, opened):
    client = opened()
    client.ask(1, "tools/list", _meta=META)
    client.send({"id": 2, "method": "subscriptions/listen", "params": {"_meta": META}})
    client.ask(3, "seen_so_far", _meta=META)

    os.kill(daemon_pid(state), signal.SIGKILL)
    lost = client.wait(lambda line: line.get("id") == 2)
    seen = client.ask(4, "seen_so_far", _meta=META)["result"]["seen"]

    assert lost["error"]["code"] == -32000
    assert seen == ["seen_so_far"]
    assert not [line for line in client.lines if "method" in line]


def test_an_answer_that_the_end_of_the_daemon_cut_is_an_error_and_no_half_line(opened):
    client = opened()

    answer = client.ask("x", "die_within_the_answer")

    assert answer["error"]["message"] == bridge.LOST
    assert len(client.answers("x")) == 1


def test_a_question_of_the_daemon_reaches_the_client_and_the_reply_reaches_the_daemon(opened):
    client = opened()
    client.start_session()
    client.send({"id": 1, "method": "question"})

    question = client.wait(lambda line: line.get("method") == "elicitation/create")
    client.send({"id": question["id"], "result": {"action": "accept"}})

    assert client.wait(lambda line: line.get("id") == 1 and "result" in line)["result"]["reply"] == {
        "action": "accept"
    }


def test_a_reply_to_a_question_of_a_dead_daemon_never_reaches_a_new_one(state, opened):
    client = opened()
    client.start_session()
    client.send({"id": 1, "method": "question"})
    old = client.wait(lambda line: line.get("method") == "elicitation/create")
    os.kill(daemon_pid(state), signal.SIGKILL)
    client.wait(lambda line: line.get("id") == 1 and "error" in line)
    client.send({"id": 2, "method": "question"})
    new = client.wait(lambda line: line.get("method") == "elicitation/create" and line != old)

    client.send({"id": old["id"], "result": {"action": "accept", "content": "old"}})
    client.send({"id": new["id"], "result": {"action": "decline"}})

    assert client.wait(lambda line: line.get("id") == 2 and "result" in line)["result"]["reply"] == {
        "action": "decline"
    }


def test_a_withdrawn_question_is_withdrawn_by_the_id_that_the_client_knows(opened):
    client = opened()
    client.ask("first", "withdrawn_question")
    client.ask("second", "withdrawn_question")

    asked = [line["id"] for line in client.lines if line.get("method") == "elicitation/create"]
    withdrawn = [
        line["params"]["requestId"] for line in client.lines if line.get("method", "").endswith("cancelled")
    ]

    assert len(set(asked)) == 2
    assert withdrawn[0] == asked[0]


def test_a_thousand_lines_of_garbage_are_answered_by_the_daemon(opened):
    client = opened()
    garbage = [
        b"{",
        b"\xff\xfe",
        b"[" * 5000,
        b'"id":1',
        b"nul",
        b'{"id":1,"method":"x"',
        b"}}",
        b"\x00",
        b"1e",
        b"[1,",
    ]

    client.write(b"".join(garbage[n % 10] + b"\n" for n in range(1000)))
    client.ask("after", "tools/list")

    assert [line["error"]["code"] for line in client.answers(None)] == [-32700] * 1000


def test_ids_of_a_batch_fail_one_by_one_when_the_daemon_dies(state, opened):
    client = opened()
    client.ask(0, "tools/list")
    batch = [{"jsonrpc": "2.0", "id": n, "method": "slow", "params": {"seconds": 60}} for n in (1, "1")]
    client.write(json.dumps(batch).encode() + b"\n")
    assert client.wait(lambda line: "error" in line)["error"]["code"] == -32600

    os.kill(daemon_pid(state), signal.SIGKILL)

    assert client.wait(lambda line: line.get("id") == 1)["error"]["code"] == -32000
    assert client.wait(lambda line: line.get("id") == "1")["error"]["code"] == -32000


def test_a_line_beyond_sixteen_megabytes_is_refused_and_the_next_is_served(opened):
    client = opened()
    client.write(
        b'{"jsonrpc":"2.0","id":3,"method":"tools/list","params":{"x":"' + b"x" * bridge.LIMIT + b'"}}\n'
    )

    answer = client.ask(4, "tools/list")

    assert client.answers(3)[0]["error"]["code"] == -32600
    assert answer["result"]["tools"] == []


def test_a_line_of_ten_megabytes_and_an_answer_of_sixty_pass(opened):
    client = opened()

    sent = client.ask(1, "tools/list", text="y" * 10_000_000)["result"]["params"]["text"]
    got = client.ask(7, "sized", size=60_000_000)["result"]["text"]

    assert (len(sent), len(got)) == (10_000_000, 60_000_000)


def test_an_answer_with_its_id_last_counts_as_answered(state, opened):
    client = opened()
    client.send({"id": "last", "method": "slow", "params": {"seconds": 60}})
    client.ask(1, "backwards")
    client.wait(lambda line: line.get("id") == "last")

    os.kill(daemon_pid(state), signal.SIGKILL)
    client.ask(2, "tools/list")

    assert client.answers("last") == [{"result": {"id": 5}, "jsonrpc": "2.0", "id": "last"}]


def test_at_the_end_of_input_answers_in_flight_are_delivered_and_a_cut_line_is_passed_on(opened):
    client = opened()
    client.send({"id": 1, "method": "slow", "params": {"seconds": 0.5}})
    client.write(b'{"jsonrpc":"2.0","id":2,"method":"tools/list"}')

    assert client.finish() == 0

    assert [len(client.answers(number)) for number in (1, 2)] == [1, 1]


def test_an_open_listen_does_not_hold_the_end(opened):
    client = opened()
    client.send({"id": 1, "method": "subscriptions/listen", "params": {"_meta": META}})
    client.ask(2, "tools/list", _meta=META)

    assert client.finish(seconds=3) == 0


def test_a_client_that_stopped_reading_ends_its_bridge_without_a_word(opened):
    client = opened()
    client.ask(1, "tools/list")
    code = (
        "import os,subprocess,sys; r,w=os.pipe(); os.close(r)\n"
        "pipe = subprocess.PIPE; p = subprocess.Popen(sys.argv[1:], stdin=pipe, stdout=w, stderr=pipe)\n"
        "os.close(w)\n"
        'p.stdin.write(b\'{"jsonrpc":"2.0","id":1,"method":"tools/list"}\\n\'); p.stdin.flush()\n'
        "print(p.wait(10), p.stderr.read())"
    )

    ran = subprocess.run(
        [sys.executable, "-c", code, *client.process.args],
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )

    assert ran.stdout == "0 b''\n"


def test_a_bridge_ends_with_its_parent_although_the_pipe_stays_open(state):
    reading, writing = os.pipe()
    os.write(writing, b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}\n')
    code = (
        "import subprocess,sys; p = subprocess.Popen(sys.argv[1:], stdin=0, stdout=subprocess.PIPE);"
        "p.stdout.readline(); print(p.pid)"
    )
    words = [
        sys.executable,
        "-c",
        code,
        sys.executable,
        "-I",
        RIG,
        "bridge",
        "0.1.0",
        str(state),
        "",
        *STAND_IN,
    ]
    launcher = subprocess.run(words, stdin=reading, capture_output=True, text=True, check=True, timeout=20)
    os.close(reading)

    until(lambda: not alive(int(launcher.stdout)), seconds=10)

    os.close(writing)


def test_a_newer_bridge_replaces_an_older_on_demand_daemon_and_an_older_one_uses_the_newer(state, opened):
    old = opened(state, version=OLDER)
    old_pid = old.start_session()["serverInfo"]["pid"]

    new_pid = opened(state, version=NEWER).start_session()["serverInfo"]["pid"]

    assert not alive(old_pid)
    assert old.ask(1, "seen_so_far")["result"]["pid"] == new_pid
    assert json.loads((state / "lock").read_text())["version"] == NEWER


def test_a_staying_daemon_is_never_replaced(state, opened):
    lock, listener = bridge.own(str(state), "staying", "")
    client = opened(state, version=NEWER)
    client.send({"id": 1, "method": "tools/list"})

    peer, _ = listener.accept()
    line = peer.makefile("rb").readline()
    peer.sendall(b'{"jsonrpc":"2.0","id":1,"result":{}}\n')

    assert json.loads(line)["method"] == "tools/list"
    assert client.wait(lambda line: line.get("id") == 1)["result"] == {}
    for one in (peer, listener):
        one.close()
    os.close(lock)
    (state / "lock").unlink()


def test_a_file_that_speaks_of_an_ended_daemon_ends_no_process_that_has_its_number_now(state, opened):
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    state.mkdir(mode=0o700)
    holder = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(holder, fcntl.LOCK_EX)
    os.write(
        holder,
        json.dumps({"pid": bystander.pid, "version": "0.0.0", "mode": "on-demand", "config": ""}).encode(),
    )
    client = opened(state, version=NEWER)
    client.send({"id": 1, "method": "tools/list"})
    timer = threading.Timer(0.3, os.close, (holder,))
    timer.start()

    assert client.wait(lambda line: line.get("id") == 1)["result"]["tools"] == []
    assert bystander.poll() is None
    bystander.communicate(b"\n", timeout=5)
    timer.join()


def test_another_configuration_file_than_the_daemons_is_said_and_ends_the_bridge(state, opened):
    opened().start_session()
    other = opened(state, "/etc/other.toml")

    answer = other.ask(1, "initialize")

    assert "/etc/other.toml" in answer["error"]["message"]
    assert "no configuration file" in answer["error"]["message"]
    assert other.process.wait(5) == 1


def test_a_daemon_that_dies_at_every_start_is_tried_three_times_and_its_last_words_are_the_answer(
    state, opened
):
    clients = [opened(state, command=DEAD) for _ in range(3)]

    texts = [client.ask(1, "initialize")["error"]["message"] for client in clients for _ in range(2)]

    assert all("the store was written by a newer version" in text for text in texts)
    assert len((state / "starts").read_text().split()) == 3


def test_after_a_failed_start_a_good_one_counts_from_nothing(state):
    with pytest.raises(errors.Broken, match="newer version"):
        bridge.connect(str(state), "", DEAD)
    lock = json.loads((state / "lock").read_text())
    (state / "lock").write_text(json.dumps({**lock, "tried": lock["tried"] - bridge.PAUSE}))

    bridge.connect(str(state), "", STAND_IN).close()

    assert json.loads((state / "lock").read_text())["tries"] == 0


def test_a_command_that_is_not_there_is_an_answer(state):
    with pytest.raises(errors.Broken, match="/no/python cannot be started"):
        bridge.connect(str(state), "", ("/no/python",))


@pytest.mark.parametrize("length", [100, 107, 108, 180])
def test_a_state_path_of_any_length_is_served(tmp_path, opened, length):
    socket_path = len(str(tmp_path)) + len("/sock")
    directory = tmp_path / ("d" * (length - socket_path - 1))
    client = opened(directory)

    client.start_session()

    assert len(f"{directory}/sock") == length
    assert client.ask(1, "tools/list")["result"]["tools"] == []
    end_daemon(directory)


@root
def test_a_directory_of_another_user_is_refused(tmp_path):
    foreign = tmp_path / "foreign"
    foreign.mkdir(mode=0o700)
    os.chown(foreign, 12345, 12345)
    (tmp_path / "link").symlink_to(foreign)

    for directory in (foreign, tmp_path / "link"):
        with pytest.raises(errors.Denied, match="belongs to another user"):
            bridge.own(str(directory), "staying", "")


@root
def test_a_link_that_another_user_made_is_refused(tmp_path):
    (tmp_path / "mine").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    os.chown(tmp_path / "link", 12345, 12345, follow_symlinks=False)

    with pytest.raises(errors.Denied, match="belongs to another user"):
        bridge.own(str(tmp_path / "link"), "staying", "")


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_a_directory_that_others_may_write_is_refused(tmp_path, mode):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(mode)

    with pytest.raises(errors.Denied, match="chmod 700"):
        bridge.connect(str(tmp_path / "open"), "", STAND_IN)


def test_a_directory_that_others_may_read_is_closed_to_them(state, opened):
    state.mkdir(mode=0o755)

    opened().start_session()

    assert stat.S_IMODE(state.stat().st_mode) == 0o700


def test_only_one_process_owns_a_directory(state):
    lock, listener = bridge.own(str(state), "staying", "/etc/a.toml")

    with pytest.raises(BlockingIOError):
        bridge.own(str(state), "staying", "")

    listener.close()
    os.close(lock)
    lock, listener = bridge.own(str(state), "staying", "")
    listener.close()
    os.close(lock)
    (state / "lock").unlink()


@root
def test_a_server_of_another_user_is_not_spoken_to(state):
    lock, listener = bridge.own(str(state), "staying", "")
    listener.close()
    code = (
        "import os,socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); os.seteuid(12345)\n"
        "s.listen(); print('listens', flush=True); c,_=s.accept(); print(c.recv(10))"
    )
    os.unlink(state / "sock")
    fake = subprocess.Popen(
        [sys.executable, "-c", code, str(state / "sock")], stdout=subprocess.PIPE, text=True
    )
    assert fake.stdout is not None and fake.stdout.readline() == "listens\n"

    with pytest.raises(errors.Denied, match="runs as uid 12345"):
        bridge.connect(str(state), "", STAND_IN)

    assert fake.communicate(timeout=5)[0] == "b''\n"
    os.close(lock)
    (state / "lock").unlink()


def test_a_network_file_system_is_told_from_a_local_one(tmp_path):
    mounts = tmp_path / "mountinfo"
    (tmp_path / "a b" / "state").mkdir(parents=True)
    escaped = str(tmp_path / "a b").replace(" ", "\\040")
    mounts.write_text(
        "21 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n"
        f"30 21 0:40 / {escaped} rw shared:9 master:2 - nfs4 server:/export rw\n"
        f"31 21 0:41 / {escaped}/state/deep rw - tmpfs tmpfs rw\n"
    )

    kinds = [
        bridge.network_file_system(str(tmp_path / name), str(mounts))
        for name in ("", "a b", "a b/state", "a b/state/deep", "a bc", "a b/new/one")
    ]

    assert kinds == ["", "nfs4", "nfs4", "", "", "nfs4"]


def read_only(path):
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(path)], check=True)


@root
def test_a_home_that_cannot_be_written_is_served_in_memory_and_said(tmp_path, opened):
    home = tmp_path / "home"
    read_only(home)
    try:
        with pytest.raises(bridge.Unwritable, match="store. path moves it"):
            bridge.own(f"{home}/.local/state/watchman", "staying", "")
        code = (
            "import os,sys; from watchman_mcp import bridge\n"
            "bridge.DAEMON = ('/bin/echo', 'started')\n"
            "raise SystemExit(bridge.main())"
        )
        ran = subprocess.run(
            [sys.executable, "-I", "-c", code],
            env={"HOME": str(home)},
            capture_output=True,
            text=True,
            timeout=20,
        )
    finally:
        subprocess.run(["umount", str(home)], check=True)

    assert ran.stdout.startswith("started --stdio --memory --config")
    assert "Read-only file system" in ran.stderr and "in memory" in ran.stderr


def test_the_whole_command_answers_each_request_with_the_reason_when_a_configuration_file_is_broken(
    tmp_path, opened
):
    (tmp_path / "config.toml").write_text("[store\n")
    client = opened(argv=MAIN, env={"HOME": str(tmp_path), "WATCHMAN_CONFIG": str(tmp_path / "config.toml")})

    texts = [client.ask(number, "initialize")["error"]["message"] for number in (1, 2)]

    assert all(f"{tmp_path}/config.toml cannot be read" in text and "\n" not in text for text in texts)
    assert client.finish() == 0
    assert client.errors.count(b"cannot be read") == 2


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "HOME/.local/state/watchman"),
        ("[store]\npath = '~/kept'", "HOME/kept"),
        ("[store]\npath = '/srv/watchman/'", "/srv/watchman"),
    ],
)
def test_the_state_is_kept_where_the_file_says(tmp_path, monkeypatch, text, where):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "/elsewhere")
    (tmp_path / "config.toml").write_text(text)

    assert bridge.state_directory(str(tmp_path / "config.toml")) == where.replace("HOME", str(tmp_path))
    assert bridge.state_directory("") == f"{tmp_path}/.local/state/watchman"


@pytest.mark.parametrize("text", ["[store", "[store]\npath = 'relative'", "[store]\npath = 7", "\xff"])
def test_a_file_that_names_no_place_is_one_line_of_error(tmp_path, text):
    (tmp_path / "config.toml").write_bytes(text.encode("latin-1"))

    with pytest.raises(errors.Broken) as raised:
        bridge.state_directory(str(tmp_path / "config.toml"))

    assert str(tmp_path / "config.toml") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_named_file_counts_before_the_homes(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WATCHMAN_CONFIG", raising=False)
    usual = tmp_path / ".config/watchman/config.toml"
    usual.parent.mkdir(parents=True)
    usual.touch()
    found = bridge.config_path()
    monkeypatch.setenv("WATCHMAN_CONFIG", "~/mine.toml")

    assert (found, bridge.config_path()) == (str(usual), f"{tmp_path}/mine.toml")


@pytest.mark.parametrize("home", [None, "", "relative"])
def test_without_a_home_in_the_environment_the_user_database_says_it(monkeypatch, home):
    monkeypatch.delenv("HOME")
    if home is not None:
        monkeypatch.setenv("HOME", home)

    assert bridge.state_directory("") == pwd.getpwuid(os.getuid()).pw_dir + "/.local/state/watchman"


def test_versions_sort_as_they_are_released():
    code = (
        "import sys, watchman_mcp; watchman_mcp.__version__ = sys.argv[1]\n"
        "from watchman_mcp.bridge import VERSION; print(*VERSION)"
    )
    names = [
        "0.1.0",
        "0.2.0.dev3",
        "0.2.0a1",
        "0.2.0b1",
        "0.2.0rc1",
        "0.2.0rc2",
        "0.2.0+local",
        "0.2.0.post1",
        "0.10",
        "1.0",
    ]

    numbers = [
        tuple(map(int, subprocess.check_output([sys.executable, "-I", "-c", code, name], text=True).split()))
        for name in names
    ]

    assert numbers == sorted(set(numbers))


def test_one_question_is_asked_without_a_session(state):
    heard = []

    answer = bridge.ask(str(state), "", "progressing", {}, heard.append, progress_token="t", command=STAND_IN)

    assert answer["meta"]["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"
    assert [message["params"]["progressToken"] for message in heard] == ["t"]


def test_a_question_that_fails_raises_what_it_is(state):
    with pytest.raises(errors.NotFound, match="no nonsense"):
        bridge.ask(str(state), "", "nonsense", {}, command=STAND_IN)
    with pytest.raises(errors.Broken, match="ended during"):
        bridge.ask(str(state), "", "die", {}, command=STAND_IN)
    with pytest.raises(errors.Broken, match="did not answer slow"):
        bridge.ask(str(state), "", "slow", {"seconds": 30}, timeout=0.2, command=STAND_IN)


def test_a_notification_or_a_reply_starts_no_daemon(state, opened):
    client = opened()
    client.start_session()
    end_daemon(state)

    client.send({"method": "notifications/roots/list_changed"}, {"id": 1, "result": {}})
    client.send({"method": "notifications/cancelled", "params": {"requestId": 4}})

    assert client.finish() == 0
    assert len((state / "starts").read_text().split()) == 1


def test_a_request_that_the_client_cancelled_does_not_hold_the_end_and_gets_no_error(state, opened):
    client = opened()
    client.send({"id": 1, "method": "slow", "params": {"seconds": 60}})
    client.send({"method": "notifications/cancelled", "params": {"requestId": 1}})
    client.ask(2, "tools/list")

    assert client.finish(seconds=3) == 0
    assert client.answers(1) == []


def test_without_a_stdout_nothing_is_written_into_a_file_that_has_its_number(tmp_path):
    state = tmp_path / ".local/state/watchman"
    bridge.connect(str(state), "", STAND_IN).close()
    line = '{"jsonrpc":"2.0","id":1,"method":"tools/list"}\n'

    ran = subprocess.run(
        ["sh", "-c", '"$@" >&-', "sh", *MAIN], input=line, text=True, env={"HOME": str(tmp_path)}, timeout=20
    )

    assert ran.returncode == 0
    assert "jsonrpc" not in "".join(file.read_text() for file in state.iterdir() if file.is_file())
    end_daemon(state)


def test_a_bridge_needs_little_to_start():
    code = "import sys; import watchman_mcp.bridge; print(*sys.modules)"

    loaded = subprocess.check_output(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            code.replace(
                "import sys;",
                f"import sys; sys.path.insert(0, {str(Path(bridge.__file__).parents[2])!r});",
            ),
        ],
        text=True,
    ).split()

    assert not {
        "asyncio",
        "typing",
        "argparse",
        "logging",
        "subprocess",
        "dataclasses",
        "pathlib",
        "tomllib",
    } & set(loaded)
    assert not [
        name
        for name in loaded
        if name.startswith("watchman_mcp.")
        and not name.startswith("watchman_mcp.bridge")
        and name != "watchman_mcp.errors"
    ]
