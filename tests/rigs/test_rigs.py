import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rigs import cache
from tests.rigs.debs import Deb, Repository, apt_get, build
from tests.rigs.machine import Machine, MachineError, booted
from watchman_mcp import __version__


def test_a_missing_part_skips_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WATCHMAN_TEST_RIGS", raising=False)

    with pytest.raises(pytest.skip.Exception, match=r"no-such-program.*apt-get install it"):
        cache.need_programs("a part", "no-such-program", how="apt-get install it")


def test_a_missing_part_fails_where_all_parts_are_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHMAN_TEST_RIGS", "all")

    with pytest.raises(pytest.fail.Exception, match="a part is missing; get it"):
        cache.missing("a part", "get it")


def test_a_cached_directory_is_made_once_and_a_failed_one_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHMAN_RIG_CACHE", str(tmp_path))

    def make(path: Path) -> None:
        (path / "made").write_text("")

    def fail(path: Path) -> None:
        make(path)
        raise OSError("no network")

    with pytest.raises(OSError, match="no network"):
        cache.once("part", "recipe 1", fail)
    first = cache.once("part", "recipe 1", make)
    again = cache.once("part", "recipe 1", fail)
    other = cache.once("part", "recipe 2", make)

    assert first == again
    assert other != first
    assert sorted(path.name for path in tmp_path.glob("part-*")) == sorted([first.name, other.name])


def test_a_built_deb_holds_what_its_spec_says(tmp_path: Path) -> None:
    cache.need_programs("dpkg-deb", "dpkg-deb", how="apt-get install dpkg")
    deb = Deb(
        "hello-rig", "1:2.0-1", depends="bash", files={"/etc/hello.conf": "a=1\n", "/usr/bin/hello": "x"}
    )

    package = build(deb, tmp_path)

    def ask(*words: str) -> str:
        return subprocess.run(["dpkg-deb", *words], capture_output=True, text=True, check=True).stdout

    assert package.name == "hello-rig_1%3a2.0-1_all.deb"
    assert ask("--field", str(package), "Version", "Depends") == "Version: 1:2.0-1\nDepends: bash\n"
    assert ask("--info", str(package), "conffiles") == "/etc/hello.conf\n"
    listing = ask("--contents", str(package))
    assert "-rwxr-xr-x root/root" in listing.split("./usr/bin/hello")[0].splitlines()[-1]


@pytest.mark.real
def test_the_machine_runs_systemd_and_its_services(machine: Machine) -> None:
    assert machine.run(["systemctl", "is-active", "nginx", "ssh", "dbus"]).stdout.split() == ["active"] * 3
    assert machine.run(["hostname"]).stdout == "rig\n"
    assert (machine.root / "etc/debian_version").read_text().startswith("12.")
    assert [line.split()[1] for line in machine.run(["ip", "-o", "link"]).stdout.splitlines()] == ["lo:"]


@pytest.mark.real
def test_a_command_that_fails_or_hangs_shows_what_it_printed(machine: Machine) -> None:
    with pytest.raises(MachineError, match=r"(?s)ended with 3.*out.*err"):
        machine.run(["sh", "-c", "echo out; echo err >&2; exit 3"])
    with pytest.raises(MachineError, match=r"(?s)took more than 0.5 s.*started"):
        machine.run(["sh", "-c", "echo started; sleep 61.25"], timeout=0.5)

    assert machine.run(["sh", "-c", "exit 3"], check=False).returncode == 3
    _wait_until(lambda: "61.25" not in machine.run(["ps", "-eo", "args"]).stdout)


@pytest.mark.real
def test_a_command_sees_a_fresh_environment_of_the_user_asked_for(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEAKED", "1")

    printed = machine.run(["env"], user="user", env={"WANTED": "yes"}).stdout

    variables = dict(line.split("=", 1) for line in printed.splitlines())
    assert variables["HOME"] == "/home/user"
    assert variables["WANTED"] == "yes"
    assert "LEAKED" not in variables
    assert machine.run(["id", "-un"], user="user").stdout == "user\n"


@pytest.mark.real
def test_a_client_inside_talks_over_pipes_and_dies_with_its_starter(machine: Machine) -> None:
    process = machine.popen(["sh", "-c", "head -1; exec sleep 62.5"])
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"ping\n")
    process.stdin.flush()

    assert process.stdout.readline() == b"ping\n"

    process.kill()
    process.communicate()
    _wait_until(lambda: "62.5" not in machine.run(["ps", "-eo", "args"]).stdout)


@pytest.mark.real
def test_files_and_directories_are_copied_in(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "tree/sub").mkdir(parents=True)
    (tmp_path / "tree/sub/file").write_bytes(b"\xff\x00")
    (tmp_path / "script").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "script").chmod(0o755)

    machine.copy_in(tmp_path / "tree", "/srv/copied")
    machine.copy_in(tmp_path / "script", "/srv/deep/down/script")

    assert (machine.root / "srv/copied/sub/file").read_bytes() == b"\xff\x00"
    assert machine.run(["/srv/deep/down/script"]).stdout == "ran\n"


@pytest.mark.real
def test_apt_inside_installs_upgrades_removes_and_purges_without_a_network(tmp_path: Path) -> None:
    with booted() as machine:
        repository = Repository(tmp_path / "repository")
        library = Deb("rig-library", "1.0")
        config = {"/etc/rig.conf": "a=1\n"}
        repository.add(library, Deb("rig-program", "1.0", depends="rig-library", files=config))
        repository.publish(machine)

        apt_get(machine, "install", "rig-program")
        repository.add(Deb("rig-program", "1.1", files=config))
        repository.publish(machine)
        apt_get(machine, "upgrade")
        apt_get(machine, "autoremove")
        apt_get(machine, "remove", "rig-program")
        kept = machine.run(["dpkg-query", "-W", "-f=${db:Status-Abbrev}${Version}", "rig-program"]).stdout
        apt_get(machine, "purge", "rig-program")

        history = machine.read("/var/log/apt/history.log")
        assert kept == "rc 1.1"
        assert _steps(history) == [
            ("apt-get --yes --quiet install rig-program", "Install"),
            ("apt-get --yes --quiet upgrade", "Upgrade"),
            ("apt-get --yes --quiet autoremove", "Remove"),
            ("apt-get --yes --quiet remove rig-program", "Remove"),
            ("apt-get --yes --quiet purge rig-program", "Purge"),
        ]
        assert "Install: rig-library:amd64 (1.0, automatic), rig-program:amd64 (1.0)" in history.replace(
            machine.run(["dpkg", "--print-architecture"]).stdout.strip(), "amd64"
        )
        assert not (machine.root / "etc/rig.conf").exists()


@pytest.mark.real
def test_machines_run_side_by_side_and_leave_nothing_behind() -> None:
    with booted() as one, booted() as two:
        one.write("/etc/only-in-one", "")

        assert two.run(["test", "-e", "/etc/only-in-one"], check=False).returncode == 1
        assert one.read("/etc/machine-id") != two.read("/etc/machine-id")
        leaders = [one.leader, two.leader]

    assert not [leader for leader in leaders if Path(f"/proc/{leader}").exists()]
    assert "nspawn-volatile" not in Path("/proc/self/mounts").read_text()


@pytest.mark.real
def test_the_checkout_is_installed_inside(machine: Machine, watchman_on_machine: str) -> None:
    python = Path(watchman_on_machine).with_name("python")

    printed = machine.run(
        [str(python), "-I", "-c", "import mcp, watchman_mcp as w; print(w.__version__)"]
    ).stdout

    assert printed == f"{__version__}\n"
    assert os.access(f"{machine.root}{watchman_on_machine}", os.X_OK)


@pytest.mark.real
def test_the_inspector_answers_for_itself(inspector: list[str]) -> None:
    done = subprocess.run([*inspector, "--help"], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert "--method" in done.stdout


def _steps(history: str) -> list[tuple[str, str]]:
    steps = []
    for block in history.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if ": " in line)
        [action] = fields.keys() & {"Install", "Upgrade", "Remove", "Purge"}
        steps.append((fields["Commandline"], action))
    return steps


def _wait_until(condition: Callable[[], bool], seconds: float = 5) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
