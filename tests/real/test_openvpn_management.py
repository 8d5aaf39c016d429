"""What OpenVPN tells at its management socket, beside what it says by hand, and when it is left alone."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.rigs import cache
from tests.rigs.looking import look
from tests.rigs.networks import Side, joined, wait_for
from tests.rigs.openvpn import Certificates

pytestmark = pytest.mark.real
LIKE = {
    "unix": "management unix.sock unix\nmanagement-hold\nmanagement-query-passwords\n",
    "port": "management 127.0.0.1 7505\n",
    "locked": "management locked.sock unix password\n",
    "reconnects": "management reconnects.sock unix\nmanagement-signal\n",
    "asks": "management asks.sock unix\nmanagement-client-auth\n",
}
"""Servers, by what each is told of its management socket."""
PORTS = {name: number for number, name in enumerate(LIKE, 21)}


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Side, Side]]:
    """Servers on one side, and a client of two of them on the other; none of them writes a status file."""
    cache.need_programs("tunnels", "openvpn", "openssl", how="as root: apt-get install openvpn openssl")
    if not Path("/dev/net/tun").exists():
        cache.missing("/dev/net/tun", "as root: modprobe tun")
    certificates = Certificates(tmp_path_factory.mktemp("certificates"))
    with joined() as (here, there):
        (here.folder / "password").write_text("hunter2\n")
        for name, more in LIKE.items():
            certificates.serve(here, name, PORTS[name], more)
        for name in ("unix", "port"):
            certificates.connect(there, name, here, PORTS[name], f"management {name}.sock unix\n")
        for name in LIKE:
            if name != "port":
                wait_for(lambda name=name: (here.folder / f"{name}.sock").exists(), 30, name)
        with talking(here.folder / "unix.sock") as ask:
            ask("hold release", "SUCCESS")
        for name in ("unix", "port"):
            wait_for(lambda name=name: "CONNECTED" in said(there.folder / f"{name}.sock"), 30, name)
        yield here, there


@contextmanager
def talking(place: Path) -> Iterator[Callable[[str, str], str]]:
    """Somebody else who is connected to a management socket, and asks it until a line begins like this."""
    with ExitStack() as stack:
        link = stack.enter_context(socket.socket(socket.AF_UNIX))
        link.settimeout(20)
        link.connect(str(place))
        lines = stack.enter_context(link.makefile("rw", newline=""))
        assert lines.readline().startswith(">INFO:OpenVPN Management Interface Version")

        def ask(command: str, end: str = "END") -> str:
            lines.write(f"{command}\n")
            lines.flush()
            told = []
            while not (line := lines.readline()).startswith(end):
                assert line, f"hung up after {told}"
                told.append(line)
            return "".join(told)

        yield ask


def said(place: Path) -> str:
    """What a process says of its state to who asks by hand."""
    with talking(place) as ask:
        return ask("state")


def tunnels(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for node in found["nodes"] if node["type"] == "openvpn"]


def test_the_clients_of_servers_without_status_files_are_those_that_they_tell(
    sides: tuple[Side, Side],
) -> None:
    here, there = sides

    found = look(here.enter, "vpn")

    with talking(here.folder / "unix.sock") as ask:
        rows = [line.split("\t") for line in ask("status 3").splitlines()]
    [row] = [row for row in rows if row[0] == "CLIENT_LIST"]
    told = {tunnel["interface"]: tunnel for tunnel in tunnels(found)}
    assert told.keys() == {f"ov{PORTS[name]}" for name in ("unix", "port")}
    one = told[f"ov{PORTS['unix']}"]
    assert [one["peer"], one["peer_endpoint"], one["allowed_ips"]] == [row[1], row[2], [row[3]]]
    assert one["peer_endpoint"].startswith(f"{there.address}:")
    assert {tunnel["status"] for tunnel in told.values()} == {"active"}
    assert one["connected_at"] and one["last_handshake"]
    assert 0 < one["received_bytes"] <= int(row[5])
    assert set(found["unobserved"].values()) == {
        f"cannot be told: its clients of ov{PORTS[name]}: its management socket {why}"
        for name, why in (
            ("asks", "is not asked, since that acts on an OpenVPN with --management-client-auth"),
            ("locked", "wants a password and is not asked"),
            ("reconnects", "is not asked, since that acts on an OpenVPN with --management-signal"),
        )
    }
    assert "hunter2" not in json.dumps(found)


def test_a_client_is_connected_since_the_moment_that_it_tells(sides: tuple[Side, Side]) -> None:
    here, there = sides

    found = look(there.enter, "vpn")

    assert found["unobserved"] == {}
    told = {tunnel["peer"]: tunnel for tunnel in tunnels(found)}
    assert told.keys() == {f"{here.address}:{1190 + PORTS[name]}" for name in ("unix", "port")}
    for name in ("unix", "port"):
        [state] = [line.split(",") for line in said(there.folder / f"{name}.sock").splitlines()]
        tunnel = told[f"{here.address}:{1190 + PORTS[name]}"]
        assert (state[1], tunnel["status"]) == ("CONNECTED", "active")
        assert datetime.fromisoformat(tunnel["connected_at"]).timestamp() == int(state[0])
        assert tunnel["received_bytes"] > 0 and tunnel["sent_bytes"] > 0


def test_a_socket_at_which_another_program_is_is_left_to_it(sides: tuple[Side, Side]) -> None:
    here, there = sides
    place = there.folder / "unix.sock"
    hold = f"import socket, time; s = socket.socket(1); s.connect('{place}'); s.recv(9); time.sleep(60)"
    other = there.start(sys.executable, "-c", hold)
    wait_for(lambda: b" 03 " in b"".join(lines_of(there, b" unix.sock\n")))
    found = [look(there.enter, "vpn")]
    other.terminate()
    # a program in another network namespace is not seen, but its presence is felt
    with talking(place) as ask:
        found.append(look(there.enter, "vpn"))
        assert "CONNECTED" in ask("state")  # it was not thrown out

    whys = [set(one["unobserved"].values()) for one in found]
    about = r"cannot be told: its state of tun\d: "
    assert re.fullmatch(about + f"another program holds its management socket {place}", *whys[0])
    assert re.fullmatch(
        about + "its management socket gives no answer within 2 s; another program .*", *whys[1]
    )
    for one in found:
        assert {tunnel["status"] for tunnel in tunnels(one)} == {"active"}
        assert sum(tunnel["connected_at"] is None for tunnel in tunnels(one)) == 1
    # and nobody is left waiting at it
    assert "CONNECTED" in said(place)


def lines_of(side: Side, end: bytes) -> list[bytes]:
    """The lines of the namespace's table of unix sockets that end like this."""
    return [
        line
        for line in side.run("cat", "/proc/net/unix").encode().splitlines(keepends=True)
        if line.endswith(end)
    ]


def test_a_client_that_lost_its_server_is_down_though_its_interface_stays(
    sides: tuple[Side, Side], tmp_path_factory: pytest.TempPathFactory
) -> None:
    here, there = sides
    certificates = Certificates(tmp_path_factory.mktemp("others"))
    more = "management lost.sock unix\npersist-tun\n"
    server = certificates.serve(here, "lost", 29, "explicit-exit-notify 1\n")
    client = certificates.connect(there, "lost", here, 29, more)
    wait_for(lambda: (there.folder / "lost.sock").exists(), 30, "a socket")
    wait_for(lambda: "CONNECTED" in said(there.folder / "lost.sock"), 30, "a connection")
    server.terminate()
    server.wait(10)
    wait_for(lambda: "CONNECTED" not in said(there.folder / "lost.sock"), 30, "its end")

    [lost] = [one for one in tunnels(look(there.enter, "vpn")) if one["peer"].endswith(":1219")]
    devices = {one["ifname"] for one in json.loads(there.run("ip", "-j", "link", "show", "type", "tun"))}
    client.terminate()

    assert (lost["status"], lost["connected_at"]) == ("down", None)
    assert lost["interface"] in devices


def test_a_process_that_waits_for_its_release_is_asked_and_not_released(
    sides: tuple[Side, Side], tmp_path_factory: pytest.TempPathFactory
) -> None:
    here, there = sides
    certificates = Certificates(tmp_path_factory.mktemp("held"))
    more = "management held.sock unix\nmanagement-hold\nverb 3\nlog held.log\n"
    client = certificates.connect(there, "held", here, 30, more)
    wait_for(lambda: (there.folder / "held.sock").exists(), 30, "a socket")

    found = look(there.enter, "vpn")

    [held] = [one for one in tunnels(found) if one["peer"].endswith(":1220")]
    assert (held["status"], held["connected_at"], found["unobserved"]) == ("down", None, {})
    log = (there.folder / "held.log").read_text()
    assert [
        line.partition("MANAGEMENT: CMD ")[2] for line in log.splitlines() if "MANAGEMENT: CMD" in line
    ] == [
        "'state'",
        "'status 3'",
        "'quit'",
    ]
    assert log.rstrip().endswith("MANAGEMENT: Client disconnected")
    client.terminate()


def test_only_a_socket_at_which_the_process_itself_listens_is_asked(sides: tuple[Side, Side]) -> None:
    here = sides[0]
    place = here.folder / "other.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(place))
        other.listen()
        other.settimeout(0)
        program = here.folder / "openvpn"
        program.write_text("#!/bin/sh\nsleep 60\n")
        program.chmod(0o755)
        fake = here.start(str(program), "--dev", "none", "--management", str(place), "unix")
        wait_for(lambda: Path(f"/proc/{fake.pid}/comm").read_text() == "openvpn\n")

        found = look(here.enter, "vpn")

        with pytest.raises(BlockingIOError):
            other.accept()
        fake.terminate()
    assert (
        f"it does not listen at {place}, which its options name"
        in found["unobserved"][f"vpn:openvpn:{fake.pid}"]
    )
