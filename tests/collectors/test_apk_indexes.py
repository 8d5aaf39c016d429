"""Indexes and file lists of apk, as its database.c, repoparser.c and app_version.c have them."""

import gzip
import io
import tarfile
from hashlib import sha1, sha256
from pathlib import Path

from tests.collectors.test_cases import graph, look_at, plant
from watchman_mcp.collectors import load
from watchman_mcp.machine import Machine
from watchman_mcp.machine.apk_indexes import Repository, read_repositories
from watchman_mcp.machine.commands import Commands
from watchman_mcp.machine.files import Files
from watchman_mcp.ownership import Owners

INSTALLED = "/lib/apk/db/installed"
MAIN = "https://user:secret@dl.example.org/alpine/v3.20/main"
EDGE = "https://dl.example.org/alpine/edge/main"


def index(*packages: tuple[str, str]) -> bytes:
    """An index as apk writes it: a signature, then the index, each packed by itself."""
    text = "".join(f"C:Q1x=\nP:{name}\nV:{version}\nA:x86_64\n\n" for name, version in packages)
    return packed(".SIGN.RSA.key", b"signature", end=False) + packed("APKINDEX", text.encode())


def packed(name: str, content: bytes, *, end: bool = True) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        member = tarfile.TarInfo(name)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
        size = tar.offset
    return gzip.compress(held.getvalue() if end else held.getvalue()[:size])


def installed(*packages: str) -> str:
    return "".join(f"{package}\n\n" for package in packages)


def test_newer_versions_are_counted_as_apk_version_counts_them(tmp_path: Path) -> None:
    local = "/srv/packages"
    plant(
        tmp_path,
        {
            INSTALLED: installed(
                "P:app\nV:1.2_rc1-r0\nA:x86_64",
                "P:same\nV:1.0-r1",
                "P:older\nV:2.0-r0",
                "P:pinned\nV:1.0-r0\ns:edge",
                "P:unpinned\nV:1.0-r0",
                "P:own\nV:1.0-r0",
                "P:gone\nV:1.0-r0",
            ),
            "/etc/apk/arch": "x86_64\n",
            "/etc/apk/repositories": f"{MAIN}\n@edge {EDGE}\n#{MAIN}/x\n{local}\nhttps://never.example.org/x\n"
            "v3 https://three.example.org/main\n",
            "/var/cache/apk/": "",
            f"{local}/x86_64/": "",
        },
    )
    cache = tmp_path / "var/cache/apk"
    first = sha1(MAIN.encode()).hexdigest()[:8]
    main = index(("app", "1.2-r0"), ("app", "1.1-r9"), ("same", "1.0-r1"), ("older", "1.9-r0"))
    (cache / f"APKINDEX.{first}.tar.gz").write_bytes(main)
    second = sha256(f"{EDGE}/x86_64/APKINDEX.tar.gz".encode()).hexdigest()[:8]
    edge = index(("pinned", "1.1-r0"), ("unpinned", "1.1-r0"), ("older", "9-r0"))
    (cache / f"APKINDEX.{second}.tar.gz").write_bytes(edge)
    (cache / "APKINDEX.00000000.tar.gz").write_bytes(index(("gone", "9-r0")))
    (tmp_path / f"{local}/x86_64/APKINDEX.tar.gz".lstrip("/")).write_bytes(index(("own", "1.0-r1")))

    found = graph("apk", look_at(tmp_path, "apk"))

    newer = {
        node["name"]: (node["available"], node["available_from"])
        for node in found["nodes"]
        if "available" in node
    }
    assert newer == {
        "app": ("1.2-r0", "https://dl.example.org/alpine/v3.20/main"),
        "pinned": ("1.1-r0", EDGE),
        "own": ("1.0-r1", local),
    }
    assert [node["label"] for node in found["nodes"]].count("PackageIndex") == 1
    assert found["unobserved"] == ["apk:updates"]


def test_an_index_that_is_damaged_is_said_and_no_update_is_told(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            INSTALLED: installed("P:app\nV:1.0-r0\nA:x86_64"),
            "/etc/apk/repositories": "/a\n/b\n",
            "/b/x86_64/APKINDEX.tar.gz": "damaged",
        },
    )
    (tmp_path / "a/x86_64").mkdir(parents=True)
    (tmp_path / "a/x86_64/APKINDEX.tar.gz").write_bytes(index(("app", "2.0-r0")))

    found = graph("apk", look_at(tmp_path, "apk"))

    assert not any("available" in node for node in found["nodes"])
    assert found["unobserved"] == ["apk:/var/cache/apk/APKINDEX"]


def test_repositories_are_read_as_apk_reads_them() -> None:
    text = (
        "# test data\nhttp://example.com/edge/main\n@tag http://example.com/edge/testing/\nset x=y\n"
        "ndx http://example.com/repo/Packages.adb\nv2 http://example.com/ main community\n"
        "v3 @tag http://example.com/testing\nhttp://${host}/main\nhttp://example.com/one/APKINDEX.tar.gz\n@tag\n"
    )

    found = list(read_repositories(text, "riscv64"))

    def indexed(url: str, tag: str = "") -> Repository:
        return Repository(url, tag, f"{url.rstrip('/')}/riscv64/APKINDEX.tar.gz")

    assert found == [
        indexed("http://example.com/edge/main"),
        indexed("http://example.com/edge/testing/", "tag"),
        Repository("http://example.com/repo/Packages.adb", "", ""),
        indexed("http://example.com/main"),
        indexed("http://example.com/community"),
        Repository("http://example.com/testing", "tag", ""),
        Repository("http://${host}/main", "", ""),
        Repository(*["http://example.com/one/APKINDEX.tar.gz", "", "http://example.com/one/APKINDEX.tar.gz"]),
    ]


def test_a_file_belongs_to_the_package_that_lists_it(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            INSTALLED: installed(
                "P:One\nV:1\nF:\nR:top\nF:bin\nR:busybox\na:0:0:755\nZ:Q1x=\nF:etc/init.d\nR:one\nF:etc\nR:one.conf",
                "P:two\nV:1\nT:x\nF:etc/two\nR:a b\nP:not a field\nF:usr/bin\nR:busybox",
            )
        },
    )
    (collector,) = (one for one in load() if one.name == "apk")
    owners = Owners(Machine(Files(tmp_path), Commands(), tmp_path), [collector])

    found = {
        path: [one.key for one in owners(path).owners.get("apk", [])]
        for path in ("/top", "/bin/busybox", "/etc/two/a b", "/etc/init.d/one", "/busybox", "/etc/none")
    }
    edges = graph("apk", look_at(tmp_path, "apk"))["edges"]

    assert found == {
        "/top": ["one"],
        "/bin/busybox": ["one", "two"],
        "/etc/two/a b": ["two"],
        "/etc/init.d/one": ["one"],
        "/busybox": [],
        "/etc/none": [],
    }
    assert edges == [
        "Software/apk/one// OWNS ConfigFile/%2Fetc%2Fone.conf",
        "Software/apk/two// OWNS ConfigFile/%2Fetc%2Ftwo%2Fa%20b",
    ]
