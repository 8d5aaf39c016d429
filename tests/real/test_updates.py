"""Newer versions, owners of files, and what packages bring, beside the answers of apt and dpkg themselves."""

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.clients import SEED, Watchman, delay_until, watching
from tests.rigs.debs import Deb, Repository, apt_get
from tests.rigs.machine import Machine

pytestmark = pytest.mark.real
OWNED = 60
BROUGHT = (
    "SELECT s.key, coalesce(v.name, c.path) FROM edges e JOIN Software s ON s.id = e.start "
    "LEFT JOIN Service v ON v.id = e.end LEFT JOIN ConfigFile c ON c.id = e.end "
    "WHERE e.type = '{}' AND e.gone_at IS NULL ORDER BY 1, 2 LIMIT 100"
)


@pytest.fixture
def watchman(machine: Machine, watchman_on_machine: str, tmp_path: Path) -> Iterator[Watchman]:
    with watching(machine, watchman_on_machine, f"/root/{tmp_path.name}") as running:
        yield running


def upgradable(machine: Machine) -> dict[str, tuple[str, bool]]:
    """What apt would do: the version that each package would get, and whether it is a security update."""
    text = machine.run(["apt-get", "--simulate", "dist-upgrade"]).stdout
    found = re.findall(r"^Inst (\S+) \[\S+\] \((\S+) ([^\[]*)\[", text, re.MULTILINE)
    return {name: (version, "-security" in origin) for name, version, origin in found}


def test_newer_versions_are_those_that_apt_would_install(watchman: Watchman, tmp_path: Path) -> None:
    machine = watchman.machine
    plain = Repository(tmp_path / "plain")
    plain.add(
        *[Deb(f"rig-up{n}", "1.0") for n in range(4)], Deb("rig-up0", "2:0.5"), Deb("rig-up1", "1.0+b1")
    )
    plain.publish(machine)
    apt_get(machine, "install", "rig-up0=1.0", "rig-up1=1.0", "rig-up2=1.0", "rig-up3=1.0")
    client = watchman.client()
    client.call("query_packages")

    def told() -> dict[str, tuple[str, bool]]:
        items = client.pages("query_packages", view="updates")
        return {item["name"]: (item["available"], item.get("security", False)) for item in items}

    delay_until(lambda: told() == upgradable(machine), 15, "upgrades of the first repository")
    secure = Repository(tmp_path / "secure", "stable-security")
    secure.add(Deb("rig-up2", "1.0-1"), Deb("rig-up1", "1.0"))
    secure.publish(machine)
    seen = delay_until(lambda: "rig-up2" in told(), 15, "a security update after apt-get update")

    assert told() == upgradable(machine)
    assert told()["rig-up0"] == ("2:0.5", False)
    assert told()["rig-up2"] == ("1.0-1", True)
    answer = client.call("query_packages", view="updates")
    assert answer["totals"]["security"] == sum(secure for _, secure in told().values())
    apt_get(machine, "install", "rig-up2")
    delay_until(lambda: "rig-up2" not in told(), 15, "the update that was made")
    print(f"a newer version was seen {seen.seconds:.1f} s after apt-get update")


def test_the_owner_of_a_file_is_the_one_that_dpkg_names(watchman: Watchman) -> None:
    machine = watchman.machine
    client = watchman.client()
    client.call("query_packages")
    listed = machine.run(["sh", "-c", "cat /var/lib/dpkg/info/*.list | sort -u"]).stdout.splitlines()
    files = [path for path in listed if path.count("/") > 2]
    chosen = random.Random(SEED).sample(files, OWNED)
    for path in chosen:
        bare = path.removeprefix("/usr")
        answer = client.call("query_packages", owner_of=path)

        real = answer["matched"].removeprefix("owner of ")
        assert {item["name"] for item in answer["items"]} == _searched(
            machine, {path, real, bare, f"/usr{bare}"}
        )


def _searched(machine: Machine, paths: set[str]) -> set[str]:
    """The packages that dpkg finds for these names of one file."""
    said = machine.run(["dpkg-query", "--search", *paths], check=False).stdout.splitlines()
    found = [one.rpartition(": ") for one in said if not one.startswith("diversion by")]
    return {name.partition(":")[0] for names, _, path in found if path in paths for name in names.split(", ")}


def test_services_and_configuration_files_are_those_that_packages_brought(watchman: Watchman) -> None:
    machine = watchman.machine
    client = watchman.client()
    client.call("query_packages")

    def told(kind: str) -> set[tuple[str, str]]:
        found: list[list[str]] = []
        query = BROUGHT.format(kind)
        while page := client.call("query_graph", query=f"{query} OFFSET {len(found)}").get("items"):
            found += page
        return {(package, what) for package, what in found}

    form = "${Package}\\n${Conffiles}\\n"
    conffiles: set[tuple[str, str]] = set()
    package = ""
    for line in machine.run(["dpkg-query", "-W", "-f", form]).stdout.splitlines():
        if line.startswith(" ") and not line.endswith(" obsolete"):
            conffiles.add((package, line.split(" ")[1]))
        elif line and not line.startswith(" "):
            package = line
    there = set(machine.run(["find", "/etc", "-type", "f"]).stdout.splitlines())
    search = "dpkg-query --search '*/systemd/system/*.service'"
    said = [line.split(": ") for line in machine.run(["sh", "-c", search]).stdout.splitlines()]
    units = {
        (package.partition(":")[0], path.rpartition("/")[2].removesuffix(".service"))
        for package, path in said
        if path.count("/") in (4, 5) and path.rpartition("/")[0].endswith("/systemd/system")
    }
    aliases = machine.run(["find", "/usr/lib/systemd/system", "-type", "l"]).stdout.split()
    second = {path.rpartition("/")[2].removesuffix(".service") for path in aliases}

    delay_until(lambda: told("OWNS"), 15, "configuration files")
    assert told("OWNS") == {(name, path) for name, path in conffiles if path in there}
    assert {one for one in told("PROVIDES") if one[1] not in second} == {
        one for one in units if one[1] not in second
    }
    assert told("PROVIDES")
