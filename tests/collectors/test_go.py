"""Programs that Go built, made by hand after the headers that its linker writes, and hostile ones."""

import struct
import time
from pathlib import Path

from tests.collectors.test_cases import look_at, plant
from watchman_mcp.collectors import Look, go
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.go_programs import MAGIC, Build, bin_directories, read_build
from watchman_mcp.schema.packages import Software

FETCHED = "path\texample.org/tool/cmd/tool\nmod\texample.org/tool\tv1.2.3\th1:abc=\nbuild\tGOARCH=amd64\n"
BUILT = "path\texample.org/mine\nmod\texample.org/mine\t(devel)\t\ndep\texample.org/other\tv1.0.0\th1:x=\n"


def counted(text: bytes) -> bytes:
    """A text after its length, seven bits a byte."""
    length, head = len(text), b""
    while length >= 0x80:
        head, length = head + bytes([length & 0x7F | 0x80]), length >> 7
    return head + bytes([length]) + text


def block(text: str, go_version: str = "go1.22.1") -> bytes:
    """The block that Go writes since 1.18."""
    framed = b"0" * 16 + text.encode() + b"1" * 16
    return MAGIC + b"\x08\x02" + bytes(16) + counted(go_version.encode()) + counted(framed)


def elf(content: bytes, *, named: bool = True) -> bytes:
    """A program of one writable segment, with a section for the block or without."""
    base, at = 0x500000, 0x1000
    names = b"\0.go.buildinfo\0"
    segment = struct.pack("<IIQQQQQQ", 1, 6, at, base, base, len(content), len(content) + 64, 0x1000)
    sections = struct.pack("<IIQQQQIIQQ", 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    sections += struct.pack("<IIQQQQIIQQ", 1, 1, 3, base, at, len(content), 0, 0, 16, 0)
    names_at = at + len(content)
    sections += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, names_at, len(names), 0, 0, 1, 0)
    count = 3 if named else 0
    sections_at = names_at + len(names)
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, base, 64, sections_at, 0, 64, 56, 1, 64, count, 2
    )  # fmt: skip
    return (head + segment).ljust(at, b"\0") + content + names + sections


def program(root: Path, path: str, content: bytes) -> Path:
    place = root / path.lstrip("/")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content)
    place.chmod(0o755)
    return place


def read(root: Path, content: bytes) -> Build | None:
    program(root, "/tool", content)
    with Files(root).stream("/tool") as stream:
        return read_build(stream, "/tool")


def found(look: Look) -> list[Software]:
    return list(go.collect(look))


def test_a_program_says_what_it_was_built_from(tmp_path: Path) -> None:
    expected = Build("go1.22.1", "example.org/tool/cmd/tool", "example.org/tool", "v1.2.3", True, "amd64")

    assert read(tmp_path, elf(block(FETCHED))) == expected
    assert read(tmp_path, elf(b"data before " * 8 + block(FETCHED), named=False)) == expected
    assert read(tmp_path, elf(bytes(8) + block(FETCHED))) is None  # it begins at a multiple of sixteen


def test_a_large_text_of_dependencies_is_read_to_its_end(tmp_path: Path) -> None:
    needs = "".join(f"dep\texample.org/dependency{n}\tv1.0.0\th1:abc=\n" for n in range(5_000))

    build = read(tmp_path, elf(block(FETCHED + needs + "build\tGOARCH=arm64\n")))

    assert build is not None
    assert build.architecture == "arm64"


def test_in_shared_directories_only_fetched_modules_count(tmp_path: Path) -> None:
    for directory in ("/root/go/bin", "/usr/local/bin"):
        program(tmp_path, f"{directory}/fetched", elf(block(FETCHED)))
        program(tmp_path, f"{directory}/built", elf(block(BUILT)))
        program(
            tmp_path,
            f"{directory}/of-gopath",
            elf(block("path\texample.org/old/tool\nbuild\tGOARCH=arm64\n")),
        )
        program(tmp_path, f"{directory}/script", b"#!/bin/sh\n")
        program(tmp_path, f"{directory}/other", elf(b"not of Go"))
        program(tmp_path, f"{directory}/go", elf(block("path\tcmd/go\nbuild\tGOARCH=amd64\n")))
        program(tmp_path, f"{directory}/not-executable", elf(block(FETCHED))).chmod(0o644)
    look = look_at(tmp_path, "go")

    programs = {one.location: (one.key, one.name, one.version, one.source_package) for one in found(look)}

    fetched = ("example.org/tool/cmd/tool", "fetched", "v1.2.3", "example.org/tool")
    assert programs == {
        "/root/go/bin/built": ("example.org/mine", "built", "(devel)", "example.org/mine"),
        "/root/go/bin/fetched": fetched,
        "/root/go/bin/of-gopath": ("example.org/old/tool", "of-gopath", None, None),
        "/usr/local/bin/fetched": fetched,
    }
    assert look.seen == {f"go:{path}" for path in programs}
    assert look.unobserved == []


def test_managers_of_go_s_versions_have_a_directory_of_programs_for_each(tmp_path: Path) -> None:
    homes = ("go/1.21.0/bin", ".asdf/installs/golang/1.21.0/bin", ".local/share/mise/installs/go/1.21.0/bin")
    places = {program(tmp_path, f"/root/{home}/tool", elf(block(FETCHED))) for home in homes}

    assert {one.location for one in found(look_at(tmp_path, "go"))} == {
        f"/{place.relative_to(tmp_path)}" for place in places
    }


def test_a_directory_that_a_person_set_is_go_s_own(tmp_path: Path) -> None:
    plant(tmp_path, {"/root/.config/go/env": "GOBIN=/srv/tools\nGOPATH=/srv/path:/srv/other\nGOPROXY=off\n"})
    for directory in ("/srv/tools", "/srv/other/bin", "/srv/path/src"):
        program(tmp_path, f"{directory}/mine", elf(block(BUILT)))

    assert {one.location for one in found(look_at(tmp_path, "go"))} == {
        "/srv/tools/mine",
        "/srv/other/bin/mine",
    }


def test_more_programs_than_are_read_are_said(tmp_path: Path) -> None:
    for number in range(go.PROGRAMS + 1):
        program(tmp_path, f"/root/go/bin/p{number:05}", b"")
    look = look_at(tmp_path, "go")

    assert found(look) == []
    assert [hidden.what for hidden in look.unobserved] == ["go:/root/go/bin"]


def test_settings_that_lead_elsewhere_are_left_alone() -> None:
    text = 'GOBIN=relative\nGOPATH="$HOME/p:$X/q"\nGOBIN\n=\nGOPATH=/a/../b\n'

    assert bin_directories(text, "/home/ana") == ["/home/ana/p/bin", "/b/bin"]


def test_a_header_that_promises_too_much_costs_little(tmp_path: Path) -> None:
    content = bytearray(elf(block(FETCHED)))
    struct.pack_into("<QQ", content, 64 + 32, 2**63, 2**63)  # the segment's sizes
    struct.pack_into("<H", content, 56, 0xFFFF)
    struct.pack_into("<H", content, 60, 0xFFFF)
    begun = time.process_time()

    read(tmp_path, bytes(content))

    assert time.process_time() - begun < 2
