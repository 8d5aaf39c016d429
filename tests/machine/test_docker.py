"""What engines that are odd, slow or refusing tell, over real sockets."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from watchman_mcp.errors import Broken
from watchman_mcp.machine import docker
from watchman_mcp.machine.containers import Containers
from watchman_mcp.machine.docker import Container, Published, ask, read_containers

ID = "ab" * 32
WEB = {
    "Id": ID,
    "Names": ["/other/alias", "/web"],
    "Ports": [
        {"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8099, "Type": "tcp"},
        {"IP": "", "PrivatePort": 81, "PublicPort": 81, "Type": "udp"},
        {"PrivatePort": 82, "Type": "tcp"},
    ],
    "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": ""}}},
}
TOLD = Container(
    ID,
    "web",
    ("172.17.0.2",),
    (Published("tcp", "0.0.0.0", 8099, 80), Published("udp", "0.0.0.0", 81, 81)),
)


@contextmanager
def answering(place: Path, answer: bytes, *, slowly: bool = False) -> Iterator[str]:
    """A socket whose other side sends this to whoever asks; slowly, a byte now and then for ever."""
    path = str(place / "engine.sock")
    over = threading.Event()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def serve() -> None:
            while not over.is_set():
                try:
                    one, _ = listening.accept()
                except OSError:
                    return
                with one:
                    one.recv(4096)
                    try:
                        one.sendall(answer)
                        while slowly and not over.wait(0.05):
                            one.sendall(b"x")
                    except OSError:
                        continue

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield path
        finally:
            over.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def said(body: bytes, status: str = "200 OK") -> bytes:
    return f"HTTP/1.0 {status}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def test_containers_are_read_with_their_own_name_and_what_they_publish(tmp_path: Path) -> None:
    with answering(tmp_path, said(json.dumps([WEB]).encode())) as path:
        told = ask((path, str(tmp_path / "none"), path))

    assert (told.containers, told.refused, told.unreadable) == ([TOLD], {}, 0)


@pytest.mark.parametrize(
    "part",
    [
        7,
        {},
        {**WEB, "Id": "x"},
        {**WEB, "Names": ["/a\nb"]},
        {**WEB, "Ports": [{"PublicPort": 70_000, "PrivatePort": 1, "Type": "tcp"}]},
        {**WEB, "Ports": [{"PublicPort": True, "PrivatePort": 1, "Type": "tcp"}]},
        {**WEB, "Ports": [{"IP": "all", "PublicPort": 1, "PrivatePort": 1, "Type": "tcp"}]},
        {**WEB, "Ports": ["x"]},
    ],
)
def test_what_cannot_be_understood_is_counted(part: object) -> None:
    found, unreadable = read_containers(json.dumps([WEB, part]).encode())

    assert found[0] == TOLD
    assert unreadable == 1


@pytest.mark.parametrize("text", [b"", b"{}", b"[", b"[" * 100_000])
def test_an_answer_that_is_no_list_is_broken(text: bytes) -> None:
    with pytest.raises(Broken):
        read_containers(text)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (said(b"[]", "500 No"), "answers with 500"),
        (b"nonsense\r\n\r\n", "not well"),
        (b"", "not well"),
        (said(b"{}"), "no list"),
        (said(b" " * 4000), "longer than 2000"),
    ],
)
def test_an_odd_engine_is_said_to_be(
    tmp_path: Path, answer: bytes, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "CAP", 2000)
    with answering(tmp_path, answer) as path:
        told = ask((path,))

    assert told.containers == []
    assert why in told.refused[path]


def test_an_engine_that_never_ends_its_answer_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker, "SECONDS", 0.3)
    with answering(tmp_path, b"HTTP/1.0 200 OK\r\n\r\n[", slowly=True) as path:
        told = ask((path,))

    assert list(told.refused) == [path]


def test_a_socket_that_nobody_listens_on_is_no_engine(tmp_path: Path) -> None:
    path = str(tmp_path / "left.sock")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(path)

    assert os.path.exists(path)
    assert ask((path,)) == docker.Told()


def test_a_name_is_kept_while_the_engine_does_not_answer_and_goes_with_its_container(tmp_path: Path) -> None:
    marks: dict[str, object] = {}
    with answering(tmp_path, said(json.dumps([WEB]).encode())) as path:
        assert Containers(marks, (path,)).name(ID) == "web"
        os.unlink(path)
    kept = dict(marks)

    assert Containers(marks, ()).name(ID) == "web"
    assert Containers(marks, ()).name("cd" * 32) == "cd" * 6
    assert Containers(marks, ()).name("web-server-of-lxc") == "web-server-of-lxc"
    assert kept == {"containers": {ID: "web"}}
    assert marks == {}
