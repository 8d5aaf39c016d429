import dataclasses
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from watchman_mcp.errors import Absent, Broken, Denied, InvalidRequest
from watchman_mcp.machine import Machine
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Entry, Files

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    root = tmp_path / "root"
    root.mkdir()
    return Files(root)


def put(files: Files, path: str, content: bytes = b"") -> Path:
    real = files.root / path.lstrip("/")
    real.parent.mkdir(parents=True, exist_ok=True)
    real.write_bytes(content)
    return real


def link(files: Files, path: str, target: str, uid: int = 0) -> None:
    real = files.root / path.lstrip("/")
    real.parent.mkdir(parents=True, exist_ok=True)
    real.symlink_to(target)
    if os.geteuid() == 0:
        os.lchown(real, uid, -1)


def test_a_file_is_read_as_it_is(files: Files) -> None:
    put(files, "/var/lib/dpkg/status", b"Package: a\r\n\xff\n")

    assert files.read("/var/lib/dpkg/status") == b"Package: a\r\n\xff\n"
    assert files.text("/var/lib/dpkg/status") == "Package: a\r\n\udcff\n"
    assert files.head("/var/lib/dpkg/status", 4) == b"Pack"
    assert files.head("/var/lib/dpkg/status", 400) == b"Package: a\r\n\xff\n"


def test_a_file_larger_than_the_cap_is_refused_whole(files: Files) -> None:
    put(files, "/big", b"x" * 1001)

    assert len(files.read("/big", cap=1001)) == 1001
    with pytest.raises(Broken, match="cap of 1000 bytes"):
        files.read("/big", cap=1000)


def test_kernel_files_without_a_size_are_read_to_their_end() -> None:
    assert Files().text("/proc/self/stat").startswith(str(os.getpid()))


def test_what_is_not_there_is_absent_and_names_the_path(files: Files) -> None:
    put(files, "/etc/passwd")

    for path in ("/etc/none", "/none/none", "/etc/passwd/none", "/etc/passwd/..", "/etc/passwd/../passwd"):
        with pytest.raises(Absent, match=path):
            files.read(path)
        assert not files.exists(path)
    assert files.exists("/etc/passwd")
    with pytest.raises(Absent, match="not a directory"):
        files.entries("/etc/passwd")


def test_hostile_paths_are_broken_or_absent_and_their_message_is_plain(files: Files) -> None:
    for path in ("/a\0b", "/\ud800", "/" + "n" * 300, "/\x1b[2J\udcff\u202e"):
        with pytest.raises((Broken, Absent)) as caught:
            files.read(path)
        assert str(caught.value).isprintable()
        str(caught.value).encode()


def test_a_directory_is_no_file_and_a_too_deep_path_ends(files: Files) -> None:
    (files.root / "d").mkdir()

    with pytest.raises(Broken, match="is a directory"):
        files.read("/d")
    deep = files.root
    for _ in range(300):
        deep = deep / "a"
    os.makedirs(deep)
    with pytest.raises(Broken, match="/a/a"):
        files.stat("/a" * 300)


@pytest.mark.parametrize("opener", ["files", "directory"])
def test_fifos_sockets_and_devices_are_refused_at_once(files: Files, opener: str) -> None:
    os.mkfifo(files.root / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(files.root)  # the path of a socket is short
        listener.bind("socket")
        os.chdir(here)
        began = time.monotonic()

        for name in ("fifo", "socket"):
            with pytest.raises(Broken, match=name):
                read_by(opener, files, "/", name)
        with pytest.raises(Broken, match="zero is a device"):
            read_by(opener, Files(), "/dev", "zero")

    assert time.monotonic() - began < 20
    assert [entry.kind for entry in files.entries("/")] == ["other", "other"]


def read_by(opener: str, files: Files, directory: str, name: str) -> bytes:
    if opener == "files":
        return files.read(f"{directory}/{name}")
    with files.directory(directory) as handle:
        return handle.read(name)


def test_links_of_root_are_followed_inside_the_root(files: Files) -> None:
    put(files, "/data/real", b"here")
    put(files, "/data/deep/other", b"there")
    link(files, "/etc/absolute", "/data/real")
    link(files, "/etc/relative", "../data/real")
    link(files, "/etc/climber", "../../../../../../data/real")
    link(files, "/etc/directory", "/data/deep")
    link(files, "/etc/chain", "absolute")
    link(files, "/etc/dangling", "/etc/nothing")

    for name in ("absolute", "relative", "climber", "chain", "directory/../real"):
        assert files.read(f"/etc/{name}") == b"here"
        assert files.stat(f"/etc/{name}").kind == "file"
    assert files.read("/etc/directory/other") == b"there"
    assert files.target("/etc/chain") == "absolute"
    assert not files.exists("/etc/dangling")
    assert files.exists("/../../etc/chain")
    with pytest.raises(Broken, match="not a link"):
        files.target("/data/real")
    with files.directory("/etc") as etc:
        assert etc.read("relative") == b"here"
        with etc.directory("directory") as deep:
            assert deep.text("other") == "there"


def test_no_path_and_no_link_leaves_the_root(files: Files, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"outside")
    link(files, "/up", "../secret")
    link(files, "/out", str(tmp_path / "secret"))
    link(files, "/far", "../../../../../../../../../../../../../../etc")

    for path in ("/up", "/out", "/../secret", "/far/passwd"):
        with pytest.raises(Absent):
            files.read(path)


def test_circles_of_links_end(files: Files) -> None:
    link(files, "/one", "two")
    link(files, "/two", "one")
    for number in range(41):
        link(files, f"/chain{number}", f"chain{number + 1}")
    put(files, "/chain41", b"end")

    with pytest.raises(Broken, match="/one cannot be read"):
        files.read("/one")
    with pytest.raises(Broken):
        files.read("/chain0")
    assert files.read("/chain1") == b"end"


@needs_root
def test_links_of_other_users_are_refused_wherever_they_stand(files: Files) -> None:
    put(files, "/etc/shadow", b"secret")
    link(files, "/home/u/METADATA", "/etc/shadow", uid=1234)
    link(files, "/home/u/site", "/etc", uid=1234)
    link(files, "/srv/shortcut", "/home/u/site")

    for path in ("/home/u/METADATA", "/home/u/site/shadow", "/srv/shortcut/shadow"):
        with pytest.raises(Denied, match=r"/home/u/\w+ is a link made by uid 1234"):
            files.read(path)
        with pytest.raises(Denied):
            files.exists(path)
    with files.directory("/home/u") as home:
        with pytest.raises(Denied, match="METADATA"):
            home.read("METADATA")
        with pytest.raises(Denied, match="site"), home.directory("site"):
            pass
    assert [entry.kind for entry in files.entries("/home/u")] == ["link", "link"]


def test_children_of_a_directory_are_single_names(files: Files) -> None:
    put(files, "/d/file", b"x")

    with files.directory("/d") as directory:
        for name in ("", ".", "..", "../d/file", "/d/file"):
            with pytest.raises(InvalidRequest, match="not one name"):
                directory.read(name)
        with pytest.raises(Absent, match="/d/none"):
            directory.read("none")
        with pytest.raises(Broken):
            directory.read("a\0b")
        with pytest.raises(Absent), directory.directory("file"):
            pass
        with pytest.raises(Broken, match="cap of 0"):
            directory.text("file", cap=0)


def test_entries_are_sorted_and_complete(files: Files) -> None:
    put(files, "/d/b", b"12345")
    (files.root / "d/c").mkdir()
    link(files, "/d/a", "nowhere")
    Path(os.fsdecode(os.fsencode(files.root) + b"/d/\xff\xfe")).write_bytes(b"")
    os.utime(files.root / "d/b", (1, 1.5))

    entries = files.entries("/d")

    status = os.stat(files.root / "d/b")
    assert [entry.name for entry in entries] == ["a", "b", "c", "\udcff\udcfe"]
    assert [entry.kind for entry in entries] == ["link", "file", "directory", "file"]
    assert entries[1] == Entry(
        "b", "file", 5, 1.5, os.geteuid(), status.st_mode, status.st_ino, status.st_dev
    )
    assert files.stat("/d/b") == entries[1]
    with files.directory("/d") as directory:
        assert directory.read(entries[3].name) == b""
    with pytest.raises(Broken, match="more than 3 names"):
        files.entries("/d", limit=3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        entries[0].size = 1  # type: ignore[misc]


def test_listing_many_files_is_quick(files: Files) -> None:
    for number in range(700):
        put(files, f"/info/p{number:03}.list")

    fastest = min(timed(lambda: files.entries("/info")) for _ in range(5))

    assert len(files.entries("/info")) == 700
    assert fastest < 0.05


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def test_a_directory_swapped_with_a_link_never_shows_what_is_outside(files: Files, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_bytes(b"secret")
    put(files, "/home/d/file", b"mine")
    link(files, "/home/trap", str(outside), uid=1234)
    home = files.root / "home"
    done = threading.Event()

    def swap() -> None:
        while not done.is_set():
            os.rename(home / "d", home / "kept")
            os.rename(home / "trap", home / "d")
            os.rename(home / "d", home / "trap")
            os.rename(home / "kept", home / "d")

    seen: set[object] = set()
    swapper = threading.Thread(target=swap)
    swapper.start()
    try:
        end = time.monotonic() + 5
        while time.monotonic() < end and len(seen) < 3:
            for read in (
                lambda: files.read("/home/d/file"),
                lambda: read_by("directory", files, "/home/d", "file"),
            ):
                try:
                    seen.add(read())
                except (Absent, Denied, Broken) as error:
                    seen.add(type(error))
    finally:
        done.set()
        swapper.join()

    assert b"secret" not in seen
    assert b"mine" in seen
    assert seen & {Absent, Denied}


def test_no_descriptor_is_left_open(files: Files) -> None:
    put(files, "/d/file", b"x")
    os.mkfifo(files.root / "d/fifo")
    link(files, "/d/loop", "loop")
    before = len(os.listdir("/proc/self/fd"))

    for path in ("/d/file", "/d/fifo", "/d/loop", "/d/none", "/d"):
        for action in (files.read, files.exists, files.stat, files.entries, files.target):
            try:
                action(path)
            except (Absent, Broken):
                continue

    assert len(os.listdir("/proc/self/fd")) == before


@needs_root
def test_what_this_user_may_not_read_is_denied(files: Files, as_nobody: Callable[[Path, str], str]) -> None:
    put(files, "/secret", b"x").chmod(0o600)
    put(files, "/closed/file", b"x")
    put(files, "/listed/file", b"x")
    (files.root / "listed/sub").mkdir()
    (files.root / "closed").chmod(0o700)
    (files.root / "listed").chmod(0o744)

    said = as_nobody(
        files.root,
        """
files = Files(Path("."))
print(attempt(lambda: files.read("/secret")))
print(attempt(lambda: files.exists("/closed/file")))
print(attempt(lambda: files.entries("/closed")))
print(attempt(lambda: [(entry.name, entry.kind, entry.uid) for entry in files.entries("/listed")]))
""",
    )

    denied = "Denied: {} may not be read by uid 65534; run Watchman as a user who may"
    assert said.splitlines() == [
        denied.format("/secret"),
        denied.format("/closed/file"),
        denied.format("/closed"),
        "[('file', 'file', -1), ('sub', 'directory', -1)]",
    ]


@needs_root
def test_an_unprivileged_daemon_follows_its_own_links_and_those_of_root(
    files: Files, as_nobody: Callable[[Path, str], str]
) -> None:
    put(files, "/real", b"here")
    link(files, "/own", "/real", uid=65534)
    link(files, "/roots", "/real")
    link(files, "/others", "/real", uid=1234)

    said = as_nobody(
        files.root,
        """
for path in ("/own", "/roots", "/others"):
    print(attempt(lambda: Files(Path(".")).text(path)))
""",
    )

    first, second, third = said.splitlines()
    assert (first, second) == ("here", "here")
    assert third.startswith("Denied: /others is a link made by uid 1234, which uid 65534 does not follow")


def test_only_the_running_machine_is_live(files: Files) -> None:
    assert Machine(Files(), Commands(), Path("/")).live
    assert not Machine(files, Commands(), files.root).live
