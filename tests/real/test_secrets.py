"""Secrets left in every place that Watchman reads come out nowhere, and are kept nowhere."""

import itertools
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.canaries import CANARIES, Canary
from tests.real.clients import Session
from tests.real.homes import Debian, Home
from watchman_mcp.resources import TABLE

pytestmark = pytest.mark.real
BEGIN = datetime.now(UTC).replace(microsecond=0) - timedelta(days=2)
WORDS = [canary for canary in CANARIES if re.fullmatch(r"\S+", canary.text)]
"""Those that one word can hold."""
LINES = [canary for canary in CANARIES if "\n" not in canary.text.strip("\n")]
"""Those that one line can hold."""
LINES_OF_FILES = ("pgpass", "redis.conf", "snmpd.conf")
"""Secrets that are told by being a whole line, which a part of a path is not."""
FILES = [
    canary
    for canary in CANARIES
    if "/" not in canary.text and len(canary.text.encode()) < 200 and canary.kind not in LINES_OF_FILES
]
"""Those that a file's name can hold."""


def on_lines(text: str) -> str:
    """A text as the value of a field in Debian's format, its further lines begun with a space."""
    return text.strip("\n").replace("\n\n", "\n.\n").replace("\n", "\n ")


def add_packages(root: Path, found: list[dict[str, str]]) -> None:
    """Write packages with these fields into dpkg's state."""
    usual = {"Status": "install ok installed", "Architecture": "amd64", "Version": "1.0", "Description": "x"}
    with (root / "var/lib/dpkg/status").open("a") as status:
        for fields in found:
            package = {"Package": fields["Package"], **usual, **fields}
            status.write("".join(f"{key}: {held}\n" for key, held in package.items()) + "\n")


def add_distribution(site: Path, named: str, installer: str = "pip", **fields: str) -> None:
    """Write a Python distribution with these fields."""
    inside = site / f"{named}.dist-info"
    inside.mkdir(parents=True)
    held = {"Metadata-Version": "2.1", "Name": "x", "Version": "1.0", **fields}
    (inside / "METADATA").write_text("".join(f"{key}: {value}\n" for key, value in held.items()))
    (inside / "INSTALLER").write_text(installer)


def steps_of(at: datetime, name: str, version: str) -> str:
    """What dpkg's log says of a package that came."""
    steps = (
        f"install {name} <none> {version}",
        f"configure {name} {version} <none>",
        f"status installed {name} {version}",
    )
    return "".join(f"{at:%Y-%m-%d %H:%M:%S} {step}\n" for step in steps)


def plant_in_packages(root: Path) -> None:
    """Packages with a secret in each field that is no name of theirs."""
    for n, canary in enumerate(CANARIES):
        text = on_lines(canary.text)
        add_packages(root, [{"Package": f"in-description-{n}", "Description": text}])
        add_packages(root, [{"Package": f"in-long-description-{n}", "Description": f"x\n {text}"}])
    fields = ("Version", "Source", "Depends", "Provides", "Installed-Size")
    for n, canary in enumerate(WORDS):
        add_packages(root, [{"Package": f"in-{one.lower()}-{n}", one: canary.text} for one in fields])
        add_packages(root, [{"Package": f"in-status-{n}", "Status": f"install ok {canary.text}"}])


def plant_in_logs(root: Path) -> None:
    """Lines of dpkg's log and blocks of apt's history with a secret in each place that is no name."""
    at, history, log = BEGIN, "", ""
    for n, canary in enumerate(CANARIES):
        at += timedelta(seconds=2)
        version = canary.text if canary in WORDS and not set(canary.text) & set("(),") else "1.0"
        history += (
            f"\nStart-Date: {at:%Y-%m-%d  %H:%M:%S}\nCommandline: apt-get install -y one-{n} {canary.text}\n"
            f"Requested-By: {canary.text} (1000)\nInstall: one-{n}:amd64 ({version}, automatic)\n"
            f"Error: {canary.text}\nEnd-Date: {at:%Y-%m-%d  %H:%M:%S}\n"
        )
    for n, canary in enumerate(CANARIES):
        at += timedelta(seconds=2)
        log += steps_of(at, f"two-{n}:amd64", canary.text if canary in WORDS else "1.0")
        log += f"{at:%Y-%m-%d %H:%M:%S} {canary.text}\n{canary.text}\n"
    (root / "var/log/apt/history.log").write_text(history)
    (root / "var/log/dpkg.log").write_text(log)


def plant_in_distributions(root: Path) -> None:
    """Python distributions with a secret in each field that is no name of theirs."""
    site = root / "opt/app/lib/python3.11/site-packages"
    for n, canary in enumerate(CANARIES):
        folded = canary.text.strip("\n").replace("\n", "\n ")
        add_distribution(site, f"summary_{n}-1.0", Name=f"summary-{n}", Summary=folded)
        add_distribution(site, f"version_{n}-1.0", Name=f"version-{n}", Version=folded)
        needed = {"Name": f"needs-{n}", "Requires-Dist": folded}
        add_distribution(site, f"needs_{n}-1.0", canary.text, **needed)


def plant_in_names(root: Path) -> None:
    """Packages, distributions and directories that are named so, whether or not their rules allow it."""
    site = root / "opt/app/lib/python3.11/site-packages"
    for canary in WORDS:
        add_packages(root, [{"Package": canary.text}, {"Package": "bare", "Architecture": canary.text}])
    log = "".join(steps_of(BEGIN, f"{canary.text}:amd64", "1.0") for canary in WORDS)
    (root / "var/log/dpkg.log").write_text(log)
    for n, canary in enumerate(CANARIES):
        add_distribution(site, f"name_{n}-1.0", Name=canary.text.strip("\n").replace("\n", "\n "))
    for canary in FILES:
        add_distribution(
            root / "opt" / canary.text / "lib/python3.11/site-packages", "inside-1.0", Name="inside"
        )
        unreadable = site / f"{canary.text}-1.0.dist-info"
        unreadable.mkdir()
        (unreadable / "METADATA").write_text("Name: \0\n")


def say_who_it_is(root: Path, session: Session) -> None:
    """Give the host each secret as its name and system, one after the other, and look each time."""
    for canary in LINES:
        text = canary.text.strip("\n")
        (root / "etc/hostname").write_text(f"{text}\n")
        (root / "etc/timezone").write_text(f"{text}\n")
        quoted = text.replace("\\", "\\\\").replace('"', '\\"')
        (root / "etc/os-release").write_text(
            f'PRETTY_NAME="{quoted}"\nID="{quoted}"\nVERSION_ID="{quoted}"\n'
        )
        session.call("scan", area="host")


def everything(session: Session) -> Iterator[Any]:
    """What every tool and every resource answers, to the last page."""
    yield session.request("tools/list")
    yield session.request("resources/list")
    for tool in ("overview", "doctor", "system_metrics", "scan"):
        yield session.call(tool)
    names = set()
    for view in ("installed", "history"):
        for item in session.pages(
            "query_packages", view=view, limit=500, since="1000d" if view == "history" else ""
        ):
            yield item
            names |= {one["name"] for one in item.get("changes", [item])}
    yield session.pages("what_changed", since="1000d", limit=500)
    yield session.call("what_changed", at="1h")
    yield session.call("what_changed", since="1000d", net=True)
    for table, columns in session.call("query_graph")["tables"].items():
        for column in columns.split(", "):
            for begin in itertools.count(0, 100):
                query = f'SELECT DISTINCT "{column}" FROM "{table}" LIMIT 100 OFFSET {begin}'
                answer = session.call("query_graph", query=query, limit=100)
                yield answer
                if not answer["items"]:
                    break
    for name in sorted(names)[::20] + [name for name in names if "redacted" in name]:
        for tool, argument in (("query_packages", "name"), ("what_changed", "subject")):
            arguments = {argument: name, "since": "1000d"}
            yield session.request("tools/call", name=tool, arguments=arguments)
    for resource in TABLE:
        if not resource.variable:
            yield session.request("resources/read", uri=resource.address)


def leaks(text: str) -> list[Canary]:
    """The secrets that are in a text, in whatever case."""
    text = text.lower()
    return [canary for canary in CANARIES if canary.secret.lower() in text]


FIELDS = (plant_in_packages, plant_in_logs, plant_in_distributions)
NAMES = pytest.param((plant_in_names,), id="names")


@pytest.mark.parametrize("plants", [pytest.param(FIELDS, id="fields"), NAMES])
def test_no_planted_secret_is_answered_logged_or_kept(
    tmp_path: Path, plants: tuple[Callable[[Path], None], ...]
) -> None:
    debian = Debian(tmp_path / "root")
    for plant in plants:
        plant(debian.root)
    home = Home(tmp_path / "home", debian.settings)
    try:
        session = home.client()
        if plants is FIELDS:
            say_who_it_is(debian.root, session)
        answers = list(everything(session))
        for canary in CANARIES:  # what a client says itself is not written down either
            session.request("tools/call", name="query_packages", arguments={"name": canary.text})
            session.request("tools/call", name=canary.text, arguments={canary.text: canary.text})
        home.stop()
        session.finish()
    finally:
        home.finish()

    kept = {path.name: path.read_bytes() for path in home.state.iterdir() if path.is_file()}
    found = {name: leaks(content.decode("latin-1")) for name, content in kept.items()}
    found["answers"] = leaks(json.dumps(answers, ensure_ascii=False))
    found["stderr"] = leaks(session.errors.decode())
    [(software, events)] = home.rows("SELECT (SELECT count(*) FROM Software), (SELECT count(*) FROM Event)")
    print(f"\n{len(CANARIES)} secrets, {len(answers)} answers, {software} packages, {events} events")
    assert software > 250
    assert json.dumps(answers).count("[redacted:") > 2 * len(CANARIES)  # what was planted has been read
    assert {name: [canary.kind for canary in some] for name, some in found.items() if some} == {}
