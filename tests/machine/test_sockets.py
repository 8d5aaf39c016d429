"""Sockets as the kernel tells them, by both of its ways, and who holds them."""

import os
import socket
import sys
from pathlib import Path

import pytest

from watchman_mcp.machine.cgroups import container_of, is_manager, numbered, unit_of
from watchman_mcp.machine.sockets import Inet, Unix, diag, holders, name_of, tables
from watchman_mcp.machine.sockets.survey import Ports, Survey, read_ports

HEAD = b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
LISTENS = (
    b"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000    33        0 4711 1 0\n"
)
WAITS = b"   1: 0100007F:1F90 0100007F:9999 06 00000000:00000000 03:00001771 00000000     0        0 0 3 0\n"
UNIX_HEAD = b"Num       RefCount Protocol Flags    Type St Inode Path\n"
ID = "0123456789abcdef" * 4


def little(value: bytes) -> bytes:
    """The words of an address as a kernel of this byte order prints them."""
    if sys.byteorder == "little":
        return value
    words = [value[at : at + 8] for at in range(0, len(value), 8)]
    return b"".join(bytes.fromhex(word.decode())[::-1].hex().upper().encode() for word in words)


def test_a_listening_socket_is_read_from_its_line_and_a_waiting_one_is_passed_over() -> None:
    table = (HEAD + LISTENS + WAITS).replace(b"0100007F", little(b"0100007F"))

    assert list(tables.inet("tcp", table)) == [
        Inet("tcp", ("ipv4",), "127.0.0.1", 8080, "0.0.0.0", 0, 10, 0, 33, 4711)
    ]


@pytest.mark.parametrize(
    ("words", "address", "families"),
    [
        (b"0" * 32, "::", None),
        (b"00000000000000000000000001000000", "::1", ("ipv6",)),
        (b"0000000000000000FFFF00000100007F", "127.0.0.1", ("ipv4",)),
        (b"000080FE00000000FFAE0016FE6F66FE", "fe80::1600:aeff:fe66:6ffe", ("ipv6",)),
    ],
)
def test_an_address_of_ipv6_is_written_as_people_do(
    words: bytes, address: str, families: tuple[str, ...] | None
) -> None:
    table = HEAD + LISTENS.replace(b"0100007F", little(words)).replace(
        b"00000000:0000 ", b"0" * 32 + b":0000 "
    )

    (found,) = tables.inet("tcp", table)

    assert found is not None
    assert (found.address, found.families) == (address, families)


def test_lines_that_are_not_understood_are_counted() -> None:
    odd = [
        b"garbage",
        LISTENS[:40],
        LISTENS.replace(b"0100007F:1F90", b"0100007F1F90"),
        LISTENS.replace(b":1F90", b":XXXX"),
        LISTENS.replace(b"4711", b"-"),
        LISTENS.replace(b"4711", b"-4711"),
        LISTENS.replace(b"4711", b"9" * 20),
        LISTENS.replace(b"   33 ", b"  -33 "),
        LISTENS.replace(b"   33 ", b" " + b"3" * 20 + b" "),
        LISTENS.replace(b":1F90", b":-F90"),
        LISTENS.replace(b" 0A ", b" A\xff "),
    ]

    assert list(tables.inet("tcp", HEAD + b"\n".join(line.strip() for line in odd))) == [None] * len(odd)
    assert list(tables.inet("tcp", HEAD)) == []
    assert list(tables.inet("tcp", b"")) == []


def test_unix_sockets_that_listen_are_read_with_any_name() -> None:
    rows = [
        b"0000000000000000: 00000002 00000000 00010000 0001 01  4711 /run/a b\xff",
        b"0000000000000000: 00000002 00000000 00010000 0001 01 12345 @zero@byte",
        b"0000000000000000: 00000003 00000000 00000000 0001 03  4712 /run/connected",
        b"0000000000000000: 00000002 00000000 00010000 0005 01  4713",
        b"left over of a name with a line break",
    ]

    assert list(tables.unix(UNIX_HEAD + b"\n".join(rows) + b"\n")) == [
        Unix("/run/a b\udcff", None, 4711),
        Unix("@zero@byte", None, 12345),
        None,
    ]


def test_a_unix_socket_is_in_use_once_somebody_is_connected_or_waits() -> None:
    listening = b"00000000d3d462bb: 00000002 00000000 00010000 0001 01 1889306 /run/a b"
    waiting = b"000000000d40cc27: 00000003 00000000 00000000 0001 02     0 /run/a b"
    connected = b"000000000d40cc27: 00000003 00000000 00000000 0001 03 1889309 /run/a b"
    other = connected.replace(b"/run", b"/srv")

    used = [
        tables.in_use(UNIX_HEAD + b"\n".join([listening, *more]) + b"\n", b"/run/a b")
        for more in ((), (waiting,), (connected,), (other,), (connected + b" c",))
    ]

    assert used == [False, True, True, False, False]


def test_a_path_is_never_taken_for_an_abstract_name() -> None:
    assert name_of(b"\0x\0y") == "@x@y"
    assert name_of(b"@x\0") == "./@x"


def test_both_ways_of_asking_the_kernel_agree(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as v4,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as v6,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as local,
        socket.create_connection(v4.getsockname()) as client,
    ):
        udp.bind(("127.0.0.1", 0))
        local.bind(f"{tmp_path}/socket")
        local.listen()
        ends = client.getsockname()[1], client.getpeername()[1]
        inodes = {os.fstat(one.fileno()).st_ino for one in (v4, v6, udp, local, client)}

        asked, read = diag.read(), tables.read("/proc/thread-self/net")

    def ours(found: list[Inet]) -> set[Inet]:
        return {one._replace(group=0) for one in found if one.inode in inodes}  # only the one way tells it

    assert ours(asked.listening) == ours(read.listening)
    assert ours(asked.connected) == ours(read.connected)
    assert ends in [(one.port, one.peer_port) for one in ours(asked.connected)]
    assert {one.path for one in asked.unix if one.inode in inodes} == {f"{tmp_path}/socket"}
    assert {one.path for one in read.unix if one.inode in inodes} == {f"{tmp_path}/socket"}
    assert read.unreadable == 0


def test_a_line_break_in_a_name_forges_no_socket_where_the_kernel_is_asked() -> None:
    forged = "0000000000000000: 00000002 00000000 00010000 0001 01 1 /run/forged"
    with socket.socket(socket.AF_UNIX) as local:
        local.bind(f"\0x\n{forged}")
        local.listen()

        asked = {one.path for one in diag.read().unix}

    assert f"@x\n{forged}" in asked
    assert "/run/forged" not in asked


def test_the_holder_of_a_socket_is_this_process() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        inode = os.fstat(server.fileno()).st_ino

        found = holders.find({inode}).of([inode])

    assert found is not None
    assert (found.pid, found.uid) == (os.getpid(), os.geteuid())


def test_a_name_with_brackets_is_read_whole_and_a_cut_one_is_completed(tmp_path: Path) -> None:
    rest = " S 1 7 7 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0"
    (tmp_path / "cgroup").write_text("0::/system.slice/web.service\n")
    (tmp_path / "status").write_text("Name:\tx\nUid:\t1000\t33\t1000\t1000\n")
    (tmp_path / "stat").write_bytes(b"7 (a) (b\xff)" + rest.encode())

    odd = holders.describe(str(tmp_path))
    (tmp_path / "stat").write_text(f"7 (systemd-resolve){rest}")
    (tmp_path / "exe").symlink_to("/usr/lib/systemd/systemd-resolved (deleted)")
    cut = holders.describe(str(tmp_path))

    assert odd == holders.Process(7, 4242, "a) (b\udcff", 33, "web.service", None, False)
    assert cut.name == "systemd-resolved"


def test_a_port_that_the_kernel_may_have_chosen_is_told_by_its_settings() -> None:
    ports = read_ports("32768\t60999\n", "40000,50000-50010\n")

    assert [ports.given(port) for port in (32767, 32768, 60999, 61000)] == [False, True, True, False]
    assert [ports.given(port) for port in (39999, 40000, 50000, 50010, 50011)] == [
        True,
        False,
        False,
        False,
        True,
    ]
    with pytest.raises(ValueError, match="not enough"):
        read_ports("1", "")


def test_a_socket_of_a_client_is_told_from_one_that_asked_for_its_port() -> None:
    def udp(port: int, family: str = "ipv4", inode: int = 1) -> Inet:
        return Inet("udp", (family,), "0.0.0.0", port, "0.0.0.0", 0, 7, 0, 0, inode)

    sockets = diag.Sockets([udp(40000), udp(53), udp(51820), udp(51820, "ipv6", 2)])
    survey = Survey(sockets, Ports())

    assert [survey.passing(one) for one in sockets.listening] == [True, False, False, False]


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/nginx.service\n", "nginx.service"),
        ("0::/system.slice/system-getty.slice/getty@tty1.service\n", "getty@tty1.service"),
        ("0::/user.slice/user-1000.slice/user@1000.service/app.slice/a.service\n", "user@1000.service"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", "session-3.scope"),
        ("0::/init.scope\n", "init.scope"),
        ("0::/system.slice/_tasks.service\n", "tasks.service"),
        ("0::/\n", None),
        ("0::/kubepods/besteffort/pod1/" + ID + "\n", None),
        ("4:memory:/other\n1:name=systemd:/system.slice/a:b.service\n0::/x\n", "a:b.service"),
        ("", None),
        ("garbage", None),
    ],
)
def test_the_unit_of_a_process_is_the_one_that_systemd_would_name(text: str, unit: str | None) -> None:
    assert unit_of(text) == unit


@pytest.mark.parametrize(
    "path",
    [
        f"/system.slice/docker-{ID}.scope",
        f"/docker/{ID}",
        f"/docker/{ID}/docker/{'f' * 64}",
        f"/machine.slice/libpod-{ID}.scope/container",
        f"/user.slice/user-1.slice/user@1.service/user.slice/libpod-{ID}.scope/container",
        f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope",
        f"/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope",
        f"/kubepods/burstable/pod1/{ID}",
        f"/system.slice/nerdctl-{ID}.scope",
        f"/kubepods-burstable-pod1_2.slice:cri-containerd:{ID}",
        f"/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}",
        f"/../{ID}",
    ],
)
def test_the_container_of_a_process_is_told_by_its_group(path: str) -> None:
    assert container_of(f"0::{path}\n") == ID
    assert container_of(f"9:memory:{path}\n0::/\n") == ID


@pytest.mark.parametrize(
    "path",
    [
        "/lxc/web",
        "/lxc/web/ns/system.slice/nginx.service",
        "/lxc.payload/web/init.scope",
        "/lxc.payload.web",
        f"/lxc.payload.web/system.slice/docker-{ID}.scope",
        "/user.slice/user-1000.slice/session-2.scope/lxc/web/lxc/inner",
    ],
)
def test_a_container_of_lxc_is_told_by_its_name(path: str) -> None:
    assert container_of(f"0::{path}\n") == "web"
    assert container_of(f"1:name=systemd:{path}\n0::/\n") == "web"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/lxc",
        "/lxc.payload.",
        "/lxc.monitor.web",
        "/lxc.monitor/101",
        "/system.slice/docker.service",
        f"/machine.slice/libpod-conmon-{ID}.scope",
        f"/x/{ID}0",
    ],
)
def test_what_is_no_container_is_not_taken_for_one(path: str) -> None:
    assert container_of(f"0::{path}\n") is None


def test_groups_are_found_by_their_numbers(tmp_path: Path) -> None:
    deep = tmp_path / "system.slice" / "web.service"
    deep.mkdir(parents=True)
    (tmp_path / "system.slice" / "loop").symlink_to(tmp_path)
    assert numbered({deep.stat().st_ino}, (str(tmp_path),)) == {}  # no control groups there
    (tmp_path / "cgroup.controllers").touch()

    found = numbered({deep.stat().st_ino, 1 << 60}, ("/missing", str(tmp_path)))

    assert found == {deep.stat().st_ino: "0::/system.slice/web.service\n"}
    assert unit_of(*found.values()) == "web.service"


def test_managers_are_told_from_what_they_run() -> None:
    assert is_manager("0::/init.scope\n")
    assert is_manager("0::/user.slice/user-1000.slice/user@1000.service/init.scope\n")
    assert not is_manager("0::/system.slice/nginx.service\n")
