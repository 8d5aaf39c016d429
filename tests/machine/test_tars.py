"""Archives of every kind that tar makes are read as Python's own tarfile reads them, or refused."""

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from watchman_mcp.errors import Broken
from watchman_mcp.machine.files import Files
from watchman_mcp.machine.tars import members, opened

NAMES = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8", exclude_characters="\0/"), min_size=1, max_size=40),
        st.integers(101, 400).map(lambda size: "n" * size),
        st.integers(60, 150).map(lambda size: "d" * size + "/" + "n" * 90),
    ),
    max_size=6,
)


def archive(names: list[str], kind: int, packed: str = "") -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode=f"w:{packed}", format=kind) as tar:  # type: ignore[call-overload] # the mode is made here
        for number, name in enumerate(names):
            content = name.encode() * number * 100
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return held.getvalue()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=NAMES,
    kind=st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    packed=st.sampled_from(["", "gz", "xz", "bz2"]),
)
def test_an_archive_is_read_as_tarfile_reads_it(
    names: list[str], kind: int, packed: str, tmp_path: Path
) -> None:
    (tmp_path / "archive").write_bytes(archive(names, kind, packed))

    with opened(Files(tmp_path), "/archive") as found:
        told = [(one.name, b"".join(one.content)) for one in found]

    with tarfile.open(tmp_path / "archive") as tar:
        theirs = [(one.name, tar.extractfile(one).read()) for one in tar]  # type: ignore[union-attr] # each is a file
    assert told == theirs


def test_content_that_nobody_takes_is_passed_over() -> None:
    content = archive(["a", "b", "c"], tarfile.USTAR_FORMAT)

    found = [(one.name, next(one.content, b"")[:1]) for one in members(iter([content]), "x")]

    assert found == [("a", b""), ("b", b"b"), ("c", b"c")]


@pytest.mark.parametrize("cut", [1, 511, 512, 700, 1200])
def test_an_archive_that_is_cut_is_broken(cut: int) -> None:
    content = archive(["a", "b"], tarfile.USTAR_FORMAT)

    with pytest.raises(Broken):
        list(members(iter([content[:cut]]), "x"))


@pytest.mark.parametrize(
    "content",
    [
        b"no archive at all".ljust(512),
        archive(["a"], tarfile.USTAR_FORMAT).replace(b"a\0", b"b\0", 1),
        archive(["n" * 80_000], tarfile.GNU_FORMAT),
        b"\x28\xb5\x2f\xfd" + b"0" * 600,
    ],
    ids=["text", "a changed name", "a name without end", "zstd"],
)
def test_what_cannot_be_read_is_said(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(content)

    with pytest.raises(Broken), opened(Files(tmp_path), "/archive") as found:
        list(found)
