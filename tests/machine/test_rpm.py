"""rpm's database, versions and requirements as they are read with rpm and without it."""

import os
import random
import sqlite3
import struct
import subprocess
from contextlib import closing
from functools import cmp_to_key
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from univers.rpm import compare_rpm_versions

from tests.rigs.cache import need_programs
from tests.rigs.rpm import DATABASE, Rpm, header, header_of, pretend
from watchman_mcp.errors import Broken
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.rpm import Package, Relation, needs, read_query, wanted_files
from watchman_mcp.machine.rpm_database import read_sqlite
from watchman_mcp.machine.rpm_headers import read_files, read_package
from watchman_mcp.machine.rpm_sqlite import copied
from watchman_mcp.machine.versions.rpm import compare

FULL = os.environ.get("WATCHMAN_TEST_SOAK") == "full"
PARTS = st.text("0129abZ~^._+", min_size=1, max_size=8)
VERSIONS = st.builds("{}{}{}".format, st.sampled_from(["", "0:", "2:"]), PARTS, PARTS.map("-{}".format))


def wants(*required: str, packages: list[Package], owners: dict[str, list[tuple[str, str]]]) -> set[str]:
    """The versions of those of `packages` that a package with these requirements needs."""
    relations = [Relation(*one) for one in (parsed(text) for text in required)]
    asking = Package("asking", "1-1", "noarch", requires=relations)
    everything = [asking, *packages]
    return {f"{everything[b].name} {everything[b].version}" for a, b in needs(everything, owners) if a == 0}


def parsed(text: str) -> tuple[str, int, str]:
    words = [text] if text.startswith("(") else text.split()
    return (
        (words[0], sum({"<": 2, ">": 4, "=": 8}[one] for one in words[1]), words[2])
        if words[1:]
        else (text, 0, "")
    )


def provider(name: str, version: str, *provides: str) -> Package:
    own = [Relation(name, 8, version), *(Relation(*parsed(one)) for one in provides)]
    return Package(name, version, "noarch", provides=own)


@given(one=VERSIONS, other=VERSIONS)
def test_versions_are_sorted_as_a_kept_library_sorts_them(one: str, other: str) -> None:
    assert compare(one, other) == compare_rpm_versions(one, other)


def test_versions_are_sorted_as_rpm_documents_it() -> None:
    rising = ["1.a-1", "1.0~rc1-1", "1.0-1", "1.0^git1-1", "1.0.1-1", "1.1-1", "1.010-1", "1:0.1-1"]

    assert sorted(rising, key=cmp_to_key(compare)) == rising
    assert compare("1.0-1", "0:1.00-01") == compare("1_0-1", "1.0-1") == 0
    assert compare("1.0", "1.0-~1") == -1
    assert compare("9" * 5000 + "-1", "1" + "0" * 5000 + "-1") == -1


@pytest.mark.real
def test_versions_are_sorted_as_rpm_itself_sorts_50_000_pairs(tmp_path: Path) -> None:
    need_programs("rpm", "rpm", how="apt-get install rpm")
    chance = random.Random(5)
    pieces = ["0", "1", "2", "10", "00", "a", "b", "Z", "rc", "~", "^", ".", "_", "+", ":"]

    def version() -> str:
        part, release = ("".join(chance.choices(pieces, k=chance.randint(1, 6))) for _ in range(2))
        return (
            chance.choice(["", "", "0:", "1:", ":", "12:"]) + part + chance.choice(["", "-" + release, "-1"])
        )

    pairs = [(one := version(), chance.choice([one, one[:-1] + "~", version()])) for _ in range(50_000)]
    (tmp_path / "pairs").write_text("".join(f"{one} {other}\n" for one, other in pairs))
    script = (
        f'%{{lua: for line in io.lines("{tmp_path}/pairs") do local a, b = line:match("^(%S*) (%S*)$") '
        "local x, y = rpm.ver(a), rpm.ver(b) "
        'print(x < y and "-1\\n" or x == y and "0\\n" or "1\\n") end}'
    )

    told = subprocess.run(
        ["rpm", "--eval", script], check=True, capture_output=True, text=True, timeout=60
    ).stdout

    assert [compare(*pair) for pair in pairs] == [int(word) for word in told.split()]


def test_a_requirement_is_served_by_name_version_file_or_any_alternative() -> None:
    one, two = provider("lib", "1-1", "thing = 1"), provider("other", "2-1", "thing = 2", "extra")
    packages, owners = [one, two], {"/bin/tool": [("other", "noarch")]}

    def found(*required: str) -> set[str]:
        return wants(*required, packages=packages, owners=owners)

    assert found("lib") == found("thing = 1") == found("thing < 2") == {"lib 1-1"}
    assert found("thing >= 2", "/bin/tool") == {"other 2-1"}
    assert found("thing") == found("(lib or extra)") == {"lib 1-1", "other 2-1"}
    assert found("(lib >= 1 if extra)") == found("(lib and (absent or lib))") == {"lib 1-1"}
    assert found("(lib if absent else extra)") == {"lib 1-1", "other 2-1"}
    assert found("rpmlib(FileDigests) <= 4.6", "absent", "/bin/absent") == set()


def test_the_query_of_rpm_is_read_whatever_its_texts_hold() -> None:
    told = (
        "N 'odd' '2' '1.0' '1' 'noarch' 5 1024 'odd-1.0-1.src.rpm' 'it'\\''s\nN '\\''' 'm:s:1:c'\n"
        "P 'odd' 8 '2:1.0-1'\nP (none) (none) (none)\nR '/bin/sh' 0 ''\n"
        "N 'gpg-pubkey' (none) 'a' 'b' (none) 5 0 (none) 'key' (none)\nP 'gpg(a)' 8 '1'\n"
    )

    (package,) = read_query(told)

    assert package == Package(
        "odd", "2:1.0-1", "noarch", 5, 1024, "odd-1.0-1.src.rpm", "it's\nN '", "m:s",
        [Relation("odd", 8, "2:1.0-1")], [Relation("/bin/sh", 0, "")],
    )  # fmt: skip
    assert wanted_files([package]) == ["/bin/sh"]


@pytest.mark.parametrize("told", ["P 'a' 8 '1'\n", "N 'a'\n", "N 'a", "what\n", "N 'a' 'b" + "'\\''" * 9999])
def test_an_answer_that_is_cut_is_no_answer(told: str) -> None:
    with pytest.raises(Broken, match="rpm's answer"):
        read_query(told)


def test_a_header_tells_a_package_and_its_files(tmp_path: Path) -> None:
    rpm = Rpm(
        "app",
        "1:2.0-1",
        ("lib >= 1", "(a or b)"),
        ("thing",),
        files=("/usr/bin/app", "/etc/app\udcff"),
        source="s.rpm",
    )
    pretend(tmp_path, [rpm, Rpm("gpg-pubkey", "a-b"), Rpm("tool", "1-1", ("/usr/bin/app",))])

    packages, owners = read_sqlite(Files(tmp_path), DATABASE)

    assert [(one.name, one.version, one.arch, one.size, one.source) for one in packages] == [
        ("app", "1:2.0-1", "noarch", 1024, "s.rpm"),
        ("tool", "1-1", "noarch", 1024, None),
    ]
    assert packages[0].provides == [Relation("app", 8, "1:2.0-1"), Relation("thing", 0, "")]
    assert packages[0].requires == [Relation("lib", 12, "1"), Relation("(a or b)", 0, "")]
    assert owners == {"/usr/bin/app": [("app", "noarch")]}
    assert list(read_files(header_of(rpm))[1]) == ["/usr/bin/app", "/etc/app\udcff"]


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\0" * 8,
        struct.pack(">2I", 1 << 30, 0),
        header({1000: ["a"]})[:-1],
        struct.pack(">6I", 1, 1, 1000, 6, 9, 1) + b"a",
        struct.pack(">6I", 1, 1, 1000, 6, 0, 1) + b"a",
        struct.pack(">6I", 1, 1, 1000, 4, 0, 1) + b"a",
        struct.pack(">6I", 1, 1, 1000, 8, 0, 1 << 31) + b"\0",
        header({1000: ["a"], 1116: [7], 1117: ["x"], 1118: ["/"]}) + b"",
    ],
    ids=range(9),
)
def test_a_damaged_header_is_refused(blob: bytes) -> None:
    with pytest.raises(ValueError):
        read_package(blob)
        list(read_files(blob)[1])


def test_what_a_database_has_only_in_its_write_ahead_log_is_read_and_nothing_is_made_there(
    tmp_path: Path,
) -> None:
    path = tmp_path / "history.sqlite"
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        writer.execute("PRAGMA wal_autocheckpoint = 0")
        with writer:
            writer.execute("CREATE TABLE t (x)")
            writer.execute("INSERT INTO t VALUES (1)")
        for name in ("", "-wal"):
            (tmp_path / f"copy.sqlite{name}").write_bytes(Path(f"{path}{name}").read_bytes())

    with copied(Files(tmp_path), "/copy.sqlite") as connection:
        rows = list(connection.execute("SELECT x FROM t"))
        with pytest.raises(sqlite3.Error):
            connection.execute("INSERT INTO t VALUES (2)")

    assert rows == [(1,)]
    assert {one.name for one in tmp_path.glob("copy*")} == {"copy.sqlite", "copy.sqlite-wal"}


def test_a_database_that_asks_for_endless_work_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("watchman_mcp.machine.rpm_sqlite.SECONDS", 0.2)
    endless = (
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS hnum, x AS blob FROM n"
    )
    (tmp_path / "usr/lib/sysimage/rpm").mkdir(parents=True)
    with closing(sqlite3.connect(tmp_path / DATABASE.lstrip("/"))) as connection:
        connection.execute(f"CREATE VIEW Packages AS {endless}")

    with pytest.raises(Broken, match=r"rpmdb\.sqlite"):
        read_sqlite(Files(tmp_path), DATABASE)
