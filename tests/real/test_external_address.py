"""The external address, told by servers in another network namespace; and being offline."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.rigs import cache
from tests.rigs.installed import CHECKOUT
from tests.rigs.looking import look
from tests.rigs.networks import Side, joined, wait_for

pytestmark = pytest.mark.real

DNS = "dns:me.example@203.0.113.2"
PAGE = "http://203.0.113.2/"
DEAD = "dns:me.example@203.0.113.99"


@pytest.fixture(scope="module")
def here() -> Iterator[Side]:
    """A namespace whose default route leads to one that tells by which address it sees who asks."""
    cache.need_programs("a certificate", "openssl", how="as root: apt-get install openssl")
    with joined("203.0.113.1", "203.0.113.2") as (one, other):
        words = [*("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")]
        words += [*("-nodes", "-keyout", "key", "-out", "crt", "-days", "2", "-subj", "/CN=me.example")]
        words += ["-addext", "subjectAltName=IP:203.0.113.2"]
        subprocess.run(words, cwd=other.folder, check=True, capture_output=True, timeout=20)
        files = [str(other.folder / name) for name in ("crt", "key")]
        other.start(
            *(sys.executable, "-m", "tests.rigs.mirrors", other.address, *files),
            env={"PYTHONPATH": str(CHECKOUT)},
        )
        wait_for(lambda: ":443 " in other.run("ss", "-Hltn"), name="the mirrors")
        one.run("ip", "route", "add", "default", "via", other.address)
        yield one


def told(
    here: Side, *sources: str, marks: dict[str, Any] | None = None, env: str = ""
) -> tuple[dict[str, Any], dict[str, Any]]:
    within = [*here.enter, "env", env] if env else here.enter
    found = look(within, "external", settings={"network": {"external_ip_sources": sources}}, marks=marks)
    assert found["unobserved"] == {}
    four, six = found["nodes"]
    assert (six["family"], six["ip"], six["why"]) == ("ipv6", None, "no route")
    return four, found["marks"]


EACH = """
import json, sys
from pathlib import Path
from watchman_mcp.machine.external_address import told
from watchman_mcp.machine.files import Files
print(json.dumps([told(Files(Path("/")), "ipv4", source) for source in sys.argv[1:]]))
"""


def test_a_source_of_each_kind_tells_the_address_that_it_sees(here: Side) -> None:
    good = [DNS, "dns:me.example/TXT@203.0.113.2", "dns:whoami.example/TXT/CH@203.0.113.2", PAGE]
    bad = [
        "dns:odd.example@203.0.113.2",
        f"{PAGE}odd",
        "https://203.0.113.2/",
        "http://[",
        "http://203.0.113.2:81/",
    ]

    answers = json.loads(here.run(sys.executable, "-c", EACH, *good, *bad))

    assert answers == ["203.0.113.1"] * len(good) + [None] * len(bad)


def test_the_first_source_that_answers_is_taken(here: Side) -> None:
    four, _ = told(here, "dns:odd.example@203.0.113.2", DNS, PAGE)

    assert (four["ip"], four["source"], four["why"]) == ("203.0.113.1", DNS, None)
    assert four["checked_at"] is not None


def test_a_page_is_believed_where_its_certificate_is_trusted(here: Side) -> None:
    [folder] = [here.folder.parent / "b"]

    four, _ = told(here, "https://203.0.113.2/", env=f"SSL_CERT_FILE={folder}/crt")

    assert (four["ip"], four["source"]) == ("203.0.113.1", "https://203.0.113.2/")


def test_being_offline_is_an_answer_within_seconds(here: Side) -> None:
    begun = time.monotonic()
    four, _ = told(here, DEAD, "https://nowhere.example/", f"{PAGE}slow")

    assert (four["ip"], four["source"], four["why"]) == (None, None, "offline")
    assert time.monotonic() - begun < 20


def test_a_page_that_comes_a_byte_at_a_time_is_not_waited_for(here: Side) -> None:
    four, _ = told(here, f"{PAGE}drops", PAGE)

    assert (four["ip"], four["source"]) == ("203.0.113.1", PAGE)


def test_it_is_asked_again_when_the_way_to_the_internet_changes_and_not_before(here: Side) -> None:
    first, marks = told(here, DNS)
    again, marks = told(here, DNS, marks=marks)
    here.run("ip", "address", "add", "203.0.113.7/24", "dev", "wire")
    here.run("ip", "route", "replace", "default", "via", "203.0.113.2", "src", "203.0.113.7")
    try:
        moved, marks = told(here, DNS, marks=marks)
    finally:
        here.run("ip", "route", "replace", "default", "via", "203.0.113.2")
        here.run("ip", "address", "delete", "203.0.113.7/24", "dev", "wire")

    assert again == first
    assert moved["checked_at"] != first["checked_at"]


def test_without_a_route_nobody_is_asked(here: Side) -> None:
    here.run("ip", "route", "delete", "default")
    try:
        four, _ = told(here, DNS)
    finally:
        here.run("ip", "route", "add", "default", "via", "203.0.113.2")

    assert (four["ip"], four["why"]) == (None, "no route")


def test_nobody_is_asked_where_the_settings_say_so(here: Side) -> None:
    found = look(here.enter, "external", settings={"network": {"external_ip": False}})

    assert found["raises"] == "Absent: [network] external_ip is false"
