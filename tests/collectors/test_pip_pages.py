"""What pip's pages tell of newer versions: exact where they tell, and never taken for all that there is."""

from __future__ import annotations

import gzip
import json
import os
from hashlib import sha224
from pathlib import Path
from typing import Any

import pytest

from tests.collectors.test_cases import MTIME, look_at, plant
from watchman_mcp.collectors import Look, python
from watchman_mcp.errors import Broken
from watchman_mcp.machine import pip_pages
from watchman_mcp.machine.pip_pages import index_of, newest, read_page
from watchman_mcp.schema.packages import PackageIndex, Software

PREFIX = "/home/ana/app/.venv"
SITE = f"{PREFIX}/lib/python3.11/site-packages"
PASSWD = "ana:x:1000:1000::/home/ana:/bin/bash\n"
INDEX = "https://pypi.org/simple"


def page(*files: str | dict[str, Any]) -> bytes:
    listed = [{"filename": file} if isinstance(file, str) else file for file in files]
    return json.dumps({"meta": {"api-version": "1.1"}, "files": listed}).encode()


def keep(root: Path, name: str, content: bytes, index: str = INDEX, home: str = "/home/ana") -> Path:
    """Put a page where pip keeps it."""
    digest = sha224(f"{index}/{name}/".encode()).hexdigest()
    place = root / home[1:] / ".cache/pip/http-v2" / "/".join(digest[:5]) / digest
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"cc=4,")
    place.with_name(f"{digest}.body").write_bytes(content)
    os.utime(place, (MTIME + 60, MTIME + 60))
    return place


def machine(root: Path, *names: str, **files: str) -> None:
    laid: dict[str, str | None] = {"/etc/passwd": PASSWD, f"{PREFIX}/pyvenv.cfg": "version = 3.11.7\n"}
    for name in names:
        laid[f"{SITE}/{name}-1.0.dist-info/METADATA"] = f"Name: {name}\nVersion: 1.0\n\n"
        laid[f"{SITE}/{name}-1.0.dist-info/INSTALLER"] = "pip\n"
    plant(root, laid | files)


def told(root: Path) -> tuple[dict[str, str | None], list[PackageIndex], Look]:
    first = look_at(root, "python")
    assert all(one.available is None for one in python.collect(first) if isinstance(one, Software))
    look = look_at(root, "python", marks=json.loads(json.dumps(first.marks)))
    seen = list(python.collect(look))
    packages = {one.key: one.available for one in seen if isinstance(one, Software)}
    return packages, [one for one in seen if isinstance(one, PackageIndex)], look


def test_pages_tell_newer_versions_and_how_old_they_are(tmp_path: Path) -> None:
    machine(tmp_path, "one", "two")
    keep(
        tmp_path, "one", gzip.compress(page("one-1.0.tar.gz", "one-1.10-py3-none-any.whl", "one-1.9.tar.gz"))
    )
    os.utime(keep(tmp_path, "two", page("two-1.0.tar.gz")), (MTIME + 9, MTIME + 9))

    packages, indexes, look = told(tmp_path)

    assert packages == {"one": "1.10", "two": None}
    assert [(one.manager, one.location) for one in indexes] == [("pip", PREFIX)]
    assert indexes[0].refreshed_at is not None and indexes[0].refreshed_at.timestamp() == MTIME + 9
    assert look.unobserved == []
    (one,) = (s for s in python.collect(look) if isinstance(s, Software) and s.key == "one")
    assert one.available_from == INDEX


def test_pages_that_pip_kept_before_it_had_two_files_of_each_tell_the_same(tmp_path: Path) -> None:
    pages = {"one": page("one-1.5.tar.gz"), "two": gzip.compress(page("two-1.7.tar.gz")), "cut": page()}
    machine(tmp_path, *pages)
    for name, content in pages.items():
        digest = sha224(f"{INDEX}/{name}/".encode()).hexdigest()
        place = tmp_path / "home/ana/.cache/pip/http" / "/".join(digest[:5]) / digest
        place.parent.mkdir(parents=True)
        length = len(content) + 1_000 * (name == "cut")
        body = b"\xc5" + length.to_bytes(2, "big") + content
        place.write_bytes(b"cc=4,\x82\xa8response\x82\xa4body" + body + b"\xa6status\xcc\xc8\xa4vary\x80")

    packages, indexes, _ = told(tmp_path)

    assert packages == {"one": "1.5", "two": "1.7", "cut": None}
    assert [(one.manager, one.location) for one in indexes] == [("pip", PREFIX)]


def test_the_first_look_reads_no_page_and_asks_for_another(tmp_path: Path) -> None:
    machine(tmp_path, "one")
    keep(tmp_path, "one", page("one-2.0.tar.gz"))
    look = look_at(tmp_path, "python")

    list(python.collect(look))

    assert look.again
    assert [one.what for one in look.unobserved] == ["python:updates"]


def test_packages_without_a_page_are_said_not_to_be_known(tmp_path: Path) -> None:
    machine(tmp_path, "one", "two", "three")
    keep(tmp_path, "one", page("one-1.0.tar.gz"))
    keep(tmp_path, "two", b"<!DOCTYPE html>")
    keep(tmp_path, "three", page("three-2.0.tar.gz"), home="/root")

    packages, indexes, look = told(tmp_path)

    assert packages == {"one": None, "two": None, "three": None}
    assert len(indexes) == 1
    assert [one.what for one in look.unobserved] == ["python:updates"]
    assert "1 of 3 packages" in look.unobserved[0].why


def test_a_machine_without_pages_keeps_no_index_and_says_nothing(tmp_path: Path) -> None:
    machine(tmp_path, "one")

    packages, indexes, look = told(tmp_path)

    assert (packages, indexes, look.unobserved) == ({"one": None}, [], [])


def test_a_page_is_read_again_when_pip_wrote_another(tmp_path: Path) -> None:
    machine(tmp_path, "one")
    place = keep(tmp_path, "one", page("one-1.5.tar.gz"))
    _, _, look = told(tmp_path)
    body = place.with_name(f"{place.name}.body")
    sign = body.stat()
    body.write_bytes(page("one-1.6.tar.gz"))
    os.utime(body, (sign.st_atime, sign.st_mtime))
    unchanged = look_at(tmp_path, "python", marks=look.marks)
    assert [s.available for s in python.collect(unchanged) if isinstance(s, Software)] == ["1.5"]

    os.utime(body, (MTIME, MTIME + 100))
    changed = look_at(tmp_path, "python", marks=look.marks)

    assert [s.available for s in python.collect(changed) if isinstance(s, Software)] == ["1.6"]


def test_the_index_of_the_configuration_is_the_one_that_counts(tmp_path: Path) -> None:
    own = "http://127.0.0.1:8080/simple"
    machine(tmp_path, "one", **{"/home/ana/.config/pip/pip.conf": f"[global]\nindex-url = {own}/\n"})
    keep(tmp_path, "one", page("one-3.0.tar.gz"))
    keep(tmp_path, "one", page("one-2.0.tar.gz"), own)

    assert told(tmp_path)[0] == {"one": "2.0"}


@pytest.mark.parametrize(
    ("texts", "index"),
    [
        ([], INDEX),
        (["", "[global]\ncert = /x\n"], INDEX),
        (
            ["[global]\nindex-url = https://a/x/\n", "[global]\nindex_url=https://User:Pw@B.Org/y\n"],
            "https://b.org/y",
        ),
        (["[global]\nextra-index-url = https://b/\n"], None),
        (["[install]\nfind_links = /opt/wheels\n"], None),
        (["[global]\nindex-url = relative\n"], None),
        (["no section\n"], None),
        ([None], None),
    ],
)
def test_configuration_tells_the_one_index_or_that_there_are_more(
    texts: list[str | None], index: str | None
) -> None:
    assert index_of(texts) == index


@pytest.mark.parametrize(
    ("files", "python_version", "expected"),
    [
        (["a-1.tar.gz", "a-2-py3-none-any.whl", "a-3rc1.tar.gz"], "3.11.7", "2"),
        (["a-1.tar.gz", {"filename": "a-2.tar.gz", "yanked": "broken"}], "3.11.7", "1"),
        (["a-1.tar.gz", {"filename": "a-2.tar.gz", "requires-python": ">=3.12"}], "3.11.7", "1"),
        (["a-1.tar.gz", {"filename": "a-2.tar.gz", "requires-python": ">=3.12"}], "3.12.0", "2"),
        (["a-1.tar.gz", {"filename": "a-2.tar.gz", "requires-python": "what"}], "3.11.7", "2"),
        (["a-1.tar.gz", "a-2-cp311-cp311-manylinux_2_17_x86_64.whl"], "3.11.7", None),
        (["a-2.tar.gz", "a-2-cp311-cp311-manylinux_2_17_x86_64.whl"], "3.11.7", "2"),
        (["a-1.tar.gz", "b-2.tar.gz", "a-2.exe", "a-x.tar.gz", 3, {"filename": None}], "3.11.7", "1"),
        (["a-1rc1.tar.gz"], "3.11.7", None),
        ([], "3.11.7", None),
    ],
)
def test_a_page_offers_what_pip_would_take(
    files: list[Any], python_version: str, expected: str | None
) -> None:
    assert newest(read_page(page(*files), "a"), python_version) == expected


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{}",
        b'{"files": 1}',
        b"\x1f\x8b broken",
        # without the clock: every process that shares the tests has to call them the same
        gzip.compress(b"x" * 99, mtime=0)[:-9],
        b"\xff",
    ],
)
def test_a_page_that_is_none_is_refused(content: bytes) -> None:
    with pytest.raises(Broken, match="page"):
        read_page(content, "a")


def test_a_page_that_unpacks_beyond_all_measure_is_refused() -> None:
    with pytest.raises(Broken, match="too large"):
        read_page(gzip.compress(b" " * (pip_pages.PAGE_CAP + 1)), "a")
