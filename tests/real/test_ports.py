"""What listens, beside the answers of ss, ip and systemd."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.clients import FULL, delay_until, watching
from tests.rigs.machine import Machine
from tests.rigs.sockets import LOOK, Scene, scene

pytestmark = pytest.mark.real
NOBODY = 65534
EVENTS = (
    "SELECT type, subject, fields, before, after FROM Event "
    "WHERE type LIKE 'port_%' AND subject LIKE 'tcp %' ORDER BY 1, 2 LIMIT 20"
)
MANY = """
held = []
def listen(family, kind, place, **options):
    one = socket(family, kind, options.get("number", 0))
    for level, name, value in options.get("set", ()):
        one.setsockopt(level, name, value)
    one.bind(place)
    if kind != SOCK_DGRAM:
        one.listen()
    held.append(one)
TCP, UDP = SOCK_STREAM, SOCK_DGRAM
ONLY, BOTH = (IPPROTO_IPV6, IPV6_V6ONLY, 1), (IPPROTO_IPV6, IPV6_V6ONLY, 0)
AGAIN = (SOL_SOCKET, SO_REUSEPORT, 1)
LO, ETH = ((SOL_SOCKET, SO_BINDTODEVICE, name) for name in (b"lo", b"eth7"))
link = lambda port: ("fe80::7", port, 0, if_nametoindex("eth7"))
listen(AF_INET, TCP, ("0.0.0.0", 80))
listen(AF_INET, TCP, ("127.0.0.1", 81))
listen(AF_INET, TCP, ("10.7.0.1", 82))
listen(AF_INET, TCP, ("0.0.0.0", 83), set=[ETH])
listen(AF_INET, TCP, ("0.0.0.0", 83), set=[LO])
listen(AF_INET, TCP, ("127.0.0.1", 84), number=262)
listen(AF_INET6, TCP, ("::", 90), set=[BOTH])
listen(AF_INET6, TCP, ("::", 91), set=[ONLY])
listen(AF_INET6, TCP, ("::1", 92))
listen(AF_INET6, TCP, link(93))
listen(AF_INET6, TCP, ("::ffff:127.0.0.1", 94))
listen(AF_INET, TCP, ("0.0.0.0", 95), set=[AGAIN])
listen(AF_INET, TCP, ("0.0.0.0", 95), set=[AGAIN])
listen(AF_INET, TCP, ("0.0.0.0", 0))
listen(AF_INET, UDP, ("0.0.0.0", 53))
listen(AF_INET, UDP, ("224.0.0.251", 5353))
listen(AF_INET6, UDP, ("::", 67))
listen(AF_INET6, UDP, link(68))
listen(AF_INET, UDP, ("0.0.0.0", 51820))
listen(AF_INET6, UDP, ("::", 51820), set=[ONLY])
listen(AF_UNIX, TCP, "/run/stream")
listen(AF_UNIX, SOCK_SEQPACKET, "/run/a b")
listen(AF_UNIX, TCP, b"/run/odd\\xff")
listen(AF_UNIX, TCP, "\\0name\\0d")
os.chdir("/run")
listen(AF_UNIX, TCP, "beside")
"""
SS = re.compile(r"users:\(\((.*)\)\)")
Row = tuple[str, str, str, frozenset[str]]


@pytest.fixture(scope="module")
def stage() -> Iterator[Scene]:
    with scene() as made:
        made.run("ip", "link", "add", "eth7", "type", "veth", "peer", "name", "eth8")
        made.run("ip", "address", "add", "10.7.0.1/24", "dev", "eth7")
        made.run("ip", "address", "add", "fe80::7/64", "dev", "eth7", "nodad")
        for name in ("eth7", "eth8"):
            made.run("ip", "link", "set", name, "up")
        yield made


def ss(stage: Scene, *options: str) -> list[list[str]]:
    """The columns that ss prints of each socket."""
    return [line.split() for line in stage.run("ss", "-H", "-n", "-p", *options).splitlines()]


def told_by_ss(stage: Scene) -> set[Row]:
    """Protocol, address, port or path, and processes of everything that ss says listens."""
    found: dict[tuple[str, str, str], set[str]] = {}
    for kind, state, _, _, local, *rest in ss(stage, "-l", "-t", "-u", "-x"):
        if kind.startswith("u_") and (state != "LISTEN" or local == "*"):
            continue
        users = SS.search(" ".join(rest))
        pids = re.findall(r"pid=(\d+)", users[1]) if users else []
        if kind.startswith("u_"):
            text = " ".join([local, *rest])
            path = re.match(r"(.*?) \d+ \* 0", text)
            assert path
            key = ("unix", path[1], "")
        else:
            address, _, port = local.rpartition(":")
            key = (kind, address, port)
        found.setdefault(key, set()).update(pids)
    return {(*key, frozenset(pids)) for key, pids in found.items()}


def as_ss(endpoint: dict[str, Any]) -> Row:
    """An endpoint of ours in the words of ss."""
    pids = frozenset([str(endpoint["pid"])] if endpoint["pid"] else [])
    if endpoint["protocol"] == "unix":
        return "unix", endpoint["path"], "", pids
    address = endpoint["address"]
    if address == "::" and endpoint["families"] == ["ipv4", "ipv6"]:
        address = "*"
    elif ":" in address:
        address = f"[{address}]"
    if endpoint["interface"]:
        address += f"%{endpoint['interface']}"
    return endpoint["protocol"], address, str(endpoint["port"]), pids


def test_everything_that_ss_shows_is_told_and_nothing_else(stage: Scene) -> None:
    with stage.playing(MANY) as pid:
        found = stage.look()
        real = told_by_ss(stage)
        opened = {socket for _, _, _, socket in real}

    ours = {as_ss(one) for one in found["NetworkEndpoint"]}
    mapped = ("tcp", "[::ffff:127.0.0.1]", "94", frozenset([str(pid)]))
    assert opened == {frozenset([str(pid)])}
    assert mapped in real
    assert ours == {*(real - {mapped}), ("tcp", "127.0.0.1", "94", frozenset([str(pid)]))}
    assert len(ours) == len(found["NetworkEndpoint"]) == 24
    assert found["unobserved"] == []
    assert {one["user"] for one in found["NetworkEndpoint"]} == {"root"}


def test_an_endpoint_belongs_to_the_oldest_of_the_processes_that_share_it(stage: Scene) -> None:
    code = """
one = socket(); one.bind(("127.0.0.1", 80)); one.listen()
for _ in range(3):
    if os.fork() == 0:
        os.close(1); sys.stdin.read(); os._exit(0)
"""
    with stage.playing(code) as pid:
        holders = next(pids for kind, _, port, pids in told_by_ss(stage) if (kind, port) == ("tcp", "80"))
        (endpoint,) = stage.look()["NetworkEndpoint"]

    assert len(holders) == 4
    assert endpoint["pid"] == pid


def test_a_client_s_socket_counts_after_a_minute_only(stage: Scene) -> None:
    code = "one = socket(AF_INET, SOCK_DGRAM); one.sendto(b'?', ('127.0.0.1', 9))"
    with stage.playing(code) as pid:
        first = stage.look()
        since = first["marks"]["passing"]
        again = stage.look(first["marks"])
        later = stage.look({"passing": {name: at - 61 for name, at in since.items()}})

    assert (first["NetworkEndpoint"], again["NetworkEndpoint"]) == ([], [])
    assert len(since) == 1 and again["marks"]["passing"] == since
    assert [one["pid"] for one in later["NetworkEndpoint"]] == [pid]
    assert stage.look(later["marks"])["marks"] == {"passing": {}}


def test_a_port_of_the_kernel_itself_has_no_process(stage: Scene) -> None:
    stage.run("ip", "link", "add", "vxlan7", "type", "vxlan", "id", "1", "dstport", "4789", "dev", "eth7")
    stage.run("ip", "link", "set", "vxlan7", "up")

    found = stage.look()
    real = told_by_ss(stage)
    stage.run("ip", "link", "delete", "vxlan7")

    assert {as_ss(one) for one in found["NetworkEndpoint"]} == real
    assert {(one["port"], one["process"]) for one in found["NetworkEndpoint"]} == {(4789, None)}
    assert found["unobserved"] == []


def test_other_namespaces_are_looked_into_and_named(stage: Scene) -> None:
    code = "one = socket(); one.bind(('0.0.0.0', 8080)); one.listen()"
    stage.run("ip", "netns", "add", "blue")
    try:
        with (
            stage.playing(code) as own,
            stage.playing(code, "ip", "netns", "exec", "blue") as named,
            stage.playing(code, "unshare", "--net") as nameless,
        ):
            number = stage.run("readlink", f"/proc/{nameless}/ns/net").strip()[5:-1]
            found = stage.look()
    finally:
        stage.run("ip", "netns", "delete", "blue")

    assert {(one["namespace"], one["pid"], one["scope"]) for one in found["NetworkEndpoint"]} == {
        (None, own, "ports"),
        ("blue", named, "ports:netns/blue"),
        (number, nameless, f"ports:netns/{number}"),
    }
    assert {one["families"][0] for one in found["NetworkEndpoint"]} == {"ipv4"}


def test_more_namespaces_than_are_looked_into_are_said(stage: Scene) -> None:
    code = """
for _ in range(66):
    if os.fork() == 0:
        os.close(1); libc.unshare(0x40000000); one = socket(); one.bind(("", 80)); one.listen()
        os.write(ready, b"."); sys.stdin.read(); os._exit(0)
got = 0
while got < 66: got += len(os.read(done, 66))
"""
    begin = "import ctypes; libc = ctypes.CDLL(None); done, ready = os.pipe()\n"
    with stage.playing(begin + code):
        found = stage.look()

    assert len(found["NetworkEndpoint"]) == 64
    assert found["unobserved"] == [["ports:netns", "there are 2 more network namespaces than are looked at"]]


def test_another_user_sees_every_port_and_says_whose_processes_it_may_not_see(stage: Scene) -> None:
    listening = "one = socket(); one.bind(('0.0.0.0', {})); one.listen()"
    with stage.playing(listening.format(80)), stage.playing(listening.format(8080), user=NOBODY) as pid:
        found = stage.look(user=NOBODY)

    seen = sorted(found["NetworkEndpoint"], key=lambda one: int(one["port"]))
    assert [(one["port"], one["pid"], one["user"]) for one in seen] == [
        (80, None, "root"),
        (8080, pid, "nobody"),
    ]
    assert [what for what, _ in found["unobserved"]] == ["ports:namespaces", "ports:processes"]
    assert all("may not be" in why for _, why in found["unobserved"])


def test_a_namespace_that_may_not_be_entered_is_read_from_outside_or_said(stage: Scene) -> None:
    code = """
ctypes.CDLL(None).unshare(0x50000000); ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
one = socket(AF_INET6); one.bind(("::", 8080)); one.listen()
"""
    stage.run("ip", "netns", "add", "blue")
    try:
        with stage.playing(code, user=NOBODY) as pid:
            number = stage.run("readlink", f"/proc/{pid}/ns/net").strip()[5:-1]
            found = stage.look(user=NOBODY)
            entered = stage.look()
    finally:
        stage.run("ip", "netns", "delete", "blue")

    (outside,), (inside,) = found["NetworkEndpoint"], entered["NetworkEndpoint"]
    assert (outside["namespace"], outside["port"], outside["pid"]) == (number, 8080, pid)
    known = {"families": inside["families"], "exposure": "blocked", "decided_by": inside["decided_by"]}
    assert {**outside, **known} == inside
    assert inside["families"] == ["ipv4", "ipv6"]
    assert (outside["families"], outside["exposure"]) == (None, "unknown")
    assert dict(found["unobserved"])[f"ports:netns/{number}/firewall"] == (
        f"the network namespace {number} may not be entered by uid {NOBODY}"
    )
    assert dict(found["unobserved"])["ports:netns/blue"] == (
        f"the network namespace blue may not be entered by uid {NOBODY}"
    )


def test_connections_are_counted_as_ss_lists_them(stage: Scene) -> None:
    server = """
one = socket(AF_INET6); one.bind(("::", 80)); one.listen()
def meet(address, count, local=None):
    for _ in range(count):
        held.append(create_connection((address, 80), source_address=local)); held.append(one.accept()[0])
held = []
meet("127.0.0.1", 3); meet("::1", 2); meet("10.7.0.1", 1, ("10.7.0.1", 0))
"""
    with stage.playing(server):
        found = stage.look()
        listed = ss(stage, "-t", "state", "established")

    ends = [(row[2].rpartition(":"), row[3].rpartition(":")) for row in listed]
    inward = Counter(peer[0].strip("[]").removeprefix("::ffff:") for local, peer in ends if local[2] == "80")
    outward = Counter(peer[0].strip("[]") for _, peer in ends if peer[2] == "80")
    samples = found["ConnectionMetrics"]
    assert {one["peer"]: one["count"] for one in samples if one["direction"] == "in"} == inward
    assert {one["peer"]: one["count"] for one in samples if one["direction"] == "out"} == outward
    assert sum(inward.values()) == sum(outward.values()) == 6
    assert {(one["protocol"], one["port"]) for one in samples} == {("tcp", 80)}
    assert [one["connections"] for one in found["NetworkEndpoint"]] == [6]


@pytest.mark.soak
def test_the_work_of_a_look_grows_with_what_there_is_and_no_faster(stage: Scene) -> None:
    code = """
import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (5000, 5000))
held = []
for port in range(10000, 10000 + {sockets}):
    held.append(socket()); held[-1].bind(("127.0.0.1", port)); held[-1].listen(1)
for _ in range({processes}):
    if os.fork() == 0:
        os.closerange(3, 5000); sys.stdin.read(); os._exit(0)
"""
    calls, seconds = {}, {}
    unit = 250 if FULL else 30
    for size in (1, 2, 4):
        with stage.playing(code.format(sockets=unit * size, processes=2 * unit * size)):
            look = stage.look(counted=True)
            seconds[size] = stage.look()["seconds"]
        assert len(look["NetworkEndpoint"]) == unit * size
        calls[size] = look["calls"]
    print(f"a look takes {seconds} s of the processor and {calls} calls, for {unit} sockets and more")
    first, second = calls[2] - calls[1], calls[4] - calls[2]
    assert 0 < second < 2.1 * first


def test_a_service_listens_where_systemd_says(
    machine: Machine, watchman_on_machine: str, tmp_path: Path
) -> None:
    machine.write("/etc/nginx/sites-enabled/default", "server { listen 127.0.0.1:8088; }\n")
    machine.write(
        "/etc/systemd/system/rig-net.service",
        "[Service]\nExecStart=/usr/bin/python3 -m http.server 8089\nUser=nobody\n",
    )
    machine.write("/etc/systemd/system/rig-given.socket", "[Socket]\nListenStream=8090\nAccept=no\n")
    machine.write(
        "/etc/systemd/system/rig-given.service", "[Service]\nType=exec\nExecStart=/bin/sleep 1000\n"
    )
    machine.run(["systemctl", "daemon-reload"])
    machine.run(["systemctl", "restart", "rig-net.service", "rig-given.socket"])
    # to stop it first would take as long as its connections do
    machine.run(["systemctl", "reload-or-restart", "nginx.service"])
    ready = "ss -H -ltn 'sport = 8089' | grep 8089"
    delay_until(lambda: machine.run(["sh", "-c", ready], check=False).stdout, 15, "the server")
    query = (
        "SELECT s.name, e.port, e.process, e.user, e.unit FROM NetworkEndpoint e LEFT JOIN edges l "
        "ON l.end = e.id AND l.type = 'LISTENS_ON' AND l.gone_at IS NULL "
        "LEFT JOIN Service s ON s.id = l.start "
        "WHERE e.gone_at IS NULL AND e.port BETWEEN 8088 AND 8090 ORDER BY e.port LIMIT 10"
    )
    with watching(machine, watchman_on_machine, f"/root/{tmp_path.name}") as watchman:
        client = watchman.client()

        def told() -> list[list[Any]]:
            return client.call("query_graph", query=query)["items"]

        delay_until(lambda: len(told()) == 3 and told()[0][0], 15, "endpoints of services")
        rows = told()
        machine.run(["systemctl", "start", "rig-given.service"])
        client.call("scan", area="ports")
        given = told()[2]
        machine.run(["systemctl", "stop", "rig-net.service", "rig-given.socket", "rig-given.service"])
        client.call("scan", area="ports")
        left = told()
        events = client.call("query_graph", query=EVENTS)["items"]
        ours = client.call(
            "query_graph", query="SELECT pid, unit FROM NetworkEndpoint WHERE pid > 0 LIMIT 100"
        )
        units = {
            pid: machine.run(["ps", "--no-headers", "-o", "unit", "-p", str(pid)], check=False).stdout.strip()
            for pid, _ in ours["items"]
        }

    assert rows == [
        ["nginx", 8088, "nginx", "root", "nginx.service"],
        ["rig-net", 8089, "python3", "nobody", "rig-net.service"],
        [None, 8090, "systemd", "root", "init.scope"],
    ]
    assert given == ["rig-given", 8090, "sleep", "root", "rig-given.service"]
    assert [row[1] for row in left] == [8088]
    # who can reach a port is no matter of systemd's, and may be told of in between
    given_away = [port for _, port, fields, *_ in events if fields and "unit" in fields]
    closed = [port for kind, port, *_ in events if kind == "port_closed"]
    assert (given_away, closed) == (["tcp 8090"], ["tcp 8089", "tcp 8090"]), events
    running = {(pid, unit or "-") for pid, unit in ours["items"] if units[pid]}
    assert len(running) > 3 and running == {(pid, units[pid]) for pid, _ in running}


def test_another_user_learns_the_units_of_ports_from_the_kernel(
    machine: Machine, watchman_on_machine: str
) -> None:
    python = str(Path(watchman_on_machine).with_name("python"))
    machine.run(["systemctl", "start", "ssh.service"])

    printed = machine.run([python, "-c", LOOK, "{}", "0"], user="user").stdout

    found = json.loads(printed)
    ssh = [one for one in found["NetworkEndpoint"] if one["port"] == 22]
    assert {(one["unit"], one["process"], one["user"]) for one in ssh} == {("ssh.service", None, "root")}
    assert {end for start, _, end in found["edges"] if start == "Service/systemd/ssh"} == {
        f"NetworkEndpoint//tcp/{address}/22//" for address in ("0.0.0.0", "%3A%3A")
    }
    assert "ports:processes" in [what for what, _ in found["unobserved"]]
